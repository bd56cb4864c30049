"""Results are encoded in slices of bounded size; a row that is too big is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import CircuitBreaking
from cratepy.server.slices import rows_per_slice


def _batch(rows: int, size: int) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array(["x" * size] * rows)})


def test_slices_are_as_big_as_asked_for_and_have_a_row_at_least() -> None:
    assert 90 <= rows_per_slice(_batch(1_000, 100), 10_000) <= 100
    assert rows_per_slice(_batch(10, 1_000), 10) == 1
    assert rows_per_slice(_batch(100_000, 1), 1 << 40) == limits.ENCODE_SLICE_ROWS


def test_a_row_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESULT_ROW_BYTES_MAX", 1_000)
    with pytest.raises(
        CircuitBreaking, match=r"a row of the result has 20\d\d bytes, more than the limit of 1000 bytes"
    ):
        rows_per_slice(_batch(3, 2_000), 10_000)
