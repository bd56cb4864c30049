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
Not done: outer columns below a RIGHT or FULL JOIN and in a recursive query; these are refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

import msgspec

from cratepy.errors import UnsupportedFeature
from cratepy.execution.engine.substitution import mapped_keys, outer_bound
from cratepy.functions.evaluate import subexpressions
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
    OuterColumn,
    SortKey,
    Window,
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
    children,
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


@dataclass(frozen=True, slots=True)
class _Pushed:
    """A relation that no longer needs the outer row; ``known``: outer column id → its column here."""

    relation: Relation
    known: dict[int, Column]


def without_subqueries(relation: Relation) -> Relation:
    """The tree without Apply. Raises UnsupportedFeature for the forms named above."""
    if not any(isinstance(node, Apply) for node in _nodes(relation)):
        return relation
    return _Unnesting(itertools.count(_largest_id(relation) + 1)).flat(relation)


def _nodes(relation: Relation) -> Iterator[Relation]:
    yield relation
    for child in children(relation):
        yield from _nodes(child)


def _largest_id(relation: Relation) -> int:
    return max((column.id for node in _nodes(relation) for column in output_columns(node)), default=0)


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


def _outer_columns(relation: Relation, within: frozenset[int]) -> dict[int, OuterColumn]:
    """The outer columns used in the tree, of the ids given."""
    found: dict[int, OuterColumn] = {}
    for node in _nodes(relation):
        for expression in expressions_of(node):
            for part in subexpressions(expression):
                if isinstance(part, OuterColumn) and part.id in within:
                    found.setdefault(part.id, part)
    return found


def _passing(columns: tuple[OutputColumn, ...]) -> tuple[Item, ...]:
    return tuple(Item(column.id, column.name, _column(column)) for column in columns)


def _column(column: OutputColumn) -> Column:
    return Column(column.id, column.name, column.type)


def _same(left: Expression, right: Expression) -> Call:
    return Call("op_is_not_distinct_from", (left, right), BOOLEAN)


def _all(conditions: list[Expression]) -> Expression:
    result: Expression = conditions[0] if conditions else TRUE
    for condition in conditions[1:]:
        result = Call("op_and", (result, condition), BOOLEAN)
    return result


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
        outer = _outer_columns(relation.right, frozenset(column.id for column in columns))
        right = relation.right
        keys: dict[int, Column] = {}
        if outer:
            wanted = tuple(column for column in columns if column.id in outer)
            pushed = _Pushing(left, wanted, self._ids).pushed(right)
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
        return Project(joined, (*_passing(columns), Item(relation.id, relation.name, value)))

    def _grouped(self, right: Relation, keys: dict[int, Column], aggregates: tuple[Item, ...]) -> tuple[Relation, dict[int, Column]]:
        """One row per outer value, with fresh key columns."""
        items = {outer: self._item(column.name, column) for outer, column in keys.items()}
        grouped = Aggregation(right, tuple(items.values()), aggregates)
        return grouped, {outer: Column(item.id, item.name, item.expression.type) for outer, item in items.items()}

    def _joined(self, left: Relation, right: Relation, keys: dict[int, Column]) -> Relation:
        """Left rows, each with its row of the right side or NULLs; a right side without keys has one row."""
        if not keys:
            return Join("cross", left, right, None)
        columns = {column.id: column for column in output_columns(left)}
        return Join("left", left, right, _all([_same(_column(columns[outer]), key) for outer, key in keys.items()]))

    def _scalar(self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column]) -> tuple[Relation, Expression]:
        value = _column(_value_column(relation.right))
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

    def _array(self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column]) -> tuple[Relation, Expression]:
        value = _column(_value_column(relation.right))
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
                child = Project(relation.child, _passing(output_columns(relation.child)) + items)
                return Sort(child, keys), keys
            case Limit() | Filter():
                child, keys = self._with_order(relation.child)
                return msgspec.structs.replace(relation, child=child), keys
            case Project():
                child, keys = self._with_order(relation.child)
                known = {item.id for item in relation.items}
                extra = [key.expression for key in keys if isinstance(key.expression, Column)]
                passed = tuple(Item(c.id, c.name, c) for c in extra if c.id not in known)
                return Project(child, relation.items + passed), keys
            case _:
                return relation, ()

    def _any(
        self, relation: Apply, left: Relation, right: Relation, keys: dict[int, Column], operator: str
    ) -> tuple[Relation, Expression]:
        assert relation.operand is not None
        if operator == "op_=":
            return self._contains(relation, left, right, keys)
        value = _column(_value_column(relation.right))
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
        value = _column(_value_column(relation.right))
        rows = self._item("rows", Aggregate("count", (), BIGINT))
        present = self._item("present", Aggregate("count", (value,), BIGINT))
        counts, count_keys = self._grouped(right, keys, (rows, present))
        joined = self._joined(left, counts, count_keys)

        distinct_value = self._item("value", value)
        distinct_keys = {outer: self._item(column.name, column) for outer, column in keys.items()}
        distinct = Aggregation(right, (*distinct_keys.values(), distinct_value), ())
        marker = self._item("marker", TRUE)
        marked = Project(distinct, (*_passing(output_columns(distinct)), marker))
        columns = {column.id: column for column in output_columns(left)}
        conditions: list[Expression] = [Call("op_=", (operand, Column(distinct_value.id, "value", value.type)), BOOLEAN)]
        for outer, item in distinct_keys.items():
            conditions.append(_same(_column(columns[outer]), Column(item.id, item.name, item.expression.type)))
        joined = Join("left", joined, marked, _all(conditions))

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


