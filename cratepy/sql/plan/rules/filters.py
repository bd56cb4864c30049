"""Filters: merged, moved to the scans, and used to make outer joins inner.

A predicate moves below an operator if no row that the operator gives could change by it; each case below says why. What
never moves: volatile predicates, and those naming an outer query's columns (they are for decorrelation, and a scan could
not evaluate them). Behaviour after CrateDB's ``MoveFilterBeneath*``, ``MergeFilters`` and ``RewriteFilterOnOuterJoin*``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cratepy.model.expressions import TRUE, Call, Cast, Column, Expression, InList, Literal, Window
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Item,
    Join,
    Project,
    ProjectSet,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.sql.plan.volatility import is_volatile
from cratepy.sql.plan.walk import (
    columns_of,
    conjunction,
    conjuncts,
    is_constant,
    is_false,
    outer_columns_of,
    output_ids,
    reference,
    substitute,
    with_children,
)

Predicates = Sequence[Expression]


def push_filters_down(relation: Relation) -> Relation:
    """Move every predicate as close to the rows it tests as it may go; scans take theirs in."""
    return _push(relation, [])


def _push(relation: Relation, predicates: Predicates) -> Relation:
    """The relation filtered by the predicates, which name only its output columns and may all be moved."""
    match relation:
        case Filter():
            own = conjuncts(relation.predicate)
            stuck = [p for p in own if not _is_movable(p)]
            # The lower filter's predicates come first: they were written to be tested first.
            return _filtered(_push(relation.child, [*(p for p in own if _is_movable(p)), *predicates]), stuck)
        case Scan() | SystemScan():
            if not predicates:
                return relation
            return msgspec.structs.replace(relation, filter=conjunction([*conjuncts(relation.filter), *predicates]))
        case Project():
            return _push_project(relation, predicates)
        case ProjectSet() | Apply():
            # Rows are multiplied or extended: a test of the child's columns gives the same before as after.
            below_ids = output_ids(children(relation)[0])
            return _push_some(relation, predicates, [p for p in predicates if columns_of(p) <= below_ids])
        case Aggregation():
            return _push_aggregation(relation, predicates)
        case WindowCalculation():
            return _push_window(relation, predicates)
        case Sort():
            return msgspec.structs.replace(relation, child=_push(relation.child, predicates))
        case Join():
            return _push_join(relation, predicates)
        case SetOperation():
            return _push_set_operation(relation, predicates)
        case _:
            return _filtered(with_children(relation, [_push(child, []) for child in children(relation)]), predicates)


def _is_movable(predicate: Expression) -> bool:
    return not outer_columns_of(predicate) and not is_volatile(predicate)


def _filtered(relation: Relation, predicates: Predicates) -> Relation:
    predicate = conjunction(predicates)
    return relation if predicate is None else Filter(relation, predicate)


def _push_some(relation: Relation, predicates: Predicates, movable: Predicates) -> Relation:
    """Push ``movable`` into the first child and keep the others above."""
    first, *others = children(relation)
    below = [_push(first, movable), *(_push(other, []) for other in others)]
    return _filtered(with_children(relation, below), [p for p in predicates if p not in movable])


def _push_project(project: Project, predicates: Predicates) -> Relation:
    values = {item.id: item.expression for item in project.items}
    below: list[tuple[Expression, Expression]] = []
    above: list[tuple[Expression, Expression]] = []
    for predicate in predicates:
        moved = substitute(predicate, values)
        (below if _is_movable(moved) else above).append((predicate, moved))
    child = _push(project.child, [moved for _, moved in below])
    new = project if child is project.child else msgspec.structs.replace(project, child=child)
    return _filtered(new, [predicate for predicate, _ in above])


def _push_aggregation(aggregation: Aggregation, predicates: Predicates) -> Relation:
    # All rows of a group agree on the keys. Without keys there is one row whatever comes in: nothing may move.
    keys = {item.id: item.expression for item in aggregation.keys}
    movable: list[Expression] = []
    above: list[Expression] = []
    for predicate in predicates:
        moved = substitute(predicate, keys)
        if keys and columns_of(predicate) <= keys.keys() and _is_movable(moved):
            movable.append(moved)
        else:
            above.append(predicate)
    child = _push(aggregation.child, movable)
    new = aggregation if child is aggregation.child else msgspec.structs.replace(aggregation, child=child)
    return _filtered(new, above)


def _push_window(window: WindowCalculation, predicates: Predicates) -> Relation:
    # Whole partitions leave together, so those that stay are not changed.
    shared: frozenset[int] | None = None
    for item in window.items:
        assert isinstance(item.expression, Window)
        keys = frozenset(key.id for key in item.expression.partition_by if isinstance(key, Column))
        shared = keys if shared is None else shared & keys
    shared = shared or frozenset()
    return _push_some(window, predicates, [p for p in predicates if columns_of(p) and columns_of(p) <= shared])


def _push_set_operation(operation: SetOperation, predicates: Predicates) -> Relation:
    # Equal rows get equal answers, so filtering the inputs of any set operation filters its output.
    new = []
    for child in operation.children:
        pairs = zip(operation.columns, output_columns(child), strict=True)
        values = {column.id: reference(source) for column, source in pairs}
        new.append(_push(child, [substitute(predicate, values) for predicate in predicates]))
    return with_children(operation, new)


# --- joins -----------------------------------------------------------------------------------------------------------


def _push_join(join: Join, predicates: Predicates) -> Relation:
    left_ids, right_ids = output_ids(join.left), output_ids(join.right)
    on = conjuncts(join.condition)
    above: list[Expression] = []
    if join.kind in ("inner", "cross"):
        on, predicates = [*on, *predicates], []
    elif join.kind in ("left", "semi", "anti"):
        # Unmatched left rows pass: what is asked of left columns above holds below. Semi and anti give left rows only.
        above = [p for p in predicates if not columns_of(p) <= left_ids]
    elif join.kind == "right":
        above = [p for p in predicates if not columns_of(p) <= right_ids]
    else:
        above = list(predicates)
    moved = [p for p in predicates if p not in above]
    to_left, to_right = ([], moved) if join.kind == "right" else (moved, [])
    keep: list[Expression] = []
    for predicate in on:
        # The condition may shrink a side only if its unmatched rows are not part of the answer.
        if _is_movable(predicate) and join.kind in _LEFT_SHRINKS and columns_of(predicate) <= left_ids:
            to_left = [*to_left, predicate]
        elif _is_movable(predicate) and join.kind in _RIGHT_SHRINKS and columns_of(predicate) <= right_ids:
            to_right = [*to_right, predicate]
        else:
            keep.append(predicate)
    # What is asked of one side of an equality holds for the other, where only matching rows of it count.
    to_left, to_right = (
        [*to_left, *(_translated(to_right, keep, left_ids) if join.kind in ("inner", "cross", "right") else [])],
        [*to_right, *(_translated(to_left, keep, right_ids) if join.kind in _RIGHT_SHRINKS else [])],
    )
    condition = conjunction(keep)
    kind = join.kind
    if kind in ("inner", "cross"):
        kind = "cross" if condition is None else "inner"
    elif condition is None:
        condition = TRUE
    left, right = _push(join.left, to_left), _push(join.right, to_right)
    if (kind, left, right, condition) == (join.kind, join.left, join.right, join.condition):
        return _filtered(join, above)
    return _filtered(Join(kind, left, right, condition), above)


def _translated(predicates: Predicates, on: Predicates, ids: frozenset[int]) -> list[Expression]:
    """Comparisons of one column with constants, said of the columns among ``ids`` that the condition makes equal to it."""
    equal: dict[int, list[Column]] = {}
    for predicate in on:
        match predicate:
            case Call(function="op_=", arguments=(Column() as one, Column() as other)) if one.type == other.type:
                for named, meant in ((one, other), (other, one)):
                    if meant.id in ids:
                        equal.setdefault(named.id, []).append(meant)
    found: list[Expression] = []
    for predicate in predicates:
        match predicate:
            case Call(function=name, arguments=(Column() as column, value)) if name in _ORDERINGS and is_constant(
                value
            ):
                found.extend(substitute(predicate, {column.id: meant}) for meant in equal.get(column.id, ()))
            case InList(operand=Column() as column) if all(is_constant(item) for item in predicate.items):
                found.extend(substitute(predicate, {column.id: meant}) for meant in equal.get(column.id, ()))
    return found


_ORDERINGS: Final = frozenset({"op_=", "op_<", "op_<=", "op_>", "op_>="})
#: Kinds of join whose condition may be moved into that side.
_LEFT_SHRINKS: Final = frozenset({"inner", "cross", "right", "semi"})
_RIGHT_SHRINKS: Final = frozenset({"inner", "cross", "left", "semi", "anti"})


def narrow_outer_joins(relation: Relation) -> Relation:
    """Make an outer join inner (or one-sided) where rows with a missing side are dropped above anyway."""
    return _narrow(relation, [])


def _narrow(relation: Relation, predicates: Predicates) -> Relation:
    match relation:
        case Filter():
            child = _narrow(relation.child, [*predicates, *conjuncts(relation.predicate)])
            return with_children(relation, [child])
        case Sort():
            return with_children(relation, [_narrow(relation.child, predicates)])
        case Join():
            return _narrow_join(relation, predicates)
        case _:
            return with_children(relation, [_narrow(child, []) for child in children(relation)])


def _narrow_join(join: Join, predicates: Predicates) -> Relation:
    left_ids, right_ids = output_ids(join.left), output_ids(join.right)
    kind = join.kind
    if kind in ("right", "full") and any(rejects_nulls(p, left_ids) for p in predicates):
        kind = "inner" if kind == "right" else "left"
    if kind in ("left", "full") and any(rejects_nulls(p, right_ids) for p in predicates):
        kind = "inner" if kind == "left" else "right"
    if kind != join.kind:
        join = msgspec.structs.replace(join, kind=kind)
    on = conjuncts(join.condition)
    to_left = [*(on if kind in _LEFT_SHRINKS else []), *(predicates if kind not in ("right", "full") else [])]
    to_right = [*(on if kind in _RIGHT_SHRINKS else []), *(predicates if kind in ("inner", "cross", "right") else [])]
    return with_children(join, [_narrow(join.left, to_left), _narrow(join.right, to_right)])


#: Functions that give NULL when any argument is NULL, and booleans among them that are then not true.
STRICT_FUNCTIONS: Final = frozenset(
    {
        f"op_{sign}"
        for sign in ("=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "^", "like", "ilike", "~", "~*", "not")
    }
)


def rejects_nulls(predicate: Expression, ids: frozenset[int]) -> bool:
    """Whether the predicate is surely not true when all those columns are NULL."""
    match predicate:
        case Call(function="op_and"):
            return any(rejects_nulls(argument, ids) for argument in predicate.arguments)
        case Call(function="op_or"):
            return all(rejects_nulls(argument, ids) for argument in predicate.arguments)
        case Call(function="op_not", arguments=(Call(function="op_isnull", arguments=(operand,)),)):
            return _is_null_with(operand, ids)
        case _:
            return is_false(predicate) or _is_null_with(predicate, ids)


def _is_null_with(expression: Expression, ids: frozenset[int]) -> bool:
    """Whether the expression is surely NULL when all those columns are."""
    match expression:
        case Column():
            return expression.id in ids
        case Literal():
            return expression.value is None
        case Cast():
            return _is_null_with(expression.argument, ids)
        case Call():
            strict = expression.function in STRICT_FUNCTIONS
            return strict and any(_is_null_with(argument, ids) for argument in expression.arguments)
        case InList():
            return _is_null_with(expression.operand, ids)
        case _:
            return False


# --- constants -------------------------------------------------------------------------------------------------------


def drop_constant_filters(relation: Relation) -> Relation:
    """A filter that is always true goes; below one that is never true there is nothing."""
    relation = with_children(relation, [drop_constant_filters(child) for child in children(relation)])
    match relation:
        case Filter() if any(is_false(p) for p in conjuncts(relation.predicate)):
            return nothing(relation)
        case Filter() if not conjuncts(relation.predicate):
            return relation.child
        case Scan() | SystemScan() if any(is_false(p) for p in conjuncts(relation.filter)):
            return nothing(relation)
        case Join(kind="inner") if any(is_false(p) for p in conjuncts(relation.condition)):
            return nothing(relation)
        case Join(kind="inner") if not conjuncts(relation.condition):
            return Join("cross", relation.left, relation.right, None)
        case Join() if _is_empty_join(relation):
            return nothing(relation)
        case Join(kind="anti") if is_nothing(relation.right):
            return relation.left
        case Project() | ProjectSet() | WindowCalculation() | Sort() if is_nothing(relation.child):
            return nothing(relation)
        case Filter() if is_nothing(relation.child):
            return nothing(relation)
        case Aggregation() if relation.keys and is_nothing(relation.child):
            return nothing(relation)
        case SetOperation(kind="union_all"):
            return _without_empty_branches(relation)
        case _:
            return relation


def _is_empty_join(join: Join) -> bool:
    left, right = is_nothing(join.left), is_nothing(join.right)
    if join.kind in ("inner", "cross", "semi"):
        return left or right
    if join.kind in ("left", "anti"):
        return left
    return right if join.kind == "right" else left and right


def _without_empty_branches(union: SetOperation) -> Relation:
    kept = tuple(child for child in union.children if not is_nothing(child))
    if len(kept) == len(union.children):
        return union
    if not kept:
        return nothing(union)
    if len(kept) == 1:
        pairs = zip(union.columns, output_columns(kept[0]), strict=True)
        return Project(kept[0], tuple(Item(column.id, column.name, reference(source)) for column, source in pairs))
    return msgspec.structs.replace(union, children=kept)


def nothing(relation: Relation) -> Values:
    """No rows, with the columns of the relation."""
    return Values(rows=(), columns=output_columns(relation))


def is_nothing(relation: Relation) -> bool:
    return isinstance(relation, Values) and not relation.rows
