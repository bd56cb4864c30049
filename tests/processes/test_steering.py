"""ALTER CLUSTER on real processes: a master that steps down, a node that is taken out of service."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from demo.processes import Cluster, Node, SqlError, polls


def _wait(what: str, is_true: object) -> None:
    for _ in polls(60):
        if is_true():  # type: ignore[operator]
            return
    raise AssertionError(f"not in time: {what}")


def _voters(node: Node) -> int:
    return int(node.sql("SELECT count(*) FROM sys.nodes WHERE 'master_eligible' = ANY(roles)")["rows"][0][0])


def test_a_master_steps_down_and_nodes_are_decommissioned(tmp_path: Path) -> None:
    with Cluster(tmp_path, 4) as cluster:
        old = cluster.master()
        others = [node for node in cluster.nodes if node is not old]
        heir = others[0]
        others[1].sql(f"ALTER CLUSTER STEP DOWN TO '{heir.name}'")
        _wait("the heir knows that it is master", lambda: cluster.master().name == heir.name)
        heir.sql("ALTER CLUSTER STEP DOWN")
        _wait("every node knows another master", lambda: cluster.master().name != heir.name)
        with pytest.raises(SqlError, match=r"Node: 'nobody' could not be found"):
            heir.sql("ALTER CLUSTER DECOMMISSION 'nobody'")

        heir.sql("CREATE TABLE t (a INTEGER) CLUSTERED INTO 4 SHARDS")
        master = cluster.master()
        with pytest.raises(SqlError, match="holds the only copy of 1 shards"):
            heir.sql(f"ALTER CLUSTER DECOMMISSION '{master.name}'")
        heir.sql("DROP TABLE t")
        asked = next(node for node in cluster.nodes if node is not master)
        asked.sql("ALTER CLUSTER DECOMMISSION ?", [master.name])
        assert master.process is not None
        assert master.process.wait(30) == 0
        rest = [node for node in cluster.nodes if node is not master]
        _wait("three nodes are left", lambda: all(_voters(node) == 3 for node in rest))

        asked.sql("SET GLOBAL TRANSIENT cluster.graceful_stop.min_availability = 'none'")
        asked.sql("CREATE TABLE t (a INTEGER) CLUSTERED INTO 3 SHARDS")
        asked.sql(f"ALTER CLUSTER DECOMMISSION {json.dumps(asked.name)}")  # by its quoted name, of itself
        assert asked.process is not None
        assert asked.process.wait(30) == 0
        left = [node for node in rest if node is not asked]
        _wait("two nodes go on", lambda: all(_voters(node) == 2 for node in left))
        assert left[0].sql("ALTER CLUSTER REROUTE RETRY FAILED")["rowcount"] == 0


def test_every_response_carries_the_version_of_the_state_and_it_never_falls(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:

        def version(node: Node, path: str) -> int:
            body = json.dumps({"stmt": "SELECT 1"}).encode() if path == "/_sql" else None
            with urllib.request.urlopen(urllib.request.Request(node.url + path, body)) as reply:
                return int(reply.headers["X-Cratepy-State-Version"])

        last = {node.name: 0 for node in cluster.nodes}
        for number in range(6):
            cluster.nodes[number % 3].sql(f"CREATE TABLE t{number} (a INTEGER)")
            for node in cluster.nodes:
                for path in ("/", "/_sql", "/health/ready"):
                    seen = version(node, path)
                    assert seen >= last[node.name]
                    last[node.name] = seen
        row = cluster.nodes[0].sql("SELECT cluster_state_version FROM sys.cluster")["rows"][0]
        assert row[0] >= min(last.values())
