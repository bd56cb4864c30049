"""The write buffer: rows that are in the translog and not in a segment yet.

In: decided batches. Out: rows by id at once (``get`` is real time), all live rows in order for the next segment. It also
keeps what its writes did to older rows: those rows die for *searches* only when this buffer becomes a segment.

One thread writes (the shard's write lock), any thread reads: a row is complete before its id points to it. Row numbers
count from 0 in the buffer and never change; small batches are gathered into bigger ones behind them, so that neither a
refresh nor memory suffers from ten thousand one-row batches. Plain rows stay tuples until they become a segment.

Ids. Rows of small batches, and deletes, are in a dict by id; rows of big batches (:class:`~cratepy.storage.ids.IdArray`) in
a table by hash. The dict is newer wherever both know an id; in the table a row counts unless it is dead.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.model import compute as pc
from cratepy.records import dataclass
from cratepy.storage.blocks import (
    ID,
    PRIMARY_TERM,
    SEQ_NO,
    SYSTEM_FIELDS,
    VERSION,
    Block,
    conformed,
)
from cratepy.storage.hashing import hash_id, hash_ids
from cratepy.storage.heads import Heads, array_of
from cratepy.storage.id_index import ROW_BYTES as INDEXED_ROW_BYTES
from cratepy.storage.id_index import IdIndex
from cratepy.storage.ids import IdArray
from cratepy.storage.plain_rows import VALUE_BYTES, PlainBlock, PlainRow

#: Instead of a row: it was deleted, whatever segments say.
TOMBSTONE: Final = -1
#: Instead of a row, in arrays: the buffer does not know the id.
UNKNOWN: Final = -2

#: This many chunks of one level are joined into one of the next: 60 µs for chunks of one row.
_JOINED_CHUNKS: Final = 32
_NEVER_JOINED: Final = 2
#: Estimated bytes of an id in the dict, the list and the arrays; of a batch; and of each of its columns.
_ROW_BYTES: Final = 250
#: The same in an array and the table of hashes; the bytes of the id are in the payload.
_ARRAY_ROW_BYTES: Final = 24 + 8 + INDEXED_ROW_BYTES
_BATCH_BYTES: Final = 600
_COLUMN_BYTES: Final = 350


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The rows in order; replaced as a whole when some are joined. ``starts`` is appended to last: readers go by it."""

    starts: list[int]
    blocks: list[Block | PlainBlock]
    ids: list[list[str] | IdArray]
    heads: list[Heads]


