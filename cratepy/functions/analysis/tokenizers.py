"""Tokenizers: a text as the words in it.

In: text, settings. Out: tokens in order; unless said otherwise each takes the next position. Source: Lucene's tokenizers
by behaviour; ``standard`` follows Unicode Annex 29, "Word boundaries", as Lucene's does: words keep inner ``'``, ``.`` and
``:`` between letters, numbers keep inner ``.`` and ``,``, ideographs and Hiragana stand alone, Katakana, Thai, Lao, Khmer
and Burmese runs stay together (no dictionary), emoji are tokens. Tokens longer than 255 characters are cut, as in Lucene.

Not yet: Unicode's rule for the Hebrew double quote; dictionaries for Thai.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cratepy.errors import BadRequest
from cratepy.functions.analysis.bounds import Expression, bounded

#: Lucene's default ``max_token_length`` in characters.
TOKEN_CHARS_MAX: Final = 255
#: Lucene's n-gram tokenizers by default.
_GRAM_DEFAULTS: Final = {"ngram": (1, 2), "edge_ngram": (1, 2)}
#: A bound for CREATE ANALYZER: every position of a text gives this many tokens.
_GRAM_SPAN_MAX: Final = 32


class Token(NamedTuple):
    text: str
    position: int


Settings = Mapping[str, str]
#: What splits a text. Two tokens with one position stand for each other.
Split = Callable[[str], list[str]]

_ALONE: Final = "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KATAKANA: Final = "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_SOUTH_EAST: Final = "\u0e01-\u0e4e\u0e80-\u0ecf\u0edc-\u0eff\u1000-\u103f\u1050-\u109f\u1780-\u17dd"
#: What extends the character before it: combining marks, variation selectors, joiners.
_EXTEND: Final = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u0900-\u0903\u093a-\u094f\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a4d\u0a81-\u0acd\u0b01-\u0b4d\u0b82-\u0bcd\u0c00-\u0c4d"
    "\u0c81-\u0ccd\u0d00-\u0d4d\u0f71-\u0f84\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f\u00ad"
    "\u200c\u200d\u200e\u200f\ufe00-\ufe0f"
)
_SPECIAL: Final = f"{_ALONE}{_KATAKANA}{_SOUTH_EAST}{_EXTEND}"
_LETTERS_RUN: Final = f"(?:[^\\W\\d_{_SPECIAL}]++[{_EXTEND}]*+)++"
_DIGITS_RUN: Final = f"(?:\\d++[{_EXTEND}]*+)++"
_JOINER: Final = "[_\u203f\u2040\u2054\ufe33\ufe34\ufe4d-\ufe4f\uff3f]"
_MID_LETTER: Final = "['.:\u00b7\u0387\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a]"
_MID_NUMBER: Final = (
    "['.,;\u037e\u0589\u060c\u060d\u066c\u07f8\u2018\u2019\u2024\u2044\ufe10\ufe14\ufe50\ufe54\uff07\uff0c\uff0e\uff1b]"
)
_PICTURE: Final = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b55"
    "\u3030\u303d\u3297\u3299\U0001f004\U0001f0cf\U0001f170-\U0001f19a\U0001f201-\U0001f251\U0001f300-\U0001faff]"
)
_MODIFIER: Final = "[\u20e3\ufe0f\U0001f3fb-\U0001f3ff]"
_STANDARD: Final = (
    f"(?:{_JOINER}*+(?:{_LETTERS_RUN}(?:{_MID_LETTER}{_LETTERS_RUN})*+|{_DIGITS_RUN}(?:{_MID_NUMBER}{_DIGITS_RUN})*+))++{_JOINER}*+"
    f"|[{_SOUTH_EAST}][{_SOUTH_EAST}{_EXTEND}]*"
    f"|[{_KATAKANA}][{_KATAKANA}{_EXTEND}]*"
    f"|[{_ALONE}][{_EXTEND}]*"
    f"|[\U0001f1e6-\U0001f1ff]{{2}}"
    f"|{_PICTURE}{_MODIFIER}*(?:\u200d{_PICTURE}{_MODIFIER}*)*"
)
#: The same for texts that are ASCII only: six times as fast.
_STANDARD_ASCII: Final = re.compile(r"(?:_*+(?:[A-Za-z]++(?:['.:][A-Za-z]++)*+|[0-9]++(?:['.,;][0-9]++)*+))++_*+")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_NOT_BLANK: Final = re.compile(r"\S+")
_URL_OR_EMAIL: Final = (
    # Schemes and names have bounds: a pattern that looks ahead for ever at every place takes hours for some texts.
    r"[A-Za-z][A-Za-z0-9+.-]{0,31}+://[^\s<>\"']++|[A-Za-z0-9._%+-]{1,64}+@[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++|"
    + _STANDARD
)


def split_standard(text: str) -> list[str]:
    return cut_long((_STANDARD_ASCII if text.isascii() else _compiled(_STANDARD)).findall(text))


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """At first use: the sets of characters take 20 ms each to compile."""
    return re.compile(pattern)


def split_letters(text: str) -> list[str]:
    return cut_long(_LETTERS.findall(text))


def split_blanks(text: str) -> list[str]:
    return cut_long(_NOT_BLANK.findall(text))


def cut_long(tokens: list[str], chars_max: int = TOKEN_CHARS_MAX) -> list[str]:
    """Tokens above the limit in pieces, as Lucene gives them."""
    if all(len(token) <= chars_max for token in tokens):
        return tokens
    return [token[at : at + chars_max] for token in tokens for at in range(0, len(token), chars_max)]


def _keyword(settings: Settings) -> Split:
    return lambda text: [text] if text else []


def _standard(settings: Settings) -> Split:
    chars_max = whole_number(settings, "max_token_length", TOKEN_CHARS_MAX, low=1, high=1 << 20)
    return lambda text: cut_long(_compiled(_STANDARD).findall(text), chars_max)


def _lowercase(settings: Settings) -> Split:
    return lambda text: split_letters(text.lower())


def _url(settings: Settings) -> Split:
    return lambda text: cut_long(_compiled(_URL_OR_EMAIL).findall(text))


def _pattern(settings: Settings) -> Split:
    group = whole_number(settings, "group", -1, low=-1, high=100)
    pattern = Expression(settings.get("pattern", r"\W+"), settings.get("flags", ""))
    if group > pattern.groups:
        raise BadRequest(f"pattern {pattern.pattern!r} has no group {group}")
    if group >= 0:
        return lambda text: [found.group(group) for found in pattern.matches(text) if found.group(group)]
    return lambda text: [part for part in pattern.split(text) if part]


def _simple_pattern(settings: Settings) -> Split:
    pattern = Expression(settings.get("pattern", ""))
    return lambda text: [found.group() for found in pattern.matches(text) if found.group()]


def _simple_pattern_split(settings: Settings) -> Split:
    pattern = Expression(settings.get("pattern", ""))
    return lambda text: [part for part in pattern.split(text) if part]


def _char_group(settings: Settings) -> Split:
    classes = {
        "whitespace": r"\s",
        "letter": r"[^\W\d_]",
        "digit": r"\d",
        "punctuation": r"[^\w\s]",
        "symbol": r"[^\w\s]",
    }
    wanted = listed(settings.get("tokenize_on_chars", ""))
    splitters = [classes.get(item) or re.escape(item) for item in wanted]
    if not splitters:
        return _keyword(settings)
    pattern = Expression("|".join(splitters))
    return lambda text: cut_long([part for part in pattern.split(text) if part])


def _path_hierarchy(settings: Settings) -> Split:
    delimiter = settings.get("delimiter", "/")
    replacement = settings.get("replacement", delimiter)
    skip = whole_number(settings, "skip", 0, low=0, high=1_000)
    is_reverse = boolean(settings, "reverse", False)
    if len(delimiter) != 1 or len(replacement) != 1:
        raise BadRequest("delimiter and replacement of path_hierarchy must be one character")

    def split(text: str) -> list[str]:
        parts = text.split(delimiter)
        if is_reverse:
            parts = parts[: len(parts) - skip] if skip else parts
            return bounded((token for at in range(len(parts)) if (token := replacement.join(parts[at:]))), len)
        parts = parts[skip:] if skip == 0 or parts[0] else ["", *parts[skip + 1 :]]
        return bounded((token for end in range(1, len(parts) + 1) if (token := replacement.join(parts[:end]))), len)

    return split


def _grams(name: str, settings: Settings) -> Split:
    low, high = gram_sizes(settings, _GRAM_DEFAULTS[name])
    wanted = listed(settings.get("token_chars", ""))
    classes = {
        "letter": str.isalpha,
        "digit": str.isdigit,
        "whitespace": str.isspace,
        "punctuation": lambda char: not char.isalnum() and not char.isspace(),
        "symbol": lambda char: not char.isalnum() and not char.isspace(),
    }
    unknown = [item for item in wanted if item not in classes]
    if unknown:
        raise BadRequest(f"Unknown token type: '{unknown[0]}', must be one of {sorted(classes)}")
    kept = [classes[item] for item in wanted]

    def runs(text: str) -> list[str]:
        if not kept:
            return [text]
        separated = "".join(char if any(is_kept(char) for is_kept in kept) else "\0" for char in text)
        return [run for run in separated.split("\0") if run]

    def split(text: str) -> list[str]:
        if name == "edge_ngram":
            pieces = (run[:size] for run in runs(text) for size in range(low, min(high, len(run)) + 1))
        else:
            pieces = (
                run[at : at + size]
                for run in runs(text)
                for at in range(len(run))
                for size in range(low, min(high, len(run) - at) + 1)
            )
        return bounded(pieces, len)

    return split


#: By CrateDB's names. ``classic`` and ``thai`` split as ``standard`` does.
TOKENIZERS: Final[Mapping[str, Callable[[Settings], Split]]] = {
    "standard": _standard,
    "classic": _standard,
    "thai": _standard,
    "letter": lambda settings: split_letters,
    "lowercase": _lowercase,
    "whitespace": lambda settings: split_blanks,
    "uax_url_email": _url,
    "ngram": lambda settings: _grams("ngram", settings),
    "edge_ngram": lambda settings: _grams("edge_ngram", settings),
    "keyword": _keyword,
    "pattern": _pattern,
    "simple_pattern": _simple_pattern,
    "simple_pattern_split": _simple_pattern_split,
    "path_hierarchy": _path_hierarchy,
    "char_group": _char_group,
}
#: Those that use expressions of a user, or make more of a text than it has (``pattern`` without a pattern does not).
COSTLY_TOKENIZERS: Final = frozenset(
    {"pattern", "simple_pattern", "simple_pattern_split", "char_group", "ngram", "edge_ngram", "path_hierarchy"}
)
#: Other spellings that CrateDB takes.
TOKENIZER_ALIASES: Final[Mapping[str, str]] = {
    "nGram": "ngram", "edgeNGram": "edge_ngram", "PathHierarchy": "path_hierarchy", "plain": "keyword",
}  # fmt: skip


# --- settings --------------------------------------------------------------------------------------------------------


def whole_number(settings: Settings, name: str, default: int, *, low: int, high: int) -> int:
    text = settings.get(name)
    if text is None:
        return default
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        raise BadRequest(f"Failed to parse value [{text}] for setting [{name}]") from None
    if not low <= value <= high:
        raise BadRequest(f"{name} must be between {low} and {high}, not {text}")
    return value


def boolean(settings: Settings, name: str, default: bool) -> bool:
    text = settings.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"Failed to parse value [{text}] as only [true] or [false] are allowed for setting [{name}]")
    return text.lower() == "true"


def listed(text: str) -> list[str]:
    """The items of a setting that is a list: a JSON-like ``[a, b]`` or ``a,b``; empty ones are left out."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [item.strip().strip("\"'") for item in text.split(",") if item.strip()]


def gram_sizes(settings: Settings, default: tuple[int, int]) -> tuple[int, int]:
    low = whole_number(settings, "min_gram", default[0], low=1, high=TOKEN_CHARS_MAX)
    high = whole_number(settings, "max_gram", max(default[1], low), low=1, high=TOKEN_CHARS_MAX)
    if high < low:
        raise BadRequest(f"min_gram {low} must not be above max_gram {high}")
    if high - low > _GRAM_SPAN_MAX:
        raise BadRequest(f"max_gram {high} is more than {_GRAM_SPAN_MAX} above min_gram {low}")
    return low, high
