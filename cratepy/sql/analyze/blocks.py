"""One SELECT block: from its clauses to a tree of operators.

::

    Project          output columns only            (if ORDER BY needs more than the select list)
    └ Sort
      └ Project      select list + hidden sort keys
        └ ProjectSet         set-returning functions
          └ WindowCalculation
            └ Apply …        subqueries of the select list and ORDER BY
              └ Filter       HAVING
                └ Aggregation
                  └ Apply …  subqueries in aggregates and group keys
                    └ Filter       WHERE
                      └ Apply …    subqueries of WHERE
                        └ FROM

Expressions are analyzed over the columns of FROM first; then group keys and aggregates are taken out of them and replaced
by columns of the Aggregation, and windows by columns of the WindowCalculation. What is left must not name a column that
is no group key.
"""

from __future__ import annotations

from dataclasses import field

from cratepy.errors import ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.model.expressions import Aggregate, Column, Expression, SortKey, Window
from cratepy.model.relations import (
    Aggregation,
    Filter,
    Item,
    OutputColumn,
    Project,
    ProjectSet,
    Relation,
    Sort,
    WindowCalculation,
    output_columns,
)
from cratepy.records import dataclass
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer, PendingApply
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.queries import UNORDERED_KINDS, Result, ordinal, sort_key
from cratepy.sql.analyze.scope import Scope, WithBinding
from cratepy.sql.analyze.tables import FromClause, analyze_from, with_applies
from cratepy.sql.analyze.typing import settled
from cratepy.sql.analyze.walk import column_ids, key_of, nodes, outer_ids
from cratepy.sql.parse import tree
from cratepy.sql.plan.walk import map_parts

_EVERYTHING = frozenset({"aggregate", "window", "set"})


@dataclass(slots=True)
class Output:
    """An item of the select list; ``node`` is how it was written (None for a column of ``*``)."""

    name: str
    expression: Expression
    node: tree.Node | None
    alias: str | None = None


@dataclass(slots=True)
class Block:
    """What is known of the SELECT while it is put together."""

    context: Context
    source: FromClause
    outputs: list[Output] = field(default_factory=list)
    sort: list[tuple[Expression, tree.SortItem]] = field(default_factory=list)
    applies: list[PendingApply] = field(default_factory=list)
    sets: list[Item] = field(default_factory=list)
    group_keys: list[tuple[Expression, str]] = field(default_factory=list)
    having: Expression | None = None
    has_aggregate: bool = False
    has_window: bool = False
    is_grouped: bool = False


def analyze_select(
    context: Context,
    select: tree.Select,
    order_by: tuple[tree.SortItem, ...],
    *,
    parent: Scope | None,
    with_names: dict[str, WithBinding],
) -> Result:
    """The block as a relation whose output columns are the select list."""
    source = analyze_from(context, select.tables, parent=parent, with_names=with_names)
    windows = _windows(select)
    where = _where(context, source.scope, select)
    block = Block(context, source)
    _select_list(block, select, windows)
    _group_by(block, select)
    _having(block, select, windows)
    _order_by(block, order_by, windows)
    # From here on no expression is analyzed any more, so the scans know their columns.
    relation = source.relation()
    if where is not None:
        relation = Filter(with_applies(relation, where[1]), where[0])
    if block.is_grouped:
        relation = _aggregated(block, relation)
    elif block.having is not None:
        relation = Filter(relation, block.having)
    return _projected(block, relation, is_distinct=select.is_distinct)


def _windows(select: tree.Select) -> dict[str, tree.WindowDef]:
    windows: dict[str, tree.WindowDef] = {}
    for name, window in select.windows:
        if name in windows:
            raise SQLParseError(f"Window {name} is already defined")
        windows[name] = window
    return windows


def _where(context: Context, scope: Scope, select: tree.Select) -> tuple[Expression, list[PendingApply]] | None:
    if select.where is None:
        return None
    a = ExpressionAnalyzer(context, scope, place="WHERE")
    return a.condition(select.where), a.applies


