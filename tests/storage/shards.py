"""Tables, batches and shards for the tests of storage."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from cratepy.clock import FakeClock
from cratepy.model.arrow import stored_type
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, TEXT, DataType
from cratepy.storage.columns import ColumnCache
from cratepy.storage.filesystem import FileSystem, RealFileSystem
from cratepy.storage.operations import WriteBatch
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard

COLUMNS: tuple[tuple[str, DataType], ...] = (("n", BIGINT), ("t", TEXT))


def table(columns: Sequence[tuple[str, DataType]] = COLUMNS, **extra: Any) -> TableDefinition:
    """A table whose columns have the oids 1, 2, …"""
    return TableDefinition(
        name=RelationName("doc", "t"),
        uuid="table-1",
        oid=1,
        columns=tuple(
            ColumnDefinition(oid=oid, name=name, type=data_type) for oid, (name, data_type) in enumerate(columns, 1)
        ),
        **extra,
    )


def rows(values: Sequence[tuple[Any, ...]], columns: Sequence[tuple[str, DataType]] = COLUMNS) -> pa.RecordBatch:
    arrays = [pa.array([v[i] for v in values], stored_type(data_type)) for i, (_, data_type) in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(1, len(columns) + 1)])


_SCHEMA = rows([]).schema


def insert(
    values: dict[str, tuple[Any, ...]],
    *,
    kind: Literal["insert", "index"] = "insert",
    primary_term: int = 1,
    expected: Sequence[tuple[int, int] | None] | None = None,
) -> WriteBatch:
    """Half of the single rows, by their ids, go in as plain rows: what holds must hold for both."""
    written: pa.RecordBatch | PlainRow = rows(list(values.values()))
    if len(values) == 1 and zlib.crc32(next(iter(values)).encode()) & 1:
        written = PlainRow(_SCHEMA, next(iter(values.values())))
    return WriteBatch(kind=kind, ids=list(values), rows=written, primary_term=primary_term, expected=expected)


def delete(*ids: str, expected: Sequence[tuple[int, int] | None] | None = None) -> WriteBatch:
    return WriteBatch(kind="delete", ids=list(ids), rows=None, primary_term=1, expected=expected)


def open_shard(
    directory: Path,
    *,
    definition: TableDefinition | None = None,
    files: FileSystem | None = None,
    create: bool = True,
    seed: int = 0,
    clock: FakeClock | None = None,
) -> Shard:
    disk: FileSystem = RealFileSystem() if files is None else files
    shard = Shard(
        table() if definition is None else definition,
        0,
        "copy-1",
        directory=directory,
        files=disk,
        clock=FakeClock(seed=seed) if clock is None else clock,
        cache=ColumnCache(),
        primary_term=1,
        create=create,
    )
    if files is not None:
        # The names above the copy's directory are the store's to make durable.
        for above in directory.parents:
            disk.sync_directory(above)
    return shard


def scanned(shard: Shard, sources: Sequence[str] = ("_id", "c1", "c2")) -> list[tuple[Any, ...]]:
    """Rows of a scan, in its order."""
    return [tuple(row.values()) for batch in shard.scan(sources) for row in batch.to_pylist()]
