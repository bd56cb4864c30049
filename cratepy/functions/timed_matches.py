"""Regular expressions of users, in bounded time.

In: a match to try, with seconds and whether other threads run beside it. Out: what it gives, or TimeoutError. Its own room
because operators and analyzers need the same and say different things when the time is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

_T = TypeVar("_T")
#: A match in a short text that takes longer than this is begun anew so that other threads run beside it; letting them in
#: costs more than most matches.
_QUICK_S: Final = 0.001
_SHORT_TEXT: Final = 256


def match_within(seconds: float, match: Callable[[float, bool], _T], text: str) -> _T:
    """What ``match(seconds, is_concurrent)`` gives for the text. Raises TimeoutError."""
    if len(text) <= _SHORT_TEXT:
        with contextlib.suppress(TimeoutError):
            return match(min(_QUICK_S, seconds), False)
    return match(seconds, True)
