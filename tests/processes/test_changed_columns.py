"""ALTER TABLE on columns while rows are written and read on every node, and after a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from demo.processes import Cluster, SqlError, polls


def test_columns_are_renamed_and_dropped_while_all_nodes_write(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    first.sql("CREATE TABLE altered (id INTEGER PRIMARY KEY, a INTEGER, s TEXT) CLUSTERED INTO 6 SHARDS")
    written: list[int] = []
    unexpected: list[SqlError] = []
    is_over = threading.Event()

    def write(number: int) -> None:
        key = number * 100_000
        name = "a"
        while not is_over.is_set():
            try:
                cluster.nodes[number].sql(f"INSERT INTO altered (id, {name}, s) VALUES (?, ?, 'x')", [key, key])
            except SqlError as error:
                if error.code != 4043:
                    unexpected.append(error)
                    return
                name = "b" if name == "a" else "a"
                continue
            written.append(key)
            key += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for round_number in range(1, 7):
        while len(written) < 50 * round_number and not unexpected:
            writers[0].join(0.01)
        old, new = ("a", "b") if round_number % 2 else ("b", "a")
        cluster.nodes[round_number % 3].sql(f"ALTER TABLE altered RENAME COLUMN {old} TO {new}")
    is_over.set()
    for writer in writers:
        writer.join(30)
    assert unexpected == []
    first.sql("REFRESH TABLE altered")
    assert first.sql("SELECT count(*), count(CASE WHEN a = id THEN 1 END) FROM altered")["rows"] == [
        [len(written), len(written)]
    ]
    cluster.nodes[1].sql("ALTER TABLE altered DROP COLUMN a")
    cluster.nodes[2].sql("ALTER TABLE altered ADD COLUMN a TEXT")
    first.sql("INSERT INTO altered (id, a) VALUES (-1, 'new')")
    first.sql("REFRESH TABLE altered")
    first.sql("OPTIMIZE TABLE altered WITH (max_num_segments = 1)")
    for node in cluster.nodes:
        assert node.sql("SELECT a, count(*) FROM altered GROUP BY a ORDER BY a")["rows"] == [
            ["new", 1],
            [None, len(written)],
        ]
    first.sql("DROP TABLE altered")


def test_changed_columns_and_a_closed_table_survive_a_restart(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1) as running:
        node = running.nodes[0]
        node.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER DEFAULT 1, o OBJECT)")
        node.sql("INSERT INTO t (id, a, b) VALUES (1, 10, 100)")
        node.sql("REFRESH TABLE t")
        node.sql("INSERT INTO t (id, a, b, o) VALUES (2, 20, 200, {x = 1})")
        node.sql("ALTER TABLE t RENAME COLUMN a TO z")
        node.sql("ALTER TABLE t DROP COLUMN b")
        node.sql("ALTER TABLE t ALTER COLUMN c SET DEFAULT 3")
        node.sql("INSERT INTO t (id, z) VALUES (3, 30)")
        node.sql("CREATE TABLE closed (id INTEGER)")
        node.sql("ALTER TABLE closed CLOSE")
        node.kill()
        node.start()
        running.wait_ready()
        for _ in polls(30):
            if node.sql("SELECT count(*) FROM sys.shards WHERE state = 'STARTED'")["rows"] == [[8]]:
                break
        assert node.sql("SELECT * FROM t ORDER BY id")["rows"] == [
            [1, 10, 1, None],
            [2, 20, 1, {"x": 1}],
            [3, 30, 3, None],
        ]
        assert node.sql("SELECT _doc FROM t WHERE id = 2")["rows"] == [[{"id": 2, "z": 20, "c": 1, "o": {"x": 1}}]]
        assert node.sql("SELECT closed FROM information_schema.tables WHERE table_name = 'closed'")["rows"] == [[True]]
        node.sql("DROP TABLE closed")


def test_a_generated_column_is_added_to_a_table_without_rows(cluster: Cluster) -> None:
    first, second, third = cluster.nodes
    first.sql("CREATE TABLE grown (id INTEGER PRIMARY KEY, price INTEGER, twice GENERATED ALWAYS AS price * 2)")
    second.sql("INSERT INTO grown (id, price) VALUES (1, 10)")
    # The row is not visible to searches yet; it is there all the same.
    with pytest.raises(SqlError, match="Cannot add a generated column to a table that isn't empty"):
        third.sql("ALTER TABLE grown ADD COLUMN label AS concat('no ', id)")
    first.sql("DELETE FROM grown WHERE id = 1")
    with pytest.raises(SqlError, match="Generated column cannot be based on generated column `twice`"):
        first.sql("ALTER TABLE grown ADD COLUMN more AS twice + 1")
    with pytest.raises(SqlError, match="Generated column cannot be based on generated column `a`"):
        first.sql("ALTER TABLE grown ADD COLUMN a AS price + 1, ADD COLUMN b AS a + 1")
    with pytest.raises(SqlError, match="Column nowhere unknown"):
        first.sql("ALTER TABLE grown ADD COLUMN a AS nowhere + 1")
    third.sql("ALTER TABLE grown ADD COLUMN tax INTEGER, ADD COLUMN total BIGINT GENERATED ALWAYS AS price + tax")
    third.sql("ALTER TABLE grown ADD COLUMN label AS concat('no ', id)")
    row = second.sql("INSERT INTO grown (id, price, tax) VALUES (2, 5, 1) RETURNING twice, total, label")
    assert (row["rows"], row["col_types"]) == ([[10, 6, "no 2"]], [9, 10, 4])
    first.sql("UPDATE grown SET tax = 3 WHERE id = 2")
    assert third.sql("SELECT * FROM grown WHERE id = 2")["rows"] == [[2, 5, 10, 3, 8, "no 2"]]
    assert first.sql(
        "SELECT column_name, generation_expression FROM information_schema.columns WHERE table_name = 'grown' "
        "AND is_generated = 'ALWAYS' ORDER BY ordinal_position"
    )["rows"] == [["twice", "(price * 2)"], ["total", "(price + tax)"], ["label", "concat('no ', id)"]]


def test_a_view_is_renamed(cluster: Cluster) -> None:
    first, second, _ = cluster.nodes
    first.sql("CREATE VIEW peaks AS SELECT name FROM sys.nodes")
    first.sql("CREATE VIEW hills AS SELECT 1 AS one")
    with pytest.raises(SqlError, match=r"doc\.hills already exists"):
        second.sql("ALTER TABLE peaks RENAME TO hills")
    assert second.sql("ALTER TABLE peaks RENAME TO summits_seen")["rowcount"] == -1
    assert first.sql("SELECT count(*) > 0 FROM summits_seen")["rows"] == [[True]]
    with pytest.raises(SqlError, match="Relation 'peaks' unknown"):
        first.sql("SELECT * FROM peaks")
    views = first.sql("SELECT table_name FROM information_schema.views WHERE table_name LIKE '%s%' ORDER BY 1")["rows"]
    assert ["summits_seen"] in views
    assert ["peaks"] not in views
