"""A shard copy: rows in, rows out, on one directory. The front door of data storage.

In: write batches. Out: rows by id at once, rows by scan as of the last refresh, numbers. The life of a row:

    write    decided (versions, uniqueness) → translog (system cache) → write buffer: found by ``get``
    sync     the translog is fsynced: the row is durable; the store's committer does this for many writers at once
    refresh  buffer → segment: found by ``scan``; rows it replaced die for scans at the same moment
    merge    neighbouring segments → one, beside everything else
    flush    segments fsynced → new manifest → old translog removed

Behind the door: :mod:`writer`, :mod:`maintainer`, :mod:`merger`, all on one :mod:`core`, which has the locks and says
what becomes of errors. Not yet: applying a primary's operations on a replica, retained operations for recovery (the
translog record already holds all that is needed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import ShardFailed
from cratepy.model.schema import TableDefinition
from cratepy.model.search import TextQuery
from cratepy.storage.blocks import Layout
from cratepy.storage.columns import ColumnCache
from cratepy.storage.core import ShardCore
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.lookup import get_rows
from cratepy.storage.maintainer import ShardMaintainer
from cratepy.storage.merger import Pause, ShardMerger, no_pause
from cratepy.storage.merging import LiveSegment
from cratepy.storage.opening import open_copy
from cratepy.storage.operations import (
    Bounds,
    ColumnRange,
    SearchRequest,
    ShardStats,
    WriteBatch,
    WriteResult,
)
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.scanning import scan_segments
from cratepy.storage.scrub import scrub
from cratepy.storage.segment import verify_segment
from cratepy.storage.shard_stats import shard_stats
from cratepy.storage.statistics import joined_bounds
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.shard_text import ShardText
from cratepy.storage.text.usual import ShortSearch
from cratepy.storage.tombstones import Tombstone, read_tombstones
from cratepy.storage.writer import ShardWriter

T = TypeVar("T")
Q = TypeVar("Q")
#: A search that finds its segments merged away goes on with those of the next state, so often.
_STATE_ATTEMPTS: Final = 8


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
        self._core = ShardCore(
            definition, shard, allocation_id, directory=directory, files=files, clock=clock, cache=cache
        )
        self._writer = ShardWriter(self._core)
        self._maintainer = ShardMaintainer(self._core)
        self._merger = ShardMerger(self._core)
        open_copy(self._core, self._writer, self._maintainer, primary_term=primary_term, create=create)

    # --- opening and closing -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Make everything written durable and let go of the files; the translog is replayed when the shard is opened."""
        core = self._core
        core.is_closing = True
        with core.maintenance_lock:
            while core.merging:
                core.merges_ended.wait()
            with core.write_lock:
                if core.is_closed:
                    return
                core.is_closed = True
                try:
                    core.log.close(is_sound=core.failure is None)
                except OSError as error:
                    core.fail(error)
        core.text.close()
        core.forget_columns({live.segment.key for live in core.state.segments})

    def __str__(self) -> str:
        return str(self._core)

    @property
    def failure(self) -> str | None:
        """Why the copy failed for good, or None."""
        return self._core.failure

    def fail(self, reason: str) -> None:
        """Give the copy up: nothing is read, written or acknowledged any more. The first reason stays."""
        self._core.fail(reason)

    @property
    def was_created(self) -> bool:
        """Whether there was nothing to open."""
        return self._core.was_created

    @property
    def is_closed(self) -> bool:
        return self._core.is_closed

    @property
    def definition(self) -> TableDefinition:
        return self._core.layout.definition

    def update_definition(self, definition: TableDefinition) -> None:
        """New columns read as NULL in old rows; an older version than the one known is ignored."""
        assert definition.uuid == self.table_uuid
        with self._core.write_lock:
            if definition.version >= self._core.layout.definition.version:
                self._core.layout = Layout(definition)

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, batch: WriteBatch, *, is_awaited: bool = False) -> WriteResult:
        """Decide, log and buffer a batch; durable once the store says so for ``position``.

        ``is_awaited``: nobody is told of it before it is durable, so nothing of it need be in the system's cache before.
        Raises ShardFailed; StaleRouting if a newer primary is known; DiskFull, then nothing was written. May refresh or
        flush before it returns if the batch is big or the buffer far above its share.
        """
        result = self._writer.write(batch, is_awaited=is_awaited)
        self._maintainer.relieve(len(batch.ids))
        return result

    def write_row(self, id: str, row: PlainRow, *, primary_term: int, is_awaited: bool) -> int | None:
        """:meth:`write` of a row that is the first of its id, in less time: its position; None if there is one, nothing was done.

        For who sees to it that buffer and log stay below their shares: it neither refreshes nor flushes.
        """
        return self._writer.write_row(id, row, primary_term=primary_term, is_awaited=is_awaited)

    def retain_from(self, seq_no: int | None) -> int | None:
        """Keep deletes with this sequence number or a higher one, and only those; durable with the next flush.

        Returns from where on they are really known: what happened before it was asked for is not. None: keep none.
        """
        core = self._core
        with core.write_lock:
            core.raise_if_unusable()
            return core.tombstones.retain(seq_no, next_seq_no=core.max_seq_no + 1)

    def tombstone(self, id: str) -> Tombstone | None:
        """(seq_no, primary term, version) of the delete that was the id's last operation, if it is kept."""
        return self._core.tombstones.by_id.get(id)

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], sources: Sequence[str]) -> list[tuple[Any, ...] | None]:
        """SQL values of ``sources`` per id, real time; None: no such row. Sources: see :mod:`cratepy.storage.lookup`."""
        core = self._core
        core.raise_if_unusable()
        try:
            return get_rows(core.state, ids, sources, core.layout)
        except SegmentDamaged as error:
            raise core.damaged(error) from error

    def scan(self, sources: Sequence[str], *, ranges: Sequence[ColumnRange] = ()) -> list[pa.RecordBatch]:
        """Live rows as of the last refresh; columns named by source, in-flight types, at most a block of rows each.

        Blocks that statistics prove to hold no row in all of ``ranges`` are left out; the caller filters the others.
        """
        core = self._core
        core.raise_if_unusable()
        self.wake()
        try:
            return scan_segments(core.state.segments, sources, core.layout, core.cache, ranges=ranges)
        except SegmentDamaged as error:
            raise core.damaged(error) from error

    def search(self, request: SearchRequest) -> list[pa.RecordBatch]:
        """Rows that match full-text queries, as of the last refresh: see :class:`SearchRequest`.

        Raises StaleRouting for an index this node does not know, BadRequest for what cannot be asked.
        """
        self.wake()
        return self._searched(ShardText.search, request)

    def best(self, request: SearchRequest) -> list[tuple[Any, ...]]:
        """What ``search`` gives for a request with a limit, as rows of SQL values (``_doc`` and ``_raw`` as JSON texts)."""
        self.wake()
        return self._searched(ShardText.best, request)

    def short_search(self, request: SearchRequest) -> ShortSearch | None:
        """What :meth:`best` would do, if its cost is known and nothing has to be made for it first; None: ask :meth:`best`."""
        core = self._core
        if core.failure is not None or core.is_closed or (core.buffered_bytes and self.is_asleep):
            return None
        core.searched_at = core.clock.monotonic()
        return core.text.short_search(core.state.segments, request, core.layout, core.damaged)

    def estimate_hits(self, query: TextQuery) -> int:
        """About how many rows match, from document frequencies: at most a little too many, dead rows count. A few µs."""
        return self._searched(ShardText.estimate_hits, query)

    @property
    def text_view_failure(self) -> str | None:
        """Why text indexes are searched segment by segment, with scores of each segment alone; None: they are not."""
        return self._core.text.view_failure

    def _searched(self, ask: Callable[[ShardText, tuple[LiveSegment, ...], Q, Layout], T], question: Q) -> T:
        """Ask the text indexes of the state; again, if a merge has just taken segments away before they were opened."""
        core = self._core
        for attempt in range(_STATE_ATTEMPTS):
            core.raise_if_unusable()
            segments = core.state.segments
            try:
                return ask(core.text, segments, question, core.layout)
            except SegmentDamaged as error:
                raise core.damaged(error) from error
            except FileNotFoundError as error:
                if attempt + 1 == _STATE_ATTEMPTS or core.state.segments is segments:
                    core.fail(error)
                    raise ShardFailed(str(core.failure)) from error
        raise AssertionError("the last attempt returns or raises")

    def row_count(self) -> int:
        """Live rows as of the last refresh."""
        self._core.raise_if_unusable()
        return sum(live.live_count for live in self._core.state.segments)

    def bounds(self, source: str) -> Bounds | None:
        """Bounds of a column over what ``scan`` gives (never too narrow), from statistics; None if not known."""
        core = self._core
        core.raise_if_unusable()
        core.layout.type_of(source)
        blocks = []
        for live in core.state.segments:
            found = live.segment.statistics(source)
            if found is None:
                return None
            blocks.extend(found)
        return joined_bounds(blocks)

    # --- durability --------------------------------------------------------------------------------------------------

    @property
    def synced_position(self) -> int:
        """Every write with a position up to this one survives a power cut."""
        return self._core.log.synced_position

    def sync(self) -> None:
        """Fsync the translog; afterwards ``synced_position`` covers every write that returned before. Raises ShardFailed."""
        core = self._core
        if core.failure is not None:
            raise ShardFailed(core.failure)
        if core.is_closed:
            return  # Closing has synced everything, or has set ``failure``.
        try:
            core.log.sync()
        except OSError as error:
            core.fail(error)
            raise ShardFailed(str(core.failure)) from error

    # --- refresh, merge, flush ---------------------------------------------------------------------------------------

    @property
    def buffer_bytes_max(self) -> int:
        """Bytes this shard may buffer before a write refreshes first; the store sets it from the number of shards."""
        return self._core.buffer_bytes_max

    @buffer_bytes_max.setter
    def buffer_bytes_max(self, value: int) -> None:
        self._core.buffer_bytes_max = value

    @property
    def is_above_share(self) -> bool:
        """Whether rows or log are so many that a refresh or flush should come before its time."""
        core = self._core
        return core.buffered_bytes > core.buffer_bytes_max or core.log.size_bytes > self._maintainer.flush_bytes

    @property
    def flush_bytes(self) -> int:
        """Size of the translog that calls for a flush: the table's setting or CrateDB's default."""
        return self._maintainer.flush_bytes

    @property
    def position(self) -> int:
        """The translog position of the last write; see :attr:`synced_position`."""
        return self._core.log.position

    @property
    def is_unflushed(self) -> bool:
        """Whether a flush would change what is on disk."""
        return self._maintainer.is_unflushed

    @property
    def translog_bytes(self) -> int:
        return self._core.log.size_bytes

    @property
    def buffered_bytes(self) -> int:
        """Estimated bytes of rows in memory that are in no segment."""
        return self._core.buffered_bytes

    @property
    def is_put_off(self) -> bool:
        """Whether maintenance met a full disk a moment ago and is to be left alone for a while."""
        return self._core.is_put_off

    @property
    def wants_space(self) -> bool:
        """Whether a write was refused since the last flush because the disk was full: a flush may free the log's space."""
        return self._core.wants_space

    @property
    def segment_count(self) -> int:
        return len(self._core.state.segments)

    @property
    def is_asleep(self) -> bool:
        """Whether it is not refreshed because nobody searches it; an explicit ``refresh_interval`` keeps it awake."""
        core = self._core
        is_idle = core.clock.monotonic() - core.searched_at > limits.SEARCH_IDLE_S
        return is_idle and "refresh_interval" not in core.layout.definition.settings

    def wake(self) -> None:
        """Note a search; if the shard was asleep, what was written before becomes visible first. For a worker thread then."""
        core = self._core
        now = core.clock.monotonic()
        if now - core.searched_at > limits.SEARCH_IDLE_S and self.is_asleep and core.buffered_bytes:
            self._maintainer.refresh_if_possible()
            now = core.clock.monotonic()
        core.searched_at = now

    @property
    def wants_merge(self) -> bool:
        """Whether :meth:`merge` may find something to do; cheap as long as nothing changes."""
        return self._merger.is_wanted

    def refresh(self) -> bool:
        """Make all rows written before the call visible to scans; False if there was nothing new.

        Raises DiskFull: the rows wait for the next refresh. For a worker thread.
        """
        is_changed = self._maintainer.refresh()
        self._merger.relieve()
        return is_changed

    def flush(self) -> None:
        """Refresh, make the segments durable and drop the translog. Raises DiskFull. For a worker thread."""
        self._maintainer.flush()

    def merge(self, *, bytes_min: int = 0, bytes_max: int = limits.MERGE_BYTES_MAX, pause: Pause = no_pause) -> bool:
        """Join neighbouring segments once, into one of such a size, if the policy wants to; False: it does not.

        ``pause`` is called with the bytes of each block written. Other merges may run at the same time. Raises DiskFull.
        For a worker thread.
        """
        return self._merger.merge(bytes_min=bytes_min, bytes_max=bytes_max, pause=pause)

    def optimize(
        self, max_num_segments: int | None = None, only_expunge_deletes: bool = False, flush: bool = True
    ) -> None:
        """OPTIMIZE TABLE: at most so many segments, or none with many dead rows, or whatever the policy wants.

        Raises DiskFull. For a worker thread; takes as long as rewriting the shard.
        """
        self._maintainer.refresh()
        self._merger.optimize(segments_max=max_num_segments, only_expunge_deletes=only_expunge_deletes)
        if flush:
            self._maintainer.flush()

    # --- numbers -----------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Read every committed file and compare its checksum; raises ShardFailed naming the damaged one."""
        core = self._core
        with core.maintenance_lock:
            core.raise_if_unusable()
            for entry in core.manifest.segments:
                verify_segment(core.files, core.directory, entry)
            read_tombstones(core.files, core.directory, core.manifest.tombstones)

    def scrub(self, *, pause: Pause = no_pause) -> int:
        """Read every durable file once and compare checksums; returns the bytes read. ``pause`` may slow it down.

        Raises ShardFailed: damage, then the copy has failed; or the copy is closed. For a worker thread.
        """
        return scrub(self._core, pause=pause)

    def stats(self) -> ShardStats:
        """Numbers of this moment; also for a failed or closed shard."""
        return shard_stats(self._core)
