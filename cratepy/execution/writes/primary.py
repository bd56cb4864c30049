"""The primary's side of a write: check the role, write, wait until it is durable, remember the operation.

In: batches for shards of this node, from this node's own coordinators (short way, nothing is encoded) or from other
nodes. Out: what became of each row, once it is on disk. Its own room because the promise "acknowledged means durable,
a repeat is not a second execution" is kept here and nowhere else.

Exactly once: a remote batch carries an operation id. The outcome is kept for a while, a repeat is answered from memory (or
waits for the first attempt). A repeat that is not known here either never arrived, then it is executed, or was forgotten
because the memory is bounded: then the answer is ``unknown``, never a second execution.

Order: reliability note of Elasticsearch's write path (version check, translog, fsync, acknowledge), group commit as in
PostgreSQL's ``commit_delay``. Does not do yet: replicas.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol, cast

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.service import ClusterService
from cratepy.errors import Condition, CrateError, DiskFull, OutcomeUnknown, ShardFailed, StaleRouting, TooManyRequests
from cratepy.execution.writes.requests import ShardWrite, ShardWritten, decode_rows
from cratepy.model.schema import TableDefinition
from cratepy.model.table_blocks import check_blocks
from cratepy.records import dataclass
from cratepy.storage.operations import WriteBatch, WriteResult
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore

#: Small writes, and bytes of them, between two looks at the size of the write buffer.
_CHECK_EVERY_WRITES: Final = 64
_CHECK_EVERY_BYTES: Final = 4 * limits.MIB
#: What a block of the table calls a batch.
_OPERATIONS: Final = {"insert": "INSERT", "index": "UPDATE", "delete": "DELETE"}


class Waiter(Protocol):
    """Who waits for the disk: a task, or a reply that no task waits for."""

    def arrive(self, failure: BaseException | None) -> None:
        """The disk has what was waited for; or why it will never have."""


@dataclass(slots=True)
class _Operation:
    """A remote operation: ``outcome`` is set, and ``done``, when it ended."""

    started: float
    done: trio.Event
    outcome: ShardWritten | CrateError | None = None


class PrimaryWriter:
    """Writes to the primaries on this node."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore, clock: Clock) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._operations: OrderedDict[str, _Operation] = OrderedDict()
        #: Operations that started before this moment may have been forgotten.
        self._forgotten_until = float("-inf")
        self._threads = trio.CapacityLimiter(limits.WRITE_THREADS_MAX)
        self._unchecked_writes = 0
        self._unchecked_bytes = 0
        #: Kind of a write → the last definition that had no block against it.
        self._unblocked: dict[str, TableDefinition] = {}
        self._relief = trio.CapacityLimiter(1)
        #: Allocation ids of shards that a small write has refreshed just now.
        self._relieved: set[str] = set()
        #: Positions that became durable and whose waiters do not know yet; filled on the committer's thread.
        self._arrived: deque[tuple[Waiter, BaseException | None]] = deque()
        #: The event loop was told of arrivals and has not looked yet: to wake it is dear.
        self._is_woken = False
        self._token: trio.lowlevel.TrioToken | None = None
        store.on_commit(self._announce)

    def local_shard(self, table_uuid: str, shard: int, allocation_id: str) -> Shard:
        """The open copy with this allocation id. Raises StaleRouting if it is not here."""
        copy = self._store.shard(table_uuid, shard)
        if copy is None or copy.allocation_id != allocation_id:
            raise StaleRouting(f"[{table_uuid}][{shard}] {allocation_id} is not open here")
        return copy

    async def write(self, copy: Shard, batch: WriteBatch) -> WriteResult:
        """Write a batch; it is not durable yet. Raises CrateError or StaleRouting."""
        (result,) = await self.write_all([(copy, batch)])
        if isinstance(result, BaseException):
            raise result
        return result

    async def write_one(self, copy: Shard, batch: WriteBatch) -> WriteResult:
        """:meth:`write` of one row, on the loop; it waits only if the write buffer is full."""
        await self._make_room(copy, is_small=True)
        return self._write_row(copy, batch)

    def write_one_nowait(self, copy: Shard, batch: WriteBatch) -> WriteResult | None:
        """:meth:`write_one` if there is no need to wait for room, else None: nothing was written."""
        if copy.is_above_share or self._looks_full(is_small=True):
            return None
        return self._write_row(copy, batch)

    def insert_nowait(self, copy: Shard, id: str, row: PlainRow, *, primary_term: int) -> tuple[int, bool] | None:
        """:meth:`write_one_nowait` of an insert: its position, and whether it was refused because the id exists."""
        if copy.is_above_share or self._looks_full(is_small=True):
            return None
        self._check_blocks(copy.definition, "insert")
        before = copy.position
        position = copy.write_row(id, row, primary_term=primary_term, is_awaited=_is_synchronous(copy))
        if position is None:
            batch = WriteBatch(kind="insert", ids=(id,), rows=row, primary_term=primary_term)
            result = self._write_row(copy, batch)
            return result.position, bool(result.failures)
        self._unchecked_bytes += position - before
        return position, False

    def _write_row(self, copy: Shard, batch: WriteBatch) -> WriteResult:
        self._check_blocks(copy.definition, batch.kind)
        before = copy.position
        result = copy.write(batch, is_awaited=_is_synchronous(copy))
        self._unchecked_bytes += result.position - before
        return result

    def _check_blocks(self, definition: TableDefinition, kind: str) -> None:
        """Raises what :func:`check_blocks` does; it is asked once as long as the rows are of one definition."""
        if self._unblocked.get(kind) is not definition:
            check_blocks(definition, _OPERATIONS[kind])
            self._unblocked[kind] = definition

    async def write_all(
        self, batches: Sequence[tuple[Shard, WriteBatch]]
    ) -> list[WriteResult | CrateError | StaleRouting]:
        """Write batches to several shards: on the loop if they are small, else on a worker thread."""
        rows = sum(len(batch.ids) for _, batch in batches)
        is_small = rows <= limits.WRITE_INLINE_ROWS and _are_light(batches)
        for copy, _ in batches if is_small else batches[:1]:
            await self._make_room(copy, is_small=is_small)
        if is_small:
            return _write_each(batches, self._begin_no_sync)
        # A write that has begun is not abandoned: its outcome would be unknown.
        return await trio.to_thread.run_sync(_write_each, batches, self._begin_sync, limiter=self._threads)

    @property
    def has_room(self) -> bool:
        """Whether rows may be written without waiting for a refresh first."""
        return not self._is_full()

    def write_here(self, batches: Sequence[tuple[Shard, WriteBatch]]) -> list[WriteResult | CrateError | StaleRouting]:
        """:meth:`write_all` on this thread, a worker's, for who has asked for :attr:`has_room`."""
        return _write_each(batches, self._begin_sync)

    def _begin_sync(self, copy: Shard, position: int) -> None:
        """Let the disk take a shard's rows while those of the next shard are written; who waits for them is told as ever."""
        if _is_synchronous(copy):
            try:
                self._store.when_durable(copy, position, _nothing)
            except TooManyRequests:
                # The same limit will refuse whoever has to wait.
                return

    @staticmethod
    def _begin_no_sync(_copy: Shard, _position: int) -> None:
        """A few rows: the sync begins a moment later, when they are waited for."""

    async def wait_durable(self, written: Sequence[tuple[Shard, int]]) -> None:
        """Return when all these (shard, translog position) are on disk; raises ShardFailed if one will never be.

        May be cancelled; the rows are written nevertheless.
        """
        waiting = [
            (copy, position) for copy, position in written if _is_synchronous(copy) and copy.synced_position < position
        ]
        if not waiting:
            return
        barrier = _Barrier(len(waiting))
        for copy, position in waiting:
            self._call_when_durable(copy, position, barrier)
        await barrier.event.wait()
        if barrier.failure is not None:
            raise barrier.failure

    def when_durable(self, copy: Shard, position: int, waiter: Waiter) -> None:
        """:meth:`wait_durable` of one row without a task: ``waiter`` is told on the event loop, perhaps at once.

        Raises TooManyRequests.
        """
        if _is_synchronous(copy):
            self._call_when_durable(copy, position, waiter)
        else:
            waiter.arrive(None)

    def _call_when_durable(self, copy: Shard, position: int, waiter: Waiter) -> None:
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        arrived = self._arrived.append
        self._store.when_durable(copy, position, lambda failure: arrived((waiter, failure)))

    def _announce(self) -> None:
        """Wake the event loop for all that arrived, unless it is woken already. On the committer's thread."""
        if self._arrived and not self._is_woken and self._token is not None:
            self._is_woken = True
            try:
                self._token.run_sync_soon(self._let_through)
            except trio.RunFinishedError:
                # The server is gone, nobody waits: there is no one left to tell.
                self._arrived.clear()

    def _let_through(self) -> None:
        # First: who arrives while the others are let through wakes the loop again.
        self._is_woken = False
        arrived = self._arrived
        while arrived:
            waiter, failure = arrived.popleft()
            waiter.arrive(None if failure is None else _as_client_error(failure))

    async def write_remote(self, request: ShardWrite) -> ShardWritten:
        """A batch another node sent; executed at most once per operation id."""
        known = self._operations.get(request.op_id)
        if known is None:
            if request.sent_ms_ago and self._clock.monotonic() - request.sent_ms_ago / 1000 <= self._forgotten_until:
                return ShardWritten(status="unknown")
            known = self._remember(request.op_id)
            await self._execute(request, known)
        await known.done.wait()
        if isinstance(known.outcome, CrateError):
            raise known.outcome
        assert known.outcome is not None
        return known.outcome

    async def _execute(self, request: ShardWrite, operation: _Operation) -> None:
        """Fill in the operation's outcome. Shielded: the coordinator's connection may break, the write goes on."""
        with trio.CancelScope(shield=True):
            try:
                operation.outcome = await self._execute_once(request)
            except StaleRouting:
                # Nothing was executed: a repeat may try again.
                operation.outcome = ShardWritten(status="stale")
                self._operations.pop(request.op_id, None)
            except CrateError as error:
                operation.outcome = error
            except BaseException:
                operation.outcome = OutcomeUnknown("The write failed on its primary and may have been done in part")
                raise
            finally:
                operation.done.set()

    async def _execute_once(self, request: ShardWrite) -> ShardWritten:
        copy = self.local_shard(request.table_uuid, request.shard, request.allocation_id)
        if copy.definition.version < request.definition_version:
            await self._wait_for_definition(request)
            copy = self.local_shard(request.table_uuid, request.shard, request.allocation_id)
        batch = WriteBatch(
            kind=cast(Literal["insert", "index", "delete"], request.kind),
            ids=request.ids,
            rows=None if request.rows is None else decode_rows(request.rows),
            primary_term=request.primary_term,
            expected=request.expected,
        )
        result = await self.write(copy, batch)
        await self.wait_durable([(copy, result.position)])
        return ShardWritten(
            status="done",
            failures=list(result.failures),
            first_seq_no=result.first_seq_no,
            primary_term=request.primary_term,
            versions=list(result.versions),
        )

    async def _wait_for_definition(self, request: ShardWrite) -> None:
        """The sender knows a newer definition than this node has applied."""
        uuid, version = request.table_uuid, request.definition_version
        with trio.move_on_after(limits.WRITE_RETRY_TIMEOUT_S):
            await self._cluster.wait_for(
                lambda state: uuid not in state.tables or state.tables[uuid].definition.version >= version,
                timeout_s=limits.WRITE_RETRY_TIMEOUT_S,
            )
            return
        raise StaleRouting(f"definition {version} of table {uuid} did not arrive")

    def _remember(self, op_id: str) -> _Operation:
        operation = _Operation(self._clock.monotonic(), trio.Event())
        self._operations[op_id] = operation
        while len(self._operations) > limits.WRITE_OPERATIONS_REMEMBERED:
            oldest = next(iter(self._operations.values()))
            if not oldest.done.is_set():
                break
            self._operations.popitem(last=False)
            self._forgotten_until = max(self._forgotten_until, oldest.started)
        return operation

    async def _make_room(self, copy: Shard, *, is_small: bool) -> None:
        if self._looks_full(is_small=is_small):
            await self._wait_for_buffer(copy)
        if is_small and copy.is_above_share:
            await self._relieve_share(copy)

    def _looks_full(self, *, is_small: bool) -> bool:
        """Whether the write buffer is full, if it is time to look: the sum over all shards is not worth it for every row."""
        self._unchecked_writes += 1
        is_due = self._unchecked_writes >= _CHECK_EVERY_WRITES or self._unchecked_bytes >= _CHECK_EVERY_BYTES
        if is_small and not is_due:
            return False
        self._unchecked_writes = self._unchecked_bytes = 0
        return self._is_full()

    async def _relieve_share(self, copy: Shard) -> None:
        """One of many writers refreshes the shard, on a thread; the others go on until its buffer is half above its share.

        Then they wait, too: a write must not find on the event loop that it has to refresh first.
        """
        is_first = copy.allocation_id not in self._relieved
        if not is_first and not _is_urgent(copy):
            return
        self._relieved.add(copy.allocation_id)
        try:
            with trio.move_on_after(limits.WRITE_BUFFER_WAIT_S):
                while is_first or _is_urgent(copy):
                    is_first = False
                    await trio.to_thread.run_sync(_relieve_shard, copy, limiter=self._relief, abandon_on_cancel=True)
                    if copy.is_put_off:
                        # The disk is full. Whether there is room for the row is for its own write to say.
                        return
                return
        finally:
            self._relieved.discard(copy.allocation_id)
        if _is_urgent(copy):
            raise _overloaded(f"[write_buffer] Rows of [{copy.definition.name}][{copy.shard}] that wait for a refresh")

    async def _wait_for_buffer(self, copy: Shard) -> None:
        """Back-pressure: make room by a refresh of this shard, wait for others to do the same, give up after a while.

        A refresh that hangs with its disk is left alone; nobody waits for it longer than for the room.
        """
        with trio.move_on_after(limits.WRITE_BUFFER_WAIT_S):
            while self._is_full():
                await trio.to_thread.run_sync(self._relieve, copy, limiter=self._relief, abandon_on_cancel=True)
                await trio.sleep(limits.WRITE_BUFFER_POLL_S)
            return
        raise _overloaded("[write_buffer] Rows that wait for a refresh")

    def _is_full(self) -> bool:
        return self._store.buffered_bytes > limits.WRITE_BUFFER_BYTES_MAX

    def _relieve(self, copy: Shard) -> None:
        if self._is_full():
            copy.refresh()


