"""What nodes say to each other about rows of shards: writes, gets, counts, refreshes.

Messages only, for ``Transport.request``. Rows of a write travel as one Arrow IPC stream in a bytes field, so that they
are copied once; SQL values of gets travel as msgpack. A reply's ``status`` tells the coordinator what to do next, so that
conditions (stale routing) do not need an error class on the wire::

    done      the shard decided on every row; ``failures`` are the rows it refused
    stale     this node does not hold that primary (yet, or any more): wait for a newer state, route again
    unknown   a repeat of an operation that this node has forgotten: whether it was executed cannot be told
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pyarrow as pa

WRITE: Final = "shard/write"
GET: Final = "shard/get"
COUNT: Final = "shard/count"
REFRESH: Final = "shard/refresh"
OPTIMIZE: Final = "shard/optimize"


class ShardWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One batch for one shard; fields as in ``storage.operations.WriteBatch``.

    ``op_id`` is chosen before the first attempt and kept by every repeat; ``sent_ms_ago`` is the age of the first attempt,
    0 if this is it. ``definition_version`` is the table definition the rows were built with.
    """

    table_uuid: str
    shard: int
    allocation_id: str
    primary_term: int
    definition_version: int
    op_id: str
    kind: str
    ids: list[str]
    rows: bytes | None
    expected: list[tuple[int, int] | None] | None = None
    sent_ms_ago: int = 0


class ShardWritten(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    failures: list[tuple[int, str]] = []
    first_seq_no: int = 0
    primary_term: int = 0
    versions: list[int] = []


class ShardGet(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by id, in real time; ``sources`` as of ``Shard.get``."""

    table_uuid: str
    shard: int
    allocation_id: str
    definition_version: int
    ids: list[str]
    sources: list[str]


class ShardRows(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    rows: list[list[Any] | None] = []


class ShardsOf(msgspec.Struct, frozen=True, kw_only=True):
    """Shards of tables on the node asked: (table uuid, shard). For counts and refreshes."""

    shards: list[tuple[str, int]]


class OptimizeShards(msgspec.Struct, frozen=True, kw_only=True):
    """Shards to merge, and how: see ``Shard.optimize``."""

    shards: list[tuple[str, int]]
    max_num_segments: int | None = None
    only_expunge_deletes: bool = False
    flush: bool = True


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` over the shards that are here; ``missing`` are the ones that are not."""

    count: int = 0
    missing: list[tuple[str, int]] = []


def encode_rows(rows: pa.RecordBatch) -> bytes:
    """A batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_rows(data: bytes) -> pa.RecordBatch:
    """The inverse of :func:`encode_rows`; the arrays point into ``data``."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_next_batch()
