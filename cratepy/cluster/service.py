"""The cluster state service of a node: state, submissions and waits on one side, coordination on the other."""

from __future__ import annotations

from collections.abc import Callable

import trio

from cratepy import limits
from cratepy.cluster.transport import Transport
from cratepy.errors import NoMaster
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState


class ClusterService:
    """Front door of the package; signatures first, the driver follows."""

    def __init__(self, *, node_id: str, transport: Transport) -> None:
        self.node_id = node_id
        self.transport = transport
        self._state = ClusterState()
        self._appliers: list[Callable[[ClusterState, ClusterState], None]] = []

    @property
    def state(self) -> ClusterState:
        return self._state

    @property
    def is_joined(self) -> bool:
        return False

    @property
    def has_master(self) -> bool:
        return False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def submit(self, command: Command, *, timeout_s: float = limits.DDL_TIMEOUT_S) -> ClusterState:
        raise NoMaster("no master")

    async def wait_for(self, predicate: Callable[[ClusterState], bool], *, timeout_s: float) -> ClusterState:
        raise NoMaster("no master")

    def add_applier(self, applier: Callable[[ClusterState, ClusterState], None]) -> None:
        self._appliers.append(applier)
