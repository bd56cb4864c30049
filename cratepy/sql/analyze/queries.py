"""Queries: SELECT, VALUES, set operations, WITH; a syntax tree in, a relation and its columns out.

A SELECT is a block (``analyze.blocks``); this room does what stands around blocks: names of WITH, set operations with
their common types, recursion, ORDER BY over a set operation, LIMIT and OFFSET.
"""

from __future__ import annotations

import msgspec

from cratepy.errors import ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.model.expressions import Column, Expression, Literal, Parameter, SortKey
from cratepy.model.relations import (
    Item,
    Limit,
    OutputColumn,
    Project,
    RecursiveQuery,
    Relation,
    SetOperation,
    Sort,
    Values,
)
from cratepy.model.types import BIGINT, DataType
from cratepy.records import dataclass
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.scope import Scope, WithBinding
from cratepy.sql.analyze.tables import empty_row, with_applies
from cratepy.sql.analyze.typing import cast_to, common
from cratepy.sql.parse import tree

#: Types that have no order.
UNORDERED_KINDS = frozenset({"array", "object", "geo_point", "geo_shape", "float_vector", "json", "record"})


@dataclass(frozen=True, slots=True)
class Result:
    """A query's relation; its output columns are exactly ``columns``."""

    relation: Relation
    columns: tuple[OutputColumn, ...]


def analyze_query(
    context: Context, query: tree.Query, *, parent: Scope | None, with_names: dict[str, WithBinding]
) -> Result:
    """The query in the scope around it."""
    names = _bind_with(query, with_names, parent)
    body = query.body
    if isinstance(body, tree.Select):
        from cratepy.sql.analyze.blocks import analyze_select  # blocks hold subqueries and queries hold blocks

        result = analyze_select(context, body, query.order_by, parent=parent, with_names=names)
    else:
        result = _analyze_body(context, body, parent=parent, with_names=names)
        if query.order_by:
            result = _sorted(context, result, query.order_by)
    return _limited(context, result, query)


def _bind_with(query: tree.Query, around: dict[str, WithBinding], parent: Scope | None) -> dict[str, WithBinding]:
    if not query.with_items:
        return around
    names = dict(around)
    seen: set[str] = set()
    for item in query.with_items:
        if item.name in seen:
            raise SQLParseError(f"WITH query name '{item.name}' specified more than once")
        seen.add(item.name)
        is_recursive = query.is_recursive and isinstance(item.query.body, tree.SetNode)
        names[item.name] = WithBinding(item, dict(names), parent, is_recursive=is_recursive)
    return names


def _analyze_body(
    context: Context, body: tree.QueryBody, *, parent: Scope | None, with_names: dict[str, WithBinding]
) -> Result:
    match body:
        case tree.Query():
            return analyze_query(context, body, parent=parent, with_names=with_names)
        case tree.Select():
            return analyze_query(context, tree.Query(body), parent=parent, with_names=with_names)
        case tree.ValuesNode():
            return _values(context, body, parent=parent, with_names=with_names)
        case tree.SetNode():
            return _set_operation(context, body, parent=parent, with_names=with_names)


# --- VALUES ----------------------------------------------------------------------------------------------------------


def _values(
    context: Context, node: tree.ValuesNode, *, parent: Scope | None, with_names: dict[str, WithBinding]
) -> Result:
    a = ExpressionAnalyzer(context, Scope(parent=parent, with_names=with_names), place="VALUES")
    width = len(node.rows[0])
    if any(len(row) != width for row in node.rows):
        raise SQLParseError("VALUES lists must all be the same length")
    rows = [[a.analyze(value) for value in row] for row in node.rows]
    types = [_values_type([row[index].type for row in rows]) for index in range(width)]
    cast = tuple(tuple(cast_to(context, value, kind) for value, kind in zip(row, types, strict=True)) for row in rows)
    columns = tuple(OutputColumn(context.next_id(), f"col{index + 1}", kind) for index, kind in enumerate(types))
    if not a.applies:
        return Result(Values(rows=cast, columns=columns), columns)
    # Rows with subqueries: each row is a projection over an empty row.
    children = []
    for row in cast:
        items = tuple(Item(context.next_id(), c.name, value) for c, value in zip(columns, row, strict=True))
        children.append(Project(with_applies(empty_row(), a.applies), items))
    if len(children) == 1:
        return _result_of(children[0])
    return Result(SetOperation(kind="union_all", children=tuple(children), columns=columns), columns)


