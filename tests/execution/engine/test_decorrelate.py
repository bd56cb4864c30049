"""Subqueries give what they would give if they ran once for every row of the left side.

The twin does just that: for each left row it puts the row's values in place of the outer columns, runs the right side alone
and reads the answer off its rows in Python.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio

from cratepy.errors import CardinalityViolation, UnsupportedFeature
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.substitution import outer_bound
from cratepy.execution.engine.trees import changed_expressions
from cratepy.functions.operators import all_of, any_of, compared
from cratepy.model.expressions import Column, Expression, Literal, OuterColumn, SortKey, Window
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    Relation,
    SetOperation,
    Sort,
    TableFunction,
    Values,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER, TEXT, DataType, array_of
from tests.execution.engine.tables import (
    PEOPLE,
    PETS,
    TABLES,
    Table,
    aggregate,
    call,
    item,
    lit,
    ordered,
    rows,
    rows_async,
)

AGE = OuterColumn(1, "x1", INTEGER)
NAME = OuterColumn(2, "x2", TEXT)

#: The same rows under other ids, because ids are unique in a statement.
OTHER = Table(3, 80, (INTEGER, TEXT), PETS.rows)
TABLES[3] = OTHER
EQUAL = Filter(PETS.leaf, call("op_=", PETS[0], AGE))
LESS = Filter(PETS.leaf, call("op_<=", PETS[0], AGE))
BOTH = Filter(
    PETS.leaf,
    call("op_and", call("op_=", AGE, PETS[0]), call("op_<>", PETS[1], call("op_||", NAME, lit("", TEXT), result=TEXT))),
)
ALWAYS = Filter(PETS.leaf, call("op_isnull", NAME))
SOURCES: dict[str, Relation] = {
    "uncorrelated": PETS.leaf,
    "equality": EQUAL,
    "inequality": LESS,
    "equality and more": BOTH,
    "a filter on the outer row alone": ALWAYS,
    "a join": Join("inner", EQUAL, Project(PEOPLE.leaf, (item(40, PEOPLE[1]),)), call("op_<", PETS[1], Column(40, "x40", TEXT))),
    "a join of two": Join("cross", EQUAL, Aggregation(LESS, (), (item(41, aggregate("count")),)), None),
    "a left join": Join("left", LESS, Filter(OTHER.leaf, call("op_=", OTHER[0], AGE)), call("op_=", PETS[0], OTHER[0])),
    "a condition of a join": Join("inner", PETS.leaf, Project(PEOPLE.leaf, (item(44, PEOPLE[0]),)), call("op_=", Column(44, "x44", INTEGER), AGE)),
    "a computed column": Project(PETS.leaf, (item(10, call("op_+", PETS[0], AGE, result=INTEGER)), item(11, PETS[1]))),
    "an aggregation with keys": Project(
        Aggregation(LESS, (item(45, PETS[1]),), (item(46, aggregate("max", PETS[0], result=INTEGER)),)),
        (item(10, Column(46, "x46", INTEGER)), item(11, Column(45, "x45", TEXT))),
    ),
    "a union": SetOperation(
        kind="union_all",
        children=(EQUAL, Project(ALWAYS, (item(47, PETS[0]), item(48, PETS[1])))),
        columns=(OutputColumn(10, "x10", INTEGER), OutputColumn(11, "x11", TEXT)),
    ),
    "a limit": Limit(Sort(LESS, (SortKey(PETS[1], is_descending=True),)), lit(2, BIGINT)),
    "a limit with an offset": Limit(Sort(LESS, (SortKey(PETS[1]),)), lit(1, BIGINT), lit(1, BIGINT)),
    "a window": Project(
        WindowCalculation(LESS, (item(49, Window("count", (), BIGINT)),)),
        (item(10, PETS[0]), item(11, call("op_||", PETS[1], Column(49, "x49", BIGINT), result=TEXT))),
    ),
    "literal rows": Values(
        rows=((AGE, lit("a", TEXT)), (lit(4), NAME)), columns=(OutputColumn(10, "x10", INTEGER), OutputColumn(11, "x11", TEXT))
    ),
    "a subquery of its own": Filter(
        Apply(
            kind="exists",
            left=LESS,
            right=Filter(
                Project(PEOPLE.leaf, (item(50, PEOPLE[0]), item(51, PEOPLE[1]))),
                call("op_and", call("op_=", Column(50, "x50", INTEGER), OuterColumn(10, "x10", INTEGER)), call("op_<>", Column(51, "x51", TEXT), NAME)),
            ),
            id=52,
            name="e",
        ),
        Column(52, "e", BOOLEAN),
    ),
}  # fmt: skip
SOURCES["a window"] = Project(
    WindowCalculation(LESS, (item(49, Window("count", (), BIGINT)),)),
    (item(10, PETS[0]), item(11, PETS[1]), item(53, Column(49, "x49", BIGINT))),
)
NUMBER = (item(60, Column(10, "x10", INTEGER)),)
TEXTS = (item(60, Column(11, "x11", TEXT)),)


async def subquery_rows(engine: Engine, right: Relation, left_row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The right side alone, for one left row."""
    values = {
        column.id: Literal(value, column.type) for column, value in zip(PEOPLE.leaf.columns, left_row, strict=True)
    }

    def bound(expression: Expression) -> Expression:
        return outer_bound(expression, values)

    return await rows_async(engine, changed_expressions(right, bound))


