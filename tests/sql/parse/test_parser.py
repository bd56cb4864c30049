"""What parses, what does not, and where the error is said to be. Places: what CrateDB 6.4.3 answers."""

from __future__ import annotations

import pytest

from cratepy.errors import ParsingError
from cratepy.sql.parse import tree
from cratepy.sql.parse.parser import parse


def parsed(text: str) -> tree.Statement:
    (statement,) = parse(text)
    return statement.tree


def expression(text: str) -> tree.Node:
    query = parsed(f"select {text}")
    assert isinstance(query, tree.Query)
    assert isinstance(query.body, tree.Select)
    return query.body.items[0].expression


@pytest.mark.parametrize(
    "text",
    [
        "select",
        "select $1,$2",
        "select x::oid[], any($1::oid[])",
        "select a operator(pg_catalog.~) '^(x)$' collate pg_catalog.\"default\"",
        "select 'pg_class'::pg_catalog.regclass",
        "select array_agg(x order by y desc nulls last) from t",
        'select array(select 1), array[1, 2], [1, 2], {a = 1, "B" = [1]}',
        "select obj['k']['l'], arr[1], arr[1:2], arr[:2], arr[1:], (o).k",
        "select try_cast('1' as int), timestamp with time zone '2020-01-01', date '2020-01-01'",
        "select a ~ b, a ~* b, a !~ b, a !~* b, a ~~ b, a ilike any(['x'])",
        "select 1 is distinct from 2, 1 between symmetric 2 and 0, null is unknown, 1 isnull",
        "select extract(day from ts), trim(leading 'x' from y), substring(a from 1 for 2), position('a' in 'b')",
        "select interval '1' day, interval '1-2' year to month, ts at time zone 'UTC'",
        "select sum(x) filter (where y) over w from t window w as (partition by a order by b rows between 1 preceding and current row)",
        "select lag(x) ignore nulls over (order by y groups 1 preceding) from t",
        "with recursive r (n) as (select 1 union all select n + 1 from r) select * from r",
        "select * from a join b using (id) left join c on a.id = c.id, d cross join e",
        "select * from lateral, (select 1) x, a, lateral l join lateral on true where (1 = 1)",
        "select trim(from a), trim(both from a), trim(trailing 'x' from a), trim('x' from a)",
        "select * from (a join b on true) join (select 1) c on true",
        "select * from unnest([1, 2]) with ordinality as t (x, n)",
        "select * from (values (1, 'a'), (2, 'b')) v (x, y)",
        "(select 1) union (select 2 order by 1 limit 1) intersect select 3 except all select 4",
        "select 1 as select, 2 as default",
        "select * from (((select 1) union (select 2)) a join ((select 3)) b on true) join c on true",
        "select * from ((((select 1)) a inner join t on true) left join u on true)",
        "select substring('abc' for 2)",
        "values (1), (2) order by 1 limit all offset 1 rows",
        "select 1 fetch first 3 rows only",
        "select 1 limit '2' offset '1'",
        "select count(*) from t group by all having count(*) > 1",
        "create table if not exists a.b (id int primary key, o object(dynamic) as (x int, y array(text)),"
        " g generated always as id + 1, h as (id * 2), t text index using fulltext with (analyzer = 'english'),"
        " c text storage with (columnstore = false), constraint ck check (id > 0), primary key (id))"
        " clustered by (id) into 3 shards with (number_of_replicas = '0-1', \"refresh_interval\" = 500)",
        "create table x as select 1 as a",
        "create or replace view v as (select 1)",
        "create schema if not exists s",
        "drop schema if exists a, b cascade",
        "drop view if exists a, b",
        "alter table t add column x int, add y text",
        "alter table t set (number_of_replicas = 1)",
        "alter table t reset (number_of_replicas, refresh_interval)",
        "alter table t rename to u",
        'insert into t (a, "B") values (1, default) on conflict (a) do update set b = excluded.b returning *',
        "insert into t with x as (select 1) select * from x",
        "update t as x set a = 1, o['k'] = 2, arr[1] = 3 where x.id = 1 returning a",
        "delete from t x where id = 1 returning id",
        "copy t (a, b) from ['f1', 'f2'] with (format = 'csv', header = false) return summary",
        "refresh table a, b.c",
        "optimize table a with (max_num_segments = 1)",
        "explain (analyze, verbose false) select 1",
        "explain verbose select 1",
        "set session application_name = 'x'",
        "set local a.b to default",
        "set search_path to a, b",
        "set time zone interval '+00:00' hour to minute",
        "set names 'utf8'",
        "set session characteristics as transaction isolation level read committed, read only",
        "set transaction isolation level serializable",
        'set global persistent stats.jobs_log_size = 5, "a.b" = true',
        "reset global a.b, c",
        "reset all",
        "show tables from s like 'x%'",
        "show columns in t from s where column_name = 'a'",
        "show create table s.t",
        "show transaction isolation level",
        "show all",
        "begin transaction isolation level serializable read only",
        "start transaction",
        "commit and no chain",
        "rollback to savepoint a",
        "savepoint a",
        "release savepoint a",
        "declare c insensitive no scroll cursor with hold for select 1",
        "fetch forward all from c",
        "fetch absolute -1 from c",
        "fetch c",
        "move backward 2 in c",
        "close all",
        "deallocate prepare all",
        "discard all",
        "discard temp",
        "listen x",
        "unlisten *",
        "notify x, 'y'",
        "kill all",
        "kill '58aw1234-0000-0000-0000-000000000000'",
        "analyze",
        'select "end", filter, rows, first_name, type, name, key, values from t',
    ],
)
def test_it_parses(text: str) -> None:
    assert len(parse(text)) == 1


