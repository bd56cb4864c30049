"""A node's reaction to cluster states: open the shards assigned to it, say so, drop what was dropped.

In: every committed cluster state (as an applier of the cluster service). Out: open shards in the :class:`ShardStore`,
``ShardStarted`` and ``ShardFailed`` commands for the master. The applier only notes what changed and gives new definitions to
the store before the state is visible, so that whoever sees a new column in the state can write it; everything that touches
files happens in tasks, on file threads. A copy whose allocation id is in sync has data somewhere: it must be found on this
disk, and is never created empty (rule M3 of the replication model, see ``cluster.allocation``). A shard that fails while it
is open is reported, too; the master has it opened anew from disk, a bounded number of times.

Not yet: copies that are recovered from another node, closing copies that moved away.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from cratepy import limits
from cratepy.errors import CrateError
from cratepy.execution.cpu import Workers
from cratepy.execution.runs import RunTable
from cratepy.model.commands import Command, ShardFailed, ShardStarted
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A copy that the state puts on this node."""

    table_uuid: str
    shard: int
    allocation_id: str
    primary_term: int
    must_exist: bool


def assignments(state: ClusterState, node_id: str) -> list[Assignment]:
    """The copies that this node has to open, in the order of tables and shards."""
    return [
        Assignment(
            table_uuid=uuid,
            shard=routing.shard,
            allocation_id=copy.allocation_id,
            primary_term=routing.primary_term,
            must_exist=copy.allocation_id in routing.in_sync,
        )
        for uuid, table in state.tables.items()
        for routing in table.routing
        for copy in routing.copies
        if copy.node_id == node_id and copy.state == "initializing"
    ]


class ShardKeeper:
    """Keeps the node's open shards as the cluster state wants them."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore, workers: Workers, runs: RunTable) -> None:
        self._cluster = cluster
        self._store = store
        self._workers = workers
        self._runs = runs
        self._changed = trio.Event()
        self._opening: set[Assignment] = set()
        #: Tables whose files here may have to go.
        self._gone: set[str] = set()
        #: Whether the files of before the start were compared with the first state.
        self._is_swept = False
        #: Allocation ids whose failure is being told, with the primary term it happened in.
        self._failing: set[tuple[str, int]] = set()
        self._failed: list[tuple[Assignment, str]] = []
        cluster.add_applier(self.on_state)

    def on_state(self, old: ClusterState, new: ClusterState) -> None:
        """The applier. Nothing here takes time."""
        for uuid, table in new.tables.items():
            known = old.tables.get(uuid)
            if known is not None and known.definition is not table.definition and known.definition != table.definition:
                self._store.update_definition(table.definition)
        self._gone.update(uuid for uuid in old.tables if uuid not in new.tables)
        self._changed.set()

    async def run(self) -> None:
        """Follow the states until cancelled."""
        async with trio.open_nursery() as nursery:
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
                for assignment in assignments(self._cluster.state, self._cluster.node_id):
                    if assignment not in self._opening:
                        self._opening.add(assignment)
                        nursery.start_soon(self._open, assignment)

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
        if not await self._report(assignment, reason):
            await trio.sleep(limits.SHARD_RETRY_S)
        self._failing.discard((assignment.allocation_id, assignment.primary_term))

    async def _open(self, assignment: Assignment) -> None:
        """Open the copy and tell the master how it went, until it hears it or wants something else."""
        try:
            definition = self._wanted(assignment)
            if definition is not None:
                reason = await self._try_open(definition, assignment)
                while self._wanted(assignment) is not None:
                    is_told = await self._report(assignment, reason)
                    if is_told and self._wanted(assignment) is None:
                        break
                    await trio.sleep(limits.SHARD_RETRY_S)
        finally:
            self._opening.discard(assignment)
        if assignment.table_uuid not in self._cluster.state.tables:
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

    async def _try_open(self, definition: TableDefinition, assignment: Assignment) -> str | None:
        """Why the copy could not be opened; None if it is open."""
        try:
            await self._workers.files(self._open_now, definition, assignment)
        except Exception as error:  # whatever keeps a shard closed is the master's to know, and the operator's
            logger.error("cannot open shard [%s][%d]", definition.name, assignment.shard, exc_info=error)
            return error.message if isinstance(error, CrateError) else f"{type(error).__name__}: {error}"
        table = self._cluster.state.tables.get(assignment.table_uuid)
        if table is not None and table.definition is not definition:
            self._store.update_definition(table.definition)  # it changed while the shard was being opened
        logger.info("opened shard [%s][%d]", definition.name, assignment.shard)
        return None

    def _open_now(self, definition: TableDefinition, assignment: Assignment) -> None:
        self._store.open_shard(
            definition,
            assignment.shard,
            assignment.allocation_id,
            primary_term=assignment.primary_term,
            create=not assignment.must_exist,
        )

    async def _report(self, assignment: Assignment, reason: str | None) -> bool:
        """Tell the master; False if it could not be told."""
        table_uuid, shard = assignment.table_uuid, assignment.shard
        allocation_id, primary_term = assignment.allocation_id, assignment.primary_term
        command: Command
        if reason is None:
            command = ShardStarted(
                table_uuid=table_uuid, shard=shard, allocation_id=allocation_id, primary_term=primary_term
            )
        else:
            command = ShardFailed(
                table_uuid=table_uuid,
                shard=shard,
                allocation_id=allocation_id,
                primary_term=primary_term,
                reason=reason,
            )
        try:
            await self._cluster.submit(command)
        except CrateError as error:
            logger.warning("cannot tell the master about shard %s: %s", assignment, error.message)
            return False
        return True

    async def remove_dangling(self) -> int:
        """Delete the files here of tables that were dropped while this node was away; how many tables that were.

        A directory of a table that the state does not have is only deleted if the state says that it was dropped: the
        cluster may have been bootstrapped anew from a node that had never heard of the table. Such a one is logged and kept.
        """
        on_disk = await self._workers.files(self._store.table_uuids_on_disk)
        state = self._cluster.state  # newer than the list: whatever directory is made for, is in it
        return sum([await self._remove(uuid) for uuid in on_disk if uuid not in state.tables])

    async def _remove(self, table_uuid: str) -> bool:
        """Delete a dropped table's files here, after those who still read it; whether that was done."""
        with trio.move_on_after(limits.TABLE_READERS_WAIT_S):
            await self._runs.wait_unread(table_uuid)
        state = self._cluster.state
        if table_uuid in state.tables:
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
