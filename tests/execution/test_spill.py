"""Rows that wait: memory first, then a nameless file, then refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import trio

from cratepy import limits
from cratepy.errors import CircuitBreaking, DiskFull
from cratepy.execution.cpu import Workers
from cratepy.execution.spill import BatchBuffer


def batch(start: int) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array(range(start, start + 100), pa.int64()),
            pa.array([f"a text that is not inline {i}" for i in range(100)], pa.string_view()),
        ],
        names=["c1", "c2"],
    )


def buffer(path: Path, memory: int) -> BatchBuffer:
    return BatchBuffer(workers=Workers(), spill_path=path, memory_bytes_max=memory)


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        kept = buffer(tmp_path / "spill", 1_000_000)
        await kept.add(batch(0))
        assert [b.num_rows for b in await kept.batches()] == [100]
        assert kept.file_bytes == 0
        assert not (tmp_path / "spill").exists()

    trio.run(main)


def test_all_rows_come_back_in_order_from_memory_and_file(tmp_path: Path) -> None:
    async def main() -> None:
        kept = buffer(tmp_path, 10_000)
        expected = []
        for i in range(20):
            await kept.add(batch(i * 100))
            expected += batch(i * 100).to_pylist()
        assert 0 < kept.memory_bytes <= 10_000
        assert kept.file_bytes > 0
        batches = await kept.batches()
        kept.close()
        assert pa.Table.from_batches(batches).to_pylist() == expected

    trio.run(main)
    assert list(tmp_path.iterdir()) == [], "the file never had a name"


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        kept = buffer(tmp_path, 0)
        await kept.add(batch(0))
        with pytest.raises(CircuitBreaking, match="10000b"):
            for _ in range(5):
                await kept.add(batch(1))
        kept.close()

    monkeypatch.setattr(limits, "EXCHANGE_FILE_BYTES_MAX", 10_000)
    trio.run(main)


def test_a_disk_that_cannot_be_written_is_the_statements_error(tmp_path: Path) -> None:
    async def main() -> None:
        in_the_way = tmp_path / "file"
        in_the_way.write_text("")
        with pytest.raises(DiskFull, match="cannot write"):
            await buffer(in_the_way, 0).add(batch(0))

    trio.run(main)
