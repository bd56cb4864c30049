"""Where primaries go, and that data is never replaced by an empty copy."""

from __future__ import annotations

from collections import Counter

import msgspec

from cratepy import limits
from cratepy.cluster import allocation
from cratepy.cluster.commands import apply
from cratepy.model.commands import CreateTable, ShardFailed, ShardsStarted, StartedCopy
from cratepy.model.state import ClusterState
from tests.cluster.states import (
    THREE,
    copies,
    created,
    definition,
    next_version,
    node,
    started,
    started_command,
    with_nodes,
)

replace = msgspec.structs.replace


def _failed(state: ClusterState, shard: int = 0) -> ClusterState:
    routing = state.tables["uuid-t"].routing[shard]
    return next_version(
        apply(
            state,
            ShardFailed(
                table_uuid="uuid-t",
                shard=shard,
                allocation_id=routing.copies[0].allocation_id,
                primary_term=routing.primary_term,
                reason="disk",
            ),
        )
    )


def test_a_new_table_is_spread_over_all_data_nodes() -> None:
    state = created(with_nodes(THREE, node("a"), node("b"), node("c"), node("m", is_data=False)), shards=6)
    assert Counter(copy.node_id for copy in copies(state)) == {"a": 2, "b": 2, "c": 2}
    assert {copy.state for copy in copies(state)} == {"initializing"}
    assert all(routing.primary_term == 1 and routing.in_sync == () for routing in state.tables["uuid-t"].routing)


def test_many_tables_of_one_shard_are_balanced_too() -> None:
    state = THREE
    for number in range(30):
        state = created(state, f"t{number}", shards=1)
    counts = Counter(copy.node_id for number in range(30) for copy in copies(state, f"t{number}"))
    assert counts == {"a": 10, "b": 10, "c": 10}


def test_allocation_is_the_same_on_every_master_and_ids_are_never_repeated() -> None:
    assert created(THREE) == created(THREE)
    ids = [copy.allocation_id for copy in copies(created(created(THREE, "t"), "u"), "u") + copies(created(THREE))]
    assert len(set(ids)) == len(ids)


def test_a_started_copy_is_in_sync_and_primary() -> None:
    state = started(created(THREE))
    for routing in state.tables["uuid-t"].routing:
        assert routing.primary is not None
        assert routing.in_sync == (routing.primary.allocation_id,)


def test_news_of_another_term_or_copy_starts_nothing() -> None:
    state = created(THREE)
    (good,) = started_command(state, "uuid-t", 0).copies
    for stale in (
        replace(good, primary_term=0),
        replace(good, primary_term=2),
        replace(good, allocation_id="other"),
        replace(good, shard=99),
        StartedCopy(table_uuid="gone", shard=0, allocation_id=good.allocation_id, primary_term=1),
    ):
        assert apply(state, ShardsStarted((stale,))) is state
        assert apply(state, ShardsStarted((stale, good))) == apply(state, ShardsStarted((good,)))
    once = apply(state, ShardsStarted((good, good)))
    assert [routing.primary is not None for routing in once.tables["uuid-t"].routing] == [True, False, False, False]
    assert apply(once, ShardsStarted((good,))) is once


def test_the_copy_of_a_node_that_left_waits_for_it_with_its_data() -> None:
    before = started(created(THREE))
    state = with_nodes(before, node("a"), node("b"))
    for old, routing in zip(copies(before), state.tables["uuid-t"].routing, strict=True):
        copy = routing.copies[0]
        assert routing.in_sync == (old.allocation_id,)
        if old.node_id == "c":
            assert (copy.state, copy.node_id, copy.last_node_id, copy.reason) == ("unassigned", None, "c", "node left")
            assert routing.primary is None
        else:
            assert copy == old


def test_a_node_that_comes_back_gets_its_copies_under_a_new_term() -> None:
    before = started(created(THREE))
    for state in (
        with_nodes(with_nodes(before, node("a"), node("b")), node("a"), node("b"), node("c", incarnation=2)),
        with_nodes(before, node("a"), node("b"), node("c", incarnation=2)),  # back before its end was noticed
    ):
        for old, routing in zip(before.tables["uuid-t"].routing, state.tables["uuid-t"].routing, strict=True):
            if old.copies[0].node_id == "c":
                assert routing.copies[0].allocation_id == old.copies[0].allocation_id
                assert (routing.copies[0].node_id, routing.copies[0].state) == ("c", "initializing")
                assert routing.primary_term == old.primary_term + 1
            else:
                assert routing == old


