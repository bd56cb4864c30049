"""Taking expressions and relations apart and putting them together again.

Pure helpers for the rules and the planner: children, rebuilding, substitution, and the questions that every rule asks (which
columns does this name, may it be moved). Rebuilding keeps the identity of what does not change, so that "did the rule do
anything" is cheap to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from cratepy.model.expressions import (
    FALSE,
    TRUE,
    Aggregate,
    Branch,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SortKey,
    SubqueryValue,
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
    TextMatch,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.model.types import BOOLEAN

ExpressionMap = Callable[[Expression], Expression]
_LITERALS: Final = frozenset({Literal})


# --- expressions -----------------------------------------------------------------------------------------------------


def parts(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside, in the order they are written; not the items of a list of literals.

    No rule has anything to do with a literal in a list, and lists have thousands.
    """
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return ()
        case Call():
            return expression.arguments
        case Cast():
            return (expression.argument,)
        case Case():
            branches = tuple(part for branch in expression.branches for part in (branch.condition, branch.value))
            return (*branches, expression.default)
        case InList():
            if _LITERALS.issuperset(map(type, expression.items)):
                return (expression.operand,)
            return (expression.operand, *expression.items)
        case Aggregate():
            condition = () if expression.filter is None else (expression.filter,)
            return (*expression.arguments, *condition, *(key.expression for key in expression.order_by))
        case Window():
            condition = () if expression.filter is None else (expression.filter,)
            order = tuple(key.expression for key in expression.order_by)
            return (*expression.arguments, *condition, *expression.partition_by, *order, *_frame_parts(expression))
        case _:
            assert_never(expression)


def _frame_parts(window: Window) -> tuple[Expression, ...]:
    if window.frame is None:
        return ()
    return tuple(b.offset for b in (window.frame.start, window.frame.end) if b.offset is not None)


def map_parts(expression: Expression, change: ExpressionMap) -> Expression:
    """The expression with ``change`` applied to each part; itself if no part changes."""
    before = parts(expression)
    after = tuple(change(part) for part in before)
    if all(old is new for old, new in zip(before, after, strict=True)):
        return expression
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return expression
        case Call():
            return msgspec.structs.replace(expression, arguments=after)
        case Cast():
            return msgspec.structs.replace(expression, argument=after[0])
        case Case():
            branches = tuple(Branch(after[i], after[i + 1]) for i in range(0, len(after) - 1, 2))
            return msgspec.structs.replace(expression, branches=branches, default=after[-1])
        case InList():
            return msgspec.structs.replace(expression, operand=after[0], items=after[1:] or expression.items)
        case Aggregate():
            return _rebuild_aggregate(expression, list(after))
        case Window():
            return _rebuild_window(expression, list(after))
        case _:
            assert_never(expression)


def _rebuild_aggregate(aggregate: Aggregate, after: list[Expression]) -> Aggregate:
    arguments = tuple(after.pop(0) for _ in aggregate.arguments)
    condition = None if aggregate.filter is None else after.pop(0)
    order = tuple(msgspec.structs.replace(key, expression=after.pop(0)) for key in aggregate.order_by)
    return msgspec.structs.replace(aggregate, arguments=arguments, filter=condition, order_by=order)


def _rebuild_window(window: Window, after: list[Expression]) -> Window:
    arguments = tuple(after.pop(0) for _ in window.arguments)
    condition = None if window.filter is None else after.pop(0)
    partition = tuple(after.pop(0) for _ in window.partition_by)
    order = tuple(msgspec.structs.replace(key, expression=after.pop(0)) for key in window.order_by)
    frame = window.frame
    if frame is not None:
        start, end = (
            bound if bound.offset is None else msgspec.structs.replace(bound, offset=after.pop(0))
            for bound in (frame.start, frame.end)
        )
        frame = msgspec.structs.replace(frame, start=start, end=end)
    return msgspec.structs.replace(
        window, arguments=arguments, filter=condition, partition_by=partition, order_by=order, frame=frame
    )


def transform(expression: Expression, change: ExpressionMap) -> Expression:
    """Apply ``change`` to every node, innermost first."""
    return change(map_parts(expression, lambda part: transform(part, change)))


def nodes(expression: Expression) -> Iterator[Expression]:
    """The expression and everything inside it."""
    yield expression
    for part in parts(expression):
        yield from nodes(part)


def columns_of(*expressions: Expression) -> frozenset[int]:
    """Ids of the columns named (not those of an outer query)."""
    return frozenset(n.id for expression in expressions for n in nodes(expression) if isinstance(n, Column))


def outer_columns_of(expression: Expression) -> frozenset[int]:
    """Ids of the outer query's columns named."""
    return frozenset(node.id for node in nodes(expression) if isinstance(node, OuterColumn))


