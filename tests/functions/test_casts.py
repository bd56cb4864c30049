"""Casts give what CrateDB gives; where CrateDB's lie they are errors."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cratepy.errors import ConversionError, CrateError, ValueConversionError
from cratepy.execution.engine.constants import fold
from cratepy.functions.casts import convert, json_value_as, text_of, to_json_value, tried
from cratepy.functions.conversions import can_cast
from cratepy.model.expressions import Cast, Literal
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
    OBJECT,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    DataType,
    array_of,
    numeric,
    varchar,
)
from tests.functions.facts import facts, same, type_of, value_from


@pytest.mark.parametrize(("source", "value", "target", "answer"), facts("casts.jsonl"))
def test_a_cast_answers_as_cratedb(source: str, value: Any, target: str, answer: Any) -> None:
    cast = Cast(Literal(value_from(value), type_of(source)), type_of(target))
    if isinstance(answer, dict) and "error" in answer:
        with pytest.raises(CrateError) as raised:
            fold([cast])
        assert raised.value.message == answer["error"]
    else:
        (literal,) = fold([cast])
        assert isinstance(literal, Literal)
        assert same(literal.value, value_from(answer))


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (1e20, DOUBLE, BIGINT),
        (math.nan, DOUBLE, SMALLINT),
        (math.inf, DOUBLE, TIMESTAMP),
        (2**63 - 1, BIGINT, BYTE),
        (-1, INTEGER, IP),
        (2**40, BIGINT, IP),
        ("99999999999999999999", NUMERIC, TIMESTAMP),
        ("1", TEXT, OBJECT),
        ("1_000", TEXT, INTEGER),
        ("0x1F", TEXT, INTEGER),
        (1e300, DOUBLE, REAL),
        ("12345.678", NUMERIC, numeric(6, 2)),
        ("2020-02-30", TEXT, TIMESTAMP),
        ("2020-01-01 10", TEXT, TIMESTAMP),
        ("", TEXT, INTERVAL),
        ("maybe", TEXT, BOOLEAN),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value: Any, source: DataType, target: DataType) -> None:
    with pytest.raises(ValueConversionError, match="Cannot cast value"):
        convert(value, source, target)


def test_a_constant_is_named_as_it_was_written() -> None:
    with pytest.raises(ConversionError) as raised:
        fold([Cast(Literal(2**31, BIGINT), INTEGER)])
    assert raised.value.message == "Cannot cast `2147483648::bigint` of type `bigint` to type `integer`"


def test_an_implicit_cast_refuses_a_long_text_and_an_explicit_one_cuts_it() -> None:
    assert convert("abcdef", TEXT, varchar(3)) == "abc"
    assert convert("abc   ", TEXT, varchar(3), is_implicit=True) == "abc"
    with pytest.raises(ValueConversionError, match="'abcd' is too long for the text type of length: 3"):
        convert("abcd", TEXT, varchar(3), is_implicit=True)


def test_a_date_before_1970_is_the_day_it_falls_in() -> None:
    assert convert(-1, BIGINT, DATE) == -86_400_000


def test_texts_of_arrays_are_read_in_both_forms() -> None:
    assert convert('{1, NULL,"3"}', TEXT, array_of(INTEGER)) == [1, None, 3]
    assert convert("[1, null, 3]", TEXT, array_of(INTEGER)) == [1, None, 3]
    assert convert('{{a},{"b,}"}}', TEXT, array_of(array_of(TEXT))) == [["a"], ["b,}"]]


def test_try_cast_gives_null_element_by_element() -> None:
    assert tried(["1", "x"], array_of(TEXT), array_of(INTEGER)) == [1, None]
    assert tried("x", TEXT, INTEGER) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e20, "1.0E20"), (1e-7, "1.0E-7"), (0.1, "0.1"), (123456.0, "123456.0"), (1e7, "1.0E7"), (-0.0, "-0.0")],
)
def test_floats_print_in_java_style(value: float, text: str) -> None:
    assert text_of(value, DOUBLE) == text


@pytest.mark.parametrize(
    ("source", "target", "explicit", "allowed"),
    [
        (BOOLEAN, INTEGER, True, False),
        (INTEGER, BOOLEAN, False, True),
        (TIMESTAMP, INTEGER, True, False),
        (TIMESTAMP, BIGINT, False, True),
        (TEXT, INTERVAL, False, False),
        (TEXT, INTERVAL, True, True),
        (INTERVAL, TEXT, True, True),
        (IP, INTEGER, True, False),
        (array_of(INTEGER), array_of(TEXT), False, True),
        (array_of(INTEGER), INTEGER, True, False),
        (DataType("undefined"), INTERVAL, False, True),
    ],
)
def test_which_casts_are_allowed(source: DataType, target: DataType, explicit: bool, allowed: bool) -> None:
    assert can_cast(source, target, explicit=explicit) is allowed


def test_a_json_value_of_which_nothing_is_known_stays_what_it_is() -> None:
    unknown = DataType("object", policy="ignored")
    for value in ("zz", 5, 1.5, True, [1, "a"], {"a": None}):
        assert json_value_as(value, unknown) == value
    with pytest.raises(CrateError):
        json_value_as("zz", DataType("object", policy="dynamic"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("09:08:07.5+01:30", "09:08:07.5+01:30"),
        ("23:59:59-08", "23:59:59-08:00"),
        ("00:00:00", "00:00:00+00"),
    ],
)
def test_a_time_with_its_zone_is_written_as_it_is_read(text: str, shown: str) -> None:
    kind = DataType("time with time zone")
    value = convert(text, TEXT, kind)
    assert text_of(value, kind) == shown
    assert convert(shown, TEXT, kind) == value


def test_an_interval_inside_an_object_is_its_text_and_is_read_back() -> None:
    value = [14, 3, -1_500]
    assert to_json_value(value, INTERVAL) == "1 year 2 mons 3 days -00:00:01.500"
    assert to_json_value([value, None], array_of(INTERVAL)) == ["1 year 2 mons 3 days -00:00:01.500", None]
    assert json_value_as(to_json_value(value, INTERVAL), INTERVAL) == value
    assert to_json_value([1, 2, 3], array_of(INTEGER)) == [1, 2, 3]


@pytest.mark.parametrize("name", ["lower", "pg_catalog.array_cat", '"sum"', "int4in"])
def test_a_function_has_its_name_as_regproc(name: str) -> None:
    kind = DataType("regproc")
    plain = name.removeprefix("pg_catalog.").strip('"')
    assert text_of(convert(name, TEXT, kind), kind) == plain


def test_what_is_no_function_is_refused_as_regproc() -> None:
    with pytest.raises(ValueConversionError, match="Cannot cast value `no_such_function` to type `regproc`"):
        convert("no_such_function", TEXT, DataType("regproc"))
    assert convert("-", TEXT, DataType("regproc")) == 0
