"""The phases of a run on one node: inputs → engine → output.

In: a :class:`Run`. Out: rows in the streams of the next phases, or, for the last phase on the handler, in ``deliver``. Each
phase is a task; the first that fails fails the run, and that cancels the others. A phase over exchange inputs starts the
engine when they are complete: an engine whose threads wait for inputs that another fragment of the same engine still has to
make can deadlock. This module is the job edge of the node: what a phase raises is turned into a CrateError here, and a bug
is logged with its traceback.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.clock import Clock, SystemClock
from cratepy.errors import CrateError, InternalError, JobKilled, PeerUnavailable, StaleRouting, error_to_wire
from cratepy.execution.batches import batch_of_rows
from cratepy.execution.cpu import Workers
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.exchange import Receiver, Streams, collect_all, outbox, pass_on, stream_key
from cratepy.execution.few import few_rows
from cratepy.execution.jobs import JobRegistry, Operation
from cratepy.execution.local_view import LocalView
from cratepy.execution.passing import Passer, passing
from cratepy.execution.runs import Run, node_lost, node_stops, unroutable_error
from cratepy.execution.small import is_short
from cratepy.execution.sources import Leaf, LocalSources, leaves, read_leaf
from cratepy.execution.spill import BatchBuffer
from cratepy.model.plan import HashPartition, Phase
from cratepy.model.relations import ExchangeInput, Join, Relation, Scan, SystemScan, children, output_columns
from cratepy.records import dataclass

if TYPE_CHECKING:
    from cratepy.execution.system.tables import SystemTables

logger = logging.getLogger(__name__)

#: Takes a batch of the last phase; False if the client wants no more.
Deliver = Callable[[pa.RecordBatch], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What phases work with on a node."""

    node_id: str
    engine: Engine
    streams: Streams
    workers: Workers
    jobs: JobRegistry
    system_tables: SystemTables
    view: Callable[[], LocalView]
    spill_path: Path
    name_of: Callable[[str], str]
    clock: Clock = field(default_factory=SystemClock)
    exchange_memory_bytes: int = limits.EXCHANGE_MEMORY_BYTES_MAX
    phase_values_here_max: int = limits.PHASE_VALUES_HERE_MAX

    def sources(self, run: Run) -> LocalSources:
        return LocalSources(
            node_id=self.node_id,
            shards=run.shards,
            system_tables=self.system_tables,
            view=self.view,
        )


async def run_phases(run: Run, parts: NodeParts, deliver: Deliver | None) -> None:
    """Do this node's phases, inside ``run.scope``; what went wrong is in ``run.error`` afterwards.

    ``deliver`` is the handler's. ``run.is_drained`` is set if all inputs of the last phase were read to their ends.
    """
    mine = [phase for phase in run.plan.phases if parts.node_id in phase.nodes]
    async with trio.open_nursery() as nursery:

        async def guarded(phase: Phase) -> None:
            try:
                is_drained = await _run_phase(phase, run, parts, deliver)
            except Exception as raised:
                run.fail(client_error(raised, job_id=run.job_id, name_of=parts.name_of))
            else:
                if phase.output is None:
                    run.is_drained = is_drained
                    run.answer()
                    nursery.cancel_scope.cancel()  # Whatever still runs here works for nobody.

        for phase in mine:
            nursery.start_soon(guarded, phase)


def client_error(raised: Exception, *, job_id: str, name_of: Callable[[str], str]) -> CrateError:
    """What the client is told about an exception of a phase or statement. A bug is logged."""
    cause = _first_cause(raised)
    match cause:
        case CrateError():
            return cause
        case PeerUnavailable():
            return node_lost(name_of(cause.node_id))
        case StaleRouting():
            return unroutable_error(cause)
        case _:
            logger.error("job %s failed by a bug", job_id, exc_info=raised)
            return InternalError(f"internal error, see the log of the node for job {job_id}")


def _stream_error(raised: BaseException, run: Run, parts: NodeParts) -> CrateError:
    """What the readers of a phase's stream are told: the run's first error, which may be this very one.

    The word by stream may overtake the notice to the handler, so it has to be the same: the client hears why, not that
    something was stopped because of it.
    """
    if isinstance(raised, Exception):
        run.fail(client_error(raised, job_id=run.job_id, name_of=parts.name_of))
    elif not run.is_stopped and run.handler_id != parts.node_id:
        run.fail(node_stops(parts.name_of(parts.node_id)))  # not cancelled by anybody: the node ends
    return run.error or JobKilled("Job killed.")


def _first_cause(raised: BaseException) -> BaseException:
    """Of a group: the first error meant for clients, else the first of all."""
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    causes = [_first_cause(member) for member in raised.exceptions]
    return next((cause for cause in causes if isinstance(cause, CrateError)), causes[0])


