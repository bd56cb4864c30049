"""Group-bys and joins over ten times the New York flights (3.4 M rows), against DuckDB's own tables."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet

from benchmarks.common import Claim, cratepy_node
from demo.answers import difference
from demo.data import DATASETS, prepare, read_source

COPIES = 10
RUNS = 7
QUERIES = {
    "group by one of 3": "SELECT origin, count(*), avg(dep_delay) FROM flights GROUP BY origin",
    "group by two, 35 groups": "SELECT origin, carrier, sum(distance), max(arr_delay) FROM flights GROUP BY origin, carrier",
    "group by 4,044 texts": "SELECT tailnum, count(*), avg(distance) FROM flights GROUP BY tailnum ORDER BY 2 DESC, 1 LIMIT 10",
    "filter and group by hour": "SELECT hour, count(*) FROM flights WHERE dep_delay > 30 AND month < 7 GROUP BY hour",
    "join planes, group by maker": "SELECT p.manufacturer, count(*), avg(f.dep_delay) FROM flights f JOIN planes p ON p.tailnum = f.tailnum GROUP BY p.manufacturer",
    "join three tables": "SELECT a.name, ap.tz, count(*) FROM flights f JOIN airlines a ON a.carrier = f.carrier JOIN airports ap ON ap.faa = f.dest GROUP BY a.name, ap.tz",
}  # fmt: skip


def run() -> list[Claim]:
    import duckdb

    with tempfile.TemporaryDirectory(prefix="bench-flights-") as directory, cratepy_node() as node:
        files = dict(prepare(Path(".demo") / "data"))
        table = pa.concat_tables([read_source("flights")] * COPIES)
        files["flights"] = Path(directory) / "flights.parquet"
        pa.parquet.write_table(table, files["flights"])
        oracle = duckdb.connect()
        readers = {
            "csv": "read_csv('{}', sample_size = -1)",
            "json": "read_json('{}')",
            "parquet": "read_parquet('{}')",
        }
        for dataset in DATASETS:
            file = files[dataset.name]
            kind = file.suffix[1:]
            node.sql(dataset.create.format(shards=4))
            options = ", empty_string_as_null = true" if kind == "csv" else ""
            node.sql(
                f"COPY {dataset.name} FROM ? WITH (format = '{kind}'{options})",
                [file.resolve().as_uri()],
                timeout_s=900,
            )
            node.sql(f"REFRESH TABLE {dataset.name}")
            oracle.execute(f"CREATE TABLE {dataset.name} AS SELECT * FROM {readers[kind].format(file)}")
        address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc"
        with psycopg.connect(address, autocommit=True) as connection:
            return [
                compared(
                    name,
                    lambda sql=sql: connection.execute(sql).fetchall(),
                    lambda sql=sql: oracle.execute(sql).fetchall(),
                )
                for name, sql in QUERIES.items()
            ]


def compared(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Claim:
    """One query of both, in turn; they have to give the same rows."""
    problem = difference(ours(), theirs(), is_ordered=False)
    if problem is not None:
        raise RuntimeError(f"{name}: {problem}")
    mine, other = [], []
    for _ in range(RUNS):
        mine.append(_milliseconds(ours))
        other.append(_milliseconds(theirs))
    return Claim(name, statistics.median(mine), statistics.median(other), "ms", "DuckDB", 3, True)


def _milliseconds(ask: Callable[[], Any]) -> float:
    started = time.perf_counter()
    ask()
    return (time.perf_counter() - started) * 1000
