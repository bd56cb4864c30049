"""Batches of some hundred ids: refused is exactly who was there, in buffer, index, segment or the batch itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from cratepy.storage.operations import WriteBatch
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, open_shard, rows

COUNT = 100


def _write(shard: Shard, ids: list[str]) -> list[tuple[int, str]]:
    values = rows([(number, "") for number in range(len(ids))])
    return list(shard.write(WriteBatch(kind="insert", ids=ids, rows=values, primary_term=1)).failures)


def _ids(first: int, count: int = COUNT) -> list[str]:
    return [f"id {number}" for number in range(first, first + count)]


@pytest.mark.parametrize("big", [COUNT, 1_000], ids=["known by text", "known by hash"])
@pytest.mark.parametrize("is_refreshed", [False, True])
def test_one_known_id_among_many_is_refused_alone(tmp_path: Path, big: int, is_refreshed: bool) -> None:
    shard = open_shard(tmp_path / "s")
    assert _write(shard, _ids(0, big)) == []
    if is_refreshed:
        shard.refresh()
    assert _write(shard, [*_ids(5_000, 50), "id 7", *_ids(5_050, 50)]) == [(50, "duplicate")]
    assert _write(shard, _ids(6_000)) == []
    assert shard.get(["id 7", "id 5049", "id 6099"], ["c1"]) == [(7,), (49,), (99,)]


def test_an_id_twice_in_a_batch_is_refused_the_second_time(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    assert _write(shard, [*_ids(0), "id 3"]) == [(COUNT, "duplicate")]


def test_deleted_ids_are_new_again_before_and_after_a_refresh(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    _write(shard, _ids(0))
    for is_refreshed in (False, True):
        if is_refreshed:
            shard.refresh()
        shard.write(delete("id 5"))
        assert _write(shard, _ids(0))[4:6] == [(4, "duplicate"), (6, "duplicate")]
        assert shard.get(["id 5"], ["_version"]) == [(1,)]
