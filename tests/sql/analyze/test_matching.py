"""MATCH: what it becomes, and how it is refused, in CrateDB's words."""

from __future__ import annotations

import pytest

from cratepy.execution.engine.constants import fold
from cratepy.model.expressions import Call, Literal, Parameter, SubqueryValue
from cratepy.model.relations import Filter, Relation, Scan, TextMatch
from cratepy.model.search import IndexedSource
from cratepy.model.types import DOUBLE, TEXT
from cratepy.sql.analyze.statements import AnalyzedDelete, AnalyzedQuery, AnalyzedUpdate
from cratepy.sql.plan.optimizer import optimize
from cratepy.sql.plan.text import expression_text
from cratepy.sql.plan.walk import operators
from tests.sql.analyze.helpers import analysis, error_of, with_tables

STATE = with_tables(
    "create table d (id int primary key, title text index using fulltext, body text index using fulltext with (analyzer ="
    " 'english'), tag text, off text index off, n int, o object as (t text index using fulltext, n int), g geo_shape,"
    " words array(text) index using fulltext, bare array(text),"
    " index ft using fulltext (title, tag, o['t']) with (analyzer = 'english'), index pl using plain (tag))",
    "create table e (id int, title text index using fulltext)",
    "create view v as select id, title as name, upper(tag) as u from d where n > 1",
)
#: Oids: columns first, then indexes in the order: parts of objects, named ones.
TITLE, BODY, WORDS, PART, NAMED, PLAIN = "c2", "c3", "c9", "c11", "c12", "c13"


def scans(relation: Relation) -> list[Scan]:
    return [operator for operator in operators(relation) if isinstance(operator, Scan)]


def matches(text: str) -> list[TextMatch]:
    statement = analysis(text, STATE).statement
    if isinstance(statement, AnalyzedUpdate | AnalyzedDelete):
        statement = statement.find
    assert isinstance(statement, AnalyzedQuery)
    return [match for scan in scans(statement.relation) for match in scan.matches]


def test_a_match_is_a_virtual_column_of_its_scan() -> None:
    (match,) = matches(
        "select id from d where match((title 2.5, body), 'some ' || 'words') using phrase with (slop = 2)"
    )
    assert match.source == "_match_0"
    assert match.columns == (IndexedSource(TITLE, 2.5), IndexedSource(BODY, 1.0))
    assert (match.kind, match.options, match.is_required) == ("phrase", (("slop", "2"),), False)
    statement = analysis("select id from d where match(title, 'x')", STATE).statement
    assert isinstance(statement, AnalyzedQuery)
    (scan,) = scans(statement.relation)
    assert [column.source for column in scan.columns] == ["c1", "_match_0"]


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("title", TITLE),
        ("d.title", TITLE),
        ("doc.d.title", TITLE),
        ("ft", NAMED),
        ("d.ft", NAMED),
        ("pl", PLAIN),
        ("o['t']", PART),
        ("words", WORDS),
    ],
)
def test_columns_parts_and_named_indexes_can_be_searched(written: str, source: str) -> None:
    (match,) = matches(f"select id from d where match({written}, 'x')")
    assert match.columns == (IndexedSource(source),)


def test_a_parameter_as_the_term_is_a_text() -> None:
    found = analysis("select id from d where match(title, $1)", STATE)
    assert found.parameter_types == (TEXT,)
    (match,) = matches("select id from d where match(title, $1)")
    assert match.text == Parameter(0, TEXT)


def test_options_and_boosts_may_be_parameters() -> None:
    text = "select id from d where match((title $2, body 3), $1) using best_fields with (operator = $3, boost = 2)"
    assert analysis(text, STATE).parameter_types == (TEXT, DOUBLE, TEXT)
    (match,) = matches(text)
    assert match.columns == (IndexedSource(TITLE, 1.0), IndexedSource(BODY, 3.0))
    assert match.late_boosts == (Parameter(1, DOUBLE), None)
    assert match.options == (("boost", "2"),)
    assert match.late_options == (("operator", Parameter(2, TEXT)),)


