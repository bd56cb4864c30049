"""The coordinator's side of a write: rows to shards, shards to primaries, and what became of each row.

In: ids, shard numbers and an Arrow batch of rows at rest. Out: a :class:`WriteReport` that says of every row whether it was
written, refused by its shard (duplicate, conflict, missing) or lost to an error of its shard. Its own room because
routing that goes stale under a write is one policy for inserts, updates, deletes and COPY.

A shard on this node is written directly: nothing is encoded, no other task starts. Other nodes get ``shard/write``. If the
routing is stale or the primary is gone, wait for a newer cluster state and try again, until ``WRITE_RETRY_TIMEOUT_S``. A
request that may have arrived is only repeated to the same process (node, its start, allocation, term), which remembers the
operation id; if that process is gone the outcome cannot be known, and the error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from itertools import pairwise
from operator import sub
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.service import ClusterService
from cratepy.errors import (
    NO_MASTER,
    CrateError,
    InternalError,
    NoMaster,
    OutcomeUnknown,
    PeerUnavailable,
    RelationUnknown,
    RequestTimeout,
    ShardUnavailable,
    StaleRouting,
)
from cratepy.execution.lookups import newer_than
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.primary import PrimaryWriter
from cratepy.execution.writes.requests import WRITE, ShardWrite, ShardWritten, encode_rows
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState, ShardCopy, ShardRouting
from cratepy.records import dataclass
from cratepy.storage.ids import IdArray, ids_at
from cratepy.storage.operations import WriteBatch, WriteResult
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard

Kind = Literal["insert", "index", "delete"]
#: Parts of fewer rows than this share of a batch have rows of their own in memory.
_SLICED_PART: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWrites:
    """Rows on their way: ``shards[i]`` is the shard of ``ids[i]``; ``rows`` is None for deletes."""

    definition: TableDefinition
    kind: Kind
    ids: Sequence[str]
    shards: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]
    rows: pa.RecordBatch | None
    expected: Sequence[tuple[int, int] | None] | None = None


@dataclass(slots=True)
class WriteReport:
    """What became of the rows: refused ones, failed ones; all others are written and durable.

    ``versions[i]`` is (seq_no, primary_term, version) of a written row, None otherwise; only filled if asked for.
    """

    refused: dict[int, str] = field(default_factory=dict)
    errors: dict[int, CrateError] = field(default_factory=dict)
    versions: list[tuple[int, int, int] | None] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return len(self.refused) + len(self.errors)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one shard; ``positions`` are their places in the whole, None if it is the whole."""

    shard: int
    positions: list[int] | None
    writes: RowWrites


@dataclass(frozen=True, slots=True)
class Begun:
    """Rows that are in the logs of their shards, all on this node; what is left is to wait for the disk."""

    writes: RowWrites
    local: list[tuple[_Part, Shard, int]]
    results: list[WriteResult | CrateError | StaleRouting]


@dataclass(frozen=True, slots=True)
class _Incarnation:
    """One start of one process as holder of one copy under one term: what remembers an operation id."""

    node_id: str
    ephemeral_id: str
    allocation_id: str
    primary_term: int


