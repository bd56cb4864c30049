"""INSERT, UPDATE, DELETE, COPY FROM: values in the types of their columns, rows found by version."""

from __future__ import annotations

import pytest

from cratepy.model.expressions import Column, Literal
from cratepy.model.relations import Item
from cratepy.model.schema import SYSTEM_COLUMN_IDS
from cratepy.sql.analyze.statements import AnalyzedCopyFrom, AnalyzedDelete, AnalyzedInsert, AnalyzedUpdate
from tests.sql.analyze.helpers import TABLES, analysis, error_of, shown, tree_lines, with_tables

STATE = with_tables(
    "CREATE TABLE w (id int PRIMARY KEY, a text DEFAULT 'dflt', n bigint, v varchar(3), r real, "
    "g AS n * 2, o object AS (k int), CHECK (n > 0))",
    state=TABLES,
)


def insert(text: str) -> AnalyzedInsert:
    found = analysis(text, STATE).statement
    assert isinstance(found, AnalyzedInsert)
    return found


def values(text: str) -> list[list[str]]:
    rows = insert(text).plan.rows
    assert rows is not None
    return [[shown(value) for value in row] for row in rows]


def test_literals_are_cast_to_the_types_of_their_columns() -> None:
    assert values("insert into w (id, n, r, a) values ('1', 2, 3, 4)") == [
        ["1:integer", "2:bigint", "3.0:real", "'4':text"]
    ]


def test_default_stands_for_the_columns_default() -> None:
    assert values("insert into w (id, a, n) values (1, default, default)") == [
        ["1:integer", "'dflt':text", "None:bigint"]
    ]


def test_columns_that_are_not_named_bring_defaults_generated_columns_and_checks() -> None:
    plan = insert("insert into w (id, n) values (1, 2)").plan
    assert [(item.name, shown(item.expression)) for item in plan.defaults] == [("a", "'dflt':text")]
    assert [(item.name, shown(item.expression)) for item in plan.generated] == [("g", "op_*(n, 2:bigint)")]
    assert [shown(item.expression) for item in plan.checks] == ["op_>(n, 0:bigint)"]
    column = plan.checks[0].expression.arguments[0]  # type: ignore[union-attr]
    assert isinstance(column, Column)
    assert column.id == 3, "a column of the table has its oid as id"


def test_a_query_is_cast_to_the_targets_and_its_columns_match_them() -> None:
    found = insert("insert into w (id, n) select id, w from u")
    assert found.query is not None
    assert tree_lines(found.query.relation)[0] == "Project [id=id, n=cast(w, bigint)]"
    assert [column.type.name for column in found.query.columns] == ["integer", "bigint"]


def test_values_with_subqueries_become_a_query() -> None:
    assert insert("insert into w (id) values ((select max(id) from t))").query is not None


def test_the_table_may_qualify_its_columns_in_do_update() -> None:
    plain = insert("insert into w (id, n) values (1, 2) on conflict (id) do update set n = n + excluded.n").plan
    qualified = insert("insert into w (id, n) values (1, 2) on conflict (id) do update set n = w.n + excluded.n").plan
    assert plain.conflict == qualified.conflict


def test_many_literal_rows_become_columns_of_values() -> None:
    rows = ", ".join(f"({i}, {i}.5, 'x{i}', null)" for i in range(50))
    plan = insert(f"insert into w (id, r, a, n) values {rows}").plan
    assert plan.rows is None
    assert plan.columns_data is not None
    assert [column[1] for column in plan.columns_data] == [1, 1.5, "x1", None]


def test_many_literal_rows_are_checked_like_few() -> None:
    rows = ", ".join(f"({i}, 'x{i}')" for i in range(50))
    assert error_of(f"insert into w (id, n) values {rows}", STATE) == (
        "SQLParseException[Cannot cast `'x0'` of type `text` to type `bigint`]"
    )
    rows = ", ".join(f"({i}, 'long{i}')" for i in range(50))
    assert "too long" in error_of(f"insert into w (id, v) values {rows}", STATE)
    rows = ", ".join(f"({i * 10_000_000_000}, 'x')" for i in range(50))
    assert "integer" in error_of(f"insert into w (id, a) values {rows}", STATE)
    rows = ", ".join(f"(null, 'x{i:20}')" for i in range(50))
    assert "must not be NULL" in error_of(f"insert into w (id, a) values {rows}", STATE)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("insert into w values (5, 'x', 1, 'v', 1.5, 10, null, 9)", "Number of target columns (id, a, n, v, r, g, o) of insert statement doesn't match number of source columns (col1, col2, col3, col4, col5, col6, col7, col8)"),
        ("insert into w (id, a) values (5)", "Number of target columns (id, a) of insert statement doesn't match number of source columns (col1)"),
        ("insert into w (a) values ('nokey')", "Column `id` is required but is missing from the insert statement"),
        ("insert into w (id) values (null)", "A primary key value must not be NULL"),
        ("insert into w (id, nosuch) values (1, 2)", "Column nosuch unknown"),
        ("insert into w (id, id) values (1, 2)", 'column "id" specified more than once'),
        ("insert into w (id, _id) values (1, 'x')", '"_id" Cannot write to system column'),
        ("insert into w (id, a) values (1, [1])", "Cannot convert VALUES element in row 1 of type `integer_array` to `text` for `a`"),
        ("insert into w (id, a) values (1, a)", "Columns cannot be used in this context. Maybe you wanted to use a string literal which requires single quotes: 'a'"),
        ("insert into w (id, v) values (1, 'abcd')", "'abcd' is too long for the text type of length: 3"),
        ("insert into w (id, n) values ('x', 1)", "Cannot cast `'x'` of type `text` to type `integer`"),
        ("insert into w (id) values (1) on conflict (nosuch) do nothing", "Column nosuch unknown"),
        ("insert into w (id) values (1) on conflict (a) do nothing", "Conflict target (a) did not match the primary key columns ([id])"),
        ("insert into w (id) values (1) on conflict (id) do update set id = 5", "Validation failed for id: Updating a primary key is not supported"),
        ("insert into w (id) values (1) on conflict (id) do update set a = other.a", "Relation 'doc.other' unknown"),
        ("insert into sys.nodes (id) values ('x')", 'The relation "sys.nodes" doesn\'t support or allow INSERT operations'),
        ("update w set id = 1", "Validation failed for id: Updating a primary key is not supported"),
        ("update w set nosuch = 1", "Column nosuch unknown"),
        ("update w set n = 'x'", "Validation failed for n: Cannot cast expression `'x'` of type `text` to `bigint`"),
        ("update w set n = count(*)", "Function count is not a scalar function: it cannot be used in SET"),
        ("delete from w where _seq_no = 1", '"_seq_no" and "_primary_term" columns can only be used together in the WHERE clause with equals comparisons and if there are also equals comparisons on primary key columns'),
    ],
)  # fmt: skip
def test_wrong_writes_are_refused_with_these_words(text: str, error: str) -> None:
    assert error_of(text, STATE).split("[", 1)[1].removesuffix("]") == error


