"""Each guard of the safety kernel, one by one, and random histories of the kernel alone."""

from __future__ import annotations

import itertools
import random

import pytest

from cratepy.cluster.coordination.kernel import CoordinationState, Rejected, Vote, is_quorum, reconfigured, replace
from cratepy.model.state import ClusterState, Coordination

ABC = ("a", "b", "c")


def _state(term: int, version: int, accepted: tuple[str, ...] = ABC, committed: tuple[str, ...] = ABC) -> ClusterState:
    coordination = Coordination(term=term, accepted_config=accepted, committed_config=committed)
    return ClusterState(version=version, coordination=coordination)


def _kernel(term: int = 0, accepted: ClusterState | None = None) -> CoordinationState:
    return CoordinationState(term=term, accepted=accepted or _state(0, 1))


def _winner() -> CoordinationState:
    kernel = _kernel()
    vote = kernel.start_join(1)
    kernel.join("a", vote)
    assert kernel.join("b", Vote(1, 0, 1))
    return kernel


def test_a_quorum_is_more_than_half_and_never_of_nothing() -> None:
    assert is_quorum({"a", "b"}, ABC)
    assert not is_quorum({"a"}, ABC)
    assert not is_quorum({"a"}, ("a", "b"))
    assert not is_quorum({"a"}, ())


def test_a_term_is_entered_once() -> None:
    kernel = _kernel(term=3)
    for term in (2, 3):
        with pytest.raises(Rejected):
            kernel.start_join(term)
    assert kernel.start_join(4) == Vote(4, 0, 1)


def test_a_vote_counts_in_its_own_term_only() -> None:
    kernel = _kernel()
    kernel.start_join(2)
    for term in (1, 3):
        with pytest.raises(Rejected):
            kernel.join("b", Vote(term, 0, 1))


def test_a_restarted_node_counts_no_votes_of_the_term_it_forgot_about() -> None:
    with pytest.raises(Rejected):
        _kernel(term=2).join("b", Vote(2, 0, 1))


def test_a_voter_with_a_newer_state_is_not_counted() -> None:
    kernel = _kernel(accepted=_state(1, 5))
    kernel.start_join(2)
    for newer in ((1, 6), (2, 1)):
        with pytest.raises(Rejected):
            kernel.join("b", Vote(2, *newer))
    kernel.join("b", Vote(2, 1, 5))


def test_nobody_wins_where_there_is_no_configuration() -> None:
    kernel = _kernel(accepted=ClusterState())
    vote = kernel.start_join(1)
    with pytest.raises(Rejected):
        kernel.join("a", vote)


def test_an_election_needs_both_configurations() -> None:
    kernel = _kernel(accepted=_state(0, 1, accepted=("a",), committed=ABC))
    vote = kernel.start_join(1)
    assert not kernel.join("a", vote)
    assert kernel.join("b", Vote(1, 0, 1))


def test_only_the_winner_publishes_and_only_from_its_accepted_state() -> None:
    with pytest.raises(Rejected):
        _kernel().client_value(_state(0, 2))
    kernel = _winner()
    with pytest.raises(Rejected):
        kernel.client_value(_state(2, 2))
    with pytest.raises(Rejected):
        kernel.client_value(_state(1, 1))
    kernel.client_value(_state(1, 2))
    with pytest.raises(Rejected):
        kernel.client_value(_state(1, 3))


def test_a_configuration_without_a_quorum_of_votes_is_not_published() -> None:
    with pytest.raises(Rejected):
        _winner().client_value(_state(1, 2, accepted=("c", "d", "e")))


def test_a_second_change_of_the_configuration_waits_for_the_first() -> None:
    kernel = _kernel(accepted=_state(0, 1, accepted=("a", "b"), committed=ABC))
    kernel.join("a", kernel.start_join(1))
    kernel.join("b", Vote(1, 0, 1))
    with pytest.raises(Rejected):
        kernel.client_value(_state(1, 2, accepted=("a",), committed=ABC))


def test_a_state_of_another_term_or_an_older_version_is_not_accepted() -> None:
    kernel = _kernel(term=2, accepted=_state(2, 5))
    for term, version in ((1, 9), (3, 9), (2, 5), (2, 4)):
        with pytest.raises(Rejected):
            kernel.publish_request(_state(term, version))
    kernel.publish_request(_state(2, 6))


def test_a_state_of_another_cluster_is_not_accepted() -> None:
    mine = replace(Coordination(term=1), cluster_uuid="mine", is_cluster_uuid_committed=True)
    kernel = _kernel(term=1, accepted=ClusterState(version=1, coordination=mine))
    with pytest.raises(Rejected):
        kernel.publish_request(ClusterState(version=2, coordination=replace(mine, cluster_uuid="other")))


def test_a_commit_needs_a_majority_of_both_configurations() -> None:
    kernel = _winner()
    kernel.client_value(_state(1, 2, accepted=("a",)))
    assert not kernel.publish_response("a", term=1, version=2)
    with pytest.raises(Rejected):
        kernel.publish_response("b", term=1, version=3)
    assert kernel.publish_response("b", term=1, version=2)


