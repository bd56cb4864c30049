"""Subqueries (Apply operators) as joins, whatever stands in them.

In: a tree over numbered inputs. Out: the same rows from a tree without Apply and without OuterColumn. The planner has
turned the common forms into better joins before; what arrives here is the rest.

The method is Neumann and Kemper's ("Unnesting Arbitrary Queries", BTW 2015): the distinct outer values **D** that a
subquery depends on are made a relation and pushed down into it, so that it is computed once for all of them; its result
carries D's columns and is joined back to the left side. ::

    Apply exists (left, right(outer x))          Project [left.*, marker IS NOT NULL]
                                          ⇒      └ Join left: left.x IS NOT DISTINCT FROM d
                                                   ├ left
                                                   └ right(d), with d = D = SELECT DISTINCT x FROM left

Where a filter says ``column = outer``, the column itself serves as d and D is not needed.
Not done: outer columns below a RIGHT or FULL JOIN; these are refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, assert_never

import msgspec

from cratepy.execution.engine.pushing import Pushing
from cratepy.execution.engine.trees import column_of, conjunction, largest_id, nodes, outer_columns, passing, same
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
    SortKey,
)
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
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, array_of

_NEGATED: Final = {"op_=": "op_<>", "op_<>": "op_=", "op_<": "op_>=", "op_<=": "op_>", "op_>": "op_<=", "op_>=": "op_<"}
_NEGATED_PATTERNS: Final = {
    "op_like": "op_not_like",
    "op_ilike": "op_not_ilike",
    "op_not_like": "op_like",
    "op_not_ilike": "op_ilike",
}


def without_subqueries(relation: Relation) -> Relation:
    """The tree without Apply. Raises UnsupportedFeature for the forms named above."""
    if not any(isinstance(node, Apply) for node in nodes(relation)):
        return relation
    return _Unnesting(itertools.count(largest_id(relation) + 1)).flat(relation)


class _Unnesting:
    """One run over one tree; hands out fresh column ids."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids

    def flat(self, relation: Relation) -> Relation:
        match relation:
            case Apply():
                return self._apply(relation)
            case Join():
                left = self.flat(relation.left)
                return msgspec.structs.replace(relation, left=left, right=self.flat(relation.right))
            case SetOperation():
                return msgspec.structs.replace(relation, children=tuple(self.flat(c) for c in relation.children))
            case RecursiveQuery():
                base = self.flat(relation.base)
                return msgspec.structs.replace(relation, base=base, step=self.flat(relation.step))
            case Filter() | Project() | ProjectSet() | Aggregation() | WindowCalculation() | Sort() | Limit():
                return msgspec.structs.replace(relation, child=self.flat(relation.child))
            case Scan() | SystemScan() | TableFunction() | Values() | RecursiveReference() | ExchangeInput():
                return relation
            case _:
                assert_never(relation)

    def _item(self, name: str, expression: Expression) -> Item:
        return Item(next(self._ids), name, expression)

    # --- an Apply as a join ---

    def _apply(self, relation: Apply) -> Relation:
        left = self.flat(relation.left)
        columns = output_columns(left)
        outer = outer_columns(relation.right, frozenset(column.id for column in columns))
        right = relation.right
        keys: dict[int, Column] = {}
        if outer:
            wanted = tuple(column for column in columns if column.id in outer)
            pushed = Pushing(left, wanted, self._ids).pushed(right)
            right, keys = pushed.relation, pushed.known
        right = self.flat(right)
        match relation.kind:
            case "scalar":
                joined, value = self._scalar(relation, left, right, keys)
            case "exists":
                joined, value = self._exists(left, right, keys)
            case "array":
                joined, value = self._array(relation, left, right, keys)
            case "any":
                joined, value = self._any(relation, left, right, keys, str(relation.operator))
            case "all":
                negated = {**_NEGATED, **_NEGATED_PATTERNS}[str(relation.operator)]
                joined, value = self._any(relation, left, right, keys, negated)
                value = Call("op_not", (value,), BOOLEAN)
            case _:
                raise AssertionError(relation.kind)
        return Project(joined, (*passing(columns), Item(relation.id, relation.name, value)))

    def _grouped(
        self, right: Relation, keys: dict[int, Column], aggregates: tuple[Item, ...]
    ) -> tuple[Relation, dict[int, Column]]:
        """One row per outer value, with fresh key columns."""
        items = {outer: self._item(column.name, column) for outer, column in keys.items()}
        grouped = Aggregation(right, tuple(items.values()), aggregates)
        return grouped, {outer: Column(item.id, item.name, item.expression.type) for outer, item in items.items()}

    def _joined(self, left: Relation, right: Relation, keys: dict[int, Column]) -> Relation:
        """Left rows, each with its row of the right side or NULLs; a right side without keys has one row."""
        if not keys:
            return Join("cross", left, right, None)
        columns = {column.id: column for column in output_columns(left)}
        return Join(
            "left", left, right, conjunction([same(column_of(columns[outer]), key) for outer, key in keys.items()])
        )

    def _scalar(
        self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column]
    ) -> tuple[Relation, Expression]:
        value = column_of(_value_column(relation.right))
        only = self._item("only", Aggregate("_only", (value,), relation.type))
        grouped, keys = self._grouped(right, keys, (only,))
        return self._joined(left, grouped, keys), Column(only.id, only.name, relation.type)

    def _exists(self, left: Relation, right: Relation, keys: dict[int, Column]) -> tuple[Relation, Expression]:
        count = self._item("count", Aggregate("count", (), BIGINT))
        if not keys:
            right = Limit(right, Literal(1, BIGINT))
        grouped, keys = self._grouped(right, keys, (count,))
        found = Call("coalesce", (Column(count.id, "count", BIGINT), Literal(0, BIGINT)), BIGINT)
        return self._joined(left, grouped, keys), Call("op_>", (found, Literal(0, BIGINT)), BOOLEAN)

    def _array(
        self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column]
    ) -> tuple[Relation, Expression]:
        value = column_of(_value_column(relation.right))
        kind = array_of(value.type)
        right, order = self._with_order(right)
        values = self._item("values", Aggregate("array_agg", (value,), kind, order_by=order))
        grouped, keys = self._grouped(right, keys, (values,))
        column = Column(values.id, values.name, kind)
        return self._joined(left, grouped, keys), Call("coalesce", (column, Literal([], kind)), kind)

    def _with_order(self, relation: Relation) -> tuple[Relation, tuple[SortKey, ...]]:
        """The relation with the columns its rows are ordered by, and that order."""
        match relation:
            case Sort():
                items = tuple(self._item("key", key.expression) for key in relation.keys)
                keys = tuple(
                    SortKey(Column(item.id, item.name, item.expression.type), key.is_descending, key.nulls_first)
                    for item, key in zip(items, relation.keys, strict=True)
                )
                return Sort(Project(relation.child, passing(output_columns(relation.child)) + items), keys), keys
            case Limit() | Filter():
                below, keys = self._with_order(relation.child)
                return msgspec.structs.replace(relation, child=below), keys
            case Project():
                below, keys = self._with_order(relation.child)
                known = {item.id for item in relation.items}
                extra = [key.expression for key in keys if isinstance(key.expression, Column)]
                passed = tuple(Item(c.id, c.name, c) for c in extra if c.id not in known)
                return Project(below, relation.items + passed), keys
            case _:
                return relation, ()

    def _any(
        self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column], operator: str
    ) -> tuple[Relation, Expression]:
        assert relation.operand is not None
        if operator == "op_=":
            return self._contains(relation, left, right, keys)
        value = column_of(_value_column(relation.right))
        kind = array_of(value.type)
        values = self._item("values", Aggregate("array_agg", (value,), kind))
        grouped, keys = self._grouped(right, keys, (values,))
        array = Call("coalesce", (Column(values.id, values.name, kind), Literal([], kind)), kind)
        quantified = Call("op_any_" + operator.removeprefix("op_"), (relation.operand, array), BOOLEAN)
        return self._joined(left, grouped, keys), quantified

    def _contains(
        self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column]
    ) -> tuple[Relation, Expression]:
        """``operand = ANY``: a join with the distinct values, and one with the counts that tell NULL from false."""
        operand = relation.operand
        assert operand is not None
        value = column_of(_value_column(relation.right))
        rows = self._item("rows", Aggregate("count", (), BIGINT))
        present = self._item("present", Aggregate("count", (value,), BIGINT))
        counts, count_keys = self._grouped(right, keys, (rows, present))
        joined = self._joined(left, counts, count_keys)

        distinct_value = self._item("value", value)
        distinct_keys = {outer: self._item(column.name, column) for outer, column in keys.items()}
        distinct = Aggregation(right, (*distinct_keys.values(), distinct_value), ())
        marker = self._item("marker", TRUE)
        marked = Project(distinct, (*passing(output_columns(distinct)), marker))
        columns = {column.id: column for column in output_columns(left)}
        conditions: list[Expression] = [
            Call("op_=", (operand, Column(distinct_value.id, "value", value.type)), BOOLEAN)
        ]
        for outer, item in distinct_keys.items():
            conditions.append(same(column_of(columns[outer]), Column(item.id, item.name, item.expression.type)))
        joined = Join("left", joined, marked, conjunction(conditions))

        zero = Literal(0, BIGINT)
        row_count = Call("coalesce", (Column(rows.id, "rows", BIGINT), zero), BIGINT)
        null_found = Call("op_>", (row_count, Column(present.id, "present", BIGINT)), BOOLEAN)
        operand_is_null = Call("op_isnull", (operand,), BOOLEAN)
        is_found = Call("op_is_true", (Column(marker.id, "marker", BOOLEAN),), BOOLEAN)
        unknown = Call("op_or", (operand_is_null, null_found), BOOLEAN)
        answer = Case(
            (
                Branch(is_found, TRUE),
                Branch(Call("op_=", (row_count, zero), BOOLEAN), FALSE),
                Branch(unknown, Literal(None, BOOLEAN)),
            ),
            FALSE,
            BOOLEAN,
        )
        return joined, answer


def _value_column(right: Relation) -> OutputColumn:
    return output_columns(right)[0]
