"""The merge policy: few segments stay, each row is rewritten seldom, order is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cratepy import limits
from cratepy.storage.merging import SegmentSize, choose_expunge, choose_merge, choose_optimize

_ROW_BYTES = 100


def size(rows: int, deleted: int = 0, *, row_bytes: int = _ROW_BYTES, is_busy: bool = False) -> SegmentSize:
    return SegmentSize(rows=rows, deleted=deleted, size_bytes=rows * row_bytes + 2_000, is_busy=is_busy)


def rewritten(segments: Sequence[SegmentSize], first: int, end: int) -> list[SegmentSize]:
    live = sum(segment.live_rows for segment in segments[first:end])
    return [*segments[:first], *([size(live)] if live else []), *segments[end:]]


def settled(segments: list[SegmentSize]) -> tuple[list[SegmentSize], int]:
    """After all merges the policy wants, and the bytes that they write."""
    written = 0
    while (choice := choose_merge(segments)) is not None:
        written += sum(segment.live_bytes for segment in segments[slice(*choice)])
        segments = rewritten(segments, *choice)
    return segments, written


BIG = limits.MERGE_FLOOR_BYTES // _ROW_BYTES


def test_a_few_segments_are_left_alone() -> None:
    assert choose_merge([]) is None
    assert choose_merge([size(10)] * (limits.MERGE_SEGMENTS - 1)) is None


def test_like_sized_neighbours_are_joined() -> None:
    small = [size(10)] * limits.MERGE_SEGMENTS
    assert choose_merge([size(100 * BIG), *small]) == (1, limits.MERGE_SEGMENTS + 1)


def test_a_segment_of_dead_rows_is_dropped_and_one_that_is_dead_by_a_third_rewritten() -> None:
    assert choose_merge([size(100), size(10, 10)]) == (1, 2)
    assert choose_merge([size(3 * BIG, BIG + 1)]) == (0, 1)
    assert choose_merge([size(3 * BIG, BIG - 1)]) is None
    assert choose_merge([size(30, 15)]) is None, "small ones are joined soon"


def test_segments_being_merged_are_left_alone_and_part_their_neighbours() -> None:
    small = [size(10)] * limits.MERGE_SEGMENTS
    assert choose_merge([size(10, is_busy=True)] * 20) is None
    assert choose_merge([*small[1:], size(10, is_busy=True), *small[1:]]) is None
    assert choose_merge([*small[1:], size(10, is_busy=True), *small]) == (
        limits.MERGE_SEGMENTS,
        2 * limits.MERGE_SEGMENTS,
    )


def test_many_refreshes_leave_few_segments_and_rewrite_each_row_a_few_times() -> None:
    chance = random.Random(1)
    segments: list[SegmentSize] = []
    total = work = most = 0
    for _ in range(5_000):
        rows = chance.choice((1, 10, 300, 5_000, 50_000))
        total += size(rows).live_bytes
        segments, more = settled([*segments, size(rows)])
        work += more
        most = max(most, len(segments))
    assert most < 40
    assert work < 6 * total


def test_tiny_refreshes_do_not_pile_up() -> None:
    segments: list[SegmentSize] = []
    for _ in range(5_000):
        segments, _ = settled([*segments, size(1)])
        assert len(segments) < 2 * limits.MERGE_SEGMENTS


def test_rows_that_are_replaced_again_and_again_neither_pile_up_nor_are_rewritten_for_ever() -> None:
    """Each refresh brings 2,000 rows of a table of 200,000 anew: their old versions die where they are."""
    chance = random.Random(2)
    segments = [size(200_000)]
    work = written = most = 0
    for _ in range(3_000):
        deaths = [0] * len(segments)
        weights = [segment.live_rows for segment in segments]
        for index in chance.choices(range(len(segments)), weights, k=200):
            deaths[index] += 10
        segments = [
            SegmentSize(rows=s.rows, deleted=min(s.rows, s.deleted + dead), size_bytes=s.size_bytes)
            for s, dead in zip(segments, deaths, strict=True)
        ]
        written += size(2_000).size_bytes
        segments, more = settled([*segments, size(2_000)])
        work += more
        most = max(most, len(segments))
    assert most < 40
    assert work < 12 * written
    assert sum(segment.size_bytes for segment in segments) < 2 * size(250_000).size_bytes


def test_a_segment_at_the_limit_is_rewritten_for_its_dead_rows_only() -> None:
    full = SegmentSize(rows=1_000, deleted=0, size_bytes=limits.MERGE_BYTES_MAX)
    assert choose_merge([full] * 20) is None
    assert choose_merge([full, SegmentSize(rows=1_000, deleted=400, size_bytes=limits.MERGE_BYTES_MAX)]) == (1, 2)
    many = SegmentSize(rows=limits.MERGE_ROWS_MAX, deleted=0, size_bytes=1_000)
    assert choose_merge([many] * 20) is None


def test_a_smaller_limit_finds_the_small_merges() -> None:
    segments = [*[size(10 * BIG)] * limits.MERGE_SEGMENTS, *[size(10)] * limits.MERGE_SEGMENTS]
    assert choose_merge(segments, bytes_max=limits.MERGE_FLOOR_BYTES) == (
        limits.MERGE_SEGMENTS,
        2 * limits.MERGE_SEGMENTS,
    )
    assert choose_merge(segments[: limits.MERGE_SEGMENTS], bytes_max=limits.MERGE_FLOOR_BYTES) is None
    assert choose_merge(segments[: limits.MERGE_SEGMENTS]) == (0, limits.MERGE_SEGMENTS)
    assert choose_merge(segments, bytes_min=limits.MERGE_FLOOR_BYTES) == (0, 2 * limits.MERGE_SEGMENTS)
    assert choose_merge(segments[limits.MERGE_SEGMENTS :], bytes_min=limits.MERGE_FLOOR_BYTES) is None


def test_optimize_leaves_so_many_segments_and_joins_the_smallest() -> None:
    segments = [size(1_000_000), size(10), size(20), size(500_000), size(5)]
    assert choose_optimize(segments, 1) == [(0, 5)]
    assert choose_optimize(segments, 3) in ([(1, 3), (3, 5)], [(1, 4)])
    assert choose_optimize(segments, 5) == []
    assert choose_optimize([size(10)], 1) == []
    assert choose_optimize([size(10, 1)], 1) == [(0, 1)], "one segment without dead rows"
    assert choose_optimize([size(10, 10), size(5)], 2) == [(0, 1)]


def test_expunging_takes_segments_with_more_than_a_tenth_dead() -> None:
    assert choose_expunge([size(100, 11), size(100, 10), size(100)]) == [(0, 1)]
