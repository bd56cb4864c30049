"""Overloads: which one is chosen, what it gives, and CrateDB's words when there is none."""

from __future__ import annotations

from importlib import resources

import pytest

from cratepy.errors import FunctionUnknown
from cratepy.functions import registry
from cratepy.functions.aggregates import NATIVE_ORDER
from cratepy.functions.registry import (
    resolve,
    resolve_aggregate,
    resolve_table_function,
    resolve_window,
)
from cratepy.model.types import TEXT, array_of
from tests.functions.facts import type_of

#: operator, left, right, result: as CrateDB types the operands of every pair.
OPERATORS = """
+ byte byte integer; + smallint bigint bigint; + integer real real; + real double double; + bigint double double
+ integer numeric numeric; + double numeric numeric; + text integer integer; + text text integer; + undefined byte integer
+ integer timestamp timestamp; + bigint timestamp bigint; + real timestamp double; + numeric timestamp timestamp
+ integer date timestamptz; + date date timestamptz; + date timestamp timestamp; + undefined date timestamptz
+ timestamp interval timestamp; + interval timestamptz timestamptz; + date interval timestamp; + interval interval interval
- timestamp timestamp interval; - date date interval; - timestamp integer interval; - bigint timestamp bigint
- undefined timestamp interval; - date undefined interval; - date interval timestamp; - text date interval
* interval integer interval; * numeric interval interval; * text interval interval; * undefined interval interval
/ integer integer integer; / timestamp double double; / numeric date timestamptz; / undefined undefined integer
% byte integer integer; % real bigint real; % numeric text numeric
< text integer boolean; < byte boolean boolean; < real ip boolean; < timestamp text boolean
= integer bigint boolean; = text timetz boolean; = object object boolean
& integer bigint bigint; & double integer integer
|| text integer text; || boolean text text; || timestamp text text
""".replace("\n", ";").split(";")


@pytest.mark.parametrize("line", [line.strip() for line in OPERATORS if line.strip()])
def test_operators_are_typed_as_in_cratedb(line: str) -> None:
    operator, left, right, result = line.split()
    assert resolve(f"op_{operator}", [type_of(left), type_of(right)]).result_type == type_of(result)


@pytest.mark.parametrize(
    ("name", "types", "result"),
    [
        ("coalesce", "integer double", "double"),
        ("coalesce", "bigint boolean", "boolean"),
        ("coalesce", "text integer", "integer"),
        ("greatest", "integer bigint", "bigint"),
        ("round", "double", "bigint"),
        ("round", "real", "integer"),
        ("round", "numeric integer", "numeric"),
        ("abs", "smallint", "smallint"),
        ("op_||", "integer_array integer", "integer_array"),
        ("op_||", "undefined integer_array", "integer_array"),
        ("array_sum", "undefined", "bigint"),
        ("array_avg", "integer_array", "numeric"),
        ("date_trunc", "text timestamp", "timestamptz"),
        ("date_bin", "interval timestamptz integer", "timestamptz"),
        ("extract_epoch", "interval", "double"),
        ("subscript", "integer_array integer", "integer"),
        ("op_any_=", "integer bigint_array", "boolean"),
        ("power", "integer integer", "double"),
        ("pg_catalog.pg_typeof", "integer", "text"),
    ],
)
def test_functions_are_typed_as_in_cratedb(name: str, types: str, result: str) -> None:
    assert resolve(name, [type_of(kind) for kind in types.split()]).result_type == type_of(result)


