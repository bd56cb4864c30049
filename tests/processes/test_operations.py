"""The procedures of docs/operations/clusters.md, on real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Cluster, Node, SqlError, polls

GUIDE = Path(__file__).parents[2] / "docs" / "operations" / "clusters.md"


def _wait(what: str, is_true: Callable[[], Any], timeout_s: float = 60) -> None:
    for _ in polls(timeout_s):
        if is_true():
            return
    raise AssertionError(f"not in time: {what}")


def _members(node: Node) -> int:
    try:
        reply = node.sql("SELECT count(*), (SELECT master_node FROM sys.cluster) FROM sys.nodes", timeout_s=3)
    except (OSError, SqlError, ValueError):
        return 0
    ((count, master),) = reply["rows"]
    return int(count) if master is not None else 0


def _tool(node: Node, *arguments: str, answer: str = "y\n") -> str:
    command = [sys.executable, "-m", "cratepy", "node", *arguments, "-C", f"path.data={node.data}"]
    done = subprocess.run(command, input=answer, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _ready(node: Node, level: str) -> int:
    try:
        with urllib.request.urlopen(f"{node.url}/health/ready?level={level}", timeout=2) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)
    except OSError:
        return 0


def _fill(node: Node) -> None:
    node.sql("CREATE TABLE t (a INTEGER PRIMARY KEY) CLUSTERED INTO 6 SHARDS")
    assert node.sql("INSERT INTO t SELECT * FROM generate_series(1, 600)")["rowcount"] == 600
    node.sql("REFRESH TABLE t")


def _newcomer(cluster: Cluster, directory: Path, name: str) -> Node:
    """A node that knows the cluster's name and one member."""
    made = Cluster(directory, 1).nodes[0]
    keep = [s for s in made.settings if s.split("=")[0] in ("http.port", "psql.port", "transport.port")]
    cluster_name = next(s for s in cluster.nodes[0].settings if s.startswith("cluster.name"))
    seed = f"discovery.seed_hosts=127.0.0.1:{cluster.nodes[-1].transport_port}"
    made.settings = (*keep, cluster_name, f"node.name={name}", seed)
    return made


def test_the_guide_names_every_procedure_tested_here() -> None:
    text = GUIDE.read_text()
    for section in ("Adding a node", "Restarting one node", "Taking a node out", "Replacing a node", "lost for ever"):
        assert section in text


def test_adding_and_replacing_a_node(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        first, second = (_newcomer(cluster, tmp_path / name, name) for name in ("n4", "n5"))
        try:
            first.start()
            _wait("four members", lambda: _members(cluster.nodes[0]) == 4)
            lost = next(node for node in cluster.nodes if node is not cluster.master())
            lost.kill()
            asked = next(node for node in cluster.nodes if node is not lost)
            _wait("three members are left", lambda: _members(asked) == 3)
            second.start()
            _wait("the new one is a member", lambda: _members(second) == 4)
            assert asked.sql("SELECT name FROM sys.nodes WHERE name = 'n5'")["rowcount"] == 1
        finally:
            first.stop()
            second.stop()


def test_restarting_one_node_after_the_other(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        _fill(cluster.nodes[0])
        for node in cluster.nodes:
            assert node.stop() == 0
            node.start()
            _wait("all primaries are back", lambda node=node: _ready(node, "primaries") == 200)
            _wait("three members", lambda node=node: _members(node) == 3)
        assert cluster.nodes[1].sql("SELECT count(*) FROM t")["rows"] == [[600]]


def test_without_a_majority_reads_go_on_and_changes_are_refused_at_once(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        _fill(cluster.nodes[0])
        alone = cluster.nodes[0]
        for node in cluster.nodes[1:]:
            node.kill()
        _wait("it notices", lambda: _ready(alone, "master") == 503)
        assert _ready(alone, "joined") == 200
        # The last state it has seen; the master may have noticed the first death before its own.
        assert alone.sql("SELECT name FROM sys.nodes")["rowcount"] in (2, 3)
        own = alone.sql("SELECT a FROM t WHERE a = 1")["rows"] if _holds(alone, 1) else [[1]]
        assert own == [[1]]
        for statement in ("INSERT INTO t (a) VALUES (1000)", "CREATE TABLE other (a INTEGER)", "DELETE FROM t"):
            with pytest.raises(SqlError) as refused:
                alone.sql(statement, timeout_s=5)
            assert (refused.value.status, refused.value.code) == (503, 5031), statement
        for node in cluster.nodes[1:]:
            node.start()
        cluster.wait_ready()
        assert alone.sql("SELECT count(*) FROM t")["rows"] == [[600]]


def _holds(node: Node, key: int) -> bool:
    try:
        return bool(node.sql("SELECT a FROM t WHERE a = ?", [key], timeout_s=30)["rows"])
    except SqlError:
        return False


def test_one_survivor_leads_a_new_cluster_and_another_joins_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        _fill(cluster.nodes[0])
        rows = {node.name: _rows_on(cluster.nodes[0], node.name) for node in cluster.nodes}
        lost, *survivors = cluster.nodes
        lost.kill()
        survivors[0].kill()
        for node in survivors:
            node.stop()
        states = {node.name: json.loads(_tool(node, "show-state")) for node in survivors}
        chosen = max(survivors, key=lambda n: (states[n.name]["accepted_term"], states[n.name]["accepted_version"]))
        (other,) = (node for node in survivors if node is not chosen)
        assert "LOST" in _tool(chosen, "unsafe-bootstrap")
        chosen.start()
        _wait("it leads", lambda: _members(chosen) == 1)
        assert "LOST" in _tool(other, "detach-cluster")
        other.start()
        _wait("the other has joined", lambda: _members(chosen) == 2)
        _wait("their shards are back", lambda: _count(chosen) == rows[chosen.name] + rows[other.name])
        chosen.sql("CREATE TABLE after (a INTEGER)")
        assert chosen.sql("SELECT name FROM sys.nodes ORDER BY name")["rowcount"] == 2


def test_survivors_go_on_with_themselves_as_voters(tmp_path: Path) -> None:
    with Cluster(tmp_path, 5) as cluster:
        survivors = cluster.nodes[:2]
        for node in cluster.nodes[2:]:
            node.kill()
        for node in survivors:
            node.stop()
        ids = [json.loads(_tool(node, "show-state"))["node_id"] for node in survivors]
        peers = [
            {"id": node_id, "address": f"127.0.0.1:{node.transport_port}", "non_voter": False}
            for node_id, node in zip(ids, survivors, strict=True)
        ]
        for node in survivors:
            (node.data / "nodes" / "0" / "peers.json").write_text(json.dumps(peers))
        for node in survivors:
            node.start()
        _wait("two members", lambda: all(_members(node) == 2 for node in survivors))
        survivors[0].sql("CREATE TABLE after (a INTEGER)")
        assert all((node.data / "nodes" / "0" / "peers.info").exists() for node in survivors)


def _rows_on(asked: Node, name: str) -> int:
    query = "SELECT coalesce(sum(num_docs), 0) FROM sys.shards WHERE table_name = 't' AND node['name'] = ?"
    return int(asked.sql(query, [name])["rows"][0][0])


def _count(node: Node) -> int:
    query = "SELECT coalesce(sum(num_docs), 0) FROM sys.shards WHERE table_name = 't' AND routing_state = 'STARTED'"
    return int(node.sql(query)["rows"][0][0])
