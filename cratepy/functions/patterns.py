"""Pattern matching: LIKE, ILIKE, regular expressions, and the regexp functions.

Canonical names: ``op_like op_ilike`` (2 arguments, or 3 with the escape character), ``op_~ op_~*`` (the pattern must
match the whole text, as in CrateDB), and ``op_any_like op_any_ilike op_any_not_like op_any_not_ilike`` with their
``op_all_`` twins over an array of patterns. NOT forms of the binary operators are ``op_not`` of them.

Backtracking may take exponential time, so a match has a limit (``limits.REGEX_S``), lets other threads run when it is
not done at once, and is never computed while a statement is compiled (``is_costly``). LIKE takes linear time.

Source: CrateDB's LikeOperators, RegexpMatchOperator, regexp functions (Java regular expressions; the ``regex`` package's
differ in ``\\Q…\\E``, which is refused as an invalid pattern here).
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import regex

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.functions.arrow_kernels import matched_one, matched_text, replaced_text
from cratepy.functions.operators import all_of, any_of
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.timed_matches import match_within
from cratepy.model.types import DataType

_PATTERNS_CACHED: Final = 512
_REPLACEMENT_CACHED_CHARS: Final = 1_024


@functools.lru_cache(maxsize=_PATTERNS_CACHED)
def like_pattern(pattern: str, escape: str, *, ignores_case: bool) -> re.Pattern[str]:
    """LIKE as a compiled expression. Raises SQLParseError for a pattern that ends in its escape character."""
    if len(escape) > 1:
        raise SQLParseError("ESCAPE must be a single character")
    _check_length("Pattern", pattern, limits.LIKE_PATTERN_CHARS_MAX)
    runs = [""]  # of what stands between two %
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if escape and character == escape:
            position += 1
            if position == len(pattern):
                raise SQLParseError(f"pattern '{pattern}' must not end with escape character '{escape}'")
            runs[-1] += re.escape(pattern[position])
        elif character == "%":
            runs.append("")
        else:
            runs[-1] += "." if character == "_" else re.escape(character)
        position += 1
    first, *rest = runs
    if rest:
        # The first place where a run fits is as good as any later one, so it need not be tried again.
        first += "".join([f"(?>.*?{run})" for run in rest[:-1] if run]) + f".*{rest[-1]}"
    return re.compile(first, re.DOTALL | (re.IGNORECASE if ignores_case else 0))


def _like(ignores_case: bool) -> Callable[..., bool]:
    def like(text: str, pattern: str, escape: str = "\\") -> bool:
        return like_pattern(pattern, escape, ignores_case=ignores_case).fullmatch(text) is not None

    return like


_JAVA_FLAGS: Final = {
    "i": regex.IGNORECASE,
    "u": regex.UNICODE,
    "s": regex.DOTALL,
    "m": regex.MULTILINE,
    "x": regex.VERBOSE,
    "d": 0,
    "U": regex.UNICODE,
}


@functools.lru_cache(maxsize=_PATTERNS_CACHED)
def compiled(pattern: str, flags: str = "") -> regex.Pattern[str]:
    """A regular expression with flags as letters; ``g`` means all matches and is read elsewhere."""
    _check_length("Regular expression", pattern, limits.REGEX_PATTERN_CHARS_MAX)
    options = 0
    for letter in flags:
        if letter == "g":
            continue
        if letter not in _JAVA_FLAGS:
            raise SQLParseError(f"The regular expression flag is unknown: {letter}")
        options |= _JAVA_FLAGS[letter]
    try:
        return regex.compile(pattern, options, cache_pattern=False)
    except (regex.error, RecursionError) as error:
        raise SQLParseError(f"Invalid regular expression '{pattern}': {error}") from error


def _check_length(what: str, pattern: str, limit: int) -> None:
    if len(pattern) > limit:
        raise SQLParseError(f"{what} of {len(pattern)} characters exceeds the limit of {limit}")


_T = TypeVar("_T")


def _limited(match: Callable[[float, bool], _T], pattern: str, text: str) -> _T:
    """What ``match(seconds, is_concurrent)`` gives. Raises SQLParseError if it takes too long."""
    seconds = limits.REGEX_S + limits.REGEX_CHARACTER_S * len(text)
    try:
        return match_within(seconds, match, text)
    except TimeoutError as error:
        raise SQLParseError(
            f"Regular expression '{pattern}' took longer than {seconds:.2f} s for a text of {len(text)} characters"
        ) from error


def _fits(pattern: str, flags: str, text: str) -> bool:
    expression = compiled(pattern, flags)
    return _limited(lambda s, c: expression.fullmatch(text, timeout=s, concurrent=c) is not None, pattern, text)


def _found(pattern: str, flags: str, text: str, start: int = 0, *, count: int | None = None) -> list[regex.Match[str]]:
    """The first ``count`` matches in order; None: all."""
    expression = compiled(pattern, flags)
    return _limited(
        lambda s, c: list(itertools.islice(expression.finditer(text, start, timeout=s, concurrent=c), count)),
        pattern,
        text,
    )


#: A repeated group that repeats something itself: Python's matcher may need exponential time, RE2 never does.
_NESTED_REPETITION: Final = re.compile(r"[*+}][^()]*\)[*+{]")


def _matches(text: str, pattern: str) -> bool:
    if _NESTED_REPETITION.search(pattern):
        found = matched_one(text, pattern)
        if found is not None:
            return found
    return _fits(pattern, "s", text)


def _matches_ignoring_case(text: str, pattern: str) -> bool:
    if _NESTED_REPETITION.search(pattern):
        found = matched_one(text, f"(?i:{pattern})")
        if found is not None:
            return found
    return _fits(pattern, "i", text)


#: A character that stands for itself, a group by its number or by its name; or the start of one of them.
_REFERENCE: Final = re.compile(r"\\(.)|\$(\d+)|\$\{([A-Za-z][A-Za-z0-9]*)\}|[\\$]", re.DOTALL)


def _replacement(expression: regex.Pattern[str], written: str) -> tuple[str | tuple[int | str], ...]:
    """Texts, and groups as tuples of one; short ones are remembered. Raises SQLParseError."""
    return (_short_replacement if len(written) <= _REPLACEMENT_CACHED_CHARS else _parsed_replacement)(
        expression, written
    )


def _parsed_replacement(expression: regex.Pattern[str], written: str) -> tuple[str | tuple[int | str], ...]:
    """Texts, and groups as tuples of one. Raises SQLParseError, with Java's words for what is no reference."""
    parts: list[str | tuple[int | str]] = []
    end = 0
    for found in _REFERENCE.finditer(written):
        parts.append(written[end : found.start()])
        end = found.end()
        escaped, digits, name = found.groups()
        if escaped is not None:
            parts.append(escaped)
        elif name is not None:
            if name not in expression.groupindex:
                raise SQLParseError(f"No group with name {{{name}}}")
            parts.append((name,))
        elif digits is not None:
            # As many digits as still name a group; the others are text.
            count = max((n for n in range(1, len(digits) + 1) if int(digits[:n]) <= expression.groups), default=0)
            if not count:
                raise SQLParseError(f"No group {digits[0]}")
            parts += [(int(digits[:count]),), digits[count:]]
        elif found.group() == "\\":
            raise SQLParseError("character to be escaped is missing")
        else:
            raise SQLParseError(f"Illegal group reference{': group index is missing' if end == len(written) else ''}")
    return (*parts, written[end:])


