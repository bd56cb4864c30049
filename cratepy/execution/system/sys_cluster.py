"""Rows of the sys tables that follow from the cluster state alone: cluster, health, allocations, users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cratepy.execution.system.information_schema import user_tables
from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.model.cluster_settings import CLUSTER_SETTINGS
from cratepy.model.schema import SettingValue, TableDefinition
from cratepy.model.state import ClusterState, ShardCopy, ShardRouting

#: Severity of a health, as in CrateDB.
SEVERITY: Final = {"GREEN": 1, "YELLOW": 2, "RED": 3}
_AWARENESS: Final = "cluster.routing.allocation.awareness.attributes"
#: A size that CrateDB shows as a number.
_OPERATION_LIMIT: Final = "memory.operation_limit"
_DEFAULTS: Final = {setting.name: setting.default for setting in CLUSTER_SETTINGS.values()}


def _cluster(view: SystemView) -> Iterable[Row]:
    state = view.state
    return (
        {
            "id": state.coordination.cluster_uuid,
            "name": state.cluster_name,
            "cluster_state_version": state.version,
            "master_node": state.master_id,
            "state": None,
            "license": None,
            "settings": _shown_settings(state),
        },
    )


def _shown_settings(state: ClusterState) -> dict[str, Any]:
    """All settings, set ones and defaults, with values of the types that the table has for them."""
    given = {**state.settings_persistent, **state.settings_transient}
    loggers = {name: level for name, level in given.items() if name.partition(".")[0] == "logger"}
    plain = {**_DEFAULTS, **{name: value for name, value in given.items() if name not in loggers}}
    shown = nested_settings({name: _shown(name, value) for name, value in plain.items()})
    shown["logger"] = [{"name": name, "level": str(level).upper()} for name, level in sorted(loggers.items())]
    return shown


def _shown(name: str, value: SettingValue) -> Any:
    known = CLUSTER_SETTINGS.get(name)
    if name == _AWARENESS:
        return str(value).split(",") if value else []
    if known is None or not isinstance(value, int) or isinstance(value, bool) or name == _OPERATION_LIMIT:
        return value
    return f"{value}ms" if known.kind == "time" else f"{value}b" if known.kind == "size" else value


def nested_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``{'a.b': 1}`` as ``{'a': {'b': 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in sorted(settings.items()):
        *path, last = name.split(".")
        target = nested
        for part in path:
            target = target.setdefault(part, {})
        target[last] = value
    return nested


def wanted_replicas(definition: TableDefinition, data_nodes: int) -> int:
    """Copies besides the primary that a table asks for: ``2``, or ``0-1`` as far as there are nodes."""
    low, separator, high = definition.replicas.partition("-")
    if not separator:
        return int(low)
    most = data_nodes - 1 if high in ("all", "") else int(high)
    return max(int(low), min(most, data_nodes - 1))


def table_health(view: SystemView, definition: TableDefinition) -> tuple[str, int, int]:
    """(GREEN | YELLOW | RED, shards without a started primary, copies missing)."""
    routing = view.state.tables[definition.uuid].routing
    missing = sum(1 for shard in routing if shard.primary is None)
    data_nodes = sum(1 for node in view.state.nodes.values() if node.is_data)
    wanted = wanted_replicas(definition, data_nodes)
    under = sum(wanted - started_replicas(shard) for shard in routing if started_replicas(shard) < wanted)
    if missing:
        return "RED", missing, under
    return ("YELLOW", 0, under) if under else ("GREEN", 0, 0)


def started_replicas(shard: ShardRouting) -> int:
    return sum(1 for copy in shard.copies if not copy.is_primary and copy.state == "started")


def _health(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        health, missing, under = table_health(view, definition)
        yield {
            "table_schema": definition.name.schema,
            "table_name": definition.name.name,
            "health": health,
            "severity": SEVERITY[health],
            "missing_shards": missing,
            "underreplicated_shards": under,
        }


def _cluster_health(view: SystemView) -> Iterable[Row]:
    healths = [table_health(view, definition) for definition in user_tables(view.state)]
    worst = max((health for health, _, _ in healths), key=lambda health: SEVERITY[health], default="GREEN")
    description = ""
    if view.state.master_id is None:
        worst, description = "RED", "No master: writes and schema changes are refused until one is elected"
    elif worst == "RED":
        description = "One or more tables are missing shards"
    elif worst == "YELLOW":
        description = "One or more tables have underreplicated shards"
    return (
        {
            "health": worst,
            "severity": SEVERITY[worst],
            "description": description,
            "missing_shards": sum(missing for _, missing, _ in healths),
            "underreplicated_shards": sum(under for _, _, under in healths),
            "pending_tasks": view.local.pending_changes(),
        },
    )


def _allocations(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        for shard in view.state.tables[definition.uuid].routing:
            for copy in shard.copies:
                yield _allocation_row(view, definition, shard, copy)


def _allocation_row(view: SystemView, definition: TableDefinition, shard: ShardRouting, copy: ShardCopy) -> Row:
    return {
        "table_schema": definition.name.schema,
        "table_name": definition.name.name,
        "shard_id": shard.shard,
        "node_id": copy.node_id,
        "primary": copy.is_primary,
        "current_state": copy.state.upper(),
        "explanation": copy.reason or None,
        "decisions": _decisions(view, copy),
    }


def _decisions(view: SystemView, copy: ShardCopy) -> list[dict[str, Any]] | None:
    """Why an unassigned copy with data is not on the node that has it; no other node can bring it back."""
    if copy.node_id is not None or copy.last_node_id is None:
        return None
    node = view.state.nodes.get(copy.last_node_id)
    explanations = ["the only node whose disk holds this copy"]
    if node is None:
        explanations.append("the node is not in the cluster")
    if copy.failed_attempts:
        explanations.append(f"it could not be opened there, {copy.failed_attempts} times in a row: {copy.reason}")
    return [
        {"node_id": copy.last_node_id, "node_name": None if node is None else node.name, "explanations": explanations}
    ]


def _users(view: SystemView) -> Iterable[Row]:
    return ({"name": "crate", "superuser": True, "granted_roles": [], "session_settings": {}},)


PROVIDERS: Final[Mapping[str, Provider]] = {
    "allocations": _allocations,
    "cluster": _cluster,
    "cluster_health": _cluster_health,
    "health": _health,
    "users": _users,
}
