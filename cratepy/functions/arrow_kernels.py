"""Kernels over Arrow arrays for arithmetic that must not wrap: integers that overflow are an error.

In: arrays of equal length. Out: an array of the result's type. The engine's native ``+ - *`` and unary minus wrap
silently; these are Arrow's checked kernels (2 M rows in 10 ms). Where the result is a 32-bit integer the engine's own
64-bit arithmetic with a checked narrowing is used instead (see ``operators``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cratepy.errors import RowOverflow
from cratepy.functions.values import DAY_MS, INTEGER_RANGES, overflow_word
from cratepy.model.arrow import arrow_type
from cratepy.model.types import DataType

_CHECKED: Final[dict[str, Callable[..., Any]]] = {
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
    "negate": pc.negate_checked,
    "abs": pc.abs_checked,
}


def checked_arithmetic(symbol: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any] | None]:
    """The kernel of an operator for calls whose arguments and result are one integer or timestamp type."""

    def make(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any] | None:
        kernel = _CHECKED.get(symbol)
        if kernel is None or any(argument != result for argument in arguments):
            return None
        if result.is_integer:
            return lambda *arrays: _checked(kernel, arrays, result.kind)
        if result.is_timestamp:
            return lambda *arrays: _checked(kernel, [_as_integer(a) for a in arrays], result.kind).cast(
                arrow_type(result)
            )
        return None

    return make


def float_power(base: Any, exponent: Any) -> Any:
    """IEEE 754's pow: infinite or NaN, never an error."""
    return pc.power(base, exponent)


def rounded_floats(how: str, result: DataType) -> Callable[[Any], Any]:
    """Floats to whole numbers; ``round`` takes halves up. NaN and what is out of range is an error."""
    low, high = INTEGER_RANGES[result.kind]

    def kernel(array: Any) -> Any:
        values = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            whole = _ROUND[how](values)
        # The largest bigint is no double; the next one above it is.
        if np.isnan(whole).any() or (whole < low).any() or (whole >= float(high) + 1.0).any():
            raise RowOverflow(overflow_word(result.kind))
        return pa.array(whole.astype(np.int64), mask=array.is_null().to_numpy(zero_copy_only=False)).cast(
            arrow_type(result)
        )

    return kernel


def _half_up(values: Any) -> Any:
    floor = np.floor(values)
    return floor + (values - floor >= 0.5)


_ROUND: Final[dict[str, Callable[[Any], Any]]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "trunc": np.trunc,
    "round": _half_up,
}

#: Units of a fixed length, in milliseconds, and where the first one starts (weeks start on Mondays).
_FIXED_UNITS: Final = {
    "second": (1_000, 0),
    "minute": (60_000, 0),
    "hour": (3_600_000, 0),
    "day": (DAY_MS, 0),
    "week": (7 * DAY_MS, 4 * DAY_MS),
}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}


def truncated_timestamps(units: Any, timestamps: Any) -> Any | None:
    """date_trunc of an array, if the unit is one for all rows; None if it is not or is unknown."""
    unit = _only_value(units)
    if unit is None or (unit.lower() not in _FIXED_UNITS and unit.lower() not in _MONTHS):
        return None
    unit = unit.lower()
    values = timestamps.cast(pa.timestamp("ms")).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if unit in _FIXED_UNITS:
        width, origin = _FIXED_UNITS[unit]
        found = values - (values - origin) % width
    else:
        months = values.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
        found = (months - months % _MONTHS[unit]).astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
    mask = timestamps.is_null().to_numpy(zero_copy_only=False)
    return pa.array(found, mask=mask).cast(pa.timestamp("ms"))


def _only_value(array: Any) -> str | None:
    """The value all rows have; None if there is none."""
    if len(array) == 0 or array.null_count:
        return None
    first: str = array[0].as_py()
    # Views have no comparison kernel.
    return first if len(array) == 1 or pc.all(pc.equal(array.cast(pa.string()), first)).as_py() else None


def _as_integer(array: Any) -> Any:
    return array.cast(pa.int64())


def _checked(kernel: Callable[..., Any], arrays: Any, kind: str) -> Any:
    try:
        return kernel(*arrays)
    except pa.ArrowInvalid as error:
        raise RowOverflow(overflow_word(kind)) from error
