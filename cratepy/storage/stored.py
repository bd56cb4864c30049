"""Blocks of a segment: encoded columns of a memory map, checked when first touched, read as arrays or cell by cell.

In: the map of ``columns`` and the pieces that ``meta`` lists. Out: arrays at rest or in flight, cell readers. A piece's
checksum is compared before its bytes are looked at for the first time, so that damage becomes :class:`SegmentDamaged`
and never an answer. What is decompressed is kept in the node's bounded cache; what can be read in place is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.model.arrow import arrow_type
from cratepy.model.types import BIGINT, BYTE, INTEGER, SMALLINT, TEXT, TIMESTAMPTZ, DataType
from cratepy.records import dataclass
from cratepy.storage.cells import CellReader, cell_reader
from cratepy.storage.columns import ColumnCache, selected_views
from cratepy.storage.decoding import decode, decode_views, piece_reader
from cratepy.storage.encoding import Encoding, Piece
from cratepy.storage.hashing import checksum_of

#: Level 3 saves a tenth more than level 1 and takes twice as long, 2 µs a row of 31 columns; above it little is gained.
ZSTD: Final = pa.Codec("zstd", compression_level=3)
#: What an entry of the cache costs beside its buffers.
_ENTRY_BYTES: Final = 512
_READER_BYTES: Final = 2_048
#: SQL types to read the key column as that ``_id`` is the text of.
_KEY_TYPES: Final[dict[pa.DataType, DataType]] = {
    pa.int8(): BYTE,
    pa.int16(): SMALLINT,
    pa.int32(): INTEGER,
    pa.int64(): BIGINT,
    pa.timestamp("ms"): TIMESTAMPTZ,
    pa.string(): TEXT,
}


class SegmentDamaged(ShardFailed):
    """Bytes that were read are not the bytes that were written."""


class StoredColumns:
    """What the blocks of a segment share."""

    __slots__ = ("cache", "data", "key", "path", "places", "schema")

    def __init__(self, data: pa.Buffer, schema: pa.Schema, *, path: str, cache: ColumnCache, key: object) -> None:
        self.data = data
        self.schema = schema
        self.path = path
        self.cache = cache
        self.key = key
        #: Source → place of its piece in a block.
        self.places: Mapping[str, int] = {name: place for place, name in enumerate(schema.names)}


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """A block for a new segment that need not be encoded again: pieces and their bytes."""

    num_rows: int
    pieces: Sequence[tuple[Piece, pa.Buffer]]

    @property
    def nbytes(self) -> int:
        return sum(piece.size for piece, _ in self.pieces)


def _read_null(row: int) -> None:
    return None


class StoredBlock:
    """Rows of one block; the counterpart of :class:`~cratepy.storage.blocks.Block`. Safe on all threads."""

    __slots__ = ("_checked", "_columns", "index", "pieces", "readers", "row_count")

    def __init__(self, columns: StoredColumns, index: int, rows: int, pieces: Sequence[Piece]) -> None:
        self._columns = columns
        self.index = index
        self.row_count = rows
        self.pieces = pieces
        #: Readers that hold no bytes of their own, by source; more than ``BLOCK_READERS_MAX`` are the cache's.
        self.readers: dict[str, CellReader] = {}
        #: 1: the piece's checksum was right.
        self._checked = bytearray(len(pieces))

    @property
    def schema(self) -> pa.Schema:
        return self._columns.schema

    @property
    def raw_bytes(self) -> int:
        """Bytes of the encoded columns before compression."""
        return sum(piece.raw_size or piece.size for piece in self.pieces)

    @property
    def batch(self) -> pa.RecordBatch:
        """All columns at rest, decoded anew."""
        return self.batch_of(self.schema)

    def batch_of(self, schema: pa.Schema) -> pa.RecordBatch:
        """Some of the columns at rest, decoded anew."""
        arrays = [self._array(self._columns.places[name]) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def has(self, source: str) -> bool:
        return source in self._columns.places

    def column(self, source: str) -> pa.Array | None:
        """The array at rest, decoded anew, or None: the column was added later, all its values are NULL."""
        place = self._columns.places.get(source)
        return None if place is None else self._array(place)

    def flight(self, source: str, data_type: DataType, live: np.ndarray | None) -> tuple[pa.Array, int]:
        """The column in flight (the rows ``live`` of it), and the bytes of memory it holds beside the map."""
        place = self._columns.places[source]
        piece = self._followed(place)
        target, at_rest = arrow_type(data_type), self.schema.field(place).type
        if piece.encoding is not Encoding.SAME and target == pa.string_view() and at_rest == pa.string():
            views, made = decode_views(piece, self._bytes(piece), self.row_count)
            if live is not None:
                views = selected_views(views, live)
            return views, made + piece.raw_size + _ENTRY_BYTES
        array = self._array(place)
        is_map = piece.encoding in (Encoding.PLAIN, Encoding.ARROW) and not piece.raw_size
        if live is not None:
            array, is_map = array.take(pa.array(live)), False
        if array.type != target:
            array, is_map = array.cast(target), False
        return array, _ENTRY_BYTES + (0 if is_map else array.get_total_buffer_size())

    def _followed(self, place: int) -> Piece:
        """The piece that holds the characters: of the key column if this is the same text."""
        piece = self._piece(place)
        if piece.encoding is Encoding.SAME:
            other = self._columns.places[piece.source]
            if self.schema.field(other).type == pa.string():
                return self._piece(other)
        return piece

    def _array(self, place: int) -> pa.Array:
        piece, at_rest = self._piece(place), self.schema.field(place).type
        if piece.encoding is not Encoding.SAME:
            return decode(piece, self._bytes(piece), self.row_count, at_rest)
        key = self._array(self._columns.places[piece.source])
        if pa.types.is_timestamp(key.type):
            key = key.view(pa.int64())
        return key.cast(pa.string())

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _piece(self, place: int) -> Piece:
        """The piece; its checksum was right."""
        piece = self.pieces[place]
        if not self._checked[place]:
            data = self._columns.data.slice(piece.offset, piece.size)
            if checksum_of(data) != piece.checksum:
                name = self.schema.names[place]
                raise SegmentDamaged(
                    f"{self._columns.path} is damaged: the checksum of column {name} of block {self.index} does not match"
                )
            self._checked[place] = 1
        return piece

    def check(self, source: str) -> None:
        """Compare the checksum of a column, which is there; raises SegmentDamaged."""
        self._piece(self._columns.places[source])

    def _bytes(self, piece: Piece) -> pa.Buffer:
        data = self._columns.data.slice(piece.offset, piece.size)
        if piece.raw_size:
            return ZSTD.decompress(data, decompressed_size=piece.raw_size)
        return data

    def kept(self) -> KeptBlock:
        """The block as it is on disk, checked; for another segment of the same schema and codec."""
        pieces = [self._piece(place) for place in range(len(self.pieces))]
        return KeptBlock(
            self.row_count, [(piece, self._columns.data.slice(piece.offset, piece.size)) for piece in pieces]
        )

    # --- cells -------------------------------------------------------------------------------------------------------

    def reader(self, source: str, data_type: DataType) -> CellReader:
        found = self.readers.get(source)
        if found is not None:
            return found
        place = self._columns.places.get(source)
        if place is None:
            self.readers[source] = _read_null
            return _read_null
        piece, at_rest = self._piece(place), self.schema.field(place).type
        if piece.encoding is Encoding.SAME:
            reader = self.readers[source] = self._key_reader(piece)
            return reader
        if not piece.raw_size and len(self.readers) < limits.BLOCK_READERS_MAX:
            in_place = piece_reader(piece, self._bytes(piece), self.row_count, at_rest, data_type)
            if in_place is not None:
                self.readers[source] = in_place
                return in_place

        def make() -> tuple[CellReader, int]:
            data = self._bytes(piece)
            made = piece_reader(piece, data, self.row_count, at_rest, data_type)
            if made is not None:
                return made, _READER_BYTES + piece.raw_size
            array = decode(piece, data, self.row_count, at_rest)
            return cell_reader(array, data_type), array.get_total_buffer_size() + _ENTRY_BYTES

        cached: CellReader = self._columns.cache.get((self._columns.key, source, self.index, "cells"), make)
        return cached

    def _key_reader(self, piece: Piece) -> CellReader:
        source = piece.source
        data_type = _KEY_TYPES[self.schema.field(self._columns.places[source]).type]
        read, in_place = self.reader, self.reader(source, data_type)
        if source in self.readers:
            # It holds no memory that the cache should be able to give back.
            return in_place if data_type is TEXT else lambda row: str(in_place(row))
        if data_type is TEXT:
            return lambda row: read(source, data_type)(row)
        return lambda row: str(read(source, data_type)(row))

    def document(self, row: int, layout: Any) -> dict[str, Any]:
        """The row as an object of its columns that are not NULL, as ``_doc`` shows it."""
        values = ((name, self.reader(source, layout.types[source])(row)) for name, source in layout.columns)
        return {name: value for name, value in values if value is not None}
