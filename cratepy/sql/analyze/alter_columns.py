"""ALTER TABLE that changes what is there: columns dropped or renamed, constraints dropped, defaults, open and close.

In: an AlterTableNode and the table. Out: a ChangeTable with the whole new definition. Columns are known to rows and segments by
oid, so that a dropped column is gone at once and its values with the next merge, a renamed one keeps them, and a column added
under an old name starts empty. Expressions in the schema are texts with names, which change here.

Parts of objects are kept under their names in the values; they can be neither dropped nor renamed yet. Words of the errors:
CrateDB's ``AlterTableDropColumnAnalyzer`` and ``AlterTableRenameColumnAnalyzer``.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cratepy.errors import ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.model.commands import ChangeTable, Command
from cratepy.model.leaves import split_path
from cratepy.model.schema import SYSTEM_COLUMNS, ColumnDefinition, TableDefinition, column_paths
from cratepy.model.search import IndexDefinition, part_path
from cratepy.model.types import DataType
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.schema_text import names_in, renamed_text, shown_text
from cratepy.sql.analyze.table_definitions import check_new_column_name, default_text
from cratepy.sql.parse import tree

replace = msgspec.structs.replace


def change_table(context: Context, node: tree.AlterTableNode, table: TableDefinition) -> Command:
    """The command of an ALTER TABLE that changes the definition as a whole."""
    match node.action:
        case "drop":
            changed = _dropped(node, table)
        case "rename_column":
            changed = _renamed(table, *node.paths)
        case "drop_constraint":
            changed = _without_constraint(node, table)
        case "set_default" | "drop_default":
            changed = _with_default(context, node, table)
        case action:
            assert action in ("open", "close")
            changed = replace(table, is_closed=action == "close")
    return ChangeTable(definition=changed)


# --- DROP COLUMN -----------------------------------------------------------------------------------------------------


def _dropped(node: tree.AlterTableNode, table: TableDefinition) -> TableDefinition:
    names: list[str] = []
    for path in node.paths:
        shown = part_path(path[0], *path[1:])
        if path[0] in SYSTEM_COLUMNS:
            raise SQLParseError("Dropping a system column is not allowed")
        if not _exists(table, path):
            if path in node.optional_paths:
                continue
            raise ColumnUnknown(f"Column {shown} unknown")
        if len(path) > 1:
            raise UnsupportedFeature(f"Dropping a part of an object column is not supported: {shown}")
        if path[0] in names:
            raise SQLParseError(f'Column "{path[0]}" specified more than once')
        names.append(path[0])
    for name in names:
        _check_droppable(table, name, names)
    gone = set(names)
    if len(gone) == len(table.columns):
        raise UnsupportedFeature("Dropping all columns of a table is not allowed")
    return replace(
        table,
        columns=tuple(column for column in table.columns if column.name not in gone),
        checks=tuple(check for check in table.checks if not names_in(check.sql) & gone),
        indexes=tuple(index for index in table.indexes if not _is_of_part(index, gone)),
        required_parts=tuple(path for path in table.required_parts if split_path(path)[0] not in gone),
        part_defaults=tuple(part for part in table.part_defaults if split_path(part.path)[0] not in gone),
        ordinals=tuple(path for path in table.ordinals if split_path(path)[0] not in gone),
    )


def _check_droppable(table: TableDefinition, name: str, dropped: list[str]) -> None:
    """Raises UnsupportedFeature if something that stays needs the column."""
    if any(split_path(key)[0] == name for key in table.primary_key):
        raise UnsupportedFeature(f"Dropping column: {name} which is part of the PRIMARY KEY is not allowed")
    if table.clustered_by is not None and split_path(table.clustered_by)[0] == name:
        raise UnsupportedFeature(f"Dropping column: {name} which is used in 'CLUSTERED BY' is not allowed")
    for index in table.indexes:
        if any(split_path(path)[0] == name for path in index.columns) and not _is_of_part(index, {name}):
            raise UnsupportedFeature(f"Dropping column: {name} which is part of INDEX: {index.name} is not allowed")
    for column in table.columns:
        sql = column.generated_sql
        if sql is not None and column.name not in dropped and name in names_in(sql):
            shown = column.generated_shown or sql
            raise UnsupportedFeature(
                f"Cannot drop column `{name}`. It's used in generated column `{column.name}`: {shown}"
            )
    for check in table.checks:
        named = names_in(check.sql)
        # A constraint of this column alone goes with it.
        if name in named and not named <= set(dropped):
            raise UnsupportedFeature(
                f"Dropping column: {name} which is used in CHECK CONSTRAINT: {check.name} is not allowed"
            )


def _is_of_part(index: IndexDefinition, columns: set[str]) -> bool:
    """Whether the index belongs to a part of one of the columns (its name is the part's path)."""
    base, path = split_path(index.name)
    return bool(path) and base in columns


def _exists(table: TableDefinition, path: tuple[str, ...]) -> bool:
    column = table.column(path[0])
    kind: DataType | None = None if column is None else column.type
    for key in path[1:]:
        while kind is not None and kind.element is not None:
            kind = kind.element
        kind = None if kind is None else kind.field(key)
    return kind is not None


# --- RENAME COLUMN ---------------------------------------------------------------------------------------------------


def _renamed(table: TableDefinition, old: tuple[str, ...], new: tuple[str, ...]) -> TableDefinition:
    shown_old, shown_new = part_path(old[0], *old[1:]), part_path(new[0], *new[1:])
    if old[0] in SYSTEM_COLUMNS:
        raise SQLParseError("Renaming a system column is not allowed")
    if not _exists(table, old):
        raise ColumnUnknown(f"Column {shown_old} unknown")
    if len(old) != len(new) or old[:-1] != new[:-1]:
        raise SQLParseError(
            f"Cannot rename a column to a name that has different column level: {shown_old}, {shown_new}"
        )
    if _exists(table, new):
        raise SQLParseError("Cannot rename column to a name that is in use")
    if len(old) > 1:
        raise UnsupportedFeature(f"Renaming a part of an object column is not supported: {shown_old}")
    check_new_column_name(new[0])
    if any(index.name == new[0] for index in table.indexes):
        raise SQLParseError("Cannot rename column to a name that is in use")
    return _with_name(table, old[0], new[0])


def _with_name(table: TableDefinition, old: str, new: str) -> TableDefinition:
    def moved(path: str) -> str:
        base, keys = split_path(path)
        return part_path(new, *keys) if base == old else path

    def text(sql: str | None) -> str | None:
        return sql if sql is None or old not in names_in(sql) else renamed_text(sql, old, new)

    def column(known: ColumnDefinition) -> ColumnDefinition:
        sql = text(known.generated_sql)
        shown = known.generated_shown if sql is None or sql == known.generated_sql else shown_text(sql)
        name = new if known.name == old else known.name
        return replace(known, name=name, generated_sql=sql, generated_shown=shown)

    columns = tuple(map(column, table.columns))
    ordinals = tuple(map(moved, table.ordinals))
    return replace(
        table,
        columns=columns,
        primary_key=tuple(map(moved, table.primary_key)),
        clustered_by=None if table.clustered_by is None else moved(table.clustered_by),
        checks=tuple(replace(check, sql=text(check.sql)) for check in table.checks),
        required_parts=tuple(map(moved, table.required_parts)),
        part_defaults=tuple(replace(part, path=moved(part.path)) for part in table.part_defaults),
        indexes=tuple(_moved_index(index, moved) for index in table.indexes),
        ordinals=() if list(ordinals) == column_paths(columns) else ordinals,
    )


def _moved_index(index: IndexDefinition, moved: Callable[[str], str]) -> IndexDefinition:
    return replace(index, name=moved(index.name), columns=tuple(map(moved, index.columns)))


# --- constraints and defaults ----------------------------------------------------------------------------------------


def _without_constraint(node: tree.AlterTableNode, table: TableDefinition) -> TableDefinition:
    (name,) = node.names
    left = tuple(check for check in table.checks if check.name != name)
    if len(left) == len(table.checks) and not node.if_exists:
        names = ", ".join(check.name for check in table.checks)
        raise SQLParseError(f"Cannot find a CHECK CONSTRAINT named [{name}], available constraints are: [{names}]")
    return replace(table, checks=left)


def _with_default(context: Context, node: tree.AlterTableNode, table: TableDefinition) -> TableDefinition:
    (path,) = node.paths
    shown = part_path(path[0], *path[1:])
    if not _exists(table, path):
        raise ColumnUnknown(f"Column {shown} unknown")
    if len(path) > 1:
        raise UnsupportedFeature(f"Changing the DEFAULT of a part of an object column is not supported: {shown}")
    column = table.column(path[0])
    assert column is not None
    if column.generated_sql is not None:
        raise UnsupportedFeature(f"Generated column `{shown}` cannot have a DEFAULT")
    sql = None if node.default is None else default_text(context, shown, node.default, column.type)
    changed = replace(column, default_sql=sql)
    return replace(table, columns=tuple(changed if known is column else known for known in table.columns))
