"""DDL: commands for the master, and refusals in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    CreateTable,
    CreateView,
    DropTable,
    DropView,
    RenameTable,
)
from cratepy.model.names import RelationName
from cratepy.model.plan import CommandPlan, InsertPlan, RefreshPlan
from cratepy.model.schema import TableDefinition
from cratepy.sql.analyze.shows import create_table_text
from cratepy.sql.analyze.statements import AnalyzedCreateTableAs, AnalyzedDirect, AnalyzedQuery
from tests.sql.analyze.helpers import EMPTY, TABLES, analysis, error_of, with_tables


def command(text: str) -> object:
    statement = analysis(text, TABLES).statement
    assert isinstance(statement, AnalyzedDirect)
    assert isinstance(statement.plan, CommandPlan)
    return statement.plan.command


def definition(text: str) -> TableDefinition:
    made = command(text)
    assert isinstance(made, CreateTable)
    return made.definition


def test_create_table_defines_columns_key_and_routing() -> None:
    table = definition(
        "CREATE TABLE x (id int PRIMARY KEY, a text DEFAULT 'y' NOT NULL, b AS id + 1, c varchar(3) CHECK (c <> 'no')) "
        "CLUSTERED INTO 6 SHARDS WITH (number_of_replicas = 1, refresh_interval = '2s', column_policy = 'dynamic')"
    )
    assert [(c.name, c.type.name, c.is_nullable, c.default_sql, c.generated_sql) for c in table.columns] == [
        ("id", "integer", False, None, None),
        ("a", "text", False, "'y'", None),
        ("b", "integer", True, None, '"id" + 1'),
        ("c", "varchar(3)", True, None, None),
    ]
    assert (table.primary_key, table.clustered_by, table.shards, table.routing_shards) == (("id",), "id", 6, 768)
    assert (table.replicas, table.column_policy, table.settings) == ("1", "dynamic", {"refresh_interval": 2000})
    assert [check.sql for check in table.checks] == ["\"c\" <> 'no'"]


def test_shards_default_to_four_or_two_for_each_data_node() -> None:
    assert definition("create table x (a int)").shards == 4
    assert definition("create table x (a int)").routing_shards == 1024


def test_show_create_table_prints_what_makes_the_table_again() -> None:
    text = (
        "CREATE TABLE x (a int NOT NULL, o object(strict) AS (k int, l array(text)), n numeric(5, 2), f text INDEX OFF,"
        " g AS (a * 2), PRIMARY KEY (a)) CLUSTERED BY (a) INTO 3 SHARDS WITH (\"translog.durability\" = 'async')"
    )
    shown = create_table_text(definition(text))
    assert create_table_text(definition(shown)) == shown
    assert shown == (
        'CREATE TABLE IF NOT EXISTS "doc"."x" (\n'
        '   "a" INTEGER NOT NULL,\n'
        '   "o" OBJECT(STRICT) AS (\n      "k" INTEGER,\n      "l" ARRAY(TEXT)\n   ),\n'
        '   "n" NUMERIC(5, 2),\n'
        '   "f" TEXT INDEX OFF,\n'
        '   "g" INTEGER GENERATED ALWAYS AS "a" * 2,\n'
        '   PRIMARY KEY ("a")\n'
        ')\nCLUSTERED BY ("a") INTO 3 SHARDS\nWITH (\n'
        "   column_policy = 'strict',\n   number_of_replicas = '0-1',\n   \"translog.durability\" = 'ASYNC'\n)"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("create table t (a int)", "RelationAlreadyExists[Relation 'doc.t' already exists.]"),
        ("create table x (a)", "SQLParseException[Column [a]: data type needs to be provided or column should be defined as a generated expression]"),
        ("create table x (a int, a text)", 'SQLParseException[column "a" specified more than once]'),
        ("create table x (a int, primary key (b))", "ColumnUnknownException[Column b unknown]"),
        ("create table x (a object primary key)", 'UnsupportedFeatureException[Cannot use columns of type "object" as primary key]'),
        ("create table x (a int primary key, b int) clustered by (b)", "SQLParseException[Clustered by column `b` must be part of primary keys: [a]]"),
        ("create table x (a int) clustered into 0 shards", "SQLParseException[num_shards in CLUSTERED clause must be greater than 0]"),
        ("create table x (a int) clustered into 2000 shards", "SQLParseException[Failed to parse value [2000] for setting [number_of_shards] must be <= 1024]"),
        ("create table x (a int default b, b int)", "UnsupportedFeatureException[Cannot reference columns in DEFAULT expression of `a`. Maybe you wanted to use a string literal with single quotes instead: 'b']"),
        ("create table x (a int default 'x')", "SQLParseException[Cannot cast `'x'` of type `text` to type `integer`]"),
        ("create table x (a int, b as c + 1, c as a + 1)", "ColumnValidationException[Validation failed for b: Generated column cannot be based on generated column `c`]"),
        ("create table x (a interval)", "UnsupportedFeatureException[Type `interval` does not support storage]"),
        ("create table x (a numeric)", "UnsupportedFeatureException[NUMERIC storage is only supported if precision and scale are specified]"),
        ("create table x (\"a.b\" int)", 'InvalidColumnNameException["a.b" contains a dot]'),
        ("create table x (_id int)", 'InvalidColumnNameException["_id" conflicts with system column]'),
        ("create table x (a int) with (nosuch = 1)", 'SQLParseException[Invalid property "nosuch" passed to [ALTER | CREATE] TABLE statement]'),
        ("create table x (a int) with (refresh_interval = 'abc')", "SQLParseException[failed to parse [abc] as a time value]"),
        ("create table x (a int) partitioned by (a)", "UnsupportedFeatureException[PARTITIONED BY is not supported]"),
        ("create table sys.x (a int)", "SQLParseException[Cannot create relation in read-only schema: sys]"),
        ("create table \"a.b\" (a int)", "InvalidRelationName[Relation name 'doc.a.b' is invalid. Name can't contain '.']"),
        ("create table x (a int check (b > 0), b int)", "UnsupportedFeatureException[CHECK constraint on column `a` cannot refer to column `b`. Use full path to refer to a sub-column or a table check constraint instead]"),
        ("drop view nosuch", "RelationUnknown[Relations not found: doc.nosuch]"),
        ("alter table t rename to u", "SQLParseException[Cannot rename table doc.t to doc.u, table doc.u already exists]"),
        ("alter table t rename to s.x", "SQLParseException[Target table name must not include a schema]"),
        ("create table x as select 1, 1", 'SQLParseException[column "1" specified more than once]'),
    ],
)  # fmt: skip
def test_wrong_ddl_is_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text) == error


def test_create_table_as_makes_columns_from_the_query() -> None:
    found = analysis("create table x as select id, a || 'x' as b, n from t", TABLES).statement
    assert isinstance(found, AnalyzedCreateTableAs)
    columns = found.command.definition.columns
    assert [(column.name, column.type.name) for column in columns] == [
        ("id", "integer"),
        ("b", "text"),
        ("n", "bigint"),
    ]
    assert isinstance(found.insert.plan, InsertPlan)
    assert found.insert.plan.targets == ("id", "b", "n")
    assert found.insert.query is not None
    assert found.insert.plan.table_uuid == found.command.definition.uuid


def test_a_view_keeps_its_text_and_is_expanded_where_it_is_used() -> None:
    made = command("create view v as select id, a from t where n > 1")
    assert isinstance(made, CreateView)
    assert made.view.sql == "select id, a from t where n > 1"
    state = with_tables("create view v as select id, a from t where n > 1", state=TABLES)
    found = analysis("select x.a from v x", state).statement
    assert isinstance(found, AnalyzedQuery)
    assert found.tables == ("table-0",)


def test_views_that_name_each_other_are_refused() -> None:
    state = with_tables("create view v as select 1 as a", "create view w as select * from v", state=TABLES)
    state = with_tables("create or replace view v as select * from w", state=state)
    assert "nested too deeply" in error_of("select * from v", state)


def test_other_ddl_becomes_commands() -> None:
    assert command("drop table if exists nosuch") == DropTable(name=RelationName("doc", "nosuch"), if_exists=True)
    assert command("alter table t rename to x") == RenameTable(name=RelationName("doc", "t"), new_name="x")
    assert command("drop view if exists nosuch") == DropView(names=(), if_exists=True)
    settings = command("alter table t set (number_of_replicas = '0-all')")
    assert settings == AlterTableSettings(name=RelationName("doc", "t"), settings={"number_of_replicas": "0-all"})
    reset = command("alter table t reset (refresh_interval)")
    assert reset == AlterTableSettings(name=RelationName("doc", "t"), settings={"refresh_interval": None})


def test_add_column_adds_columns_and_parts_of_objects() -> None:
    added = command("alter table t add column x int, add o['p']['r'] text")
    assert isinstance(added, AddColumns)
    assert [(column.name, column.type.name) for column in added.columns] == [("x", "integer")]
    (grown,) = added.object_fields
    part = grown.type.field("p")
    assert part is not None
    assert [field.name for field in part.fields] == ["q", "r"]


def test_refresh_names_each_table_once() -> None:
    found = analysis("refresh table t, u, t", TABLES).statement
    assert isinstance(found, AnalyzedDirect)
    assert found.plan == RefreshPlan(tables=("table-0", "table-1"))
    assert error_of("refresh table t, nosuch", EMPTY) == "RelationUnknown[Relation 't' unknown]"


def test_ddl_is_never_cached() -> None:
    assert not analysis("create table x (a int)", TABLES).is_cacheable
    assert analysis("select * from t", TABLES).is_cacheable
