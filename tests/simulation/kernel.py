"""The safety kernel alone, at random: no clock, no timers, no disks but what was saved; any message may arrive at any time,
any number of times, or never.

This reaches what a cluster with sensible timing hardly ever does: a node that restarts between a vote and its use, a
configuration replaced twice while nobody looks, a commit that arrives a hundred steps late. A *profile* says what is likely,
because some mistakes only show when one kind of event is frequent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from cratepy.cluster.coordination.kernel import CoordinationState, Rejected, Vote
from cratepy.model.state import ClusterState, Coordination, NodeInfo
from tests.simulation.checker import Checker, Violation, at

replace = msgspec.structs.replace
Disk = tuple[int, ClusterState]
#: Older messages are forgotten, so that a history stays in memory.
_MESSAGES_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Profile:
    """Chances per step, and the sizes of things."""

    nodes: tuple[int, ...]
    terms: int
    election: float
    restart: float
    publication: float
    reconfiguration: float
    #: A message is one of the newest so often, else any that was ever sent.
    newest: float
    smallest_configs: bool = False


PROFILES: Final = (
    Profile((3, 3, 4, 5), 12, 0.006, 0.005, 0.1, 0.4, 0.8),
    Profile((3, 4), 40, 0.02, 0.03, 0.1, 0.3, 0.8),
    # Configurations of one and two nodes that change all the time: quorums hardly overlap.
    Profile((2, 3), 30, 0.02, 0.02, 0.15, 0.9, 0.8, smallest_configs=True),
    Profile((3, 5), 60, 0.03, 0.01, 0.1, 0.1, 0.9),
    Profile((3, 3, 4, 5), 7, 0.03, 0.005, 0.07, 0.4, 0.4),
)


@dataclass(frozen=True, slots=True)
class _Message:
    kind: str
    source: str
    target: str
    body: Vote | ClusterState | tuple[int, int] | int


class KernelExplorer:
    """One history of a few kernels. Raises Violation, or AssertionError from the kernel's own check."""

    def __init__(self, seed: int, *, store: Callable[[Disk, Disk], Disk] = lambda old, new: new) -> None:
        self._chance = random.Random(f"kernel/{seed}")
        self._store = store
        self._profile = PROFILES[seed % len(PROFILES)]
        chance = self._chance
        self.ids = [f"n{number}" for number in range(chance.choice(self._profile.nodes))]
        self.checker = Checker()
        self.disks: dict[str, Disk] = {}
        self.kernels: dict[str, CoordinationState] = {}
        self._messages: list[_Message] = []
        self._next_term = 1
        self._values = 0
        self._begin_with(self._any_config())

    def begin(self, voters: int) -> None:
        """Begin anew with so many nodes, all of them voters."""
        self.ids = [f"n{number}" for number in range(voters)]
        self.kernels.clear()
        self._begin_with(tuple(self.ids))

    def _begin_with(self, config: tuple[str, ...]) -> None:
        coordination = Coordination(term=0, accepted_config=config, committed_config=config)
        first = ClusterState(version=1, coordination=coordination, nodes=dict.fromkeys(self.ids, _NOBODY))
        self.checker.states[at(first)] = first
        self.disks = dict.fromkeys(self.ids, (0, first))
        self.kernels = {node_id: CoordinationState(term=0, accepted=first) for node_id in self.ids}

    def elect_and_commit(self, group: list[str]) -> bool:
        """The first of a group stands for election among the group alone, and publishes; whether that is committed."""
        term, candidate = self._next_term, self.kernels[group[0]]
        self._next_term += 1
        for node_id in group:  # its own vote first: a candidate that has not entered the term counts none
            candidate.join(node_id, self.kernels[node_id].start_join(term))
        if not candidate.has_won:
            return False
        before = candidate.accepted
        coordination = replace(before.coordination, term=term)
        state = replace(before, version=before.version + 1, master_id=group[0], coordination=coordination)
        candidate.client_value(state)
        is_committed = False
        for node_id in group:
            self.kernels[node_id].publish_request(state)
            is_committed |= candidate.publish_response(node_id, term=term, version=state.version)
        return is_committed

    def run(self, steps: int) -> int:
        """Take so many steps; returns how many states were committed."""
        step = self._step
        for _ in range(steps):
            try:
                step()
            except Rejected:
                continue
        return len(self.checker.committed)

    def _any_config(self) -> tuple[str, ...]:
        chance = self._chance
        largest = 1 if self._profile.smallest_configs and chance.random() < 0.7 else len(self.ids)
        return tuple(sorted(chance.sample(self.ids, chance.randint(1, largest))))

    def _step(self) -> None:
        chance, profile = self._chance, self._profile
        dice = chance.random()
        if dice < profile.election:
            self._start_election()
        elif dice < profile.election + profile.restart:
            node_id = chance.choice(self.ids)
            term, accepted = self.disks[node_id]
            self.kernels[node_id] = CoordinationState(term=term, accepted=accepted)
        elif dice < profile.election + profile.restart + profile.publication:
            winners = [node_id for node_id in self.ids if self.kernels[node_id].has_won]
            if winners:
                self._publish(chance.choice(winners))
        elif self._messages:
            self._deliver(self._any_message())

    def _any_message(self) -> _Message:
        chance, messages = self._chance, self._messages
        if chance.random() < self._profile.newest:
            return messages[-1 - chance.randrange(min(12, len(messages)))]
        return messages[chance.randrange(len(messages))]

    def _send(
        self, kind: str, source: str, targets: list[str], body: Vote | ClusterState | tuple[int, int] | int
    ) -> None:
        self._messages += [_Message(kind, source, target, body) for target in targets]
        if len(self._messages) > _MESSAGES_MAX:
            del self._messages[: _MESSAGES_MAX // 2]

    def _start_election(self) -> None:
        if self._next_term > self._profile.terms:
            return
        term = self._next_term if self._chance.random() < 0.9 else self._chance.randint(0, self._next_term)
        self._next_term += 1
        self._send("start_join", self._chance.choice(self.ids), self.ids, term)

    def _publish(self, node_id: str) -> None:
        chance, kernel = self._chance, self.kernels[node_id]
        accepted = kernel.accepted
        now = accepted.coordination
        config = self._any_config() if chance.random() < self._profile.reconfiguration else now.accepted_config
        version = accepted.version + 1 if chance.random() < 0.9 else chance.randint(0, accepted.version + 2)
        term = kernel.term if chance.random() < 0.95 else chance.randint(0, kernel.term + 1)
        self._values += 1
        coordination = replace(now, term=term, accepted_config=config, cluster_uuid="u")
        state = replace(
            accepted,
            version=version,
            master_id=node_id,
            coordination=coordination,
            settings_persistent={"value": self._values},
        )
        base = kernel.accepted_at
        kernel.client_value(state)
        self.checker.on_publish(node_id, state, base)
        self._send("publish", node_id, self.ids, state)
        kernel.check()

    def _deliver(self, message: _Message) -> None:
        source, node_id, body = message.source, message.target, message.body
        kernel = self.kernels[node_id]
        match message.kind:
            case "start_join":
                vote = kernel.start_join(body)  # type: ignore[arg-type]
                self._save(node_id)
                self._send("join", node_id, [source], vote)
            case "join":
                kernel.join(source, body)  # type: ignore[arg-type]
            case "publish":
                kernel.publish_request(body)  # type: ignore[arg-type]
                self._save(node_id)
                self._send("published", node_id, [source], at(body))  # type: ignore[arg-type]
            case "published":
                term, version = body  # type: ignore[misc]
                if kernel.publish_response(source, term=term, version=version):
                    self.checker.on_commit((term, version))
                    self._send("commit", node_id, self.ids, (term, version))
            case "commit":
                term, version = body  # type: ignore[misc]
                kernel.commit(term=term, version=version)
                if self.checker.committed.get(kernel.accepted.version) != kernel.accepted_at:
                    raise Violation(f"{node_id} takes {kernel.accepted_at} for committed")
                self._save(node_id)
        kernel.check()

    def _save(self, node_id: str) -> None:
        kernel = self.kernels[node_id]
        self.disks[node_id] = self._store(self.disks[node_id], (kernel.term, kernel.accepted))


_NOBODY: Final = NodeInfo(id="", name="", ephemeral_id="", host="", transport_port=1, http_port=0, psql_port=0)
