"""Rows into a shard: bulk inserts and upserts, durable and on one core, against Arrow files and DuckDB.

Durable means that the translog was synced after each batch, as a client that waits for its answer sees it. The peers sync
as often: an Arrow IPC stream is flushed to disk and DuckDB commits after every batch. DuckDB keeps a primary key, as we do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from benchmarks.storage_common import (
    BATCH_ROWS,
    ROWS,
    Bench,
    Figure,
    Stopwatch,
    check,
    duckdb_file,
    event_batches,
    event_rows,
    events,
    one_core,
)
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import TEXT
from cratepy.storage.operations import WriteBatch

_INSERT_ROWS = min(ROWS, 2_000_000)
_UPSERTS = 200


def insert(bench: Bench) -> Iterator[Figure]:
    """Bulk insert of 8-column rows, batches of 10,000."""
    rows = _INSERT_ROWS
    given = list(event_batches(rows))
    with one_core():
        ours, with_refresh = _insert(bench, events("insert"), given)
        arrow = rows / _arrow_seconds(bench, given)
        duck = rows / _duckdb_seconds(bench, given)
        texts = [_with_text(batch) for batch in given[: len(given) // 2]]
        with_text, _ = _insert(bench, _text_table(), texts)
    yield Figure(name="insert, 8 columns", ours=ours, unit="rows/s", peer=arrow, peer_name="Arrow IPC", goal=500_000)
    yield Figure(
        name="insert, 8 columns", ours=ours, unit="rows/s", peer=duck, peer_name="DuckDB", goal=1, is_ratio=True
    )
    yield Figure(name="insert and the refreshes and merges", ours=with_refresh, unit="rows/s")
    yield Figure(name="insert, 8 columns and a text", ours=with_text, unit="rows/s")


def _insert(bench: Bench, definition: TableDefinition, given: list[WriteBatch]) -> tuple[float, float]:
    """Rows a second: of the writes, and with what makes them visible and joins segments."""
    shard = bench.open(definition)
    rows = sum(len(batch.ids) for batch in given)
    watch = Stopwatch()
    for batch in given:
        check(not shard.write(batch).failures, "an insert of a new id was refused")
        shard.sync()
    written = watch.seconds()
    shard.refresh()
    refreshed = watch.seconds()
    check(shard.row_count() == rows, f"{shard.row_count()} of {rows} rows are there")
    bench.store.remove_shard(definition.uuid, 0)
    return rows / written, rows / refreshed


def _arrow_seconds(bench: Bench, given: list[WriteBatch]) -> float:
    path = bench.directory / "peer.arrow"
    watch = Stopwatch()
    with open(path, "wb") as file:
        writer = pa.ipc.new_stream(file, given[0].rows.schema)  # type: ignore[union-attr]
        for batch in given:
            writer.write_batch(batch.rows)
            file.flush()
            os.fdatasync(file.fileno())
    took = watch.seconds()
    path.unlink()
    return took


def _duckdb_seconds(bench: Bench, given: list[WriteBatch]) -> float:
    path = bench.directory / "peer.duckdb"
    connection = duckdb_file(path)
    types = "c1 BIGINT, c2 TIMESTAMP, c3 INTEGER, c4 DOUBLE, c5 DOUBLE, c6 SMALLINT, c7 BOOLEAN, c8 BIGINT"
    connection.execute(f"CREATE TABLE t (id TEXT PRIMARY KEY, {types})")
    tables = [
        pa.table([pa.array(list(batch.ids)), *batch.rows.columns], names=["id", *batch.rows.schema.names])  # type: ignore[union-attr]
        for batch in given
    ]
    watch = Stopwatch()
    for table in tables:
        connection.register("rows", table)
        connection.execute("INSERT INTO t SELECT * FROM rows")
    took = watch.seconds()
    connection.close()
    path.unlink()
    return took


def _text_table() -> TableDefinition:
    definition = events("texts")
    columns = (*definition.columns, ColumnDefinition(oid=9, name="t", type=TEXT))
    return TableDefinition(name=definition.name, uuid="texts", oid=1, columns=columns)


def _with_text(batch: WriteBatch) -> WriteBatch:
    rows = batch.rows
    assert isinstance(rows, pa.RecordBatch)
    texts = pa.array([f"what the sensor said in row {row_id}" for row_id in batch.ids])
    return WriteBatch(kind=batch.kind, ids=batch.ids, rows=rows.append_column("c9", texts), primary_term=1)


def upsert(bench: Bench) -> Iterator[Figure]:
    """Whole rows replaced by id, batches of 10,000 random ids of ``ROWS``."""
    shard = bench.big()
    batches = min(_UPSERTS, max(10, ROWS // BATCH_ROWS // 10))
    random = np.random.default_rng(7)
    given = []
    for number in range(batches):
        picked = random.choice(ROWS, BATCH_ROWS, replace=False)
        rows = event_rows(ROWS + number * BATCH_ROWS, BATCH_ROWS, columns=10)
        given.append(WriteBatch(kind="index", ids=[str(i) for i in picked.tolist()], rows=rows, primary_term=1))
    with one_core():
        watch = Stopwatch()
        for batch in given:
            check(not shard.write(batch).failures, "a row that replaces another was refused")
            shard.sync()
        took = watch.seconds()
        watch = Stopwatch()
        shard.refresh()
        refresh = watch.seconds()
        duck, duck_batches = _duckdb_upserts(bench, given[:5])
    check(shard.row_count() == ROWS, "an upsert changed the number of rows")
    last = given[-1]
    found = shard.get(last.ids[:3], ["c1", "_version"])
    check([row is not None and row[0] for row in found] == last.rows.column(0)[:3].to_pylist(), "an old row was read")  # type: ignore[union-attr]
    ours = batches * BATCH_ROWS / took
    theirs = duck_batches * BATCH_ROWS / duck
    yield Figure(
        name=f"upsert into {ROWS / 1e6:g} M rows",
        ours=ours,
        unit="rows/s",
        peer=theirs,
        peer_name="DuckDB",
        goal=1,
        is_ratio=True,
    )
    yield Figure(name="the refresh after it", ours=refresh * 1e3, unit="ms")


def _duckdb_upserts(bench: Bench, given: list[WriteBatch]) -> tuple[float, int]:
    path = bench.directory / "peer.duckdb"
    connection = duckdb_file(path)
    kinds = ["BIGINT", "TIMESTAMP", "INTEGER", "DOUBLE", "DOUBLE", "SMALLINT", "BOOLEAN", "BIGINT", "DOUBLE", "INTEGER"]
    columns = ", ".join(f"c{i + 1} {kind}" for i, kind in enumerate(kinds))
    connection.execute(f"CREATE TABLE t (id TEXT PRIMARY KEY, {columns})")
    connection.execute(
        f"INSERT INTO t SELECT i::TEXT, i, TIMESTAMP '2024-01-01', 1, 2.0, 3.0, 4, true, 5, 6.0, 7 FROM range({ROWS}) r(i)"
    )
    tables = [
        pa.table([pa.array(list(batch.ids)), *batch.rows.columns], names=["id", *batch.rows.schema.names])  # type: ignore[union-attr]
        for batch in given
    ]
    watch = Stopwatch()
    for table in tables:
        connection.register("rows", table)
        connection.execute("INSERT OR REPLACE INTO t SELECT * FROM rows")
    took = watch.seconds()
    connection.close()
    path.unlink()
    return took, len(tables)
