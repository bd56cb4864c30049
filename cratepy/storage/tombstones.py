"""What was deleted, for as long as replication needs it: a late older operation on a row must not bring it back.

In: the deletes of a copy, and from which sequence number on they are to be kept (the retention point: the lowest local
checkpoint of the copies that may still send or miss something). Out: (seq_no, primary term, version) of a deleted id, and
the point from which deletes are completely known. Without a retention point nothing is kept, and nothing costs anything.

    file  magic (8) | format (u32) | msgpack array of [id, seq_no, primary term, version]; its checksum is the manifest's

Flush writes what is kept beside the manifest; deletes after it are in the translog and come back by replay. Bounded: above
``limits.TOMBSTONES_MAX`` the older half goes and the point rises, and who needs more has to copy files. Source of the rule:
"tombstones kept until seq_no ≤ global checkpoint and in a commit", Elasticsearch's answer to its diverging replicas.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.manifest import FileEntry

PREFIX: Final = "tombstones-"
FORMAT: Final = 1

_MAGIC: Final = b"CRPYTOMB"
_HEADER: Final = struct.Struct("<8sI")
#: seq_no, primary term, version.
Tombstone = tuple[int, int, int]
_Entry = tuple[str, int, int, int]
_decode = msgspec.msgpack.Decoder(list[_Entry]).decode


class Tombstones:
    """See the module. Changed under the shard's write lock."""

    __slots__ = ("by_id", "known_from")

    def __init__(self, entries: Iterable[_Entry] = (), *, known_from: int | None = None) -> None:
        self.by_id: dict[str, Tombstone] = {entry[0]: entry[1:] for entry in entries}
        #: All deletes with this sequence number or a higher one are known; None: none are kept.
        self.known_from = known_from

    def retain(self, seq_no: int | None, *, next_seq_no: int) -> int | None:
        """Keep deletes from ``seq_no`` on and no others; returns from where on they are really known. None: keep none."""
        if seq_no is None:
            self.known_from = None
            self.by_id = {}
            return None
        self.known_from = max(seq_no, next_seq_no if self.known_from is None else self.known_from)
        self._trim()
        return self.known_from

    def _trim(self) -> None:
        first = self.known_from
        assert first is not None
        if any(tombstone[0] < first for tombstone in self.by_id.values()):
            self.by_id = {row_id: tombstone for row_id, tombstone in self.by_id.items() if tombstone[0] >= first}

    def add(self, ids: Sequence[str], *, first_seq_no: int, primary_term: int, versions: Sequence[int] | int) -> None:
        if self.known_from is None:
            return
        for row, row_id in enumerate(ids):
            version = versions if isinstance(versions, int) else versions[row]
            self.by_id[row_id] = (first_seq_no + row, primary_term, version)
        if len(self.by_id) > limits.TOMBSTONES_MAX:
            ordered = sorted(tombstone[0] for tombstone in self.by_id.values())
            self.known_from = ordered[len(ordered) // 2]
            self._trim()

    def forget(self, ids: Iterable[str]) -> None:
        """These exist again: their rows say what is newest."""
        if self.by_id:
            for row_id in ids:
                self.by_id.pop(row_id, None)

    def entries(self) -> list[_Entry]:
        return [(row_id, *tombstone) for row_id, tombstone in self.by_id.items()]


def write_tombstones(files: FileSystem, directory: Path, entries: list[_Entry], *, revision: int) -> FileEntry | None:
    """Write them durably for the manifest of this revision, up to the name; None: there are none."""
    if not entries:
        return None
    name = f"{PREFIX}{revision}"
    data = _HEADER.pack(_MAGIC, FORMAT) + msgspec.msgpack.encode(entries)
    file = files.create(directory / name)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    return FileEntry(name, len(data), google_crc32c.value(data))


def read_tombstones(files: FileSystem, directory: Path, entry: FileEntry | None) -> list[_Entry]:
    """Raises ShardFailed for damage and for a newer format."""
    if entry is None:
        return []
    path = directory / entry.name
    if not files.exists(path):
        raise ShardFailed(f"{path} is missing")
    data = files.read(path)
    if (len(data), google_crc32c.value(data)) != (entry.size, entry.checksum):
        raise ShardFailed(f"{path} is damaged: its checksum does not match")
    magic, format_number = _HEADER.unpack_from(data)
    if magic != _MAGIC or format_number > FORMAT:
        raise ShardFailed(f"{path} has format {format_number}; this version reads formats up to {FORMAT}")
    return _decode(data[_HEADER.size :])
