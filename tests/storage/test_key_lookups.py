"""Many integer keys of a segment are found whatever encoding the key column got, and only the ones that are there."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from cratepy.clock import SystemClock
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, TEXT
from cratepy.storage.operations import WriteBatch
from cratepy.storage.store import ShardStore

KEYS = {
    "in sequence": list(range(1_000, 4_000)),
    "in a narrow frame, shuffled": random.Random(1).sample(range(50_000), 3_000),
    "in frames of groups": [i * 1_000_003 + random.Random(i).randrange(99) for i in range(3_000)],
    "wide": [i * 0x9E3779B97F4A7C15 % (1 << 63) - (1 << 62) for i in range(3_000)],
}


@pytest.mark.parametrize("codec", ["default", "best_compression"])
@pytest.mark.parametrize("name", KEYS)
def test_keys_are_found_and_others_are_not(tmp_path: Path, name: str, codec: str) -> None:
    keys = KEYS[name]
    columns = (ColumnDefinition(oid=1, name="k", type=BIGINT), ColumnDefinition(oid=2, name="t", type=TEXT))
    definition = TableDefinition(
        name=RelationName("doc", "t"), uuid="t", oid=1, columns=columns, primary_key=("k",), settings={"codec": codec}
    )
    store = ShardStore(tmp_path, clock=SystemClock())
    shard = store.open_shard(definition, 0, "a", primary_term=1, create=True)
    for first in range(0, len(keys), 500):
        some = keys[first : first + 500]
        rows = pa.RecordBatch.from_arrays([pa.array(some), pa.array([f"t{k}" for k in some])], names=["c1", "c2"])
        shard.write(WriteBatch(kind="insert", ids=[str(k) for k in some], rows=rows, primary_term=1))
        if first % 1_000 == 0:
            shard.refresh()
    shard.refresh()
    chosen = random.Random(3).sample(keys, 700)
    known = set(keys)
    absent = [k + 1 for k in chosen if k + 1 not in known]
    asked = [*chosen, *absent]
    found = shard.get([str(k) for k in asked], ["c1", "c2", "_version"])
    assert found == [(k, f"t{k}", 1) for k in chosen] + [None] * len(absent)
    again = shard.write(WriteBatch(kind="delete", ids=[str(k) for k in asked], rows=None, primary_term=1))
    assert [row for row, _ in again.failures] == list(range(len(chosen), len(asked)))
    assert shard.get([str(k) for k in asked], ["c1"]) == [None] * len(asked)
    store.close()
