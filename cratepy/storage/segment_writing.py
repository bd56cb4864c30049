"""Writing the files of a segment; the bytes are described in :mod:`cratepy.storage.segment` and docs/architecture/storage.md.

In: batches, or blocks of other segments to copy, and the hashes of their ids. Out: the segment's entry for the manifest.
Nothing is durable before :func:`sync_segment`, but for bitmaps of dead rows. Its own room because readers need none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.storage.blocks import BEST_COMPRESSION, ID, Layout
from cratepy.storage.encoding import Encoding, Piece, encode
from cratepy.storage.filesystem import AppendFile, FileSystem
from cratepy.storage.hashing import checksum_of
from cratepy.storage.manifest import FileEntry, SegmentEntry
from cratepy.storage.segment import (
    COLUMNS,
    COLUMNS_MAGIC,
    DELETES_PREFIX,
    FORMAT,
    HEADER,
    IDS,
    IDS_HEADER,
    IDS_MAGIC,
    META,
    META_MAGIC,
    BlockMeta,
    SegmentMeta,
    segment_name,
)
from cratepy.storage.statistics import value_bounds
from cratepy.storage.stored import ZSTD, KeptBlock

_PIECE_ALIGNMENT: Final = 64
#: Parts of a file are gathered up to this before a system call.
_WRITE_BYTES: Final = 256 * limits.KIB
#: Compression is kept if it saves an eighth.
_COMPRESSED_WORTH: Final = 7 / 8


class _ChecksummedFile:
    """Forwards to the seam, small parts together, and keeps size and checksum."""

    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.size = 0
        self._checksum = 0

    def write(self, data: bytes) -> None:
        if len(data) >= _WRITE_BYTES:
            # Joining would copy it.
            self.flush()
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.size += len(data)
        if self._waiting_bytes >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
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
    """Write a segment's files, not durably yet. ``batches`` have ``schema`` and at most a block of rows each.

    A batch may lack ``_id`` if it is the text of the table's key, a number.
    """
    target = directory / segment_name(number)
    files.remove_tree(target)  # What a failed attempt under the same number left behind.
    # A flush syncs the shard's directory before its manifest names the segment; a refresh need not wait for it.
    files.make_directory(target, is_synced=False)
    blocks = []
    rows = 0
    column_file = _ChecksummedFile(files.create(target / COLUMNS))
    try:
        column_file.write(HEADER.pack(COLUMNS_MAGIC, FORMAT, 0))
        for batch in batches:
            assert 0 < batch.num_rows <= limits.SEGMENT_BLOCK_ROWS
            is_kept = isinstance(batch, KeptBlock)
            pieces = _copy_block(column_file, batch) if is_kept else _write_block(column_file, batch, schema, layout)
            blocks.append(BlockMeta(batch.num_rows, pieces))
            rows += batch.num_rows
        column_file.flush()
    finally:
        column_file.close()
    assert rows == len(hashes) > 0
    meta = msgspec.msgpack.encode(SegmentMeta(schema.serialize().to_pybytes(), blocks, layout.codec))
    sorted_hashes, order = _sorted_with_rows(hashes)
    entries = (
        column_file.entry(COLUMNS),
        _write_whole(files, target, META, (HEADER.pack(META_MAGIC, FORMAT, 0), meta)),
        _write_whole(files, target, IDS, (IDS_HEADER.pack(IDS_MAGIC, rows), sorted_hashes.tobytes(), order.tobytes())),
    )
    return SegmentEntry(number=number, rows=rows, files=entries, format=FORMAT)


def _sorted_with_rows(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes in order, and the row of each (both uint32). Seven times faster than an argsort: numpy sorts u64 with SIMD."""
    pairs = hashes.astype(np.uint64) << np.uint64(32) | np.arange(len(hashes), dtype=np.uint64)
    pairs.sort()
    return (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)


def _write_block(file: _ChecksummedFile, batch: pa.RecordBatch, schema: pa.Schema, layout: Layout) -> list[Piece]:
    names = schema.names
    key = layout.key_source if layout.key_source in names else None
    has_ids = ID in batch.schema.names
    pieces = []
    for name in names:
        if name == ID and not has_ids:
            assert key is not None
            pieces.append(_placed(file, Piece(Encoding.SAME, 0, None, None, source=key), b""))
            continue
        array = batch.column(name)
        # Ids are found by hash; their bounds, a seventh of a merge's time, would leave hardly a block out.
        minimum, maximum = (None, None) if name == ID else value_bounds(array)
        of_key = (key, batch.column(key)) if name == ID and key is not None else None
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
