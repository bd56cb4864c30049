"""Whole clusters of cores under faults (safety), then healed (liveness). A failure names its seed; the seed repeats it."""

from __future__ import annotations

import hashlib

import pytest

from cratepy.model.state import ClusterState
from tests.cluster.coordination.simulated_cluster import SimulatedCluster

FAULTY_S = 40.0


def _disturb(cluster: SimulatedCluster) -> None:
    """One random fault, and the next one later."""
    if cluster.now >= FAULTY_S:
        return
    chance, ids = cluster.random, cluster.ids
    fault = chance.randrange(9)
    if fault == 0:
        side = set(chance.sample(ids, chance.randrange(1, len(ids))))
        cluster.cut = {(a, b) for a in ids for b in ids if (a in side) != (b in side)}
    elif fault == 1:
        cluster.cut |= {(chance.choice(ids), b) for b in ids if chance.random() < 0.7}
    elif fault == 2:
        for leader in cluster.leaders:
            cluster.cut |= {(leader, b) for b in ids} | {(b, leader) for b in ids}
    elif fault in (3, 4):
        node_id = chance.choice(ids)
        cluster.crash(node_id, is_noticed=chance.random() < 0.7)
        cluster.schedule(chance.uniform(0, 4), cluster.start, node_id)
    elif fault == 5:
        for node_id in ids:
            cluster.crash(node_id, is_noticed=True)
            cluster.schedule(chance.uniform(0, 2), cluster.start, node_id)
    elif fault == 6:
        cluster.loss, cluster.repeat = chance.choice([0, 0.02, 0.2]), chance.choice([0, 0.05])
        cluster.delay_s = chance.choice([(0.0005, 0.003), (0.001, 0.01), (0.01, 0.3)])
    else:
        cluster.heal()
    cluster.schedule(chance.expovariate(1 / 2), _disturb, cluster)


def _work(cluster: SimulatedCluster) -> None:
    cluster.submit(cluster.random.choice(cluster.ids))
    if cluster.now < FAULTY_S:
        cluster.schedule(cluster.random.expovariate(3), _work, cluster)


def _explore(seed: int, nodes: int) -> SimulatedCluster:
    cluster = SimulatedCluster(seed=seed, nodes=nodes)
    for node_id in cluster.ids:
        cluster.start(node_id, bootstrap=True)
    cluster.schedule(2, _disturb, cluster)
    cluster.schedule(1, _work, cluster)
    cluster.run(FAULTY_S + 5)
    cluster.heal()
    cluster.run(FAULTY_S + 40)
    return cluster


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("nodes", [3, 5])
def test_nothing_acknowledged_is_lost_and_a_healed_cluster_goes_on(seed: int, nodes: int) -> None:
    cluster = _explore(seed, nodes)
    assert len(cluster.leaders) == 1
    leader = cluster.leaders[0]
    assert sorted(cluster.accepted(leader).nodes) == cluster.ids
    assert len({cluster.nodes[n].core.kernel.accepted_at for n in cluster.ids}) == 1
    done = cluster.accepted(leader).settings_transient
    lost = [t for t, answer in cluster.answers.items() if answer == "ok" and f"done.{t}" not in done]
    assert not lost
    undone = [t for t, answer in cluster.answers.items() if answer == "refused" and f"done.{t}" in done]
    assert not undone
    ticket = cluster.submit(leader)
    cluster.run(cluster.now + 5)
    assert cluster.answers[ticket] == "ok"


def test_the_same_seed_gives_the_same_history() -> None:
    def digest(cluster: SimulatedCluster) -> str:
        text = repr((cluster.messages, cluster.crashes, cluster.answers, cluster.checker.committed))
        return hashlib.sha256(text.encode()).hexdigest()

    assert digest(_explore(77, 3)) == digest(_explore(77, 3))
    assert digest(_explore(77, 3)) != digest(_explore(78, 3))


def test_a_dead_master_is_replaced_within_half_a_second_when_its_connections_break() -> None:
    for seed in range(20):
        cluster = SimulatedCluster(seed=seed, nodes=3).formed()
        old = cluster.leaders[0]
        cluster.crash(old, is_noticed=True)
        cluster.run(cluster.now + 0.5)
        assert len(cluster.leaders) == 1, seed
        assert old not in cluster.accepted(cluster.leaders[0]).nodes


