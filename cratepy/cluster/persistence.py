"""What coordination must not forget, on disk: node id, term and accepted state. Synchronous; one owner, one thread at a time.

Layout below ``path.data/nodes/0``::

    node.lock            held (fcntl) as long as the process lives: one process per data directory
    _state/node          the node id, written once
    _state/state-<n>     a log: first record the whole state, each later one a change; the highest n counts

A record is ``magic, length, crc32c, body``; crc32c covers the place of the record in its file too, so that a stale or
moved record never passes. Appending a change and one fsync is all that a publication costs here, whatever the size of
the state; when the changes outgrow the first record, the next generation is written: temporary file, fsync, rename,
fsync of the directory, and only then the old one is deleted.

Every append is durable before the next begins, so only the very last record can be torn; it was never acknowledged and is
cut off. A bad record with good ones after it, or a newest generation that does not read, is damage: the node refuses to
start, because an older state could let it break a promise (vote twice in one term). After a failed write or fsync the
outcome is unknown; the log is unusable from then on and the node must stop.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from cratepy import limits
from cratepy.cluster.diff import BaseMismatch, StateDiff, diff, patch
from cratepy.model.state import ClusterState

_MAGIC: Final = b"cpS1"
_RECORD: Final = struct.Struct(">4sII")
_STATE_FILE: Final = re.compile(r"state-(\d+)")


class StateDamaged(Exception):
    """The data directory cannot be used; the message says what an operator can do."""


class DirectoryInUse(Exception):
    """Another process has the data directory."""


class NodeRecord(msgspec.Struct, frozen=True):
    """The file ``node``: who this directory belongs to, and the newest version that has written to it."""

    node_id: str
    version: str = ""


class Whole(msgspec.Struct, frozen=True, tag_field="$", tag="whole"):
    term: int
    state: ClusterState


class Change(msgspec.Struct, frozen=True, tag_field="$", tag="change"):
    term: int
    diff: StateDiff | None


_encode = msgspec.msgpack.Encoder().encode
_record_decoder = msgspec.msgpack.Decoder(Whole | Change)


class NodeDirectory:
    """The lock, the node id and the state log of one node."""

    def __init__(self, path: Path, *, new_node_id: str, version: str = "") -> None:
        """Take the directory; ``new_node_id`` is used if it is empty.

        ``version`` is that of the program; a directory that a newer one has written to is refused, and an older one's is
        marked as this one's. Empty: a tool looks, whatever the version. Raises DirectoryInUse, StateDamaged, OSError.
        """
        self.path = path
        self._state_path = path / "_state"
        self._state_path.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_file)
            raise DirectoryInUse(f"the data directory {path} is used by another process") from error
        _locked_here(path)
        try:
            record = self._load_record(new_node_id, version)
            if version and version_number(record.version) > version_number(version):
                raise StateDamaged(
                    f"{path} was written by version {record.version}, this is {version}: an older version may not understand "
                    "it. Start the newer version, or run `cratepy node override-version` and take the risk"
                )
            if version and record.version != version:
                record = self.set_version(version, record)
        except BaseException:
            self.close()
            raise
        self.node_id = record.node_id
        self.version = record.version

    def set_version(self, version: str, record: NodeRecord | None = None) -> NodeRecord:
        """Mark the directory as written by a version."""
        node_id = self.node_id if record is None else record.node_id
        changed = NodeRecord(node_id, version)
        write_durably(self._state_path / "node", msgspec.json.encode(changed))
        return changed

    def _load_record(self, new_node_id: str, version: str) -> NodeRecord:
        file = self._state_path / "node"
        if file.exists():
            try:
                return msgspec.json.decode(file.read_bytes(), type=NodeRecord)
            except msgspec.MsgspecError as error:
                raise StateDamaged(f"{file} is damaged: {error}") from error
        if any(_STATE_FILE.fullmatch(name) for name in os.listdir(self._state_path)):
            raise StateDamaged(f"{file} is missing, but there is a cluster state beside it")
        record = NodeRecord(new_node_id, version)
        write_durably(file, msgspec.json.encode(record))
        return record

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a node has ever used this directory."""
        return (path / "_state" / "node").exists()

    def open_log(self, *, cluster_name: str | None) -> StateLog:
        """The state log; a new one begins with an empty state. None: whatever the cluster's name is. Raises StateDamaged."""
        return StateLog(self._state_path, cluster_name=cluster_name)

    def close(self) -> None:
        """Give the directory free."""
        _held.discard(self.path.resolve())
        os.close(self._lock_file)


