"""Single cells of Arrow arrays as SQL values, without pyarrow's 1–2 µs a cell.

In: an array at rest and its SQL type. Out: a function row → SQL value that reads the array's buffers directly (0.15 µs
for a number, 0.3 µs for a text). Making the function costs 2 µs, so it is kept with the block it reads. Kinds without a
short way (arrays, intervals, numerics) go through :func:`cratepy.model.arrow.from_arrow`; results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pyarrow as pa

from cratepy.model.arrow import JSON_KINDS, MS_PER_DAY, TEXT_KINDS, from_arrow, stored_type
from cratepy.model.types import DataType

CellReader = Callable[[int], Any]

#: Kind → format of :meth:`memoryview.cast` and bytes of a value.
_FIXED: Final[dict[str, tuple[str, int]]] = {
    "byte": ("b", 1),
    "smallint": ("h", 2),
    "integer": ("i", 4),
    "bigint": ("q", 8),
    "real": ("f", 4),
    "double precision": ("d", 8),
    "timestamp with time zone": ("q", 8),
    "timestamp without time zone": ("q", 8),
    "date": ("i", 4),
    "regclass": ("i", 4),
    "regproc": ("i", 4),
    "regtype": ("i", 4),
}


def cell_reader(array: pa.Array, data_type: DataType) -> CellReader:
    """A function giving the SQL value of a row of the array; it keeps the array's buffers alive."""
    kind = data_type.kind
    if array.type != stored_type(data_type):
        return lambda row: from_arrow(array.slice(row, 1), data_type)[0]
    fixed = _FIXED.get(kind)
    if fixed is not None:
        reader = _fixed_reader(array, fixed[0], fixed[1])
        if kind == "date":
            days = reader
            reader = lambda row: days(row) * MS_PER_DAY  # noqa: E731
    elif kind in TEXT_KINDS:
        reader = _text_reader(array, is_json=kind in JSON_KINDS)
    elif kind == "boolean":
        reader = bit_reader(array.buffers()[1], array.offset)
    else:
        return lambda row: from_arrow(array.slice(row, 1), data_type)[0]
    if array.null_count == 0:
        return reader
    is_valid = bit_reader(array.buffers()[0], array.offset)
    return lambda row: reader(row) if is_valid(row) else None


def _fixed_reader(array: pa.Array, format: Any, width: int) -> CellReader:
    offset = array.offset * width
    view = memoryview(array.buffers()[1]).cast("B")[offset : offset + len(array) * width].cast(format)
    return view.__getitem__


def _text_reader(array: pa.Array, *, is_json: bool) -> CellReader:
    buffers = array.buffers()
    first = array.offset * 4
    offsets = memoryview(buffers[1]).cast("B")[first : first + (len(array) + 1) * 4].cast("i")
    data = memoryview(buffers[2]).cast("B") if buffers[2] is not None else memoryview(b"")
    if is_json:
        decode = msgspec.json.decode
        return lambda row: decode(data[offsets[row] : offsets[row + 1]])
    return lambda row: str(data[offsets[row] : offsets[row + 1]], "utf-8")


def bit_reader(bitmap: pa.Buffer, offset: int) -> CellReader:
    bits = memoryview(bitmap).cast("B")

    def read(row: int) -> bool:
        position = row + offset
        return bits[position >> 3] >> (position & 7) & 1 == 1

    return read
