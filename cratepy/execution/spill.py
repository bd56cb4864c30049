"""Rows that wait for a phase to start: in memory up to a bound, then in a file.

In: batches, in order. Out: the same batches. The file is an Arrow IPC stream that has no name on disk from the start, so
nothing is left behind however the process ends; it is memory-mapped for reading, so its rows are not copied back to the
heap. The bound of the file is ``limits.EXCHANGE_FILE_BYTES_MAX``; over it the statement fails with CircuitBreaking.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyarrow as pa

from cratepy import limits
from cratepy.errors import CircuitBreaking, DiskFull
from cratepy.execution.batches import batch_bytes, compact
from cratepy.execution.cpu import Workers


class BatchBuffer:
    """Batches of one schema. One task adds at a time; :meth:`close` is the owner's to call."""

    def __init__(
        self,
        *,
        workers: Workers,
        spill_path: Path,
        memory_bytes_max: int,
        on_growth: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._workers = workers
        self._spill_path = spill_path
        self._memory_bytes_max = memory_bytes_max
        self._on_growth = on_growth
        self._batches: list[pa.RecordBatch] = []
        self._file: IO[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self.memory_bytes = 0
        self.file_bytes = 0

    async def add(self, batch: pa.RecordBatch) -> None:
        """Keep the batch. Raises CircuitBreaking or DiskFull if it fits nowhere."""
        size = batch_bytes(batch)
        if self._writer is None and self.memory_bytes + size <= self._memory_bytes_max:
            self._batches.append(batch)
            self.memory_bytes += size
            self._on_growth(self.memory_bytes)
            return
        if self.file_bytes + size > limits.EXCHANGE_FILE_BYTES_MAX:
            raise CircuitBreaking(
                f"[exchange] Data too large: the rows between two phases would need more than the limit of "
                f"[{limits.EXCHANGE_FILE_BYTES_MAX}b] on disk"
            )
        await self._workers.files(self._write, batch)
        self.file_bytes += size

    async def batches(self) -> list[pa.RecordBatch]:
        """All batches in the order they came; nothing can be added afterwards."""
        if self._writer is None:
            return self._batches
        return self._batches + await self._workers.files(self._read)

    def close(self) -> None:
        """Let go of memory and file; batches given out stay readable."""
        self._batches = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, batch: pa.RecordBatch) -> None:
        try:
            if self._writer is None:
                self._spill_path.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._spill_path)  # noqa: SIM115 - closed by close()
                options = pa.ipc.IpcWriteOptions(unify_dictionaries=False)
                self._writer = pa.ipc.new_stream(self._file, batch.schema, options=options)
            self._writer.write_batch(compact(batch))
        except OSError as error:
            raise DiskFull(f"cannot write the rows between two phases to {self._spill_path}: {error}") from error

    def _read(self) -> list[pa.RecordBatch]:
        assert self._file is not None
        assert self._writer is not None
        self._writer.close()
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        with pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))) as reader:
            return list(reader)
