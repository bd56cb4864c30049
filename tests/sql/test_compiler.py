"""The whole front door: text to compiled statements."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cratepy.errors import ParsingError, RelationUnknown
from cratepy.model.expressions import Expression
from cratepy.model.plan import CompiledStatement, CountPlan, DeletePlan, ExplainPlan, GetPlan, InsertPlan, QueryPlan
from cratepy.model.types import INTEGER
from cratepy.sql.compiler import compile_text
from cratepy.sql.session_view import SessionView
from tests.sql.plan.building import state


def _unfolded(expressions: Sequence[Expression]) -> list[Expression]:
    return list(expressions)


def _compiled(text: str, nodes: int = 3) -> list[CompiledStatement]:
    return compile_text(
        text,
        parameter_types=(),
        session=SessionView(),
        state=state(nodes),
        handler_id="n1",
        fold=_unfolded,
        new_id=lambda: "new",
        now_ms=0,
    )


def test_a_get_with_a_parameter_knows_its_type() -> None:
    (compiled,) = _compiled("SELECT id, b FROM ta WHERE id = $1")
    assert isinstance(compiled.plan, GetPlan)
    assert compiled.parameter_types == (INTEGER,)
    assert compiled.tag == "SELECT"
    assert compiled.state_version == 7
    assert compiled.is_cacheable
    assert compiled.columns is not None
    assert [column.name for column in compiled.columns] == ["id", "b"]


def test_every_statement_of_a_text_is_compiled() -> None:
    first, second = _compiled("SELECT count(*) FROM ta; SELECT g FROM ta GROUP BY g")
    assert isinstance(first.plan, CountPlan)
    assert isinstance(second.plan, QueryPlan)
    assert "count" in first.text


def test_on_one_node_a_query_is_one_phase() -> None:
    (compiled,) = _compiled("SELECT g, count(*) FROM ta JOIN tb ON ta.id = tb.ta_id GROUP BY g ORDER BY 2 LIMIT 3", 1)
    assert isinstance(compiled.plan, QueryPlan)
    assert len(compiled.plan.phases) == 1


def test_writes_have_plans() -> None:
    (insert,) = _compiled("INSERT INTO tc (id) SELECT id FROM ta")
    assert isinstance(insert.plan, InsertPlan)
    assert isinstance(insert.plan.query, QueryPlan)
    (delete,) = _compiled("DELETE FROM ta WHERE id = 1")
    assert isinstance(delete.plan, DeletePlan)
    assert isinstance(delete.plan.find, GetPlan)


def test_explain_is_one_row_of_text() -> None:
    (compiled,) = _compiled("EXPLAIN SELECT id FROM ta WHERE a = 1")
    assert isinstance(compiled.plan, ExplainPlan)
    assert len(compiled.plan.lines) == 1
    assert "Collect[doc.ta" in compiled.plan.lines[0][0]


def test_errors_are_client_errors() -> None:
    with pytest.raises(ParsingError):
        _compiled("SELEC 1")
    with pytest.raises(RelationUnknown):
        _compiled("SELECT 1 FROM nowhere")