def test_another_node_never_gets_an_empty_copy_of_a_shard_with_data() -> None:
    state = with_nodes(started(created(THREE)), node("a"))
    state = with_nodes(state, node("a"), node("x"), node("y"))
    assert {copy.node_id for copy in copies(state)} <= {"a", None}


def test_a_fresh_copy_that_never_started_is_made_anew_elsewhere() -> None:
    state = created(THREE)
    after = with_nodes(state, node("a"), node("b"))
    for old, new in zip(copies(state), copies(after), strict=True):
        assert new.state == "initializing"
        assert new.node_id in ("a", "b")
        assert (new.allocation_id == old.allocation_id) == (old.node_id != "c")


def test_a_table_made_without_data_nodes_waits_for_the_first() -> None:
    state = created(with_nodes(ClusterState(), node("m", is_data=False)))
    assert {copy.state for copy in copies(state)} == {"unassigned"}
    state = with_nodes(state, node("m", is_data=False), node("a"))
    assert {copy.node_id for copy in copies(state)} == {"a"}


def test_a_failed_copy_is_tried_again_on_its_disk_a_bounded_number_of_times() -> None:
    state = started(created(THREE))
    home = copies(state)[0].node_id
    for attempt in range(1, limits.ALLOCATION_RETRIES_MAX):
        state = _failed(state)
        assert (copies(state)[0].node_id, copies(state)[0].failed_attempts) == (home, attempt)
        assert state.tables["uuid-t"].routing[0].primary_term == 1 + attempt
    state = _failed(state)
    assert (copies(state)[0].node_id, copies(state)[0].reason) == (None, "disk")
    assert home is not None
    others = [node(n) for n in "abc" if n != home]
    state = with_nodes(state, *others, node(home, incarnation=2))
    assert copies(state)[0].node_id == home


def test_a_failure_reported_late_changes_nothing() -> None:
    state = _failed(started(created(THREE)))
    stale = ShardFailed(
        table_uuid="uuid-t", shard=0, allocation_id=copies(state)[0].allocation_id, primary_term=1, reason="late"
    )
    assert apply(state, stale) is state


def test_a_fresh_copy_that_failed_goes_to_another_node() -> None:
    state = created(THREE)
    after = _failed(state)
    assert copies(after)[0].node_id != copies(state)[0].node_id
    assert copies(after)[0].allocation_id != copies(state)[0].allocation_id


def test_shards_are_counted_as_if_nothing_had_been_counted_before() -> None:
    """Counts are carried from state to state; whatever the order of states, they are those of the state asked about."""
    first = started(created(THREE, "t", shards=5))
    states = [THREE, first, created(first, "u", shards=3), with_nodes(first, node("a"), node("b")), first, THREE]
    for state in [*states, *reversed(states)]:
        on_nodes = [
            copy.node_id
            for table in state.tables.values()
            for routing in table.routing
            for copy in routing.copies
            if copy.node_id is not None
        ]
        counts = allocation.shard_counts(state)
        assert counts == {n: on_nodes.count(n) for n in state.nodes}
        assert set(counts) == set(state.nodes)


def test_new_shards_avoid_nodes_that_are_not_heard_of_as_long_as_there_are_others() -> None:
    command = CreateTable(definition=definition(shards=4))
    state = next_version(apply(THREE, command, avoided={"a"}))
    assert Counter(copy.node_id for copy in copies(state)) == {"b": 2, "c": 2}
    state = next_version(apply(THREE, command, avoided={"a", "b", "c"}))
    assert Counter(copy.node_id for copy in copies(state)).keys() == {"a", "b", "c"}


def test_a_copy_that_never_started_moves_to_a_node_that_is_heard_of() -> None:
    state = next_version(apply(THREE, CreateTable(definition=definition(shards=3))))
    rest = {node_id: state.nodes[node_id] for node_id in ("b", "c")}
    moved = allocation.change_nodes(state, rest, avoided={"b"})
    assert Counter(copy.node_id for copy in copies(moved)) == {"b": 1, "c": 2}
