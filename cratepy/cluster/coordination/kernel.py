"""The safety kernel: the only code that may touch terms, votes and the accepted state.

Six handlers, each with a guard; a guard that fails raises :class:`Rejected` and changes nothing. Nothing outside can
break the promise that there is at most one publisher per term and that committed states form one line, whatever is lost,
delayed, repeated or restarted, as long as ``term`` and ``accepted`` are durable before anything said after a change of
them is heard. Source: the coordination model of Elasticsearch 7 and CrateDB (``CoordinationState``, and its TLA+ module).

``term`` and ``accepted`` survive a restart; all other fields begin empty, which is why a restarted node counts no votes
before it has started a join of its own (``has_started_join``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from cratepy.model.state import ClusterState

replace = msgspec.structs.replace


class Rejected(Exception):
    """A message whose guard failed: late, repeated, or from a term that is over. Expected at any time."""


class Vote(msgspec.Struct, frozen=True):
    """A promise to take part in no earlier term, and how new the voter's accepted state is."""

    term: int
    last_term: int
    last_version: int


def is_quorum(votes: Collection[str], config: Iterable[str]) -> bool:
    """Whether more than half of a configuration is among the votes; never of an empty configuration."""
    members = list(config)
    return 2 * sum(1 for member in members if member in votes) > len(members)


class CoordinationState:
    """Terms, votes and the accepted state of one node."""

    def __init__(self, *, term: int, accepted: ClusterState) -> None:
        self.term = term
        self.accepted = accepted
        self.join_votes: set[str] = set()
        self.has_started_join = False
        self.has_won = False
        self.published_version = 0
        self.published_config: tuple[str, ...] = accepted.coordination.accepted_config
        self.publish_votes: set[str] = set()

    @property
    def accepted_at(self) -> tuple[int, int]:
        """Term and version of the accepted state: of two states the one with the higher pair is newer."""
        return self.accepted.coordination.term, self.accepted.version

    def is_election_quorum(self, votes: Collection[str]) -> bool:
        """Both configurations must agree while one is being replaced by the other."""
        coordination = self.accepted.coordination
        return is_quorum(votes, coordination.committed_config) and is_quorum(votes, coordination.accepted_config)

    def is_publish_quorum(self, votes: Collection[str]) -> bool:
        committed = self.accepted.coordination.committed_config
        return is_quorum(votes, committed) and is_quorum(votes, self.published_config)

    def set_initial(self, config: tuple[str, ...]) -> None:
        """Bootstrap: the first configuration, only where there has never been one."""
        coordination = self.accepted.coordination
        if coordination.accepted_config or coordination.committed_config or self.accepted.version or not config:
            raise Rejected
        initial = replace(coordination, accepted_config=config, committed_config=config)
        self.accepted = replace(self.accepted, coordination=initial)
        self.published_config = config

    def start_join(self, term: int) -> Vote:
        """Leave the current term for a newer one; the vote is given to whoever asked, and to nobody else in that term."""
        if term <= self.term:
            raise Rejected
        self.term = term
        self.has_started_join, self.has_won = True, False
        self.published_version, self.published_config = 0, self.accepted.coordination.accepted_config
        self.join_votes, self.publish_votes = set(), set()
        return Vote(term, *self.accepted_at)

    def join(self, source: str, vote: Vote) -> bool:
        """Count a vote for this node; True when it wins the election with it."""
        if vote.term != self.term or not self.has_started_join:
            raise Rejected
        if (vote.last_term, vote.last_version) > self.accepted_at:
            # The voter has accepted a newer state, which may be committed: it must not be lost.
            raise Rejected
        if not self.accepted.coordination.accepted_config:
            raise Rejected
        self.join_votes.add(source)
        had_won = self.has_won
        self.has_won = self.is_election_quorum(self.join_votes)
        if self.has_won and not had_won:
            self.published_version = self.accepted.version
        return self.has_won and not had_won

    def client_value(self, state: ClusterState) -> None:
        """Begin to publish a state this node computed from its accepted one."""
        now, new = self.accepted.coordination, state.coordination
        if not self.has_won or self.published_version != self.accepted.version:
            raise Rejected
        if new.term != self.term or state.version <= self.published_version:
            raise Rejected
        if new.accepted_config != now.accepted_config and now.committed_config != now.accepted_config:
            # One change of the voting configuration at a time.
            raise Rejected
        if not is_quorum(self.join_votes, new.accepted_config):
            raise Rejected
        assert new.committed_config == now.committed_config
        self.published_version, self.published_config = state.version, new.accepted_config
        self.publish_votes = set()

    def publish_request(self, state: ClusterState) -> None:
        """Accept a state from the master of the current term; durable before it is answered."""
        now, new = self.accepted.coordination, state.coordination
        if new.term != self.term or (new.term == now.term and state.version <= self.accepted.version):
            raise Rejected
        if now.is_cluster_uuid_committed and now.cluster_uuid != new.cluster_uuid:
            raise Rejected
        self.accepted = state

    def publish_response(self, source: str, *, term: int, version: int) -> bool:
        """A node has accepted what this one publishes; True once enough have, which commits it."""
        if not self.has_won or term != self.term or version != self.published_version:
            raise Rejected
        self.publish_votes.add(source)
        return self.is_publish_quorum(self.publish_votes)

    def commit(self, *, term: int, version: int) -> bool:
        """The accepted state is committed; True if that changed it, so that it must be persisted again."""
        now = self.accepted.coordination
        if term != self.term or (term, version) != self.accepted_at:
            raise Rejected
        committed = replace(now, committed_config=now.accepted_config, is_cluster_uuid_committed=True)
        if committed == now:
            return False
        self.accepted = replace(self.accepted, coordination=committed)
        return True

    def check(self) -> None:
        """What only a bug can break; cheap enough for every step."""
        assert self.accepted.coordination.term <= self.term
        assert not self.has_won or self.has_started_join
        assert not self.has_won or self.is_election_quorum(self.join_votes)
        if self.has_won:
            assert self.published_version >= self.accepted.version
        else:
            assert self.published_version == 0
        assert not self.publish_votes or self.has_won


def reconfigured(
    *,
    live: Collection[str],
    master_id: str,
    current: tuple[str, ...],
    retired: Collection[str] = (),
    may_shrink: bool = True,
) -> tuple[str, ...]:
    """The voting configuration these live, voting nodes should have: odd, never below three once there were three.

    The master first, then live nodes, then those already in it, then by id; kept as it is if the live ones would have no
    quorum in the new one. ``retired`` nodes leave it. Unless it ``may_shrink``, it keeps its size when nodes go (CrateDB:
    Reconfigurator, ``cluster.auto_shrink_voting_configuration``).
    """
    alive = set(live) - set(retired)
    kept = [node_id for node_id in current if node_id not in retired]
    candidates = sorted({*alive, *kept}, key=lambda n: (n != master_id, n not in alive, n not in kept, n))
    smallest = (3 if len(current) >= 3 else 1) if may_shrink else len(kept)
    size = max(len(alive) - (1 - len(alive) % 2), smallest)
    new = tuple(sorted(candidates[:size]))
    return new if is_quorum(alive, new) else current
