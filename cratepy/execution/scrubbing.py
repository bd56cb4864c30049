"""Scrubbing: every shard copy of a node is read again now and then, slowly, one file at a time.

In: the open shards. Out: calls of ``Shard.scrub`` on a worker thread, paced to ``limits.SCRUB_BYTES_PER_S``. A copy whose
files changed on the disk has failed then, and the refresh loop tells the master, as of any failure. Its own room because
which copy is next is pure (:func:`next_copy`), and because nothing else waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import ShardFailed

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)

#: Seconds between looks.
_TICK_S = 10.0


def next_copy(shards: Sequence[Shard], due_at: dict[int, float], now: float) -> Shard | None:
    """The copy that waits longest for its scrub, if one is due. ``due_at``, by the object's identity, is kept up."""
    known = {id(shard): due_at.get(id(shard), now + limits.SCRUB_FIRST_S) for shard in shards}
    due_at.clear()
    due_at.update(known)
    waiting = [shard for shard in shards if shard.failure is None and not shard.is_closed and known[id(shard)] <= now]
    return min(waiting, key=lambda shard: known[id(shard)], default=None)


class Scrubber:
    """Runs the loop of one node."""

    def __init__(self, *, store: ShardStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._thread = trio.CapacityLimiter(1)

    async def run(self) -> None:
        due_at: dict[int, float] = {}
        while True:
            shard = next_copy(self._store.shards(), due_at, self._clock.monotonic())
            if shard is None:
                await trio.sleep(_TICK_S)
                continue
            due_at[id(shard)] = self._clock.monotonic() + limits.SCRUB_INTERVAL_S
            await self._scrub(shard)

    async def _scrub(self, shard: Shard) -> None:
        ready_at = self._clock.monotonic()

        def pause(read_bytes: int) -> None:
            nonlocal ready_at
            ready_at += read_bytes / limits.SCRUB_BYTES_PER_S
            wait_s = ready_at - self._clock.monotonic()
            if wait_s > 0:
                trio.from_thread.run(trio.sleep, wait_s)

        name, number = shard.definition.name, shard.shard
        try:
            read = await trio.to_thread.run_sync(lambda: shard.scrub(pause=pause), limiter=self._thread)
            logger.debug("scrubbed shard [%s][%d]: %d bytes are as they were written", name, number, read)
        except ShardFailed as error:
            if not shard.is_closed:
                logger.error("scrubbing shard [%s][%d]: %s", name, number, error.message)
