"""Which segments to join, and joining them: fewer segments, same rows, same order.

In: the live segments, oldest rows first. Out: which neighbours to rewrite (a pure decision), and their live rows as the
batches of a new segment. Only neighbours are joined, so rows stay in the order they were written. Source of the policy:
Lucene's LogByteSizeMergePolicy (levels by logarithm of size), which keeps order for the same reason.

Not yet: merging beside other work with a budget; a segment above ``MERGE_ROWS_MAX`` is only rewritten when mostly dead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.storage.blocks import Layout, conformed
from cratepy.storage.columns import live_rows
from cratepy.storage.segment import Segment

#: Segments up to this many rows are all of the lowest level.
_LOWEST_LEVEL_ROWS: Final = 1_024
#: A segment that is dead by half is rewritten alone.
_DEAD_FRACTION_MAX: Final = 0.5


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


def choose_merge(sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The range [first, end) to rewrite as one segment, or None. ``sizes``: (rows, deleted) per segment in order.

    Lowest levels first: at least ``MERGE_SEGMENTS`` neighbours of at most that level, the biggest of them no more than
    half of the result. So a row's segment at least doubles whenever it is rewritten, except at the lowest level, where
    rewriting is cheaper than keeping. A range of one is a segment with too many dead rows.
    """
    for index, (rows, deleted) in enumerate(sizes):
        if deleted > rows * _DEAD_FRACTION_MAX and (deleted == rows or deleted > _LOWEST_LEVEL_ROWS):
            return index, index + 1
    levels = [_level(rows - deleted) for rows, deleted in sizes]
    live = [rows - deleted for rows, deleted in sizes]
    for level in sorted(set(levels)):
        first = 0
        while first < len(sizes):
            end, total = first, 0
            while end < len(sizes) and levels[end] <= level and total + live[end] <= limits.MERGE_ROWS_MAX:
                total += live[end]
                end += 1
            is_worth = level == 0 or total >= 2 * max(live[first:end], default=0)
            if end - first >= limits.MERGE_SEGMENTS and is_worth:
                return first, end
            first = max(end, first + 1)
    return None


def _level(rows: int) -> int:
    level, size = 0, _LOWEST_LEVEL_ROWS
    while rows > size:
        level += 1
        size *= limits.MERGE_SEGMENTS
    return level


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
    return layout.stored_schema([source.segment.blocks[0].batch.schema for source in plan.sources])


def merged_batches(plan: MergePlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The live rows as full blocks; a block and a bit is in memory at a time."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for source in plan.sources:
        for index, block in enumerate(source.segment.blocks):
            live = None if source.deletes is None else live_rows(source.segment, index, source.deletes)
            batch = block.batch if live is None else block.batch.take(pa.array(live))
            if batch.num_rows == 0:
                continue
            waiting.append(conformed(batch, schema))
            count += batch.num_rows
            if count >= limits.SEGMENT_BLOCK_ROWS:
                *full, rest = blocks_of(pa.Table.from_batches(waiting, schema))
                yield from full
                waiting, count = [rest], rest.num_rows
    if waiting:
        yield from blocks_of(pa.Table.from_batches(waiting, schema))


def blocks_of(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """A table as batches of at most a block of rows, each contiguous."""
    for first in range(0, table.num_rows, limits.SEGMENT_BLOCK_ROWS):
        yield from table.slice(first, limits.SEGMENT_BLOCK_ROWS).combine_chunks().to_batches()
