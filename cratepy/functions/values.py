"""SQL values in Python: ordering, equality, ranges, decimals.

In and out: SQL values as listed in :mod:`cratepy.model.types`. Its own room because operators, aggregates' twins, casts
and tests must agree about one order: numbers by value with NaN largest and equal to itself, text by its UTF-8 bytes
(which is code point order), booleans false first, intervals by length with a month of 30 days, arrays element by
element, NULL elements last.
"""

from __future__ import annotations

import decimal
import math
from typing import Any, Final

from cratepy.errors import RowOverflow
from cratepy.model.arrow import UNCONSTRAINED_DIGITS, UNCONSTRAINED_SCALE
from cratepy.model.types import DataType

INTEGER_RANGES: Final[dict[str, tuple[int, int]]] = {
    "byte": (-(2**7), 2**7 - 1),
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "regclass": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
    "timestamp with time zone": (-(2**63), 2**63 - 1),
    "timestamp without time zone": (-(2**63), 2**63 - 1),
    "date": (-(2**63), 2**63 - 1),
}
DAY_MS: Final = 86_400_000
MONTH_MS: Final = 30 * DAY_MS
FLOAT32_MAX: Final = 3.4028234663852886e38
#: CrateDB computes numerics with 131072 digits before and 16383 after the point; divisions carry 38 digits.
_WHOLE_DIGITS: Final = UNCONSTRAINED_DIGITS - UNCONSTRAINED_SCALE
_SMALLEST: Final = decimal.Decimal(1).scaleb(-UNCONSTRAINED_SCALE)
DECIMAL_CONTEXT: Final = decimal.Context(prec=76, rounding=decimal.ROUND_HALF_UP, Emax=200_000, Emin=-200_000)


def overflow_word(kind: str) -> str:
    """``integer overflow`` and ``long overflow``: the words of Java's exact arithmetic."""
    return "integer overflow" if kind in ("byte", "smallint", "integer") else "long overflow"


def checked_integer(value: int, kind: str) -> int:
    """The value if it fits the kind. Raises RowOverflow."""
    low, high = INTEGER_RANGES[kind]
    if low <= value <= high:
        return value
    raise RowOverflow(overflow_word(kind))


def decimal_of(value: str | int | float) -> decimal.Decimal:
    return decimal.Decimal(value) if not isinstance(value, float) else decimal.Decimal(repr(value))


def numeric_text(value: decimal.Decimal, data_type: DataType | None = None) -> str:
    """Canonical text: fixed digits of a scale, or no trailing zeros.

    A numeric without precision holds 20 digits before and 18 after the point (:mod:`cratepy.model.arrow`): what has more
    after it is rounded, what has more before it is an error. Raises RowOverflow.
    """
    if data_type is not None and data_type.scale is not None:
        value = value.quantize(decimal.Decimal(1).scaleb(-data_type.scale), context=DECIMAL_CONTEXT)
        return format(value, "f")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > UNCONSTRAINED_SCALE:
        value = value.quantize(_SMALLEST, context=DECIMAL_CONTEXT) if value.adjusted() < _WHOLE_DIGITS else value
    if value and value.adjusted() >= _WHOLE_DIGITS:
        raise RowOverflow(f"numeric value out of range: more than {_WHOLE_DIGITS} digits before the point")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def float32(value: float) -> float:
    """The nearest single-precision number, infinite beyond the range."""
    if math.isnan(value) or math.isinf(value):
        return value
    if abs(value) > FLOAT32_MAX:
        return (
            math.copysign(math.inf, value) if abs(value) > 3.4028235677973366e38 else math.copysign(FLOAT32_MAX, value)
        )
    return float(_pack_float32(value))


def _pack_float32(value: float) -> float:
    import struct

    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


def order_key(value: Any, data_type: DataType) -> Any:
    """Something that Python compares as SQL compares the value; not for NULL at the top."""
    kind = data_type.kind
    if kind in ("real", "double precision"):
        return (1, 0.0) if math.isnan(value) else (0, value)
    if kind == "numeric":
        return decimal.Decimal(value)
    if kind == "interval":
        return value[0] * MONTH_MS + value[1] * DAY_MS + value[2]
    if kind == "character":
        return value.rstrip(" ")
    if kind == "array":
        assert data_type.element is not None
        element = data_type.element
        return [(1, 0) if item is None else (0, order_key(item, element)) for item in value]
    if kind in ("object", "geo_shape", "record"):
        return _json_key(value)
    return value


def _json_key(value: Any) -> Any:
    if isinstance(value, dict):
        return ("object", sorted((name, _json_key(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", [_json_key(item) for item in value])
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("null", 0) if value is None else ("text", value)
