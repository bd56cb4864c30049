"""Files of tables that were dropped while a node was away go when it comes back; those nobody knows of stay."""

from __future__ import annotations

from pathlib import Path

from demo.processes import Cluster, Node, polls


def _wait(what: str, is_true: object) -> None:
    for _ in polls(20):
        if is_true():  # type: ignore[operator]
            return
    raise AssertionError(f"not in time: {what}")


def _tables_on_disk(node: Node) -> list[str]:
    return sorted(path.name for path in (node.data / "nodes" / "0" / "indices").glob("*"))


def _failed_node_checks(node: Node) -> list[list[object]]:
    query = "SELECT n.name, c.id FROM sys.node_checks c JOIN sys.nodes n ON n.id = c.node_id WHERE NOT c.passed AND c.id > 100"
    found: list[list[object]] = node.sql(query)["rows"]
    return found


def test_a_node_that_was_away_removes_what_was_dropped_and_keeps_what_nobody_knows(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        first, away = cluster.nodes[0], cluster.nodes[2]
        first.sql("CREATE TABLE t (a INTEGER) CLUSTERED INTO 6 SHARDS")
        first.sql("CREATE TABLE kept (a INTEGER) CLUSTERED INTO 6 SHARDS")
        _wait("both tables are on the node", lambda: len(_tables_on_disk(away)) == 2)
        away.kill()
        first.sql("DROP TABLE t", timeout_s=20)
        assert len(_tables_on_disk(away)) == 2
        unknown = away.data / "nodes" / "0" / "indices" / "never-heard-of" / "0" / "copy"
        unknown.mkdir(parents=True)
        away.start()
        cluster.wait_ready()
        _wait("the dropped table is gone", lambda: len(_tables_on_disk(away)) == 2)
        assert unknown.exists()
        assert _failed_node_checks(first) == [[away.name, 102]]
        assert "files of table never-heard-of are kept" in away.log.read_text()

        assert first.sql("ALTER CLUSTER GC DANGLING ARTIFACTS")["rowcount"] == 0
        assert unknown.exists()
        uuid = first.sql("SELECT partition_uuid FROM sys.shards WHERE table_name = 'kept' LIMIT 1")["rows"][0][0]
        first.sql("DROP TABLE kept")
        _wait("nothing else is left", lambda: all(len(_tables_on_disk(n)) == (n is away) for n in cluster.nodes))
        for node in cluster.nodes:  # as if it could not be deleted then
            (node.data / "nodes" / "0" / "indices" / uuid).mkdir()
        assert first.sql("ALTER CLUSTER GC DANGLING ARTIFACTS")["rowcount"] == 3
        assert all(len(_tables_on_disk(node)) == (node is away) for node in cluster.nodes)


def test_checks_and_health_can_be_read_without_a_master(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        left, *others = cluster.nodes
        assert left.sql("SELECT count(*) FROM sys.checks WHERE NOT passed")["rows"] == [[0]]
        for node in others:
            node.kill()
        query = "SELECT health, description FROM sys.cluster_health"
        _wait("the master is missed", lambda: "No master" in left.sql(query)["rows"][0][1])
        assert left.sql(query)["rows"][0][0] == "RED"
        assert left.sql("SELECT id FROM sys.checks ORDER BY id")["rows"] == [[101], [102], [103], [104], [105]]
        rows = left.sql("SELECT DISTINCT node_id FROM sys.node_checks")["rows"]
        assert rows == left.sql("SELECT id FROM sys.nodes WHERE name = ?", [left.name])["rows"]