def _select_list(block: Block, select: tree.Select, windows: dict[str, tree.WindowDef]) -> None:
    a = ExpressionAnalyzer(
        block.context, block.source.scope, place="the select list", allows=_EVERYTHING, windows=windows
    )
    for item in select.items:
        if isinstance(item.expression, tree.Star):
            if not select.tables and not item.expression.qualifier:
                raise SQLParseError('"SELECT *" requires a FROM clause')
            for name, column in block.source.scope.star(item.expression.qualifier):
                block.outputs.append(Output(name, column, None))
            continue
        expression = settled(a.analyze(item.expression))
        name = item.alias if item.alias is not None else output_name(item.expression)
        block.outputs.append(Output(name, expression, item.expression, item.alias))
    _collect(block, a)


def _collect(block: Block, a: ExpressionAnalyzer) -> None:
    block.applies.extend(a.applies)
    block.sets.extend(a.sets)
    block.has_aggregate = block.has_aggregate or a.has_aggregate
    block.has_window = block.has_window or a.has_window


# --- GROUP BY, HAVING, ORDER BY --------------------------------------------------------------------------------------


def _group_by(block: Block, select: tree.Select) -> None:
    if select.groups_all:
        for output in block.outputs:
            if not any(isinstance(node, Aggregate | Window) for node in nodes(output.expression)):
                _add_group_key(block, output.expression, output.name)
        block.is_grouped = True
    for node in select.group_by:
        block.is_grouped = True
        expression, name = _group_key(block, node)
        _add_group_key(block, expression, name)
    block.is_grouped = block.is_grouped or block.has_aggregate


def _add_group_key(block: Block, expression: Expression, name: str) -> None:
    if any(isinstance(node, Aggregate) for node in nodes(expression)):
        raise SQLParseError("Aggregate functions are not allowed in GROUP BY")
    if any(isinstance(node, Window) for node in nodes(expression)):
        raise SQLParseError("Window functions are not allowed in GROUP BY")
    set_ids = {item.id for item in block.sets}
    if column_ids(expression) & set_ids:
        raise SQLParseError("Table functions are not allowed in GROUP BY")
    block.group_keys.append((expression, name))


def _group_key(block: Block, node: tree.Node) -> tuple[Expression, str]:
    """A group key: ordinal, input column, alias, or any expression, in this order."""
    position = ordinal(node)
    if position is not None:
        if not 1 <= position <= len(block.outputs):
            raise SQLParseError(f"GROUP BY position {position} is not in select list")
        output = block.outputs[position - 1]
        return output.expression, output.name
    a = ExpressionAnalyzer(block.context, block.source.scope, place="GROUP BY")
    try:
        expression = settled(a.analyze(node))
    except ColumnUnknown:
        alias = _alias(block, node)
        if alias is None:
            raise
        return alias.expression, alias.name
    block.applies.extend(a.applies)
    return expression, output_name(node)


def _alias(block: Block, node: tree.Node) -> Output | None:
    if isinstance(node, tree.Name) and len(node.parts) == 1:
        for output in block.outputs:
            if output.alias == node.parts[0]:
                return output
    return None


def _having(block: Block, select: tree.Select, windows: dict[str, tree.WindowDef]) -> None:
    if select.having is None:
        return
    a = ExpressionAnalyzer(
        block.context, block.source.scope, place="HAVING", allows=frozenset({"aggregate"}), windows=windows
    )
    block.having = a.condition(select.having)
    _collect(block, a)
    if a.has_aggregate and not block.is_grouped and not block.has_aggregate:
        block.is_grouped = True
    block.is_grouped = block.is_grouped or a.has_aggregate
    if not block.is_grouped:
        raise SQLParseError("HAVING clause can only be used in GROUP BY or global aggregate queries")


def _order_by(block: Block, order_by: tuple[tree.SortItem, ...], windows: dict[str, tree.WindowDef]) -> None:
    for item in order_by:
        position = ordinal(item.expression)
        if position is not None:
            if not 1 <= position <= len(block.outputs):
                raise SQLParseError(f"ORDER BY position {position} is not in select list")
            block.sort.append((block.outputs[position - 1].expression, item))
            continue
        output = _named_output(block, item.expression)
        if output is not None:
            block.sort.append((output.expression, item))
            continue
        a = ExpressionAnalyzer(block.context, block.source.scope, place="ORDER BY", allows=_EVERYTHING, windows=windows)
        block.sort.append((settled(a.analyze(item.expression)), item))
        _collect(block, a)
        if a.has_aggregate:
            block.is_grouped = True


