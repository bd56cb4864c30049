"""COPY TO: the query behind it, and what is refused."""

from __future__ import annotations

import pytest

from cratepy.sql.analyze.statements import AnalyzedCopyTo
from tests.sql.analyze.helpers import TABLES, analysis, error_of, with_tables

STATE = with_tables(
    "create table x (a int, b text, o object as (k int), primary key (a, b)) clustered by (b)",
    "create table y (a int, o object as (k int)) clustered by (o['k'])",
    "create table z (a int)",
)


def copied(text: str) -> AnalyzedCopyTo:
    statement = analysis(text, STATE).statement
    assert isinstance(statement, AnalyzedCopyTo)
    return statement


def test_whole_rows_are_objects_of_all_columns() -> None:
    found = copied("copy x to directory '/d'")
    assert (found.plan.is_whole, found.plan.names, found.plan.is_gzip) == (True, ("a", "b", "o"), False)
    assert [column.name for column in found.query.columns] == ["a", "b", "o", "coalesce"]


@pytest.mark.parametrize(("table", "routing"), [("x", "coalesce"), ("y", "coalesce"), ("z", "_id")])
def test_the_last_column_routes(table: str, routing: str) -> None:
    assert copied(f"copy {table} (a) where a > 1 to directory '/d'").query.columns[-1].name == routing


def test_columns_are_arrays_unless_objects_are_asked_for() -> None:
    assert copied("copy x (a, o['k']) to directory '/d'").plan.names is None
    found = copied("copy x (a, o['k']) to directory '/d' with (format = 'JSON_OBJECT', compression = 'gzip')")
    assert (found.plan.names, found.plan.is_whole, found.plan.is_gzip) == (("a", "o['k']"), False, True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("copy nosuch to directory '/d'", "RelationUnknown[Relation 'nosuch' unknown]"),
        ("copy sys.nodes to directory '/d'", 'OperationOnInaccessibleRelationException[The relation "sys.nodes" doesn\'t support or allow COPY TO operations]'),
        ("copy t (nosuch) to directory '/d'", "ColumnUnknownException[Column nosuch unknown]"),
        ("copy t to directory '/d' with (format = 'csv')", "SQLParseException[Unsupported setting value: csv. Supported values are: json_array, json_object]"),
        ("copy t to directory '/d' with (format = 'json_array')", "UnsupportedFeatureException[Output format not supported without specifying columns.]"),
        ("copy t to directory '/d' with (nosuch = 1)", "SQLParseException[Setting 'nosuch' is not supported]"),
        ("copy t to directory '/d' with (protocol = 'http')", "UnsupportedFeatureException[Setting 'protocol' of COPY TO is not supported by this server]"),
        ("copy t to directory '/d' with (wait_for_completion = false)", "UnsupportedFeatureException[COPY TO with wait_for_completion = false is not supported by this server]"),
        ("copy t to '/d'", "UnsupportedFeatureException[Using COPY TO without specifying a DIRECTORY is not supported]"),
        ("copy t to stdout", "UnsupportedFeatureException[Using COPY TO without specifying a DIRECTORY is not supported]"),
        ("copy t (id, o['k']) from '/d'", "ParsingException[line 1:14: mismatched input '[' expecting ')']"),
    ],
)  # fmt: skip
def test_it_is_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text, TABLES) == error
