"""Every operator of a fragment gives the rows SQL says, NULLs included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import trio

from cratepy import errors
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput, rows_input
from cratepy.execution.engine.partitioning import partitioned
from cratepy.model.arrow import arrow_schema, from_arrow
from cratepy.model.expressions import (
    Branch,
    Case,
    Cast,
    Column,
    Expression,
    Frame,
    FrameBound,
    InList,
    Parameter,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.names import RelationName
from cratepy.model.relations import (
    Aggregation,
    ExchangeInput,
    Filter,
    Item,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    ScanColumn,
    SetOperation,
    Sort,
    TableFunction,
    Values,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NUMERIC,
    OBJECT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    DataType,
    array_of,
)
from tests.execution.engine.tables import (
    CONTEXT,
    PEOPLE,
    PETS,
    aggregate,
    call,
    cast,
    inputs_of,
    item,
    lit,
    ordered,
    rows,
)

ONE_ROW = Values(rows=((),), columns=())
INTEGERS = array_of(INTEGER)


def series(first: int, last: int, step: int = 1) -> TableFunction:
    return TableFunction(
        function="generate_series",
        arguments=(lit(first, BIGINT), lit(last, BIGINT), lit(step, BIGINT)),
        columns=(OutputColumn(50, "g", BIGINT),),
    )


# --- filter, project, sort, limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "names"),
    [
        (call("op_<", PEOPLE[0], lit(3)), ["x", "y", "z"]),
        (call("op_=", PEOPLE[0], Parameter(0, INTEGER)), ["y"]),
        (call("op_<", PEOPLE[0], SubqueryValue(0, INTEGER)), ["x", "y", "z"]),
        (InList(PEOPLE[0], (lit(1), lit(None))), ["x", "z"]),
        (call("op_not", InList(PEOPLE[0], (lit(None),))), []),
        (
            call("op_and", call("op_not", InList(PEOPLE[0], (lit(None),))), InList(PEOPLE[0], (lit(1), lit(2)))),
            [],
        ),
        (
            call("op_and", InList(PEOPLE[0], (lit(1), lit(2))), call("op_not", InList(PEOPLE[0], (lit(2), lit(None))))),
            [],
        ),
        (
            call("op_or", call("op_not", InList(PEOPLE[0], (lit(None),))), InList(PEOPLE[0], (lit(1), lit(2)))),
            ["x", "y", "z"],
        ),
        (call("op_not", InList(PEOPLE[0], (lit(1), lit(None)))), []),
        (call("op_not", InList(PEOPLE[0], (lit(1),))), ["y", "x"]),
        (call("op_isnull", PEOPLE[1]), [None]),
        (call("op_is_distinct_from", PEOPLE[0], lit(1)), ["y", None, "x"]),
        (call("op_any_=", PEOPLE[0], lit([4, None], INTEGERS)), ["x"]),
        (call("op_all_<>", PEOPLE[0], lit([4], INTEGERS)), ["x", "y", "z"]),
        (call("op_all_<>", PEOPLE[0], lit([4, None], INTEGERS)), []),
        (call("op_like", PEOPLE[1], lit("_", TEXT)), ["x", "y", "x", "z"]),
        (call("op_not", call("op_like", PEOPLE[1], lit("x%", TEXT))), ["y", "z"]),
        (call("op_~", PEOPLE[1], lit("[xy]", TEXT)), ["x", "y", "x"]),
        (call("op_or", call("op_=", PEOPLE[0], lit(4)), call("op_=", PEOPLE[1], lit("y", TEXT))), ["y", "x"]),
    ],
)
def test_only_rows_for_which_the_predicate_is_true(engine: Engine, predicate: Expression, names: list[Any]) -> None:
    assert [row[1] for row in rows(engine, Filter(PEOPLE.leaf, predicate))] == names


def test_a_scans_filter_is_applied_exactly(engine: Engine) -> None:
    columns = tuple(ScanColumn(c.id, c.name, c.type, f"c{c.id}") for c in PEOPLE.leaf.columns)
    scan = Scan(
        table_uuid="u",
        table=RelationName("doc", "people"),
        columns=columns,
        filter=call("op_>", PEOPLE[2], lit(15, BIGINT)),
        limit=1,
    )
    assert len(rows(engine, scan)) == 4


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (SortKey(PEOPLE[1]), ["x", "x", "y", "z", None]),
        (SortKey(PEOPLE[1], is_descending=True, nulls_first=True), [None, "z", "y", "x", "x"]),
        (SortKey(PEOPLE[1], nulls_first=True), [None, "x", "x", "y", "z"]),
    ],
)
def test_order_and_where_nulls_stand(engine: Engine, key: SortKey, names: list[Any]) -> None:
    assert [row[1] for row in rows(engine, Sort(PEOPLE.leaf, (key,)))] == names


def test_an_order_survives_what_is_computed_above_it(engine: Engine) -> None:
    ordered_rows = Sort(PEOPLE.leaf, (SortKey(PEOPLE[2], is_descending=True), SortKey(PEOPLE[1])))
    upper = Project(ordered_rows, (item(20, call("upper", PEOPLE[1], result=TEXT)),))
    again = Project(upper, (item(21, call("op_||", Column(20, "x20", TEXT), lit("!", TEXT), result=TEXT)),))
    limited = Limit(again, lit(3, BIGINT), lit(1, BIGINT))
    assert rows(engine, limited) == [("Z!",), (None,), ("Y!",)]
    assert rows(engine, Project(limited, (item(22, Column(21, "x21", TEXT)),))) == [("Z!",), (None,), ("Y!",)]


@pytest.mark.parametrize(
    ("count", "offset", "expected"),
    [(lit(2, BIGINT), None, 2), (lit(None, BIGINT), lit(3, BIGINT), 2), (lit(0, BIGINT), None, 0), (None, None, 5)],
)
def test_limit_and_offset(engine: Engine, count: Any, offset: Any, expected: int) -> None:
    assert len(rows(engine, Limit(PEOPLE.leaf, count, offset))) == expected


def test_a_negative_limit_is_refused(engine: Engine) -> None:
    with pytest.raises(errors.BadRequest, match="invalid LIMIT: value must be >= 0; got: -1"):
        rows(engine, Limit(PEOPLE.leaf, lit(-1, BIGINT)))


def test_a_select_without_from_has_one_row(engine: Engine) -> None:
    project = Project(ONE_ROW, (item(1, lit("it's \\ \0", TEXT)), item(2, call("now", result=TIMESTAMPTZ))))
    assert rows(engine, project) == [("it's \\ \0", 1_700_000_000_123)]


def test_rows_without_columns_are_still_rows(engine: Engine) -> None:
    assert rows(engine, Project(PEOPLE.leaf, ())) == [()] * 5
    counted = Aggregation(Project(PEOPLE.leaf, ()), (), (item(9, aggregate("count")),))
    assert rows(engine, counted) == [(5,)]


def test_a_branch_not_taken_is_not_evaluated(engine: Engine) -> None:
    quotient = call("op_/", lit(10), call("op_-", PEOPLE[0], lit(1), result=INTEGER), result=INTEGER)
    guarded = Case((Branch(call("op_=", PEOPLE[0], lit(1)), lit(0)),), quotient, INTEGER)
    assert [row[0] for row in rows(engine, Project(PEOPLE.leaf, (item(20, guarded),)))] == [0, 10, None, 3, 0]


def test_objects_are_built_and_taken_apart(engine: Engine) -> None:
    built = call("_map", lit("k", TEXT), PEOPLE[0], lit("o", TEXT), lit({"a": [1]}, OBJECT), result=OBJECT)
    part = call("subscript", built, lit("k", TEXT), result=INTEGER)
    found = rows(engine, Project(Limit(PEOPLE.leaf, lit(1, BIGINT)), (item(20, built), item(21, part))))
    assert found == [({"k": 1, "o": {"a": [1]}}, 1)]


# --- errors of rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        (cast(PEOPLE[1], INTEGER), errors.ValueConversionError, "Cannot cast value `x` to type `integer`"),
        (cast(PEOPLE[2], INTEGER), errors.ValueConversionError, f"Cannot cast value `{2**62}` to type `integer`"),
        (call("op_*", PEOPLE[2], PEOPLE[2], result=BIGINT), errors.RowOverflow, "long overflow"),
        (call("op_*", PEOPLE[0], lit(2**31 - 1), result=INTEGER), errors.RowOverflow, "integer overflow"),
        (call("op_/", lit(1), call("op_-", PEOPLE[0], PEOPLE[0], result=INTEGER), result=INTEGER), errors.RowDivisionByZero, "/ by zero"),
        (call("op_%", lit(1), call("op_-", PEOPLE[0], PEOPLE[0], result=INTEGER), result=INTEGER), errors.RowDivisionByZero, "/ by zero"),
        (call("sqrt", cast(call("op_-", lit(0), PEOPLE[0], result=INTEGER), DOUBLE), result=DOUBLE), errors.SQLParseError, "cannot take square root of a negative number"),
    ],
)  # fmt: skip
def test_a_row_that_fails_fails_the_query_in_our_words(
    engine: Engine, expression: Expression, error: type[errors.CrateError], message: str
) -> None:
    with pytest.raises(error) as raised:
        rows(engine, Project(PEOPLE.leaf, (item(20, expression),)))
    assert raised.value.message == message


def test_floats_do_not_fail(engine: Engine) -> None:
    zero = call("op_-", cast(PEOPLE[0], DOUBLE), cast(PEOPLE[0], DOUBLE), result=DOUBLE)
    quotient = call("op_/", cast(PEOPLE[0], DOUBLE), zero, result=DOUBLE)
    assert rows(engine, Project(Limit(PEOPLE.leaf, lit(1, BIGINT)), (item(20, quotient),))) == [(float("inf"),)]


DAYS = call("op_*", lit([0, 1, 0], INTERVAL), PEOPLE[0], result=INTERVAL)

# --- aggregation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (aggregate("count"), 5),
        (aggregate("count", PEOPLE[0]), 4),
        (aggregate("count", PEOPLE[1], is_distinct=True), 3),
        (aggregate("count", filter=call("op_=", PEOPLE[1], lit("x", TEXT))), 2),
        (aggregate("sum", PEOPLE[0]), 8),
        (aggregate("sum", PEOPLE[0], is_distinct=True), 7),
        (aggregate("min", PEOPLE[1], result=TEXT), "x"),
        (aggregate("max", PEOPLE[2]), 2**62),
        (aggregate("avg", PEOPLE[0], result=DOUBLE), 2.0),
        (aggregate("avg", cast(PEOPLE[0], NUMERIC), result=NUMERIC), "2"),
        (aggregate("sum", cast(PEOPLE[2], NUMERIC), result=NUMERIC), str(2**63 + 60)),
        (aggregate("array_agg", PEOPLE[0], result=INTEGERS), [1, 2, None, 4, 1]),
        (aggregate("array_agg", PEOPLE[0], result=INTEGERS, order_by=(SortKey(PEOPLE[0], True, True),)), [None, 4, 2, 1, 1]),
        (aggregate("string_agg", PEOPLE[1], lit("-", TEXT), result=TEXT), "x-y-x-z"),
        (aggregate("any_value", PEOPLE[1], result=TEXT), "x"),
        (aggregate("min_by", PEOPLE[1], PEOPLE[2], result=TEXT), "x"),
        (aggregate("max_by", PEOPLE[2], PEOPLE[1]), 2**62),
        (aggregate("percentile", PEOPLE[0], lit(0.5, DOUBLE), result=DOUBLE), 2.0),
        (aggregate("percentile", PEOPLE[0], lit([0.0, 1.0], array_of(DOUBLE)), result=array_of(DOUBLE)), [1.0, 4.0]),
        (aggregate("percentile", DAYS, lit(0.5, DOUBLE), result=INTERVAL), [0, 2, 0]),
        (aggregate("stddev_pop", PEOPLE[0], result=DOUBLE), 1.224744871391589),
        (aggregate("variance", PEOPLE[0], result=DOUBLE), 1.5),
        (aggregate("geometric_mean", PEOPLE[0], result=DOUBLE), 1.681792830507429),
        (aggregate("hyperloglog_distinct", PEOPLE[0]), 3),
        (aggregate("bool_and", call("op_>", PEOPLE[0], lit(0)), result=BOOLEAN), True),
    ],
)  # fmt: skip
def test_aggregates_of_all_rows(engine: Engine, expression: Any, expected: Any) -> None:
    ((found,),) = rows(engine, Aggregation(PEOPLE.leaf, (), (item(20, expression),)))
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected


def test_aggregates_of_nothing(engine: Engine) -> None:
    nothing = Filter(PEOPLE.leaf, call("op_isnull", lit(1)))
    items = (
        item(20, aggregate("count")),
        item(21, aggregate("sum", PEOPLE[0])),
        item(22, aggregate("array_agg", PEOPLE[0], result=INTEGERS)),
        item(23, aggregate("max", PEOPLE[1], result=TEXT)),
        item(24, aggregate("stddev_samp", PEOPLE[0], result=DOUBLE)),
    )
    assert rows(engine, Aggregation(nothing, (), items)) == [(0, None, [], None, None)]
    assert rows(engine, Aggregation(nothing, (item(25, PEOPLE[1]),), items)) == []


def test_a_sum_that_overflows_is_an_error_and_one_that_only_would_on_the_way_is_not(engine: Engine) -> None:
    total = Aggregation(PEOPLE.leaf, (), (item(20, aggregate("sum", PEOPLE[2])),))
    with pytest.raises(errors.RowOverflow, match="long overflow"):
        rows(engine, total)
    both = SetOperation(
        kind="union_all",
        children=(Project(PEOPLE.leaf, (item(30, PEOPLE[2]),)), Values(rows=((lit(-(2**62), BIGINT),),), columns=(OutputColumn(31, "v", BIGINT),))),
        columns=(OutputColumn(32, "v", BIGINT),),
    )  # fmt: skip
    summed = Aggregation(both, (), (item(33, aggregate("sum", Column(32, "v", BIGINT))),))
    assert rows(engine, summed) == [(2**62 + 60,)]


def test_groups_by_a_computed_key_and_null_is_a_group(engine: Engine) -> None:
    key = item(20, call("upper", PEOPLE[1], result=TEXT))
    grouped = Aggregation(PEOPLE.leaf, (key,), (item(21, aggregate("count")),))
    assert ordered(rows(engine, grouped)) == [("X", 2), ("Y", 1), ("Z", 1), (None, 1)]
    assert ordered(rows(engine, Aggregation(PEOPLE.leaf, (item(20, PEOPLE[1]),), ()))) == [
        ("x",),
        ("y",),
        ("z",),
        (None,),
    ]


# --- windows ---------------------------------------------------------------------------------------------------------


def by_value(name: str, *arguments: Expression, result: DataType = INTEGER, **more: Any) -> Window:
    return Window(name, arguments, result, order_by=(SortKey(PEOPLE[2]), SortKey(PEOPLE[1])), **more)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (by_value("row_number"), [1, 2, 3, 4, 5]),
        (Window("rank", (), INTEGER, order_by=(SortKey(PEOPLE[2]),)), [1, 2, 3, 4, 4]),
        (Window("dense_rank", (), INTEGER, order_by=(SortKey(PEOPLE[2]),)), [1, 2, 3, 4, 4]),
        (by_value("lag", PEOPLE[1], lit(1), lit("none", TEXT), result=TEXT), ["none", "x", "y", None, "x"]),
        (by_value("lead", PEOPLE[1], result=TEXT), ["y", None, "x", "z", None]),
        (by_value("first_value", PEOPLE[1], result=TEXT), ["x", "x", "x", "x", "x"]),
        (by_value("nth_value", PEOPLE[1], lit(2), result=TEXT), [None, "y", "y", "y", "y"]),
        (by_value("sum", PEOPLE[0], result=BIGINT), [1, 3, 3, 7, 8]),
        (by_value("count", PEOPLE[0], result=BIGINT, filter=call("op_>", PEOPLE[0], lit(1))), [0, 1, 1, 2, 2]),
        (
            by_value(
                "sum",
                PEOPLE[0],
                result=BIGINT,
                frame=Frame("rows", FrameBound("preceding", lit(1)), FrameBound("current_row")),
            ),
            [1, 3, 2, 4, 5],
        ),
        (by_value("lag", PEOPLE[0], result=INTEGER, ignores_nulls=True), [None, 1, 2, 2, 4]),
    ],
)
def test_window_functions(engine: Engine, function: Window, expected: list[Any]) -> None:
    calculated = WindowCalculation(PEOPLE.leaf, (item(20, function),))
    in_order = Sort(calculated, (SortKey(PEOPLE[2]), SortKey(PEOPLE[1])))
    assert [row[3] for row in rows(engine, in_order)] == expected


def test_a_range_of_another_type_than_its_key_is_refused(engine: Engine) -> None:
    frame = Frame("range", FrameBound("preceding", lit([0, 1, 0], DataType("interval"))), FrameBound("current_row"))
    function = Window("sum", (PEOPLE[0],), BIGINT, order_by=(SortKey(PEOPLE[2]),), frame=frame)
    with pytest.raises(errors.SQLParseError, match="RANGE with an offset of type `interval`"):
        rows(engine, WindowCalculation(PEOPLE.leaf, (item(20, function),)))


def test_a_window_function_whose_argument_must_be_constant_says_so(engine: Engine) -> None:
    with pytest.raises(errors.UnsupportedFeature, match="Arguments of this window function must be constants"):
        rows(engine, WindowCalculation(PEOPLE.leaf, (item(20, by_value("ntile", PEOPLE[0])),)))


# --- joins, set operations -------------------------------------------------------------------------------------------

SAME = call("op_=", PEOPLE[0], PETS[0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [("x", "p"), ("x", "q"), ("x", "s"), ("z", "p"), ("z", "s")]),
        ("left", [("x", "p"), ("x", "q"), ("x", "s"), ("y", None), ("z", "p"), ("z", "s"), (None, None)]),
        ("right", [("x", "p"), ("x", "q"), ("x", "s"), ("z", "p"), ("z", "s"), (None, "r"), (None, None)]),
        ("full", [("x", "p"), ("x", "q"), ("x", "s"), ("y", None), ("z", "p"), ("z", "s"), (None, "r"), (None, None), (None, None)]),
        ("semi", [("x",), ("x",), ("z",)]),
        ("anti", [("y",), (None,)]),
    ],
)  # fmt: skip
def test_null_keys_never_meet(engine: Engine, kind: str, expected: list[Any]) -> None:
    join = Join(kind, PEOPLE.leaf, PETS.leaf, SAME)
    columns = [PEOPLE[1]] if kind in ("semi", "anti") else [PEOPLE[1], PETS[1]]
    project = Project(join, tuple(Item(c.id, c.name, c) for c in columns))
    assert ordered(rows(engine, project)) == expected


def test_joins_without_an_equality(engine: Engine) -> None:
    less = call("op_<", PEOPLE[0], PETS[0])
    assert len(rows(engine, Join("inner", PEOPLE.leaf, PETS.leaf, less))) == 7
    assert len(rows(engine, Join("left", PEOPLE.leaf, PETS.leaf, less))) == 8
    assert len(rows(engine, Join("full", PEOPLE.leaf, PETS.leaf, less))) == 11
    assert len(rows(engine, Join("cross", PEOPLE.leaf, PETS.leaf, None))) == 25
    assert len(rows(engine, Join("anti", PEOPLE.leaf, PETS.leaf, less))) == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("union_all", [("x",), ("x",), ("x",), ("y",), ("z",), (None,), (None,)]),
        ("union", [("x",), ("y",), ("z",), (None,)]),
        ("intersect", [("x",), (None,)]),
        ("except", [("y",), ("z",)]),
    ],
)
def test_set_operations_take_nulls_for_equal(engine: Engine, kind: str, expected: list[Any]) -> None:
    few = Values(rows=((lit("x", TEXT),), (lit(None, TEXT),)), columns=(OutputColumn(30, "a", TEXT),))
    operation = SetOperation(
        kind=kind, children=(Project(PEOPLE.leaf, (item(31, PEOPLE[1]),)), few), columns=(OutputColumn(32, "b", TEXT),)
    )
    assert ordered(rows(engine, operation)) == expected


@pytest.mark.parametrize(("kind", "count"), [("union_all", 1_000), ("union", 2)])
def test_a_thousand_operands_are_not_too_deep_for_the_engine(engine: Engine, kind: str, count: int) -> None:
    children = tuple(
        Values(rows=((lit(i % 2),),), columns=(OutputColumn(100 + i, "a", INTEGER),)) for i in range(1_000)
    )
    operation = SetOperation(kind=kind, children=children, columns=(OutputColumn(32, "b", INTEGER),))
    assert len(rows(engine, operation)) == count


def test_a_union_with_a_constant_column_can_be_ordered_by_it(engine: Engine) -> None:
    """The engine's planner refuses this if it may sort the branches one by one."""
    first = Project(PEOPLE.leaf, (item(30, lit("a", TEXT)), item(31, PEOPLE[0]), item(32, PEOPLE[0])))
    second = Project(PEOPLE.leaf, (item(33, PEOPLE[1]), item(34, PEOPLE[0]), item(35, lit(7))))
    columns = (OutputColumn(36, "a", TEXT), OutputColumn(37, "b", INTEGER), OutputColumn(38, "c", INTEGER))
    union = SetOperation(kind="union_all", children=(first, second), columns=columns)
    keys = [Column(c.id, c.name, c.type) for c in columns]
    found = rows(engine, Sort(union, (SortKey(keys[1]), SortKey(keys[0], True, True), SortKey(keys[2]))))
    assert found[:4] == [("z", 1, 7), ("x", 1, 7), ("a", 1, 1), ("a", 1, 1)]


