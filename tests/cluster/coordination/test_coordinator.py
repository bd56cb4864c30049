"""What a cluster of cores does in single situations. Random faults, and all that must hold under them: tests/simulation."""

from __future__ import annotations

from cratepy.cluster.coordination.kernel import reconfigured
from cratepy.cluster.coordination.messages import HealthChanged, StepDown
from cratepy.limits import STARTED_SHARDS_GATHER_S
from cratepy.model.commands import Command, CreateTable, ShardsStarted, StartedCopy
from cratepy.model.state import ClusterState
from tests.cluster.states import definition
from tests.simulation.cluster import SimulatedCluster


def _formed(seed: int, nodes: int) -> SimulatedCluster:
    return SimulatedCluster(seed=seed, nodes=nodes).formed()


def _isolate(cluster: SimulatedCluster, node_id: str) -> None:
    cluster.network.separate([node_id], cluster.ids)


def test_a_dead_master_is_replaced_within_half_a_second_when_its_connections_break() -> None:
    """In simulated time; a message that takes two seconds (one of a hundred does) costs another attempt."""
    slow = 0
    for seed in range(40):
        cluster = _formed(seed, 3)
        old = cluster.leaders[0]
        cluster.crash(old, is_noticed=True)
        cluster.run_for(0.5)
        slow += not cluster.leaders
        cluster.run_for(0.5)
        assert len(cluster.leaders) == 1, seed
        assert old not in cluster.accepted(cluster.leaders[0]).nodes
    assert slow <= 4


def test_votes_that_are_split_are_cast_again_without_waiting_for_the_end_of_the_attempt() -> None:
    """In simulated time, with disks that take 40 ms: of 120 elections 8 took 0.6 s and more before, now all end in 0.4 s."""
    for seed in range(60):
        cluster = _formed(seed, 3)
        for node_id in cluster.ids:
            cluster.write_s[node_id] = 0.04
        cluster.crash(cluster.leaders[0], is_noticed=True)
        cluster.run_for(0.4)
        assert len(cluster.leaders) == 1, seed


def test_a_silent_master_is_replaced_within_five_seconds() -> None:
    cluster = _formed(3, 3)
    old = cluster.leaders[0]
    _isolate(cluster, old)
    cluster.run_for(5)
    new = [n for n in cluster.leaders if n != old]
    assert len(new) == 1
    ticket = cluster.submit(new[0])
    cluster.run_for(1)
    assert cluster.answers[ticket] == "ok"


def test_a_master_without_its_majority_acknowledges_nothing() -> None:
    cluster = _formed(4, 3)
    old = cluster.leaders[0]
    _isolate(cluster, old)
    ticket = cluster.submit(old)
    cluster.run_for(10)
    assert cluster.answers[ticket] == "unknown"
    assert old not in cluster.leaders


def test_a_silent_follower_delays_one_publication_by_the_grace_only() -> None:
    cluster = _formed(5, 3)
    leader = cluster.leaders[0]
    silent = next(n for n in cluster.ids if n != leader)
    _isolate(cluster, silent)
    first = cluster.submit(leader)
    cluster.run_for(cluster.settings.apply_grace_s + 0.1)
    assert cluster.answers[first] == "ok"
    second = cluster.submit(leader)
    cluster.run_for(0.1)
    assert cluster.answers[second] == "ok"
    cluster.run_for(5)
    assert silent not in cluster.accepted(leader).nodes


def test_a_follower_with_a_slow_disk_learns_late_that_its_state_is_committed() -> None:
    for seed in range(20):
        cluster = _formed(seed, 3)
        leader = cluster.leaders[0]
        slow = next(n for n in cluster.ids if n != leader)
        cluster.write_s[slow] = 2.0
        ticket = cluster.submit(leader)
        cluster.run_for(4)
        assert cluster.answers[ticket] == "ok"
        assert cluster.checker.applied[slow] == cluster.checker.applied[leader], seed


def test_a_cluster_that_was_never_bootstrapped_elects_nobody() -> None:
    cluster = SimulatedCluster(seed=6, nodes=3)
    for node_id in cluster.ids:
        cluster.start(node_id)
    cluster.run_for(30)
    assert cluster.leaders == []
    assert cluster.elections == 0


