"""Deletes are remembered from the retention point on, across flushes, restarts and power cuts; and no others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage.tombstones import PREFIX
from tests.storage.shards import delete, insert, open_shard
from tests.storage.simulated_disk import SimulatedDisk


def test_without_a_retention_point_nothing_is_kept(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}))
    shard.write(delete("a"))
    shard.flush()
    assert shard.tombstone("a") is None
    assert not list((tmp_path / "s").glob(f"{PREFIX}*"))


def test_a_delete_is_known_until_the_point_passes_it_or_the_row_is_back(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({f"k{i}": (i, "") for i in range(5)}))
    assert shard.retain_from(0) == 5, "what was deleted before it was asked for is not known"
    shard.write(delete("k1", "k2"))
    shard.write(delete("k3"))
    assert [shard.tombstone(f"k{i}") for i in range(4)] == [None, (5, 1, 2), (6, 1, 2), (7, 1, 2)]
    shard.write(insert({"k2": (9, "")}))
    assert shard.tombstone("k2") is None
    assert shard.retain_from(7) == 7
    assert [shard.tombstone(f"k{i}") for i in range(4)] == [None, None, None, (7, 1, 2)]
    assert shard.retain_from(3) == 7, "what was forgotten does not come back"
    assert shard.retain_from(None) is None
    assert shard.tombstone("k3") is None


def test_tombstones_survive_flush_restart_and_power_cut() -> None:
    directory = Path("/data/indices/table-1/0/copy-1")
    disk = SimulatedDisk()
    shard = open_shard(directory, files=disk)
    shard.retain_from(0)
    shard.write(insert({"a": (1, ""), "b": (2, ""), "c": (3, "")}))
    shard.write(delete("a"))
    shard.flush()
    shard.write(delete("b"))
    shard.sync()
    disk.power_cut(random.Random(1))
    again = open_shard(directory, files=disk, create=False)
    assert [again.tombstone(key) for key in "abc"] == [(3, 1, 2), (4, 1, 2), None]
    assert again.retain_from(4) == 4
    assert again.is_unflushed
    again.flush()
    again.close()
    third = open_shard(directory, files=disk, create=False)
    assert [third.tombstone(key) for key in "abc"] == [None, (4, 1, 2), None]
    assert len([name for name in disk.names(directory) if name.startswith(PREFIX)]) == 1
    third.verify()
    third.scrub()


def test_a_damaged_file_of_tombstones_is_refused(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.retain_from(0)
    shard.write(insert({"a": (1, "")}))
    shard.write(delete("a"))
    shard.flush()
    (path,) = (tmp_path / "s").glob(f"{PREFIX}*")
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ShardFailed, match=path.name):
            shard.verify()
    with pytest.raises(ShardFailed, match=path.name):
        shard.scrub()
    shard.close()
    with pytest.raises(ShardFailed, match=path.name):
        open_shard(tmp_path / "s", create=False)
    path.unlink()
    with pytest.raises(ShardFailed, match="missing"):
        open_shard(tmp_path / "s", create=False)


def test_their_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOMBSTONES_MAX", 10)
    shard = open_shard(tmp_path / "s")
    shard.retain_from(0)
    for number in range(30):
        shard.write(insert({f"k{number}": (number, "")}))
        shard.write(delete(f"k{number}"))
    known_from = shard.retain_from(0)
    assert known_from is not None
    assert known_from > 30
    kept = [number for number in range(30) if shard.tombstone(f"k{number}")]
    assert 5 <= len(kept) <= 10
    assert kept == [number for number in range(30) if 2 * number + 1 >= known_from]
