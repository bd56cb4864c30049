"""Pattern matching: LIKE, ILIKE, regular expressions, and the regexp functions.

Canonical names: ``op_like op_ilike`` (2 arguments, or 3 with the escape character), ``op_~ op_~*`` (the pattern must
match the whole text, as in CrateDB), and ``op_any_like op_any_ilike op_any_not_like op_any_not_ilike`` with their
``op_all_`` twins over an array of patterns. NOT forms of the binary operators are ``op_not`` of them.

Source: CrateDB's LikeOperators, RegexpMatchOperator, regexp functions (Java regular expressions; Python's differ in
possessive quantifiers, ``\\p{…}`` classes and ``\\Q…\\E``, which are refused as invalid patterns here).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions.arrow_kernels import matched_one, matched_text, replaced_text
from cratepy.functions.operators import all_of, any_of
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.types import DataType

_PATTERNS_CACHED: Final = 512


@functools.lru_cache(maxsize=_PATTERNS_CACHED)
def like_pattern(pattern: str, escape: str, *, ignores_case: bool) -> re.Pattern[str]:
    """LIKE as a compiled expression. Raises SQLParseError for a pattern that ends in its escape character."""
    if len(escape) > 1:
        raise SQLParseError("ESCAPE must be a single character")
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if escape and character == escape:
            position += 1
            if position == len(pattern):
                raise SQLParseError(f"pattern '{pattern}' must not end with escape character '{escape}'")
            parts.append(re.escape(pattern[position]))
        elif character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        else:
            parts.append(re.escape(character))
        position += 1
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignores_case else 0))


def _like(ignores_case: bool) -> Callable[..., bool]:
    def like(text: str, pattern: str, escape: str = "\\") -> bool:
        return like_pattern(pattern, escape, ignores_case=ignores_case).fullmatch(text) is not None

    return like


_JAVA_FLAGS: Final = {
    "i": re.IGNORECASE,
    "u": re.UNICODE,
    "s": re.DOTALL,
    "m": re.MULTILINE,
    "x": re.VERBOSE,
    "d": re.NOFLAG,
    "U": re.UNICODE,
}


@functools.lru_cache(maxsize=_PATTERNS_CACHED)
def compiled(pattern: str, flags: str = "") -> re.Pattern[str]:
    """A regular expression with flags as letters; ``g`` means all matches and is read elsewhere."""
    options = re.NOFLAG
    for letter in flags:
        if letter == "g":
            continue
        if letter not in _JAVA_FLAGS:
            raise SQLParseError(f"Invalid regular expression flag: {letter}")
        options |= _JAVA_FLAGS[letter]
    try:
        return re.compile(pattern, options)
    except re.error as error:
        raise SQLParseError(f"Invalid regular expression '{pattern}': {error}") from error


#: A repeated group that repeats something itself: Python's matcher may need exponential time, RE2 never does.
_NESTED_REPETITION: Final = re.compile(r"[*+}][^()]*\)[*+{]")


def _matches(text: str, pattern: str) -> bool:
    if _NESTED_REPETITION.search(pattern):
        found = matched_one(text, pattern)
        if found is not None:
            return found
    return compiled(pattern, "s").fullmatch(text) is not None


def _matches_ignoring_case(text: str, pattern: str) -> bool:
    if _NESTED_REPETITION.search(pattern):
        found = matched_one(text, f"(?i:{pattern})")
        if found is not None:
            return found
    return compiled(pattern, "i").fullmatch(text) is not None


_REFERENCE: Final = re.compile(r"\\(.)|\$(\d)")


def _regexp_replace(text: str, pattern: str, replacement: str, flags: str = "") -> str:
    expression = compiled(pattern, flags)

    def expanded(match: re.Match[str]) -> str:
        def part(reference: re.Match[str]) -> str:
            if reference.group(1) is not None:
                return str(reference.group(1))
            number = int(reference.group(2))
            if number > expression.groups:
                raise SQLParseError(f"No group {number}")
            return match.group(number) or ""

        return _REFERENCE.sub(part, replacement)

    return expression.sub(expanded, text, count=0 if "g" in flags else 1)


def _regexp_count(text: str, pattern: str, start: int = 1, flags: str = "") -> int:
    if start < 1:
        raise SQLParseError("start must be greater than 0")
    return sum(1 for _ in compiled(pattern, flags).finditer(text, start - 1))


def _regexp_instr(
    text: str, pattern: str, start: int = 1, nth: int = 1, end: int = 0, flags: str = "", group: int = 0
) -> int:
    if start < 1 or nth < 1:
        raise SQLParseError("start and N must be greater than 0")
    expression = compiled(pattern, flags)
    if group > expression.groups:
        return 0
    for number, match in enumerate(expression.finditer(text, start - 1), 1):
        if number == nth:
            return (match.end(group) if end else match.start(group)) + 1
    return 0


def regexp_matches(text: str, pattern: str, flags: str = "") -> list[list[str | None]]:
    """Rows of the table function: the groups of each match, or the whole match if the pattern has no groups."""
    rows: list[list[str | None]] = []
    expression = compiled(pattern, flags)
    for match in expression.finditer(text):
        rows.append(list(match.groups()) if expression.groups else [match.group()])
        if "g" not in flags:
            break
    return rows


def _quantified_like(
    quantifier: Callable[..., bool | None], *, ignores_case: bool, negated: bool
) -> Callable[[Any, Any], bool | None]:
    like = _like(ignores_case)
    return lambda text, patterns: (
        None if patterns is None else quantifier(lambda t, p: like(t, p) != negated, text, patterns)
    )


def _like_sql(operator: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    return lambda arguments, _result: f"({{0}} {operator} {{1}})" if len(arguments) == 2 else None


def _quantified_declarations() -> tuple[Declaration, ...]:
    found: list[Declaration] = []
    for word, quantifier in (("any", any_of), ("all", all_of)):
        for negated in (False, True):
            for name in ("like", "ilike"):
                plain = f"{word}_{'not_' if negated else ''}{name}"
                row = _quantified_like(quantifier, ignores_case=name == "ilike", negated=negated)
                found.append(
                    Declaration(
                        name=f"op_{plain}",
                        aliases=(plain if word == "any" else f"_{plain}",),
                        signatures=signatures("text,text[] -> boolean"),
                        row=row,
                        takes_null=True,
                    )
                )
    return tuple(found)


_LIKE_SIGNATURES: Final = signatures("text,text -> boolean", "text,text,text -> boolean")

DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(name="op_like", signatures=_LIKE_SIGNATURES, row=_like(False), sql=_like_sql("LIKE")),
    Declaration(name="op_ilike", signatures=_LIKE_SIGNATURES, row=_like(True), sql=_like_sql("ILIKE")),
    Declaration(
        name="op_~",
        signatures=signatures("text,text -> boolean"),
        row=_matches,
        arrow=lambda _arguments, _result: matched_text,
    ),
    Declaration(name="op_~*", signatures=signatures("text,text -> boolean"), row=_matches_ignoring_case),
    *_quantified_declarations(),
    Declaration(
        name="regexp_replace",
        signatures=signatures("text,text,text -> text", "text,text,text,text -> text"),
        row=_regexp_replace,
        arrow=lambda _arguments, _result: replaced_text,
        doc="the first match (all with flag g) replaced; $1 is a group",
    ),
    Declaration(
        name="regexp_count",
        signatures=signatures(
            "text,text -> integer", "text,text,integer -> integer", "text,text,integer,text -> integer"
        ),
        row=_regexp_count,
    ),
    Declaration(
        name="regexp_instr",
        signatures=signatures(
            "text,text -> integer",
            "text,text,integer -> integer",
            "text,text,integer,integer -> integer",
            "text,text,integer,integer,integer -> integer",
            "text,text,integer,integer,integer,text -> integer",
            "text,text,integer,integer,integer,text,integer -> integer",
        ),
        row=_regexp_instr,
    ),
)
