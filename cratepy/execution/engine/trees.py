"""Walking and rewriting relation trees: nodes, expressions, outer columns, and the small parts joins are made of.

In: relations. Out: what is in them, or the same tree with other expressions. Shared by the two halves of ``decorrelate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_never

import msgspec

from cratepy.functions.evaluate import subexpressions
from cratepy.model.expressions import TRUE, Call, Column, Expression, OuterColumn
from cratepy.model.relations import (
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
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.model.types import BOOLEAN


def nodes(relation: Relation) -> Iterator[Relation]:
    yield relation
    for child in children(relation):
        yield from nodes(child)


def largest_id(relation: Relation) -> int:
    return max((column.id for node in nodes(relation) for column in output_columns(node)), default=0)


def expressions_of(relation: Relation) -> Iterator[Expression]:
    """The expressions of one operator."""
    match relation:
        case Filter():
            yield relation.predicate
        case Project() | ProjectSet() | WindowCalculation():
            yield from (item.expression for item in relation.items)
        case Aggregation():
            yield from (item.expression for item in relation.keys + relation.aggregates)
        case Join():
            if relation.condition is not None:
                yield relation.condition
        case Apply():
            if relation.operand is not None:
                yield relation.operand
        case Sort():
            yield from (key.expression for key in relation.keys)
        case Limit():
            yield from (e for e in (relation.count, relation.offset) if e is not None)
        case TableFunction():
            yield from relation.arguments
        case Values():
            yield from (expression for row in relation.rows for expression in row)
        case Scan() | SystemScan():
            if relation.filter is not None:
                yield relation.filter
        case SetOperation() | RecursiveQuery() | RecursiveReference() | ExchangeInput():
            return
        case _:
            assert_never(relation)


def outer_columns(relation: Relation, within: frozenset[int]) -> dict[int, OuterColumn]:
    """The outer columns used in the tree, of the ids given."""
    found: dict[int, OuterColumn] = {}
    for node in nodes(relation):
        for expression in expressions_of(node):
            for part in subexpressions(expression):
                if isinstance(part, OuterColumn) and part.id in within:
                    found.setdefault(part.id, part)
    return found


def passing(columns: tuple[OutputColumn, ...]) -> tuple[Item, ...]:
    return tuple(Item(column.id, column.name, column_of(column)) for column in columns)


def column_of(column: OutputColumn) -> Column:
    return Column(column.id, column.name, column.type)


def same(left: Expression, right: Expression) -> Call:
    return Call("op_is_not_distinct_from", (left, right), BOOLEAN)


def conjunction(conditions: list[Expression]) -> Expression:
    result: Expression = conditions[0] if conditions else TRUE
    for condition in conditions[1:]:
        result = Call("op_and", (result, condition), BOOLEAN)
    return result


def conjuncts(predicate: Expression) -> Iterator[Expression]:
    if isinstance(predicate, Call) and predicate.function == "op_and":
        for argument in predicate.arguments:
            yield from conjuncts(argument)
    else:
        yield predicate


def changed_expressions(relation: Relation, change: Callable[[Expression], Expression]) -> Relation:
    """The tree with every expression replaced."""
    match relation:
        case Filter():
            return Filter(changed_expressions(relation.child, change), change(relation.predicate))
        case Project() | ProjectSet() | WindowCalculation():
            items = tuple(Item(i.id, i.name, change(i.expression)) for i in relation.items)
            return msgspec.structs.replace(relation, child=changed_expressions(relation.child, change), items=items)
        case Aggregation():
            keys = tuple(Item(i.id, i.name, change(i.expression)) for i in relation.keys)
            aggregates = tuple(Item(i.id, i.name, change(i.expression)) for i in relation.aggregates)
            return Aggregation(changed_expressions(relation.child, change), keys, aggregates)
        case Join() | Apply():
            left = changed_expressions(relation.left, change)
            right = changed_expressions(relation.right, change)
            if isinstance(relation, Apply):
                operand = None if relation.operand is None else change(relation.operand)
                return msgspec.structs.replace(relation, left=left, right=right, operand=operand)
            condition = None if relation.condition is None else change(relation.condition)
            return msgspec.structs.replace(relation, left=left, right=right, condition=condition)
        case Sort():
            order = tuple(msgspec.structs.replace(k, expression=change(k.expression)) for k in relation.keys)
            return Sort(changed_expressions(relation.child, change), order)
        case Limit():
            return msgspec.structs.replace(relation, child=changed_expressions(relation.child, change))
        case SetOperation():
            parts = tuple(changed_expressions(child, change) for child in relation.children)
            return msgspec.structs.replace(relation, children=parts)
        case RecursiveQuery():
            base = changed_expressions(relation.base, change)
            return msgspec.structs.replace(relation, base=base, step=changed_expressions(relation.step, change))
        case TableFunction():
            return msgspec.structs.replace(relation, arguments=tuple(change(a) for a in relation.arguments))
        case Values():
            return msgspec.structs.replace(relation, rows=tuple(tuple(change(e) for e in row) for row in relation.rows))
        case Scan() | SystemScan() | RecursiveReference() | ExchangeInput():
            return relation
        case _:
            assert_never(relation)
