"""Pruning takes no row away: with the ranges of a filter and without them a scan gives the same rows that match.

Twins: the filter is evaluated over all rows by the engine, and over the rows of the blocks that were left by the ranges.
Values are the edges of their types; every segment holds another stretch of them.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.execution.engine.engine import Engine
from cratepy.execution.pruning import column_ranges
from cratepy.model.arrow import to_arrow
from cratepy.model.expressions import Call, Cast, Column, Expression, InList, Literal, Parameter
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item, Scan, ScanColumn
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, REAL, TEXT, TIMESTAMP, TIMESTAMPTZ, DataType, array_of
from cratepy.storage.operations import ColumnRange, WriteBatch
from cratepy.storage.shard import Shard
from tests.storage.shards import open_shard, table

DATE = DataType("date")
NUMERIC = DataType("numeric")
DAY_MS = 86_400_000
INFINITY = float("inf")
#: The sign of a NaN must not matter, but the hardware makes ones with it.
NEGATIVE_NAN: float = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0]

VALUES: dict[DataType, list[Any]] = {
    BIGINT: [-(2**63), -(2**53) - 1, -(2**53), -1, 0, 1, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1],
    INTEGER: [-(2**31), -(2**24) - 1, -7, 0, 3, 2**24, 2**24 + 1, 2**31 - 1],
    DOUBLE: [-INFINITY, -1e308, -0.5, -0.0, 0.0, 5e-324, 0.1, 2.0**53, 1e308, INFINITY, math.nan],
    REAL: [-INFINITY, -0.0, 0.0, struct.unpack("<f", struct.pack("<f", 0.1))[0], 1.5, 16777216.0, INFINITY, math.nan],
    TEXT: ["", "\0", "a", "ab", "ab%", "abc", "abd", "b" * 70, "b" * 70 + "z", "\ud7ff", "\ue000", "\U0010ffff", "ä"],
    BOOLEAN: [False, True],
    TIMESTAMPTZ: [-62_135_596_800_000, -1, 0, 1, 1_600_000_000_000, 253_402_300_799_999],
    DATE: [day * DAY_MS for day in (-719_162, -1, 0, 1, 18_000, 2_932_896)],
}
TYPES = list(VALUES)
COLUMNS = {data_type: oid for oid, data_type in enumerate(TYPES, 1)}
SCAN_COLUMNS = tuple(ScanColumn(oid, f"n{oid}", data_type, f"c{oid}") for data_type, oid in COLUMNS.items())
SCAN = Scan(table_uuid="table-1", table=RelationName("doc", "t"), columns=SCAN_COLUMNS)
SOURCES = tuple(column.source for column in SCAN_COLUMNS)
#: What a column may be compared with, beside its own type.
CASTS = {
    BIGINT: [DOUBLE, REAL, NUMERIC], INTEGER: [BIGINT, DOUBLE, REAL, NUMERIC], REAL: [DOUBLE], DATE: [TIMESTAMPTZ],
    TIMESTAMPTZ: [TIMESTAMP],
}  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine(memory_bytes=64 * 1024 * 1024, spill_path=tmp_path_factory.mktemp("spill"), partitions=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Shard]]:
    """Segments of single stretches of values, of stretches with NULLs, of NULLs, of everything; some rows are dead."""
    definition = table([(f"n{oid}", data_type) for data_type, oid in COLUMNS.items()])
    chance = random.Random(7)
    opened = []
    for number in range(5):
        shard = open_shard(tmp_path_factory.mktemp(f"shard{number}"), definition=definition)
        for segment in range(4):
            columns = [_stretch(VALUES[data_type], number * 4 + segment, chance) for data_type in TYPES]
            arrays = [to_arrow(values, t, at_rest=True) for t, values in zip(TYPES, columns, strict=True)]
            ids = [f"{segment}-{i}" for i in range(len(columns[0]))]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(SOURCES))
            shard.write(WriteBatch(kind="index", ids=ids, rows=batch, primary_term=1))
            shard.refresh()
        shard.write(WriteBatch(kind="delete", ids=["0-0", "2-3"], rows=None, primary_term=1))
        shard.refresh()
        opened.append(shard)
    yield opened
    for shard in opened:
        shard.close()


def _stretch(values: list[Any], number: int, chance: random.Random) -> list[Any]:
    first = number % len(values)
    some: list[Any] = values[first : first + 2]
    if values[-1] != values[-1] and number % 6 == 5:
        some = [*some, NEGATIVE_NAN]
    if number % 4 == 1:
        some = [*some, None]
    if number in (7, 11):
        some = [None]
    if number == 19:
        some = [*values, None]
    return [chance.choice(some) for _ in range(24)]


def context(*parameters: Any) -> StatementContext:
    return StatementContext(
        job_id="j", handler_id="n", user="crate", text="", now_ms=1_600_000_000_000, parameters=parameters
    )


def _values(data_type: DataType) -> st.SearchStrategy[Any]:
    known = VALUES[data_type]
    near: st.SearchStrategy[Any] = st.sampled_from(known)
    if data_type in (BIGINT, INTEGER):
        width = 63 if data_type is BIGINT else 31
        near = near.flatmap(lambda v: st.integers(max(v - 2, -(2**width)), min(v + 2, 2**width - 1)))
    if data_type is TEXT:
        near = near | st.text(alphabet="ab\ud7ff\ue000\U0010ffff", max_size=3)
    return near | st.none()


def _number(data_type: DataType) -> st.SearchStrategy[Any]:
    """A value to compare a column of a narrower type with."""
    whole = st.sampled_from([-(2**53) - 1, -(2**24), -1, 0, 3, 2**24, 2**24 + 1, 2**53, 2**53 + 2])
    if data_type is NUMERIC:
        return whole.flatmap(lambda v: st.sampled_from([Decimal(v), Decimal(v) + Decimal("0.5")])) | st.none()
    if data_type is BIGINT:
        return whole
    if data_type in (TIMESTAMP, TIMESTAMPTZ):
        return _values(TIMESTAMPTZ)
    return whole.map(float) | st.sampled_from([0.1, -0.0, INFINITY, -INFINITY, math.nan]) | st.none()


@st.composite
def _predicates(draw: st.DrawFn, depth: int = 2) -> Expression:
    if depth and draw(st.integers(0, 2)) == 0:
        kind = draw(st.sampled_from(["op_and", "op_or", "op_not", "ignore3vl"]))
        parts = tuple(draw(_predicates(depth=depth - 1)) for _ in range(2 if kind in ("op_and", "op_or") else 1))
        return Call(kind, parts, BOOLEAN)
    data_type = draw(st.sampled_from(TYPES))
    column: Expression = Column(COLUMNS[data_type], "c", data_type)
    shape = draw(st.integers(0, 9))
    if shape >= 8:
        # Two demands on one column.
        joined = draw(st.sampled_from(["op_and", "op_or"]))
        pair = tuple(draw(_simple(data_type, column)) for _ in range(2))
        return Call(joined, pair, BOOLEAN)
    if shape == 0:
        found: Expression = Call("op_isnull", (column,), BOOLEAN)
        return Call("op_not", (found,), BOOLEAN) if draw(st.booleans()) else found
    if shape == 1 and data_type is BOOLEAN:
        return column
    if shape == 2:
        items = tuple(Literal(value, data_type) for value in draw(st.lists(_values(data_type), min_size=1, max_size=3)))
        return InList(column, items)
    if shape == 3:
        elements = Literal(draw(st.lists(_values(data_type), max_size=3)), array_of(data_type))
        return Call("op_any_=", (column, elements), BOOLEAN)
    return draw(_simple(data_type, column))


@st.composite
def _simple(draw: st.DrawFn, data_type: DataType, column: Expression) -> Expression:
    if data_type is TEXT and draw(st.booleans()):
        patterns = st.text(alphabet="ab\\%_\ud7ff\U0010ffff", max_size=4).filter(lambda p: not p.endswith("\\"))
        return Call("op_like", (column, Literal(draw(patterns | st.none()), TEXT)), BOOLEAN)
    operators = ["op_=", "op_<>"] if data_type is BOOLEAN else ["op_=", "op_<>", "op_<", "op_<=", "op_>", "op_>="]
    if data_type in CASTS and draw(st.booleans()):
        wider = draw(st.sampled_from(CASTS[data_type]))
        column, other = Cast(column, wider, is_implicit=True), Literal(draw(_number(wider)), wider)
    else:
        other = Literal(draw(_values(data_type)), data_type)
    sides = (column, other) if draw(st.booleans()) else (other, column)
    return Call(draw(st.sampled_from(operators)), sides, BOOLEAN)


def identities(shards: list[Shard], ranges: tuple[ColumnRange, ...]) -> set[tuple[int, str]]:
    return {
        (number, row)
        for number, shard in enumerate(shards)
        for batch in shard.scan(("_id",), ranges=ranges)
        for row in batch.column(0).to_pylist()
    }


@pytest.fixture(scope="module")
def whole(shards: list[Shard]) -> tuple[list[tuple[int, str]], pa.RecordBatch]:
    """All rows, and who they are. So many that the engine computes, not its twin for a few rows."""
    rows: list[tuple[int, str]] = []
    batches: list[pa.RecordBatch] = []
    for number, shard in enumerate(shards):
        for batch in shard.scan((*SOURCES, "_id")):
            rows.extend((number, row) for row in batch.column("_id").to_pylist())
            batches.append(batch.select(SOURCES))
    assert len(rows) > 256
    return rows, pa.concat_batches(batches)


@settings(max_examples=600, deadline=None)
@given(predicate=_predicates())
def test_no_row_that_matches_is_in_a_block_that_is_left_out(
    engine: Engine, shards: list[Shard], whole: tuple[list[tuple[int, str]], pa.RecordBatch], predicate: Expression
) -> None:
    rows, columns = whole
    truths = engine.evaluate((Item(900, "p", predicate),), columns, context()).column(0).to_pylist()
    matching = {row for row, is_true in zip(rows, truths, strict=True) if is_true}
    scan = Scan(table_uuid="table-1", table=SCAN.table, columns=SCAN_COLUMNS, filter=predicate)
    assert matching <= identities(shards, column_ranges(scan, context()))


def test_blocks_are_left_out(shards: list[Shard]) -> None:
    scan = Scan(table_uuid="table-1", table=SCAN.table, columns=SCAN_COLUMNS, filter=compared(">", N, FIVE))
    assert 0 < len(identities(shards, column_ranges(scan, context()))) < len(identities(shards, ())) / 2


# --- what is understood ----------------------------------------------------------------------------------------------

N = Column(COLUMNS[BIGINT], "n", BIGINT)
T = Column(COLUMNS[TEXT], "t", TEXT)
TS = Column(COLUMNS[TIMESTAMPTZ], "ts", TIMESTAMPTZ)
SOURCE_N, SOURCE_T, SOURCE_TS = (f"c{COLUMNS[data_type]}" for data_type in (BIGINT, TEXT, TIMESTAMPTZ))


def compared(operator: str, one: Expression, other: Expression) -> Expression:
    return Call(f"op_{operator}", (one, other), BOOLEAN)


def both(*parts: Expression) -> Expression:
    return Call("op_and", parts, BOOLEAN)


def either(*parts: Expression) -> Expression:
    return Call("op_or", parts, BOOLEAN)


def like(pattern: str) -> Expression:
    return Call("op_like", (T, Literal(pattern, TEXT)), BOOLEAN)


FIVE, NINE = Literal(5, BIGINT), Literal(9, BIGINT)
NOW = Call("now", (), TIMESTAMPTZ)
HOUR_AGO = Call("op_-", (NOW, Literal([0, 0, 3_600_000_000], DataType("interval"))), TIMESTAMPTZ)


@pytest.mark.parametrize(("predicate", "expected"), [
    (compared("=", N, FIVE), [ColumnRange(SOURCE_N, 5, 5, False)]),
    (compared("<", FIVE, N), [ColumnRange(SOURCE_N, 5, None, False)]),
    (both(compared(">=", N, FIVE), compared("<", N, NINE)), [ColumnRange(SOURCE_N, 5, 9, False)]),
    (either(compared("=", N, FIVE), compared("=", N, NINE)), [ColumnRange(SOURCE_N, 5, 9, False)]),
    (either(compared("=", N, FIVE), compared("=", T, Literal("x", TEXT))), []),
    (either(compared("=", N, FIVE), Call("op_isnull", (N,), BOOLEAN)), []),
    (Call("op_not", (either(compared("<", N, FIVE), compared(">", N, NINE)),), BOOLEAN), [ColumnRange(SOURCE_N, 5, 9, False)]),
    (Call("op_isnull", (N,), BOOLEAN), [ColumnRange(SOURCE_N, is_null=True)]),
    (compared("<>", N, FIVE), [ColumnRange(SOURCE_N, is_null=False)]),
    (InList(N, (NINE, FIVE)), [ColumnRange(SOURCE_N, 5, 9, False)]),
    (compared("=", N, Parameter(0, BIGINT)), [ColumnRange(SOURCE_N, 7, 7, False)]),
    (compared("=", N, compared("=", N, FIVE)), []),
    (like("abc%"), [ColumnRange(SOURCE_T, "abc", "abd", False)]),
    (like("a\\%c_%"), [ColumnRange(SOURCE_T, "a%c", "a%d", False)]),
    (like("\ud7ff%"), [ColumnRange(SOURCE_T, "\ud7ff", "\ue000", False)]),
    (like("abc"), [ColumnRange(SOURCE_T, "abc", "abc", False)]),
    (like("%abc"), [ColumnRange(SOURCE_T, is_null=False)]),
    (compared(">", N, Literal(None, BIGINT)), [ColumnRange(SOURCE_N, is_null=True), ColumnRange(SOURCE_N, is_null=False)]),
    (compared("<", TS, NOW), [ColumnRange(SOURCE_TS, None, 1_600_000_000_000, False)]),
    (compared("=", N, Call("random", (), DOUBLE)), []),
    (compared("=", Cast(N, TEXT), Literal("5", TEXT)), []),
    (compared("<", Cast(N, DOUBLE), Literal(1e300, DOUBLE)), [ColumnRange(SOURCE_N, is_null=False)]),
])  # fmt: skip
def test_ranges_of_a_filter(predicate: Expression, expected: list[ColumnRange]) -> None:
    scan = Scan(table_uuid="table-1", table=SCAN.table, columns=SCAN_COLUMNS, filter=predicate)
    assert list(column_ranges(scan, context(7))) == expected
