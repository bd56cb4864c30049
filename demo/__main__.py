"""``python -m demo``: start, load, ask, stay up. ``--check`` compares with DuckDB and ends."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg

from demo.answers import difference
from demo.data import DATASETS, Dataset, prepare
from demo.processes import Cluster, Node
from demo.tour import TOUR, Stop

DATA_DIRECTORY: Final = Path(".demo")
SHARDS: Final = 6
ROWS_SHOWN_MAX: Final = 6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare every answer with DuckDB's and end")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    print("preparing the New York flights of 2013 …", flush=True)
    files = prepare(DATA_DIRECTORY / "data")
    directory = Path(tempfile.mkdtemp(prefix="nodes-", dir=DATA_DIRECTORY))
    try:
        return _run(directory, files, is_check=arguments.check)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130 if arguments.check else 0
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _run(directory: Path, files: dict[str, Path], *, is_check: bool) -> int:
    started = time.perf_counter()
    with Cluster(directory) as cluster:
        print(f"three nodes formed a cluster in {time.perf_counter() - started:.1f} s")
        for dataset in DATASETS:
            load(cluster.nodes[0], dataset, files[dataset.name], shards=SHARDS)
        passed, failed = _tour(cluster, files)
        if is_check:
            print(f"{passed} passed, {failed} failed")
            return 1 if failed else 0
        _stay(cluster)
    return 0


def load(node: Node, dataset: Dataset, file: Path, *, shards: int, schema: str = "doc", is_quiet: bool = False) -> int:
    """Create a table and fill it from its file, with a progress bar; returns the rows loaded."""
    node.sql(dataset.create.format(shards=shards), schema=schema)
    started = time.perf_counter()
    statement = f"COPY {dataset.name} FROM ? WITH (format = '{dataset.format}'{dataset.options}) RETURN SUMMARY"
    with _progress(node, dataset, file) if not is_quiet else contextlib.nullcontext():
        reply = node.sql(statement, [file.resolve().as_uri()], schema=schema, timeout_s=600)
    summary = dict(zip(reply["cols"], reply["rows"][0], strict=True))
    if summary["error_count"]:
        raise RuntimeError(f"{dataset.name}: {summary['error_count']} rows failed: {summary['errors']}")
    node.sql(f"REFRESH TABLE {dataset.name}", schema=schema)
    rows = int(summary["success_count"])
    if not is_quiet:
        seconds = time.perf_counter() - started
        print(f"\r  {dataset.name:<9} {_bar(1.0)} {rows:>7,} rows in {seconds:5.2f} s ({dataset.format})   ")
    return rows


@contextlib.contextmanager
def _progress(node: Node, dataset: Dataset, file: Path) -> Iterator[None]:
    """Draw a bar from ``sys.jobs`` while the COPY runs."""
    done = threading.Event()

    def draw() -> None:
        while not done.wait(0.1):
            query = (
                "SELECT progress['bytes'], progress['bytes_total'], progress['rows'] FROM sys.jobs WHERE stmt LIKE ?"
            )
            rows = node.sql(query, [f"COPY {dataset.name} %"])["rows"]
            if rows and rows[0][1] and sys.stdout.isatty():
                read, total, count = rows[0]
                print(f"\r  {dataset.name:<9} {_bar(read / total)} {count:>7,} rows", end="", flush=True)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bar(share: float, width: int = 28) -> str:
    filled = round(min(1.0, max(0.0, share)) * width)
    return "[" + "█" * filled + "·" * (width - filled) + "]"


def _tour(cluster: Cluster, files: dict[str, Path]) -> tuple[int, int]:
    """Ask every question over both protocols, of the nodes in turn; returns (answers right, answers wrong)."""
    oracle = open_oracle(files)
    passed = failed = 0
    for index, stop in enumerate(TOUR):
        node = cluster.nodes[index % len(cluster.nodes)]
        expected = oracle.execute(stop.duckdb or stop.sql).fetchall()
        columns, over_pg, pg_ms = ask_postgres(node, stop.sql)
        _, over_http, http_ms = ask_http(node, stop.sql)
        print(f"\n\033[1m{index + 1}. {stop.title}\033[0m   ({node.name})\n   {stop.sql}")
        for line in _plan(node, stop):
            print(f"   │ {line}")
        _print_rows(columns, over_pg)
        verdicts = []
        for name, rows, milliseconds in (("PostgreSQL", over_pg, pg_ms), ("HTTP", over_http, http_ms)):
            problem = difference(rows, expected, is_ordered=stop.is_ordered)
            passed, failed = passed + (problem is None), failed + (problem is not None)
            verdict = "as DuckDB" if problem is None else f"NOT as DuckDB: {problem}"
            verdicts.append(f"{name} {milliseconds:.1f} ms, {verdict}")
        print("   " + " · ".join(verdicts))
    return passed, failed


def open_oracle(files: dict[str, Path]) -> duckdb.DuckDBPyConnection:
    """DuckDB over the same files."""
    oracle = duckdb.connect()
    oracle.execute("SET TimeZone = 'UTC'")
    readers = {"csv": "read_csv('{}', sample_size = -1)", "json": "read_json('{}')", "parquet": "read_parquet('{}')"}
    for name, file in files.items():
        oracle.execute(f"CREATE TABLE {name} AS SELECT * FROM {readers[file.suffix[1:]].format(file)}")
    return oracle


def ask_postgres(node: Node, sql: str, *, schema: str = "doc") -> tuple[list[str], list[tuple[Any, ...]], float]:
    """Column names, rows and milliseconds over the PostgreSQL protocol."""
    address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname={schema}"
    with psycopg.connect(address, autocommit=True) as connection:
        started = time.perf_counter()
        cursor = connection.execute(sql)
        rows = cursor.fetchall()
        milliseconds = (time.perf_counter() - started) * 1000
        return [column.name for column in cursor.description or ()], rows, milliseconds


def ask_http(node: Node, sql: str, *, schema: str = "doc") -> tuple[list[str], list[tuple[Any, ...]], float]:
    """Column names, rows and milliseconds over HTTP."""
    started = time.perf_counter()
    reply = node.sql(sql, schema=schema)
    milliseconds = (time.perf_counter() - started) * 1000
    return reply["cols"], [tuple(row) for row in reply["rows"]], milliseconds


def _plan(node: Node, stop: Stop) -> list[str]:
    lines = [line for row in node.sql(f"EXPLAIN {stop.sql}")["rows"] for line in row[0].splitlines()]
    return [line if len(line) <= 110 else line[:109] + "…" for line in lines[:8]]


def _print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    shown = [[("NULL" if value is None else str(value)) for value in row] for row in rows[:ROWS_SHOWN_MAX]]
    widths = [max([len(name), *(len(row[i]) for row in shown)]) for i, name in enumerate(columns)]
    print("   " + "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)))
    for row in shown:
        print("   " + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)))
    if len(rows) > ROWS_SHOWN_MAX:
        print(f"   … {len(rows):,} rows")


def _stay(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    print("\nThe cluster is up. Connect to any node, for example:")
    print(f"  psql -h 127.0.0.1 -p {node.psql_port} -U crate doc")
    print(
        f"""  curl -sS -H 'Content-Type: application/json' -d '{{"stmt": "SELECT name FROM sys.nodes"}}' '{node.url}/_sql'"""
    )
    print("Ctrl-C stops everything.", flush=True)
    while all(member.process is not None and member.process.poll() is None for member in cluster.nodes):
        time.sleep(0.5)
    print("a node has ended; see its log")


if __name__ == "__main__":
    sys.exit(main())
