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
        assert sorted(found.get(place, [])) == expected
        assert sorted(index.find(value)) == expected


def test_an_empty_index_finds_nothing() -> None:
    places, rows = IdIndex().find_many(np.arange(5, dtype=np.uint64))
    assert len(places) == len(rows) == 0
    assert IdIndex().find(5) == []
