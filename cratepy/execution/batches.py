"""Batches on their way: what they weigh, cut into pieces, freed from buffers they share, put under other names.

In and out: Arrow batches of the in-flight schema. A ``string_view`` column of a slice or of a filtered batch still holds
every byte of the batch it was made from, and Arrow IPC writes all of them: eight slices of a 64k-row batch would send its
texts eight times. So what leaves the process (a stream to another node, a spill file) is compacted first, and what is
weighed counts only the bytes its rows refer to. Pure functions, 1–10 ns a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_schema, to_arrow
from cratepy.model.relations import OutputColumn

#: Texts up to this many bytes live inside their 16-byte view (Arrow columnar format, "Variable-size Binary View").
_INLINE_BYTES: Final = 12
#: A column is compacted if its buffers are more than this many times what its rows refer to.
_SLACK: Final = 1.5
#: A batch whose buffers are no bigger is weighed and sent as it is: looking closer costs more (50 µs) than the bytes.
_SMALL_BYTES: Final = 8 * limits.KIB


def batch_bytes(batch: pa.RecordBatch) -> int:
    """Bytes the rows of the batch refer to, not the buffers they share with others; of a small batch what it holds."""
    held: int = batch.get_total_buffer_size()
    if held <= _SMALL_BYTES:
        return held
    return sum(_array_bytes(column) for column in batch.columns)


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that a stream may carry: bounded in rows and in bytes (but at least one row each)."""
    rows = batch.num_rows
    if rows == 0:
        return
    step = limits.STREAM_BATCH_ROWS
    size = batch_bytes(batch)
    if size > limits.STREAM_BATCH_BYTES:
        step = max(1, min(step, rows * limits.STREAM_BATCH_BYTES // size))
    if rows <= step:
        yield batch
        return
    for start in range(0, rows, step):
        yield batch.slice(start, step)


def compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows without the bytes of others in the buffers of view columns; as it is if there are few."""
    if batch.get_total_buffer_size() <= _SMALL_BYTES:
        return batch
    columns = [_compact_array(column) for column in batch.columns]
    if all(new is old for new, old in zip(columns, batch.columns, strict=True)):
        return batch
    return batch_of(batch.schema, columns, batch.num_rows)


def renamed(batch: pa.RecordBatch, columns: Sequence[int], names: Sequence[str]) -> pa.RecordBatch:
    """The columns at these positions under these names."""
    schema = pa.schema([pa.field(name, batch.schema.field(i).type) for i, name in zip(columns, names, strict=True)])
    return batch_of(schema, [batch.column(i) for i in columns], batch.num_rows)


def batch_of(schema: pa.Schema, columns: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """A batch; without columns it still has its number of rows."""
    if columns:
        return pa.RecordBatch.from_arrays(list(columns), schema=schema)
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))


def batch_of_rows(rows: Sequence[Sequence[Any]], columns: tuple[OutputColumn, ...]) -> pa.RecordBatch:
    """Rows of SQL values as a batch. For a few: a microsecond a value."""
    arrays = [to_arrow([row[i] for row in rows], column.type) for i, column in enumerate(columns)]
    return batch_of(arrow_schema(columns), arrays, len(rows))


def _is_view(data_type: pa.DataType) -> bool:
    return pa.types.is_string_view(data_type) or pa.types.is_binary_view(data_type)


def _has_views(data_type: pa.DataType) -> bool:
    return _is_view(data_type) or (pa.types.is_list(data_type) and _has_views(data_type.value_type))


def _view_bytes(array: pa.Array) -> int:
    """Bytes outside the views that the rows of a view array refer to."""
    views = array.buffers()[1]
    if views is None or len(array) == 0:
        return 0
    lengths = np.frombuffer(views, dtype=np.int32)[array.offset * 4 : (array.offset + len(array)) * 4 : 4]
    return int(lengths[lengths > _INLINE_BYTES].sum(dtype=np.int64))


def _array_bytes(array: pa.Array) -> int:
    if _is_view(array.type):
        return 16 * len(array) + _view_bytes(array)
    if pa.types.is_list(array.type) and _has_views(array.type):
        return 4 * len(array) + _array_bytes(array.flatten())
    return array.nbytes


def _compact_array(array: pa.Array) -> pa.Array:
    data_type = array.type
    if not _has_views(data_type):
        return array
    if pa.types.is_list(data_type):
        # A cast or a slice keeps the whole child; cut it to what the lists refer to.
        first, end = (array.offsets[0].as_py(), array.offsets[-1].as_py()) if len(array) else (0, 0)
        values = _compact_array(array.values.slice(first, end - first))
        offsets = pc.subtract(array.offsets, pa.scalar(first, array.offsets.type))
        return pa.ListArray.from_arrays(offsets, values, type=data_type, mask=array.is_null())
    held = sum(buffer.size for buffer in array.buffers()[1:] if buffer is not None)
    if held <= _SLACK * (16 * len(array) + _view_bytes(array)):
        return array
    contiguous = pa.large_string() if pa.types.is_string_view(data_type) else pa.large_binary()
    return array.cast(contiguous).cast(data_type)
