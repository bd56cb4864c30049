"""The primary's side of writes: memory stays bounded when the disk is slow, ASYNC waits for nobody."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from cratepy import limits
from cratepy.errors import CrateError, DuplicateKey, SQLParseError, TooManyRequests
from cratepy.storage.filesystem import AppendFile, RealFileSystem
from tests.execution.writes.fakes import context, open_cluster, parameters_plan, table, values_plan

#: Big enough that a hundred of them are above the bound of the test.
TEXT = "x" * 8192
BOUND = 512 * limits.KIB


class SlowDisk(RealFileSystem):
    """No file of a segment is begun before ``is_fast`` is set; logs are written at once."""

    def __init__(self) -> None:
        self.is_fast = threading.Event()

    def create(self, path: Path) -> AppendFile:
        if path.parent.name.startswith("seg-"):
            self.is_fast.wait()
        return super().create(path)


class NoSync(RealFileSystem):
    """Logs cannot be synced before ``may_sync`` is set."""

    def __init__(self) -> None:
        self.may_sync = threading.Event()

    def append(self, path: Path, *, at: int | None = None) -> AppendFile:
        return _Waiting(super().append(path, at=at), self.may_sync)

    def create(self, path: Path) -> AppendFile:
        return _Waiting(super().create(path), self.may_sync)


class _Waiting:
    def __init__(self, file: AppendFile, may_sync: threading.Event) -> None:
        self.write, self.reserve, self.truncate, self.close = file.write, file.reserve, file.truncate, file.close
        self._file, self._may_sync = file, may_sync

    def sync(self) -> None:
        self._may_sync.wait()
        self._file.sync()


def test_a_flood_of_writes_waits_and_then_is_refused_while_the_disk_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_BUFFER_BYTES_MAX", BOUND)
    monkeypatch.setattr(limits, "WRITE_BUFFER_WAIT_S", 0.2)
    disk = SlowDisk()

    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=1), files=disk) as cluster:
            service, store = cluster.first.writes, cluster.first.store
            acknowledged: set[int] = set()
            refused: list[CrateError] = []
            highest = 0

            async def write(client: int) -> None:
                nonlocal highest
                for number in range(30):
                    key = client * 1000 + number
                    try:
                        await service.insert(values_plan([(key, TEXT, key)], cluster.definition), context())
                    except CrateError as error:
                        refused.append(error)
                        return
                    acknowledged.add(key)
                    highest = max(highest, store.buffered_bytes)

            async with trio.open_nursery() as nursery:
                for client in range(40):
                    nursery.start_soon(write, client)
            assert refused
            assert {type(error) for error in refused} == {TooManyRequests}
            assert "[write_buffer]" in str(refused[0])
            # One look in 64 small writes or 4 MiB, and the writes that were past the look already.
            assert highest < BOUND + 4 * limits.MIB + 64 * len(TEXT)
            disk.is_fast.set()
            await write(50)
            assert len(acknowledged) == len(acknowledged | {50_000 + i for i in range(30)})
            found = await trio.to_thread.run_sync(cluster.rows, ("c1",))
            assert {key for (key,) in found} == acknowledged

    trio.run(main)


def test_an_asynchronous_write_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    disk = NoSync()
    disk.may_sync.set()
    definition = msgspec.structs.replace(table(shards=1), settings={"translog.durability": "ASYNC"})

    async def main() -> None:
        async with open_cluster(tmp_path, definition, files=disk) as cluster:
            disk.may_sync.clear()
            with trio.fail_after(10):
                for key in range(20):
                    await cluster.first.writes.insert(values_plan([(key, "a", key)], definition), context())
            (shard,) = cluster.first.store.shards()
            assert shard.synced_position < shard.position
            disk.may_sync.set()
        async with open_cluster(tmp_path, definition) as again:
            assert len(again.rows()) == 20, "a clean end makes everything durable"

    trio.run(main)


class Told:
    """A waiter for several rows."""

    def __init__(self, expected: int) -> None:
        self.failures: list[BaseException | None] = []
        self.are_all = trio.Event()
        self._expected = expected

    def arrive(self, failure: BaseException | None) -> None:
        self.failures.append(failure)
        if len(self.failures) == self._expected:
            self.are_all.set()


def test_a_row_begun_without_waiting_is_told_when_the_disk_has_it_and_so_is_its_refusal(tmp_path: Path) -> None:
    disk = NoSync()
    disk.may_sync.set()

    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=1), files=disk) as cluster:
            service, definition = cluster.first.writes, cluster.definition
            disk.may_sync.clear()
            told = Told(2)
            begun = [service.begin(values_plan([(1, text, 1)], definition), context()) for text in "ab"]
            assert begun[0] is not None
            assert begun[1] is not None
            assert begun[0].outcome == 1
            assert isinstance(begun[1].outcome, DuplicateKey)
            for one in begun:
                assert one is not None
                service.when_durable(one.copy, one.position, told)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert told.failures == []
            disk.may_sync.set()
            with trio.fail_after(10):
                await told.are_all.wait()
            assert told.failures == [None, None]
            assert await trio.to_thread.run_sync(cluster.rows, ("c1", "c2")) == [(1, "a")]

    trio.run(main)


def test_a_row_that_has_to_wait_for_room_is_not_begun(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=1)) as cluster:
            service, definition = cluster.first.writes, cluster.definition
            (shard,) = cluster.first.store.shards()
            assert service.begin(values_plan([(1, "a", 1)], definition), context()) is not None
            shard.buffer_bytes_max = shard.buffered_bytes - 1
            before = shard.position
            assert service.begin(values_plan([(2, "b", 1)], definition), context()) is None
            assert shard.position == before

    trio.run(main)


def test_what_the_short_way_does_not_know_is_not_begun(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=1)) as cluster:
            service, definition = cluster.first.writes, cluster.definition
            assert service.begin(values_plan([(1, "a", 1), (2, "b", 2)], definition), context()) is None
            with pytest.raises(SQLParseError, match="primary key value must not be NULL"):
                service.begin(values_plan([(None, "a", 1)], definition), context())
            assert cluster.rows() == []

    trio.run(main)


def test_a_big_bulk_is_acknowledged_when_all_its_shards_are_on_disk(tmp_path: Path) -> None:
    """Their syncs begin while other shards are written; the answer waits for the last one."""
    disk = NoSync()
    disk.may_sync.set()

    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=3), files=disk) as cluster:
            plan = parameters_plan(cluster.definition, ["id", "a", "n"])
            shards = cluster.first.store.shards()
            before = [shard.position for shard in shards]
            disk.may_sync.clear()
            answered: list[int] = []

            async def write() -> None:
                items = await cluster.first.writes.bulk(plan, context(), [[i, "a", i] for i in range(600)])
                answered.extend(item.rowcount for item in items)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                with trio.fail_after(20):
                    while any(shard.position == start for shard, start in zip(shards, before, strict=True)):  # noqa: ASYNC110
                        await trio.sleep(0.01)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert answered == []
                assert all(shard.synced_position < shard.position for shard in shards)
                disk.may_sync.set()
            assert answered == [1] * 600
            assert all(shard.synced_position == shard.position for shard in shards)

    trio.run(main)