def test_a_subquery_as_the_term_has_its_value_in_the_scan() -> None:
    statement = analysis("select id from d where match(title, upper((select max(title) from e)))", STATE).statement
    assert isinstance(statement, AnalyzedQuery)
    found = optimize(statement.relation, fold)
    (match,) = [match for scan in scans(found.relation) for match in scan.matches]
    assert match.text == Call("upper", (SubqueryValue(0, TEXT),), TEXT)
    assert match.is_required
    assert [subquery.kind for subquery in found.subqueries] == ["scalar"]


def test_a_column_without_a_fulltext_index_is_compared() -> None:
    assert matches("select id from d where match(tag, 'x')") == []
    (match,) = matches("select id from d where match((title, tag), 'x')")
    assert match.columns == (IndexedSource(TITLE),)


@pytest.mark.parametrize(
    "text",
    [
        "select id from d where match(title, 'x') or not match(body, 'y')",
        "select count(*) from d where match(title, 'x') and match(ft, 'y')",
    ],
)
def test_every_match_has_a_column_of_its_own(text: str) -> None:
    assert [match.source for match in matches(text)] == ["_match_0", "_match_1"]


@pytest.mark.parametrize(
    "text",
    [
        "select d.id from d join e on d.id = e.id where match(d.title, 'x')",
        "select d.id from d join e on d.id = e.id and match(d.title, 'x')",
        "select id from e where id in (select id from d where match(title, 'x'))",
        "select id from d where exists (select 1 from e where e.id = d.id and match(d.title, 'x'))",
        "with w as (select id from d where match(title, 'x')) select * from w",
        "select id from (select id, title from d) s where match(s.title, 'x')",
        "select id from v where match(name, 'x')",
        "select id from (select * from d order by id limit 3) s join e using (id) where match(s.title, 'x')",
        "delete from d where match(title, 'x')",
        "update d set n = 1 where match(title, 'x') and n = 2",
    ],
)
def test_a_match_reaches_the_scan_of_its_table(text: str) -> None:
    (match,) = matches(text)
    assert match.columns == (IndexedSource(TITLE),)
    assert match.text == Literal("x", TEXT)


