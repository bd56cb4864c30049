"""Smallest and largest value of a block of a column: what proves that a block cannot match, or that nothing overflows.

In: an array at rest. Out: SQL values; None where there is none to tell (all NULL, lists) or no finite one (a float with
NaN has no largest value: NaN is above all numbers). Dead rows count, and a long text stands
for itself by a prefix, so bounds are never too narrow but may be too wide. Texts compare by code point, which is the
order of their UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.model import compute as pc
from cratepy.model.arrow import MS_PER_DAY
from cratepy.storage.operations import Bounds, ColumnRange, Scalar

#: Characters of a text that a bound keeps.
_TEXT_BOUND_CHARS: Final = 32
_LAST_BEFORE_SURROGATES: Final = 0xD7FF
_FIRST_AFTER_SURROGATES: Final = 0xE000


class BlockStatistics(msgspec.Struct, frozen=True, array_like=True):
    minimum: Scalar
    maximum: Scalar
    null_count: int
    rows: int


def value_bounds(array: pa.Array) -> tuple[Scalar, Scalar]:
    """Smallest and largest SQL value. 15 to 50 µs for 64k numbers, 1 ms for 64k texts."""
    arrow_type = array.type
    if array.null_count == len(array):
        return None, None
    if pa.types.is_floating(arrow_type):
        return _float_bounds(array)
    factor = 1
    if pa.types.is_timestamp(arrow_type):
        array = array.view(pa.int64())
    elif pa.types.is_date32(arrow_type):
        array, factor = array.view(pa.int32()), MS_PER_DAY
    if array.null_count == 0 and pa.types.is_integer(array.type):
        # Arrow's kernel takes 25 µs to begin.
        values = array.to_numpy()
        return int(values.min()) * factor, int(values.max()) * factor
    found = None
    if pa.types.is_integer(array.type) or pa.types.is_boolean(arrow_type) or arrow_type == pa.string():
        found = pc.min_max(array)
    if found is None:
        return None, None
    minimum, maximum = found["min"].as_py(), found["max"].as_py()
    if isinstance(minimum, str):
        return minimum[:_TEXT_BOUND_CHARS], _text_above(maximum)
    return (minimum, maximum) if factor == 1 else (minimum * factor, maximum * factor)


def _float_bounds(array: pa.Array) -> tuple[Scalar, Scalar]:
    """The engine compares as IEEE 754's totalOrder does: a NaN is above all numbers, one with a sign below all."""
    values = array.to_numpy(zero_copy_only=False) if array.null_count == 0 else array.drop_null().to_numpy()
    # Ten times faster than Arrow's kernel. A NaN anywhere makes both NaN.
    minimum, maximum = float(values.min()), float(values.max())
    if minimum == minimum:
        return minimum, maximum
    found = pc.min_max(array)
    minimum, maximum = found["min"].as_py(), found["max"].as_py()
    has_sign = np.signbit(values[np.isnan(values)])
    return (
        None if bool(has_sign.any()) or minimum != minimum else minimum,
        None if not bool(has_sign.all()) or maximum != maximum else maximum,
    )


def _text_above(text: str) -> str | None:
    """A short text that is not below this one."""
    if len(text) <= _TEXT_BOUND_CHARS:
        return text
    kept = text[:_TEXT_BOUND_CHARS]
    while kept:
        last = ord(kept[-1])
        if last < 0x10FFFF:
            return kept[:-1] + chr(_FIRST_AFTER_SURROGATES if last == _LAST_BEFORE_SURROGATES else last + 1)
        kept = kept[:-1]
    return None


def joined_bounds(blocks: Iterable[BlockStatistics]) -> Bounds | None:
    """The bounds over several blocks, or None if one of them cannot tell."""
    minimum: Scalar = None
    maximum: Scalar = None
    nulls = rows = 0
    for block in blocks:
        nulls += block.null_count
        rows += block.rows
        if block.null_count == block.rows:
            continue
        if block.minimum is None or block.maximum is None:
            return None
        minimum = block.minimum if minimum is None else min(minimum, block.minimum)
        maximum = block.maximum if maximum is None else max(maximum, block.maximum)
    return Bounds(minimum, maximum, nulls, rows)


def may_match(block: BlockStatistics, wanted: ColumnRange) -> bool:
    """Whether a row of the block may be in the range; when in doubt it may."""
    if wanted.is_null is True:
        return block.null_count > 0
    if wanted.is_null is None and wanted.minimum is None and wanted.maximum is None:
        return True
    if block.null_count == block.rows:
        return False
    try:
        if wanted.maximum is not None and block.minimum is not None and block.minimum > wanted.maximum:  # type: ignore[operator]
            return False
        if wanted.minimum is not None and block.maximum is not None and block.maximum < wanted.minimum:  # type: ignore[operator]
            return False
    except TypeError:
        return True  # A value of another type than the column's: the filter will say.
    return True