def _named_output(block: Block, node: tree.Node) -> Output | None:
    """An output column by its name: aliases come before input columns in ORDER BY."""
    alias = _alias(block, node)
    if alias is not None:
        return alias
    if isinstance(node, tree.Name) and len(node.parts) == 1:
        found = [output for output in block.outputs if output.name == node.parts[0] and output.alias is None]
        if found and all(key_of(output.expression) == key_of(found[0].expression) for output in found):
            return found[0]
    return None


# --- aggregation -----------------------------------------------------------------------------------------------------


def _aggregated(block: Block, relation: Relation) -> Relation:
    """Put the Aggregation over the relation and make all later expressions read its columns."""
    keys: list[Item] = []
    key_columns: dict[bytes, Column] = {}
    for expression, name in block.group_keys:
        encoded = key_of(expression)
        if encoded in key_columns:
            continue
        key_id = expression.id if isinstance(expression, Column) else block.context.next_id()
        keys.append(Item(key_id, name, expression))
        key_columns[encoded] = Column(key_id, name, expression.type)
    aggregates: list[Item] = []
    aggregate_columns: dict[bytes, Column] = {}
    late_ids = {apply.id for apply in block.applies} | {item.id for item in block.sets}

    def replaced(expression: Expression) -> Expression:
        if not isinstance(expression, Aggregate | Window):
            key = key_columns.get(key_of(expression))
            if key is not None:
                return key
        if isinstance(expression, Aggregate):
            encoded = key_of(expression)
            column = aggregate_columns.get(encoded)
            if column is None:
                column = Column(block.context.next_id(), _aggregate_name(expression), expression.type)
                aggregate_columns[encoded] = column
                aggregates.append(Item(column.id, column.name, expression))
            return column
        if isinstance(expression, Column) and expression.id not in late_ids:
            raise SQLParseError(
                f"'{expression.name}' must appear in the GROUP BY clause or be used in an aggregation function. "
                "Perhaps you grouped by an alias that clashes with a column in the relations"
            )
        return map_parts(expression, replaced)

    for output in block.outputs:
        output.expression = replaced(output.expression)
    block.sort = [(replaced(expression), item) for expression, item in block.sort]
    block.having = None if block.having is None else replaced(block.having)
    block.sets = [Item(item.id, item.name, replaced(item.expression)) for item in block.sets]
    early, late = _split_applies(block, keys, aggregates)
    _check_outer_columns(relation, late, {key.id for key in keys})
    block.applies = [
        PendingApply(
            apply.kind,
            apply.right,
            apply.id,
            apply.name,
            apply.type,
            None if apply.operand is None else replaced(apply.operand),
            apply.operator,
        )
        for apply in late
    ]
    # Operands of late subqueries may have brought new aggregates.
    result: Relation = Aggregation(with_applies(relation, early), tuple(keys), tuple(aggregates))
    if block.having is not None:
        needed = column_ids(block.having)
        inside = [apply for apply in block.applies if apply.id in needed]
        block.applies = [apply for apply in block.applies if apply.id not in needed]
        result = Filter(with_applies(result, inside), block.having)
    return result


def _check_outer_columns(relation: Relation, late: list[PendingApply], key_ids: set[int]) -> None:
    """A subquery above the Aggregation can only name group keys."""
    if not late:
        return
    hidden = {column.id: column.name for column in output_columns(relation) if column.id not in key_ids}
    for apply in late:
        for column_id in sorted(outer_ids(apply.right)):
            if column_id in hidden:
                raise SQLParseError(
                    f"'{hidden[column_id]}' must appear in the GROUP BY clause or be used in an aggregation function. "
                    "Perhaps you grouped by an alias that clashes with a column in the relations"
                )


def _aggregate_name(aggregate: Aggregate) -> str:
    return aggregate.function


