"""INSERT: values cast to the types of their columns, or a query; defaults, generated columns and checks beside them."""

from __future__ import annotations

import functools

from cratepy.errors import (
    ColumnUnknown,
    NotNullViolation,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.model.expressions import Column, Expression, Literal
from cratepy.model.leaves import split_path
from cratepy.model.plan import ConflictAction, InsertPlan
from cratepy.model.relations import Item, OutputColumn, Project, Relation
from cratepy.model.schema import NEW_COLUMN_IDS, TableDefinition
from cratepy.model.types import UNDEFINED, DataType, Field, common_type, is_open
from cratepy.sql.analyze import schema_text
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.literal_columns import literal_columns
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.queries import analyze_query, cast_output
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.statements import (
    AnalyzedInsert,
    AnalyzedQuery,
)
from cratepy.sql.analyze.targets import (
    assignment,
    dynamic_type,
    highest_oid,
    returned_columns,
    returning_items,
    target_names,
)
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree


def insert(context: Context, node: tree.InsertNode) -> AnalyzedInsert:
    table = context.catalog.table(node.name, "INSERT")
    context.start_ids_above(highest_oid(table))
    targets = target_names(table, node.columns)
    types = [_target_type(table, name) for name in targets]
    _check_key_given(table, targets)
    rows = columns_data = None
    query: AnalyzedQuery | None = None
    if node.rows is not None:
        _check_width(table, targets, len(node.rows.columns), None)
        targets, types = targets[: len(node.rows.columns)], types[: len(node.rows.columns)]
        columns_data = literal_columns(context, table, targets, types, node.rows)
    else:
        assert node.query is not None
        values = _plain_values(node.query)
        if values is not None:
            width = len(values.rows[0])
            _check_width(table, targets, width, None)
            targets, types = targets[:width], types[:width]
            rows = _rows(context, table, targets, types, values)
        if rows is None:
            query = _source_query(context, table, targets, types, node.query)
            targets = targets[: len(query.columns)]
    if rows is not None:
        _check_key_values(table, targets, rows)
        rows, types = _with_new_types(context, rows, types)
    elif query is not None:
        types = [column.type for column in query.columns]
    added = tuple(
        Field(name, kind)
        for name, kind in zip(targets, types, strict=True)
        if _target_type(table, name).kind == "undefined"
    )
    plan = InsertPlan(
        table_uuid=table.uuid,
        table=table.name,
        targets=targets,
        rows=rows,
        columns_data=columns_data,
        conflict=None if node.conflict is None else _conflict(context, table, added, node.conflict),
        returning=returning_items(context, table, node.returning, None),
        defaults=schema_text.defaults(context, table, targets),
        generated=schema_text.generated(context, table),
        checks=schema_text.checks(context, table),
        new_columns=added,
    )
    return AnalyzedInsert(plan=plan, query=query, columns=returned_columns(plan.returning))


def _with_new_types(
    context: Context, rows: tuple[tuple[Expression, ...], ...], types: list[DataType]
) -> tuple[tuple[tuple[Expression, ...], ...], list[DataType]]:
    """The values of columns that are new cast to one type per column; undefined if the values must tell it."""
    places = [place for place, kind in enumerate(types) if kind.kind == "undefined"]
    if not places:
        return rows, types
    types = list(types)
    for place in places:
        types[place] = functools.reduce(common_type, (dynamic_type(row[place].type) for row in rows))
    return tuple(
        tuple(cast_to(context, value, types[place]) if place in places else value for place, value in enumerate(row))
        for row in rows
    ), types


def _plain_values(query: tree.Query) -> tree.ValuesNode | None:
    if isinstance(query.body, tree.ValuesNode) and not (
        query.with_items or query.order_by or query.limit or query.offset
    ):
        return query.body
    return None


def _target_type(table: TableDefinition, name: str) -> DataType:
    """Undefined for a column that the table does not have, or of which only ``[]`` was seen."""
    column = table.column(name)
    return UNDEFINED if column is None or is_open(column.type) else column.type


def _check_width(table: TableDefinition, targets: tuple[str, ...], width: int, sources: tuple[str, ...] | None) -> None:
    """As many values as targets; without a target list fewer are fine, the first columns are meant."""
    is_all = targets == tuple(column.name for column in table.columns)
    if width == len(targets) or (
        is_all and width < len(targets) and sources is None and width > 0 and _fits(table, width)
    ):
        return
    shown = ", ".join(sources if sources is not None else tuple(f"col{i + 1}" for i in range(width)))
    raise SQLParseError(
        f"Number of target columns ({', '.join(targets)}) of insert statement doesn't match number of source columns "
        f"({shown})"
    )


def _fits(table: TableDefinition, width: int) -> bool:
    """Fewer values than columns: the rest must be able to do without (generated columns, for one)."""
    return all(column.generated_sql is not None for column in table.columns[width:])


def _check_key_given(table: TableDefinition, targets: tuple[str, ...]) -> None:
    for name in (*table.primary_key, *((table.clustered_by,) if table.clustered_by else ())):
        column = table.column(name)
        base = name if column is not None else split_path(name)[0]
        if column is None and base not in targets and name in table.primary_key:
            raise SQLParseError(f"Column `{name}` is required but is missing from the insert statement")
        if name in targets or column is None or column.default_sql is not None or column.generated_sql is not None:
            continue
        if name in table.primary_key:
            raise SQLParseError(f"Column `{name}` is required but is missing from the insert statement")


def _check_key_values(
    table: TableDefinition, targets: tuple[str, ...], rows: tuple[tuple[Expression, ...], ...]
) -> None:
    for name in table.primary_key:
        if name in targets:
            place = targets.index(name)
            for row in rows:
                if isinstance(row[place], Literal) and row[place].value is None:  # type: ignore[union-attr]
                    raise NotNullViolation("A primary key value must not be NULL")


def _rows(
    context: Context,
    table: TableDefinition,
    targets: tuple[str, ...],
    types: list[DataType],
    values: tree.ValuesNode,
) -> tuple[tuple[Expression, ...], ...] | None:
    """The rows; None if they hold subqueries, which only a query can have."""
    width = len(values.rows[0])
    if any(len(row) != width for row in values.rows):
        raise SQLParseError("VALUES lists must all be the same length")
    a = ExpressionAnalyzer(context, Scope(), place="VALUES")
    rows: list[tuple[Expression, ...]] = []
    for number, row in enumerate(values.rows, 1):
        rows.append(
            tuple(
                _value(context, a, table, name, kind, node, number)
                for name, kind, node in zip(targets, types, row, strict=True)
            )
        )
    return None if a.applies else tuple(rows)


def _value(
    context: Context,
    a: ExpressionAnalyzer,
    table: TableDefinition,
    name: str,
    kind: DataType,
    node: tree.Node,
    number: int,
) -> Expression:
    if isinstance(node, tree.DefaultWord):
        column = table.column(name)
        if column is None or column.default_sql is None:
            return Literal(None, kind)
        return schema_text.default_expression(context, column.default_sql, kind)
    try:
        expression = a.analyze(node)
    except ColumnUnknown as error:
        if isinstance(node, tree.Name):
            raise UnsupportedFeature(
                "Columns cannot be used in this context. Maybe you wanted to use a string literal which requires single "
                f"quotes: '{node.parts[-1]}'"
            ) from error
        raise
    if kind.kind == "undefined":
        return expression
    try:
        return cast_to(context, expression, kind)
    except SQLParseError as error:
        if kind.kind == "float_vector" and isinstance(expression, Literal) and isinstance(expression.value, list):
            if kind.length is not None and len(expression.value) != kind.length:
                raise SQLParseError("The number of vector dimensions does not match the field type") from error
        if (isinstance(expression, Literal) and expression.type.kind == "array") or "expressions" in error.message:
            raise SQLParseError(
                f"Cannot convert VALUES element in row {number} of type `{expression.type.name}` to `{kind.name}` for "
                f"`{name}`"
            ) from error
        raise


def _source_query(
    context: Context,
    table: TableDefinition,
    targets: tuple[str, ...],
    types: list[DataType],
    written: tree.Query,
) -> AnalyzedQuery:
    """The query with its columns cast to the targets."""
    result = analyze_query(context, written, parent=None, with_names={})
    names = tuple(column.name for column in result.columns)
    if len(names) != len(targets):
        _check_width(table, targets, len(names), names)
    items: list[Item] = []
    needs_cast = False
    for column, kind, name in zip(result.columns, types, targets, strict=False):
        plain = Column(column.id, column.name, column.type)
        wanted = kind if kind.kind != "undefined" else dynamic_type(column.type)
        if wanted.kind == "undefined":
            wanted = column.type
        if column.type == wanted:
            items.append(Item(column.id, name, plain))
            continue
        needs_cast = True
        try:
            cast = cast_output(context, result.relation, plain, wanted)
        except SQLParseError as error:
            raise SQLParseError(
                f"The type '{column.type.name}' of the insert source '{column.name}' is not convertible to the type "
                f"'{wanted.name}' of target column '{name}'"
            ) from error
        items.append(Item(context.next_id(), name, cast))
    relation: Relation = Project(result.relation, tuple(items)) if needs_cast else result.relation
    columns = tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items)
    return AnalyzedQuery(
        relation=relation, columns=columns if needs_cast else result.columns, tables=tuple(context.tables)
    )


