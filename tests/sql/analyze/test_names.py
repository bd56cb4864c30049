"""Names and types of output columns. Expected: what CrateDB 6.4.3 answers (captured), unless a comment says otherwise."""

from __future__ import annotations

import pytest

from tests.sql.analyze.helpers import names_of, types_of


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("1", "1"),
        ("-1", "- 1"),
        ("1_000", "1000"),
        ("1e3", "1000.0"),
        ("null", "NULL"),
        ("true", "true"),
        ("'it''s'", "'it''s'"),
        ("b'01'", "B'01'"),
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 != 2", "(1 <> 2)"),
        ("not true and null", "((NOT true) AND NULL)"),
        ("1 not between 0 and 2", "(NOT (1 BETWEEN 0 AND 2))"),
        ("1 not in (2, null)", "(NOT (1 IN (2, NULL)))"),
        ("1 is not null", "(1 IS NOT NULL)"),
        ("1 is distinct from null", "(1 IS DISTINCT FROM NULL)"),
        ("true is true", "op_is"),
        ("'a' || 'b'", "op_||"),
        ("[1] && [2]", "array_overlap"),
        ("'a' like 'b'", "('a' LIKE 'b')"),
        ("'a' not like any(['b'])", "('a' NOT LIKE ANY (['b']) )"),
        ("1 = any([1])", "1 = ANY([1])"),
        ("'a' !~* 'b'", "('a' !~* 'b')"),
        ("'1'::int", "CAST('1' AS int)"),
        ("cast(1 as decimal(5, 1))", "CAST(1 AS decimal(5, 1))"),
        ("'{a}'::text[]", "CAST('{a}' AS ARRAY(text))"),
        ("timestamp '2020-01-01'", "CAST('2020-01-01' AS timestamp)"),
        ("interval '1' day", "INTERVAL '1' DAY"),
        ("[1, 2][1:]", "[1, 2][1:]"),
        ("{b = 1, a = 2}", '{"a"= 2, "b"= 1}'),
        ("case when true then 1 end", "(CASE WHEN true THEN 1 END)"),
        ("upper('a')", "upper"),
        ("if(true, 1)", "IF(true, 1)"),
        ("extract(day from current_date)", "EXTRACT(DAY FROM current_date)"),
        ("trim(leading 'x' from 'xa')", "trim"),
        ("user", "current_user"),
        ("current_schema", "current_schema"),
        ("$1", "$1"),
    ],
)
def test_an_expression_is_named_as_it_prints(expression: str, name: str) -> None:
    assert names_of(f"select {expression}") == [name]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("select t.id, t.o['k'], tags[1], (o).k from t", ["id", "o['k']", "tags[1]", "(o).k"]),
        ("select count(*), avg(n), max(id) + 1 from t", ["count", "avg", "(max(id) + 1)"]),
        ("select id as x, id y from t", ["x", "y"]),
        ("select * from (values (1, 'a')) v", ["col1", "col2"]),
        ("select * from unnest([1], ['a'])", ["col1", "col2"]),
        ("select * from unnest([1]) as u", ["u"]),
        ("select * from unnest([1], [2]) as u", ["col1", "col2"]),
        ("select * from unnest([1]) as u(v)", ["v"]),
        ("select * from upper('a') as u", ["u"]),
        ("select x.* from (select 1 as a, 2 as a) x", ["a", "a"]),
        ("values (1, 2)", ["col1", "col2"]),
        ("select * from u", ["id", "g", "w"]),
        ("select g.*, 1 from u g", ["id", "g", "w", "1"]),
    ],
)
def test_columns_of_queries_are_named(query: str, names: list[str]) -> None:
    assert names_of(query) == names


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("1", "integer"),
        ("2147483648", "bigint"),
        ("9223372036854775808", "numeric"),
        ("1.5", "double precision"),
        ("null", "undefined"),
        ("1 + 2147483648", "bigint"),
        ("'1' + 2", "integer"),
        ("1::smallint + 1::byte", "integer"),
        ("case when true then 1::byte else 3 end", "integer"),
        ("[1, 2147483648]", "bigint_array"),
        ("coalesce(null, 1.5)", "double precision"),
        ("{a = {b = 1}}['a']['b']", "integer"),
        ("[{a = 1}]['a']", "integer_array"),
        ("array(select 1)", "integer_array"),
        ("exists (select 1)", "boolean"),
        ("1::varchar(3)", "varchar(3)"),
        ("'1'::numeric(5, 2)", "numeric(5,2)"),
        ("'pg_class'::regclass", "regclass"),
        ("now() - now()", "interval"),
    ],
)
def test_an_expression_has_a_type(expression: str, kind: str) -> None:
    assert types_of(f"select {expression}") == [kind]


def test_parts_of_a_union_meet_in_one_type() -> None:
    assert types_of("select 1 union all select 2.5") == ["double precision"]
    assert types_of("select null union all select 'a'") == ["text"]


def test_undeclared_keys_of_ignored_objects_are_any_json() -> None:
    assert types_of("select i['x'] from t") == ["undefined"]
    assert types_of("select i['x'] || 'q', i['y'] + 1 from t") == ["text", "integer"]
