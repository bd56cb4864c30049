"""A cluster of coordination cores on simulated time, network, disks and clocks: the host of the core without trio.

It keeps the host's one rule (a ``Persist`` is durable before any later effect and before the next event) and breaks
everything else: processes crash before, within and after a write, stop for seconds and go on, have slow or failing disks
and clocks that run fast or slow. A disk is what survives a crash: (term, accepted state).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.messages import (
    Answered,
    Apply,
    Bootstrapped,
    Commit,
    Connected,
    Disconnected,
    Effect,
    Event,
    HealthChanged,
    Leave,
    ModeChanged,
    OutcomeLost,
    Persist,
    Publish,
    Received,
    Refused,
    Report,
    Send,
    SetTimer,
    Submitted,
    TimerFired,
)
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.model.commands import Command, RetireNodes, SetClusterSettings
from cratepy.model.state import ClusterState, NodeInfo
from tests.simulation.checker import Checker, at
from tests.simulation.loop import Chance, EventLoop
from tests.simulation.network import Network

Disk = tuple[int, ClusterState]
_USUAL_WRITE_S = 0.01


class Process:
    """One incarnation of a node."""

    def __init__(self, core: Coordinator) -> None:
        self.core = core
        self.inbox: deque[Event] = deque()
        self.is_alive = True
        self.is_writing = False
        self.is_paused = False
        #: Effects that wait for the end of a pause.
        self.held: deque[Effect] = deque()


class SimulatedCluster:
    """``run(until)`` moves time; all else may be called in between, or by what is scheduled."""

    def __init__(
        self,
        *,
        seed: int,
        nodes: int,
        settings: CoordinationSettings | None = None,
        data_only: int = 0,
        story_length: int = 200,
    ) -> None:
        self.loop = EventLoop()
        self.chance = Chance(seed)
        self.checker = Checker(story_length=story_length)
        self.settings = settings or CoordinationSettings()
        self.ids = [f"n{number}" for number in range(nodes)]
        #: The last ones vote never.
        self.data_only = set(self.ids[nodes - data_only :])
        self.voters = [node_id for node_id in self.ids if node_id not in self.data_only]
        self.disks: dict[str, Disk] = {node_id: (0, ClusterState()) for node_id in self.ids}
        self.processes: dict[str, Process] = {}
        self.network = Network(self.loop, self.chance.stream("network"), self.post)
        self.answers: dict[int, str] = {}
        #: Longest time of a write, and the speed of a clock, where they are not the usual ones.
        self.write_s: dict[str, float] = {}
        self.clock_rate: dict[str, float] = {}
        #: Nodes that crash at their next write: ``before``, ``within`` or ``after`` it.
        self.crash_at_write: dict[str, str] = {}
        self.crashes = self.elections = self.steps = 0
        #: What a write leaves on the disk; mutants lie here.
        self.store: Callable[[Disk, Disk], Disk] = lambda old, new: new
        self._disk_chance = self.chance.stream("disk")
        self._core_chance = self.chance.stream("core")
        self._incarnation = 0
        self._last_ticket = 0
        #: Commands that leave no mark in the state.
        self._unmarked: set[int] = set()
        self._delays: dict[str, float] = {}

    @property
    def now(self) -> float:
        return self.loop.now

    def run_for(self, seconds: float) -> None:
        self.loop.run(self.loop.now + seconds)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, node_id: str, *, bootstrap: Sequence[str] = ()) -> None:
        if self.is_up(node_id):
            return
        self._incarnation += 1
        self.checker.tell(self.now, node_id, f"starts as incarnation {self._incarnation}")
        term, accepted = self.disks[node_id]
        core = Coordinator(
            me=self._info(node_id),
            term=term,
            accepted=accepted,
            settings=self.settings,
            random=self._core_chance.random,
            new_id=lambda: f"uuid-{self._core_chance.getrandbits(32)}",
        )
        process = self.processes[node_id] = Process(core)
        self.checker.applied.pop(node_id, None)
        self._perform(node_id, process, deque(core.start()))
        for other in self.ids:
            if other != node_id and self.is_up(other):
                self.post(node_id, Connected(other))
                self.post(other, Connected(node_id))
        if bootstrap:
            self.post(node_id, Bootstrapped(tuple(sorted(bootstrap))))

    def _info(self, node_id: str) -> NodeInfo:
        return NodeInfo(
            id=node_id,
            name=node_id,
            ephemeral_id=f"{node_id}#{self._incarnation}",
            host=node_id,
            transport_port=1,
            http_port=0,
            psql_port=0,
            is_master_eligible=node_id not in self.data_only,
        )

    def crash(self, node_id: str, *, is_noticed: bool) -> None:
        if not self.is_up(node_id):
            return
        self.crashes += 1
        self.checker.tell(self.now, node_id, "crashes")
        self.processes[node_id].is_alive = False
        self.crash_at_write.pop(node_id, None)
        if is_noticed:
            self._tell_disconnected(node_id)

    def stop(self, node_id: str) -> None:
        """A clean stop: it says goodbye, then its connections break."""
        if not self.is_up(node_id):
            return
        self.checker.tell(self.now, node_id, "stops")
        for other in self.ids:
            if other != node_id:
                self.network.send(node_id, other, Received(node_id, Leave()))
        self.processes[node_id].is_alive = False
        self.loop.schedule(0.01, self._tell_disconnected, node_id)

    def _tell_disconnected(self, node_id: str) -> None:
        for other in self.ids:
            if other != node_id and self.is_up(other):
                delay_s = self._disk_chance.uniform(0, 0.01)
                self.loop.schedule(delay_s, self._disconnected, other, node_id)

    def _disconnected(self, node_id: str, gone: str) -> None:
        if not self.is_up(gone):
            self.post(node_id, Disconnected(gone))

    def reset_connection(self, one: str, other: str) -> None:
        """The connection breaks, and is there again soon."""
        for a, b in ((one, other), (other, one)):
            self.post(a, Disconnected(b))
            self.loop.schedule(0.05, self._reconnected, a, b)

    def _reconnected(self, one: str, other: str) -> None:
        if self.is_up(other):
            self.post(one, Connected(other))

    def pause(self, node_id: str) -> None:
        """SIGSTOP: nothing runs, everything waits."""
        if self.is_up(node_id):
            self.processes[node_id].is_paused = True
            self.checker.tell(self.now, node_id, "pauses")

    def resume(self, node_id: str) -> None:
        process = self.processes.get(node_id)
        if process is None or not process.is_paused:
            return
        process.is_paused = False
        if process.is_alive:
            self.checker.tell(self.now, node_id, "resumes")
            held, process.held = process.held, deque()
            if not process.is_writing:
                self._perform(node_id, process, held)
            else:
                process.held = held
            self._pump(node_id, process)

    def is_up(self, node_id: str) -> bool:
        process = self.processes.get(node_id)
        return process is not None and process.is_alive

    def post(self, node_id: str, event: Event) -> None:
        if self.is_up(node_id):
            process = self.processes[node_id]
            process.inbox.append(event)
            self._pump(node_id, process)

    def _pump(self, node_id: str, process: Process) -> None:
        while process.is_alive and not (process.is_writing or process.is_paused or process.held) and process.inbox:
            event = process.inbox.popleft()
            self.steps += 1
            self._perform(node_id, process, deque(process.core.step(event, self.now)))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _perform(self, node_id: str, process: Process, effects: deque[Effect]) -> None:
        checker = self.checker
        while effects:
            if process.is_paused:
                process.held = effects
                return
            effect = effects.popleft()
            match effect:
                case Send(target, message):
                    if isinstance(message, Publish):
                        checker.on_publish(node_id, message.state, message.base)
                    elif isinstance(message, Commit):
                        checker.on_commit((message.term, message.version))
                    self.network.send(node_id, target, Received(node_id, message))
                case SetTimer(name, delay_s, generation):
                    delay_s *= self.clock_rate.get(node_id, 1.0)
                    self.loop.schedule(delay_s, self._fire, node_id, process, TimerFired(name, generation))
                case Persist(term, state):
                    if state.master_id == node_id and at(state) not in checker.states:
                        # A cluster of one sends its state to nobody; its own disk is where it is published.
                        checker.on_publish(node_id, state, at(self.disks[node_id][1]))
                    self._write(node_id, process, (term, state), effects)
                    return
                case Apply(state):
                    if process.core.mode is Mode.LEADER:
                        checker.on_commit(at(state))
                    checker.on_apply(node_id, state)
                    checker.tell(self.now, node_id, f"applies {at(state)}")
                case ModeChanged(term, leader_id):
                    self.elections += leader_id == node_id
                    checker.tell(self.now, node_id, f"term {term}, master {leader_id}")
                case Answered(ticket, _, error):
                    self._answer(node_id, ticket, "ok" if error is None else "error")
                case Refused(ticket):
                    self._answer(node_id, ticket, "refused")
                case OutcomeLost(ticket):
                    self._answer(node_id, ticket, "unknown")
                case Report(text):
                    checker.tell(self.now, node_id, text)

    def _write(self, node_id: str, process: Process, contents: Disk, rest: deque[Effect]) -> None:
        how = self.crash_at_write.pop(node_id, "")
        if how == "before":
            self.crash(node_id, is_noticed=True)
            return
        process.is_writing = True
        longest_s = self.write_s.get(node_id, _USUAL_WRITE_S)
        delay_s = self._disk_chance.uniform(longest_s / 100, longest_s)
        if how == "within":
            self.loop.schedule(delay_s / 2, self._crash_process, node_id, process)
        self.loop.schedule(delay_s, self._written, node_id, process, contents, rest, how == "after")

    def _crash_process(self, node_id: str, process: Process) -> None:
        if self.processes[node_id] is process:
            self.crash(node_id, is_noticed=True)

    def _written(
        self, node_id: str, process: Process, contents: Disk, rest: deque[Effect], crashes_after: bool
    ) -> None:
        if not process.is_alive:
            # The process died during the write: the disk has the old or the new contents.
            if self.processes[node_id] is process and self._disk_chance.random() < 0.5:
                self.disks[node_id] = self.store(self.disks[node_id], contents)
            return
        self.disks[node_id] = self.store(self.disks[node_id], contents)
        process.is_writing = False
        if crashes_after:
            self.crash(node_id, is_noticed=True)
            return
        self._perform(node_id, process, rest)
        self._pump(node_id, process)

    def _fire(self, node_id: str, process: Process, event: TimerFired) -> None:
        if process.is_alive:
            process.inbox.append(event)
            self._pump(node_id, process)

    def _answer(self, node_id: str, ticket: int, answer: str) -> None:
        self.answers[ticket] = answer
        self.checker.tell(self.now, node_id, f"command {ticket}: {answer}")
        if ticket in self._unmarked:
            return
        if answer == "ok":
            self.checker.on_acknowledged(f"done.{ticket}")
        elif answer == "refused":
            self.checker.on_refused(f"done.{ticket}")

    # --- clients and observers ---------------------------------------------------------------------------------------

    def submit(self, node_id: str) -> int:
        """Ask a node for a change that leaves its mark in the state; only the master takes it."""
        self._last_ticket += 1
        if self.is_up(node_id):
            settings = {f"done.{self._last_ticket}": True}
            self.post(
                node_id, Submitted(self._last_ticket, SetClusterSettings(settings=dict(settings), is_persistent=True))
            )
        return self._last_ticket

    def command(self, node_id: str, command: Command) -> int:
        """Ask a node for a change that leaves no mark of the checker's."""
        self._last_ticket += 1
        self._unmarked.add(self._last_ticket)
        self.post(node_id, Submitted(self._last_ticket, command))
        return self._last_ticket

    def retire(self, *node_ids: str) -> None:
        """Ask the master to have these nodes vote no more."""
        for leader in self.leaders:
            self._last_ticket += 1
            self._unmarked.add(self._last_ticket)
            self.post(leader, Submitted(self._last_ticket, RetireNodes(node_ids)))

    @property
    def leaders(self) -> list[str]:
        return [n for n in self.ids if self.is_up(n) and self.processes[n].core.mode is Mode.LEADER]

    def accepted(self, node_id: str) -> ClusterState:
        return self.processes[node_id].core.kernel.accepted

    def heal(self) -> None:
        """All faults end: every node runs, every connection works, every disk and clock is well."""
        self.checker.tell(self.now, "all", "healed")
        self.network.heal()
        self.write_s.clear()
        self.clock_rate.clear()
        self.crash_at_write.clear()
        for node_id in self.ids:
            self.resume(node_id)
            self.start(node_id)
            self.post(node_id, HealthChanged(None))
        for node_id in self.ids:
            for other in self.ids:
                if other != node_id:
                    self.post(node_id, Connected(other))

    def formed(self) -> SimulatedCluster:
        """Start all nodes, bootstrap, and let them elect a master."""
        for node_id in self.ids:
            self.start(node_id, bootstrap=self.voters)
        self.run_for(5)
        assert len(self.leaders) == 1
        return self
