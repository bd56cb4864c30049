"""FROM: tables, views, names of WITH, subqueries, functions and joins become sources of a scope and a relation.

The relation is made after all expressions of the block are analyzed (:func:`FromClause.relation`), because only then it
is known which columns the scans have to read.
"""

from __future__ import annotations

from collections.abc import Callable

from cratepy.errors import ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.functions import registry
from cratepy.model.expressions import Column, Expression
from cratepy.model.relations import (
    Apply,
    Item,
    Join,
    OutputColumn,
    Project,
    RecursiveReference,
    Relation,
    TableFunction,
    Values,
)
from cratepy.model.schema import TableDefinition, ViewDefinition
from cratepy.model.table_blocks import check_blocks
from cratepy.model.types import BIGINT
from cratepy.records import dataclass
from cratepy.sql.analyze.catalog import CatalogView
from cratepy.sql.analyze.composed import balanced
from cratepy.sql.analyze.context import VIEW_DEPTH_MAX, Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer, PendingApply, compare
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.scope import DerivedSource, Scope, Source, TableSource, WithBinding
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.analyze.walk import outer_ids
from cratepy.sql.parse import tree
from cratepy.sql.parse.parser import parse

Builder = Callable[[], Relation]


@dataclass(slots=True)
class FromClause:
    """The scope of a FROM, and how to make its relation when the time has come."""

    scope: Scope
    relation: Builder


def empty_row() -> Relation:
    """One row without columns: the FROM of a SELECT that has none."""
    return Values(rows=((),), columns=())


def analyze_from(
    context: Context,
    tables: tuple[tree.TableNode, ...],
    *,
    parent: Scope | None,
    with_names: dict[str, WithBinding],
) -> FromClause:
    """The sources of all tables of a FROM, joined left to right."""
    scope = Scope(parent=parent, with_names=with_names)
    if not tables:
        return FromClause(scope, empty_row)
    builders = [_analyze_table(context, table, scope) for table in tables]

    def build() -> Relation:
        relation = builders[0]()
        for builder in builders[1:]:
            relation = Join("cross", relation, builder(), None)
        return relation

    return FromClause(scope, build)


def _check_alias(scope: Scope, added: Source) -> None:
    if added.alias is None:
        return
    if any((source.schema, source.alias) == (added.schema, added.alias) for source in scope.sources):
        shown = f"{added.schema}.{added.alias}" if added.schema else added.alias
        raise SQLParseError(f'"{shown}" specified more than once in the FROM clause')


def _analyze_table(context: Context, table: tree.TableNode, scope: Scope) -> Builder:
    match table:
        case tree.TableName():
            source = _named(context, table, scope)
        case tree.DerivedTable():
            source = _derived(context, table, scope)
        case tree.FunctionTable():
            source = _function(context, table, scope)
        case tree.JoinTable():
            return _join(context, table, scope)
    _check_alias(scope, source)
    scope.sources.append(source)
    return source.relation


# --- single tables ---------------------------------------------------------------------------------------------------


def _named(context: Context, table: tree.TableName, scope: Scope) -> Source:
    if len(table.parts) == 1 and table.parts[0] in scope.with_names:
        return _with_name(context, table, scope.with_names[table.parts[0]])
    found = context.catalog.relation(table.parts)
    alias = table.alias if table.alias is not None else found.name.name
    schema = None if table.alias is not None else found.name.schema
    if isinstance(found, ViewDefinition):
        return _view(context, table, found, alias, schema)
    if isinstance(found, TableDefinition):
        check_blocks(found, "READ")
        context.tables[found.uuid] = None
    source = TableSource(context, found, alias, schema)
    if table.columns:
        source.rename(table.columns)
    return source


def _view(context: Context, table: tree.TableName, view: ViewDefinition, alias: str, schema: str | None) -> Source:
    """The view's text, analyzed anew under the search path it was written under."""
    from cratepy.sql.analyze.queries import analyze_query  # queries hold tables and tables hold queries

    if context.view_depth >= VIEW_DEPTH_MAX:
        raise SQLParseError(f"View '{view.name}' is defined by views nested too deeply")
    context.count_expansion()
    (parsed,) = parse(view.sql)
    assert isinstance(parsed.tree, tree.Query)
    outside = context.catalog
    context.catalog = CatalogView(outside.state, view.search_path or outside.search_path)
    context.view_depth += 1
    try:
        result = analyze_query(context, parsed.tree, parent=None, with_names={})
    finally:
        context.catalog = outside
        context.view_depth -= 1
    return _from_columns(result.relation, result.columns, alias, schema, table.columns)


