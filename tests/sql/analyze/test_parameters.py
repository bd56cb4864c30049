"""Types of parameters: from their place, from the client, or text."""

from __future__ import annotations

import pytest

from cratepy.model.types import BIGINT, SMALLINT
from tests.sql.analyze.helpers import TABLES, analysis, plan_of


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("select * from t where id = $1", ["integer"]),
        ("select * from t where $1 = n and $2 < d", ["bigint", "double precision"]),
        ("select * from t where id in ($1, $2)", ["integer", "integer"]),
        ("select * from t where id = any($1)", ["integer_array"]),
        ("select * from t where a like $1 and ts > $2", ["text", "timestamp without time zone"]),
        ("select $1, $2::int", ["text", "integer"]),
        ("select $1 + 1, $2 || 'x', upper($3)", ["integer", "text", "text"]),
        ("select * from t limit $1 offset $2", ["bigint", "bigint"]),
        ("select coalesce($1, 5), case when $2 then $3 else 1.5 end", ["integer", "boolean", "double precision"]),
        ("insert into t (id, a, n) values ($1, $2, $3)", ["integer", "text", "bigint"]),
        ("insert into u (id, w) select $1, $2", ["integer", "smallint"]),
        ("update t set n = $1, o['k'] = $2 where id = $3", ["bigint", "integer", "integer"]),
        ("delete from t where id = $1", ["integer"]),
        ("select $2::int", ["text", "integer"]),
        ("kill $1", ["text"]),
    ],
)
def test_a_parameter_takes_the_type_of_its_place(text: str, types: list[str]) -> None:
    assert [kind.name for kind in analysis(text, TABLES).parameter_types] == types


def test_a_type_found_later_counts_for_the_earlier_use() -> None:
    found = analysis("select $1 from t where id = $1", TABLES)
    assert [kind.name for kind in found.parameter_types] == ["integer"]
    assert [column.type.name for column in found.statement.columns] == ["integer"]  # type: ignore[union-attr]


def test_a_given_type_is_kept_and_cast() -> None:
    found = analysis("select * from t where id = $1", TABLES, types=[SMALLINT])
    assert found.parameter_types == (SMALLINT,)
    found = analysis("insert into t (id) values ($1)", TABLES, types=[BIGINT])
    assert found.parameter_types == (BIGINT,)


def test_a_column_compared_with_a_parameter_stays_bare() -> None:
    assert "op_=(id, $1:integer)" in plan_of("select id from t where id = $1")