def _is_urgent(copy: Shard) -> bool:
    """Whether a small write may find that it has to refresh or flush first: nothing for an event loop."""
    return 2 * copy.buffered_bytes > 3 * copy.buffer_bytes_max or 2 * copy.translog_bytes > 3 * copy.flush_bytes


def _overloaded(what: str) -> TooManyRequests:
    limit = limits.WRITE_BUFFER_BYTES_MAX
    return TooManyRequests(
        f"{what} exceed the limit of [{limit}/{limit // limits.MIB}mb] of the node, or their share of it, since "
        f"{limits.WRITE_BUFFER_WAIT_S:g}s; nothing was written, try again later"
    )


def _relieve_shard(copy: Shard) -> None:
    if copy.is_put_off or not copy.is_above_share:
        return
    try:
        copy.flush() if copy.translog_bytes > copy.flush_bytes else copy.refresh()
    except DiskFull:
        assert copy.is_put_off, "it was noted, and is tried again later"


def _are_light(batches: Sequence[tuple[Shard, WriteBatch]]) -> bool:
    """Whether a few rows may be written on the event loop: they may still be huge."""
    rows = [batch.rows for _, batch in batches if isinstance(batch.rows, pa.RecordBatch)]
    return sum(batch.get_total_buffer_size() for batch in rows) <= limits.WRITE_INLINE_BYTES


