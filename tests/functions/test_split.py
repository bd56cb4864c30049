"""An aggregate in two steps is the aggregate: whatever part of the rows each step saw."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import trio

from cratepy.errors import RowOverflow
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import rows_input
from cratepy.functions.split import split_aggregate
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Aggregate, Call, Column, Literal
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    Aggregation,
    ExchangeInput,
    Item,
    OutputColumn,
    Project,
    Relation,
    SetOperation,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, NUMERIC, REAL, TEXT, DataType

CONTEXT = StatementContext(job_id="", handler_id="", user="", text="", now_ms=0)
COLUMNS = (
    OutputColumn(1, "i", INTEGER),
    OutputColumn(2, "b", BIGINT),
    OutputColumn(3, "d", DOUBLE),
    OutputColumn(4, "t", TEXT),
    OutputColumn(5, "n", NUMERIC),
    OutputColumn(6, "r", REAL),
    OutputColumn(7, "o", BOOLEAN),
)
INT, BIG, DBL, TXT, NUM, SGL, BOO = (Column(c.id, c.name, c.type) for c in COLUMNS)
ROWS: list[tuple[Any, ...]] = [
    (1, 2**62, 1.5, "b", "1.25", 1.5, True),
    (None, None, None, None, None, None, None),
    (3, 2**62, -2.5, "a", "-7.5", 0.25, True),
    (5, -(2**62), 1e6, "c", "100", 8.0, False),
    (-1, 7, 1e6 + 1, "ä", "0.125", -3.0, True),
]
AGGREGATES = [
    Aggregate("count", (), BIGINT),
    Aggregate("count", (INT,), BIGINT),
    Aggregate("count", (), BIGINT, filter=Call("op_>", (INT, Literal(1, INTEGER)), BOOLEAN)),
    Aggregate("sum", (INT,), BIGINT),
    Aggregate("sum", (BIG,), BIGINT),
    Aggregate("sum", (DBL,), DOUBLE),
    Aggregate("sum", (NUM,), NUMERIC),
    Aggregate("sum", (SGL,), REAL),
    Aggregate("min", (TXT,), TEXT),
    Aggregate("max", (BIG,), BIGINT),
    Aggregate("avg", (INT,), DOUBLE),
    Aggregate("avg", (NUM,), NUMERIC),
    Aggregate("stddev_samp", (DBL,), DOUBLE),
    Aggregate("stddev_pop", (INT,), DOUBLE),
    Aggregate("variance", (DBL,), DOUBLE),
    Aggregate("geometric_mean", (INT,), DOUBLE),
    Aggregate("geometric_mean", (DBL,), DOUBLE, filter=Call("op_>", (DBL, Literal(0.0, DOUBLE)), BOOLEAN)),
    Aggregate("geometric_mean", (BIG,), DOUBLE, filter=Call("op_>", (BIG, Literal(0, BIGINT)), BOOLEAN)),
    Aggregate("any_value", (NUM,), NUMERIC, filter=Call("op_=", (INT, Literal(3, INTEGER)), BOOLEAN)),
    Aggregate("min_by", (TXT, DBL), TEXT),
    Aggregate("max_by", (DBL, TXT), DOUBLE),
    Aggregate("max_by", (INT, DBL), INTEGER, filter=Call("op_<", (INT, Literal(5, INTEGER)), BOOLEAN)),
    Aggregate("collect_set", (BOO,), DataType("array", element=BOOLEAN)),
    Aggregate("collect_set", (TXT,), DataType("array", element=TEXT)),
    Aggregate("bool_or", (BOO,), BOOLEAN),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Engine(memory_bytes=64 * 1024 * 1024, spill_path=Path(tmp_path_factory.mktemp("spill")), partitions=1)
    yield made
    made.close()


def value(engine: Engine, relation: Relation, parts: list[list[tuple[Any, ...]]]) -> Any:
    inputs = [rows_input(COLUMNS, part) for part in parts]
    (batch,) = trio.run(engine.run_small, relation, inputs, CONTEXT)
    assert batch.num_rows == 1
    return from_arrow(batch.column(0), output_columns(relation)[0].type)[0]


def in_two_steps(aggregate: Aggregate, parts: int) -> Relation:
    ids = itertools.count(100)
    split = split_aggregate(aggregate, lambda: next(ids))
    assert split is not None
    partials = tuple(Aggregation(ExchangeInput(n, COLUMNS), (), split.partial) for n in range(parts))
    columns = tuple(OutputColumn(item.id, item.name, item.expression.type) for item in split.partial)
    union = SetOperation(kind="union_all", children=partials, columns=columns)
    return Project(Aggregation(union, (), split.merge), (Item(next(ids), "x", split.final),))


@pytest.mark.parametrize(
    "aggregate", AGGREGATES, ids=lambda a: f"{a.function}({','.join(x.name for x in a.arguments)})"
)
@pytest.mark.parametrize("parts", [[ROWS], [ROWS[:2], ROWS[2:]], [ROWS[1:2], ROWS[:1], ROWS[2:], []], [[], []]])
def test_two_steps_give_what_one_gives(engine: Engine, aggregate: Aggregate, parts: list[list[Any]]) -> None:
    rows = [row for part in parts for row in part]
    whole = value(engine, Aggregation(ExchangeInput(0, COLUMNS), (), (Item(10, "x", aggregate),)), [rows])
    found = value(engine, in_two_steps(aggregate, len(parts)), parts)
    if isinstance(whole, float) and math.isnan(whole):
        assert math.isnan(found)
        return
    if aggregate.function == "collect_set":
        whole, found = sorted(whole), sorted(found)
    assert found == pytest.approx(whole, rel=1e-12) if isinstance(whole, float) else found == whole


def test_a_sum_that_is_too_large_only_in_between_is_no_error(engine: Engine) -> None:
    aggregate = Aggregate("sum", (BIG,), BIGINT)
    assert value(engine, in_two_steps(aggregate, 2), [ROWS[:3], ROWS[3:]]) == 2**62 + 7
    with pytest.raises(RowOverflow, match="long overflow"):
        value(engine, in_two_steps(aggregate, 2), [ROWS[:3], ROWS[:1]])


@pytest.mark.parametrize(
    "aggregate",
    [
        Aggregate("count", (INT,), BIGINT, is_distinct=True),
        Aggregate("array_agg", (INT,), DataType("array", element=INTEGER)),
        Aggregate("percentile", (INT, Literal(0.5, DOUBLE)), DOUBLE),
        Aggregate("string_agg", (TXT, Literal(",", TEXT)), TEXT),
    ],
)
def test_what_needs_all_rows_is_not_split(aggregate: Aggregate) -> None:
    assert split_aggregate(aggregate, lambda: 1) is None
