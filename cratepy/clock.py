"""Time and chance: the only module that reads a clock or draws a random number.

Everything that needs the time or chance is given a :class:`Clock`. The simulator gives a fake one; what a test fakes
here is all it has to fake. ``now()`` of a statement is read once at its start and travels with the plan.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from typing import Final, Protocol

#: Ids made from one call of the operating system's randomness.
_IDS_AT_ONCE: Final = 64


class Clock(Protocol):
    """The seam between the cores and the machine's time and chance."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def new_id(self) -> str:
        """A fresh identifier that no other node makes: 32 hexadecimal digits in UUID form."""


class SystemClock:
    """The machine's clocks and the operating system's randomness."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._digits: list[str] = []

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def random(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        # uuid.uuid4() takes 7 µs and a call of urandom 2 µs, and every statement needs an id. Appending and popping are
        # atomic, so no two threads get the same digits.
        try:
            digits = self._digits.pop()
        except IndexError:
            many = os.urandom(16 * _IDS_AT_ONCE).hex()
            self._digits.extend(many[start : start + 32] for start in range(32, len(many), 32))
            digits = many[:32]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


class FakeClock:
    """A clock that moves only when told to, with seeded chance: same seed, same numbers."""

    def __init__(self, *, seed: int = 0, wall_ms: int = 1_700_000_000_000) -> None:
        self._random = random.Random(seed)
        self._monotonic = 0.0
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        return self._monotonic

    def wall_ms(self) -> int:
        return self._wall_ms

    def random(self) -> float:
        return self._random.random()

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        assert seconds >= 0
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)
