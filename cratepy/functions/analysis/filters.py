"""Token filters and char filters: what happens to the words of a text, and to the text before.

In: a filter's name and settings. Out: either a :class:`NativeFilter`, which the index itself applies (fast), or a function
over tokens. Source: Lucene's token filters by behaviour, CrateDB's names. A filter of CrateDB that is not here is refused by
name: a filter that silently did nothing would make another index than asked for.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from cratepy.errors import BadRequest, UnsupportedFeature
from cratepy.functions.analysis.bounds import Expression, bounded
from cratepy.functions.analysis.languages import STEMMERS, STOP_LANGUAGES, STOP_WORDS
from cratepy.functions.analysis.markup import without_markup
from cratepy.functions.analysis.tokenizers import (
    Settings,
    Token,
    boolean,
    gram_sizes,
    listed,
    whole_number,
)
from cratepy.records import dataclass

#: Distinct words of a synonym or stop filter.
WORDS_MAX: Final = 10_000
#: What all words of a synonym filter become, together: a thousand words that stand for each other are a million.
_SYNONYMS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class NativeFilter:
    """A filter the index applies. ``words``: what ``stop`` drops; ``language``: of ``stop`` and ``stemmer``."""

    kind: Literal["lowercase", "ascii_fold", "stop", "stemmer"]
    language: str = ""
    words: tuple[str, ...] = ()


TokenFilter = Callable[[list[Token]], list[Token]]
CharFilter = Callable[[str], str]


def token_filter(name: str, settings: Settings) -> NativeFilter | TokenFilter:
    """Raises UnsupportedFeature for a name that is not here, BadRequest for settings that cannot be."""
    name = settings.get("type", name)
    name = FILTER_ALIASES.get(name, name)
    make = TOKEN_FILTERS.get(name)
    if make is None:
        raise UnsupportedFeature(f"token filter '{name}' is not supported")
    return make(settings)


def char_filter(name: str, settings: Settings) -> CharFilter:
    name = settings.get("type", name)
    make = CHAR_FILTERS.get(name)
    if make is None:
        raise UnsupportedFeature(f"char filter '{name}' is not supported")
    return make(settings)


@dataclass(frozen=True, slots=True)
class EachWord:
    """A filter that changes each word for itself; one that becomes empty is dropped."""

    change: Callable[[str], str]
    #: It never makes a word empty or puts a blank into it.
    keeps_words: bool = False

    def __call__(self, tokens: list[Token]) -> list[Token]:
        change = self.change
        return [Token(text, token.position) for token in tokens if (text := change(token.text))]


def _each(change: Callable[[str], str]) -> TokenFilter:
    return EachWord(change)


# --- filters of the index --------------------------------------------------------------------------------------------


def stop_filter(settings: Settings, default: str = "_english_") -> NativeFilter:
    language: list[str] = []
    words: list[str] = []
    for item in listed(settings.get("stopwords", default)):
        if item.startswith("_") and item.endswith("_"):
            language.append(item.strip("_"))
        else:
            words.append(item)
    if language == ["none"]:
        return NativeFilter("stop")
    for name in language:
        if name in STOP_WORDS:
            words.extend(STOP_WORDS[name])
        elif name not in STOP_LANGUAGES:
            raise BadRequest(f"no stop words for '{name}'")
    if boolean(settings, "ignore_case", False):
        words.extend([word.lower() for word in words])
    if len(words) > WORDS_MAX:
        raise BadRequest(f"{len(words)} stop words are more than {WORDS_MAX}")
    native = [name for name in language if name in STOP_LANGUAGES and name not in STOP_WORDS]
    if len(native) > 1 or (native and words):
        raise BadRequest("stopwords may name one language, or words")
    return NativeFilter("stop", language=native[0] if native else "", words=tuple(dict.fromkeys(words)))


def stemmer_filter(settings: Settings) -> NativeFilter:
    wanted = settings.get("language", settings.get("name", "english")).lower()
    language = STEMMERS.get(wanted)
    if language is None:
        raise BadRequest(f"Invalid stemmer class specified: {wanted}")
    return NativeFilter("stemmer", language=language)


# --- filters over tokens ---------------------------------------------------------------------------------------------


def _counted(tokens: Iterable[Token]) -> list[Token]:
    """Of a filter that makes more of a token than one."""
    return bounded(tokens, lambda token: len(token.text))


def _length(settings: Settings) -> TokenFilter:
    low = whole_number(settings, "min", 0, low=0, high=1 << 30)
    high = whole_number(settings, "max", 1 << 30, low=0, high=1 << 30)
    return lambda tokens: [token for token in tokens if low <= len(token.text) <= high]


def _truncate(settings: Settings) -> TokenFilter:
    length = whole_number(settings, "length", 10, low=1, high=1 << 20)
    return _each(lambda text: text[:length])


def _unique(settings: Settings) -> TokenFilter:
    only_same_position = boolean(settings, "only_on_same_position", False)

    def apply(tokens: list[Token]) -> list[Token]:
        seen: set[tuple[str, int]] = set()
        kept = []
        for token in tokens:
            key = (token.text, token.position if only_same_position else 0)
            if key not in seen:
                seen.add(key)
                kept.append(token)
        return kept

    return apply


def _limit(settings: Settings) -> TokenFilter:
    count = whole_number(settings, "max_token_count", 1, low=1, high=1 << 30)
    return lambda tokens: tokens[:count]


def _keep(settings: Settings) -> TokenFilter:
    words = set(listed(settings.get("keep_words", "")))
    return lambda tokens: [token for token in tokens if token.text in words]


def _grams(settings: Settings, *, is_edge: bool) -> TokenFilter:
    low, high = gram_sizes(settings, (1, 2))
    is_back = settings.get("side", "front") == "back"

    def pieces(text: str) -> Iterable[str]:
        if is_edge:
            sizes = range(low, min(high, len(text)) + 1)
            return [text[len(text) - size :] if is_back else text[:size] for size in sizes]
        starts = range(len(text))
        return [text[at : at + size] for at in starts for size in range(low, min(high, len(text) - at) + 1)]

    return lambda tokens: _counted(Token(piece, token.position) for token in tokens for piece in pieces(token.text))


def _shingle(settings: Settings) -> TokenFilter:
    low = whole_number(settings, "min_shingle_size", 2, low=2, high=16)
    high = whole_number(settings, "max_shingle_size", max(low, 2), low=low, high=16)
    has_unigrams = boolean(settings, "output_unigrams", True)
    separator = settings.get("token_separator", " ")

    def joined(tokens: list[Token]) -> Iterator[Token]:
        for at, token in enumerate(tokens):
            if has_unigrams:
                yield token
            for size in range(low, min(high, len(tokens) - at) + 1):
                yield Token(separator.join(other.text for other in tokens[at : at + size]), token.position)

    return lambda tokens: _counted(joined(tokens))


def _synonym(settings: Settings) -> TokenFilter:
    """Solr's rules: ``a, b, c`` stand for each other, ``a, b => c`` replaces. Words only, no phrases."""
    ignore_case = boolean(settings, "ignore_case", False)
    table: dict[str, dict[str, None]] = {}
    rules = [
        rule.strip()
        for rule in re.split(r"[;\n]|\",\s*\"", settings.get("synonyms", "").strip("[]\"'"))
        if rule.strip()
    ]
    count = 0
    for rule in rules:
        left, arrow, right = rule.strip("\"'").partition("=>")
        words = [word.strip() for word in left.split(",") if word.strip()]
        targets = [word.strip() for word in right.split(",") if word.strip()] if arrow else words
        if any(" " in word for word in (*words, *targets)):
            raise UnsupportedFeature(f"synonyms of more than one word are not supported: {rule}")
        for word in words:
            known = table.setdefault(word.lower() if ignore_case else word, {})
            count -= len(known)
            known.update(dict.fromkeys(targets))
            count += len(known)
            if len(table) > WORDS_MAX or count > _SYNONYMS_MAX:
                raise BadRequest(f"synonyms of more than {WORDS_MAX} words, or more than {_SYNONYMS_MAX} in all")

    def replaced(tokens: list[Token]) -> Iterator[Token]:
        for token in tokens:
            found = table.get(token.text.lower() if ignore_case else token.text)
            yield from (token,) if found is None else (Token(word, token.position) for word in found)

    return lambda tokens: _counted(replaced(tokens))


