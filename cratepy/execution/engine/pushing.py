"""Pushing outer values down into a subquery, so that it is computed for all of them at once.

In: a subquery with outer columns, the left side they come from. Out: the subquery without them, with a column for each outer
value instead. The half of ``decorrelate`` that does not depend on what the subquery is for. Source: Neumann and Kemper,
"Unnesting Arbitrary Queries", BTW 2015, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

import msgspec

from cratepy.errors import UnsupportedFeature
from cratepy.execution.engine.substitution import mapped_keys, outer_bound
from cratepy.execution.engine.trees import (
    changed_expressions,
    column_of,
    conjunction,
    conjuncts,
    nodes,
    outer_columns,
    passing,
    same,
)
from cratepy.model.expressions import Aggregate, Call, Column, Expression, Literal, OuterColumn, Window
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
from cratepy.model.types import BIGINT, BOOLEAN
from cratepy.records import dataclass

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Pushed:
    """A relation that no longer needs the outer row; ``known``: outer column id → its column here."""

    relation: Relation
    known: dict[int, Column]


class Pushing:
    """Pushes the outer values ``wanted`` of ``left`` down into a subquery."""

    def __init__(
        self,
        left: Relation,
        wanted: tuple[OutputColumn, ...],
        ids: Iterator[int],
        *,
        recursions: frozenset[str] = _NONE,
    ) -> None:
        self._left = left
        self._wanted = wanted
        self._outer = frozenset(column.id for column in wanted)
        self._ids = ids
        #: Recursive queries around the relation whose rounds carry the outer values.
        self._recursions = recursions

    def pushed(self, relation: Relation) -> Pushed:
        """The relation with a column for each outer value, rows as if it ran once for each of them."""
        if not self._is_correlated(relation):
            domain = self._domain()
            return Pushed(Join("cross", relation, domain.relation, None), domain.known)
        match relation:
            case Filter():
                return self._filter(relation)
            case Project():
                child = self.pushed(relation.child)
                items = tuple(Item(i.id, i.name, outer_bound(i.expression, child.known)) for i in relation.items)
                return self._projected(child, items)
            case ProjectSet() | WindowCalculation():
                return self._widened(relation)
            case Aggregation():
                return self._aggregation(relation)
            case Join():
                return self._join(relation)
            case Sort():
                child = self.pushed(relation.child)
                keys = mapped_keys(
                    relation.keys, lambda e: child.known.get(e.id) if isinstance(e, OuterColumn) else None
                )
                return Pushed(Sort(child.relation, keys), child.known)
            case Limit():
                return self._limit(relation)
            case SetOperation():
                return self._set_operation(relation)
            case Apply():
                return self._apply(relation)
            case TableFunction():
                return self._table_function(relation)
            case Values():
                return self._values(relation)
            case RecursiveQuery():
                return self._recursive_query(relation)
            case RecursiveReference():
                return self._round(relation)
            case Scan() | SystemScan() | ExchangeInput():
                raise AssertionError("a leaf has no outer columns")
            case _:
                assert_never(relation)

    def _is_correlated(self, relation: Relation) -> bool:
        return bool(outer_columns(relation, self._outer)) or any(
            isinstance(node, RecursiveReference) and node.name in self._recursions for node in nodes(relation)
        )

    def _domain(self) -> Pushed:
        """The distinct outer values under fresh ids."""
        items = {c.id: Item(next(self._ids), c.name, column_of(c)) for c in self._wanted}
        known = {outer: Column(item.id, item.name, item.expression.type) for outer, item in items.items()}
        return Pushed(Aggregation(self._left, tuple(items.values()), ()), known)

    def _filter(self, relation: Filter) -> Pushed:
        if not self._is_correlated(relation.child):
            known = self._equal_columns(relation)
            if known is not None:
                return Pushed(Filter(relation.child, outer_bound(relation.predicate, known)), known)
        child = self.pushed(relation.child)
        return Pushed(Filter(child.relation, outer_bound(relation.predicate, child.known)), child.known)

    def _equal_columns(self, relation: Filter) -> dict[int, Column] | None:
        """Columns the filter makes equal to every outer value; then the outer values themselves are not needed."""
        known: dict[int, Column] = {}
        for conjunct in conjuncts(relation.predicate):
            if not isinstance(conjunct, Call) or conjunct.function != "op_=":
                continue
            left, right = conjunct.arguments
            if isinstance(left, OuterColumn):
                left, right = right, left
            if isinstance(left, Column) and isinstance(right, OuterColumn) and left.type == right.type:
                known.setdefault(right.id, left)
        return {outer: known[outer] for outer in self._outer} if self._outer <= known.keys() else None

    def _projected(self, child: Pushed, items: tuple[Item, ...]) -> Pushed:
        """The items and the outer values."""
        given = {item.id for item in items}
        passed: list[Item] = []
        known: dict[int, Column] = {}
        for outer, column in child.known.items():
            item = Item(next(self._ids) if column.id in given else column.id, column.name, column)
            passed.append(item)
            given.add(item.id)
            known[outer] = Column(item.id, column.name, column.type)
        return Pushed(Project(child.relation, items + tuple(passed)), known)

    def _widened(self, relation: ProjectSet | WindowCalculation) -> Pushed:
        child = self.pushed(relation.child)
        items = []
        for item in relation.items:
            expression = outer_bound(item.expression, child.known)
            if isinstance(expression, Window):
                partition = expression.partition_by + tuple(child.known.values())
                expression = msgspec.structs.replace(expression, partition_by=partition)
            items.append(Item(item.id, item.name, expression))
        return Pushed(msgspec.structs.replace(relation, child=child.relation, items=tuple(items)), child.known)

    def _aggregation(self, relation: Aggregation) -> Pushed:
        child = self.pushed(relation.child)
        bind = child.known
        keys = tuple(Item(i.id, i.name, outer_bound(i.expression, bind)) for i in relation.keys)
        aggregates = tuple(Item(i.id, i.name, outer_bound(i.expression, bind)) for i in relation.aggregates)
        outer_items = {outer: Item(next(self._ids), c.name, c) for outer, c in bind.items()}
        known = {outer: Column(i.id, i.name, i.expression.type) for outer, i in outer_items.items()}
        if keys or not aggregates:
            return Pushed(Aggregation(child.relation, (*outer_items.values(), *keys), aggregates), known)
        return self._whole_aggregation(child.relation, outer_items, known, aggregates)

    def _whole_aggregation(
        self, child: Relation, outer_items: dict[int, Item], known: dict[int, Column], aggregates: tuple[Item, ...]
    ) -> Pushed:
        """Without keys there is a row even for an outer value without rows: what the aggregates of nothing are."""
        inner = tuple(Item(next(self._ids), i.name, i.expression) for i in aggregates)
        grouped = Aggregation(child, tuple(outer_items.values()), inner)
        domain = self._domain()
        condition = conjunction([same(domain.known[outer], known[outer]) for outer in known])
        joined = Join("left", domain.relation, grouped, condition)
        items = tuple(
            Item(old.id, old.name, _of_nothing(Column(new.id, new.name, old.expression.type), old.expression))
            for old, new in zip(aggregates, inner, strict=True)
        )
        return self._projected(Pushed(joined, domain.known), items)

    def _join(self, relation: Join) -> Pushed:
        if relation.kind in ("right", "full"):
            raise UnsupportedFeature(
                f"A {relation.kind.upper()} JOIN in a subquery cannot use columns of an outer query"
            )
        right_is_correlated = self._is_correlated(relation.right)
        is_symmetric = relation.kind in ("inner", "cross")
        if is_symmetric and not self._is_correlated(relation.left) and right_is_correlated:
            right = self.pushed(relation.right)
            condition = None if relation.condition is None else outer_bound(relation.condition, right.known)
            return Pushed(msgspec.structs.replace(relation, right=right.relation, condition=condition), right.known)
        left = self.pushed(relation.left)
        condition = None if relation.condition is None else outer_bound(relation.condition, left.known)
        if not right_is_correlated:
            return Pushed(msgspec.structs.replace(relation, left=left.relation, condition=condition), left.known)
        right = self.pushed(relation.right)
        equal: list[Expression] = [same(left.known[outer], right.known[outer]) for outer in left.known]
        condition = conjunction([*equal, condition] if condition is not None else equal)
        kind = "inner" if relation.kind == "cross" else relation.kind
        return Pushed(Join(kind, left.relation, right.relation, condition), left.known)

    def _limit(self, relation: Limit) -> Pushed:
        """The first rows of each outer value: numbered, then filtered."""
        child = self.pushed(relation.child)
        keys = child.relation.keys if isinstance(child.relation, Sort) else ()
        if isinstance(child.relation, Project) and isinstance(child.relation.child, Sort):
            return self._limit_below_project(child.relation, child.known, relation)
        number = Item(next(self._ids), "number", Window("row_number", (), BIGINT, tuple(child.known.values()), keys))
        numbered = WindowCalculation(child.relation, (number,))
        column = Column(number.id, "number", BIGINT)
        return Pushed(Filter(numbered, _within(column, relation)), child.known)

    def _limit_below_project(self, project: Project, known: dict[int, Column], limit: Limit) -> Pushed:
        sort = project.child
        assert isinstance(sort, Sort)
        sources = {item.id: item.expression for item in project.items}
        partition = tuple(sources[column.id] for column in known.values())
        window = Window("row_number", (), BIGINT, partition, sort.keys)
        number = Item(next(self._ids), "number", window)
        numbered = WindowCalculation(sort.child, (number,))
        column = Column(number.id, "number", BIGINT)
        return Pushed(Project(Filter(numbered, _within(column, limit)), project.items), known)

    def _set_operation(self, relation: SetOperation) -> Pushed:
        outers = list(self._outer)
        parts: list[Relation] = []
        types: dict[int, Column] = {}
        for child in relation.children:
            pushed = self.pushed(child)
            items = passing(output_columns(child))
            extra = tuple(Item(next(self._ids), pushed.known[outer].name, pushed.known[outer]) for outer in outers)
            parts.append(Project(pushed.relation, items + extra))
            types = pushed.known
        known = {outer: Column(next(self._ids), types[outer].name, types[outer].type) for outer in outers}
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return Pushed(SetOperation(kind=relation.kind, children=tuple(parts), columns=columns), known)

    def _recursive_query(self, relation: RecursiveQuery) -> Pushed:
        """All recursions at once: every row of a round carries the outer values it belongs to."""
        inner = Pushing(self._left, self._wanted, self._ids, recursions=self._recursions | {relation.name})
        base = self._with_values(self.pushed(relation.base), relation.base)
        step = self._with_values(inner.pushed(relation.step), relation.step)
        known = self._fresh_values()
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return Pushed(msgspec.structs.replace(relation, base=base, step=step, columns=columns), known)

    def _round(self, relation: RecursiveReference) -> Pushed:
        known = self._fresh_values()
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return Pushed(RecursiveReference(relation.name, columns), known)

    def _fresh_values(self) -> dict[int, Column]:
        return {c.id: Column(next(self._ids), c.name, c.type) for c in self._wanted}

    def _with_values(self, pushed: Pushed, of: Relation) -> Relation:
        """The columns of ``of``, then the outer values in the order of ``wanted``."""
        values = [(c.name, pushed.known[c.id]) for c in self._wanted]
        items = tuple(Item(next(self._ids), name, value) for name, value in values)
        return Project(pushed.relation, passing(output_columns(of)) + items)

    def _apply(self, relation: Apply) -> Pushed:
        """A subquery in the subquery: its outer columns of ours become columns of its left side."""
        left = self.pushed(relation.left)
        operand = None if relation.operand is None else outer_bound(relation.operand, left.known)
        right = _renamed_outer(relation.right, left.known)
        changed = msgspec.structs.replace(relation, left=left.relation, right=right, operand=operand)
        return Pushed(changed, left.known)

    def _table_function(self, relation: TableFunction) -> Pushed:
        if relation.with_ordinality or (len(relation.columns) != 1 and relation.function != "unnest"):
            raise UnsupportedFeature(f"{relation.function} of several columns cannot use columns of an outer query")
        domain = self._domain()
        arguments = tuple(outer_bound(argument, domain.known) for argument in relation.arguments)
        if relation.function == "unnest":
            calls = [
                Call("unnest", (argument,), c.type) for argument, c in zip(arguments, relation.columns, strict=True)
            ]
        else:
            calls = [Call(relation.function, arguments, relation.columns[0].type)]
        items = tuple(Item(c.id, c.name, call) for c, call in zip(relation.columns, calls, strict=True))
        return Pushed(ProjectSet(domain.relation, items), domain.known)

    def _values(self, relation: Values) -> Pushed:
        parts: list[Relation] = []
        outers = list(self._outer)
        known: dict[int, Column] = {}
        for row in relation.rows:
            domain = self._domain()
            items = tuple(
                Item(next(self._ids), c.name, outer_bound(e, domain.known))
                for c, e in zip(relation.columns, row, strict=True)
            )
            parts.append(
                Project(domain.relation, items + tuple(Item(next(self._ids), "d", domain.known[o]) for o in outers))
            )
            known = known or {o: Column(next(self._ids), "d", domain.known[o].type) for o in outers}
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return Pushed(SetOperation(kind="union_all", children=tuple(parts), columns=columns), known)


def _of_nothing(value: Column, aggregate: Expression) -> Expression:
    """The value of an aggregate without rows, which a left join gives as NULL."""
    assert isinstance(aggregate, Aggregate)
    if aggregate.function in ("count", "hyperloglog_distinct"):
        return Call("coalesce", (value, Literal(0, BIGINT)), BIGINT)
    if aggregate.function in ("array_agg", "collect_set"):
        return Call("coalesce", (value, Literal([], value.type)), value.type)
    return value


def _within(number: Column, limit: Limit) -> Expression:
    zero: Expression = Literal(0, BIGINT)
    offset = zero if limit.offset is None else Call("coalesce", (limit.offset, zero), BIGINT)
    conditions: list[Expression] = [Call("op_>", (number, offset), BOOLEAN)]
    if limit.count is not None:
        last = Call("op_+", (offset, limit.count), BIGINT)
        no_count = Call("op_isnull", (limit.count,), BOOLEAN)
        conditions.append(Call("op_or", (no_count, Call("op_<=", (number, last), BOOLEAN)), BOOLEAN))
    return conjunction(conditions)


def _renamed_outer(relation: Relation, known: dict[int, Column]) -> Relation:
    """Outer columns of the given ids under their new ids, in a whole tree."""

    def change(expression: Expression) -> Expression:
        renamed = {outer: OuterColumn(c.id, c.name, c.type) for outer, c in known.items()}
        return outer_bound(expression, renamed)

    return changed_expressions(relation, change)
