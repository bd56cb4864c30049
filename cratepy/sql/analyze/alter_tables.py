"""ALTER TABLE: settings, the table's name, new columns; what changes columns that are there is in ``alter_columns``.

In: an AlterTableNode. Out: the command for the master.
"""

from __future__ import annotations

import msgspec

from cratepy.errors import OperationOnInaccessibleRelation, SQLParseError, UnsupportedFeature
from cratepy.model.commands import AddColumns, AlterTableSettings, Command, RenameTable, SwapTables
from cratepy.model.names import RelationName, check_column_name
from cratepy.model.schema import NEW_COLUMN_IDS, CheckConstraint, ColumnDefinition, TableDefinition
from cratepy.model.search import IndexDefinition, part_path
from cratepy.model.table_blocks import check_blocks
from cratepy.model.types import DataType, Field, array_of, object_of
from cratepy.sql.analyze import alter_columns, table_definitions
from cratepy.sql.analyze.catalog import SystemTable
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.generated_columns import with_generated
from cratepy.sql.analyze.indexes import custom_analyzers, part_index, part_indexes
from cratepy.sql.analyze.part_rules import check_no_rules
from cratepy.sql.analyze.settings import (
    boolean_value,
    check_changeable,
    check_table_setting_name,
    constant,
    table_settings,
)
from cratepy.sql.parse import tree


def alter_table(context: Context, node: tree.AlterTableNode) -> Command:
    """The command of an ALTER TABLE."""
    if node.action == "rename":
        return _rename(context, node)
    names = [name for name, _ in node.settings] if node.action == "set" else node.names
    is_of_blocks = node.action in ("set", "reset") and all(name.startswith("blocks.") for name in names)
    table = context.catalog.table(node.name, "ALTER BLOCKS" if is_of_blocks else "ALTER")
    match node.action:
        case "add":
            return _add_columns(context, node, table)
        case "set":
            settings = table_settings(context, node.settings)
            for name in settings:
                check_changeable(name, table)
            if "number_of_shards" in settings:
                raise UnsupportedFeature("Changing number_of_shards of a table is not supported")
            return AlterTableSettings(name=table.name, settings=settings)
        case "reset":
            for name in node.names:
                check_table_setting_name(name)
                check_changeable(name, table)
            return AlterTableSettings(name=table.name, settings=dict.fromkeys(node.names))
        case _:
            return alter_columns.change_table(context, node, table)


def _rename(context: Context, node: tree.AlterTableNode) -> Command:
    found = context.catalog.relation(node.name)
    if isinstance(found, SystemTable):
        raise OperationOnInaccessibleRelation(
            f'The relation "{found.name}" doesn\'t support or allow ALTER RENAME operations'
        )
    if len(node.names) > 1:
        raise SQLParseError("Target table name must not include a schema")
    target = RelationName(found.name.schema, node.names[0])
    table_definitions.check_name(target)
    if isinstance(found, TableDefinition):
        check_blocks(found, "ALTER RENAME")
    if context.catalog.find((target.schema, target.name)) is not None:
        raise SQLParseError(f"Cannot rename table {found.name} to {target}, table {target} already exists")
    return RenameTable(name=found.name, new_name=node.names[0])


def swap_tables(context: Context, node: tree.SwapTablesNode) -> SwapTables:
    """The command of an ALTER CLUSTER SWAP TABLE."""
    drops_source = False
    for name, value in node.options:
        if name != "drop_source":
            raise SQLParseError(f"Invalid options for ALTER CLUSTER SWAP TABLE: {name}")
        drops_source = boolean_value(constant(context, value))
    source = context.catalog.table(node.source, "ALTER")
    target = context.catalog.table(node.target, "ALTER")
    return SwapTables(source=source.name, target=target.name, drops_source=drops_source)


