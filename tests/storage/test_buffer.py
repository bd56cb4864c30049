"""The write buffer against a dict, with big and small batches of the same ids mixed."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from cratepy.storage.buffer import TOMBSTONE, UNKNOWN, WriteBuffer
from cratepy.storage.hashing import hash_id
from cratepy.storage.ids import IdArray


@pytest.mark.parametrize("seed", range(8))
def test_an_id_is_found_at_its_newest_row_whatever_came_in_which_batch(seed: int) -> None:
    chance = random.Random(seed)
    buffer, model, all_ids = WriteBuffer(), {}, []
    names = [f"id-{i}" for i in range(400)]
    for _ in range(60):
        first = buffer.row_count
        if chance.random() < 0.3:
            victim = chance.choice(names)
            old = buffer.find(victim)
            buffer.delete(victim)
            if old is not None and old >= 0:
                buffer.dead.add(old)
            model[victim] = TOMBSTONE
            continue
        ids = chance.sample(names, chance.choice([1, 3, 40, 100]))
        given = IdArray.of(ids) if len(ids) > 30 else ids
        old_rows = [buffer.find(row_id) for row_id in ids]
        rows = pa.RecordBatch.from_arrays([pa.array(range(first, first + len(ids)))], names=["c1"])
        buffer.add(given, rows, first_seq_no=first, primary_term=1, versions=[1] * len(ids), payload_bytes=10)
        buffer.dead.update(row for row in old_rows if row is not None and row >= 0)
        all_ids += ids
        model.update({row_id: first + place for place, row_id in enumerate(ids)})
        for row_id in names:
            assert buffer.find(row_id) == model.get(row_id)
        expected = [model.get(row_id, UNKNOWN) for row_id in names]
        assert buffer.find_many(IdArray.of(names)).tolist() == expected
    assert [buffer.id_of(row) for row in range(buffer.row_count)] == all_ids
    assert buffer.hashes().tolist() == [hash_id(row_id) for row_id in all_ids]
    live = buffer.live_rows()
    assert sorted(live.tolist()) == sorted(row for row in model.values() if row >= 0)
    assert np.array_equal(np.sort(live), live)
