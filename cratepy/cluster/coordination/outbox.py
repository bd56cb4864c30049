"""The effects of one step, and which timers are alive.

A timer is set under a name with a new generation; setting it again or cancelling it makes the older generation stale, so
that a firing that was on its way when the timer was cancelled is recognised and ignored.
"""

from __future__ import annotations

from cratepy.cluster.coordination.messages import Effect, Message, Send, SetTimer


class Outbox:
    """Collects effects in order. Lives as long as its coordinator; emptied after every step."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._generation = 0
        self._timers: dict[str, int] = {}

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, target: str, message: Message) -> None:
        self._effects.append(Send(target, message))

    def set_timer(self, name: str, delay_s: float) -> None:
        self._generation += 1
        self._timers[name] = self._generation
        self._effects.append(SetTimer(name, delay_s, self._generation))

    def cancel_timer(self, name: str) -> None:
        self._timers.pop(name, None)

    def cancel_all_timers(self) -> None:
        self._timers.clear()

    def is_pending(self, name: str) -> bool:
        return name in self._timers

    def is_due(self, name: str, generation: int) -> bool:
        """Whether this firing is the one waited for; it is then pending no more."""
        if self._timers.get(name) != generation:
            return False
        del self._timers[name]
        return True

    def take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
