"""A segment: rows that never change, in a directory that is written once and memory-mapped.

    columns         magic (8) | format (u32) | zero (u32) | pieces, each at a multiple of 64: one column of one block,
                    encoded and, with the codec ``best_compression``, compressed
    meta            magic (8) | format (u32) | zero (u32) | msgpack: the columns' names and types, the blocks' rows, and for
                    each piece where it is, its checksum, its encoding, smallest and largest value and NULL count
    ids             magic (8) | rows (u64) | sorted 32-bit hashes of ``_id`` (u32 each) | row of each hash (u32 each)
    deletes-<gen>   roaring bitmap of dead rows; written by flush, only the newest counts

In: batches, or a manifest entry. Out: blocks, and rows by id. Later parts (text index) are more files of the entry. Which
rows are dead is not the segment's knowledge: it changes, and readers hold their own version of it. What is checked when:
sizes of all files, checksums of ``meta``, ``ids`` and deletes at open; of each piece when it is first read.
"""

from __future__ import annotations

import bisect
import math
import operator
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy.errors import ShardFailed
from cratepy.model.types import TEXT
from cratepy.storage.blocks import ID
from cratepy.storage.columns import ColumnCache
from cratepy.storage.encoding import Encoding, Piece, is_fixed
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.gathering import Located, NumberColumn
from cratepy.storage.hashing import checksum_of
from cratepy.storage.ids import IdArray
from cratepy.storage.manifest import FileEntry, SegmentEntry
from cratepy.storage.operations import ColumnRange
from cratepy.storage.statistics import BlockStatistics, may_match
from cratepy.storage.stored import StoredBlock, StoredColumns

#: In the manifest's entry and in the head of ``columns`` and ``meta``.
FORMAT: Final = 2
PREFIX: Final = "seg-"
COLUMNS: Final = "columns"
META: Final = "meta"
IDS: Final = "ids"
DELETES_PREFIX: Final = "deletes-"

COLUMNS_MAGIC: Final = b"CRPYCOLS"
META_MAGIC: Final = b"CRPYMETA"
IDS_MAGIC: Final = b"CRPYIDS2"
HEADER: Final = struct.Struct("<8sII")
IDS_HEADER: Final = struct.Struct("<8sQ")
_IS_TABLE_COLUMN: Final = re.compile("c[0-9]+").fullmatch


class BlockMeta(msgspec.Struct, frozen=True, array_like=True):
    rows: int
    #: One per column of the schema, in its order.
    pieces: list[Piece]


class SegmentMeta(msgspec.Struct, frozen=True, array_like=True):
    #: Arrow IPC schema message: names and types at rest.
    schema: bytes
    blocks: list[BlockMeta]
    codec: str


#: Made at import: see the decoder of the manifest.
_decode_meta: Final = msgspec.msgpack.Decoder(SegmentMeta).decode


#: From so many rows on numbers are gathered; fewer are read cell by cell.
GATHERED_ROWS_MIN: Final = 16


def segment_name(number: int) -> str:
    return f"{PREFIX}{number}"