# --- rows from functions ---------------------------------------------------------------------------------------------


def test_a_series_ends_at_the_largest_number(engine: Engine) -> None:
    top = 2**63 - 1
    assert rows(engine, series(top - 1, top)) == [(top - 1,), (top,)]
    counted = Aggregation(
        series(top - 300_000, top),
        (),
        (item(60, aggregate("count")), item(61, aggregate("max", Column(50, "g", BIGINT)))),
    )
    assert rows(engine, counted) == [(300_001, top)]


def test_series_downwards_and_of_timestamps(engine: Engine) -> None:
    assert rows(engine, series(3, 1, -1)) == [(3,), (2,), (1,)]
    assert rows(engine, series(1, 0)) == []
    months = TableFunction(
        function="generate_series",
        arguments=(lit(2_592_000_000, TIMESTAMP), lit(10_108_800_000, TIMESTAMP), lit([1, 0, 0], DataType("interval"))),
        columns=(OutputColumn(50, "g", TIMESTAMP),),
    )
    assert rows(engine, months) == [(2_592_000_000,), (5_011_200_000,), (7_430_400_000,), (10_108_800_000,)]


def test_unnest_pads_the_shorter_array(engine: Engine) -> None:
    unnest = TableFunction(
        function="unnest",
        arguments=(lit([1, 2, 3], INTEGERS), lit([["a"], ["b"]], array_of(array_of(TEXT)))),
        columns=(OutputColumn(50, "a", INTEGER), OutputColumn(51, "b", TEXT), OutputColumn(52, "n", BIGINT)),
        with_ordinality=True,
    )
    assert rows(engine, unnest) == [(1, "a", 1), (2, "b", 2), (3, None, 3)]