def _write_each(
    batches: Sequence[tuple[Shard, WriteBatch]], begin_sync: Callable[[Shard, int], None]
) -> list[WriteResult | CrateError | StaleRouting]:
    """One shard after the other; an error is the outcome of its own shard only."""
    results: list[WriteResult | CrateError | StaleRouting] = []
    for copy, batch in batches:
        try:
            check_blocks(copy.definition, _OPERATIONS[batch.kind])
            result = copy.write(batch)
            results.append(result)
            begin_sync(copy, result.position)
        except (CrateError, StaleRouting) as error:
            results.append(error)
    return results


def _nothing(_failure: BaseException | None) -> None:
    """Who waits for a sync finds out for himself."""


class _Barrier:
    """Counts arrivals on the trio thread; ``event`` is set by the last one."""

    __slots__ = ("event", "failure", "missing")

    def __init__(self, missing: int) -> None:
        self.event = trio.Event()
        self.missing = missing
        self.failure: BaseException | None = None

    def arrive(self, failure: BaseException | None) -> None:
        self.missing -= 1
        if failure is not None:
            self.failure = failure
        if self.missing == 0:
            self.event.set()


def _as_client_error(failure: BaseException) -> BaseException:
    if isinstance(failure, CrateError | Condition):
        return failure
    return ShardFailed(f"The translog could not be made durable: {failure}")


def _is_synchronous(copy: Shard) -> bool:
    """Table setting ``translog.durability``: REQUEST (default) waits for the disk, ASYNC does not."""
    setting = copy.definition.settings.get("translog.durability")
    return setting is None or str(setting).upper() != "ASYNC"