@pytest.mark.parametrize(
    ("name", "types", "result"),
    [
        ("sum", "integer", "bigint"),
        ("sum", "real", "real"),
        ("sum", "numeric", "numeric"),
        ("avg", "integer", "double"),
        ("mean", "numeric", "numeric"),
        ("count", "text", "bigint"),
        ("count", "", "bigint"),
        ("array_agg", "text", "text_array"),
        ("percentile", "integer double_array", "double_array"),
        ("max", "timestamptz", "timestamptz"),
        ("min_by", "text integer", "text"),
        ("percentile", "interval double", "interval"),
        ("percentile", "interval double_array double", "interval_array"),
        ("string_agg", "integer text", "text"),
    ],
)
def test_aggregates_are_typed_as_in_cratedb(name: str, types: str, result: str) -> None:
    expected = array_of(type_of(result.removesuffix("_array"))) if result.endswith("_array") else type_of(result)
    kinds = [array_of(type_of(k[:-6])) if k.endswith("_array") else type_of(k) for k in types.split()]
    assert resolve_aggregate(name, kinds).result_type == expected


def test_an_unknown_function_is_called_unknown() -> None:
    with pytest.raises(FunctionUnknown) as raised:
        resolve("nosuch", [type_of("integer")], shown="nosuch(1)")
    assert raised.value.message == "Unknown function: nosuch(1)"
    assert raised.value.sqlstate == "42883"


def test_wrong_arguments_are_listed_with_the_right_ones() -> None:
    with pytest.raises(FunctionUnknown) as raised:
        resolve("op_not", [type_of("interval")], shown="(NOT x)")
    assert raised.value.message == "Invalid arguments in: (NOT x) with (interval). Valid types: (boolean)"


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("op_+", "interval integer"),
        ("op_-", "integer interval"),
        ("op_+", "boolean integer"),
        ("op_<", "object object"),
        ("op_negate", "byte"),
        ("op_negate", "date"),
        ("extract_week", "interval"),
        ("lower", ""),
        ("coalesce", ""),
    ],
)
def test_overloads_that_do_not_exist(name: str, types: str) -> None:
    with pytest.raises(FunctionUnknown, match="Invalid arguments in"):
        resolve(name, [type_of(kind) for kind in types.split()])


def test_table_functions_name_their_columns() -> None:
    nested = array_of(array_of(type_of("integer")))
    assert resolve_table_function("unnest", [nested]).columns == (("unnest", type_of("integer")),)
    two = resolve_table_function("unnest", [nested, array_of(TEXT)])
    assert two.columns == (("col1", type_of("integer")), ("col2", TEXT))
    series = resolve_table_function("generate_series", [type_of("integer"), type_of("bigint")])
    assert series.columns == (("generate_series", type_of("bigint")),)


def test_a_table_function_in_the_select_list_returns_a_set() -> None:
    resolution = resolve("generate_series", [type_of("integer"), type_of("integer")])
    assert resolution.returns_set
    assert resolution.result_type == type_of("integer")


def test_an_aggregate_may_be_a_window_function() -> None:
    assert resolve_window("sum", [type_of("integer")]).result_type == type_of("bigint")
    assert resolve_window("row_number", []).result_type == type_of("integer")
    assert registry.is_window("lag")
    assert not registry.is_window("sum")


def test_every_scalar_can_be_computed_row_by_row() -> None:
    for declaration in registry.SCALARS:
        assert (declaration.row is None) != (declaration.row_of is None), declaration.name


def test_every_function_has_a_name_for_regproc() -> None:
    """``procedures.txt`` of ``model`` names what is declared here, which the protocols, that print it, may not import."""
    text = resources.files("cratepy.model").joinpath("procedures.txt").read_text(encoding="ascii")
    assert text.split() == registry.function_names()


@pytest.mark.parametrize("kind", ["object", "integer_array", "geo_point"])
def test_values_without_an_order_have_no_extreme(kind: str) -> None:
    for name in ("min_by", "max_by"):
        with pytest.raises(FunctionUnknown):
            resolve_aggregate(name, [TEXT, type_of(kind)])


@pytest.mark.parametrize("kind", ["undefined", "character", "varchar(3)"])
def test_an_extreme_by_text_or_by_null_is_ordered_by_the_engine(kind: str) -> None:
    for name in ("min_by", "max_by"):
        assert resolve_aggregate(name, [type_of("integer"), type_of(kind)]).argument_types[1].kind in NATIVE_ORDER