def _values_type(types: list[DataType]) -> DataType:
    return common(types)


def _result_of(relation: Project) -> Result:
    return Result(relation, tuple(OutputColumn(i.id, i.name, i.expression.type) for i in relation.items))


# --- set operations --------------------------------------------------------------------------------------------------


def _operands(node: tree.SetNode) -> list[tree.QueryBody]:
    """Operands of a chain of one kind, left to right, without recursion (a long UNION ALL is deep to the left)."""
    found: list[tree.QueryBody] = []
    current: tree.QueryBody = node
    while isinstance(current, tree.SetNode) and (current.kind, current.is_all) == (node.kind, node.is_all):
        found.append(current.right)
        current = current.left
    return [current, *reversed(found)]


def _set_operation(
    context: Context, node: tree.SetNode, *, parent: Scope | None, with_names: dict[str, WithBinding]
) -> Result:
    if node.is_all and node.kind != "union":
        raise UnsupportedFeature(f"{node.kind.upper()} ALL is not supported")
    kind = "union_all" if node.is_all else node.kind
    # EXCEPT is not associative, but left to right is what a flat list of children means.
    results = [_analyze_body(context, body, parent=parent, with_names=with_names) for body in _operands(node)]
    return combine(context, kind, results, node.kind)


def combine(context: Context, kind: str, results: list[Result], shown: str) -> Result:
    """Results of as many columns each, cast to common types, under one set operation."""
    width = len(results[0].columns)
    if any(len(result.columns) != width for result in results):
        raise UnsupportedFeature(f"Number of output columns must be the same for all parts of a {shown.upper()}")
    types = [common([result.columns[index].type for result in results]) for index in range(width)]
    first = results[0].columns
    columns = tuple(OutputColumn(context.next_id(), c.name, kind_) for c, kind_ in zip(first, types, strict=True))
    children = tuple(as_types(context, result, types) for result in results)
    return Result(SetOperation(kind=kind, children=children, columns=columns), columns)


def as_types(context: Context, result: Result, types: list[DataType]) -> Relation:
    """The result's relation with its columns cast to the types."""
    if all(column.type == kind for column, kind in zip(result.columns, types, strict=True)):
        return result.relation
    items: list[Item] = []
    for column, kind in zip(result.columns, types, strict=True):
        plain = Column(column.id, column.name, column.type)
        if column.type == kind:
            items.append(Item(column.id, column.name, plain))
        else:
            items.append(Item(context.next_id(), column.name, cast_output(context, result.relation, plain, kind)))
    return Project(result.relation, tuple(items))


def cast_output(context: Context, relation: Relation, column: Column, kind: DataType) -> Expression:
    """An output column as another type; a constant of a projection is cast like one (``SELECT '1' UNION ALL SELECT 2``)."""
    if isinstance(relation, Project):
        for item in relation.items:
            if item.id == column.id and isinstance(item.expression, Literal):
                return cast_to(context, item.expression, kind)
            if item.id == column.id and isinstance(item.expression, Parameter) and column.type.kind == "undefined":
                context.note_type(item.expression, kind)
    return cast_to(context, column, kind)


# --- WITH RECURSIVE --------------------------------------------------------------------------------------------------


