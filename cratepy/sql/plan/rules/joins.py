"""The order of inner joins: comma lists joined so that no cross join is left where a condition connects.

``FROM a, b, c WHERE a.x = c.x AND c.y = b.y`` is written as ``(a × b) ⋈ c``. The relations of such a tree are joined again
in their written order, but each time the first one that an equality connects to what is joined already goes before those
that nothing connects. Trees without a cross join keep the order they were written in. After CrateDB's ``EliminateCrossJoin``.
"""

from __future__ import annotations

from cratepy.model.expressions import Call, Expression
from cratepy.model.relations import Join, Relation, children, output_columns
from cratepy.sql.plan.walk import columns_of, conjunction, conjuncts, output_ids, with_children, with_output


def order_joins(relation: Relation) -> Relation:
    """Replace cross joins by inner joins where another order of the same relations allows it."""
    if not isinstance(relation, Join) or relation.kind not in ("inner", "cross"):
        return with_children(relation, [order_joins(child) for child in children(relation)])
    relations: list[Relation] = []
    predicates: list[Expression] = []
    crosses = _flatten(relation, relations, predicates)
    relations = [order_joins(member) for member in relations]
    if crosses and len(relations) > 2:
        ordered, crosses_after = _joined(relations, predicates)
        if crosses_after < crosses:
            return with_output(ordered, output_columns(relation))
    return with_children(relation, [order_joins(child) for child in children(relation)])


def _flatten(relation: Relation, relations: list[Relation], predicates: list[Expression]) -> int:
    """Collect the members and conditions of a tree of inner joins; the number of cross joins in it."""
    if not isinstance(relation, Join) or relation.kind not in ("inner", "cross"):
        relations.append(relation)
        return 0
    below = _flatten(relation.left, relations, predicates) + _flatten(relation.right, relations, predicates)
    predicates.extend(conjuncts(relation.condition))
    return below + (relation.kind == "cross")


def _joined(relations: list[Relation], predicates: list[Expression]) -> tuple[Relation, int]:
    """The members joined greedily, and how many cross joins that took."""
    result, *waiting = relations
    ids, open_predicates, crosses = output_ids(result), list(predicates), 0
    while waiting:
        best = max(waiting, key=lambda member: _connection(ids, output_ids(member), open_predicates))
        waiting.remove(best)
        ids |= output_ids(best)
        ready = [p for p in open_predicates if columns_of(p) <= ids]
        open_predicates = [p for p in open_predicates if p not in ready]
        condition = conjunction(ready)
        crosses += condition is None
        result = Join("cross" if condition is None else "inner", result, best, condition)
    assert not open_predicates, "a join condition names a column of none of the joined relations"
    return result, crosses


def _connection(joined: frozenset[int], member: frozenset[int], predicates: list[Expression]) -> int:
    """2 if an equality connects the member to what is joined, 1 if any predicate does, 0 if none (max: first wins)."""
    best = 0
    for predicate in predicates:
        named = columns_of(predicate)
        if named & joined and named & member and named <= joined | member:
            best = max(best, 2 if isinstance(predicate, Call) and predicate.function == "op_=" else 1)
    return best
