"""Batches of 1,000 rows of 8 columns: bulk_args over HTTP and executemany over asyncpg, against asyncpg and PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import Any

import asyncpg

from benchmarks.common import Claim, cratepy_node, postgres_server
from demo.processes import Node

BATCH = 1_000
BATCHES = 30
COLUMNS = (
    "(id BIGINT PRIMARY KEY, a TEXT, b TEXT, c DOUBLE PRECISION, d DOUBLE PRECISION, e INTEGER, f BOOLEAN, "
    "g TIMESTAMP WITH TIME ZONE)"
)
INSERT = "INSERT INTO bench_bulk (id, a, b, c, d, e, f, g) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def _row(number: int, *, as_json: bool) -> list[Any]:
    stamp: Any = START + datetime.timedelta(seconds=number)
    if as_json:
        stamp = round(stamp.timestamp() * 1000)
    return [
        number,
        f"host-{number % 100}",
        f"message {number}",
        number * 0.5,
        number / 3,
        number % 1000,
        number % 2 == 0,
        stamp,
    ]


def run() -> list[Claim]:
    with cratepy_node() as node, postgres_server() as postgres:
        node.sql(f"CREATE TABLE bench_bulk {COLUMNS} CLUSTERED INTO 4 SHARDS WITH (number_of_replicas = 0)")
        over_http = _http(node, first=0)
        address: dict[str, Any] = {"host": "127.0.0.1", "port": node.psql_port, "user": "crate", "database": "doc"}
        executemany = asyncio.run(_executemany(address, first=10_000_000, creates=False))
        address |= {"port": postgres.port, "user": "postgres", "database": "postgres"}
        theirs = asyncio.run(_executemany(address, first=0, creates=True))
    return [
        Claim("bulk_args over HTTP, 1,000 × 8 columns", over_http, theirs, "rows/s", "PG executemany", 1, False),
        Claim("executemany, 1,000 × 8 columns", executemany, theirs, "rows/s", "PG executemany", 1, False),
    ]


def _http(node: Node, *, first: int) -> float:
    batches = [[_row(first + batch * BATCH + i, as_json=True) for i in range(BATCH)] for batch in range(BATCHES)]
    node.sql(INSERT, bulk_args=[_row(-1, as_json=True)])
    started = time.perf_counter()
    for rows in batches:
        reply = node.sql(INSERT, bulk_args=rows)
        assert all(result["rowcount"] == 1 for result in reply["results"]), "a row was not inserted"
    return BATCH * BATCHES / (time.perf_counter() - started)


async def _executemany(address: dict[str, Any], *, first: int, creates: bool) -> float:
    connection = await asyncpg.connect(**address)
    try:
        if creates:
            await connection.execute(f"CREATE TABLE bench_bulk {COLUMNS}")
        batches = [[_row(first + batch * BATCH + i, as_json=False) for i in range(BATCH)] for batch in range(BATCHES)]
        await connection.executemany(INSERT, [_row(first - 1, as_json=False)])
        started = time.perf_counter()
        for rows in batches:
            await connection.executemany(INSERT, rows)
        return BATCH * BATCHES / (time.perf_counter() - started)
    finally:
        await connection.close()