def test_two_of_three_voters_keep_a_configuration_of_three() -> None:
    cluster = _formed(7, 3)
    gone = next(n for n in cluster.ids if n not in cluster.leaders)
    cluster.crash(gone, is_noticed=True)
    cluster.run_for(2)
    state: ClusterState = cluster.accepted(cluster.leaders[0])
    assert sorted(state.nodes) == [n for n in cluster.ids if n != gone]
    assert state.coordination.committed_config == tuple(cluster.ids)


def test_one_of_three_is_no_majority() -> None:
    cluster = _formed(8, 3)
    alone = cluster.ids[0]
    for node_id in cluster.ids[1:]:
        cluster.crash(node_id, is_noticed=True)
    ticket = cluster.submit(alone)
    cluster.run_for(10)
    assert cluster.leaders == []
    assert cluster.answers[ticket] in ("refused", "unknown")


def test_five_nodes_of_which_two_left_shrink_to_three_voters() -> None:
    cluster = _formed(9, 5)
    gone = [n for n in cluster.ids if n not in cluster.leaders][:2]
    for node_id in gone:
        cluster.crash(node_id, is_noticed=True)
        cluster.run_for(2)
    config = cluster.accepted(cluster.leaders[0]).coordination.committed_config
    assert len(config) == 3
    assert not set(config) & set(gone)


def test_a_master_asked_to_step_down_hands_over_within_a_tenth_of_a_second() -> None:
    for seed in range(20):
        cluster = _formed(seed, 3)
        old = cluster.leaders[0]
        heir = next(n for n in reversed(cluster.ids) if n != old)
        cluster.post(old, StepDown(heir if seed % 2 else None))
        cluster.run_for(0.1)
        if seed % 2:
            assert cluster.leaders == [heir] or not cluster.leaders, seed
        cluster.run_for(1)
        assert len(cluster.leaders) == 1
        assert cluster.leaders != [old] or seed == 0
        assert sorted(cluster.accepted(cluster.leaders[0]).nodes) == cluster.ids


def test_a_node_without_a_vote_can_be_made_master_and_gets_one() -> None:
    """Of four nodes three have votes; the fourth, as heir, gave up the moment it had won."""
    for seed in range(10):
        cluster = _formed(seed, 4)
        cluster.run_for(3)
        old = cluster.leaders[0]
        config = cluster.accepted(old).coordination.committed_config
        heir = next(n for n in cluster.ids if n not in config)
        cluster.post(old, StepDown(heir))
        cluster.run_for(1)
        assert cluster.leaders == [heir], seed
        assert heir in cluster.accepted(heir).coordination.committed_config
        ticket = cluster.submit(heir)
        cluster.run_for(1)
        assert cluster.answers[ticket] == "ok"


def test_stepping_down_loses_no_command_that_waits() -> None:
    cluster = _formed(1, 3)
    leader = cluster.leaders[0]
    first = cluster.submit(leader)
    cluster.post(leader, StepDown())
    second = cluster.submit(leader)
    cluster.run_for(3)
    assert cluster.answers[first] == "ok"
    assert cluster.answers[second] == "refused"


def test_a_lone_master_that_steps_down_is_elected_again() -> None:
    cluster = _formed(2, 1)
    cluster.post("n0", StepDown())
    cluster.run_for(2)
    assert cluster.leaders == ["n0"]


def test_a_master_whose_disk_fails_its_probe_hands_over_and_stays_out_until_it_is_well() -> None:
    cluster = _formed(3, 3)
    sick = cluster.leaders[0]
    cluster.post(sick, HealthChanged("the disk is slow"))
    cluster.run_for(5)
    assert len(cluster.leaders) == 1
    assert cluster.leaders != [sick]
    assert sick not in cluster.accepted(cluster.leaders[0]).nodes
    cluster.post(sick, HealthChanged(None))
    cluster.run_for(3)
    assert sorted(cluster.accepted(cluster.leaders[0]).nodes) == cluster.ids


def test_nobody_is_elected_while_every_disk_is_bad() -> None:
    cluster = _formed(4, 3)
    for node_id in cluster.ids:
        cluster.post(node_id, HealthChanged("no space"))
    cluster.run_for(5)
    assert cluster.leaders == []
    for node_id in cluster.ids:
        cluster.post(node_id, HealthChanged(None))
    cluster.run_for(5)
    assert len(cluster.leaders) == 1


