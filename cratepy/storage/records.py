"""What a translog record says: an operation on rows, or a schema that later records of the file refer to.

In: a decided batch (ids, versions, first seq_no, rows). Out: bytes, and back. Rows are one Arrow IPC message *without*
its schema (4 µs for a row of eight columns, and zero-copy for ten thousand); the schema is its own record, once per file
and schema. A record is complete in itself otherwise: a copy that applies records in order is the same shard.

    payload  header length (u32) | header (msgpack array) | body

A batch with many ids has them as the last column of its body instead of in its header (kind ``rows``).
The body of a single row may be the msgpack array of its SQL values instead (kind ``row``, see
:mod:`cratepy.storage.plain_rows`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import pyarrow as pa

from cratepy.storage.ids import IdArray

_ID: Final = "_id"
_LENGTH: Final = struct.Struct("<I")
#: ``schema`` of an operation without rows.
NO_SCHEMA: Final = -1


class RecordHeader(msgspec.Struct, frozen=True, array_like=True):
    """The small part of a record. ``schema``: the ordinal this record defines or refers to."""

    kind: Literal["index", "rows", "row", "delete", "schema", "mark", "birth"]
    schema: int = NO_SCHEMA
    first_seq_no: int = -1
    primary_term: int = 0
    ids: list[str] = []
    #: One per id; a single number stands for all of them.
    versions: list[int] | int = 1


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(RecordHeader).decode

#: The record that ``close`` writes, see :mod:`cratepy.storage.translog`.
MARK: Final = _LENGTH.pack(len(_encode_header(RecordHeader("mark")))) + _encode_header(RecordHeader("mark"))


def encode_schema(ordinal: int, schema: pa.Schema) -> bytes:
    header = _encode_header(RecordHeader("schema", ordinal))
    return b"".join((_LENGTH.pack(len(header)), header, schema.serialize()))


def encode_birth(manifest: bytes) -> bytes:
    """The first record of a new copy: the manifest it has until its first flush."""
    header = _encode_header(RecordHeader("birth"))
    return b"".join((_LENGTH.pack(len(header)), header, manifest))


def encode_operation(
    kind: Literal["index", "rows", "row", "delete"],
    *,
    first_seq_no: int,
    primary_term: int,
    ids: Sequence[str],
    versions: Sequence[int] | int,
    schema: int,
    body: pa.Buffer | bytes,
) -> bytes:
    """An insert is recorded as an index: by then it is decided."""
    header = _encode_header(
        RecordHeader(
            kind,
            schema,
            first_seq_no,
            primary_term,
            ids if isinstance(ids, list) else list(ids),
            versions if isinstance(versions, int | list) else list(versions),
        )
    )
    return b"".join((_LENGTH.pack(len(header)), header, body))


def encode_row(id: str, body: bytes, *, schema: int, seq_no: int, primary_term: int) -> bytes:
    """:func:`encode_operation` of one plain row that is the first of its id."""
    header = _encode_header(RecordHeader("row", schema, seq_no, primary_term, [id]))
    return b"".join((_LENGTH.pack(len(header)), header, body))


def decode_record(payload: bytes | memoryview) -> tuple[RecordHeader, bytes | memoryview]:
    """Header and body; raises msgspec.MsgspecError or struct.error for what no writer of ours wrote."""
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    return _decode_header(payload[_LENGTH.size : end]), payload[end:]


def decode_rows(body: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """The rows, copied out of the file: a record's offset in it is not aligned for Arrow."""
    return pa.ipc.read_record_batch(pa.py_buffer(bytes(body)), schema)


def schema_with_ids(schema: pa.Schema) -> pa.Schema:
    """The columns of rows as a ``rows`` record has them."""
    return schema.append(pa.field(_ID, pa.string()))


def batch_with_ids(rows: pa.RecordBatch, ids: IdArray, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*rows.columns, ids.array], schema=schema)


def split_ids(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, IdArray]:
    """Rows and ids of a ``rows`` record."""
    last = batch.num_columns - 1
    if last < 0 or batch.schema.field(last).name != _ID:
        raise pa.ArrowInvalid("a batch without ids")
    return batch.select(list(range(last))), IdArray(batch.column(last))


def decode_schema(body: bytes | memoryview) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(bytes(body)))
