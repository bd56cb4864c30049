"""Rewriting expressions: columns replaced, parts mapped.

In: an expression and what to put in place of its parts. Out: the new expression; parts that do not change are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

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

Change = Callable[[Expression], Expression | None]


def mapped(expression: Expression, change: Change) -> Expression:
    """The expression with ``change`` applied from the top; None means: go on with the parts."""
    changed = change(expression)
    if changed is not None:
        return changed
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return expression
        case Call():
            return msgspec.structs.replace(expression, arguments=_all(expression.arguments, change))
        case Cast():
            return msgspec.structs.replace(expression, argument=mapped(expression.argument, change))
        case Case():
            branches = tuple(Branch(mapped(b.condition, change), mapped(b.value, change)) for b in expression.branches)
            return msgspec.structs.replace(expression, branches=branches, default=mapped(expression.default, change))
        case InList():
            operand = mapped(expression.operand, change)
            return msgspec.structs.replace(expression, operand=operand, items=_all(expression.items, change))
        case Aggregate():
            return msgspec.structs.replace(
                expression,
                arguments=_all(expression.arguments, change),
                filter=None if expression.filter is None else mapped(expression.filter, change),
                order_by=mapped_keys(expression.order_by, change),
            )
        case Window():
            return msgspec.structs.replace(
                expression,
                arguments=_all(expression.arguments, change),
                partition_by=_all(expression.partition_by, change),
                order_by=mapped_keys(expression.order_by, change),
                filter=None if expression.filter is None else mapped(expression.filter, change),
            )
        case _:
            assert_never(expression)


def _all(expressions: tuple[Expression, ...], change: Change) -> tuple[Expression, ...]:
    return tuple(mapped(expression, change) for expression in expressions)


def mapped_keys(keys: tuple[SortKey, ...], change: Change) -> tuple[SortKey, ...]:
    return tuple(msgspec.structs.replace(key, expression=mapped(key.expression, change)) for key in keys)


def substituted(expression: Expression, known: Mapping[int, Expression]) -> Expression:
    """Columns replaced by what computes them."""
    return mapped(expression, lambda part: known.get(part.id) if isinstance(part, Column) else None)


def outer_bound(expression: Expression, known: Mapping[int, Expression]) -> Expression:
    """Outer columns replaced by columns at hand."""
    return mapped(expression, lambda part: known.get(part.id) if isinstance(part, OuterColumn) else None)
