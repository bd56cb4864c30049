"""Refresh and flush of a shard copy: when the buffer becomes a segment, and when segments become durable.

In: a core with a buffer. Out: segments that searches see; a manifest, and a translog without what it covers. The file
work is :mod:`maintenance`'s; the order of steps and what survives an error is decided here.

A full disk. Refresh freezes the buffer first and writes it then. What cannot be written is removed again, and the frozen
buffer stays where it is: gets find its rows, the translog keeps them, the next refresh writes it first. Maintenance that
nobody asked for (a write that finds the buffer big, the background loop) waits ``limits.MAINTENANCE_RETRY_S`` between attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from cratepy import limits
from cratepy.errors import DiskFull
from cratepy.storage import maintenance, recovery
from cratepy.storage.buffer import WriteBuffer
from cratepy.storage.core import ShardCore
from cratepy.storage.filesystem import is_disk_full
from cratepy.storage.lookup import ShardState
from cratepy.storage.merging import LiveSegment
from cratepy.storage.segment import Segment
from cratepy.storage.text.failures import TextIndexFailed
from cratepy.storage.tombstones import Tombstones

#: A write of fewer rows may run on an event loop, so it leaves refresh and flush to others as long as it can.
_MAINTENANCE_BATCH_ROWS: Final = 256


class ShardMaintainer:
    """See the module. One refresh or flush at a time; any worker thread."""

    def __init__(self, core: ShardCore) -> None:
        self._core = core

    @property
    def flush_bytes(self) -> int:
        """Size of the translog that calls for a flush: the table's setting or CrateDB's default."""
        value = self._core.layout.definition.settings.get("translog.flush_threshold_size")
        return value if isinstance(value, int) and value > 0 else limits.TRANSLOG_FLUSH_BYTES

    def relieve(self, rows: int) -> None:
        """Keep buffer and translog bounded after a write: a big batch at once, small ones only when it gets urgent.

        The write is done and logged, so a full disk is not its error.
        """
        core = self._core
        urgency = 1 if rows >= _MAINTENANCE_BATCH_ROWS else 2
        is_big = core.state.active.buffered_bytes > core.buffer_bytes_max * urgency
        is_long = core.log.size_bytes > self.flush_bytes * urgency
        if (is_big or is_long) and not core.is_put_off:
            try:
                if is_big:
                    self.refresh()
                if is_long:
                    self.flush()
            except (DiskFull, TextIndexFailed):
                assert core.is_put_off, "it was noted, and is tried again later"

    def refresh(self, *, on_frozen: Callable[[], None] = lambda: None) -> bool:
        """Make all rows written before the call visible to scans; False if there was nothing new. Raises DiskFull.

        ``on_frozen`` is called when writes go to another buffer.
        """
        core = self._core
        started = core.clock.monotonic()
        with core.maintenance_lock:
            core.raise_if_unusable()
            with core.guarded():
                is_changed = self.refresh_locked(on_frozen=on_frozen)
        if is_changed:
            core.tally.refresh_s += core.clock.monotonic() - started
        return is_changed

    def refresh_if_possible(self, *, on_frozen: Callable[[], None] = lambda: None) -> None:
        """A full disk neither keeps a shard closed nor stops a search: gets find the rows, scans after the next refresh."""
        if not self._core.is_put_off:
            try:
                self.refresh(on_frozen=on_frozen)
            except (DiskFull, TextIndexFailed):
                assert self._core.state.frozen is not None, "the rows wait for the next refresh"

    def refresh_locked(
        self, *, before_freeze: Callable[[], None] = lambda: None, on_frozen: Callable[[], None] = lambda: None
    ) -> bool:
        """Write what an earlier refresh could not; freeze the buffer, write and publish it.

        ``before_freeze`` runs with writers stopped. The caller holds the maintenance lock.
        """
        core = self._core
        is_changed = core.state.frozen is not None
        if is_changed:
            self._write_frozen()
        with core.write_lock:
            before_freeze()
            state = core.state
            if state.active.is_empty:
                return is_changed
            core.state = ShardState(WriteBuffer(), state.active, state.segments)
        on_frozen()
        self._write_frozen()
        return True

    def _write_frozen(self) -> None:
        core = self._core
        frozen = core.state.frozen
        assert frozen is not None
        live = frozen.live_rows()
        segment = self._write_segment(frozen, live) if len(live) else None
        with core.write_lock:
            active = core.state.active
            published = maintenance.with_deletes(core.state.segments, frozen.segment_deletes)
            if segment is not None:
                published = (*published, LiveSegment(segment, None, 0))
                maintenance.carry_deletes(active, segment.number, live)
            assert not active.frozen_deletes
            core.state = ShardState(active, None, published)
        core.tally.refreshes += 1

    def _write_segment(self, frozen: WriteBuffer, live: np.ndarray) -> Segment:
        core = self._core
        number = core.next_segment
        try:
            segment = maintenance.write_buffer(
                core.files, core.directory, frozen, live, number=number, layout=core.layout, cache=core.cache
            )
            core.text.add_index(segment, core.layout, core.state.segments, check=lambda: None)
        except BaseException:
            maintenance.remove_segment(core.files, core.directory, number)
            raise
        core.next_segment += 1
        return segment

    @property
    def is_unflushed(self) -> bool:
        """Whether a flush would change what is on disk."""
        core = self._core
        committed = [(entry.number, entry.deleted) for entry in core.manifest.segments]
        now = [(live.segment.number, live.deleted) for live in core.state.segments]
        is_point_moved = core.manifest.deletes_known_from != core.tombstones.known_from
        return core.log.operations > 0 or committed != now or is_point_moved

    def flush(self) -> None:
        """Refresh, make the segments durable and drop the translog. Raises DiskFull: the translog stays as it is."""
        core = self._core
        started = core.clock.monotonic()
        with core.maintenance_lock:
            core.raise_if_unusable()
            core.wants_space = False
            with core.guarded():
                if self.is_unflushed:
                    self._flush()
                    core.tally.flushes += 1
                    core.tally.flush_s += core.clock.monotonic() - started

    def _flush(self) -> None:
        core = self._core
        # Most of the log is made durable while writers go on; only the rest while they wait.
        core.log.sync()
        operations = flushed_seq_no = 0
        tombstones = Tombstones()

        def next_generation() -> None:
            nonlocal operations, flushed_seq_no, tombstones
            operations = core.log.roll(core.new_file_id())
            flushed_seq_no = core.max_seq_no
            kept = core.tombstones
            tombstones = Tombstones(kept.entries(), known_from=kept.known_from)

        self.refresh_locked(before_freeze=next_generation)
        try:
            core.manifest = maintenance.commit(
                core.files,
                core.directory,
                core.manifest,
                core.state.segments,
                max_seq_no=flushed_seq_no,
                primary_term=core.primary_term,
                translog_generation=core.log.generation,
                next_segment=core.next_segment,
                tombstones=tombstones,
            )
        except OSError as error:
            if is_disk_full(error):
                self._remove_orphans()
            raise
        core.flushed_seq_no = flushed_seq_no
        with core.write_lock:
            core.log.trim(operations)
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """What neither the manifest nor a reader to come needs."""
        core = self._core
        spared = {live.segment.number for live in core.state.segments} | core.merging.keys()
        recovery.remove_orphans(core.files, core.directory, core.manifest, spared=spared)
