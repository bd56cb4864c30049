"""Small tables and shorthands for tests of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput, rows_input
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Aggregate, Call, Cast, Column, Expression, Literal
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    ExchangeInput,
    Item,
    OutputColumn,
    Relation,
    Scan,
    SystemScan,
    children,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER, TEXT, DataType

CONTEXT = StatementContext(
    job_id="job",
    handler_id="node",
    user="crate",
    text="",
    now_ms=1_700_000_000_123,
    parameters=(2, "x"),
    parameter_types=(INTEGER, TEXT),
    subquery_values=(3,),
    search_path=("pg_catalog", "doc"),
)
Rows = list[tuple[Any, ...]]


class Table:
    """A leaf with its rows. ``first`` is the id of the first column."""

    def __init__(self, phase: int, first: int, types: Sequence[DataType], rows: Rows) -> None:
        columns = tuple(OutputColumn(first + i, f"x{first + i}", kind) for i, kind in enumerate(types))
        self.leaf = ExchangeInput(phase, columns)
        self.given = rows_input(columns, rows)
        self.rows = rows

    def __getitem__(self, position: int) -> Column:
        column = self.leaf.columns[position]
        return Column(column.id, column.name, column.type)


PEOPLE = Table(
    1,
    1,
    (INTEGER, TEXT, BIGINT),
    [(1, "x", 10), (2, "y", 20), (None, None, 30), (4, "x", 2**62), (1, "z", 2**62)],
)
PETS = Table(2, 10, (INTEGER, TEXT), [(1, "p"), (4, "q"), (None, "r"), (1, "s"), (7, None)])
TABLES = {1: PEOPLE, 2: PETS}


def inputs_of(relation: Relation) -> list[FragmentInput]:
    """One input per leaf, left to right."""
    if isinstance(relation, ExchangeInput):
        return [TABLES[relation.phase].given]
    if isinstance(relation, Scan | SystemScan):
        return [PEOPLE.given]
    return [given for child in children(relation) for given in inputs_of(child)]


def call(name: str, *arguments: Expression, result: DataType = BOOLEAN) -> Call:
    return Call(name, arguments, result)


def lit(value: Any, data_type: DataType = INTEGER) -> Literal:
    return Literal(value, data_type)


def cast(expression: Expression, target: DataType) -> Cast:
    return Cast(expression, target)


def item(number: int, expression: Expression) -> Item:
    return Item(number, f"x{number}", expression)


def aggregate(name: str, *arguments: Expression, result: DataType = BIGINT, **more: Any) -> Aggregate:
    return Aggregate(name, arguments, result, **more)


async def rows_async(engine: Engine, relation: Relation, context: StatementContext = CONTEXT) -> Rows:
    columns = output_columns(relation)
    found: Rows = []
    async with engine.open(relation, inputs_of(relation), context) as stream:
        while (received := await stream.receive()) is not None:
            _, batch = received
            values = [from_arrow(array, column.type) for array, column in zip(batch.columns, columns, strict=True)]
            found.extend(zip(*values, strict=True) if values else [()] * batch.num_rows)
    return found


def rows(engine: Engine, relation: Relation, context: StatementContext = CONTEXT) -> Rows:
    """The rows of a fragment as SQL values."""
    return trio.run(rows_async, engine, relation, context)


def ordered(found: Rows) -> Rows:
    """In an order of its own, NULLs last."""
    return sorted(found, key=lambda row: [(value is None, repr(value)) for value in row])