_short_replacement = functools.lru_cache(maxsize=_PATTERNS_CACHED)(_parsed_replacement)


def _regexp_replace(text: str, pattern: str, written: str, flags: str = "") -> str:
    expression = compiled(pattern, flags)
    parts: tuple[str | tuple[int | str], ...] | None = None
    taken = 0

    def expanded(match: regex.Match[str]) -> str:
        nonlocal parts, taken
        if parts is None:  # a wrong one is an error only if something is replaced
            parts = _replacement(expression, written)
        made = "".join(part if isinstance(part, str) else match.group(part[0]) or "" for part in parts)
        taken += len(made)
        if taken > limits.TEXT_RESULT_CHARS_MAX:
            raise SQLParseError(
                f"result of regexp_replace exceeds the limit of {limits.TEXT_RESULT_CHARS_MAX} characters"
            )
        return made

    count = 0 if "g" in flags else 1
    return _limited(lambda s, c: expression.sub(expanded, text, count, timeout=s, concurrent=c), pattern, text)


def _regexp_count(text: str, pattern: str, start: int = 1, flags: str = "") -> int:
    if start < 1:
        raise SQLParseError("`start` must be greater than or equal to 1")
    return len(_found(pattern, flags, text, start - 1))


def _regexp_instr(
    text: str, pattern: str, start: int = 1, nth: int = 1, end: int = 0, flags: str = "", group: int = 0
) -> int:
    for name, number in (("start", start), ("N", nth)):
        if number < 1:
            raise SQLParseError(f"{name} must be >= 1")
    expression = compiled(pattern, flags)
    if group > expression.groups:
        return 0
    found = _found(pattern, flags, text, start - 1, count=nth)
    if nth > len(found):
        return 0
    match = found[nth - 1]
    return (match.end(group) if end else match.start(group)) + 1