def _add_columns(context: Context, node: tree.AlterTableNode, table: TableDefinition) -> Command:
    columns: list[ColumnDefinition] = []
    changed: dict[str, ColumnDefinition] = {}
    indexes: list[IndexDefinition] = []
    for written in node.columns:
        if written.is_primary_key:
            raise UnsupportedFeature("Cannot add a primary key column to a table that isn't empty")
        check_no_rules(written.type, written.name)
        if written.path:
            name = written.name
            if (
                written.default is not None
                or written.is_nullable is False
                or written.checks
                or written.generated is not None
            ):
                shown = part_path(name, *written.path)
                raise UnsupportedFeature(f"Constraints on parts of object columns cannot be added: {shown}")
            known = changed.get(name) or table.column(name)
            if known is None:
                # The object is made with its first part, as in CrateDB.
                check_column_name(name)
                known = ColumnDefinition(oid=0, name=name, type=object_of(()))
            changed[name] = _with_part(known, written)
            indexes += part_index(context, written, part_path(name, *written.path))
            continue
        if table.column(written.name) is not None:
            raise SQLParseError(f"The table {table.name} already has a column named {written.name}")
        columns.append(table_definitions.column_definition(context, written, 0, table.name))
        indexes += part_indexes(context, written.type, written.name)
    columns = _generated(context, node, table, columns)
    columns.extend(column for name, column in changed.items() if table.column(name) is None)
    parts = tuple(column for name, column in changed.items() if table.column(name) is not None)
    return AddColumns(
        table_uuid=table.uuid,
        columns=tuple(columns),
        object_fields=parts,
        indexes=tuple(indexes),
        analyzers=custom_analyzers(context, columns, indexes),
        checks=_checks_of_new(context, node, table, columns),
    )


def _generated(
    context: Context, node: tree.AlterTableNode, table: TableDefinition, columns: list[ColumnDefinition]
) -> list[ColumnDefinition]:
    """The new columns with their generated expressions. That the table is empty is known only where the rows are."""
    if all(written.generated is None for written in node.columns):
        return columns
    grown = with_generated(context, _grown_by(table, columns), node.columns)
    return [msgspec.structs.replace(column, oid=0) for column in grown.columns[len(table.columns) :]]


def _grown_by(table: TableDefinition, columns: list[ColumnDefinition]) -> TableDefinition:
    """The table with the columns; they have ids of their own until the master gives them oids."""
    numbered = [msgspec.structs.replace(column, oid=NEW_COLUMN_IDS + i) for i, column in enumerate(columns)]
    return msgspec.structs.replace(table, columns=(*table.columns, *numbered))


def _checks_of_new(
    context: Context, node: tree.AlterTableNode, table: TableDefinition, columns: list[ColumnDefinition]
) -> tuple[CheckConstraint, ...]:
    written = [(part_path(column.name, *column.path), *check) for column in node.columns for check in column.checks]
    if not written:
        return ()
    found = table_definitions.check_constraints(context, _grown_by(table, columns), written)
    known = {check.name for check in table.checks}
    for check in found:
        if check.name in known:
            raise SQLParseError(f"a check constraint of the same name is already declared [{check.name}]")
    return found


def _with_part(column: ColumnDefinition, written: tree.ColumnDef) -> ColumnDefinition:
    """The object column with one more part at ``o['a']['b']``."""
    new_type = table_definitions.written_type(written)
    return msgspec.structs.replace(column, type=_grown(column.type, written.path, Field(written.path[-1], new_type)))


def _grown(kind: DataType, path: tuple[str, ...], part: Field) -> DataType:
    if kind.kind == "array":
        assert kind.element is not None
        return array_of(_grown(kind.element, path, part))
    if kind.kind != "object":
        raise SQLParseError(f"Cannot add a part to a column of type {kind.name}")
    if len(path) == 1:
        if kind.field(path[0]) is not None:
            raise SQLParseError(f"The object already has a part named {path[0]}")
        return object_of((*kind.fields, part), kind.policy)
    known = kind.field(path[0])
    inner = _grown(known if known is not None else object_of(()), path[1:], part)
    if known is None:
        return object_of((*kind.fields, Field(path[0], inner)), kind.policy)
    fields = tuple(Field(f.name, inner) if f.name == path[0] else f for f in kind.fields)
    return object_of(fields, kind.policy)
