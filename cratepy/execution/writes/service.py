"""The write service of a node: INSERT, UPDATE, DELETE, COPY FROM, REFRESH, OPTIMIZE, and its primaries' side of writes.

In: write plans from ``execution.service`` with their statement's context, and other nodes' ``shard/*`` requests. Out: a Result
or one BulkItem per parameter row; everything told as written is durable. This room only wires the parts together; the
flow of a write::

    inserts, changes, copy_from    what the statement means, what to do with rows that fail
      blocks, updater              rows completed (rows, objects, values), the optimistic loop
        router                     rows to shards to primaries; stale routing, repeats
          primary                  the shard's write, group commit, operation ids

Does not do yet: replicas; COPY FROM on other nodes than the handler; new top-level columns of dynamic tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, assert_never

import trio

from cratepy import limits
from cratepy.clock import Clock, SystemClock
from cratepy.cluster.service import ClusterService
from cratepy.cluster.transport import Transport
from cratepy.errors import PeerUnavailable, RelationUnknown, RequestTimeout, ShardUnavailable, UnsupportedFeature
from cratepy.execution.engine.engine import Engine
from cratepy.execution.lookups import LookupService, RowReader, newer_than
from cratepy.execution.results import BulkItem, Result
from cratepy.execution.writes.blocks import BlockWriter
from cratepy.execution.writes.changes import Changer
from cratepy.execution.writes.copy_progress import CopyProgress
from cratepy.execution.writes.inserts import Inserter, RunQuery
from cratepy.execution.writes.layout import Layouts
from cratepy.execution.writes.primary import PrimaryWriter, Waiter
from cratepy.execution.writes.requests import (
    OPTIMIZE,
    REFRESH,
    WRITE,
    Counted,
    OptimizeShards,
    ShardsOf,
    ShardWrite,
    ShardWritten,
)
from cratepy.execution.writes.router import WriteRouter
from cratepy.execution.writes.single import BegunWrite
from cratepy.execution.writes.single_changes import SingleChanges
from cratepy.execution.writes.updater import Updater
from cratepy.model.plan import (
    CopyFromPlan,
    DeletePlan,
    InsertPlan,
    OptimizePlan,
    Plan,
    RefreshPlan,
    StatementContext,
    UpdatePlan,
)
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore

if TYPE_CHECKING:
    from cratepy.execution.writes.copy_from import Copier

#: Asks a node to do something with shards; gives back those it does not have.
_Ask = Callable[[str, list[tuple[str, int]]], Awaitable[list[tuple[str, int]]]]


class WriteService:
    """All writes of one node."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        store: ShardStore,
        engine: Engine,
        run_query: RunQuery,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = SystemClock() if clock is None else clock
        self._cluster = cluster
        self._store = store
        self._transport = cluster.transport if transport is None else transport
        self._threads = trio.CapacityLimiter(limits.WRITE_THREADS_MAX)
        #: OPTIMIZE rewrites whole shards: one after the other, and not in the way of refreshes.
        self._optimizing = trio.CapacityLimiter(1)
        layouts = Layouts()
        reader = RowReader(cluster=cluster, store=store)
        self._primary = PrimaryWriter(cluster=cluster, store=store, clock=clock)
        router = WriteRouter(cluster=cluster, primary=self._primary, clock=clock)
        updater = Updater(cluster=cluster, engine=engine, router=router, reader=reader, layouts=layouts)
        blocks = BlockWriter(
            cluster=cluster, engine=engine, clock=clock, router=router, updater=updater, layouts=layouts
        )
        lookups = LookupService(cluster=cluster, store=store, engine=engine)
        singles = SingleChanges(cluster=cluster, router=router, primary=self._primary, lookups=lookups)
        self._inserter = Inserter(
            cluster=cluster,
            engine=engine,
            router=router,
            blocks=blocks,
            layouts=layouts,
            run_query=run_query,
            changes=singles,
        )
        self._changer = Changer(
            cluster=cluster,
            engine=engine,
            router=router,
            updater=updater,
            reader=reader,
            lookups=lookups,
            layouts=layouts,
            run_query=run_query,
            singles=singles,
        )
        self._blocks = blocks
        self._copier: Copier | None = None

    def register(self) -> None:
        """Answer other nodes' writes; ``LookupService.register`` answers their reads."""
        self._transport.register(WRITE, ShardWrite, self._on_write)
        self._transport.register(REFRESH, ShardsOf, self._on_refresh)
        self._transport.register(OPTIMIZE, OptimizeShards, self._on_optimize)

    # --- statements --------------------------------------------------------------------------------------------------

    async def insert(self, plan: InsertPlan, context: StatementContext) -> Result:
        """See :mod:`cratepy.execution.writes.inserts`."""
        return await self._inserter.insert(plan, context)

    def begin(self, plan: InsertPlan | UpdatePlan | DeletePlan, context: StatementContext) -> BegunWrite | None:
        """One row into its log on this node, without waiting for anything; None: nothing was done.

        Raises StaleRouting, then nothing was done, and CrateError.
        """
        match plan:
            case InsertPlan():
                return self._inserter.insert_nowait(plan, context)
            case UpdatePlan():
                return self._changer.update_nowait(plan, context)
            case DeletePlan():
                return self._changer.delete_nowait(plan, context)
            case _:
                assert_never(plan)

    def when_durable(self, copy: Shard, position: int, waiter: Waiter) -> None:
        """See :meth:`PrimaryWriter.when_durable`."""
        self._primary.when_durable(copy, position, waiter)

    async def update(self, plan: UpdatePlan, context: StatementContext) -> Result:
        """See :mod:`cratepy.execution.writes.changes`."""
        return await self._changer.update(plan, context)

    async def delete(self, plan: DeletePlan, context: StatementContext) -> Result:
        """See :mod:`cratepy.execution.writes.changes`."""
        return await self._changer.delete(plan, context)

    async def copy_from(self, plan: CopyFromPlan, context: StatementContext) -> Result:
        """See :mod:`cratepy.execution.writes.copy_from`."""
        if self._copier is None:
            from cratepy.execution.writes.copy_from import Copier  # readers of files, which most nodes never need

            self._copier = Copier(cluster=self._cluster, blocks=self._blocks)
        return await self._copier.copy_from(plan, context)

    def copy_progress(self, job_id: str) -> CopyProgress | None:
        """How far a running COPY FROM is; None if the job is none."""
        return None if self._copier is None else self._copier.progress(job_id)

    # --- bulk --------------------------------------------------------------------------------------------------------

    async def bulk(
        self, plan: Plan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        """A write once per row of parameters; one item per row, in order."""
        if not parameter_rows:
            return []
        match plan:
            case InsertPlan():
                return await self._inserter.insert_bulk(plan, context, parameter_rows)
            case UpdatePlan():
                return await self._changer.update_bulk(plan, context, parameter_rows)
            case DeletePlan():
                return await self._changer.delete_bulk(plan, context, parameter_rows)
            case _:
                raise UnsupportedFeature(f"Bulk operation not supported for {type(plan).__name__}")

    async def insert_bulk(
        self, plan: InsertPlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        return await self.bulk(plan, context, parameter_rows)

    # --- all shards of tables ----------------------------------------------------------------------------------------

    async def refresh(self, plan: RefreshPlan, context: StatementContext) -> Result:
        """Make everything written so far visible to searches; counts tables."""

        async def ask(node_id: str, shards: list[tuple[str, int]]) -> list[tuple[str, int]]:
            request = ShardsOf(shards=shards)
            if node_id == self._cluster.node_id:
                return (await self._on_refresh(node_id, request)).missing
            return await self._ask(node_id, REFRESH, request, timeout_s=limits.REQUEST_TIMEOUT_S)

        return await self._on_all_shards(plan.tables, ask)

    async def optimize(self, plan: OptimizePlan, context: StatementContext) -> Result:
        """Merge the segments of every shard, and flush; counts tables. Returns when it is done."""
        options = plan.options
        max_num_segments = options.get("max_num_segments")

        async def ask(node_id: str, shards: list[tuple[str, int]]) -> list[tuple[str, int]]:
            request = OptimizeShards(
                shards=shards,
                max_num_segments=max_num_segments if isinstance(max_num_segments, int) else None,
                only_expunge_deletes=options.get("only_expunge_deletes") is True,
                flush=options.get("flush") is not False,
            )
            if node_id == self._cluster.node_id:
                return (await self._on_optimize(node_id, request)).missing
            return await self._ask(node_id, OPTIMIZE, request, timeout_s=limits.OPTIMIZE_TIMEOUT_S)

        return await self._on_all_shards(plan.tables, ask)

    async def _on_all_shards(self, tables: Sequence[str], ask: _Ask) -> Result:
        """Ask the nodes of the tables' primaries for something; those that have moved meanwhile are asked for again."""
        wanted = set(tables)
        pending: set[tuple[str, int]] | None = None
        for attempt in range(limits.ROUTING_RETRIES_MAX):
            state = self._cluster.state
            by_node: dict[str, list[tuple[str, int]]] = {}
            for uuid in sorted(wanted):
                table = state.tables.get(uuid)
                if table is None:
                    raise RelationUnknown(f"Relation '{uuid}' unknown")
                for routing in table.routing:
                    primary = routing.primary
                    is_pending = pending is None or (uuid, routing.shard) in pending
                    if is_pending and primary is not None and primary.node_id is not None:
                        by_node.setdefault(primary.node_id, []).append((uuid, routing.shard))
            missing: list[tuple[str, int]] = []

            async def collect(node_id: str, shards: list[tuple[str, int]], missing: list[tuple[str, int]]) -> None:
                missing.extend(await ask(node_id, shards))

            async with trio.open_nursery() as nursery:
                for node_id, shards in sorted(by_node.items()):
                    nursery.start_soon(collect, node_id, shards, missing)
            if not missing:
                return Result(rowcount=len(wanted))
            pending = set(missing)
            if attempt + 1 < limits.ROUTING_RETRIES_MAX:
                with trio.move_on_after(limits.WRITE_RETRY_MAX_S):
                    await self._cluster.wait_for(newer_than(state), timeout_s=limits.REQUEST_TIMEOUT_S)
        raise ShardUnavailable(f"[{missing[0][0]}][{missing[0][1]}] could not be reached")

    async def _ask(
        self, node_id: str, action: str, request: ShardsOf | OptimizeShards, *, timeout_s: float
    ) -> list[tuple[str, int]]:
        """The shards that the node does not have; all of them if it does not answer."""
        try:
            reply: Counted = await self._transport.request(
                node_id, action, request, reply_type=Counted, timeout_s=timeout_s
            )
        except (PeerUnavailable, RequestTimeout):
            return list(request.shards)
        return list(reply.missing)

    async def _work(
        self,
        shards: Sequence[tuple[str, int]],
        work: Callable[[Shard], object],
        threads: trio.CapacityLimiter,
        *,
        may_be_abandoned: bool = False,
    ) -> list[tuple[str, int]]:
        """The work on shards of this node, on worker threads; gives back those that are not here."""
        missing = []

        async def run(copy: Shard) -> None:
            await trio.to_thread.run_sync(work, copy, limiter=threads, abandon_on_cancel=may_be_abandoned)

        async with trio.open_nursery() as nursery:
            for uuid, number in shards:
                copy = self._store.shard(uuid, number)
                if copy is None:
                    missing.append((uuid, number))
                else:
                    nursery.start_soon(run, copy)
        return missing

    # --- other nodes -------------------------------------------------------------------------------------------------

    async def _on_write(self, _source: str, request: ShardWrite) -> ShardWritten:
        return await self._primary.write_remote(request)

    async def _on_refresh(self, _source: str, request: ShardsOf) -> Counted:
        return Counted(missing=await self._work(request.shards, Shard.refresh, self._threads))

    async def _on_optimize(self, _source: str, request: OptimizeShards) -> Counted:
        def optimize(copy: Shard) -> None:
            copy.optimize(
                max_num_segments=request.max_num_segments,
                only_expunge_deletes=request.only_expunge_deletes,
                flush=request.flush,
            )

        # A killed OPTIMIZE lets go at once; the shard it is at is finished in the background.
        missing = await self._work(request.shards, optimize, self._optimizing, may_be_abandoned=True)
        return Counted(missing=missing)
