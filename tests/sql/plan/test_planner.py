"""Statements to plans: what is put where, and what EXPLAIN shows."""

from __future__ import annotations

import msgspec
import pytest

from cratepy.errors import CrateError, NoMaster, ShardUnavailable, UnsupportedFeature
from cratepy.model.names import RelationName
from cratepy.model.plan import (
    DeclarePlan,
    DeletePlan,
    ExplainPlan,
    GetPlan,
    InsertPlan,
    NoOperationPlan,
    QueryPlan,
    UpdatePlan,
)
from cratepy.model.relations import Item, OutputColumn, Relation, output_columns
from cratepy.model.types import INTEGER
from cratepy.sql.analyze.statements import (
    AnalyzedDeclare,
    AnalyzedDelete,
    AnalyzedDirect,
    AnalyzedExplain,
    AnalyzedInsert,
    AnalyzedQuery,
    AnalyzedStatement,
    AnalyzedUpdate,
)
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.planner import Planned, Surroundings, plan_statement
from tests.sql.plan.building import Builder, both, eq, gt, lit, parameter, state, where
from tests.sql.plan.test_physical import unfolded

TA = RelationName("doc", "ta")


def _planned(statement: AnalyzedStatement, nodes: int = 3) -> Planned:
    estimates = Estimates({"uuid-ta": 1_000})
    return plan_statement(
        statement, Surroundings(state=state(nodes), handler_id="n1", fold=unfolded, estimates=estimates)
    )


def _query(relation: Relation) -> AnalyzedQuery:
    return AnalyzedQuery(relation=relation, columns=output_columns(relation), tables=("uuid-ta",))


def _by_key() -> AnalyzedQuery:
    b = Builder()
    scan = b.scan("ta", "id", "a")
    return _query(where(scan, eq(b["ta.id"], parameter(0, INTEGER))))


def _by_scan() -> AnalyzedQuery:
    b = Builder()
    scan = b.scan("ta", "id", "a")
    return _query(b.project(where(scan, both(gt(b["ta.a"], lit(1)), gt(b["ta.id"], lit(2)))), b["ta.id"]))


def _insert(query: AnalyzedQuery | None) -> AnalyzedInsert:
    rows = None if query is not None else ((lit(1),),)
    return AnalyzedInsert(
        plan=InsertPlan(table_uuid="uuid-tc", table=RelationName("doc", "tc"), targets=("id",), rows=rows),
        query=query,
        columns=None,
    )


def _update(find: AnalyzedQuery) -> AnalyzedUpdate:
    return AnalyzedUpdate(
        table_uuid="uuid-ta", table=TA, find=find, assignments=(Item(3, "a", lit(1)),), generated=(), checks=(),
        returning=(), expects_version=False, columns=None,
    )  # fmt: skip


def _delete(find: AnalyzedQuery) -> AnalyzedDelete:
    return AnalyzedDelete(table_uuid="uuid-ta", table=TA, find=find, returning=(), expects_version=False, columns=None)


def test_a_query_has_its_columns_and_tables() -> None:
    planned = _planned(_by_scan())
    assert isinstance(planned.plan, QueryPlan)
    assert planned.plan.tables == ("uuid-ta",)
    assert planned.columns == planned.plan.columns


def test_insert_of_values_is_as_analyzed_and_insert_from_query_has_phases() -> None:
    statement = _insert(None)
    assert _planned(statement).plan is statement.plan
    plan = _planned(_insert(_by_key())).plan
    assert isinstance(plan, InsertPlan)
    assert isinstance(plan.query, QueryPlan)


def test_update_and_delete_find_rows_by_key_or_by_query() -> None:
    update = _planned(_update(_by_key())).plan
    assert isinstance(update, UpdatePlan)
    assert isinstance(update.find, GetPlan)
    delete = _planned(_delete(_by_scan())).plan
    assert isinstance(delete, DeletePlan)
    assert isinstance(delete.find, QueryPlan)


def test_a_cursor_holds_its_query() -> None:
    plan = _planned(AnalyzedDeclare(name="c", query=_by_scan(), is_holdable=True)).plan
    assert isinstance(plan, DeclarePlan)
    assert isinstance(plan.query, QueryPlan)
    assert plan.is_holdable


