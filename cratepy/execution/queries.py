"""Queries on their handler: subqueries first, then the phases on all nodes, rows to whoever reads.

In: a job and a QueryPlan. Out: a :class:`Result`. One request per node carries all its phases; rows flow through streams; word
of failures and cancellations goes by notice. What a node cannot start because it does not hold a shard (any more) is raised
as StaleRouting before any row was delivered, so that the statement can be compiled again and repeated (see ``service``).

A query with one phase on this node and few rows needs none of that: it runs in the caller's task and answers with the
batches themselves.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import trio

from cratepy import limits
from cratepy.errors import (
    CardinalityViolation,
    CrateError,
    JobKilled,
    NodeUnavailable,
    PeerUnavailable,
    RequestTimeout,
    ShardUnavailable,
    StaleRouting,
    error_from_wire,
    error_to_wire,
)
from cratepy.execution import messages
from cratepy.execution.best import BestSearch, begin_best, best_of
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.few import few_rows
from cratepy.execution.jobs import Job
from cratepy.execution.messages import CancelRun, RunFailed, RunFate, RunPlan, RunStatus, Started, StartRun
from cratepy.execution.phases import NodeParts, client_error, run_phases
from cratepy.execution.results import Result
from cratepy.execution.runs import Run, RunTable, Unroutable, node_stops
from cratepy.execution.sleeping import Sleeps
from cratepy.execution.small import batch_of_row, constant_row, is_short
from cratepy.execution.sources import leaves, read_leaf, resolve_shards
from cratepy.model.arrow import from_arrow
from cratepy.model.plan import QueryPlan, StatementContext, SubPlan
from cratepy.model.relations import ExchangeInput

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)

#: Told when a query's stream has ended: why (None: well, or not wanted any more), and how many rows it gave.
OnEnd = Callable[[Exception | None, int], None]


class QueryStream:
    """The rows of a query that runs in a task of its own; the BatchSource of a Result."""

    def __init__(self, on_end: OnEnd) -> None:
        self.scope = trio.CancelScope()
        self.rows = 0
        self._on_end = on_end
        self._send, self._receive = trio.open_memory_channel[pa.RecordBatch](limits.RESULT_BATCHES_AHEAD)
        self._ended = trio.Event()
        self._error: Exception | None = None

    async def deliver(self, batch: pa.RecordBatch) -> bool:
        await self._send.send(batch)
        self.rows += batch.num_rows
        return True

    def end(self, error: Exception | None) -> None:
        """The task is done; batches delivered before can still be read, unless it failed."""
        self._error = error
        self._send.close()
        self._ended.set()
        self._on_end(error, self.rows)

    async def receive(self) -> pa.RecordBatch | None:
        try:
            if self._error is not None:
                raise self._error
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            return None
        except trio.Cancelled:
            self.scope.cancel()
            raise

    async def aclose(self) -> None:
        self.scope.cancel()
        with trio.move_on_after(limits.JOB_MESSAGE_TIMEOUT_S, shield=True):
            await self._ended.wait()


class QueryRunner:
    """Runs queries as their handler, and other handlers' phases as their node."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore, parts: NodeParts, runs: RunTable) -> None:
        self._cluster = cluster
        self._transport = cluster.transport
        self._store = store
        self._parts = parts
        self._runs = runs
        self._nursery: trio.Nursery | None = None
        #: Cancellations that could not be sent, by node; they are sent when it is back.
        self._unsent: dict[str, deque[str]] = {}
        self._sleeps = Sleeps()

    def start(self, nursery: trio.Nursery) -> None:
        """Answer other nodes; tasks of queries live in this nursery."""
        self._nursery = nursery
        self._transport.register(messages.START, StartRun, self._on_start)
        self._transport.register(messages.FAILED, RunFailed, self._on_failed)
        self._transport.register(messages.CANCEL, CancelRun, self._on_cancel)
        self._transport.register(messages.STATUS, RunStatus, self._on_status)
        self._transport.on_disconnect(self._on_disconnect)
        self._transport.on_connect(self._on_connect)

    def stop(self) -> None:
        """Take part in nothing new: the tasks of this node end, while the other nodes are still being told."""
        self._nursery = None

    # --- the handler's side ------------------------------------------------------------------------------------------

    async def query(
        self,
        job: Job,
        plan: QueryPlan,
        context: StatementContext,
        *,
        state_version: int,
        on_end: OnEnd,
        may_give_rows: bool = False,
    ) -> Result:
        """Run the query as part of the job; returns when the first rows are there or it is known that there are none.

        With ``may_give_rows`` a short answer may come as ``rows``.

        ``on_end`` is called exactly once, also if this raises. Raises StaleRouting if it could not be started for that
        reason, and the CrateError of whatever failed before the first row.
        """
        try:
            with job.scope():
                context = await self._with_subqueries(job, plan, context, state_version)
                sleep_s = self._sleeps.seconds(plan, context)
                if sleep_s > 0:
                    await trio.sleep(sleep_s)
                run = self._new_run(job, plan, context)
                rows, batches = await self._run_short(run, may_give_rows=may_give_rows)
        except Exception as raised:
            error = self._told(raised, job)
            on_end(error, 0)
            if error is raised:
                raise
            raise error from raised
        except BaseException:
            on_end(JobKilled("Job killed."), 0)
            raise
        if rows is not None:
            on_end(None, len(rows))
            return Result(columns=plan.columns, rows=rows)
        if batches is not None:
            on_end(None, sum(batch.num_rows for batch in batches))
            return Result(columns=plan.columns, batches=batches)
        if self._nursery is None:
            error = JobKilled("Job killed. The node is shutting down")
            on_end(error, 0)
            raise error
        stream = QueryStream(on_end)
        self._nursery.start_soon(self._drive, job, run, state_version, stream)
        first = await stream.receive()
        if first is None:
            return Result(columns=plan.columns)
        return Result(columns=plan.columns, batches=[first], source=stream)

    def _told(self, raised: Exception, job: Job) -> Exception:
        if isinstance(raised, StaleRouting):
            return raised
        return client_error(raised, job_id=job.context.job_id, name_of=self._parts.name_of)

    def _new_run(self, job: Job, plan: QueryPlan, context: StatementContext) -> Run:
        shards, missing = resolve_shards(self._store, plan.phases, self._parts.node_id)
        if missing:
            raise self._stale(self._parts.node_id, missing)
        return Run(
            id=job.next_run_id(),
            handler_id=self._parts.node_id,
            plan=RunPlan(phases=plan.phases, context=context),
            shards=shards,
        )

    async def _run_short(
        self, run: Run, *, may_give_rows: bool
    ) -> tuple[list[tuple[Any, ...]] | None, list[pa.RecordBatch] | None]:
        """The answer of a query that is one short phase on this node, as rows or as batches.

        Neither if it is not; its inputs are kept in the run.
        """
        if len(run.plan.phases) != 1:
            return None, None
        phase = run.plan.phases[0]
        assert phase.nodes == (self._parts.node_id,), "the last phase runs on the handler"
        context = run.plan.context
        constant = constant_row(phase.relation, context)
        if constant is not None:
            return ([constant], None) if may_give_rows else (None, [batch_of_row(phase.relation, constant)])
        wanted = leaves(phase.relation)
        sources = self._parts.sources(run)

        def read() -> tuple[list[FragmentInput], list[tuple[Any, ...]] | BestSearch | None]:
            best = best_of(phase.relation) if may_give_rows else None
            search = None if best is None else begin_best(best, phase, context, sources, self._parts.clock)
            if search is not None:
                search.read_quick()
                return [], search if search.rest else search.rows()
            inputs = []
            for leaf in wanted:
                assert not isinstance(leaf, ExchangeInput), "a single phase reads from no other"
                inputs.append(read_leaf(leaf, phase, context, sources))
            return inputs, few_rows(phase.relation, inputs, context) if may_give_rows else None

        self._runs.add(run)
        try:
            with self._parts.jobs.operation(run.job_id, "collect"):
                inputs, rows = await self._parts.workers.compute(read) if wanted else ([], None)
                if isinstance(rows, BestSearch):
                    rows = await rows.finish(self._parts.workers)
                if rows is not None:
                    return rows, None
                if is_short(phase.relation, [i.row_count for i in inputs]):
                    return None, await self._parts.engine.run_small(phase.relation, inputs, context)
            run.ready_inputs = inputs
            return None, None
        finally:
            self._runs.end(run)

    async def _drive(self, job: Job, run: Run, state_version: int, stream: QueryStream) -> None:
        """The task of a query: everything until its stream has ended."""
        error: Exception | None = JobKilled("Job killed. The node is shutting down")
        try:
            with stream.scope, job.scope():
                await self._run(run, state_version, stream)
            error = None
        except Exception as raised:
            error = self._told(raised, job)
        finally:
            stream.end(error)

    async def _run(self, run: Run, state_version: int, stream: QueryStream) -> None:
        others = sorted(run.node_ids - {self._parts.node_id})
        self._runs.add(run)
        try:
            with run.scope:
                await self._start_others(run, others, state_version)
                if not others:
                    await run_phases(run, self._parts, stream.deliver)
                else:
                    await self._run_watched(run, others, stream)
        finally:
            self._runs.end(run)
            if not run.is_drained:
                for node_id in others:
                    self._cancel_on(node_id, run.id)
        if isinstance(run.error, NodeUnavailable) and not stream.rows:
            # Nobody has seen a row yet: the statement can begin anew with the nodes that are there.
            raise Unroutable(run.error)
        if run.error is not None:
            raise run.error

    async def _run_watched(self, run: Run, others: list[str], stream: QueryStream) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, run, others)
            try:
                await run_phases(run, self._parts, stream.deliver)
            except Exception as raised:  # raised below as it is: the nursery would wrap it
                failure = raised
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _watch(self, run: Run, others: list[str]) -> None:
        """Ask the other nodes how their part goes: one that cannot reach this node cannot say that it failed."""
        while True:
            await trio.sleep(limits.RUN_WATCH_S)
            for node_id in others:
                try:
                    fate: RunFate = await self._transport.request(
                        node_id,
                        messages.STATUS,
                        RunStatus(run.id),
                        reply_type=RunFate,
                        timeout_s=limits.JOB_MESSAGE_TIMEOUT_S,
                    )
                except (PeerUnavailable, RequestTimeout, CrateError):
                    continue  # a broken connection fails the run by itself
                if fate.failure is not None:
                    run.fail(error_from_wire(*fate.failure))

    def _on_status(self, _: str, request: RunStatus) -> RunFate:
        error = self._runs.failure(request.run_id)
        return RunFate(None if error is None else error_to_wire(error))

    def _cancel_on(self, node_id: str, run_id: str) -> None:
        if not self._transport.notify(node_id, messages.CANCEL, CancelRun(run_id)):
            self._unsent.setdefault(node_id, deque(maxlen=limits.JOB_TOMBSTONES_MAX)).append(run_id)

    def _on_connect(self, node_id: str) -> None:
        for run_id in self._unsent.pop(node_id, ()):
            self._cancel_on(node_id, run_id)

    async def _start_others(self, run: Run, others: list[str], state_version: int) -> None:
        """Give every other node its phases. Raises StaleRouting; another failure is the run's."""
        if not others:
            return
        request = StartRun(run_id=run.id, plan=messages.encode_plan(run.plan), state_version=state_version)
        stale: dict[str, StaleRouting] = {}

        async def ask(node_id: str) -> None:
            try:
                started: Started = await self._transport.request(
                    node_id, messages.START, request, reply_type=Started, timeout_s=limits.REQUEST_TIMEOUT_S
                )
            except PeerUnavailable:
                stale[node_id] = Unroutable(NodeUnavailable(f"node [{self._parts.name_of(node_id)}] is not connected"))
            except StaleRouting:
                stale[node_id] = Unroutable(node_stops(self._parts.name_of(node_id)))
            except RequestTimeout:
                run.fail(NodeUnavailable(f"node [{self._parts.name_of(node_id)}] did not answer in time"))
            except CrateError as error:
                run.fail(error)
            else:
                if started.missing:
                    stale[node_id] = self._stale(node_id, list(started.missing))

        async with trio.open_nursery() as nursery:
            for node_id in others:
                nursery.start_soon(ask, node_id)
        if stale:
            raise stale[min(stale)]

    def _stale(self, node_id: str, missing: list[str]) -> StaleRouting:
        """The node does not hold these shards (``uuid/shard``)."""
        shards = [(uuid, int(number)) for uuid, _, number in (name.rpartition("/") for name in missing)]
        uuid, shard = shards[0]
        table = self._cluster.state.tables.get(uuid)
        name = table.definition.name if table is not None else uuid
        node = self._parts.name_of(node_id)
        error = ShardUnavailable(f"shard [{name}][{shard}] is not available on node [{node}]")
        return Unroutable(error, shards=shards)

    # --- subqueries --------------------------------------------------------------------------------------------------

    async def _with_subqueries(
        self, job: Job, plan: QueryPlan, context: StatementContext, state_version: int
    ) -> StatementContext:
        """The context with the values of the plan's uncorrelated subqueries, run one after the other."""
        if not plan.subplans:
            return context
        slots = 1 + max(max(subplan.slot for subplan in plan.subplans), len(context.subquery_values) - 1)
        values: list[Any] = list(context.subquery_values) + [None] * (slots - len(context.subquery_values))
        for subplan in plan.subplans:
            # A later subquery may use the value of an earlier one.
            known = msgspec.structs.replace(context, subquery_values=tuple(values))
            result = await self.query(job, subplan.plan, known, state_version=state_version, on_end=_nobody)
            try:
                values[subplan.slot] = await _subquery_value(subplan, result)
            finally:
                await result.aclose()
        return msgspec.structs.replace(context, subquery_values=tuple(values))

    # --- the side of every other node --------------------------------------------------------------------------------

    async def _on_start(self, source: str, request: StartRun) -> Started:
        try:
            await self._cluster.wait_for(
                lambda state: state.version >= request.state_version, timeout_s=limits.ROUTING_WAIT_S
            )
        except RequestTimeout:
            # This node is cut off from the master; whether it holds the shards is seen below.
            logger.warning("state %d asked for by a statement has not come", request.state_version)
        if not await self._transport.wait_connected(source, timeout_s=limits.JOB_MESSAGE_TIMEOUT_S):
            raise NodeUnavailable(f"node [{self._parts.name_of(self._parts.node_id)}] cannot reach the node that asks")
        plan = messages.decode_plan(request.plan)
        if self._runs.is_dead(request.run_id):
            return Started()
        if self._nursery is None:
            raise StaleRouting("the node is stopping")
        shards, missing = resolve_shards(self._store, plan.phases, self._parts.node_id)
        if missing:
            return Started(tuple(missing))
        run = Run(id=request.run_id, handler_id=source, plan=plan, shards=shards)
        self._runs.add(run)
        self._nursery.start_soon(self._take_part, run)
        return Started()

    async def _take_part(self, run: Run) -> None:
        has_ended = False
        try:
            with run.scope:
                await run_phases(run, self._parts, None)
            has_ended = True
        finally:
            if not has_ended:
                run.fail(node_stops(self._parts.name_of(self._parts.node_id)))
            self._runs.end(run)
            if run.error is not None:
                name, message = error_to_wire(run.error)
                # The handler may have a connection to this node although this one has none: then it asks (RunStatus).
                self._transport.notify(
                    run.handler_id, messages.FAILED, RunFailed(run_id=run.id, name=name, message=message)
                )

    def _on_failed(self, source: str, request: RunFailed) -> None:
        run = self._runs.get(request.run_id)
        if run is not None:
            run.fail(error_from_wire(request.name, request.message))

    def _on_cancel(self, source: str, request: CancelRun) -> None:
        self._runs.stop(request.run_id)

    def _on_disconnect(self, node_id: str) -> None:
        self._runs.on_node_lost(node_id, own_id=self._parts.node_id, name_of=self._parts.name_of)


def _nobody(error: Exception | None, rows: int) -> None:
    """The end of a subquery is nobody's business but its reader's."""


async def _subquery_value(subplan: SubPlan, result: Result) -> Any:
    """What the subquery says, as in Apply; any, all and array give a list. Raises CardinalityViolation."""
    assert result.columns is not None
    values: list[Any] = []
    while (batch := await result.receive()) is not None:
        if subplan.kind == "exists":
            return True
        values.extend(from_arrow(batch.column(0), result.columns[0].type))
        if subplan.kind == "scalar" and len(values) > 1:
            raise CardinalityViolation("Subquery returned more than 1 row when it shouldn't.")
    match subplan.kind:
        case "exists":
            return False
        case "scalar":
            return values[0] if values else None
        case "any" | "all" | "array":
            return values
        case _:
            raise AssertionError(f"unknown kind of subquery: {subplan.kind}")