def _split_applies(
    block: Block, keys: list[Item], aggregates: list[Item]
) -> tuple[list[PendingApply], list[PendingApply]]:
    """Subqueries used by group keys and inside aggregates go beneath the Aggregation, the others above."""
    beneath = {i for item in (*keys, *aggregates) for i in column_ids(item.expression)}
    early = [apply for apply in block.applies if apply.id in beneath]
    return early, [apply for apply in block.applies if apply.id not in beneath]


# --- windows, sets, projection ---------------------------------------------------------------------------------------


def _projected(block: Block, relation: Relation, *, is_distinct: bool) -> Result:
    relation = with_applies(relation, block.applies)
    if block.has_window:
        relation = _with_windows(block, relation)
    relation = _with_sets(block, relation)
    context = block.context
    items: list[Item] = []
    taken: set[int] = set()
    by_key: dict[bytes, Column] = {}
    for output in block.outputs:
        expression = output.expression
        item_id = expression.id if isinstance(expression, Column) and expression.id not in taken else context.next_id()
        taken.add(item_id)
        items.append(Item(item_id, output.name, expression))
        by_key.setdefault(key_of(expression), Column(item_id, output.name, expression.type))
    columns = tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items)
    if is_distinct:
        return _distinct(block, relation, items, columns, by_key)
    keys: list[SortKey] = []
    hidden: list[Item] = []
    for expression, written in block.sort:
        column = by_key.get(key_of(expression))
        if column is None:
            hidden_id = (
                expression.id if isinstance(expression, Column) and expression.id not in taken else context.next_id()
            )
            taken.add(hidden_id)
            column = Column(hidden_id, output_name(written.expression), expression.type)
            hidden.append(Item(hidden_id, column.name, expression))
            by_key[key_of(expression)] = column
        keys.append(sort_key(column, written))
    result: Relation = Project(relation, (*items, *hidden))
    if keys:
        result = Sort(result, tuple(keys))
    if hidden:
        result = Project(result, tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in columns))
    return Result(result, columns)


def _distinct(
    block: Block, relation: Relation, items: list[Item], columns: tuple[OutputColumn, ...], by_key: dict[bytes, Column]
) -> Result:
    """DISTINCT is an Aggregation by the whole select list; ORDER BY can only name what is in it."""
    result: Relation = Project(relation, tuple(items))
    passed = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in columns)
    for column in columns:
        if column.type.kind in UNORDERED_KINDS - {"array", "object"}:
            raise UnsupportedFeature(f"Cannot use DISTINCT on column '{column.name}' of type {column.type.name}")
    result = Aggregation(result, passed, ())
    keys: list[SortKey] = []
    for expression, written in block.sort:
        found = by_key.get(key_of(expression))
        if found is None:
            raise SQLParseError(
                f"ORDER BY '{printed(written.expression)}' must appear in the select list of SELECT DISTINCT"
            )
        keys.append(sort_key(found, written))
    return Result(Sort(result, tuple(keys)) if keys else result, columns)


def _with_windows(block: Block, relation: Relation) -> Relation:
    windows: list[Item] = []
    known: dict[bytes, Column] = {}

    def replaced(expression: Expression) -> Expression:
        if isinstance(expression, Window):
            encoded = key_of(expression)
            column = known.get(encoded)
            if column is None:
                column = Column(block.context.next_id(), expression.function, expression.type)
                known[encoded] = column
                windows.append(Item(column.id, column.name, expression))
            return column
        return map_parts(expression, replaced)

    for output in block.outputs:
        output.expression = replaced(output.expression)
    block.sort = [(replaced(expression), item) for expression, item in block.sort]
    block.sets = [Item(item.id, item.name, replaced(item.expression)) for item in block.sets]
    return WindowCalculation(relation, tuple(windows)) if windows else relation


def _with_sets(block: Block, relation: Relation) -> Relation:
    """Set-returning functions; one whose argument is another's column goes above it."""
    waiting = list(block.sets)
    while waiting:
        open_ids = {item.id for item in waiting}
        ready = [item for item in waiting if not column_ids(item.expression) & open_ids]
        assert ready, "set-returning functions cannot need each other"
        relation = ProjectSet(relation, tuple(ready))
        waiting = [item for item in waiting if item not in ready]
    return relation