def test_sets_in_the_select_list_run_in_step(engine: Engine) -> None:
    values = Values(
        rows=((lit([1, 2], INTEGERS),), (lit([], INTEGERS),), (lit(None, INTEGERS),)),
        columns=(OutputColumn(40, "a", INTEGERS),),
    )
    array = Column(40, "a", INTEGERS)
    one = ProjectSet(values, (item(41, call("unnest", array, result=INTEGER)),))
    assert [row[1] for row in rows(engine, one)] == [1, 2]
    two = ProjectSet(
        Limit(values, lit(1, BIGINT)),
        (
            item(41, call("unnest", array, result=INTEGER)),
            item(42, call("generate_series", lit(5), lit(7), result=INTEGER)),
        ),
    )
    assert [row[1:] for row in rows(engine, two)] == [(1, 5), (2, 6), (None, 7)]


@pytest.mark.parametrize(("is_distinct", "expected"), [(False, [1, 2, 3, 4, 5]), (True, [0, 1, 2, 3])])
def test_a_recursive_query_runs_until_nothing_comes(engine: Engine, is_distinct: bool, expected: list[int]) -> None:
    number = Column(71, "n", INTEGER)
    next_number: Expression = call("op_+", number, lit(1), result=INTEGER)
    reference: Relation = RecursiveReference("r", (OutputColumn(71, "n", INTEGER),))
    if is_distinct:
        next_number = call("op_%", next_number, lit(4), result=INTEGER)
    else:
        reference = Filter(reference, call("op_<", number, lit(5)))
    query = RecursiveQuery(
        name="r",
        base=Values(rows=((lit(1),),), columns=(OutputColumn(70, "n", INTEGER),)),
        step=Project(reference, (item(72, next_number),)),
        columns=(OutputColumn(73, "n", INTEGER),),
        is_distinct=is_distinct,
    )
    assert sorted(row[0] for row in rows(engine, query)) == expected


