"""What is known about languages: stemmers, stop words.

The index (tantivy) brings Snowball's stemmers and stop-word lists for some languages; the others of CrateDB are analyzed as
``standard`` does. English stop words are Lucene's: a short list that keeps pronouns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Languages with a stop-word list in the index.
STOP_LANGUAGES: Final = frozenset({
    "danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese", "russian",
    "spanish", "swedish",
})  # fmt: skip

#: Names of stemmers → Snowball's language. Lucene's "light" and "minimal" ones are Snowball's here.
STEMMERS: Final[Mapping[str, str]] = {
    **{
        language: language
        for language in (
            "arabic",
            "danish",
            "dutch",
            "english",
            "finnish",
            "french",
            "german",
            "greek",
            "hungarian",
            "italian",
            "norwegian",
            "portuguese",
            "romanian",
            "russian",
            "spanish",
            "swedish",
            "tamil",
            "turkish",
        )
    },
    **{
        f"{prefix}_{language}": language
        for language in (
            "english",
            "german",
            "french",
            "spanish",
            "italian",
            "portuguese",
            "hungarian",
            "finnish",
            "swedish",
            "norwegian",
            "russian",
        )
        for prefix in ("light", "minimal")
    },
    "porter": "english",
    "porter2": "english",
    "german2": "german",
    "kp": "dutch",
    "dutch_kp": "dutch",
    "brazilian": "portuguese",
}

STOP_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "english": (
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
        "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
    ),
}  # fmt: skip

#: The language analyzers of CrateDB.
LANGUAGES: Final = (
    "arabic", "armenian", "basque", "bengali", "brazilian", "bulgarian", "catalan", "chinese", "cjk", "czech", "danish", "dutch",
    "english", "finnish", "french", "galician", "german", "greek", "hindi", "hungarian", "indonesian", "italian", "latvian",
    "lithuanian", "norwegian", "persian", "portuguese", "romanian", "russian", "sorani", "spanish", "swedish", "turkish", "thai",
)  # fmt: skip
#: Articles that run into the word behind them.
ELISIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "french": ("l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"),
    "italian": (
        "c", "l", "all", "dall", "dell", "nell", "sull", "coll", "pell", "gl", "agl", "dagl", "degl", "negl", "sugl", "un", "m",
        "t", "s", "v", "d",
    ),
    "catalan": ("d", "l", "m", "n", "s", "t"),
}  # fmt: skip