def _pattern_replace(settings: Settings) -> CharFilter:
    pattern = Expression(settings.get("pattern", ""), settings.get("flags", ""))
    replacement = pattern.template(settings.get("replacement", ""))
    return lambda text: pattern.replaced(text, replacement)


def _elision(settings: Settings) -> TokenFilter:
    articles = listed(settings.get("articles", "l,m,t,qu,n,s,j,d,c,jusqu,quoiqu,lorsqu,puisqu"))
    return elide(articles)


def elide(articles: Sequence[str]) -> TokenFilter:
    known = {article.lower() for article in articles}

    def change(text: str) -> str:
        at = min((place for mark in "'\u2019" if (place := text.find(mark)) >= 0), default=-1)
        return text[at + 1 :] if 0 < at < len(text) - 1 and text[:at].lower() in known else text

    return EachWord(change, keeps_words=True)


def _apostrophe(text: str) -> str:
    at = min((place for mark in "'\u2019" if (place := text.find(mark)) >= 0), default=-1)
    return text[:at] if at >= 0 else text


def _classic(text: str) -> str:
    if text.endswith(("'s", "'S")):
        return text[:-2]
    return text.replace(".", "") if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]?", text) else text


def _decimal_digit(text: str) -> str:
    return "".join(str(unicodedata.digit(char)) if char.isdecimal() else char for char in text)


def _scandinavian(text: str) -> str:
    return text.translate(str.maketrans("åäæöøÅÄÆÖØ", "aaaooAAAOO"))


