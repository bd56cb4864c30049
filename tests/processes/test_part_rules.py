"""Defaults and constraints of parts of objects, in every kind of write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.processes import Cluster, SqlError


def test_every_write_completes_and_checks_objects(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.nodes[0]
    node.sql(
        "CREATE TABLE ruled (id INTEGER PRIMARY KEY, o OBJECT AS (a INTEGER DEFAULT 2 + 3, t TEXT NOT NULL, "
        "n OBJECT AS (x TEXT DEFAULT gen_random_text_uuid()), ts TIMESTAMP DEFAULT '2020-01-01') , "
        "CHECK (o['a'] > 0)) CLUSTERED INTO 3 SHARDS"
    )
    given = {"t": "x", "n": {}}
    node.sql("INSERT INTO ruled VALUES (1, {t = 'x', n = {}})")
    node.sql("INSERT INTO ruled (id, o) VALUES (?, ?)", [2, given])
    node.sql("INSERT INTO ruled (id, o) VALUES (?, ?)", bulk_args=[[3, given], [4, {**given, "a": 5}]])
    node.sql("INSERT INTO ruled (id, o) SELECT 5, {t = 'x', n = {}}")
    node.sql("INSERT INTO ruled (id, o) VALUES (5, {t = 'x', n = {}}) ON CONFLICT (id) DO UPDATE SET o = excluded.o")
    file = tmp_path / "rows.json"
    file.write_text("".join(json.dumps({"id": key, "o": given}) + "\n" for key in (6, 7)))
    node.sql("COPY ruled FROM ?", [str(file)])
    node.sql("REFRESH TABLE ruled")
    rows = node.sql("SELECT id, o FROM ruled ORDER BY id")["rows"]
    assert [key for key, _ in rows] == list(range(1, 8))
    for _, document in rows:
        assert (document["a"], document["ts"], document["t"]) == (5, 1577836800000, "x")
    assert len({document["n"]["x"] for _, document in rows}) == 7
    node.sql("INSERT INTO ruled (id, o) VALUES (8, {t = 'y', a = null})")
    assert node.sql("SELECT o['a'], o['n'] FROM ruled WHERE id = 8")["rows"] == [[None, None]], (
        "a NULL that was given stays"
    )
    for statement, words in (
        ("INSERT INTO ruled (id, o) VALUES (9, {a = 1})", "\"o\\['t'\\]\" must not be null"),
        ("INSERT INTO ruled (id) VALUES (9)", "\"o\\['t'\\]\" must not be null"),
        ("UPDATE ruled SET o['t'] = NULL WHERE id = 1", "\"o\\['t'\\]\" must not be null"),
        ("INSERT INTO ruled (id, o) VALUES (9, {t = 'x', a = 0})", "Failed CONSTRAINT"),
    ):
        with pytest.raises(SqlError, match=words):
            node.sql(statement)
    node.sql("DROP TABLE ruled")
