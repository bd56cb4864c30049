"""UPDATE and DELETE: a relation that finds the rows by version, and what is to be done with them."""

from __future__ import annotations

from typing import Any

from cratepy.errors import (
    SQLParseError,
    VersioningValidation,
)
from cratepy.model.expressions import Call, Cast, Column, Expression
from cratepy.model.relations import Filter, Item, OutputColumn, Project
from cratepy.model.schema import TableDefinition
from cratepy.sql.analyze import schema_text
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.scope import Scope, TableSource
from cratepy.sql.analyze.statements import (
    SEQ_NO_USAGE,
    VERSION_USAGE,
    AnalyzedDelete,
    AnalyzedQuery,
    AnalyzedUpdate,
)
from cratepy.sql.analyze.tables import with_applies
from cratepy.sql.analyze.targets import assignment, highest_oid, returned_columns, returning_items
from cratepy.sql.analyze.walk import column_ids, nodes
from cratepy.sql.parse import tree

#: Columns that every UPDATE and DELETE finds first.
_VERSION_COLUMNS = ("_id", "_seq_no", "_primary_term")
#: Columns that say which version of a row is meant.
_VERSIONING = frozenset({"_version", "_seq_no", "_primary_term"})


def update(context: Context, node: tree.UpdateNode) -> AnalyzedUpdate:
    table = context.catalog.table(node.name, "UPDATE")
    context.start_ids_above(highest_oid(table))
    scope, source = schema_text.table_scope(context, table, node.alias)
    assignments: list[Item] = []
    a = ExpressionAnalyzer(context, scope, place="SET")
    for target, value in node.assignments:
        item = assignment(context, table, a, target, value)
        if any(known.name == item.name for known in assignments):
            raise SQLParseError(f"Target expression repeated: {item.name}")
        assignments.append(item)
    where = _where(context, scope, node.where)
    returning = returning_items(context, table, node.returning, source)
    generated, checks = schema_text.generated(context, table), schema_text.checks(context, table)
    needed = [item.expression for item in (*assignments, *generated, *checks, *returning)]
    for item in assignments:
        if "[" in item.name and table.column(item.name) is None:
            source.find(item.name[: item.name.index("[")])
    find = _find(context, table, source, where, a, needed)
    return AnalyzedUpdate(
        table_uuid=table.uuid,
        table=table.name,
        find=find,
        assignments=tuple(assignments),
        generated=generated,
        checks=checks,
        returning=returning,
        expects_version=_expects_version(where[0] if where else None),
        columns=returned_columns(returning),
    )


def delete(context: Context, node: tree.DeleteNode) -> AnalyzedDelete:
    table = context.catalog.table(node.name, "DELETE")
    context.start_ids_above(highest_oid(table))
    scope, source = schema_text.table_scope(context, table, node.alias)
    where = _where(context, scope, node.where)
    returning = returning_items(context, table, node.returning, source)
    find = _find(context, table, source, where, None, [item.expression for item in returning])
    return AnalyzedDelete(
        table_uuid=table.uuid,
        table=table.name,
        find=find,
        returning=returning,
        expects_version=_expects_version(where[0] if where else None),
        columns=returned_columns(returning),
    )


def _where(context: Context, scope: Scope, node: tree.Node | None) -> tuple[Expression, list[Any]] | None:
    if node is None:
        return None
    a = ExpressionAnalyzer(context, scope, place="WHERE")
    return a.condition(node), a.applies


def _find(
    context: Context,
    table: TableDefinition,
    source: TableSource,
    where: tuple[Expression, list[Any]] | None,
    values: ExpressionAnalyzer | None,
    needed: list[Expression],
) -> AnalyzedQuery:
    """The rows to change: their version columns, then every column the statement's expressions read."""
    context.tables.setdefault(table.uuid)
    for name in _VERSION_COLUMNS:
        source.find_system(name)
    ids = {i for expression in needed for i in column_ids(expression)}
    for column in table.columns:
        if column.oid in ids:
            source.find(column.name)
    read = {scanned.id for scanned in source.used.values()}
    where_only = column_ids(where[0]) - ids if where is not None else set()
    relation = source.relation()
    if where is not None:
        relation = Filter(with_applies(relation, where[1]), where[0])
    computed = [] if values is None else values.applies
    relation = with_applies(relation, computed)
    columns: list[OutputColumn] = []
    for name in _VERSION_COLUMNS:
        found = source.used[name]
        columns.append(OutputColumn(found.id, name, found.type))
    columns += [
        OutputColumn(scanned.id, scanned.name, scanned.type)
        for scanned in source.used.values()
        if scanned.name not in _VERSION_COLUMNS and scanned.id in read and scanned.id not in where_only
    ]
    columns += [OutputColumn(apply.id, apply.name, apply.type) for apply in computed]
    items = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in columns)
    return AnalyzedQuery(relation=Project(relation, items), columns=tuple(columns), tables=tuple(context.tables))


def _expects_version(where: Expression | None) -> bool:
    """Whether the condition pins the version a row must have; that it pins the key, too, is the planner's to see."""
    if where is None:
        return False
    named = {node.name for node in nodes(where) if isinstance(node, Column)} & _VERSIONING
    if not named:
        return False
    if "_version" in named and len(named) > 1:
        raise VersioningValidation(
            '"_version" column cannot be used together with "_seq_no" and "_primary_term" columns for optimistic '
            "concurrency control"
        )
    pinned: set[str] = set()
    for part in _conjuncts(where):
        if isinstance(part, Call) and part.function == "op_=":
            for side, other in (part.arguments, part.arguments[::-1]):
                if not column_ids(other):
                    pinned |= {_bare(side)} & _VERSIONING
    wanted = {"_version"} if "_version" in named else _VERSIONING - {"_version"}
    if pinned != wanted:
        raise VersioningValidation(VERSION_USAGE if "_version" in named else SEQ_NO_USAGE)
    return True


def _conjuncts(condition: Expression) -> list[Expression]:
    if isinstance(condition, Call) and condition.function == "op_and":
        return [part for argument in condition.arguments for part in _conjuncts(argument)]
    return [condition]


def _bare(expression: Expression) -> str:
    while isinstance(expression, Cast):
        expression = expression.argument
    return expression.name if isinstance(expression, Column) else ""
