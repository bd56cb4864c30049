"""Copies that wait to be opened, opened by a few threads.

In: what is to be opened, on the event loop; a function that opens one, called on threads. Out: the outcomes, in the
order in which they come. Its own room because a thousand copies are not a thousand jobs for a thread: each would cost the
event loop two hand-overs, while a thread that takes the next copy by itself costs it one wake-up for many. A copy that takes long
holds up nothing but its thread. The threads are more than processors, because opening a copy is mostly waiting for the disk's
syncs, and disks do several at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import trio

from cratepy import limits
from cratepy.execution.cpu import Workers

T = TypeVar("T")
R = TypeVar("R")


class Openings(Generic[T, R]):
    """``open_one`` is called on threads of their own and does not raise; ``on_outcome`` on the event loop, when there are outcomes."""

    def __init__(self, *, workers: Workers, open_one: Callable[[T], R], on_outcome: Callable[[], None]) -> None:
        self._workers = workers
        self._open_one = open_one
        self._on_outcome = on_outcome
        self._waiting: deque[T] = deque()
        self._outcomes: deque[tuple[T, R]] = deque()
        self._threads = 0
        #: Copies whose outcome was not taken yet.
        self.pending = 0

    def add(self, copies: Iterable[T], nursery: trio.Nursery) -> None:
        """Open them, by tasks of this nursery."""
        added = list(copies)
        self.pending += len(added)
        self._waiting.extend(added)
        for _ in range(min(limits.SHARD_OPENERS_MAX - self._threads, len(added))):
            self._threads += 1
            nursery.start_soon(self._run)

    def take(self) -> list[tuple[T, R]]:
        """The outcomes there are, each once."""
        taken = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        self.pending -= len(taken)
        return taken

    async def _run(self) -> None:
        try:
            # What was added after the thread had seen the end of the queue is for the next round.
            while self._waiting:
                await self._workers.open(self._open_waiting, trio.lowlevel.current_trio_token())
        finally:
            self._threads -= 1

    def _open_waiting(self, token: trio.lowlevel.TrioToken) -> None:
        while True:
            try:
                copy = self._waiting.popleft()
            except IndexError:
                return
            self._outcomes.append((copy, self._open_one(copy)))
            token.run_sync_soon(self._on_outcome, idempotent=True)