# --- small batches, partitions, memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 1000])
def test_evaluate_is_the_same_for_few_and_for_many_rows(engine: Engine, repeats: int) -> None:
    given = rows_input(PEOPLE.leaf.columns, PEOPLE.rows * repeats).partitions[0][0]
    items = (
        item(20, call("op_+", PEOPLE[0], lit(1), result=INTEGER)),
        item(21, PEOPLE[1]),
        item(22, Cast(PEOPLE[2], TEXT)),
        item(23, lit([1], INTEGERS)),
    )
    batch = engine.evaluate(items, given, CONTEXT)
    assert batch.schema.names == ["c20", "c21", "c22", "c23"]
    assert from_arrow(batch.column(0), INTEGER)[:5] == [2, 3, None, 5, 2]
    assert batch.num_rows == given.num_rows


def test_rows_are_partitioned_by_the_hash_of_their_keys(engine: Engine) -> None:
    numbers = [(n % 100, str(n % 100)) for n in range(1_000)]
    table = rows_input((OutputColumn(1, "a", INTEGER), OutputColumn(2, "b", TEXT)), numbers)
    leaf = ExchangeInput(0, table.columns)

    async def main(keys: tuple[int, ...]) -> dict[Any, set[int]]:
        seen: dict[Any, set[int]] = {}
        async with engine.open(leaf, [table], CONTEXT, partition_by=keys, partition_count=7) as stream:
            while (received := await stream.receive()) is not None:
                partition, batch = received
                for row in batch.to_pylist():
                    seen.setdefault(tuple(row[f"c{key}"] for key in keys), set()).add(partition)
        return seen

    for keys in ((1,), (2,), (1, 2)):
        seen = trio.run(main, keys)
        assert len(seen) == 100
        assert all(len(partitions) == 1 for partitions in seen.values())
        assert len(set.union(*seen.values())) == 7