def _conflict(
    context: Context, table: TableDefinition, added: tuple[Field, ...], written: tree.OnConflict
) -> ConflictAction:
    names = [node.parts[-1] if isinstance(node, tree.Name) else printed(node) for node in written.columns]
    for name in names:
        if table.column(split_path(name)[0]) is None:
            raise ColumnUnknown(f"Column {name} unknown")
    if written.columns and sorted(names) != sorted(table.primary_key):
        raise SQLParseError(
            f"Conflict target ({', '.join(names)}) did not match the primary key columns "
            f"([{', '.join(table.primary_key)}])"
        )
    if written.assignments is None:
        return ConflictAction()
    if not written.columns:
        raise SQLParseError("ON CONFLICT <conflict_target> is not allowed to be empty for DO UPDATE")
    scope, _ = schema_text.table_scope(context, table)
    excluded: tuple[tuple[str, Expression], ...] = tuple(
        (column.name, Column(-column.oid, column.name, column.type)) for column in table.columns
    )
    scope.excluded = dict(excluded)
    for place, new in enumerate(added):
        scope.excluded[new.name] = Column(-(NEW_COLUMN_IDS + place), new.name, new.type)
    items: list[Item] = []
    for target, node in written.assignments:
        a = ExpressionAnalyzer(context, scope, place="SET")
        items.append(assignment(context, table, a, target, node))
        if a.applies:
            raise UnsupportedFeature("Subqueries are not supported in ON CONFLICT DO UPDATE SET")
    return ConflictAction(assignments=tuple(items))
