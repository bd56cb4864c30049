"""The proofs of coordination, in the size that fits a test run; ``make sim`` does a hundred times as much."""

from __future__ import annotations

import itertools

import pytest

from cratepy.cluster.coordination.kernel import is_quorum
from cratepy.cluster.coordination.messages import StepDown
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.model.commands import CreateTable
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import INTEGER
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.kernel import KernelExplorer
from tests.simulation.runs import explore_cluster, explore_kernel, explore_trio, find_mutants, replay_elsewhere


@pytest.mark.parametrize("voters", range(1, 10))
def test_of_every_split_in_two_at_most_one_side_is_a_quorum(voters: int) -> None:
    config = tuple(f"n{number}" for number in range(voters))
    for size in range(voters + 1):
        for side in itertools.combinations(config, size):
            rest = [node_id for node_id in config if node_id not in side]
            assert is_quorum(set(side), config) == (size >= voters // 2 + 1)
            assert not (is_quorum(set(side), config) and is_quorum(set(rest), config))


@pytest.mark.parametrize("voters", range(1, 10))
def test_no_split_has_two_masters_that_commit(voters: int) -> None:
    """Every size of split: both sides hold elections and publish; only the one with a quorum commits."""
    for size in range(voters + 1):
        explorer = KernelExplorer(0)
        explorer.begin(voters)
        side, rest = explorer.ids[:size], explorer.ids[size:]
        winners = [group for group in (side, rest) if group and explorer.elect_and_commit(group)]
        assert len(winners) == (1 if max(size, voters - size) >= voters // 2 + 1 else 0)


def test_the_kernel_holds_for_three_million_steps() -> None:
    tally = explore_kernel(1_000)
    assert tally.failures == []
    assert tally.passed == 1_000


def test_clusters_hold_under_every_fault_and_go_on_when_healed() -> None:
    tally = explore_cluster(200)
    assert tally.failures == []


def test_the_driver_on_trio_holds_too() -> None:
    tally = explore_trio(8)
    assert tally.failures == []


def test_every_mutant_is_found() -> None:
    tally = find_mutants()
    assert tally.failures == []
    assert tally.passed >= 18


def test_seeds_replay_bit_for_bit_in_another_process_with_another_hash_seed() -> None:
    tally = replay_elsewhere(50)
    assert tally.failures == []


def test_a_node_that_has_not_shown_the_last_state_gets_no_new_shards_and_gets_them_again_once_it_has() -> None:
    cluster = SimulatedCluster(seed=1, nodes=3, settings=CoordinationSettings()).formed()
    cluster.network.straggler_chance = 0.0
    leader = cluster.leaders[0]
    silent = next(node_id for node_id in cluster.accepted(leader).nodes if node_id != leader)

    def nodes_of_new_table(name: str) -> set[str | None]:
        table = TableDefinition(
            name=RelationName("doc", name),
            uuid=name,
            oid=0,
            columns=(ColumnDefinition(oid=0, name="a", type=INTEGER),),
            shards=6,
        )
        ticket = cluster.command(leader, CreateTable(definition=table))
        for _ in range(1_000):
            if ticket in cluster.answers:
                break
            cluster.run_for(0.01)
        return {copy.node_id for routing in cluster.accepted(leader).tables[name].routing for copy in routing.copies}

    cluster.pause(silent)
    assert silent in nodes_of_new_table("before it is noticed")
    assert silent in cluster.accepted(leader).nodes
    assert silent not in nodes_of_new_table("noticed")
    assert silent in cluster.accepted(leader).nodes
    cluster.resume(silent)
    cluster.run_for(5)
    assert silent in cluster.accepted(leader).nodes
    assert silent in nodes_of_new_table("back")


def test_a_master_that_steps_down_leaves_its_heir_the_time_to_win() -> None:
    """Its own next election may be due within a millisecond, when it and all others have just voted for the heir."""
    for seed in range(100):
        cluster = SimulatedCluster(seed=seed, nodes=4, settings=CoordinationSettings()).formed()
        cluster.network.straggler_chance = 0.0
        cluster.network.delay_s = (0.005, 0.02)
        cluster.run_for(1)
        (old,) = cluster.leaders
        cluster.post(old, StepDown())
        cluster.run_for(3)
        assert cluster.leaders != [old], seed
