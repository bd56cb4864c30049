"""Arrow batches → DataRow messages, column by column: the way of big results.

Every column becomes an array of its wire bytes and one of its big-endian lengths (-1 for NULL); joining them element-wise
behind a header array makes rows, and the joined array's data buffer is what goes to the socket: four times as fast as a
loop over rows. Where all columns are binary, of fixed width and without NULL, rows
are one packed numpy record array, faster still.

In: a batch with fields ``c<id>`` in the order of the result's columns. Out: bytes. Types without a vectorised form
(intervals, arrays, records) are encoded value by value inside their column.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.model import compute as pc
from cratepy.model.arrow import MS_PER_DAY, UNCONSTRAINED_DIGITS, from_arrow
from cratepy.model.types import ANY_JSON, DataType
from cratepy.protocols.postgres.binary import (
    POSTGRES_EPOCH_MS,
    TIMESTAMP_MS_MAX,
    TIMESTAMP_MS_MIN,
    binary_encoder,
    out_of_range,
)
from cratepy.protocols.postgres.rows import RowEncoder
from cratepy.protocols.postgres.text import text_encoder
from cratepy.protocols.values import YEAR_1_MS, YEAR_10000_MS

_EMPTY: Final = pa.scalar(b"", pa.binary())
#: Binary kinds of fixed width → numpy's big-endian type.
_FIXED: Final = {
    "byte": ">i2",
    "smallint": ">i2",
    "integer": ">i4",
    "bigint": ">i8",
    "real": ">f4",
    "double precision": ">f8",
    "regclass": ">i4",
    "regproc": ">i4",
    "regtype": ">i4",
    "boolean": "u1",
    "date": ">i4",
    "timestamp with time zone": ">i8",
    "timestamp without time zone": ">i8",
}
#: Kinds whose wire bytes, in both formats, are their text in Arrow.
_PLAIN_TEXT: Final = frozenset({"text", "character", "ip", "json", "object", "geo_shape"})
_INTEGERS: Final = frozenset({"byte", "smallint", "integer", "bigint", "regclass"})


def encode_batch(encoder: RowEncoder, batch: pa.RecordBatch) -> bytes | memoryview:
    """The rows of a batch as DataRow messages."""
    count = batch.num_rows
    if count == 0:
        return b""
    if not encoder.columns:
        return b"D\0\0\0\x06\0\0" * count
    packed = _packed_rows(encoder, batch)
    if packed is not None:
        return packed
    width = len(encoder.columns)
    lengths = np.empty((width, count), dtype=np.int32)
    data: list[pa.Array] = []
    for position, column in enumerate(encoder.columns):
        array = _wire_column(batch.column(position), column.type, is_binary=bool(encoder.formats[position]))
        sizes = pc.fill_null(pc.binary_length(array), -1)
        lengths[position] = sizes.to_numpy(zero_copy_only=False)
        data.append(array)
    header = np.empty(count, dtype=[("kind", "S1"), ("length", ">i4"), ("columns", ">u2"), ("first", ">i4")])
    header["kind"] = b"D"
    header["length"] = np.maximum(lengths, 0).sum(axis=0) + (6 + 4 * width)
    header["columns"] = width
    header["first"] = lengths[0]
    parts: list[Any] = [_fixed_array(header.tobytes(), count, 11), data[0]]
    for position in range(1, width):
        parts.append(_fixed_array(lengths[position].astype(">i4").tobytes(), count, 4))
        parts.append(data[position])
    joined = pc.binary_join_element_wise(*parts, _EMPTY, null_handling="replace", null_replacement=b"")
    _validity, offset_buffer, values = joined.buffers()
    offsets: Any = np.frombuffer(offset_buffer, dtype=np.int32)
    return memoryview(values)[int(offsets[joined.offset]) : int(offsets[joined.offset + count])]


def _packed_rows(encoder: RowEncoder, batch: pa.RecordBatch) -> bytes | None:
    fields: list[tuple[str, str]] = [("kind", "S1"), ("length", ">i4"), ("columns", ">u2")]
    for position, column in enumerate(encoder.columns):
        code = _FIXED.get(column.type.kind)
        if code is None or not encoder.formats[position] or batch.column(position).null_count:
            return None
        fields += [(f"length{position}", ">i4"), (f"value{position}", code)]
    rows = np.empty(batch.num_rows, dtype=fields)
    rows["kind"] = b"D"
    rows["length"] = rows.dtype.itemsize - 1
    rows["columns"] = len(encoder.columns)
    for position, column in enumerate(encoder.columns):
        rows[f"length{position}"] = np.dtype(_FIXED[column.type.kind]).itemsize
        rows[f"value{position}"] = _fixed_values(batch.column(position), column.type)
    return rows.tobytes()


def _fixed_values(array: pa.Array, data_type: DataType) -> Any:
    """Values of a fixed-width column as numpy numbers; NULLs become 0."""
    if data_type.kind == "boolean":
        return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    if data_type.is_timestamp:
        ms = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        if len(ms):
            for bound in (int(ms.min()), int(ms.max())):
                if not TIMESTAMP_MS_MIN <= bound <= TIMESTAMP_MS_MAX:
                    raise out_of_range(bound)
        return (ms - POSTGRES_EPOCH_MS) * 1000
    if data_type.kind == "date":
        days = pc.fill_null(array.cast(pa.int32()), 0).to_numpy(zero_copy_only=False)
        return days - POSTGRES_EPOCH_MS // MS_PER_DAY
    return pc.fill_null(array, 0).to_numpy(zero_copy_only=False)


def _fixed_array(data: bytes, count: int, width: int) -> pa.Array:
    offsets: Any = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _wire_column(array: pa.Array, data_type: DataType, *, is_binary: bool) -> pa.Array:
    """The column as binary array of its wire bytes, NULL where NULL."""
    kind = data_type.kind
    if kind in _PLAIN_TEXT and data_type != ANY_JSON:
        return array.cast(pa.string()).cast(pa.binary())
    if is_binary:
        code = _FIXED.get(kind)
        if code is not None:
            fixed = _fixed_values(array, data_type).astype(code)
            wire = _fixed_array(fixed.tobytes(), len(array), fixed.dtype.itemsize)
            return wire if array.null_count == 0 else pc.if_else(pc.is_valid(array), wire, pa.scalar(None, pa.binary()))
        return _value_by_value(array, data_type, is_binary=True)
    text = _text_column(array, data_type)
    return _value_by_value(array, data_type, is_binary=False) if text is None else text.cast(pa.binary())


def _value_by_value(array: pa.Array, data_type: DataType, *, is_binary: bool) -> pa.Array:
    encode = binary_encoder(data_type) if is_binary else text_encoder(data_type)
    values = from_arrow(array, data_type)
    return pa.array([None if value is None else encode(value) for value in values], type=pa.binary())


def _text_column(array: pa.Array, data_type: DataType) -> pa.Array | None:
    """The column's text by a kernel, or None if this type or these values need the slow way."""
    kind = data_type.kind
    if kind in _INTEGERS:
        return array.cast(pa.string())
    if kind == "boolean":
        return pc.if_else(array, "t", "f")
    if kind == "uuid":
        return array.cast(pa.string())
    if kind == "bit":
        return array.cast(pa.string())
    if kind in ("real", "double precision"):
        return _float_text(array)
    if data_type.is_timestamp or kind == "date":
        return _temporal_text(array, data_type)
    if kind == "numeric":
        return _numeric_text(array, data_type)
    return None


