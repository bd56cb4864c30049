"""What every command does to the state, and how it refuses, in CrateDB's words."""

from __future__ import annotations

import msgspec
import pytest

from cratepy import limits
from cratepy.cluster.commands import apply
from cratepy.errors import (
    AnalyzerUnknown,
    BadRequest,
    ColumnValidation,
    CrateError,
    DependentObjects,
    RelationAlreadyExists,
    RelationUnknown,
    SchemaAlreadyExists,
    SchemaUnknown,
    SQLParseError,
    VersionConflict,
)
from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    ChangeTable,
    Command,
    CreateAnalyzer,
    CreateSchema,
    CreateTable,
    CreateView,
    DropAnalyzer,
    DropSchema,
    DropTable,
    DropView,
    RenameTable,
    SetClusterSettings,
    SwapTables,
)
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, ViewDefinition, column_paths
from cratepy.model.search import AnalyzerDefinition, IndexDefinition
from cratepy.model.types import BIGINT, INTEGER, TEXT, UNDEFINED, DataType, Field, array_of, object_of
from tests.cluster.states import THREE, created, definition

T = RelationName("doc", "t")
V = RelationName("doc", "v")
WITH_T = created(THREE)
WITH_V = apply(WITH_T, CreateView(view=ViewDefinition(V, 0, "SELECT 1", "crate")))


def _column(name: str, data_type: DataType) -> ColumnDefinition:
    return ColumnDefinition(oid=0, name=name, type=data_type)


def _columns(*columns: ColumnDefinition) -> AddColumns:
    return AddColumns(table_uuid="uuid-t", columns=columns)


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (CreateTable(definition=definition(uuid="2")), RelationAlreadyExists, "Relation 'doc.t' already exists."),
        (CreateTable(definition=definition("v")), RelationAlreadyExists, "Relation 'doc.v' already exists."),
        (DropTable(name=RelationName("doc", "x")), RelationUnknown, "Relation 'doc.x' unknown"),
        (_columns(_column("a", TEXT)), ColumnValidation, "Validation failed for a: column exists with type integer"),
        (
            CreateView(view=ViewDefinition(V, 0, "x", "crate")),
            RelationAlreadyExists,
            "Relation 'doc.v' already exists.",
        ),
        (
            CreateView(view=ViewDefinition(T, 0, "x", "crate"), or_replace=True),
            RelationAlreadyExists,
            "Relation 'doc.t' already exists.",
        ),
        (DropView(names=(V, T)), RelationUnknown, "Relations not found: doc.t"),
        (CreateSchema(name="sys"), SQLParseError, "Schema 'sys' is reserved"),
        (CreateSchema(name="doc"), SQLParseError, "Schema 'doc' is reserved"),
        (DropSchema(names=("doc",)), SQLParseError, "Cannot drop reserved schema 'doc'"),
        (DropSchema(names=("s1",)), SchemaUnknown, "Schema 's1' unknown"),
        (AlterTableSettings(name=V, settings={}), RelationUnknown, "Relation 'doc.v' unknown"),
        (RenameTable(name=RelationName("doc", "w"), new_name="x"), RelationUnknown, "Relation 'doc.w' unknown"),
        (
            RenameTable(name=V, new_name="t"),
            SQLParseError,
            "Cannot rename table doc.v to doc.t, table doc.t already exists",
        ),
        (
            RenameTable(name=T, new_name="v"),
            SQLParseError,
            "Cannot rename table doc.t to doc.v, view doc.v already exists",
        ),
    ],
)
def test_a_command_that_cannot_be_done_says_why(command: Command, error: type[CrateError], message: str) -> None:
    with pytest.raises(error) as raised:
        apply(WITH_V, command)
    assert raised.value.message.startswith(message)


@pytest.mark.parametrize(
    "command",
    [
        CreateTable(definition=definition()),  # the same table again: the answer to the first try was lost
        CreateTable(definition=definition(uuid="2"), if_not_exists=True),
        DropTable(name=RelationName("doc", "x"), if_exists=True),
        _columns(_column("a", INTEGER)),
        DropView(names=(T,), if_exists=True),
        DropSchema(names=("s1",), if_exists=True),
        AlterTableSettings(name=T, settings={}),
        RenameTable(name=T, new_name="t"),
        SetClusterSettings(settings={"x": None}),
    ],
)
def test_a_command_that_has_nothing_to_do_gives_the_same_state(command: Command) -> None:
    assert apply(WITH_V, command) is WITH_V


def test_oids_of_tables_and_columns_are_never_used_again() -> None:
    first = WITH_T.tables["uuid-t"].definition
    assert [column.oid for column in first.columns] == [1, 2]
    state = apply(WITH_T, DropTable(name=T))
    assert state.tables == {}
    again = apply(state, CreateTable(definition=definition(uuid="2"))).tables["2"].definition
    assert again.oid == first.oid + 1


