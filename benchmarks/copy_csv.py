"""COPY FROM a CSV file of 8 columns with a primary key, against PostgreSQL's COPY of the same file."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.common import Claim, cratepy_node, postgres_server

ROWS = 500_000
COLUMNS = (
    "(id BIGINT PRIMARY KEY, a TEXT, b TEXT, c DOUBLE PRECISION, d DOUBLE PRECISION, e INTEGER, f BOOLEAN, "
    "g TIMESTAMP WITH TIME ZONE)"
)


def run() -> list[Claim]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-csv-") as directory,
        cratepy_node() as node,
        postgres_server() as postgres,
    ):
        file = Path(directory) / "rows.csv"
        with file.open("w") as out:
            out.write("id,a,b,c,d,e,f,g\n")
            for i in range(ROWS):
                stamp = f"2026-01-{i // 86_400 % 28 + 1:02d}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}Z"
                out.write(
                    f"{i},host-{i % 100},message {i},{i * 0.5},{i / 3},{i % 1000},{'true' if i % 2 else 'false'},{stamp}\n"
                )
        os.chmod(directory, 0o755)
        node.sql(f"CREATE TABLE bench_copy {COLUMNS} CLUSTERED INTO 4 SHARDS WITH (number_of_replicas = 0)")
        started = time.perf_counter()
        reply = node.sql("COPY bench_copy FROM ? WITH (format = 'csv')", [file.as_uri()], timeout_s=600)
        ours = ROWS / (time.perf_counter() - started)
        assert reply["rowcount"] == ROWS, reply
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE bench_copy {COLUMNS}")
            started = time.perf_counter()
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY bench_copy FROM STDIN (FORMAT csv, HEADER)") as copy,
                file.open("rb") as data,
            ):
                while chunk := data.read(1 << 20):
                    copy.write(chunk)
            theirs = ROWS / (time.perf_counter() - started)
    return [Claim("COPY FROM CSV, 8 columns with key", ours, theirs, "rows/s", "PostgreSQL COPY", 1, False)]
