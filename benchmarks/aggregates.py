"""Aggregates that look at the values of a group together, over two million rows, against DuckDB's own table."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet

from benchmarks.analytics import compared
from benchmarks.common import Claim, cratepy_node

ROWS = 2_000_000
GROUPS = 100_000
CREATE = "CREATE TABLE points (x double, g bigint, k integer, s text, d numeric(18, 4)) CLUSTERED INTO 4 SHARDS"
#: Name → ours and theirs. percentile takes the value at ⌊n·q⌋, quantile_disc the one at ⌈n·q⌉ - 1: the same if n·q is not whole.
QUERIES = {
    "sum": ("sum(x)", "sum(x)"),
    "count(DISTINCT double)": ("count(DISTINCT x)", "count(DISTINCT x)"),
    "max_by": ("max_by(s, g)", "arg_max(s, g)"),
    "percentile": ("percentile(x, 0.90000025)", "quantile_disc(x, 0.90000025)"),
    "median": ("median(x)", "median(x)"),
    "geometric_mean": ("geometric_mean(x)", "exp(avg(ln(x)))"),
    "hyperloglog_distinct": ("hyperloglog_distinct(g)", "count(DISTINCT g)"),
    "collect_set": ("array_length(collect_set(k), 1)", "len(list(DISTINCT k))"),
    "string_agg": ("length(string_agg(s, ','))", "length(string_agg(s, ','))"),
    "avg of numerics": ("avg(d)::double", "avg(d)"),
}
GROUPED = {
    "percentile and max_by of 100,000 groups": (
        "SELECT max(p), max(m) FROM (SELECT percentile(x, 0.51) AS p, max_by(g, x) AS m FROM points GROUP BY k) t",
        "SELECT max(p), max(m) FROM (SELECT quantile_disc(x, 0.51) AS p, arg_max(g, x) AS m FROM points GROUP BY k) t",
    ),
}


def run() -> list[Claim]:
    import duckdb

    with tempfile.TemporaryDirectory(prefix="bench-points-") as directory, cratepy_node() as node:
        file = Path(directory) / "points.parquet"
        pa.parquet.write_table(_points(), file)
        node.sql(CREATE)
        node.sql("COPY points FROM ? WITH (format = 'parquet')", [file.resolve().as_uri()], timeout_s=900)
        node.sql("REFRESH TABLE points")
        oracle = duckdb.connect()
        oracle.execute(f"CREATE TABLE points AS SELECT * FROM read_parquet('{file}')")
        queries = {name: tuple(f"SELECT {part} FROM points" for part in both) for name, both in QUERIES.items()}
        address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc"
        with psycopg.connect(address, autocommit=True) as connection:
            return [
                compared(
                    name,
                    lambda ours=ours: connection.execute(ours).fetchall(),
                    lambda theirs=theirs: oracle.execute(theirs).fetchall(),
                )
                for name, (ours, theirs) in {**queries, **GROUPED}.items()
            ]


def _points() -> pa.Table:
    chance = np.random.default_rng(1)
    numbers = chance.permutation(ROWS).astype(np.int64)
    return pa.table(
        {
            "x": chance.lognormal(size=ROWS),
            "g": numbers,
            "k": (numbers % GROUPS).astype(np.int32),
            "s": [f"text {number % 1_000}" for number in numbers.tolist()],
            "d": pa.array(numbers % 1_000_000).cast(pa.decimal128(19, 0)).cast(pa.decimal128(24, 4)).cast(pa.decimal128(18, 4)),
        }
    )  # fmt: skip
