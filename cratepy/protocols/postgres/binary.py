"""SQL values → PostgreSQL's binary format.

In: a SQL type; out: a function from one SQL value (never None) to bytes. Formats: PostgreSQL's ``*send`` functions
(network byte order; timestamps are microseconds since 2000-01-01, numerics base-10,000 digits).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from cratepy.errors import ConversionError
from cratepy.model.types import TEXT, DataType, type_oid
from cratepy.protocols.postgres.oids import OID_OID
from cratepy.protocols.postgres.text import json_bytes

BinaryEncoder = Callable[[Any], bytes]

#: 2000-01-01 in milliseconds since 1970-01-01: PostgreSQL's epoch.
POSTGRES_EPOCH_MS: Final = 946_684_800_000
#: Arrays of text are ``_text``, so their elements are ``text``.
_TEXT_OID: Final = 25
_DAY_MS: Final = 86_400_000
_INT2 = struct.Struct(">h").pack
_INT4 = struct.Struct(">i").pack
_INT8 = struct.Struct(">q").pack
_FLOAT4 = struct.Struct(">f").pack
_FLOAT8 = struct.Struct(">d").pack
_POINT = struct.Struct(">dd").pack
_INTERVAL = struct.Struct(">qii").pack
_TIMETZ = struct.Struct(">qi").pack
_NULL: Final = b"\xff\xff\xff\xff"
NUMERIC_NAN: Final = 0xC000


#: Milliseconds that are microseconds of 64 bits since PostgreSQL's epoch.
TIMESTAMP_MS_MIN: Final = -(2**63 // 1000) + POSTGRES_EPOCH_MS
TIMESTAMP_MS_MAX: Final = 2**63 // 1000 + POSTGRES_EPOCH_MS


def out_of_range(value_ms: int) -> ConversionError:
    """The error for a timestamp that the binary format does not have; its text format has all."""
    return ConversionError(f"Cannot send timestamp `{value_ms}` in binary format, it is out of range")


def _timestamp(value_ms: int) -> bytes:
    if not TIMESTAMP_MS_MIN <= value_ms <= TIMESTAMP_MS_MAX:
        raise out_of_range(value_ms)
    return _INT8((value_ms - POSTGRES_EPOCH_MS) * 1000)


def _timetz(value: list[int]) -> bytes:
    # The wire counts seconds west of Greenwich.
    return _TIMETZ(value[0], -value[1])


def _bit(value: str) -> bytes:
    count = len(value)
    padded = value + "0" * (-count % 8)
    return _INT4(count) + (int(padded, 2).to_bytes(len(padded) // 8, "big") if padded else b"")


def numeric_bytes(text: str) -> bytes:
    """Decimal text as PostgreSQL's numeric: digits of base 10,000, weight, sign, scale."""
    if text == "NaN":
        return struct.pack(">hhHh", 0, 0, NUMERIC_NAN, 0)
    sign = 0x4000 if text.startswith("-") else 0
    whole, _, fraction = text.lstrip("+-").partition(".")
    scale = len(fraction)
    whole = whole.lstrip("0")
    whole = "0" * (-len(whole) % 4) + whole
    fraction += "0" * (-scale % 4)
    digits = [int(whole[i : i + 4]) for i in range(0, len(whole), 4)]
    weight = len(digits) - 1
    digits += [int(fraction[i : i + 4]) for i in range(0, len(fraction), 4)]
    while digits and digits[-1] == 0:
        digits.pop()
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    if not digits:
        weight, sign = 0, 0
    return struct.pack(f">hhHH{len(digits)}H", len(digits), weight, sign, scale, *digits)


_ENCODERS: Final[dict[str, BinaryEncoder]] = {
    "undefined": json_bytes,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "byte": _INT2,
    "smallint": _INT2,
    "integer": _INT4,
    "bigint": _INT8,
    "real": _FLOAT4,
    "double precision": _FLOAT8,
    "numeric": numeric_bytes,
    "text": str.encode,
    "character": str.encode,
    "ip": str.encode,
    "uuid": lambda value: UUID(value).bytes,
    "bit": _bit,
    "json": str.encode,
    "timestamp with time zone": _timestamp,
    "timestamp without time zone": _timestamp,
    "date": lambda value: _INT4((value - POSTGRES_EPOCH_MS) // _DAY_MS),
    "interval": lambda value: _INTERVAL(value[2] * 1000, value[1], value[0]),
    "time with time zone": _timetz,
    "object": json_bytes,
    "geo_shape": json_bytes,
    "geo_point": lambda value: _POINT(*value),
    "regclass": _INT4,
    "regproc": _INT4,
    "regtype": _INT4,
    "oidvector": lambda value: array_bytes(value, _INT4, OID_OID, lower_bound=0),
    "float_vector": lambda value: array_bytes(value, _FLOAT4, 700),
}


def binary_encoder(data_type: DataType) -> BinaryEncoder:
    """The encoder of values of a type."""
    if data_type.kind == "array":
        element = data_type.element
        assert element is not None
        if element.kind in ("array", "geo_shape"):
            return json_bytes
        encode = binary_encoder(element)
        oid = _TEXT_OID if element == TEXT else type_oid(element)
        return lambda value: array_bytes(value, encode, oid)
    if data_type.kind == "record":
        fields = [(type_oid(field.type), binary_encoder(field.type)) for field in data_type.fields]
        return lambda value: _record(value, fields)
    return _ENCODERS[data_type.kind]


def array_bytes(values: list[Any], encode: BinaryEncoder, element_oid: int, *, lower_bound: int = 1) -> bytes:
    """A one-dimensional array; an empty one has one dimension of length 0, as CrateDB sends it."""
    has_nulls = int(None in values)
    parts = [struct.pack(">iiIii", 1, has_nulls, element_oid, len(values), lower_bound)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            item = encode(value)
            parts.append(_INT4(len(item)))
            parts.append(item)
    return b"".join(parts)


def _record(values: list[Any], fields: list[tuple[int, BinaryEncoder]]) -> bytes:
    parts = [_INT4(len(fields))]
    for value, (oid, encode) in zip(values, fields, strict=False):
        parts.append(struct.pack(">I", oid))
        if value is None:
            parts.append(_NULL)
        else:
            item = encode(value)
            parts.append(_INT4(len(item)))
            parts.append(item)
    return b"".join(parts)
