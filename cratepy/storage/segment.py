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
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.model.types import TEXT
from cratepy.storage.blocks import BEST_COMPRESSION, ID, Layout
from cratepy.storage.columns import ColumnCache
from cratepy.storage.encoding import Piece, encode
from cratepy.storage.filesystem import AppendFile, FileSystem
from cratepy.storage.hashing import checksum_of
from cratepy.storage.ids import IdArray
from cratepy.storage.manifest import FileEntry, SegmentEntry
from cratepy.storage.operations import ColumnRange
from cratepy.storage.statistics import BlockStatistics, may_match, value_bounds
from cratepy.storage.stored import ZSTD, KeptBlock, StoredBlock, StoredColumns

#: In the manifest's entry and in the head of ``columns`` and ``meta``.
FORMAT: Final = 2
PREFIX: Final = "seg-"
COLUMNS: Final = "columns"
META: Final = "meta"
IDS: Final = "ids"
DELETES_PREFIX: Final = "deletes-"

_COLUMNS_MAGIC: Final = b"CRPYCOLS"
_META_MAGIC: Final = b"CRPYMETA"
_IDS_MAGIC: Final = b"CRPYIDS2"
_HEADER: Final = struct.Struct("<8sII")
_IDS_HEADER: Final = struct.Struct("<8sQ")
_PIECE_ALIGNMENT: Final = 64
#: Parts of a file are gathered up to this before a system call.
_WRITE_BYTES: Final = 256 * limits.KIB
#: Compression is kept if it saves an eighth.
_COMPRESSED_WORTH: Final = 7 / 8
_IS_TABLE_COLUMN: Final = re.compile("c[0-9]+").fullmatch


class _BlockMeta(msgspec.Struct, frozen=True, array_like=True):
    rows: int
    #: One per column of the schema, in its order.
    pieces: list[Piece]


class _Meta(msgspec.Struct, frozen=True, array_like=True):
    #: Arrow IPC schema message: names and types at rest.
    schema: bytes
    blocks: list[_BlockMeta]
    codec: str


#: Made at import: see the decoder of the manifest.
_decode_meta: Final = msgspec.msgpack.Decoder(_Meta).decode


#: From so many ids in a block on they are compared together.
_TOGETHER_ROWS_MIN: Final = 16


def segment_name(number: int) -> str:
    return f"{PREFIX}{number}"


