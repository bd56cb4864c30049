"""SQL values → PostgreSQL's text format.

In: a SQL type; out: a function from one SQL value (never None) to bytes. Arrays are written as CrateDB does, every
element quoted, but escaped as PostgreSQL reads them; nested arrays and objects are JSON, as their OIDs say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from cratepy.model.pg_types import procedure_text
from cratepy.model.texts import interval_text, timetz_text
from cratepy.model.types import DataType
from cratepy.protocols.postgres.oids import TYPE_NAMES_BY_OID
from cratepy.protocols.values import (
    date_text,
    double_text,
    real_text,
    timestamp_text,
    timestamptz_text,
)

TextEncoder = Callable[[Any], bytes]


def json_bytes(value: Any) -> bytes:
    """An object, nested array or value of no known type as JSON; text, and what is JSON or WKT already, stays as it is."""
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _point(value: list[float]) -> bytes:
    return f"({double_text(value[0])},{double_text(value[1])})".encode()


def _regtype(value: Any) -> bytes:
    return (value if isinstance(value, str) else TYPE_NAMES_BY_OID.get(value, str(value))).encode()


_ENCODERS: Final[dict[str, TextEncoder]] = {
    "undefined": json_bytes,
    "boolean": lambda value: b"t" if value else b"f",
    "byte": lambda value: b"%d" % value,
    "smallint": lambda value: b"%d" % value,
    "integer": lambda value: b"%d" % value,
    "bigint": lambda value: b"%d" % value,
    "real": lambda value: real_text(value).encode(),
    "double precision": lambda value: double_text(value).encode(),
    "numeric": str.encode,
    "text": str.encode,
    "character": str.encode,
    "ip": str.encode,
    "uuid": str.encode,
    "bit": str.encode,
    "json": str.encode,
    "timestamp with time zone": lambda value: timestamptz_text(value).encode(),
    "timestamp without time zone": lambda value: timestamp_text(value).encode(),
    "date": lambda value: date_text(value).encode(),
    "interval": lambda value: interval_text(value).encode(),
    "time with time zone": lambda value: timetz_text(value).encode(),
    "object": json_bytes,
    "geo_shape": json_bytes,
    "geo_point": _point,
    "regclass": lambda value: str(value).encode(),
    "regproc": lambda value: procedure_text(value).encode(),
    "regtype": _regtype,
    "oidvector": lambda value: " ".join(map(str, value)).encode(),
    "float_vector": lambda value: _array(value, lambda item: real_text(item).encode()),
}


def text_encoder(data_type: DataType) -> TextEncoder:
    """The encoder of values of a type."""
    if data_type.kind == "array":
        element = data_type.element
        assert element is not None
        if element.kind in ("array", "geo_shape"):
            return json_bytes
        encode_element = text_encoder(element)
        return lambda value: _array(value, encode_element)
    if data_type.kind == "record":
        encoders = [text_encoder(field.type) for field in data_type.fields]
        return lambda value: _record(value, encoders)
    return _ENCODERS[data_type.kind]


def _array(values: list[Any], encode: TextEncoder) -> bytes:
    items = [b"NULL" if value is None else _quoted(encode(value)) for value in values]
    return b"{" + b",".join(items) + b"}"


def _quoted(item: bytes) -> bytes:
    return b'"' + item.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _record(values: list[Any], encoders: list[TextEncoder]) -> bytes:
    items = []
    for position, value in enumerate(values):
        encode = encoders[position] if position < len(encoders) else lambda item: str(item).encode()
        items.append(b"" if value is None else _record_item(encode(value)))
    return b"(" + b",".join(items) + b")"


def _record_item(item: bytes) -> bytes:
    if item and not any(byte in b' \t\n\r",()\\' for byte in item):
        return item
    return b'"' + item.replace(b"\\", b"\\\\").replace(b'"', b'""') + b'"'
