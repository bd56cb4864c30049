"""The same core on trio: the product's own driver, with a transport, a disk and worker threads that are simulated.

What runs here is ``cratepy.cluster.driver`` itself, so states travel as differences, packets wait for their turn in its
queue and timers are trio's. Time is trio's mock clock, which jumps when everybody waits; the order of tasks is drawn from
the seed (trio's own deterministic scheduling, which its tests use, too). The checker is the same as on the bare loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, cast

import trio
import trio.testing

from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.messages import (
    Answered,
    Apply,
    Bootstrapped,
    Commit,
    Effect,
    ModeChanged,
    OutcomeLost,
    Persist,
    Publish,
    Refused,
    Send,
    Submitted,
)
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.cluster.diff import StateDiff, patch
from cratepy.cluster.driver import Driver
from cratepy.cluster.saving import Done
from cratepy.cluster.transport import Transport
from cratepy.model.commands import SetClusterSettings
from cratepy.model.state import ClusterState, NodeInfo
from tests.simulation.checker import Checker, Violation, at
from tests.simulation.history import History
from tests.simulation.loop import Chance

_WRITE_S = 0.01
_SETTLE_S = 45.0


class _Disk:
    """A state log in memory. What is written survives the process."""

    def __init__(self) -> None:
        self.term, self.state = 0, ClusterState()


class _Saver:
    """The disk of one process: writes after a simulated delay instead of on a thread, and as the state log does it."""

    def __init__(self, disk: _Disk, chance: Random) -> None:
        self._disk = disk
        self._chance = chance
        self._job: tuple[int, ClusterState, StateDiff | None, Done] | None = None
        self._has_job = trio.Event()
        self.has_crashed = False

    @property
    def state(self) -> ClusterState:
        return self._disk.state

    def save(self, term: int, state: ClusterState, change: StateDiff | None, done: Done) -> None:
        assert self._job is None, "one write at a time"
        self._job = (term, state, change, done)
        self._has_job.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._has_job.wait()
            self._has_job = trio.Event()
            assert self._job is not None
            job, self._job = self._job, None
            # A crash (a cancellation) in the middle leaves the old or the new contents.
            try:
                await trio.sleep(self._chance.uniform(_WRITE_S / 100, _WRITE_S))
            except trio.Cancelled:
                if self._chance.random() < 0.5:
                    self._write(*job)
                raise
            if self.has_crashed:
                return
            self._write(*job)
            job[3](None)

    def _write(self, term: int, state: ClusterState, change: StateDiff | None, _: Done) -> None:
        if change is not None and patch(self._disk.state, change) != state:
            raise Violation("a difference that does not make the state it was made of")
        self._disk.term, self._disk.state = term, state


class _Transport:
    """A node's end of the simulated network, with the methods of the transport that the driver uses."""

    def __init__(self, cluster: TrioCluster, node_id: str) -> None:
        self._cluster = cluster
        self.node_id = node_id
        self.handlers: dict[str, Callable[[str, Any], Any]] = {}
        self.connect_listeners: list[Callable[[str], None]] = []
        self.disconnect_listeners: list[Callable[[str], None]] = []

    def register(self, action: str, _: Any, handler: Callable[[str, Any], Any]) -> None:
        self.handlers[action] = handler

    def on_connect(self, listener: Callable[[str], None]) -> None:
        self.connect_listeners.append(listener)

    def on_disconnect(self, listener: Callable[[str], None]) -> None:
        self.disconnect_listeners.append(listener)

    def connected(self, node_id: str) -> bool:
        return node_id in self._cluster.running

    def peer_ephemeral_id(self, node_id: str) -> str | None:
        return None

    def retry_now(self) -> None:
        """Connections are there or not; nothing is tried again."""

    def notify(self, target: str, action: str, packet: Any) -> bool:
        return self._cluster.send(self.node_id, target, action, packet)


class _ObservedDriver(Driver):
    """The driver, with each effect told to the checker just before it is performed."""

    observe: Callable[[Effect], None]

    def _perform(self, effect: Effect) -> None:
        self.observe(effect)
        super()._perform(effect)