class Segment:
    """An open segment. Immutable and safe on all threads; the maps live as long as the object or arrays from it."""

    __slots__ = (
        "_columns",
        "_filter",
        "_filter_shift",
        "_row_of_hash",
        "_spread",
        "blocks",
        "codec",
        "entry",
        "hashes",
        "key",
        "number",
        "rows",
        "starts",
    )

    def __init__(
        self, entry: SegmentEntry, meta: _Meta, *, columns: pa.Buffer, ids: pa.Buffer, path: Path, cache: ColumnCache
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
        view = memoryview(ids).cast("B")
        magic, rows = _IDS_HEADER.unpack_from(view)
        middle = _IDS_HEADER.size + 4 * rows
        if magic != _IDS_MAGIC or rows != self.rows or starts[-1] != rows or len(view) != middle + 4 * rows:
            raise ShardFailed(f"{path} is damaged: its files disagree about the number of rows")
        #: Sorted.
        self.hashes = view[_IDS_HEADER.size : middle].cast("I")
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

    def find_many(self, sorted_hashes: np.ndarray, order: np.ndarray, ids: IdArray) -> tuple[list[int], list[int]]:
        """Positions in ``ids`` and rows of the ids found, rows ascending.

        ``sorted_hashes`` are the ids' hashes, ``order`` their positions. About 0.5 µs a found id, 0.2 µs one that is not.
        """
        buckets = sorted_hashes >> np.uint32(self._filter_shift)
        bits = np.frombuffer(self._filter, np.uint8)[buckets >> 3] >> (buckets & 7).astype(np.uint8) & 1
        maybe = np.flatnonzero(bits)
        if not len(maybe):
            return [], []
        wanted = sorted_hashes[maybe]
        hashes = np.frombuffer(self.hashes, dtype=np.uint32)
        first = hashes.searchsorted(wanted)
        counts = hashes.searchsorted(wanted, "right") - first
        if not counts.any():
            return [], []
        # Where hashes are equal each row is a candidate.
        candidates: np.ndarray = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(candidates)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.frombuffer(self._row_of_hash, dtype=np.uint32)[first[candidates] + within]
        by_row = np.argsort(rows)
        rows, all_places = rows[by_row].astype(np.int64), order[maybe[candidates[by_row]]]
        places, row_list = all_places.tolist(), rows.tolist()
        texts = ids.texts
        found_places: list[int] = []
        found_rows: list[int] = []
        for block, start, end in self.ranges(row_list):
            if end - start >= _TOGETHER_ROWS_MIN and ids.numbers is not None:
                keys = self.blocks[block].key_numbers(rows[start:end] - self.starts[block])
                if keys is not None:
                    right: np.ndarray = np.flatnonzero(keys == ids.numbers[all_places[start:end]]) + start
                    found_places += all_places[right].tolist()
                    found_rows += rows[right].tolist()
                    continue
            read, shift = self.blocks[block].reader(ID, TEXT), self.starts[block]
            here, at = places[start:end], row_list[start:end]
            wanted_ids, stored_ids = [texts[place] for place in here], [read(row - shift) for row in at]
            if wanted_ids != stored_ids:
                same = [i for i in range(len(at)) if wanted_ids[i] == stored_ids[i]]
                here, at = [here[i] for i in same], [at[i] for i in same]
            found_places += here
            found_rows += at
        return found_places, found_rows

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


# --- writing ---------------------------------------------------------------------------------------------------------


class _ChecksummedFile:
    """Forwards to the seam, small parts together, and keeps size and checksum."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size = 0
        self._checksum = 0

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.size += len(data)
        if self._waiting_bytes >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._file.write(data)
        self._checksum = checksum_of(pa.py_buffer(data), self._checksum)

    def close(self) -> None:
        self._file.close()

    def entry(self, name: str) -> FileEntry:
        assert not self._waiting
        return FileEntry(name, self.size, self._checksum)


def write_segment(
    files: FileSystem,
    directory: Path,
    *,
    number: int,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch | KeptBlock],
    hashes: np.ndarray,
    layout: Layout,
) -> SegmentEntry:
    """Write a segment's files, not durably yet. ``batches`` have ``schema`` and at most a block of rows each."""
    target = directory / segment_name(number)
    files.remove_tree(target)  # What a failed attempt under the same number left behind.
    files.make_directory(target)
    blocks = []
    rows = 0
    column_file = _ChecksummedFile(files.create(target / COLUMNS))
    try:
        column_file.write(_HEADER.pack(_COLUMNS_MAGIC, FORMAT, 0))
        for batch in batches:
            assert 0 < batch.num_rows <= limits.SEGMENT_BLOCK_ROWS
            is_kept = isinstance(batch, KeptBlock)
            pieces = _copy_block(column_file, batch) if is_kept else _write_block(column_file, batch, layout)
            blocks.append(_BlockMeta(batch.num_rows, pieces))
            rows += batch.num_rows
        column_file.flush()
    finally:
        column_file.close()
    assert rows == len(hashes) > 0
    meta = msgspec.msgpack.encode(_Meta(schema.serialize().to_pybytes(), blocks, layout.codec))
    sorted_hashes, order = _sorted_with_rows(hashes)
    entries = (
        column_file.entry(COLUMNS),
        _write_whole(files, target, META, (_HEADER.pack(_META_MAGIC, FORMAT, 0), meta)),
        _write_whole(
            files, target, IDS, (_IDS_HEADER.pack(_IDS_MAGIC, rows), sorted_hashes.tobytes(), order.tobytes())
        ),
    )
    return SegmentEntry(number=number, rows=rows, files=entries, format=FORMAT)


def _sorted_with_rows(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes in order, and the row of each (both uint32). Seven times faster than an argsort: numpy sorts u64 with SIMD."""
    pairs = hashes.astype(np.uint64) << np.uint64(32) | np.arange(len(hashes), dtype=np.uint64)
    pairs.sort()
    return (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)


def _write_block(file: _ChecksummedFile, batch: pa.RecordBatch, layout: Layout) -> list[Piece]:
    names = batch.schema.names
    key = names.index(layout.key_source) if layout.key_source in names else None
    pieces = []
    for name, array in zip(names, batch.columns, strict=True):
        # Ids are found by hash; their bounds, a seventh of a merge's time, would leave hardly a block out.
        minimum, maximum = (None, None) if name == ID else value_bounds(array)
        of_key = (names[key], batch.column(key)) if name == ID and key is not None else None
        piece, data = encode(array, minimum, maximum, is_id=name == ID, key=of_key)
        raw_size = 0
        # Ids are read one by one, and few are worth it.
        if layout.codec == BEST_COMPRESSION and name != ID and data:
            compressed = ZSTD.compress(data, asbytes=True)
            if len(compressed) <= len(data) * _COMPRESSED_WORTH:
                raw_size, data = len(data), compressed
        checksum = checksum_of(pa.py_buffer(data))
        piece = msgspec.structs.replace(piece, size=len(data), checksum=checksum, raw_size=raw_size)
        pieces.append(_placed(file, piece, data))
    return pieces


def _copy_block(file: _ChecksummedFile, block: KeptBlock) -> list[Piece]:
    return [_placed(file, piece, data.to_pybytes()) for piece, data in block.pieces]


def _placed(file: _ChecksummedFile, piece: Piece, data: bytes) -> Piece:
    if data:
        file.write(bytes(-file.size % _PIECE_ALIGNMENT))
    offset = file.size
    file.write(data)
    return msgspec.structs.replace(piece, offset=offset)


def _write_whole(files: FileSystem, directory: Path, name: str, parts: Iterable[bytes]) -> FileEntry:
    file = _ChecksummedFile(files.create(directory / name))
    try:
        for part in parts:
            file.write(part)
        file.flush()
    finally:
        file.close()
    return file.entry(name)


def write_deletes(files: FileSystem, directory: Path, *, number: int, generation: int, deletes: BitMap) -> FileEntry:
    """Write a generation of a segment's dead rows, durably up to its name."""
    target = directory / segment_name(number)
    name = f"{DELETES_PREFIX}{generation}"
    entry = _write_whole(files, target, name, (deletes.serialize(),))
    sync_file(files, target / name)
    return entry


def sync_file(files: FileSystem, path: Path) -> None:
    file = files.append(path)
    try:
        file.sync()
    finally:
        file.close()


def sync_segment(files: FileSystem, directory: Path, entry: SegmentEntry) -> None:
    """Make a segment's files durable; the caller syncs ``directory`` itself."""
    target = directory / segment_name(entry.number)
    for file in entry.files:
        sync_file(files, target / file.name)
    files.sync_directory(target)


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
    for name, data, magic in ((COLUMNS, columns, _COLUMNS_MAGIC), (META, encoded, _META_MAGIC)):
        if data.slice(0, _HEADER.size).to_pybytes() != _HEADER.pack(magic, FORMAT, 0):
            raise ShardFailed(f"{target / name} is damaged: it does not begin with {magic!r} and format {FORMAT}")
    try:
        meta = _decode_meta(memoryview(encoded)[_HEADER.size :])
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