class WriteRouter:
    """Sends rows to the primaries of their shards."""

    def __init__(self, *, cluster: ClusterService, primary: PrimaryWriter, clock: Clock) -> None:
        self._cluster = cluster
        self._primary = primary
        self._clock = clock

    def begin(self, writes: RowWrites) -> Begun | None:
        """Write all rows on this thread, a worker's, if all their shards are here and have room; then :meth:`write` them.

        None: nothing was done, ``write`` does it all. A thread less to wait for than with ``write`` alone.
        """
        if not self._primary.has_room:
            return None
        local, remote = self._placed(writes)
        if remote:
            return None
        batches = [(copy, _batch(part.writes, term)) for part, copy, term in local]
        return Begun(writes, local, self._primary.write_here(batches))

    async def write(
        self, writes: RowWrites, *, wants_versions: bool = False, begun: Begun | None = None
    ) -> WriteReport:
        """Write all rows; returns when every shard has answered or failed. Errors of a shard are errors of its rows."""
        report = WriteReport()
        if wants_versions:
            report.versions = [None] * len(writes.ids)
        written: list[tuple[_Part, Shard, WriteResult, int]] = []
        remote: list[_Part] = []
        if begun is None:
            local, remote = self._placed(writes)
        else:
            local = begun.local
        if local:
            if begun is None:
                batches = [(copy, _batch(part.writes, term)) for part, copy, term in local]
                results = await self._primary.write_all(batches)
            else:
                results = begun.results
            for (part, copy, term), result in zip(local, results, strict=True):
                match result:
                    case WriteResult():
                        written.append((part, copy, result, term))
                    case StaleRouting():
                        remote.append(part)
                    case CrateError():
                        _fail(report, part, result)
        if remote:
            in_flight = trio.Semaphore(limits.WRITE_BATCHES_IN_FLIGHT_MAX)
            async with trio.open_nursery() as nursery:
                for part in remote:
                    nursery.start_soon(self._write_part, part, report, in_flight)
                await self._finish_local(written, report)
        else:
            await self._finish_local(written, report)
        return report

    def begin_insert(self, layout: TableLayout, id: str, row: PlainRow) -> tuple[Shard, int, bool] | None:
        """One row into the log of its shard if that is here and has room: the shard, the position that makes the answer true, and
        whether the row was refused, because its id exists. None: nothing was done.

        Raises StaleRouting, then nothing was done, and CrateError.
        """
        copy, term = self.local_copy(self._cluster.state, layout.definition, layout.shard_of(id))
        if copy is None:
            return None
        written = self._primary.insert_nowait(copy, id, row, primary_term=term)
        return None if written is None else (copy, *written)

    async def write_one(self, layout: TableLayout, kind: Kind, id: str, rows: PlainRow) -> str | None:
        """One row, by the shortest way: None if it was written, else why its shard refused it."""
        definition = layout.definition
        shard = layout.shard_of(id)
        copy, term = self.local_copy(self._cluster.state, definition, shard)
        if copy is not None:
            try:
                result = await self._primary.write_one(
                    copy, WriteBatch(kind=kind, ids=(id,), rows=rows, primary_term=term)
                )
            except StaleRouting:
                pass
            else:
                # A refusal waits, too: the row it rests on must not be lost after it was told.
                await self._primary.wait_durable(((copy, result.position),))
                return result.failures[0][1] if result.failures else None
        report = await self.write(
            RowWrites(definition=definition, kind=kind, ids=(id,), shards=(shard,), rows=rows.batch())
        )
        if report.errors:
            raise report.errors[0]
        return report.refused.get(0)

    async def _finish_local(self, written: list[tuple[_Part, Shard, WriteResult, int]], report: WriteReport) -> None:
        if not written:
            return
        try:
            await self._primary.wait_durable([(copy, result.position) for _, copy, result, _ in written])
        except CrateError as error:
            for part, _, _, _ in written:
                _fail(report, part, error)
            return
        for part, _, result, term in written:
            _record(report, part, result.failures, result.first_seq_no, term, result.versions)

    def _placed(self, writes: RowWrites) -> tuple[list[tuple[_Part, Shard, int]], list[_Part]]:
        """The parts whose primaries are on this node, with their terms, and the others."""
        local: list[tuple[_Part, Shard, int]] = []
        remote: list[_Part] = []
        state = self._cluster.state
        for part in _split(writes):
            copy, term = self.local_copy(state, writes.definition, part.shard)
            if copy is None:
                remote.append(part)
            else:
                local.append((part, copy, term))
        return local, remote

    def local_copy(self, state: ClusterState, definition: TableDefinition, shard: int) -> tuple[Shard | None, int]:
        """The shard's primary and its term if it is open on this node, else None."""
        table = state.tables.get(definition.uuid)
        if table is None:
            return None, 0
        routing = table.routing[shard]
        primary = routing.primary
        if primary is None or primary.node_id != self._cluster.node_id:
            return None, 0
        try:
            copy = self._primary.local_shard(definition.uuid, shard, primary.allocation_id)
        except StaleRouting:
            return None, 0
        return copy, routing.primary_term

    # --- one shard, wherever it is -----------------------------------------------------------------------------------

    async def _write_part(self, part: _Part, report: WriteReport, in_flight: trio.Semaphore) -> None:
        try:
            async with in_flight:
                written = await _Attempts(self._cluster, self._primary, self._clock, part).run()
        except CrateError as error:
            _fail(report, part, error)
        else:
            _record(report, part, written.failures, written.first_seq_no, written.primary_term, written.versions)


