"""Correlated subqueries as joins: predicates on outer columns pulled up out of the subquery.

A subquery's rows are its own rows that satisfy the predicates naming the outer query's columns. If those predicates can be
pulled to its top, they are a join condition and the rest no longer depends on the outer row. Pulling is safe through filters,
projections (which then also give the columns needed), sorts, inner joins and the left side of left joins; anything else
that has an outer column below makes the whole fail, and the subquery stays an Apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cratepy.model.expressions import Call, Column, Expression, Literal, OuterColumn
from cratepy.model.relations import Filter, Item, Join, Limit, Project, Relation, Sort
from cratepy.records import dataclass
from cratepy.sql.plan.walk import (
    columns_of,
    conjunction,
    conjuncts,
    nodes,
    outer_columns_of,
    outer_references,
    output_ids,
    transform,
)

Ids = frozenset[int]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A subquery without outer columns of the given ids, and the predicates that held them (as plain columns)."""

    relation: Relation
    predicates: tuple[Expression, ...]


def pull_for_existence(right: Relation, outer: Ids) -> Pulled | None:
    """As :func:`pull`, for EXISTS: what the subquery gives does not matter, only whether it has a row."""
    while True:
        match right:
            case Project() | Sort():
                right = right.child
            case Limit(count=Literal(value=int(n)), offset=None | Literal(value=None | 0)) if n >= 1:
                right = right.child
            case _:
                return pull(right, outer)


def pull(relation: Relation, outer: Ids) -> Pulled | None:
    """Pull the predicates that name outer columns; None if one cannot be pulled. All output columns stay."""
    result = _pull(relation, outer)
    if result is None or outer_references(result.relation) & outer:
        return None
    return result


def _pull(relation: Relation, outer: Ids) -> Pulled | None:
    if not outer_references(relation) & outer:
        return Pulled(relation, ())
    match relation:
        case Filter():
            return _pull_filter(relation, outer)
        case Sort():
            return _pull(relation.child, outer)
        case Project():
            return _pull_project(relation, outer)
        case Join(kind="inner" | "cross" | "left"):
            return _pull_join(relation, outer)
        case _:
            return None


def _pull_filter(relation: Filter, outer: Ids) -> Pulled | None:
    below = _pull(relation.child, outer)
    if below is None:
        return None
    own, pulled = _separate(conjuncts(relation.predicate), outer)
    predicate = conjunction(own)
    child = below.relation if predicate is None else Filter(below.relation, predicate)
    return Pulled(child, (*below.predicates, *pulled))


def _pull_project(relation: Project, outer: Ids) -> Pulled | None:
    if any(outer_columns_of(item.expression) & outer for item in relation.items):
        return None
    below = _pull(relation.child, outer)
    if below is None:
        return None
    given = {item.id for item in relation.items}
    inner = output_ids(below.relation)
    extra: dict[int, Item] = {}
    for predicate in below.predicates:
        for node in nodes(predicate):
            if isinstance(node, Column) and node.id in inner and node.id not in given:
                extra[node.id] = Item(node.id, node.name, node)
    return Pulled(Project(below.relation, (*relation.items, *extra.values())), below.predicates)


def _pull_join(relation: Join, outer: Ids) -> Pulled | None:
    left = _pull(relation.left, outer)
    right = _pull(relation.right, outer) if relation.kind != "left" else Pulled(relation.right, ())
    if left is None or right is None:
        return None
    if relation.kind == "left":
        # The condition decides what is matched, not what is given: it has to stay.
        return Pulled(msgspec.structs.replace(relation, left=left.relation), left.predicates)
    own, pulled = _separate(conjuncts(relation.condition), outer)
    condition = conjunction(own)
    join = Join("cross" if condition is None else "inner", left.relation, right.relation, condition)
    return Pulled(join, (*left.predicates, *right.predicates, *pulled))


def _separate(predicates: Sequence[Expression], outer: Ids) -> tuple[list[Expression], list[Expression]]:
    """Predicates without those outer columns, and the others with them as plain columns."""
    own = [p for p in predicates if not outer_columns_of(p) & outer]
    return own, [as_plain(p, outer) for p in predicates if outer_columns_of(p) & outer]


def as_plain(expression: Expression, outer: Ids) -> Expression:
    """Outer columns of those ids as columns of the same operator."""

    def change(node: Expression) -> Expression:
        if isinstance(node, OuterColumn) and node.id in outer:
            return Column(node.id, node.name, node.type)
        return node

    return transform(expression, change)


def equality_with(predicate: Expression, outer: Ids) -> tuple[Expression, Expression] | None:
    """(outer side, inner side) of an equality between expressions of one side each."""
    match predicate:
        case Call(function="op_=", arguments=(one, other)):
            for outside, inside in ((one, other), (other, one)):
                named = columns_of(outside)
                if named and named <= outer and columns_of(inside) and not columns_of(inside) & outer:
                    return outside, inside
    return None