def test_new_columns_get_new_oids_and_a_new_version_of_the_table() -> None:
    state = apply(WITH_T, _columns(_column("c", BIGINT), _column("a", INTEGER), _column("d", TEXT)))
    table = state.tables["uuid-t"].definition
    assert [(column.name, column.oid) for column in table.columns] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert table.version == 2
    assert table.next_column_oid == 5


def test_two_writers_that_saw_the_same_new_key_agree() -> None:
    command = _columns(_column("c", BIGINT))
    once = apply(WITH_T, command)
    assert apply(once, command) is once
    with pytest.raises(ColumnValidation):
        apply(once, _columns(_column("c", TEXT)))


def test_new_parts_of_an_object_are_united_with_those_of_another_writer() -> None:
    state = apply(WITH_T, _columns(_column("o", object_of((Field("x", BIGINT),)))))
    inner = object_of((Field("y", TEXT), Field("z", object_of((Field("deep", TEXT),)))))
    state = apply(state, AddColumns(table_uuid="uuid-t", object_fields=(_column("o", inner),)))
    column = state.tables["uuid-t"].definition.column("o")
    assert column is not None
    assert [field.name for field in column.type.fields] == ["x", "y", "z"]
    clash = object_of((Field("y", BIGINT),))
    with pytest.raises(ColumnValidation, match="y"):
        apply(state, AddColumns(table_uuid="uuid-t", object_fields=(_column("o", clash),)))


def test_a_table_has_a_bounded_number_of_columns() -> None:
    many = [_column(f"c{number}", INTEGER) for number in range(limits.TABLE_COLUMNS_MAX - 1)]
    with pytest.raises(SQLParseError, match=r"Limit of total columns \[1000\] in table \[doc.t\] exceeded"):
        apply(WITH_T, _columns(*many))


def test_a_cluster_has_a_bounded_number_of_shards() -> None:
    state = apply(THREE, SetClusterSettings(settings={"cluster.max_shards_per_node": 2}))
    state = apply(state, CreateTable(definition=definition("t", shards=6)))
    with pytest.raises(BadRequest, match=r"would add \[1\] total shards, .* has \[6\]/\[6\]"):
        apply(state, CreateTable(definition=definition("u", shards=1)))


def test_a_replaced_view_keeps_its_oid() -> None:
    view = ViewDefinition(V, 0, "SELECT 2", "crate")
    state = apply(WITH_V, CreateView(view=view, or_replace=True))
    assert state.views["doc.v"].sql == "SELECT 2"
    assert state.views["doc.v"].oid == WITH_V.views["doc.v"].oid
    assert apply(state, DropView(names=(V,))).views == {}


def test_schemas_are_dropped_with_what_is_in_them_only_by_cascade() -> None:
    state = apply(WITH_T, CreateSchema(name="s1"))
    with pytest.raises(SchemaAlreadyExists, match="Schema 's1' already exists"):
        apply(state, CreateSchema(name="s1"))
    state = apply(state, CreateView(view=ViewDefinition(RelationName("s1", "v"), 0, "SELECT 1", "crate")))
    with pytest.raises(DependentObjects, match='Cannot drop schema "s1" because other objects depend on it'):
        apply(state, DropSchema(names=("s1",)))
    state = apply(state, DropSchema(names=("s1",), cascade=True))
    assert state.schemas == ()
    assert state.views == {}
    assert list(state.tables) == ["uuid-t"]


def test_table_settings_are_set_and_removed() -> None:
    state = apply(WITH_T, AlterTableSettings(name=T, settings={"refresh_interval": 500, "number_of_replicas": "2"}))
    table = state.tables["uuid-t"].definition
    assert (table.settings, table.replicas) == ({"refresh_interval": 500}, "2")
    state = apply(state, AlterTableSettings(name=T, settings={"refresh_interval": None, "number_of_replicas": None}))
    table = state.tables["uuid-t"].definition
    assert (table.settings, table.replicas, table.version) == ({}, "0-1", 3)


def test_a_renamed_table_is_the_same_table() -> None:
    state = apply(WITH_T, RenameTable(name=T, new_name="u"))
    assert state.table(T) is None
    assert state.tables["uuid-t"].definition.name == RelationName("doc", "u")
    assert state.tables["uuid-t"].routing is WITH_T.tables["uuid-t"].routing


def test_cluster_settings_are_set_and_reset() -> None:
    state = apply(THREE, SetClusterSettings(settings={"a.b": 1}))
    state = apply(state, SetClusterSettings(settings={"a.b": 2}, is_persistent=True))
    assert (state.settings_transient, state.settings_persistent) == ({"a.b": 1}, {"a.b": 2})
    state = apply(state, SetClusterSettings(settings={"a.b": None}))
    assert (state.settings_transient, state.settings_persistent) == ({}, {})


