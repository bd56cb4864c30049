"""Parameter bytes → SQL values.

In: the type of a parameter (and the OID the client declared, if it did), the format, bytes. Out: SQL values. Whole
columns of bytes are decoded at once where the bulk path needs it. Everything that does not fit raises ConversionError;
wrong lengths of binary values are a ProtocolViolation, as in PostgreSQL (``insufficient data left in message``).
"""

from __future__ import annotations

import decimal
import math
import re
import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final
from uuid import UUID

import msgspec

from cratepy.errors import ConversionError, CrateError, ProtocolViolation, UnsupportedFeature
from cratepy.model.parameter_columns import ParameterColumn
from cratepy.model.types import DataType, type_oid
from cratepy.protocols.postgres.binary import NUMERIC_NAN, POSTGRES_EPOCH_MS
from cratepy.protocols.postgres.literals import date_ms, interval_value, ip_text, timestamp_ms, timetz_value
from cratepy.protocols.postgres.oids import BYTEA_OID, JSONB_OID, PARAMETER_TYPES
from cratepy.protocols.postgres.repeats import RepeatedColumn

Decoder = Callable[[bytes], Any]
ColumnDecoder = Callable[[Sequence[bytes | None] | RepeatedColumn], ParameterColumn]

_DAY_MS: Final = 86_400_000
#: PostgreSQL's bound on the dimensions of an array.
ARRAY_DIMENSIONS_MAX: Final = 6
_INT_RANGES: Final = {
    "byte": (-128, 127),
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "regclass": (-(2**31), 2**32 - 1),
    "regproc": (-(2**31), 2**32 - 1),
    "regtype": (-(2**31), 2**32 - 1),
}
#: The subscripts PostgreSQL prints in front of arrays that do not start at 1.
_BOUNDS: Final = re.compile(r"\A(?:\[-?\d+:-?\d+\])+=")
_TRUE: Final = frozenset({"t", "true", "y", "yes", "on", "1", "tr", "tru", "ye"})
_FALSE: Final = frozenset({"f", "false", "n", "no", "off", "0", "fa", "fal", "fals", "of"})


def parameter_decoder(data_type: DataType, declared_oid: int, *, is_binary: bool) -> Decoder:
    """The decoder of one parameter: bytes (never NULL) → SQL value."""
    decode = _binary_decoder(data_type, declared_oid) if is_binary else _text_decoder(data_type, declared_oid)

    def checked(data: bytes) -> Any:
        try:
            return decode(data)
        except CrateError:
            raise
        except (struct.error, IndexError) as error:
            raise ProtocolViolation(f"insufficient data left in message for type {data_type.name}") from error
        except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            shown = "…" if is_binary else data[:200].decode("utf-8", "replace")
            raise ConversionError(f"Cannot cast value `{shown}` to type `{data_type.name}`") from error

    return checked


def column_decoder(data_type: DataType, declared_oid: int, *, is_binary: bool) -> ColumnDecoder:
    """The decoder of a column of parameters; fixed-width binary columns without NULL are read in one go and stay numbers."""
    decode = _items_decoder(data_type, declared_oid, is_binary=is_binary)
    kind = data_type.kind
    dtype = _COLUMN_DTYPES.get(kind) if is_binary else None
    is_text = kind == "text" and declared_oid not in (BYTEA_OID, JSONB_OID)

    def decode_column(column: Sequence[bytes | None] | RepeatedColumn) -> ParameterColumn:
        if not isinstance(column, RepeatedColumn):
            return decode(column)
        if is_text:
            texts = column.texts()
            return decode(column.items()) if texts is None else texts
        numbers = None if dtype is None else column.numbers(dtype)
        if numbers is None:
            return decode(column.items())
        if kind == "boolean":
            numbers = numbers != 0
        elif data_type.is_timestamp:
            if len(numbers) and (int(numbers.min()) in _INFINITIES or int(numbers.max()) in _INFINITIES):
                return decode(column.items())
            numbers = numbers // 1_000 + POSTGRES_EPOCH_MS
        # A real is the double that is as long as it, which only Python's conversion tells.
        return numbers.tolist() if kind == "real" else numbers

    return decode_column


def is_read_at_once(data_type: DataType, declared_oid: int, column: RepeatedColumn, *, is_binary: bool) -> bool:
    """Whether :func:`column_decoder` takes all values together, at some ns each, and not one by one, at up to some µs."""
    if data_type.kind == "text":
        return declared_oid not in (BYTEA_OID, JSONB_OID)
    return is_binary and data_type.kind in _COLUMN_DTYPES and not column.has_null


