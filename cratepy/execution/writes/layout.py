"""What writing needs to know of a table, worked out once per version of its definition.

In: a TableDefinition. Out: a :class:`TableLayout`: columns by oid and name, schema at rest, which columns make the key and the
routing. Its own room because every kind of write needs it and none should work it out per statement.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from cratepy import limits
from cratepy.model.arrow import stored_type
from cratepy.model.leaves import KeyPart, Leaf, known_key_part
from cratepy.model.routing import clustered_position, shard_router
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.storage.text.fields import costly_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """A table as writers see it; positions are places in ``columns``."""

    definition: TableDefinition
    columns: tuple[ColumnDefinition, ...]
    #: One field ``c<oid>`` per column.
    schema: pa.Schema
    position_by_name: dict[str, int]
    by_oid: dict[int, ColumnDefinition]
    #: Oids of the primary key columns in key order, and their types.
    key: tuple[int, ...]
    key_types: tuple[DataType, ...]
    #: The key columns that are parts of objects; their oids are the objects'.
    key_leaves: tuple[Leaf | None, ...]
    #: Place of the CLUSTERED BY column in the key, for composite ids.
    clustered_position: int | None
    #: Oid of the CLUSTERED BY column if rows are not routed by ``_id``.
    routing: int | None
    #: The part of it that routes, if it is an object.
    routing_leaf: Leaf | None
    required: tuple[ColumnDefinition, ...]
    #: Whether texts may be refused by an analyzer.
    has_costly_analyzers: bool
    shard_of: Callable[[str], int]

    def column(self, name: str) -> ColumnDefinition:
        return self.columns[self.position_by_name[name]]

    def find(self, name: str) -> ColumnDefinition | None:
        place = self.position_by_name.get(name)
        return None if place is None else self.columns[place]


class Layouts:
    """The layouts of the newest definitions used, bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, TableLayout] = OrderedDict()

    def of(self, definition: TableDefinition) -> TableLayout:
        known = self._known.get(definition.uuid)
        if known is not None and known.definition.version == definition.version:
            return known
        layout = make_layout(definition)
        self._known[definition.uuid] = layout
        self._known.move_to_end(definition.uuid)
        if len(self._known) > _LAYOUTS_MAX:
            self._known.popitem(last=False)
        return layout


_LAYOUTS_MAX: Final = limits.PLAN_CACHE_ENTRIES_MAX


def make_layout(definition: TableDefinition) -> TableLayout:
    columns = definition.columns
    schema = pa.schema([pa.field(f"c{column.oid}", stored_type(column.type)) for column in columns])
    key = tuple(known_key_part(definition, name) for name in definition.primary_key)
    clustered: KeyPart | None = None
    # A key of this one column is its own routing text.
    if definition.clustered_by not in (None, "_id") and definition.primary_key != (definition.clustered_by,):
        assert definition.clustered_by is not None
        clustered = known_key_part(definition, definition.clustered_by)
    return TableLayout(
        definition=definition,
        columns=columns,
        schema=schema,
        position_by_name={column.name: i for i, column in enumerate(columns)},
        by_oid={column.oid: column for column in columns},
        key=tuple(column.oid for column in key),
        key_types=tuple(column.type for column in key),
        key_leaves=tuple(column.leaf for column in key),
        clustered_position=clustered_position(definition),
        routing=None if clustered is None else clustered.oid,
        routing_leaf=None if clustered is None else clustered.leaf,
        required=tuple(c for c in columns if not c.is_nullable and c.name not in definition.primary_key),
        has_costly_analyzers=bool(costly_fields(definition)),
        shard_of=shard_router(definition),
    )
