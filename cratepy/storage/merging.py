"""Which segments to join, and joining them: fewer segments, same rows, same order.

In: the live segments, oldest rows first. Out: which neighbours to rewrite (a pure decision), and their live rows as the
batches of a new segment. Only neighbours are joined, so rows stay in the order they were written. Source of the policy:
Lucene's LogByteSizeMergePolicy (levels by logarithm of size), which keeps order for the same reason. Sizes count live bytes, so
dead rows make a segment smaller and its next merge cheaper. Who runs merges, and when: :mod:`merger`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.records import dataclass
from cratepy.storage.blocks import ID, Layout, conformed
from cratepy.storage.columns import live_rows
from cratepy.storage.leaves import with_leaves
from cratepy.storage.segment import Segment
from cratepy.storage.stored import KeptBlock

#: A segment that is dead by more than this is rewritten alone: what is written is at most twice what it frees.
_DEAD_FRACTION_MAX: Final = 1 / 3
#: ``only_expunge_deletes`` leaves segments with fewer dead rows alone.
_EXPUNGED_FRACTION_MIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class LiveSegment:
    """A segment with the rows that are dead as of a refresh. ``deletes`` is never changed, only replaced."""

    segment: Segment
    deletes: BitMap | None
    #: New with every new ``deletes`` of this segment; part of cache keys and file names.
    generation: int

    @property
    def deleted(self) -> int:
        return 0 if self.deletes is None else len(self.deletes)

    @property
    def live_count(self) -> int:
        return self.segment.rows - self.deleted

    def is_dead(self, row: int) -> bool:
        return self.deletes is not None and row in self.deletes


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSize:
    """A segment as the policy sees it. ``is_busy``: a merge works on it already."""

    rows: int
    deleted: int
    size_bytes: int
    is_busy: bool = False

    @property
    def live_rows(self) -> int:
        return self.rows - self.deleted

    @property
    def live_bytes(self) -> int:
        return self.size_bytes * self.live_rows // self.rows


def choose_merge(
    segments: Sequence[SegmentSize], *, bytes_min: int = 0, bytes_max: int = limits.MERGE_BYTES_MAX
) -> tuple[int, int] | None:
    """The range [first, end) to rewrite as one segment of ``bytes_min`` to ``bytes_max``, or None. In order, oldest first.

    Dead segments first (they cost nothing), then those that are mostly dead, alone. Then lowest levels first: at least
    ``MERGE_SEGMENTS`` neighbours of at most that level, the biggest of them no more than half of the result. So a row's
    segment at least doubles whenever it is rewritten, except at the lowest level, where rewriting is cheaper than keeping.
    """
    idle = [index for index, segment in enumerate(segments) if not segment.is_busy]
    for index in idle:
        if segments[index].live_rows == bytes_min == 0:
            return index, index + 1
    for index in idle:
        segment = segments[index]
        is_worth = segment.size_bytes > limits.MERGE_FLOOR_BYTES and bytes_min <= segment.live_bytes <= bytes_max
        if is_worth and segment.deleted > segment.rows * _DEAD_FRACTION_MAX:
            return index, index + 1
    levels = [_level(segment.live_bytes) for segment in segments]
    for level in sorted({levels[index] for index in idle}):
        first = 0
        while first < len(segments):
            end = _joinable(segments, levels, first, level, bytes_max)
            sizes = [segment.live_bytes for segment in segments[first:end]]
            is_worth = level == 0 or sum(sizes) >= 2 * max(sizes, default=0)
            if end - first >= limits.MERGE_SEGMENTS and is_worth and sum(sizes) >= bytes_min:
                return first, end
            first = max(end, first + 1)
    return None


def _joinable(segments: Sequence[SegmentSize], levels: Sequence[int], first: int, level: int, bytes_max: int) -> int:
    """The end of the neighbours from ``first`` on that may become one segment."""
    end = first
    size_bytes = rows = 0
    while end < len(segments) and levels[end] <= level and not segments[end].is_busy:
        size_bytes += segments[end].live_bytes
        rows += segments[end].live_rows
        if size_bytes > bytes_max or rows > limits.MERGE_ROWS_MAX:
            break
        end += 1
    return end


def _level(live_bytes: int) -> int:
    level, size = 0, limits.MERGE_FLOOR_BYTES
    while live_bytes > size:
        level += 1
        size *= limits.MERGE_SEGMENTS
    return level


def choose_expunge(segments: Sequence[SegmentSize]) -> list[tuple[int, int]]:
    """``OPTIMIZE … only_expunge_deletes``: each segment with more than a tenth dead, alone (Lucene's limit)."""
    return [
        (index, index + 1)
        for index, segment in enumerate(segments)
        if segment.deleted > segment.rows * _EXPUNGED_FRACTION_MIN
    ]


def choose_optimize(segments: Sequence[SegmentSize], segments_max: int) -> list[tuple[int, int]]:
    """``OPTIMIZE … max_num_segments``: ranges to rewrite so that so many are left, joining the smallest neighbours.

    If a single one is to be left, it is to be without dead rows, too.
    """
    groups = [[index, index + 1, segment.live_bytes] for index, segment in enumerate(segments)]
    while len(groups) > max(segments_max, 1):
        at = min(range(len(groups) - 1), key=lambda index: groups[index][2] + groups[index + 1][2])
        groups[at : at + 2] = [[groups[at][0], groups[at + 1][1], groups[at][2] + groups[at + 1][2]]]
    is_to_be_clean = segments_max <= 1
    return [
        (first, end)
        for first, end, _ in groups
        if end - first > 1 or (is_to_be_clean and segments[first].deleted) or segments[first].live_rows == 0
    ]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is in the new segment: per old segment its live rows (None: all), in order, after those of the one before."""

    sources: tuple[LiveSegment, ...]
    live: tuple[np.ndarray | None, ...]

    @property
    def rows(self) -> int:
        return sum(source.live_count for source in self.sources)


def plan_merge(sources: Sequence[LiveSegment]) -> MergePlan:
    live: list[np.ndarray | None] = []
    for source in sources:
        if source.deletes is None:
            live.append(None)
            continue
        alive: np.ndarray = np.ones(source.segment.rows, dtype=bool)
        alive[np.array(source.deletes, dtype=np.int64)] = False
        live.append(np.flatnonzero(alive))
    return MergePlan(tuple(sources), tuple(live))


def merged_hashes(plan: MergePlan) -> np.ndarray:
    parts = []
    for source, live in zip(plan.sources, plan.live, strict=True):
        hashes = source.segment.hashes_by_row()
        parts.append(hashes if live is None else hashes[live])
    return np.concatenate(parts)


def moved_rows(plan: MergePlan, index: int, rows: Sequence[int]) -> list[int]:
    """Where rows of the ``index``-th source, all live in the plan, are in the new segment."""
    first = sum(source.live_count for source in plan.sources[:index])
    live = plan.live[index]
    if live is None:
        return [first + row for row in rows]
    places: Any = live.searchsorted(np.array(rows, dtype=np.int64)) + first
    return list(places.tolist())


def merged_schema(plan: MergePlan, layout: Layout) -> pa.Schema:
    """The columns any source has."""
    return layout.stored_schema([source.segment.schema for source in plan.sources])


def merged_batches(plan: MergePlan, schema: pa.Schema, layout: Layout) -> Iterator[pa.RecordBatch | KeptBlock]:
    """The live rows as blocks; two of them are in memory at a time. Leaves are carried, or made if they lack.

    A block that is all alive, at least half full and of the new segment's columns and codec stays as it is: its bytes
    are copied. So no block but the last becomes smaller than half, and a merge of big segments costs what copying costs.
    Batches are without ``_id`` if it is known to be the text of the key: making it took a third of the time.
    """
    is_key = _ids_are_key(plan, schema, layout)
    kept_schema, schema = schema, _without_ids(schema) if is_key else schema
    leaves = [layout.leaves[name] for name in schema.names if name in layout.leaves]
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for source in plan.sources:
        is_alike = source.segment.codec == layout.codec and source.segment.schema.equals(kept_schema)
        read_schema = _without_ids(source.segment.schema) if is_key else source.segment.schema
        for index, block in enumerate(source.segment.blocks):
            live = None if source.deletes is None else live_rows(source.segment, index, source.deletes)
            is_keepable = is_alike and live is None and _is_big(block.row_count, block.raw_bytes)
            if is_keepable and (not count or _is_big(count, size)):
                if count:
                    yield from blocks_of(pa.Table.from_batches(waiting, schema))
                    waiting, count, size = [], 0, 0
                yield block.kept()
                continue
            batch = block.batch_of(read_schema)
            if live is not None:
                batch = batch.take(pa.array(live))
            if batch.num_rows == 0:
                continue
            waiting.append(conformed(with_leaves(batch, leaves) if leaves else batch, schema))
            count += batch.num_rows
            size += batch.nbytes
            if count >= limits.SEGMENT_BLOCK_ROWS or size >= limits.SEGMENT_BLOCK_BYTES or is_keepable:
                # Blocks of one size, so that each is big enough to be kept by the next merge.
                *full, rest = blocks_of(pa.Table.from_batches(waiting, schema))
                yield from full
                waiting, count, size = [rest], rest.num_rows, rest.nbytes
    if waiting:
        yield from blocks_of(pa.Table.from_batches(waiting, schema))


def _ids_are_key(plan: MergePlan, schema: pa.Schema, layout: Layout) -> bool:
    """Whether the sources say of all their rows that ``_id`` is the text of the number that is the key."""
    key = layout.key_source
    return key is not None and all(
        source.segment.key_source == key and source.segment.schema.field(key).type == schema.field(key).type
        for source in plan.sources
    )


def _without_ids(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index(ID))


def _is_big(rows: int, size_bytes: int) -> bool:
    """Whether so many rows are worth a block."""
    return rows >= limits.SEGMENT_BLOCK_ROWS // 2 or size_bytes >= limits.SEGMENT_BLOCK_BYTES // 2


def blocks_of(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """A table as batches of one size, at most a block of rows, each contiguous; of fewer rows if they are big."""
    bytes_a_row = table.nbytes // max(table.num_rows, 1) + 1
    rows_max = min(limits.SEGMENT_BLOCK_ROWS, max(limits.SEGMENT_BLOCK_BYTES // bytes_a_row, 1))
    blocks = -(-table.num_rows // rows_max)
    rows = -(-table.num_rows // max(blocks, 1))
    for first in range(0, table.num_rows, max(rows, 1)):
        yield from table.slice(first, rows).combine_chunks().to_batches()
