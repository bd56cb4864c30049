"""Kernels over arrays agree with the functions of one row."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from cratepy.functions.arrow_kernels import truncated_timestamps
from cratepy.functions.evaluate import row_function
from cratepy.model.types import TEXT, TIMESTAMP

_YEAR_MS = 366 * 86_400_000


@pytest.mark.parametrize("unit", ["second", "minute", "hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize("span_ms", [3 * 86_400_000, 3 * _YEAR_MS, 400 * _YEAR_MS], ids=["days", "years", "centuries"])
def test_timestamps_are_truncated_as_one_by_one(unit: str, span_ms: int) -> None:
    chance = random.Random(unit)
    rows = [chance.randrange(-span_ms, span_ms) for _ in range(2_000)]
    values = [-1, 0, 1, None, -86_400_000, *rows]
    truncate = row_function("date_trunc", (TEXT, TIMESTAMP), TIMESTAMP)
    found = truncated_timestamps(pa.array([unit] * len(values)), pa.array(values, pa.timestamp("ms")))
    assert found is not None
    wanted = [None if value is None else truncate(unit, value) for value in values]
    assert found.cast(pa.int64()).to_pylist() == wanted
