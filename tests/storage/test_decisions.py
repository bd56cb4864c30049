"""Big batches decide on all rows together, small ones row by row: what becomes of a row is the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from cratepy.storage.operations import WriteBatch
from cratepy.storage.shard import Shard
from tests.storage.shards import open_shard, rows, scanned

KINDS: tuple[Literal["insert", "index", "delete"], ...] = ("insert", "index", "delete")
SYSTEM = ("_id", "_seq_no", "_primary_term", "_version", "c1")
#: A batch of more ids is decided on as a whole.
SMALL = 50


def write(
    shard: Shard,
    kind: Literal["insert", "index", "delete"],
    ids: list[str],
    number: int,
    expected: Sequence[tuple[int, int] | None] | None,
) -> tuple[list[tuple[int, str]], list[int]]:
    batch = None if kind == "delete" else rows([(number, row_id) for row_id in ids])
    result = shard.write(WriteBatch(kind=kind, ids=ids, rows=batch, primary_term=1, expected=expected))
    return list(result.failures), list(result.versions)


@pytest.mark.parametrize("seed", range(6))
def test_batches_of_any_size_end_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole, parts = open_shard(tmp_path / "whole"), open_shard(tmp_path / "parts")
    names = [f"id{i}" for i in range(900)]
    for number in range(14):
        kind = chance.choice(KINDS)
        ids = chance.sample(names, 400)
        expected: list[tuple[int, int] | None] | None = None
        if chance.random() < 0.7:
            now = whole.get(ids, ["_seq_no", "_primary_term"])
            expected = []
            for head in now:
                seen = (chance.randrange(50), 1) if head is None else (head[0], head[1])
                expected.append(chance.choice([seen, seen, seen, None, (seen[0] + 1, 1), (seen[0], 2)]))
        failures, versions = write(whole, kind, ids, number, expected)
        told: list[tuple[int, str]] = []
        counted: list[int] = []
        for first in range(0, len(ids), SMALL):
            part = None if expected is None else expected[first : first + SMALL]
            refused, numbers = write(parts, kind, ids[first : first + SMALL], number, part)
            told += [(first + row, why) for row, why in refused]
            counted += numbers
        assert (failures, versions) == (told, counted)
        if number % 3 == 0:
            whole.refresh()
        if number % 4 == 0:
            parts.refresh()
    whole.refresh()
    parts.refresh()
    assert sorted(scanned(whole, SYSTEM)) == sorted(scanned(parts, SYSTEM))
    whole.close()
    parts.close()
