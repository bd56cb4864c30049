"""Values at the edges of their types come back as they went in: over HTTP and PostgreSQL, read by key, by scan, RETURNING."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import psycopg
import pytest

from demo.processes import Cluster, Node

COLUMNS = "d, r, t, ts, b, n, i, dt, bo"
#: As JSON has them: what is no JSON number is a text.
ROWS: dict[int, list[Any]] = {
    1: [
        "NaN",
        "NaN",
        "",
        253_402_300_799_999,
        2**63 - 1,
        "9999999999999999999999999999.9999999999",
        2**31 - 1,
        0,
        True,
    ],
    2: ["Infinity", "Infinity", "a\0b", -62_135_596_800_000, -(2**63), "-0.0000000001", -(2**31), -86_400_000, False],
    3: ["-Infinity", "-Infinity", "😀\ud7ff\ue000", 0, 0, "0", 0, 0, None],
    4: [-0.0, -0.0, None, None, None, None, None, None, None],
    5: [5e-324, 1e-45, "\0", 2**63 - 1, 1, "1", 1, 0, True],
    6: [1.7976931348623157e308, 3.4028235e38, " ", -(2**63), -1, "-1", -1, 86_400_000, False],
}


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Node:
    node = cluster.nodes[0]
    node.sql(
        "CREATE TABLE edges (id INTEGER PRIMARY KEY, d DOUBLE PRECISION, r REAL, t TEXT, ts TIMESTAMP, b BIGINT, "
        "n NUMERIC(38, 10), i INTEGER, dt DATE, bo BOOLEAN)"
    )
    for key, values in ROWS.items():
        inserted = node.sql(
            f"INSERT INTO edges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}", [key, *values]
        )
        assert_same(inserted["rows"][0], values)
    node.sql("REFRESH TABLE edges")
    return node


def assert_same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for got, value in zip(found, wanted, strict=True):
        if isinstance(value, str) and isinstance(got, int | float):
            assert got == float(value)  # numeric: a JSON number
        elif value == 1e-45:
            assert struct.pack("<f", got) == struct.pack("<f", value)
        else:
            assert json.dumps(got) == json.dumps(value), "as texts, so that -0.0 is not 0.0"


def test_http_gives_them_by_key_by_scan_and_by_returning(node: Node) -> None:
    by_scan = node.sql(f"SELECT {COLUMNS} FROM edges WHERE id % 100 > 0 ORDER BY id")["rows"]
    for (key, values), row in zip(ROWS.items(), by_scan, strict=True):
        assert_same(row, values)
        assert_same(node.sql(f"SELECT {COLUMNS} FROM edges WHERE id = ?", [key])["rows"][0], values)
        assert_same(node.sql(f"UPDATE edges SET i = i WHERE id = ? RETURNING {COLUMNS}", [key])["rows"][0], values)


def test_special_numbers_can_be_asked_for(node: Node) -> None:
    for condition, keys in (
        ("d = 'NaN'", [1]), ("d = 'Infinity'", [2]), ("d = '-Infinity'", [3]), ("d = 0", [4]), ("d < -1e308", [3]),
        ("r = 'Infinity'", [2]), ("t = ''", [1]), ("t = ' '", [6]), ("b = 9223372036854775807", [1]), ("t IS NULL", [4]),
    ):  # fmt: skip
        found = node.sql(f"SELECT id FROM edges WHERE {condition} ORDER BY id")["rows"]
        assert [row[0] for row in found] == keys, condition


@pytest.mark.parametrize("is_binary", [False, True])
def test_postgres_gives_them_in_both_formats(node: Node, is_binary: bool) -> None:
    with psycopg.connect(
        host="127.0.0.1", port=node.psql_port, user="crate", dbname="doc", autocommit=True
    ) as connection:
        for where in ("id = %s", "id + 0 = %s"):
            cursor = connection.cursor(binary=is_binary)
            for key in (1, 3, 4):
                ((d, r, t, b, i),) = cursor.execute(f"SELECT d, r, t, b, i FROM edges WHERE {where}", (key,)).fetchall()
                assert_same([_text(d), _text(r), t, b, i], [*ROWS[key][:3], ROWS[key][4], ROWS[key][6]])
            ((text,),) = cursor.execute(f"SELECT t FROM edges WHERE {where}", (2,)).fetchall()
            assert text == "a\0b", "the length of a value is told, so a NUL does not end it"


def _text(number: float | None) -> Any:
    if number is None or math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


@pytest.mark.parametrize("where", ["id = %s", "id + 0 = %s"])
def test_a_timestamp_that_the_binary_format_does_not_have_is_an_error_and_the_connection_goes_on(
    node: Node, where: str
) -> None:
    with psycopg.connect(
        host="127.0.0.1", port=node.psql_port, user="crate", dbname="doc", autocommit=True
    ) as connection:
        for key in (5, 6):
            with pytest.raises(psycopg.Error, match="out of range"):
                connection.cursor(binary=True).execute(f"SELECT ts FROM edges WHERE {where}", (key,))
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
            ((text,),) = connection.execute(f"SELECT ts::text FROM edges WHERE {where}", (key,)).fetchall()
            assert text
