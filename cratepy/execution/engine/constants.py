"""Constants: values of expressions without columns, and folding them while a statement is compiled.

In: expressions without columns. Out: SQL values, or the expressions with their constant parts as literals. All in Python
and in microseconds; the vectorised engine is not started for it. Errors of constants are CrateDB's SQLParseException
family: an overflow among them is NumericOverflow, a failed cast names the literal as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cratepy import limits
from cratepy.errors import (
    CircuitBreaking,
    ConversionError,
    CrateError,
    DivisionByZero,
    NumericOverflow,
    RowDivisionByZero,
    RowOverflow,
    ValueConversionError,
)
from cratepy.execution.engine.kernels import weight
from cratepy.execution.engine.substitution import mapped
from cratepy.functions.casts import convert
from cratepy.functions.evaluate import NO_COLUMNS, has_columns, is_foldable, value_of
from cratepy.functions.texts_of_literals import literal_text, type_text
from cratepy.model.expressions import Call, Case, Cast, Expression, Literal, Parameter
from cratepy.model.plan import StatementContext

#: Folding needs no statement: what depends on one is not folded.
_NO_STATEMENT: Final = StatementContext(job_id="", handler_id="", user="", text="", now_ms=0)


def constant_values(expressions: Sequence[Expression], context: StatementContext) -> list[Any]:
    """The SQL values of expressions without columns. Raises CrateError (a failed cast as for a row's value)."""
    found: list[Any] = []
    taken = 0
    for expression in expressions:
        found.append(_constant_value(expression, context))
        taken += 0 if isinstance(expression, Literal | Parameter) else weight(found[-1])
        if taken > limits.RESULT_ROW_BYTES_MAX:
            raise CircuitBreaking(f"Constants take more than the limit of {limits.RESULT_ROW_BYTES_MAX} bytes")
    return found


def _constant_value(expression: Expression, context: StatementContext) -> Any:
    if isinstance(expression, Literal):
        return expression.value
    if isinstance(expression, Parameter):
        return context.parameters[expression.index]
    return value_of(expression, NO_COLUMNS, context)


def fold(expressions: Sequence[Expression]) -> list[Expression]:
    """Deterministic parts without columns as literals. Raises errors of the SQLParseException family.

    Branches of CASE and later arguments of COALESCE, AND, OR may never be evaluated, so an error in them is left to the
    rows that meet it.
    """
    return [folded(expression) for expression in expressions]


def folded(expression: Expression) -> Expression:
    is_lazy = isinstance(expression, Case) or (isinstance(expression, Call) and expression.function in _LAZY)
    fold_part = _tried if is_lazy else folded
    expression = mapped(expression, lambda part: None if part is expression else fold_part(part))
    if isinstance(expression, Literal) or has_columns(expression) or not is_foldable(expression):
        return expression
    try:
        if isinstance(expression, Cast) and isinstance(expression.argument, Literal) and not expression.is_try:
            return Literal(_cast_literal(expression, expression.argument), expression.type)
        value = value_of(expression, NO_COLUMNS, _NO_STATEMENT)
        # A plan is kept for the next time.
        return Literal(value, expression.type) if weight(value) <= limits.FOLDED_BYTES_MAX else expression
    except CrateError as error:
        raise constant_error(error) from error


#: What may leave some of its arguments unevaluated.
_LAZY: Final = frozenset({"coalesce", "op_and", "op_or", "if"})


def _tried(expression: Expression) -> Expression:
    """A part that may never be evaluated; a literal of the wrong form is refused all the same."""
    if isinstance(expression, Cast) and expression.is_implicit and isinstance(expression.argument, Literal):
        return folded(expression)
    try:
        return folded(expression)
    except CrateError:
        return expression


def _cast_literal(expression: Cast, argument: Literal) -> Any:
    try:
        return convert(argument.value, argument.type, expression.type, is_implicit=expression.is_implicit)
    except ValueConversionError as error:
        if not error.message.startswith("Cannot cast value") or expression.type.kind == "object":
            raise
        shown = literal_text(argument.value, argument.type)
        source = type_text(argument.type)
        raise ConversionError(f"Cannot cast `{shown}` of type `{source}` to type `{expression.type.name}`") from error


def constant_error(error: CrateError) -> CrateError:
    """The error of a constant: what a row's error is called while a statement is compiled."""
    match error:
        case RowDivisionByZero():
            return DivisionByZero(error.message)
        case RowOverflow():
            return NumericOverflow(error.message)
        case ValueConversionError():
            return ConversionError(error.message)
    return error
