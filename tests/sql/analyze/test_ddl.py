"""DDL: commands for the master, and refusals in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    CreateAnalyzer,
    CreateTable,
    CreateView,
    DropTable,
    DropView,
    RenameTable,
    SwapTables,
)
from cratepy.model.names import RelationName
from cratepy.model.plan import CommandPlan, InsertPlan, RefreshPlan
from cratepy.model.schema import TableDefinition
from cratepy.model.search import AnalyzerDefinition
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


def test_the_tree_of_a_shape_is_kept_for_show_create_table() -> None:
    table = definition(
        "create table x (a geo_shape, b geo_shape index using quadtree, "
        "c geo_shape index using geohash with (precision = '1m', distance_error_pct = 0.25))"
    )
    assert [(c.index, c.index_options) for c in table.columns] == [
        ("plain", ()),
        ("quadtree", ()),
        ("geohash", (("precision", "1m"), ("distance_error_pct", "0.25"))),
    ]
    text = create_table_text(table)
    assert definition(text.replace('"doc"."x"', "y")).columns == table.columns
    assert '"b" GEO_SHAPE INDEX USING QUADTREE,' in text


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
        ("alter cluster swap table t to nosuch", "RelationUnknown[Relation 'nosuch' unknown]"),
        ("alter cluster swap table t to u with (x = 1)", "SQLParseException[Invalid options for ALTER CLUSTER SWAP TABLE: x]"),
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
    swapped = command("alter cluster swap table t to u with (drop_source = true)")
    t, u = RelationName("doc", "t"), RelationName("doc", "u")
    assert swapped == SwapTables(source=t, target=u, drops_source=True)
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


def test_indexes_of_columns_parts_and_with_names() -> None:
    table = definition(
        "create table x (a text index using fulltext, b text index using fulltext with (analyzer = 'english'),"
        " c text index off, d text index using nosuch, o object as (t text index using fulltext with (analyzer = 'stop')),"
        " index ft using fulltext (a, o['t']) with (analyzer = 'german'), index pl using plain (c))"
    )
    assert [(c.name, c.index, c.analyzer) for c in table.columns] == [
        ("a", "fulltext", "standard"),
        ("b", "fulltext", "english"),
        ("c", "off", None),
        ("d", "plain", None),
        ("o", "plain", None),
    ]
    assert [(i.name, i.columns, i.method, i.analyzer) for i in table.indexes] == [
        ("o['t']", ("o['t']",), "fulltext", "stop"),
        ("ft", ("a", "o['t']"), "fulltext", "german"),
        ("pl", ("c",), "plain", None),
    ]


def test_show_create_table_prints_indexes() -> None:
    # The table t4 of the captured statements, with a named plain index and an index on a part beside.
    table = definition(
        "create table x (a text index off, b text index using fulltext with (analyzer='english'), o object as"
        " (t text index using fulltext), index ft using fulltext (a, b) with (analyzer='standard'), index pl using"
        " plain (o['t']))"
    )
    text = create_table_text(table)
    assert text.partition("\nCLUSTERED")[0] == (
        'CREATE TABLE IF NOT EXISTS "doc"."x" (\n   "a" TEXT INDEX OFF,\n   "b" TEXT INDEX USING FULLTEXT WITH (\n'
        '      analyzer = \'english\'\n   ),\n   "o" OBJECT(DYNAMIC) AS (\n      "t" TEXT INDEX USING FULLTEXT WITH (\n'
        '         analyzer = \'standard\'\n      )\n   ),\n   INDEX "ft" USING FULLTEXT ("a", "b") WITH (\n'
        "      analyzer = 'standard'\n   ),\n   INDEX \"pl\" USING PLAIN (\"o\"['t'])\n)"
    )
    again = definition(text.replace("IF NOT EXISTS ", ""))
    assert (again.columns, again.indexes) == (table.columns, table.indexes)


@pytest.mark.parametrize(
    ("elements", "error"),
    [
        (
            "a text index using fulltext with (analyzer = 'nosuch')",
            'SQLParseException[Analyzer "nosuch" not found for column "a"]',
        ),
        (
            "a int index using fulltext",
            "SQLParseException[Can't use an Analyzer on column a because analyzers are only allowed on columns of type "
            '"text" of the unbound length limit.]',
        ),
        ("o object index off", 'SQLParseException[INDEX constraint cannot be used on columns of type "object": `o`]'),
        ("a int, index i using fulltext (nosuch)", "ColumnUnknownException[Column nosuch unknown]"),
        (
            "a int, index i using fulltext (a)",
            "SQLParseException[INDEX source columns require `string` types. Cannot use `a` (integer) as source for `i`]",
        ),
        ("a text, index a using fulltext (a)", 'SQLParseException[column "a" specified more than once]'),
        (
            "a text, index i using fulltext (a) with (analyzer = 'nosuch')",
            'SQLParseException[Analyzer "nosuch" not found for column "i"]',
        ),
    ],
)
def test_a_wrong_index_is_refused_with_these_words(elements: str, error: str) -> None:
    assert error_of(f"create table x ({elements})") == error


def test_added_columns_bring_their_indexes() -> None:
    state = with_tables("create table x (o object)", "create analyzer mine (tokenizer whitespace)")
    statement = analysis(
        "alter table x add a text index using fulltext with (analyzer = 'mine'), add o['t'] text index using fulltext",
        state,
    ).statement
    assert isinstance(statement, AnalyzedDirect)
    assert isinstance(statement.plan, CommandPlan)
    added = statement.plan.command
    assert isinstance(added, AddColumns)
    assert [(c.name, c.index, c.analyzer) for c in added.columns] == [("a", "fulltext", "mine")]
    assert [(i.name, i.columns, i.analyzer) for i in added.indexes] == [("o['t']", ("o['t']",), "standard")]
    assert added.analyzers == (AnalyzerDefinition(name="mine", tokenizer="whitespace"),)


def test_an_analyzer_is_its_parts_resolved() -> None:
    made = command(
        "create analyzer mine (tokenizer cut with (type = 'pattern', pattern = '-'), token_filters (lowercase, "
        "short with (type = 'truncate', length = 3)), char_filters (ph with (type = 'mapping', mappings = ['ph=>f'])))"
    )
    assert made == CreateAnalyzer(
        AnalyzerDefinition(
            name="mine",
            tokenizer="pattern",
            tokenizer_settings=(("pattern", "-"),),
            token_filters=(("lowercase", ()), ("truncate", (("length", "3"),))),
            char_filters=(("mapping", (("mappings", '["ph=>f"]'),)),),
        )
    )


def test_an_analyzer_that_extends_another_takes_over_what_it_does_not_give() -> None:
    state = with_tables("create analyzer one (tokenizer whitespace, token_filters (lowercase))")
    statement = analysis("create analyzer two extends one (token_filters (uppercase))", state).statement
    assert isinstance(statement, AnalyzedDirect)
    assert statement.plan == CommandPlan(
        command=CreateAnalyzer(
            AnalyzerDefinition(name="two", tokenizer="whitespace", token_filters=(("uppercase", ()),))
        )
    )
    made = command("create analyzer three extends snowball with (language = 'german')")
    assert isinstance(made, CreateAnalyzer)
    assert ("stemmer", (("language", "german"),)) in made.analyzer.token_filters


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("drop analyzer nosuch", "AnalyzerUnknownException[Analyzer 'nosuch' unknown]"),
        ("create analyzer x extends nosuch with (a = 1)", "AnalyzerUnknownException[Analyzer 'nosuch' unknown]"),
        (
            'create analyzer "default" (tokenizer keyword)',
            "SQLParseException[Overriding the default analyzer is forbidden]",
        ),
        (
            "create analyzer english (tokenizer keyword)",
            "SQLParseException[Cannot override builtin analyzer 'english']",
        ),
        (
            "create analyzer x (token_filters (lowercase))",
            "UnsupportedFeatureException[Tokenizer missing from non-extended analyzer]",
        ),
        ("create analyzer x (tokenizer nosuch)", "SQLParseException[Non-existing tokenizer 'nosuch']"),
        (
            "create analyzer x (tokenizer keyword, token_filters (a with (type = 'nosuch')))",
            "SQLParseException[Non-existing built-in token-filter type 'nosuch']",
        ),
        (
            "create analyzer x extends english (tokenizer keyword)",
            "UnsupportedFeatureException[Cannot extend built-in analyzer 'english' with anything but settings]",
        ),
    ],
)
def test_a_wrong_analyzer_is_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text) == error
