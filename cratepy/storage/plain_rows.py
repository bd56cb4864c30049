"""Single rows as tuples: written, logged and read without Arrow, which wants 20 to 100 µs for an array of one value.

In: one row of SQL values and the schema at rest. Out: the same values by cell (:class:`PlainBlock`, a block of the write
buffer that grows row by row), bytes for the log, and one Arrow batch for all rows of a block when they become a segment.
Its own room because the latency of a durable insert of one row is made here. The maker of a :class:`PlainRow` has checked
that every value is one of its column (range, UTF-8): a conversion that failed later would fail the shard.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from cratepy.model.arrow import MS_PER_DAY
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.storage.cells import CellReader

#: Estimated bytes of a value in memory, beside the bytes it has in the log.
VALUE_BYTES: Final = 60

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class PlainRow:
    """One row: a SQL value per field of ``schema`` (fields ``c<oid>`` at rest); no objects among them, nor arrays of dates or numerics."""

    schema: pa.Schema
    values: Sequence[Any]

    @property
    def num_rows(self) -> int:
        return 1

    @property
    def num_columns(self) -> int:
        return len(self.values)

    def batch(self) -> pa.RecordBatch:
        return plain_batch(self.schema, [self.values])

    def serialized(self) -> bytes:
        return _encode(self.values)


def decode_plain_row(body: bytes | memoryview, schema: pa.Schema) -> PlainRow:
    """Raises msgspec.MsgspecError or IndexError for what no writer of ours wrote."""
    values = _decode(body)
    if len(values) != len(schema):
        raise IndexError(f"a row of {len(values)} values for {len(schema)} columns")
    return PlainRow(schema, values)


def plain_batch(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of SQL values as one batch at rest."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(_stored(column, field.type), field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _stored(values: Sequence[Any], stored: pa.DataType) -> Sequence[Any]:
    """SQL values as Arrow's constructor takes them; the types at rest tell enough, see :mod:`cratepy.model.arrow`."""
    if pa.types.is_date32(stored):
        return [None if value is None else value // MS_PER_DAY for value in values]
    if pa.types.is_decimal(stored):
        return [None if value is None else decimal.Decimal(value) for value in values]
    return values


class PlainBlock:
    """Rows of one schema, one added at a time; read like a :class:`~cratepy.storage.blocks.Block`.

    One thread adds, any thread reads the rows it knows of.
    """

    __slots__ = ("_places", "readers", "rows", "schema")

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows: list[Sequence[Any]] = []
        #: By source, as of a Block.
        self.readers: dict[str, CellReader] = {}
        self._places = {name: place for place, name in enumerate(schema.names)}

    @property
    def row_count(self) -> int:
        return len(self.rows)

    @property
    def batch(self) -> pa.RecordBatch:
        """The rows as of now; made anew each time."""
        return plain_batch(self.schema, self.rows)

    def reader(self, source: str, data_type: DataType) -> CellReader:
        reader = self.readers.get(source)
        if reader is None:
            rows, place = self.rows, self._places.get(source)
            reader = _read_null if place is None else lambda row: rows[row][place]
            self.readers[source] = reader
        return reader

    def document(self, row: int, layout: Any) -> dict[str, Any]:
        """The row as an object of its columns that are not NULL, as ``_doc`` shows it."""
        values = ((name, self.reader(source, layout.types[source])(row)) for name, source in layout.columns)
        return {name: value for name, value in values if value is not None}


def _read_null(row: int) -> None:
    return None
