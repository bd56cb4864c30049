"""A log of many buffers: segments are made on a thread beside the one that reads it."""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage import maintenance
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard, scanned


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def written(directory: Path, *, seed: int, count: int = 120) -> dict[str, tuple[int, str]]:
    """Rows that are in the log only: new ones, others, many at once, one at a time, deleted ones."""
    chance = random.Random(seed)
    shard = open_shard(directory)
    rows: dict[str, tuple[int, str]] = {}
    for number in range(count):
        if rows and chance.random() < 0.3:
            gone = chance.sample(sorted(rows), min(len(rows), chance.randint(1, 5)))
            shard.write(delete(*gone))
            for row_id in gone:
                # Order is that of the last write.
                del rows[row_id]
            continue
        size = chance.choice((1, 1, 3, 700))
        some = {f"k{chance.randrange(3_000)}": (number, "x" * chance.randint(0, 20)) for _ in range(size)}
        shard.write(insert(some, kind="index"))
        for row_id, row in some.items():
            rows.pop(row_id, None)
            rows[row_id] = row
    shard.sync()
    assert shard.stats().segments == ()
    shard.close()
    return rows


def opened(directory: Path) -> Shard:
    return open_shard(directory, create=False)


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_were_replaced_and_deleted_while_their_buffer_was_written_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rows = written(tmp_path / "s", seed=seed)
    monkeypatch.setattr(limits, "SHARD_BUFFER_BYTES_MAX", 20_000)
    shard = opened(tmp_path / "s")
    assert len(shard.stats().segments) > 5
    assert shard.stats().translog_operations == 0
    expected = [(row_id, *row) for row_id, row in rows.items()]
    assert scanned(shard) == expected
    ids = [f"k{number}" for number in range(3_000)]
    assert shard.get(ids, ["c1", "c2"]) == [rows.get(row_id) for row_id in ids]
    shard.close()
    assert scanned(opened(tmp_path / "s")) == expected


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Writing the segments ``number``, … fails."""
    real, calls = maintenance.write_buffer, iter(range(1_000))

    def write_buffer(*arguments: Any, **named: Any) -> Any:
        if 1 <= next(calls) <= times:
            raise OSError(number, "as was asked")
        return real(*arguments, **named)

    monkeypatch.setattr(maintenance, "write_buffer", write_buffer)


def test_an_error_on_the_thread_is_the_openings(tmp_path: Path) -> None:
    rows = written(tmp_path / "s", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SHARD_BUFFER_BYTES_MAX", 20_000)
        failing(patch, errno.EIO, 1)
        with pytest.raises(ShardFailed, match="as was asked"):
            opened(tmp_path / "s")
    assert scanned(opened(tmp_path / "s")) == [(row_id, *row) for row_id, row in rows.items()]


def test_a_full_disk_on_the_thread_keeps_no_shard_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = written(tmp_path / "s", seed=2)
    monkeypatch.setattr(limits, "SHARD_BUFFER_BYTES_MAX", 20_000)
    failing(monkeypatch, errno.ENOSPC, 1_000)
    shard = opened(tmp_path / "s")
    assert shard.is_put_off
    ids = sorted(rows)
    assert shard.get(ids, ["c1", "c2"]) == [rows[row_id] for row_id in ids]
    monkeypatch.undo()
    assert shard.refresh()
    assert scanned(shard) == [(row_id, *row) for row_id, row in rows.items()]
