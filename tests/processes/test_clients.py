"""Clients people have, unmodified, against real nodes: psql, pgbench, asyncpg, psycopg 3, the crate driver."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import shutil
import subprocess
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import crate.client
import psycopg
import pytest

from demo.processes import Cluster, Node

needs_psql = pytest.mark.skipif(
    shutil.which("psql") is None, reason="psql is not installed (Debian: postgresql-client)"
)
needs_pgbench = pytest.mark.skipif(
    shutil.which("pgbench") is None, reason="pgbench is not installed (Debian: postgresql)"
)


def psql(node: Node, *commands: str) -> str:
    """Run psql commands; returns unaligned output. Any error fails the test."""
    arguments = [
        "psql",
        "-X",
        "-A",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-p",
        str(node.psql_port),
        "-U",
        "crate",
        "doc",
    ]
    for command in commands:
        arguments += ["-c", command]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr, done.stderr
    return done.stdout


def with_asyncpg(node: Node, work: Any) -> Any:
    """Run an async function of an asyncpg connection."""

    async def run() -> Any:
        connection = await asyncpg.connect(host="127.0.0.1", port=node.psql_port, user="crate", database="doc")
        try:
            return await work(connection)
        finally:
            await connection.close()

    coroutine: Coroutine[Any, Any, Any] = run()
    return asyncio.run(coroutine)


def with_psycopg(node: Node, **options: Any) -> psycopg.Connection[Any]:
    address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc"
    return psycopg.connect(address, autocommit=True, **options)


@needs_psql
def test_psql_lists_and_describes_tables(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    psql(
        node,
        "CREATE TABLE psql_t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, at TIMESTAMP WITH TIME ZONE) CLUSTERED INTO 2 SHARDS",
    )
    assert "psql_t" in psql(cluster.nodes[1], "\\dt")
    described = psql(cluster.nodes[2], "\\d psql_t")
    assert "id|integer" in described
    assert "name|character varying" in described
    assert "not null" in described
    assert "psql_t_pkey" in described
    assert "doc" in psql(node, "\\dn")
    assert "crate" in psql(node, "\\l")
    assert "crate" in psql(node, "\\du")


@pytest.mark.parametrize(
    "command", ["\\d", "\\dt+", "\\di", "\\dv", "\\df abs", "\\dT", "\\dp", "\\dA", "\\dd", "\\dX", "\\d pg_class"]
)
@needs_psql
def test_psql_describes_everything_without_an_error(command: str, cluster: Cluster) -> None:
    psql(cluster.nodes[0], command)


def test_catalog_functions_give_names_and_definitions(cluster: Cluster) -> None:
    node = cluster.nodes[2]
    node.sql("CREATE TABLE defined (a INTEGER, b TEXT, PRIMARY KEY (a, b), CONSTRAINT few CHECK (a < 9))")
    found = node.sql(
        "SELECT pg_get_constraintdef(k.oid), conrelid::regclass::text, pg_get_indexdef(conindid, 2, true) "
        "FROM pg_constraint k WHERE conrelid = 'defined'::regclass ORDER BY contype DESC"
    )["rows"]
    assert found == [["PRIMARY KEY (a, b)", "defined", "b"], ['CHECK ("a" < 9)', "defined", None]]
    types = node.sql("SELECT typreceive::text FROM pg_type WHERE typinput = 'array_in'::regproc GROUP BY 1")["rows"]
    assert types == [["array_recv"]]


def test_the_fields_of_a_row_are_taken_by_name(cluster: Cluster) -> None:
    """pgjdbc's getPrimaryKeys and getIndexInfo."""
    node = cluster.nodes[0]
    node.sql("CREATE TABLE keyed_by_two (a INTEGER, b TEXT, c INTEGER, PRIMARY KEY (c, a))")
    keys = node.sql(
        "SELECT k.n, attname FROM pg_attribute, ("
        "SELECT (information_schema._pg_expandarray(indkey)).n, (information_schema._pg_expandarray(indkey)).x"
        " FROM pg_index WHERE indrelid = 'keyed_by_two'::regclass) k (n, x) "
        "WHERE attrelid = 'keyed_by_two'::regclass AND attnum = k.x ORDER BY 1"
    )["rows"]
    assert keys == [[1, "c"], [2, "a"]]
    elements = "SELECT (information_schema._pg_expandarray(['x', null])).x AS x"
    assert node.sql(elements)["rows"] == [["x"], [None]]


