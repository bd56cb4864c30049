"""The plans that only touch the session: SET, SHOW, transactions, cursors, DEALLOCATE, the text of EXPLAIN.

In: a session, a compiled statement of one of these kinds, parameter values. Out: Results. Its own room because the session
itself is about running what everybody runs; whoever asks for a plan of ``SESSION_PLANS`` gets its handler from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cratepy import limits
from cratepy.errors import (
    CursorExists,
    CursorUnknown,
    InFailedTransaction,
    TooManyRequests,
    UnsupportedFeature,
)
from cratepy.execution.results import Result
from cratepy.model.expressions import Cast, Expression, Literal
from cratepy.model.plan import (
    ClosePlan,
    CompiledStatement,
    DeallocatePlan,
    DeclarePlan,
    ExplainPlan,
    FetchPlan,
    NoOperationPlan,
    ResetPlan,
    SetPlan,
    ShowPlan,
    TransactionPlan,
)
from cratepy.model.relations import OutputColumn
from cratepy.model.types import TEXT
from cratepy.server.cursors import Cursor

if TYPE_CHECKING:
    from cratepy.server.session import Session

ROLLBACK_WARNING: Final = "there are no transactions: what was written since BEGIN stays written"

Handler = Callable[["Session", CompiledStatement, Sequence[Any]], Awaitable[Result]]


async def _set(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, SetPlan)
    notices: list[str] = []
    grouped: dict[str, list[Expression | None]] = {}
    for name, expression in plan.values:
        grouped.setdefault(name, []).append(expression)
    for name, expressions in grouped.items():
        values = [None if e is None else _constant(session, e, compiled, parameters) for e in expressions]
        notice = session.settings.set(name, values[0] if len(values) == 1 else values)
        if notice is not None:
            notices.append(notice)
    return Result(rowcount=0, notices=tuple(notices))


def _constant(session: Session, expression: Expression, compiled: CompiledStatement, parameters: Sequence[Any]) -> Any:
    if isinstance(expression, Literal):
        return expression.value
    if isinstance(expression, Cast) and isinstance(expression.argument, Literal):
        return expression.argument.value
    if session.services.constant_values is None:
        raise UnsupportedFeature("SET takes constants only")
    context = session.context(compiled, parameters)
    session.finish()
    return session.services.constant_values([expression], context)[0]


async def _reset(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, ResetPlan)
    session.settings.reset(plan.name)
    return Result(rowcount=0)


async def _show(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, ShowPlan)
    columns = compiled.columns or show_columns(plan)
    if plan.name is None:
        return Result(columns=columns, rows=list(session.settings.show_all()))
    name = plan.name
    if name.lower() == "session_authorization":
        return Result(columns=columns, rows=[(session.user,)])
    return Result(columns=columns, rows=[(session.settings.show(name),)])


async def _transaction(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, TransactionPlan)
    status = session.transaction_status
    match plan.action:
        case "begin":
            if status == "E":
                raise InFailedTransaction(
                    "current transaction is aborted, commands ignored until end of transaction block"
                )
            notices = ("there is already a transaction in progress",) if status == "T" else ()
            session.transaction_status = "T"
            session.has_written = session.has_written and status == "T"
            return Result(rowcount=0, notices=notices)
        case "commit":
            return await _end_transaction(session, is_rollback=status == "E")
        case "rollback":
            return await _end_transaction(session, is_rollback=True)
        case "rollback_to":
            session.transaction_status = "T" if status == "E" else status
            return Result(rowcount=0, notices=(ROLLBACK_WARNING,) if session.has_written else ())
        case "savepoint" | "release":
            if status == "E":
                raise InFailedTransaction(
                    "current transaction is aborted, commands ignored until end of transaction block"
                )
            return Result(rowcount=0)
        case _:
            raise AssertionError(f"transaction action {plan.action}")


async def _end_transaction(session: Session, *, is_rollback: bool) -> Result:
    notices: tuple[str, ...] = ()
    if is_rollback and session.has_written:
        notices = (ROLLBACK_WARNING,)
    elif session.transaction_status == "I":
        notices = ("there is no transaction in progress",)
    session.transaction_status = "I"
    session.has_written = False
    await session.close_cursors(holdable=False)
    return Result(rowcount=0, notices=notices)


async def _declare(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, DeclarePlan)
    if session.transaction_status == "I" and not plan.is_holdable:
        raise UnsupportedFeature("DECLARE CURSOR can only be used in transaction blocks")
    if plan.name in session.cursors:
        raise CursorExists(f"Cursor `{plan.name}` already exists")
    if len(session.cursors) >= limits.CURSORS_MAX:
        raise TooManyRequests(f"A session has at most {limits.CURSORS_MAX} cursors")
    query = CompiledStatement(
        text=compiled.text,
        plan=plan.query,
        columns=plan.query.columns,
        parameter_types=compiled.parameter_types,
        tag="SELECT",
        is_cacheable=False,
        state_version=compiled.state_version,
    )
    context = session.context(query, parameters)
    # No timeout: it is for statements, and the cursor lives on after DECLARE.
    result = await session.services.execution.execute(query, context, timeout_s=None)
    session.cursors[plan.name] = Cursor(
        result,
        job_id=context.job_id,
        is_scrollable=plan.is_scrollable,
        is_holdable=plan.is_holdable,
        statement=compiled.text,
        created_ms=context.now_ms,
    )
    session.finish()
    return Result(rowcount=0)


async def _fetch(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, FetchPlan)
    cursor = session.cursors.get(plan.name)
    if cursor is None:
        raise CursorUnknown(f"No cursor named `{plan.name}` available")
    # The cursor's job does the work: a cancel request during FETCH is meant for it.
    session.running_job_id = cursor.job_id
    rows = await cursor.fetch(plan)
    session.finish()
    if plan.is_move:
        return Result(rowcount=len(rows))
    return Result(columns=cursor.columns, rows=rows)


async def _close(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, ClosePlan)
    if plan.name is None:
        await session.close_cursors()
    else:
        cursor = session.cursors.pop(plan.name, None)
        if cursor is None:
            raise CursorUnknown(f"No cursor named `{plan.name}` available")
        await cursor.aclose()
    return Result(rowcount=1)


async def _deallocate_plan(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, DeallocatePlan)
    session.deallocate(plan.name)
    if plan.discards_session:
        await session.close_cursors()
        session.settings.reset(None)
    return Result(rowcount=0)


async def _explain(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, ExplainPlan)
    if plan.analyze is not None:
        context = session.context(compiled, parameters)
        return await session.services.execution.execute(
            compiled, context, timeout_s=session.settings.statement_timeout_s
        )
    return Result(columns=compiled.columns, rows=list(plan.lines))


async def _no_operation(session: Session, compiled: CompiledStatement, parameters: Sequence[Any]) -> Result:
    plan = compiled.plan
    assert isinstance(plan, NoOperationPlan)
    return Result(rowcount=plan.rowcount, notices=(plan.notice,) if plan.notice else ())


def show_columns(plan: ShowPlan) -> tuple[OutputColumn, ...]:
    if plan.name is not None:
        return (OutputColumn(0, plan.name.lower(), TEXT),)
    return tuple(OutputColumn(i, name, TEXT) for i, name in enumerate(("name", "setting", "description")))


SESSION_PLANS: Final[dict[type, Handler]] = {
    SetPlan: _set,
    ResetPlan: _reset,
    ShowPlan: _show,
    TransactionPlan: _transaction,
    DeclarePlan: _declare,
    FetchPlan: _fetch,
    ClosePlan: _close,
    DeallocatePlan: _deallocate_plan,
    ExplainPlan: _explain,
    NoOperationPlan: _no_operation,
}
