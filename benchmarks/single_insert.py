"""Durable single-row inserts over the PostgreSQL protocol, against PostgreSQL with synchronous_commit on."""

from __future__ import annotations

import psycopg

from benchmarks.common import Claim, cratepy_node, pgbench, postgres_server

SCRIPT = (
    "\\set id random(1, 4611686018427387903)\n"
    "INSERT INTO bench_rows (id, name, value) VALUES (:id, 'some name', 1.5) ON CONFLICT (id) DO NOTHING;\n"
)
COLUMNS = "(id BIGINT PRIMARY KEY, name TEXT, value DOUBLE PRECISION)"


def run() -> list[Claim]:
    claims = []
    with cratepy_node() as node, postgres_server() as postgres:
        node.sql(f"CREATE TABLE bench_rows {COLUMNS} CLUSTERED INTO 4 SHARDS WITH (number_of_replicas = 0)")
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE bench_rows {COLUMNS}")
        for clients in (1, 8, 64):
            ours = pgbench(node.psql_port, SCRIPT, user="crate", database="doc", clients=clients)
            theirs = pgbench(postgres.port, SCRIPT, user="postgres", database="postgres", clients=clients)
            if clients == 1:
                claims.append(
                    Claim("durable insert, 1 connection, p50", ours.p50_us, theirs.p50_us, "µs", "PostgreSQL", 2, True)
                )
            else:
                name = f"durable inserts, {clients} connections"
                claims.append(Claim(name, ours.per_second, theirs.per_second, "/s", "PostgreSQL", 0.4, False))
    return claims
