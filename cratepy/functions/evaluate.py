"""Expressions evaluated in Python, one row at a time: the engine's twin.

In: a typed expression, the statement's context and a row as a mapping from column id to SQL value. Out: a SQL value.
Constants, folding and small batches come here, in microseconds; the vectorised engine does the rest and must agree
(tests run both). Its own room because ``sql`` folds constants without knowing the engine. No aggregates, no windows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, assert_never

from cratepy.errors import CrateError
from cratepy.functions.casts import convert, tried
from cratepy.functions.operators import any_of, compared
from cratepy.functions.registry import declaration_of
from cratepy.functions.signatures import Declaration
from cratepy.model.expressions import (
    Aggregate,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SubqueryValue,
    Window,
)
from cratepy.model.plan import StatementContext
from cratepy.model.types import DataType

Row = Mapping[int, Any]
#: The row of an expression without columns.
NO_COLUMNS: Final[Row] = {}
_ROW_FUNCTIONS_CACHED: Final = 4096


def value_of(expression: Expression, row: Row, context: StatementContext) -> Any:
    """The expression's value for a row. Raises a CrateError as the engine would for that row."""
    match expression:
        case Literal():
            return expression.value
        case Column() | OuterColumn():
            return row[expression.id]
        case Parameter():
            return context.parameters[expression.index]
        case SubqueryValue():
            return context.subquery_values[expression.slot]
        case Cast():
            return _cast(expression, row, context)
        case Call():
            return _call(expression, row, context)
        case Case():
            for branch in expression.branches:
                if value_of(branch.condition, row, context) is True:
                    return value_of(branch.value, row, context)
            return value_of(expression.default, row, context)
        case InList():
            return _in_list(expression, row, context)
        case Aggregate() | Window():
            raise AssertionError(f"{expression.function} is not computed row by row")
        case _:
            assert_never(expression)


def _cast(expression: Cast, row: Row, context: StatementContext) -> Any:
    source = expression.argument.type
    if not expression.is_try:
        value = value_of(expression.argument, row, context)
        return convert(value, source, expression.type, is_implicit=expression.is_implicit)
    try:
        value = value_of(expression.argument, row, context)
    except CrateError:
        return None
    return tried(value, source, expression.type)


def _call(expression: Call, row: Row, context: StatementContext) -> Any:
    function = expression.function
    if function == "op_and" or function == "op_or":
        return _logic(expression, row, context, stops_at=function == "op_or")
    if function == "coalesce":
        found = (value_of(argument, row, context) for argument in expression.arguments)
        return next((value for value in found if value is not None), None)
    if function == "if":
        condition, *values = expression.arguments
        chosen = values[:1] if value_of(condition, row, context) is True else values[1:]
        return value_of(chosen[0], row, context) if chosen else None
    declaration = declaration_of(function)
    arguments = [value_of(argument, row, context) for argument in expression.arguments]
    if not declaration.takes_null and None in arguments:
        return None
    compute = row_function(function, tuple(a.type for a in expression.arguments), expression.type)
    return compute(context, *arguments) if declaration.takes_context else compute(*arguments)


def _logic(expression: Call, row: Row, context: StatementContext, *, stops_at: bool) -> bool | None:
    """AND (stops at false) and OR (stops at true): the rest is not evaluated."""
    answer: bool | None = not stops_at
    for argument in expression.arguments:
        value = value_of(argument, row, context)
        if value is stops_at:
            return stops_at
        if value is None:
            answer = None
    return answer


def _in_list(expression: InList, row: Row, context: StatementContext) -> bool | None:
    operand = value_of(expression.operand, row, context)
    items = [value_of(item, row, context) for item in expression.items]
    return any_of(compared("=", expression.operand.type), operand, items)


@functools.lru_cache(maxsize=_ROW_FUNCTIONS_CACHED)
def row_function(name: str, arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    """The Python function of a call, chosen by its types."""
    declaration: Declaration = declaration_of(name)
    if declaration.row_of is not None:
        return declaration.row_of(arguments, result)
    assert declaration.row is not None, name
    return declaration.row


def subexpressions(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it."""
    yield expression
    for child in children(expression):
        yield from subexpressions(child)


def children(expression: Expression) -> tuple[Expression, ...]:
    """What the expression is made of, one level down."""
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return ()
        case Call():
            return expression.arguments
        case Cast():
            return (expression.argument,)
        case Case():
            parts = [part for branch in expression.branches for part in (branch.condition, branch.value)]
            return (*parts, expression.default)
        case InList():
            return (expression.operand, *expression.items)
        case Aggregate():
            keys = tuple(key.expression for key in expression.order_by)
            return expression.arguments + keys + ((expression.filter,) if expression.filter is not None else ())
        case Window():
            keys = tuple(key.expression for key in expression.order_by)
            condition = (expression.filter,) if expression.filter is not None else ()
            return expression.arguments + expression.partition_by + keys + condition
        case _:
            assert_never(expression)


def has_columns(expression: Expression) -> bool:
    """Whether the value depends on a row."""
    return any(isinstance(part, Column | OuterColumn | Aggregate | Window) for part in subexpressions(expression))


def is_foldable(expression: Expression) -> bool:
    """Whether the value is the same in every statement and quickly had; ``now()`` and parameters are not of this kind."""
    for part in subexpressions(expression):
        if isinstance(part, Parameter | SubqueryValue):
            return False
        if isinstance(part, Call):
            declaration = declaration_of(part.function)
            if not declaration.is_deterministic or declaration.is_costly:
                return False
    return True


def is_volatile(expression: Expression) -> bool:
    """Whether the value differs from row to row although no column does: random(), new ids."""
    for part in subexpressions(expression):
        if isinstance(part, Call):
            declaration = declaration_of(part.function)
            if not declaration.is_deterministic and not declaration.takes_context:
                return True
    return False