class _Attempts:
    """The attempts to write one part: one operation id, one deadline."""

    def __init__(self, cluster: ClusterService, primary: PrimaryWriter, clock: Clock, part: _Part) -> None:
        self._cluster = cluster
        self._primary = primary
        self._clock = clock
        self._part = part
        self._op_id = clock.new_id()
        self._deadline = clock.monotonic() + limits.WRITE_RETRY_TIMEOUT_S
        self._pause_s = limits.WRITE_RETRY_FIRST_S
        self._master_seen = clock.monotonic()
        self._encoded: bytes | None = None
        #: The process that may have executed the operation, and when it was sent first.
        self._reached: _Incarnation | None = None
        self._first_sent = 0.0

    async def run(self) -> ShardWritten:
        while True:
            state = self._cluster.state
            routing = self._routing(state)
            primary = routing.primary
            target = None if primary is None else _incarnation(state, primary, routing.primary_term)
            if self._reached is not None and target != self._reached:
                # Whoever has the shard next does so under another term and knows nothing of the operation.
                raise self._unknown()
            if target is not None:
                try:
                    return await self._attempt(target)
                except StaleRouting:
                    pass
                except PeerUnavailable as lost:
                    if lost.sent:
                        self._mark_reached(target)
                except RequestTimeout:
                    self._mark_reached(target)
            await self._wait_for_news(state)

    def _routing(self, state: ClusterState) -> ShardRouting:
        definition = self._part.writes.definition
        table = state.tables.get(definition.uuid)
        if table is None:
            if self._reached is not None:
                raise self._unknown()
            raise RelationUnknown(f"Relation '{definition.name}' unknown")
        return table.routing[self._part.shard]

    async def _attempt(self, target: _Incarnation) -> ShardWritten:
        writes, shard = self._part.writes, self._part.shard
        if target.node_id == self._cluster.node_id:
            copy = self._primary.local_shard(writes.definition.uuid, shard, target.allocation_id)
            result = await self._primary.write(copy, _batch(writes, target.primary_term))
            await self._primary.wait_durable([(copy, result.position)])
            return ShardWritten(
                status="done",
                failures=list(result.failures),
                first_seq_no=result.first_seq_no,
                primary_term=target.primary_term,
                versions=list(result.versions),
            )
        reply: ShardWritten = await self._cluster.transport.request(
            target.node_id, WRITE, self._request(target), reply_type=ShardWritten, timeout_s=limits.REQUEST_TIMEOUT_S
        )
        match reply.status:
            case "done":
                return reply
            case "stale":
                # It answered, and has executed nothing under this id.
                self._reached = None
                raise StaleRouting(f"[{writes.definition.name}][{shard}] is not at {target.node_id}")
            case "unknown":
                raise self._unknown()
            case other:
                raise InternalError(f"node {target.node_id} answered a write with status {other}")

    def _request(self, target: _Incarnation) -> ShardWrite:
        writes = self._part.writes
        if self._encoded is None and writes.rows is not None:
            self._encoded = encode_rows(writes.rows)
        age_s = 0.0 if self._reached is None else self._clock.monotonic() - self._first_sent
        return ShardWrite(
            table_uuid=writes.definition.uuid,
            shard=self._part.shard,
            allocation_id=target.allocation_id,
            primary_term=target.primary_term,
            definition_version=writes.definition.version,
            op_id=self._op_id,
            kind=writes.kind,
            ids=list(writes.ids),
            rows=self._encoded,
            expected=None if writes.expected is None else list(writes.expected),
            sent_ms_ago=0 if self._reached is None else max(1, round(age_s * 1000)),
        )

    def _mark_reached(self, target: _Incarnation) -> None:
        if self._reached is None:
            self._reached = target
            # The request was sent some time before this moment; a repeat must not look younger than it is.
            self._first_sent = self._clock.monotonic() - limits.REQUEST_TIMEOUT_S

    async def _wait_for_news(self, state: ClusterState) -> None:
        """Until there is a newer cluster state, or a pause has passed (a broken connection comes back without one)."""
        now = self._clock.monotonic()
        self._master_seen = now if self._cluster.has_master else self._master_seen
        is_cut_off = now - self._master_seen >= limits.NO_MASTER_PATIENCE_S
        if now >= self._deadline or is_cut_off:
            if self._reached is not None:
                raise self._unknown()
            if is_cut_off:
                raise NoMaster(NO_MASTER)
            name, shard = self._part.writes.definition.name, self._part.shard
            raise ShardUnavailable(
                f"[{name}][{shard}] primary shard is not active, waited {limits.WRITE_RETRY_TIMEOUT_S:g}s for it"
            )
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, limits.WRITE_RETRY_MAX_S)
        with trio.move_on_after(pause_s):
            await self._cluster.wait_for(newer_than(state), timeout_s=limits.WRITE_RETRY_TIMEOUT_S)

    def _unknown(self) -> OutcomeUnknown:
        name, shard = self._part.writes.definition.name, self._part.shard
        return OutcomeUnknown(
            f"The node with the primary of [{name}][{shard}] went away with the write in flight; "
            "it may or may not have been done"
        )