class WriteBuffer:
    """See the module. ``rows_by_id`` holds live rows of small batches, and tombstones."""

    __slots__ = (
        "_chunks",
        "_index",
        "_unindexed",
        "buffered_bytes",
        "dead",
        "frozen_deletes",
        "row_count",
        "rows_by_id",
        "segment_deletes",
    )

    def __init__(self) -> None:
        self.rows_by_id: dict[str, int] = {}
        self._index = IdIndex()
        #: First row and ids of batches that are not in the index yet; see ``add``.
        self._unindexed: list[tuple[int, IdArray]] = []
        #: Rows, dead ones included.
        self.row_count = 0
        #: Rows of this buffer that were replaced or deleted.
        self.dead: set[int] = set()
        #: Rows of the buffer before this one (being written to a segment) that died since.
        self.frozen_deletes: list[int] = []
        #: Segment number → its rows that died since the last refresh.
        self.segment_deletes: dict[int, list[int]] = {}
        self.buffered_bytes = 0
        self._chunks = _Chunks([], [], [], [])

    @property
    def is_empty(self) -> bool:
        """Whether a refresh would change nothing."""
        return not self.row_count and not self.segment_deletes and not self.frozen_deletes

    def add(
        self,
        ids: Sequence[str],
        rows: pa.RecordBatch | PlainRow,
        *,
        first_seq_no: int,
        primary_term: int,
        versions: Sequence[int] | int,
        payload_bytes: int,
        is_looked_up: bool = True,
    ) -> None:
        """Append rows. The caller marks dead what they replace, afterwards; a repeated id: the last one counts.

        ``versions``: a single number stands for all of them. With ``is_looked_up`` False rows may be left out of the index
        until :meth:`complete`: replay of a log of inserts looks nothing up, and indexing was a third of its time.
        """
        if isinstance(rows, PlainRow):
            version = versions if isinstance(versions, int) else versions[0]
            self.add_row(ids[0], rows, (first_seq_no, primary_term, version), payload_bytes)
            return
        # A row must be in its block before its id is known.
        count, first = len(ids), self.row_count
        self.row_count += count
        chunks = self._chunks
        chunks.blocks.append(Block(rows))
        chunks.ids.append(ids if isinstance(ids, IdArray) else list(ids))
        chunks.heads.append(Heads.of_batch(first_seq_no, primary_term, versions, count))
        chunks.starts.append(first)
        self.buffered_bytes += payload_bytes + _BATCH_BYTES + rows.num_columns * _COLUMN_BYTES
        if isinstance(ids, IdArray):
            if is_looked_up:
                self.complete()
                self._index.add(first, ids.hashes)
            else:
                self._unindexed.append((first, ids))
            if self.rows_by_id:
                known = self.rows_by_id.keys() & ids.texts
                if known:
                    self.rows_by_id.update((text, first + row) for row, text in enumerate(ids.texts) if text in known)
            self.buffered_bytes += count * _ARRAY_ROW_BYTES
        else:
            self.rows_by_id.update(zip(ids, range(first, first + count), strict=True))
            self.buffered_bytes += count * _ROW_BYTES
        self._join_chunks()

    def complete(self) -> None:
        """Index what was added without; for the writer, before anybody looks an id up."""
        for first, ids in self._unindexed:
            self._index.add(first, ids.hashes)
        self._unindexed.clear()

    def add_row(self, id: str, row: PlainRow, head: tuple[int, int, int], payload_bytes: int) -> None:
        """:meth:`add` of one plain row; ``head``: sequence number, primary term, version."""
        number = self.row_count
        self.row_count = number + 1
        chunks = self._chunks
        last = chunks.blocks[-1] if chunks.blocks else None
        values = row.values
        # A row must be in its block before its id is known.
        if type(last) is PlainBlock and last.schema is row.schema:
            last.rows.append(values)
            chunks.ids[-1].append(id)  # type: ignore[union-attr]  # of a PlainBlock they are a list
            chunks.heads[-1].append(head)
        else:
            last = PlainBlock(row.schema)
            last.rows.append(values)
            chunks.blocks.append(last)
            chunks.ids.append([id])
            chunks.heads.append(Heads(*(array("q", (value,)) for value in head)))
            chunks.starts.append(number)
        self.rows_by_id[id] = number
        self.buffered_bytes += payload_bytes + _ROW_BYTES + len(values) * VALUE_BYTES

    # --- by id -------------------------------------------------------------------------------------------------------

    def find(self, id: str) -> int | None:
        """The live row of an id, TOMBSTONE, or None: not known here."""
        row = self.rows_by_id.get(id)
        if row is not None or not self._index.row_count:
            return row
        id_hash, seen = hash_id(id), UNKNOWN
        while True:
            newest = next((row for row in self._index.find(id_hash) if self.id_of(row) == id), UNKNOWN)
            if newest != UNKNOWN and newest not in self.dead:
                return newest
            row = self.rows_by_id.get(id)
            if row is not None or newest == seen:
                return row
            # A writer adds the newer row before it marks the older one dead, so if there is one it is in sight now.
            seen = newest

    @property
    def has_index(self) -> bool:
        """Whether rows are known by the hashes of their ids, too."""
        return self._index.row_count > 0

    def has_hash_of(self, hashes: np.ndarray) -> bool:
        """Whether a row of the index has one of the hashes."""
        return len(self._index.find_many(hashes)[0]) > 0

    def find_many(self, ids: IdArray) -> np.ndarray:
        """Per id its live row, TOMBSTONE or UNKNOWN (int64)."""
        found: np.ndarray = np.full(len(ids), UNKNOWN, dtype=np.int64)
        if self._index.row_count:
            places, rows = self._index.find_many(ids.hashes)
            if len(places):
                self._put_indexed(found, ids, places, rows)
        if self.rows_by_id:
            get = self.rows_by_id.get
            newer = np.fromiter((get(text, UNKNOWN) for text in ids.texts), dtype=np.int64, count=len(ids))
            found = np.where(newer == UNKNOWN, found, newer)
        return found

    def _put_indexed(self, found: np.ndarray, ids: IdArray, places: np.ndarray, rows: np.ndarray) -> None:
        """Into ``found`` the rows that have the id itself and are alive; ``rows`` have the hash of the id at ``places``."""
        chunks = self._chunks
        chunk_of = np.searchsorted(np.array(chunks.starts, dtype=np.int64), rows, side="right") - 1
        for chunk in np.unique(chunk_of).tolist():
            chosen = np.flatnonzero(chunk_of == chunk)
            there = IdArray.of(chunks.ids[chunk]).array.take(pa.array(rows[chosen] - chunks.starts[chunk]))
            is_same = pc.equal(there, ids.array.take(pa.array(places[chosen]))).to_numpy(zero_copy_only=False)
            dead = self.dead
            newest = zip(places[chosen].tolist(), rows[chosen].tolist(), is_same.tolist(), strict=True)
            for place, row, has_id in newest:
                if has_id and row not in dead:
                    found[place] = row
                else:
                    # Replaced or deleted, perhaps just now; or another id has the same hash.
                    other = self.find(ids[place])
                    found[place] = UNKNOWN if other is None else other

    def id_of(self, row: int) -> str:
        chunks = self._chunks
        at = bisect.bisect_right(chunks.starts, row) - 1
        return chunks.ids[at][row - chunks.starts[at]]

    def head(self, row: int) -> tuple[int, int, int]:
        """(seq_no, primary_term, version) of a row."""
        chunks = self._chunks
        at = bisect.bisect_right(chunks.starts, row) - 1
        heads, place = chunks.heads[at], row - chunks.starts[at]
        return int(heads.seq_nos[place]), int(heads.primary_terms[place]), int(heads.versions[place])

    def delete(self, id: str) -> None:
        """Hide an id: the row it had is marked dead by the caller, afterwards."""
        if id not in self.rows_by_id:
            self.buffered_bytes += _ROW_BYTES
        self.rows_by_id[id] = TOMBSTONE

    def _join_chunks(self) -> None:
        """Join the last ``_JOINED_CHUNKS`` chunks if they are of one size class: each row is copied twice at most."""
        chunks = self._chunks
        while len(chunks.blocks) >= _JOINED_CHUNKS:
            size_class = _size_class(chunks.blocks[-1])
            if size_class == _NEVER_JOINED or _size_class(chunks.blocks[-_JOINED_CHUNKS]) != size_class:
                return
            last = chunks.blocks[-_JOINED_CHUNKS:]
            schema = last[0].schema
            if any(_size_class(block) != size_class or not block.schema.equals(schema) for block in last):
                return
            self.buffered_bytes -= (_JOINED_CHUNKS - 1) * (_BATCH_BYTES + len(schema) * _COLUMN_BYTES)
            ids = _joined_ids(chunks.ids[-_JOINED_CHUNKS:])
            joined = Block(pa.concat_batches([block.batch for block in last]))
            # New lists: a reader that holds the old ones goes on with them.
            chunks = self._chunks = _Chunks(
                chunks.starts[: -_JOINED_CHUNKS + 1],
                [*chunks.blocks[:-_JOINED_CHUNKS], joined],
                [*chunks.ids[:-_JOINED_CHUNKS], ids],
                [*chunks.heads[:-_JOINED_CHUNKS], Heads.joined(chunks.heads[-_JOINED_CHUNKS:])],
            )

    def locate(self, row: int) -> tuple[Block | PlainBlock, int]:
        """The block of a row and the row's place in it."""
        chunks = self._chunks
        index = bisect.bisect_right(chunks.starts, row) - 1
        return chunks.blocks[index], row - chunks.starts[index]

    def versions_of(self, rows: np.ndarray) -> np.ndarray:
        """The versions of rows (int64); the caller holds the writers' lock."""
        chunks = self._chunks
        chunk_of = np.searchsorted(np.array(chunks.starts, dtype=np.int64), rows, side="right") - 1
        versions: np.ndarray = np.empty(len(rows), dtype=np.int64)
        for chunk in np.unique(chunk_of).tolist():
            chosen = np.flatnonzero(chunk_of == chunk)
            versions[chosen] = array_of(chunks.heads[chunk].versions)[rows[chosen] - chunks.starts[chunk]]
        return versions

    def system_value(self, row: int, source: str) -> Any:
        if source == ID:
            return self.id_of(row)
        if source == SEQ_NO:
            return self.head(row)[0]
        if source == VERSION:
            return self.head(row)[2]
        assert source == PRIMARY_TERM
        return self.head(row)[1]

    def live_rows(self) -> np.ndarray:
        """Row numbers that are not dead, ascending (int64)."""
        if not self.dead:
            return np.arange(self.row_count, dtype=np.int64)
        alive: np.ndarray = np.ones(self.row_count, dtype=bool)
        alive[np.fromiter(self.dead, dtype=np.int64, count=len(self.dead))] = False
        return np.flatnonzero(alive)

    def table(self, live: np.ndarray, schema: pa.Schema) -> pa.Table:
        """The rows ``live`` in ``schema`` (table columns, then system columns); a column a chunk lacks is NULL there."""
        columns = pa.schema([schema.field(i) for i in range(len(schema) - len(SYSTEM_FIELDS))])
        rows = pa.Table.from_batches([conformed(block.batch, columns) for block in self._chunks.blocks], columns)
        heads = Heads.joined(self._chunks.heads)
        system = [
            pa.chunked_array([IdArray.of(ids).array for ids in self._chunks.ids], pa.string()),
            pa.array(heads.seq_nos),
            pa.array(heads.primary_terms),
            pa.array(heads.versions),
        ]
        table = pa.table([*rows.columns, *system], schema=schema)
        return table if len(live) == self.row_count else table.take(pa.array(live))

    def hashes(self) -> np.ndarray:
        """The hash of each row's id."""
        parts = [ids.hashes if isinstance(ids, IdArray) else hash_ids(ids) for ids in self._chunks.ids]
        return np.concatenate(parts)

    def schemas(self) -> list[pa.Schema]:
        """The different schemas of the chunks."""
        found: list[pa.Schema] = []
        for block in self._chunks.blocks:
            if not any(block.schema.equals(schema) for schema in found[-1:]):
                found.append(block.schema)
        return found


def _joined_ids(parts: Sequence[list[str] | IdArray]) -> list[str] | IdArray:
    arrays = [part for part in parts if isinstance(part, IdArray)]
    if len(arrays) < len(parts):
        return [text for part in parts for text in part]
    return IdArray(
        pa.concat_arrays([part.array for part in arrays]), hashes=np.concatenate([part.hashes for part in arrays])
    )


def _size_class(block: Block | PlainBlock) -> int:
    rows = block.row_count
    if rows < _JOINED_CHUNKS:
        return 0
    return 1 if rows < _JOINED_CHUNKS * _JOINED_CHUNKS else _NEVER_JOINED