def test_indexes_take_their_oids_from_the_counter_of_columns() -> None:
    index = IndexDefinition(oid=0, name="ft", columns=("a",))
    made = apply(THREE, CreateTable(definition=msgspec.structs.replace(definition(), indexes=(index,))))
    (table,) = made.tables.values()
    columns = [column.oid for column in table.definition.columns]
    assert table.definition.indexes[0].oid == max(columns) + 1
    assert table.definition.next_column_oid == max(columns) + 2
    more = AddColumns(
        table_uuid=table.definition.uuid, indexes=(index, IndexDefinition(oid=0, name="b", columns=("a",)))
    )
    (table,) = apply(made, more).tables.values()
    assert [(i.name, i.oid) for i in table.definition.indexes] == [("ft", max(columns) + 1), ("b", max(columns) + 2)]


def test_an_analyzer_made_again_replaces_the_old_one_and_tables_keep_theirs() -> None:
    first, second = AnalyzerDefinition(name="mine"), AnalyzerDefinition(name="mine", tokenizer="whitespace")
    state = apply(THREE, CreateAnalyzer(first))
    state = apply(state, CreateTable(definition=msgspec.structs.replace(definition(), analyzers=(first,))))
    state = apply(state, CreateAnalyzer(second))
    assert state.analyzers == {"mine": second}
    (table,) = state.tables.values()
    assert table.definition.analyzers == (first,)
    assert apply(state, DropAnalyzer("mine")).analyzers == {}
    with pytest.raises(AnalyzerUnknown, match="Analyzer 'other' unknown"):
        apply(state, DropAnalyzer("other"))


def test_sub_columns_that_come_later_stand_last_in_the_ordinals() -> None:
    state = apply(WITH_T, _columns(_column("o", object_of((Field("x", BIGINT),))), _column("n", TEXT)))
    first = column_paths(state.tables["uuid-t"].definition.columns)
    assert state.tables["uuid-t"].definition.ordinals == ()
    grown = object_of((Field("b", object_of((Field("c", TEXT),))),))
    command = AddColumns(table_uuid="uuid-t", columns=(_column("z", TEXT),), object_fields=(_column("o", grown),))
    assert apply(state, command).tables["uuid-t"].definition.ordinals == (*first, "o['b']", "o['b']['c']", "z")


def test_what_no_value_has_told_yet_is_told_by_the_next() -> None:
    unknown, told = array_of(UNDEFINED), array_of(INTEGER)
    state = apply(WITH_T, _columns(_column("x", unknown)))
    state = apply(state, _columns(_column("x", told)))
    column = state.tables["uuid-t"].definition.column("x")
    assert column is not None
    assert column.type == told
    assert apply(state, _columns(_column("x", unknown))) is state
    with pytest.raises(ColumnValidation):
        apply(state, _columns(_column("x", TEXT)))


def test_the_last_dropped_tables_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DROPPED_TABLES_MAX", 2)
    state = THREE
    for name in ("t1", "t2", "t3"):
        state = apply(created(state, name), DropTable(name=RelationName("doc", name)))
    assert state.dropped == ("uuid-t2", "uuid-t3")


def test_a_changed_definition_takes_the_place_of_the_version_it_was_made_from() -> None:
    known = WITH_T.tables["uuid-t"].definition
    wanted = msgspec.structs.replace(known, columns=known.columns[:1])
    command = ChangeTable(definition=wanted)
    after = apply(WITH_T, command)
    assert after.tables["uuid-t"].definition == msgspec.structs.replace(wanted, version=known.version + 1)
    assert apply(after, command) is after, "its answer was lost, so it comes again"


def test_a_changed_definition_of_an_older_version_is_refused() -> None:
    known = WITH_T.tables["uuid-t"].definition
    newer = apply(WITH_T, _columns(_column("c", INTEGER)))
    with pytest.raises(VersionConflict):
        apply(newer, ChangeTable(definition=msgspec.structs.replace(known, columns=known.columns[:1])))
    with pytest.raises(RelationUnknown):
        apply(THREE, ChangeTable(definition=known))


@pytest.mark.parametrize("drops_source", [False, True])
def test_two_tables_exchange_their_names(drops_source: bool) -> None:
    state = created(WITH_T, "u")
    other = RelationName("doc", "u")
    after = apply(state, SwapTables(source=T, target=other, drops_source=drops_source))
    taken = after.table(other)
    left = after.table(T)
    assert taken is not None
    assert taken.definition.uuid == "uuid-t"
    assert (None if left is None else left.definition.uuid) == (None if drops_source else "uuid-u")
    with pytest.raises(RelationUnknown, match=r"doc\.nosuch"):
        apply(state, SwapTables(source=T, target=RelationName("doc", "nosuch")))


def test_a_renamed_view_keeps_its_oid_and_leaves_nothing_behind() -> None:
    renamed = apply(WITH_V, RenameTable(name=V, new_name="w"))
    assert list(renamed.views) == ["doc.w"]
    assert renamed.views["doc.w"].oid == WITH_V.views["doc.v"].oid
    assert renamed.views["doc.w"].name == RelationName("doc", "w")
    assert apply(WITH_V, RenameTable(name=V, new_name="v")) == WITH_V
