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
    sound = shard_with_everything(tmp_path / "sound")
    names = [path.relative_to(tmp_path / "sound") for path in (tmp_path / "sound").rglob("*") if path.is_file()]
    assert len(names) >= 8
    assert sound.synced_position > 0
    for number, name in enumerate(names):
        for share in (0.0, 0.5, 1.0):
            directory = tmp_path / f"{number}-{share}"
            shard = shard_with_everything(directory)
            path = directory / name
            size = shard.translog_bytes if name.name.startswith("translog") else path.stat().st_size
            position = int((size - 1) * share)
            # In place: the copy has the file open and mapped.
            with path.open("r+b") as file:
                file.seek(position)
                byte = file.read(1)[0]
                file.seek(position)
                file.write(bytes([byte ^ 4]))
            with pytest.raises(ShardFailed, match=path.name):
                shard.scrub()
            assert path.name in str(shard.failure)
            with pytest.raises(ShardFailed):
                shard.get(["k0-0"], ["c1"])
            shard.close()
    sound.scrub()


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
