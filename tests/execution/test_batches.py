"""Batches that share buffers: weighed by what they show, sent without what they hide."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.execution.batches import batch_bytes, batch_of, compact, renamed, slices


def texts(rows: int, *, width: int = 40) -> pa.RecordBatch:
    values = [None if i % 7 == 0 else "x" * width + str(i) for i in range(rows)]
    lists = [["short", "a longer text than inline"] if i % 3 else None for i in range(rows)]
    return pa.record_batch(
        [
            pa.array(values, pa.string_view()),
            pa.array(lists, pa.list_(pa.string_view())),
            pa.array(range(rows), pa.int64()),
        ],
        names=["c1", "c2", "c3"],
    )


def ipc_bytes(batch: pa.RecordBatch) -> int:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return int(sink.getvalue().size)


def test_pieces_hold_all_rows_in_order_and_no_more_than_allowed() -> None:
    batch = texts(20_000)
    pieces = list(slices(batch))
    assert max(piece.num_rows for piece in pieces) <= limits.STREAM_BATCH_ROWS
    assert pa.Table.from_batches(pieces).column("c3").to_pylist() == list(range(20_000))


def test_wide_rows_make_short_pieces() -> None:
    batch = pa.record_batch([pa.array(["y" * limits.MIB] * 32, pa.string_view())], names=["c1"])
    assert max(piece.num_rows for piece in slices(batch)) <= limits.STREAM_BATCH_BYTES // limits.MIB


def test_a_compacted_slice_shows_the_same_rows_and_sends_only_them() -> None:
    """Seeded slices against the naive twin, a copy through Python."""
    chance = random.Random(1)
    batch = texts(5_000)
    for _ in range(20):
        start = chance.randrange(5_000)
        piece = batch.slice(start, chance.randrange(1, 300))
        small = compact(piece)
        assert small.to_pylist() == piece.to_pylist()
        assert small.schema == piece.schema
        naive = pa.RecordBatch.from_pylist(piece.to_pylist(), schema=piece.schema)
        assert ipc_bytes(small) <= 1.2 * ipc_bytes(naive) + 512


def test_a_slice_weighs_what_it_shows() -> None:
    batch = texts(10_000)
    assert batch_bytes(batch.slice(0, 100)) < batch_bytes(batch) / 50


@pytest.mark.parametrize("batch", [texts(0), texts(1), texts(8).slice(8)])
def test_empty_batches_and_single_rows_are_no_exception(batch: pa.RecordBatch) -> None:
    assert compact(batch).to_pylist() == batch.to_pylist()
    assert sum(piece.num_rows for piece in slices(batch)) == batch.num_rows
    assert batch_bytes(batch) >= 0


def test_a_batch_without_columns_keeps_its_rows() -> None:
    empty = batch_of(pa.schema([]), [], 5)
    assert empty.num_rows == 5
    assert renamed(texts(4), [], []).num_rows == 4
