"""What background work is due when; and that the loop does it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import trio

from cratepy import limits
from cratepy.clock import FakeClock, SystemClock
from cratepy.execution.cpu import Workers
from cratepy.execution.refresh import Due, Refresher, Schedule, refresh_interval_ms, wake
from cratepy.model.schema import SettingValue, TableDefinition
from cratepy.storage.operations import WriteBatch
from cratepy.storage.store import ShardStore
from tests.execution.fakes import table_definition


@dataclass(eq=False)
class Shard:
    settings: dict[str, SettingValue] = field(default_factory=dict)
    buffered_bytes: int = 1
    translog_bytes: int = 0
    flush_bytes: int = 100
    failure: str | None = None
    is_closed: bool = False
    is_put_off: bool = False
    is_asleep: bool = False
    is_unflushed: bool = True
    wants_merge: bool = False
    wants_space: bool = False
    position: int = 10
    synced_position: int = 10

    @property
    def definition(self) -> TableDefinition:
        return msgspec.structs.replace(table_definition(), settings=self.settings)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [(None, 1000), (500, 500), ("500ms", 500), ("2s", 2000), ("1.5s", 1500), ("-1", -1), (0, 0), ("1m", 60_000)],
)
def test_the_interval_is_the_tables_setting(value: SettingValue, milliseconds: float) -> None:
    assert refresh_interval_ms({} if value is None else {"refresh_interval": value}) == milliseconds


def rounds(what: str, shard: Shard, times: list[float]) -> list[float]:
    """The times at which the shard was due for it."""
    schedule = Schedule()
    shards: list[Any] = [shard]
    return [now for now in times if getattr(schedule.look(shards, now)[0], what)]


def test_a_written_shard_is_refreshed_every_interval() -> None:
    assert rounds("refresh", Shard(), [0.0, 0.5, 1.0, 1.5, 2.1, 3.0]) == [1.0, 2.1]
    assert rounds("refresh", Shard({"refresh_interval": 200}), [0.0, 0.1, 0.2, 0.3, 0.4]) == [0.2, 0.4]


def test_a_shard_nobody_wrote_to_is_never_due() -> None:
    shard = Shard(buffered_bytes=0, is_unflushed=False)
    for field_ in dataclasses.fields(Due):
        assert rounds(field_.name, shard, [0.0, 1.0, 2.0, 1_000.0]) == []


def test_minus_one_is_off_but_a_large_translog_is_still_flushed() -> None:
    for off in (-1, 0):
        settings: dict[str, SettingValue] = {"refresh_interval": off}
        assert rounds("refresh", Shard(settings), [0.0, 1.0, 2.0]) == []
        assert rounds("flush", Shard(settings, translog_bytes=101), [0.0, 1.0]) == [0.0, 1.0]


def test_a_shard_nobody_searches_is_not_refreshed() -> None:
    assert rounds("refresh", Shard(is_asleep=True), [0.0, 1.0, 2.0]) == []


def test_a_shard_nobody_writes_to_any_more_is_flushed() -> None:
    shard = Shard()
    schedule = Schedule()
    shards: list[Any] = [shard]
    quiet = limits.SHARD_INACTIVE_S
    assert not schedule.look(shards, 0.0)[0].flush
    assert not schedule.look(shards, quiet - 1)[0].flush
    shard.position += 1
    assert not schedule.look(shards, quiet)[0].flush
    assert not schedule.look(shards, 2 * quiet - 1)[0].flush
    assert schedule.look(shards, 2 * quiet)[0].flush
    shard.is_unflushed = False
    assert not schedule.look(shards, 2 * quiet + 1)[0].flush


def test_what_nobody_waits_for_is_synced_every_sync_interval() -> None:
    unsynced = Shard(synced_position=5)
    assert rounds("sync", unsynced, [0.0, 4.9, 5.0, 6.0, 9.9, 10.0]) == [5.0, 10.0]
    unsynced.settings = {"translog.sync_interval": 200}
    assert rounds("sync", unsynced, [0.0, 0.1, 0.2]) == [0.2]
    assert rounds("sync", Shard(), [0.0, 10.0]) == []


def test_nothing_but_syncing_is_done_while_the_disk_is_full() -> None:
    full = Shard(is_put_off=True, translog_bytes=101, wants_merge=True, synced_position=0)
    times = [0.0, 5.0]
    assert [rounds(what, full, times) for what in ("refresh", "flush", "merge", "sync")] == [[], [], [], [5.0]]


def test_a_shard_with_nothing_left_to_do_is_passed_over_until_the_next_write() -> None:
    shard = Shard(buffered_bytes=0, is_unflushed=False)
    schedule = Schedule()
    shards: list[Any] = [shard]
    schedule.look(shards, 0.0)
    shard.buffered_bytes, shard.is_unflushed = 1, True
    assert not schedule.look(shards, 5.0)[0].refresh, "nobody looks"
    shard.position = shard.synced_position = 11
    assert schedule.look(shards, 6.0)[0].refresh
    shard.position = 12
    assert schedule.look(shards, 12.0)[0].sync


def test_a_write_that_found_no_space_calls_for_a_flush() -> None:
    assert rounds("flush", Shard(wants_space=True), [0.0]) == [0.0]
    assert rounds("flush", Shard(wants_space=True, is_put_off=True), [0.0]) == []


def test_failed_and_closed_shards_are_left_alone() -> None:
    assert rounds("refresh", Shard(failure="broken"), [0.0, 2.0]) == []
    assert rounds("refresh", Shard(is_closed=True), [0.0, 2.0]) == []


def test_the_loop_sleeps_until_the_next_shard_but_at_most_a_second() -> None:
    schedule = Schedule()
    fast: Any = Shard({"refresh_interval": 200})
    slow: Any = Shard({"refresh_interval": "1h"})
    assert schedule.look([slow], 0.0)[1] == 1.0
    assert schedule.look([fast, slow], 0.1)[1] == pytest.approx(0.2)
    assert schedule.look([], 0.2)[1] == 1.0


def rows(first: int, count: int) -> WriteBatch:
    ids = [f"k{number}" for number in range(first, first + count)]
    values = pa.RecordBatch.from_arrays([pa.array(range(first, first + count), pa.int64())], names=["c1"])
    return WriteBatch(kind="insert", ids=ids, rows=values, primary_term=1)


def test_the_loop_refreshes_syncs_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MERGE_SMALL_BYTES_MAX", 1)  # every merge takes the slow lane
    definition = msgspec.structs.replace(
        table_definition(), settings={"refresh_interval": 50, "translog.sync_interval": 100}
    )

    async def main() -> None:
        store = ShardStore(tmp_path, clock=SystemClock())
        shard = store.open_shard(definition, 0, "a", primary_term=1, create=True)
        refresher = Refresher(store=store, workers=Workers(), clock=SystemClock(), on_failed=lambda shard: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresher.run)
            with trio.fail_after(20):
                for number in range(3 * limits.MERGE_SEGMENTS):
                    shard.write(rows(10 * number, 10))
                    while shard.row_count() < 10 * (number + 1):  # noqa: ASYNC110
                        await trio.sleep(0.005)
                while shard.segment_count >= limits.MERGE_SEGMENTS or shard.synced_position < shard.position:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert shard.stats().merge_count > 0
        assert shard.row_count() == 30 * limits.MERGE_SEGMENTS
        await trio.to_thread.run_sync(store.close)

    trio.run(main)


def test_a_search_wakes_a_shard_that_sleeps(tmp_path: Path) -> None:
    clock = FakeClock()
    store = ShardStore(tmp_path, clock=clock)
    shard = store.open_shard(table_definition(), 0, "a", primary_term=1, create=True)
    shard.write(rows(0, 3))
    assert shard.scan(["c1"]) == []
    clock.advance(limits.SEARCH_IDLE_S + 1)
    assert shard.is_asleep
    trio.run(wake, shard)
    assert shard.row_count() == 3
    assert not shard.is_asleep
    shard.write(rows(3, 1))
    assert sum(batch.num_rows for batch in shard.scan(["c1"])) == 3
    clock.advance(limits.SEARCH_IDLE_S + 1)
    assert sum(batch.num_rows for batch in shard.scan(["c1"])) == 4
    clock.advance(limits.SEARCH_IDLE_S + 1)
    shard.update_definition(msgspec.structs.replace(table_definition(), settings={"refresh_interval": 1000}))
    assert not shard.is_asleep, "the interval was asked for"
    store.close()
