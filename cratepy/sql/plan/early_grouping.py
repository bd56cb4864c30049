"""Aggregation before a join, where that leaves few rows to join.

In: an optimized relation and the row estimates. Out: the same rows, with ::

    Aggregation [al.name] [count(*)]            Project [al.name, final]
      Join f.carrier = al.carrier                 Aggregation [al.name] [merged]
        Scan flights f                              Join f.carrier = al.carrier
        Scan airlines al                              Aggregation [f.carrier] [partial]
                                                        Scan flights f
                                                      Scan airlines al

A group of partial results stands for its rows in the join: a row of the other side that matches one of them matches all,
because what the condition and the group keys name is equal within the group. Joins over the joined side are passed in the
same way, so that a star around a table of facts is joined to groups of facts. It is done only if the groups are surely
much fewer than the rows: keys are bounded by the rows of the tables they refer to, nothing else is known of them. Arguments
of aggregates are computed before the join has dropped rows, so only those that cannot fail are taken.

After "Eager Aggregation and Lazy Aggregation", Yan and Larson, VLDB 1995 (eager count and eager group-by).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from cratepy import limits
from cratepy.model.expressions import Aggregate, Cast, Column, Expression
from cratepy.model.relations import Aggregation, Item, Join, OutputColumn, Project, Relation, children, output_columns
from cratepy.sql.plan.aggregating import passed_keys, split_aggregates
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.fragments import is_partitionable
from cratepy.sql.plan.joining import equal_pairs
from cratepy.sql.plan.volatility import is_volatile
from cratepy.sql.plan.walk import columns_of, output_ids, with_children

#: Kinds of join in which the left (right) side may be grouped before: those that keep or drop all rows of a group alike.
_LEFT_KINDS: Final = frozenset({"inner", "left", "semi", "anti"})
_RIGHT_KINDS: Final = frozenset({"inner", "right"})
_NUMBERS: Final = frozenset({"byte", "smallint", "integer", "bigint", "real"})

#: Column id → how many values it has at most.
Bounds = Mapping[int, float]


def group_early(relation: Relation, estimates: Estimates, new_id: Callable[[], int]) -> Relation:
    """The relation with aggregations put below joins where that pays."""
    if isinstance(relation, Aggregation) and isinstance(relation.child, Join):
        early = _grouped(relation, estimates, {}, new_id)
        if early is not None:
            return early
    return with_children(relation, [group_early(child, estimates, new_id) for child in children(relation)])


def _grouped(
    aggregation: Aggregation, estimates: Estimates, known: Bounds, new_id: Callable[[], int]
) -> Relation | None:
    """The aggregation of a join with one side grouped before; None if that cannot be done or does not pay."""
    join = aggregation.child
    assert isinstance(join, Join)
    side = _side(join, estimates)
    if side is None or join.condition is None or not _is_simple(aggregation, join, output_ids(side)):
        return None
    bounds = {**known, **_bounds_of_keys(join, side, estimates)}
    named = columns_of(join.condition, *(key.expression for key in aggregation.keys))
    keys = tuple(column for column in output_columns(side) if column.id in named)
    rows = estimates.rows(side)
    groups = _groups({key.id for key in keys}, side, bounds, estimates)
    if rows is None or rows < limits.EARLY_GROUPING_ROWS_MIN or groups * limits.EARLY_GROUPING_FACTOR > rows:
        return None
    parts = split_aggregates(aggregation.aggregates, new_id) if all(_may_group(key) for key in keys) else None
    if parts is None:
        return None
    whole = Aggregation(side, tuple(_passed(key) for key in keys), parts.partial)
    partial = (_grouped(whole, estimates, bounds, new_id) if isinstance(side, Join) else None) or whole
    is_left = side is join.left
    joined = msgspec.structs.replace(join, left=partial) if is_left else msgspec.structs.replace(join, right=partial)
    merged = Aggregation(joined, aggregation.keys, parts.merged)
    return Project(merged, (*passed_keys(aggregation), *parts.final))


def _passed(column: OutputColumn) -> Item:
    return Item(column.id, column.name, Column(column.id, column.name, column.type))


def _side(join: Join, estimates: Estimates) -> Relation | None:
    """The larger side, if it may be grouped before the join."""
    left, right = estimates.rows(join.left), estimates.rows(join.right)
    if left is None or right is None:
        return None
    if left >= right:
        return join.left if join.kind in _LEFT_KINDS else None
    return join.right if join.kind in _RIGHT_KINDS else None


def _is_simple(aggregation: Aggregation, join: Join, ids: frozenset[int]) -> bool:
    """Whether the aggregates are of the side's columns as they are, and nothing gives another value when asked again."""
    assert join.condition is not None
    if is_volatile(join.condition) or any(is_volatile(key.expression) for key in aggregation.keys):
        return False
    for item in aggregation.aggregates:
        aggregate = item.expression
        assert isinstance(aggregate, Aggregate)
        given = [*aggregate.arguments, *([] if aggregate.filter is None else [aggregate.filter])]
        if aggregate.order_by or not all(_is_safe(expression) for expression in given) or not columns_of(*given) <= ids:
            return False
    return True


def _is_safe(expression: Expression) -> bool:
    """A column, or an integer column as a double: what can be computed of any row."""
    if isinstance(expression, Cast):
        return expression.type.kind == "double precision" and (
            isinstance(expression.argument, Column) and expression.argument.type.kind in _NUMBERS
        )
    return isinstance(expression, Column)


def _may_group(column: OutputColumn) -> bool:
    return is_partitionable(column.type)


# --- how many groups -------------------------------------------------------------------------------------------------


def _bounds_of_keys(join: Join, side: Relation, estimates: Estimates) -> dict[int, float]:
    """A column that refers to a table has about as many values as the table has rows."""
    is_left = side is join.left
    other = join.right if is_left else join.left
    found: dict[int, float] = {}
    for left, right in equal_pairs(join):
        mine, theirs = (left, right) if is_left else (right, left)
        if isinstance(mine, Column) and isinstance(theirs, Column):
            found[mine.id] = min(found.get(mine.id, math.inf), _groups({theirs.id}, other, {}, estimates))
    return found


def _groups(ids: Iterable[int], relation: Relation, bounds: Bounds, estimates: Estimates) -> float:
    """How many different rows the columns have at most: of each joined table no more than it has rows."""
    wanted, groups = set(ids), 1.0
    for member in _members(relation):
        mine = wanted & output_ids(member)
        if mine:
            rows = estimates.rows(member)
            different = math.prod(bounds.get(column, math.inf) for column in mine)
            groups *= max(1.0, min(different, math.inf if rows is None else rows))
    return groups


def _members(relation: Relation) -> list[Relation]:
    if isinstance(relation, Join):
        return [*_members(relation.left), *_members(relation.right)]
    return [relation]