def substitute(expression: Expression, values: Mapping[int, Expression]) -> Expression:
    """Replace columns by what ``values`` has for their ids."""
    if not values:
        return expression

    def change(node: Expression) -> Expression:
        return values.get(node.id, node) if isinstance(node, Column) else node

    return transform(expression, change)


def is_constant(expression: Expression) -> bool:
    """Whether the value is the same for every row of the statement: no columns of any kind."""
    return type(expression) is Literal or not any(
        isinstance(node, Column | OuterColumn | Aggregate | Window) for node in nodes(expression)
    )


def conjuncts(predicate: Expression | None) -> list[Expression]:
    """The predicates joined by AND, in order; none for a missing or TRUE predicate."""
    return [] if predicate is None else [part for part in _terms(predicate, "op_and") if part != TRUE]


def disjuncts(predicate: Expression) -> list[Expression]:
    """The predicates joined by OR, in order."""
    return _terms(predicate, "op_or")


def _terms(expression: Expression, function: str) -> list[Expression]:
    """The operands of a chain of one operator; without recursion, because chains are as long as clients write them."""
    found: list[Expression] = []
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Call) and node.function == function:
            waiting.extend(reversed(node.arguments))
        else:
            found.append(node)
    return found


def conjunction(predicates: Sequence[Expression]) -> Expression | None:
    """The predicates joined by AND, each only once unless they are very many; None if there is none."""
    different: list[Expression] = []
    for predicate in predicates:
        # Literals may hold lists, so expressions have no hash and each is compared with all.
        if len(predicates) > _COMPARED_MAX or predicate not in different:
            different.append(predicate)
    return _chain("op_and", different) if different else None


#: Longer chains of AND and OR are kept as balanced trees, so that walking them needs few frames of Python's stack.
_CHAIN_MAX: Final = 16
_COMPARED_MAX: Final = 200


def _chain(function: str, terms: Sequence[Expression]) -> Expression:
    if len(terms) > _CHAIN_MAX:
        middle = len(terms) // 2
        return Call(function, (_chain(function, terms[:middle]), _chain(function, terms[middle:])), BOOLEAN)
    result = terms[0]
    for term in terms[1:]:
        result = Call(function, (result, term), BOOLEAN)
    return result


def with_short_chains(expression: Expression) -> Expression:
    """The expression with long chains of AND and OR as balanced trees; itself if there is none."""
    if isinstance(expression, Call) and expression.function in ("op_and", "op_or"):
        terms = _terms(expression, expression.function)
        if len(terms) > _CHAIN_MAX:
            return _chain(expression.function, [with_short_chains(term) for term in terms])
    return map_parts(expression, with_short_chains)


def is_false(predicate: Expression) -> bool:
    """Whether the predicate is a constant that keeps no row."""
    return predicate == FALSE or (isinstance(predicate, Literal) and predicate.value is None)


# --- relations -------------------------------------------------------------------------------------------------------


def with_children(relation: Relation, new: Sequence[Relation]) -> Relation:
    """The operator over other children; itself if they are the same objects."""
    if all(a is b for a, b in zip(children(relation), new, strict=True)):
        return relation
    match relation:
        case Scan() | SystemScan() | TableFunction() | Values() | RecursiveReference() | ExchangeInput():
            return relation
        case Filter() | Project() | ProjectSet() | Aggregation() | WindowCalculation() | Sort() | Limit():
            return msgspec.structs.replace(relation, child=new[0])
        case Join() | Apply():
            return msgspec.structs.replace(relation, left=new[0], right=new[1])
        case SetOperation():
            return msgspec.structs.replace(relation, children=tuple(new))
        case RecursiveQuery():
            return msgspec.structs.replace(relation, base=new[0], step=new[1])
        case _:
            assert_never(relation)


def map_relations(relation: Relation, change: Callable[[Relation], Relation]) -> Relation:
    """Apply ``change`` to every operator, lowest first."""
    return change(with_children(relation, [map_relations(child, change) for child in children(relation)]))


def operators(relation: Relation) -> Iterator[Relation]:
    """The operator and all below it, depth first, left to right."""
    yield relation
    for child in children(relation):
        yield from operators(child)