def test_excluded_is_minus_the_oid_and_the_stored_value_the_oid() -> None:
    plan = insert("insert into w (id, n) values (1, 2) on conflict (id) do update set n = n + excluded.n").plan
    assert plan.conflict is not None
    (assignment,) = plan.conflict.assignments
    left, right = assignment.expression.arguments  # type: ignore[union-attr]
    assert (left.id, right.id) == (3, -3)
    assert assignment.name == "n"


def test_do_nothing_has_no_assignments() -> None:
    plan = insert("insert into w (id) values (1) on conflict do nothing").plan
    assert plan.conflict is not None
    assert plan.conflict.assignments == ()


def test_returning_reads_columns_by_oid_and_system_columns_by_their_ids() -> None:
    found = insert("insert into w (id) values (1) returning id, n + 1 as x, _id, _version")
    assert found.columns is not None
    assert [column.name for column in found.columns] == ["id", "x", "_id", "_version"]
    ids = [item.expression.id for item in found.plan.returning if isinstance(item.expression, Column)]
    assert ids == [1, SYSTEM_COLUMN_IDS["_id"], SYSTEM_COLUMN_IDS["_version"]]


def test_update_finds_version_columns_and_what_it_reads() -> None:
    found = analysis("update w set a = a || 'x', o['k'] = 5 where id = 1 and r > 2", STATE).statement
    assert isinstance(found, AnalyzedUpdate)
    names = [column.name for column in found.find.columns]
    assert names[:3] == ["_id", "_seq_no", "_primary_term"]
    assert set(names[3:]) == {"a", "n", "o"}, "what SET, generated columns and checks read, and not what WHERE reads"
    assert [(item.name, shown(item.expression)) for item in found.assignments] == [
        ("a", "op_||(a, 'x':text)"),
        ("o['k']", "5:integer"),
    ]
    assert not found.expects_version


def test_a_subquery_in_set_is_one_more_column_of_what_is_found() -> None:
    found = analysis("update w set n = (select max(id) from t)", STATE).statement
    assert isinstance(found, AnalyzedUpdate)
    last = found.find.columns[-1]
    assert last.type.name == "integer"
    assert shown(found.assignments[0].expression) == f"cast({last.name}, bigint)"


def test_a_pinned_version_is_expected() -> None:
    found = analysis("update w set a = 'x' where id = 1 and _seq_no = 3 and _primary_term = 1", STATE).statement
    assert isinstance(found, AnalyzedUpdate)
    assert found.expects_version


def test_delete_finds_the_rows_by_any_predicate() -> None:
    found = analysis("delete from w x where x.n > 1 and x.id in (select id from t) returning id", STATE).statement
    assert isinstance(found, AnalyzedDelete)
    assert [column.name for column in found.find.columns] == ["_id", "_seq_no", "_primary_term", "id"]
    assert found.columns is not None


def test_copy_from_carries_options_and_targets() -> None:
    found = analysis(
        "copy w (id, a) from ['x', 'y'] with (format = 'csv', bulk_size = 5) return summary", STATE
    ).statement
    assert isinstance(found, AnalyzedCopyFrom)
    assert isinstance(found.plan.uris, Literal)
    assert (found.plan.format, found.plan.options, found.plan.targets) == ("csv", {"bulk_size": 5}, ("id", "a"))
    assert found.columns is not None
    assert [column.name for column in found.columns] == ["node", "uri", "success_count", "error_count", "errors"]
    assert all(isinstance(item, Item) for item in found.plan.insert.generated)


@pytest.mark.parametrize("vector", ["[1.5]", "[1, 2, 3, 4]", "[]"])
def test_a_vector_has_the_dimensions_of_its_column(vector: str) -> None:
    vectors = with_tables("create table vectors (id int, place float_vector(3))")
    analysis("insert into vectors (place) values ([1, 2.5, 3])", vectors)
    assert error_of(f"insert into vectors (place) values ({vector})", vectors) == (
        "SQLParseException[The number of vector dimensions does not match the field type]"
    )
