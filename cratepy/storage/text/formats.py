"""Bytes of text indexes: our ``text.meta``, and the parts of tantivy's format that views are made of.

    text.meta   magic (8) | format (u32) | zero (u32) | msgpack: rows, tie base, fields, tantivy's schema and settings (JSON)
    meta.json   of a view: tantivy's, with the segments that we list
    .del        of a view: max_doc (u32) | a bit per row, 1 is alive, padded to 8 bytes | footer
    footer      JSON {"version": …, "crc": crc32 of all before} | its length (u32) | 1337 (u32)

In: values. Out: bytes, and back; ShardFailed for damage. Source: tantivy 0.27 (index format 7), ``directory/footer.rs``,
``fastfield/alive_bitset.rs``, ``index/index_meta.rs``: internal there, so a test keeps their bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Final

import msgspec
import numpy as np
from pyroaring import BitMap

from cratepy.errors import ShardFailed
from cratepy.model.search import AnalyzerDefinition

FORMAT: Final = 1
META: Final = "text.meta"
#: The files of a tantivy segment; ``text.<extension>`` in ours.
EXTENSIONS: Final = ("idx", "pos", "term", "store", "fast", "fieldnorm")
PREFIX: Final = "text."
#: A field tantivy fills with consecutive numbers from a random one on: row = value - ``tie_base``.
TIE_FIELD: Final = "tie"

_MAGIC: Final = b"CRPYTEXT"
_HEADER: Final = struct.Struct("<8sII")
_FOOTER_END: Final = struct.Struct("<II")
_FOOTER_MAGIC: Final = 1337
#: In footers that we write.
_VERSION: Final = {"major": 0, "minor": 27, "patch": 0, "index_format_version": 7}


class FieldMeta(msgspec.Struct, frozen=True, array_like=True):
    """A field of the index: the index source it is named after, and how its texts were analyzed."""

    source: str
    analyzer: AnalyzerDefinition


class TextMeta(msgspec.Struct, frozen=True, array_like=True):
    rows: int
    tie_base: int
    #: In the order of their numbers in the index, after ``TIE_FIELD``.
    fields: tuple[FieldMeta, ...]
    schema: bytes
    settings: bytes


#: Made at import: see the decoder of the manifest.
_decoder: Final = msgspec.msgpack.Decoder(TextMeta)


def encode_meta(meta: TextMeta) -> bytes:
    return _HEADER.pack(_MAGIC, FORMAT, 0) + msgspec.msgpack.encode(meta)


def decode_meta(data: bytes, path: str) -> TextMeta:
    if len(data) < _HEADER.size or data[:8] != _MAGIC:
        raise ShardFailed(f"{path} is damaged: it does not start with {_MAGIC!r}")
    _, format_number, _ = _HEADER.unpack_from(data)
    if format_number > FORMAT:
        raise ShardFailed(f"{path} has format {format_number}; this version reads formats up to {FORMAT}")
    try:
        return _decoder.decode(data[_HEADER.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ShardFailed(f"{path} is damaged: {error}") from error


def has_right_footer(data: memoryview) -> bool:
    """Whether a file of tantivy is what was written, by its own checksum."""
    if len(data) < _FOOTER_END.size:
        return False
    length, magic = _FOOTER_END.unpack_from(data, len(data) - _FOOTER_END.size)
    body = len(data) - _FOOTER_END.size - length
    if magic != _FOOTER_MAGIC or body < 0:
        return False
    try:
        footer = json.loads(bytes(data[body : body + length]))
    except ValueError:
        return False
    return isinstance(footer, dict) and footer.get("crc") == zlib.crc32(data[:body])


def deletes_file(rows: int, deletes: BitMap) -> bytes:
    alive: np.ndarray = np.zeros(-rows % 64 + rows, dtype=bool)
    alive[:rows] = True
    alive[np.array(deletes, dtype=np.int64)] = False
    body = struct.pack("<I", rows) + np.packbits(alive, bitorder="little").tobytes()
    footer = json.dumps({"version": _VERSION, "crc": zlib.crc32(body)}, separators=(",", ":")).encode()
    return body + footer + _FOOTER_END.pack(len(footer), _FOOTER_MAGIC)


class ViewSegment(msgspec.Struct, frozen=True):
    """A segment as a view's ``meta.json`` lists it; ``opstamp`` of its ``.del`` file if rows are dead."""

    number: int
    rows: int
    deleted: int
    opstamp: int

    @property
    def stem(self) -> str:
        """The name of its files in the view."""
        return f"{self.number:032x}"

    @property
    def deletes_name(self) -> str:
        return f"{self.stem}.{self.opstamp}.del"


def view_meta(segments: list[ViewSegment], meta: TextMeta, *, opstamp: int) -> bytes:
    """``meta.json``; ``meta`` of the segment with the most fields."""
    listed: list[dict[str, Any]] = []
    for segment in segments:
        stem = segment.stem
        uuid = "-".join((stem[:8], stem[8:12], stem[12:16], stem[16:20], stem[20:]))
        deletes = {"num_deleted_docs": segment.deleted, "opstamp": segment.opstamp} if segment.deleted else None
        listed.append({"segment_id": uuid, "max_doc": segment.rows, "deletes": deletes})
    content = {
        "index_settings": json.loads(meta.settings),
        "segments": listed,
        "schema": json.loads(meta.schema),
        "opstamp": opstamp,
    }
    return json.dumps(content, indent=2).encode()
