"""Subqueries: as values computed first, as joins, or left as they are.

In: a relation with Apply operators. Out: the same relation with

* uncorrelated subqueries as :class:`SubqueryValue`, and the list of what has to run first, in that order;
* ``IN``, ``NOT IN``, ``EXISTS``, ``NOT EXISTS`` that the WHERE clause asks for as semi and anti joins;
* correlated aggregates over equalities as left joins with a grouped aggregation;
* every other Apply untouched: the engine evaluates it, on the handler.

``x NOT IN (S)`` is true if S is empty, or if x is not NULL, S has no NULL and no value equal to x. An anti join on
``x = s`` gives the last part; the others are one small value about S that is computed first.
Sources: Neumann and Kemper, "Unnesting Arbitrary Queries"; CrateDB's ``SubqueryPlanner`` (MultiPhase, CorrelatedJoin).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

import msgspec

from cratepy.model.expressions import (
    FALSE,
    TRUE,
    Aggregate,
    Branch,
    Call,
    Case,
    Column,
    Expression,
    Literal,
    SubqueryValue,
)
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Item,
    Join,
    Limit,
    Project,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    children,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER, array_of
from cratepy.records import dataclass
from cratepy.sql.plan.decorrelation import as_plain, equality_with, pull, pull_for_existence
from cratepy.sql.plan.volatility import gives_same_rows_again
from cratepy.sql.plan.walk import (
    columns_of,
    conjunction,
    conjuncts,
    map_relations,
    operators,
    outer_references,
    output_ids,
    passed_on,
    reference,
    substitute,
    with_children,
)

#: What the comparison of ANY/ALL over an array can be.
_ARRAY_OPERATORS: Final = frozenset({"op_=", "op_<>", "op_<", "op_<=", "op_>", "op_>="})
#: Aggregates and their value over no rows, for which a left join is as good as the subquery.
_EMPTY_VALUES: Final[dict[str, int | None]] = {"count": 0, "sum": None, "avg": None, "min": None, "max": None}


@dataclass(frozen=True, slots=True)
class Subquery:
    """A query to run first; its value (of that kind, as in Apply) fills the slot."""

    slot: int
    kind: str
    relation: Relation


@dataclass(slots=True)
class Subqueries:
    """The subqueries found so far, in an order in which each stands after those it uses."""

    new_id: Callable[[], int]
    found: list[Subquery] = field(default_factory=list)

    def add(self, kind: str, relation: Relation) -> int:
        slot = len(self.found)
        self.found.append(Subquery(slot, kind, relation))
        return slot


def rewrite_subqueries(relation: Relation, subqueries: Subqueries) -> Relation:
    """The relation without the Applies that can be computed first or joined."""
    if isinstance(relation, Filter):
        relation = _rewrite_filter(relation, subqueries)
    if isinstance(relation, Apply):
        left = rewrite_subqueries(relation.left, subqueries)
        right = rewrite_subqueries(relation.right, subqueries)
        return _rewrite_value(with_children(relation, [left, right]), subqueries)
    return with_children(relation, [rewrite_subqueries(child, subqueries) for child in children(relation)])


def is_self_contained(relation: Relation) -> bool:
    """Whether the tree can run alone: it reads no outer row and no round of a recursion around it."""
    return not outer_references(relation) and not _free_recursion(relation)


def _free_recursion(relation: Relation) -> bool:
    bound = {node.name for node in operators(relation) if isinstance(node, RecursiveQuery)}
    return any(isinstance(node, RecursiveReference) and node.name not in bound for node in operators(relation))


# --- conditions of WHERE ---------------------------------------------------------------------------------------------


def _rewrite_filter(relation: Filter, subqueries: Subqueries) -> Relation:
    """Applies right below the filter that it only asks to be true, or not true, as joins."""
    asked = conjuncts(relation.predicate)
    applies: list[Apply] = []
    base: Relation = relation.child
    while isinstance(base, Apply):
        applies.append(base)
        base = base.left
    answered: list[Expression] = []
    for apply in reversed(applies):
        column = Column(apply.id, apply.name, apply.type)
        wants_true = next((p for p in asked if p == column), None)
        wants_false = next((p for p in asked if p == Call("op_not", (column,), BOOLEAN)), None)
        predicate: Expression | None = wants_true or wants_false
        joined = None
        if predicate is not None:
            joined = _as_join(apply, base, is_wanted=wants_true is not None, subqueries=subqueries)
        if predicate is None or joined is None:
            base = msgspec.structs.replace(apply, left=base)
            continue
        # The rows that are left all have this value; most likely nobody reads it.
        value = Item(apply.id, apply.name, TRUE if wants_true is not None else FALSE)
        base = Project(joined, (*(passed_on(c) for c in output_columns(base)), value))
        answered.append(predicate)
    predicate = conjunction([p for p in asked if p not in answered])
    return base if predicate is None else Filter(base, predicate)


def _as_join(apply: Apply, left: Relation, *, is_wanted: bool, subqueries: Subqueries) -> Relation | None:
    """The rows of left for which the Apply is true (false, if not wanted); None if no join says that."""
    if apply.kind == "exists":
        if is_self_contained(apply.right):
            return None  # One value for all rows.
        pulled = pull_for_existence(apply.right, output_ids(left))
        if pulled is None:
            return None
        right = rewrite_subqueries(pulled.relation, subqueries)
        return Join("semi" if is_wanted else "anti", left, right, conjunction(pulled.predicates) or TRUE)
    if apply.kind == "any" and apply.operator == "op_=":
        return _in_join(apply, left, subqueries) if is_wanted else _not_in_join(apply, left, subqueries)
    if apply.kind == "all" and apply.operator == "op_<>" and is_wanted:
        return _not_in_join(apply, left, subqueries)
    return None


def _in_join(apply: Apply, left: Relation, subqueries: Subqueries) -> Relation | None:
    pulled = pull(apply.right, output_ids(left))
    if pulled is None:
        return None
    right = rewrite_subqueries(pulled.relation, subqueries)
    return Join("semi", left, right, conjunction([_equality(apply), *pulled.predicates]))


def _not_in_join(apply: Apply, left: Relation, subqueries: Subqueries) -> Relation | None:
    pulled = pull(apply.right, output_ids(left))
    if pulled is None:
        return None
    right = rewrite_subqueries(pulled.relation, subqueries)
    equality = _equality(apply)
    operand, value = equality.arguments
    if pulled.predicates or not is_self_contained(right) or not gives_same_rows_again(right):
        # Equal, or nobody knows: either way the row is out.
        unknown = Call("op_or", (_is_null(operand), _is_null(value)), BOOLEAN)
        either = Call("op_or", (equality, unknown), BOOLEAN)
        return Join("anti", left, right, conjunction([*pulled.predicates, either]))
    slot = subqueries.add("scalar", _emptiness(right, value, subqueries.new_id))
    state = SubqueryValue(slot, INTEGER)
    is_empty = Call("op_=", (state, Literal(0, INTEGER)), BOOLEAN)
    has_no_null = Call("op_=", (state, Literal(1, INTEGER)), BOOLEAN)
    can_tell = Call("op_and", (has_no_null, Call("op_not", (_is_null(operand),), BOOLEAN)), BOOLEAN)
    return Filter(Join("anti", left, right, equality), Call("op_or", (is_empty, can_tell), BOOLEAN))


def _equality(apply: Apply) -> Call:
    assert apply.operand is not None
    return Call("op_=", (apply.operand, reference(output_columns(apply.right)[0])), BOOLEAN)


def _is_null(expression: Expression) -> Call:
    return Call("op_isnull", (expression,), BOOLEAN)


def _emptiness(right: Relation, value: Expression, new_id: Callable[[], int]) -> Relation:
    """One row: 0 if there are no rows, 1 if no value is NULL, 2 if one is."""
    rows, known = (
        Item(new_id(), name, Aggregate("count", args, BIGINT)) for name, args in (("rows", ()), ("known", (value,)))
    )
    aggregation = Aggregation(right, (), (rows, known))
    row_count, known_count = (Column(item.id, item.name, BIGINT) for item in (rows, known))
    state = Case(
        (
            Branch(Call("op_=", (row_count, Literal(0, BIGINT)), BOOLEAN), Literal(0, INTEGER)),
            Branch(Call("op_=", (row_count, known_count), BOOLEAN), Literal(1, INTEGER)),
        ),
        Literal(2, INTEGER),
        INTEGER,
    )
    return Project(aggregation, (Item(new_id(), "state", state),))


# --- values ----------------------------------------------------------------------------------------------------------


def _rewrite_value(apply: Relation, subqueries: Subqueries) -> Relation:
    assert isinstance(apply, Apply)
    if is_self_contained(apply.right):
        value = _value_first(apply, subqueries)
        if value is not None:
            return _with_value(apply, _with_term(apply.left, apply.id, value), value)
    elif apply.kind == "scalar":
        return _aggregate_join(apply, subqueries.new_id) or apply
    return apply


def _with_term(left: Relation, apply_id: int, value: Expression) -> Relation:
    """A MATCH whose term is the subquery has it where the value will be known: in its scan, below the Apply."""

    def change(operator: Relation) -> Relation:
        if not isinstance(operator, Scan) or not any(apply_id in columns_of(match.text) for match in operator.matches):
            return operator
        matches = [msgspec.structs.replace(m, text=substitute(m.text, {apply_id: value})) for m in operator.matches]
        return msgspec.structs.replace(operator, matches=tuple(matches))

    return map_relations(left, change)


def _with_value(apply: Apply, left: Relation, value: Expression) -> Relation:
    return Project(left, (*(passed_on(c) for c in output_columns(apply.left)), Item(apply.id, apply.name, value)))


def _value_first(apply: Apply, subqueries: Subqueries) -> Expression | None:
    if apply.kind == "exists":
        row = Project(Limit(apply.right, Literal(1, BIGINT)), (Item(subqueries.new_id(), "exists", TRUE),))
        return SubqueryValue(subqueries.add("exists", row), apply.type)
    if apply.kind == "scalar":
        # Two rows are enough to know that there are too many.
        return SubqueryValue(subqueries.add("scalar", Limit(apply.right, Literal(2, BIGINT))), apply.type)
    if apply.kind == "array":
        return SubqueryValue(subqueries.add("array", apply.right), apply.type)
    if apply.operator not in _ARRAY_OPERATORS or apply.operand is None:
        return None
    element = output_columns(apply.right)[0].type
    values = SubqueryValue(subqueries.add("array", apply.right), array_of(element))
    return Call(apply.operator.replace("op_", f"op_{apply.kind}_"), (apply.operand, values), BOOLEAN)


def _aggregate_join(apply: Apply, new_id: Callable[[], int]) -> Relation | None:
    """``(SELECT max(y) FROM r WHERE r.k = l.k)`` as a left join with ``SELECT k, max(y) FROM r GROUP BY k``."""
    right = apply.right
    items: tuple[Item, ...] | None = None
    if isinstance(right, Project):
        items, right = right.items, right.child
    if not isinstance(right, Aggregation) or right.keys or (items is not None and len(items) != 1):
        return None
    if items is None and len(right.aggregates) != 1:
        return None
    outer = output_ids(apply.left)
    pulled = pull(right.child, outer)
    if (
        pulled is None
        or any(columns_of(i.expression) & outer for i in right.aggregates)
        or outer_references(right) - outer
    ):
        return None
    pairs = [equality_with(predicate, outer) for predicate in pulled.predicates]
    empty: dict[int, Expression] = {}
    for item in right.aggregates:
        assert isinstance(item.expression, Aggregate)
        if item.expression.function not in _EMPTY_VALUES:
            return None
        column = Column(item.id, item.name, item.expression.type)
        nothing = _EMPTY_VALUES[item.expression.function]
        known = Call("coalesce", (column, Literal(nothing, column.type)), column.type)
        empty[item.id] = column if nothing is None else known
    keys: list[Item] = []
    conditions: list[Expression] = []
    for pair in pairs:
        if pair is None:
            return None
        outside, inside = pair
        keys.append(Item(new_id(), "key", inside))
        conditions.append(Call("op_=", (outside, Column(keys[-1].id, "key", inside.type)), BOOLEAN))
    grouped = Aggregation(pulled.relation, tuple(keys), right.aggregates)
    value = items[0].expression if items is not None else reference(output_columns(right)[0])
    joined = Join("left", apply.left, grouped, conjunction(conditions))
    return _with_value(apply, joined, substitute(as_plain(value, outer), empty))