async def _run_phase(phase: Phase, run: Run, parts: NodeParts, deliver: Deliver | None) -> bool:
    """One phase; True if it read its exchange inputs to their ends."""
    with contextlib.ExitStack() as stack:
        operation = stack.enter_context(parts.jobs.operation(run.job_id, operation_name(phase.relation)))
        receivers = _accept(phase, run, parts, stack)
        if phase.output is None:
            assert deliver is not None, "the last phase runs on the handler"
            plan = passing(phase.relation)
            if plan is not None:
                passer = Passer(plan, run.plan.context, deliver)
                if not passer.wants_rows:
                    return False
                senders = receivers[plan.input.phase]
                if not _reads_system_tables(run.phase(plan.input.phase).relation):
                    return await pass_on(senders, passer.give)
                # Short, and of nodes that may go at any time: as long as no row was given, it can be begun anew without.
                buffer = _buffer(parts, operation, stack)
                await collect_all([(sender, buffer) for sender in senders])
                run.is_drained = True
                for batch in await buffer.batches():
                    if not await passer.give(batch):
                        break
                return True
            inputs = await _inputs(phase, run, parts, receivers, operation, stack)
            run.is_drained = True
            await _compute(phase, run, parts, inputs, lambda _, batch: deliver(batch))
            return True
        inputs = await _inputs(phase, run, parts, receivers, operation, stack)
        async with outbox(
            parts.streams,
            phase.output,
            parts.workers,
            node_id=parts.node_id,
            receivers=run.phase(phase.output.phase).nodes,
            key=stream_key(run.id, phase=phase.id, sender=parts.node_id),
            error_of=lambda raised: error_to_wire(_stream_error(raised, run, parts)),
        ) as box:

            async def send(partition: int, batch: pa.RecordBatch) -> bool:
                await box.send(partition, batch)
                return True

            await _compute(phase, run, parts, inputs, send)
        return True


def _accept(phase: Phase, run: Run, parts: NodeParts, stack: contextlib.ExitStack) -> dict[int, list[Receiver]]:
    """The streams of each phase this one reads from; closed with the stack."""
    receivers: dict[int, list[Receiver]] = {}
    for leaf in leaves(phase.relation):
        if isinstance(leaf, ExchangeInput) and leaf.phase not in receivers:
            receivers[leaf.phase] = []
            for sender in run.phase(leaf.phase).nodes:
                receiver = parts.streams.accept_stream(stream_key(run.id, phase=leaf.phase, sender=sender))
                stack.callback(receiver.close)
                receivers[leaf.phase].append(receiver)
    return receivers


async def _inputs(
    phase: Phase,
    run: Run,
    parts: NodeParts,
    receivers: dict[int, list[Receiver]],
    operation: Operation,
    stack: contextlib.ExitStack,
) -> list[FragmentInput]:
    """All inputs of the fragment, complete, in the engine's order."""
    if run.ready_inputs is not None:
        return run.ready_inputs
    wanted = leaves(phase.relation)
    local = await read_local(wanted, phase, run, parts)
    buffers: dict[int, BatchBuffer] = {}
    for phase_id in receivers:
        buffers[phase_id] = _buffer(parts, operation, stack)
    await collect_all([(receiver, buffers[i]) for i, of_phase in receivers.items() for receiver in of_phase])
    collected = {i: [await buffer.batches()] for i, buffer in buffers.items()}
    remaining = iter(local)
    return [
        FragmentInput(leaf.columns, collected[leaf.phase]) if isinstance(leaf, ExchangeInput) else next(remaining)
        for leaf in wanted
    ]


def _buffer(parts: NodeParts, operation: Operation, stack: contextlib.ExitStack) -> BatchBuffer:
    """Room for the rows of other phases; closed with the stack."""
    buffer = BatchBuffer(
        workers=parts.workers,
        spill_path=parts.spill_path,
        memory_bytes_max=parts.exchange_memory_bytes,
        on_growth=operation.uses,
    )
    stack.callback(buffer.close)
    return buffer


def _reads_system_tables(relation: Relation) -> bool:
    return any(isinstance(leaf, SystemScan) for leaf in leaves(relation))


async def read_local(wanted: Sequence[Leaf], phase: Phase, run: Run, parts: NodeParts) -> list[FragmentInput]:
    """The inputs of the local leaves, read on one worker thread."""
    local = [leaf for leaf in wanted if not isinstance(leaf, ExchangeInput)]
    if not local:
        return []
    sources = parts.sources(run)
    context = run.plan.context

    def read() -> list[FragmentInput]:
        return [read_leaf(leaf, phase, context, sources) for leaf in local]

    return await parts.workers.compute(read)


async def _compute(
    phase: Phase,
    run: Run,
    parts: NodeParts,
    inputs: Sequence[FragmentInput],
    take: Callable[[int, pa.RecordBatch], Awaitable[bool]],
) -> None:
    """Run the fragment and give its batches to ``take`` until that returns False."""
    context = run.plan.context
    partition_by: tuple[int, ...] = ()
    partition_count = 1
    if isinstance(phase.output, HashPartition):
        partition_by = phase.output.keys
        partition_count = len(run.phase(phase.output.phase).nodes)
    if partition_count == 1 and is_short(phase.relation, [i.row_count for i in inputs]):
        rows = few_rows(phase.relation, inputs, context, values_max=parts.phase_values_here_max)
        if rows is not None:
            if rows:
                await take(0, batch_of_rows(rows, output_columns(phase.relation)))
            return
        for batch in await parts.engine.run_small(phase.relation, inputs, context):
            if batch.num_rows > 0 and not await take(0, batch):
                return
        return
    fragment = parts.engine.open(
        phase.relation, inputs, context, partition_by=partition_by, partition_count=partition_count
    )
    async with fragment:
        while (item := await fragment.receive()) is not None:
            partition, batch = item
            if batch.num_rows > 0 and not await take(partition, batch):
                return


def operation_name(relation: Relation) -> str:
    """What sys.operations calls the phase; CrateDB's words: collect, merge, hash_join."""
    operators = [relation]
    for operator in operators:
        operators.extend(children(operator))
    if any(isinstance(operator, Scan | SystemScan) for operator in operators):
        return "collect"
    if any(isinstance(operator, Join) for operator in operators):
        return "join"
    return "merge" if any(isinstance(operator, ExchangeInput) for operator in operators) else "values"
