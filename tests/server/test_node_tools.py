"""The node tools on real data directories: what they change, what they refuse, and that they ask."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio

from cratepy import __version__
from cratepy.clock import SystemClock
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.persistence import NodeDirectory
from cratepy.cluster.service import ClusterService
from cratepy.cluster.state_log import StateDamaged
from cratepy.cluster.tools import ToolError
from cratepy.model.commands import CreateTable, SetClusterSettings
from cratepy.server.cli import main
from tests.cluster.states import definition

SINGLE: dict[str, Any] = {"seed_hosts": (), "initial_master_nodes": (), "transport_ports": [0]}


def _options(path: Path, **changes: Any) -> ClusterOptions:
    return ClusterOptions(data_path=path, node_name=path.name, version=__version__, **{**SINGLE, **changes})


def _run(path: Path, *, settings: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Run a node until it has a master, with a table and settings; what show-state would say then."""

    async def go() -> None:
        service = ClusterService(_options(path, **changes), clock=SystemClock())
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            state = await service.wait_for(lambda s: s.master_id is not None, timeout_s=5)
            if not state.tables:
                await service.submit(CreateTable(definition=definition()))
            if settings:
                await service.submit(SetClusterSettings(settings=settings, is_persistent=True))
            nursery.cancel_scope.cancel()

    trio.run(go)
    return _shown(path)


def _shown(path: Path) -> dict[str, Any]:
    directory = NodeDirectory(path / "nodes" / "0", new_node_id="")
    try:
        from cratepy.cluster.tools import shown_state

        return shown_state(directory, directory.open_log(cluster_name=None))
    finally:
        directory.close()


def _tool(path: Path, *arguments: str) -> int:
    return main(["node", *arguments, "-C", f"path.data={path}"])


def test_the_state_is_shown_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _run(tmp_path)
    assert _tool(tmp_path, "show-state") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == before
    assert shown["committed_voting_configuration"] == [shown["node_id"]]
    assert list(shown["tables"]) == ["doc.t"]
    assert shown["version"] == __version__


def test_unsafe_bootstrap_makes_a_lone_survivor_master_with_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _run(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert _tool(tmp_path, "unsafe-bootstrap") == 1
    assert "LOST" in capsys.readouterr().out
    assert _shown(tmp_path) == before
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert _tool(tmp_path, "unsafe-bootstrap") == 0
    after = _shown(tmp_path)
    assert after["cluster_uuid"] != before["cluster_uuid"]
    assert after["committed_voting_configuration"] == [before["node_id"]]
    assert after["current_term"] == before["current_term"] + 1
    # It starts although it is told of other nodes, which are gone.
    assert list(_run(tmp_path, seed_hosts=("127.0.0.1:1",))["tables"]) == ["doc.t"]


def test_a_detached_node_elects_nobody(tmp_path: Path) -> None:
    before = _run(tmp_path)
    assert _tool(tmp_path, "detach-cluster", "--yes") == 0
    after = _shown(tmp_path)
    assert after["node_id"] == before["node_id"]
    assert not after["is_cluster_uuid_committed"]
    assert before["node_id"] not in after["accepted_voting_configuration"]

    async def go() -> None:
        service = ClusterService(_options(tmp_path), clock=SystemClock())
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await trio.sleep(0.5)
            assert not service.has_master
            nursery.cancel_scope.cancel()

    trio.run(go)


def test_a_running_node_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path)
    held = NodeDirectory(tmp_path / "nodes" / "0", new_node_id="")
    try:
        for tool in ("unsafe-bootstrap", "detach-cluster", "show-state", "override-version"):
            assert _tool(tmp_path, tool, "--yes") == 1
            assert "stop the node first" in capsys.readouterr().err
    finally:
        held.close()


def test_where_there_is_no_node_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tool(tmp_path / "nowhere", "unsafe-bootstrap", "--yes") == 1
    assert "there is no node in" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_settings_are_removed_by_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(
        tmp_path, settings={"stats.jobs_log_size": 1, "stats.operations_log_size": 2, "cluster.max_shards_per_node": 9}
    )
    assert _tool(tmp_path, "remove-settings", "--yes", "gateway.*") == 1
    assert "cluster.max_shards_per_node" in capsys.readouterr().err
    assert _tool(tmp_path, "remove-settings", "--yes", "stats.*") == 0
    assert _shown(tmp_path)["settings"] == {"cluster.max_shards_per_node": 9}
    assert _run(tmp_path)["settings"] == {"cluster.max_shards_per_node": 9}


def test_data_of_a_newer_version_is_refused_until_overridden(tmp_path: Path) -> None:
    _run(tmp_path)
    directory = NodeDirectory(tmp_path / "nodes" / "0", new_node_id="")
    directory.set_version("999.0.0")
    directory.close()
    with pytest.raises(StateDamaged, match=r"was written by version 999\.0\.0"):
        ClusterService(_options(tmp_path), clock=SystemClock())
    assert _tool(tmp_path, "override-version", "--yes") == 0
    assert _run(tmp_path)["version"] == __version__


def test_a_node_that_shall_hold_no_data_is_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path)
    copy = tmp_path / "nodes" / "0" / "indices" / "uuid" / "0" / "alloc"
    copy.mkdir(parents=True)
    (copy / "manifest").write_bytes(b"x")
    assert _tool(tmp_path, "repurpose", "--yes") == 1
    assert "node.data=false" in capsys.readouterr().err
    assert _tool(tmp_path, "repurpose", "--yes", "-C", "node.data=false") == 0
    assert not copy.exists()
    assert list(_shown(tmp_path)["tables"]) == ["doc.t"]
    assert _tool(tmp_path, "repurpose", "--yes", "-C", "node.data=false", "-C", "node.master=false") == 0
    assert not NodeDirectory.exists(tmp_path / "nodes" / "0")


# --- the recovery file -----------------------------------------------------------------------------------------------


def _peers(path: Path, *entries: Any) -> Path:
    file = path / "nodes" / "0" / "peers.json"
    file.write_text(json.dumps(entries))
    return file


def test_a_recovery_file_names_the_voters_once(tmp_path: Path) -> None:
    before = _run(tmp_path)
    me = {"id": before["node_id"], "address": "127.0.0.1:4300"}
    file = _peers(tmp_path, me, {"id": "b", "address": "127.0.0.1:4301", "non_voter": True})
    after = _run(tmp_path)
    assert after["committed_voting_configuration"] == [before["node_id"]]
    assert after["cluster_uuid"] == before["cluster_uuid"]
    assert not file.exists()
    assert file.with_name("peers.info").exists()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"id": "ME"}, {"id": "ME"}], "more than once"),
        ([{"id": "ME", "address": "a:1"}, {"id": "b", "address": "a:1"}], "names address a:1 more than once"),
        ([{"id": "b"}], "does not name this node"),
        ([{"id": "ME", "non_voter": True}], "names no voter"),
        ([{"id": "ME", "voter": True}], "unknown field"),
        ([{"address": "a"}], "missing required field"),
        ([7], "is not a list like"),
    ],
)
def test_a_recovery_file_that_is_wrong_changes_nothing(tmp_path: Path, entries: list[Any], words: str) -> None:
    before = _run(tmp_path)
    text = json.dumps(entries).replace("ME", before["node_id"])
    file = tmp_path / "nodes" / "0" / "peers.json"
    file.write_text(text)
    with pytest.raises(ToolError, match=words):
        ClusterService(_options(tmp_path), clock=SystemClock())
    assert file.exists()
