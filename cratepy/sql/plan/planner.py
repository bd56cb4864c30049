"""The planner's front door: an analyzed statement in, its plan out.

A query is optimized, then becomes a count or a get by key if it is one, else phases. Statements that find rows (UPDATE,
DELETE, INSERT from a query, cursors, EXPLAIN) plan that query and put it into their own plan.

EXPLAIN shows the logical plan and the phases in one row; VERBOSE one row per rule that changed something. Of an INSERT from
a query, an UPDATE and a DELETE it shows how their rows are found; of other statements it is refused.
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from cratepy.errors import NO_MASTER, NoMaster, ShardUnavailable, UnsupportedFeature, VersioningValidation
from cratepy.model.plan import (
    CountPlan,
    CreateTableAsPlan,
    DeclarePlan,
    DeletePlan,
    ExplainPlan,
    GetPlan,
    InsertPlan,
    Plan,
    QueryPlan,
    UpdatePlan,
)
from cratepy.model.relations import OutputColumn, Relation, output_columns
from cratepy.model.state import ClusterState
from cratepy.model.types import TEXT
from cratepy.records import dataclass
from cratepy.sql.analyze.statements import (
    SEQ_NO_USAGE,
    AnalyzedCopyFrom,
    AnalyzedCopyTo,
    AnalyzedCreateTableAs,
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
from cratepy.sql.plan.explain import Note, logical_text, no_note, phases_text, tree_text
from cratepy.sql.plan.lookups import as_count, as_get
from cratepy.sql.plan.optimizer import Optimized, Step, optimize
from cratepy.sql.plan.physical import plan_query
from cratepy.sql.plan.rules.constants import Fold
from cratepy.sql.plan.uniqueness import with_unique_columns

Readable = QueryPlan | GetPlan | CountPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a plan depends on besides the statement."""

    state: ClusterState
    handler_id: str
    fold: Fold
    estimates: Estimates


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and the columns of its result; None without a result set."""

    plan: Plan
    columns: tuple[OutputColumn, ...] | None


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """A query's plan, its columns, and how it came about."""

    plan: Readable
    columns: tuple[OutputColumn, ...]
    optimized: Optimized


def plan_statement(statement: AnalyzedStatement, around: Surroundings) -> Planned:
    """The plan of a statement. Raises CrateErrors of constants, ShardUnavailable, and NoMaster for changes of rows of such a shard."""
    try:
        return _planned(statement, around)
    except ShardUnavailable as error:
        if around.state.master_id is None and isinstance(statement, AnalyzedInsert | AnalyzedUpdate | AnalyzedDelete):
            # Changes are refused as a whole, whatever else is missing.
            raise NoMaster(NO_MASTER) from error
        raise


def _planned(statement: AnalyzedStatement, around: Surroundings) -> Planned:
    match statement:
        case AnalyzedQuery():
            query = plan_readable(statement, around)
            return Planned(query.plan, query.columns)
        case AnalyzedInsert():
            return Planned(_insert(statement, around), statement.columns)
        case AnalyzedCreateTableAs():
            plan = CreateTableAsPlan(command=statement.command, insert=_insert(statement.insert, around))
            return Planned(plan, statement.insert.columns)
        case AnalyzedUpdate():
            return Planned(_update(statement, around), statement.columns)
        case AnalyzedDelete():
            return Planned(_delete(statement, around), statement.columns)
        case AnalyzedCopyFrom():
            return Planned(statement.plan, statement.columns)
        case AnalyzedCopyTo():
            found = plan_readable(statement.query, around, may_look_up=False).plan
            assert isinstance(found, QueryPlan)
            return Planned(msgspec.structs.replace(statement.plan, query=found), None)
        case AnalyzedExplain():
            return _explain(statement, around)
        case AnalyzedDeclare():
            cursor = DeclarePlan(
                name=statement.name,
                query=plan_readable(statement.query, around).plan,
                is_scrollable=statement.is_scrollable,
                is_holdable=statement.is_holdable,
            )
            return Planned(cursor, None)
        case AnalyzedDirect():
            return Planned(statement.plan, statement.columns)
        case _:
            assert_never(statement)


def plan_readable(query: AnalyzedQuery, around: Surroundings, *, may_look_up: bool = True) -> PlannedQuery:
    """A query as the simplest plan that answers it; ``may_look_up`` allows gets and counts."""
    relation = with_unique_columns(query.relation)
    columns = output_columns(relation)
    optimized = optimize(relation, around.fold)
    plan: Readable | None = None
    if may_look_up and not optimized.subqueries:
        plan = as_count(optimized.relation, columns, around.state) or as_get(optimized.relation, columns, around.state)
    if plan is None:
        plan = plan_query(
            optimized,
            columns=columns,
            tables=query.tables,
            state=around.state,
            handler_id=around.handler_id,
            estimates=around.estimates,
        )
    return PlannedQuery(plan, columns, optimized)


def _insert(statement: AnalyzedInsert, around: Surroundings) -> InsertPlan:
    if statement.query is None:
        return statement.plan
    query = plan_readable(statement.query, around, may_look_up=False).plan
    assert isinstance(query, QueryPlan)
    return msgspec.structs.replace(statement.plan, query=query)


