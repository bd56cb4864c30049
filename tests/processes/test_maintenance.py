"""REFRESH and OPTIMIZE reach every shard of a table, whichever node is asked."""

from __future__ import annotations

import pytest

from demo.processes import Cluster, Node, SqlError


def _value(node: Node, statement: str) -> object:
    return node.sql(statement)["rows"][0][0]


def test_optimize_joins_segments_and_frees_deleted_rows_on_all_nodes(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql(
        "CREATE TABLE optimized (id INTEGER PRIMARY KEY, a TEXT) CLUSTERED INTO 6 SHARDS WITH (refresh_interval = 0)"
    )
    for first in range(0, 400, 100):
        values = ", ".join(f"({i}, 'v')" for i in range(first, first + 100))
        node.sql(f"INSERT INTO optimized VALUES {values}")
        assert node.sql("REFRESH TABLE optimized")["rowcount"] == 1
    node.sql("DELETE FROM optimized WHERE id < 150")
    node.sql("REFRESH TABLE optimized")
    of_table = "FROM sys.segments WHERE table_name = 'optimized'"
    assert _value(node, f"SELECT count(*) {of_table}") == 24
    assert _value(node, f"SELECT sum(deleted_docs) {of_table}") == 150
    assert cluster.nodes[1].sql("OPTIMIZE TABLE optimized WITH (max_num_segments = 1)")["rowcount"] == 1
    assert _value(node, f"SELECT count(*) {of_table}") == 6
    assert _value(node, f"SELECT sum(deleted_docs) {of_table}") == 0
    assert _value(node, f"SELECT sum(num_docs) {of_table} AND committed") == 250
    assert _value(cluster.nodes[2], "SELECT count(*) FROM optimized WHERE id >= 150") == 250


def test_options_and_names_are_checked_before_anything_is_done(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE optimized_twice (a INTEGER)")
    for options, message in (
        ("nosuch = 1", "Setting 'nosuch' is not supported"),
        ("max_num_segments = 0", "must be >= 1"),
        ("flush = 'x'", "only \\[true\\] or \\[false\\] are allowed"),
        ("upgrade_segments = true, flush = true", "cannot use other parameters"),
    ):
        with pytest.raises(SqlError, match=message):
            node.sql(f"OPTIMIZE TABLE optimized_twice WITH ({options})")
    with pytest.raises(SqlError, match="Relation 'nosuch' unknown"):
        node.sql("REFRESH TABLE optimized_twice, nosuch")
    both = "optimized_twice, optimized_twice_more"
    node.sql("CREATE TABLE optimized_twice_more (a INTEGER)")
    assert node.sql(f"REFRESH TABLE {both}")["rowcount"] == 2
    assert node.sql(f"OPTIMIZE TABLE {both} WITH (flush = false, only_expunge_deletes = true)")["rowcount"] == 2
