"""CREATE TABLE (LIKE …): what comes along, and what only if it is asked for."""

from __future__ import annotations

import pytest

from cratepy.model.schema import TableDefinition
from tests.sql.analyze.helpers import error_of, with_tables

SOURCE = (
    "create table s (a int, b text default 'x', c as a + 1, d text not null index using fulltext, e text index off, "
    "f text storage with (columnstore = false), check (a < 9), primary key (a)) clustered into 3 shards "
    "with (refresh_interval = 500, number_of_replicas = 2, column_policy = 'dynamic')"
)
STATE = with_tables(SOURCE)


def made(options: str = "") -> TableDefinition:
    state = with_tables(f"create table t (like s {options})", state=STATE)
    return next(table.definition for table in state.tables.values() if table.definition.name.name == "t")


def test_columns_routing_and_shards_come_along() -> None:
    table = made()
    assert [(column.name, column.type.name, column.is_nullable) for column in table.columns] == [
        ("a", "integer", False),
        ("b", "text", True),
        ("c", "integer", True),
        ("d", "text", False),
        ("e", "text", True),
        ("f", "text", True),
    ]
    assert (table.clustered_by, table.shards, table.primary_key, table.checks) == ("a", 3, (), ())
    assert (table.replicas, table.column_policy, table.settings) == ("0-1", "strict", {})
    assert all(c.default_sql is None and c.generated_sql is None and c.index == "plain" for c in table.columns)
    assert all(column.has_columnstore for column in table.columns)


def test_including_all_is_the_same_table_under_another_name() -> None:
    table = made("including all")
    (source,) = (table.definition for table in STATE.tables.values())
    assert (table.columns, table.checks, table.primary_key) == (source.columns, source.checks, source.primary_key)
    assert (table.replicas, table.column_policy, table.settings) == ("2", "dynamic", {"refresh_interval": 500})
    assert table.uuid != source.uuid


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("including defaults", ("'x'", None, "plain", (), {})),
        ("including generated including indexes", (None, '"a" + 1', "fulltext", (), {})),
        ("including all excluding constraints excluding storage", ("'x'", '"a" + 1', "fulltext", (), {})),
        ("excluding all including constraints", (None, None, "plain", ("a",), {})),
        ("including storage", (None, None, "plain", (), {"refresh_interval": 500})),
    ],
)
def test_parts_are_included_and_excluded_in_turn(options: str, expected: tuple[object, ...]) -> None:
    table = made(options)
    columns = {column.name: column for column in table.columns}
    found = (
        columns["b"].default_sql,
        columns["c"].generated_sql,
        columns["d"].index,
        table.primary_key,
        table.settings,
    )
    assert found == expected


def test_what_is_no_user_table_cannot_be_copied() -> None:
    assert error_of("create table t (like sys.nodes)").startswith("OperationOnInaccessibleRelationException[")
    assert error_of("create table t (like nosuch)") == "RelationUnknown[Relation 'nosuch' unknown]"
    assert error_of("create table s (like s)", STATE) == "RelationAlreadyExists[Relation 'doc.s' already exists.]"
