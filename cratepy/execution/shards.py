"""A node's reaction to cluster states: open the shards assigned to it, say so, drop what was dropped.

In: every committed cluster state (as an applier of the cluster service). Out: open shards in the :class:`ShardStore`,
``ShardsStarted`` and ``ShardFailed`` commands for the master. The applier only notes what changed and gives new definitions to
the store before the state is visible, so that whoever sees a new column in the state can write it; everything that touches
files happens in tasks, on file threads. Only tables that a state changed are looked at, and copies that were opened
together are reported together, so that a change costs the same however many shards there are. Copies of a new table are opened
while its state is still being published (:mod:`cratepy.execution.early`). A copy whose allocation id is in sync has data somewhere: it must be found on this
disk, and is never created empty (rule M3 of the replication model, see ``cluster.allocation``). A shard that fails while it
is open is reported, too; the master has it opened anew from disk, a bounded number of times.

Not yet: copies that are recovered from another node, closing copies that moved away.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from cratepy import limits
from cratepy.errors import CrateError
from cratepy.execution.cpu import Workers
from cratepy.execution.early import Assignment, EarlyCopies, Outcome, assignments
from cratepy.execution.openings import Openings
from cratepy.execution.runs import RunTable
from cratepy.model.commands import Command, ShardFailed, ShardsStarted, StartedCopy
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState, TableState

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)


class ShardKeeper:
    """Keeps the node's open shards as the cluster state wants them."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore, workers: Workers, runs: RunTable) -> None:
        self._cluster = cluster
        self._store = store
        self._workers = workers
        self._runs = runs
        self._changed = trio.Event()
        #: Tables that a state or the end of an opening has changed since they were looked at.
        self._touched: dict[str, None] = {}
        #: Copies from their assignment until the master has heard of them.
        self._opening: set[Assignment] = set()
        #: Those that are not open yet; those that are, and wait to be reported.
        self._openings: Openings[Assignment, Outcome] = Openings(
            workers=workers, open_one=self._try_open, on_outcome=self._on_outcome
        )
        #: Those of tables that may come to be.
        self._early = EarlyCopies()
        self._announced: list[Assignment] = []
        self._has_opened = trio.Event()
        self._ready: list[Assignment] = []
        self._is_ready = trio.Event()
        #: Tables whose files here may have to go.
        self._gone: set[str] = set()
        #: Whether the files of before the start were compared with the first state.
        self._is_swept = False
        #: Allocation ids whose failure is being told, with the primary term it happened in.
        self._failing: set[tuple[str, int]] = set()
        self._failed: list[tuple[Assignment, str]] = []
        cluster.add_applier(self.on_state)
        cluster.on_new_tables(self.on_new_tables)

    def on_state(self, old: ClusterState, new: ClusterState) -> None:
        """The applier. Nothing here takes time."""
        if new.tables is old.tables and self._is_swept:
            return
        for uuid, table in new.tables.items():
            known = old.tables.get(uuid)
            if known is table:
                continue
            self._touched[uuid] = None
            if known is not None and known.definition is not table.definition and known.definition != table.definition:
                self._store.update_definition(table.definition)
        self._gone.update(uuid for uuid in old.tables if uuid not in new.tables)
        self._changed.set()

    def on_new_tables(self, tables: Iterable[TableState], version: int) -> None:
        """A state that makes them is being written down here; it may be committed or not."""
        for table in tables:
            if table.definition.uuid not in self._cluster.state.tables:
                wanted = self._early.announce(table, version, self._cluster.node_id)
                self._announced.extend(wanted)
                self._opening.update(wanted)
        if self._announced:
            self._changed.set()

    async def run(self) -> None:
        """Follow the states until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report_started, nursery)
            self._changed.set()  # states may have been applied before this started
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                for assignment, reason in self._failed:
                    nursery.start_soon(self._fail, assignment, reason)
                self._failed.clear()
                for uuid in sorted(self._gone):
                    nursery.start_soon(self._remove, uuid)
                self._gone.clear()
                if not self._is_swept and self._cluster.state.version:
                    self._is_swept = True
                    nursery.start_soon(self.remove_dangling)
                for assignment, outcome in self._openings.take():
                    if not self._early.keep(assignment, outcome):
                        self._on_opened(assignment, outcome, nursery)
                self._settle_early(nursery)
                if not self._openings.pending:
                    self._has_opened.set()
                announced, self._announced = self._announced, []
                self._openings.add([*announced, *self._unheard_of()], nursery)

    def _settle_early(self, nursery: trio.Nursery) -> None:
        """What was opened early counts when its table has come to be."""
        state = self._cluster.state
        for assignment, outcome in self._early.came(state.version, state.tables):
            self._touched[assignment.table_uuid] = None
            self._on_opened(assignment, outcome, nursery)
        for uuid, opened in self._early.went(state.version, state.tables):
            nursery.start_soon(self._give_up, uuid, opened)

    async def _give_up(self, table_uuid: str, opened: Sequence[Assignment]) -> None:
        """The state that would have made the table is not one of the committed ones: nothing was ever in its copies."""
        try:
            await self._workers.files(self._store.remove_table, table_uuid)
        except OSError as error:
            logger.error("cannot delete the files of table %s, which was not made: %s", table_uuid, error)
        self._opening.difference_update(opened)
        self._early.forget(table_uuid)
        self._touched[table_uuid] = None
        self._changed.set()

    def _unheard_of(self) -> list[Assignment]:
        """What the tables that changed want of this node, and nobody has begun yet."""
        touched, self._touched = self._touched, {}
        tables = self._cluster.state.tables
        found = [
            assignment
            for uuid in touched
            if uuid in tables and uuid not in self._early
            for assignment in assignments(tables[uuid], self._cluster.node_id)
            if assignment not in self._opening
        ]
        self._opening.update(found)
        return found

    def on_failed(self, shard: Shard) -> None:
        """A shard has failed while it was open: the master shall know, and may have it opened again."""
        table = self._cluster.state.tables.get(shard.table_uuid)
        if table is None:
            return
        routing = table.routing[shard.shard]
        key = (shard.allocation_id, routing.primary_term)
        is_here = any(
            copy.allocation_id == shard.allocation_id
            and copy.node_id == self._cluster.node_id
            and copy.state == "started"
            for copy in routing.copies
        )
        if is_here and key not in self._failing:
            self._failing.add(key)
            assignment = Assignment(
                table_uuid=shard.table_uuid,
                shard=shard.shard,
                allocation_id=shard.allocation_id,
                primary_term=routing.primary_term,
                must_exist=True,
            )
            self._failed.append((assignment, shard.failure or "failed"))
            self._changed.set()

    async def _fail(self, assignment: Assignment, reason: str) -> None:
        if not await self._report_failed(assignment, reason):
            await trio.sleep(limits.SHARD_RETRY_S)
        self._failing.discard((assignment.allocation_id, assignment.primary_term))

    def _on_outcome(self) -> None:
        self._changed.set()

    def _on_opened(self, assignment: Assignment, outcome: Outcome, nursery: trio.Nursery) -> None:
        """One that is open is told of with the others, a failure at once; what is not wanted any more is nobody's."""
        if outcome.definition is None:
            self._settle(assignment)
        elif outcome.failure is not None:
            nursery.start_soon(self._tell_failed, assignment, outcome.failure)
        else:
            table = self._cluster.state.tables.get(assignment.table_uuid)
            if table is not None and table.definition is not outcome.definition:
                self._store.update_definition(table.definition)  # it changed while the shard was being opened
            logger.debug("opened shard [%s][%d]", outcome.definition.name, assignment.shard)
            self._ready.append(assignment)
            self._is_ready.set()

    async def _tell_failed(self, assignment: Assignment, reason: str) -> None:
        """Tell the master until it hears it or wants something else."""
        while self._wanted(assignment) is not None:
            is_told = await self._report_failed(assignment, reason)
            if is_told and self._wanted(assignment) is None:
                break
            await trio.sleep(limits.SHARD_RETRY_S)
        self._settle(assignment)

    async def _report_started(self, nursery: trio.Nursery) -> None:
        """Gather what is open as long as more is being opened, but not for long."""
        while True:
            await self._is_ready.wait()
            with trio.move_on_after(limits.SHARD_REPORT_GATHER_S):
                while self._openings.pending:
                    self._has_opened = trio.Event()
                    await self._has_opened.wait()
            self._is_ready = trio.Event()
            ready, self._ready = self._ready, []
            for start in range(0, len(ready), limits.SHARD_REPORT_COPIES_MAX):
                nursery.start_soon(self._tell_started, ready[start : start + limits.SHARD_REPORT_COPIES_MAX])

    async def _tell_started(self, opened: list[Assignment]) -> None:
        """Tell the master until it has heard of each copy or wants something else."""
        while wanted := [assignment for assignment in opened if self._wanted(assignment) is not None]:
            is_told = await self._submit(
                ShardsStarted(
                    tuple(
                        StartedCopy(
                            table_uuid=assignment.table_uuid,
                            shard=assignment.shard,
                            allocation_id=assignment.allocation_id,
                            primary_term=assignment.primary_term,
                        )
                        for assignment in wanted
                    )
                )
            )
            if not is_told or any(self._wanted(assignment) is not None for assignment in wanted):
                await trio.sleep(limits.SHARD_RETRY_S)
        for assignment in opened:
            self._settle(assignment)

    def _settle(self, assignment: Assignment) -> None:
        """The master knows; what it wants next is in the newest state."""
        self._opening.discard(assignment)
        if assignment.table_uuid in self._cluster.state.tables:
            self._touched[assignment.table_uuid] = None
        else:
            self._gone.add(assignment.table_uuid)
        self._changed.set()

    def _wanted(self, assignment: Assignment) -> TableDefinition | None:
        """The table's definition, if the state still puts this copy here and waits for it."""
        table = self._cluster.state.tables.get(assignment.table_uuid)
        if table is None:
            return None
        routing = table.routing[assignment.shard]
        if routing.primary_term != assignment.primary_term:
            return None
        for copy in routing.copies:
            if copy.allocation_id == assignment.allocation_id:
                is_here = copy.node_id == self._cluster.node_id and copy.state == "initializing"
                return table.definition if is_here else None
        return None

    def _try_open(self, assignment: Assignment) -> Outcome:
        """On a file thread."""
        definition = self._early.definition(assignment.table_uuid) or self._wanted(assignment)
        if definition is None:
            return Outcome(None)
        try:
            self._open_now(definition, assignment)
        except Exception as error:  # whatever keeps a shard closed is the master's to know, and the operator's
            logger.error("cannot open shard [%s][%d]", definition.name, assignment.shard, exc_info=error)
            return Outcome(
                definition, error.message if isinstance(error, CrateError) else f"{type(error).__name__}: {error}"
            )
        return Outcome(definition)

    def _open_now(self, definition: TableDefinition, assignment: Assignment) -> None:
        self._store.open_shard(
            definition,
            assignment.shard,
            assignment.allocation_id,
            primary_term=assignment.primary_term,
            create=not assignment.must_exist,
        )

    async def _report_failed(self, assignment: Assignment, reason: str) -> bool:
        """Tell the master; False if it could not be told."""
        return await self._submit(
            ShardFailed(
                table_uuid=assignment.table_uuid,
                shard=assignment.shard,
                allocation_id=assignment.allocation_id,
                primary_term=assignment.primary_term,
                reason=reason,
            )
        )

    async def _submit(self, command: Command) -> bool:
        try:
            await self._cluster.submit(command)
        except CrateError as error:
            logger.warning("cannot tell the master %s: %s", command, error.message)
            return False
        return True

    async def remove_dangling(self) -> int:
        """Delete the files here of tables that were dropped while this node was away; how many tables that were.

        A directory of a table that the state does not have is only deleted if the state says that it was dropped: the
        cluster may have been bootstrapped anew from a node that had never heard of the table. Such a one is logged and kept.
        """
        on_disk = await self._workers.files(self._store.table_uuids_on_disk)
        state = self._cluster.state  # newer than the list: whatever directory is made for, is in it, or may come to be
        unknown = [uuid for uuid in on_disk if uuid not in state.tables and uuid not in self._early]
        return sum([await self._remove(uuid) for uuid in unknown])

    async def _remove(self, table_uuid: str) -> bool:
        """Delete a dropped table's files here, after those who still read it; whether that was done."""
        with trio.move_on_after(limits.TABLE_READERS_WAIT_S):
            await self._runs.wait_unread(table_uuid)
        state = self._cluster.state
        if table_uuid in state.tables or table_uuid in self._early:
            return False
        try:
            if table_uuid in state.dropped:
                await self._workers.files(self._store.remove_table, table_uuid)
                return True
            await self._workers.files(self._store.close_table, table_uuid)
        except OSError as error:
            logger.error("cannot delete the files of table %s: %s", table_uuid, error)
            return False
        logger.warning(
            "the files of table %s are kept in %s, although this cluster has no such table: it does not remember that it was "
            "dropped. Delete the directory by hand if nobody needs it",
            table_uuid,
            self._store.table_path(table_uuid),
        )
        return False
