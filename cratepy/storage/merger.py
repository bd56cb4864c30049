"""Merges of a shard copy, beside its writes, refreshes and flushes; and OPTIMIZE.

In: a core whose segments the policy (:mod:`merging`) would join. Out: fewer segments, same rows, same order. A merge
holds the maintenance lock only to choose and to publish; in between it reads segments that never change and writes one
that nobody knows, block after block, and calls ``pause`` after each so that its caller can slow it down.

Rows that die meanwhile: a refresh gives the sources new dead rows, and the buffer notes which rows of them will die; both
are translated to the new segment's rows when it takes their place. What goes wrong before that moment costs nothing but
the half-written files: a full disk or an error of an index puts merging off, an I/O error fails the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.errors import DiskFull, ShardFailed
from cratepy.records import dataclass
from cratepy.storage import maintenance
from cratepy.storage.core import ShardCore
from cratepy.storage.lookup import ShardState
from cratepy.storage.merging import (
    LiveSegment,
    MergePlan,
    SegmentSize,
    choose_expunge,
    choose_merge,
    choose_optimize,
    moved_rows,
    plan_merge,
)
from cratepy.storage.segment import Segment
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.failures import TextIndexFailed
from cratepy.storage.text.fields import text_fields

#: A merge leaves at most so many times of what it writes.
_SPARE_TIMES: Final = 4
#: Called with the bytes of each block that was written; no lock is held.
Pause = Callable[[int], None]


def no_pause(written_bytes: int) -> None:
    """As fast as it goes."""


@dataclass(frozen=True, slots=True)
class _Task:
    """``sources`` will become the segment ``number``; reserved for it since it was made."""

    number: int
    sources: frozenset[int]


class ShardMerger:
    """See the module. Any worker thread, several at a time."""

    def __init__(self, core: ShardCore) -> None:
        self._core = core
        #: The segments that were looked at last and need no merge.
        self._settled: tuple[LiveSegment, ...] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether :meth:`merge` may find something to do; cheap as long as nothing changes."""
        core = self._core
        if core.failure is not None or core.is_closing or core.is_put_off:
            return False
        return core.state.segments is not self._settled

    @property
    def merges_max(self) -> int:
        """The table setting ``merge.scheduler.max_thread_count``."""
        value = self._core.layout.definition.settings.get("merge.scheduler.max_thread_count")
        return value if isinstance(value, int) and value > 0 else limits.MERGE_THREADS_MAX

    @property
    def _bytes_max(self) -> int:
        """The biggest segment a merge makes unasked."""
        has_text = bool(text_fields(self._core.layout.definition))
        return limits.TEXT_MERGE_BYTES_MAX if has_text else limits.MERGE_BYTES_MAX

    def merge(self, *, bytes_min: int, bytes_max: int, pause: Pause) -> bool:
        """Do the merge of such a size that the policy wants most; False: none. Raises ShardFailed, DiskFull."""
        core = self._core
        with core.maintenance_lock:
            core.raise_if_unusable()
            if len(core.merging) >= self.merges_max:
                return False
            segments = core.state.segments
            sizes = self._sizes(segments)
            bound = self._bytes_max
            choice = choose_merge(sizes, bytes_min=bytes_min, bytes_max=min(bytes_max, bound))
            if choice is None:
                if not core.merging and choose_merge(sizes, bytes_max=bound) is None:
                    self._settled = segments
                return False
            if self._missing_bytes([choice], sizes):
                return False
            task = self._reserve(segments[slice(*choice)])
        self._run(task, pause)
        return True

    def relieve(self) -> None:
        """After a refresh: where nobody merges in time, the number of segments stays bounded nevertheless."""
        core = self._core
        while len(core.state.segments) > limits.SEGMENTS_MAX and not core.is_put_off:
            try:
                if not self.merge(bytes_min=0, bytes_max=limits.MERGE_SMALL_BYTES_MAX, pause=no_pause):
                    return
            except (DiskFull, TextIndexFailed):
                assert core.is_put_off, "it was noted, and is tried again later"

    def optimize(self, *, segments_max: int | None, only_expunge_deletes: bool) -> None:
        """Every merge the policy wants; or all that it takes to have at most so many segments, or few dead rows."""
        if segments_max is None and not only_expunge_deletes:
            while self.merge(bytes_min=0, bytes_max=limits.MERGE_BYTES_MAX, pause=no_pause):
                pass
            return
        core = self._core
        with core.maintenance_lock:
            while core.merging and not core.is_closing:
                core.merges_ended.wait()
            core.raise_if_unusable()
            segments = core.state.segments
            sizes = self._sizes(segments)
            ranges = choose_expunge(sizes) if segments_max is None else choose_optimize(sizes, segments_max)
            missing = self._missing_bytes(ranges, sizes)
            if missing:
                raise core.short_of_space(f"to join segments of {core}, {missing} bytes more have to be free")
            tasks = [self._reserve(segments[first:end]) for first, end in ranges]
        for index, task in enumerate(tasks):
            try:
                self._run(task, no_pause)
            except BaseException:
                for rest in tasks[index + 1 :]:
                    self._release(rest)
                raise

    def _sizes(self, segments: Sequence[LiveSegment]) -> list[SegmentSize]:
        busy = frozenset[int]().union(*self._core.merging.values())
        return [
            SegmentSize(
                rows=live.segment.rows,
                deleted=live.deleted,
                size_bytes=live.segment.size_bytes,
                is_busy=live.segment.number in busy,
            )
            for live in segments
        ]

    def _missing_bytes(self, ranges: Sequence[tuple[int, int]], sizes: Sequence[SegmentSize]) -> int:
        """What the disk would have to have more for these merges to leave room for what is more urgent; 0: it has it.

        A merge that fills the disk fails in the end, and until then refreshes and flushes do, which would free the log's space.
        The files it replaces stay until the next flush, so merging frees nothing at first.
        """
        core = self._core
        written = sum(size.live_bytes for first, end in ranges for size in sizes[first:end])
        if not written:
            return 0
        if text_fields(core.layout.definition):
            # An index is built beside the shard's files and copied.
            written *= 2
        free, total = core.files.space(core.directory)
        # Small segments go on being joined: a merge need not leave much more than it takes.
        spare = min(limits.MERGE_SPARE_BYTES, total // limits.MERGE_SPARE_FRACTION, _SPARE_TIMES * written)
        return max(written + core.buffered_bytes + spare - free, 0)

    def _reserve(self, sources: Sequence[LiveSegment]) -> _Task:
        """Under the maintenance lock."""
        core = self._core
        task = _Task(core.next_segment, frozenset(live.segment.number for live in sources))
        core.next_segment += 1
        core.merging[task.number] = task.sources
        return task

    def _release(self, task: _Task) -> None:
        with self._core.maintenance_lock:
            del self._core.merging[task.number]
            self._core.merges_ended.notify_all()

    def _run(self, task: _Task, pause: Pause) -> None:
        core = self._core
        started = core.clock.monotonic()
        try:
            plan = plan_merge([live for live in core.state.segments if live.segment.number in task.sources])
            segment = self._write(task, plan, pause) if plan.rows else None
            self._publish(plan, segment)
        finally:
            self._release(task)
        core.tally.merges += 1
        core.tally.merge_s += core.clock.monotonic() - started
        core.tally.merged_bytes += 0 if segment is None else segment.size_bytes

    def _write(self, task: _Task, plan: MergePlan, pause: Pause) -> Segment:
        core = self._core

        def paced(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                yield batch
                pause(batch.nbytes)
                check()

        def check() -> None:
            if core.is_closing or core.failure is not None:
                raise ShardFailed(core.failure or f"{core} is being closed")

        try:
            segment = maintenance.write_merged(
                core.files,
                core.directory,
                plan,
                number=task.number,
                layout=core.layout,
                cache=core.cache,
                paced=paced,
            )
            core.text.add_index(segment, core.layout, core.state.segments, check=check)
            return segment
        except BaseException as error:
            self._clean_up(task.number, error)
            raise

    def _clean_up(self, number: int, error: BaseException) -> None:
        """Nobody saw the segment. Only what is wrong with the disk is wrong with the copy."""
        core = self._core
        with core.guarded():
            maintenance.remove_segment(core.files, core.directory, number)
            if isinstance(error, OSError | SegmentDamaged):
                raise error
        if not isinstance(error, ShardFailed):
            core.put_off(f"cannot merge segments: {type(error).__name__}: {error}")

    def _publish(self, plan: MergePlan, segment: Segment | None) -> None:
        """Put the new segment in the place of its sources, with the rows dead that died since the plan."""
        core = self._core
        number = None if segment is None else segment.number
        with core.maintenance_lock:
            core.raise_if_unusable()
            segments = core.state.segments
            first = [live.segment for live in segments].index(plan.sources[0].segment)
            now = segments[first : first + len(plan.sources)]
            assert [live.segment for live in now] == [source.segment for source in plan.sources], "neighbours stay so"
            dead = _died_since(plan, now)
            merged = () if segment is None else (LiveSegment(segment, dead or None, 1 if dead else 0),)
            with core.write_lock:
                state = core.state
                assert state.segments is segments, "segments change only under the maintenance lock"
                for buffer in (state.active, state.frozen):
                    if buffer is not None:
                        maintenance.move_deletes(buffer, plan, number)
                core.state = ShardState(
                    state.active, state.frozen, (*segments[:first], *merged, *segments[first + len(now) :])
                )
            committed = {entry.number for entry in core.manifest.segments}
            with core.guarded():
                for source in plan.sources:
                    if source.segment.number not in committed:
                        maintenance.remove_segment(core.files, core.directory, source.segment.number)
        core.forget_columns({source.segment.key for source in plan.sources})
        core.text.forget({source.segment.number for source in plan.sources})


def _died_since(plan: MergePlan, now: Sequence[LiveSegment]) -> BitMap:
    """Rows of the new segment that refreshes declared dead in the sources while it was written."""
    dead = BitMap()
    for index, (source, live) in enumerate(zip(plan.sources, now, strict=True)):
        if live.deletes is not None and live.generation != source.generation:
            died = live.deletes if source.deletes is None else live.deletes - source.deletes
            dead.update(moved_rows(plan, index, list(died)))
    return dead
