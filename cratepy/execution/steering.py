"""ALTER CLUSTER: an operator's word to the cluster itself.

In: a :class:`ClusterPlan`. Out: Results, once what was asked for is done. A decommissioned node is first retired (it votes
no more, and hands over if it is master), then waited for as ``cluster.graceful_stop.min_availability`` says, then stopped.
Source: CrateDB's ALTER CLUSTER; STEP DOWN is ours.

Not yet: moving shards away from a node. One that holds the only copy of a shard is refused unless availability is asked
to be ``none``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from cratepy import limits
from cratepy.errors import BadRequest, CrateError, NodeUnavailable, PeerUnavailable, RequestTimeout, SQLParseError
from cratepy.execution.results import Result
from cratepy.model.commands import RetireNodes, RetryFailedShards
from cratepy.model.expressions import Expression
from cratepy.model.plan import ClusterPlan, StatementContext
from cratepy.model.state import ClusterState, NodeInfo

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService

logger = logging.getLogger(__name__)
STOP_ACTION = "node/stop"
GC_ACTION = "node/gc"


class StopNode(msgspec.Struct, frozen=True):
    """Stop yourself; you were decommissioned."""


class RemoveDangling(msgspec.Struct, frozen=True):
    """Delete what is left of dropped tables."""


class Removed(msgspec.Struct, frozen=True):
    tables: int


class Steering:
    """See the module. ``value_of`` evaluates an expression without columns; ``remove_dangling`` cleans this node's disk."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        value_of: Callable[[Expression, StatementContext], Any],
        remove_dangling: Callable[[], Awaitable[int]],
    ) -> None:
        self._cluster = cluster
        self._value_of = value_of
        self._remove_dangling_here = remove_dangling
        #: Called when this node was decommissioned; the server ends the process.
        self.stop_node: Callable[[], None] = _cannot_stop

    def register(self) -> None:
        self._cluster.transport.register(STOP_ACTION, StopNode, self._on_stop)
        self._cluster.transport.register(GC_ACTION, RemoveDangling, self._on_remove_dangling)

    async def run(self, plan: ClusterPlan, context: StatementContext) -> Result:
        """Do it. Raises CrateError."""
        node = None if plan.node is None else self._node(str(self._value_of(plan.node, context)))
        match plan.action:
            case "decommission":
                assert node is not None
                await self._decommission(node)
            case "step_down":
                await self._cluster.step_down(None if node is None else node.id)
            case "retry_failed":
                await self._cluster.submit(RetryFailedShards())
            case _:
                assert plan.action == "gc", plan.action
                return Result(rowcount=await self._remove_dangling())
        return Result(rowcount=1 if plan.action != "retry_failed" else 0)

    async def _remove_dangling(self) -> int:
        """Have every node delete the files of dropped tables; how many directories of tables that were.

        Raises NodeUnavailable, or the CrateError of a node, once all others have done it.
        """
        removed = 0
        failure: CrateError | None = None
        for node_id, node in self._cluster.state.nodes.items():
            try:
                if node_id == self._cluster.node_id:
                    removed += await self._remove_dangling_here()
                    continue
                reply: Removed = await self._cluster.transport.request(
                    node_id, GC_ACTION, RemoveDangling(), reply_type=Removed, timeout_s=limits.DDL_TIMEOUT_S
                )
                removed += reply.tables
            except CrateError as error:
                failure = error
            except (PeerUnavailable, RequestTimeout):
                failure = NodeUnavailable(f"node [{node.name}] did not answer; what is left on the others is deleted")
        if failure is not None:
            raise failure
        return removed

    async def _on_remove_dangling(self, _: str, __: RemoveDangling) -> Removed:
        return Removed(await self._remove_dangling_here())

    def _node(self, name: str) -> NodeInfo:
        for node in self._cluster.state.nodes.values():
            if name in (node.id, node.name):
                return node
        raise SQLParseError(f"Node: '{name}' could not be found")

    async def _decommission(self, node: NodeInfo) -> None:
        state = self._cluster.state
        wanted = str(state.setting("cluster.graceful_stop.min_availability") or "primaries").lower()
        is_forced = state.setting("cluster.graceful_stop.force") is True
        alone = _only_copies(state, node.id)
        if alone and wanted != "none" and not is_forced:
            raise BadRequest(
                f"node [{node.name}] holds the only copy of {len(alone)} shards, for example {alone[0]}, and shards are not "
                f"moved between nodes yet: they would be unavailable. Set cluster.graceful_stop.min_availability to 'none' to "
                "stop it all the same"
            )
        if len(state.nodes) > 1:
            await self._cluster.submit(RetireNodes((*state.coordination.retired, node.id)))
        if node.id == self._cluster.node_id:
            self.stop_node()
            return
        try:
            await self._cluster.transport.request(
                node.id, STOP_ACTION, StopNode(), timeout_s=limits.JOB_MESSAGE_TIMEOUT_S
            )
        except PeerUnavailable:
            logger.info("node %s was gone before it heard that it is decommissioned", node.name)
        try:
            await self._cluster.wait_for(lambda state: node.id not in state.nodes, timeout_s=limits.NODE_STOP_TIMEOUT_S)
        except RequestTimeout as late:
            raise CrateError(
                f"node [{node.name}] was told to stop, and is still in the cluster after {limits.NODE_STOP_TIMEOUT_S:g} s"
            ) from late
        # Its name and id may come back one day, with a vote.
        await self._cluster.submit(
            RetireNodes(tuple(n for n in self._cluster.state.coordination.retired if n != node.id))
        )

    def _on_stop(self, source: str, _: StopNode) -> None:
        logger.info("decommissioned by node %s", source)
        self.stop_node()


def _only_copies(state: ClusterState, node_id: str) -> list[str]:
    """Shards whose only started copy is on the node, as people write them."""
    return [
        f"[{table.definition.name}][{routing.shard}]"
        for table in state.tables.values()
        for routing in table.routing
        if [copy.node_id for copy in routing.copies if copy.state == "started"] == [node_id]
    ]


def _cannot_stop() -> None:
    raise BadRequest("this process cannot be stopped by a statement")