class Segment:
    """An open segment. Immutable and safe on all threads; the maps live as long as the object or arrays from it."""

    __slots__ = (
        "_columns",
        "_filter",
        "_filter_shift",
        "_numbers",
        "_row_of_hash",
        "_spread",
        "_starts",
        "blocks",
        "codec",
        "entry",
        "hashes",
        "key",
        "key_source",
        "number",
        "rows",
        "starts",
    )

    def __init__(
        self,
        entry: SegmentEntry,
        meta: SegmentMeta,
        *,
        columns: pa.Buffer,
        ids: pa.Buffer,
        path: Path,
        cache: ColumnCache,
    ) -> None:
        self.entry = entry
        self.number = entry.number
        self.rows = entry.rows
        #: What it was written with.
        self.codec = meta.codec
        self._spread = 4 * math.isqrt(entry.rows) + 8
        #: Identity for caches: a number may be used again after a crash, an object never.
        self.key = object()
        schema = pa.ipc.read_schema(pa.py_buffer(meta.schema))
        self._columns = StoredColumns(columns, schema, path=str(path / COLUMNS), cache=cache, key=self.key)
        self.blocks = tuple(
            StoredBlock(self._columns, index, block.rows, block.pieces) for index, block in enumerate(meta.blocks)
        )
        starts = [0]
        for block in self.blocks:
            starts.append(starts[-1] + block.row_count)
        #: First row of each block, and the number of rows at the end.
        self.starts = starts
        self._starts: np.ndarray = np.array(starts, dtype=np.int64)
        #: Numeric columns, and whether the checksum of each block's piece was right; None: the column is none.
        self._numbers: dict[str, tuple[NumberColumn, np.ndarray] | None] = {}
        #: The column of numbers whose text all ids are, if there is one.
        self.key_source = self._key_source()
        view = memoryview(ids).cast("B")
        magic, rows = IDS_HEADER.unpack_from(view)
        middle = IDS_HEADER.size + 4 * rows
        if magic != IDS_MAGIC or rows != self.rows or starts[-1] != rows or len(view) != middle + 4 * rows:
            raise ShardFailed(f"{path} is damaged: its files disagree about the number of rows")
        #: Sorted.
        self.hashes = view[IDS_HEADER.size : middle].cast("I")
        self._row_of_hash = view[middle:].cast("I")
        self._filter_shift, self._filter = _hash_filter(np.frombuffer(self.hashes, dtype=np.uint32))

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.entry.files)

    @property
    def schema(self) -> pa.Schema:
        """Names and types at rest of the columns."""
        return self._columns.schema

    def locate(self, row: int) -> tuple[StoredBlock, int]:
        """The block of a row and the row's place in it."""
        index = bisect.bisect_right(self.starts, row) - 1
        return self.blocks[index], row - self.starts[index]

    # --- statistics --------------------------------------------------------------------------------------------------

    def statistics(self, source: str) -> list[BlockStatistics] | None:
        """Of each block; None if nothing is known."""
        place = self._columns.places.get(source)
        if place is not None:
            pieces = [(block.pieces[place], block.row_count) for block in self.blocks]
            return [BlockStatistics(p.minimum, p.maximum, p.null_count, rows) for p, rows in pieces]
        if _IS_TABLE_COLUMN(source):
            # The column was added later.
            return [BlockStatistics(None, None, block.row_count, block.row_count) for block in self.blocks]
        return None

    def may_match(self, index: int, ranges: Iterable[ColumnRange]) -> bool:
        """Whether some row of the ``index``-th block may be in all of the ranges; when in doubt it may."""
        block = self.blocks[index]
        for wanted in ranges:
            place = self._columns.places.get(wanted.source)
            if place is not None:
                piece = block.pieces[place]
                known = BlockStatistics(piece.minimum, piece.maximum, piece.null_count, block.row_count)
            elif _IS_TABLE_COLUMN(wanted.source):
                known = BlockStatistics(None, None, block.row_count, block.row_count)
            else:
                continue
            if not may_match(known, wanted):
                return False
        return True

    # --- rows by id --------------------------------------------------------------------------------------------------

    def find(self, id_hash: int, id: str) -> int:
        """The row of an id, or -1. About 1.5 µs in a million rows."""
        bucket = id_hash >> self._filter_shift
        if not self._filter[bucket >> 3] >> (bucket & 7) & 1:
            return -1
        hashes = self.hashes
        # Hashes are uniform: the place is known to about the square root of the rows, so the search stays in a few pages.
        guess = id_hash * self.rows >> 32
        low, high = max(guess - self._spread, 0), min(guess + self._spread, self.rows)
        if (low > 0 and hashes[low] >= id_hash) or (high < self.rows and hashes[high] < id_hash):
            low, high = 0, self.rows
        at = bisect.bisect_left(hashes, id_hash, low, high)
        while at < self.rows and hashes[at] == id_hash:
            row = self._row_of_hash[at]
            block, place = self.locate(row)
            if block.reader(ID, TEXT)(place) == id:
                return row
            at += 1
        return -1

    def find_many(self, sorted_hashes: np.ndarray, order: np.ndarray, ids: IdArray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in ``ids`` and rows of the ids found (int64), rows ascending.

        ``sorted_hashes`` are the ids' hashes, ``order`` their positions. About 0.5 µs a found id, 0.2 µs one that is not.
        """
        nothing: np.ndarray = np.empty(0, dtype=np.int64)
        buckets = sorted_hashes >> np.uint32(self._filter_shift)
        bits = np.frombuffer(self._filter, np.uint8)[buckets >> 3] >> (buckets & 7).astype(np.uint8) & 1
        maybe = np.flatnonzero(bits)
        if not len(maybe):
            return nothing, nothing
        wanted = sorted_hashes[maybe]
        hashes = np.frombuffer(self.hashes, dtype=np.uint32)
        first = hashes.searchsorted(wanted)
        # A hash is there once, as a rule: where equal ones follow each row is a candidate.
        candidates: np.ndarray = np.flatnonzero(first < self.rows)
        candidates = candidates[hashes[first[candidates]] == wanted[candidates]]
        found, of = [first[candidates]], [candidates]
        while len(candidates):
            after = found[-1] + 1
            is_same = after < self.rows
            is_same[is_same] = hashes[after[is_same]] == wanted[of[-1][is_same]]
            candidates = of[-1][is_same]
            found.append(after[is_same])
            of.append(candidates)
        rows = np.frombuffer(self._row_of_hash, dtype=np.uint32)[np.concatenate(found)].astype(np.int64)
        by_row = np.argsort(rows)
        rows, places = rows[by_row], order[maybe[np.concatenate(of)[by_row]]]
        is_right = self._have_ids(rows, ids, places)
        return places[is_right], rows[is_right]

    def _have_ids(self, rows: np.ndarray, ids: IdArray, places: np.ndarray) -> np.ndarray:
        """Whether these rows, ascending, have the ids at ``places``."""
        if self.key_source is not None and len(rows) >= GATHERED_ROWS_MIN and ids.numbers is not None:
            located = self.locate_many(rows)
            column = self.number_column(self.key_source, located)
            keys = None if column is None else column.numbers(located)
            if keys is not None:
                same: np.ndarray = keys == ids.numbers[places]
                return same
        texts = ids.texts
        row_list, wanted = rows.tolist(), [texts[place] for place in places.tolist()]
        stored: list[str] = []
        for block, start, end in self.ranges(row_list):
            read, shift = self.blocks[block].reader(ID, TEXT), self.starts[block]
            stored += [read(row - shift) for row in row_list[start:end]]
        if wanted == stored:
            return np.ones(len(rows), dtype=bool)
        return np.fromiter(map(operator.eq, wanted, stored), dtype=bool, count=len(rows))

    # --- many rows ---------------------------------------------------------------------------------------------------

    def locate_many(self, rows: np.ndarray) -> Located:
        blocks: np.ndarray = np.asarray(self._starts.searchsorted(rows, side="right")) - 1
        return Located(blocks, rows - self._starts[blocks])

    def number_column(self, source: str, rows: Located) -> NumberColumn | None:
        """A numeric column, to be read at these rows; None: it is of another kind or not in this segment."""
        known = self._numbers.get(source)
        if known is None:
            if source in self._numbers or source not in self._columns.places:
                return None
            known = self._numbers[source] = self._made_numbers(source)
            if known is None:
                return None
        column, is_checked = known
        if not is_checked[rows.blocks].all():
            for block in np.unique(rows.blocks).tolist():
                self.blocks[block].check(source)
                is_checked[block] = True
        return column

    def _made_numbers(self, source: str) -> tuple[NumberColumn, np.ndarray] | None:
        place = self._columns.places[source]
        at_rest = self.schema.field(place).type
        if not NumberColumn.knows(at_rest):
            return None
        pieces = [(block.pieces[place], block.row_count) for block in self.blocks]
        return NumberColumn(self._columns.data, pieces, at_rest), np.zeros(len(self.blocks), dtype=bool)

    def _key_source(self) -> str | None:
        place = self._columns.places[ID]
        source = self.blocks[0].pieces[place].source
        pieces = (block.pieces[place] for block in self.blocks)
        if any(piece.encoding is not Encoding.SAME or piece.source != source for piece in pieces):
            return None
        return source if is_fixed(self.schema.field(source).type) else None

    def ranges(self, rows: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """(block, start, end) of the parts of ascending ``rows`` that are in one block each."""
        start = 0
        while start < len(rows):
            block = bisect.bisect_right(self.starts, rows[start]) - 1
            end = bisect.bisect_left(rows, self.starts[block + 1], start)
            yield block, start, end
            start = end

    def hashes_by_row(self) -> np.ndarray:
        """uint32 per row, in row order: what a merge needs to write ``ids`` without hashing again."""
        by_row: np.ndarray = np.empty(self.rows, dtype=np.uint32)
        by_row[np.frombuffer(self._row_of_hash, dtype=np.uint32)] = np.frombuffer(self.hashes, dtype=np.uint32)
        return by_row


def _hash_filter(hashes: np.ndarray) -> tuple[int, bytes]:
    """(shift, bits): bit ``hash >> shift`` is set for every hash; 1 to 2 bytes a row, 1 of 8 unknown ids passes at most.

    It makes a miss five times cheaper than a search, and most lookups in most segments are misses.
    """
    width = min(max(3, (8 * len(hashes)).bit_length()), 32)
    is_set: np.ndarray = np.zeros(1 << width, dtype=bool)
    is_set[hashes >> np.uint32(32 - width)] = True
    return 32 - width, np.packbits(is_set, bitorder="little").tobytes()


# --- reading ---------------------------------------------------------------------------------------------------------


def open_segment(files: FileSystem, directory: Path, entry: SegmentEntry, cache: ColumnCache) -> Segment:
    """Open by manifest entry; raises ShardFailed for damage and for another format."""
    target = directory / segment_name(entry.number)
    if entry.format != FORMAT:
        raise ShardFailed(f"{target} has format {entry.format}; this version reads format {FORMAT}")
    for file in entry.files:
        path = target / file.name
        if not files.exists(path) or files.size(path) != file.size:
            raise ShardFailed(f"{path} is damaged: it is missing or not {file.size} bytes long")
    by_name = {file.name: file for file in entry.files}
    columns = files.map(target / COLUMNS)
    ids = _map_checked(files, target, by_name[IDS])
    encoded = _map_checked(files, target, by_name[META])
    for name, data, magic in ((COLUMNS, columns, COLUMNS_MAGIC), (META, encoded, META_MAGIC)):
        if data.slice(0, HEADER.size).to_pybytes() != HEADER.pack(magic, FORMAT, 0):
            raise ShardFailed(f"{target / name} is damaged: it does not begin with {magic!r} and format {FORMAT}")
    try:
        meta = _decode_meta(memoryview(encoded)[HEADER.size :])
        return Segment(entry, meta, columns=columns, ids=ids, path=target, cache=cache)
    except (pa.ArrowException, msgspec.MsgspecError) as error:
        raise ShardFailed(f"{target} is damaged: {error}") from error


def read_deletes(files: FileSystem, directory: Path, entry: SegmentEntry) -> BitMap | None:
    if entry.deletes is None:
        return None
    data = _map_checked(files, directory / segment_name(entry.number), entry.deletes)
    return BitMap.deserialize(data.to_pybytes())


def verify_segment(files: FileSystem, directory: Path, entry: SegmentEntry) -> None:
    """Read every file and compare checksums; raises ShardFailed naming the first that differs."""
    target = directory / segment_name(entry.number)
    for file in (*entry.files, *(() if entry.deletes is None else (entry.deletes,))):
        _map_checked(files, target, file)


def _map_checked(files: FileSystem, directory: Path, entry: FileEntry) -> pa.Buffer:
    path = directory / entry.name
    if not files.exists(path):
        raise ShardFailed(f"{path} is missing")
    data = files.map(path)
    if data.size != entry.size or checksum_of(data) != entry.checksum:
        raise ShardFailed(f"{path} is damaged: its checksum does not match")
    return data
