"""The cluster state service of a node: the committed state on one side, commands that change it on the other.

Enter :class:`ClusterOptions` and a clock; any node takes commands and gives the last committed state it has applied. The
service ties the parts together: data directory (lock, node id, state log), transport, discovery, coordination core and
its driver. Appliers see every applied state in order, before it becomes visible, on the trio thread.

Whoever changes the cluster state asks here: :meth:`ClusterService.submit` finds the master, waits for the commit and for
the local application, and says in bounded time what it knows: refused, done, or unknown.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable

import msgspec
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.commands import is_repeatable
from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.messages import (
    Answered,
    Bootstrapped,
    HealthChanged,
    ModeChanged,
    OutcomeLost,
    Refused,
    StepDown,
    Submitted,
)
from cratepy.cluster.discovery import BOOTSTRAP_PATIENCE_S, Discovery, bootstrap_config
from cratepy.cluster.driver import LEAVE_ACTION, Driver, Goodbye
from cratepy.cluster.health import HealthMonitor
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.persistence import NodeDirectory
from cratepy.cluster.saving import StateSaver
from cratepy.cluster.seeds import Seeds
from cratepy.cluster.tools import RECOVERY_FILE, recover_from_file
from cratepy.cluster.transport import Transport
from cratepy.errors import (
    NO_MASTER,
    Condition,
    CrateError,
    NoMaster,
    OutcomeUnknown,
    PeerUnavailable,
    PublicationTimeout,
    RequestTimeout,
)
from cratepy.model.commands import Command
from cratepy.model.state import ClusterState, NodeInfo, TableState

logger = logging.getLogger(__name__)
replace = msgspec.structs.replace
SUBMIT_ACTION = "cluster/submit"
STEP_DOWN_ACTION = "cluster/step_down"
#: Between two attempts to reach a master that refused or could not be reached.
_RETRY_S = 0.02
#: How long a master that was replaced while it was asked may take to answer.
_REPLACED_PATIENCE_S = 0.1
Applier = Callable[[ClusterState, ClusterState], None]
Announcement = Callable[[Iterable[TableState], int], None]


class SubmitRequest(msgspec.Struct, frozen=True):
    command: Command


class SubmitReply(msgspec.Struct, frozen=True):
    """``version`` of the state that contains the command; None if the node asked is not master, and nothing was done."""

    version: int | None = None
    is_lost: bool = False


class StepDownRequest(msgspec.Struct, frozen=True):
    """Hand over to the node with this id; None: to the best there is."""

    heir: str | None = None


class _Ticket:
    """A command this node, as master, is working on."""

    def __init__(self) -> None:
        self.is_done = trio.Event()
        self.answer: Answered | Refused | OutcomeLost | None = None


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
        self._leader_id: str | None = None
        self._leader_changed = trio.Event()
        self._appliers: list[Applier] = []
        self._announcements: list[Announcement] = []
        self._waiters: list[_Waiter] = []
        self._tickets: dict[int, _Ticket] = {}
        self._last_ticket = 0
        self._driver: Driver | None = None
        self._core: Coordinator | None = None
        self._discovery: Discovery | None = None
        self.transport.register(SUBMIT_ACTION, SubmitRequest, self._on_submit)
        self.transport.register(STEP_DOWN_ACTION, StepDownRequest, self._on_step_down)
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
        return self._leader_id is not None

    @property
    def is_master(self) -> bool:
        return self._leader_id == self.node_id

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
                nursery.start_soon(self._bootstrap, me, driver, discovery)
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
            master_id=lambda: self._leader_id,
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
            on_answer=self._on_answer,
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

    async def _bootstrap(self, me: NodeInfo, driver: Driver, discovery: Discovery) -> None:
        """Give a cluster that has never existed its first voting configuration, if that is this node's part."""
        coordination = self._log.state.coordination
        if coordination.accepted_config or self._log.state.version or not me.is_master_eligible:
            return
        if self._options.forms_own_cluster:
            driver.post(Bootstrapped((me.id,)))
            return
        if self._options.bootstrap_expect and not self._options.initial_master_nodes:
            await self._bootstrap_when_complete(self._options.bootstrap_expect, me, driver, discovery)
            return
        majority_since: float | None = None
        while not self.is_joined and not discovery.found_cluster and self._options.initial_master_nodes:
            known = [node for node in discovery.known.values() if self.transport.connected(node.id)]
            initial = self._options.initial_master_nodes
            config = bootstrap_config(initial, me=me, known=known, is_patient=False)
            now = self._clock.monotonic()
            majority_since = None if config is None else majority_since if majority_since is not None else now
            is_patient = majority_since is None or now - majority_since < BOOTSTRAP_PATIENCE_S
            config = bootstrap_config(initial, me=me, known=known, is_patient=is_patient)
            if config is not None:
                driver.post(Bootstrapped(config))
                return
            await trio.sleep(0.02 if majority_since is not None else 0.05)

    async def _bootstrap_when_complete(self, expected: int, me: NodeInfo, driver: Driver, discovery: Discovery) -> None:
        """``cluster.bootstrap_expect``: safe because of exactly n nodes there is only one set of n."""
        is_told = False
        while not self.is_joined and not discovery.found_cluster:
            known = [node for node in discovery.known.values() if self.transport.connected(node.id)]
            voters = [me, *(node for node in known if node.is_master_eligible)]
            if len(voters) == expected:
                driver.post(Bootstrapped(tuple(sorted(node.id for node in voters))))
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
            await trio.sleep(0.05)

    async def _leave(self) -> None:
        """Tell the master, so that it does not have to find out; who is master hands over first."""
        with trio.move_on_after(limits.LEAVE_TIMEOUT_S):
            if self.is_master and len(self._state.nodes) > 1:
                assert self._driver is not None
                self._driver.post(StepDown())
                await self._another_master()
            leader_id = self._leader_id
            if leader_id is None or leader_id == self.node_id:
                return
            try:
                await self.transport.request(leader_id, LEAVE_ACTION, Goodbye(), timeout_s=limits.LEAVE_TIMEOUT_S)
            except (Condition, CrateError) as error:
                logger.info("the master did not hear that this node leaves: %s", error)

    async def _another_master(self) -> None:
        while self._leader_id in (None, self.node_id):
            await self._leader_changed.wait()

    # --- from the driver ---------------------------------------------------------------------------------------------

    def _apply(self, state: ClusterState) -> None:
        old = self._state
        assert state.version >= old.version
        visible = state if self._leader_id is not None else replace(state, master_id=None)
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
        if change.leader_id != self._leader_id:
            logger.info("master is %s in term %d", change.leader_id or "not known", change.term)
        self._leader_id = change.leader_id
        self._discovery.search(change.leader_id is None)
        self._leader_changed.set()
        self._leader_changed = trio.Event()
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
            version = await self._submit_until_answered(command, scope)
            return await self.wait_for(lambda state: state.version >= version, timeout_s=float("inf"))
        raise PublicationTimeout(f"failed to process cluster event ({name}) within {timeout_s:g}s")

    async def _submit_until_answered(self, command: Command, scope: trio.CancelScope) -> int:
        without_master_since: float | None = None
        while True:
            leader_id = self._leader_id
            try:
                if leader_id is not None:
                    reply = await self._ask_while_leading(
                        leader_id, command, max(scope.deadline - trio.current_time(), 0.001)
                    )
                    if reply.version is not None:
                        return reply.version
                    if reply.is_lost and not is_repeatable(command):
                        raise OutcomeUnknown(
                            f"the master stepped down while it processed {type(command).__name__}; "
                            "it may or may not have been done"
                        )
                    if reply.is_lost:
                        without_master_since = None
            except PeerUnavailable as error:
                if error.sent and not is_repeatable(command):
                    raise OutcomeUnknown(
                        f"the connection to the master broke while it processed {type(command).__name__}; "
                        "it may or may not have been done"
                    ) from error
            now = trio.current_time()
            if without_master_since is None:
                without_master_since = now
            remaining_s = without_master_since + limits.NO_MASTER_PATIENCE_S - now
            if remaining_s <= 0:
                raise NoMaster(NO_MASTER)
            with trio.move_on_after(min(remaining_s, _RETRY_S if self._leader_id is not None else remaining_s)):
                await self._leader_changed.wait()

    async def _ask_while_leading(self, leader_id: str, command: Command, timeout_s: float) -> SubmitReply:
        """The master's answer, or that it is lost: a master that is replaced while it is asked may never answer."""
        reply, failure = SubmitReply(is_lost=True), None
        async with trio.open_nursery() as nursery:

            async def give_up_when_replaced() -> None:
                while self._leader_id in (None, leader_id):
                    await self._leader_changed.wait()
                # It may know the outcome all the same, if it can be reached.
                await trio.sleep(_REPLACED_PATIENCE_S)
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up_when_replaced)
            try:
                reply = await self._ask(leader_id, command, timeout_s)
            except (CrateError, Condition) as error:
                failure = error  # raised outside of the nursery, which would wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return reply

    async def _ask(self, leader_id: str, command: Command, timeout_s: float) -> SubmitReply:
        if leader_id == self.node_id:
            return await self._on_submit(self.node_id, SubmitRequest(command))
        reply: SubmitReply = await self.transport.request(
            leader_id, SUBMIT_ACTION, SubmitRequest(command), reply_type=SubmitReply, timeout_s=timeout_s
        )
        return reply

    async def _on_submit(self, _: str, request: SubmitRequest) -> SubmitReply:
        """As master: the outcome of a command. Raises the CrateError it is refused with."""
        if self._core is None or self._driver is None or self._core.mode is not Mode.LEADER:
            return SubmitReply()
        self._last_ticket += 1
        number, ticket = self._last_ticket, _Ticket()
        self._tickets[number] = ticket
        try:
            self._driver.post(Submitted(number, request.command))
            await ticket.is_done.wait()
        finally:
            self._tickets.pop(number, None)
        match ticket.answer:
            case Answered(version=version, error=None):
                return SubmitReply(version)
            case Answered(error=error):
                assert error is not None
                raise error
            case OutcomeLost():
                return SubmitReply(is_lost=True)
            case _:
                return SubmitReply()

    async def require_master(self) -> None:
        """Return while there is a master; else wait for one for a moment. Raises NoMaster: changes must be refused."""
        if self._leader_id is None:
            with trio.move_on_after(limits.NO_MASTER_PATIENCE_S):
                while self._leader_id is None:
                    await self._leader_changed.wait()
            if self._leader_id is None:
                raise NoMaster(NO_MASTER)

    @property
    def refuses_reads(self) -> bool:
        """``cluster.no_master_block`` is ``all`` and there is no master."""
        if self._leader_id is not None:
            return False
        return (self._state.setting("cluster.no_master_block") or self._options.no_master_block) == "all"

    # --- stepping down -----------------------------------------------------------------------------------------------

    async def step_down(self, heir: str | None = None) -> str:
        """Have the master hand over, to ``heir`` or to whoever is best; returns the id of the new master.

        An heir that is behind by a state cannot win, and another node does: then that one is asked, and so on. A master
        between two terms does not hear: it is asked again.
        Raises NoMaster, NodeUnavailable (the master could not be asked) and PublicationTimeout (nobody took over in time:
        the old master may have been elected again).
        """
        if self._leader_id is None:
            raise NoMaster(NO_MASTER)
        old = self._leader_id
        with trio.move_on_after(limits.STEP_DOWN_TIMEOUT_S):
            while True:
                if old != heir and old == self._leader_id:
                    await self._ask_to_step_down(old, heir)
                with trio.move_on_after(limits.STEP_DOWN_PATIENCE_S):
                    new = await self._next_master(old, heir)
                    if heir in (None, new):
                        return new
                    old = new
        who = "no other node" if heir is None else f"node {heir}"
        raise PublicationTimeout(f"{who} has not become master within {limits.STEP_DOWN_TIMEOUT_S:g} s")

    async def _next_master(self, old: str, heir: str | None) -> str:
        state = await self.wait_for(
            lambda state: state.master_id is not None and (state.master_id != old or old == heir),
            timeout_s=float("inf"),
        )
        assert state.master_id is not None
        return state.master_id

    async def _ask_to_step_down(self, master: str, heir: str | None) -> None:
        request = StepDownRequest(heir)
        if master == self.node_id:
            self._on_step_down(master, request)
        else:
            await self.transport.request(master, STEP_DOWN_ACTION, request, timeout_s=limits.STEP_DOWN_TIMEOUT_S)

    def _on_step_down(self, _: str, request: StepDownRequest) -> None:
        if self._driver is not None:
            self._driver.post(StepDown(request.heir))

    def _on_health(self, problem: str | None) -> None:
        if self._driver is not None:
            self._driver.post(HealthChanged(problem))

    @property
    def problem(self) -> str | None:
        """What is wrong with this node's disk, None if it is well."""
        return self._health.problem

    def _on_answer(self, answer: Answered | Refused | OutcomeLost) -> None:
        ticket = self._tickets.get(answer.ticket)
        if ticket is not None:  # None: nobody waits any longer
            ticket.answer = answer
            ticket.is_done.set()


def new_node_id(clock: Clock) -> str:
    """A node id in the form of CrateDB's: 22 characters without meaning."""
    return msgspec.json.encode(bytes.fromhex(clock.new_id().replace("-", ""))).decode().strip('"=').translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
