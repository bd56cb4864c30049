"""Columns: nothing is read, computed or sent that nobody asks for; projections that say nothing go.

Pruning goes from the top down with the set of ids asked for. An operator may give more than it was asked for (a scan keeps
the columns of its filter); whoever reads by position (set operations, subqueries, recursion, the client) gets a projection
to exactly its columns. A scan asked for nothing keeps its cheapest column, because a batch without columns has no length.
Behaviour after CrateDB's ``LogicalPlan.pruneOutputsExcept``, ``RemoveRedundantEval`` and ``MergeFilterAndCollect``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from cratepy.model.expressions import Column, Literal, Parameter, SubqueryValue
from cratepy.model.relations import (
    MATCH_SOURCE_PREFIX,
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Item,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    ScanColumn,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import DataType
from cratepy.sql.plan.volatility import is_volatile
from cratepy.sql.plan.walk import (
    columns_of,
    map_items,
    map_relations,
    nodes,
    outer_references,
    output_ids,
    substitute,
    with_children,
    with_output,
)

Ids = frozenset[int]
AnyColumn = TypeVar("AnyColumn", ScanColumn, OutputColumn)


def prune_columns(relation: Relation) -> Relation:
    """The tree without columns that nobody reads; the output is the same."""
    return with_output(prune(relation, output_ids(relation)), output_columns(relation))


def prune(relation: Relation, needed: Ids) -> Relation:
    """The tree giving at least the needed ones of its columns."""
    match relation:
        case Scan():
            used = needed if relation.filter is None else needed | columns_of(relation.filter)
            return _prune_scan(relation, used)
        case SystemScan():
            used = needed if relation.filter is None else needed | columns_of(relation.filter)
            return _with_columns(relation, _kept(relation.columns, used))
        case ExchangeInput():
            return _with_columns(relation, _kept(relation.columns, needed))
        case TableFunction() | RecursiveReference():
            return relation
        case Values():
            return _prune_values(relation, needed)
        case Filter():
            return with_children(relation, [prune(relation.child, needed | columns_of(relation.predicate))])
        case Project():
            return _prune_project(relation, needed)
        case ProjectSet():
            # Every item multiplies the rows, wanted or not.
            used = columns_of(*(item.expression for item in relation.items))
            return with_children(relation, [prune(relation.child, (needed & output_ids(relation.child)) | used)])
        case Aggregation():
            return _prune_aggregation(relation, needed)
        case WindowCalculation():
            return _prune_window(relation, needed)
        case Join():
            return _prune_join(relation, needed)
        case Apply():
            return _prune_apply(relation, needed)
        case Sort():
            used = columns_of(*(key.expression for key in relation.keys))
            return with_children(relation, [prune(relation.child, needed | used)])
        case Limit():
            return with_children(relation, [prune(relation.child, needed)])
        case SetOperation():
            return _prune_set_operation(relation, needed)
        case RecursiveQuery():
            return with_children(relation, [prune_columns(relation.base), prune_columns(relation.step)])


def _with_columns(
    relation: Scan | SystemScan | ExchangeInput, columns: tuple[ScanColumn, ...] | tuple[OutputColumn, ...]
) -> Relation:
    return relation if columns == relation.columns else msgspec.structs.replace(relation, columns=columns)


def _prune_scan(scan: Scan, needed: Ids) -> Relation:
    """A scan without columns nobody reads and matches nobody asks for."""
    required = {match.source for match in scan.matches if match.is_required}
    kept = tuple(column for column in scan.columns if column.id in needed)
    if not kept and scan.columns:
        # Every row satisfies what is required, so that column is free; other matches and scores are not.
        free = [column for column in scan.columns if column.source in required]
        plain = [column for column in scan.columns if not column.source.startswith((MATCH_SOURCE_PREFIX, "_score"))]
        kept = _kept(tuple(free[:1] or plain or scan.columns), needed)
    sources = required.union(column.source for column in kept)
    matches = tuple(match for match in scan.matches if match.source in sources)
    if len(matches) < len(scan.matches):
        scan = msgspec.structs.replace(scan, matches=matches)
    return _with_columns(scan, kept)


def _kept(columns: tuple[AnyColumn, ...], needed: Ids) -> tuple[AnyColumn, ...]:
    kept = tuple(column for column in columns if column.id in needed)
    return kept or tuple(sorted(columns, key=lambda column: _width(column.type))[:1])


def _width(data_type: DataType) -> int:
    """How dear a column is to read, roughly in bytes."""
    if data_type.kind in ("boolean", "byte"):
        return 1
    if data_type.is_numeric or data_type.is_timestamp or data_type.kind == "date":
        return 8
    return 1_000 if data_type.kind in ("array", "object", "geo_shape", "json") else 100


def _prune_values(values: Values, needed: Ids) -> Relation:
    if all(column.id in needed for column in values.columns):
        return values
    kept = [i for i, column in enumerate(values.columns) if column.id in needed]
    if not kept and len(values.rows) != 1:
        kept = [0]
    columns = tuple(values.columns[i] for i in kept)
    return Values(rows=tuple(tuple(row[i] for i in kept) for row in values.rows), columns=columns)


def _prune_project(project: Project, needed: Ids) -> Relation:
    items = tuple(item for item in project.items if item.id in needed) or project.items[:1]
    child = prune(project.child, columns_of(*(item.expression for item in items)))
    if len(items) == len(project.items):
        return with_children(project, [child])
    return Project(child, items)


def _prune_aggregation(aggregation: Aggregation, needed: Ids) -> Relation:
    aggregates = tuple(item for item in aggregation.aggregates if item.id in needed)
    if not aggregation.keys:
        aggregates = aggregates or aggregation.aggregates[:1]
    used = columns_of(*(item.expression for item in aggregation.keys + aggregates))
    child = prune(aggregation.child, used)
    if len(aggregates) == len(aggregation.aggregates):
        return with_children(aggregation, [child])
    return Aggregation(child, aggregation.keys, aggregates)


def _prune_window(window: WindowCalculation, needed: Ids) -> Relation:
    items = tuple(item for item in window.items if item.id in needed)
    used = columns_of(*(item.expression for item in items))
    child = prune(window.child, (needed & output_ids(window.child)) | used)
    if not items:
        return child
    return with_children(window, [child]) if len(items) == len(window.items) else WindowCalculation(child, items)


def _prune_join(join: Join, needed: Ids) -> Relation:
    used = needed if join.condition is None else needed | columns_of(join.condition)
    left = prune(join.left, used & output_ids(join.left))
    return with_children(join, [left, prune(join.right, used & output_ids(join.right))])


def _prune_apply(apply: Apply, needed: Ids) -> Relation:
    # A scalar subquery stays even if its value is not read: it may have too many rows, which is an error.
    if apply.id not in needed and apply.kind != "scalar":
        return prune(apply.left, needed & output_ids(apply.left))
    used = needed | outer_references(apply.right)
    if apply.operand is not None:
        used |= columns_of(apply.operand)
    right = prune(apply.right, frozenset()) if apply.kind == "exists" else prune_columns(apply.right)
    return with_children(apply, [prune(apply.left, used & output_ids(apply.left)), right])


def _prune_set_operation(operation: SetOperation, needed: Ids) -> Relation:
    if operation.kind != "union_all":
        # Whole rows are compared.
        return with_children(operation, [prune_columns(child) for child in operation.children])
    kept = [i for i, column in enumerate(operation.columns) if column.id in needed] or [0]
    if not operation.columns:
        kept = []
    new = []
    for child in operation.children:
        wanted = [output_columns(child)[i] for i in kept]
        new.append(with_output(prune(child, frozenset(column.id for column in wanted)), wanted))
    if len(kept) == len(operation.columns):
        return with_children(operation, new)
    columns = tuple(operation.columns[i] for i in kept)
    return SetOperation(kind=operation.kind, children=tuple(new), columns=columns)


# --- projections -----------------------------------------------------------------------------------------------------


def merge_projects(relation: Relation) -> Relation:
    """A projection over a projection is one projection; one below an aggregation goes into it.

    Unless that would compute something twice, or a volatile value at another time.
    """

    def change(operator: Relation) -> Relation:
        match operator:
            case Project(child=Project() as inner) if _may_inline(inner.items, operator.items):
                return Project(inner.child, _inlined(operator.items, inner.items))
            case Aggregation(child=Project() as inner) if _may_inline(
                inner.items, (*operator.keys, *operator.aggregates)
            ):
                keys, aggregates = _inlined(operator.keys, inner.items), _inlined(operator.aggregates, inner.items)
                return Aggregation(inner.child, keys, aggregates)
            case _:
                return operator

    return map_relations(relation, change)


def _inlined(items: tuple[Item, ...], inner: tuple[Item, ...]) -> tuple[Item, ...]:
    values = {item.id: item.expression for item in inner}
    return map_items(items, lambda expression: substitute(expression, values))


def _may_inline(inner: tuple[Item, ...], outer: Sequence[Item]) -> bool:
    uses = Counter(n.id for item in outer for n in nodes(item.expression) if isinstance(n, Column))
    return all(
        isinstance(item.expression, Column | Literal | Parameter | SubqueryValue)
        or (uses[item.id] <= 1 and not is_volatile(item.expression))
        for item in inner
    )


def remove_redundant_projects(relation: Relation) -> Relation:
    """A projection to exactly what comes in is nothing."""

    def change(operator: Relation) -> Relation:
        if not isinstance(operator, Project):
            return operator
        incoming = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in output_columns(operator.child))
        same = len(incoming) == len(operator.items) and all(
            isinstance(item.expression, Column) and item.id == item.expression.id == come.id and item.name == come.name
            for item, come in zip(operator.items, incoming, strict=True)
        )
        return operator.child if same else operator

    return map_relations(relation, change)
