"""The state log: term and accepted cluster state, durable, one record per publication. Synchronous; one thread at a time.

In: terms and states. Out: the same after a restart. ``state-<n>`` holds records; the first is a whole state, each later one a
change; the highest n counts. A record is ``magic, length, crc32c, body``; crc32c covers the place of the record in its file
too, so that a stale or moved record never passes. Zeros follow the last record: space that is reserved::

    | whole state | change | change | change | 0 0 0 0 0 0 0 0 0 0 0 0 |
                                             ^ end                    ^ reserved

Appending a change and one sync is all that a publication costs here, whatever the size of the state. The zeros are written
before, so a sync of what overwrites them has no new size and no new block to record: it does not wait for the file system's
journal, nor for whoever else syncs on this disk. When the changes outgrow the first record, the next generation is written: temporary file, sync, rename, sync of the directory, and only
then the old one is deleted.

Every append is durable before the next begins, so only the very last record can be torn; it was never acknowledged and is
cut off. A bad record with good ones after it, or a newest generation that does not read, is damage: the node refuses to
start, because an older state could let it break a promise (vote twice in one term).

A failed write or sync leaves the outcome unknown; the log is unusable from then on and the node must stop. A full disk is
different: nothing of the record counts once the log is cut back to its last good record, durably, and read again. And it
comes late: the reserved space is there so that tables can be dropped and settings changed when rows have filled the disk.
On file systems that do not reserve (those that copy on write) only the cutting back helps.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from cratepy import limits
from cratepy.cluster.diff import BaseMismatch, StateDiff, diff, patch
from cratepy.model.state import ClusterState
from cratepy.storage.filesystem import FULL, AppendFile, FileSystem, RealFileSystem, is_disk_full

_MAGIC: Final = b"cpS1"
_RECORD: Final = struct.Struct(">4sII")
STATE_FILE: Final = re.compile(r"state-(\d+)")


class StateDamaged(Exception):
    """The data directory cannot be used; the message says what an operator can do."""


class StateLogFull(OSError):
    """The disk is full: nothing was saved, what was saved before is as it was, and the same may be saved later."""


class Whole(msgspec.Struct, frozen=True, tag_field="$", tag="whole"):
    term: int
    state: ClusterState


class Change(msgspec.Struct, frozen=True, tag_field="$", tag="change"):
    term: int
    diff: StateDiff | None


_encode = msgspec.msgpack.Encoder().encode
_record_decoder = msgspec.msgpack.Decoder(Whole | Change)


class StateLog:
    """Term and accepted state, durable. ``term`` and ``state`` are what was read; ``save`` adds the next."""

    def __init__(self, path: Path, *, cluster_name: str | None, files: FileSystem | None = None) -> None:
        """Read the log in a directory, or begin one. Raises StateDamaged, OSError."""
        self._path = path
        self._files = RealFileSystem() if files is None else files
        self._is_usable = True
        names = self._files.names(path)
        for name in names:
            if name.endswith(".tmp"):
                self._files.unlink(path / name)
        generations = sorted(int(found[1]) for name in names if (found := STATE_FILE.fullmatch(name)))
        if not generations:
            self.term, self.state = 0, ClusterState(cluster_name=cluster_name or "")
            self._generation = 0
            self._begin_generation(self.term, self.state)
            return
        self._generation = generations[-1]
        self._read()
        for old in generations[:-1]:
            self._files.unlink(self._file_path(old))
        if cluster_name is not None and self.state.cluster_name != cluster_name:
            raise StateDamaged(
                f"the data directory {path.parent} belongs to cluster [{self.state.cluster_name}], "
                f"but cluster.name is [{cluster_name}]"
            )

    def _file_path(self, generation: int) -> Path:
        return self._path / f"state-{generation}"

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        path = self._file_path(self._generation)
        data = self._files.read(path)
        records, end = _read_records(data)
        if end < len(data) and _finds_record_after(data, end):
            raise StateDamaged(f"{path} is damaged at byte {end}: records after it are intact. Restore this node")
        if not records or not isinstance(records[0], Whole):
            raise StateDamaged(f"{path} is damaged: it does not begin with a state. Restore this node")
        self.term, self.state = records[0].term, records[0].state
        for record in records[1:]:
            if not isinstance(record, Change):
                raise StateDamaged(f"{path} is damaged: a second whole state")
            self.term = record.term
            if record.diff is not None:
                try:
                    self.state = patch(self.state, record.diff)
                except BaseMismatch as error:
                    raise StateDamaged(f"{path} is damaged: {error}") from error
        file = self._files.append(path, at=end)
        if data[end:].strip(b"\0"):
            file.truncate(end)
            file.sync()
        self._use(file, first_bytes=_record_bytes(data, 0), end=end)
        # The process before may have been killed between its write and its sync: what counts from now on must be durable.
        file.sync()
        self._files.sync_directory(self._path)

    def _use(self, file: AppendFile, *, first_bytes: int, end: int) -> None:
        self._file = file
        self._first_bytes, self._end = first_bytes, end
        #: Where the next generation begins.
        self._renew_at = first_bytes + max(first_bytes, limits.STATE_LOG_BYTES_MIN)
        self._reserved = self._files.size(self._file_path(self._generation))
        if self.reserved_bytes < limits.STATE_LOG_RESERVE_BYTES // 2:
            self._reserve(0)

    # --- writing -----------------------------------------------------------------------------------------------------

    @property
    def reserved_bytes(self) -> int:
        """Space that is there for further records, whatever else fills the disk."""
        return self._reserved - self._end

    def save(self, term: int, state: ClusterState) -> None:
        """Durable on return. Raises StateLogFull: nothing was done.

        Any other OSError leaves the outcome unknown: the log cannot be used again, the node must stop.
        """
        self.write(term, state)
        self.prepare()

    def write(self, term: int, state: ClusterState, change: StateDiff | None = None) -> None:
        """``save`` without what the next one needs. ``change``: what turns the state saved last into this one, if known."""
        assert self._is_usable, "the state log has failed; the node should have stopped"
        assert term >= self.term
        base = (self.state.coordination.term, self.state.version)
        assert change is None or change.base == base
        if change is None and state is not self.state and state != self.state:
            # The same state with its configuration committed: the change is from the state to itself.
            is_same_base = (state.coordination.term, state.version) == base
            assert not is_same_base or state.tables is self.state.tables
            change = diff(self.state, state)
        if change is None and term == self.term:
            return
        self._is_usable = False
        if self._end <= self._renew_at or not self._has_begun_generation(term, state):
            self._append(_record(_encode(Change(term, change)), self._end))
        self.term, self.state = term, state
        self._is_usable = True

    def prepare(self) -> None:
        """Make ready for the next: a new generation if it is time, and reserved space. Raises OSError, as ``save``.

        Nobody needs to wait for this: it takes many times as long as a record.
        """
        self._is_usable = False
        if self._end > self._renew_at:
            self._has_begun_generation(self.term, self.state)
        if self.reserved_bytes < limits.STATE_LOG_RESERVE_BYTES // 2:
            before = self._reserved
            self._reserve(0)
            if self._reserved > before:
                self._file.sync()  # else the sync of the next record would write all the zeros
        self._is_usable = True

    def _append(self, record: bytes) -> None:
        if len(record) > self.reserved_bytes:
            self._reserve(len(record))
        try:
            self._file.write(record)
        except OSError as error:
            if not is_disk_full(error):
                raise
            self._cut_back()
            self._is_usable = True
            raise StateLogFull(error.errno, error.strerror, str(self._file_path(self._generation))) from error
        self._file.sync()
        self._end += len(record)

    def _reserve(self, record_bytes: int) -> None:
        """Take space for a record and for all that may have to be said on a full disk, if there is any."""
        self._file.reserve(self._end + record_bytes + limits.STATE_LOG_RESERVE_BYTES, is_written=True)
        self._reserved = self._files.size(self._file_path(self._generation))

    def _cut_back(self) -> None:
        """Make the end of the log the end of its last good record, and make sure of it. Raises OSError: who knows what it is."""
        self._file.truncate(self._end)
        self._file.sync()
        path = self._file_path(self._generation)
        data = self._files.read(path)
        if (len(data), _read_records(data)[1]) != (self._end, self._end):
            raise OSError(f"{path} cannot be cut back to its last good record on a full disk")
        self._reserved = self._end

    def _has_begun_generation(self, term: int, state: ClusterState) -> bool:
        """Whether a new generation is there; a full disk has no place for one, and the old one goes on."""
        try:
            self._begin_generation(term, state)
        except _NoRoom:
            self._renew_at = self._end + limits.STATE_LOG_BYTES_MIN
            return False
        return True

    def _begin_generation(self, term: int, state: ClusterState) -> None:
        """Write the whole state to a file of its own, and only then delete the old file. Raises _NoRoom, OSError."""
        old_file: AppendFile | None = getattr(self, "_file", None)
        record = _record(_encode(Whole(term, state)), 0)
        path = self._file_path(self._generation + 1)
        temporary = path.with_name(path.name + ".tmp")
        file = self._files.create(temporary)
        try:
            file.write(record)
            file.reserve(len(record) + limits.STATE_LOG_RESERVE_BYTES, is_written=True)
            file.sync()
        except OSError as error:
            file.close()
            if old_file is None or error.errno not in FULL:  # of a sync, too: the file is no part of the log yet
                raise
            self._files.unlink(temporary)
            raise _NoRoom from error
        self._files.rename(temporary, path)
        self._files.sync_directory(self._path)
        self._generation += 1
        if old_file is not None:
            old_file.close()
            self._files.unlink(self._file_path(self._generation - 1))
        self._use(file, first_bytes=len(record), end=len(record))  # what was reserved for the old one is free now

    def close(self) -> None:
        self._file.close()


class _NoRoom(Exception):
    """No space for a new generation; the old one is untouched."""


def _record(body: bytes, place: int) -> bytes:
    return _RECORD.pack(_MAGIC, len(body), _checksum(body, place)) + body


def _checksum(body: bytes, place: int) -> int:
    value: int = google_crc32c.extend(google_crc32c.value(place.to_bytes(8, "big")), body)
    return value


def _record_bytes(data: bytes, place: int) -> int:
    """The size of the record that begins there, if it is whole and right; else 0."""
    if len(data) - place < _RECORD.size:
        return 0
    magic, length, checksum = _RECORD.unpack_from(data, place)
    start = place + _RECORD.size
    if magic != _MAGIC or len(data) - start < length:
        return 0
    return _RECORD.size + length if _checksum(data[start : start + length], place) == checksum else 0


def _read_records(data: bytes) -> tuple[list[Whole | Change], int]:
    """The good records from the beginning, and where they end."""
    records: list[Whole | Change] = []
    place = 0
    while size := _record_bytes(data, place):
        try:
            records.append(_record_decoder.decode(data[place + _RECORD.size : place + size]))
        except msgspec.MsgspecError as error:
            raise StateDamaged(f"a record with a right checksum cannot be read (a newer version?): {error}") from error
        place += size
    return records, place


def _finds_record_after(data: bytes, place: int) -> bool:
    """Whether a good record begins anywhere behind: then what is at ``place`` is damage, and not a torn end."""
    place = data.find(_MAGIC, place + 1)
    while place >= 0:
        if _record_bytes(data, place):
            return True
        place = data.find(_MAGIC, place + 1)
    return False
