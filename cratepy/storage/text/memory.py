"""How much memory the text indexes being built in this process may take together.

In: how much text a build is about. Out: leave to begin, when others have ended. The index library keeps a whole segment in
memory until it is written: measured, once the size of the text for prose, twice with few rows, four times for short texts,
nine times where every word is new. Four is taken for granted. Small builds never wait: refreshes keep going.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cratepy import limits

_PER_BYTE: Final = 4
#: Between two looks at whether the waiting is still of use.
_LOOK_S: Final = 1.0


class Budget:
    """Bytes that several may take at once. Safe on all threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self.taken = 0

    @contextmanager
    def take(self, size: int, check: Callable[[], None]) -> Iterator[None]:
        """Waits until so much is free; ``check`` may raise to end that. Who wants more than half gets half."""
        size = min(size, self._limit // 2)
        with self._changed:
            while self.taken + size > self._limit:
                self._changed.wait(_LOOK_S)
                check()
            self.taken += size
        try:
            yield
        finally:
            with self._changed:
                self.taken -= size
                self._changed.notify_all()


_builds: Final = Budget(limits.TEXT_BUILDS_BYTES_MAX)


@contextmanager
def build_memory(text_bytes: int, check: Callable[[], None]) -> Iterator[None]:
    """For the time of a build of so much text."""
    if text_bytes <= limits.TEXT_BUILD_SMALL_BYTES:
        yield
        return
    with _builds.take(text_bytes * _PER_BYTE, check):
        yield
