"""Plain rows are twins of the same rows as Arrow batches: by cell, by scan, before and after a refresh and a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cratepy.model.arrow import from_arrow, stored_type, to_arrow
from cratepy.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, REAL, TEXT, TIMESTAMPTZ, DataType, array_of
from cratepy.storage.operations import WriteBatch
from cratepy.storage.plain_rows import PlainRow, decode_plain_row, plain_batch
from tests.storage.shards import open_shard, table

NUMERIC = DataType("numeric", precision=10, scale=3)
COLUMNS: tuple[tuple[str, DataType], ...] = (
    ("a", BOOLEAN), ("b", INTEGER), ("c", BIGINT), ("d", REAL), ("e", DOUBLE), ("f", TEXT), ("g", TIMESTAMPTZ),
    ("h", DATE), ("i", NUMERIC), ("j", array_of(DOUBLE)),
)  # fmt: skip
ROWS: list[tuple[Any, ...]] = [
    (True, 1, -(2**63), 0.5, 0.1, "é\0", 1_700_000_000_123, 86_400_000, "1.500", [1.0, None]),
    (False, -(2**31), 2**63 - 1, float("inf"), -0.0, "", -1, -86_400_000, "-0.001", []),
    (None,) * 10,
]
SCHEMA = pa.schema([pa.field(f"c{oid}", stored_type(t)) for oid, (_, t) in enumerate(COLUMNS, 1)])
SOURCES = SCHEMA.names


def test_a_batch_of_plain_rows_is_the_batch_of_their_columns() -> None:
    batch = plain_batch(SCHEMA, ROWS)
    for place, (_, data_type) in enumerate(COLUMNS):
        values = [row[place] for row in ROWS]
        assert batch.column(place).equals(to_arrow(values, data_type, at_rest=True))
        assert from_arrow(batch.column(place), data_type) == values


def test_a_plain_row_survives_the_log() -> None:
    for row in ROWS:
        body = memoryview(PlainRow(SCHEMA, row).serialized())
        assert tuple(decode_plain_row(body, SCHEMA).values) == row
    with pytest.raises(IndexError):
        decode_plain_row(body, pa.schema([SCHEMA.field(0)]))


def test_plain_rows_read_the_same_before_and_after_refresh_replay_and_among_batches(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=table(COLUMNS))
    wanted: dict[str, tuple[Any, ...]] = {}
    for number in range(100):
        row, row_id = ROWS[number % 3], f"r{number}"
        plain = PlainRow(SCHEMA, row)
        rows: pa.RecordBatch | PlainRow = plain.batch() if number % 7 == 0 else plain
        result = shard.write(WriteBatch(kind="insert", ids=[row_id], rows=rows, primary_term=1))
        assert not result.failures
        wanted[row_id] = row
    assert shard.write(WriteBatch(kind="insert", ids=["r5"], rows=plain, primary_term=1)).failures == [(0, "duplicate")]

    def check() -> None:
        assert shard.get(list(wanted), SOURCES) == list(wanted.values())
        assert shard.get(["r1"], ["_id", "_version", "_seq_no"]) == [("r1", 1, 1)]
        (document,) = shard.get(["r2"], ["_doc"])
        assert document == ({},)

    check()
    shard.refresh()
    check()
    assert shard.row_count() == 100
    shard.sync()
    shard = open_shard(tmp_path / "s", definition=table(COLUMNS), create=False)
    check()
