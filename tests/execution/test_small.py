"""What may run in one go on a thread: bounded rows."""

from __future__ import annotations

import math

import pytest

from cratepy import limits
from cratepy.execution.small import batch_of_row, constant_row, is_short, rows_touched
from cratepy.model.expressions import Call, Literal, Parameter
from cratepy.model.relations import Item, Join, Project, Relation, SetOperation, TableFunction, Values
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, REAL, TEXT, DataType, array_of
from tests.execution.fakes import COLUMN, scan, statement

SERIES = TableFunction(function="generate_series", arguments=(), columns=(COLUMN,))
SLEEP = Call("pg_sleep", (Literal(100, BIGINT),), BOOLEAN)


@pytest.mark.parametrize(
    ("relation", "inputs", "rows"),
    [
        (scan(), [5], 5),
        (Join("inner", scan(), scan(), None), [5, 7], 35),
        (SetOperation(kind="union_all", children=(scan(), scan()), columns=(COLUMN,)), [5, 7], 12),
        (SERIES, [], math.inf),
        (Join("cross", SERIES, scan(), None), [3], math.inf),
        (Values(rows=((),), columns=()), [], 1),
    ],
)
def test_operators_bound_their_rows(relation: Relation, inputs: list[int], rows: float) -> None:
    assert rows_touched(relation, iter(inputs)) == rows


def test_many_rows_or_a_big_join_are_not_short() -> None:
    assert is_short(scan(), [limits.SMALL_FRAGMENT_ROWS_MAX])
    assert not is_short(scan(), [limits.SMALL_FRAGMENT_ROWS_MAX + 1])
    assert not is_short(Join("inner", scan(), scan(), None), [1_000, 1_000])


def test_a_row_of_constants_needs_no_engine() -> None:
    one = Values(rows=((),), columns=())
    context = statement("n1", parameters=("x",))
    items = (Item(3, "a", Literal(1, BIGINT)), Item(4, "b", Parameter(0, TEXT)))
    assert constant_row(Project(one, items), context) == (1, "x")
    assert batch_of_row(Project(one, items), (1, "x")).to_pylist() == [{"c3": 1, "c4": "x"}]
    assert constant_row(Project(one, (Item(3, "s", SLEEP),)), context) is None
    assert constant_row(Project(scan(), items), context) is None
    assert constant_row(one, context) is None


def test_constants_are_what_a_column_of_their_type_gives_back() -> None:
    one = Values(rows=((),), columns=())
    given: list[tuple[object, DataType]] = [
        (0.1, REAL), (7, DOUBLE), (None, BIGINT), (True, BOOLEAN), ([1, None], array_of(INTEGER)), (2**31 - 1, INTEGER),
    ]  # fmt: skip
    items = tuple(Item(i, "x", Literal(value, data_type)) for i, (value, data_type) in enumerate(given))
    row = constant_row(Project(one, items), statement("n1"))
    assert row == (0.10000000149011612, 7.0, None, True, [1, None], 2**31 - 1)
    assert row is not None
    assert [type(value) for value in row[:2]] == [float, float]
