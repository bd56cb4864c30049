"""New columns, and new keys of dynamic objects, become part of the schema before a row with them is written.

In: the types that columns must have. Out: a definition that has them. Its own room because inserts and updates both wait
here for the master, and both must look again afterwards: another writer may have given the key another type.
"""

from __future__ import annotations

import msgspec

from cratepy.cluster.service import ClusterService
from cratepy.errors import ColumnValidation, RelationUnknown
from cratepy.model.commands import AddColumns
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import DataType


def definition_of(cluster: ClusterService, table_uuid: str, name: object) -> TableDefinition:
    """The newest definition known here. Raises RelationUnknown."""
    table = cluster.state.tables.get(table_uuid)
    if table is None:
        raise RelationUnknown(f"Relation '{name}' unknown")
    return table.definition


async def grow(cluster: ClusterService, definition: TableDefinition, grown: dict[str, DataType]) -> TableDefinition:
    """Ask the master for new columns and new types; the definition afterwards, which has them or what others made of them.

    All of them are one change of the cluster state. If another writer was faster with another type, this returns its
    definition: the caller fits the rows to that one.
    """
    columns = {column.name: column for column in definition.columns}
    command = AddColumns(
        table_uuid=definition.uuid,
        columns=tuple(
            ColumnDefinition(oid=0, name=name, type=data_type)
            for name, data_type in grown.items()
            if name not in columns
        ),
        object_fields=tuple(
            msgspec.structs.replace(columns[name], type=data_type, oid=0)
            for name, data_type in grown.items()
            if name in columns
        ),
    )
    try:
        state = await cluster.submit(command)
    except ColumnValidation:
        newest = definition_of(cluster, definition.uuid, definition.name)
        if newest.version == definition.version:
            raise
        return newest
    table = state.tables.get(definition.uuid)
    if table is None:
        raise RelationUnknown(f"Relation '{definition.name}' unknown")
    return table.definition
