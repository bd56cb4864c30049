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


def test_shards_and_segments_tell_what_was_done_with_them(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql(
        "CREATE TABLE told (id INTEGER PRIMARY KEY, a TEXT) CLUSTERED INTO 3 SHARDS WITH (codec = 'best_compression')"
    )
    values = ", ".join(f"({i}, '{'text ' * 20}')" for i in range(600))
    node.sql(f"INSERT INTO told VALUES {values}")
    shards = "FROM sys.shards WHERE table_name = 'told'"
    assert _value(node, f"SELECT sum(translog_stats['uncommitted_operations']) > 0 {shards}") is True
    node.sql("OPTIMIZE TABLE told")
    rows = node.sql(
        "SELECT num_docs, size, path, state, recovery['type'], recovery['stage'], flush_stats['count'], "
        "flush_stats['total_time_ns'] > 0, refresh_stats['count'] > 0, translog_stats['uncommitted_operations'], "
        f"seq_no_stats['max_seq_no'], retention_leases['primary_term'] {shards} ORDER BY id"
    )["rows"]
    assert sum(row[0] for row in rows) == 600
    for docs, size, path, *told, seq_no, term in rows:
        assert size > 0
        assert path.startswith("/")
        assert told == ["STARTED", "EMPTY_STORE", "DONE", 1, True, True, 0]
        assert (seq_no, term) == (docs - 1, 1)
    segments = node.sql(
        "SELECT num_docs, deleted_docs, committed, search, attributes, segment_name = '_' || generation, "
        "size > 0 FROM sys.segments WHERE table_name = 'told'"
    )["rows"]
    assert [row.pop(4) for row in segments] == [{"codec": "best_compression"}] * len(segments)
    assert {tuple(row[1:]) for row in segments} == {(0, True, True, True, True)}
    assert (
        _value(node, "SELECT count(*) FROM sys.allocations WHERE table_name = 'told' AND current_state = 'STARTED'")
        == 3
    )


def test_the_disk_of_a_node_is_the_one_its_data_is_on(cluster: Cluster) -> None:
    for node in cluster.nodes:
        size, path, used = node.sql(
            "SELECT fs['total']['size'], fs['data'][1]['path'], heap['used'] FROM sys.nodes ORDER BY name LIMIT 1"
        )["rows"][0]
        assert size > 0
        assert path.endswith("/nodes/0")
        assert used > 0