class TrioCluster:
    """Nodes as tasks. Everything is drawn from the seed's streams."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.chance = Chance(seed)
        self.checker = Checker()
        self.ids = [f"n{number}" for number in range(nodes)]
        self.disks = {node_id: _Disk() for node_id in self.ids}
        self.running: dict[str, _Transport] = {}
        self.cores: dict[str, Coordinator] = {}
        self.drivers: dict[str, Driver] = {}
        self.cuts: dict[tuple[str, str], None] = {}
        self.loss = 0.0
        self.messages = self.crashes = self.elections = 0
        self.answers: dict[int, str] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._savers: dict[str, _Saver] = {}
        self._write_chance = self.chance.stream("disk")
        self._last_ticket = 0
        self._incarnation = 0
        self._network = self.chance.stream("network")
        self.nursery: trio.Nursery | None = None

    # --- network -----------------------------------------------------------------------------------------------------

    def send(self, source: str, target: str, action: str, packet: Any) -> bool:
        if target not in self.running:
            return False
        self.messages += 1
        if (source, target) not in self.cuts and self._network.random() >= self.loss:
            assert self.nursery is not None
            self.nursery.start_soon(self._deliver, source, target, action, packet, self._network.uniform(0.0005, 0.02))
        return True

    async def _deliver(self, source: str, target: str, action: str, packet: Any, delay_s: float) -> None:
        transport = self.running.get(target)
        await trio.sleep(delay_s)
        if transport is not None and self.running.get(target) is transport and (source, target) not in self.cuts:
            transport.handlers[action](source, packet)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def start(self, node_id: str, *, bootstrap: bool = False) -> None:
        if node_id in self.running:
            return
        self._incarnation += 1
        disk, transport = self.disks[node_id], _Transport(self, node_id)
        saver = self._savers[node_id] = _Saver(disk, self._write_chance)
        me = NodeInfo(
            id=node_id, name=node_id, ephemeral_id=f"{node_id}#{self._incarnation}", host=node_id, transport_port=1,
            http_port=0, psql_port=0,
        )  # fmt: skip
        core = Coordinator(
            me=me,
            term=disk.term,
            accepted=disk.state,
            settings=CoordinationSettings(),
            random=self.chance.stream("core").random,
            new_id=lambda: f"uuid-{self.chance.stream('core').getrandbits(32)}",
        )
        driver = _ObservedDriver(
            core=core,
            saver=saver,
            transport=cast(Transport, transport),
            on_apply=lambda state: None,
            on_mode=lambda change: None,
            on_answer=lambda answer: self._on_answer(node_id, answer),
            on_new_tables=lambda tables, version: None,
            learn=lambda node: None,
        )
        driver.observe = lambda effect: self._observe(node_id, core, effect)
        self.running[node_id], self.cores[node_id], self.drivers[node_id] = transport, core, driver
        self.checker.applied.pop(node_id, None)
        self.checker.tell(trio.current_time(), node_id, f"starts as incarnation {self._incarnation}")
        for other in self.ids:
            if other != node_id and other in self.running:
                for listener in transport.connect_listeners:
                    listener(other)
                for listener in self.running[other].connect_listeners:
                    listener(node_id)
        if bootstrap:
            driver.post(Bootstrapped(tuple(self.ids)))
        assert self.nursery is not None
        self.nursery.start_soon(self._run, node_id, driver)

    async def _run(self, node_id: str, driver: Driver) -> None:
        with trio.CancelScope() as scope:
            self._scopes[node_id] = scope
            await driver.run()

    def crash(self, node_id: str) -> None:
        if node_id not in self.running:
            return
        self.crashes += 1
        self.checker.tell(trio.current_time(), node_id, "crashes")
        del self.running[node_id]
        self._savers[node_id].has_crashed = True
        self._scopes[node_id].cancel()
        for other in self.ids:
            if other in self.running:
                for listener in self.running[other].disconnect_listeners:
                    listener(node_id)

    def _observe(self, node_id: str, core: Coordinator, effect: Effect) -> None:
        checker, now = self.checker, trio.current_time()
        match effect:
            case Send(_, message):
                if isinstance(message, Publish):
                    checker.on_publish(node_id, message.state, message.base)
                elif isinstance(message, Commit):
                    checker.on_commit((message.term, message.version))
            case Persist(term, state):
                if state.master_id == node_id and at(state) not in checker.states:
                    # A state whose only node is its master is sent to nobody.
                    checker.on_publish(node_id, state, at(self.disks[node_id].state))
                checker.tell(now, node_id, f"writes term {term}, state {at(state)}")
            case Apply(state):
                if core.mode is Mode.LEADER:
                    checker.on_commit(at(state))
                checker.on_apply(node_id, state)
                checker.tell(now, node_id, f"applies {at(state)}")
            case ModeChanged(term, leader_id):
                self.elections += leader_id == node_id
                checker.tell(now, node_id, f"term {term}, master {leader_id}")
            case _:
                pass

    # --- clients -----------------------------------------------------------------------------------------------------

    def submit(self, node_id: str) -> int:
        self._last_ticket += 1
        if node_id in self.running:
            settings = {f"done.{self._last_ticket}": True}
            self.drivers[node_id].post(
                Submitted(self._last_ticket, SetClusterSettings(settings=dict(settings), is_persistent=True))
            )
        return self._last_ticket

    def _on_answer(self, node_id: str, answer: Answered | Refused | OutcomeLost) -> None:
        match answer:
            case Answered(ticket, _, error):
                text = "ok" if error is None else "error"
            case Refused(ticket):
                text = "refused"
            case OutcomeLost(ticket):
                text = "unknown"
        self.answers[ticket] = text
        self.checker.tell(trio.current_time(), node_id, f"command {ticket}: {text}")
        if text == "ok":
            self.checker.on_acknowledged(f"done.{ticket}")
        elif text == "refused":
            self.checker.on_refused(f"done.{ticket}")

    @property
    def leaders(self) -> list[str]:
        return [n for n in self.ids if n in self.running and self.cores[n].mode is Mode.LEADER]

    async def clients(self, end: float) -> None:
        chance = self.chance.stream("clients")
        while trio.current_time() < end:
            self.submit(chance.choice([*self.leaders, *self.ids]))
            await trio.sleep(chance.expovariate(2))

    async def faults(self, end: float) -> None:
        chance = self.chance.stream("faults")
        while True:
            await trio.sleep(chance.expovariate(1 / 3))
            if trio.current_time() >= end:
                return
            match chance.randrange(6):
                case 0:
                    side = chance.sample(self.ids, chance.randrange(1, len(self.ids)))
                    self.cuts = dict.fromkeys((a, b) for a in self.ids for b in self.ids if (a in side) != (b in side))
                case 1:
                    deaf = chance.choice(self.ids)
                    self.cuts |= dict.fromkeys((a, deaf) for a in self.ids)
                case 2 | 3:
                    node_id = chance.choice([*self.leaders, *self.ids])
                    self.crash(node_id)
                    await trio.sleep(chance.uniform(0, 3))
                    self.start(node_id)
                case 4:
                    self.loss = chance.choice([0.0, 0.02, 0.2])
                case _:
                    self.heal()

    def heal(self) -> None:
        self.cuts, self.loss = {}, 0.0
        for node_id in self.ids:
            self.start(node_id)

    async def main(self, seconds: float) -> None:
        async with trio.open_nursery() as self.nursery:
            for node_id in self.ids:
                self.start(node_id, bootstrap=True)
            self.nursery.start_soon(self.clients, seconds)
            self.nursery.start_soon(self.faults, seconds)
            await trio.sleep(seconds + 5)
            self.heal()
            await trio.sleep(_SETTLE_S)
            if len(self.leaders) != 1:
                raise Violation(f"the healed cluster has {len(self.leaders)} masters")
            self.checker.at_rest({node_id: self.cores[node_id].kernel.accepted for node_id in self.ids})
            self.nursery.cancel_scope.cancel()


@contextmanager
def _deterministic(chance: Chance) -> Iterator[None]:
    """Task order from the seed."""
    from trio._core import _run

    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(chance.stream("trio").getrandbits(64))
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before


def explore_on_trio(seed: int, *, seconds: float, nodes: int = 3) -> History:
    """Run a seed. Raises Violation (or an ExceptionGroup with one)."""
    cluster = TrioCluster(seed, nodes)
    clock = trio.testing.MockClock(autojump_threshold=0)
    with _deterministic(cluster.chance):
        trio.run(cluster.main, seconds, clock=clock)
    checker = cluster.checker
    return History(
        seed=seed,
        nodes=nodes,
        simulated_s=seconds + 5 + _SETTLE_S,
        digest=checker.digest,
        messages=cluster.messages,
        crashes=cluster.crashes,
        elections=cluster.elections,
        commits=len(checker.committed),
        acknowledged=len(checker.acknowledged),
    )
