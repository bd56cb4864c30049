"""The first voting configuration of a cluster that has never existed.

In: the options and what discovery finds. Out: at most one event, with the voters. Its own room because it is done once in the
life of a cluster, and whatever is wrong here makes two clusters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from cratepy.clock import Clock
from cratepy.cluster.coordination.messages import Bootstrapped
from cratepy.cluster.discovery import BOOTSTRAP_PATIENCE_S, Discovery, bootstrap_config
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.transport import Transport
from cratepy.model.state import ClusterState, NodeInfo

logger = logging.getLogger(__name__)
#: Between two looks at the nodes that are known, before and after a majority of the initial ones is.
_LOOK_S = 0.05
_LOOK_OFTEN_S = 0.02


class Bootstrapping:
    """Of the node ``me``; ``is_joined`` says whether it is in a cluster already."""

    def __init__(
        self,
        options: ClusterOptions,
        *,
        me: NodeInfo,
        transport: Transport,
        discovery: Discovery,
        clock: Clock,
        is_joined: Callable[[], bool],
        post: Callable[[Bootstrapped], None],
    ) -> None:
        self._options = options
        self._me = me
        self._transport = transport
        self._discovery = discovery
        self._clock = clock
        self._is_joined = is_joined
        self._post = post

    async def run(self, stored: ClusterState) -> None:
        """Form the cluster if that is this node's part. ``stored`` is the state it had when it stopped."""
        if stored.coordination.accepted_config or stored.version or not self._me.is_master_eligible:
            return
        if self._options.forms_own_cluster:
            self._post(Bootstrapped((self._me.id,)))
        elif self._options.bootstrap_expect and not self._options.initial_master_nodes:
            await self._when_complete(self._options.bootstrap_expect)
        elif self._options.initial_master_nodes:
            await self._with_majority()

    @property
    def _is_open(self) -> bool:
        return not self._is_joined() and not self._discovery.found_cluster

    def _known(self) -> list[NodeInfo]:
        return [node for node in self._discovery.known.values() if self._transport.connected(node.id)]

    async def _with_majority(self) -> None:
        """``cluster.initial_master_nodes``: of all of them, or after some time of a majority."""
        initial = self._options.initial_master_nodes
        majority_since: float | None = None
        while self._is_open:
            known, now = self._known(), self._clock.monotonic()
            config = bootstrap_config(initial, me=self._me, known=known, is_patient=False)
            majority_since = None if config is None else majority_since if majority_since is not None else now
            is_patient = majority_since is None or now - majority_since < BOOTSTRAP_PATIENCE_S
            config = bootstrap_config(initial, me=self._me, known=known, is_patient=is_patient)
            if config is not None:
                self._post(Bootstrapped(config))
                return
            await trio.sleep(_LOOK_S if majority_since is None else _LOOK_OFTEN_S)

    async def _when_complete(self, expected: int) -> None:
        """``cluster.bootstrap_expect``: safe because of exactly n nodes there is only one set of n."""
        is_told = False
        while self._is_open:
            voters = [self._me, *(node for node in self._known() if node.is_master_eligible)]
            if len(voters) == expected:
                self._post(Bootstrapped(tuple(sorted(node.id for node in voters))))
                return
            if len(voters) > expected and not is_told:
                is_told = True
                logger.error(
                    "[cluster.bootstrap_expect] is %d, but there are %d master-eligible nodes: no cluster is formed, because "
                    "two sets of %d could form two; set it to the number of nodes that are started for the first time",
                    expected,
                    len(voters),
                    expected,
                )
            await trio.sleep(_LOOK_S)
