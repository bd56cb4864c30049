"""A relation tree as one SQL text for the engine: nested SELECTs whose columns are called ``c<id>``.

In: a tree without OuterColumns (``decorrelate`` bound them) and the names of its inputs. Out: SQL text plus what it refers
to (:class:`~cratepy.execution.engine.expressions.Text`). Its own room because text is the seam to DataFusion: readable in
EXPLAIN, and the best-tested surface it has.

The engine forgets the order of a subquery, so a sort is carried outwards (see :class:`_Select`) until something above it
makes the order meaningless. ::

    Limit 3 ← Sort [#5 DESC] ← Aggregation [#4] [#5 count(*)] ← Filter ← Scan

    SELECT * FROM (SELECT c4, count(*) AS c5 FROM i0 WHERE … GROUP BY c4) AS r1 ORDER BY c5 DESC NULLS FIRST LIMIT 3
"""

from __future__ import annotations

import itertools
from dataclasses import field, replace
from typing import assert_never

from cratepy.errors import BadRequest
from cratepy.execution.engine.aggregation import aggregate, window
from cratepy.execution.engine.casting import arrow_cast
from cratepy.execution.engine.expressions import Text, render, set_call, sort_keys
from cratepy.execution.engine.stopping import JoinGuard
from cratepy.execution.engine.substitution import substituted
from cratepy.functions.evaluate import NO_COLUMNS, is_volatile, value_of
from cratepy.model.expressions import Aggregate, Column, Expression, SortKey, Window
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
from cratepy.records import dataclass

_JOINS = {
    "inner": "JOIN",
    "left": "LEFT JOIN",
    "right": "RIGHT JOIN",
    "full": "FULL JOIN",
    "semi": "LEFT SEMI JOIN",
    "anti": "LEFT ANTI JOIN",
}
_SET_WORDS = {"union_all": "UNION ALL", "union": "UNION", "intersect": "INTERSECT", "except": "EXCEPT"}


@dataclass(slots=True, kw_only=True)
class _Select:
    """One SELECT being built from the inside out; ``items`` None means all columns of the source."""

    source: str
    columns: tuple[OutputColumn, ...]
    where: list[str] = field(default_factory=list)
    items: tuple[Item, ...] | None = None
    order: tuple[SortKey, ...] = ()
    limit: str = ""
    #: The SELECT that the source is, if it is one that gives the columns as they are.
    whole: str = ""

    @property
    def is_plain(self) -> bool:
        return self.items is None and not self.order and not self.limit


