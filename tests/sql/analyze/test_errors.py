"""Refusals in CrateDB's words (captured from 6.4.3, unless marked as ours)."""

from __future__ import annotations

import pytest

from cratepy.sql.session_view import SessionView
from tests.sql.analyze.helpers import EMPTY, TABLES, analysis, error_of, types_of


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("select * from nosuch", "RelationUnknown[Relation 'nosuch' unknown]"),
        ("select * from doc.nosuch", "RelationUnknown[Relation 'doc.nosuch' unknown]"),
        ("select * from s.t", "SchemaUnknownException[Schema 's' unknown]"),
        ("select * from a.b.c", "SQLParseException[Unexpected catalog name: a. Only available catalog is crate]"),
        (
            "select * from x.y.z.w",
            "SQLParseException[Table with more than 3 QualifiedName parts is not supported. "
            "Only <catalog>.<schema>.<tableName> works.]",
        ),
        ("select x from t", "ColumnUnknownException[Column x unknown]"),
        ("select t.x from t", "ColumnUnknownException[Column x unknown]"),
        ("select x.id from t", "RelationUnknown[Relation 'doc.x' unknown]"),
        ("select x.* from t", 'SQLParseException[The relation "x" is not in the FROM clause.]'),
        ("select t.id from t as x", "RelationUnknown[Relation 'doc.t' unknown]"),
        ("select id from t, u", 'AmbiguousColumnException[Column "id" is ambiguous]'),
        ("select 1 from t a, u a", 'SQLParseException["a" specified more than once in the FROM clause]'),
        ("select * from (select 1)", "UnsupportedFeatureException[subquery in FROM clause must have an alias]"),
        ("select o['nosuch'] from t", "ColumnUnknownException[Column o['nosuch'] unknown]"),
        ("select s['nosuch'] from t", "ColumnUnknownException[Column s['nosuch'] unknown]"),
        ("select id['x'] from t", "ColumnUnknownException[Column id['x'] unknown]"),
        (
            "select {a=1}['b']",
            'ColumnUnknownException[The return type `OBJECT(DYNAMIC) AS ("a" INTEGER)` of the expression `{a = 1}` does '
            "not contain the key `b`]",
        ),
        (
            "select id[1] from t",
            "UnsupportedFunctionException[Invalid arguments in: doc.t.id[1] with (integer, integer). Valid types: "
            "(array(object), text), (array(E), integer), (object, text), (undefined, text)]",
        ),
        ("select nosuch(1)", "UnsupportedFunctionException[Unknown function: nosuch(1)]"),
        (
            "select lower(t.id, x.a) from t, t x",
            "UnsupportedFunctionException[Invalid arguments in: lower(doc.t.id, x.a) with (integer, text). "
            "Valid types: (text)]",
        ),
        ("select ascii()", "UnsupportedFunctionException[Invalid arguments in: ascii(). Valid types: (text)]"),
        ("select length('x') + 'a'", "SQLParseException[Cannot cast `'a'` of type `text` to type `integer`]"),
        ("select case 1 when 'a' then 2 end", "SQLParseException[Cannot cast `'a'` of type `text` to type `integer`]"),
        ("select true::int", "SQLParseException[Cannot cast expressions from type `boolean` to type `integer`]"),
        ("select 1::nosuch", "SQLParseException[Cannot find data type: nosuch]"),
        (
            "select a, count(*) from t",
            "SQLParseException['a' must appear in the GROUP BY clause or be used in an aggregation function. "
            "Perhaps you grouped by an alias that clashes with a column in the relations]",
        ),
        (
            "select a, (select max(w) from u where u.id = t.id) from t group by a",
            "SQLParseException['id' must appear in the GROUP BY clause or be used in an aggregation function. "
            "Perhaps you grouped by an alias that clashes with a column in the relations]",
        ),
        (
            "select a from t having a > 'x'",
            "SQLParseException[HAVING clause can only be used in GROUP BY or global aggregate queries]",
        ),
        ("select id from t where sum(id) > 1", "SQLParseException[Aggregate functions are not allowed in WHERE]"),
        ("select id from t where rank() over () > 1", "SQLParseException[Window functions are not allowed in WHERE]"),
        (
            "select unnest(tags), count(*) from t group by 1",
            "SQLParseException[Table functions are not allowed in GROUP BY]",
        ),
        ("select sum(id) over w from t", "SQLParseException[Window w does not exist]"),
        (
            "select count(distinct a, id) from t",
            "UnsupportedFeatureException[count(DISTINCT x) does not accept more than one argument]",
        ),
        (
            "select upper(a) filter (where true) from t",
            "UnsupportedFeatureException[Only aggregate functions allow a FILTER clause]",
        ),
        ("select id from t order by 2", "SQLParseException[ORDER BY position 2 is not in select list]"),
        ("select o from t order by o", "UnsupportedFeatureException[Cannot ORDER BY 'o': invalid data type 'object'.]"),
        (
            "select id, a from t union all select id from u",
            "UnsupportedFeatureException[Number of output columns must be the same for all parts of a UNION]",
        ),
        (
            "select (select id, a from t)",
            "UnsupportedFeatureException[Subqueries with more than 1 column are not supported.]",
        ),
        ("select id from t where 1", "SQLParseException[Expected query value to be of type `Boolean`, but got: 1]"),
        ("values (default)", "UnsupportedFeatureException[DEFAULT is only allowed in INSERT VALUES]"),
        ("select * from t natural join u", "UnsupportedFeatureException[join criteria NaturalJoin not supported]"),
        (
            "select * from t join u using (a)",
            "SQLParseException[column a specified in USING clause does not exist in right table]",
        ),
        (
            "drop table sys.nodes",
            'OperationOnInaccessibleRelationException[The relation "sys.nodes" doesn\'t support or allow DROP operations]',
        ),
        ("kill 'nosuch'", "SQLParseException[Can not parse job ID: 'nosuch']"),
        ("set global nosuch = 1", "SQLParseException[Setting 'nosuch' is not supported]"),
        ("set global \"node.name\" = 'x'", "SQLParseException[Setting 'node.name' is not supported]"),
        ("set global persistent 'x' = 1", "SQLParseException[Setting 'x' is not supported]"),
        (
            "set global stats.enabled = 'maybe'",
            "SQLParseException[Failed to parse value [maybe] as only [true] or [false] are allowed.]",
        ),
        (
            "set global stats.jobs_log_size = -1",
            "SQLParseException[Failed to parse value [-1] for setting [stats.jobs_log_size] must be >= 0]",
        ),
        (
            "set global stats.jobs_log_size = 'a'",
            "SQLParseException[Failed to parse value [a] for setting [stats.jobs_log_size]]",
        ),
        (
            "set global \"indices.breaker.query.limit\" = '200%'",
            "SQLParseException[percentage should be in [0-100], got [200]]",
        ),
        (
            "set global indices.recovery.max_bytes_per_sec = 'x'",
            "SQLParseException[failed to parse setting [indices.recovery.max_bytes_per_sec] with value [x] as a size in bytes]",
        ),
        (
            "set global transient \"logger.io.crate\" = 'nolevel'",
            "SQLParseException[Unknown level constant [NOLEVEL].]",
        ),
        (
            "explain (analyze, costs) select 1",
            "SQLParseException[The ANALYZE and COSTS options are not allowed together]",
        ),
        # Ours: CrateDB's class, our words.
        (
            "set global cluster.graceful_stop.min_availability = 'some'",
            "SQLParseException[Failed to parse value [some] for setting [cluster.graceful_stop.min_availability] must be one of "
            "[none, primaries, full]]",
        ),
        (
            "set global cluster.max_shards_per_node = 0",
            "SQLParseException[Failed to parse value [0] for setting [cluster.max_shards_per_node] must be >= 1]",
        ),
        (
            "set global gateway.expected_data_nodes = 3",
            "UnsupportedFeatureException[Setting 'gateway.expected_data_nodes' cannot be set/reset at runtime]",
        ),
        ("reset global gateway", "SQLParseException[Setting 'gateway' is not supported]"),
        (
            "select match(a, 'x') from t",
            "UnsupportedFeatureException[match predicate cannot be selected]",
        ),
        ("select 'nosuch'::regclass", "RelationUnknown[Relation 'nosuch' unknown]"),
        ("create user x", "UnsupportedFeatureException[CREATE USER is not supported]"),
    ],
)
def test_a_wrong_statement_is_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text) == error


