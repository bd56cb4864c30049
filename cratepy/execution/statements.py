"""The statements that are neither queries nor writes: DDL, KILL, EXPLAIN.

In: their plans. Out: Results. DDL is a command for the master; the row count says whether it changed anything, in CrateDB's
way: 1 or 0 for CREATE and DROP, -1 for ALTER. After CREATE TABLE this waits until the primaries are started, so that the next
INSERT need not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, assert_never

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import PeerUnavailable, RequestTimeout, SQLParseError, StaleRouting, VersionConflict
from cratepy.execution import messages
from cratepy.execution.engine.constants import constant_values
from cratepy.execution.jobs import JobRegistry
from cratepy.execution.messages import Killed, KillJobs
from cratepy.execution.results import UNKNOWN_ROWS, Result
from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    ChangeTable,
    Command,
    CreateAnalyzer,
    CreateSchema,
    CreateTable,
    CreateView,
    DropAnalyzer,
    DropSchema,
    DropTable,
    DropView,
    RenameTable,
    RetireNodes,
    RetryFailedShards,
    SetClusterSettings,
    ShardFailed,
    ShardsStarted,
    SwapTables,
)
from cratepy.model.plan import (
    CommandPlan,
    CopyFromPlan,
    CopyToPlan,
    CountPlan,
    CreateTableAsPlan,
    DeletePlan,
    ExplainPlan,
    GetPlan,
    InsertPlan,
    KillPlan,
    Plan,
    QueryPlan,
    StatementContext,
    UpdatePlan,
)
from cratepy.model.relations import OutputColumn
from cratepy.model.state import ClusterState

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService

logger = logging.getLogger(__name__)

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


async def run_command(command: Command, cluster: ClusterService) -> Result:
    """DDL through the master. Raises what the command was refused with, NoMaster, PublicationTimeout.

    StaleRouting: it was made for a version of the table that is over; it is to be made again.
    """
    before = cluster.state
    try:
        after = await cluster.submit(command)
    except VersionConflict as conflict:
        if isinstance(command, ChangeTable):
            raise StaleRouting(conflict.message) from conflict
        raise
    if isinstance(command, CreateTable) and command.definition.uuid in after.tables:
        await _wait_started(command.definition.uuid, cluster)
    return Result(rowcount=affected(command, before, after))


def wants_no_rows(command: Command) -> str | None:
    """The uuid of the table that must be empty: rows that are there would have no value of a new generated column."""
    if isinstance(command, AddColumns) and any(column.generated_sql is not None for column in command.columns):
        return command.table_uuid
    return None


async def _wait_started(table_uuid: str, cluster: ClusterService) -> None:
    def is_settled(state: ClusterState) -> bool:
        table = state.tables.get(table_uuid)
        return table is None or all(routing.primary is not None for routing in table.routing)

    try:
        await cluster.wait_for(is_settled, timeout_s=limits.SHARDS_STARTED_WAIT_S)
    except RequestTimeout:
        # The table exists; who writes next waits for its shards again and says what is wrong with them.
        logger.warning("the primaries of table %s are not started yet", table_uuid)


def affected(command: Command, before: ClusterState, after: ClusterState) -> int:
    """CrateDB's row count of the command."""
    match command:
        case CreateTable():
            return int(command.definition.uuid in after.tables)
        case DropTable():
            return int(before.table(command.name) is not None)
        case DropView():
            return sum(1 for name in command.names if str(name) in before.views)
        case CreateView() | CreateSchema() | DropSchema() | CreateAnalyzer() | DropAnalyzer() | SetClusterSettings():
            return 1
        case (
            SwapTables()
            | AddColumns()
            | ChangeTable()
            | AlterTableSettings()
            | RenameTable()
            | RetireNodes()
            | RetryFailedShards()
            | ShardsStarted()
            | ShardFailed()
        ):
            return UNKNOWN_ROWS
        case _:
            assert_never(command)


class Killer:
    """KILL, on the node that hears it and on all others."""

    def __init__(self, *, cluster: ClusterService, jobs: JobRegistry) -> None:
        self._cluster = cluster
        self._jobs = jobs

    def start(self) -> None:
        self._cluster.transport.register(messages.KILL, KillJobs, self._on_kill)

    async def kill(self, plan: KillPlan, context: StatementContext) -> Result:
        """Stop the job, or all; the row count is how many statements were stopped. Raises SQLParseError."""
        job_id: str | None = None
        if plan.job_id is not None:
            value = constant_values([plan.job_id], context)[0]
            if not isinstance(value, str) or _UUID.fullmatch(value) is None:
                raise SQLParseError(f"Can not parse job ID: '{value}'")
            job_id = value
        request = KillJobs(job_id=job_id, user=context.user, except_job_id=context.job_id)
        counts = [self._on_kill(self._cluster.node_id, request).count]

        async def ask(node_id: str) -> None:
            try:
                killed: Killed = await self._cluster.transport.request(
                    node_id, messages.KILL, request, reply_type=Killed, timeout_s=limits.JOB_MESSAGE_TIMEOUT_S
                )
            except (PeerUnavailable, RequestTimeout):
                logger.warning("KILL did not reach node %s", node_id)
            else:
                counts.append(killed.count)

        async with trio.open_nursery() as nursery:
            for node_id in self._cluster.state.nodes:
                if node_id != self._cluster.node_id:
                    nursery.start_soon(ask, node_id)
        return Result(rowcount=sum(counts))

    def _on_kill(self, source: str, request: KillJobs) -> Killed:
        return Killed(self._jobs.kill(request.job_id, user=request.user, except_job_id=request.except_job_id))


async def explain(
    plan: ExplainPlan,
    columns: tuple[OutputColumn, ...],
    clock: Clock,
    run: Callable[[], Awaitable[Result]],
) -> Result:
    """The lines of EXPLAIN; with ANALYZE the plan is run by ``run`` and its rows and time stand at the end."""
    lines: list[tuple[str, ...]] = list(plan.lines)
    if plan.analyze is not None:
        started = clock.monotonic()
        result = await run()
        try:
            while result.rows is None and await result.receive() is not None:
                pass
        finally:
            await result.aclose()
        took_ms = (clock.monotonic() - started) * 1000
        figures = f"Execution: rows={max(result.rowcount, 0)}, total={took_ms:.3f} ms"
        lines.append((figures,) + ("",) * (len(columns) - 1))
    return Result(columns=columns, rows=list(lines))


def classification(plan: Plan) -> str:
    """The type of a statement in sys.jobs_log and sys.jobs_metrics; CrateDB's StatementClassifier."""
    match plan:
        case QueryPlan() | GetPlan() | CountPlan():
            return "SELECT"
        case InsertPlan():
            return "INSERT"
        case UpdatePlan():
            return "UPDATE"
        case DeletePlan():
            return "DELETE"
        case CopyFromPlan() | CopyToPlan():
            return "COPY"
        case CommandPlan() | CreateTableAsPlan():
            return "DDL"
        case _:
            return "MANAGEMENT"
