"""Deliberate mistakes in coordination, each of which the explorers must find.

A mutant is one rule taken out of the product's code, for as long as its context lasts, in the process that runs it. What
finds it is the kernel explorer, the cluster simulation, or both; a mutant that nothing finds would mean that the rule is
not needed or that the explorers are blind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from cratepy.cluster.coordination import coordinator as coordinator_module
from cratepy.cluster.coordination import kernel as kernel_module
from cratepy.cluster.coordination.kernel import CoordinationState, Rejected, Vote, is_quorum, replace
from cratepy.cluster.coordination.leadership import Leadership
from cratepy.cluster.coordination.messages import Answered, Apply, Refused
from cratepy.model.state import ClusterState

Disk = tuple[int, ClusterState]
Store = Callable[[Disk, Disk], Disk]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``change`` is entered around the whole run; ``store`` replaces what a write leaves on disk."""

    name: str
    what: str
    change: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    store: Store = lambda old, new: new
    #: Kernel explorer, cluster simulation: which one is asked to find it.
    explorers: tuple[str, ...] = ("kernel", "cluster")


def _kernel(name: str, method: Any) -> Callable[[], Any]:
    return lambda: patch.object(CoordinationState, name, method)


# --- joins -----------------------------------------------------------------------------------------------------------


def _join(self: CoordinationState, source: str, vote: Vote, *, term: bool, reboot: bool, fresh: str) -> bool:
    if (term and vote.term != self.term) or (reboot and not self.has_started_join):
        raise Rejected
    mine, theirs = self.accepted_at, (vote.last_term, vote.last_version)
    if (fresh == "both" and theirs > mine) or (fresh == "version" and theirs[1] > mine[1]):
        raise Rejected
    if not self.accepted.coordination.accepted_config:
        raise Rejected
    self.has_started_join = True
    self.join_votes.add(source)
    had_won = self.has_won
    self.has_won = self.is_election_quorum(self.join_votes)
    if self.has_won and not had_won:
        self.published_version = self.accepted.version
    return self.has_won and not had_won


def _joins_without(*, term: bool = True, reboot: bool = True, fresh: str = "both") -> Callable[[], Any]:
    def join(self: CoordinationState, source: str, vote: Vote) -> bool:
        return _join(self, source, vote, term=term, reboot=reboot, fresh=fresh)

    return _kernel("join", join)


def _start_join(self: CoordinationState, term: int, *, again: bool = False, keeps_votes: bool = False) -> Vote:
    if term < self.term or (term == self.term and not again):
        raise Rejected
    votes = self.join_votes if keeps_votes else set()
    self.term = term
    self.has_started_join, self.has_won = True, False
    self.published_version, self.published_config = 0, self.accepted.coordination.accepted_config
    self.join_votes, self.publish_votes = votes, set()
    return Vote(term, *self.accepted_at)


# --- publications ----------------------------------------------------------------------------------------------------


def _client_value(
    self: CoordinationState,
    state: ClusterState,
    *,
    one_at_a_time: bool = True,
    pending: bool = True,
    join_quorum: bool = True,
    clears_votes: bool = True,
    version: bool = True,
) -> None:
    now, new = self.accepted.coordination, state.coordination
    if not self.has_won or (one_at_a_time and self.published_version != self.accepted.version):
        raise Rejected
    if new.term != self.term or (version and state.version <= self.published_version):
        raise Rejected
    if pending and new.accepted_config != now.accepted_config and now.committed_config != now.accepted_config:
        raise Rejected
    if join_quorum and not is_quorum(self.join_votes, new.accepted_config):
        raise Rejected
    self.published_version, self.published_config = state.version, new.accepted_config
    if clears_votes:
        self.publish_votes = set()


def _values_without(**rules: bool) -> Callable[[], Any]:
    def client_value(self: CoordinationState, state: ClusterState) -> None:
        _client_value(self, state, **rules)

    return _kernel("client_value", client_value)


def _accept_any_term(self: CoordinationState, state: ClusterState) -> None:
    if (state.coordination.term, state.version) <= self.accepted_at or state.coordination.term > self.term:
        raise Rejected
    self.accepted = state


def _accept_any_version(self: CoordinationState, state: ClusterState) -> None:
    if state.coordination.term != self.term:
        raise Rejected
    self.accepted = state


def _count_any_response(self: CoordinationState, source: str, *, term: int, version: int) -> bool:
    if not self.has_won or term != self.term:
        raise Rejected
    self.publish_votes.add(source)
    return self.is_publish_quorum(self.publish_votes)


def _commit_anything(self: CoordinationState, *, term: int, version: int) -> bool:
    now = self.accepted.coordination
    committed = replace(now, committed_config=now.accepted_config, is_cluster_uuid_committed=True)
    self.accepted = replace(self.accepted, coordination=committed)
    return committed != now


def _half_is_enough(votes: Any, config: Any) -> bool:
    members = list(config)
    return bool(members) and 2 * sum(1 for member in members if member in votes) >= len(members)


@contextlib.contextmanager
def _half_quorum() -> Iterator[None]:
    with (
        patch.object(kernel_module, "is_quorum", _half_is_enough),
        # The kernel's own check would only say that it knows better.
        patch.object(CoordinationState, "check", lambda self: None),
    ):
        yield