def test_a_hash_does_not_change_between_processes() -> None:
    columns = (OutputColumn(1, "a", BIGINT), OutputColumn(2, "b", TEXT), OutputColumn(3, "c", DOUBLE))
    batch = rows_input(columns, [(1, "a", 0.0), (2, None, -0.0), (None, "ä" * 20, float("nan"))]).partitions[0][0]
    targets = [
        [
            target
            for target, part in partitioned(batch.slice(row, 1), (0, 1, 2), 1_000_003)
            for _ in range(part.num_rows)
        ]
        for row in range(3)
    ]
    assert targets == GOLDEN_TARGETS


GOLDEN_TARGETS = [[54039], [35562], [401674]]


def test_a_join_too_large_for_its_memory_is_done_by_sorting(tmp_path: Path) -> None:
    small = Engine(memory_bytes=24 * 1024 * 1024, spill_path=tmp_path, partitions=2)
    left = (OutputColumn(1, "a", BIGINT), OutputColumn(2, "b", TEXT))
    right = (OutputColumn(3, "a", BIGINT), OutputColumn(4, "b", TEXT))

    def table(columns: tuple[OutputColumn, ...], count: int) -> FragmentInput:
        keys = pa.array(np.random.default_rng(1).permutation(count))
        texts = pa.array([f"{n:0100d}" for n in range(count)], pa.string_view())
        schema = arrow_schema(columns)
        return FragmentInput(columns, [pa.Table.from_arrays([keys, texts], schema=schema).to_batches(65_536)])

    condition = call("op_=", Column(1, "a", BIGINT), Column(3, "a", BIGINT))
    join = Join("inner", ExchangeInput(0, left), ExchangeInput(1, right), condition)
    counted = Aggregation(
        join, (), (item(9, aggregate("max", Column(4, "b", TEXT), result=TEXT)), item(10, aggregate("count")))
    )

    async def main() -> Any:
        async with small.open(counted, [table(left, 300_000), table(right, 300_000)], CONTEXT) as stream:
            received = await stream.receive()
            assert received is not None
            return received[1].to_pylist()[0]["c10"]

    assert trio.run(main) == 300_000
    small.close()


def test_a_fragment_can_be_read_as_sql(engine: Engine) -> None:
    grouped = Aggregation(
        Filter(PEOPLE.leaf, call("op_<", PEOPLE[0], lit(3))), (item(20, PEOPLE[1]),), (item(21, aggregate("count")),)
    )
    top = Limit(Sort(grouped, (SortKey(Column(21, "x21", BIGINT), True, True),)), lit(3, BIGINT))
    assert engine.explain(top, inputs_of(top), CONTEXT) == (
        "SELECT c20, c21 FROM (SELECT c2 AS c20, count(*) AS c21 FROM i0 "
        "WHERE (c1 < CAST(3 AS INT)) GROUP BY c2) AS r1 ORDER BY c21 DESC NULLS FIRST LIMIT 3"
    )
    assert [column.id for column in output_columns(top)] == [20, 21]
