"""Many rows at once give what the same rows give one by one, whatever type, encoding and NULLs a column has."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cratepy.model.arrow import MS_PER_DAY, to_arrow
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    INTEGER,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
)
from cratepy.storage.operations import WriteBatch
from tests.storage.shards import open_shard, table

ROWS = 3_000
Make = Callable[[random.Random, int], Any]
COLUMNS: dict[str, tuple[DataType, Make]] = {
    "in sequence": (BIGINT, lambda chance, row: 7 * row - 5),
    "constant": (INTEGER, lambda chance, row: -3),
    "a byte": (BYTE, lambda chance, row: chance.randrange(-128, 128)),
    "narrow frame": (BIGINT, lambda chance, row: (1 << 60) + chance.randrange(200)),
    "wide frame": (SMALLINT, lambda chance, row: chance.randrange(-30_000, 30_000)),
    "frames of groups": (BIGINT, lambda chance, row: row * 1_000_003 + chance.randrange(99)),
    "wide": (BIGINT, lambda chance, row: chance.randrange(-(1 << 63), 1 << 63)),
    "few wide ones": (BIGINT, lambda chance, row: chance.choice([-(1 << 62), 0, 1 << 62])),
    "few floats": (DOUBLE, lambda chance, row: chance.choice([0.5, -1e300, 3.25])),
    "floats": (DOUBLE, lambda chance, row: chance.random()),
    "small floats": (REAL, lambda chance, row: chance.randrange(1_000) / 8),
    "booleans": (BOOLEAN, lambda chance, row: chance.random() < 0.5),
    "always true": (BOOLEAN, lambda chance, row: True),
    "times": (TIMESTAMPTZ, lambda chance, row: 1_700_000_000_000 + chance.randrange(1 << 40)),
    "days": (DATE, lambda chance, row: (19_000 + chance.randrange(3_000)) * MS_PER_DAY),
    "texts": (TEXT, lambda chance, row: f"t{chance.randrange(ROWS)}"),
    "nothing": (BIGINT, lambda chance, row: None),
    "nothing at first": (BIGINT, lambda chance, row: None if row < 1_000 else row),
}


@pytest.mark.parametrize("nulls", [0.0, 0.3])
@pytest.mark.parametrize("codec", ["default", "best_compression"])
def test_many_rows_are_read_as_single_ones(tmp_path: Path, codec: str, nulls: float) -> None:
    chance = random.Random(4)
    kinds = [data_type for data_type, _ in COLUMNS.values()]
    columns = [(f"n{place}", data_type) for place, data_type in enumerate(kinds)]
    shard = open_shard(tmp_path / "s", definition=table(columns, settings={"codec": codec}))
    made = [
        tuple(None if chance.random() < nulls else make(chance, row) for _, make in COLUMNS.values())
        for row in range(ROWS)
    ]
    for first in range(0, ROWS, 1_000):
        ids = [f"k{row}" for row in range(first, first + 1_000)]
        some = made[first : first + 1_000]
        arrays = [to_arrow([row[place] for row in some], kind, at_rest=True) for place, kind in enumerate(kinds)]
        batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{place + 1}" for place in range(len(kinds))])
        assert not shard.write(WriteBatch(kind="insert", ids=ids, rows=batch, primary_term=1)).failures
        if first:
            shard.refresh()
    shard.refresh()
    for _ in range(5):
        asked = chance.sample(range(-50, ROWS), 400)
        sources = [f"c{place + 1}" for place in range(len(columns))] + ["_id", "_seq_no", "_version"]
        expected = [None if row < 0 else (*made[row], f"k{row}", row, 1) for row in asked]
        found = shard.get([f"k{row}" for row in asked], sources)
        assert found == expected
        types = {type(value) for row in found if row is not None for value in row}
        assert types <= {int, float, bool, str, type(None)}
        assert found == [shard.get([f"k{row}"], sources)[0] for row in asked]
    shard.optimize(max_num_segments=1)
    asked = list(range(ROWS))
    assert shard.get([f"k{row}" for row in asked], sources) == [(*made[row], f"k{row}", row, 1) for row in asked]
    shard.close()