def _float_text(array: pa.Array) -> pa.Array | None:
    """Plain decimals by kernel; numbers that Java writes with an exponent, NaN and infinity make it the slow way."""
    values = np.abs(pc.fill_null(array, 1.0).to_numpy(zero_copy_only=False))
    if not (((values >= 1e-3) & (values < 1e7)) | (values == 0)).all():
        return None
    text = array.cast(pa.string())
    if text.null_count == len(text):
        return text
    has_point = pc.fill_null(pc.match_substring(text, "."), True)
    if pc.any(pc.match_substring(text, "e")).as_py():
        return None
    if pc.all(has_point).as_py():
        return text
    return pc.if_else(has_point, text, pc.binary_join_element_wise(text, "0", "."))


def _temporal_text(array: pa.Array, data_type: DataType) -> pa.Array | None:
    ms = (
        array.cast(pa.int64())
        if data_type.is_timestamp
        else pc.multiply(array.cast(pa.int32()).cast(pa.int64()), MS_PER_DAY)
    )
    bounds = pc.min_max(ms).as_py()
    if bounds["min"] is not None and not (bounds["min"] >= YEAR_1_MS and bounds["max"] < YEAR_10000_MS):
        return None
    text = array.cast(pa.string())
    if data_type.kind != "timestamp with time zone":
        return text
    return pc.binary_join_element_wise(text, "+00", "")


def _numeric_text(array: pa.Array, data_type: DataType) -> pa.Array | None:
    text = array.cast(pa.string())
    if pc.any(pc.match_substring(text, "E")).as_py():
        return None
    if data_type.precision is None:
        assert array.type.precision == UNCONSTRAINED_DIGITS
        text = pc.utf8_rtrim(pc.utf8_rtrim(text, characters="0"), characters=".")
    return text