def _items_decoder(
    data_type: DataType, declared_oid: int, *, is_binary: bool
) -> Callable[[Sequence[bytes | None]], list[Any]]:
    one = parameter_decoder(data_type, declared_oid, is_binary=is_binary)
    code = _COLUMN_CODES.get(data_type.kind) if is_binary else None
    if code is None:
        if data_type.kind == "text" and declared_oid not in (BYTEA_OID, JSONB_OID):
            return lambda column: _text_column(column, one)
        return lambda column: [None if item is None else one(item) for item in column]
    width = struct.calcsize(f">{code}")

    def decode(column: Sequence[bytes | None]) -> list[Any]:
        if None not in column:
            joined = b"".join(column)  # type: ignore[arg-type]
            if len(joined) == width * len(column) and all(len(item) == width for item in column):  # type: ignore[arg-type]
                return list(struct.unpack(f">{len(column)}{code}", joined))
        return [None if item is None else one(item) for item in column]

    return decode


_COLUMN_CODES: Final = {"smallint": "h", "integer": "i", "bigint": "q", "real": "f", "double precision": "d"}
_COLUMN_DTYPES: Final = {
    **{kind: f">{code}" for kind, code in _COLUMN_CODES.items()},
    "boolean": ">u1",
    "timestamp with time zone": ">i8",
    "timestamp without time zone": ">i8",
}
_INFINITIES: Final = (2**63 - 1, -(2**63))


def _text_column(column: Sequence[bytes | None], one: Decoder) -> list[Any]:
    try:
        return [None if item is None else item.decode() for item in column]
    except UnicodeDecodeError:
        return [None if item is None else one(item) for item in column]


# --- text format -----------------------------------------------------------------------------------------------------


def _text_decoder(data_type: DataType, declared_oid: int) -> Decoder:
    decode = _text_value(data_type)
    if declared_oid == BYTEA_OID:
        return lambda data: bytes.fromhex(data[2:].decode()).decode() if data[:2] == b"\\x" else data.decode()
    return lambda data: decode(data.decode())


def _text_value(data_type: DataType) -> Callable[[str], Any]:
    kind = data_type.kind
    if kind == "array":
        leaf, depth = _leaf_and_depth(data_type)
        decode = _text_value(leaf)
        return lambda text: _text_array(text, decode, depth, leaf.kind)
    if kind in _INT_RANGES:
        return lambda text: _in_range(int(text), kind)
    return _TEXT.get(kind, _same)


def _leaf_and_depth(data_type: DataType) -> tuple[DataType, int]:
    """What an array holds below all its dimensions, and how many those are."""
    depth = 0
    while data_type.kind == "array":
        assert data_type.element is not None
        data_type, depth = data_type.element, depth + 1
    return data_type, depth


def _same(text: str) -> str:
    return text


def _in_range(value: int, kind: str) -> int:
    low, high = _INT_RANGES[kind]
    if not low <= value <= high:
        raise ConversionError(f"Cannot cast value `{value}` to type `{kind}`")
    return value if value < 2**31 or not kind.startswith("reg") else value - 2**32


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)


def _numeric(text: str) -> str:
    """Canonical decimal text without exponent."""
    try:
        value = decimal.Decimal(text.strip())
    except decimal.InvalidOperation as error:
        raise ValueError(text) from error
    if not value.is_finite() or abs(value.adjusted()) > 131_072:
        raise ValueError(text)
    return format(value, "f")


def _point(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] == "(":
        longitude, _, latitude = stripped.strip("()").partition(",")
        return [float(longitude), float(latitude)]
    if stripped[:1] == "[":
        return list(msgspec.json.decode(stripped, type=tuple[float, float]))
    words = stripped.upper().removeprefix("POINT").strip().strip("()").split()
    return [float(words[0]), float(words[1])]


def _bit(text: str) -> str:
    bits = text.strip().removeprefix("B'").removesuffix("'")
    if bits.strip("01"):
        raise ValueError(text)
    return bits


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


def _shape(text: str) -> Any:
    return msgspec.json.decode(text) if text.lstrip()[:1] == "{" else text


def _vector(text: str) -> list[float]:
    return [float(item) for item in text.strip().strip("{}[]").split(",") if item.strip(' "')]


_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "boolean": _boolean,
    "real": float,
    "double precision": float,
    "numeric": _numeric,
    "timestamp with time zone": lambda text: timestamp_ms(text, with_zone=True),
    "timestamp without time zone": lambda text: timestamp_ms(text, with_zone=False),
    "date": date_ms,
    "time with time zone": timetz_value,
    "interval": interval_value,
    "uuid": lambda text: str(UUID(text.strip())),
    "ip": ip_text,
    "object": _json,
    "geo_shape": _shape,
    "geo_point": _point,
    "bit": _bit,
    "oidvector": lambda text: [int(item) for item in text.replace(",", " ").strip("{}").split()],
    "float_vector": _vector,
}