def _found(query: AnalyzedQuery, around: Surroundings, *, expects_version: bool) -> QueryPlan | GetPlan:
    found = plan_readable(query, around).plan
    assert not isinstance(found, CountPlan)
    if expects_version and isinstance(found, QueryPlan) and any(phase.shards for phase in found.phases):
        # A search sees the last refresh: the version it compares may be an old one.
        raise VersioningValidation(SEQ_NO_USAGE)
    return found


def _update(statement: AnalyzedUpdate, around: Surroundings) -> UpdatePlan:
    return UpdatePlan(
        table_uuid=statement.table_uuid,
        table=statement.table,
        find=_found(statement.find, around, expects_version=statement.expects_version),
        assignments=statement.assignments,
        generated=statement.generated,
        checks=statement.checks,
        returning=statement.returning,
        expects_version=statement.expects_version,
    )


def _delete(statement: AnalyzedDelete, around: Surroundings) -> DeletePlan:
    return DeletePlan(
        table_uuid=statement.table_uuid,
        table=statement.table,
        find=_found(statement.find, around, expects_version=statement.expects_version),
        returning=statement.returning,
        expects_version=statement.expects_version,
    )


# --- EXPLAIN ---------------------------------------------------------------------------------------------------------


def _explain(statement: AnalyzedExplain, around: Surroundings) -> Planned:
    if isinstance(statement.statement, AnalyzedInsert) and statement.statement.query is None:
        return _explained_values(statement, statement.statement.plan)
    head, query = _explained(statement.statement)
    if statement.is_analyze and head is not None:
        raise UnsupportedFeature(f"EXPLAIN ANALYZE is not supported for {head.split('[')[0].upper()}")
    may_look_up = not isinstance(statement.statement, AnalyzedInsert)
    planned = plan_readable(query, around, may_look_up=may_look_up)
    note = _rows_note(around.estimates) if statement.shows_costs else no_note
    phases = phases_text(planned.plan, around.state) if isinstance(planned.plan, QueryPlan) else ""
    text = logical_text(planned.plan, planned.optimized, note)
    if head is not None:
        text = "\n".join([head, *("  " + line if i else f"  └ {line}" for i, line in enumerate(text.split("\n")))])
    columns: tuple[OutputColumn, ...]
    lines: tuple[tuple[str, ...], ...]
    if statement.is_verbose:
        lines = _verbose_lines(with_unique_columns(query.relation), planned.optimized.steps, text, phases, note)
        columns = _VERBOSE_COLUMNS
    else:
        lines = (("\n".join(part for part in (text, phases) if part),),)
        columns = _COLUMNS
    analyzed = planned.plan if statement.is_analyze else None
    return Planned(ExplainPlan(lines=lines, analyze=analyzed), columns)


_COLUMNS: Final = (OutputColumn(1, "QUERY PLAN", TEXT),)
_VERBOSE_COLUMNS: Final = (OutputColumn(1, "STEP", TEXT), OutputColumn(2, "QUERY PLAN", TEXT))


def _explained_values(statement: AnalyzedExplain, plan: InsertPlan) -> Planned:
    """INSERT … VALUES has one step: its rows go where their keys say."""
    if statement.is_analyze:
        raise UnsupportedFeature("EXPLAIN ANALYZE is not supported for INSERT")
    text = f"InsertFromValues[{plan.table} | {', '.join(plan.targets)}]"
    if statement.is_verbose:
        return Planned(ExplainPlan(lines=(("Final logical plan", text),)), _VERBOSE_COLUMNS)
    return Planned(ExplainPlan(lines=((text,),)), _COLUMNS)


def _explained(statement: AnalyzedStatement) -> tuple[str | None, AnalyzedQuery]:
    """The line above the query's tree, if the statement does something with its rows, and the query."""
    match statement:
        case AnalyzedQuery():
            return None, statement
        case AnalyzedInsert(query=AnalyzedQuery() as query):
            return f"Insert[{statement.plan.table} | {', '.join(statement.plan.targets)}]", query
        case AnalyzedUpdate():
            names = ", ".join(item.name for item in statement.assignments)
            return f"Update[{statement.table} | {names}]", statement.find
        case AnalyzedDelete():
            return f"Delete[{statement.table}]", statement.find
        case _:
            raise UnsupportedFeature("EXPLAIN is supported for queries, INSERT, UPDATE and DELETE only")


def _rows_note(estimates: Estimates) -> Note:
    def note(relation: Relation) -> str:
        rows = estimates.rows(relation)
        return f" (rows={'unknown' if rows is None else rows})"

    return note


def _verbose_lines(
    initial: Relation, steps: tuple[Step, ...], final: str, phases: str, note: Note
) -> tuple[tuple[str, ...], ...]:
    lines = [("Initial logical plan", tree_text(initial, note))]
    lines.extend((step.rule, tree_text(step.relation, note)) for step in steps)
    lines.append(("Final logical plan", final))
    if phases:
        lines.append(("Phases", phases))
    return tuple(lines)
