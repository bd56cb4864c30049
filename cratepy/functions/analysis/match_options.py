"""The options of MATCH, parsed and checked: ``USING kind WITH (option = value, …)``.

In: the kind and options as texts. Out: :class:`MatchOptions`, or an error in CrateDB's words. Source: CrateDB's MATCH
predicate; Elasticsearch 7 for ``fuzziness`` and ``minimum_should_match``. Accepted without effect, because they only choose
between ways to the same rows: ``cutoff_frequency``, ``rewrite``, ``fuzzy_rewrite``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Final

from cratepy.errors import BadRequest
from cratepy.records import dataclass

KINDS: Final = ("best_fields", "most_fields", "cross_fields", "phrase", "phrase_prefix")
#: Lucene's ``FuzzyQuery.defaultMaxExpansions``, and our bound.
_EXPANSIONS_DEFAULT: Final = 50
_EXPANSIONS_MAX: Final = 1_024
_SLOP_MAX: Final = 1_000_000
#: Scores are 32-bit floats; products of two boosts stay far from their end.
BOOST_MAX: Final = 1e9
_WORDS: Final = ("best_fields", "most_fields", "cross_fields")
_PHRASES: Final = ("phrase", "phrase_prefix")
#: Option → kinds it may be used with.
_ALLOWED: Final = {
    "analyzer": KINDS,
    "boost": KINDS,
    "zero_terms_query": KINDS,
    "max_expansions": KINDS,
    "fuzziness": KINDS,
    "prefix_length": KINDS,
    "fuzzy_transpositions": KINDS,
    "fuzzy_rewrite": KINDS,
    "tie_breaker": KINDS,
    "cutoff_frequency": _WORDS,
    "operator": _WORDS,
    "minimum_should_match": _WORDS,
    "slop": _PHRASES,
    "rewrite": KINDS,
}
_REWRITE: Final = re.compile(r"(constant_score(_auto|_filter|_boolean)?|scoring_boolean|top_terms(_boost)?_\d+)", re.I)
_MINIMUM: Final = re.compile(r"-?\d{1,9}%?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOptions:
    kind: str
    analyzer: str | None = None
    boost: float = 1.0
    is_and: bool = False
    minimum_should_match: str | None = None
    #: Edits: None (exact words), ``AUTO`` as the two lengths from which 1 and 2 edits are allowed, or (0, 0) … as given.
    fuzziness: int | tuple[int, int] | None = None
    prefix_length: int = 0
    has_transpositions: bool = False
    max_expansions: int = _EXPANSIONS_DEFAULT
    slop: int = 0
    tie_breaker: float = 0.0
    matches_all_without_terms: bool = False

    def edits(self, word: str) -> int:
        """How many edits may lie between a word of the query and a word found."""
        match self.fuzziness:
            case None:
                return 0
            case int() as edits:
                return edits
            case low, high:
                return 0 if len(word) < low else 1 if len(word) < high else 2


def match_options(kind: str | None, options: Sequence[tuple[str, str]]) -> MatchOptions:
    """Raises BadRequest for a kind, an option or a value that nobody knows."""
    return _match_options(kind, tuple(options))


def check_option_names(kind: str | None, names: Sequence[str]) -> str:
    """The kind in lower case. Raises BadRequest for a kind or an option that nobody knows, and for one that is not of the kind."""
    kind = "best_fields" if kind is None else kind.lower()
    if kind not in KINDS:
        raise BadRequest(f"invalid MATCH type '{kind}' for type 'text'")
    for name in names:
        if name.lower() not in _ALLOWED:
            raise BadRequest(f"unknown match option '{name}'")
    refused = [name for name in dict.fromkeys(map(str.lower, names)) if kind not in _ALLOWED[name]]
    if refused:
        raise BadRequest(f'match predicate option(s) "{", ".join(refused)}" cannot be used with matchType "{kind}"')
    return kind


@functools.lru_cache(maxsize=1_024)
def _match_options(kind: str | None, options: tuple[tuple[str, str], ...]) -> MatchOptions:
    kind = check_option_names(kind, [name for name, _ in options])
    given = {name.lower(): value for name, value in options}
    for name in ("rewrite", "fuzzy_rewrite"):
        if name in given and not _REWRITE.fullmatch(given[name]):
            raise _invalid(name, given[name])
    if "cutoff_frequency" in given:
        _number(given, "cutoff_frequency", 0.0, low=0.0, high=1e18)
    fuzziness = _fuzziness(given)
    if fuzziness is not None and kind == "cross_fields":
        raise BadRequest("Fuzziness not allowed for type [cross_fields]")
    return MatchOptions(
        kind=kind,
        analyzer=given.get("analyzer"),
        boost=_number(given, "boost", 1.0, low=0.0, high=BOOST_MAX),
        is_and=_choice(given, "operator", ("or", "and")) == "and",
        minimum_should_match=_minimum(given),
        fuzziness=fuzziness,
        prefix_length=int(_number(given, "prefix_length", 0, low=0, high=1_000)),
        has_transpositions=_choice(given, "fuzzy_transpositions", ("false", "true")) == "true",
        max_expansions=int(_number(given, "max_expansions", _EXPANSIONS_DEFAULT, low=1, high=_EXPANSIONS_MAX)),
        slop=int(_number(given, "slop", 0, low=0, high=_SLOP_MAX)),
        tie_breaker=_number(given, "tie_breaker", 1.0 if kind == "most_fields" else 0.0, low=0.0, high=1.0),
        matches_all_without_terms=_choice(given, "zero_terms_query", ("none", "all")) == "all",
    )


def _invalid(name: str, value: str) -> BadRequest:
    return BadRequest(f"invalid value for option '{name}': {value}")


def _number(given: dict[str, str], name: str, default: float, *, low: float, high: float) -> float:
    text = given.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise _invalid(name, text) from None
    if not math.isfinite(value) or not low <= value <= high:
        raise _invalid(name, text)
    return value


def _choice(given: dict[str, str], name: str, values: tuple[str, str]) -> str:
    """The first is the default."""
    text = given.get(name, values[0])
    if text.lower() not in values:
        raise _invalid(name, text)
    return text.lower()


def _fuzziness(given: dict[str, str]) -> int | tuple[int, int] | None:
    text = given.get("fuzziness")
    if text is None:
        return None
    auto = re.fullmatch(r"auto(?::(\d{1,4}),(\d{1,4}))?", text.strip(), re.I)
    if auto is not None:
        low, high = int(auto.group(1) or 3), int(auto.group(2) or 6)
        if low > high:
            raise _invalid("fuzziness", text)
        return low, high
    try:
        value = float(text)
    except ValueError:
        raise _invalid("fuzziness", text) from None
    # More than two edits were never possible; Elasticsearch takes bigger numbers as two.
    if not value >= 0:
        raise _invalid("fuzziness", text)
    return int(min(value, 2.0))


def _minimum(given: dict[str, str]) -> str | None:
    text = given.get("minimum_should_match")
    if text is None:
        return None
    for part in text.split():
        condition, arrow, value = part.rpartition("<")
        if not _MINIMUM.fullmatch(value) or (arrow and not condition.isdecimal()):
            raise _invalid("minimum_should_match", text)
    if not text.split():
        raise _invalid("minimum_should_match", text)
    return text.strip()


def minimum_count(specification: str, clauses: int) -> int:
    """How many of so many optional clauses must match: ``2``, ``-1``, ``75%``, ``-25%``, ``3<90%``, ``2<-25% 9<-3``."""
    chosen = specification
    if "<" in specification:
        chosen = str(clauses)
        for part in specification.split():
            bound, _, value = part.rpartition("<")
            if clauses <= int(bound or -1):
                break
            chosen = value
    if chosen.endswith("%"):
        share = int(chosen[:-1])
        count = clauses * abs(share) // 100
        wanted = clauses - count if share < 0 or chosen.startswith("-") else count
    else:
        number = int(chosen)
        wanted = clauses + number if number < 0 else number
    return max(0, min(wanted, clauses))
