"""The write buffer: rows that are in the translog and not in a segment yet.

In: decided batches. Out: rows by id at once (``get`` is real time), all live rows in order for the next segment. It also
keeps what its writes did to older rows: those rows die for *searches* only when this buffer becomes a segment.

One thread writes (the shard's write lock), any thread reads: a row is complete before its id points to it. Row numbers
count from 0 in the buffer and never change; small batches are gathered into bigger ones behind them, so that neither a
refresh nor memory suffers from ten thousand one-row batches. Plain rows stay tuples until they become a segment.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.storage.blocks import (
    ID,
    PRIMARY_TERM,
    SEQ_NO,
    SYSTEM_FIELDS,
    VERSION,
    Block,
    conformed,
)
from cratepy.storage.plain_rows import VALUE_BYTES, PlainBlock, PlainRow

#: In ``rows_by_id``: the row was deleted, whatever segments say.
TOMBSTONE: Final = -1

#: This many chunks of one level are joined into one of the next: 60 µs for chunks of one row.
_JOINED_CHUNKS: Final = 32
_NEVER_JOINED: Final = 2
#: Estimated bytes of an id in the dict, the list and the arrays; of a batch; and of each of its columns.
_ROW_BYTES: Final = 250
_BATCH_BYTES: Final = 600
_COLUMN_BYTES: Final = 350


class WriteBuffer:
    """See the module. ``rows_by_id`` holds live rows and tombstones."""

    __slots__ = (
        "_chunks",
        "buffered_bytes",
        "dead",
        "frozen_deletes",
        "ids",
        "primary_terms",
        "rows_by_id",
        "segment_deletes",
        "seq_nos",
        "versions",
    )

    def __init__(self) -> None:
        self.rows_by_id: dict[str, int] = {}
        self.ids: list[str] = []
        self.seq_nos = array("q")
        self.primary_terms = array("q")
        self.versions = array("q")
        #: Rows of this buffer that were replaced or deleted.
        self.dead: set[int] = set()
        #: Rows of the buffer before this one (being written to a segment) that died since.
        self.frozen_deletes: list[int] = []
        #: Segment number → its rows that died since the last refresh.
        self.segment_deletes: dict[int, list[int]] = {}
        self.buffered_bytes = 0
        #: (first rows, blocks), replaced as a whole when chunks are joined.
        self._chunks: tuple[list[int], list[Block | PlainBlock]] = ([], [])

    @property
    def row_count(self) -> int:
        """Rows, dead ones included."""
        return len(self.ids)

    @property
    def is_empty(self) -> bool:
        """Whether a refresh would change nothing."""
        return not self.ids and not self.segment_deletes and not self.frozen_deletes

    def add(
        self,
        ids: Sequence[str],
        rows: pa.RecordBatch | PlainRow,
        *,
        first_seq_no: int,
        primary_term: int,
        versions: Sequence[int],
        payload_bytes: int,
    ) -> None:
        """Append rows. A row replaced by one of them was marked dead by the caller; a repeated id: the last one counts."""
        count = len(ids)
        first = len(self.ids)
        if count == 1:
            self.seq_nos.append(first_seq_no)
            self.primary_terms.append(primary_term)
            self.versions.append(versions[0])
        else:
            # From bytes: `extend` takes 0.1 µs a number.
            self.seq_nos.frombytes(np.arange(first_seq_no, first_seq_no + count, dtype=np.int64).tobytes())
            self.primary_terms.frombytes(np.full(count, primary_term, dtype=np.int64).tobytes())
            self.versions.frombytes(np.array(versions, dtype=np.int64).tobytes())
        self.ids.extend(ids)
        starts, blocks = self._chunks
        if isinstance(rows, PlainRow):
            # The row must be in its block before its id is known.
            last = blocks[-1] if blocks else None
            if not isinstance(last, PlainBlock) or last.schema is not rows.schema:
                last = PlainBlock(rows.schema)
                blocks.append(last)
                starts.append(first)
            last.rows.append(rows.values)
            self.rows_by_id[ids[0]] = first
            self.buffered_bytes += payload_bytes + _ROW_BYTES + len(rows.values) * VALUE_BYTES
            return
        blocks.append(Block(rows))
        starts.append(first)
        if count == 1:
            self.rows_by_id[ids[0]] = first
        else:
            self.rows_by_id.update(zip(ids, range(first, first + count), strict=True))
        self.buffered_bytes += payload_bytes + count * _ROW_BYTES + _BATCH_BYTES + rows.num_columns * _COLUMN_BYTES
        self._join_chunks()

    def delete(self, id: str) -> None:
        """Hide an id: the row it had was marked dead by the caller."""
        if id not in self.rows_by_id:
            self.buffered_bytes += _ROW_BYTES
        self.rows_by_id[id] = TOMBSTONE

    def _join_chunks(self) -> None:
        """Join the last ``_JOINED_CHUNKS`` chunks if they are of one size class: each row is copied twice at most."""
        starts, blocks = self._chunks
        while len(blocks) >= _JOINED_CHUNKS:
            size_class = _size_class(blocks[-1])
            if size_class == _NEVER_JOINED or _size_class(blocks[-_JOINED_CHUNKS]) != size_class:
                return
            last = blocks[-_JOINED_CHUNKS:]
            schema = last[0].schema
            if any(_size_class(block) != size_class or not block.schema.equals(schema) for block in last):
                return
            self.buffered_bytes -= (_JOINED_CHUNKS - 1) * (_BATCH_BYTES + len(schema) * _COLUMN_BYTES)
            # New lists: a reader that holds the old pair goes on with it.
            starts = starts[: -_JOINED_CHUNKS + 1]
            blocks = [*blocks[:-_JOINED_CHUNKS], Block(pa.concat_batches([block.batch for block in last]))]
            self._chunks = (starts, blocks)

    def locate(self, row: int) -> tuple[Block | PlainBlock, int]:
        """The block of a row and the row's place in it."""
        starts, blocks = self._chunks
        index = bisect.bisect_right(starts, row) - 1
        return blocks[index], row - starts[index]

    def system_value(self, row: int, source: str) -> Any:
        if source == ID:
            return self.ids[row]
        if source == SEQ_NO:
            return self.seq_nos[row]
        if source == VERSION:
            return self.versions[row]
        assert source == PRIMARY_TERM
        return self.primary_terms[row]

    def live_rows(self) -> np.ndarray:
        """Row numbers that are not dead, ascending (int64)."""
        if not self.dead:
            return np.arange(len(self.ids), dtype=np.int64)
        alive: np.ndarray = np.ones(len(self.ids), dtype=bool)
        alive[np.fromiter(self.dead, dtype=np.int64, count=len(self.dead))] = False
        return np.flatnonzero(alive)

    def table(self, live: np.ndarray, schema: pa.Schema) -> pa.Table:
        """The rows ``live`` in ``schema`` (table columns, then system columns); a column a chunk lacks is NULL there."""
        columns = pa.schema([schema.field(i) for i in range(len(schema) - len(SYSTEM_FIELDS))])
        rows = pa.Table.from_batches([conformed(block.batch, columns) for block in self._chunks[1]], columns)
        system = [
            pa.array(self.ids, pa.string()),
            pa.array(np.frombuffer(self.seq_nos, dtype=np.int64)),
            pa.array(np.frombuffer(self.primary_terms, dtype=np.int64)),
            pa.array(np.frombuffer(self.versions, dtype=np.int64)),
        ]
        # The numpy views pin the size of the arrays behind them: a frozen buffer does not grow any more.
        table = pa.table([*rows.columns, *system], schema=schema)
        return table if len(live) == len(self.ids) else table.take(pa.array(live))

    def schemas(self) -> list[pa.Schema]:
        """The different schemas of the chunks."""
        found: list[pa.Schema] = []
        for block in self._chunks[1]:
            if not any(block.schema.equals(schema) for schema in found[-1:]):
                found.append(block.schema)
        return found


def _size_class(block: Block | PlainBlock) -> int:
    rows = block.row_count
    if rows < _JOINED_CHUNKS:
        return 0
    return 1 if rows < _JOINED_CHUNKS * _JOINED_CHUNKS else _NEVER_JOINED