class _Pushing:
    """Pushes the outer values ``wanted`` of ``left`` down into a subquery."""

    def __init__(self, left: Relation, wanted: tuple[OutputColumn, ...], ids: Iterator[int]) -> None:
        self._left = left
        self._wanted = wanted
        self._outer = frozenset(column.id for column in wanted)
        self._ids = ids

    def pushed(self, relation: Relation) -> _Pushed:
        """The relation with a column for each outer value, rows as if it ran once for each of them."""
        if not self._is_correlated(relation):
            domain = self._domain()
            return _Pushed(Join("cross", relation, domain.relation, None), domain.known)
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
                keys = mapped_keys(relation.keys, lambda e: child.known.get(e.id) if isinstance(e, OuterColumn) else None)
                return _Pushed(Sort(child.relation, keys), child.known)
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
            case RecursiveQuery() | RecursiveReference():
                raise UnsupportedFeature("A recursive query cannot use columns of an outer query")
            case Scan() | SystemScan() | ExchangeInput():
                raise AssertionError("a leaf has no outer columns")
            case _:
                assert_never(relation)

    def _is_correlated(self, relation: Relation) -> bool:
        return bool(_outer_columns(relation, self._outer))

    def _domain(self) -> _Pushed:
        """The distinct outer values under fresh ids."""
        items = {c.id: Item(next(self._ids), c.name, _column(c)) for c in self._wanted}
        known = {outer: Column(item.id, item.name, item.expression.type) for outer, item in items.items()}
        return _Pushed(Aggregation(self._left, tuple(items.values()), ()), known)

    def _filter(self, relation: Filter) -> _Pushed:
        if not self._is_correlated(relation.child):
            known = self._equal_columns(relation)
            if known is not None:
                return _Pushed(Filter(relation.child, outer_bound(relation.predicate, known)), known)
        child = self.pushed(relation.child)
        return _Pushed(Filter(child.relation, outer_bound(relation.predicate, child.known)), child.known)

    def _equal_columns(self, relation: Filter) -> dict[int, Column] | None:
        """Columns the filter makes equal to every outer value; then the outer values themselves are not needed."""
        known: dict[int, Column] = {}
        for conjunct in _conjuncts(relation.predicate):
            if not isinstance(conjunct, Call) or conjunct.function != "op_=":
                continue
            left, right = conjunct.arguments
            if isinstance(left, OuterColumn):
                left, right = right, left
            if isinstance(left, Column) and isinstance(right, OuterColumn) and left.type == right.type:
                known.setdefault(right.id, left)
        return {outer: known[outer] for outer in self._outer} if self._outer <= known.keys() else None

    def _projected(self, child: _Pushed, items: tuple[Item, ...]) -> _Pushed:
        """The items and the outer values."""
        given = {item.id for item in items}
        passed: list[Item] = []
        known: dict[int, Column] = {}
        for outer, column in child.known.items():
            item = Item(next(self._ids) if column.id in given else column.id, column.name, column)
            passed.append(item)
            given.add(item.id)
            known[outer] = Column(item.id, column.name, column.type)
        return _Pushed(Project(child.relation, items + tuple(passed)), known)

    def _widened(self, relation: ProjectSet | WindowCalculation) -> _Pushed:
        child = self.pushed(relation.child)
        items = []
        for item in relation.items:
            expression = outer_bound(item.expression, child.known)
            if isinstance(expression, Window):
                partition = expression.partition_by + tuple(child.known.values())
                expression = msgspec.structs.replace(expression, partition_by=partition)
            items.append(Item(item.id, item.name, expression))
        return _Pushed(msgspec.structs.replace(relation, child=child.relation, items=tuple(items)), child.known)

    def _aggregation(self, relation: Aggregation) -> _Pushed:
        child = self.pushed(relation.child)
        bind = child.known
        keys = tuple(Item(i.id, i.name, outer_bound(i.expression, bind)) for i in relation.keys)
        aggregates = tuple(Item(i.id, i.name, outer_bound(i.expression, bind)) for i in relation.aggregates)
        outer_items = {outer: Item(next(self._ids), c.name, c) for outer, c in bind.items()}
        known = {outer: Column(i.id, i.name, i.expression.type) for outer, i in outer_items.items()}
        if keys or not aggregates:
            return _Pushed(Aggregation(child.relation, (*outer_items.values(), *keys), aggregates), known)
        return self._whole_aggregation(child.relation, outer_items, known, aggregates)

    def _whole_aggregation(
        self, child: Relation, outer_items: dict[int, Item], known: dict[int, Column], aggregates: tuple[Item, ...]
    ) -> _Pushed:
        """Without keys there is a row even for an outer value without rows: what the aggregates of nothing are."""
        inner = tuple(Item(next(self._ids), i.name, i.expression) for i in aggregates)
        grouped = Aggregation(child, tuple(outer_items.values()), inner)
        domain = self._domain()
        condition = _all([_same(domain.known[outer], known[outer]) for outer in known])
        joined = Join("left", domain.relation, grouped, condition)
        items = tuple(
            Item(old.id, old.name, _of_nothing(Column(new.id, new.name, old.expression.type), old.expression))
            for old, new in zip(aggregates, inner, strict=True)
        )
        return self._projected(_Pushed(joined, domain.known), items)

    def _join(self, relation: Join) -> _Pushed:
        if relation.kind in ("right", "full"):
            raise UnsupportedFeature(f"A {relation.kind.upper()} JOIN in a subquery cannot use columns of an outer query")
        right_is_correlated = self._is_correlated(relation.right)
        is_symmetric = relation.kind in ("inner", "cross")
        if is_symmetric and not self._is_correlated(relation.left) and right_is_correlated:
            right = self.pushed(relation.right)
            condition = None if relation.condition is None else outer_bound(relation.condition, right.known)
            return _Pushed(msgspec.structs.replace(relation, right=right.relation, condition=condition), right.known)
        left = self.pushed(relation.left)
        condition = None if relation.condition is None else outer_bound(relation.condition, left.known)
        if not right_is_correlated:
            return _Pushed(msgspec.structs.replace(relation, left=left.relation, condition=condition), left.known)
        right = self.pushed(relation.right)
        same: list[Expression] = [_same(left.known[outer], right.known[outer]) for outer in left.known]
        condition = _all([*same, condition] if condition is not None else same)
        kind = "inner" if relation.kind == "cross" else relation.kind
        return _Pushed(Join(kind, left.relation, right.relation, condition), left.known)

    def _limit(self, relation: Limit) -> _Pushed:
        """The first rows of each outer value: numbered, then filtered."""
        child = self.pushed(relation.child)
        keys = child.relation.keys if isinstance(child.relation, Sort) else ()
        if isinstance(child.relation, Project) and isinstance(child.relation.child, Sort):
            return self._limit_below_project(child.relation, child.known, relation)
        number = Item(next(self._ids), "number", Window("row_number", (), BIGINT, tuple(child.known.values()), keys))
        numbered = WindowCalculation(child.relation, (number,))
        column = Column(number.id, "number", BIGINT)
        return _Pushed(Filter(numbered, _within(column, relation)), child.known)

    def _limit_below_project(self, project: Project, known: dict[int, Column], limit: Limit) -> _Pushed:
        sort = project.child
        assert isinstance(sort, Sort)
        sources = {item.id: item.expression for item in project.items}
        partition = tuple(sources[column.id] for column in known.values())
        window = Window("row_number", (), BIGINT, partition, sort.keys)
        number = Item(next(self._ids), "number", window)
        numbered = WindowCalculation(sort.child, (number,))
        column = Column(number.id, "number", BIGINT)
        return _Pushed(Project(Filter(numbered, _within(column, limit)), project.items), known)

    def _set_operation(self, relation: SetOperation) -> _Pushed:
        outers = list(self._outer)
        parts: list[Relation] = []
        types: dict[int, Column] = {}
        for child in relation.children:
            pushed = self.pushed(child)
            items = _passing(output_columns(child))
            extra = tuple(Item(next(self._ids), pushed.known[outer].name, pushed.known[outer]) for outer in outers)
            parts.append(Project(pushed.relation, items + extra))
            types = pushed.known
        known = {outer: Column(next(self._ids), types[outer].name, types[outer].type) for outer in outers}
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return _Pushed(SetOperation(kind=relation.kind, children=tuple(parts), columns=columns), known)

    def _apply(self, relation: Apply) -> _Pushed:
        """A subquery in the subquery: its outer columns of ours become columns of its left side."""
        left = self.pushed(relation.left)
        operand = None if relation.operand is None else outer_bound(relation.operand, left.known)
        right = _renamed_outer(relation.right, left.known)
        changed = msgspec.structs.replace(relation, left=left.relation, right=right, operand=operand)
        return _Pushed(changed, left.known)

    def _table_function(self, relation: TableFunction) -> _Pushed:
        if relation.with_ordinality or (len(relation.columns) != 1 and relation.function != "unnest"):
            raise UnsupportedFeature(f"{relation.function} of several columns cannot use columns of an outer query")
        domain = self._domain()
        arguments = tuple(outer_bound(argument, domain.known) for argument in relation.arguments)
        if relation.function == "unnest":
            calls = [Call("unnest", (argument,), c.type) for argument, c in zip(arguments, relation.columns, strict=True)]
        else:
            calls = [Call(relation.function, arguments, relation.columns[0].type)]
        items = tuple(Item(c.id, c.name, call) for c, call in zip(relation.columns, calls, strict=True))
        return _Pushed(ProjectSet(domain.relation, items), domain.known)

    def _values(self, relation: Values) -> _Pushed:
        parts: list[Relation] = []
        outers = list(self._outer)
        known: dict[int, Column] = {}
        for row in relation.rows:
            domain = self._domain()
            items = tuple(
                Item(next(self._ids), c.name, outer_bound(e, domain.known)) for c, e in zip(relation.columns, row, strict=True)
            )
            parts.append(Project(domain.relation, items + tuple(Item(next(self._ids), "d", domain.known[o]) for o in outers)))
            known = known or {o: Column(next(self._ids), "d", domain.known[o].type) for o in outers}
        columns = relation.columns + tuple(OutputColumn(c.id, c.name, c.type) for c in known.values())
        return _Pushed(SetOperation(kind="union_all", children=tuple(parts), columns=columns), known)


def _conjuncts(predicate: Expression) -> Iterator[Expression]:
    if isinstance(predicate, Call) and predicate.function == "op_and":
        for argument in predicate.arguments:
            yield from _conjuncts(argument)
    else:
        yield predicate


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
    return _all(conditions)


def _renamed_outer(relation: Relation, known: dict[int, Column]) -> Relation:
    """Outer columns of the given ids under their new ids, in a whole tree."""

    def change(expression: Expression) -> Expression:
        renamed = {outer: OuterColumn(c.id, c.name, c.type) for outer, c in known.items()}
        return outer_bound(expression, renamed)

    return changed_expressions(relation, change)


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
            keys = tuple(msgspec.structs.replace(k, expression=change(k.expression)) for k in relation.keys)
            return Sort(changed_expressions(relation.child, change), keys)
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