def map_expressions(relation: Relation, change: ExpressionMap) -> Relation:
    """The operator with ``change`` applied to its own expressions; itself if none changes."""
    match relation:
        case RecursiveReference() | ExchangeInput() | SetOperation() | RecursiveQuery():
            return relation
        case Scan():
            return _map_scan(relation, change)
        case SystemScan():
            return relation if relation.filter is None else _changed(relation, filter=change(relation.filter))
        case TableFunction():
            return _changed(relation, arguments=_each(relation.arguments, change))
        case Values():
            rows = tuple(_each(row, change) for row in relation.rows)
            same = all(a is b for a, b in zip(rows, relation.rows, strict=True))
            return relation if same else msgspec.structs.replace(relation, rows=rows)
        case Filter():
            return _changed(relation, predicate=change(relation.predicate))
        case Project() | ProjectSet() | WindowCalculation():
            return _changed(relation, items=map_items(relation.items, change))
        case Aggregation():
            keys, aggregates = map_items(relation.keys, change), map_items(relation.aggregates, change)
            return _changed(relation, keys=keys, aggregates=aggregates)
        case Join():
            return relation if relation.condition is None else _changed(relation, condition=change(relation.condition))
        case Apply():
            return relation if relation.operand is None else _changed(relation, operand=change(relation.operand))
        case Sort():
            return _changed(relation, keys=map_keys(relation.keys, change))
        case Limit():
            count = None if relation.count is None else change(relation.count)
            offset = None if relation.offset is None else change(relation.offset)
            return _changed(relation, count=count, offset=offset)
        case _:
            assert_never(relation)


def _map_match(match: TextMatch, change: ExpressionMap) -> TextMatch:
    text = change(match.text)
    if match.late_options or match.late_boosts:
        options = tuple((name, change(value)) for name, value in match.late_options)
        boosts = tuple(None if boost is None else change(boost) for boost in match.late_boosts)
        return msgspec.structs.replace(match, text=text, late_options=options, late_boosts=boosts)
    return match if text is match.text else msgspec.structs.replace(match, text=text)


def _map_scan(scan: Scan, change: ExpressionMap) -> Relation:
    matches: list[TextMatch] = [_map_match(match, change) for match in scan.matches]
    same = all(a is b for a, b in zip(matches, scan.matches, strict=True))
    best = scan.best
    if best is not None:
        count = change(best.count)
        best = best if count is best.count else msgspec.structs.replace(best, count=count)
    return _changed(
        scan,
        filter=None if scan.filter is None else change(scan.filter),
        matches=scan.matches if same else tuple(matches),
        best=best,
    )


def _changed(relation: Relation, **values: object) -> Relation:
    if all(getattr(relation, name) is value for name, value in values.items()):
        return relation
    return msgspec.structs.replace(relation, **values)


def _each(expressions: tuple[Expression, ...], change: ExpressionMap) -> tuple[Expression, ...]:
    new = tuple(change(expression) for expression in expressions)
    return expressions if all(a is b for a, b in zip(expressions, new, strict=True)) else new


def map_items(items: tuple[Item, ...], change: ExpressionMap) -> tuple[Item, ...]:
    new = tuple(_item(item, change) for item in items)
    return items if all(a is b for a, b in zip(items, new, strict=True)) else new


def _item(item: Item, change: ExpressionMap) -> Item:
    expression = change(item.expression)
    return item if expression is item.expression else Item(item.id, item.name, expression)


def map_keys(keys: tuple[SortKey, ...], change: ExpressionMap) -> tuple[SortKey, ...]:
    new = []
    for key in keys:
        expression = change(key.expression)
        new.append(key if expression is key.expression else msgspec.structs.replace(key, expression=expression))
    return keys if all(a is b for a, b in zip(keys, new, strict=True)) else tuple(new)


def expressions_of(relation: Relation) -> list[Expression]:
    """The operator's own expressions."""
    found: list[Expression] = []

    def note(expression: Expression) -> Expression:
        found.append(expression)
        return expression

    map_expressions(relation, note)
    return found


def output_ids(relation: Relation) -> frozenset[int]:
    return frozenset(column.id for column in output_columns(relation))


def reference(column: OutputColumn) -> Column:
    """The expression that names an output column."""
    return Column(column.id, column.name, column.type)


def passed_on(column: OutputColumn) -> Item:
    """The item that passes an output column on."""
    return Item(column.id, column.name, reference(column))


def is_passed_on(item: Item) -> bool:
    return isinstance(item.expression, Column) and item.expression.id == item.id


def with_output(relation: Relation, columns: Sequence[OutputColumn]) -> Relation:
    """The relation giving exactly these of its columns, in this order: itself if it does already."""
    if output_columns(relation) == tuple(columns):
        return relation
    return Project(relation, tuple(passed_on(column) for column in columns))


def outer_references(relation: Relation) -> frozenset[int]:
    """Ids of columns of enclosing queries that the tree names: outer columns that no Apply inside provides."""
    own = frozenset(i for expression in expressions_of(relation) for i in outer_columns_of(expression))
    if isinstance(relation, Apply):
        inner = outer_references(relation.right) - output_ids(relation.left)
        return own | outer_references(relation.left) | inner
    return own.union(*(outer_references(child) for child in children(relation)))


def all_ids(relation: Relation) -> Iterator[int]:
    """Every column id made anywhere in the tree."""
    for operator in operators(relation):
        yield from (column.id for column in output_columns(operator))
