"""The background work of open shards: refresh, flush, sync and merge what was written.

In: the open shards and their tables' settings. Out: calls of ``Shard.refresh``, ``flush`` and ``merge`` on worker
threads, and of the store's committer. What is due when is pure (:class:`Schedule`); a node where nothing is written only
looks, once a second, in memory. CrateDB's rules (docs: general/refresh, sql/statements/create-table "WITH"):

* ``refresh_interval`` (1,000 ms): refresh that often if something was written since; 0 and below: never. If the table
  does not set it, a shard nobody searched for ``limits.SEARCH_IDLE_S`` is left alone; the next search refreshes it first.
* ``translog.flush_threshold_size`` (512 MB): flush above it, even where refreshing is off. A shard nobody wrote to for
  ``limits.SHARD_INACTIVE_S`` is flushed, so that a restart has little to replay; one whose write found the disk full, so
  that the log's space is free.
* ``translog.sync_interval`` (5 s): what was written with ``translog.durability`` ASYNC is made durable that often.
* Merges run in two lanes of one thread each: small ones as they come, big ones one at a time and throttled to
  ``limits.MERGE_BYTES_PER_S``, unless a shard has so many segments that reads suffer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Final

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import DiskFull, TooManyRequests
from cratepy.execution.cpu import Workers
from cratepy.model.schema import SettingValue
from cratepy.records import dataclass

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)

_DURATION: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: The loop looks this often, and never less often.
_TICK_S_MIN: Final = 0.05
_TICK_S_MAX: Final = 1.0


def duration_ms(settings: Mapping[str, SettingValue], name: str, default: float) -> float:
    """A table's setting in milliseconds."""
    value = settings.get(name)
    if isinstance(value, int | float):
        return value
    match = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        return default
    return float(match[1]) * _UNIT_MS[match[2] or "ms"]


def refresh_interval_ms(settings: Mapping[str, SettingValue]) -> float:
    """The table's ``refresh_interval`` in milliseconds; not positive is off."""
    return duration_ms(settings, "refresh_interval", limits.REFRESH_INTERVAL_MS)


@dataclass(slots=True)
class Due:
    """What shards need now."""

    refresh: list[Shard] = field(default_factory=list)
    flush: list[Shard] = field(default_factory=list)
    sync: list[Shard] = field(default_factory=list)
    merge: list[Shard] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    refreshed_at: float
    synced_at: float
    written_at: float
    position: int
    #: Nothing is left to do before the next write.
    is_settled: bool = False


