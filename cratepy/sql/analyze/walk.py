"""Walking typed expressions and relations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, assert_never

import msgspec

from cratepy.model.expressions import (
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

Change = Callable[[Expression], Expression]


def map_parts(expression: Expression, change: Change) -> Expression:
    """The expression with its direct parts changed."""
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return expression
        case Call():
            return Call(expression.function, tuple(map(change, expression.arguments)), expression.type)
        case Cast():
            return msgspec.structs.replace(expression, argument=change(expression.argument))
        case Case():
            branches = tuple(Branch(change(b.condition), change(b.value)) for b in expression.branches)
            return Case(branches, change(expression.default), expression.type)
        case InList():
            return InList(change(expression.operand), tuple(map(change, expression.items)), expression.type)
        case Aggregate():
            return msgspec.structs.replace(
                expression,
                arguments=tuple(map(change, expression.arguments)),
                filter=None if expression.filter is None else change(expression.filter),
                order_by=tuple(map_sort_key(key, change) for key in expression.order_by),
            )
        case Window():
            return msgspec.structs.replace(
                expression,
                arguments=tuple(map(change, expression.arguments)),
                partition_by=tuple(map(change, expression.partition_by)),
                order_by=tuple(map_sort_key(key, change) for key in expression.order_by),
                filter=None if expression.filter is None else change(expression.filter),
            )
        case _:
            assert_never(expression)


def map_sort_key(key: SortKey, change: Change) -> SortKey:
    return SortKey(change(key.expression), key.is_descending, key.nulls_first)


def parts(expression: Expression) -> tuple[Expression, ...]:
    """The direct parts."""
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return ()
        case Call():
            return expression.arguments
        case Cast():
            return (expression.argument,)
        case Case():
            pairs = tuple(part for branch in expression.branches for part in (branch.condition, branch.value))
            return (*pairs, expression.default)
        case InList():
            return (expression.operand, *expression.items)
        case Aggregate():
            keys = tuple(key.expression for key in expression.order_by)
            return (*expression.arguments, *keys, *(() if expression.filter is None else (expression.filter,)))
        case Window():
            keys = tuple(key.expression for key in expression.order_by)
            rest = () if expression.filter is None else (expression.filter,)
            return (*expression.arguments, *expression.partition_by, *keys, *rest)
        case _:
            assert_never(expression)


def nodes(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, outermost first."""
    stack = [expression]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(parts(current))


def column_ids(expression: Expression) -> set[int]:
    return {node.id for node in nodes(expression) if isinstance(node, Column)}


def key_of(expression: Expression) -> bytes:
    """Equal expressions have equal keys (they may hold lists and so have no hash)."""
    return msgspec.msgpack.encode(expression)


def outer_ids(relation: Any) -> set[int]:
    """The ids that OuterColumns anywhere in a relation name."""
    found: set[int] = set()
    stack: list[Any] = [relation]
    while stack:
        current = stack.pop()
        if isinstance(current, OuterColumn):
            found.add(current.id)
        elif isinstance(current, msgspec.Struct):
            stack.extend(getattr(current, name) for name in current.__struct_fields__)
        elif isinstance(current, tuple):
            stack.extend(current)
    return found
