"""A block of rows that can be read cell by cell: a record batch at rest and its cell readers.

In: a batch (of a segment or of the write buffer) with the system columns as ``_id``, ``_seq_no`` … beside ``c<oid>``.
Out: SQL values of one row. Its own room because the write buffer and segments answer ``get`` with it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa

from cratepy.errors import StaleRouting
from cratepy.model.arrow import stored_type
from cratepy.model.leaves import Leaf, is_leaf_source, leaves_of
from cratepy.model.schema import TableDefinition
from cratepy.model.types import BIGINT, TEXT, DataType
from cratepy.storage.cells import CellReader, cell_reader

ID: Final = "_id"
SEQ_NO: Final = "_seq_no"
PRIMARY_TERM: Final = "_primary_term"
VERSION: Final = "_version"

#: Table setting ``codec``.
DEFAULT_CODEC: Final = "default"
BEST_COMPRESSION: Final = "best_compression"

#: The columns every stored row has, in the order of the file.
SYSTEM_TYPES: Final[dict[str, DataType]] = {ID: TEXT, SEQ_NO: BIGINT, PRIMARY_TERM: BIGINT, VERSION: BIGINT}
SYSTEM_FIELDS: Final = (
    pa.field(ID, pa.string()),
    pa.field(SEQ_NO, pa.int64()),
    pa.field(PRIMARY_TERM, pa.int64()),
    pa.field(VERSION, pa.int64()),
)


def _read_null(row: int) -> None:
    return None


class Layout:
    """The columns of a table as storage sees them: what each source is; a new one per definition."""

    __slots__ = ("columns", "definition", "leaves", "types")

    def __init__(self, definition: TableDefinition) -> None:
        self.definition = definition
        #: The leaves of object columns, by source.
        self.leaves: Mapping[str, Leaf] = {
            leaf.source: leaf for column in definition.columns for leaf in leaves_of(column)
        }
        #: Source → SQL type, table columns and system columns.
        self.types: Mapping[str, DataType] = {
            **{f"c{column.oid}": column.type for column in definition.columns},
            **{source: leaf.type for source, leaf in self.leaves.items()},
            **SYSTEM_TYPES,
        }
        #: (name, source) of the table's columns, in their order.
        self.columns: tuple[tuple[str, str], ...] = tuple((c.name, f"c{c.oid}") for c in definition.columns)

    @property
    def codec(self) -> str:
        """``default`` or ``best_compression``: how segments written from now on are stored."""
        value = self.definition.settings.get("codec", DEFAULT_CODEC)
        assert isinstance(value, str)
        return value

    @property
    def key_source(self) -> str | None:
        """The column whose text ``_id`` is: the primary key if it is one column."""
        key = self.definition.primary_key
        column = self.definition.column(key[0]) if len(key) == 1 else None
        return None if column is None else f"c{column.oid}"

    def type_of(self, source: str) -> DataType:
        found = self.types.get(source)
        if found is None:
            # The caller planned with a newer definition than this node has applied.
            raise StaleRouting(f"{self.definition.name} has no column {source} here")
        return found

    def stored_schema(self, schemas: Iterable[pa.Schema]) -> pa.Schema:
        """The schema of a segment of batches with these: every column one of them has, then the system columns.

        Table columns come in the definition's order and types; columns dropped since stay until nobody has them. Leaves
        are left out: see ``storage.leaves``.
        """
        fields: dict[str, pa.Field] = {}
        for schema in schemas:
            for field in schema:
                if not is_leaf_source(field.name):
                    fields.setdefault(field.name, field)
        for field in SYSTEM_FIELDS:
            fields.pop(field.name, None)
        known = []
        for _, source in self.columns:
            if fields.pop(source, None) is not None:
                known.append(pa.field(source, stored_type(self.types[source])))
        return pa.schema([*known, *fields.values(), *SYSTEM_FIELDS])


class Block:
    """Rows of one batch. ``reader`` is safe on several threads: the worst is a reader made twice."""

    __slots__ = ("batch", "readers")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        #: Readers made so far, by source. They may be bigger than a one-row block, but of those few stay: see ``buffer``.
        self.readers: dict[str, CellReader] = {}

    def column(self, source: str) -> pa.Array | None:
        """The array at rest, or None: the column was added later, all its values are NULL."""
        index = self.batch.schema.get_field_index(source)
        return self.batch.column(index) if index >= 0 else None

    @property
    def schema(self) -> pa.Schema:
        return self.batch.schema

    @property
    def row_count(self) -> int:
        rows: int = self.batch.num_rows
        return rows

    def reader(self, source: str, data_type: DataType) -> CellReader:
        reader = self.readers.get(source)
        if reader is None:
            array = self.column(source)
            reader = _read_null if array is None else cell_reader(array, data_type)
            self.readers[source] = reader
        return reader

    def document(self, row: int, layout: Layout) -> dict[str, Any]:
        """The row as an object of its columns that are not NULL, as ``_doc`` shows it."""
        values = ((name, self.reader(source, layout.types[source])(row)) for name, source in layout.columns)
        return {name: value for name, value in values if value is not None}


def raw_text(document: dict[str, Any]) -> str:
    """``_raw``: the document as JSON text."""
    return msgspec.json.encode(document).decode()


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in ``schema``; columns it lacks are NULL."""
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        column = batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, field.type)
        arrays.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
