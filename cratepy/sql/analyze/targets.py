"""Targets of writes: column lists, assignments, RETURNING.

In the expressions of a write a table column's id is its oid and a system column's is in ``SYSTEM_COLUMN_IDS``.
"""

from __future__ import annotations

from cratepy.errors import (
    ColumnUnknown,
    ColumnValidation,
    InvalidColumnName,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.model.expressions import Expression, Literal
from cratepy.model.names import check_column_name
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.schema import SYSTEM_COLUMNS, ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, DOUBLE, TEXT, UNDEFINED, DataType, array_of, is_open
from cratepy.sql.analyze import schema_text
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.scope import Scope, TableSource
from cratepy.sql.analyze.storable import check_storable
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree


def highest_oid(table: TableDefinition) -> int:
    return max([table.next_column_oid, *(column.oid for column in table.columns)])


def target_names(table: TableDefinition, columns: tuple[tree.Node, ...]) -> tuple[str, ...]:
    """Names of the target columns. Without a list they are the table's, in order."""
    if not columns:
        return tuple(column.name for column in table.columns)
    targets: list[str] = []
    for node in columns:
        if not isinstance(node, tree.Name) or len(node.parts) != 1:
            raise UnsupportedFeature(f"Cannot insert into part of a column: {printed(node)}")
        name = node.parts[0]
        if name in SYSTEM_COLUMNS:
            raise InvalidColumnName(f'"{name}" Cannot write to system column')
        if name in targets:
            raise SQLParseError(f'column "{name}" specified more than once')
        if table.column(name) is None:
            check_new_column(table, name)
        targets.append(name)
    return tuple(targets)


def check_new_column(table: TableDefinition, name: str) -> None:
    """Whether a write may add this column. Raises ColumnUnknown, InvalidColumnName."""
    if table.column_policy == "strict":
        raise ColumnUnknown(f"Column {name} unknown")
    check_column_name(name)


def dynamic_type(kind: DataType) -> DataType:
    """The type a new column gets from an expression: whole numbers are bigint, all others double precision.

    Undefined if only the values can tell. Raises UnsupportedFeature for types that cannot be stored.
    """
    if kind.kind == "array":
        assert kind.element is not None
        element = dynamic_type(kind.element)
        return UNDEFINED if element.kind == "undefined" else array_of(element)
    if kind.is_integer:
        return BIGINT
    if kind.kind in ("real", "numeric"):
        return DOUBLE
    if kind.kind in ("text", "character"):
        return TEXT
    if kind.kind in ("undefined", "object"):
        # What is in an object is told by the objects.
        return UNDEFINED
    check_storable(kind)
    return kind


def assignment(
    context: Context, table: TableDefinition, a: ExpressionAnalyzer, target: tree.Node, node: tree.Node
) -> Item:
    """``column = value`` or ``o['a'] = value``, the value cast to the target's type."""
    name, kind, column = _assigned(context, table, target)
    if column is not None:
        _check_updatable(table, column.name, name)
    if isinstance(node, tree.DefaultWord):
        value: Expression = Literal(None, kind)
        if column is not None and column.default_sql is not None and name == column.name:
            value = schema_text.default_expression(context, column.default_sql, kind)
        return Item(context.next_id(), name, value)
    expression = a.analyze(node)
    if is_open(kind):
        # A new part or column: its type is the expression's, or told by its values.
        wanted = dynamic_type(expression.type)
        return Item(context.next_id(), name, cast_to(context, expression, wanted))
    try:
        cast = cast_to(context, expression, kind)
    except SQLParseError as error:
        if "too long" in error.message or "length" in error.message:
            raise
        raise ColumnValidation(
            f"Validation failed for {name}: Cannot cast expression `{printed(node)}` of type "
            f"`{expression.type.name}` to `{kind.name}`"
        ) from error
    return Item(context.next_id(), name, cast)


def _check_updatable(table: TableDefinition, name: str, shown: str) -> None:
    """``shown`` is what is assigned to: the column of that name, or a part of it."""
    if any(_touches(name, shown, key) for key in table.primary_key):
        raise ColumnValidation(f"Validation failed for {name}: Updating a primary key is not supported")
    if table.clustered_by is not None and _touches(name, shown, table.clustered_by):
        raise ColumnValidation(f"Validation failed for {name}: Updating a clustered-by column is not supported")
    if name in table.partitioned_by:
        raise ColumnValidation(f"Validation failed for {name}: Updating a partitioned-by column is not supported")


def _touches(name: str, shown: str, key: str) -> bool:
    """Whether an assignment changes the key: it is the key, the object around it, or in it."""
    return name == key or shown == key or key.startswith(f"{shown}[") or shown.startswith(f"{key}[")


def _assigned(
    context: Context, table: TableDefinition, target: tree.Node
) -> tuple[str, DataType, ColumnDefinition | None]:
    """Name, type and column of what stands left of ``=``; no column if a dynamic table does not have it yet."""
    path: list[tree.Node] = []
    node = target
    while isinstance(node, tree.Subscript):
        path.insert(0, node.index)
        node = node.base
    if not isinstance(node, tree.Name):
        raise SQLParseError(f"Cannot assign to {printed(target)}")
    name = node.parts[-1]
    if name in SYSTEM_COLUMNS:
        raise ColumnValidation(f"Validation failed for {name}: Updating a system column is not supported")
    column = table.column(name)
    if column is None:
        check_new_column(table, name)
    kind, shown = UNDEFINED if column is None else column.type, name
    for index in path:
        if isinstance(index, tree.StringWord):
            if kind.kind == "array":
                raise SQLParseError("Updating fields of object arrays is not supported")
            if kind.kind not in ("object", "undefined"):
                raise ColumnUnknown(f"Column {printed(target)} unknown")
            part = kind.field(index.value)
            if part is None and kind.policy == "strict":
                raise ColumnUnknown(f"Column {printed(target)} unknown")
            kind = part if part is not None else UNDEFINED
            escaped = index.value.replace("'", "''")
            shown += f"['{escaped}']"
        elif isinstance(index, tree.NumberWord) and kind.kind in ("array", "undefined"):
            if int(index.text) < 1:
                raise UnsupportedFeature("Updating arrays with indexes <= 0 is not supported")
            kind = UNDEFINED if kind.element is None else kind.element
            shown += f"[{index.text}]"
        else:
            raise SQLParseError(f"Cannot assign to {printed(target)}")
    return shown, kind, column


def returning_items(
    context: Context, table: TableDefinition, items: tuple[tree.SelectItem, ...], source: TableSource | None
) -> tuple[Item, ...]:
    """RETURNING over columns by oid."""
    if not items:
        return ()
    if source is None:
        scope, _ = schema_text.table_scope(context, table)
    else:
        scope = Scope(sources=[source])
    a = ExpressionAnalyzer(context, scope, place="RETURNING")
    found: list[Item] = []
    for item in items:
        if isinstance(item.expression, tree.Star):
            for name, column in scope.star(item.expression.qualifier):
                found.append(Item(context.next_id(), name, column))
            continue
        name = item.alias if item.alias is not None else output_name(item.expression)
        found.append(Item(context.next_id(), name, a.analyze(item.expression)))
    return tuple(found)


def returned_columns(items: tuple[Item, ...]) -> tuple[OutputColumn, ...] | None:
    return tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items) if items else None
