"""Smallest and largest value and NULLs of a block of a column: what proves that a block cannot match, or overflow.

In: an array at rest. Out: SQL values (or None where there are none to tell: long texts, lists, floats with NaN). Bounds
include dead rows, so they are never too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cratepy.storage.operations import Bounds, ColumnRange, Scalar

#: Texts longer than this have no bounds: a bound is to be small, and a cut text is no bound.
_TEXT_BOUND_BYTES_MAX: Final = 64


class BlockStatistics(msgspec.Struct, frozen=True, array_like=True):
    minimum: Scalar
    maximum: Scalar
    null_count: int
    rows: int


def block_statistics(array: pa.Array) -> BlockStatistics:
    """About 25 µs for 64k numbers, 1 ms for 64k texts."""
    rows, nulls = len(array), array.null_count
    arrow_type = array.type
    if nulls == rows:
        return BlockStatistics(None, None, nulls, rows)
    if pa.types.is_floating(arrow_type) and pc.any(pc.is_nan(array)).as_py():
        return BlockStatistics(None, None, nulls, rows)
    if pa.types.is_timestamp(arrow_type):
        array = array.cast(pa.int64())
    elif pa.types.is_date32(arrow_type):
        array = pc.multiply(array.cast(pa.int32()).cast(pa.int64()), 86_400_000)
    elif not (
        pa.types.is_integer(arrow_type)
        or pa.types.is_floating(arrow_type)
        or pa.types.is_boolean(arrow_type)
        or arrow_type == pa.string()
    ):
        return BlockStatistics(None, None, nulls, rows)
    found = pc.min_max(array)
    minimum, maximum = found["min"].as_py(), found["max"].as_py()
    if isinstance(minimum, str) and max(len(minimum.encode()), len(maximum.encode())) > _TEXT_BOUND_BYTES_MAX:
        minimum = maximum = None
    return BlockStatistics(minimum, maximum, nulls, rows)


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


def may_match(stats: Mapping[str, Sequence[BlockStatistics]], index: int, ranges: Iterable[ColumnRange]) -> bool:
    """Whether some row of the ``index``-th block may be in all of the ranges; when in doubt it may."""
    return all(_may_match(stats[wanted.source][index], wanted) for wanted in ranges if wanted.source in stats)


def _may_match(block: BlockStatistics, wanted: ColumnRange) -> bool:
    if wanted.is_null is True:
        return block.null_count > 0
    if wanted.is_null is None and wanted.minimum is None and wanted.maximum is None:
        return True
    if block.null_count == block.rows:
        return False
    if block.minimum is None or block.maximum is None:
        return True
    try:
        is_above = wanted.maximum is not None and block.minimum > wanted.maximum  # type: ignore[operator]
        is_below = wanted.minimum is not None and block.maximum < wanted.minimum  # type: ignore[operator]
    except TypeError:
        return True  # Values of another type than the column's: the filter will say.
    return not (is_above or is_below)
