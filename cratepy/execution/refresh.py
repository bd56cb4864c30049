"""The background work of open shards: refresh what was written.

In: the open shards and their tables' settings. Out: calls of ``Shard.refresh`` on file threads, which also joins segments and
flushes a large translog. A shard is refreshed every ``refresh_interval`` (CrateDB: 1,000 ms unless set; 0 and below: never)
if something was written since; a translog above its threshold is flushed even where refreshing is off. A node where nothing
is written only looks, once a second, in memory. Its own room because the policy is pure (:func:`due_shards`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.execution.cpu import Workers
from cratepy.model.schema import SettingValue

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)

_DURATION: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: The loop looks this often, and never less often.
_TICK_S_MIN: Final = 0.05
_TICK_S_MAX: Final = 1.0


def refresh_interval_ms(settings: Mapping[str, SettingValue]) -> float:
    """The table's ``refresh_interval`` in milliseconds; not positive is off."""
    value = settings.get("refresh_interval")
    if isinstance(value, int | float):
        return value
    match = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        return limits.REFRESH_INTERVAL_MS
    return float(match[1]) * _UNIT_MS[match[2] or "ms"]


def due_shards(shards: Iterable[Shard], refreshed_at: dict[int, float], now: float) -> tuple[list[Shard], float]:
    """(shards whose interval is over and that have work, seconds until the loop should look again).

    ``refreshed_at`` remembers, by the shard object's identity, when each was last looked at; it is updated.
    """
    due: list[Shard] = []
    wait_s = _TICK_S_MAX
    seen: set[int] = set()
    for shard in shards:
        key = id(shard)
        seen.add(key)
        if shard.failure is not None or shard.is_closed:
            continue
        interval_ms = refresh_interval_ms(shard.definition.settings)
        is_off = interval_ms <= 0
        interval_s = _TICK_S_MAX if is_off else interval_ms / 1000
        last = refreshed_at.setdefault(key, now)
        if now - last >= interval_s:
            refreshed_at[key] = last = now
            if shard.translog_bytes > shard.flush_bytes or (shard.buffered_bytes > 0 and not is_off):
                due.append(shard)
        wait_s = min(wait_s, last + interval_s - now)
    for key in [key for key in refreshed_at if key not in seen]:
        del refreshed_at[key]
    return due, max(wait_s, _TICK_S_MIN)


class Refresher:
    """Runs the loop of one node. ``on_failed`` hears of every shard found failed, again and again."""

    def __init__(
        self, *, store: ShardStore, workers: Workers, clock: Clock, on_failed: Callable[[Shard], None]
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._on_failed = on_failed
        self._refreshing: set[int] = set()

    async def run(self) -> None:
        refreshed_at: dict[int, float] = {}
        async with trio.open_nursery() as nursery:
            while True:
                shards = self._store.shards()
                for shard in shards:
                    if shard.failure is not None:
                        self._on_failed(shard)
                due, wait_s = due_shards(shards, refreshed_at, self._clock.monotonic())
                for shard in due:
                    if id(shard) not in self._refreshing:  # a long merge must not hold the others up
                        self._refreshing.add(id(shard))
                        nursery.start_soon(self._refresh, shard)
                await trio.sleep(wait_s)

    async def _refresh(self, shard: Shard) -> None:
        try:
            await self._workers.files(shard.refresh)
        except Exception as error:
            # The shard has noted its failure and refuses everything from now on; the next round tells the master.
            if not shard.is_closed:
                logger.error("cannot refresh shard [%s][%d]", shard.definition.name, shard.shard, exc_info=error)
        finally:
            self._refreshing.discard(id(shard))
