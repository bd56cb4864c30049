"""A segment: rows that never change, in a directory that is written once and memory-mapped.

    columns.arrow   Arrow IPC file, uncompressed, batches of at most ``SEGMENT_BLOCK_ROWS``: the table's columns
                    ``c<oid>`` at rest, then ``_id``, ``_seq_no``, ``_primary_term``, ``_version``
    ids             magic (8) | rows (u64) | sorted xxh3-64 of ``_id`` (u64 each) | row of each hash (u32 each)
    stats           msgpack: per column and block smallest, largest value and NULL count
    deletes-<gen>   roaring bitmap of dead rows; written by flush, only the newest counts

In: batches, or a manifest entry. Out: blocks, and rows by id. Later parts (text index, codecs) are more files of the
entry. Which rows are dead is not the segment's knowledge: it changes, and readers hold their own version of it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import msgspec
import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.model.types import TEXT
from cratepy.storage.blocks import ID, Block
from cratepy.storage.filesystem import AppendFile, FileSystem
from cratepy.storage.manifest import FileEntry, SegmentEntry
from cratepy.storage.statistics import BlockStatistics, block_statistics

PREFIX: Final = "seg-"
COLUMNS: Final = "columns.arrow"
IDS: Final = "ids"
STATS: Final = "stats"
DELETES_PREFIX: Final = "deletes-"

_IDS_MAGIC: Final = b"CRPYIDS1"
_IDS_HEADER_BYTES: Final = 16

_StatsFile = dict[str, list[BlockStatistics]]
#: Made at import: see the decoder of the manifest.
_decode_stats: Final = msgspec.msgpack.Decoder(_StatsFile).decode


def segment_name(number: int) -> str:
    return f"{PREFIX}{number}"


class Segment:
    """An open segment. Immutable and safe on all threads; the maps live as long as the object or arrays from it."""

    __slots__ = (
        "_filter",
        "_filter_shift",
        "_row_of_hash",
        "_spread",
        "blocks",
        "entry",
        "hashes",
        "key",
        "number",
        "rows",
        "starts",
        "stats",
    )

    def __init__(self, entry: SegmentEntry, *, columns: pa.Buffer, ids: pa.Buffer, stats: _StatsFile) -> None:
        self.entry = entry
        self.number = entry.number
        self.rows = entry.rows
        self._spread = 4 * math.isqrt(entry.rows) + 8
        #: Identity for caches: a number may be used again after a crash, an object never.
        self.key = object()
        with pa.ipc.open_file(pa.BufferReader(columns)) as reader:
            self.blocks = tuple(Block(reader.get_batch(i)) for i in range(reader.num_record_batches))
        starts = [0]
        for block in self.blocks:
            starts.append(starts[-1] + block.batch.num_rows)
        #: First row of each block, and the number of rows at the end.
        self.starts = starts
        view = memoryview(ids).cast("B")
        rows = int.from_bytes(view[8:16], "little")
        if bytes(view[:8]) != _IDS_MAGIC or rows != self.rows or starts[-1] != rows:
            raise ShardFailed(f"{segment_name(self.number)} is damaged: its files disagree about the number of rows")
        middle = _IDS_HEADER_BYTES + 8 * rows
        #: Sorted.
        self.hashes = view[_IDS_HEADER_BYTES:middle].cast("Q")
        self._row_of_hash = view[middle : middle + 4 * rows].cast("I")
        self.stats = stats
        self._filter_shift, self._filter = _hash_filter(np.frombuffer(self.hashes, dtype=np.uint64))

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.entry.files)

    def locate(self, row: int) -> tuple[Block, int]:
        """The block of a row and the row's place in it."""
        index = bisect.bisect_right(self.starts, row) - 1
        return self.blocks[index], row - self.starts[index]

    def find(self, id_hash: int, id: str) -> int:
        """The row of an id, or -1. About 1.5 µs in a million rows."""
        bucket = id_hash >> self._filter_shift
        if not self._filter[bucket >> 3] >> (bucket & 7) & 1:
            return -1
        hashes = self.hashes
        # Hashes are uniform: the place is known to about the square root of the rows, so the search stays in a few pages.
        guess = id_hash * self.rows >> 64
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

    def find_many(self, sorted_hashes: np.ndarray, order: np.ndarray, ids: Sequence[str]) -> Iterator[tuple[int, int]]:
        """(position in ``ids``, row) of each id found. ``sorted_hashes`` are the ids' hashes, ``order`` their positions."""
        hashes = np.frombuffer(self.hashes, dtype=np.uint64)
        at = hashes.searchsorted(sorted_hashes)
        at[at == self.rows] = self.rows - 1
        for index in np.flatnonzero(hashes[at] == sorted_hashes).tolist():
            position = int(order[index])
            row = self.find(int(sorted_hashes[index]), ids[position])
            if row >= 0:
                yield position, row

    def hashes_by_row(self) -> np.ndarray:
        """uint64 per row, in row order: what a merge needs to write ``ids`` without hashing again."""
        by_row: np.ndarray = np.empty(self.rows, dtype=np.uint64)
        by_row[np.frombuffer(self._row_of_hash, dtype=np.uint32)] = np.frombuffer(self.hashes, dtype=np.uint64)
        return by_row


