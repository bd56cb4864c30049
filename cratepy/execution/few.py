"""Queries that touch a few rows, without the engine: it takes milliseconds to start, a row takes microseconds here.

In: a query's relation and what its only scan gave. Out: rows as SQL values, or None: there are too many rows, or the query
does more than filter, cut, compute and count. Lookups by key or by an exact index and rare words are of this kind.
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
from cratepy.model.relations import Aggregation, Limit, Project, Relation, Scan

Rows = list[tuple[Any, ...]]

#: Values computed at most, rows times expressions: some milliseconds' worth, and all of the engine's start.
_VALUES_MAX: Final = 256


def few_rows(relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext) -> Rows | None:
    """The answer, if it is cheap to make here. Raises what an expression fails with."""
    items = None
    if isinstance(relation, Project):
        items = [item.expression for item in relation.items]
        relation = relation.child
    match relation:
        case Aggregation(child=Scan(filter=None), keys=()) if items is None:
            return _counted(relation, inputs[0])
        case Scan():
            return _computed(relation, items, inputs[0], slice(None), context)
        case Limit(child=Scan() as scan, count=count, offset=offset):
            if count is None:
                return None
            first, length = constant_values([count if offset is None else offset, count], context)
            first = 0 if offset is None or first is None else first
            if length is None or length < 0 or first < 0:
                return None  # No limit, or one that the engine knows what to say about.
            return _computed(scan, items, inputs[0], slice(first, first + length), context)
        case _:
            return None


def _counted(aggregation: Aggregation, given: FragmentInput) -> Rows | None:
    for item in aggregation.aggregates:
        match item.expression:
            case Aggregate(function="count", arguments=(), filter=None):
                pass
            case _:
                return None
    return [(given.row_count,) * len(aggregation.aggregates)]


def _computed(
    scan: Scan, items: Sequence[Expression] | None, given: FragmentInput, wanted: slice, context: StatementContext
) -> Rows | None:
    """The wanted ones of the rows that pass the filter."""
    expressions = [*(() if scan.filter is None else (scan.filter,)), *(items or ())]
    columns = {column.id: i for i, column in enumerate(given.columns)}
    places = [columns.get(item.id) for item in items or () if isinstance(item, Column)]
    is_picked = items is None or (len(places) == len(items) and None not in places)
    cost = given.row_count * max(1, (scan.filter is not None) + (0 if is_picked else len(items or ())))
    if cost > _VALUES_MAX or any(_is_refused(expression) for expression in expressions):
        return None
    rows: Rows = []
    for batches in given.partitions:
        for batch in batches:
            values = [from_arrow(batch.column(i), column.type) for i, column in enumerate(given.columns)]
            rows.extend(zip(*values, strict=True) if values else [()] * batch.num_rows)
    ids = [column.id for column in given.columns]
    if scan.filter is not None:
        condition = scan.filter
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
