"""Kernels over Arrow arrays for arithmetic that must not wrap: integers that overflow are an error.

In: arrays of equal length. Out: an array of the result's type. The engine's native ``+ - *`` and unary minus wrap
silently; these are Arrow's checked kernels (2 M rows in 10 ms). Where the result is a 32-bit integer the engine's own
64-bit arithmetic with a checked narrowing is used instead (see ``operators``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import RowOverflow
from cratepy.functions.values import DAY_MS, INTEGER_RANGES, overflow_word
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type
from cratepy.model.types import DataType

#: Names of Arrow's functions: looking one up loads them all.
_CHECKED: Final = {
    "+": "add_checked",
    "-": "subtract_checked",
    "*": "multiply_checked",
    "negate": "negate_checked",
    "abs": "abs_checked",
}


def checked_arithmetic(symbol: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any] | None]:
    """The kernel of an operator for calls whose arguments and result are one integer or timestamp type."""

    def make(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any] | None:
        name = _CHECKED.get(symbol)
        if name is None or any(argument != result for argument in arguments):
            return None
        kernel = getattr(pc, name)
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
    unit = only_value(units)
    if unit is None or (unit.lower() not in _FIXED_UNITS and unit.lower() not in _MONTHS):
        return None
    unit = unit.lower()
    values = timestamps.cast(pa.timestamp("ms")).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if unit in _FIXED_UNITS:
        width, origin = _FIXED_UNITS[unit]
        found = values - (values - origin) % width
    else:
        found = _month_starts(values, _MONTHS[unit])
    mask = timestamps.is_null().to_numpy(zero_copy_only=False)
    return pa.array(found, mask=mask).cast(pa.timestamp("ms"))


def _month_starts(values: Any, step: int) -> Any:
    """The calendar's part is done once per day of the range, if that is less often than once per row: 12 ns instead of 150."""
    days = values // DAY_MS
    first, last = int(days.min()), int(days.max())
    if last - first < len(values):
        return _starts_of_days(np.arange(first, last + 1), step)[days - first]
    return _starts_of_days(days, step)


def _starts_of_days(days: Any, step: int) -> Any:
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months - months % step).astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)


def only_value(array: Any) -> str | None:
    """The value all rows have; None if there is none."""
    if len(array) == 0 or array.null_count:
        return None
    first: str = array[0].as_py()
    # Views have no comparison kernel.
    return first if len(array) == 1 or pc.all(pc.equal(array.cast(pa.string()), first)).as_py() else None


#: What RE2 has no words for or means differently from Java: look-around, references, possessive quantifiers, classes by name.
_NOT_RE2: Final = re.compile(r"\(\?[=!<>]|\\[1-9kKpPbBwWsSdDQEZGhHvVRX]|[*+?}]\+|\[\[|&&")
_JAVA_GROUP: Final = re.compile(r"\$(\d)(?!\d)")


def replaced_parts(texts: Any, olds: Any, news: Any) -> Any | None:
    """replace() of an array, if what is replaced by what is the same for all rows and the result surely is not too large."""
    old, new = only_value(olds), only_value(news)
    if not old or new is None:
        return None
    given = texts.cast(pa.string())
    if not _stays_small(given, len(old.encode()), new):
        return None
    return pc.replace_substring(given, old, new).cast(pa.string_view())


def _stays_small(texts: Any, shortest: int, new: str, groups: int = 0) -> bool:
    """Whether a batch fits its limit if all of it is matches of the shortest length; each group may hold its match."""
    matches = texts.nbytes // shortest + len(texts)
    return bool(matches * len(new.encode()) + texts.nbytes * (1 + groups) <= limits.KERNEL_BATCH_BYTES_MAX)


def replaced_text(texts: Any, patterns: Any, replacements: Any, flags: Any = None) -> Any | None:
    """regexp_replace of an array by RE2, if pattern, replacement and flags are the same for all rows and mean the same."""
    pattern, replacement = only_value(patterns), only_value(replacements)
    letters = "" if flags is None else only_value(flags)
    if pattern is None or replacement is None or letters not in ("", "g") or not _is_plain_pattern(pattern, texts):
        return None
    rewritten = _JAVA_GROUP.sub(lambda match: f"\\{match[1]}", replacement.replace("\\", "\\\\"))
    given = texts.cast(pa.string())
    if "$" in rewritten or "\\" in replacement or not _stays_small(given, 1, replacement, replacement.count("$")):
        return None
    try:
        found = pc.replace_substring_regex(given, pattern, rewritten, max_replacements=None if letters == "g" else 1)
    except pa.ArrowInvalid:
        return None
    return found.cast(pa.string_view())


def matched_text(texts: Any, patterns: Any) -> Any | None:
    """``~`` of an array by RE2 (the whole text must match), if the pattern is the same for all rows and means the same."""
    pattern = only_value(patterns)
    if pattern is None or not _is_plain_pattern(pattern, texts):
        return None
    try:
        return pc.match_substring_regex(texts.cast(pa.string()), rf"\A(?s:{pattern})\z")
    except pa.ArrowInvalid:
        return None


def matched_one(text: str, pattern: str) -> bool | None:
    """The same for one text; None if the pattern is not RE2's."""
    found = matched_text(pa.array([text], pa.string()), pa.array([pattern], pa.string()))
    return None if found is None else bool(found[0].as_py())


def _is_plain_pattern(pattern: str, texts: Any) -> bool:
    """``$`` before a line break at the end of the text matches in Java and not in RE2."""
    if _NOT_RE2.search(pattern):
        return False
    return "$" not in pattern or not pc.any(pc.match_substring(texts.cast(pa.string()), "\n")).as_py()


def _as_integer(array: Any) -> Any:
    return array.cast(pa.int64())


def _checked(kernel: Callable[..., Any], arrays: Any, kind: str) -> Any:
    try:
        return kernel(*arrays)
    except pa.ArrowInvalid as error:
        raise RowOverflow(overflow_word(kind)) from error
