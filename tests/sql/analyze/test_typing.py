"""Literals that cannot be what is wanted of them, in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.sql.analyze.statements import AnalyzedQuery
from cratepy.sql.analyze.typing import data_type
from cratepy.sql.parse.tree import TypeName
from tests.sql.analyze.helpers import analysis, error_of, with_tables

STATE = with_tables(
    "create table x (id int, o object as (a int, c double, g object as (h int)), l array(object as (a int)))"
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{a = 'x'}", "Cannot cast object element `a` with value `x` to type `integer`"),
        ("{z = 'fine', c = 'abc'}", "Cannot cast object element `c` with value `abc` to type `double precision`"),
        ("{g = {h = 'x'}}", "Cannot cast object element `g` with value `{h=x}` to type `object`"),
        ("{g = 5}", "Cannot cast object element `g` with value `5` to type `object`"),
    ],
)
def test_the_element_of_an_object_that_does_not_fit_is_named(value: str, words: str) -> None:
    assert error_of(f"insert into x (id, o) values (1, {value})", STATE) == f"SQLParseException[{words}]"


@pytest.mark.parametrize(
    ("bits", "kind"), [(1, "real"), (24, "real"), (25, "double precision"), (53, "double precision")]
)
def test_a_float_has_the_width_that_its_bits_need(bits: int, kind: str) -> None:
    written = TypeName("float", (bits,))
    assert data_type(written).kind == kind


@pytest.mark.parametrize("written", ["float(0)", "float(54)", "float(1, 2)", "double(5)", "int(4)"])
def test_other_numbers_of_bits_are_refused(written: str) -> None:
    assert error_of(f"create table y (a {written})", STATE).startswith("SQLParseException[")


def test_a_table_cannot_have_a_column_of_no_known_type() -> None:
    ignoring = with_tables("create table loose (id int, o object(ignored))")
    assert error_of("create table y as select o['k'] as k from loose", ignoring).startswith(
        "UnsupportedFeatureException[Type `UNDEFINED` does not support storage"
    )


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("not [true]", "(NOT [true]) with (boolean_array). Valid types: (boolean)"),
        ("not id::timestamp", "(NOT cast(doc.x.id AS TIMESTAMP WITHOUT TIME ZONE)) with (timestamp without time zone)"),
        ("[id, {b = 1}]", "[doc.x.id, {b = 1}] with (integer, object). Valid types: (E)"),
        ("case id when 1 then [1] else 2 end", " with (integer_array, integer). Valid types: (boolean, T)"),
        ("id in (1, [2])", " with (integer, integer, integer_array). Valid types: (E, array(E))"),
        ("'text' >= o", "('text' >= doc.x.o) with (text, object). Valid types: (byte, byte)"),
        ("[1.5, 2.5]::geo_point > 'POINT (1 2)'", " with (geo_point, text). Valid types: (byte, byte)"),
    ],
)
def test_what_has_no_common_type_is_refused_as_a_whole(expression: str, words: str) -> None:
    refusal = error_of(f"select {expression} from x", STATE)
    assert refusal.startswith("UnsupportedFunctionException[Invalid arguments in: ")
    assert words in refusal


def test_an_object_literal_has_each_key_once() -> None:
    assert error_of("select {b = 1, a = 2, b = 3}", STATE) == (
        "SQLParseException[Object literal cannot contain duplicate keys (`b`)]"
    )


@pytest.mark.parametrize("fields", ["hour to year", "second to minute"])
def test_the_fields_of_an_interval_go_from_large_to_small(fields: str) -> None:
    assert error_of(f"select interval '1' {fields}", STATE) == (
        "SQLParseException[Startfield must be less significant than Endfield]"
    )


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("id || null", "integer_array"),
        ("null || now()", "timestamp with time zone_array"),
        ("'a' || null", "text"),
        ("null || null", "text"),
        ("null || [1.5]", "double precision_array"),
        ("o || null", "object"),
    ],
)
def test_null_is_joined_to_text_as_text_and_to_other_values_as_an_array(expression: str, kind: str) -> None:
    statement = analysis(f"select {expression} from x", STATE).statement
    assert isinstance(statement, AnalyzedQuery)
    assert [column.type.name for column in statement.columns] == [kind]


@pytest.mark.parametrize("array", ["null", "[]", "[null]"])
@pytest.mark.parametrize("call", ["array_length({}, 1)", "array_lower({}, 1)", "array_to_string({}, '-')"])
def test_an_array_of_no_known_elements_is_refused(call: str, array: str) -> None:
    name = call.partition("(")[0]
    assert error_of(f"select {call.format(array)}", STATE) == (
        f"SQLParseException[The inner type of the array argument `{name}` function cannot be undefined]"
    )
    typed = analysis(f"select {call.format(array + '::array(text)')}", STATE).statement
    assert isinstance(typed, AnalyzedQuery)
    assert error_of(f"select array_unique({array})", STATE).startswith("SQLParseException[When used with only one")


@pytest.mark.parametrize(
    "expression",
    ["case id when 1 then k else 'x' end", "[k, 5]", "k in (1, 2)", "k in ('a', 'b')", "not k", "k < 'x'", "'x' >= k"],
)
def test_an_undeclared_key_from_a_subquery_is_no_stranger_anywhere(expression: str) -> None:
    loose = with_tables("create table loose (id int, o object(ignored))")
    statement = analysis(f"select {expression} from (select id, o['k'] as k from loose) s", loose).statement
    assert isinstance(statement, AnalyzedQuery)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("[1] || ['2', 'b']", "Cannot cast `'b'` of type `text` to type `integer`"),
        ("array_cat([[true]], [['maybe']])", "Cannot cast `'maybe'` of type `text` to type `boolean`"),
        ("{a = 1} || 'z'", "Cannot cast value `z` to type `object`"),
        ("latitude([1, 95])", "Cannot cast `[1, 95]` of type `integer_array` to type `geo_point`"),
        ("chr(5000000000)", "Cannot cast `5000000000::bigint` of type `bigint` to type `integer`"),
        ("cast(B'01' as varchar(9))", "Cannot cast expressions from type `bit(2)` to type `text(9)`"),
    ],
)
def test_a_constant_that_does_not_fit_is_shown_as_it_is_written(expression: str, words: str) -> None:
    assert error_of(f"select {expression}", STATE) == f"SQLParseException[{words}]"