def recursive_query(context: Context, binding: WithBinding) -> tuple[Relation, tuple[OutputColumn, ...]]:
    """``base UNION [ALL] step``; a query that does not name itself is an ordinary union."""
    item, names, parent = binding.item, binding.names, binding.parent
    body = item.query.body
    assert isinstance(body, tree.SetNode)
    if body.kind != "union":
        raise UnsupportedFeature(f"Recursive query '{item.name}' must have the form base UNION [ALL] step")
    base = _analyze_body(context, body.left, parent=parent, with_names=names)
    given = tuple(
        (item.columns[i] if i < len(item.columns) else column.name, column.type)
        for i, column in enumerate(base.columns)
    )
    inner = {**names, item.name: WithBinding(item, names, parent, reference=given)}
    step = _analyze_body(context, body.right, parent=parent, with_names=inner)
    if len(step.columns) != len(base.columns):
        raise UnsupportedFeature("Number of output columns must be the same for all parts of a UNION")
    types = [kind for _, kind in given]
    columns = tuple(OutputColumn(context.next_id(), name, kind) for name, kind in given)
    relation: Relation = RecursiveQuery(
        name=item.name,
        base=as_types(context, base, types),
        step=as_types(context, step, types),
        columns=columns,
        is_distinct=not body.is_all,
    )
    result = Result(relation, columns)
    if item.query.order_by:
        result = _sorted(context, result, item.query.order_by)
    result = _limited(context, result, item.query)
    return result.relation, result.columns


# --- ORDER BY, LIMIT -------------------------------------------------------------------------------------------------


def ordinal(node: tree.Node) -> int | None:
    """``ORDER BY 2``, ``GROUP BY 1``."""
    return int(node.text) if isinstance(node, tree.NumberWord) and node.text.isdigit() else None


def sort_key(expression: Expression, item: tree.SortItem) -> SortKey:
    """A sort key; NULLs count as larger than everything. Raises UnsupportedFeature for types without order."""
    if expression.type.kind in UNORDERED_KINDS:
        raise UnsupportedFeature(
            f"Cannot ORDER BY '{printed(item.expression)}': invalid data type '{expression.type.name}'."
        )
    nulls_first = item.is_descending if item.nulls_first is None else item.nulls_first
    return SortKey(expression, item.is_descending, nulls_first)


def _sorted(context: Context, result: Result, order_by: tuple[tree.SortItem, ...]) -> Result:
    """ORDER BY over a set operation or VALUES: its output columns only."""
    from cratepy.sql.analyze.scope import DerivedSource  # for expressions over the output

    pairs: tuple[tuple[str, Expression], ...] = tuple((c.name, Column(c.id, c.name, c.type)) for c in result.columns)
    scope = Scope(sources=[DerivedSource(result.relation, pairs, None)])
    keys: list[SortKey] = []
    for item in order_by:
        position = ordinal(item.expression)
        if position is not None:
            if not 1 <= position <= len(result.columns):
                raise SQLParseError(f"ORDER BY position {position} is not in select list")
            keys.append(sort_key(pairs[position - 1][1], item))
            continue
        a = ExpressionAnalyzer(context, scope, place="ORDER BY")
        key = a.analyze(item.expression)
        if a.applies:
            raise ColumnUnknown("ORDER BY of a UNION can only name its columns")
        keys.append(sort_key(key, item))
    return Result(Sort(result.relation, tuple(keys)), result.columns)


def _limited(context: Context, result: Result, query: tree.Query) -> Result:
    limit = _bound(context, query.limit)
    offset = _bound(context, query.offset)
    if limit is None and offset is None:
        return result
    relation = result.relation
    if isinstance(relation, Project) and isinstance(relation.child, Sort):
        # Hidden sort columns are cut off last, so that sort and limit stay together.
        return Result(msgspec.structs.replace(relation, child=Limit(relation.child, limit, offset)), result.columns)
    return Result(Limit(relation, limit, offset), result.columns)


def _bound(context: Context, node: tree.Node | None) -> Expression | None:
    if node is None or isinstance(node, tree.NullWord):
        return None
    a = ExpressionAnalyzer(context, Scope(), place="LIMIT")
    expression = cast_to(context, a.analyze(node), BIGINT)
    if a.applies:
        raise UnsupportedFeature("Subqueries are not supported in LIMIT and OFFSET")
    if isinstance(expression, Literal) and expression.value is None:
        return None
    return expression
