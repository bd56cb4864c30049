"""Columns encode to exactly the bytes that rows encode to."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cratepy.model.arrow import arrow_schema, to_arrow
from cratepy.model.relations import OutputColumn
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    GEO_POINT,
    INTEGER,
    INTERVAL,
    JSON,
    NUMERIC,
    OBJECT,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UNDEFINED,
    UUID,
    DataType,
    array_of,
    numeric,
)
from cratepy.protocols.postgres.batches import encode_batch
from cratepy.protocols.postgres.rows import RowEncoder

COLUMNS: list[tuple[DataType, list[Any]]] = [
    (INTEGER, [1, None, -5]),
    (BIGINT, [2**40, None, 1]),
    (DOUBLE, [1.5, 2.0, None]),
    (DOUBLE, [1e20, float("nan"), -0.0]),
    (DOUBLE, [None, None, None]),
    (REAL, [0.5, 3.0, None]),
    (REAL, [1e10, 3.0, None]),
    (TEXT, ["a", None, "ä😀"]),
    (BOOLEAN, [True, False, None]),
    (TIMESTAMPTZ, [1577836800123, None, 0]),
    (TIMESTAMP, [0, -63549446400000, 253402300800000]),
    (DATE, [86400000, None, -86400000]),
    (NUMERIC, ["1.5", "0", "-12.34"]),
    (NUMERIC, ["0.000000001", "0", None]),
    (numeric(10, 3), ["1.500", "2.000", None]),
    (INTERVAL, [[14, 3, 1000], None, [0, 0, 0]]),
    (array_of(TEXT), [["a", '"', None], None, []]),
    (array_of(array_of(INTEGER)), [[[1], [2, 3]], None, []]),
    (OBJECT, [{"a": 1}, None, {}]),
    (GEO_POINT, [[1.5, 2.5], None, [0.0, 1e20]]),
    (UUID, ["00000000-0000-0000-0000-000000000001", None, "00000000-0000-0000-0000-000000000002"]),
    (TIMETZ, [[3600000000, 0], None, [1, 3600]]),
    (DataType("bit", length=4), ["0101", None, "1111"]),
    (SMALLINT, [1, 2, 3]),
    (BYTE, [1, 2, 3]),
    (JSON, ["{}", None, "1"]),
    (UNDEFINED, [None, None, None]),
]
ROWS = list(zip(*(values for _, values in COLUMNS), strict=True))
OUTPUT = tuple(OutputColumn(i, f"c{i}", data_type) for i, (data_type, _) in enumerate(COLUMNS))


def batch_of(columns: tuple[OutputColumn, ...], values: list[list[Any]]) -> pa.RecordBatch:
    arrays = [to_arrow(column, output.type) for column, output in zip(values, columns, strict=True)]
    return pa.record_batch(arrays, schema=arrow_schema(columns))


@pytest.mark.parametrize("code", [0, 1])
def test_a_batch_encodes_as_its_rows(code: int) -> None:
    encoder = RowEncoder(OUTPUT, (code,))
    batch = batch_of(OUTPUT, [values for _, values in COLUMNS])
    assert bytes(encode_batch(encoder, batch)) == encoder.encode(ROWS)
    assert bytes(encode_batch(encoder, batch.slice(1, 1))) == encoder.encode(ROWS[1:2])
    assert bytes(encode_batch(encoder, batch.slice(0, 0))) == b""


def test_fixed_width_columns_without_nulls_are_packed_alike() -> None:
    columns = tuple(OutputColumn(i, "x", t) for i, t in enumerate((INTEGER, DOUBLE, BOOLEAN, TIMESTAMPTZ, DATE)))
    rows = [(1, 1.5, True, 1577836800123, 86400000), (-1, 2e300, False, -1, -86400000)]
    encoder = RowEncoder(columns, (1,))
    assert encode_batch(encoder, batch_of(columns, [list(c) for c in zip(*rows, strict=True)])) == encoder.encode(rows)


def test_rows_without_columns_are_rows_still() -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["c0"]).select([])
    encoder = RowEncoder(())
    assert encode_batch(encoder, batch) == b"" or encode_batch(encoder, batch) == encoder.encode([(), ()])
