"""Simulated time: a queue of functions to call, ordered by when. Nothing in a simulation happens anywhere else.

Chance comes in streams, one per concern, all from one seed: a further consumer in one concern does not change what happens
in the others, so that an old seed stays the history it was as far as possible.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from typing import Any


class EventLoop:
    """``run(until)`` moves time; functions called schedule others. Equal times run in the order they were scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0

    def schedule(self, delay_s: float, function: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._scheduled, function, arguments))

    def spawn(self, script: Generator[float, None, None]) -> None:
        """Run a script that yields how long to wait before it goes on."""

        def go_on() -> None:
            for delay_s in script:
                self.schedule(delay_s, go_on)
                return

        go_on()

    def run(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, function, arguments = heapq.heappop(queue)
            function(*arguments)
        self.now = until


class Chance:
    """Streams of random numbers by name. Seeded with text: the same in every process, whatever its hash seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = random.Random(f"{self._seed}/{name}")
        return found
