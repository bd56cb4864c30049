"""Casts as the engine's SQL, where its own cast means what ours means; None where a kernel must do it.

In: source and target type, the rendered argument. Out: SQL text of the target's Arrow type, or None. The rules of values
are :mod:`cratepy.functions.casts`; here is only what is exact, total and fast.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from cratepy.model.arrow import TEXT_KINDS, UNCONSTRAINED_DIGITS, UNCONSTRAINED_SCALE, arrow_type
from cratepy.model.types import DataType

_INTEGER_RANK: Final = {"byte": 0, "smallint": 1, "integer": 2, "bigint": 3}
_TIMESTAMP: Final = "Timestamp(Millisecond, None)"
_NAMES: Final[dict[Any, str]] = {
    pa.null(): "Null",
    pa.bool_(): "Boolean",
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.string_view(): "Utf8View",
    pa.date32(): "Date32",
    pa.timestamp("ms"): _TIMESTAMP,
    pa.month_day_nano_interval(): "Interval(MonthDayNano)",
}
_INTEGER_DIGITS: Final = 20


def arrow_name(data_type: DataType) -> str:
    """The type as the engine's ``arrow_cast`` spells it."""
    return _arrow_name(arrow_type(data_type))


def _arrow_name(target: Any) -> str:
    if pa.types.is_decimal(target):
        return f"Decimal128({target.precision}, {target.scale})"
    if pa.types.is_list(target):
        return f"List({_arrow_name(target.value_type)})"
    return _NAMES[target]


def arrow_cast(sql: str, data_type: DataType) -> str:
    return f"arrow_cast({sql}, '{arrow_name(data_type)}')"


def native_cast(sql: str, source: DataType, target: DataType) -> str | None:
    """The cast in the engine's SQL, or None."""
    if source == target:
        return sql
    if source.kind == "undefined":
        return arrow_cast(sql, target)
    if source.kind in _INTEGER_RANK:
        return _from_integer(sql, source, target)
    if source.kind in ("timestamp with time zone", "timestamp without time zone", "date"):
        return _from_time(sql, source, target)
    if source.kind == "real" and target.kind == "double precision":
        return arrow_cast(sql, target)
    if source.kind == "boolean" and target.kind == "text" and target.length is None:
        return arrow_cast(f"CASE WHEN {sql} THEN 't' WHEN NOT {sql} THEN 'f' END", target)
    if source.kind == "numeric" and target.kind == "numeric":
        return _numeric_to_numeric(sql, source, target)
    if source.kind == "numeric" and target.kind == "double precision":
        return arrow_cast(sql, target)
    if source.kind in TEXT_KINDS and target.kind in ("text", "json") and target.length is None:
        is_same_text = source.kind not in ("record", "time with time zone")
        return sql if is_same_text else None
    return None


def _from_integer(sql: str, source: DataType, target: DataType) -> str | None:
    kind = target.kind
    if kind in _INTEGER_RANK:
        return arrow_cast(sql, target) if _INTEGER_RANK[kind] > _INTEGER_RANK[source.kind] else None
    if kind in ("real", "double precision"):
        return arrow_cast(sql, target)
    if kind == "numeric" and target.precision is None:
        return arrow_cast(sql, target)
    if kind == "text" and target.length is None:
        return arrow_cast(sql, target)
    if kind == "boolean":
        return f"({sql} > 0)"
    if target.is_timestamp:
        return f"arrow_cast(CAST({sql} AS BIGINT), '{_TIMESTAMP}')"
    return None


def _from_time(sql: str, source: DataType, target: DataType) -> str | None:
    if source.is_timestamp and target.is_timestamp:
        return sql
    if source.kind == "date" and target.is_timestamp:
        return f"arrow_cast({sql}, '{_TIMESTAMP}')"
    milliseconds = f"arrow_cast(arrow_cast({sql}, '{_TIMESTAMP}'), 'Int64')"
    if target.kind in ("bigint", "double precision") or (target.kind == "text" and target.length is None):
        return arrow_cast(milliseconds, target)
    return None


def _numeric_to_numeric(sql: str, source: DataType, target: DataType) -> str | None:
    if target.precision is not None or source.precision is None:
        return None
    scale = source.scale or 0
    fits = scale <= UNCONSTRAINED_SCALE and source.precision - scale <= UNCONSTRAINED_DIGITS - UNCONSTRAINED_SCALE
    return arrow_cast(sql, target) if fits else None
