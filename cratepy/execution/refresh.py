"""The background work of open shards: refresh what was written, flush what the translog holds.

In: the open shards and their tables' settings. Out: calls of ``refresh`` and ``flush`` on file threads. A shard is refreshed every
``refresh_interval`` (CrateDB: 1,000 ms unless set; 0 and below: never) if something was written since, and flushed when its
translog is larger than ``translog.flush_threshold_size``. A node where nothing is written does nothing but look, once a
second, in memory. Its own room because the policy is pure (:func:`due_shards`) and the driver is four lines.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import CrateError
from cratepy.execution.cpu import Workers
from cratepy.model.schema import SettingValue

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)

_DURATION: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|k|kb|m|mb|g|gb|t|tb)?")
_UNIT_BYTES: Final = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
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


def flush_threshold_bytes(settings: Mapping[str, SettingValue]) -> float:
    """The table's ``translog.flush_threshold_size`` in bytes."""
    value = settings.get("translog.flush_threshold_size")
    if isinstance(value, int | float):
        return value
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        return limits.TRANSLOG_FLUSH_BYTES
    return float(match[1]) * _UNIT_BYTES[(match[2] or "b")[0]]


def due_shards(shards: Iterable[Shard], refreshed_at: dict[int, float], now: float) -> tuple[list[Shard], float]:
    """(shards whose interval is over, seconds until the loop should look again).

    ``refreshed_at`` remembers, by the shard object's identity, when each was last looked at; it is updated.
    """
    due: list[Shard] = []
    wait_s = _TICK_S_MAX
    seen: set[int] = set()
    for shard in shards:
        key = id(shard)
        seen.add(key)
        interval_ms = refresh_interval_ms(shard.definition.settings)
        if interval_ms <= 0:
            continue
        interval_s = interval_ms / 1000
        last = refreshed_at.setdefault(key, now)
        if now - last >= interval_s:
            refreshed_at[key] = last = now
            due.append(shard)
        wait_s = min(wait_s, last + interval_s - now)
    for key in [key for key in refreshed_at if key not in seen]:
        del refreshed_at[key]
    return due, max(wait_s, _TICK_S_MIN)


class Refresher:
    """Runs the loop of one node."""

    def __init__(self, *, store: ShardStore, workers: Workers, clock: Clock) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock

    async def run(self) -> None:
        refreshed_at: dict[int, float] = {}
        while True:
            due, wait_s = due_shards(self._store.shards(), refreshed_at, self._clock.monotonic())
            async with trio.open_nursery() as nursery:
                for shard in due:
                    if has_work(shard):
                        nursery.start_soon(self._refresh, shard)
            await trio.sleep(wait_s)

    async def _refresh(self, shard: Shard) -> None:
        try:
            await self._workers.files(_refresh_and_flush, shard)
        except (CrateError, OSError) as error:
            # The shard has taken note of its failure and refuses everything from now on; here it is only told.
            logger.error("cannot refresh shard [%s][%d]: %s", shard.definition.name, shard.shard, error)