@pytest.mark.parametrize(
    "item", ["2", "'b'", "1.5e3", "2::text", "3 + 4", "'a' || 'b'", "(5)", "-1", "1 = 1", "'x' like 'y'", "1 and 2"]
)
def test_an_item_of_a_list_is_what_it_is_alone(item: str) -> None:
    alone, first, last = (expression(text) for text in (item, "7", "'z'"))
    listed = expression(f"[7, {item}, 'z']")
    assert isinstance(listed, tree.ArrayNode)
    assert listed.items == (first, alone, last)
    within = expression(f"x in ({item})")
    assert isinstance(within, tree.InItems)
    assert within.items == (alone,)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("selct 1", "1:1"),
        ("select from", "1:12"),
        ("select 1 frm x", "1:14"),
        ("select * from", "1:14"),
        ("select 1 +", "1:11"),
        ("select (1", "1:10"),
        ("select 1)", "1:9"),
        ("create tabel t (a int)", "1:8"),
        ("create table t (a int,)", "1:23"),
        ("create table t (a int b int)", "1:23"),
        ("update t set", "1:13"),
        ("delete t", "1:8"),
        ("truncate table t", "1:1"),
        ("select distinct on (a) a from t", "1:17"),
        ("select a b c from t", "1:12"),
        ("select :a", "1:8"),
        ("select 1 limit -1", "1:16"),
        ("select 1 order", "1:15"),
        ("select * from t for update", "1:17"),
        ("explain", "1:8"),
        ("kill", "1:5"),
    ],
)
def test_a_syntax_error_names_its_place(text: str, place: str) -> None:
    with pytest.raises(ParsingError, match=rf"^line {place}: "):
        parse(text)


def test_casts_and_subscripts_bind_tighter_than_signs_and_arithmetic() -> None:
    node = expression("-1::text || 2 * x[1]")
    assert isinstance(node, tree.Binary)
    assert node.operator == "||"
    assert isinstance(node.left, tree.Unary)
    assert isinstance(node.left.operand, tree.CastNode)
    assert isinstance(node.right, tree.Binary)


def test_operators_of_one_level_group_to_the_left() -> None:
    node = expression("1 - 2 - 3")
    assert isinstance(node, tree.Binary)
    assert isinstance(node.left, tree.Binary)
    assert node.right == tree.NumberWord("3")


def test_not_binds_looser_than_comparison_and_tighter_than_and() -> None:
    node = expression("not a = 1 and b")
    assert isinstance(node, tree.Logic)
    assert isinstance(node.operands[0], tree.Unary)


def test_question_marks_count_from_the_left_and_numbers_name_themselves() -> None:
    (marks,) = parse("select ?, ?")
    (numbers,) = parse("select $3, $1")
    assert marks.parameters == 2
    assert numbers.parameters == 3


def test_the_text_of_a_statement_is_its_own_part() -> None:
    assert [statement.text for statement in parse(" select 1 ; select 'a;b' ;")] == ["select 1", "select 'a;b'"]


def test_intersect_binds_tighter_than_union() -> None:
    query = parsed("select 1 union select 2 intersect select 3")
    assert isinstance(query, tree.Query)
    assert isinstance(query.body, tree.SetNode)
    assert query.body.kind == "union"
    assert isinstance(query.body.right, tree.SetNode)


def test_an_end_without_block_commits() -> None:
    assert parsed("end") == tree.TransactionStatement(action="commit")
