"""What executing a statement gives back: a count, a few rows, or a stream of batches.

In: what a service made. Out: :class:`Result`, read by the session. A Result with a stream owns its job: it has to be
drained, fail, or be closed with :meth:`Result.aclose`; until then the job stands in sys.jobs. Batches have the in-flight
schema (``c<id>`` fields of ``columns``). It is its own room because every service makes Results and the server reads them.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from cratepy.errors import CrateError
from cratepy.model.relations import OutputColumn
from cratepy.records import dataclass

#: ``rowcount`` of what has no number of rows (ALTER, or a stream that is not drained).
UNKNOWN_ROWS = -1


class BatchSource(Protocol):
    """Where a Result's batches come from: a job that runs on while they are read."""

    async def receive(self) -> pa.RecordBatch | None:
        """The next batch; None at the end. Raises the CrateError that ended the job."""

    async def aclose(self) -> None:
        """Stop the job; returns when it is gone. May be called at any time, more than once."""


@dataclass(frozen=True, slots=True)
class BulkItem:
    """The outcome of one parameter row of a bulk write. ``rowcount`` is 0 if there is an error."""

    rowcount: int
    error: CrateError | None = None


def runs_of(items: Sequence[BulkItem]) -> Iterator[tuple[BulkItem, int]]:
    """Neighbours that are the same object, as one with their number: mostly all of them are."""
    if items and all(map(partial(operator.is_, items[0]), items)):
        yield items[0], len(items)
    else:
        yield from ((item, 1) for item in items)


class Result:
    """The outcome of one statement.

    ``columns`` is None for a statement without a result set; then ``rowcount`` is final. With columns the rows are
    either in ``rows`` (SQL values, the short way of gets and other small answers) or come from :meth:`receive`;
    ``rowcount`` counts what was received and is final at the end.
    """

    def __init__(
        self,
        *,
        columns: tuple[OutputColumn, ...] | None = None,
        rowcount: int = UNKNOWN_ROWS,
        rows: list[tuple[Any, ...]] | None = None,
        batches: Iterable[pa.RecordBatch] = (),
        source: BatchSource | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        assert rows is None or columns is not None, "rows without columns"
        self.columns = columns
        self.rows = rows
        self.notices = notices
        self._ready = deque(batches)
        self._source = source
        if rows is not None:
            rowcount = len(rows)
        elif columns is not None and source is None:
            rowcount = sum(batch.num_rows for batch in self._ready)
        self.rowcount = rowcount

    async def receive(self) -> pa.RecordBatch | None:
        """The next batch of rows, never an empty one; None at the end. Raises the CrateError that ended the job.

        Not for a Result with ``rows``. Cancelling the caller while it waits here stops the job.
        """
        if self._ready:
            batch = self._ready.popleft()
            if self._source is not None:
                self._count(batch)
            return batch
        if self._source is None:
            return None
        batch = await self._source.receive()
        if batch is None:
            self._source = None
            self.rowcount = max(self.rowcount, 0)
        else:
            self._count(batch)
        return batch

    async def aclose(self) -> None:
        """Stop the job, if there is one that still runs. May be called more than once, and after the end."""
        self._ready.clear()
        source, self._source = self._source, None
        if source is not None:
            await source.aclose()

    def _count(self, batch: pa.RecordBatch) -> None:
        self.rowcount = max(self.rowcount, 0) + batch.num_rows