def _with_name(context: Context, table: tree.TableName, binding: WithBinding) -> Source:
    from cratepy.sql.analyze.queries import analyze_query, recursive_query  # as above

    alias = table.alias if table.alias is not None else table.parts[0]
    item = binding.item
    if binding.reference is not None:
        columns = tuple(OutputColumn(context.next_id(), name, kind) for name, kind in binding.reference)
        return _from_columns(RecursiveReference(item.name, columns), columns, alias, None, table.columns)
    context.count_expansion()
    if binding.is_recursive:
        relation, columns = recursive_query(context, binding)
        return _from_columns(relation, columns, alias, None, table.columns)
    result = analyze_query(context, item.query, parent=binding.parent, with_names=binding.names)
    names = _renamed(result.columns, item.columns, item.name)
    return _from_columns(result.relation, names, alias, None, table.columns)


def _renamed(columns: tuple[OutputColumn, ...], names: tuple[str, ...], of: str | None) -> tuple[OutputColumn, ...]:
    if len(names) > len(columns):
        raise SQLParseError(f'table "{of}" has {len(columns)} columns available but {len(names)} columns specified')
    return tuple(
        OutputColumn(column.id, names[i] if i < len(names) else column.name, column.type)
        for i, column in enumerate(columns)
    )


def _from_columns(
    relation: Relation,
    columns: tuple[OutputColumn, ...],
    alias: str | None,
    schema: str | None,
    names: tuple[str, ...],
) -> DerivedSource:
    renamed = _renamed(columns, names, alias)
    pairs: tuple[tuple[str, Expression], ...] = tuple((c.name, Column(c.id, c.name, c.type)) for c in renamed)
    return DerivedSource(relation, pairs, alias, schema)


def _derived(context: Context, table: tree.DerivedTable, scope: Scope) -> Source:
    from cratepy.sql.analyze.queries import analyze_query  # as above

    if table.alias is None and not isinstance(table.query.body, tree.ValuesNode):
        raise UnsupportedFeature("subquery in FROM clause must have an alias")
    result = analyze_query(context, table.query, parent=scope.parent, with_names=scope.with_names)
    return _from_columns(result.relation, result.columns, table.alias, None, table.columns)


def _function(context: Context, table: tree.FunctionTable, scope: Scope) -> Source:
    """A table function, or a scalar as a table of one row and one column."""
    call = table.call
    around = Scope(parent=scope.parent, with_names=scope.with_names)
    a = ExpressionAnalyzer(context, around, place="a function in FROM")
    if not isinstance(call, tree.Function) or not registry.is_table_function(".".join(call.name)):
        return _scalar_table(context, table, a)
    name = ".".join(call.name)
    arguments = [a.analyze(argument) for argument in call.arguments]
    if a.applies:
        raise UnsupportedFeature("Subqueries are not supported in the arguments of a table function")
    types = [argument.type for argument in arguments]
    chosen = registry.resolve_table_function(name, types, shown=printed(call))
    cast = tuple(cast_to(context, e, t) for e, t in zip(arguments, chosen.argument_types, strict=True))
    # A function of one column gives it its own name or the alias, as in PostgreSQL.
    named = table.alias if table.alias is not None and len(chosen.columns) == 1 else None
    columns = tuple(OutputColumn(context.next_id(), named or column, kind) for column, kind in chosen.columns)
    if table.with_ordinality:
        columns = (*columns, OutputColumn(context.next_id(), "ordinality", BIGINT))
    relation = TableFunction(
        function=chosen.function, arguments=cast, columns=columns, with_ordinality=table.with_ordinality
    )
    alias = table.alias if table.alias is not None else call.name[-1]
    source = _from_columns(relation, columns, alias, None, table.columns)
    source.is_function = True
    return source


def _scalar_table(context: Context, table: tree.FunctionTable, a: ExpressionAnalyzer) -> Source:
    call = table.call
    if isinstance(call, tree.Function):
        name = ".".join(call.name)
        if registry.is_aggregate(name) or registry.is_window(name):
            raise UnsupportedFeature(
                f"Window or Aggregate function: '{name}' is not allowed in function in FROM clause"
            )
    if table.with_ordinality:
        raise UnsupportedFeature("WITH ORDINALITY needs a table function")
    value = a.analyze(call)
    column = OutputColumn(context.next_id(), table.alias or output_name(call), value.type)
    relation: Relation = Project(empty_row(), (Item(column.id, column.name, value),))
    for apply in a.applies:
        relation = Project(with_applies(empty_row(), [apply]), (Item(column.id, column.name, value),))
    alias = table.alias if table.alias is not None else column.name
    source = _from_columns(relation, (column,), alias, None, table.columns)
    source.is_function = True
    return source


