"""What one side encodes the other decodes; what the real server printed (pgwire.jsonl) is what this prints."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.errors import ConversionError, CrateError, TypeUnknown
from cratepy.model.parameter_columns import values_of_column
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    GEO_POINT,
    INTEGER,
    INTERVAL,
    IP,
    JSON,
    NUMERIC,
    OBJECT,
    REAL,
    REGTYPE,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UUID,
    DataType,
    Field,
    array_of,
    type_oid,
)
from cratepy.protocols.postgres.binary import binary_encoder
from cratepy.protocols.postgres.oids import parameter_type
from cratepy.protocols.postgres.parameters import column_decoder, parameter_decoder
from cratepy.protocols.postgres.repeats import RepeatedColumn
from cratepy.protocols.postgres.text import text_encoder
from cratepy.protocols.values import double_text, real_text

BIT4 = DataType("bit", length=4)
PAIR = DataType("record", fields=(Field("a", TEXT), Field("b", INTEGER)))


@pytest.mark.parametrize(
    ("data_type", "value", "text", "binary"),
    [
        (BOOLEAN, True, "t", "01"),
        (SMALLINT, 2, "2", "0002"),
        (INTEGER, 3, "3", "00000003"),
        (BIGINT, 4, "4", "0000000000000004"),
        (REAL, 1.5, "1.5", "3fc00000"),
        (DOUBLE, 2.5, "2.5", "4004000000000000"),
        (DataType("numeric", precision=10, scale=3), "123.456", "123.456", "0002000000000003007b11d0"),
        (NUMERIC, "5", "5", "00010000000000000005"),
        (NUMERIC, "99999999999999999999.5", "99999999999999999999.5", "0006000400000001270f270f270f270f270f1388"),
        (TEXT, "äö😀", "äö😀", "c3a4c3b6f09f9880"),
        (TIMESTAMP, 1577872800123, "2020-01-01 10:00:00.123", "00023e0fe888a878"),
        (TIMESTAMPTZ, 1577865600123, "2020-01-01 08:00:00.123+00", "00023e0e3b616078"),
        (DATE, 1577836800000, "2020-01-01", "00001c89"),
        (TIMETZ, [36672500000, 7200], "10:11:12.5+02:00", None),
        (INTERVAL, [14, 3, 14706700], "1 year 2 mons 3 days 04:05:06.700", "000000036c966ee0000000030000000e"),
        (BIT4, "0101", "0101", "0000000450"),
        (JSON, '{"a":1}', '{"a":1}', "7b2261223a317d"),
        (OBJECT, {"a": 1}, '{"a":1}', "7b2261223a317d"),
        (GEO_POINT, [1.5, 2.5], "(1.5,2.5)", "3ff80000000000004004000000000000"),
        (UUID, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001", "00" * 15 + "01"),
        (
            array_of(INTEGER),
            [1, 2, None],
            '{"1","2",NULL}',
            "000000010000000100000017000000030000000100000004000000010000000400000002ffffffff",
        ),
        (array_of(BOOLEAN), [True, False], '{"t","f"}', "000000010000000000000010000000020000000100000001010000000100"),
        (array_of(array_of(INTEGER)), [[1, 2], [3]], "[[1,2],[3]]", "5b5b312c325d2c5b335d5d"),
        (array_of(OBJECT), [{"a": 1}], '{"{\\"a\\":1}"}', None),
        (array_of(TEXT), ["a", 'b"\\', "", None], '{"a","b\\"\\\\","",NULL}', None),
        (REGTYPE, 23, "int4", "00000017"),
        (PAIR, ["a", 1], "(a,1)", "00000002000004130000000161000000170000000400000001"),
        (PAIR, ['a"b c', None], '("a""b c",)', None),
        (DOUBLE, -0.0, "-0.0", "8000000000000000"),
        (DOUBLE, 123456789.123, "1.23456789123E8", "419d6f34547df3b6"),
        (TIMESTAMP, -63549360000000, "0045-03-15 00:00:00.000 BC", "ff1add3060474000"),
    ],
)
def test_values_print_as_captured(data_type: DataType, value: Any, text: str, binary: str | None) -> None:
    assert text_encoder(data_type)(value) == text.encode()
    encoded = binary_encoder(data_type)(value)
    if binary is not None:
        assert encoded.hex() == binary


_MILLISECONDS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
_NUMERICS = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20)
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES: list[tuple[DataType, st.SearchStrategy[Any]]] = [
    (BOOLEAN, st.booleans()),
    (SMALLINT, st.integers(-(2**15), 2**15 - 1)),
    (INTEGER, st.integers(-(2**31), 2**31 - 1)),
    (BIGINT, st.integers(-(2**63), 2**63 - 1)),
    (DOUBLE, st.floats(allow_nan=False)),
    (REAL, st.floats(width=32, allow_nan=False)),
    (NUMERIC, _NUMERICS.map(lambda value: format(value, "f"))),
    (TEXT, _TEXTS),
    (TIMESTAMP, _MILLISECONDS),
    (TIMESTAMPTZ, _MILLISECONDS),
    (DATE, st.integers(-719_162, 2_932_896).map(lambda days: days * 86_400_000)),
    (INTERVAL, st.lists(st.integers(0, 10_000), min_size=3, max_size=3)),
    (UUID, st.uuids().map(str)),
    (array_of(TEXT), st.lists(st.none() | _TEXTS, max_size=4)),
    (array_of(INTEGER), st.lists(st.none() | st.integers(-9, 9), max_size=4)),
    (OBJECT, st.dictionaries(_TEXTS, st.integers(-9, 9) | _TEXTS, max_size=3)),
    (TIMETZ, st.tuples(st.integers(0, 86_399_999_999), st.sampled_from([0, 3600, -19800])).map(list)),
    (GEO_POINT, st.tuples(st.floats(-180, 180), st.floats(-90, 90)).map(list)),
    (BIT4, st.text("01", min_size=1, max_size=20)),
]


@pytest.mark.parametrize(("data_type", "strategy"), VALUES, ids=lambda v: getattr(v, "name", ""))
@pytest.mark.parametrize("is_binary", [False, True])
def test_what_is_encoded_is_decoded(data_type: DataType, strategy: st.SearchStrategy[Any], is_binary: bool) -> None:
    encode = binary_encoder(data_type) if is_binary else text_encoder(data_type)
    decode = parameter_decoder(data_type, type_oid(data_type), is_binary=is_binary)

    @settings(max_examples=25, deadline=None)
    @given(strategy)
    def check(value: Any) -> None:
        decoded = decode(encode(value))
        if data_type == NUMERIC and value.startswith("-0.") and set(value) <= set("-0."):
            return
        if data_type == REAL and not is_binary:
            assert struct.pack(">f", decoded) == struct.pack(">f", value)
        else:
            assert decoded == value

    check()


@given(st.floats())
@settings(max_examples=200, deadline=None)
def test_double_text_names_exactly_that_double(value: float) -> None:
    text = double_text(value)
    parsed = float(text)
    assert parsed == value or (math.isnan(parsed) and math.isnan(value))
    if "E" in text:
        assert 1 <= abs(float(text.split("E")[0])) < 10


def test_real_text_is_the_shortest() -> None:
    assert [real_text(v) for v in (0.10000000149011612, 1e20, 16777216.0, 1e-5)] == [
        "0.1", "1.0E20", "1.6777216E7", "1.0E-5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("oid", "data", "value"),
    [
        (1114, b"2020-01-01 10:00:00", 1577872800000),
        (1184, b"2020-01-01 10:00:00+02", 1577865600000),
        (1184, b"2020-01-01T10:00:00.5Z", 1577872800500),
        (1184, b"1577865600123", 1577865600123),
        (1082, b"2020-01-01", 1577836800000),
        (1186, b"1 day", [0, 1, 0]),
        (1186, b"1 year 2 mons -3 days 04:05:06.7", [14, -3, 14706700]),
        (1186, b"P1Y2M3DT4H5M6.7S", [14, 3, 14706700]),
        (1186, b"@ 1 hour 30 mins ago", [0, 0, -5400000]),
        (1186, b"1.5 months", [1, 15, 0]),
        (1186, b"0 days 30 seconds 1500 microseconds", [0, 0, 30002]),
        (1266, b"10:00:00+02", [36000000000, 7200]),
        (16, b"yes", True),
        (17, b"\\x4142", "AB"),
        (600, b"(1,2)", [1.0, 2.0]),
        (600, b"POINT (1 2)", [1.0, 2.0]),
        (1560, b"0101", "0101"),
        (1009, b'{a,"b c",NULL,"NULL"}', ["a", "b c", None, "NULL"]),
        (1005, b"[1,null,3]", [1, None, 3]),
        (1009, b'[1,"a b",true]', ["1", "a b", "true"]),
        (1007, b"[0:1]={1,2}", [1, 2]),
        (1028, b"{1,2}", [1, 2]),
        (114, b'{"a":1}', {"a": 1}),
        (1700, b"1e3", "1000"),
        (2205, b"3000000000", 3000000000 - 2**32),
    ],
)
def test_text_parameters(oid: int, data: bytes, value: Any) -> None:
    data_type = parameter_type(oid)
    assert data_type is not None
    assert parameter_decoder(data_type, oid, is_binary=False)(data) == value


def test_nested_arrays_take_as_many_dimensions_as_their_type_has() -> None:
    nested = array_of(array_of(SMALLINT))
    decode = parameter_decoder(nested, 0, is_binary=False)
    assert decode(b"{{1,2},NULL,{}}") == [[1, 2], None, []]
    assert decode(b"[[1,2],null]") == [[1, 2], None]
    for data in (b"{1,2}", b"{{{1}}}", b"[1]", b"[[[1]]]", b"[[70000]]"):
        with pytest.raises(ConversionError):
            decode(data)


def test_addresses_come_as_inet_too() -> None:
    """What psycopg sends for an ``ipaddress`` object: the OID and the binary format of inet."""
    decode = parameter_decoder(IP, 869, is_binary=True)
    assert decode(b"\x02\x20\x00\x04\x0a\x00\x00\x01") == "10.0.0.1"
    assert decode(b"\x03\x80\x00\x10" + b"\0" * 15 + b"\x01") == "::1"
    for data in (b"\x02\x18\x00\x04\x0a\x00\x00\x00", b"\x02\x20\x00\x04\x0a", b"\x02"):
        with pytest.raises(CrateError):
            decode(data)


def test_addresses_are_checked_and_brought_to_their_normal_form() -> None:
    for is_binary in (False, True):
        decode = parameter_decoder(IP, 0, is_binary=is_binary)
        assert decode(b"::ffff:192.168.0.1") == "192.168.0.1"
        with pytest.raises(ConversionError):
            decode(b"x")


@pytest.mark.parametrize(
    ("oid", "data", "is_binary"),
    [
        (23, b"abc", False),
        (23, b"3000000000", False),
        (21, b"40000", False),
        (16, b"maybe", False),
        (1114, b"2020-13-01", False),
        (1114, b"soon", False),
        (1186, b"1 fortnight", False),
        (1186, b"", False),
        (2950, b"x", False),
        (1007, b"{1,2", False),
        (1007, b"{1,,2}", False),
        (1009, b"{" * 10, False),
        (1005, b"{{1,2},{3,4}}", False),
        (1005, b"{1,{2}}", False),
        (1009, b"{{a},{b}}", False),
        (1000, b"[2]", False),
        (1005, b"[1,70000]", False),
        (1007, b"[[1]]", False),
        (1007, b'[{"a":1}]', False),
        (1007, struct.pack(">iiIiiiiii", 2, 0, 23, 1, 1, 1, 1, 4, 7), True),
        (1005, struct.pack(">iiIiiii", 1, 0, 23, 1, 1, 4, 70000), True),
        (1007, struct.pack(">iiIiii", 1, 0, 25, 1, 1, 1) + b"x", True),
        (1700, b"NaN", False),
        (25, b"\xff", False),
        (1560, b"012", False),
        (23, b"\0\0", True),
        (1007, b"\0\0\0\x01", True),
        (1007, struct.pack(">iiIii", 1, 0, 23, 2**31 - 1, 1), True),
        (1007, struct.pack(">iiIii", 9, 0, 23, 1, 1), True),
        (1700, b"\0\x05\0\0", True),
        (1184, struct.pack(">q", 2**63 - 1), True),
        (1560, struct.pack(">i", 99), True),
    ],
)
def test_bad_parameters_are_errors_of_the_client(oid: int, data: bytes, is_binary: bool) -> None:
    data_type = parameter_type(oid)
    assert data_type is not None
    with pytest.raises(CrateError) as caught:
        parameter_decoder(data_type, oid, is_binary=is_binary)(data)
    assert caught.value.sqlstate in ("22P02", "08P01", "0A000")


def test_an_unknown_oid_is_refused_in_crates_words_and_unspecified_ones_are_inferred() -> None:
    with pytest.raises(TypeUnknown, match="Can't map PGType with oid=99999 to Crate type"):
        parameter_type(99999)
    assert [parameter_type(oid) for oid in (0, 705, 2276)] == [None, None, None]
    assert parameter_type(26) == INTEGER


def test_columns_decode_as_their_values_do() -> None:
    decode = column_decoder(INTEGER, 23, is_binary=True)
    assert decode([b"\0\0\0\x01", b"\0\0\0\x02"]) == [1, 2]
    assert decode([b"\0\0\0\x01", None]) == [1, None]
    with pytest.raises(CrateError):
        decode([b"\0\0\0\x01", b"\0\0", b"\0\0\0\x01\0\0"])
    assert column_decoder(TEXT, 25, is_binary=False)([b"a", None]) == ["a", None]
    with pytest.raises(ConversionError):
        column_decoder(TEXT, 25, is_binary=False)([b"a", b"\xff"])
    assert column_decoder(BYTE, 0, is_binary=False)([b"1"]) == [1]


@pytest.mark.parametrize(
    ("data_type", "code", "values"),
    [
        (BIGINT, "q", [1, -(2**63), 2**63 - 1]),
        (SMALLINT, "h", [1, -(2**15), 7]),
        (DOUBLE, "d", [1.5, float("inf"), -0.0]),
        (REAL, "f", [0.1, -1.5, 3.25]),
        (BOOLEAN, "B", [0, 1, 2]),
        (TIMESTAMPTZ, "q", [0, -1, -1001, 999_999_999_999_999]),
    ],
)
def test_a_column_where_it_lies_decodes_as_value_by_value(data_type: DataType, code: str, values: list[Any]) -> None:
    items = [struct.pack(f">{code}", value) for value in values]
    buffer = b"abc" + b"".join(items)
    sizes = np.array([len(item) for item in items])
    column = RepeatedColumn(buffer, 3 + np.cumsum(sizes) - sizes, sizes)
    one = parameter_decoder(data_type, 0, is_binary=True)
    decode = column_decoder(data_type, 0, is_binary=True)
    assert values_of_column(decode(column)) == [one(item) for item in items]
    assert list(map(type, values_of_column(decode(column)))) == [type(one(item)) for item in items]
    with_null = RepeatedColumn(buffer, column.starts, np.array([-1, *sizes[1:]]))
    assert decode(with_null) == [None, *(one(item) for item in items[1:])]


def test_an_infinite_time_in_a_column_is_refused_as_alone() -> None:
    column = RepeatedColumn(struct.pack(">qq", 5, 2**63 - 1), np.array([0, 8]), np.array([8, 8]))
    with pytest.raises(ConversionError):
        column_decoder(TIMESTAMPTZ, 0, is_binary=True)(column)


def repeated(items: list[bytes | None]) -> RepeatedColumn:
    """The values as they lie in received bytes, with something between them."""
    buffer, starts = b"", []
    for item in items:
        buffer += b"\xff\xff"
        starts.append(len(buffer))
        buffer += item or b""
    sizes = np.array([-1 if item is None else len(item) for item in items], dtype=np.int64)
    return RepeatedColumn(buffer, np.array(starts, dtype=np.int64), sizes)


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize(
    "texts",
    [
        ["a", "", "three"],
        [None, "größe", None, "😀", ""],
        [None, None],
        ["x" * 500, "y", None],
        [str(number) for number in range(300)],
    ],
)
def test_columns_of_texts_are_the_texts_one_by_one(texts: list[str | None], is_binary: bool) -> None:
    decode = column_decoder(TEXT, 25, is_binary=is_binary)
    column = decode(repeated([None if text is None else text.encode() for text in texts]))
    assert list(values_of_column(column)) == texts


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xa9"])
def test_a_text_that_is_no_utf_8_is_refused_among_many_too(bad: bytes) -> None:
    # Two halves of a character beside each other are no character either.
    with pytest.raises(CrateError):
        column_decoder(TEXT, 25, is_binary=True)(repeated([b"a", bad, b"\xa9", b"c"]))