def _german(text: str) -> str:
    return re.sub("ae|oe|(?<![aeq])ue", lambda m: m.group()[0], text.replace("ß", "ss")).translate(
        str.maketrans("äöü", "aou")
    )


#: By CrateDB's names.
TOKEN_FILTERS: Final[Mapping[str, Callable[[Settings], NativeFilter | TokenFilter]]] = {
    "standard": lambda settings: _each(str),
    "lowercase": lambda settings: NativeFilter("lowercase"),
    "asciifolding": lambda settings: NativeFilter("ascii_fold"),
    "stop": stop_filter,
    "stemmer": stemmer_filter,
    "snowball": stemmer_filter,
    "porter_stem": lambda settings: NativeFilter("stemmer", language="english"),
    "kstem": lambda settings: NativeFilter("stemmer", language="english"),
    "arabic_stem": lambda settings: NativeFilter("stemmer", language="arabic"),
    "dutch_stem": lambda settings: NativeFilter("stemmer", language="dutch"),
    "french_stem": lambda settings: NativeFilter("stemmer", language="french"),
    "german_stem": lambda settings: NativeFilter("stemmer", language="german"),
    "russian_stem": lambda settings: NativeFilter("stemmer", language="russian"),
    "uppercase": lambda settings: _each(str.upper),
    "reverse": lambda settings: _each(lambda text: text[::-1]),
    "trim": lambda settings: _each(str.strip),
    "apostrophe": lambda settings: _each(_apostrophe),
    "classic": lambda settings: _each(_classic),
    "decimal_digit": lambda settings: _each(_decimal_digit),
    "scandinavian_folding": lambda settings: _each(_scandinavian),
    "german_normalization": lambda settings: _each(_german),
    "cjk_width": lambda settings: _each(lambda text: unicodedata.normalize("NFKC", text)),
    "pattern_replace": lambda settings: _each(_pattern_replace(settings)),
    "elision": _elision,
    "length": _length,
    "truncate": _truncate,
    "unique": _unique,
    "remove_duplicates": lambda settings: _unique({"only_on_same_position": "true"}),
    "limit": _limit,
    "keep": _keep,
    "ngram": lambda settings: _grams(settings, is_edge=False),
    "edge_ngram": lambda settings: _grams(settings, is_edge=True),
    "shingle": _shingle,
    "synonym": _synonym,
    "cjk_bigram": lambda settings: cjk_bigrams,
    "fingerprint": lambda settings: _fingerprint,
}
#: Those that use expressions of a user, or make more of a word than one.
COSTLY_FILTERS: Final = frozenset({"pattern_replace", "mapping", "ngram", "edge_ngram", "shingle", "synonym"})
#: Other spellings that CrateDB takes.
FILTER_ALIASES: Final[Mapping[str, str]] = {
    "nGram": "ngram", "edgeNGram": "edge_ngram", "porterStem": "porter_stem",
}  # fmt: skip


def cjk_bigrams(tokens: list[Token]) -> list[Token]:
    """Neighbouring ideographs as pairs; one that stands alone stays."""
    result: list[Token] = []
    run: list[Token] = []

    def flush() -> None:
        if len(run) == 1:
            result.append(run[0])
        result.extend(Token(one.text + two.text, one.position) for one, two in itertools.pairwise(run))
        run.clear()

    for token in tokens:
        if len(token.text) == 1 and "\u2e80" <= token.text <= "\U0003ffff":
            if run and token.position != run[-1].position + 1:
                flush()
            run.append(token)
        else:
            flush()
            result.append(token)
    flush()
    return result


def _fingerprint(tokens: list[Token]) -> list[Token]:
    """All distinct words, sorted, as one token."""
    words = sorted({token.text for token in tokens})
    return [Token(" ".join(words), 0)] if words else []


# --- char filters ----------------------------------------------------------------------------------------------------


def _mapping(settings: Settings) -> CharFilter:
    table: dict[str, str] = {}
    for rule in listed(settings.get("mappings", "")):
        left, arrow, right = rule.partition("=>")
        if not arrow or not left.strip():
            raise BadRequest(f"Invalid Mapping Rule : [{rule}]")
        table[left.strip()] = right.strip()
    if not table:
        raise BadRequest("mapping requires either `mappings` or `mappings_path` to be configured")
    if len(table) > WORDS_MAX:
        raise BadRequest(f"{len(table)} mappings are more than {WORDS_MAX}")
    # The longest rule wins, as in Lucene.
    pattern = Expression("|".join(re.escape(key) for key in sorted(table, key=len, reverse=True)))
    return lambda text: pattern.replaced(text, lambda found: (table[found.group()],))


CHAR_FILTERS: Final[Mapping[str, Callable[[Settings], CharFilter]]] = {
    "mapping": _mapping,
    "html_strip": lambda settings: without_markup,
    "htmlStrip": lambda settings: without_markup,
    "pattern_replace": _pattern_replace,
}