def test_a_silent_master_is_replaced_within_five_seconds() -> None:
    cluster = SimulatedCluster(seed=3, nodes=3).formed()
    old = cluster.leaders[0]
    cluster.cut = {(old, b) for b in cluster.ids} | {(b, old) for b in cluster.ids}
    cluster.run(cluster.now + 5)
    new = [n for n in cluster.leaders if n != old]
    assert len(new) == 1
    ticket = cluster.submit(new[0])
    cluster.run(cluster.now + 1)
    assert cluster.answers[ticket] == "ok"


def test_a_master_without_its_majority_acknowledges_nothing() -> None:
    cluster = SimulatedCluster(seed=4, nodes=3).formed()
    old = cluster.leaders[0]
    cluster.cut = {(old, b) for b in cluster.ids} | {(b, old) for b in cluster.ids}
    ticket = cluster.submit(old)
    cluster.run(cluster.now + 10)
    assert cluster.answers[ticket] == "unknown"
    assert old not in cluster.leaders


def test_a_silent_follower_delays_one_publication_by_the_grace_only() -> None:
    cluster = SimulatedCluster(seed=5, nodes=3).formed()
    leader = cluster.leaders[0]
    silent = next(n for n in cluster.ids if n != leader)
    cluster.cut = {(silent, b) for b in cluster.ids} | {(b, silent) for b in cluster.ids}
    first = cluster.submit(leader)
    cluster.run(cluster.now + cluster.settings.apply_grace_s + 0.1)
    assert cluster.answers[first] == "ok"
    second = cluster.submit(leader)
    cluster.run(cluster.now + 0.1)
    assert cluster.answers[second] == "ok"
    cluster.run(cluster.now + 5)
    assert silent not in cluster.accepted(leader).nodes


def test_a_follower_with_a_slow_disk_learns_late_that_its_state_is_committed() -> None:
    for seed in range(20):
        cluster = SimulatedCluster(seed=seed, nodes=3).formed()
        leader = cluster.leaders[0]
        slow = next(n for n in cluster.ids if n != leader)
        cluster.write_s[slow] = 2.0
        ticket = cluster.submit(leader)
        cluster.run(cluster.now + 4)
        assert cluster.answers[ticket] == "ok"
        assert cluster.checker.applied[slow] == cluster.checker.applied[leader], seed


def test_a_cluster_that_was_never_bootstrapped_elects_nobody() -> None:
    cluster = SimulatedCluster(seed=6, nodes=3)
    for node_id in cluster.ids:
        cluster.start(node_id)
    cluster.run(30)
    assert cluster.leaders == []
    assert cluster.elections == 0


def test_two_of_three_voters_keep_a_configuration_of_three() -> None:
    cluster = SimulatedCluster(seed=7, nodes=3).formed()
    gone = next(n for n in cluster.ids if n not in cluster.leaders)
    cluster.crash(gone, is_noticed=True)
    cluster.run(cluster.now + 2)
    state: ClusterState = cluster.accepted(cluster.leaders[0])
    assert sorted(state.nodes) == [n for n in cluster.ids if n != gone]
    assert state.coordination.committed_config == tuple(cluster.ids)


def test_one_of_three_is_no_majority() -> None:
    cluster = SimulatedCluster(seed=8, nodes=3).formed()
    alone = cluster.ids[0]
    for node_id in cluster.ids[1:]:
        cluster.crash(node_id, is_noticed=True)
    ticket = cluster.submit(alone)
    cluster.run(cluster.now + 10)
    assert cluster.leaders == []
    assert cluster.answers[ticket] in ("refused", "unknown")


def test_five_nodes_of_which_two_left_shrink_to_three_voters() -> None:
    cluster = SimulatedCluster(seed=9, nodes=5).formed()
    gone = [n for n in cluster.ids if n not in cluster.leaders][:2]
    for node_id in gone:
        cluster.crash(node_id, is_noticed=True)
        cluster.run(cluster.now + 2)
    config = cluster.accepted(cluster.leaders[0]).coordination.committed_config
    assert len(config) == 3
    assert not set(config) & set(gone)
