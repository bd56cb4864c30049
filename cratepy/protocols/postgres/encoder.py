"""Backend messages → bytes. Formats: PostgreSQL docs, "Message Formats".

``ErrorResponse`` carries severity twice (``S``, ``V``), SQLSTATE, message and, where known, the position in the
statement. The stack traces CrateDB puts into ``W`` are not for clients.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from cratepy.errors import CrateError
from cratepy.model.relations import OutputColumn
from cratepy.model.types import DataType, facts, type_oid

AUTHENTICATION_OK: Final = b"R\0\0\0\x08\0\0\0\0"
AUTHENTICATION_CLEARTEXT: Final = b"R\0\0\0\x08\0\0\0\x03"
PARSE_COMPLETE: Final = b"1\0\0\0\x04"
BIND_COMPLETE: Final = b"2\0\0\0\x04"
CLOSE_COMPLETE: Final = b"3\0\0\0\x04"
NO_DATA: Final = b"n\0\0\0\x04"
PORTAL_SUSPENDED: Final = b"s\0\0\0\x04"
EMPTY_QUERY_RESPONSE: Final = b"I\0\0\0\x04"
READY_FOR_QUERY: Final = {status: b"Z\0\0\0\x05" + status.encode() for status in "ITE"}
#: The answer to SSLRequest and GSSENCRequest: not here, go on in the clear.
REFUSED: Final = b"N"


def _message(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack(">i", len(payload) + 4) + payload


def parameter_status(name: str, value: str) -> bytes:
    return _message(b"S", f"{name}\0{value}\0".encode())


def backend_key_data(process_id: int, secret: int) -> bytes:
    return b"K\0\0\0\x0c" + struct.pack(">ii", process_id, secret)


def negotiate_protocol_version(unrecognized: Sequence[str]) -> bytes:
    names = b"".join(name.encode() + b"\0" for name in unrecognized)
    return _message(b"v", struct.pack(">ii", 0, len(unrecognized)) + names)


def command_complete(tag: str) -> bytes:
    data = tag.encode()
    return b"C" + struct.pack(">i", len(data) + 5) + data + b"\0"


def parameter_description(type_oids: Sequence[int]) -> bytes:
    return _message(b"t", struct.pack(f">H{len(type_oids)}I", len(type_oids), *type_oids))


def row_description(columns: Sequence[OutputColumn], formats: Sequence[int] = ()) -> bytes:
    """``formats`` as in Bind: none is all text, one is for all columns, else one each."""
    parts = [struct.pack(">H", len(columns))]
    codes = column_formats(formats, len(columns))
    for column, code in zip(columns, codes, strict=True):
        parts.append(column.name.encode() + b"\0")
        length = _type_length(column.type)
        parts.append(struct.pack(">ihIhih", 0, 0, type_oid(column.type), length, _type_modifier(column.type), code))
    return _message(b"T", b"".join(parts))


def column_formats(formats: Sequence[int], count: int) -> tuple[int, ...]:
    """The format code of every column of a result."""
    if not formats:
        return (0,) * count
    if len(formats) == 1:
        return (formats[0],) * count
    return tuple(formats)


def _type_length(data_type: DataType) -> int:
    return -1 if data_type.kind == "array" else facts(data_type).pg_length


def _type_modifier(data_type: DataType) -> int:
    return data_type.length if data_type.kind == "bit" and data_type.length is not None else -1


def error_response(error: CrateError, *, severity: str = "ERROR") -> bytes:
    return _message(b"E", _fields(severity, error.sqlstate, error.message, error.position))


def notice_response(message: str, *, severity: str = "NOTICE", sqlstate: str = "00000") -> bytes:
    return _message(b"N", _fields(severity, sqlstate, message, None))


def _fields(severity: str, sqlstate: str, message: str, position: int | None) -> bytes:
    # A NUL would end the field early.
    clean = message.replace("\0", "�")
    text = f"S{severity}\0V{severity}\0C{sqlstate}\0M{clean}\0"
    if position is not None:
        text += f"P{position}\0"
    return text.encode("utf-8", "replace") + b"\0"