class Schedule:
    """What is due when. Pure: it knows shards by what they say and when it has seen them."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def look(self, shards: Iterable[Shard], now: float) -> tuple[Due, float]:
        """What is due, and in how many seconds to look again."""
        due = Due()
        wait_s = _TICK_S_MAX
        known, self._seen = self._seen, {}
        for shard in shards:
            if shard.failure is not None or shard.is_closed:
                continue
            seen = known.get(id(shard)) or _Seen(now, now, now, shard.position)
            self._seen[id(shard)] = seen
            if seen.is_settled and shard.position == seen.position:
                continue  # so a thousand shards that nobody writes to cost a millisecond a second
            wait_s = min(wait_s, self._look_at(shard, seen, now, due))
            seen.is_settled = (
                shard.buffered_bytes == 0
                and shard.synced_position >= shard.position
                and not shard.wants_merge
                and not shard.is_unflushed
            )
        return due, max(wait_s, _TICK_S_MIN)

    def _look_at(self, shard: Shard, seen: _Seen, now: float, due: Due) -> float:
        settings = shard.definition.settings
        if shard.position != seen.position:
            seen.position, seen.written_at = shard.position, now
        if not shard.is_put_off:
            is_quiet = now - seen.written_at >= limits.SHARD_INACTIVE_S
            is_long = shard.translog_bytes > shard.flush_bytes
            if is_long or shard.wants_space or (is_quiet and shard.is_unflushed):
                due.flush.append(shard)
            if shard.wants_merge:
                due.merge.append(shard)
        sync_s = duration_ms(settings, "translog.sync_interval", limits.TRANSLOG_SYNC_INTERVAL_MS) / 1000
        if shard.synced_position >= shard.position:
            seen.synced_at = now
        elif now - seen.synced_at >= sync_s:
            seen.synced_at = now
            due.sync.append(shard)
        interval_s = refresh_interval_ms(settings) / 1000
        if interval_s <= 0 or shard.is_asleep or shard.is_put_off:
            seen.refreshed_at = now
            return _TICK_S_MAX
        if now - seen.refreshed_at >= interval_s:
            seen.refreshed_at = now
            if shard.buffered_bytes > 0:
                due.refresh.append(shard)
        return seen.refreshed_at + interval_s - now


class Refresher:
    """Runs the loop of one node. ``on_failed`` hears of every shard found failed, again and again."""

    def __init__(
        self, *, store: ShardStore, workers: Workers, clock: Clock, on_failed: Callable[[Shard], None]
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._on_failed = on_failed
        #: By (what, shard): a long flush or merge holds nothing else up, and is not begun twice.
        self._running: set[tuple[str, int]] = set()
        self._small_merges = trio.CapacityLimiter(1)
        self._big_merges = trio.CapacityLimiter(1)

    async def run(self) -> None:
        schedule = Schedule()
        async with trio.open_nursery() as nursery:
            while True:
                shards = self._store.shards()
                for shard in shards:
                    if shard.failure is not None:
                        self._on_failed(shard)
                due, wait_s = schedule.look(shards, self._clock.monotonic())
                for what, wanted in (
                    (self._refresh, due.refresh),
                    (self._flush, due.flush),
                    (self._merge_small, due.merge),
                    (self._merge_big, due.merge),
                ):
                    for shard in wanted:
                        key = (what.__name__, id(shard))
                        if key not in self._running:
                            self._running.add(key)
                            nursery.start_soon(self._guarded, what, key, shard)
                for shard in due.sync:
                    self._sync(shard)
                await trio.sleep(wait_s)

    def _sync(self, shard: Shard) -> None:
        try:
            self._store.when_durable(shard, shard.position, _ignore)
        except TooManyRequests:
            logger.warning("the disk is too slow to sync shard [%s][%d]", shard.definition.name, shard.shard)

    async def _guarded(self, what: Callable[..., object], key: tuple[str, int], shard: Shard) -> None:
        try:
            await what(shard)  # type: ignore[misc]
        except DiskFull as error:
            logger.warning("%s", error.message)
        except Exception as error:
            # The shard has noted its failure and refuses everything from now on, the next round tells the master; or
            # it has put the work off. Either way the others go on.
            if not shard.is_closed:
                name = shard.definition.name
                logger.error("background work on shard [%s][%d] failed", name, shard.shard, exc_info=error)
        finally:
            self._running.discard(key)

    async def _refresh(self, shard: Shard) -> None:
        await self._workers.files(shard.refresh)

    async def _flush(self, shard: Shard) -> None:
        await self._workers.files(shard.flush)

    async def _merge_small(self, shard: Shard) -> None:
        def merge() -> bool:
            return shard.merge(bytes_max=limits.MERGE_SMALL_BYTES_MAX)

        # A result may be joined with others at once.
        while await trio.to_thread.run_sync(merge, limiter=self._small_merges):
            continue

    async def _merge_big(self, shard: Shard) -> None:
        ready_at = self._clock.monotonic()

        def pause(written_bytes: int) -> None:
            nonlocal ready_at
            now = self._clock.monotonic()
            ready_at = max(ready_at, now - _TICK_S_MAX) + written_bytes / limits.MERGE_BYTES_PER_S
            if ready_at > now and shard.segment_count < limits.SEGMENTS_MAX // 2:
                trio.from_thread.run(trio.sleep, ready_at - now)

        def merge() -> bool:
            return shard.merge(bytes_min=limits.MERGE_SMALL_BYTES_MAX, pause=pause)

        if await trio.to_thread.run_sync(merge, limiter=self._big_merges):
            # The files it replaced stay until a manifest does without them.
            await self._workers.files(shard.flush)


def _ignore(failure: BaseException | None) -> None:
    """A failure is the shard's, and seen in the next round."""


async def wake(shard: Shard) -> None:
    """Before a search on the event loop: a shard that nobody searched for a while is refreshed first."""
    if shard.is_asleep:
        await trio.to_thread.run_sync(shard.wake)
    else:
        shard.wake()
