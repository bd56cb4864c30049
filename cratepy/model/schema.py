"""Schema of tables: what ``cluster`` publishes, ``sql`` plans with and ``storage`` obeys.

Expressions in a schema (defaults, generated columns, checks) are kept as SQL text and analyzed where they are used: the
text is what SHOW CREATE TABLE prints, and it survives a change of the expression classes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy.errors import SQLParseError
from cratepy.limits import TABLE_COLUMNS_MAX
from cratepy.model.names import RelationName
from cratepy.model.search import AnalyzerDefinition, IndexDefinition, part_path
from cratepy.model.types import BIGINT, OBJECT, REAL, TEXT, DataType

#: Values a table setting can have.
SettingValue = bool | int | float | str | None


class ColumnDefinition(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A top-level column. Sub-columns of an object column are the fields of its type."""

    #: Stable id, unique in the table and never used again; the physical name of the column on disk is ``c<oid>``.
    oid: int
    name: str
    type: DataType
    is_nullable: bool = True
    default_sql: str | None = None
    generated_sql: str | None = None
    #: The generated expression as output names show expressions: ``(a + 1)``. It is what catalogs and errors tell.
    generated_shown: str | None = None
    #: ``plain`` (default), ``off``, ``fulltext``, or of a geo_shape the tree that was asked for.
    index: str = "plain"
    analyzer: str | None = None
    #: Options of the tree, as SHOW CREATE TABLE prints them.
    index_options: tuple[tuple[str, str], ...] = ()
    has_columnstore: bool = True


class CheckConstraint(msgspec.Struct, frozen=True, gc=False):
    name: str
    sql: str


class PartDefault(msgspec.Struct, frozen=True, gc=False):
    """The DEFAULT of a part of an object column: where the object is there and does not name the part."""

    path: str
    sql: str


class TableDefinition(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A user table. ``uuid`` is its identity: a table dropped and created again under its name is another table."""

    name: RelationName
    uuid: str
    oid: int
    columns: tuple[ColumnDefinition, ...]
    #: Column names, in the order of the PRIMARY KEY clause; empty if there is none.
    primary_key: tuple[str, ...] = ()
    primary_key_name: str | None = None
    #: The CLUSTERED BY column; None routes by ``_id``.
    clustered_by: str | None = None
    shards: int = 4
    #: shard = floorMod(murmur3(routing), routing_shards) / (routing_shards / shards)
    routing_shards: int = 4
    #: ``'0-1'``, ``'2'``, …: as written.
    replicas: str = "0-1"
    column_policy: str = "strict"
    checks: tuple[CheckConstraint, ...] = ()
    #: Parts of object columns that must not be NULL, and those with a default, by path.
    required_parts: tuple[str, ...] = ()
    part_defaults: tuple[PartDefault, ...] = ()
    #: Named indexes; a column's own index is in its definition.
    indexes: tuple[IndexDefinition, ...] = ()
    #: The custom analyzers its indexes use, as they were when the table was made: redefining one changes no table.
    analyzers: tuple[AnalyzerDefinition, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    #: Explicitly given settings only, by CrateDB's names.
    settings: dict[str, SettingValue] = {}
    is_closed: bool = False
    #: Rises with every change of this definition; a node that sees a higher one than it knows waits for the state.
    version: int = 1
    #: The oid of the next new column; 0 until the master has given oids to the first columns.
    next_column_oid: int = 0
    #: Columns and sub-columns in the order they came, by path, if that is not the order of :func:`column_paths`: a part that
    #: is added later comes last. It is what clients see as ordinal positions, and nothing else.
    ordinals: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnDefinition | None:
        for column in self.columns:
            if column.name == name:
                return column
        return None


def column_paths(columns: tuple[ColumnDefinition, ...]) -> list[str]:
    """The paths of all columns and sub-columns (``o['a']['b']``), each column followed by its parts."""
    found: list[str] = []

    def note(path: str, data_type: DataType) -> None:
        found.append(path)
        while data_type.element is not None:
            data_type = data_type.element
        for part in data_type.fields:
            note(part_path(path, part.name), part.type)

    for column in columns:
        note(column.name, column.type)
    return found


def total_columns(columns: tuple[ColumnDefinition, ...]) -> int:
    """Columns and sub-columns, which is what ``mapping.total_fields.limit`` counts."""
    return sum(1 + _parts(column.type) for column in columns)


def _parts(data_type: DataType) -> int:
    while data_type.element is not None:
        data_type = data_type.element
    return sum(1 + _parts(part.type) for part in data_type.fields)


def check_total_columns(definition: TableDefinition) -> None:
    """Raises SQLParseError if the table has more columns than its setting (default 1,000) allows."""
    given = definition.settings.get("mapping.total_fields.limit")
    allowed = given if isinstance(given, int) and not isinstance(given, bool) else TABLE_COLUMNS_MAX
    if total_columns(definition.columns) > allowed:
        raise SQLParseError(f"Limit of total columns [{allowed}] in table [{definition.name}] exceeded")


class ViewDefinition(msgspec.Struct, frozen=True, gc=False):
    name: RelationName
    oid: int
    sql: str
    owner: str
    #: The search path the text was written under.
    search_path: tuple[str, ...] = ()


def primary_key_name(definition: TableDefinition) -> str:
    """The name of the primary-key constraint, and of the index clients see behind it."""
    return definition.primary_key_name or f"{definition.name.name}_pkey"


#: Analyzers that make one token of the whole text.
WHOLE_TEXT_ANALYZERS: Final = frozenset({"keyword", "plain"})


def exact_indexes(definition: TableDefinition) -> tuple[tuple[str, str], ...]:
    """(column source, index source) of the text columns that have an index of their whole values."""
    found = {
        f"c{column.oid}": f"c{column.oid}"
        for column in definition.columns
        if column.index == "fulltext" and column.analyzer in WHOLE_TEXT_ANALYZERS and column.type == TEXT
    }
    for index in definition.indexes:
        column = definition.column(index.columns[0]) if len(index.columns) == 1 else None
        is_whole = index.method == "plain" or index.analyzer in WHOLE_TEXT_ANALYZERS
        if column is not None and is_whole and column.type == TEXT:
            found.setdefault(f"c{column.oid}", f"c{index.oid}")
    return tuple(found.items())


class CatalogFacts(msgspec.Struct, frozen=True):
    """The relations of a cluster state, for functions that turn oids into names and definitions."""

    tables: tuple[TableDefinition, ...] = ()
    views: tuple[ViewDefinition, ...] = ()


#: The system columns of a user table, in CrateDB's order; not part of ``SELECT *``.
SYSTEM_COLUMNS: Final[dict[str, DataType]] = {
    "_doc": OBJECT,
    "_id": TEXT,
    "_raw": TEXT,
    "_score": REAL,
    "_uid": TEXT,
    "_version": BIGINT,
    "_seq_no": BIGINT,
    "_primary_term": BIGINT,
    "_docid": DataType("integer"),
}

#: Column ids of system columns in the expressions of a write, where a table column's id is its oid. Far above any oid.
SYSTEM_COLUMN_IDS: Final[dict[str, int]] = {name: (1 << 30) + i for i, name in enumerate(SYSTEM_COLUMNS)}

#: Column ids of the columns that an INSERT adds to a dynamic table: they have no oid yet.
NEW_COLUMN_IDS: Final = 1 << 29