def answer(kind: str, operator: str | None, operand: Any, found: list[tuple[Any, ...]], data_type: DataType) -> Any:
    values = [row[0] for row in found]
    match kind:
        case "exists":
            return bool(found)
        case "scalar":
            return values[0] if values else None
        case "array":
            return sorted(values, key=repr)
    assert operator is not None
    compare = compared(operator.removeprefix("op_"), data_type)
    return (any_of if kind == "any" else all_of)(compare, operand, values)


def check(engine: Engine, apply: Apply) -> None:
    position = None if apply.operand is None else 0

    async def main() -> None:
        expected = []
        for row in PEOPLE.rows:
            operand = None if position is None else row[position]
            found = await subquery_rows(engine, apply.right, row)
            data_type = output_columns(apply.right)[0].type if output_columns(apply.right) else INTEGER
            expected.append((*row, answer(apply.kind, apply.operator, operand, found, data_type)))
        got = await rows_async(engine, apply)
        if apply.kind == "array":
            got = [(*row[:-1], sorted(row[-1], key=repr)) for row in got]
        assert ordered(got) == ordered(expected)

    trio.run(main)


@pytest.mark.parametrize("source", SOURCES)
def test_exists(engine: Engine, source: str) -> None:
    check(engine, Apply(kind="exists", left=PEOPLE.leaf, right=SOURCES[source], id=90, name="e"))


@pytest.mark.parametrize("source", SOURCES)
def test_arrays(engine: Engine, source: str) -> None:
    right = Project(SOURCES[source], TEXTS)
    check(engine, Apply(kind="array", left=PEOPLE.leaf, right=right, id=90, name="a", type=array_of(TEXT)))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("function", ["count", "max", "sum"])
def test_scalar_aggregates(engine: Engine, source: str, function: str) -> None:
    result = INTEGER if function == "max" else BIGINT
    inner = Aggregation(
        SOURCES[source], (), (item(61, aggregate(function, Column(10, "x10", INTEGER), result=result)),)
    )
    check(engine, Apply(kind="scalar", left=PEOPLE.leaf, right=inner, id=90, name="s", type=result))


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_of_an_order(engine: Engine, source: str) -> None:
    keys = (SortKey(Column(11, "x11", TEXT), is_descending=True, nulls_first=True), SortKey(Column(10, "x10", INTEGER)))
    first = Project(Limit(Sort(SOURCES[source], keys), lit(1, BIGINT)), TEXTS)
    check(engine, Apply(kind="scalar", left=PEOPLE.leaf, right=first, id=90, name="s", type=TEXT))


@pytest.mark.parametrize(
    ("source", "kind", "operator"),
    list(itertools.product(SOURCES, ("any", "all"), ("op_=", "op_<>", "op_<", "op_>="))),
)
def test_quantified_comparisons(engine: Engine, source: str, kind: str, operator: str) -> None:
    right = Project(SOURCES[source], NUMBER)
    check(
        engine,
        Apply(kind=kind, left=PEOPLE.leaf, right=right, id=90, name="q", operand=PEOPLE[0], operator=operator),
    )


def test_an_array_keeps_the_order_of_the_subquery(engine: Engine) -> None:
    keys = (SortKey(PETS[1], is_descending=True, nulls_first=True),)
    right = Project(Sort(LESS, keys), TEXTS)
    apply = Apply(kind="array", left=PEOPLE.leaf, right=right, id=90, name="a", type=array_of(TEXT))
    found = {row[1]: row[3] for row in rows(engine, Filter(apply, call("op_=", PEOPLE[2], lit(20, BIGINT))))}
    assert found == {"y": ["s", "p"]}


def test_a_scalar_subquery_of_two_rows_is_refused(engine: Engine) -> None:
    for source in (PETS.leaf, EQUAL):
        apply = Apply(kind="scalar", left=PEOPLE.leaf, right=Project(source, TEXTS), id=90, name="s", type=TEXT)
        with pytest.raises(CardinalityViolation, match="Subquery returned more than 1 row"):
            rows(engine, apply)


def test_a_table_function_of_an_outer_column(engine: Engine) -> None:
    numbers = TableFunction(
        function="generate_series", arguments=(lit(1), AGE), columns=(OutputColumn(70, "g", INTEGER),)
    )
    total = Aggregation(numbers, (), (item(71, aggregate("sum", Column(70, "g", INTEGER))),))
    found = rows(engine, Apply(kind="scalar", left=PEOPLE.leaf, right=total, id=90, name="s", type=BIGINT))
    assert ordered([(row[0], row[-1]) for row in found]) == [(1, 1), (1, 1), (2, 3), (4, 10), (None, None)]


def test_what_cannot_be_done_is_refused_by_name(engine: Engine) -> None:
    full = Join("full", EQUAL, PEOPLE.leaf, call("op_=", PETS[0], PEOPLE[0]))
    with pytest.raises(UnsupportedFeature, match="A FULL JOIN in a subquery"):
        rows(engine, Apply(kind="exists", left=PEOPLE.leaf, right=full, id=90, name="e"))
