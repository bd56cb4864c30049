"""The cluster state: nodes, tables, routing, settings. Frozen and versioned; only the master makes a new one.

A change is ``cluster.commands.apply(state, command)``; every node applies the committed states in order. ``sql`` reads
it as its catalog, ``execution`` reads routing from it, so it lives here and not in ``cluster``.

What there are thousands of is made with ``gc=False``: frozen values hold no cycles, and the collector, which runs on
whichever thread it likes, the event loop's included, need not look through them for any.
"""

from __future__ import annotations

import msgspec

from cratepy.model.names import RelationName
from cratepy.model.schema import SettingValue, TableDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition


class NodeInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A member of the cluster. ``ephemeral_id`` is new with every start of the process."""

    id: str
    name: str
    ephemeral_id: str
    host: str
    transport_port: int
    http_port: int
    psql_port: int
    is_master_eligible: bool = True
    is_data: bool = True
    version: str = ""
    attributes: dict[str, str] = {}


class ShardCopy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One copy of a shard on a node. ``allocation_id`` names this copy for ever; a new copy gets a new one."""

    allocation_id: str
    #: None while unassigned.
    node_id: str | None
    is_primary: bool
    #: ``unassigned``, ``initializing`` or ``started``.
    state: str
    #: Why it is unassigned, for people: ``node left``, ``table created``, the reason of a failure.
    reason: str = ""
    #: While unassigned: the node whose disk holds this copy; only it can bring the copy back.
    last_node_id: str | None = None
    #: Failures in a row; above the bound nobody tries again until the node starts anew.
    failed_attempts: int = 0


class ShardRouting(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The copies of one shard. ``in_sync`` are the allocation ids that hold every acknowledged write."""

    shard: int
    primary_term: int
    in_sync: tuple[str, ...]
    copies: tuple[ShardCopy, ...]

    @property
    def primary(self) -> ShardCopy | None:
        """The started primary, or None."""
        for copy in self.copies:
            if copy.is_primary and copy.state == "started":
                return copy
        return None

    @property
    def opening(self) -> ShardCopy | None:
        """The primary that its node is opening, or None."""
        for copy in self.copies:
            if copy.is_primary and copy.state == "initializing" and copy.node_id is not None:
                return copy
        return None


class TableState(msgspec.Struct, frozen=True, gc=False):
    """A table's definition and where its shards are; ``routing[i].shard == i``."""

    definition: TableDefinition
    routing: tuple[ShardRouting, ...]


class Coordination(msgspec.Struct, frozen=True, kw_only=True):
    """What the coordination core keeps inside the state: see reliability of the two-phase publication."""

    term: int = 0
    #: Sorted node ids.
    committed_config: tuple[str, ...] = ()
    accepted_config: tuple[str, ...] = ()
    cluster_uuid: str = ""
    is_cluster_uuid_committed: bool = False
    #: Nodes that shall not vote any more, because they are being taken out of service.
    retired: tuple[str, ...] = ()


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state. ``tables`` is keyed by table uuid; :meth:`table` finds by name."""

    cluster_name: str = "crate"
    version: int = 0
    coordination: Coordination = Coordination()
    master_id: str | None = None
    nodes: dict[str, NodeInfo] = {}
    tables: dict[str, TableState] = {}
    views: dict[str, ViewDefinition] = {}
    #: Schemas made by CREATE SCHEMA; ``doc`` and the system schemas always exist.
    schemas: tuple[str, ...] = ()
    settings_persistent: dict[str, SettingValue] = {}
    settings_transient: dict[str, SettingValue] = {}
    #: Made by CREATE ANALYZER, by name.
    analyzers: dict[str, AnalyzerDefinition] = {}
    #: Uuids of the tables dropped last, the newest at the end: what a node that was away may delete.
    dropped: tuple[str, ...] = ()
    #: The next oid for a table or view; oids are never used again.
    next_oid: int = 16_384

    def setting(self, name: str) -> SettingValue:
        """The value of a cluster setting, transient before persistent; None if it has its default."""
        value = self.settings_transient.get(name)
        return self.settings_persistent.get(name) if value is None else value

    def table(self, name: RelationName) -> TableState | None:
        """The table of that name (linear in tables; ``sql`` keeps an index per state version)."""
        for table in self.tables.values():
            if table.definition.name == name:
                return table
        return None
