"""ALTER TABLE on columns that are there: the definition that comes of it, and refusals in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.model.commands import AddColumns, ChangeTable
from cratepy.model.schema import TableDefinition
from cratepy.sql.analyze.statements import AnalyzedDirect
from tests.sql.analyze.helpers import analysis, error_of, with_tables

STATE = with_tables(
    "create table w (id int primary key, a int check (a > 0), b text default 'x', o object as (x int, "
    't text index using fulltext), g int as a + o[\'x\'], f text, "Q""" int, constraint both check (a < "Q"""), '
    "index ix using fulltext (f, o['t']))"
)


def changed(*texts: str) -> TableDefinition:
    """The definition after the statements."""
    state = with_tables(*texts, state=STATE)
    (table,) = state.tables.values()
    return table.definition


def test_a_renamed_column_keeps_its_oid_and_is_renamed_everywhere() -> None:
    before = changed()
    after = changed(
        'alter table w rename column a to "A\'"', "alter table w rename o to p", "alter table w rename id to pk"
    )
    assert [column.oid for column in after.columns] == [column.oid for column in before.columns]
    assert [column.name for column in after.columns] == ["pk", "A'", "b", "p", "g", "f", 'Q"']
    assert after.columns[4].generated_sql == '"A\'" + "p"[\'x\']'
    assert after.columns[4].generated_shown == "(\"A'\" + p['x'])"
    assert [check.sql for check in after.checks] == ['"A\'" > 0', '"A\'" < "Q"""']
    assert [check.name for check in after.checks] == [check.name for check in before.checks]
    assert (after.primary_key, after.clustered_by) == (("pk",), "pk")
    assert sorted((index.name, index.columns) for index in after.indexes) == [
        ("ix", ("f", "p['t']")),
        ("p['t']", ("p['t']",)),
    ]


def test_a_name_inside_a_string_is_left_alone() -> None:
    state = with_tables("create table v (a text, g text as concat('a', a) || 'a')")
    state = with_tables("alter table v rename a to b", state=state)
    (table,) = state.tables.values()
    assert table.definition.columns[1].generated_sql == "concat('a', \"b\") || 'a'"


def test_a_dropped_column_goes_with_its_own_constraints_and_its_oid_is_not_used_again() -> None:
    before = changed()
    after = changed(
        "alter table w drop constraint both", "alter table w drop column g, drop column a", "alter table w add a int"
    )
    assert [column.name for column in after.columns] == ["id", "b", "o", "f", 'Q"', "a"]
    assert after.checks == ()
    assert after.columns[-1].oid > max(column.oid for column in before.columns)


def test_the_order_of_later_parts_survives_a_drop() -> None:
    after = changed("alter table w add column o['later'] int", "alter table w drop column b")
    assert after.ordinals == ("id", "a", "o", "o['x']", "o['t']", "g", "f", 'Q"', "o['later']")


def test_defaults_are_set_and_dropped() -> None:
    assert changed("alter table w alter column b set default 'y' || 'z'").columns[2].default_sql == "'y' || 'z'"
    assert changed("alter table w alter b drop default").columns[2].default_sql is None


def test_a_table_is_closed_and_opened() -> None:
    assert changed("alter table w close").is_closed
    assert not changed("alter table w close", "alter table w open").is_closed


def test_a_new_column_brings_its_constraint() -> None:
    statement = analysis("alter table w add column n int check (n > 5), add m int constraint mm check (m > 6)", STATE)
    assert isinstance(statement.statement, AnalyzedDirect)
    command = getattr(statement.statement.plan, "command", None)
    assert isinstance(command, AddColumns)
    assert [(check.name[:14], check.sql) for check in command.checks] == [
        ("doc_w_n_check_", '"n" > 5'),
        ("mm", '"m" > 6'),
    ]
    after = changed("alter table w add column n int check (n > 5)")
    assert [check.sql for check in after.checks][-1] == '"n" > 5'


def test_dropping_what_need_not_be_there_changes_nothing() -> None:
    statement = analysis("alter table w drop column if exists nosuch, drop column if exists o['no']", STATE).statement
    assert isinstance(statement, AnalyzedDirect)
    assert getattr(statement.plan, "command", None) == ChangeTable(definition=changed())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("drop column nosuch", "ColumnUnknownException[Column nosuch unknown]"),
        ("drop column o['nosuch']", "ColumnUnknownException[Column o['nosuch'] unknown]"),
        ("drop column _id", "SQLParseException[Dropping a system column is not allowed]"),
        ("drop column id", "UnsupportedFeatureException[Dropping column: id which is part of the PRIMARY KEY is not allowed]"),
        ("drop column a", "UnsupportedFeatureException[Cannot drop column `a`. It's used in generated column `g`: (a + o['x'])]"),
        ('drop column "Q"""', "UnsupportedFeatureException[Dropping column: Q\" which is used in CHECK CONSTRAINT: both is not allowed]"),
        ("drop column f", "UnsupportedFeatureException[Dropping column: f which is part of INDEX: ix is not allowed]"),
        ("drop column b, drop b", 'SQLParseException[Column "b" specified more than once]'),
        ("drop column o['x']", "UnsupportedFeatureException[Dropping a part of an object column is not supported: o['x']]"),
        ("rename column nosuch to x", "ColumnUnknownException[Column nosuch unknown]"),
        ("rename column a to b", "SQLParseException[Cannot rename column to a name that is in use]"),
        ("rename column a to ix", "SQLParseException[Cannot rename column to a name that is in use]"),
        ("rename column a to _id", 'InvalidColumnNameException["_id" conflicts with system column]'),
        ("rename column o['x'] to x", "SQLParseException[Cannot rename a column to a name that has different column level: o['x'], x]"),
        ("drop constraint nosuch", "SQLParseException[Cannot find a CHECK CONSTRAINT named [nosuch], available constraints are: [doc_w_a_check_"),
        ("alter column nosuch set default 1", "ColumnUnknownException[Column nosuch unknown]"),
        ("alter column a set default 'x'", "SQLParseException[Cannot cast `'x'` of type `text` to type `integer`]"),
        ("alter column g set default 1", "UnsupportedFeatureException[Generated column `g` cannot have a DEFAULT]"),
        ("alter column a type bigint", "ParsingException[line 1:30: "),
        ("add column n int check (a > 0)", "UnsupportedFeatureException[CHECK constraint on column `n` cannot refer to column `a`."),
        ("add column n int constraint both check (n > 0)", "SQLParseException[a check constraint of the same name is already declared [both]]"),
    ],
)  # fmt: skip
def test_wrong_changes_are_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(f"alter table w {text}", STATE).startswith(error)


def test_all_columns_cannot_be_dropped() -> None:
    state = with_tables("create table one (a int)")
    assert error_of("alter table one drop a", state) == (
        "UnsupportedFeatureException[Dropping all columns of a table is not allowed]"
    )


@pytest.mark.parametrize(
    "text", ["select * from w", "insert into w (id) values (1)", "refresh table w", "delete from w"]
)
def test_a_closed_table_says_so(text: str) -> None:
    state = with_tables("alter table w close", state=STATE)
    assert "as it is currently closed." in error_of(text, state)
