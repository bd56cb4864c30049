"""A full disk refuses and waits; it loses nothing, and work goes on when there is space again.

Method: a simulated disk with a quota of bytes, where a write leaves what fitted; and a real tmpfs of a megabyte, if the
machine lets one be mounted. What a copy must never do: answer a write it does not keep, or fail for good.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.clock import FakeClock
from cratepy.errors import CLIENT_ERRORS, DiskFull, ShardFailed
from cratepy.storage.columns import ColumnCache
from cratepy.storage.filesystem import FileSystem, RealFileSystem, SyncFailed, is_disk_full
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard, scanned, table
from tests.storage.simulated_disk import SimulatedDisk
from tests.storage.text.texts import fulltext

DIRECTORY = Path("/data/indices/table-1/0/copy-1")


def test_no_space_may_be_tried_again_but_a_failed_sync_never() -> None:
    assert all(is_disk_full(OSError(number, "")) for number in (27, 28, 122))
    assert not is_disk_full(OSError(5, ""))
    assert not is_disk_full(SyncFailed(28, ""))
    assert (CLIENT_ERRORS["DiskFull"].code, CLIENT_ERRORS["DiskFull"].sqlstate) == (4030, "53100")


def test_a_write_without_space_is_refused_as_if_it_had_never_come() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({"a": (1, "x")}))
    disk.quota = disk.used() + 300
    position = shard.position
    stats = shard.stats()
    for size in (10**6, 200_000, 100_000):
        with pytest.raises(DiskFull, match=r"disk full.*shard 0 of doc.t.*No space"):
            shard.write(insert({"b": (2, "x" * size)}))
    assert shard.failure is None
    assert shard.wants_space
    assert not shard.is_put_off, "clients that try again do not keep maintenance from freeing space"
    assert shard.position == position
    assert (shard.stats().max_seq_no, shard.stats().buffered_rows) == (stats.max_seq_no, 1)
    assert shard.get(["a", "b"], ["c1"]) == [(1,), None]
    disk.quota = None
    assert shard.write(insert({"b": (3, "y")})).first_seq_no == 1
    shard.sync()
    disk.power_cut(random.Random(1))
    again = open_shard(DIRECTORY, files=disk, create=False)
    assert scanned(again) == [("a", 1, "x"), ("b", 3, "y")]


def test_a_flush_frees_the_space_that_the_log_takes() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    for number in range(50):
        shard.write(insert({f"k{number}": (number, "the same text " * 100)}))
    disk.quota = disk.used() + 20_000
    big = insert({"big": (1, "x" * 100_000)})
    with pytest.raises(DiskFull):
        shard.write(big)
    shard.flush()
    assert not shard.wants_space
    shard.write(big)


def test_reads_and_gets_go_on_while_a_refresh_finds_no_space() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({f"k{i}": (i, "x" * 50) for i in range(50)}))
    shard.refresh()
    names = disk.names(DIRECTORY)
    shard.write(insert({"new": (50, "y")}))
    shard.write(delete("k0"))
    disk.quota = disk.used() + 100
    for _ in range(3):
        with pytest.raises(DiskFull):
            shard.refresh()
        assert shard.failure is None
        assert shard.is_put_off
        assert disk.names(DIRECTORY) == names, "half-written files are removed"
        assert shard.row_count() == 50
        assert shard.get(["new", "k0", "k1"], ["c1"]) == [(50,), None, (1,)]
    # What the translog has space for is still written, on top of the rows that wait.
    disk.quota = disk.used() + 2_000
    shard.write(insert({"new": (51, "z"), "k1": (-1, "")}, kind="index"))
    disk.quota = disk.used() + 100
    with pytest.raises(DiskFull):
        shard.flush()
    assert shard.get(["new", "k1"], ["c1", "_version"]) == [(51, 2), (-1, 2)]
    disk.quota = None
    assert shard.refresh()
    expected = [*((f"k{i}", i) for i in range(2, 50)), ("new", 51), ("k1", -1)]
    assert scanned(shard, ("_id", "c1")) == expected
    shard.flush()
    assert shard.stats().translog_operations == 0
    shard.close()
    assert scanned(open_shard(DIRECTORY, files=disk, create=False), ("_id", "c1")) == expected


def test_a_write_is_not_refused_because_its_refresh_finds_no_space() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({"a": (1, "x" * 2_000)}))
    shard.buffer_bytes_max = 1_000
    disk.quota = disk.used() + 1_000
    shard.write(insert({"b": (2, "")}))
    assert shard.is_put_off
    shard.write(insert({"c": (3, "")}))
    assert shard.get(["a", "b", "c"], ["c1"]) == [(1,), (2,), (3,)]


def test_a_merge_without_space_leaves_what_there_was() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    for number in range(limits.MERGE_SEGMENTS):
        shard.write(insert({f"k{number}": (number, "x" * 500)}))
        shard.refresh()
    names = disk.names(DIRECTORY)
    disk.quota, disk.is_quota_shown = disk.used() + 1_000, False
    with pytest.raises(DiskFull):
        shard.merge()
    assert disk.names(DIRECTORY) == names
    assert not shard.wants_merge
    assert shard.row_count() == limits.MERGE_SEGMENTS
    disk.quota = None
    assert shard.merge()
    assert shard.segment_count == 1


def test_a_merge_leaves_the_space_that_a_refresh_needs() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    for number in range(limits.MERGE_SEGMENTS):
        shard.write(insert({f"k{number}": (number, "x" * 100_000)}))
        shard.refresh()
    shard.flush()
    shard.write(insert({"new": (-1, "y" * 300_000)}))
    # A merge would fit, and nothing else after it.
    disk.quota = disk.used() + (limits.MERGE_SEGMENTS + 1) * 100_000
    assert not shard.merge()
    with pytest.raises(DiskFull, match=r"to join segments of shard 0 .* bytes more have to be free"):
        shard.optimize(max_num_segments=1, flush=False)
    assert shard.failure is None
    assert not shard.is_put_off
    assert shard.row_count() == limits.MERGE_SEGMENTS + 1, "the refresh before it found space"
    shard.flush()
    assert shard.wants_merge
    disk.quota = None
    assert shard.merge()
    assert shard.segment_count < limits.MERGE_SEGMENTS


def test_small_segments_are_joined_on_a_nearly_full_disk() -> None:
    """Else refreshes would leave thousands of them."""
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    for number in range(limits.MERGE_SEGMENTS):
        shard.write(insert({f"k{number}": (number, "x")}))
        shard.refresh()
    disk.quota, disk.total = disk.used() + 100_000, 1 << 40
    assert shard.merge()
    assert shard.segment_count == 1


def test_a_merge_of_texts_needs_space_for_the_index_that_is_built_beside_it() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk, definition=fulltext())
    for number in range(limits.MERGE_SEGMENTS):
        shard.write(insert({f"k{number}": (number, "a word and another " * 2_000)}))
        shard.refresh()
    written = sum(segment.size_bytes for segment in shard.stats().segments)
    disk.quota = disk.used() + written * 3 // 2
    assert not shard.merge()
    disk.quota += written
    assert shard.merge()


def test_a_segment_without_rows_goes_although_there_is_no_space() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({"a": (1, "x")}))
    shard.refresh()
    shard.write(delete("a"))
    shard.refresh()
    disk.quota = disk.used()
    assert shard.merge()
    assert shard.segment_count == 0


def test_a_shard_opens_and_answers_although_there_is_no_space_for_its_rows() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({f"k{i}": (i, "x" * 50) for i in range(50)}))
    shard.close()
    disk.quota = disk.used() + 100
    again = open_shard(DIRECTORY, files=disk, create=False)
    assert again.get(["k7"], ["c1"]) == [(7,)]
    disk.quota = None
    again.refresh()
    assert again.row_count() == 50


def test_big_batches_of_the_log_are_found_by_id_although_there_is_no_space_for_their_rows() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({f"k{i}": (i, "") for i in range(1_000)}))
    shard.write(delete("k1", "k2"))
    shard.write(insert({f"k{i}": (-i, "") for i in (1, 3_000)}))
    shard.write(insert({f"k{i}": (i, "") for i in range(1_000, 2_000)}))
    shard.write(insert({"k5": (-5, "")}, kind="index"))
    shard.write(insert({f"k{i}": (i, "") for i in range(4_000, 5_000)}))
    shard.close()
    disk.quota = disk.used() + 100
    again = open_shard(DIRECTORY, files=disk, create=False)
    wanted = {1: -1, 2: None, 3: 3, 5: -5, 1_999: 1_999, 3_000: -3_000, 4_999: 4_999}
    for key, value in wanted.items():
        assert again.get([f"k{key}"], ["c1"]) == [None if value is None else (value,)]
    many = again.get([f"k{i}" for i in range(6_000)], ["c1"])
    assert sum(row is not None for row in many) == 3_000
    assert all(many[key] == (None if value is None else (value,)) for key, value in wanted.items())
    disk.quota = None
    again.refresh()
    assert again.row_count() == 3_000


def test_a_sync_that_finds_no_space_fails_the_copy_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.storage.simulated_disk import SimulatedFile

    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    shard.write(insert({"a": (1, "")}))

    def full(_: object) -> None:
        raise SyncFailed(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedFile, "sync", full)
        with pytest.raises(ShardFailed):
            shard.sync()
    with pytest.raises(ShardFailed):
        shard.sync()
    with pytest.raises(ShardFailed):
        shard.write(insert({"b": (1, "")}))


def _work(shard: Shard, now: dict[str, int], chance: random.Random, steps: int) -> int:
    """Writes that are refused change nothing; returns how many were."""
    refused = 0
    for _ in range(steps):
        key = f"k{chance.randrange(30)}"
        value = chance.randrange(10**9)
        try:
            match chance.choice(("write", "write", "write", "many", "delete", "refresh", "flush", "merge")):
                case "write":
                    shard.write(insert({key: (value, "x" * chance.choice((0, 100, 3_000)))}, kind="index"))
                    now[key] = value
                case "many":
                    shard.write(insert({f"k{i}": (value, "y" * 40) for i in range(30)}, kind="index"))
                    now.update({f"k{i}": value for i in range(30)})
                case "delete":
                    shard.write(delete(key))
                    now.pop(key, None)
                case "refresh":
                    shard.refresh()
                case "flush":
                    shard.flush()
                case "merge":
                    shard.merge()
        except DiskFull:
            refused += 1
        ids = [f"k{i}" for i in range(30)]
        assert [row and row[0] for row in shard.get(ids, ["c1"])] == [now.get(key) for key in ids]
        assert shard.failure is None
    return refused


@pytest.mark.parametrize("seed", range(15))
def test_whatever_is_refused_nothing_else_is_lost(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MERGE_SEGMENTS", 3)
    monkeypatch.setattr(limits, "TRANSLOG_RESERVE_BYTES_MIN", 1_000)
    chance = random.Random(seed)
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk)
    now: dict[str, int] = {}
    refused = 0
    for _ in range(6):
        disk.quota = disk.used() + chance.randrange(20_000)
        refused += _work(shard, now, chance, 25)
        disk.quota = None
        _work(shard, now, chance, 5)
        if chance.random() < 0.3:
            shard.sync()
            disk.power_cut(chance)
            shard = open_shard(DIRECTORY, files=disk, create=False)
        elif chance.random() < 0.3:
            shard.close()
            shard = open_shard(DIRECTORY, files=disk, create=False)
    assert refused > 0
    shard.flush()
    shard.verify()
    shard.close()
    again = open_shard(DIRECTORY, files=disk, create=False)
    assert {row[0]: row[1] for row in scanned(again, ("_id", "c1"))} == now


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of two megabytes."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_real_file_system_that_is_full_refuses_and_recovers(small_disk: Path) -> None:
    shard = _open(small_disk / "s", RealFileSystem())
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    written = 0
    with pytest.raises(DiskFull):
        for number in range(10_000):
            shard.write(insert({f"k{number}": (number, "x" * 5_000)}))
            shard.sync()
            written += 1
    assert written > 10
    with pytest.raises(DiskFull):
        shard.refresh()
    assert shard.failure is None
    assert shard.get(["k0", f"k{written}"], ["c1"]) == [(0,), None]
    ballast.unlink()
    shard.write(insert({f"k{written}": (written, "y")}))
    shard.flush()
    assert [row[0] for row in scanned(shard, ("c1",))] == list(range(written + 1))
    shard.close()
    again = _open(small_disk / "s", RealFileSystem())
    assert again.row_count() == written + 1
    again.verify()
    again.close()


def _open(directory: Path, files: FileSystem) -> Shard:
    return Shard(
        table(),
        0,
        "copy-1",
        directory=directory,
        files=files,
        clock=FakeClock(),
        cache=ColumnCache(),
        primary_term=1,
        create=True,
    )
