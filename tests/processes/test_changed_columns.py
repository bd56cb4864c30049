"""ALTER TABLE on columns while rows are written and read on every node, and after a restart."""

from __future__ import annotations

import threading
from pathlib import Path

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
