"""Where rows are: shards to nodes, by the routing of one cluster state.

A query reads the primary of every shard; one that its node is opening is asked of that node, and the execution waits for
it. A shard without either on a live node cannot be read, and a query that needs it fails as a whole: an answer without its
rows would be wrong.
"""

from __future__ import annotations

from cratepy.errors import RelationUnknown, ShardUnavailable
from cratepy.model.names import RelationName
from cratepy.model.plan import ShardSource
from cratepy.model.state import ClusterState
from cratepy.model.system_tables import PER_NODE_TABLES


def shard_sources(state: ClusterState, table_uuid: str, table: RelationName) -> tuple[ShardSource, ...]:
    """The table's shards grouped by node, sorted by node id. Raises ShardUnavailable naming table and shard."""
    table_state = state.tables.get(table_uuid)
    if table_state is None:
        raise RelationUnknown(f"Relation '{table}' unknown")
    by_node: dict[str, list[int]] = {}
    for routing in table_state.routing:
        primary = routing.primary or routing.opening
        if primary is None or primary.node_id is None or primary.node_id not in state.nodes:
            raise ShardUnavailable(
                f"Shard {routing.shard} of table [{table_state.definition.name}] is not available: "
                "it has no started primary on a live node"
            )
        by_node.setdefault(primary.node_id, []).append(routing.shard)
    return tuple(ShardSource(node, table_uuid, tuple(sorted(by_node[node]))) for node in sorted(by_node))


def system_nodes(state: ClusterState, table: RelationName, handler_id: str) -> tuple[str, ...]:
    """The nodes a system table is read on, sorted: all of them if its rows are what each node knows of itself.

    Without a master nobody knows who is still there, so only this node is asked.
    """
    if table in PER_NODE_TABLES and state.master_id is not None:
        return tuple(sorted(state.nodes)) or (handler_id,)
    return (handler_id,)
