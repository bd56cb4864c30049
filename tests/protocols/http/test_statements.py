"""Bodies of /_sql, the types that JSON values suggest, and what is made of values that suggest another."""

from __future__ import annotations

from typing import Any

import pytest

from cratepy.errors import ConversionError, CrateError, SQLParseError
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    NUMERIC,
    OBJECT,
    TEXT,
    TIMESTAMPTZ,
    UNDEFINED,
    DataType,
    array_of,
)
from cratepy.protocols.http.statements import column_type, flag, parse_body, value_type
from cratepy.server.http_arguments import BulkArguments, coerce, fitted


def test_bodies() -> None:
    request = parse_body(b'{"stmt":"x","args":[1,"a",null]}')
    assert (request.text, request.arguments, request.bulk_rows) == ("x", (1, "a", None), None)
    assert parse_body(b'{"stmt":"x","bulk_args":[[1]]}').bulk_rows == [[1]]
    assert parse_body(b'{"stmt":"x","bulk_args":[]}').bulk_rows == []
    assert parse_body(b'{"stmt":"x","args":[],"bulk_args":[]}').bulk_rows is None
    for bad in (b"", b"\xff", b'{"stmt":"x","args":[NaN]}', b'{"stmt":"x","foo":1}', b'{"stmt":"x","args":{}}'):
        with pytest.raises(CrateError):
            parse_body(bad)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"stmt":"select ?","args":["\\ud800"]}', "surrogate"),
        (b'{"stmt":"select ?","args":[1e400]}', "infinity"),
        (b'{"stmt":"select \xff"}', "UTF-8"),
    ],
)
def test_a_body_that_is_not_json_is_told_why(body: bytes, reason: str) -> None:
    with pytest.raises(SQLParseError, match=f"Expecting payload with `stmt` string.* arrays .*{reason}"):
        parse_body(body)


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (None, None), (True, BOOLEAN), (1, INTEGER), (2**31, BIGINT), (1.0, DOUBLE), ("x", TEXT), ({}, OBJECT),
        ([], array_of(UNDEFINED)), ([1, None], array_of(INTEGER)), ([1, 2.5], array_of(DOUBLE)), ([1, "a"], None),
        ([[1], [2**40]], array_of(array_of(BIGINT))),
    ],
)  # fmt: skip
def test_values_suggest_types(value: Any, data_type: DataType | None) -> None:
    assert value_type(value) == data_type


@pytest.mark.parametrize(
    ("value", "data_type"),
    [([1, "a"], TEXT), ([1], INTEGER), ({"a": 1}, TEXT), (1, array_of(INTEGER)), ([{}], BOOLEAN)],
)
def test_arrays_and_objects_do_not_become_other_types(value: Any, data_type: DataType) -> None:
    with pytest.raises(ConversionError, match="Cannot cast value"):
        coerce(value, data_type)


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(SQLParseError, match="Cannot detect the type of the value: 9223372036854775808"):
        value_type(2**63)
    assert column_type([1, None, 2**40]) == BIGINT
    assert column_type([1, "x"]) is None


def test_flags_count_as_crate_counts_them() -> None:
    assert [flag(q, "types") for q in ("types", "types=", "types=true", "types=1", "types=TRUE", "foo", "types&x")] == [
        True, True, True, False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "data_type", "expected"),
    [
        ("2020-01-01T10:00:00Z", TIMESTAMPTZ, 1577872800000), (1577872800000, TIMESTAMPTZ, 1577872800000),
        ("5", INTEGER, 5), (5, TEXT, "5"), (5, DOUBLE, 5.0), (5.0, INTEGER, 5), (True, TEXT, "true"),
        (1.5, NUMERIC, "1.5"), (None, INTEGER, None), ([1, 2], array_of(DOUBLE), [1.0, 2.0]), ({"a": 1}, OBJECT, {"a": 1}),
        ("true", BOOLEAN, True),
    ],
)  # fmt: skip
def test_values_are_made_to_fit(value: Any, data_type: DataType, expected: Any) -> None:
    assert coerce(value, data_type) == expected


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(SQLParseError, match="Cannot cast value `x` to type `integer`"):
        BulkArguments([[1], ["x"], [3]]).values((INTEGER,))
    with pytest.raises(SQLParseError, match="mixed number of arguments"):
        BulkArguments([[1], [1, 2]])
    with pytest.raises(SQLParseError, match=r"placeholder \$2, but there are only 1 parameter values"):
        fitted((1,), (INTEGER,), (INTEGER, INTEGER))
    assert fitted((1, 2), (INTEGER, INTEGER), (INTEGER,)) == (1,)
