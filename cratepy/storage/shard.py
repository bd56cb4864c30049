"""A shard copy: rows in, rows out, on one directory. The front door of data storage.

In: write batches. Out: rows by id at once, rows by scan as of the last refresh, numbers. The life of a row:

    write    decided (versions, uniqueness) → translog (system cache) → write buffer: found by ``get``
    sync     the translog is fsynced: the row is durable; the store's committer does this for many writers at once
    refresh  buffer → segment: found by ``scan``; rows it replaced die for scans at the same moment
    flush    segments fsynced → new manifest → old translog removed

Threads. One lock per purpose, taken in this order: *maintenance* (refresh, merge, flush: one at a time), *write* (what
changes rows), and the log's own for fsync. Readers take none: they use the
:class:`ShardState` of the moment.

Failure. The first failed write or fsync fails the copy for good: ``failure`` is set, everything raises ShardFailed,
nothing more is acknowledged or written. The cluster makes another copy. Not yet: applying a primary's operations on a
replica, retained operations for recovery (the translog record already holds all that is needed).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import BadRequest, ShardFailed, StaleRouting
from cratepy.model.schema import TableDefinition
from cratepy.model.search import TextQuery
from cratepy.storage import maintenance, recovery
from cratepy.storage.blocks import Layout
from cratepy.storage.buffer import WriteBuffer
from cratepy.storage.columns import ColumnCache
from cratepy.storage.decisions import Decision, decide, decide_all_new
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.log import ShardLog
from cratepy.storage.lookup import ShardState, find_row, find_rows, get_rows
from cratepy.storage.manifest import NAME, Manifest, read_manifest
from cratepy.storage.merging import LiveSegment, choose_merge, plan_merge
from cratepy.storage.operations import (
    Bounds,
    ColumnRange,
    SearchRequest,
    SegmentStats,
    ShardStats,
    WriteBatch,
    WriteResult,
)
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.records import RecordHeader
from cratepy.storage.scanning import scan_segments
from cratepy.storage.segment import verify_segment
from cratepy.storage.statistics import joined_bounds

#: A write of fewer rows may run on an event loop, so it leaves refresh and flush to others as long as it can.
_MAINTENANCE_BATCH_ROWS: Final = 256
#: A batch whose rows are bigger is written in two, so that a record stays below its limit.
_SPLIT_BYTES: Final = limits.TRANSLOG_RECORD_BYTES_MAX // 2


class Shard:
    """See the module. Made by :meth:`ShardStore.open_shard`; safe on all threads."""

    def __init__(
        self,
        definition: TableDefinition,
        shard: int,
        allocation_id: str,
        *,
        directory: Path,
        files: FileSystem,
        clock: Clock,
        cache: ColumnCache,
        primary_term: int,
        create: bool,
    ) -> None:
        self.table_uuid = definition.uuid
        self.shard = shard
        self.allocation_id = allocation_id
        self.failure: str | None = None
        self.is_closed = False
        #: Bytes this shard may buffer before a write refreshes first; the store sets it from the number of shards.
        self.buffer_bytes_max = limits.SHARD_BUFFER_BYTES_MAX
        self._layout = Layout(definition)
        self._directory = directory
        self._files = files
        self._clock = clock
        self._cache = cache
        self._maintenance_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._refresh_count = self._flush_count = self._merge_count = 0
        self._open(primary_term, create=create)

    # --- opening and closing -----------------------------------------------------------------------------------------

    def _open(self, primary_term: int, *, create: bool) -> None:
        if create and not self._files.exists(self._directory / NAME):
            recovery.create_shard(
                self._files, self._directory, self._first_manifest(primary_term), file_id=self._new_file_id()
            )
        manifest = read_manifest(self._files, self._directory)
        named = (manifest.table_uuid, manifest.shard, manifest.allocation_id)
        if named != (self.table_uuid, self.shard, self.allocation_id):
            raise ShardFailed(f"{self._directory} belongs to another shard copy: {named}")
        recovery.remove_orphans(self._files, self._directory, manifest)
        self._manifest = manifest
        self._primary_term = max(primary_term, manifest.primary_term)
        self._max_seq_no = self._flushed_seq_no = manifest.max_seq_no
        self._next_segment = manifest.next_segment
        self._state = ShardState(WriteBuffer(), None, recovery.open_segments(self._files, self._directory, manifest))
        self._replay(manifest)

    def _replay(self, manifest: Manifest) -> None:
        replay = recovery.Replay(self._files, self._directory, manifest)
        for header, rows, size in replay.operations():
            if header.first_seq_no <= self._max_seq_no:
                raise ShardFailed(f"{self._directory}: the translog repeats sequence number {header.first_seq_no}")
            self._primary_term = max(self._primary_term, header.primary_term)
            self._apply_again(header, rows, size)
            if self._state.active.buffered_bytes > self.buffer_bytes_max:
                self._refresh()
        self._log = ShardLog(self._files, self._directory, replay)
        self._refresh()

    def _apply_again(self, header: RecordHeader, rows: pa.RecordBatch | PlainRow | None, payload_bytes: int) -> None:
        """Do an operation of the translog. It was decided once, so each row simply replaces what its id has."""
        if header.versions == 1 and rows is not None:
            # First versions only: no id existed, so there is nothing to look up.
            decision = decide_all_new(len(header.ids))
        else:
            places = find_rows(self._state, header.ids)
            again = WriteBatch(
                kind="delete" if rows is None else "index", ids=header.ids, rows=rows, primary_term=header.primary_term
            )
            decision = decide(again, places, header.first_seq_no)
            assert not decision.failures, "an operation of the translog is always possible"
        versions = [header.versions] * len(header.ids) if isinstance(header.versions, int) else header.versions
        self._apply(decision, header.ids, rows, header.first_seq_no, header.primary_term, versions, payload_bytes)

    def _first_manifest(self, primary_term: int) -> Manifest:
        return Manifest(
            table_uuid=self.table_uuid,
            shard=self.shard,
            allocation_id=self.allocation_id,
            revision=1,
            primary_term=primary_term,
            max_seq_no=-1,
            local_checkpoint=-1,
            translog_generation=1,
            next_segment=1,
        )

    def _new_file_id(self) -> bytes:
        return bytes.fromhex(self._clock.new_id().replace("-", ""))

    def close(self) -> None:
        """Make everything written durable and let go of the files; the translog is replayed when the shard is opened."""
        with self._maintenance_lock, self._write_lock:
            if self.is_closed:
                return
            self.is_closed = True
            try:
                self._log.close(is_sound=self.failure is None)
            except OSError as error:
                self._fail(error)
        self._forget_columns({live.segment.key for live in self._state.segments})

    @property
    def definition(self) -> TableDefinition:
        return self._layout.definition

    def update_definition(self, definition: TableDefinition) -> None:
        """New columns read as NULL in old rows; an older version than the one known is ignored."""
        assert definition.uuid == self.table_uuid
        with self._write_lock:
            if definition.version >= self._layout.definition.version:
                self._layout = Layout(definition)

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, batch: WriteBatch) -> WriteResult:
        """Decide, log and buffer a batch; durable once the store says so for ``position``.

        Raises ShardFailed, and StaleRouting if a newer primary is known. May refresh or flush before it returns if the
        batch is big or the buffer far above its share.
        """
        if (
            isinstance(batch.rows, pa.RecordBatch)
            and batch.rows.get_total_buffer_size() > _SPLIT_BYTES
            and batch.rows.nbytes > _SPLIT_BYTES
        ):
            return self._write_in_two(batch)
        with self._write_lock:
            self._raise_if_unusable()
            if batch.primary_term < self._primary_term:
                raise StaleRouting(f"primary term {batch.primary_term} is over: {self} is at {self._primary_term}")
            self._primary_term = batch.primary_term
            first_seq_no = self._max_seq_no + 1
            decision = self._decide(batch, first_seq_no)
            position = self._accept(batch, decision, first_seq_no)
        self._maintain(len(batch.ids))
        return WriteResult(position, decision.failures, first_seq_no, decision.versions)

    def _decide(self, batch: WriteBatch, first_seq_no: int) -> Decision:
        ids = batch.ids
        if len(ids) == 1:
            place = find_row(self._state, ids[0])
            places = {} if place is None else {ids[0]: place}
            is_plain = place is None
        else:
            places = find_rows(self._state, ids)
            is_plain = not places and len(set(ids)) == len(ids)
        if is_plain and batch.expected is None and batch.kind != "delete":
            return decide_all_new(len(ids))
        return decide(batch, places, first_seq_no)

    def _accept(self, batch: WriteBatch, decision: Decision, first_seq_no: int) -> int:
        """Append the accepted rows to translog and buffer; returns the position that makes the answer true."""
        ids, rows, versions = batch.ids, batch.rows, decision.versions
        if decision.accepted is not None:
            if not decision.accepted:
                # A refusal may rest on a row that is not durable yet, so its answer waits for that, too.
                return self._log.position
            ids = [ids[row] for row in decision.accepted]
            versions = [versions[row] for row in decision.accepted]
            assert not isinstance(rows, PlainRow), "a single row is accepted or refused as a whole"
            rows = None if rows is None else rows.take(pa.array(decision.accepted, pa.int32()))
        term = batch.primary_term
        try:
            size = self._log.append(ids, rows, first_seq_no=first_seq_no, primary_term=term, versions=versions)
        except OSError as error:
            self._fail(error)
            raise ShardFailed(str(self.failure)) from error
        self._apply(decision, ids, rows, first_seq_no, term, versions, size)
        return self._log.position

    def _apply(
        self,
        decision: Decision,
        ids: Sequence[str],
        rows: pa.RecordBatch | PlainRow | None,
        first_seq_no: int,
        primary_term: int,
        versions: Sequence[int],
        payload_bytes: int,
    ) -> None:
        """Do what was decided and logged to the buffer; ``ids``, ``rows`` and ``versions`` are the accepted ones."""
        state = self._state
        active = state.active
        first_row = active.row_count
        for holder, row in decision.replaced:
            if holder is active:
                active.dead.add(row)
            elif isinstance(holder, LiveSegment):
                active.segment_deletes.setdefault(holder.segment.number, []).append(row)
            else:
                active.frozen_deletes.append(row)
        if rows is None:
            for deleted in ids:
                active.delete(deleted)
        else:
            active.add(
                ids,
                rows,
                first_seq_no=first_seq_no,
                primary_term=primary_term,
                versions=versions,
                payload_bytes=payload_bytes,
            )
            active.dead.update(first_row + ordinal for ordinal in decision.replaced_in_batch)
        self._max_seq_no = first_seq_no + len(ids) - 1

    def _write_in_two(self, batch: WriteBatch) -> WriteResult:
        assert isinstance(batch.rows, pa.RecordBatch)
        middle = len(batch.ids) // 2
        if middle == 0:
            raise BadRequest(f"a row of {batch.rows.nbytes} bytes is above {_SPLIT_BYTES}")
        parts = [
            self.write(
                WriteBatch(
                    kind=batch.kind,
                    ids=batch.ids[first:end],
                    rows=batch.rows.slice(first, end - first),
                    primary_term=batch.primary_term,
                    expected=None if batch.expected is None else batch.expected[first:end],
                )
            )
            for first, end in ((0, middle), (middle, len(batch.ids)))
        ]
        failures = [*parts[0].failures, *((middle + row, why) for row, why in parts[1].failures)]
        versions = [*parts[0].versions, *parts[1].versions]
        return WriteResult(parts[1].position, failures, parts[0].first_seq_no, versions)

    def _maintain(self, rows: int) -> None:
        """Keep the buffer and the translog bounded: a big batch at once, small ones only when it gets urgent."""
        urgency = 1 if rows >= _MAINTENANCE_BATCH_ROWS else 2
        if self._state.active.buffered_bytes > self.buffer_bytes_max * urgency:
            self.refresh()
        if self.translog_bytes > self.flush_bytes * urgency:
            self.flush()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], sources: Sequence[str]) -> list[tuple[Any, ...] | None]:
        """SQL values of ``sources`` per id, real time; None: no such row. Sources: see :mod:`cratepy.storage.lookup`."""
        self._raise_if_unusable()
        return get_rows(self._state, ids, sources, self._layout)

    def scan(self, sources: Sequence[str], *, ranges: Sequence[ColumnRange] = ()) -> list[pa.RecordBatch]:
        """Live rows as of the last refresh; columns named by source, in-flight types, at most a block of rows each.

        Blocks that statistics prove to hold no row in all of ``ranges`` are left out; the caller filters the others.
        """
        self._raise_if_unusable()
        return scan_segments(self._state.segments, sources, self._layout, self._cache, ranges=ranges)

    def search(self, request: SearchRequest) -> list[pa.RecordBatch]:
        """Rows that match full-text queries, as of the last refresh: see :class:`SearchRequest`.

        Raises StaleRouting for an index this node does not know, BadRequest or SQLParseError for options nobody knows.
        """
        raise NotImplementedError

    def estimate_hits(self, query: TextQuery) -> int:
        """About how many rows match, from document frequencies alone; at most a little too many. A few µs."""
        raise NotImplementedError

    def row_count(self) -> int:
        """Live rows as of the last refresh."""
        self._raise_if_unusable()
        return sum(live.live_count for live in self._state.segments)

    def bounds(self, source: str) -> Bounds | None:
        """Bounds of a column over what ``scan`` gives (never too narrow), from statistics; None if not known."""
        self._raise_if_unusable()
        self._layout.type_of(source)
        blocks = []
        for live in self._state.segments:
            found = live.segment.stats.get(source)
            if found is None:
                return None
            blocks.extend(found)
        return joined_bounds(blocks)

    # --- durability --------------------------------------------------------------------------------------------------

    @property
    def synced_position(self) -> int:
        """Every write with a position up to this one survives a power cut."""
        return self._log.synced_position

    def sync(self) -> None:
        """Fsync the translog; afterwards ``synced_position`` covers every write that returned before. Raises ShardFailed."""
        if self.failure is not None:
            raise ShardFailed(self.failure)
        if self.is_closed:
            return  # Closing has synced everything, or has set ``failure``.
        try:
            self._log.sync()
        except OSError as error:
            self._fail(error)
            raise ShardFailed(str(self.failure)) from error

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = f"{self} failed: {error}"

    def _raise_if_unusable(self) -> None:
        if self.failure is not None:
            raise ShardFailed(self.failure)
        if self.is_closed:
            raise ShardFailed(f"{self} is closed")

    def __str__(self) -> str:
        return f"shard {self.shard} of {self._layout.definition.name} ({self.allocation_id})"

    # --- refresh, merge, flush ---------------------------------------------------------------------------------------

    @property
    def flush_bytes(self) -> int:
        """Size of the translog that calls for a flush: the table's setting or CrateDB's default."""
        value = self._layout.definition.settings.get("translog.flush_threshold_size")
        return value if isinstance(value, int) and value > 0 else limits.TRANSLOG_FLUSH_BYTES

    @property
    def translog_bytes(self) -> int:
        return self._log.size_bytes

    @property
    def buffered_bytes(self) -> int:
        """Estimated bytes of rows in memory that are in no segment."""
        state = self._state
        return state.active.buffered_bytes + (0 if state.frozen is None else state.frozen.buffered_bytes)

    def refresh(self) -> bool:
        """Make all rows written before the call visible to scans; False if there was nothing new.

        Joins small segments, and flushes if the translog is above its threshold. For a worker thread.
        """
        with self._maintenance_lock:
            self._raise_if_unusable()
            try:
                changed = self._refresh()
                self._merge()
                if self.translog_bytes > self.flush_bytes:
                    self._flush()
            except BaseException as error:
                # Half a refresh is no state to go on from, whatever the reason.
                self._fail(error)
                if isinstance(error, OSError):
                    raise ShardFailed(str(self.failure)) from error
                raise
        return changed

    def flush(self) -> None:
        """Refresh, make the segments durable and drop the translog. For a worker thread."""
        with self._maintenance_lock:
            self._raise_if_unusable()
            try:
                self._flush()
            except BaseException as error:
                self._fail(error)
                if isinstance(error, OSError):
                    raise ShardFailed(str(self.failure)) from error
                raise

    def _refresh(self, *, before_freeze: Callable[[], None] = lambda: None) -> bool:
        """Freeze the buffer, write it as a segment, publish it. ``before_freeze`` runs with writers stopped."""
        with self._write_lock:
            before_freeze()
            state = self._state
            frozen, layout = state.active, self._layout
            if frozen.is_empty:
                return False
            self._state = ShardState(WriteBuffer(), frozen, state.segments)
        live = frozen.live_rows()
        segment = None
        if len(live):
            segment = maintenance.write_buffer(
                self._files, self._directory, frozen, live, number=self._next_segment, layout=layout
            )
            self._next_segment += 1
        with self._write_lock:
            active = self._state.active
            published = maintenance.with_deletes(self._state.segments, frozen.segment_deletes)
            if segment is not None:
                published = (*published, LiveSegment(segment, None, 0))
                maintenance.carry_deletes(active, segment.number, live)
            assert not active.frozen_deletes
            self._state = ShardState(active, None, published)
        self._refresh_count += 1
        return True

    def _merge(self) -> None:
        """Join segments as long as the policy wants to."""
        while True:
            segments = self._state.segments
            choice = choose_merge([(live.segment.rows, live.deleted) for live in segments])
            if choice is None:
                return
            first, end = choice
            plan = plan_merge(segments[first:end])
            merged: tuple[LiveSegment, ...] = ()
            if plan.rows:
                number = self._next_segment
                segment = maintenance.write_merged(
                    self._files, self._directory, plan, number=number, layout=self._layout
                )
                merged = (LiveSegment(segment, None, 0),)
                self._next_segment += 1
            with self._write_lock:
                state = self._state
                assert state.segments is segments, "segments change only under the maintenance lock"
                maintenance.move_deletes(state.active, plan, merged[0].segment.number if merged else None)
                self._state = ShardState(state.active, None, (*segments[:first], *merged, *segments[end:]))
            self._merge_count += 1
            self._forget_columns({source.segment.key for source in plan.sources})
            committed = {entry.number for entry in self._manifest.segments}
            for source in plan.sources:
                if source.segment.number not in committed:
                    maintenance.remove_segment(self._files, self._directory, source.segment.number)

    def _flush(self) -> None:
        if not self._log.operations and not self._has_uncommitted():
            return
        # Most of the log is made durable while writers go on; only the rest while they wait.
        self._log.sync()
        operations = 0

        def next_generation() -> None:
            nonlocal operations
            operations = self._log.roll(self._new_file_id())
            self._flushed_seq_no = self._max_seq_no

        self._refresh(before_freeze=next_generation)
        self._merge()
        self._manifest = maintenance.commit(
            self._files,
            self._directory,
            self._manifest,
            self._state.segments,
            max_seq_no=self._flushed_seq_no,
            primary_term=self._primary_term,
            translog_generation=self._log.generation,
            next_segment=self._next_segment,
        )
        with self._write_lock:
            self._log.trim(operations)
        self._flush_count += 1
        recovery.remove_orphans(self._files, self._directory, self._manifest)

    def _has_uncommitted(self) -> bool:
        committed = [(entry.number, entry.deleted) for entry in self._manifest.segments]
        return committed != [(live.segment.number, live.deleted) for live in self._state.segments]

    def _forget_columns(self, keys: set[object]) -> None:
        self._cache.drop(lambda key: key[0] in keys)

    # --- numbers -----------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Read every committed file and compare its checksum; raises ShardFailed naming the damaged one."""
        with self._maintenance_lock:
            self._raise_if_unusable()
            for entry in self._manifest.segments:
                verify_segment(self._files, self._directory, entry)

    def stats(self) -> ShardStats:
        """Numbers of this moment; also for a failed or closed shard."""
        state = self._state
        committed = {entry.number for entry in self._manifest.segments}
        segments = tuple(
            SegmentStats(
                name=f"_{live.segment.number}",
                rows=live.segment.rows,
                deleted=live.deleted,
                size_bytes=live.segment.size_bytes,
                is_committed=live.segment.number in committed,
            )
            for live in state.segments
        )
        return ShardStats(
            docs=sum(live.live_count for live in state.segments),
            deleted=sum(live.deleted for live in state.segments),
            size_bytes=sum(segment.size_bytes for segment in segments) + self.translog_bytes,
            buffered_rows=state.active.row_count + (0 if state.frozen is None else state.frozen.row_count),
            buffered_bytes=self.buffered_bytes,
            max_seq_no=self._max_seq_no,
            # A primary writes in order, so nothing is missing below its last operation.
            local_checkpoint=self._max_seq_no,
            translog_bytes=self.translog_bytes,
            translog_operations=self._log.operations,
            translog_generation=self._log.generation,
            uncommitted_bytes=self.translog_bytes,
            refresh_count=self._refresh_count,
            flush_count=self._flush_count,
            merge_count=self._merge_count,
            segments=segments,
        )