def _incarnation(state: ClusterState, primary: ShardCopy, primary_term: int) -> _Incarnation | None:
    node = None if primary.node_id is None else state.nodes.get(primary.node_id)
    if node is None:
        return None
    return _Incarnation(node.id, node.ephemeral_id, primary.allocation_id, primary_term)


# --- splitting and joining -------------------------------------------------------------------------------------------


def _split(writes: RowWrites) -> list[_Part]:
    """The rows by shard, in the order they came; every part has at most ``WRITE_BATCH_ROWS`` rows."""
    count = len(writes.ids)
    if count == 1:
        return [_Part(int(writes.shards[0]), None, writes)]
    shards = np.asarray(writes.shards, dtype=np.int64)
    if (shards[0] == shards).all():
        positions = np.arange(count)
        return [
            _part(writes, int(shards[0]), positions[start : start + limits.WRITE_BATCH_ROWS], is_all=count)
            for start in range(0, count, limits.WRITE_BATCH_ROWS)
        ]
    order = np.argsort(shards, kind="stable")
    bounds: np.ndarray[Any, Any] = np.flatnonzero(np.diff(shards[order])) + 1
    starts = [0, *bounds.tolist(), count]
    ordered = _ordered(writes, order, smallest=min(map(sub, starts[1:], starts)))
    parts = []
    for first, end in pairwise(starts):
        for start in range(first, end, limits.WRITE_BATCH_ROWS):
            stop = min(end, start + limits.WRITE_BATCH_ROWS)
            positions = order[start:stop]
            shard = int(shards[positions[0]])
            if ordered is None:
                parts.append(_part(writes, shard, positions, is_all=0))
            else:
                ids, rows = ordered
                parts.append(_part_of(writes, shard, positions, ids[start:stop], rows.slice(start, stop - start)))
    return parts


def _ordered(
    writes: RowWrites, order: np.ndarray[Any, Any], *, smallest: int
) -> tuple[Sequence[str], pa.RecordBatch] | None:
    """All ids and rows in this order, for parts that are slices of them: a quarter of the work of taking out each part.

    None if a part is so small that it should not keep the others' rows in memory for as long as it waits for a refresh.
    """
    if writes.rows is None or smallest * _SLICED_PART < len(order):
        return None
    ids = writes.ids
    if isinstance(ids, IdArray):
        # Worked out for all together; the parts take their own of them along.
        assert len(ids.hashes) == len(order)
    return ids_at(ids, order), writes.rows.take(pa.array(order))


def _part(writes: RowWrites, shard: int, positions: np.ndarray[Any, Any], *, is_all: int) -> _Part:
    if is_all == len(positions):
        return _Part(shard, None, writes)
    rows = None if writes.rows is None else writes.rows.take(pa.array(positions))
    return _part_of(writes, shard, positions, ids_at(writes.ids, positions), rows)


def _part_of(
    writes: RowWrites, shard: int, positions: np.ndarray[Any, Any], ids: Sequence[str], rows: pa.RecordBatch | None
) -> _Part:
    places: list[int] = positions.tolist()
    expected = writes.expected
    part = RowWrites(
        definition=writes.definition,
        kind=writes.kind,
        ids=ids,
        shards=(shard,),
        rows=rows,
        expected=None if expected is None else [expected[i] for i in places],
    )
    return _Part(shard, places, part)


def _batch(writes: RowWrites, primary_term: int) -> WriteBatch:
    return WriteBatch(
        kind=writes.kind, ids=writes.ids, rows=writes.rows, primary_term=primary_term, expected=writes.expected
    )


def _fail(report: WriteReport, part: _Part, error: CrateError) -> None:
    positions = range(len(part.writes.ids)) if part.positions is None else part.positions
    report.errors.update(dict.fromkeys(positions, error))


def _record(
    report: WriteReport,
    part: _Part,
    failures: Sequence[tuple[int, str]],
    first_seq_no: int,
    primary_term: int,
    versions: Sequence[int],
) -> None:
    positions = part.positions
    for row, reason in failures:
        report.refused[row if positions is None else positions[row]] = reason
    if not report.versions:
        return
    failed = {row for row, _ in failures}
    seq_no = first_seq_no
    for row in range(len(part.writes.ids)):
        if row in failed:
            continue
        report.versions[row if positions is None else positions[row]] = (seq_no, primary_term, versions[row])
        seq_no += 1