def _text_array(text: str, decode: Callable[[str], Any], depth: int, leaf_kind: str) -> list[Any]:
    """``{a,"b c",NULL,{…}}``; nested braces are further dimensions. ``[…]`` is JSON, which nested arrays print as."""
    stripped = _BOUNDS.sub("", text.strip())
    if stripped[:1] == "[":
        return _json_items(msgspec.json.decode(stripped, type=list), decode, depth, leaf_kind)
    if depth > ARRAY_DIMENSIONS_MAX:
        raise ValueError(text)
    values, position = _array_level(stripped, 0, decode, depth)
    if position != len(stripped):
        raise ValueError(text)
    return values


def _json_items(values: list[Any], decode: Callable[[str], Any], depth: int, leaf_kind: str) -> list[Any]:
    """The items of a JSON array as values of the leaf's kind: scalars are read as their text would be."""
    items: list[Any] = []
    for value in values:
        if value is None or (depth == 1 and isinstance(value, dict | list) and leaf_kind in _JSON_LIKE):
            items.append(value)
        elif isinstance(value, list) and depth > 1:
            items.append(_json_items(value, decode, depth - 1, leaf_kind))
        elif depth > 1 or isinstance(value, dict | list):
            raise ValueError(value)
        else:
            items.append(decode(value if isinstance(value, str) else msgspec.json.encode(value).decode()))
    return items


#: Kinds whose values are objects or lists themselves.
_JSON_LIKE: Final = frozenset({"object", "geo_shape", "geo_point", "float_vector"})


def _array_level(text: str, position: int, decode: Callable[[str], Any], depth: int) -> tuple[list[Any], int]:
    """The items between two braces with ``depth`` dimensions to go; fewer or more of them than the type has fit nothing."""
    if text[position : position + 1] != "{":
        raise ValueError(text)
    values: list[Any] = []
    position += 1
    while True:
        while text[position] in " \t\n":
            position += 1
        if text[position] == "}" and not values:
            return values, position + 1
        if text[position] == "{" and depth > 1:
            value, position = _array_level(text, position, decode, depth - 1)
        else:
            value, position = _array_item(text, position, decode)
            if depth > 1 and value is not None:
                raise ValueError(text)
        values.append(value)
        while text[position] in " \t\n":
            position += 1
        if text[position] == "}":
            return values, position + 1
        if text[position] != ",":
            raise ValueError(text)
        position += 1


def _array_item(text: str, position: int, decode: Callable[[str], Any]) -> tuple[Any, int]:
    if text[position] != '"':
        end = position
        while text[end] not in ",}":
            end += 2 if text[end] == "\\" else 1
        raw = text[position:end].rstrip()
        if not raw or raw[0] == "{":
            raise ValueError(text)
        return (None if raw.upper() == "NULL" else decode(raw.replace("\\", ""))), end
    characters: list[str] = []
    position += 1
    while text[position] != '"':
        if text[position] == "\\":
            position += 1
        characters.append(text[position])
        position += 1
    return decode("".join(characters)), position + 1


# --- binary format ---------------------------------------------------------------------------------------------------


def _binary_decoder(data_type: DataType, declared_oid: int) -> Decoder:
    kind = data_type.kind
    if declared_oid == JSONB_OID:
        return lambda data: msgspec.json.decode(data[1:])
    if kind == "array":
        if type_oid(data_type) == 114 and declared_oid in (0, 114):
            return msgspec.json.decode
        leaf, depth = _leaf_and_depth(data_type)
        return lambda data: _binary_array(data, leaf, depth)
    if kind == "byte":
        return lambda data: _in_range(_exactly(">h", data) if len(data) == 2 else _exactly(">b", data), "byte")
    found = _BINARY.get(kind)
    if found is None:
        raise UnsupportedFeature(f"No binary input for parameters of type {data_type.name}")
    return found


def _exactly(code: str, data: bytes) -> Any:
    return struct.unpack(code, data)[0]