def regexp_matches(text: str, pattern: str, flags: str = "") -> list[list[str | None]]:
    """Rows of the table function: the groups of each match, or the whole match if the pattern has no groups."""
    found = _found(pattern, flags, text, count=None if "g" in flags else 1)
    return [list(match.groups()) or [match.group()] for match in found]


def _either_like(ignores_case: bool) -> Callable[..., bool]:
    like = _like(ignores_case)
    return lambda left, right: like(left, right) or like(right, left)


def _quantified_like(
    quantifier: Callable[..., bool | None], like: Callable[..., bool], *, negated: bool
) -> Callable[[Any, Any], bool | None]:
    return lambda text, patterns: (
        None if patterns is None else quantifier(lambda t, p: like(t, p) != negated, text, patterns)
    )


def _like_sql(operator: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    return lambda arguments, _result: f"({{0}} {operator} {{1}})" if len(arguments) == 2 else None


def _quantified_declarations() -> tuple[Declaration, ...]:
    """``_either``: a pattern on any side, for ``'%x%' LIKE ANY(column)``, which CrateDB's documentation has."""
    found: list[Declaration] = []
    for word, quantifier in (("any", any_of), ("all", all_of)):
        for negated in (False, True):
            for name in ("like", "ilike"):
                plain = f"{word}_{'not_' if negated else ''}{name}"
                ignores_case = name == "ilike"
                row = _quantified_like(quantifier, _like(ignores_case), negated=negated)
                if word == "any":
                    either = _quantified_like(quantifier, _either_like(ignores_case), negated=negated)
                    found.append(
                        Declaration(
                            name=f"op_{plain}_either",
                            signatures=signatures("text,text[] -> boolean"),
                            row=either,
                            takes_null=True,
                        )
                    )
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
        is_costly=True,
        signatures=signatures("text,text -> boolean"),
        row=_matches,
        arrow=lambda _arguments, _result: matched_text,
    ),
    Declaration(
        name="op_~*", is_costly=True, signatures=signatures("text,text -> boolean"), row=_matches_ignoring_case
    ),
    *_quantified_declarations(),
    Declaration(
        name="regexp_replace",
        is_costly=True,
        signatures=signatures("text,text,text -> text", "text,text,text,text -> text"),
        row=_regexp_replace,
        arrow=lambda _arguments, _result: replaced_text,
        doc="the first match (all with flag g) replaced; $1 is a group",
    ),
    Declaration(
        name="regexp_count",
        is_costly=True,
        signatures=signatures(
            "text,text -> integer", "text,text,integer -> integer", "text,text,integer,text -> integer"
        ),
        row=_regexp_count,
    ),
    Declaration(
        name="regexp_instr",
        is_costly=True,
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
