"""A network that loses, delays, repeats and reorders messages, and can be cut in one direction or both.

A cut is silent, as dropped packets are: nobody is told. A reset is not: both ends hear that the connection broke, and a
little later that there is a new one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import product

from cratepy.cluster.coordination.messages import Event
from tests.simulation.loop import EventLoop

_USUAL_DELAY_S = (0.0005, 0.005)
#: One message of a hundred takes much longer, so that it arrives after what was sent later.
_STRAGGLER_CHANCE, _STRAGGLER_S = 0.01, 2.0


class Network:
    """``deliver(target, event)`` is called when a message arrives."""

    def __init__(self, loop: EventLoop, chance: random.Random, deliver: Callable[[str, Event], None]) -> None:
        self._loop = loop
        self._chance = chance
        self._deliver = deliver
        #: (source, target) pairs that nothing passes.
        self.cuts: dict[tuple[str, str], None] = {}
        self.loss = 0.0
        self.repeat = 0.0
        self.delay_s = _USUAL_DELAY_S
        self.straggler_chance = _STRAGGLER_CHANCE
        self.messages = 0

    def send(self, source: str, target: str, event: Event) -> None:
        self.messages += 1
        chance = self._chance
        if (source, target) in self.cuts or chance.random() < self.loss:
            return
        for _ in range(2 if chance.random() < self.repeat else 1):
            delay_s = chance.uniform(*self.delay_s)
            if chance.random() < self.straggler_chance:
                delay_s += chance.uniform(0, _STRAGGLER_S)
            self._loop.schedule(delay_s, self._arrive, source, target, event)

    def _arrive(self, source: str, target: str, event: Event) -> None:
        if (source, target) not in self.cuts:
            self._deliver(target, event)

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """One way: what the sources send does not reach the targets."""
        self.cuts |= dict.fromkeys((a, b) for a, b in product(sources, list(targets)) if a != b)

    def separate(self, side: Iterable[str], others: Iterable[str]) -> None:
        """Both ways."""
        side, others = list(side), list(others)
        self.cut(side, others)
        self.cut(others, side)

    def heal(self) -> None:
        self.cuts.clear()
        self.loss = self.repeat = 0.0
        self.delay_s = _USUAL_DELAY_S
