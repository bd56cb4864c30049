"""Nodes, tables and states for the tests of the cluster package."""

from __future__ import annotations

import msgspec

from cratepy.cluster.allocation import change_nodes
from cratepy.cluster.commands import apply
from cratepy.model.commands import CreateTable, ShardsStarted, StartedCopy
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.state import ClusterState, NodeInfo, ShardCopy
from cratepy.model.types import INTEGER, TEXT


def node(node_id: str, *, incarnation: int = 1, is_data: bool = True) -> NodeInfo:
    return NodeInfo(
        id=node_id,
        name=node_id,
        ephemeral_id=f"{node_id}#{incarnation}",
        host="127.0.0.1",
        transport_port=4300,
        http_port=4200,
        psql_port=5432,
        is_data=is_data,
    )


def with_nodes(state: ClusterState, *nodes: NodeInfo) -> ClusterState:
    return next_version(change_nodes(state, {n.id: n for n in nodes}))


def next_version(state: ClusterState) -> ClusterState:
    return msgspec.structs.replace(state, version=state.version + 1)


def definition(name: str = "t", *, shards: int = 4, uuid: str = "") -> TableDefinition:
    columns = (ColumnDefinition(oid=0, name="a", type=INTEGER), ColumnDefinition(oid=0, name="b", type=TEXT))
    return TableDefinition(
        name=RelationName("doc", name), uuid=uuid or f"uuid-{name}", oid=0, columns=columns, shards=shards
    )


def created(state: ClusterState, name: str = "t", *, shards: int = 4) -> ClusterState:
    return next_version(apply(state, CreateTable(definition=definition(name, shards=shards))))


def started(state: ClusterState) -> ClusterState:
    """All initializing copies report that they are open."""
    for table in state.tables.values():
        for routing in table.routing:
            for copy in routing.copies:
                if copy.state == "initializing":
                    state = apply(state, started_command(state, table.definition.uuid, routing.shard))
    return next_version(state)


def started_command(state: ClusterState, uuid: str, shard: int) -> ShardsStarted:
    routing = state.tables[uuid].routing[shard]
    copy = StartedCopy(
        table_uuid=uuid,
        shard=shard,
        allocation_id=routing.copies[0].allocation_id,
        primary_term=routing.primary_term,
    )
    return ShardsStarted((copy,))


def copies(state: ClusterState, name: str = "t") -> list[ShardCopy]:
    return [routing.copies[0] for routing in state.tables[f"uuid-{name}"].routing]


THREE = with_nodes(ClusterState(), node("a"), node("b"), node("c"))
