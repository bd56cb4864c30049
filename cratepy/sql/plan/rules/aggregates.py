"""Distinct aggregates as two aggregations: first one row per group and value, then the plain aggregate.

::

    Aggregation [k] [count(DISTINCT x)]     Aggregation [k] [count(x')]
    └ …                                 →   └ Aggregation [k, x' = x] []
                                              └ …

Both halves can then be computed in parts on several nodes, which the distinct aggregate cannot. It works if all distinct
aggregates have the same argument and all others do not mind repeated values (min, max).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec

from cratepy.functions.distinct import exact_count
from cratepy.model.expressions import Aggregate, Column, Expression
from cratepy.model.relations import Aggregation, Item, Relation, SetOperation
from cratepy.sql.plan.walk import all_ids, map_relations, passed_on

#: Aggregates whose value does not change if a value comes more than once.
REPETITION_PROOF: Final = frozenset({"min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "any_value"})


def split_distinct_aggregates(relation: Relation) -> Relation:
    """Distinct aggregates of one argument computed over distinct rows."""
    ids = count(max(all_ids(relation), default=0) + 1)

    def change(operator: Relation) -> Relation:
        if not isinstance(operator, Aggregation):
            return operator
        operator = _with_exact_counts(operator)
        argument = _common_argument(operator)
        return operator if argument is None else _split(operator, argument, lambda: next(ids))

    return map_relations(relation, change)


def group_distinct_unions(relation: Relation) -> Relation:
    """UNION as the groups of UNION ALL: grouping can be done in parts on the nodes of the branches."""

    def change(operator: Relation) -> Relation:
        if not isinstance(operator, SetOperation) or operator.kind != "union" or not operator.columns:
            return operator
        rows = SetOperation(kind="union_all", children=operator.children, columns=operator.columns)
        return Aggregation(rows, tuple(passed_on(column) for column in operator.columns), ())

    return map_relations(relation, change)


def _with_exact_counts(aggregation: Aggregation) -> Aggregation:
    items = []
    for item in aggregation.aggregates:
        assert isinstance(item.expression, Aggregate)
        items.append(Item(item.id, item.name, exact_count(item.expression)))
    return Aggregation(aggregation.child, aggregation.keys, tuple(items))


def _common_argument(aggregation: Aggregation) -> Expression | None:
    """The one argument of all aggregates, if the rewrite applies."""
    found: Expression | None = None
    has_distinct = False
    for item in aggregation.aggregates:
        aggregate = item.expression
        assert isinstance(aggregate, Aggregate)
        if len(aggregate.arguments) != 1 or aggregate.filter is not None or aggregate.order_by:
            return None
        if not aggregate.is_distinct and aggregate.function not in REPETITION_PROOF:
            return None
        has_distinct = has_distinct or aggregate.is_distinct
        if found is not None and found != aggregate.arguments[0]:
            return None
        found = aggregate.arguments[0]
    return found if has_distinct else None


def _split(aggregation: Aggregation, argument: Expression, new_id: Callable[[], int]) -> Relation:
    value = Item(new_id(), "value", argument)
    distinct = Aggregation(aggregation.child, (*aggregation.keys, value), ())
    column = Column(value.id, value.name, argument.type)
    keys = tuple(Item(k.id, k.name, Column(k.id, k.name, k.expression.type)) for k in aggregation.keys)
    plain = tuple(
        Item(i.id, i.name, msgspec.structs.replace(i.expression, arguments=(column,), is_distinct=False))
        for i in aggregation.aggregates
    )
    return Aggregation(distinct, keys, plain)