@contextlib.contextmanager
def _one_config() -> Iterator[None]:
    def election(self: CoordinationState, votes: Any) -> bool:
        return is_quorum(votes, self.accepted.coordination.accepted_config)

    def publication(self: CoordinationState, votes: Any) -> bool:
        return is_quorum(votes, self.published_config)

    with (
        patch.object(CoordinationState, "is_election_quorum", election),
        patch.object(CoordinationState, "is_publish_quorum", publication),
    ):
        yield


# --- the coordinator -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _early_acknowledgement() -> Iterator[None]:
    original = Leadership._publish

    def publish(self: Leadership, base: ClusterState, state: ClusterState, answers: Any) -> None:
        original(self, base, state, [])
        for ticket, error in answers:
            self._outbox.add(Answered(ticket, state.version, error))

    with patch.object(Leadership, "_publish", publish):
        yield


@contextlib.contextmanager
def _lost_is_refused() -> Iterator[None]:
    def lose(self: Leadership, answers: Any) -> None:
        for ticket, _ in answers:
            self._outbox.add(Refused(ticket))

    with patch.object(Leadership, "_lose", lose):
        yield


@contextlib.contextmanager
def _applies_before_the_commit() -> Iterator[None]:
    original = coordinator_module.Coordinator._on_publish

    def on_publish(self: Any, source: str, state: ClusterState) -> None:
        original(self, source, state)
        if self.kernel.accepted is state:
            self._outbox.add(Apply(state))

    with patch.object(coordinator_module.Coordinator, "_on_publish", on_publish):
        yield


@contextlib.contextmanager
def _answers_before_the_disk() -> Iterator[None]:
    """The effects of a step in another order: what must be durable comes last."""
    original = coordinator_module.Outbox.take

    def take(self: Any) -> Any:
        effects = original(self)
        return sorted(effects, key=lambda effect: type(effect).__name__ == "Persist")

    with patch.object(coordinator_module.Outbox, "take", take):
        yield


def _forgets_terms(old: Disk, new: Disk) -> Disk:
    return max(old[0], new[1].coordination.term), new[1]


def _forgets_states(old: Disk, new: Disk) -> Disk:
    # Deterministic and often enough: every third version is not written.
    return (new[0], old[1]) if new[1].version % 3 == 0 else new


def _forgets_commits(old: Disk, new: Disk) -> Disk:
    """A state that is on the disk already is not written again, although its configuration is committed now."""
    is_same = (old[1].coordination.term, old[1].version) == (new[1].coordination.term, new[1].version)
    return (new[0], old[1]) if is_same else new


MUTANTS: tuple[Mutant, ...] = (
    Mutant("vote_not_durable", "a vote is given before the term is on disk", store=_forgets_terms),
    Mutant("accept_not_durable", "a state is accepted before it is on disk", store=_forgets_states),
    Mutant("no_freshness", "votes of nodes with a newer state count", _joins_without(fresh="none")),
    Mutant("no_reboot_guard", "a restarted node counts votes of a term it forgot", _joins_without(reboot=False), explorers=("kernel",)),
    Mutant("one_config", "the new voting configuration alone decides", _one_config),
    Mutant("reconf_pending", "a second change of the configuration before the first is committed", _values_without(pending=False)),
    Mutant("no_join_quorum", "a configuration whose nodes have not voted", _values_without(join_quorum=False)),
    Mutant("ack_early", "a command is answered before its state is committed", _early_acknowledgement, explorers=("cluster",)),
    Mutant("freshness_by_version", "the term of a voter's state is not compared", _joins_without(fresh="version")),
    Mutant("votes_of_any_term", "votes of other terms count", _joins_without(term=False)),
    Mutant("term_entered_twice", "two votes in one term", _kernel("start_join", lambda self, term: _start_join(self, term, again=True))),
    Mutant("votes_survive_the_term", "votes of the term before count", _kernel("start_join", lambda self, term: _start_join(self, term, keeps_votes=True))),
    Mutant("half_quorum", "half of the voters is enough", _half_quorum),
    Mutant("two_publications", "a state is published before the last one is accepted", _values_without(one_at_a_time=False), explorers=("kernel",)),
    Mutant("publish_votes_survive", "acceptances of the state before count", _values_without(clears_votes=False)),
    Mutant("version_used_twice", "two states of one version in a term", _values_without(version=False, one_at_a_time=False), explorers=("kernel",)),
    Mutant("any_response", "acceptances of other states count", _kernel("publish_response", _count_any_response)),
    Mutant("any_publisher", "a state of a term that is over is accepted", _kernel("publish_request", _accept_any_term)),
    Mutant("older_version", "an older state of the term is accepted", _kernel("publish_request", _accept_any_version)),
    Mutant("commit_of_another", "whatever was accepted last is taken for committed", _kernel("commit", _commit_anything)),
    Mutant("lost_is_refused", "an unknown outcome is called a refusal", _lost_is_refused, explorers=("cluster",)),
    Mutant("applied_early", "a node shows a state that is not committed", _applies_before_the_commit, explorers=("cluster",)),
    Mutant("sent_before_disk", "messages leave before what they promise is durable", _answers_before_the_disk, explorers=("cluster",)),
)  # fmt: skip
