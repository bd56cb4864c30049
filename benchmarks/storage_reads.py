"""Rows out of a shard: by key, and by scan through the engine; against DuckDB and SQLite on the same rows.

A get is what ``SELECT … WHERE pk = …`` does below SQL: four values of a row. Scans go the way of a query's fragment: the
shard's batches as partitions of DataFusion, one thread, against DuckDB's own tables with one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.storage_common import (
    ROWS,
    Bench,
    Figure,
    check,
    duckdb_file,
    event_rows,
    one_core,
    paired_seconds,
    seconds,
)
from cratepy.storage.shard import Shard

_SOURCES = ["c1", "c3", "c4", "_version"]
_SINGLE_KEYS = 2_000
_BATCH_KEYS = 1_000


def get(bench: Bench) -> Iterator[Figure]:
    """One key at a time, and a thousand at once."""
    shard = bench.big()
    random = np.random.default_rng(3)
    keys = [str(i) for i in random.integers(0, ROWS, _SINGLE_KEYS).tolist()]
    batches = [[str(i) for i in random.choice(ROWS, _BATCH_KEYS, replace=False).tolist()] for _ in range(20)]
    missing = [[f"x{key}" for key in batch] for batch in batches]
    with one_core():
        one = seconds(lambda: [shard.get((key,), _SOURCES) for key in keys]) / len(keys)
        many = seconds(lambda: [shard.get(batch, _SOURCES) for batch in batches]) / (len(batches) * _BATCH_KEYS)
        none = seconds(lambda: [shard.get(batch, _SOURCES) for batch in missing]) / (len(batches) * _BATCH_KEYS)
        sqlite_one, sqlite_many = _sqlite(bench, keys, batches)
        duck_one, duck_many = _duckdb(bench, keys, batches)
    for key, row in zip(batches[0], shard.get(batches[0], ["_id", "c3"]), strict=True):
        check(row is not None and row[0] == key, f"key {key} gave {row}")
    check(all(row is None for row in shard.get(missing[0], ["_id"])), "a key that does not exist was found")
    of = f"{ROWS / 1e6:g} M rows, {shard.segment_count} segments"
    yield Figure(name=f"get of 1 key, {of}", ours=one * 1e6, unit="µs", peer=sqlite_one * 1e6, peer_name="SQLite")
    yield Figure(name=f"get of 1 key, {of}", ours=one * 1e6, unit="µs", peer=duck_one * 1e6, peer_name="DuckDB")
    name = f"get of {_BATCH_KEYS:,} keys at once, {of}"
    yield Figure(name=name, ours=1 / many, unit="keys/s", peer=1 / sqlite_many, peer_name="SQLite", goal=300_000)
    yield Figure(name=name, ours=1 / many, unit="keys/s", peer=1 / duck_many, peer_name="DuckDB")
    yield Figure(name=f"the same, keys that do not exist, {of}", ours=1 / none, unit="keys/s")


def _sqlite(bench: Bench, keys: list[str], batches: list[list[str]]) -> tuple[float, float]:
    """Seconds a key: one by one, and with IN; a table of as many rows with a text primary key."""
    path = bench.directory / "peer.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, c1 INTEGER, c3 INTEGER, c4 REAL) WITHOUT ROWID")
    # In the order of the key, which is much faster than in ours.
    connection.execute(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT ?) "
        "SELECT CAST(i AS TEXT), i, i % 1000, i * 0.5 FROM n ORDER BY 1",
        (ROWS,),
    )
    connection.commit()
    single = "SELECT c1, c3, c4 FROM t WHERE id = ?"
    many = f"SELECT id, c1, c3, c4 FROM t WHERE id IN ({', '.join('?' * _BATCH_KEYS)})"
    one = seconds(lambda: [connection.execute(single, (key,)).fetchone() for key in keys]) / len(keys)
    batch = seconds(lambda: [connection.execute(many, batch).fetchall() for batch in batches])
    connection.close()
    path.unlink()
    return one, batch / (len(batches) * _BATCH_KEYS)


def _duckdb(bench: Bench, keys: list[str], batches: list[list[str]]) -> tuple[float, float]:
    path = bench.directory / "peer.duckdb"
    connection = duckdb_file(path)
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, c1 BIGINT, c3 INTEGER, c4 DOUBLE)")
    connection.execute(f"INSERT INTO t SELECT i::TEXT, i, i % 1000, i * 0.5 FROM range({ROWS}) r(i)")
    single = "SELECT c1, c3, c4 FROM t WHERE id = ?"
    many = f"SELECT id, c1, c3, c4 FROM t WHERE id IN ({', '.join('?' * _BATCH_KEYS)})"
    some = keys[:200]
    one = seconds(lambda: [connection.execute(single, [key]).fetchone() for key in some], times=3) / len(some)
    batch = seconds(lambda: [connection.execute(many, batch).fetchall() for batch in batches[:4]], times=3)
    connection.close()
    path.unlink()
    return one, batch / (4 * _BATCH_KEYS)


_SCANS = {
    "sum of 1 column": "SELECT sum(c4) FROM t",
    "group by of 2 columns": "SELECT c3, sum(c4) FROM t GROUP BY c3",
    "min, max and filter over 10 columns": (
        "SELECT min(c1), max(c2), sum(c3), sum(c4), max(c5), sum(c6), count(c7), sum(c8), min(c9), max(c10) "
        "FROM t WHERE c3 < 900"
    ),
}


def scan(bench: Bench) -> Iterator[Figure]:
    """Columns through the engine, hot."""
    shard = bench.big()
    rows = shard.row_count()
    peer = _duckdb_events(bench)
    with one_core():
        for name, sql in _SCANS.items():
            columns = [f"c{i}" for i in range(1, 11) if f"c{i})" in sql or f"c{i} " in sql or f"c{i}," in sql]
            # Once without looking: blocks are decoded when they are first read.
            _through_engine(shard, columns, sql)
            ours, theirs = paired_seconds(
                lambda sql=sql, columns=columns: _through_engine(shard, columns, sql),  # type: ignore[misc]
                lambda sql=sql: peer.execute(sql).fetchall(),  # type: ignore[misc]
                times=5,
            )
            yield Figure(
                name=f"{name}, {rows / 1e6:g} M rows",
                ours=ours * 1e3,
                unit="ms",
                peer=theirs * 1e3,
                peer_name="DuckDB",
                goal=1.5,
                is_ratio=True,
                is_upper_bound=True,
            )
    check(_through_engine(shard, ["c3"], "SELECT count(c3) FROM t") == [{"count(t.c3)": rows}], "a scan missed rows")
    given = seconds(lambda: shard.scan([f"c{i}" for i in range(1, 11)]))
    yield Figure(name="the batches of a scan of 10 columns", ours=given * 1e6, unit="µs")
    peer.close()


def _through_engine(shard: Shard, columns: list[str], sql: str) -> list[dict[str, Any]]:
    from datafusion import SessionConfig, SessionContext

    session = SessionContext(SessionConfig().with_target_partitions(1))
    session.register_record_batches("t", [shard.scan(columns)])
    batches = session.sql(sql).collect()
    return [row for batch in batches for row in batch.to_pylist()]


def _duckdb_events(bench: Bench) -> Any:
    connection = duckdb_file(bench.directory / "peer.duckdb")
    first = True
    for start in range(0, ROWS, 1_000_000):
        count = min(1_000_000, ROWS - start)
        made = pa.Table.from_batches([event_rows(start, count, columns=10)])
        connection.register("rows", made)
        connection.execute("CREATE TABLE t AS SELECT * FROM rows" if first else "INSERT INTO t SELECT * FROM rows")
        first = False
    connection.execute("CHECKPOINT")
    return connection