def version_number(text: str) -> tuple[int, ...]:
    """``1.2.3`` as something to compare; what follows the numbers does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0].partition("+")[0])[:3])


#: fcntl locks do not exclude the same process; several nodes in one process (tests) must not share a directory either.
_held: set[Path] = set()


def _locked_here(path: Path) -> None:
    resolved = path.resolve()
    if resolved in _held:
        raise DirectoryInUse(f"the data directory {path} is used by another node of this process")
    _held.add(resolved)


class StateLog:
    """Term and accepted state, durable. ``term`` and ``state`` are what was read; ``save`` adds the next."""

    def __init__(self, path: Path, *, cluster_name: str | None) -> None:
        self._path = path
        self._is_usable = True
        for name in os.listdir(path):
            if name.endswith(".tmp"):
                (path / name).unlink()
        generations = sorted(int(m[1]) for name in os.listdir(path) if (m := _STATE_FILE.fullmatch(name)))
        if not generations:
            self.term, self.state = 0, ClusterState(cluster_name=cluster_name or "")
            self._generation = 0
            self._begin_generation()
            return
        self._generation = generations[-1]
        self._read()
        for old in generations[:-1]:
            self._file_path(old).unlink()
        if cluster_name is not None and self.state.cluster_name != cluster_name:
            raise StateDamaged(
                f"the data directory {path.parent} belongs to cluster [{self.state.cluster_name}], "
                f"but cluster.name is [{cluster_name}]"
            )

    def _file_path(self, generation: int) -> Path:
        return self._path / f"state-{generation}"

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        file = self._file_path(self._generation)
        data = file.read_bytes()
        records, end = _read_records(data)
        if end < len(data) and _finds_record_after(data, end):
            raise StateDamaged(f"{file} is damaged at byte {end}: records after it are intact. Restore this node")
        if not records or not isinstance(records[0], Whole):
            raise StateDamaged(f"{file} is damaged: it does not begin with a state. Restore this node")
        self.term, self.state = records[0].term, records[0].state
        for record in records[1:]:
            if not isinstance(record, Change):
                raise StateDamaged(f"{file} is damaged: a second whole state")
            self.term = record.term
            if record.diff is not None:
                try:
                    self.state = patch(self.state, record.diff)
                except BaseMismatch as error:
                    raise StateDamaged(f"{file} is damaged: {error}") from error
        self._first_bytes = _record_bytes(data, 0)
        self._bytes = end
        self._file = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        if end < len(data):
            os.ftruncate(self._file, end)
            os.fsync(self._file)

    # --- writing -----------------------------------------------------------------------------------------------------

    def save(self, term: int, state: ClusterState) -> None:
        """Durable on return. An OSError leaves the outcome unknown: the log cannot be used again, the node must stop."""
        assert self._is_usable, "the state log has failed; the node should have stopped"
        assert term >= self.term
        self._is_usable = False
        change = None
        if state is not self.state and state != self.state:
            is_same_base = (state.coordination.term, state.version) == (
                self.state.coordination.term,
                self.state.version,
            )
            # The same state with its configuration committed: the change is from the state to itself.
            assert not is_same_base or state.tables is self.state.tables
            change = diff(self.state, state)
        elif term == self.term:
            self._is_usable = True
            return
        self.term, self.state = term, state
        if self._bytes - self._first_bytes > max(self._first_bytes, limits.STATE_LOG_BYTES_MIN):
            self._begin_generation()
        else:
            record = _record(_encode(Change(term, change)), self._bytes)
            written = os.pwrite(self._file, record, self._bytes)
            if written != len(record):
                raise OSError(f"only {written} of {len(record)} bytes of the cluster state could be written")
            os.fdatasync(self._file)
            self._bytes += len(record)
        self._is_usable = True

    def _begin_generation(self) -> None:
        old, old_file = self._generation, getattr(self, "_file", None)
        self._generation += 1
        record = _record(_encode(Whole(self.term, self.state)), 0)
        write_durably(self._file_path(self._generation), record)
        self._file = os.open(self._file_path(self._generation), os.O_RDWR | os.O_CLOEXEC)
        self._first_bytes = self._bytes = len(record)
        if old_file is not None:
            os.close(old_file)
            self._file_path(old).unlink()

    def close(self) -> None:
        os.close(self._file)


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


def write_durably(path: Path, data: bytes) -> None:
    """Put a file in place so that after a crash it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        written = 0
        while written < len(data):
            written += os.write(file, memoryview(data)[written:])
        os.fsync(file)
    finally:
        os.close(file)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