def test_unknown_keys_of_dynamic_objects_are_null_if_the_session_says_so() -> None:
    session = SessionView(settings={"error_on_unknown_object_key": False})
    analysis("select o['nosuch'] from t", TABLES, session=session)
    assert "unknown" in error_of("select s['nosuch'] from t", session=session)


def test_a_relation_is_found_along_the_search_path() -> None:
    analysis("select oid from pg_class", EMPTY)
    analysis("select table_name from information_schema.tables", EMPTY)
    assert error_of("select * from tables", EMPTY) == "RelationUnknown[Relation 'tables' unknown]"
    assert error_of("select 1 from sys.shardes", EMPTY).endswith("unknown. Maybe you meant 'shards']")
    session = SessionView(search_path=("information_schema",))
    analysis("select table_name from tables", EMPTY, session=session)


def test_three_part_names_work() -> None:
    assert types_of("select crate.doc.t.id, doc.t.a from crate.doc.t") == ["integer", "text"]


def test_deep_expressions_are_too_complex_rather_than_a_crash() -> None:
    text = "a" + " + 1" * 120
    for _ in range(60):
        text = f"({text})" + " + 1" * 100
    assert error_of(f"select {text} from t").startswith("SQLParseException[")


def test_names_that_stand_for_more_and_more_queries_are_refused() -> None:
    doubling = ", ".join([f"c{i} AS (SELECT p.a FROM c{i - 1} p, c{i - 1} q)" for i in range(1, 30)])
    text = f"WITH c0 AS (SELECT 1 a), {doubling} SELECT * FROM c29"
    assert error_of(text) == (
        "SQLParseException[Names of WITH and views stand for more than 500 queries in this statement]"
    )