def test_a_parameter_in_a_simple_query_has_no_value(cluster: Cluster) -> None:
    """pgjdbc's simple mode, when it is asked for the types of parameters."""
    cluster.nodes[1].sql("CREATE TABLE unbound (id INTEGER PRIMARY KEY)")
    with with_psycopg(cluster.nodes[1]) as connection:
        for statement in ("SELECT id FROM unbound WHERE id = $1", "INSERT INTO unbound (id) VALUES ($1)", "SELECT $1"):
            with pytest.raises(psycopg.errors.SyntaxError, match=r"placeholder \$1, but there are only 0"):
                connection.execute(statement)


def test_a_recursive_query_in_a_subquery_may_name_outer_columns(cluster: Cluster) -> None:
    rows = cluster.nodes[1].sql(
        "SELECT t.oid, (WITH RECURSIVE b (oid, depth) AS ("
        "SELECT t2.typelem, 0 FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL "
        "SELECT t2.typelem, b.depth + 1 FROM pg_type t2, b WHERE b.oid = t2.oid AND t2.typelem <> 0"
        ") SELECT oid FROM b ORDER BY depth DESC LIMIT 1) FROM pg_type t WHERE t.oid IN (23, 1007, 1013) ORDER BY 1"
    )["rows"]
    assert rows == [[23, 0], [1007, 23], [1013, 26]]


@needs_psql
def test_psql_runs_several_statements_with_their_own_tags(cluster: Cluster) -> None:
    output = psql(
        cluster.nodes[0],
        "CREATE TABLE psql_many (a INTEGER) CLUSTERED INTO 2 SHARDS; INSERT INTO psql_many (a) VALUES (1), (2); "
        "REFRESH TABLE psql_many; SELECT a FROM psql_many ORDER BY a; DROP TABLE psql_many",
    )
    assert output.splitlines() == ["CREATE 1", "INSERT 0 2", "REFRESH 1", "a", "1", "2", "(2 rows)", "DROP 1"]


@needs_pgbench
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_reads_and_writes_in_every_mode(mode: str, cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.nodes[1]
    node.sql(f"CREATE TABLE bench_{mode} (id INTEGER PRIMARY KEY, v TEXT) CLUSTERED INTO 3 SHARDS")
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set id random(1, 1000000)\n"
        f"INSERT INTO bench_{mode} (id, v) VALUES (:id, 'x') ON CONFLICT (id) DO UPDATE SET v = 'y';\n"
        f"SELECT v FROM bench_{mode} WHERE id = :id;\n"
    )
    command = ["pgbench", "-n", "-f", str(script), "-M", mode, "-c", "4", "-j", "2", "-t", "50"]
    command += ["-h", "127.0.0.1", "-p", str(node.psql_port), "-U", "crate", "doc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 200/200" in done.stdout
    assert "number of failed transactions: 0" in done.stdout


VALUES: list[tuple[str, Any]] = [
    ("boolean", True),
    ("smallint", -7),
    ("integer", 2_147_483_647),
    ("bigint", -9_223_372_036_854_775_808),
    ("real", 1.5),
    ("double precision", 1e300),
    ("numeric(20, 5)", decimal.Decimal("-12345.67890")),
    ("text", "żółw 🐢 'quoted' \\ \n"),
    ("timestamp with time zone", datetime.datetime(2026, 11, 20, 13, 0, 0, 123_000, tzinfo=datetime.UTC)),
    ("timestamp without time zone", datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000)),
    ("date", datetime.date(2024, 2, 29)),
    ("integer[]", [1, None, -3]),
    ("text[]", ["a", 'with "quotes", commas and \\', None, ""]),
    ("double precision[]", [0.5, -1.0]),
    ("timestamp with time zone[]", [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)]),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES, ids=[name for name, _ in VALUES])
