"""What analysing one text may cost: time in regular expressions, tokens, characters.

In: patterns of CREATE ANALYZER, and whatever text somebody writes. Out: matches, or :class:`AnalysisTooCostly`. Patterns that
backtrack take exponential time, and n-grams, shingles, synonyms and replacements may make far more than they are given; so
what one text costs is counted for all steps of its analysis together. Outside of :func:`bounded_analysis` each step counts
alone.

``patience`` is how many times of the limit may pass. Who writes or asks has one; a segment's index, which is built long after
its rows were acknowledged, has more, so that it does not run out of time where the writer did not
(:mod:`cratepy.storage.text.analyzers` says what happens if it does).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar

import regex

from cratepy import limits
from cratepy.clock import SystemClock
from cratepy.errors import BadRequest
from cratepy.functions.timed_matches import match_within

#: What calling an expression may take beside its text.
_CALL_S: Final = 0.000_005
_FLAGS: Final = {
    "CASE_INSENSITIVE": regex.I,
    "MULTILINE": regex.M,
    "DOTALL": regex.S,
    "UNICODE_CASE": 0,
    "COMMENTS": regex.X,
}
_REFERENCE: Final = re.compile(r"\$(\d{1,4})")
_T = TypeVar("_T")
_clock: Final = SystemClock()


class AnalysisTooCostly(BadRequest):
    """A text that an analyzer cannot be asked to split."""


class _Spent:
    """What one text may still cost."""

    __slots__ = ("characters", "seconds", "tokens")

    def __init__(self, patience: float) -> None:
        self.seconds = limits.REGEX_S * patience
        self.tokens = limits.ANALYSIS_TOKENS_MAX
        self.characters = limits.ANALYSIS_CHARACTERS_MAX


_spent: ContextVar[_Spent | None] = ContextVar("spent", default=None)


@contextlib.contextmanager
def bounded_analysis(*, patience: float = 1.0) -> Iterator[None]:
    """The analysis of one text."""
    token = _spent.set(_Spent(patience))
    try:
        yield
    finally:
        _spent.reset(token)


def bounded(made: Iterable[_T], length: Callable[[_T], int]) -> list[_T]:
    """All of ``made``, counted. Raises AnalysisTooCostly."""
    spent = _spent.get() or _Spent(1.0)
    found: list[_T] = []
    tokens, characters = spent.tokens, spent.characters
    for one in made:
        found.append(one)
        characters -= length(one)
        if characters < 0 or len(found) > tokens:
            raise AnalysisTooCostly(
                f"a text became more than {limits.ANALYSIS_TOKENS_MAX} words or "
                f"{limits.ANALYSIS_CHARACTERS_MAX} characters of words"
            )
    spent.tokens, spent.characters = tokens - len(found), characters
    return found


class Expression:
    """A pattern of a user, or one made of a user's words."""

    __slots__ = ("_pattern", "groups", "pattern")

    def __init__(self, pattern: str, flags: str = "") -> None:
        """Raises BadRequest for what is no regular expression."""
        value = 0
        for flag in flags.split("|"):
            if flag and flag not in _FLAGS:
                raise BadRequest(f"Unknown regex flag [{flag}]")
            value |= int(_FLAGS.get(flag, 0))
        try:
            self._pattern = regex.compile(pattern, value, cache_pattern=False)
        except (regex.error, OverflowError, RecursionError) as error:
            raise BadRequest(f"pattern {pattern!r} is no regular expression: {error}") from None
        self.pattern = pattern
        self.groups: int = self._pattern.groups

    def matches(self, text: str) -> list[regex.Match[str]]:
        """Raises AnalysisTooCostly."""

        def find(seconds: float, concurrent: bool) -> list[regex.Match[str]]:
            return bounded(self._pattern.finditer(text, timeout=seconds, concurrent=concurrent), lambda match: 0)

        return self._limited(find, text)

    def split(self, text: str) -> list[str]:
        """What is between the matches. Raises AnalysisTooCostly."""
        parts, end = [], 0
        for found in self.matches(text):
            parts.append(text[end : found.start()])
            end = found.end()
        return [*parts, text[end:]]

    def replaced(self, text: str, replacement: Callable[[regex.Match[str]], Iterable[str]]) -> str:
        """The text with parts in the place of each match. Raises AnalysisTooCostly."""
        matches = self.matches(text)
        if not matches:
            return text

        def parts() -> Iterator[str]:
            end = 0
            for found in matches:
                yield text[end : found.start()]
                yield from replacement(found)
                end = found.end()
            yield text[end:]

        return "".join(bounded(parts(), len))

    def template(self, replacement: str) -> Callable[[regex.Match[str]], list[str]]:
        """Makes a replacement with ``$1`` for groups. Raises BadRequest if the pattern has not so many."""
        parts: list[str | int] = [
            int(part) if at % 2 else part for at, part in enumerate(_REFERENCE.split(replacement)) if part
        ]
        beyond = [part for part in parts if isinstance(part, int) and part > self.groups]
        if beyond:
            raise BadRequest(
                f"replacement {replacement!r} does not fit {self.pattern!r}: there is no group {beyond[0]}"
            )
        return lambda found: [part if isinstance(part, str) else found.group(part) or "" for part in parts]

    def _limited(self, match: Callable[[float, bool], _T], text: str) -> _T:
        spent = _spent.get() or _Spent(1.0)
        free = _CALL_S + limits.REGEX_CHARACTER_S * len(text)
        left = spent.seconds + free
        started = _clock.monotonic()
        try:
            if left <= _CALL_S:
                raise TimeoutError
            return match_within(left, match, text)
        except TimeoutError:
            spent.seconds = 0.0
            raise AnalysisTooCostly(
                f"the pattern '{self.pattern}' of an analyzer takes more than {limits.REGEX_S} s for a text of "
                f"{len(text)} characters"
            ) from None
        finally:
            spent.seconds = min(spent.seconds, spent.seconds - (_clock.monotonic() - started - free))
