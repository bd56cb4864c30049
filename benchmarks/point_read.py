"""A row by its primary key over the PostgreSQL protocol, prepared and with the key in its text, against PostgreSQL."""

from __future__ import annotations

import psycopg

from benchmarks.common import Claim, cratepy_node, pgbench, postgres_server

ROWS = 1_000_000
SCRIPT = f"\\set id random(1, {ROWS})\nSELECT id, name, value FROM bench_keys WHERE id = :id;\n"
COLUMNS = "(id INTEGER PRIMARY KEY, name TEXT, value DOUBLE PRECISION)"
FILL = (
    f"INSERT INTO bench_keys (id, name, value) SELECT i, 'name ' || i, i / 7.0 FROM generate_series(1, {ROWS}) AS t(i)"
)


def run() -> list[Claim]:
    claims = []
    with cratepy_node() as node, postgres_server() as postgres:
        node.sql(f"CREATE TABLE bench_keys {COLUMNS} CLUSTERED INTO 4 SHARDS WITH (number_of_replicas = 0)")
        node.sql(FILL, timeout_s=300)
        node.sql("REFRESH TABLE bench_keys")
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE bench_keys {COLUMNS}")
            connection.execute(FILL)
            connection.execute("VACUUM ANALYZE bench_keys")
        for clients in (1, 8, 64):
            ours = pgbench(node.psql_port, SCRIPT, user="crate", database="doc", clients=clients)
            theirs = pgbench(postgres.port, SCRIPT, user="postgres", database="postgres", clients=clients)
            if clients == 1:
                claims.append(
                    Claim(
                        "primary-key read, 1 connection, p50", ours.p50_us, theirs.p50_us, "µs", "PostgreSQL", 2.5, True
                    )
                )
                claims.append(
                    Claim(
                        "primary-key read, 1 connection, p99", ours.p99_us, theirs.p99_us, "µs", "PostgreSQL", 4, True
                    )
                )
            else:
                name = f"primary-key reads, {clients} connections"
                claims.append(Claim(name, ours.per_second, theirs.per_second, "/s", "PostgreSQL", 0.4, False))
        ours = pgbench(node.psql_port, SCRIPT, user="crate", database="doc", mode="simple")
        theirs = pgbench(postgres.port, SCRIPT, user="postgres", database="postgres", mode="simple")
        claims.append(Claim("the same, key in its text, p50", ours.p50_us, theirs.p50_us, "µs", "PostgreSQL", 5, True))
    return claims