def test_only_the_accepted_state_is_committed() -> None:
    kernel = _kernel(term=1, accepted=_state(1, 2, accepted=("a",)))
    for term, version in ((1, 3), (1, 1), (0, 2)):
        with pytest.raises(Rejected):
            kernel.commit(term=term, version=version)
    assert kernel.commit(term=1, version=2)
    assert kernel.accepted.coordination.committed_config == ("a",)
    assert not kernel.commit(term=1, version=2)


def test_bootstrap_happens_once() -> None:
    kernel = _kernel(accepted=ClusterState())
    kernel.set_initial(ABC)
    with pytest.raises(Rejected):
        kernel.set_initial(ABC)


@pytest.mark.parametrize(
    ("live", "current", "wanted"),
    [
        ("a", "a", "a"),
        ("ab", "a", "a"),
        ("abc", "a", "abc"),
        ("abcd", "abc", "abc"),
        ("abcde", "abc", "abcde"),
        ("ab", "abc", "abc"),
        ("abc", "abcde", "abc"),
        ("ad", "abc", "abd"),
        ("de", "abc", "abd"),
    ],
)
def test_the_voting_configuration_is_odd_and_never_shrinks_below_three(live: str, current: str, wanted: str) -> None:
    found = reconfigured(live=set(live), master_id=live[0], current=tuple(current))
    assert found == tuple(wanted) or (live == "de" and set(live) <= set(found))


def test_random_histories_have_one_publisher_per_term_and_one_line_of_commits() -> None:
    """Any message may arrive at any time, any number of times; nodes restart; configurations change at will."""
    for seed in range(40):
        _explore(seed, steps=1200)


def _explore(seed: int, *, steps: int) -> None:
    chance = random.Random(seed)
    ids = [f"n{i}" for i in range(chance.choice([3, 4, 5]))]
    config = tuple(sorted(chance.sample(ids, chance.randint(1, len(ids)))))
    first = _state(0, 1, config, config)
    disks = dict.fromkeys(ids, (0, first))
    kernels = {n: CoordinationState(term=0, accepted=first) for n in ids}
    parents = {(0, 1): (0, 0)}
    publishers: dict[int, str] = {}
    committed: dict[int, tuple[int, int]] = {}
    messages: list[tuple[str, str, str, object]] = []
    next_term = 1
    for _ in range(steps):
        dice = chance.random()
        try:
            if dice < 0.03 and next_term < 8:
                candidate = chance.choice(ids)
                messages += [("start_join", candidate, n, next_term) for n in ids]
                next_term += 1
            elif dice < 0.035:
                n = chance.choice(ids)
                kernels[n] = CoordinationState(term=disks[n][0], accepted=disks[n][1])
            elif dice < 0.1:
                winners = [n for n in ids if kernels[n].has_won]
                if winners:
                    _publish(chance, chance.choice(winners), kernels, ids, parents, publishers, messages)
            elif messages:
                recent = chance.random() < 0.4
                message = (
                    messages[-chance.randrange(1, min(12, len(messages)) + 1)] if recent else chance.choice(messages)
                )
                _deliver(message, kernels, ids, messages, committed, parents)
                disks[message[2]] = (kernels[message[2]].term, kernels[message[2]].accepted)
        except Rejected:
            pass
        for kernel in kernels.values():
            kernel.check()


def _publish(chance, n, kernels, ids, parents, publishers, messages) -> None:  # type: ignore[no-untyped-def]
    kernel = kernels[n]
    now = kernel.accepted.coordination
    config = now.accepted_config
    if chance.random() < 0.4:
        config = tuple(sorted(chance.sample(ids, chance.randint(1, len(ids)))))
    coordination = replace(now, term=kernel.term, accepted_config=config, cluster_uuid="u")
    state = replace(kernel.accepted, version=kernel.accepted.version + 1, master_id=n, coordination=coordination)
    base = kernel.accepted_at
    kernel.client_value(state)
    assert publishers.setdefault(kernel.term, n) == n
    assert parents.setdefault((kernel.term, state.version), base) == base
    messages += [("publish", n, target, state) for target in ids]


def _deliver(message, kernels, ids, messages, committed, parents) -> None:  # type: ignore[no-untyped-def]
    kind, source, target, body = message
    kernel = kernels[target]
    if kind == "start_join":
        messages.append(("join", target, source, kernel.start_join(body)))
    elif kind == "join":
        kernel.join(source, body)
    elif kind == "publish":
        kernel.publish_request(body)
        messages.append(("published", target, source, (body.coordination.term, body.version)))
    elif kind == "published":
        if kernel.publish_response(source, term=body[0], version=body[1]):
            assert committed.setdefault(body[1], body) == body
            _check_line(committed, parents)
            messages += [("commit", target, n, body) for n in ids]
    else:
        kernel.commit(term=body[0], version=body[1])


def _check_line(committed, parents) -> None:  # type: ignore[no-untyped-def]
    versions = sorted(committed)
    for older, newer in itertools.pairwise(versions):
        at = committed[newer]
        while at[1] > older:
            at = parents[at]
        assert at == committed[older]
