"""SQL types as Arrow types, and SQL values to and from Arrow arrays.

Two Arrow types exist for text: ``string_view`` in flight (the engine is twice as fast on it) and ``string`` at rest
(half the bytes). Objects, JSON and shapes are JSON text. Timestamps of both kinds are ``timestamp[ms]`` without a zone:
a session's zone is always UTC, and the SQL type says which kind it is.
"""

from __future__ import annotations

import decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from cratepy.errors import NumericOverflow
from cratepy.model.relations import OutputColumn
from cratepy.model.types import DataType

#: Digits and scale of a numeric without precision. Output drops trailing zeros of the fraction.
UNCONSTRAINED_DIGITS: Final = 38
UNCONSTRAINED_SCALE: Final = 18
MS_PER_DAY: Final = 86_400_000
_WIDE: Final = decimal.Context(prec=200)

_SIMPLE: Final[dict[str, pa.DataType]] = {
    "undefined": pa.null(),
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "timestamp with time zone": pa.timestamp("ms"),
    "timestamp without time zone": pa.timestamp("ms"),
    "date": pa.date32(),
    "interval": pa.month_day_nano_interval(),
    "regclass": pa.int32(),
    "regproc": pa.int32(),
    "regtype": pa.int32(),
    "geo_point": pa.list_(pa.float64()),
    "float_vector": pa.list_(pa.float32()),
    "oidvector": pa.list_(pa.int32()),
}
#: Kinds that are text in Arrow.
TEXT_KINDS: Final = frozenset(
    {"text", "character", "ip", "uuid", "bit", "json", "object", "geo_shape", "record", "time with time zone"}
)
#: Of these, the ones whose text is JSON of a SQL value.
JSON_KINDS: Final = frozenset({"object", "geo_shape", "record", "time with time zone"})


def arrow_type(data_type: DataType) -> pa.DataType:
    """The Arrow type in flight."""
    return _arrow_type(data_type, pa.string_view())


def stored_type(data_type: DataType) -> pa.DataType:
    """The Arrow type at rest."""
    return _arrow_type(data_type, pa.string())


def _arrow_type(data_type: DataType, text: pa.DataType) -> pa.DataType:
    kind = data_type.kind
    if kind in TEXT_KINDS:
        return text
    if kind == "numeric":
        if data_type.precision is None:
            return pa.decimal128(UNCONSTRAINED_DIGITS, UNCONSTRAINED_SCALE)
        return pa.decimal128(data_type.precision, data_type.scale or 0)
    if kind == "array":
        assert data_type.element is not None
        return pa.list_(_arrow_type(data_type.element, text))
    return _SIMPLE[kind]


def arrow_schema(columns: tuple[OutputColumn, ...]) -> pa.Schema:
    """The schema of batches in flight: field ``c<id>`` per column, so that names never collide."""
    return pa.schema([pa.field(f"c{column.id}", arrow_type(column.type)) for column in columns])


def to_arrow(values: list[Any], data_type: DataType, *, at_rest: bool = False) -> pa.Array:
    """SQL values as an Arrow array. Values must already be of the type.

    Decimals are rounded to the scale; one with too many digits raises NumericOverflow. Anything else that does not fit
    raises ArrowInvalid.
    """
    target = stored_type(data_type) if at_rest else arrow_type(data_type)
    try:
        return pa.array(_encoded(values, data_type), type=target)
    except pa.ArrowInvalid:
        if not _holds_decimals(data_type):
            raise
        return pa.array(_fitted(values, data_type), type=target)


def _holds_decimals(data_type: DataType) -> bool:
    return data_type.kind == "numeric" or (data_type.element is not None and _holds_decimals(data_type.element))


def _fitted(values: list[Any], data_type: DataType) -> list[Any]:
    """Decimals (or arrays of them) as the type wants them: the way for values that do not fit as they are."""
    if data_type.element is not None:
        element = data_type.element
        return [None if value is None else _fitted(value, element) for value in values]
    precision, scale = data_type.precision, data_type.scale or 0
    if precision is None:
        precision, scale = UNCONSTRAINED_DIGITS, UNCONSTRAINED_SCALE
    return [None if value is None else _fitted_decimal(value, precision, scale) for value in values]


def _fitted_decimal(value: str, precision: int, scale: int) -> decimal.Decimal:
    number = decimal.Decimal(value)
    if number.is_finite() and number.adjusted() < precision - scale:
        rounded = number.quantize(decimal.Decimal(1).scaleb(-scale), decimal.ROUND_HALF_UP, _WIDE)
        if rounded.adjusted() < precision - scale or not rounded:
            return rounded
    raise NumericOverflow(
        f"numeric field overflow: {value} needs more than {precision - scale} digits before the decimal point"
    )


def _encoded(values: list[Any], data_type: DataType) -> list[Any]:
    kind = data_type.kind
    if kind in JSON_KINDS:
        return [None if value is None else msgspec.json.encode(value).decode() for value in values]
    if kind == "numeric":
        return [None if value is None else decimal.Decimal(value) for value in values]
    if kind == "date":
        return [None if value is None else value // MS_PER_DAY for value in values]
    if kind == "interval":
        return [None if v is None else pa.MonthDayNano([v[0], v[1], v[2] * 1_000_000]) for v in values]
    if kind == "array":
        assert data_type.element is not None
        element = data_type.element
        if element.kind in JSON_KINDS or element.kind in ("numeric", "date", "interval", "array"):
            return [None if value is None else _encoded(value, element) for value in values]
    return values


def from_arrow(array: pa.Array | pa.ChunkedArray, data_type: DataType) -> list[Any]:
    """An Arrow array as SQL values; the inverse of :func:`to_arrow` (either kind of text)."""
    kind = data_type.kind
    if data_type.is_timestamp:
        result: list[Any] = array.cast(pa.int64()).to_pylist()
        return result
    if kind == "date":
        return [None if days is None else days * MS_PER_DAY for days in array.cast(pa.int32()).to_pylist()]
    if kind == "array" and isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in from_arrow(chunk, data_type)]
    if kind == "array":
        assert data_type.element is not None
        if isinstance(array, pa.NullArray):
            return [None] * len(array)
        if not len(array):
            return []
        offsets = array.offsets.to_pylist()
        # Of a cell of a block, or a slice: only what is in it.
        first = offsets[0]
        elements = from_arrow(array.values.slice(first, offsets[-1] - first), data_type.element)
        valid = array.is_valid().to_pylist()
        return [elements[offsets[i] - first : offsets[i + 1] - first] if valid[i] else None for i in range(len(array))]
    return _decoded(array.to_pylist(), data_type)


def _decoded(values: list[Any], data_type: DataType) -> list[Any]:
    kind = data_type.kind
    if kind in JSON_KINDS:
        decode = msgspec.json.decode
        return [None if value is None else decode(value) for value in values]
    if kind == "numeric":
        return [None if value is None else decimal_text(value, data_type) for value in values]
    if kind == "interval":
        return [None if v is None else [v.months, v.days, v.nanoseconds // 1_000_000] for v in values]
    return values


def decimal_text(value: decimal.Decimal, data_type: DataType) -> str:
    """Canonical text of a numeric: all digits of its scale, or no trailing zeros if the type has no scale."""
    text = format(value, "f")
    if data_type.precision is None and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