class Renderer:
    """Renders one fragment whose leaves are numbered inputs: input 3 is the table ``i3``.

    ``guard`` says where the checks stand by which a join can be stopped.
    """

    def __init__(self, text: Text, guard: JoinGuard) -> None:
        self._text = text
        self._guard = guard
        self._aliases = 0
        self._recursive: dict[str, tuple[str, tuple[OutputColumn, ...]]] = {}

    def sql(self, relation: Relation) -> str:
        select, wanted = self._select(relation), output_columns(relation)
        if select.whole and select.is_plain and not select.where and select.columns == wanted:
            return select.whole
        return self._text_of(select, wanted)

    # --- SELECT blocks ---

    def _alias(self) -> str:
        self._aliases += 1
        return f"r{self._aliases}"

    def _text_of(self, select: _Select, wanted: tuple[OutputColumn, ...]) -> str:
        text = self._text
        if select.items is None:
            shown = ", ".join(f"c{column.id}" for column in wanted)
        else:
            shown = ", ".join(f"{render(item.expression, text)} AS c{item.id}" for item in select.items)
        parts = [f"SELECT {shown or '1 AS none'} FROM {select.source}"]
        if select.where:
            parts.append("WHERE " + " AND ".join(select.where))
        if select.order:
            parts.append("ORDER BY " + sort_keys(select.order, text))
        if select.limit:
            parts.append(select.limit)
        return " ".join(parts)

    def _nested(self, select: _Select) -> str:
        """The block as a source of another."""
        if select.is_plain and not select.where:
            return select.source
        return f"({self._text_of(select, select.columns)}) AS {self._alias()}"

    def _wrapped(self, select: _Select) -> _Select:
        return _Select(source=self._nested(select), columns=select.columns)

    def _table(self, name: str, columns: tuple[OutputColumn, ...]) -> _Select:
        return _Select(source=name, columns=columns)

    # --- operators ---

    def _select(self, relation: Relation) -> _Select:
        match relation:
            case ExchangeInput():
                return self._table(f"i{relation.phase}", relation.columns)
            case RecursiveReference():
                return self._recursive_reference(relation)
            case Filter():
                return self._filter(self._select(relation.child), relation.predicate)
            case Project():
                return self._project(self._select(relation.child), relation.items)
            case ProjectSet():
                return self._project_set(relation)
            case Aggregation():
                return self._aggregation(relation)
            case WindowCalculation():
                return self._window(relation)
            case Join():
                return self._join(relation)
            case Sort():
                return self._sort(self._select(relation.child), relation.keys)
            case Limit():
                return self._limit(self._select(relation.child), relation)
            case SetOperation():
                return self._set_operation(relation)
            case RecursiveQuery():
                return self._recursive_query(relation)
            case Apply() | Scan() | SystemScan() | Values() | TableFunction():
                raise AssertionError(f"{type(relation).__name__} was left in the tree")
            case _:
                assert_never(relation)

    def _filter(self, select: _Select, predicate: Expression) -> _Select:
        if select.items is not None or select.limit:
            select = self._wrapped(select)
        select.where.append(render(predicate, self._text))
        return select

    def _project(self, select: _Select, items: tuple[Item, ...]) -> _Select:
        if select.items is not None:
            known = {item.id: item.expression for item in select.items}
            is_safe = not any(is_volatile(item.expression) for item in select.items)
            if select.order and is_safe:
                items = tuple(Item(i.id, i.name, substituted(i.expression, known)) for i in items)
            else:
                select = self._wrapped(select)
        columns = tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items)
        return replace(select, items=items, columns=columns)

    def _sort(self, select: _Select, keys: tuple[SortKey, ...]) -> _Select:
        if select.items is not None or select.limit:
            select = self._wrapped(select)
        select.order = keys
        return select

    def _limit(self, select: _Select, relation: Limit) -> _Select:
        if select.limit:
            order = select.order if select.items is None else ()
            select = self._wrapped(select)
            select.order = order
        count = self._count(relation.count, "LIMIT")
        offset = self._count(relation.offset, "OFFSET")
        parts = []
        if count is not None:
            parts.append(f"LIMIT {count}")
        if offset:
            parts.append(f"OFFSET {offset}")
        select.limit = " ".join(parts)
        return select

    def _count(self, expression: Expression | None, word: str) -> int | None:
        if expression is None:
            return None
        value = value_of(expression, NO_COLUMNS, self._text.context)
        if value is None:
            return None
        if value < 0:
            raise BadRequest(f"invalid {word}: value must be >= 0; got: {value}")
        return int(value)

    def _aggregation(self, relation: Aggregation) -> _Select:
        child = self._select(relation.child)
        if child.items is not None or child.limit:
            child = self._wrapped(child)
        child.order = ()
        computed = tuple(key for key in relation.keys if not isinstance(key.expression, Column))
        if computed:
            passed = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in output_columns(relation.child))
            child = self._wrapped(self._project(child, passed + computed))
        keys = [f"c{k.id}" if k in computed else render(k.expression, self._text) for k in relation.keys]
        shown = [f"{sql} AS c{key.id}" for sql, key in zip(keys, relation.keys, strict=True)]
        for item in relation.aggregates:
            assert isinstance(item.expression, Aggregate)
            shown.append(f"{aggregate(item.expression, self._text, is_grouped=bool(keys))} AS c{item.id}")
        where = f" WHERE {' AND '.join(child.where)}" if child.where else ""
        grouping = f" GROUP BY {', '.join(keys)}" if keys else ""
        sql = f"SELECT {', '.join(shown) or '1 AS none'} FROM {child.source}{where}{grouping}"
        return replace(self._table(f"({sql}) AS {self._alias()}", output_columns(relation)), whole=sql)

    def _window(self, relation: WindowCalculation) -> _Select:
        child = self._select(relation.child)
        source = self._nested(replace(child, order=child.order if child.limit else ()))
        shown = [f"c{column.id}" for column in output_columns(relation.child)]
        for item in relation.items:
            assert isinstance(item.expression, Window)
            shown.append(f"{window(item.expression, self._text)} AS c{item.id}")
        sql = f"SELECT {', '.join(shown)} FROM {source}"
        return self._table(f"({sql}) AS {self._alias()}", output_columns(relation))

    def _project_set(self, relation: ProjectSet) -> _Select:
        child = self._select(relation.child)
        source = self._nested(replace(child, order=child.order if child.limit else ()))
        passed = [f"c{column.id}" for column in output_columns(relation.child)]
        sets = [f"unnest({set_call(item.expression, self._text)}) AS c{item.id}" for item in relation.items]
        sql = f"SELECT {', '.join(passed + sets)} FROM {source}"
        return self._table(f"({sql}) AS {self._alias()}", output_columns(relation))

    def _join(self, relation: Join) -> _Select:
        checks = self._guard.checks(relation)
        left = self._side(relation.left, checks.left)
        right = self._side(relation.right, checks.right)
        columns = output_columns(relation)
        conditions = [check for check in (checks.pairs,) if check is not None]
        if relation.condition is not None:
            conditions.append(render(relation.condition, self._text))
        if conditions:
            kind = "inner" if relation.kind == "cross" else relation.kind
            source = f"{left} {_JOINS[kind]} {right} ON {' AND '.join(conditions)}"
        else:
            source = f"{left} CROSS JOIN {right}"
        shown = ", ".join(f"c{column.id}" for column in columns) or "1 AS none"
        return self._table(f"(SELECT {shown} FROM {source}) AS {self._alias()}", columns)

    def _side(self, relation: Relation, check: str | None = None) -> str:
        select = self._select(relation)
        if not select.limit:
            select.order = ()
        if check is not None:
            if not select.is_plain:
                select = self._wrapped(select)
            select.where.append(check)
        return self._nested(select)

    def _set_operation(self, relation: SetOperation) -> _Select:
        parts = [self._renamed(child, relation.columns) for child in relation.children]
        word = f" {_SET_WORDS[relation.kind]} "
        # INTERSECT binds tighter than the others; brackets make the order ours.
        if relation.kind == "except":
            sql = parts[0]
            for part in parts[1:]:
                sql = f"({sql}){word}({part})"
        else:
            # The others mean the same in any order, and the engine's parser goes 400 levels deep.
            while len(parts) > 1:
                pairs = itertools.zip_longest(parts[::2], parts[1::2])
                parts = [left if right is None else f"({left}){word}({right})" for left, right in pairs]
            sql = parts[0]
        return self._table(f"({sql}) AS {self._alias()}", relation.columns)

    def _renamed(self, relation: Relation, columns: tuple[OutputColumn, ...]) -> str:
        source = self._side(relation)
        pairs = zip(output_columns(relation), columns, strict=True)
        shown = ", ".join(f"{self._as_type(old, new)} AS c{new.id}" for old, new in pairs) or "1 AS none"
        return f"SELECT {shown} FROM {source}"

    def _as_type(self, old: OutputColumn, new: OutputColumn) -> str:
        return f"c{old.id}" if old.type == new.type else arrow_cast(f"c{old.id}", new.type)

    def _recursive_query(self, relation: RecursiveQuery) -> _Select:
        name = f"w{self._alias()}"
        base = self._renamed(relation.base, relation.columns)
        self._recursive[relation.name] = (name, relation.columns)
        step = self._renamed(relation.step, relation.columns)
        word = "UNION" if relation.is_distinct else "UNION ALL"
        shown = ", ".join(f"c{column.id}" for column in relation.columns)
        sql = f"WITH RECURSIVE {name} AS ({base} {word} {step}) SELECT {shown} FROM {name}"
        return self._table(f"({sql}) AS {self._alias()}", relation.columns)

    def _recursive_reference(self, relation: RecursiveReference) -> _Select:
        name, columns = self._recursive[relation.name]
        pairs = zip(columns, relation.columns, strict=True)
        shown = ", ".join(f"c{old.id} AS c{new.id}" for old, new in pairs)
        return self._table(f"(SELECT {shown} FROM {name}) AS {self._alias()}", relation.columns)