def _binary_numeric(data: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from(">hhHH", data)
    if sign >= NUMERIC_NAN or sign not in (0, 0x4000) or count < 0:
        raise ValueError("numeric")
    digits = struct.unpack(f">{count}H", data[8:])
    text = "".join(f"{digit:04d}" for digit in digits)
    point = (weight + 1) * 4
    if point <= 0:
        text, point = "0" * -point + text, 0
    text = text.ljust(point + scale, "0")
    whole = text[:point].lstrip("0") or "0"
    fraction = text[point : point + scale]
    return f"{'-' if sign else ''}{whole}{f'.{fraction}' if fraction else ''}"


def _binary_boolean(data: bytes) -> bool:
    return bool(_exactly(">B", data))


def _binary_timestamp(data: bytes) -> int:
    micros = _exactly(">q", data)
    if micros in (2**63 - 1, -(2**63)):
        raise ValueError("infinity")
    return int(micros // 1000) + POSTGRES_EPOCH_MS


def _binary_interval(data: bytes) -> list[int]:
    micros, days, months = struct.unpack(">qii", data)
    return [months, days, math.floor(micros / 1000)]


def _binary_address(data: bytes) -> str:
    """Text, as its type is told to be, or PostgreSQL's inet, which clients declare: family, bits, is_cidr, length, bytes."""
    if data[:1] not in (b"\x02", b"\x03"):
        return ip_text(data.decode())
    _family, bits, _is_cidr, size = struct.unpack_from(">BBBB", data)
    if size != len(data) - 4 or bits != size * 8:
        raise ValueError("network")
    return ip_text(str(ip_address(data[4:])))


def _binary_timetz(data: bytes) -> list[int]:
    if len(data) == 8:
        return [_exactly(">q", data), 0]
    micros, west = struct.unpack(">qi", data)
    return [micros, -west]


def _binary_bit(data: bytes) -> str:
    count = _exactly(">i", data[:4])
    bits = "".join(f"{byte:08b}" for byte in data[4:])
    if not 0 <= count <= len(bits):
        raise struct.error("bit")
    return bits[:count]


def _signed(data: bytes) -> int:
    return int(_exactly(">i", data))


_BINARY: Final[dict[str, Decoder]] = {
    "undefined": bytes.decode,
    "boolean": _binary_boolean,
    "smallint": lambda data: _exactly(">h", data),
    "integer": _signed,
    "bigint": lambda data: _exactly(">q", data),
    "real": lambda data: _exactly(">f", data),
    "double precision": lambda data: _exactly(">d", data),
    "numeric": _binary_numeric,
    "text": bytes.decode,
    "character": bytes.decode,
    "ip": lambda data: _binary_address(data),
    "json": bytes.decode,
    "object": msgspec.json.decode,
    "geo_shape": lambda data: _shape(data.decode()),
    "uuid": lambda data: str(UUID(bytes=data)),
    "timestamp with time zone": _binary_timestamp,
    "timestamp without time zone": _binary_timestamp,
    "date": lambda data: _exactly(">i", data) * _DAY_MS + POSTGRES_EPOCH_MS,
    "interval": _binary_interval,
    "time with time zone": _binary_timetz,
    "bit": _binary_bit,
    "geo_point": lambda data: list(struct.unpack(">dd", data)),
    "regclass": _signed,
    "regproc": _signed,
    "regtype": _signed,
    "oidvector": lambda data: _binary_array(data, None, 1),
    "float_vector": lambda data: _binary_array(data, None, 1),
}


def _other_integer(decode: Decoder, kind: str) -> Decoder:
    """The decoder of items declared as one type for an array of integers of another."""

    def checked(data: bytes) -> int:
        value = decode(data)
        if type(value) is not int:
            raise ValueError(value)
        return _in_range(value, kind)

    return checked


def _binary_array(data: bytes, leaf: DataType | None, depth: int) -> list[Any]:
    """Any array: the message names the element's OID and the size of every dimension.

    A type with ``depth`` dimensions has only values with as many, and one of integers only integers in its range.
    """
    dimensions, _flags, element_oid = struct.unpack_from(">iiI", data)
    if dimensions == 0:
        return []
    if not 0 < dimensions <= ARRAY_DIMENSIONS_MAX:
        raise ValueError("dimensions")
    sizes = [struct.unpack_from(">i", data, 12 + 8 * i)[0] for i in range(dimensions)]
    element = PARAMETER_TYPES.get(element_oid)
    if element is None:
        raise ConversionError(f"Can't map PGType with oid={element_oid} to Crate type")
    if dimensions != depth:
        raise ValueError("dimensions")
    decode = _binary_decoder(element, element_oid)
    if leaf is not None and leaf.kind in _INT_RANGES and leaf.kind != element.kind:
        decode = _other_integer(decode, leaf.kind)
    position = 12 + 8 * dimensions
    count = math.prod(sizes)
    # Every element takes at least its length of four bytes: a huge count cannot make a huge list.
    if min(sizes) < 0 or count * 4 > len(data) - position:
        raise struct.error("array")
    values: list[Any] = []
    for _ in range(count):
        size = struct.unpack_from(">i", data, position)[0]
        position += 4
        if size == -1:
            values.append(None)
            continue
        if size < 0 or position + size > len(data):
            raise struct.error("array")
        values.append(decode(data[position : position + size]))
        position += size
    for size in reversed(sizes[1:]):
        values = [values[i : i + size] for i in range(0, len(values), size)] if size else []
    return values