def test_asyncpg_round_trips_a_value_of_every_type(type_name: str, value: Any, cluster: Cluster) -> None:
    """asyncpg speaks binary only, and asks the catalog for types it does not know."""
    name = "asyncpg_" + uuid.uuid4().hex[:8]

    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {type_name}) CLUSTERED INTO 2 SHARDS")
        await connection.execute(f"INSERT INTO {name} (id, v) VALUES ($1, $2)", 1, value)
        await connection.execute(f"INSERT INTO {name} (id, v) VALUES ($1, $2)", 2, None)
        assert await connection.fetchval(f"SELECT v FROM {name} WHERE id = $1", 1) == value
        assert await connection.fetchval(f"SELECT v FROM {name} WHERE id = 2") is None
        await connection.execute(f"REFRESH TABLE {name}")
        rows = await connection.fetch(f"SELECT id, v FROM {name} ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, value), (2, None)]
        await connection.execute(f"DROP TABLE {name}")

    with_asyncpg(cluster.nodes[0], work)


@pytest.mark.parametrize(("type_name", "value"), VALUES, ids=[name for name, _ in VALUES])
@pytest.mark.parametrize("is_binary", [False, True], ids=["text", "binary"])
def test_psycopg_round_trips_a_value_of_every_type(
    type_name: str, value: Any, is_binary: bool, cluster: Cluster
) -> None:
    name = "psycopg_" + uuid.uuid4().hex[:8]
    with with_psycopg(cluster.nodes[1]) as connection:
        connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v {type_name}) CLUSTERED INTO 2 SHARDS")
        placeholder = "%b" if is_binary and not isinstance(value, list) else "%s"
        connection.execute(f"INSERT INTO {name} (id, v) VALUES (1, {placeholder}), (2, %s)", [value, None])
        connection.execute(f"REFRESH TABLE {name}")
        with connection.cursor(binary=is_binary) as cursor:
            cursor.execute(f"SELECT v FROM {name} ORDER BY id")
            assert cursor.fetchall() == [(value,), (None,)]
        connection.execute(f"DROP TABLE {name}")


def test_asyncpg_runs_many_and_fetches_through_cursors(cluster: Cluster) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TABLE asyncpg_many (id INTEGER PRIMARY KEY, v TEXT) CLUSTERED INTO 3 SHARDS")
        await connection.executemany(
            "INSERT INTO asyncpg_many (id, v) VALUES ($1, $2)", [(i, f"v{i}") for i in range(2500)]
        )
        await connection.execute("REFRESH TABLE asyncpg_many")
        assert await connection.fetchval("SELECT count(*) FROM asyncpg_many") == 2500
        async with connection.transaction():
            seen = [
                row["id"] async for row in connection.cursor("SELECT id FROM asyncpg_many ORDER BY id", prefetch=300)
            ]
        assert seen == list(range(2500))
        statement = await connection.prepare("SELECT v FROM asyncpg_many WHERE id = $1")
        assert [await statement.fetchval(i) for i in (0, 77, 2499)] == ["v0", "v77", "v2499"]
        assert [attribute.type.name for attribute in statement.get_attributes()] == ["varchar"]

    with_asyncpg(cluster.nodes[2], work)


def test_asyncpg_changes_and_deletes_many_of_which_some_are_not_there(cluster: Cluster) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TABLE asyncpg_keys (id INTEGER PRIMARY KEY, v TEXT) CLUSTERED INTO 3 SHARDS")
        await connection.executemany("INSERT INTO asyncpg_keys (id, v) VALUES ($1, $2)", [(i, "a") for i in range(20)])
        await connection.executemany(
            "UPDATE asyncpg_keys SET v = $1 WHERE id = $2", [("b", i) for i in (5, 99, None, 6, 5)]
        )
        await connection.executemany("DELETE FROM asyncpg_keys WHERE id = $1", [(i,) for i in (1, 77, 1, 2)])
        await connection.execute("REFRESH TABLE asyncpg_keys")
        rows = await connection.fetch("SELECT id, v FROM asyncpg_keys ORDER BY id")
        assert [tuple(row) for row in rows] == [(i, "b" if i in (5, 6) else "a") for i in range(20) if i not in (1, 2)]

    with_asyncpg(cluster.nodes[0], work)


