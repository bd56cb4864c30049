"""The write-ahead log of a shard: what was written since the last flush, in order.

In: payloads (:mod:`cratepy.storage.records` gives them meaning). Out: the same payloads after a crash. One file per
generation; a flush starts the next one.

    file    magic (8) | format (u32) | generation (u64) | file id (16) | crc32c (u32) | record | record | … | zeros
    record  magic (u32) | payload length (u32) | crc32c (u32) | synced (u64) | payload

A record's checksum starts from the file id and the record's offset, so that what a recycled block or a stale tail still
holds never validates. ``synced`` is the file offset known to be durable when the record was written. It tells damage
from a torn tail: after a power cut, records that were never synced may be missing in any combination, and the log is
cut at the first of them; but a bad record below the ``synced`` of a good one *was* durable, so the disk lost it, and the
shard is refused instead of silently shortened. ``close`` writes an empty record, so that after a clean stop every
record is covered.

The newest file has space reserved behind its records (:data:`limits.TRANSLOG_RESERVE_BYTES_MAX`): a growing file makes
every fsync a commit of the file system's journal, and that waits for the data of whatever file was written just before.
Zeros are no record, so the log ends there as it ends at a torn tail. A file that is not the newest ends with its last
record: :meth:`TranslogWriter.seal`.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage.filesystem import AppendFile, FileSystem, SyncFailed, is_disk_full

FORMAT: Final = 1
PREFIX: Final = "translog-"

_FILE_MAGIC: Final = b"CRPYTLOG"
_FILE_HEADER: Final = struct.Struct("<8sIQ16s")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FILE_HEADER.size + _CHECKSUM.size
_RECORD_MAGIC: Final = 0x4C525043
_RECORD_MAGIC_BYTES: Final = struct.pack("<I", _RECORD_MAGIC)
_RECORD: Final = struct.Struct("<IIIQ")
_SEED: Final = struct.Struct("<QIQ")
_COPIED_BYTES_MAX: Final = 16 * limits.KIB


def translog_name(generation: int) -> str:
    return f"{PREFIX}{generation}"


class TranslogWriter:
    """The generation being written. ``append`` is the shard writer's, ``sync`` may run on another thread beside it.

    Records that somebody waits for are gathered and written by the sync, in one call for all of them.
    """

    __slots__ = ("_file", "_gathered", "_given", "_reserved", "_seed", "_write_lock", "end", "generation", "synced")

    def __init__(self, file: AppendFile, *, generation: int, file_id: bytes, end: int) -> None:
        self._file = file
        self._seed: int = google_crc32c.value(file_id)
        self.generation = generation
        #: File offset after the last record.
        self.end = end
        #: File offset that is durable.
        self.synced = 0
        self._reserved = end
        #: Up to here the disk has given the space: a write cannot find it full.
        self._given = 0
        #: Records that the next write or sync writes to the file, all at once.
        self._gathered: list[bytes] = []
        self._write_lock = threading.Lock()

    def append(self, payload: bytes, *, is_awaited: bool = False) -> int:
        """Write a record to the system's cache; returns the file offset after it.

        ``is_awaited``: nobody is told of it before a :meth:`sync`, so that may write it, together with others.
        Raises OSError: the log is dead, unless the disk is full: then nothing was appended.
        """
        length = len(payload)
        assert length <= limits.TRANSLOG_RECORD_BYTES_MAX, "callers split bigger batches"
        end = self.end + _RECORD.size + length
        if end > self._reserved:
            self._reserve(end)
        synced = self.synced
        head = _SEED.pack(self.end, length, synced)
        if length < _COPIED_BYTES_MAX:
            checksum = google_crc32c.extend(self._seed, head + payload)
            is_gathered = is_awaited and end <= self._given and len(self._gathered) < limits.TRANSLOG_GATHERED_MAX
        else:
            checksum = google_crc32c.extend(google_crc32c.extend(self._seed, head), payload)
            is_gathered = False
        record = _RECORD.pack(_RECORD_MAGIC, length, checksum, synced) + payload
        if is_gathered:
            # Before ``end`` covers it: a sync that sees the end finds the record.
            self._gathered.append(record)
        else:
            self._write_gathered()
            try:
                self._file.write(record)
            except OSError as error:
                if is_disk_full(error):
                    # What came through of it is no record. The next one begins where this one did.
                    self._take_back()
                raise
        self.end = end
        return end

    def _write_gathered(self) -> None:
        """Afterwards all records up to the ``end`` that was before the call are in the file. Any thread. Raises SyncFailed."""
        gathered = self._gathered
        if not gathered:
            return
        with self._write_lock:
            count = len(gathered)
            if not count:
                return  # another thread has written them
            try:
                self._file.write(gathered[0] if count == 1 else b"".join(gathered[:count]))
            except OSError as error:
                # They have places, and rows in the buffer. That there is no space, where it was given, is as final as the rest.
                raise SyncFailed(error.errno, error.strerror) from error
            del gathered[:count]

    def _take_back(self) -> None:
        """What came through of a record is none. The next one begins where it did; what is reserved goes, too."""
        try:
            self._file.truncate(self.end)
        except OSError as error:
            raise OSError(errno.EIO, f"half a record cannot be taken back: {error}") from error
        self._reserved = self.end
        self._given = 0

    def _reserve(self, needed: int) -> None:
        """As much again as the log has, so that small logs stay small and big ones reserve seldom."""
        # What is not in the file yet must not be cut off by a reservation that fails.
        self._write_gathered()
        more = min(max(needed, limits.TRANSLOG_RESERVE_BYTES_MIN), limits.TRANSLOG_RESERVE_BYTES_MAX)
        self._reserved = needed + more
        self._given = self._reserved if self._file.reserve(self._reserved) else 0

    def seal(self) -> None:
        """Give back what is reserved and make all durable; nothing is appended after it."""
        self._write_gathered()
        if self._reserved > self.end:
            self._file.truncate(self.end)
            self._reserved = self.end
            self._given = 0
            self.synced = 0
        self.sync()

    def sync(self) -> int:
        """Make durable what was appended before the call; returns the offset that is. Raises OSError: the log is dead."""
        end = self.end
        if end > self.synced:
            self._write_gathered()
            self._file.sync()
            self.synced = end
        return end

    def close(self) -> None:
        self._file.close()


def create_translog(
    files: FileSystem, directory: Path, *, generation: int, file_id: bytes, first: bytes | None = None
) -> TranslogWriter:
    """Start a generation, empty or with one record, durable before any other record can be.

    On a full disk it leaves nothing behind.
    """
    assert len(file_id) == 16
    header = _FILE_HEADER.pack(_FILE_MAGIC, FORMAT, generation, file_id)
    path = directory / translog_name(generation)
    file = files.create(path)
    try:
        file.write(_beginning(header, file_id, first))
    except OSError as error:
        file.close()
        if is_disk_full(error):
            files.unlink(path)
        raise
    file.sync()
    files.sync_directory(directory)
    return TranslogWriter(file, generation=generation, file_id=file_id, end=created_bytes(first))


def created_bytes(first: bytes | None) -> int:
    """The size of a file that was created with this record, before anything is appended."""
    return HEADER_BYTES + (0 if first is None else _RECORD.size + len(first))


def _beginning(header: bytes, file_id: bytes, first: bytes | None) -> bytes:
    beginning = header + _CHECKSUM.pack(google_crc32c.value(header))
    if first is None:
        return beginning
    checksum = google_crc32c.extend(google_crc32c.value(file_id), _SEED.pack(HEADER_BYTES, len(first), 0) + first)
    return beginning + _RECORD.pack(_RECORD_MAGIC, len(first), checksum, 0) + first


class TranslogReader:
    """A generation read from its start. Iterate for the payloads; then ``end`` is the offset after the last good record.

    ``is_blank`` is True if not even the header is there: a crash right after the file was made; it holds nothing.
    """

    def __init__(self, data: memoryview, *, path: str, generation: int) -> None:
        self._data = data.cast("B") if data.format != "B" else data
        self._path = path
        self.is_blank = False
        self.end = 0
        #: An offset up to which records say that the file is durable (after the iteration); 0: none says so.
        self.known_durable = 0
        self.file_id = b""
        self._read_header(generation)

    def _read_header(self, generation: int) -> None:
        header = bytes(self._data[:HEADER_BYTES])
        checksum = google_crc32c.value(header[: _FILE_HEADER.size])
        if len(header) < HEADER_BYTES or _CHECKSUM.unpack_from(header, _FILE_HEADER.size)[0] != checksum:
            # The header is durable before any record is written, so a file with a bad one and more is damaged.
            if len(self._data) > HEADER_BYTES:
                raise ShardFailed(f"{self._path} is damaged: its header's checksum does not match")
            self.is_blank = True
            return
        magic, format_number, found, self.file_id = _FILE_HEADER.unpack_from(header)
        if magic == _FILE_MAGIC and found != generation and len(self._data) == HEADER_BYTES:
            # As blank: the space of an older translog, whose bytes a crash brought back instead of the header's.
            self.is_blank = True
            return
        if magic != _FILE_MAGIC or found != generation:
            raise ShardFailed(f"{self._path} is damaged: it is not generation {generation} of a translog")
        if format_number > FORMAT:
            raise ShardFailed(f"{self._path} has format {format_number}; this version reads formats up to {FORMAT}")
        self._seed: int = google_crc32c.value(self.file_id)
        self.end = HEADER_BYTES

    @property
    def has_tail(self) -> bool:
        """Whether bytes follow the last good record (after the iteration)."""
        return self.end < len(self._data)

    @property
    def is_torn(self) -> bool:
        """Whether something else than reserved space follows the last good record (after the iteration)."""
        tail = np.frombuffer(self._data[self.end :], dtype=np.uint8)
        return bool(len(tail) and tail.max())

    def good_bytes(self) -> bytes:
        """The file up to the last good record (after the iteration)."""
        return bytes(self._data[: self.end])

    def __iter__(self) -> Iterator[bytes | memoryview]:
        """The payloads in order; raises ShardFailed at a bad record that had been durable."""
        if self.is_blank:
            return
        while self.end < len(self._data):
            found = self._record_at(self.end)
            if found is None:
                self._refuse_damage()
                return
            payload, synced = found
            if synced > self.known_durable:
                self.known_durable = synced
            yield payload
            self.end += _RECORD.size + len(payload)

    def _record_at(self, offset: int) -> tuple[bytes | memoryview, int] | None:
        """Payload and ``synced`` of the record there, or None if there is no good one."""
        data, start = self._data, offset + _RECORD.size
        if start > len(data):
            return None
        magic, length, checksum, synced = _RECORD.unpack_from(data, offset)
        if magic != _RECORD_MAGIC or length > limits.TRANSLOG_RECORD_BYTES_MAX or start + length > len(data):
            return None
        head = _SEED.pack(offset, length, synced)
        # The library takes no memoryview; a copy is cheaper than a buffer object for all but big records.
        if length < _COPIED_BYTES_MAX:
            copied = bytes(data[start : start + length])
            return (copied, synced) if google_crc32c.extend(self._seed, head + copied) == checksum else None
        payload = data[start : start + length]
        found = google_crc32c.extend(google_crc32c.extend(self._seed, head), pa.py_buffer(payload))
        return (payload, synced) if found == checksum else None

    def _refuse_damage(self) -> None:
        """Raise if a good record behind the bad one at ``end`` says that the bad one had been durable."""
        tail = bytes(self._data[self.end :])
        at = tail.find(_RECORD_MAGIC_BYTES, 1)
        while at >= 0:
            found = self._record_at(self.end + at)
            if found is not None and found[1] > self.end:
                raise ShardFailed(
                    f"{self._path} is damaged: the record at byte {self.end} is bad although it had been written safely"
                )
            at = tail.find(_RECORD_MAGIC_BYTES, at + 1)
