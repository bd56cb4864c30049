"""Merges beside everything else: no row is lost, none comes back, nothing waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage import maintenance
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard, scanned


def shard_of_segments(directory: Path, count: int, rows: int = 10) -> Shard:
    shard = open_shard(directory)
    for number in range(count):
        shard.write(insert({f"k{number}-{i}": (number * rows + i, "x") for i in range(rows)}))
        shard.refresh()
    return shard


def numbers(shard: Shard) -> list[int]:
    return [row[0] for row in scanned(shard, ("c1",))]


def segment_count(shard: Shard) -> int:
    return len(shard.stats().segments)


def test_refreshes_leave_merging_to_others_up_to_a_limit(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 20)
    assert segment_count(shard) == 20
    assert shard.wants_merge
    while shard.merge():
        pass
    assert not shard.wants_merge
    assert segment_count(shard) < limits.MERGE_SEGMENTS
    assert numbers(shard) == list(range(200))
    shard.close()


def test_segments_stay_bounded_where_nobody_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENTS_MAX", 10)
    shard = shard_of_segments(tmp_path / "s", 30, rows=2)
    assert segment_count(shard) <= 10
    assert numbers(shard) == list(range(60))


@pytest.mark.parametrize("is_refreshed", [False, True])
@pytest.mark.parametrize("is_flushed", [False, True])
def test_rows_that_die_while_their_segment_is_merged_stay_dead(
    tmp_path: Path, is_refreshed: bool, is_flushed: bool
) -> None:
    shard = shard_of_segments(tmp_path / "s", 8)
    shard.write(delete("k0-0"))
    shard.refresh()

    def meanwhile(written_bytes: int) -> None:
        assert written_bytes > 0
        shard.write(delete("k0-1", "k3-3", "k7-9"))
        shard.write(insert({"k2-2": (1_000, "new")}, kind="index"))
        if is_refreshed:
            shard.refresh()
        if is_flushed:
            shard.flush()
        assert shard.get(["k3-3", "k2-2"], ["c1"]) == [None, (1_000,)]

    assert shard.merge(pause=meanwhile)
    shard.refresh()
    expected = [n for n in range(80) if n not in (0, 1, 33, 79, 22)] + [1_000]
    assert numbers(shard) == expected
    assert segment_count(shard) == 2
    shard.flush()
    shard.verify()
    shard.close()
    assert numbers(open_shard(tmp_path / "s", create=False)) == expected


def test_neither_writes_nor_refreshes_nor_small_merges_wait_for_a_merge(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 8)
    is_reached, goes_on = threading.Event(), threading.Event()

    def stand_still(written_bytes: int) -> None:
        is_reached.set()
        assert goes_on.wait(10)

    thread = threading.Thread(target=lambda: shard.merge(pause=stand_still))
    thread.start()
    assert is_reached.wait(10)
    for number in range(8):
        shard.write(insert({f"new-{number}": (80 + number, "")}))
        shard.refresh()
    shard.flush()
    assert shard.merge(), "other segments are merged meanwhile"
    assert segment_count(shard) == 9
    goes_on.set()
    thread.join()
    assert segment_count(shard) == 2
    assert numbers(shard) == list(range(88))
    shard.flush()
    shard.close()
    assert numbers(open_shard(tmp_path / "s", create=False)) == list(range(88))


def test_closing_ends_a_merge_and_its_files_go(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 8)
    shard.flush()
    before = sorted(path.name for path in (tmp_path / "s").iterdir())
    is_reached, goes_on = threading.Event(), threading.Event()
    problems: list[BaseException] = []

    def stand_still(written_bytes: int) -> None:
        is_reached.set()
        assert goes_on.wait(10)

    def merge() -> None:
        try:
            shard.merge(pause=stand_still)
        except ShardFailed as error:
            problems.append(error)

    merging = threading.Thread(target=merge)
    merging.start()
    assert is_reached.wait(10)
    closing = threading.Thread(target=shard.close)
    closing.start()
    while not shard._core.is_closing:
        pass
    goes_on.set()
    merging.join()
    closing.join()
    assert "closed" in str(problems[0])
    assert shard.failure is None
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == before


def test_an_error_of_an_index_costs_the_merge_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of_segments(tmp_path / "s", 8)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an index panicked")

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "write_merged", broken)
        with pytest.raises(RuntimeError):
            shard.merge()
        assert shard.failure is None
        assert not shard.wants_merge, "it is put off"
    assert numbers(shard) == list(range(80))
    assert shard.merge()
    assert numbers(shard) == list(range(80))


def test_optimize_to_one_segment_without_dead_rows(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 5)
    shard.write(delete("k1-1", "k4-0"))
    shard.optimize(max_num_segments=1)
    (only,) = shard.stats().segments
    assert (only.rows, only.deleted, only.is_committed) == (48, 0, True)
    assert shard.stats().translog_operations == 0
    shard.optimize(max_num_segments=1)
    assert shard.stats().segments == (only,)
    assert numbers(shard) == [n for n in range(50) if n not in (11, 40)]


def test_optimize_to_some_segments_and_without_a_flush(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 7)
    shard.optimize(max_num_segments=3, flush=False)
    stats = shard.stats()
    assert len(stats.segments) == 3
    assert not any(segment.is_committed for segment in stats.segments)
    assert numbers(shard) == list(range(70))


def test_optimize_expunges_deletes(tmp_path: Path) -> None:
    shard = shard_of_segments(tmp_path / "s", 3)
    shard.write(delete("k1-1", "k1-2"))
    shard.write(delete("k2-0"))
    shard.optimize(only_expunge_deletes=True)
    assert [(segment.rows, segment.deleted) for segment in shard.stats().segments] == [(10, 0), (8, 0), (10, 1)]
    assert numbers(shard) == [n for n in range(30) if n not in (11, 12, 20)]
