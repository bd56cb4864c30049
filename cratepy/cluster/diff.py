"""Differences between two cluster states: what a publication sends and what the state log appends.

``diff(old, new)`` is small when the change is small, whatever the size of the state: new or changed nodes, definitions
and single shard routings, and names of what is gone. ``patch(old, diff)`` gives ``new`` again, and refuses a state that
is not the one the diff was made from; then the whole state is sent instead.

States share what they have in common, so that unchanged parts are found by identity and cost no comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from cratepy.model.schema import SettingValue, TableDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition
from cratepy.model.state import ClusterState, Coordination, NodeInfo, ShardRouting, TableState

replace = msgspec.structs.replace
T = TypeVar("T")


class TableDiff(msgspec.Struct, frozen=True, omit_defaults=True):
    """A changed table: its definition if that changed, the routing of the shards that changed."""

    definition: TableDefinition | None = None
    routing: tuple[ShardRouting, ...] = ()


class StateDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What turns the state ``base`` (term, version) into the next one. Absent parts are unchanged."""

    base: tuple[int, int]
    cluster_name: str
    version: int
    coordination: Coordination
    master_id: str | None = None
    next_oid: int
    nodes: dict[str, NodeInfo] = {}
    removed_nodes: tuple[str, ...] = ()
    new_tables: dict[str, TableState] = {}
    changed_tables: dict[str, TableDiff] = {}
    removed_tables: tuple[str, ...] = ()
    views: dict[str, ViewDefinition] = {}
    removed_views: tuple[str, ...] = ()
    schemas: tuple[str, ...] | None = None
    settings_persistent: dict[str, SettingValue] | None = None
    settings_transient: dict[str, SettingValue] | None = None
    analyzers: dict[str, AnalyzerDefinition] = {}
    removed_analyzers: tuple[str, ...] = ()
    #: How many of the last dropped tables are still remembered, and those after them.
    dropped_kept: int = 0
    dropped: tuple[str, ...] = ()


class BaseMismatch(Exception):
    """A diff that was not made from this state."""


def diff(old: ClusterState, new: ClusterState) -> StateDiff:
    """What changed."""
    new_tables: dict[str, TableState] = {}
    changed_tables: dict[str, TableDiff] = {}
    if new.tables is not old.tables:
        for uuid, table in new.tables.items():
            known = old.tables.get(uuid)
            if known is None or len(known.routing) != len(table.routing):
                new_tables[uuid] = table
            elif known is not table:
                changed_tables[uuid] = _table_diff(known, table)
    dropped_kept = _kept(old.dropped, new.dropped)
    return StateDiff(
        base=(old.coordination.term, old.version),
        cluster_name=new.cluster_name,
        version=new.version,
        coordination=new.coordination,
        master_id=new.master_id,
        next_oid=new.next_oid,
        nodes=_changed(old.nodes, new.nodes),
        removed_nodes=_removed(old.nodes, new.nodes),
        new_tables=new_tables,
        changed_tables=changed_tables,
        removed_tables=_removed(old.tables, new.tables),
        views=_changed(old.views, new.views),
        removed_views=_removed(old.views, new.views),
        schemas=_if_changed(old.schemas, new.schemas),
        settings_persistent=_if_changed(old.settings_persistent, new.settings_persistent),
        settings_transient=_if_changed(old.settings_transient, new.settings_transient),
        analyzers=_changed(old.analyzers, new.analyzers),
        removed_analyzers=_removed(old.analyzers, new.analyzers),
        dropped_kept=dropped_kept,
        dropped=new.dropped[dropped_kept:],
    )


def patch(old: ClusterState, change: StateDiff) -> ClusterState:
    """The state after the change. Raises BaseMismatch."""
    base = (old.coordination.term, old.version)
    if base != change.base:
        raise BaseMismatch(f"the change is from term and version {change.base}, this state is {base}")
    return ClusterState(
        cluster_name=change.cluster_name,
        version=change.version,
        coordination=change.coordination,
        master_id=change.master_id,
        nodes=_sorted(_patched(old.nodes, change.nodes, change.removed_nodes)),
        tables=_patched_tables(old.tables, change),
        views=_patched(old.views, change.views, change.removed_views),
        schemas=old.schemas if change.schemas is None else change.schemas,
        settings_persistent=(
            old.settings_persistent if change.settings_persistent is None else change.settings_persistent
        ),
        settings_transient=old.settings_transient if change.settings_transient is None else change.settings_transient,
        analyzers=_patched(old.analyzers, change.analyzers, change.removed_analyzers),
        dropped=old.dropped[len(old.dropped) - change.dropped_kept :] + change.dropped,
        next_oid=change.next_oid,
    )


def _kept(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    """How many entries at the end of ``old`` are the beginning of ``new``, to which some were appended; 0 if it is no such pair."""
    if old is new:
        return len(old)
    kept = new.index(old[-1]) + 1 if old and old[-1] in new else 0
    return kept if old[len(old) - kept :] == new[:kept] else 0


def _table_diff(old: TableState, new: TableState) -> TableDiff:
    routing = tuple(b for a, b in zip(old.routing, new.routing, strict=True) if a is not b and a != b)
    return TableDiff(_if_changed(old.definition, new.definition), routing)


def _patched_tables(old: dict[str, TableState], change: StateDiff) -> dict[str, TableState]:
    if not (change.new_tables or change.changed_tables or change.removed_tables):
        return old
    # A copy, always: the old state is still what this node shows until the new one is committed.
    tables = dict(_patched(old, change.new_tables, change.removed_tables))
    for uuid, table_diff in change.changed_tables.items():
        table = tables[uuid]
        routing = list(table.routing)
        for changed in table_diff.routing:
            routing[changed.shard] = changed
        tables[uuid] = TableState(table_diff.definition or table.definition, tuple(routing))
    return tables


def _changed(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T]:
    if old is new:
        return {}
    return {key: value for key, value in new.items() if old.get(key) is not value and old.get(key) != value}


def _removed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    return () if old is new else tuple(key for key in old if key not in new)


def _sorted(nodes: dict[str, NodeInfo]) -> dict[str, NodeInfo]:
    """Nodes are in the order of their ids on every node, as the master has them."""
    return {node_id: nodes[node_id] for node_id in sorted(nodes)}


def _if_changed(old: T, new: T) -> T | None:
    return None if old is new or old == new else new


def _patched(old: dict[str, T], changed: dict[str, T], removed: tuple[str, ...]) -> dict[str, T]:
    if not changed and not removed:
        return old
    gone = set(removed)
    return {**{key: value for key, value in old.items() if key not in gone}, **changed}