def _hash_filter(hashes: np.ndarray) -> tuple[int, bytes]:
    """(shift, bits): bit ``hash >> shift`` is set for every hash; 1 to 2 bytes a row, 1 of 8 unknown ids passes at most.

    It makes a miss five times cheaper than a search, and most lookups in most segments are misses.
    """
    width = max(3, (8 * len(hashes)).bit_length())
    is_set: np.ndarray = np.zeros(1 << width, dtype=bool)
    is_set[hashes >> np.uint64(64 - width)] = True
    return 64 - width, np.packbits(is_set, bitorder="little").tobytes()


# --- writing ---------------------------------------------------------------------------------------------------------


class _ChecksummedFile:
    """What pyarrow writes to: forwards to the seam and keeps size and checksum."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self.closed = False
        self.size = 0
        self.checksum = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.checksum = google_crc32c.extend(self.checksum, view.tobytes())
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing is kept back here."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()

    def entry(self, name: str) -> FileEntry:
        return FileEntry(name, self.size, self.checksum)


def write_segment(
    files: FileSystem,
    directory: Path,
    *,
    number: int,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    hashes: np.ndarray,
) -> SegmentEntry:
    """Write a segment's files, not durably yet. ``batches`` have ``schema`` and at most a block of rows each."""
    target = directory / segment_name(number)
    files.remove_tree(target)  # What a failed attempt under the same number left behind.
    files.make_directory(target)
    stats: _StatsFile = {name: [] for name in schema.names}
    rows = 0
    column_file = _ChecksummedFile(files.create(target / COLUMNS))
    try:
        with pa.ipc.new_file(pa.PythonFile(column_file, mode="w"), schema) as writer:
            for batch in batches:
                assert 0 < batch.num_rows <= limits.SEGMENT_BLOCK_ROWS
                writer.write_batch(batch)
                rows += batch.num_rows
                for name, column in zip(schema.names, batch.columns, strict=True):
                    stats[name].append(block_statistics(column))
    finally:
        column_file.close()
    assert rows == len(hashes) > 0
    order = np.argsort(hashes).astype(np.uint32)
    entries = [
        column_file.entry(COLUMNS),
        _write_whole(
            files, target, IDS, (_IDS_MAGIC + rows.to_bytes(8, "little"), hashes[order].tobytes(), order.tobytes())
        ),
        _write_whole(files, target, STATS, (msgspec.msgpack.encode(stats),)),
    ]
    return SegmentEntry(number=number, rows=rows, files=tuple(entries))


def _write_whole(files: FileSystem, directory: Path, name: str, parts: Iterable[bytes]) -> FileEntry:
    file = _ChecksummedFile(files.create(directory / name))
    try:
        for part in parts:
            file.write(part)
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


def open_segment(files: FileSystem, directory: Path, entry: SegmentEntry) -> Segment:
    """Open by manifest entry. Sizes are checked here, checksums by :func:`verify_segment`; raises ShardFailed."""
    target = directory / segment_name(entry.number)
    for file in entry.files:
        path = target / file.name
        if not files.exists(path) or files.size(path) != file.size:
            raise ShardFailed(f"{path} is damaged: it is missing or not {file.size} bytes long")
    by_name = {file.name: file for file in entry.files}
    stats = _read_checked(files, target, by_name[STATS])
    try:
        return Segment(
            entry,
            columns=files.map(target / COLUMNS),
            ids=files.map(target / IDS),
            stats=_decode_stats(stats),
        )
    except (pa.ArrowException, msgspec.MsgspecError) as error:
        raise ShardFailed(f"{target} is damaged: {error}") from error


def read_deletes(files: FileSystem, directory: Path, entry: SegmentEntry) -> BitMap | None:
    if entry.deletes is None:
        return None
    data = _read_checked(files, directory / segment_name(entry.number), entry.deletes)
    return BitMap.deserialize(data)


def verify_segment(files: FileSystem, directory: Path, entry: SegmentEntry) -> None:
    """Read every file and compare checksums; raises ShardFailed naming the first that differs."""
    target = directory / segment_name(entry.number)
    for file in (*entry.files, *(() if entry.deletes is None else (entry.deletes,))):
        _read_checked(files, target, file)


def _read_checked(files: FileSystem, directory: Path, entry: FileEntry) -> bytes:
    path = directory / entry.name
    if not files.exists(path):
        raise ShardFailed(f"{path} is missing")
    data = bytes(files.map(path))
    if len(data) != entry.size or google_crc32c.value(data) != entry.checksum:
        raise ShardFailed(f"{path} is damaged: its checksum does not match")
    return data
