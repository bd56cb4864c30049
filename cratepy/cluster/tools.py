"""What the node tools do to a stopped node's data directory, without the questions.

In: an open :class:`NodeDirectory` (so no process has it). Out: the state log with one more record, and what to tell the
operator. Every tool is one durable write: a crash leaves the directory as it was or as it shall be. These are the last
resort when a quorum is lost for ever; each docstring says what may be lost. Source: CrateDB's ``crate-node``, and rqlite's
``peers.json`` for the recovery file.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cratepy.cluster.persistence import NodeDirectory
from cratepy.cluster.state_log import StateLog
from cratepy.errors import CrateError
from cratepy.model.state import ClusterState, Coordination

replace = msgspec.structs.replace
#: In the voting configuration of a detached node: nobody has this id, so it elects nobody and bootstraps nothing.
MUST_JOIN: Final = "{must-join-elected-master}"
RECOVERY_FILE: Final = "peers.json"
#: What the recovery file is called once it was used.
RECOVERY_FILE_USED: Final = "peers.info"
_RECOVERY_BYTES_MAX: Final = 1024 * 1024


class ToolError(CrateError):
    """A node tool cannot do what was asked; nothing was changed."""

    code, sqlstate, label = 4000, "22023", "NodeToolException"


def unsafe_bootstrap(log: StateLog, node_id: str, *, new_uuid: str) -> None:
    """Make this node alone the voting configuration of a new cluster with this node's tables.

    Changes that only the lost nodes had accepted are gone; nodes of the old cluster must be detached before they can join.
    """
    state = _written_state(log)
    coordination = Coordination(
        term=log.term + 1,
        committed_config=(node_id,),
        accepted_config=(node_id,),
        cluster_uuid=new_uuid,
        is_cluster_uuid_committed=True,
    )
    log.save(log.term + 1, replace(state, version=state.version + 1, master_id=None, coordination=coordination))


def detach_cluster(log: StateLog) -> None:
    """Let this node join whatever cluster it finds next; by itself it elects nobody and forms none.

    Its tables are those of the cluster it joins; shards here of other tables are no part of it.
    """
    state = _written_state(log)
    config = (MUST_JOIN,)
    coordination = Coordination(term=0, committed_config=config, accepted_config=config)
    log.save(log.term, replace(state, version=state.version + 1, master_id=None, coordination=coordination))


def matching_settings(log: StateLog, patterns: Sequence[str]) -> list[str]:
    """The names of persistent cluster settings by name or pattern (``*``). Raises ToolError: none matches."""
    state = _written_state(log)
    names = sorted(
        {name for name in state.settings_persistent for pattern in patterns if fnmatch.fnmatchcase(name, pattern)}
    )
    if not names:
        there = ", ".join(sorted(state.settings_persistent)) or "none"
        raise ToolError(f"no persistent setting matches {', '.join(patterns)}; there are: {there}")
    return names


def remove_settings(log: StateLog, patterns: Sequence[str]) -> list[str]:
    """Remove persistent cluster settings by name or pattern (``*``); returns their names. Raises ToolError: none matches."""
    names = matching_settings(log, patterns)
    state = log.state
    kept = {name: value for name, value in state.settings_persistent.items() if name not in names}
    log.save(log.term, replace(state, version=state.version + 1, settings_persistent=kept))
    return names


def shards_on_disk(path: Path) -> list[Path]:
    """The directories of shard copies below a node's directory."""
    return sorted(found for found in (path / "indices").glob("*/*/*") if found.is_dir())


def remove_shards(path: Path) -> int:
    """Delete all shard copies; returns how many there were. What only this node had is lost."""
    shards = shards_on_disk(path)
    if (path / "indices").exists():
        shutil.rmtree(path / "indices")
    return len(shards)


def remove_state(path: Path) -> None:
    """Delete the cluster state and the node id: the node is new when it starts next."""
    shutil.rmtree(path / "_state")


def shown_state(directory: NodeDirectory, log: StateLog) -> dict[str, Any]:
    """What an operator wants to know of a node, as plain data."""
    state, coordination = log.state, log.state.coordination
    return {
        "node_id": directory.node_id,
        "version": directory.version,
        "cluster_name": state.cluster_name,
        "cluster_uuid": coordination.cluster_uuid,
        "is_cluster_uuid_committed": coordination.is_cluster_uuid_committed,
        "current_term": log.term,
        "accepted_term": coordination.term,
        "accepted_version": state.version,
        "committed_voting_configuration": list(coordination.committed_config),
        "accepted_voting_configuration": list(coordination.accepted_config),
        "nodes": {node.id: f"{node.name} {node.host}:{node.transport_port}" for node in state.nodes.values()},
        "tables": {
            str(t.definition.name): {"uuid": uuid, "shards": len(t.routing)} for uuid, t in state.tables.items()
        },
        "settings": dict(state.settings_persistent),
        "shard_copies_on_disk": len(shards_on_disk(directory.path)),
    }


def _written_state(log: StateLog) -> ClusterState:
    if not log.state.version:
        raise ToolError("this node has never been in a cluster: there is no cluster state here to change")
    return log.state


# --- the recovery file -----------------------------------------------------------------------------------------------


class RecoveryPeer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``peers.json``."""

    id: str
    #: For the reader of the file; nodes find each other by discovery.
    address: str = ""
    non_voter: bool = False


def recover_from_file(directory: NodeDirectory, log: StateLog) -> tuple[str, ...] | None:
    """Take the voting configuration from ``peers.json`` in the node's directory, once; None if there is no such file.

    The file is put on every node that is left, while all are stopped. Changes that only lost nodes had accepted are gone.
    Raises ToolError for a file that is not as it must be; then nothing was changed and the node should not start.
    """
    path = directory.path / RECOVERY_FILE
    if not path.exists():
        return None
    if path.stat().st_size > _RECOVERY_BYTES_MAX:
        raise ToolError(f"{path} is larger than {_RECOVERY_BYTES_MAX} bytes")
    try:
        peers = msgspec.json.decode(path.read_bytes(), type=list[RecoveryPeer])
    except msgspec.MsgspecError as error:
        raise ToolError(
            f'{path} is not a list like [{{"id": "…", "address": "host:4300", "non_voter": false}}]: {error}'
        ) from error
    ids = [peer.id for peer in peers]
    doubled = sorted({node_id for node_id in ids if ids.count(node_id) > 1})
    if doubled:
        raise ToolError(f"{path} names node {doubled[0]} more than once")
    addresses = [peer.address for peer in peers if peer.address]
    doubled = sorted({address for address in addresses if addresses.count(address) > 1})
    if doubled:
        raise ToolError(f"{path} names address {doubled[0]} more than once")
    voters = tuple(sorted(peer.id for peer in peers if not peer.non_voter))
    if not voters:
        raise ToolError(f"{path} names no voter")
    if directory.node_id not in ids:
        raise ToolError(f"{path} does not name this node, {directory.node_id}")
    state = _written_state(log)
    coordination = replace(state.coordination, committed_config=voters, accepted_config=voters)
    if coordination != state.coordination:
        log.save(log.term, replace(state, version=state.version, coordination=coordination))
    path.rename(directory.path / RECOVERY_FILE_USED)
    return voters


def as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
