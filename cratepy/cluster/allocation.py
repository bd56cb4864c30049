"""Allocation: which node holds which shard copy. Pure functions from cluster state to cluster state.

Every new state ends here: copies of nodes that are gone become unassigned, unassigned copies get a node if one may have
them. The two rules that keep data (CrateDB's in-sync copies; rules M1, M3, M6, M7 of its replication model):

* A shard that ever had a started primary only gets a primary whose allocation id is in ``in_sync``, on the node whose
  disk holds it. An empty copy never replaces data; without its node the shard stays unassigned, and says so.
* A primary that starts from disk does so under ``primary_term + 1``, so that whoever acted as primary before is fenced.

Fresh primaries go to the data node with the fewest shards of their table, then the fewest shards, then the lowest id:
a total order, so that every master would decide the same. Not yet: replicas, moving shards for balance, allocation
filters and disk watermarks.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from cratepy import limits
from cratepy.model.commands import StartedCopy
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState, NodeInfo, ShardCopy, ShardRouting, TableState

replace = msgspec.structs.replace


def allocation_id(*, table_uuid: str, shard: int, version: int, primary_term: int) -> str:
    """The name of a new copy: the same on whichever master computes this state, and never used before."""
    text = f"{table_uuid}/{shard}/{version}/{primary_term}"
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=15).digest()).decode()


def new_table(state: ClusterState, definition: TableDefinition, avoided: Collection[str] = ()) -> TableState:
    """The table with fresh primaries on the data nodes; on those that are ``avoided`` only if there are no others."""
    routing = tuple(
        ShardRouting(shard=shard, primary_term=0, in_sync=(), copies=(_fresh_copy(state, definition.uuid, shard, 0),))
        for shard in range(definition.shards)
    )
    return _rerouted(TableState(definition, routing), state, shard_counts(state), avoided)


def _fresh_copy(state: ClusterState, table_uuid: str, shard: int, primary_term: int) -> ShardCopy:
    name = allocation_id(table_uuid=table_uuid, shard=shard, version=state.version, primary_term=primary_term)
    return ShardCopy(allocation_id=name, node_id=None, is_primary=True, state="unassigned", reason="table created")


def shard_counts(state: ClusterState) -> Counter[str]:
    """Shard copies per data node; nodes without any are there with 0."""
    counts = Counter({node.id: 0 for node in state.nodes.values() if node.is_data})
    counts.update(_copies_on_nodes(state.tables))
    return counts


#: The tables counted last, and the counts: the next ones differ in few tables, and only those are looked into.
_COUNTED: Final[list[tuple[dict[str, TableState], Counter[str]]]] = []


def _copies_on_nodes(tables: dict[str, TableState]) -> Counter[str]:
    known, counts = _COUNTED[0] if _COUNTED else ({}, Counter[str]())
    if known is tables:
        return counts
    counts = counts.copy()
    for uuid, table in known.items():
        if tables.get(uuid) is not table:
            counts.subtract(_nodes_of(table))
    for uuid, table in tables.items():
        if known.get(uuid) is not table:
            counts.update(_nodes_of(table))
    counts = +counts
    _COUNTED[:] = [(tables, counts)]
    return counts


def _nodes_of(table: TableState) -> list[str]:
    return [copy.node_id for routing in table.routing for copy in routing.copies if copy.node_id is not None]


def change_nodes(state: ClusterState, nodes: Mapping[str, NodeInfo], avoided: Collection[str] = ()) -> ClusterState:
    """The state with these members: copies of the others are unassigned, and those that came back get theirs again.

    A node whose process is a new one counts as gone and come back: it has no open shards.
    """
    gone = {
        node_id
        for node_id, node in state.nodes.items()
        if node_id not in nodes or nodes[node_id].ephemeral_id != node.ephemeral_id
    }
    fresh = {
        node_id
        for node_id, node in nodes.items()
        if node_id not in state.nodes or state.nodes[node_id].ephemeral_id != node.ephemeral_id
    }
    tables = {}
    # Of ten thousand shards most are on nodes that stay.
    affected: set[str | None] = {None, *gone}
    for uuid, table in state.tables.items():
        if affected.isdisjoint([copy.node_id for routing in table.routing for copy in routing.copies]):
            tables[uuid] = table
            continue
        routing = tuple(_without_nodes(routing, gone, fresh) for routing in table.routing)
        tables[uuid] = replace(table, routing=routing) if _differs(routing, table.routing) else table
    ordered = {node_id: nodes[node_id] for node_id in sorted(nodes)}
    return reroute(replace(state, nodes=ordered, tables=tables), avoided)


def _without_nodes(routing: ShardRouting, gone: set[str], fresh: set[str]) -> ShardRouting:
    copies = tuple(_without_node(copy, gone, fresh) for copy in routing.copies)
    return replace(routing, copies=copies) if _differs(copies, routing.copies) else routing


def _without_node(copy: ShardCopy, gone: set[str], fresh: set[str]) -> ShardCopy:
    if copy.node_id is not None and copy.node_id in gone:
        return replace(
            copy, node_id=None, state="unassigned", reason="node left", last_node_id=copy.node_id, failed_attempts=0
        )
    if copy.node_id is None and copy.failed_attempts and copy.last_node_id in fresh:
        return replace(copy, failed_attempts=0)
    return copy


def reroute(state: ClusterState, avoided: Collection[str] = ()) -> ClusterState:
    """The state with every unassigned copy that may be assigned on a node; an empty one on one that is not ``avoided``."""
    unassigned = [
        uuid
        for uuid, table in state.tables.items()
        if any(copy.node_id is None for routing in table.routing for copy in routing.copies)
    ]
    if not unassigned:
        return state
    counts = shard_counts(state)
    changed = {uuid: _rerouted(state.tables[uuid], state, counts, avoided) for uuid in unassigned}
    if all(changed[uuid] is state.tables[uuid] for uuid in unassigned):
        return state
    return replace(state, tables={**state.tables, **changed})


def _rerouted(table: TableState, state: ClusterState, counts: Counter[str], avoided: Collection[str]) -> TableState:
    """The table with its unassigned primaries on nodes; ``counts`` grows by what is assigned."""
    in_table: Counter[str] = Counter()
    for routing in table.routing:
        for copy in routing.copies:
            if copy.node_id is not None:
                in_table[copy.node_id] += 1
    result = []
    for routing in table.routing:
        assigned = _assigned(routing, table.definition.uuid, state, counts, in_table, avoided)
        if assigned is not routing:
            node_id = assigned.copies[0].node_id
            assert node_id is not None
            counts[node_id] += 1
            in_table[node_id] += 1
        result.append(assigned)
    return replace(table, routing=tuple(result)) if _differs(result, table.routing) else table


def _assigned(
    routing: ShardRouting,
    table_uuid: str,
    state: ClusterState,
    counts: Counter[str],
    in_table: Counter[str],
    avoided: Collection[str],
) -> ShardRouting:
    assert len(routing.copies) == 1, "replicas are not allocated yet"
    copy = routing.copies[0]
    if copy.node_id is not None or copy.failed_attempts >= limits.ALLOCATION_RETRIES_MAX:
        return routing
    term = routing.primary_term + 1
    if routing.in_sync:
        home = state.nodes.get(copy.last_node_id or "")
        if copy.allocation_id not in routing.in_sync or home is None or not home.is_data:
            return routing
        copy = replace(copy, node_id=home.id, state="initializing", last_node_id=None)
    else:
        # Nothing was ever acknowledged on this shard, so an empty copy loses nothing.
        data_nodes = [node_id for node_id in sorted(counts) if node_id in state.nodes]
        if not data_nodes:
            return routing
        node_id = min(data_nodes, key=lambda n: (n in avoided, n == copy.last_node_id, in_table[n], counts[n], n))
        name = allocation_id(table_uuid=table_uuid, shard=routing.shard, version=state.version, primary_term=term)
        copy = replace(copy, allocation_id=name, node_id=node_id, state="initializing", last_node_id=None)
    return replace(routing, primary_term=term, copies=(copy,))


def retry_failed(state: ClusterState) -> ClusterState:
    """Try again to assign the copies that have failed too often."""
    tables = {}
    for uuid, table in state.tables.items():
        routing = [_forgiven(shard) for shard in table.routing]
        tables[uuid] = replace(table, routing=tuple(routing)) if _differs(routing, table.routing) else table
    return reroute(replace(state, tables=tables))


def _forgiven(routing: ShardRouting) -> ShardRouting:
    if not any(copy.node_id is None and copy.failed_attempts for copy in routing.copies):
        return routing
    copies = [replace(copy, failed_attempts=0) if copy.node_id is None else copy for copy in routing.copies]
    return replace(routing, copies=tuple(copies))


def start_shards(state: ClusterState, copies: Iterable[StartedCopy]) -> ClusterState:
    """The copies are open. News about one that is not (any more) initializing under its term changes nothing.

    Costs one new table per table and one new mapping of tables, however many copies there are.
    """
    routings: dict[str, list[ShardRouting]] = {}
    for started in copies:
        table = state.tables.get(started.table_uuid)
        if table is None or not 0 <= started.shard < len(table.routing):
            continue
        routing = routings.get(started.table_uuid, table.routing)[started.shard]
        changed = _with_started(routing, started)
        if changed is not routing:
            routings.setdefault(started.table_uuid, list(table.routing))[started.shard] = changed
    if not routings:
        return state
    tables = {uuid: replace(state.tables[uuid], routing=tuple(routing)) for uuid, routing in routings.items()}
    return replace(state, tables={**state.tables, **tables})


def _with_started(routing: ShardRouting, started: StartedCopy) -> ShardRouting:
    for index, copy in enumerate(routing.copies):
        if copy.allocation_id != started.allocation_id:
            continue
        if copy.state != "initializing" or routing.primary_term != started.primary_term:
            return routing
        changed = replace(copy, state="started", reason="", failed_attempts=0)
        in_sync = routing.in_sync
        if started.allocation_id not in in_sync:
            in_sync = (*in_sync, started.allocation_id)
        return replace(
            routing, in_sync=in_sync, copies=(*routing.copies[:index], changed, *routing.copies[index + 1 :])
        )
    return routing


def fail_shard(
    state: ClusterState, *, table_uuid: str, shard: int, allocation_id: str, term: int, reason: str
) -> ClusterState:
    """The copy cannot be used. Its id stays in ``in_sync``: whatever it holds is still the only data there is."""
    found = _find(state, table_uuid, shard, allocation_id)
    if found is None:
        return state
    routing, copy = found
    if copy.node_id is None or routing.primary_term != term:
        return state
    failed = replace(
        copy,
        node_id=None,
        state="unassigned",
        reason=reason,
        last_node_id=copy.node_id,
        failed_attempts=copy.failed_attempts + 1,
    )
    return reroute(_with_copy(state, table_uuid, routing, failed))


def _find(
    state: ClusterState, table_uuid: str, shard: int, allocation_id: str
) -> tuple[ShardRouting, ShardCopy] | None:
    table = state.tables.get(table_uuid)
    if table is None or not 0 <= shard < len(table.routing):
        return None
    routing = table.routing[shard]
    for copy in routing.copies:
        if copy.allocation_id == allocation_id:
            return routing, copy
    return None


def _with_copy(state: ClusterState, table_uuid: str, routing: ShardRouting, copy: ShardCopy) -> ClusterState:
    copies = tuple(copy if old.allocation_id == copy.allocation_id else old for old in routing.copies)
    table = state.tables[table_uuid]
    routings = list(table.routing)
    routings[routing.shard] = replace(routing, copies=copies)
    return replace(state, tables={**state.tables, table_uuid: replace(table, routing=tuple(routings))})


def _differs(new: list[ShardRouting] | tuple[object, ...], old: tuple[object, ...]) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))
