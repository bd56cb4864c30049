"""Limits and orders: stop early, sort little.

``LIMIT n OFFSET m`` above a branching or distributed input means that no branch need give more than n + m rows; the outer
limit stays. Counts may be parameters: n + m is then an expression that is computed when the statement runs, and NULL (no
limit) stays NULL through the addition. Behaviour after CrateDB's ``MoveLimitBeneathEval``, ``MoveLimitBeneathRename``,
``MoveOrderBeneathUnion``, ``MoveOrderBeneathEval`` and ``OrderBy``'s redundancy rules.
"""

from __future__ import annotations

import msgspec

from cratepy.model.expressions import Call, Cast, Column, Expression, Literal
from cratepy.model.relations import (
    Limit,
    Project,
    Relation,
    Scan,
    SetOperation,
    Sort,
    output_columns,
)
from cratepy.model.types import BIGINT
from cratepy.sql.plan.rules.filters import nothing
from cratepy.sql.plan.walk import map_keys, map_relations, reference, substitute


def rows_wanted(limit: Limit) -> Expression | None:
    """How many rows a limit reads at most: count + offset; None if there is no count."""
    count, offset = limit.count, limit.offset
    if count is None or (isinstance(count, Literal) and count.value is None):
        return None
    if offset is None or (isinstance(offset, Literal) and not offset.value):
        return count
    if isinstance(count, Literal) and isinstance(offset, Literal):
        return Literal(count.value + offset.value, BIGINT)
    # A NULL offset is none, so the sum must not become NULL with it.
    known = Call("coalesce", (offset, Literal(0, offset.type)), offset.type)
    return Call("op_+", (_as_bigint(count), _as_bigint(known)), BIGINT)


def _as_bigint(expression: Expression) -> Expression:
    return expression if expression.type == BIGINT else Cast(expression, BIGINT, is_implicit=True)


def push_limits_down(relation: Relation) -> Relation:
    """Limits below projections, into the branches of UNION ALL, and into scans."""
    return map_relations(relation, _push_limit)


def _push_limit(relation: Relation) -> Relation:
    if not isinstance(relation, Limit) or any(_is_refused(part) for part in (relation.count, relation.offset)):
        return relation
    if isinstance(relation.count, Literal) and relation.count.value == 0:
        return nothing(relation)
    child = relation.child
    match child:
        case Project():
            return msgspec.structs.replace(
                child, child=_push_limit(msgspec.structs.replace(relation, child=child.child))
            )
        case SetOperation(kind="union_all"):
            wanted = rows_wanted(relation)
            if wanted is None:
                return relation
            branches = tuple(_limited(branch, wanted) for branch in child.children)
            if branches == child.children:
                return relation
            return msgspec.structs.replace(relation, child=msgspec.structs.replace(child, children=branches))
        case Scan(filter=None):
            # A source cannot count the rows that pass a filter before it has tested them.
            wanted = rows_wanted(relation)
            if not isinstance(wanted, Literal) or child.limit is not None:
                return relation
            return msgspec.structs.replace(relation, child=msgspec.structs.replace(child, limit=wanted.value))
        case _:
            return relation


def _is_refused(expression: Expression | None) -> bool:
    """Whether it is a count that the statement will fail for when it runs."""
    return isinstance(expression, Literal) and isinstance(expression.value, int) and expression.value < 0


def _limited(branch: Relation, wanted: Expression) -> Relation:
    if _is_limited(branch, wanted):
        return branch
    return _push_limit(Limit(branch, wanted))


def _is_limited(branch: Relation, wanted: Expression) -> bool:
    while isinstance(branch, Project):
        branch = branch.child
    if not isinstance(branch, Limit):
        return False
    own = rows_wanted(branch)
    if own == wanted:
        return True
    return isinstance(own, Literal) and isinstance(wanted, Literal) and own.value <= wanted.value


def push_sorts_down(relation: Relation) -> Relation:
    """Top-n: sort before computing what the sort does not need, and within each branch of UNION ALL.

    Of two sorts one directly on the other only the upper counts.
    """
    return map_relations(relation, _push_sort)


def _push_sort(relation: Relation) -> Relation:
    match relation:
        case Sort(child=Sort() as inner):
            return msgspec.structs.replace(relation, child=inner.child)
        case Limit(child=Sort(child=Project() as project) as sort):
            values = {item.id: item.expression for item in project.items}
            keys = map_keys(sort.keys, lambda expression: substitute(expression, values))
            if not all(isinstance(key.expression, Column) for key in keys):
                return relation
            below = _push_sort(msgspec.structs.replace(relation, child=Sort(project.child, keys)))
            return msgspec.structs.replace(project, child=below)
        case Limit(child=Sort(child=SetOperation(kind="union_all") as union) as sort):
            wanted = rows_wanted(relation)
            if wanted is None:
                return relation
            branches = tuple(_sorted_branch(union, branch, sort, wanted) for branch in union.children)
            if branches == union.children:
                return relation
            return msgspec.structs.replace(
                relation, child=Sort(msgspec.structs.replace(union, children=branches), sort.keys)
            )
        case _:
            return relation


def _sorted_branch(union: SetOperation, branch: Relation, sort: Sort, wanted: Expression) -> Relation:
    if _is_limited(branch, wanted):
        return branch
    pairs = zip(union.columns, output_columns(branch), strict=True)
    values = {column.id: reference(source) for column, source in pairs}
    keys = map_keys(sort.keys, lambda expression: substitute(expression, values))
    return _push_sort(Limit(Sort(branch, keys), wanted))
