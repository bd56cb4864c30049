"""Queries over a few rows without the engine: which, and that the answer is the one the engine gives."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cratepy.errors import RowDivisionByZero
from cratepy.execution.batches import batch_of_rows
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.few import few_rows
from cratepy.limits import MIB
from cratepy.model.arrow import arrow_schema, from_arrow, to_arrow
from cratepy.model.expressions import TRUE, Aggregate, Call, Column, Expression, InList, Literal, Parameter, SortKey
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    Aggregation,
    ExchangeInput,
    Item,
    Limit,
    OutputColumn,
    Project,
    Relation,
    Scan,
    ScanColumn,
    Sort,
    SystemScan,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, REAL, TEXT, TIMESTAMPTZ, array_of, numeric

COLUMNS = (
    ScanColumn(1, "n", BIGINT, "c1"),
    ScanColumn(2, "t", TEXT, "c2"),
    ScanColumn(3, "d", DOUBLE, "c3"),
    ScanColumn(4, "r", REAL, "c4"),
    ScanColumn(5, "m", numeric(10, 2), "c5"),
    ScanColumn(6, "ts", TIMESTAMPTZ, "c6"),
    ScanColumn(7, "l", array_of(TEXT), "c7"),
)
ROWS = [
    (1, "one", 0.1, 0.5, "1.20", 1_700_000_000_000, ["a", None]),
    (2, None, None, None, None, None, None),
    (None, "", float("nan"), -0.0, "0.00", -1, []),
    (4, "vier €", 1e300, 1.5, "-12345678.90", 0, ["x"]),
]
N, T = Column(1, "n", BIGINT), Column(2, "t", TEXT)


def given(rows: int | None = None) -> FragmentInput:
    columns = tuple(OutputColumn(c.id, c.name, c.type) for c in COLUMNS)
    values = ROWS if rows is None else [ROWS[0]] * rows
    arrays = [to_arrow([row[i] for row in values], c.type) for i, c in enumerate(COLUMNS)]
    return FragmentInput(columns, [[pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(columns))]])


def scan(condition: Expression | None = None) -> Scan:
    return Scan(table_uuid="u", table=RelationName("doc", "t"), columns=COLUMNS, filter=condition)


def system_scan(condition: Expression | None = None) -> SystemScan:
    return SystemScan(table=RelationName("sys", "t"), columns=COLUMNS, filter=condition)


RECEIVED = ExchangeInput(0, tuple(OutputColumn(c.id, c.name, c.type) for c in COLUMNS))


def call(function: str, *arguments: Expression) -> Call:
    return Call(f"op_{function}", arguments, BOOLEAN)


def big(value: int) -> Literal:
    return Literal(value, BIGINT)


def everything(child: Relation) -> Project:
    return Project(child, tuple(Item(c.id + 20, c.name, Column(c.id, c.name, c.type)) for c in COLUMNS))


COUNT = Aggregate("count", (), BIGINT)
CONTEXT = StatementContext(
    job_id="j", handler_id="n", user="crate", text="", now_ms=0, parameters=(2, 1), parameter_types=(BIGINT, BIGINT)
)
QUERIES: list[Relation] = [
    scan(),
    everything(scan()),
    scan(call(">", N, big(1))),
    scan(call("not", call("=", T, Literal("one", TEXT)))),
    scan(InList(N, (big(4), Literal(None, BIGINT)))),
    scan(call("or", call("isnull", T), call("=", N, big(1)))),
    scan(Literal(None, BOOLEAN)),
    Limit(scan(), big(2)),
    Limit(scan(), big(2), big(1)),
    Limit(scan(call(">", N, big(0))), Parameter(0, BIGINT), Parameter(1, BIGINT)),
    Limit(scan(), big(0)),
    Limit(scan(TRUE), big(9), big(9)),
    Project(
        Limit(scan(), big(3)),
        (
            Item(30, "sum", Call("op_+", (N, big(1)), BIGINT)),
            Item(31, "upper", Call("upper", (T,), TEXT)),
            Item(32, "n", N),
        ),
    ),
    Aggregation(scan(), (), (Item(40, "count", COUNT),)),
    Aggregation(scan(), (), (Item(40, "count", COUNT), Item(41, "count", COUNT))),
    Aggregation(scan(call(">", N, big(1))), (), (Item(40, "count", COUNT),)),
    system_scan(),
    everything(system_scan(call(">", N, big(1)))),
    Limit(system_scan(), big(2), big(1)),
    Aggregation(system_scan(), (), (Item(40, "count", COUNT),)),
    Aggregation(system_scan(call("=", N, big(1))), (), (Item(40, "count", COUNT),)),
    Aggregation(RECEIVED, (), (Item(40, "sum", Aggregate("sum", (N,), BIGINT)), Item(41, "count", COUNT))),
    Project(
        Aggregation(RECEIVED, (), (Item(40, "sum", Aggregate("sum", (N,), BIGINT)),)),
        (Item(50, "n", Call("coalesce", (Column(40, "sum", BIGINT), big(0)), BIGINT)), Item(51, "one", big(1))),
    ),
]


def shown(rows: list[tuple[object, ...]]) -> list[str]:
    return [repr(row) for row in rows]


@pytest.mark.parametrize("relation", QUERIES)
def test_the_answer_is_the_engines(relation: Relation, tmp_path: Path) -> None:
    import trio

    engine = Engine(memory_bytes=64 * MIB, spill_path=tmp_path, partitions=1)

    async def ask() -> list[pa.RecordBatch]:
        return await engine.run_small(relation, [given()], CONTEXT)

    batches = trio.run(ask)
    expected: list[tuple[object, ...]] = []
    for batch in batches:
        values = [from_arrow(batch.column(i), column.type) for i, column in enumerate(output_columns(relation))]
        expected.extend(zip(*values, strict=True))
    rows = few_rows(relation, [given()], CONTEXT)
    assert rows is not None
    assert shown(rows) == shown(expected)


@pytest.mark.parametrize(
    "relation",
    [
        Sort(scan(), (SortKey(N),)),
        Limit(scan(), None),
        Limit(scan(), big(-1)),
        Limit(scan(), Literal(None, BIGINT)),
        Project(scan(), (Item(30, "random", Call("random", (), DOUBLE)),)),
        scan(call(">", Call("random", (), DOUBLE), Literal(0.5, DOUBLE))),
        Aggregation(scan(), (), (Item(40, "max", Aggregate("max", (N,), BIGINT)),)),
        Aggregation(scan(), (Item(1, "n", N),), (Item(40, "count", COUNT),)),
        Aggregation(RECEIVED, (), (Item(40, "sum", Aggregate("sum", (N,), BIGINT, is_distinct=True)),)),
        Aggregation(RECEIVED, (), (Item(40, "sum", Aggregate("sum", (Column(3, "d", DOUBLE),), DOUBLE)),)),
        Aggregation(RECEIVED, (), (Item(40, "count", Aggregate("count", (), BIGINT, filter=TRUE)),)),
    ],
)
def test_what_does_more_is_for_the_engine(relation: Relation) -> None:
    assert few_rows(relation, [given()], CONTEXT) is None


def test_many_rows_are_for_the_engine() -> None:
    assert few_rows(scan(call("=", N, big(1))), [given(1_000)], CONTEXT) is None
    assert few_rows(Aggregation(scan(), (), (Item(40, "count", COUNT),)), [given(1_000)], CONTEXT) == [(1_000,)]
    counted = Aggregation(scan(call("=", N, big(1))), (), (Item(40, "count", COUNT),))
    assert few_rows(counted, [given(1_000)], CONTEXT) is None


def test_sums_of_nothing_are_null_and_those_that_do_not_fit_are_for_the_engine() -> None:
    total = Aggregation(RECEIVED, (), (Item(40, "sum", Aggregate("sum", (N,), BIGINT)),))
    assert few_rows(total, [given(0)], CONTEXT) == [(None,)]
    largest = [(2**63 - 1, *ROWS[1][1:])] * 2
    assert few_rows(total, [FragmentInput(RECEIVED.columns, [[batch_of_rows(largest, COLUMNS)]])], CONTEXT) is None


def test_only_rows_that_are_given_are_computed() -> None:
    item = Item(30, "quotient", Call("op_/", (big(1), Call("op_-", (N, big(1)), BIGINT)), BIGINT))
    assert few_rows(Project(Limit(scan(), big(1), big(1)), (item,)), [given()], CONTEXT) == [(1,)]
    with pytest.raises(RowDivisionByZero):
        few_rows(Project(scan(), (item,)), [given()], CONTEXT)
