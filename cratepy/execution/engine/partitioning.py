"""Rows to partitions by the hash of key columns: equal keys meet, on every node and in every process.

In: a batch, the positions of its key columns, the number of partitions. Out: the batch's rows per partition. The hash is
our own (xxHash64 of the value's bytes and a mixing of columns), because nodes must agree; keys compared with each other
have one type (the planner casts). NULLs are equal to each other, as are 0.0 and -0.0, and all NaNs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

_NULL_HASH: Final = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT: Final = np.uint64(31)


def hashes(batch: pa.RecordBatch, keys: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A 64-bit hash for each row; ``keys`` are positions of columns."""
    total = np.zeros(batch.num_rows, dtype=np.uint64)
    for key in keys:
        total = _mixed((total * _MULTIPLIER) ^ _column_hashes(batch.column(key)))
    return total


def _mixed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The finalizer of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> _SHIFT)


def _column_hashes(array: Any) -> np.ndarray[Any, Any]:
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL_HASH)
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_integer(kind):
        found = _fixed(array.cast(pa.int64()).fill_null(0))
    elif pa.types.is_boolean(kind):
        found = _fixed(array.cast(pa.int8()).cast(pa.int64()).fill_null(0))
    elif pa.types.is_timestamp(kind):
        found = _fixed(array.cast(pa.int64()).fill_null(0))
    elif pa.types.is_date32(kind):
        found = _fixed(array.cast(pa.int32()).cast(pa.int64()).fill_null(0))
    elif pa.types.is_floating(kind):
        found = _floating(array)
    else:
        found = _objects(array)
    if array.null_count:
        found = np.where(array.is_null().to_numpy(zero_copy_only=False), _NULL_HASH, found)
    return found


def _fixed(array: Any) -> np.ndarray[Any, Any]:
    return _mixed(array.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64))


def _floating(array: Any) -> np.ndarray[Any, Any]:
    values = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
    values = np.where(np.isnan(values), np.nan, values)
    return _mixed(values.view(np.uint64))


def _objects(array: Any) -> np.ndarray[Any, Any]:
    """Text by its bytes; anything else by the text of its value."""
    digest = xxhash.xxh64_intdigest
    if pa.types.is_string(array.type) or pa.types.is_string_view(array.type):
        return _texts(array)
    if pa.types.is_decimal(array.type):
        values = (digest(_decimal_bytes(value)) for value in array.to_pylist())
    else:
        values = (digest(repr(value).encode()) for value in array.to_pylist())
    return np.fromiter(values, dtype=np.uint64, count=len(array))


def _decimal_bytes(value: Any) -> bytes:
    """One text for equal numbers of different scale."""
    return b"" if value is None else format(value.normalize() + 0, "f").encode()


def partitioned(batch: pa.RecordBatch, keys: tuple[int, ...], count: int) -> list[tuple[int, pa.RecordBatch]]:
    """The non-empty partitions of a batch, rows in their order."""
    if count == 1 or batch.num_rows == 0:
        return [(0, batch)] if batch.num_rows else []
    targets = (hashes(batch, keys) % np.uint64(count)).astype(np.int64)
    order = np.argsort(targets, kind="stable")
    bounds: Any = np.searchsorted(targets[order], np.arange(count + 1))
    found: list[tuple[int, pa.RecordBatch]] = []
    for target in range(count):
        start, end = int(bounds[target]), int(bounds[target + 1])
        if end == batch.num_rows and start == 0:
            return [(target, batch)]
        if end > start:
            found.append((target, taken(batch, order[start:end])))
    return found


def taken(batch: pa.RecordBatch, rows: np.ndarray[Any, Any]) -> pa.RecordBatch:
    """The rows of a batch by number."""
    return pa.RecordBatch.from_arrays([take(column, rows) for column in batch.columns], schema=batch.schema)


def take(array: Any, rows: np.ndarray[Any, Any]) -> Any:
    """Arrow's take, also for string views: their 16-byte views are picked, the text stays where it is."""
    if pa.types.is_string_view(array.type):
        return _take_views(array, rows)
    if pa.types.is_list(array.type) and pa.types.is_string_view(array.type.value_type):
        plain = array.cast(pa.list_(pa.string())).take(pa.array(rows))
        return plain.cast(array.type)
    return array.take(pa.array(rows))


def _take_views(array: Any, rows: np.ndarray[Any, Any]) -> Any:
    validity, views, *texts = array.buffers()
    picked = np.frombuffer(views, dtype="V16")[array.offset : array.offset + len(array)][rows]
    nulls = None
    if validity is not None and array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)[rows]
        nulls = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(array.type, len(rows), [nulls, pa.py_buffer(picked.tobytes()), *texts])


def _texts(array: Any) -> np.ndarray[Any, Any]:
    """Each distinct text is hashed once: keys repeat, and a Python call per row costs three times as much."""
    encoded = array.cast(pa.binary()).dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    digests = np.fromiter(map(xxhash.xxh64_intdigest, (*distinct, b"")), dtype=np.uint64, count=len(distinct) + 1)
    return digests[encoded.indices.fill_null(len(distinct)).to_numpy()]
