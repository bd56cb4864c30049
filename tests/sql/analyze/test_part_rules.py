"""NOT NULL, DEFAULT and CHECK of parts of object columns in the definition."""

from __future__ import annotations

import pytest

from cratepy.model.schema import PartDefault, TableDefinition
from cratepy.sql.analyze.shows import create_table_text
from tests.sql.analyze.helpers import error_of, with_tables

TABLE = (
    'create table p (id int, o object as (a int default 1 + 1 not null, n object as ("b\'" text not null), '
    "c text default 'x' check (o['c'] <> 'no')))"
)


def defined(*texts: str) -> TableDefinition:
    (table,) = with_tables(*texts).tables.values()
    return table.definition


def test_rules_are_kept_by_path() -> None:
    table = defined(TABLE)
    assert table.required_parts == ("o['a']", "o['n']['b''']")
    assert table.part_defaults == (PartDefault("o['a']", "1 + 1"), PartDefault("o['c']", "'x'"))
    ((name, sql),) = [(check.name, check.sql) for check in table.checks]
    assert name.startswith("doc_p_o_c_check_")
    assert sql == "\"o\"['c'] <> 'no'"


def test_show_create_table_makes_the_table_again() -> None:
    table = defined(TABLE)
    text = create_table_text(table)
    assert '"a" INTEGER DEFAULT 1 + 1 NOT NULL,' in text
    again = defined(text)
    assert (again.columns, again.required_parts, again.part_defaults, again.checks) == (
        table.columns,
        table.required_parts,
        table.part_defaults,
        table.checks,
    )


def test_rules_follow_their_column() -> None:
    renamed = defined(TABLE, "alter table p rename column o to q")
    assert renamed.required_parts == ("q['a']", "q['n']['b''']")
    assert [part.path for part in renamed.part_defaults] == ["q['a']", "q['c']"]
    dropped = defined(TABLE, "alter table p drop column o")
    assert (dropped.required_parts, dropped.part_defaults, dropped.checks) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("create table x (o array(object as (a int not null)))", "UnsupportedFeatureException[Constraints inside arrays of objects are not supported: o['a']]"),
        ("create table x (o object as (a array(object as (b int default 1))))", "UnsupportedFeatureException[Constraints inside arrays of objects are not supported: o['a']['b']]"),
        ("create table x (o object as (a int, b int as a + 1))", "UnsupportedFeatureException[Generated parts of object columns are not supported: o['b']]"),
        ("create table x (o object as (a int default 'x'))", "SQLParseException[Cannot cast `'x'` of type `text` to type `integer`]"),
        ("create table x (b int, o object as (a int check (b > 1)))", "UnsupportedFeatureException[CHECK constraint on column `o['a']` cannot refer to column `b`."),
        ("alter table p add column o['z'] int not null", "UnsupportedFeatureException[Constraints on parts of object columns cannot be added: o['z']]"),
        ("alter table p add column q object as (a int default 1)", "UnsupportedFeatureException[Constraints on parts of object columns cannot be added: q['a']]"),
    ],
)  # fmt: skip
def test_what_no_part_can_have_is_refused(text: str, error: str) -> None:
    assert error_of(text, with_tables(TABLE)).startswith(error)
