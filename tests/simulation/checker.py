"""What must hold at every step of a simulated cluster, whatever is broken at the time.

The checker sees every state published, every commit, every state shown to a node and every answer to a client:

1. one node publishes in a term;                      5. only committed states are applied;
2. one state exists per term and version;             6. the version applied never falls while a process lives;
3. one committed state exists per version;            7. an acknowledged command is in every later committed state;
4. each committed state descends from all before it;  8. a command that was refused is in none.
9. The voting configuration changes only when its last change is committed.

Source: the invariants of the TLA+ model of Elasticsearch 7's coordination, as far as they speak of what can be seen.
Every event goes into a digest, so that two runs of a seed can be compared bit for bit, and the last ones make the story
that a failure prints.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

from cratepy.model.state import ClusterState

At = tuple[int, int]


class Violation(AssertionError):
    """A promise was broken."""


def at(state: ClusterState) -> At:
    return state.coordination.term, state.version


class Checker:
    """Raises :class:`Violation` from whatever method sees the promise broken."""

    def __init__(self, *, story_length: int = 200) -> None:
        self.publishers: dict[int, str] = {}
        self.states: dict[At, ClusterState] = {}
        self.parents: dict[At, At] = {}
        self.committed: dict[int, At] = {}
        self.applied: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.events = 0
        self.story: deque[str] = deque(maxlen=story_length)
        self._digest = blake2b(digest_size=16)
        self._newest = 0

    def tell(self, now: float, node_id: str, what: str) -> None:
        """An event, for digest and story."""
        line = f"{now:10.4f}  {node_id:<4} {what}"
        self.events += 1
        self._digest.update(line.encode())
        self.story.append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def on_publish(self, node_id: str, state: ClusterState, base: At) -> None:
        where = at(state)
        publisher = self.publishers.setdefault(where[0], node_id)
        if publisher != node_id:
            raise Violation(f"{publisher} and {node_id} both publish in term {where[0]}")
        known = self.states.get(where)
        if known is None:
            self.states[where], self.parents[where] = state, base
            self._check_configuration(state, base)
        elif known is not state and known != state:
            raise Violation(f"two states at {where}")

    def _check_configuration(self, state: ClusterState, base: At) -> None:
        before = self.states.get(base)
        if before is None:
            return
        new, old = state.coordination, before.coordination
        if new.accepted_config != old.accepted_config and new.committed_config != old.accepted_config:
            raise Violation(f"{at(state)} changes a voting configuration whose last change is not committed")

    def on_commit(self, where: At) -> None:
        """Somebody says that the state at ``where`` is committed."""
        version = where[1]
        known = self.committed.get(version)
        if known == where:
            return
        if known is not None:
            raise Violation(f"two committed states of version {version}: {known} and {where}")
        if where not in self.states:
            raise Violation(f"{where} is committed, but nobody published it")
        self.committed[version] = where
        if version > self._newest:
            if self._newest:
                self._must_descend(where, self.committed[self._newest])
            self._newest = version
        else:
            older = [v for v in self.committed if v < version]
            if older:
                self._must_descend(where, self.committed[max(older)])
            self._must_descend(self.committed[min(v for v in self.committed if v > version)], where)
        state = self.states[where]
        resurrected = self.refused & state.settings_persistent.keys()
        if resurrected:
            raise Violation(f"{sorted(resurrected)[0]} was refused and is in committed state {where}")

    def _must_descend(self, child: At, ancestor: At) -> None:
        where = child
        while where in self.parents and where[1] > ancestor[1]:
            where = self.parents[where]
        if where != ancestor:
            raise Violation(f"committed state {ancestor} is lost: {child} does not descend from it")

    def on_apply(self, node_id: str, state: ClusterState) -> None:
        where = at(state)
        if self.committed.get(where[1]) != where:
            raise Violation(f"{node_id} applied {where}, which is not committed")
        if where[1] < self.applied.get(node_id, 0):
            raise Violation(f"{node_id} applied version {where[1]} after {self.applied[node_id]}")
        self.applied[node_id] = where[1]

    def on_acknowledged(self, command: str) -> None:
        newest = self.states[self.committed[self._newest]] if self._newest else None
        if newest is None or command not in newest.settings_persistent:
            raise Violation(f"{command} was acknowledged and is not in the newest committed state")
        self.acknowledged.add(command)

    def on_refused(self, command: str) -> None:
        for where in self.committed.values():
            if command in self.states[where].settings_persistent:
                raise Violation(f"{command} was refused and is in committed state {where}")
        self.refused.add(command)

    def at_rest(self, states: dict[str, ClusterState]) -> None:
        """All faults are over: every node has the same state, and all that was acknowledged is in it."""
        places = {node_id: at(state) for node_id, state in states.items()}
        if len(set(places.values())) != 1:
            raise Violation(f"the healed cluster does not agree: {places}")
        final = next(iter(states.values()))
        lost = sorted(self.acknowledged - final.settings_persistent.keys())
        if lost:
            raise Violation(f"{len(lost)} of {len(self.acknowledged)} acknowledged commands are lost: {lost[:5]}")
