"""Scrubbing finds what the disk lost, in every durable file, and nothing where there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cratepy.errors import ShardFailed
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard


def shard_with_everything(directory: Path) -> Shard:
    """Two committed segments, dead rows, a translog with a synced tail."""
    shard = open_shard(directory)
    for number in range(2):
        shard.write(insert({f"k{number}-{i}": (i, "x" * 20) for i in range(20)}))
        shard.refresh()
    shard.write(delete("k0-1"))
    shard.flush()
    shard.write(insert({f"late-{i}": (i, "y" * 50) for i in range(20)}))
    shard.sync()
    return shard


def test_a_sound_copy_is_read_completely(tmp_path: Path) -> None:
    shard = shard_with_everything(tmp_path / "s")
    pieces: list[int] = []
    total = shard.scrub(pause=pieces.append)
    stats = shard.stats()
    assert total >= stats.size_bytes
    assert sum(pieces) >= total
    assert shard.failure is None


def changed_byte_is_found(shard: Shard, path: Path, position: int) -> None:
    """Change it, scrub, change it back."""
    changed = bytearray(path.read_bytes())
    changed[position] ^= 4
    # In place: the copy has the file open and mapped.
    with path.open("r+b") as file:
        file.write(changed)
    with pytest.raises(ShardFailed, match=path.name):
        shard.scrub()
    assert shard.failure is not None
    assert path.name in shard.failure
    with pytest.raises(ShardFailed):
        shard.get(["k0-0"], ["c1"])
    shard.close()
    changed[position] ^= 4
    with path.open("r+b") as file:
        file.write(changed)


def test_a_changed_byte_in_any_durable_file_fails_the_copy_with_its_name(tmp_path: Path) -> None:
    shard_with_everything(tmp_path / "s").close()
    # An opening that replays a translog flushes.
    open_shard(tmp_path / "s", create=False).close()
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file() and not path.name.startswith("translog")]
    assert len(files) >= 8
    for path in files:
        size = path.stat().st_size
        for position in (0, size // 2, size - 1):
            changed_byte_is_found(open_shard(tmp_path / "s", create=False), path, position)
    open_shard(tmp_path / "s", create=False).scrub()


def test_a_changed_byte_in_the_translog_fails_the_copy_with_its_name(tmp_path: Path) -> None:
    for part in (0.0, 0.5, 1.0):
        shard = shard_with_everything(tmp_path / f"s{part}")
        path = tmp_path / f"s{part}" / f"translog-{shard.stats().translog_generation}"
        changed_byte_is_found(shard, path, int((shard.translog_bytes - 1) * part))


def test_a_missing_file_is_damage_unless_a_flush_removed_it(tmp_path: Path) -> None:
    shard = shard_with_everything(tmp_path / "s")
    is_first = True

    def flush_meanwhile(_: int) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            shard.optimize(max_num_segments=1)

    shard.scrub(pause=flush_meanwhile)
    assert shard.failure is None
    (path,) = (tmp_path / "s").glob("seg-*")
    next(iter(path.iterdir())).unlink()
    with pytest.raises(ShardFailed, match="No such file"):
        shard.scrub()


def test_what_was_not_synced_is_not_missed(tmp_path: Path) -> None:
    shard = shard_with_everything(tmp_path / "s")
    for number in range(100):
        shard.write(insert({f"unsynced-{number}": (number, "")}))
    shard.scrub()


def test_a_closed_copy_is_not_scrubbed(tmp_path: Path) -> None:
    shard = shard_with_everything(tmp_path / "s")
    shard.close()
    with pytest.raises(ShardFailed, match="closed"):
        shard.scrub()
    assert shard.failure is None
