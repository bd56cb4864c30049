"""The table of hashes against a list of all pairs."""

from __future__ import annotations

import random

import numpy as np

from cratepy.storage.id_index import IdIndex


def test_every_row_is_found_by_its_hash_and_no_other() -> None:
    chance = random.Random(3)
    # Few upper bits, so that slots collide; some hashes repeat within a batch and between batches.
    pool = [chance.randrange(1 << 6) << 58 | chance.randrange(1 << 20) for _ in range(9_000)]
    index, hashes, first = IdIndex(), {}, 0
    while first < 60_000:
        batch = np.array([chance.choice(pool) for _ in range(chance.randrange(1, 3_000))], dtype=np.uint64)
        index.add(first, batch)
        for row, value in enumerate(batch.tolist(), first):
            hashes.setdefault(value, []).append(row)
        first += len(batch) + chance.randrange(50)  # Rows that are in no big batch.
    wanted = [*pool, *range(100)]
    places, rows = index.find_many(np.array(wanted, dtype=np.uint64))
    found: dict[int, list[int]] = {}
    for place, row in zip(places.tolist(), rows.tolist(), strict=True):
        found.setdefault(place, []).append(row)
    for place, value in enumerate(wanted):
        expected = hashes.get(value, [])
        assert found.get(place, []) == expected[-1:], "the newest"
        assert list(index.find(value)) == expected[::-1]


def test_an_id_that_is_replaced_again_and_again_takes_one_slot() -> None:
    index = IdIndex()
    hashes = np.arange(1_000, dtype=np.uint64) << np.uint64(54)
    for number in range(30):
        index.add(number * 1_000, hashes)
    table = index._table
    assert table is not None
    assert (table.slots != 0xFFFFFFFF).sum() == 1_000
    assert next(index.find(5 << 54)) == 29_005


def test_an_empty_index_finds_nothing() -> None:
    places, rows = IdIndex().find_many(np.arange(5, dtype=np.uint64))
    assert len(places) == len(rows) == 0
    assert list(IdIndex().find(5)) == []
