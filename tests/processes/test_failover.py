"""A master that is killed is replaced, comes back, and every acknowledged row is still there."""

from __future__ import annotations

import time
from pathlib import Path

from demo.processes import Cluster, SqlError, is_alive, polls

#: What the product promises here; the usual time is a fraction of it.
DDL_AFTER_KILL_S = 5.0


def test_the_next_ddl_succeeds_after_the_master_is_killed_and_it_returns_with_its_rows(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first = cluster.nodes[0]
        first.sql(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT) CLUSTERED INTO 6 SHARDS WITH (number_of_replicas = 0)"
        )
        for number in range(50):
            first.sql("INSERT INTO t (id, v) VALUES (?, ?)", [number, f"row {number}"])
        master = cluster.master()
        survivor = next(node for node in cluster.nodes if node is not master)
        master.kill()
        succeeded = False
        for _ in polls(DDL_AFTER_KILL_S):
            try:
                survivor.sql("CREATE TABLE IF NOT EXISTS after_kill (id INTEGER) CLUSTERED INTO 2 SHARDS", timeout_s=5)
            except (SqlError, OSError):
                continue
            succeeded = True
            break
        assert succeeded, f"no DDL within {DDL_AFTER_KILL_S} s of the master's death"
        assert cluster.master() is not master

        master.start()
        cluster.wait_ready()
        for node in cluster.nodes:
            for _ in polls(10):
                try:
                    node.sql("REFRESH TABLE t")
                    rows = node.sql("SELECT id, v FROM t ORDER BY id")["rows"]
                except SqlError:
                    continue  # the shards of the returned node are opening
                break
            assert rows == [[number, f"row {number}"] for number in range(50)]
            assert node.sql("SELECT v FROM t WHERE id = 7")["rows"] == [["row 7"]]


def test_a_query_over_a_shard_whose_node_is_gone_fails_with_a_clear_error(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first, second, third = cluster.nodes
        first.sql("CREATE TABLE t (id INTEGER PRIMARY KEY) CLUSTERED INTO 6 SHARDS WITH (number_of_replicas = 0)")
        first.sql("INSERT INTO t (id) VALUES (1), (2), (3)")
        first.sql("REFRESH TABLE t")
        third.kill()
        for _ in polls(10):
            try:
                first.sql("SELECT sum(id) FROM t", timeout_s=10)
            except SqlError as error:
                if error.code == 5002:
                    assert "t" in error.message
                    break
        else:
            raise AssertionError("no error names the shard that is gone")
        assert second.sql("SELECT 1")["rows"] == [[1]]


def test_a_stopped_cluster_leaves_nothing_running(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        pids = [node.process.pid for node in cluster.nodes if node.process is not None]
        started = time.monotonic()
        statuses = [node.stop() for node in cluster.nodes]
        assert statuses == [0, 0, 0], f"stopping took {time.monotonic() - started:.1f} s"
    assert not any(is_alive(pid) for pid in pids)
