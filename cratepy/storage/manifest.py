"""A shard's manifest: which files are the shard. The only durable file that changes.

In: the directory. Out: a :class:`Manifest`, or ``ShardFailed`` in words an operator can act on. It is replaced as a
whole: write ``manifest.tmp``, sync it, rename it, sync the directory; so after any crash it is the old or the new one.
A new copy has none: until its first flush the first record of its first translog stands for it (:mod:`recovery`).

    magic (8) | format (u32) | payload length (u64) | crc32c of format, length and payload (u32) | payload (msgpack)

The header never changes its layout, so a later format can always be told from damage. Fields may be added with
defaults without a new format number; a number above ours means "cannot be read by this version" and is refused.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import google_crc32c
import msgspec

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage.filesystem import FileSystem

FORMAT: Final = 1
NAME: Final = "manifest"
TEMPORARY_NAME: Final = "manifest.tmp"

_MAGIC: Final = b"CRPYMANI"
_HEADER: Final = struct.Struct("<8sIQI")


class FileEntry(msgspec.Struct, frozen=True):
    """A file of a segment: name inside the segment's directory, bytes, crc32c of all of them."""

    name: str
    size: int
    checksum: int


class SegmentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A live segment. Parts that are not there (a text index, a codec) are simply no entry of ``files``."""

    number: int
    rows: int
    files: tuple[FileEntry, ...]
    #: The file of dead rows that counts, and how many it holds.
    deletes: FileEntry | None = None
    deleted: int = 0
    format: int = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard copy was at its last flush; all later operations are in the translogs from ``translog_generation``."""

    table_uuid: str
    shard: int
    allocation_id: str
    #: Rises with every manifest written.
    revision: int
    primary_term: int
    max_seq_no: int
    local_checkpoint: int
    translog_generation: int
    next_segment: int
    #: Oldest rows first.
    segments: tuple[SegmentEntry, ...] = ()
    #: The file of deleted ids that replication may still ask for, and from which sequence number on it knows them all.
    tombstones: FileEntry | None = None
    deletes_known_from: int | None = None


#: Made once and here: shards open on several threads, and msgspec crashes if two of them look at a type for the first time.
_decoder: Final = msgspec.msgpack.Decoder(Manifest)


def encode_payload(manifest: Manifest) -> bytes:
    return msgspec.msgpack.encode(manifest)


def decode_payload(payload: bytes | memoryview) -> Manifest:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(payload)


def write_manifest(files: FileSystem, directory: Path, manifest: Manifest) -> None:
    """Replace the manifest durably; raises OSError with the old one still in place, and ``manifest.tmp`` beside it."""
    payload = encode_payload(manifest)
    checksum = _checksum(FORMAT, payload)
    temporary = directory / TEMPORARY_NAME
    file = files.create(temporary)
    try:
        file.write(_HEADER.pack(_MAGIC, FORMAT, len(payload), checksum) + payload)
        file.sync()
    finally:
        file.close()
    files.rename(temporary, directory / NAME)
    files.sync_directory(directory)


def read_manifest(files: FileSystem, directory: Path) -> Manifest:
    """The manifest of a shard directory; raises ShardFailed if it is missing, damaged or of a newer format."""
    path = directory / NAME
    if not files.exists(path):
        raise ShardFailed(f"{path} does not exist: there is no shard copy here")
    size = files.size(path)
    if size > limits.MANIFEST_BYTES_MAX:
        raise ShardFailed(f"{path} is damaged: {size} bytes, at most {limits.MANIFEST_BYTES_MAX} are possible")
    return decode_manifest(files.read(path), str(path))


def decode_manifest(data: bytes, path: str) -> Manifest:
    if len(data) < _HEADER.size:
        raise ShardFailed(f"{path} is damaged: {len(data)} bytes are shorter than its header")
    magic, format_number, length, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ShardFailed(f"{path} is damaged: it does not start with {_MAGIC!r}")
    payload = data[_HEADER.size :]
    if length != len(payload) or checksum != _checksum(format_number, payload):
        raise ShardFailed(f"{path} is damaged: its checksum does not match")
    if format_number > FORMAT:
        raise ShardFailed(f"{path} has format {format_number}; this version reads formats up to {FORMAT}")
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ShardFailed(f"{path} is damaged: {error}") from error


def _checksum(format_number: int, payload: bytes) -> int:
    checksum: int = google_crc32c.extend(google_crc32c.value(struct.pack("<IQ", format_number, len(payload))), payload)
    return checksum
