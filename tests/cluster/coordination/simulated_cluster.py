"""A whole cluster of coordination cores on a bare event loop: simulated time, network and disks, all from one seed.

No trio and no sockets: an event queue ordered by time. The network loses, delays, repeats and reorders messages and can be
cut one way; disks take time, and a crash during a write leaves the old or the new contents. A checker sees every effect:
one publisher per term, one state per term and version, committed states in one line, only committed states applied.
Every acknowledged command leaves a setting in the state, so that a lost one is seen in the final state.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from cratepy.cluster.coordination.coordinator import Coordinator, Mode
from cratepy.cluster.coordination.messages import (
    Answered,
    Apply,
    Bootstrapped,
    Connected,
    Disconnected,
    Effect,
    Event,
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
from cratepy.model.commands import SetClusterSettings
from cratepy.model.state import ClusterState, NodeInfo


class Checker:
    """Sees the publications, commits and applications of all nodes."""

    def __init__(self) -> None:
        self.publisher: dict[int, str] = {}
        self.states: dict[tuple[int, int], ClusterState] = {}
        self.parents: dict[tuple[int, int], tuple[int, int]] = {}
        self.committed: dict[int, tuple[int, int]] = {}
        self.applied: dict[str, int] = {}

    def on_publish(self, node_id: str, message: Publish) -> None:
        at = (message.state.coordination.term, message.state.version)
        assert self.publisher.setdefault(at[0], node_id) == node_id, f"two publishers in term {at[0]}"
        assert self.states.setdefault(at, message.state) == message.state, f"two states at {at}"
        self.parents[at] = message.base

    def on_apply(self, node_id: str, state: ClusterState) -> None:
        at = (state.coordination.term, state.version)
        assert at in self.states or at[0] in self.publisher, f"{node_id} applied {at}, which nobody published"
        assert self.committed.setdefault(at[1], at) == at, f"two committed states of version {at[1]}"
        for version in (at[1] - 1, at[1] + 1):
            if version in self.committed:
                older, newer = sorted((at, self.committed[version]), key=lambda pair: pair[1])
                assert self.parents.get(newer, older) == older, f"{newer} does not descend from committed {older}"
        assert state.version >= self.applied.get(node_id, 0), f"{node_id} went back to version {state.version}"
        self.applied[node_id] = state.version


class Node:
    """One incarnation of a process."""

    def __init__(self, core: Coordinator) -> None:
        self.core = core
        self.inbox: deque[Event] = deque()
        self.is_writing = False
        self.is_alive = True


class SimulatedCluster:
    """``run(until)`` moves time; everything else may be called in between or from scheduled functions."""

    def __init__(self, *, seed: int, nodes: int, settings: CoordinationSettings | None = None) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.checker = Checker()
        self.ids = [f"n{number}" for number in range(nodes)]
        self.settings = settings or CoordinationSettings()
        self.disks: dict[str, tuple[int, ClusterState]] = {node_id: (0, ClusterState()) for node_id in self.ids}
        self.nodes: dict[str, Node] = {}
        self.cut: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.repeat = 0.0
        self.delay_s = (0.0005, 0.005)
        #: Longest time of a durable write, where it is not the usual one.
        self.write_s: dict[str, float] = {}
        self.answers: dict[int, str] = {}
        self.messages = self.crashes = self.elections = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._incarnation = 0
        self._last_ticket = 0

    # --- time --------------------------------------------------------------------------------------------------------

    def schedule(self, delay_s: float, function: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._scheduled, function, arguments))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, function, arguments = heapq.heappop(self._queue)
            function(*arguments)
        self.now = until

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, node_id: str, *, bootstrap: bool = False) -> None:
        if self.is_up(node_id):
            return
        self._incarnation += 1
        term, accepted = self.disks[node_id]
        me = NodeInfo(
            id=node_id,
            name=node_id,
            ephemeral_id=f"{node_id}#{self._incarnation}",
            host=node_id,
            transport_port=1,
            http_port=0,
            psql_port=0,
        )
        core = Coordinator(
            me=me,
            term=term,
            accepted=accepted,
            settings=self.settings,
            random=self.random.random,
            new_id=lambda: f"uuid-{self.random.getrandbits(32)}",
        )
        node = self.nodes[node_id] = Node(core)
        self.checker.applied.pop(node_id, None)
        self._perform(node_id, node, deque(core.start()))
        for other in self.ids:
            if other != node_id and self.is_up(other):
                self.post(node_id, Connected(other))
                self.post(other, Connected(node_id))
        if bootstrap:
            self.post(node_id, Bootstrapped(tuple(self.ids)))

    def crash(self, node_id: str, *, is_noticed: bool) -> None:
        if not self.is_up(node_id):
            return
        self.crashes += 1
        self.nodes[node_id].is_alive = False
        if is_noticed:
            for other in self.ids:
                if self.is_up(other):
                    self.schedule(self.random.uniform(0, 0.01), self.post, other, Disconnected(node_id))

    def is_up(self, node_id: str) -> bool:
        return node_id in self.nodes and self.nodes[node_id].is_alive

    def post(self, node_id: str, event: Event) -> None:
        if self.is_up(node_id):
            node = self.nodes[node_id]
            node.inbox.append(event)
            self._pump(node_id, node)

    def _pump(self, node_id: str, node: Node) -> None:
        while node.is_alive and not node.is_writing and node.inbox:
            self._perform(node_id, node, deque(node.core.step(node.inbox.popleft(), self.now)))

    def _perform(self, node_id: str, node: Node, effects: deque[Effect]) -> None:
        while effects:
            match effects.popleft():
                case Send(target, message):
                    if isinstance(message, Publish):
                        self.checker.on_publish(node_id, message)
                    self._transmit(node_id, target, Received(node_id, message))
                case SetTimer(name, delay_s, generation):
                    self.schedule(delay_s, self._fire, node_id, node, TimerFired(name, generation))
                case Persist(term, state):
                    node.is_writing = True
                    longest_s = self.write_s.get(node_id, 0.01)
                    self.schedule(
                        self.random.uniform(longest_s / 100, longest_s),
                        self._written,
                        node_id,
                        node,
                        (term, state),
                        effects,
                    )
                    return
                case Apply(state):
                    self.checker.on_apply(node_id, state)
                case Answered(ticket, _, error):
                    self.answers[ticket] = "ok" if error is None else "error"
                case Refused(ticket):
                    self.answers[ticket] = "refused"
                case OutcomeLost(ticket):
                    self.answers[ticket] = "unknown"
                case ModeChanged(_, leader_id):
                    self.elections += leader_id == node_id
                case Report():
                    pass

    def _written(self, node_id: str, node: Node, contents: tuple[int, ClusterState], rest: deque[Effect]) -> None:
        if not node.is_alive:
            # The process died during the write: the disk has the old or the new contents.
            if self.nodes[node_id] is node and self.random.random() < 0.5:
                self.disks[node_id] = contents
            return
        self.disks[node_id] = contents
        node.is_writing = False
        self._perform(node_id, node, rest)
        self._pump(node_id, node)

    def _fire(self, node_id: str, node: Node, event: TimerFired) -> None:
        if node.is_alive:
            self.post(node_id, event)

    # --- network -----------------------------------------------------------------------------------------------------

    def _transmit(self, source: str, target: str, event: Received) -> None:
        self.messages += 1
        if self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.repeat else 1):
            delay_s = self.random.uniform(*self.delay_s)
            if self.random.random() < 0.01:
                delay_s += self.random.uniform(0, 2)
            self.schedule(delay_s, self._deliver, source, target, event)

    def _deliver(self, source: str, target: str, event: Received) -> None:
        if (source, target) not in self.cut:
            self.post(target, event)

    def heal(self) -> None:
        self.cut.clear()
        self.loss = self.repeat = 0.0
        self.delay_s = (0.0005, 0.005)
        for node_id in self.ids:
            self.start(node_id)
        for node_id in self.ids:
            for other in self.ids:
                if other != node_id:
                    self.post(node_id, Connected(other))

    # --- clients and observers ---------------------------------------------------------------------------------------

    def submit(self, node_id: str) -> int:
        self._last_ticket += 1
        command = SetClusterSettings(settings={f"done.{self._last_ticket}": True})
        if self.is_up(node_id):
            self.post(node_id, Submitted(self._last_ticket, command))
        return self._last_ticket

    @property
    def leaders(self) -> list[str]:
        return [n for n in self.ids if self.is_up(n) and self.nodes[n].core.mode is Mode.LEADER]

    def accepted(self, node_id: str) -> ClusterState:
        return self.nodes[node_id].core.kernel.accepted

    def formed(self) -> SimulatedCluster:
        """Start all nodes, bootstrap, and let them elect a master."""
        for node_id in self.ids:
            self.start(node_id, bootstrap=True)
        self.run(self.now + 5)
        assert len(self.leaders) == 1
        return self