def test_a_retired_master_leaves_the_configuration_and_hands_over() -> None:
    cluster = _formed(5, 5)
    old = cluster.leaders[0]
    cluster.retire(old)
    cluster.run_for(3)
    assert len(cluster.leaders) == 1
    assert cluster.leaders != [old]
    state = cluster.accepted(cluster.leaders[0])
    assert old not in state.coordination.committed_config
    assert len(state.coordination.committed_config) == 3


def test_a_configuration_without_the_master_is_committed_before_it_hands_over() -> None:
    """The only voter is retired in favour of a node that has not accepted the change when the master starts anew."""
    cluster = _formed(6, 3)
    old = cluster.leaders[0]
    cluster.retire(*(n for n in cluster.ids if n != old))
    cluster.run_for(2)
    assert cluster.accepted(old).coordination.committed_config == (old,)
    cluster.network.separate([old], cluster.ids)
    cluster.retire(old)
    cluster.run_for(0.1)
    cluster.crash(old, is_noticed=True)
    cluster.heal()
    cluster.run_for(10)
    assert len(cluster.leaders) == 1


def test_without_shrinking_the_configuration_keeps_its_size() -> None:
    assert reconfigured(live="abc", master_id="a", current=tuple("abcde"), may_shrink=False) == tuple("abcde")
    assert reconfigured(live="abf", master_id="a", current=tuple("abc"), may_shrink=False) == tuple("abf")
    assert reconfigured(live="abcde", master_id="a", current=tuple("abc"), may_shrink=False) == tuple("abcde")


def test_retired_nodes_vote_no_more_but_a_quorum_stays() -> None:
    assert reconfigured(live="abc", master_id="a", current=tuple("abc"), retired="c") == tuple("ab")
    assert reconfigured(live="abcd", master_id="a", current=tuple("abc"), retired="c") == tuple("abd")


def _ask(cluster: SimulatedCluster, command: Command) -> None:
    cluster.command(cluster.leaders[0], command)


def _created(seed: int) -> tuple[SimulatedCluster, list[StartedCopy]]:
    """A cluster with a table of four shards on three nodes that are about to start."""
    cluster = _formed(seed, 3)
    leader = cluster.leaders[0]
    _ask(cluster, CreateTable(definition=definition(shards=4)))
    cluster.run_for(1)
    routing = cluster.accepted(leader).tables["uuid-t"].routing
    assert {copy.state for shard in routing for copy in shard.copies} == {"initializing"}
    return cluster, [
        StartedCopy(
            table_uuid="uuid-t",
            shard=shard.shard,
            allocation_id=shard.copies[0].allocation_id,
            primary_term=shard.primary_term,
        )
        for shard in routing
    ]


def _is_started(cluster: SimulatedCluster) -> list[bool]:
    return [shard.primary is not None for shard in cluster.accepted(cluster.leaders[0]).tables["uuid-t"].routing]


def test_the_shards_of_a_new_table_that_start_together_are_one_publication() -> None:
    cluster, copies = _created(11)
    version = cluster.accepted(cluster.leaders[0]).version
    for copy in copies:
        assert not any(_is_started(cluster))
        _ask(cluster, ShardsStarted((copy,)))
    cluster.run_for(1)
    assert all(_is_started(cluster))
    assert cluster.accepted(cluster.leaders[0]).version == version + 1


def test_a_started_shard_waits_for_the_others_of_its_table_for_milliseconds_only() -> None:
    cluster, copies = _created(12)
    _ask(cluster, ShardsStarted(tuple(copies[:1])))
    cluster.run_for(STARTED_SHARDS_GATHER_S / 2)
    assert not any(_is_started(cluster))
    cluster.run_for(STARTED_SHARDS_GATHER_S)
    assert _is_started(cluster) == [True, False, False, False]


def test_another_command_takes_started_shards_along_at_once() -> None:
    cluster, copies = _created(13)
    _ask(cluster, ShardsStarted(tuple(copies[:1])))
    _ask(cluster, CreateTable(definition=definition("other")))
    cluster.run_for(STARTED_SHARDS_GATHER_S / 2)
    assert _is_started(cluster) == [True, False, False, False]