def test_asyncpg_hears_errors_with_their_sqlstate_and_goes_on(cluster: Cluster) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TABLE asyncpg_errors (id INTEGER PRIMARY KEY) CLUSTERED INTO 2 SHARDS")
        await connection.execute("INSERT INTO asyncpg_errors (id) VALUES (1)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO asyncpg_errors (id) VALUES (1)")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch("SELECT * FROM nowhere")
        with pytest.raises(asyncpg.UndefinedColumnError):
            await connection.fetch("SELECT nothing FROM asyncpg_errors")
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.fetch("SELEC 1")
        await connection.execute("REFRESH TABLE asyncpg_errors")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT id / 0 FROM asyncpg_errors")
        assert await connection.fetchval("SELECT 1") == 1

    with_asyncpg(cluster.nodes[0], work)


def test_psycopg_pipelines_prepares_and_uses_server_side_cursors(cluster: Cluster) -> None:
    with with_psycopg(cluster.nodes[0]) as connection:
        connection.execute("CREATE TABLE psycopg_t (id INTEGER PRIMARY KEY, v TEXT) CLUSTERED INTO 3 SHARDS")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO psycopg_t (id, v) VALUES (%s, %s)", [(i, str(i)) for i in range(500)])
            assert cursor.rowcount == 500
        connection.execute("REFRESH TABLE psycopg_t")
        with connection.pipeline():
            results = [connection.execute("SELECT v FROM psycopg_t WHERE id = %s", [i]) for i in range(20)]
            assert [result.fetchone() for result in results] == [(str(i),) for i in range(20)]
        for i in range(8):
            assert connection.execute("SELECT count(*) FROM psycopg_t WHERE id < %s", [i], prepare=True).fetchone() == (
                i,
            )
    with psycopg.connect(f"host=127.0.0.1 port={cluster.nodes[0].psql_port} user=crate dbname=doc") as connection:
        with connection.cursor(name="server_side") as cursor:
            cursor.itersize = 50
            cursor.execute("SELECT id FROM psycopg_t ORDER BY id")
            assert [row[0] for row in cursor] == list(range(500))
        connection.rollback()


def test_an_error_inside_a_pipeline_does_not_hang_it(cluster: Cluster) -> None:
    with with_psycopg(cluster.nodes[1]) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
            connection.execute("SELECT 1 / 0")
            connection.execute("SELECT 2")
        assert connection.execute("SELECT 3").fetchone() == (3,)


def test_the_crate_driver_queries_inserts_in_bulk_and_reports_errors(cluster: Cluster) -> None:
    connection = crate.client.connect([node.url for node in cluster.nodes])
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE driver_t (id INTEGER PRIMARY KEY, o OBJECT(DYNAMIC), tags ARRAY(TEXT)) CLUSTERED INTO 2 SHARDS"
    )
    cursor.execute("INSERT INTO driver_t (id, o, tags) VALUES (?, ?, ?)", (1, {"a": {"b": 1}}, ["x", "y"]))
    results = cursor.executemany(
        "INSERT INTO driver_t (id, tags) VALUES (?, ?)", [(i, [str(i)]) for i in range(2, 2000)]
    )
    assert all(result["rowcount"] == 1 for result in results)
    cursor.execute("REFRESH TABLE driver_t")
    cursor.execute("SELECT count(*) FROM driver_t")
    assert cursor.fetchone() == [1999]
    cursor.execute("SELECT id, o, tags, o['a']['b'] FROM driver_t WHERE id = 1")
    assert cursor.fetchall() == [[1, {"a": {"b": 1}}, ["x", "y"], 1]]
    with pytest.raises(crate.client.exceptions.IntegrityError, match="DuplicateKeyException"):
        cursor.execute("INSERT INTO driver_t (id) VALUES (1)")
    with pytest.raises(crate.client.exceptions.ProgrammingError, match="RelationUnknown"):
        cursor.execute("SELECT * FROM nowhere")
    assert connection.lowest_server_version.version[0] >= 6
    connection.close()
