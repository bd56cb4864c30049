"""The cluster state service of a node: the committed state on one side, commands that change it on the other.

Enter :class:`ClusterOptions` and a clock; any node takes commands and gives the last committed state it has applied. The
service ties the parts together: data directory (lock, node id, state log), transport, discovery, coordination core and
its driver. Appliers see every applied state in order, before it becomes visible, on the trio thread.

Whoever changes the cluster state asks here: :meth:`ClusterService.submit` has the master asked (``master_requests``) and waits for
the local application.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable

import msgspec
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.bootstrapping import Bootstrapping
from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.messages import Event, HealthChanged, ModeChanged, StepDown
from cratepy.cluster.discovery import Discovery
from cratepy.cluster.driver import LEAVE_ACTION, Driver, Goodbye
from cratepy.cluster.health import HealthMonitor
from cratepy.cluster.master_requests import KnownMaster, MasterRequests
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.persistence import NodeDirectory
from cratepy.cluster.saving import StateSaver
from cratepy.cluster.seeds import Seeds
from cratepy.cluster.tools import RECOVERY_FILE, recover_from_file
from cratepy.cluster.transport import Transport
from cratepy.errors import Condition, CrateError, PublicationTimeout, RequestTimeout
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState, NodeInfo, TableState

logger = logging.getLogger(__name__)
replace = msgspec.structs.replace
Applier = Callable[[ClusterState, ClusterState], None]
Announcement = Callable[[Iterable[TableState], int], None]


class _Waiter:
    def __init__(self, predicate: Callable[[ClusterState], bool]) -> None:
        self.predicate = predicate
        self.is_met = trio.Event()
        self.state: ClusterState | None = None


class ClusterService:
    """See the module. The constructor takes the data directory (raises DirectoryInUse, StateDamaged); ``run`` does the rest."""

    def __init__(self, options: ClusterOptions, *, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        path = options.data_path / "nodes" / "0"
        self._directory = NodeDirectory(path, new_node_id=new_node_id(clock), version=options.version)
        try:
            self._log = self._directory.open_log(cluster_name=options.cluster_name)
            voters = recover_from_file(self._directory, self._log)
        except BaseException:
            self._directory.close()
            raise
        if voters is not None:
            logger.warning("the voting configuration is %s now, as %s said", ", ".join(voters), RECOVERY_FILE)
        self.node_id = self._directory.node_id
        self.transport = Transport(
            node_id=self.node_id,
            cluster_name=options.cluster_name,
            clock=clock,
            bind_host=options.bind_host,
            bind_ports=options.transport_ports,
            security=options.security,
        )
        #: Client ports told to the other nodes; the server sets them before ``run`` if they were not known before.
        self.http_port = options.http_port
        self.psql_port = options.psql_port
        self._state = ClusterState(cluster_name=options.cluster_name)
        self._master = KnownMaster()
        self._appliers: list[Applier] = []
        self._announcements: list[Announcement] = []
        self._waiters: list[_Waiter] = []
        self._driver: Driver | None = None
        self._core: Coordinator | None = None
        self._discovery: Discovery | None = None
        self._requests = MasterRequests(
            transport=self.transport,
            node_id=self.node_id,
            master=self._master,
            wait_for=self.wait_for,
            post=self._post,
            is_leader=lambda: self._core is not None and self._core.mode is Mode.LEADER,
        )
        self._health = HealthMonitor(self._directory.path, self._on_health)

    # --- what everybody reads ----------------------------------------------------------------------------------------

    @property
    def state(self) -> ClusterState:
        """The last committed state applied here; ``master_id`` is None while no master is known."""
        return self._state

    @property
    def is_joined(self) -> bool:
        """Whether a committed state was applied since the start: then reads can be answered, also without a master."""
        return self._state.version > 0

    @property
    def has_master(self) -> bool:
        return self._master.id is not None

    @property
    def is_master(self) -> bool:
        return self._master.id == self.node_id

    @property
    def state_reserve_bytes(self) -> int:
        """Space on the disk that is kept for further cluster states."""
        return self._log.reserved_bytes

    @property
    def pending_changes(self) -> int:
        """Changes that wait here for the next publication; 0 where this node is not master."""
        return 0 if self._core is None else self._core.pending_changes

    def add_applier(self, applier: Applier) -> None:
        """Call ``applier(old, new)`` for every committed state before it becomes visible. It must not block or raise."""
        self._appliers.append(applier)

    def on_new_tables(self, listener: Announcement) -> None:
        """Call ``listener(tables, version)`` for tables of a state that this node has accepted, and that may never be committed."""
        self._announcements.append(listener)

    async def wait_for(self, predicate: Callable[[ClusterState], bool], *, timeout_s: float) -> ClusterState:
        """The first state from now on for which the predicate holds. Raises RequestTimeout."""
        if predicate(self._state):
            return self._state
        waiter = _Waiter(predicate)
        self._waiters.append(waiter)
        try:
            with trio.move_on_after(timeout_s):
                await waiter.is_met.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.state is None:
            raise RequestTimeout(f"the cluster state did not become as expected within {timeout_s:g} s")
        return waiter.state

    # --- running -----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Everything, until cancelled; started once the transport listens, which is before the node has joined."""
        is_stopping = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(self._run_parts, is_stopping)
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    is_stopping.set()
        finally:
            self._log.close()
            self._directory.close()

    async def _run_parts(
        self, is_stopping: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The parts outlive the cancellation of ``run`` by the time it takes to tell the master; that has a deadline."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.transport.run)
                me = self._node_info()
                driver, discovery = self._build(me)
                await nursery.start(discovery.run)
                nursery.start_soon(driver.run)
                bootstrapping = Bootstrapping(
                    self._options,
                    me=me,
                    transport=self.transport,
                    discovery=discovery,
                    clock=self._clock,
                    is_joined=lambda: self.is_joined,
                    post=driver.post,
                )
                nursery.start_soon(bootstrapping.run, self._log.state)
                nursery.start_soon(self._health.run)
                logger.info("node %s (%s) listens on %s:%d", me.name, me.id, me.host, me.transport_port)
                task_status.started()
                await is_stopping.wait()
                await self._leave()
                nursery.cancel_scope.cancel()

    def _node_info(self) -> NodeInfo:
        options = self._options
        return NodeInfo(
            id=self.node_id,
            name=options.node_name or self.node_id,
            ephemeral_id=self.transport.ephemeral_id,
            host=options.publish_host,
            transport_port=self.transport.port,
            http_port=self.http_port,
            psql_port=self.psql_port,
            is_master_eligible=options.is_master_eligible,
            is_data=options.is_data,
            version=options.version,
            attributes=dict(options.attributes),
        )

    def _build(self, me: NodeInfo) -> tuple[Driver, Discovery]:
        self._core = Coordinator(
            me=me,
            term=self._log.term,
            accepted=self._log.state,
            settings=self._options.coordination,
            random=self._clock.random,
            new_id=self._clock.new_id,
        )
        self._discovery = Discovery(
            transport=self.transport,
            seeds=Seeds(dataclasses.replace(self._options.seeds, hosts=self._options.seed_hosts)),
            me=me,
            master_id=lambda: self._master.id,
            cluster_uuid=self._committed_uuid,
            find_interval_s=self._options.find_peers_interval_s,
            request_timeout_s=self._options.request_peers_timeout_s,
        )
        self._driver = Driver(
            core=self._core,
            saver=StateSaver(self._log),
            transport=self.transport,
            on_apply=self._apply,
            on_mode=self._on_mode,
            on_answer=self._requests.on_answer,
            on_new_tables=self._announce,
            learn=self._discovery.learn,
        )
        for node in self._log.state.nodes.values():
            self._discovery.learn(node)
        return self._driver, self._discovery

    def _committed_uuid(self) -> str:
        """The cluster this node belongs to for ever; empty before it has been in one."""
        assert self._core is not None
        coordination = self._core.kernel.accepted.coordination
        return coordination.cluster_uuid if coordination.is_cluster_uuid_committed else ""

    async def _leave(self) -> None:
        """Tell the master, so that it does not have to find out; who is master hands over first."""
        with trio.move_on_after(limits.LEAVE_TIMEOUT_S):
            if self.is_master and len(self._state.nodes) > 1:
                self._post(StepDown())
                await self._master.is_none_of(None, self.node_id)
            leader_id = self._master.id
            if leader_id is None or leader_id == self.node_id:
                return
            try:
                await self.transport.request(leader_id, LEAVE_ACTION, Goodbye(), timeout_s=limits.LEAVE_TIMEOUT_S)
            except (Condition, CrateError) as error:
                logger.info("the master did not hear that this node leaves: %s", error)

    def _post(self, event: Event) -> None:
        """Give the core an event; before it is there, there is nothing it could do about one."""
        if self._driver is not None:
            self._driver.post(event)

    # --- from the driver ---------------------------------------------------------------------------------------------

    def _apply(self, state: ClusterState) -> None:
        old = self._state
        assert state.version >= old.version
        visible = state if self._master.id is not None else replace(state, master_id=None)
        if state.version > old.version:
            assert self._discovery is not None
            self._discovery.keep_only(state.nodes.values())
            for applier in self._appliers:
                applier(old, visible)
        self._show(visible)

    def _announce(self, tables: Iterable[TableState], version: int) -> None:
        for listener in self._announcements:
            listener(tables, version)

    def _on_mode(self, change: ModeChanged) -> None:
        assert self._discovery is not None
        if change.leader_id != self._master.id:
            logger.info("master is %s in term %d", change.leader_id or "not known", change.term)
        self._master.set(change.leader_id)
        self._discovery.search(change.leader_id is None)
        if self._state.version:
            self._show(replace(self._state, master_id=change.leader_id))

    def _show(self, state: ClusterState) -> None:
        self._state = state
        for waiter in [waiter for waiter in self._waiters if waiter.predicate(state)]:
            self._waiters.remove(waiter)
            waiter.state = state
            waiter.is_met.set()

    # --- commands ----------------------------------------------------------------------------------------------------

    async def submit(self, command: Command, *, timeout_s: float = limits.DDL_TIMEOUT_S) -> ClusterState:
        """Have the master apply a command; the first state applied here that contains it.

        Raises the CrateError the command is refused with; NoMaster when there is none for a second (nothing was done);
        PublicationTimeout or OutcomeUnknown when it may or may not have been done.
        """
        name = type(command).__name__
        with trio.move_on_after(timeout_s) as scope:
            version = await self._requests.submit(command, scope)
            return await self.wait_for(lambda state: state.version >= version, timeout_s=float("inf"))
        raise PublicationTimeout(f"failed to process cluster event ({name}) within {timeout_s:g}s")

    async def require_master(self) -> None:
        """Return while there is a master; else wait for one for a moment. Raises NoMaster: changes must be refused."""
        await self._master.required()

    @property
    def refuses_reads(self) -> bool:
        """``cluster.no_master_block`` is ``all`` and there is no master."""
        if self._master.id is not None:
            return False
        return (self._state.setting("cluster.no_master_block") or self._options.no_master_block) == "all"

    async def step_down(self, heir: str | None = None) -> str:
        """Have the master hand over; see :meth:`MasterRequests.step_down`."""
        return await self._requests.step_down(heir)

    def _on_health(self, problem: str | None) -> None:
        self._post(HealthChanged(problem))

    @property
    def problem(self) -> str | None:
        """What is wrong with this node's disk, None if it is well."""
        return self._health.problem


def new_node_id(clock: Clock) -> str:
    """A node id in the form of CrateDB's: 22 characters without meaning."""
    return msgspec.json.encode(bytes.fromhex(clock.new_id().replace("-", ""))).decode().strip('"=').translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
