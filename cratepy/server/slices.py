"""How many rows of a result are encoded at once: batch in, number out. Both protocols ask, so that both refuse the same rows."""

from __future__ import annotations

import pyarrow as pa

from cratepy import limits
from cratepy.errors import CircuitBreaking


def rows_per_slice(batch: pa.RecordBatch, size_bytes: int) -> int:
    """Rows whose values take about ``size_bytes``, at least one. Raises CircuitBreaking for rows no client should be sent."""
    row_bytes = max(1, batch.nbytes // batch.num_rows)
    if row_bytes > limits.RESULT_ROW_BYTES_MAX:
        raise CircuitBreaking(
            f"a row of the result has {row_bytes} bytes, more than the limit of {limits.RESULT_ROW_BYTES_MAX} bytes"
        )
    return max(1, min(limits.ENCODE_SLICE_ROWS, size_bytes // row_bytes))
