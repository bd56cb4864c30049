"""Differences are small, give the new state exactly, and refuse any other base."""

from __future__ import annotations

import gc

import msgspec
import pytest

from cratepy.cluster.commands import apply
from cratepy.cluster.diff import BaseMismatch, StateDiff, diff, patch
from cratepy.model.commands import (
    AddColumns,
    CreateAnalyzer,
    CreateSchema,
    CreateTable,
    CreateView,
    DropAnalyzer,
    DropTable,
    DropView,
    RenameTable,
    SetClusterSettings,
)
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition
from cratepy.model.state import ClusterState
from cratepy.model.types import TEXT
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
WITH_T = apply(started(created(THREE)), CreateAnalyzer(AnalyzerDefinition(name="mine")))
WITH_T = replace(WITH_T, dropped=("d1", "d2", "d3"))
VIEW = RelationName("doc", "v")


def _over_the_wire(change: StateDiff) -> StateDiff:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(change), type=StateDiff)


@pytest.mark.parametrize(
    "new",
    [
        WITH_T,
        with_nodes(WITH_T, node("a"), node("z")),
        created(WITH_T, "u"),
        apply(WITH_T, DropTable(name=RelationName("doc", "t"))),
        apply(apply(WITH_T, DropTable(name=RelationName("doc", "t"))), CreateTable(definition=definition(shards=2))),
        apply(WITH_T, RenameTable(name=RelationName("doc", "t"), new_name="u")),
        apply(WITH_T, AddColumns(table_uuid="uuid-t", columns=(ColumnDefinition(oid=0, name="c", type=TEXT),))),
        apply(WITH_T, CreateView(view=ViewDefinition(VIEW, 0, "SELECT 1", "crate"))),
        apply(WITH_T, CreateSchema(name="s")),
        apply(WITH_T, CreateAnalyzer(AnalyzerDefinition(name="other", tokenizer="whitespace"))),
        apply(WITH_T, CreateAnalyzer(AnalyzerDefinition(name="mine", tokenizer="whitespace"))),
        apply(WITH_T, DropAnalyzer("mine")),
        apply(WITH_T, SetClusterSettings(settings={"x": 1})),
        replace(WITH_T, dropped=("d2", "d3", "d4")),
        replace(WITH_T, dropped=("d3", "d1", "d4")),
        ClusterState(),
    ],
)
def test_a_difference_gives_the_new_state_and_leaves_the_old_one_as_it_is(new: ClusterState) -> None:
    new = next_version(new)
    before = msgspec.msgpack.encode(WITH_T)
    patched = patch(WITH_T, _over_the_wire(diff(WITH_T, new)))
    assert patched == new
    assert list(patched.nodes) == list(new.nodes)
    assert msgspec.msgpack.encode(WITH_T) == before


def test_a_changed_shard_does_not_change_the_state_it_was_changed_from() -> None:
    old = created(THREE)
    new = started(old)
    before = msgspec.msgpack.encode(old)
    assert patch(old, _over_the_wire(diff(old, new))) == new
    assert msgspec.msgpack.encode(old) == before


def test_what_was_taken_away_is_gone() -> None:
    full = apply(
        apply(WITH_T, CreateView(view=ViewDefinition(VIEW, 0, "x", "c"))), SetClusterSettings(settings={"x": 1})
    )
    empty = apply(apply(full, DropView(names=(VIEW,))), SetClusterSettings(settings={"x": None}))
    assert patch(full, _over_the_wire(diff(full, empty))) == empty


def test_a_difference_to_another_state_is_refused() -> None:
    new = next_version(created(WITH_T, "u"))
    with pytest.raises(BaseMismatch):
        patch(new, diff(WITH_T, new))


def test_one_shard_of_a_thousand_is_a_small_message() -> None:
    state = started(created(THREE, "t", shards=1000))
    state = with_nodes(state, node("a"), node("b"))
    state = with_nodes(state, node("a"), node("b"), node("c"))
    shard = next(r.shard for r in state.tables["uuid-t"].routing if r.copies[0].state == "initializing")
    new = next_version(apply(state, started_command(state, "uuid-t", shard)))
    assert len(msgspec.msgpack.encode(diff(state, new))) < 1000
    assert len(msgspec.msgpack.encode(new)) > 100_000


def test_tables_are_nothing_to_look_through_for_the_garbage_collector() -> None:
    """With 10,000 shards it took 30 ms, on the event loop or beside it, each time it looked through everything."""
    state = started(created(created(THREE, "t"), "u"))
    gc.collect()  # tuples are let go of when it has seen what they hold
    for table in state.tables.values():
        for part in (table, table.definition, *table.definition.columns, *table.routing, *copies(state)):
            assert not gc.is_tracked(part)
        assert not gc.is_tracked(table.routing)
