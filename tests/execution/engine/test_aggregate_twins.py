"""Aggregates are computed by the engine, by kernels over lists and in Python: over any rows they agree with the Python
collectors, grouped and not, with FILTER and ORDER BY inside, and over windows.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cratepy import errors
from cratepy.execution.engine.engine import Engine
from cratepy.functions.collectors import collector
from cratepy.functions.values import numeric_text, order_key
from cratepy.model.arrow import UNCONSTRAINED_SCALE
from cratepy.model.expressions import Aggregate, Call, Column, Expression, Frame, FrameBound, Literal, SortKey, Window
from cratepy.model.relations import Aggregation, Item, Relation, WindowCalculation
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    IP,
    NUMERIC,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    DataType,
    array_of,
    numeric,
)
from tests.execution.engine.tables import TABLES, Table, rows
from tests.execution.engine.test_twins import MONEY, values_of

OBJECT = DataType("object", policy="dynamic")
LONG = numeric(38, 4)
NUMBERS = (BYTE, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE)
KINDS = (*NUMBERS, NUMERIC, MONEY, LONG, BOOLEAN, TEXT, IP, UUID, TIMESTAMP, TIMESTAMPTZ, DATE, INTERVAL)
Row = tuple[Any, ...]


def text_of(digits: int, kind: DataType) -> str:
    scale = UNCONSTRAINED_SCALE if kind.scale is None else kind.scale
    return numeric_text(decimal.Decimal(digits).scaleb(-scale, decimal.Context(prec=60)), kind)


def values(kind: DataType) -> st.SearchStrategy[Any]:
    if kind == LONG:
        return st.none() | st.integers(-(10**24) + 1, 10**24 - 1).map(lambda digits: text_of(digits, LONG))
    known = st.sampled_from(values_of(kind))
    match kind.kind:
        case "double precision":
            return known | st.floats(allow_nan=False) | st.integers(-3, 9).map(float)
        case "bigint":
            return known | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)
        case "text":
            return known | st.text(max_size=20)
        case "numeric" if kind == NUMERIC:
            return known | st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: text_of(digits, NUMERIC))
    return known


def tables(kind: DataType) -> st.SearchStrategy[list[Row]]:
    """Rows of a group, a value, whether the filter takes it, another value, and a number of their own."""
    row = st.tuples(st.integers(0, 3), values(kind), st.booleans(), values(TEXT))
    return st.lists(row, max_size=40).map(lambda found: [(*one, number) for number, one in enumerate(found)])


def aggregates(
    kind: DataType, value: Expression, other: Expression
) -> list[tuple[str, tuple[Expression, ...], DataType]]:
    found: list[tuple[str, tuple[Expression, ...], DataType]] = [
        ("count", (value,), BIGINT),
        ("any_value", (value,), kind),
        ("array_agg", (value,), array_of(kind)),
        ("collect_set", (value,), array_of(kind)),
        ("hyperloglog_distinct", (value,), BIGINT),
        ("hyperloglog_distinct", (value, Literal(14, INTEGER)), BIGINT),
        ("min", (value,), kind),
        ("max", (value,), kind),
        ("min_by", (other, value), TEXT),
        ("max_by", (other, value), TEXT),
        ("max_by", (value, other), kind),
        ("topk", (value,), OBJECT),
        ("topk", (value, Literal(2, INTEGER)), OBJECT),
        ("string_agg", (other, Literal(", ", TEXT)), TEXT),
        ("string_agg", (other, Literal(None, TEXT)), TEXT),
        ("string_agg", (other, other), TEXT),
    ]
    if kind in NUMBERS:
        found += [
            ("median", (value,), DOUBLE),
            ("geometric_mean", (value,), DOUBLE),
            ("percentile", (value, Literal(0.9, DOUBLE)), DOUBLE),
            ("percentile", (value, Literal([0.0, 0.5, 1.0], array_of(DOUBLE))), array_of(DOUBLE)),
            ("percentile", (value, Literal(0.3, DOUBLE), Literal(100.0, DOUBLE)), DOUBLE),
        ]
    if kind.kind == "numeric":
        found.append(("avg", (value,), NUMERIC))
    return found


def is_good(found: Any, function: str, types: Sequence[DataType], result: DataType, given: list[Row]) -> bool:
    """``given``: for each row of the group the values of the arguments."""
    columns = [list(column) for column in zip(*given, strict=True)] if given else [[] for _ in types]
    if function == "any_value":
        present = [value for value in columns[0] if value is not None]
        return any(is_same(found, value) for value in present) if present else found is None
    if function in ("min_by", "max_by", "min", "max"):
        pairs = [(row[0], order_key(row[-1], types[-1])) for row in given if row[-1] is not None]
        best = (min if function.startswith("min") else max)((key for _, key in pairs), default=None)
        return any(is_same(found, value) for value, key in pairs if key == best) if pairs else found is None
    if function in ("percentile", "median") and types[0] in (REAL, DOUBLE):
        columns[0] = sorted((v for v in columns[0] if v is not None), key=lambda v: (math.isnan(v), v))
        if any(math.isnan(v) for v in columns[0]):
            return True  # Python sorts NaN anywhere; see the test of its own.
    if function == "topk" and not given:
        return bool(found == {})
    wanted = collector(function, tuple(types), result)(*columns)
    if function == "topk":
        wanted = msgspec.json.decode(msgspec.json.encode(wanted))
    if function == "geometric_mean" and wanted is not None and not math.isnan(wanted):
        return found is not None and math.isclose(found, wanted, rel_tol=1e-9)
    return is_same(found, wanted)


def is_same(left: Any, right: Any) -> bool:
    """Also of NaN; 0.0 and -0.0 are two values in lists (of sets), one by itself."""
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    return repr(left) == repr(right)


def arguments_of(arguments: tuple[Expression, ...], given: list[Row], table: Table) -> list[Row]:
    places = {column.id: place for place, column in enumerate(table.leaf.columns)}
    return [
        tuple(row[places[a.id]] if isinstance(a, Column) else a.value for a in arguments)  # type: ignore[union-attr]
        for row in given
    ]


@functools.cache
def phase(kind: DataType) -> int:
    return 100 + len(TABLES)


def table_of(kind: DataType, given: list[Row]) -> Table:
    table = Table(phase(kind), 1, (INTEGER, kind, BOOLEAN, TEXT, INTEGER), given)
    TABLES[phase(kind)] = table
    return table


RELAXED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(
    engine: Engine, relation: Relation, keys: int, wanted: list[Any], groups: dict[Row, list[Row]], table: Table
) -> None:
    found = {row[:keys]: row[keys:] for row in rows(engine, relation)}
    assert found.keys() == groups.keys()
    for key, answers in found.items():
        for answer, (function, arguments, result) in zip(answers, wanted, strict=True):
            given_values = arguments_of(arguments, groups[key], table)
            types = [argument.type for argument in arguments]
            assert is_good(answer, function, types, result, given_values), (function, types, given_values, answer)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_aggregates_agree_with_python(engine: Engine, kind: DataType) -> None:
    @RELAXED
    @given(tables(kind), st.booleans(), st.booleans(), st.booleans())
    def agree(given: list[Row], is_grouped: bool, has_filter: bool, is_ordered: bool) -> None:
        table = table_of(kind, given)
        wanted = aggregates(kind, table[1], table[3])
        if is_ordered:
            given = sorted(given, key=lambda row: -row[4])
        order = (SortKey(table[4], is_descending=True),) if is_ordered else ()
        condition = table[2] if has_filter else None
        items = tuple(
            Item(50 + n, "x", Aggregate(function, arguments, result, filter=condition, order_by=order))
            for n, (function, arguments, result) in enumerate(wanted)
        )
        groups: dict[Row, list[Row]] = {} if is_grouped else {(): []}
        for row in given:
            group = groups.setdefault((row[0],) if is_grouped else (), [])
            if not has_filter or row[2]:
                group.append(row)
        keys = (Item(40, "k", table[0]),) if is_grouped else ()
        check(engine, Aggregation(table.leaf, keys, items), len(keys), wanted, groups, table)

    agree()


@pytest.mark.parametrize("kind", [BIGINT, DOUBLE, NUMERIC, TEXT, INTERVAL], ids=lambda kind: kind.name)
def test_aggregates_over_windows_agree_with_python(engine: Engine, kind: DataType) -> None:
    @RELAXED
    @given(tables(kind), st.booleans(), st.booleans())
    def agree(given: list[Row], has_filter: bool, is_sliding: bool) -> None:
        table = table_of(kind, given)
        wanted = aggregates(kind, table[1], table[3])
        condition = table[2] if has_filter else None
        order = (SortKey(table[4]),)
        frame = Frame("rows", FrameBound("preceding", Literal(1, INTEGER)), FrameBound("current_row"))
        common = {"partition_by": (table[0],), "order_by": order, "filter": condition}
        items = tuple(
            Item(50 + n, "x", Window(f, arguments, result, frame=frame if is_sliding else None, **common))  # type: ignore[arg-type]
            for n, (f, arguments, result) in enumerate(wanted)
        )
        found = rows(engine, WindowCalculation(table.leaf, items))
        assert len(found) == len(given)
        by_number = {row[4]: row[5:] for row in found}
        for row in given:
            before = [other for other in given if other[0] == row[0] and other[4] <= row[4]]
            seen = [other for other in before[-2 if is_sliding else 0 :] if other[2] or not has_filter]
            for answer, (function, arguments, result) in zip(by_number[row[4]], wanted, strict=True):
                types = [argument.type for argument in arguments]
                values = arguments_of(arguments, seen, table)
                assert is_good(answer, function, types, result, values), (function, types, values, answer)

    agree()


def answer(engine: Engine, kind: DataType, given: list[Any], function: str, *more: Any, **options: Any) -> Any:
    """One aggregate of a column; ``more`` are its result type and further arguments."""
    result, *arguments = more
    table = table_of(kind, [(0, value, True, None, number) for number, value in enumerate(given)])
    aggregate = Aggregate(function, (table[1], *arguments), result, **options)
    ((found,),) = rows(engine, Aggregation(table.leaf, (), (Item(50, "x", aggregate),)))
    return found


NUMBERS_WITH_NAN = [math.nan, 3.0, -math.inf, None, 1.0, math.nan, math.inf]


def test_nan_is_the_largest_number_of_a_percentile(engine: Engine) -> None:
    fractions = Literal([0.0, 0.2, 0.5, 0.7, 1.0], array_of(DOUBLE))
    found = answer(engine, DOUBLE, NUMBERS_WITH_NAN, "percentile", array_of(DOUBLE), fractions)
    assert repr(found) == repr([-math.inf, 1.0, math.inf, math.nan, math.nan])
    assert answer(engine, DOUBLE, NUMBERS_WITH_NAN[:-1], "median", DOUBLE) == 3.0


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("percentile", (Literal(1.5, DOUBLE),), r"q should be in \[0,1\], got 1.5"),
        ("percentile", (Literal(None, DOUBLE),), "no fraction value specified"),
        ("percentile", (Literal([], array_of(DOUBLE)),), "no fraction value specified"),
        ("topk", (Literal(0, INTEGER),), "Limit parameter for topk"),
        ("topk", (Literal(5, INTEGER), Literal(3, INTEGER)), "integer-power of 2"),
        ("hyperloglog_distinct", (Literal(3, INTEGER),), "precision must be"),
    ],
)
def test_a_wrong_argument_is_told(engine: Engine, function: str, arguments: Any, message: str) -> None:
    result = {"topk": OBJECT, "percentile": arguments[0].type, "hyperloglog_distinct": BIGINT}[function]
    with pytest.raises(errors.SQLParseError, match=message):
        answer(engine, DOUBLE, [1.0], function, result, *arguments)


def test_arguments_that_differ_from_row_to_row_are_those_of_the_first_row(engine: Engine) -> None:
    fraction = Call("op_/", (Column(5, "x5", INTEGER), Literal(2, INTEGER)), INTEGER)
    varying = Call("op_+", (fraction, Literal(0, INTEGER)), INTEGER)
    assert answer(
        engine, INTEGER, [7, 3, 5], "topk", OBJECT, Call("op_+", (varying, Literal(2, INTEGER)), INTEGER)
    ) == {
        "maximum_error": 0,
        "frequencies": [{"item": item, "estimate": 1, "lower_bound": 1, "upper_bound": 1} for item in (7, 3)],
    }


def test_distinct_values_are_taken_once(engine: Engine) -> None:
    texts = ["b", "a", None, "b", "a"]
    found = answer(engine, TEXT, texts, "string_agg", TEXT, Literal("+", TEXT), is_distinct=True)
    assert sorted(found.split("+")) == ["a", "b"]
    floats = [0.5, math.nan, 0.5, None, math.nan]
    assert answer(engine, DOUBLE, floats, "count", BIGINT, is_distinct=True) == 2
    assert answer(engine, NUMERIC, ["1", "2", "2", None], "avg", NUMERIC, is_distinct=True) == "1.5"
    assert answer(engine, DOUBLE, [2.0, 8.0, 2.0], "geometric_mean", DOUBLE, is_distinct=True) == pytest.approx(4.0)
    arrays = [[1, 2], [1, 2], None, [2]]
    assert answer(engine, array_of(INTEGER), arrays, "count", BIGINT, is_distinct=True) == 2


def test_an_average_of_numerics_is_exact_where_their_sum_has_more_digits_than_they(engine: Engine) -> None:
    largest = "99999999999999999999.000000000000000001"
    assert answer(engine, NUMERIC, [largest] * 5, "avg", NUMERIC) == largest
    assert answer(engine, NUMERIC, ["1", "1", "2"], "avg", NUMERIC) == "1.333333333333333333"
    with pytest.raises(errors.RowOverflow, match="more than 20 digits before the point"):
        answer(engine, LONG, ["1", "1000000000000000000000"], "avg", NUMERIC)


def test_many_groups_are_computed_alike(engine: Engine) -> None:
    given = [(number % 9_000, (number * 7) % 11, True, None, number) for number in range(40_000)]
    table = table_of(INTEGER, given)
    fractions = Literal([0.0, 0.5], array_of(DOUBLE))
    wanted = [
        ("percentile", (table[1], fractions), array_of(DOUBLE)),
        ("max_by", (table[4], table[1]), INTEGER),
        ("collect_set", (table[1],), array_of(INTEGER)),
    ]
    items = tuple(Item(50 + n, "x", Aggregate(f, arguments, kind)) for n, (f, arguments, kind) in enumerate(wanted))
    found = rows(engine, Aggregation(table.leaf, (Item(40, "k", table[0]),), items))
    groups: dict[int, list[Row]] = {}
    for row in given:
        groups.setdefault(row[0], []).append(row)
    assert len(found) == 9_000
    for key, percentiles, best, values in found:
        ordered = sorted(row[1] for row in groups[key])
        assert percentiles == [ordered[0], ordered[len(ordered) // 2]]
        assert best in [row[4] for row in groups[key] if row[1] == ordered[-1]]
        assert sorted(values) == sorted(set(ordered))


def test_values_that_would_take_more_memory_as_python_objects_than_the_engine_has_are_refused(tmp_path: Path) -> None:
    made = Engine(memory_bytes=16 * 1024 * 1024, spill_path=tmp_path, partitions=1)
    numerics = [str(number) for number in range(300_000)]
    try:
        with pytest.raises(errors.CircuitBreaking, match="needs more than the limit of 16777216 bytes"):
            answer(made, NUMERIC, numerics, "stddev_pop", NUMERIC)
        assert answer(made, NUMERIC, numerics[:1_000], "stddev_pop", NUMERIC) == "288.674990257209500438"
        # Groups are taken a few at a time: all of their values together are no reason to refuse.
        table = table_of(NUMERIC, [(n % 3_000, text, True, None, n) for n, text in enumerate(numerics)])
        items = (Item(50, "x", Aggregate("stddev_pop", (table[1],), NUMERIC)),)
        assert len(rows(made, Aggregation(table.leaf, (Item(40, "k", table[0]),), items))) == 3_000
    finally:
        made.close()


@pytest.mark.parametrize(("function", "kind", "size"), [("median", DOUBLE, 8), ("string_agg", TEXT, 100)])
def test_lists_whose_copies_would_not_fit_the_memory_are_refused(
    tmp_path: Path, function: str, kind: DataType, size: int
) -> None:
    made = Engine(memory_bytes=16 * 1024 * 1024, spill_path=tmp_path, partitions=1)
    values = [float(n) if kind == DOUBLE else "x" * size for n in range(10_000_000 // size)]
    more = () if kind == DOUBLE else (Literal("", TEXT),)
    try:
        with pytest.raises(errors.CircuitBreaking, match="needs more than the limit of 16777216 bytes"):
            answer(made, kind, values, function, kind, *more)
        few = answer(made, kind, values[:9], function, kind, *more)
        assert few == (4.0 if kind == DOUBLE else "x" * 900)
    finally:
        made.close()


def test_a_zero_that_left_the_frame_is_not_in_its_geometric_mean(engine: Engine) -> None:
    table = table_of(DOUBLE, [(0, value, True, None, n) for n, value in enumerate([2.0, 0.0, 8.0, 2.0])])
    frame = Frame("rows", FrameBound("preceding", Literal(1, INTEGER)), FrameBound("current_row"))
    mean = Window("geometric_mean", (table[1],), DOUBLE, order_by=(SortKey(table[4]),), frame=frame)
    found = sorted(rows(engine, WindowCalculation(table.leaf, (Item(50, "x", mean),))), key=lambda row: row[4])
    assert [row[5] for row in found] == pytest.approx([2.0, 0.0, 0.0, 4.0])
