"""What a session finds of itself in the system tables: its cursors, and its statements that were refused."""

from __future__ import annotations

from typing import Any

import psycopg

from demo.processes import Cluster, Node


def _connect(node: Node) -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=node.psql_port, user="crate", dbname="doc", autocommit=True)


def test_a_session_sees_its_own_cursors_until_they_are_closed(cluster: Cluster) -> None:
    query = "SELECT name, statement, is_scrollable, is_holdable, is_binary FROM pg_cursors ORDER BY name"
    with _connect(cluster.nodes[0]) as connection, _connect(cluster.nodes[0]) as other:
        kept = "DECLARE kept SCROLL CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 3)"
        passing = "DECLARE passing NO SCROLL CURSOR FOR SELECT mountain FROM sys.summits"
        connection.execute("BEGIN")
        connection.execute(kept)
        connection.execute(passing)
        assert connection.execute(query).fetchall() == [
            ("kept", kept, True, True, False),
            ("passing", passing, False, False, False),
        ]
        ((is_past,),) = connection.execute("SELECT max(creation_time) <= now() FROM pg_cursors").fetchall()
        assert is_past
        assert other.execute(query).fetchall() == []
        connection.execute("COMMIT")
        assert [row[0] for row in connection.execute(query).fetchall()] == ["kept"]
        connection.execute("CLOSE kept")
        assert connection.execute(query).fetchall() == []


def test_refused_statements_are_in_the_log_with_their_error(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    missing, several = "SELECT heigth FROM sys.summits", "SELECT 1 AS logged; SELEKT 2"
    with _connect(node) as connection:
        for text in (missing, several):
            try:
                connection.execute(text)
            except psycopg.Error:
                continue
            raise AssertionError("not refused")
        found = connection.execute(
            "SELECT stmt, error, classification['type'], username, session_id, ended >= started FROM sys.jobs_log "
            "WHERE stmt = %s OR stmt = %s",
            (missing, several),
        ).fetchall()
        ((session,),) = connection.execute(
            "SELECT session_id FROM sys.jobs WHERE stmt LIKE '%sys.jobs WHERE%'"
        ).fetchall()
    rows = sorted(found)
    assert [(stmt, kind, user) for stmt, _, kind, user, _, _ in rows] == [
        (several, "UNDEFINED", "crate"),
        (missing, "UNDEFINED", "crate"),
    ]
    assert rows[1][1] == "Column heigth unknown"
    assert rows[0][1].startswith("line 1:")
    assert {row[4:] for row in rows} == {(session, True)}


def test_a_huge_text_is_not_kept_whole(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    with _connect(node) as connection:
        try:
            connection.execute(f"SELECT '{'huge' * 200_000}'")
        except psycopg.Error:
            pass
        else:
            raise AssertionError("not refused")
        ((length,),) = connection.execute(
            "SELECT max(length(stmt)) FROM sys.jobs_log WHERE stmt LIKE 'SELECT ''hugehuge%' AND error IS NOT NULL"
        ).fetchall()
    assert length == 262_144


def test_big_messages_arrive_whatever_their_size(cluster: Cluster) -> None:
    """Bytes that wait in the socket when a first part was taken are not told of again."""
    with _connect(cluster.nodes[0]) as connection:
        for size in (60_000, 70_000, 130_000, 260_000):
            assert connection.execute(f"SELECT length('{'x' * size}')").fetchall() == [(size,)]
        for size in (60_000, 500_000, 3_000_000):
            assert connection.execute("SELECT length(%s::text)", ("x" * size,)).fetchall() == [(size,)]
