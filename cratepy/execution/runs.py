"""A run: one node's part in one execution of a query plan, and the runs a node takes part in.

In: a plan and the shards it reads here. Out: a scope to cancel and the first error. The handler has a run, too; a run whose
handler is another node is told to stop by message, or when that node is lost. Runs that have ended leave a tombstone, so
that a start that arrives after its cancellation does nothing (``limits.JOB_TOMBSTONES_MAX``, the oldest go first).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

import trio

from cratepy import limits
from cratepy.errors import CrateError, NodeUnavailable, ShardUnavailable, StaleRouting
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.messages import RunPlan
from cratepy.execution.sources import Shards
from cratepy.model.plan import Phase
from cratepy.records import dataclass


@dataclass(slots=True, kw_only=True)
class Run:
    """Mutable on purpose: ``error`` and ``is_stopped`` are its life."""

    id: str
    handler_id: str
    plan: RunPlan
    shards: Shards
    #: Inputs of the only phase, if they have been read already.
    ready_inputs: list[FragmentInput] | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    error: CrateError | None = None
    is_stopped: bool = False
    #: The last phase has read all its inputs to their ends, so no other node has work left.
    is_drained: bool = False

    @property
    def job_id(self) -> str:
        return self.plan.context.job_id

    @property
    def node_ids(self) -> frozenset[str]:
        return frozenset(node for phase in self.plan.phases for node in phase.nodes)

    @property
    def table_uuids(self) -> frozenset[str]:
        return frozenset(uuid for uuid, _ in self.shards)

    def phase(self, phase_id: int) -> Phase:
        for phase in self.plan.phases:
            if phase.id == phase_id:
                return phase
        raise AssertionError(f"run {self.id} has no phase {phase_id}")

    def answer(self) -> None:
        """The rows are complete: whatever fails from now on has nothing to do with them."""
        self.is_stopped = True

    def fail(self, error: CrateError) -> None:
        """Stop the run for this reason; the first reason stays."""
        if not self.is_stopped:
            self.error = error
        self.stop()

    def stop(self) -> None:
        """Stop the run without a reason of its own: its rows are not wanted any more."""
        self.is_stopped = True
        self.scope.cancel()


class RunTable:
    """The runs of one node by id, and the tombstones of those that ended."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        #: What the run failed with, None if it did not.
        self._tombstones: dict[str, CrateError | None] = {}
        self._one_ended = trio.Event()

    def add(self, run: Run) -> None:
        assert run.id not in self._runs, f"run {run.id} was started twice"
        self._runs[run.id] = run

    def end(self, run: Run) -> None:
        self._runs.pop(run.id, None)
        self._bury(run.id, run.error)
        self._one_ended.set()
        self._one_ended = trio.Event()

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def is_dead(self, run_id: str) -> bool:
        return run_id in self._tombstones

    def stop(self, run_id: str) -> None:
        """Stop the run, or see to it that it never starts."""
        run = self._runs.get(run_id)
        if run is None:
            self._bury(run_id, None)
        else:
            run.stop()

    def on_node_lost(self, node_id: str, *, own_id: str, name_of: Callable[[str], str]) -> None:
        """Runs of a lost handler are over; runs handled here that need the lost node have failed."""
        for run in list(self._runs.values()):
            if run.handler_id == node_id:
                run.fail(node_lost(name_of(node_id)))  # Others who still have the handler are told this, too.
            elif run.handler_id == own_id and node_id in run.node_ids and not run.is_drained:
                run.fail(node_lost(name_of(node_id)))

    async def wait_unread(self, table_uuid: str) -> None:
        """Return when no run reads the table's shards here."""
        while any(table_uuid in run.table_uuids for run in self._runs.values()):
            await self._one_ended.wait()

    def __len__(self) -> int:
        return len(self._runs)

    def failure(self, run_id: str) -> CrateError | None:
        """What a run that has ended failed with."""
        return self._tombstones.get(run_id)

    def _bury(self, run_id: str, error: CrateError | None) -> None:
        self._tombstones[run_id] = error
        if len(self._tombstones) > limits.JOB_TOMBSTONES_MAX:
            del self._tombstones[next(iter(self._tombstones))]


class Unroutable(StaleRouting):
    """StaleRouting that knows what to tell the client if no newer routing comes.

    ``shards`` (table uuid, number) were looked for in vain; those that are being opened are worth waiting for.
    """

    def __init__(self, error: CrateError, *, shards: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__(error.message)
        self.error = error
        self.shards = tuple(shards)


def unroutable_error(stale: StaleRouting) -> CrateError:
    """What the client is told about routing that stays stale."""
    return (
        stale.error
        if isinstance(stale, Unroutable)
        else ShardUnavailable(str(stale) or "the routing of a table is stale")
    )


def node_stops(node_name: str) -> NodeUnavailable:
    return NodeUnavailable(f"node [{node_name}] is stopping")


def node_lost(node_name: str) -> NodeUnavailable:
    return NodeUnavailable(f"node [{node_name}] disconnected while it worked on the statement")