# --- joins -----------------------------------------------------------------------------------------------------------


def _join(context: Context, table: tree.JoinTable, scope: Scope) -> Builder:
    if table.is_natural:
        raise UnsupportedFeature("join criteria NaturalJoin not supported")
    before = len(scope.sources)
    left = _analyze_table(context, table.left, scope)
    middle = len(scope.sources)
    right = _analyze_table(context, table.right, scope)
    if table.kind == "cross":
        return lambda: Join("cross", left(), right(), None)
    if table.using:
        condition = _using(context, table, scope, scope.sources[before:middle], scope.sources[middle:])
        return lambda: Join(table.kind, left(), right(), condition)
    assert table.on is not None
    # Only the tables of this join are visible in its condition.
    visible = Scope(
        sources=scope.sources[before:],
        parent=scope.parent,
        with_names=scope.with_names,
        merged=scope.merged,
        merged_sources=scope.merged_sources,
    )
    a = ExpressionAnalyzer(context, visible, place="ON")
    on = a.condition(table.on)
    if not a.applies:
        return lambda: Join(table.kind, left(), right(), on)
    applies = list(a.applies)
    return lambda: _join_with_subqueries(table.kind, left(), right(), on, applies)


def _join_with_subqueries(
    kind: str, left: Relation, right: Relation, on: Expression, applies: list[PendingApply]
) -> Relation:
    """A subquery of a join condition belongs to the side it names columns of; of an inner join to both."""
    from cratepy.model.relations import Filter, output_columns  # only for this rare form

    right_ids = {column.id for column in output_columns(right)}
    left_ids = {column.id for column in output_columns(left)}
    for apply in applies:
        named = outer_ids(apply.right) | _operand_ids(apply)
        if named & left_ids and named & right_ids:
            if kind != "inner":
                raise UnsupportedFeature("A subquery in the condition of an outer join can name one side only")
            return Filter(with_applies(Join("cross", left, right, None), applies), on)
        if named & right_ids:
            right = with_applies(right, [apply])
        else:
            left = with_applies(left, [apply])
    return Join(kind, left, right, on)


def _operand_ids(apply: PendingApply) -> set[int]:
    from cratepy.sql.analyze.walk import column_ids  # only for this rare form

    return set() if apply.operand is None else column_ids(apply.operand)


def _using(
    context: Context, table: tree.JoinTable, scope: Scope, left: list[Source], right: list[Source]
) -> Expression:
    a = ExpressionAnalyzer(context, scope, place="USING")
    left_scope = Scope(sources=left, merged={n: e for n, e in scope.merged.items() if _is_of(scope, n, left)})
    right_scope = Scope(sources=right, merged={n: e for n, e in scope.merged.items() if _is_of(scope, n, right)})
    conditions: list[Expression] = []
    for name in table.using:
        first, second = _shared(left_scope, name, "left"), _shared(right_scope, name, "right")
        conditions.append(compare(a, "=", first, second, tree.Name((name,))))
        if table.kind == "right":
            shared = second
        elif table.kind == "full":
            shared = a.call("coalesce", [first, second], tree.Name((name,)))
        else:
            shared = first
        scope.merged[name] = shared
        scope.merged_sources[name] = [*scope.merged_sources.get(name, ()), *left, *right]
    return balanced("op_and", conditions)


def _shared(scope: Scope, name: str, side: str) -> Expression:
    try:
        return scope.resolve((name,))
    except ColumnUnknown:
        raise SQLParseError(f"column {name} specified in USING clause does not exist in {side} table") from None


def _is_of(scope: Scope, name: str, sources: list[Source]) -> bool:
    return any(merged is source for merged in scope.merged_sources.get(name, ()) for source in sources)


def with_applies(relation: Relation, applies: list[PendingApply]) -> Relation:
    """The relation with a column for each subquery."""
    for apply in applies:
        relation = Apply(
            kind=apply.kind,
            left=relation,
            right=apply.right,
            id=apply.id,
            name=apply.name,
            type=apply.type,
            operand=apply.operand,
            operator=apply.operator,
        )
    return relation
