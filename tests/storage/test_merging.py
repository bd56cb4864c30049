"""The merge policy: few segments stay, each row is rewritten seldom, order is kept."""

from __future__ import annotations

import random

from cratepy import limits
from cratepy.storage.merging import choose_merge


def applied(sizes: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    rewritten = 0
    while (choice := choose_merge(sizes)) is not None:
        first, end = choice
        live = sum(rows - deleted for rows, deleted in sizes[first:end])
        rewritten += live
        sizes = [*sizes[:first], *([(live, 0)] if live else []), *sizes[end:]]
    return sizes, rewritten


def test_a_few_segments_are_left_alone() -> None:
    assert choose_merge([]) is None
    assert choose_merge([(10, 0)] * (limits.MERGE_SEGMENTS - 1)) is None


def test_like_sized_neighbours_are_joined() -> None:
    assert choose_merge([(1_000_000, 0), *[(10, 0)] * limits.MERGE_SEGMENTS]) == (1, limits.MERGE_SEGMENTS + 1)


def test_a_segment_of_dead_rows_is_dropped_and_a_half_dead_one_rewritten() -> None:
    assert choose_merge([(100, 0), (10, 10)]) == (1, 2)
    assert choose_merge([(10_000, 6_000)]) == (0, 1)
    assert choose_merge([(10_000, 4_000)]) is None


def test_many_refreshes_leave_few_segments_and_rewrite_each_row_a_few_times() -> None:
    chance = random.Random(1)
    sizes: list[tuple[int, int]] = []
    written = rewritten = 0
    for _ in range(2_000):
        rows = chance.choice((1, 10, 300, 5_000))
        written += rows
        sizes, more = applied([*sizes, (rows, 0)])
        rewritten += more
        assert len(sizes) < 40
    assert sum(rows for rows, _ in sizes) == written
    assert rewritten < 6 * written


def test_tiny_refreshes_do_not_pile_up() -> None:
    sizes: list[tuple[int, int]] = []
    for _ in range(2_000):
        sizes, _ = applied([*sizes, (1, 0)])
        assert len(sizes) < 2 * limits.MERGE_SEGMENTS


def test_a_segment_at_the_limit_is_not_rewritten() -> None:
    assert choose_merge([(limits.MERGE_ROWS_MAX, 0)] * 20) is None
