"""Queries that touch a few rows, without the engine: it takes milliseconds to start, a row takes microseconds here.

In: a query's relation, or a phase's, and what its only leaf gave. Out: rows as SQL values, or None: there are too many rows,
or it does more than filter, cut, compute, count and put counts together. Lookups by key or by an exact index, rare words and what monitors ask of
system tables are of this kind; a node that is asked nothing else never loads the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cratepy.execution.engine.constants import constant_values
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.functions.evaluate import subexpressions, value_of
from cratepy.functions.registry import declaration_of
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Aggregate, Call, Column, Expression, OuterColumn, Window
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Aggregation, ExchangeInput, Limit, Project, Relation, Scan, SystemScan
from cratepy.model.types import BIGINT

Rows = list[tuple[Any, ...]]
_Leaf = Scan | SystemScan | ExchangeInput

#: Values computed at most, rows times expressions: some milliseconds' worth, and all of the engine's start.
_VALUES_MAX: Final = 256


def few_rows(
    relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext, *, values_max: int = _VALUES_MAX
) -> Rows | None:
    """The answer, if it is cheap to make here: no more than so many values. Raises what an expression fails with."""
    items = None
    if isinstance(relation, Project):
        items = [item.expression for item in relation.items]
        relation = relation.child
    match relation:
        case Aggregation(child=Scan() | SystemScan() | ExchangeInput() as leaf, keys=()):
            return _totals(relation, leaf, items, inputs[0], context, values_max)
        case Scan() | SystemScan():
            return _computed(relation, items, inputs[0], slice(None), context, values_max)
        case Limit(child=Scan() | SystemScan() as scan, count=count, offset=offset):
            if count is None:
                return None
            first, length = constant_values([count if offset is None else offset, count], context)
            first = 0 if offset is None or first is None else first
            if length is None or length < 0 or first < 0:
                return None  # No limit, or one that the engine knows what to say about.
            return _computed(scan, items, inputs[0], slice(first, first + length), context, values_max)
        case _:
            return None


def _totals(
    aggregation: Aggregation,
    leaf: _Leaf,
    items: Sequence[Expression] | None,
    given: FragmentInput,
    context: StatementContext,
    values_max: int,
) -> Rows | None:
    """The one row of ``count(*)`` and sums of 64-bit counts."""
    rows: Rows | None = None
    if _filter_of(leaf) is not None or any(
        item.expression.arguments for item in aggregation.aggregates if isinstance(item.expression, Aggregate)
    ):
        rows = _computed(leaf, None, given, slice(None), context, values_max)
        if rows is None:
            return None
    places = {column.id: i for i, column in enumerate(given.columns)}
    totals: dict[int, int | None] = {}
    for item in aggregation.aggregates:
        match item.expression:
            case Aggregate(function="count", arguments=(), filter=None):
                totals[item.id] = given.row_count if rows is None else len(rows)
            case (
                Aggregate(function="sum", arguments=(Column() as column,), filter=None, is_distinct=False) as total
            ) if column.type == total.type == BIGINT:
                values = [row[places[column.id]] for row in rows or ()]
                present = [value for value in values if value is not None]
                totals[item.id] = sum(present) if present else None
                if present and not -(2**63) <= sum(present) < 2**63:
                    return None  # The engine says how that fails.
            case _:
                return None
    if items is None:
        return [tuple(totals.values())]
    if any(_is_refused(item) for item in items):
        return None
    return [tuple([value_of(item, totals, context) for item in items])]


def _filter_of(leaf: _Leaf) -> Expression | None:
    return None if isinstance(leaf, ExchangeInput) else leaf.filter


def _computed(
    leaf: _Leaf,
    items: Sequence[Expression] | None,
    given: FragmentInput,
    wanted: slice,
    context: StatementContext,
    values_max: int,
) -> Rows | None:
    """The wanted ones of the rows that pass the filter."""
    condition = _filter_of(leaf)
    expressions = [*(() if condition is None else (condition,)), *(items or ())]
    columns = {column.id: i for i, column in enumerate(given.columns)}
    places = [columns.get(item.id) for item in items or () if isinstance(item, Column)]
    is_picked = items is None or (len(places) == len(items) and None not in places)
    cost = given.row_count * max(1, (condition is not None) + (0 if is_picked else len(items or ())))
    if cost > values_max or any(_is_refused(expression) for expression in expressions):
        return None
    rows: Rows = []
    for batches in given.partitions:
        for batch in batches:
            values = [from_arrow(batch.column(i), column.type) for i, column in enumerate(given.columns)]
            rows.extend(zip(*values, strict=True) if values else [()] * batch.num_rows)
    ids = [column.id for column in given.columns]
    if condition is not None:
        rows = [row for row in rows if value_of(condition, dict(zip(ids, row, strict=True)), context) is True]
    rows = rows[wanted]
    if items is None:
        return rows
    if is_picked:
        return [tuple([row[place] for place in places if place is not None]) for row in rows]
    named = [dict(zip(ids, row, strict=True)) for row in rows]
    return [tuple([value_of(item, row, context) for item in items]) for row in named]


def _is_refused(expression: Expression) -> bool:
    for part in subexpressions(expression):
        match part:
            case OuterColumn() | Aggregate() | Window():
                return True
            case Call() if not declaration_of(part.function).is_deterministic:
                return True
    return False