def test_an_update_does_not_read_the_columns_it_searches() -> None:
    statement = analysis("update d set n = 1 where match(title, 'x')", STATE).statement
    assert isinstance(statement, AnalyzedUpdate)
    assert [column.name for column in statement.find.columns] == ["_id", "_seq_no", "_primary_term"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("select match(title, 'x') from d", "UnsupportedFeatureException[match predicate cannot be selected]"),
        (
            "select count(*) from d group by match(title, 'x')",
            "UnsupportedFeatureException[match predicate cannot be used in a GROUP BY clause]",
        ),
        (
            "select id from d order by match(title, 'x')",
            "UnsupportedFeatureException[match predicate cannot be used in an ORDER BY clause]",
        ),
        ("select 1 from d where match(nosuch, 'x')", "ColumnUnknownException[Column nosuch unknown]"),
        ("select 1 from d where match(o['nosuch'], 'x')", "ColumnUnknownException[Column o['nosuch'] unknown]"),
        (
            "select 1 from d where match(n, 'x')",
            "SQLParseException[Can only use MATCH on columns of type STRING or GEO_SHAPE, not on 'integer']",
        ),
        (
            "select 1 from d where match(bare, 'x')",
            "SQLParseException[Can only use MATCH on columns of type STRING or GEO_SHAPE, not on 'text_array']",
        ),
        (
            "select 1 from d where match(off, 'x')",
            "SQLParseException[Cannot search on field [off] since it is not indexed.]",
        ),
        (
            "select 1 from d where match(title, 'x') using some_fields",
            "SQLParseException[invalid MATCH type 'some_fields' for type 'text']",
        ),
        (
            "select 1 from d where match(title, 'x') using best_fields with (oh = 1)",
            "SQLParseException[unknown match option 'oh']",
        ),
        (
            "select 1 from d where match(title, 'x') using best_fields with (zero_terms_query = 12.6)",
            "SQLParseException[invalid value for option 'zero_terms_query': 12.6]",
        ),
        (
            "select 1 from d where match(title, 'x') using best_fields with (analyzer = 'nosuch')",
            "SQLParseException[[match] analyzer [nosuch] not found]",
        ),
        (
            "select 1 from d where match(title, null)",
            "SQLParseException[cannot use NULL as query term in match predicate]",
        ),
        (
            "select 1 from d where match(title, tag)",
            "UnsupportedFeatureException[The query term of MATCH must not depend on columns: tag]",
        ),
        (
            "select 1 from d where match(title, (select e.title from e where e.id = d.id))",
            "UnsupportedFeatureException[A subquery as the query term of MATCH must not depend on rows]",
        ),
        (
            "select 1 from d where exists (select 1 from e where match(d.title, (select 'x')))",
            "UnsupportedFeatureException[A subquery as the query term of MATCH must be where its table is]",
        ),
        (
            "select 1 from d where match(title, 'x') using best_fields with (nosuch = $1)",
            "SQLParseException[unknown match option 'nosuch']",
        ),
        (
            "select 1 from d where match(title, 'x') using phrase with (operator = $1)",
            'SQLParseException[match predicate option(s) "operator" cannot be used with matchType "phrase"]',
        ),
        (
            "select 1 from d, e where match((d.title, e.title), 'x')",
            "SQLParseException[Must not use columns from more than 1 relation inside the MATCH predicate]",
        ),
        (
            "select 1 from sys.nodes where match(name, 'x')",
            "UnsupportedFeatureException[MATCH can only be used on user tables, not on sys.nodes]",
        ),
        (
            "select 1 from v where match(u, 'x')",
            "UnsupportedFeatureException[MATCH can only be used on columns of user tables, and u is computed]",
        ),
        ("select 1 from d where match('a', 'x')", "SQLParseException[can only MATCH on columns, not on 'a']"),
        (
            "select 1 from d where match(g, 'x')",
            "SQLParseException[Cannot cast `'x'` of type `text` to type `geo_shape`]",
        ),
        (
            "select 1 from d where match(g, 'POINT (1 2)') using phrase",
            "SQLParseException[invalid MATCH type 'phrase' for type 'geo_shape'. Valid types are: [disjoint, intersects, within]]",
        ),
        (
            "select 1 from d where match((g, title), 'POINT (1 2)')",
            "SQLParseException[Can only use MATCH on columns of type STRING or GEO_SHAPE, not on 'geo_shape']",
        ),
        (
            "select 1 from d where match(g, 'POINT (1 2)') using within with (slop = 2)",
            "SQLParseException[MATCH on a column of type geo_shape takes one column and no options]",
        ),
        (
            "select 1 from d where match(g, null)",
            "SQLParseException[cannot use NULL as query term in match predicate]",
        ),
    ],
)
def test_a_wrong_match_is_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text, STATE) == error


@pytest.mark.parametrize(
    ("using", "predicate"),
    [
        ("", "intersects(g, "),
        ("using intersects", "intersects(g, "),
        ("using within", "within(g, "),
        ("using disjoint", "(NOT intersects(g, "),
    ],
)
def test_a_match_on_a_shape_is_a_relation_of_shapes(using: str, predicate: str) -> None:
    statement = analysis(f"select id from d where match(g, 'POINT (1 2)') {using}", STATE).statement
    assert isinstance(statement, AnalyzedQuery)
    (condition,) = [o.predicate for o in operators(statement.relation) if isinstance(o, Filter)]
    assert expression_text(condition).startswith(predicate)
