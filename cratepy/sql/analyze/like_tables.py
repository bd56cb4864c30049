"""CREATE TABLE … (LIKE other): a definition made from another one.

In: the other table and what of it is wanted. Out: a definition of the new name. Columns with their types and NOT NULL, the
routing and the number of shards come along always; the rest is PostgreSQL's INCLUDING list with CrateDB's meaning: key and CHECK
are CONSTRAINTS, column store and table settings are STORAGE, indexes and their analyzers are INDEXES.
"""

from __future__ import annotations

import msgspec

from cratepy.errors import OperationOnInaccessibleRelation
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.sql.analyze.context import Context

replace = msgspec.structs.replace


def like_definition(
    context: Context, source: tuple[str, ...], name: RelationName, parts: frozenset[str]
) -> TableDefinition:
    """A new table like the source, with the parts of it that are named."""
    found = context.catalog.relation(source)
    if not isinstance(found, TableDefinition):
        raise OperationOnInaccessibleRelation(
            f'The relation "{found.name}" doesn\'t support or allow SHOW CREATE operations'
        )
    has_indexes = "indexes" in parts
    made = replace(
        found,
        name=name,
        uuid=context.new_uuid(),
        oid=0,
        version=1,
        is_closed=False,
        next_column_oid=0,
        columns=tuple(_column(column, parts) for column in found.columns),
        part_defaults=found.part_defaults if "defaults" in parts else (),
        indexes=found.indexes if has_indexes else (),
        analyzers=found.analyzers if has_indexes else (),
    )
    if "constraints" not in parts:
        made = replace(made, primary_key=(), primary_key_name=None, checks=())
    if "storage" not in parts:
        plain = TableDefinition(name=name, uuid="", oid=0, columns=())
        made = replace(made, settings={}, replicas=plain.replicas, column_policy=plain.column_policy)
    return made


def _column(column: ColumnDefinition, parts: frozenset[str]) -> ColumnDefinition:
    has_indexes = "indexes" in parts
    return replace(
        column,
        default_sql=column.default_sql if "defaults" in parts else None,
        generated_sql=column.generated_sql if "generated" in parts else None,
        generated_shown=column.generated_shown if "generated" in parts else None,
        index=column.index if has_indexes else "plain",
        analyzer=column.analyzer if has_indexes else None,
        index_options=column.index_options if has_indexes else (),
        has_columnstore=column.has_columnstore or "storage" not in parts,
    )
