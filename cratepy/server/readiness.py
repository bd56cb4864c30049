"""``GET /health/ready``: whether a node should get requests, at the level that a load balancer or an operator asks for.

In: the cluster service and a level. Out: a status and the reason. Levels, each including those before it:

    joined      (default) the node has applied a committed state since it started: it can answer reads
    master      it knows a master: writes and changes of tables are taken
    primaries   every shard has a started primary: every row can be read
    green       every table has all the copies it asks for
"""

from __future__ import annotations

from typing import Final, Protocol

from cratepy.model.state import ClusterState

LEVELS: Final = ("joined", "master", "primaries", "green")


class ClusterFacts(Protocol):
    """What is asked of the cluster service."""

    @property
    def is_joined(self) -> bool: ...

    @property
    def state(self) -> ClusterState: ...


def unready_reason(cluster: ClusterFacts, level: str) -> str | None:
    """Why the node is not ready at a level of :data:`LEVELS`; None if it is."""
    wanted = LEVELS.index(level)
    if not cluster.is_joined:
        return "the node has not joined the cluster"
    if wanted >= 1 and cluster.state.master_id is None:
        return "no master is known"
    if wanted >= 2:
        for table in cluster.state.tables.values():
            for shard in table.routing:
                if shard.primary is None:
                    return f"shard [{table.definition.name}][{shard.shard}] has no started primary"
    if wanted >= 3:
        for table in cluster.state.tables.values():
            for shard in table.routing:
                if any(copy.state != "started" for copy in shard.copies):
                    return f"shard [{table.definition.name}][{shard.shard}] has a copy that is not started"
    return None
