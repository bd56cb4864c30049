"""All shards of a node: opening, removing, and one fsync for many writers."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.clock import FakeClock
from cratepy.errors import ShardFailed
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore
from tests.storage.shards import insert, scanned, table
from tests.storage.simulated_disk import SimulatedDisk


def wait_durable(store: ShardStore, shard: Shard, position: int) -> BaseException | None:
    answered = threading.Event()
    answers: list[BaseException | None] = []

    def done(error: BaseException | None) -> None:
        answers.append(error)
        answered.set()

    store.when_durable(shard, position, done)
    assert answered.wait(10)
    return answers[0]


def test_a_durable_write_survives_a_power_cut() -> None:
    disk = SimulatedDisk()
    store = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    position = shard.write(insert({"a": (1, "x")})).position
    assert wait_durable(store, shard, position) is None
    shard.write(insert({"b": (1, "x")}))
    disk.power_cut(random.Random(1))
    again = ShardStore(Path("/data"), clock=FakeClock(), files=disk).open_shard(
        table(), 0, "a", primary_term=1, create=False
    )
    assert again.get(["a"], ["c1"]) == [(1,)]


def test_one_sync_serves_all_that_wait(tmp_path: Path) -> None:
    disk = SimulatedDisk()
    store = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    positions = [shard.write(insert({f"k{i}": (i, "")})).position for i in range(50)]
    assert positions == sorted(set(positions))
    before = disk.syncs
    answers: list[BaseException | None] = []
    all_answered = threading.Event()

    def done(error: BaseException | None) -> None:
        answers.append(error)
        if len(answers) == 50:
            all_answered.set()

    for position in reversed(positions):
        store.when_durable(shard, position, done)
    assert all_answered.wait(10)
    assert answers == [None] * 50
    assert disk.syncs == before + 1, "the highest position was asked for first"
    store.close()


def test_a_failed_sync_answers_every_waiter_with_the_failure() -> None:
    disk = SimulatedDisk()
    store = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    other = store.open_shard(table(), 1, "b", primary_term=1, create=True)
    position = shard.write(insert({"a": (1, "")})).position
    disk.failing_sync = disk.syncs + 1
    assert isinstance(wait_durable(store, shard, position), ShardFailed)
    assert isinstance(wait_durable(store, shard, position), ShardFailed)
    assert wait_durable(store, other, other.write(insert({"a": (1, "")})).position) is None
    store.close()


def test_the_position_of_a_refusal_covers_the_row_it_rests_on(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, clock=FakeClock())
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    first = shard.write(insert({"a": (1, "")})).position
    assert shard.write(insert({"a": (1, "")})).position >= first
    store.close()


def test_shards_are_found_closed_and_opened_again(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, clock=FakeClock())
    for number in (1, 0):
        store.open_shard(table(), number, f"copy-{number}", primary_term=1, create=True)
    assert [shard.shard for shard in store.shards()] == [0, 1]
    shard = store.shard("table-1", 1)
    assert shard is not None
    shard.write(insert({"a": (1, "x")}))
    store.close()
    assert store.shards() == []
    again = ShardStore(tmp_path, clock=FakeClock())
    assert scanned(again.open_shard(table(), 1, "copy-1", primary_term=1, create=False)) == [("a", 1, "x")]
    assert again.shard("table-1", 0) is None
    again.close()


def test_a_removed_table_leaves_nothing(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, clock=FakeClock())
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    shard.write(insert({"a": (1, "x")}))
    shard.refresh()
    batches = shard.scan(["c2"])
    assert store.table_uuids_on_disk() == ["table-1"]
    store.remove_table("table-1")
    assert store.table_uuids_on_disk() == []
    assert store.shard("table-1", 0) is None
    assert batches[0].to_pylist() == [{"c2": "x"}], "a reader keeps what it holds"
    with pytest.raises(ShardFailed):
        shard.scan(["c2"])
    store.remove_table("table-1")
    store.close()


def test_create_goes_on_with_a_copy_that_exists_and_cleans_half_a_one(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, clock=FakeClock())
    store.open_shard(table(), 0, "a", primary_term=1, create=True).write(insert({"a": (1, "")}))
    assert store.open_shard(table(), 0, "a", primary_term=2, create=True).row_count() == 1
    half = tmp_path / "indices" / "table-1" / "1" / "b"
    half.mkdir(parents=True)
    (half / "translog-1").write_bytes(b"half a header")
    assert store.open_shard(table(), 1, "b", primary_term=1, create=True).row_count() == 0
    store.close()


def test_buffered_bytes_count_every_shard_and_fall_with_refresh(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, clock=FakeClock())
    shards = [store.open_shard(table(), number, "a", primary_term=1, create=True) for number in range(3)]
    assert store.buffered_bytes == 0
    for shard in shards:
        shard.write(insert({f"k{i}": (i, "x" * 100) for i in range(100)}))
    assert store.buffered_bytes > 3 * 100 * 100
    for shard in shards:
        shard.refresh()
    assert store.buffered_bytes == 0
    assert sum(shard.buffer_bytes_max for shard in shards) <= limits.WRITE_BUFFER_BYTES_MAX
    store.close()


def test_writers_readers_and_maintenance_at_once_agree(tmp_path: Path) -> None:
    """Threads write, update and read while others refresh and flush; at the end all rows are there once."""
    store = ShardStore(tmp_path, clock=FakeClock())
    shard = store.open_shard(table(), 0, "a", primary_term=1, create=True)
    is_over = threading.Event()
    problems: list[BaseException] = []

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def write(writer: int) -> None:
        for i in range(60):
            shard.write(insert({f"{writer}-{i}": (i, f"t{i}"), f"same-{i % 5}": (writer, "")}, kind="index"))
            assert shard.get([f"{writer}-{i}"], ["c1", "c2"]) == [(i, f"t{i}")]
            if i % 3 == 0:
                shard.write(insert({f"{writer}-{i}": (-i, "updated")}, kind="index"))

    def maintain() -> None:
        while not is_over.is_set():
            shard.refresh()
            shard.flush()

    def read() -> None:
        while not is_over.is_set():
            ids = [row[0] for row in scanned(shard, ("_id",))]
            assert len(ids) == len(set(ids))

    # Threads change every few bytecodes instead of every 5 ms.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    helpers = [guarded(maintain), guarded(read)]
    writers = [guarded(lambda writer=writer: write(writer)) for writer in range(3)]  # type: ignore[misc]
    for thread in writers:
        thread.join()
    is_over.set()
    for thread in helpers:
        thread.join()
    sys.setswitchinterval(interval)
    assert not problems, problems
    shard.refresh()
    expected = {f"{w}-{i}": (-i if i % 3 == 0 else i) for w in range(3) for i in range(60)}
    found = {row[0]: row[1] for row in scanned(shard)}
    assert {key: value for key, value in found.items() if not key.startswith("same")} == expected
    assert len(found) == len(expected) + 5 == shard.row_count()
    store.close()
    again = ShardStore(tmp_path, clock=FakeClock())
    assert again.open_shard(table(), 0, "a", primary_term=1, create=False).row_count() == len(found)
    again.close()


def test_one_slow_file_does_not_hold_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that hangs: every other shard's writes are made durable meanwhile, again and again."""
    disk = SimulatedDisk()
    store = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    shards = [store.open_shard(table(), number, "a", primary_term=1, create=True) for number in range(6)]
    goes_on, is_reached = threading.Event(), threading.Event()
    slow = shards[0]
    sync = slow.sync

    def hang() -> None:
        is_reached.set()
        assert goes_on.wait(20)
        sync()

    monkeypatch.setattr(slow, "sync", hang)
    answers: list[BaseException | None] = []
    store.when_durable(slow, slow.write(insert({"a": (1, "")})).position, answers.append)
    assert is_reached.wait(10)
    for number in range(20):
        for shard in shards[1:]:
            assert wait_durable(store, shard, shard.write(insert({f"k{number}": (1, "")})).position) is None
    assert answers == []
    goes_on.set()
    store.close()
    assert answers == [None]


def test_the_names_above_new_copies_are_durable_whatever_was_opened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a copy that an attempt made and failed to make durable: the next attempt makes it anew."""
    disk = SimulatedDisk()
    store = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    store.open_shard(table(), 0, "a", primary_term=1, create=True)

    def fail(self: ShardStore, directory: Path, *, is_new: bool) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ShardStore, "_sync_names", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.open_shard(table(), 1, "b", primary_term=1, create=True)
    assert store.open_shard(table(), 1, "b", primary_term=1, create=True).was_created
    assert store.open_shard(table(), 2, "c", primary_term=1, create=True).was_created
    disk.power_cut(random.Random(1))
    again = ShardStore(Path("/data"), clock=FakeClock(), files=disk)
    for shard, allocation_id in enumerate("abc"):
        again.open_shard(table(), shard, allocation_id, primary_term=1, create=False)
    assert [shard.shard for shard in again.shards_of(table().uuid)] == [0, 1, 2]
    again.close_shard(table().uuid, 1)
    assert [shard.shard for shard in again.shards_of(table().uuid)] == [0, 2]
    assert again.shards_of("another") == []