def test_what_needs_no_planning_is_passed_on() -> None:
    columns = (OutputColumn(1, "x", INTEGER),)
    planned = _planned(AnalyzedDirect(plan=NoOperationPlan(), columns=columns, tag="SET"))
    assert planned.plan == NoOperationPlan()
    assert planned.columns == columns


def _explained(statement: AnalyzedStatement, **flags: bool) -> Planned:
    return _planned(AnalyzedExplain(statement=statement, **flags))


def test_explain_shows_the_tree_and_the_phases() -> None:
    planned = _explained(_by_scan(), shows_costs=True)
    assert isinstance(planned.plan, ExplainPlan)
    assert planned.columns is not None
    assert [column.name for column in planned.columns] == ["QUERY PLAN"]
    assert planned.plan.analyze is None
    assert planned.plan.lines == (
        (
            "Eval[id] (rows=1000)\n"
            "  └ Collect[doc.ta | [id, a] | ((a > 1) AND (id > 2))] (rows=1000)\n"
            "Phase 0 on n1, n2, n3: gather to phase 1\n"
            "  Eval[id]\n"
            "    └ Collect[doc.ta | [id, a] | ((a > 1) AND (id > 2))]\n"
            "Phase 1 on n1: to the client\n"
            "  Receive[phase 0 | id]",
        ),
    )


def test_explain_of_a_get() -> None:
    plan = _explained(_by_key()).plan
    assert isinstance(plan, ExplainPlan)
    assert plan.lines == (("Get[doc.ta | id, a | DocKeys{$1} | (id = $1)]",),)


def test_explain_verbose_has_a_row_per_rule() -> None:
    planned = _explained(_by_scan(), is_verbose=True)
    assert isinstance(planned.plan, ExplainPlan)
    assert planned.columns is not None
    assert [column.name for column in planned.columns] == ["STEP", "QUERY PLAN"]
    assert [step for step, _ in planned.plan.lines] == [
        "Initial logical plan",
        "push_filters_down",
        "Final logical plan",
        "Phases",
    ]


def test_explain_analyze_carries_the_plan_to_run() -> None:
    plan = _explained(_by_scan(), is_analyze=True).plan
    assert isinstance(plan, ExplainPlan)
    assert isinstance(plan.analyze, QueryPlan)


def test_explain_of_writes_shows_how_rows_are_found() -> None:
    plan = _explained(_delete(_by_key())).plan
    assert isinstance(plan, ExplainPlan)
    assert plan.lines == (("Delete[doc.ta]\n  └ Get[doc.ta | id, a | DocKeys{$1} | (id = $1)]",),)


def test_explain_of_rows_as_they_are_written() -> None:
    planned = _explained(_insert(None))
    assert isinstance(planned.plan, ExplainPlan)
    assert planned.plan.lines == (("InsertFromValues[doc.tc | id]",),)
    verbose = _explained(_insert(None), is_verbose=True).plan
    assert isinstance(verbose, ExplainPlan)
    assert verbose.lines == (("Final logical plan", "InsertFromValues[doc.tc | id]"),)
    with pytest.raises(UnsupportedFeature, match="EXPLAIN ANALYZE is not supported for INSERT"):
        _explained(_insert(None), is_analyze=True)


def test_explain_of_anything_else_is_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        _explained(AnalyzedDirect(plan=NoOperationPlan(), columns=None, tag="SET"))
    with pytest.raises(UnsupportedFeature):
        _explained(_delete(_by_key()), is_analyze=True)


def test_the_same_statement_gives_the_same_plan() -> None:
    assert _planned(_by_scan()) == _planned(_by_scan())


@pytest.mark.parametrize(("master", "wanted"), [("n1", ShardUnavailable), (None, NoMaster)])
def test_without_a_master_changes_are_refused_as_such_whatever_shards_are_missing(
    master: str | None, wanted: type[CrateError]
) -> None:
    around = Surroundings(
        state=msgspec.structs.replace(state(3), nodes={}, master_id=master),
        handler_id="n1",
        fold=unfolded,
        estimates=Estimates({}),
    )
    with pytest.raises(wanted):
        plan_statement(_delete(_by_scan()), around)
    with pytest.raises(ShardUnavailable):
        plan_statement(_by_scan(), around)
