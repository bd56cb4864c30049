"""The job execution service: a compiled statement in, a Result out.

The front door of ``execution``: it knows every kind of plan and who does it, and nothing of how. Each statement is a job in
the registry for as long as it runs; whatever ends it badly is turned into one CrateError here. A statement that met stale
routing before it gave or wrote a row is compiled again against a newer cluster state and repeated, a bounded number of times.

Plans of the session (SET, SHOW, cursors, transactions) never come here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.service import ClusterService
from cratepy.errors import CrateError, RequestTimeout, ShardUnavailable, StaleRouting, UnsupportedFeature
from cratepy.execution.best_now import ShortSearches
from cratepy.execution.cpu import Workers
from cratepy.execution.engine.engine import Engine
from cratepy.execution.jobs import Job, JobRegistry
from cratepy.execution.local_view import JobProgress, LocalView, SessionEntry, no_entries
from cratepy.execution.lookups import LookupService, any_opening
from cratepy.execution.pending import PendingWrite, Tell
from cratepy.execution.phases import NodeParts, client_error
from cratepy.execution.queries import QueryRunner
from cratepy.execution.refresh import Refresher
from cratepy.execution.results import BulkItem, Result, runs_of
from cratepy.execution.runs import RunTable, Unroutable, unroutable_error
from cratepy.execution.scrubbing import Scrubber
from cratepy.execution.shards import ShardKeeper
from cratepy.execution.small import constant_row, is_constant_query
from cratepy.execution.statements import Killer, classification, explain, run_command, wants_no_rows
from cratepy.execution.steering import Steering
from cratepy.execution.system.tables import SystemTables
from cratepy.execution.writes.copy_to import Exporter
from cratepy.execution.writes.service import WriteService
from cratepy.functions.evaluate import value_of
from cratepy.model.plan import (
    ClosePlan,
    ClusterPlan,
    CommandPlan,
    CompiledStatement,
    CopyFromPlan,
    CopyToPlan,
    CountPlan,
    CreateTableAsPlan,
    DeallocatePlan,
    DeclarePlan,
    DeletePlan,
    ExplainPlan,
    FetchPlan,
    GetPlan,
    InsertPlan,
    KillPlan,
    NoOperationPlan,
    OptimizePlan,
    Plan,
    QueryPlan,
    RefreshPlan,
    ResetPlan,
    SetPlan,
    ShowPlan,
    StatementContext,
    TransactionPlan,
    UpdatePlan,
)

if TYPE_CHECKING:
    from cratepy.storage.store import ShardStore

_T = TypeVar("_T")

#: Compiles the statement again, against the newest cluster state. Raises what compiling raises.
Recompile = Callable[[CompiledStatement, StatementContext], CompiledStatement]


class ExecutionService:
    """Runs the statements of one node's clients, and this node's part of other nodes' statements."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        store: ShardStore,
        engine: Engine,
        clock: Clock,
        system_tables: SystemTables,
        recompile: Recompile | None = None,
        spill_path: Path | None = None,
        sessions: Callable[[], Sequence[SessionEntry]] = no_entries,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        #: Set by the server, which alone may import both halves.
        self.recompile = recompile
        self.sessions = sessions
        self._jobs = JobRegistry(clock=clock)
        self._runs = RunTable()
        self._workers = Workers()
        self._parts = NodeParts(
            node_id=cluster.node_id,
            engine=engine,
            streams=cluster.transport,
            workers=self._workers,
            jobs=self._jobs,
            system_tables=system_tables,
            view=self.local_view,
            spill_path=spill_path if spill_path is not None else Path(tempfile.gettempdir()),
            name_of=self._node_name,
            clock=clock,
        )
        self._queries = QueryRunner(cluster=cluster, store=store, parts=self._parts, runs=self._runs)
        self._keeper = ShardKeeper(cluster=cluster, store=store, workers=self._workers, runs=self._runs)
        self._refresher = Refresher(store=store, workers=self._workers, clock=clock, on_failed=self._keeper.on_failed)
        self._scrubber = Scrubber(store=store, clock=clock)
        self._killer = Killer(cluster=cluster, jobs=self._jobs)
        self.steering = Steering(
            cluster=cluster,
            value_of=lambda expression, context: value_of(expression, {}, context),
            remove_dangling=self._keeper.remove_dangling,
        )
        self._searches = ShortSearches(store, node_id=cluster.node_id)
        self._lookups = LookupService(cluster=cluster, store=store, engine=engine)
        self._writes = WriteService(
            cluster=cluster, store=store, engine=engine, transport=cluster.transport, run_query=self.run_query
        )
        self._exporter = Exporter(cluster=cluster, run_query=self.run_query)

    @property
    def statements_begun(self) -> int:
        """Grows with every statement of this node's clients."""
        return self._jobs.begun

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer other nodes, open and refresh shards, run queries; until cancelled."""
        async with trio.open_nursery() as nursery:
            self._queries.start(nursery)
            self._killer.start()
            self.steering.register()
            self._lookups.register()
            self._writes.register()
            nursery.start_soon(self._keeper.run)
            nursery.start_soon(self._refresher.run)
            nursery.start_soon(self._scrubber.run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._queries.stop()

    async def execute(
        self, compiled: CompiledStatement, context: StatementContext, *, timeout_s: float | None
    ) -> Result:
        """Run a statement. A Result that streams owns the job until it is drained, failed or closed.

        Raises the CrateError that ended the statement; cancelling the caller stops it on all nodes.
        """
        if self.may_answer_at_once(compiled.plan):
            result = self.get_nowait(compiled, context)
            if result is not None:
                return result
        await self._check_master(compiled.plan)
        job = self._jobs.start(context, classification=classification(compiled.plan), timeout_s=timeout_s)
        try:
            result = await self._repeated(
                job, compiled, context, lambda current: self._dispatch(job, current.plan, current, context)
            )
        except BaseException as raised:
            error = self._failed(job, raised)
            if error is raised:
                raise
            raise error from raised
        if not isinstance(compiled.plan, QueryPlan):
            self._jobs.finish(job, error=None, rowcount=result.rowcount)
        return result

    def write_nowait(self, compiled: CompiledStatement, context: StatementContext, tell: Tell) -> bool:
        """Insert, change or delete one row on this node and call ``tell``, on the event loop, when it is durable or failed; a job until then.

        False: nothing was done and nothing will be told, :meth:`execute` it. Raises CrateError; then nothing is told.
        """
        plan = compiled.plan
        if not isinstance(plan, InsertPlan | UpdatePlan | DeletePlan):
            return False
        if not self._cluster.has_master or not self._jobs.has_room:
            return False
        started = self._clock.monotonic()
        try:
            begun = self._writes.begin(plan, context)
        except StaleRouting:
            return False
        except Exception as raised:
            raise self._noted(raised, context, classification(plan), started) from raised
        if begun is None:
            return False
        job = self._jobs.start(context, classification=classification(plan), timeout_s=None)
        waiting = PendingWrite(job, self._jobs, begun.outcome, tell=tell, explain=self._explained)
        try:
            self._writes.when_durable(begun.copy, begun.position, waiting)
        except CrateError as error:
            waiting.arrive(error)
        return True

    def _explained(self, job: Job, failure: BaseException) -> CrateError:
        assert isinstance(failure, Exception), "the disk's answer, not a cancellation"
        return client_error(failure, job_id=job.context.job_id, name_of=self._node_name)

    async def execute_bulk(
        self,
        compiled: CompiledStatement,
        context: StatementContext,
        parameter_rows: Sequence[Sequence[Any]],
        *,
        timeout_s: float | None,
    ) -> list[BulkItem]:
        """Run a write once per row of parameters; one item per row, in order."""
        await self._check_master(compiled.plan)
        job = self._jobs.start(context, classification=classification(compiled.plan), timeout_s=timeout_s)

        async def write(current: CompiledStatement) -> list[BulkItem]:
            with job.scope():
                return await self._writes.bulk(current.plan, context, parameter_rows)

        try:
            items = await self._repeated(job, compiled, context, write)
        except BaseException as raised:
            error = self._failed(job, raised)
            if error is raised:
                raise
            raise error from raised
        rowcount = sum(max(item.rowcount, 0) * count for item, count in runs_of(items))
        self._jobs.finish(job, error=None, rowcount=rowcount)
        return items

    async def _check_master(self, plan: Plan) -> None:
        """Without a master nobody knows whose writes would be lost. Raises NoMaster."""
        if self._cluster.has_master:
            return
        match plan:
            case InsertPlan() | UpdatePlan() | DeletePlan() | CopyFromPlan():
                await self._cluster.require_master()
            case GetPlan() | CountPlan() | CopyToPlan() if self._cluster.refuses_reads:
                await self._cluster.require_master()
            case QueryPlan() if self._cluster.refuses_reads and any(phase.shards for phase in plan.phases):
                await self._cluster.require_master()
            case _:
                pass

    async def run_query(self, plan: QueryPlan, context: StatementContext) -> Result:
        """A query as part of a statement that runs already (INSERT … SELECT, the rows an UPDATE changes).

        Raises StaleRouting only before the statement's first query has given rows: then nothing was written, and the whole
        statement is repeated.
        """
        job = self._jobs.job(context.job_id)
        assert job is not None, f"job {context.job_id} is not running here"
        try:
            result = await self._queries.query(
                job, plan, context, state_version=self._cluster.state.version, on_end=lambda error, rows: None
            )
        except StaleRouting as stale:
            if job.has_read:
                raise unroutable_error(stale) from stale
            raise
        job.has_read = True
        return result

    def cancel(self, job_id: str, reason: CrateError | None = None) -> bool:
        """Stop a statement of this node's clients; False if it does not run (any more)."""
        return self._jobs.cancel(job_id, reason)

    def local_view(self) -> LocalView:
        """What this node knows about itself now."""
        return LocalView(
            node_id=self._cluster.node_id,
            state=self._cluster.state,
            jobs=self._jobs.jobs,
            jobs_log=self._jobs.jobs_log,
            operations=self._jobs.operations,
            operations_log=self._jobs.operations_log,
            shards=self._store.shards,
            sessions=self.sessions,
            progress=self._progress,
            data_path=str(self._store.path),
            disk_problem=lambda: self._cluster.problem,
            dangling_tables=self._dangling_tables,
            state_reserve_bytes=lambda: self._cluster.state_reserve_bytes,
            pending_changes=lambda: self._cluster.pending_changes,
        )

    def _dangling_tables(self) -> list[str]:
        on_disk = self._store.table_uuids_on_disk()
        state = self._cluster.state  # newer than the list
        return [uuid for uuid in on_disk if uuid not in state.tables]

    def _progress(self, job_id: str) -> JobProgress | None:
        copy = self._writes.copy_progress(job_id)
        if copy is None:
            return None
        return JobProgress(bytes_done=copy.bytes_done, bytes_total=copy.bytes_total, rows=copy.rows_written)

    # --- one statement -----------------------------------------------------------------------------------------------

    def may_answer_at_once(self, plan: Plan) -> bool:
        """Whether :meth:`get_nowait` may know the rows."""
        return type(plan) is GetPlan or is_constant_query(plan) or self._searches.is_search(plan)

    def get_nowait(self, compiled: CompiledStatement, context: StatementContext) -> Result | None:
        """The rows of a GetPlan if all are on this node, of a constant query or a short search, else None: then :meth:`execute` it.

        Raises CrateError. They take microseconds and nothing can stop them, so there is no job.
        """
        plan = compiled.plan
        if self._cluster.refuses_reads and not is_constant_query(plan):
            return None
        started = self._clock.monotonic()
        try:
            result = self._get_nowait(plan, context)
        except StaleRouting:
            return None
        except Exception as raised:
            raise self._noted(raised, context, "SELECT", started) from raised
        if result is not None:
            self._jobs.note(context, classification="SELECT", started=started, error=None, rowcount=result.rowcount)
        return result

    def note_refused(self, context: StatementContext, error: CrateError) -> None:
        """A statement that could not be compiled: only for the log, where its type is UNDEFINED."""
        started = self._clock.monotonic()
        self._jobs.note(context, classification="UNDEFINED", started=started, error=error.message, rowcount=0)

    def _noted(self, raised: Exception, context: StatementContext, classification: str, started: float) -> CrateError:
        """What to raise for a statement that failed before it was a job; it is in the log."""
        error = client_error(raised, job_id=context.job_id, name_of=self._node_name)
        self._jobs.note(context, classification=classification, started=started, error=error.message, rowcount=0)
        return error

    def _get_nowait(self, plan: Plan, context: StatementContext) -> Result | None:
        if isinstance(plan, GetPlan):
            return self._lookups.get_nowait(plan, context)
        assert isinstance(plan, QueryPlan)
        row = constant_row(plan.phases[0].relation, context)
        rows = self._searches.answer(plan, context) if row is None else [row]
        return None if rows is None else Result(columns=plan.columns, rows=rows)

    async def _repeated(
        self,
        job: Job,
        compiled: CompiledStatement,
        context: StatementContext,
        attempt: Callable[[CompiledStatement], Awaitable[_T]],
    ) -> _T:
        """Attempt the statement, again and again while its routing is stale."""
        for _ in range(limits.ROUTING_RETRIES_MAX):
            try:
                return await attempt(compiled)
            except StaleRouting as stale:
                with job.scope():
                    compiled = await self._compiled_again(compiled, context, stale)
        raise ShardUnavailable(f"routing kept changing; gave up after {limits.ROUTING_RETRIES_MAX} attempts")

    async def _compiled_again(
        self, compiled: CompiledStatement, context: StatementContext, stale: StaleRouting
    ) -> CompiledStatement:
        """The statement for a cluster state newer than the one it was compiled with. Raises CrateError if none comes."""
        if self.recompile is None:
            raise unroutable_error(stale)
        wanted = stale.shards if isinstance(stale, Unroutable) else ()
        is_opening = any_opening(self._cluster.state, wanted)
        try:
            await self._cluster.wait_for(
                lambda state: state.version > compiled.state_version and not any_opening(state, wanted),
                timeout_s=limits.SHARDS_STARTED_WAIT_S if is_opening else limits.ROUTING_WAIT_S,
            )
        except RequestTimeout:
            raise unroutable_error(stale) from stale
        return self.recompile(compiled, context)

    async def _dispatch(self, job: Job, plan: Plan, compiled: CompiledStatement, context: StatementContext) -> Result:
        if isinstance(plan, QueryPlan):
            return await self._queries.query(
                job,
                plan,
                context,
                state_version=compiled.state_version,
                on_end=self._finisher(job),
                may_give_rows=True,
            )
        with job.scope():
            return await self._dispatch_direct(job, plan, compiled, context)

    async def _dispatch_direct(
        self, job: Job, plan: Plan, compiled: CompiledStatement, context: StatementContext
    ) -> Result:
        match plan:
            case GetPlan():
                return await self._lookups.get(plan, context)
            case CountPlan():
                return await self._lookups.count(plan, context)
            case InsertPlan():
                return await self._writes.insert(plan, context)
            case UpdatePlan():
                return await self._writes.update(plan, context)
            case DeletePlan():
                return await self._writes.delete(plan, context)
            case CopyFromPlan():
                return await self._writes.copy_from(plan, context)
            case CopyToPlan():
                return await self._exporter.copy_to(plan, context)
            case RefreshPlan():
                return await self._writes.refresh(plan, context)
            case OptimizePlan():
                return await self._writes.optimize(plan, context)
            case CommandPlan():
                table_uuid = wants_no_rows(plan.command)
                if table_uuid is not None:
                    await self._check_empty(table_uuid, context)
                return await run_command(plan.command, self._cluster)
            case CreateTableAsPlan():
                created = await run_command(plan.command, self._cluster)
                return created if created.rowcount == 0 else await self._writes.insert(plan.insert, context)
            case ClusterPlan():
                return await self.steering.run(plan, context)
            case KillPlan():
                return await self._killer.kill(plan, context)
            case ExplainPlan():
                assert compiled.columns is not None
                analyze = plan.analyze
                return await explain(
                    plan, compiled.columns, self._clock, lambda: self._analyzed(job, analyze, compiled, context)
                )
            case NoOperationPlan():
                notices = () if plan.notice is None else (plan.notice,)
                return Result(columns=compiled.columns, rowcount=plan.rowcount, notices=notices)
            case QueryPlan():
                raise AssertionError("queries have their own scopes")
            case (
                SetPlan()
                | ResetPlan()
                | ShowPlan()
                | TransactionPlan()
                | DeallocatePlan()
                | DeclarePlan()
                | FetchPlan()
                | ClosePlan()
            ):
                raise AssertionError(f"{type(plan).__name__} is the session's")
            case _:
                assert_never(plan)

    async def _check_empty(self, table_uuid: str, context: StatementContext) -> None:
        """Raises UnsupportedFeature if the table has rows. One that is written at this moment may still get some."""
        table = self._cluster.state.tables.get(table_uuid)
        if table is None:
            return
        await self._writes.refresh(RefreshPlan(tables=(table_uuid,)), context)
        plan = CountPlan(table_uuid=table_uuid, table=table.definition.name, columns=())
        if (await self._lookups.count(plan, context)).rows != [(0,)]:
            raise UnsupportedFeature("Cannot add a generated column to a table that isn't empty")

    async def _analyzed(
        self,
        job: Job,
        plan: QueryPlan | GetPlan | CountPlan | None,
        compiled: CompiledStatement,
        context: StatementContext,
    ) -> Result:
        assert plan is not None
        if isinstance(plan, QueryPlan):
            return await self.run_query(plan, context)
        return await self._dispatch_direct(job, plan, compiled, context)

    def _finisher(self, job: Job) -> Callable[[Exception | None, int], None]:
        """Takes note of the end of a query, unless it is going to be repeated."""

        def finish(error: Exception | None, rows: int) -> None:
            if not isinstance(error, StaleRouting):
                self._jobs.finish(job, error=None if error is None else str(error), rowcount=rows)

        return finish

    def _failed(self, job: Job, raised: BaseException) -> BaseException:
        """What to raise for the statement, whose job is over."""
        if isinstance(raised, Exception):
            error: BaseException = client_error(raised, job_id=job.context.job_id, name_of=self._node_name)
        else:
            error = raised  # the caller was cancelled, or the process is told to stop
        job.stop(error if isinstance(error, CrateError) else None)
        self._jobs.finish(job, error=str(error) or type(error).__name__, rowcount=0)
        return error

    def _node_name(self, node_id: str) -> str:
        node = self._cluster.state.nodes.get(node_id)
        return node.name if node is not None else node_id
