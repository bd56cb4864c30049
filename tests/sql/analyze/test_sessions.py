"""Statements about sessions and settings become plans without a query."""

from __future__ import annotations

import pytest

from cratepy.model.commands import SetClusterSettings
from cratepy.model.expressions import Literal
from cratepy.model.plan import (
    ClosePlan,
    CommandPlan,
    DeallocatePlan,
    FetchPlan,
    KillPlan,
    NoOperationPlan,
    Plan,
    ResetPlan,
    SetPlan,
    ShowPlan,
    TransactionPlan,
)
from cratepy.model.types import BOOLEAN, INTEGER, TEXT
from cratepy.sql.analyze.statements import AnalyzedDeclare, AnalyzedDirect, AnalyzedExplain, AnalyzedQuery
from tests.sql.analyze.helpers import TABLES, analysis, plan_of


@pytest.mark.parametrize(
    ("text", "plan", "tag"),
    [
        ("set application_name = 'x'", SetPlan(values=(("application_name", Literal("x", TEXT)),)), "SET"),
        ("set session a.b to on", SetPlan(values=(("a.b", Literal("on", TEXT)),)), "SET"),
        ("set local x = 5", SetPlan(values=(("x", Literal(5, INTEGER)),), is_local=True), "SET"),
        ("set x = true", SetPlan(values=(("x", Literal(True, BOOLEAN)),)), "SET"),
        ("set x to default", SetPlan(values=(("x", None),)), "SET"),
        ('set search_path = a, "B"', SetPlan(values=(("search_path", Literal("a, B", TEXT)),)), "SET"),
        ("set time zone 'UTC'", SetPlan(values=(("timezone", Literal("UTC", TEXT)),)), "SET"),
        ("set names 'utf8'", SetPlan(values=(("client_encoding", Literal("utf8", TEXT)),)), "SET"),
        ("set session characteristics as transaction read only", NoOperationPlan(), "SET"),
        (
            "set global stats = {jobs_log_size = 1}",
            CommandPlan(command=SetClusterSettings(settings={"stats.jobs_log_size": 1})),
            "SET",
        ),
        (
            "set global persistent stats.enabled = 'true'",
            CommandPlan(command=SetClusterSettings(settings={"stats.enabled": True}, is_persistent=True)),
            "SET",
        ),
        (
            "reset global stats.enabled",
            CommandPlan(command=SetClusterSettings(settings={"stats.enabled": None})),
            "RESET",
        ),
        ("reset all", ResetPlan(name=None), "RESET"),
        ("reset x", ResetPlan(name="x"), "RESET"),
        ("show all", ShowPlan(name=None), "SHOW"),
        ("show time zone", ShowPlan(name="timezone"), "SHOW"),
        ("begin", TransactionPlan(action="begin"), "BEGIN"),
        ("end transaction", TransactionPlan(action="commit"), "COMMIT"),
        ("rollback to savepoint a", TransactionPlan(action="rollback_to", name="a"), "ROLLBACK"),
        ("savepoint a", TransactionPlan(action="savepoint", name="a"), "SAVEPOINT"),
        ("kill all", KillPlan(job_id=None), "KILL"),
        ("fetch backward 2 from c", FetchPlan(name="c", direction="backward", count=2), "FETCH"),
        ("fetch all c", FetchPlan(name="c", direction="forward", count=None), "FETCH"),
        ("fetch -3 from c", FetchPlan(name="c", direction="backward", count=3), "FETCH"),
        ("move absolute 5 in c", FetchPlan(name="c", direction="absolute", count=5, is_move=True), "MOVE"),
        ("close all", ClosePlan(name=None), "CLOSE"),
        ("deallocate all", DeallocatePlan(name=None), "DEALLOCATE"),
        ("discard all", DeallocatePlan(name=None, discards_session=True), "DISCARD"),
        ("discard plans", NoOperationPlan(), "DISCARD"),
        ("listen x", NoOperationPlan(), "LISTEN"),
        ("analyze", NoOperationPlan(rowcount=1), "ANALYZE"),
    ],
)
def test_it_becomes_this_plan(text: str, plan: Plan, tag: str) -> None:
    found = analysis(text, TABLES)
    assert isinstance(found.statement, AnalyzedDirect)
    assert found.statement.plan == plan
    assert found.tag == tag


def test_a_cursor_holds_its_query() -> None:
    found = analysis("declare c scroll cursor with hold for select id from t", TABLES).statement
    assert isinstance(found, AnalyzedDeclare)
    assert (found.name, found.is_scrollable, found.is_holdable) == ("c", True, True)


def test_explain_holds_the_statement() -> None:
    found = analysis("explain (costs true, verbose) insert into u (id) select id from t", TABLES).statement
    assert isinstance(found, AnalyzedExplain)
    assert (found.is_verbose, found.is_analyze, found.shows_costs) == (True, False, True)


def test_show_tables_schemas_and_columns_are_queries() -> None:
    assert "Scan information_schema.tables" in plan_of("show tables from doc like 't%'")
    assert "Scan information_schema.schemata" in plan_of("show schemas where schema_name = 'doc'")
    assert "Scan information_schema.columns" in plan_of("show columns from t")
    shown = analysis("show create table t", TABLES).statement
    assert isinstance(shown, AnalyzedQuery)
    assert shown.columns[0].name == "SHOW CREATE TABLE doc.t"
