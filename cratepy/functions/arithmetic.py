"""Arithmetic operators: ``op_+ op_- op_* op_/ op_% op_^ op_negate`` and ``mod``.

Source: CrateDB's arithmetic functions. Integer overflow is an error, integer division truncates towards zero, floats follow
IEEE 754, numerics are exact (a quotient has 38 digits), timestamps add intervals by the calendar.
"""

from __future__ import annotations

import decimal
import math
import operator
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import RowDivisionByZero, RowOverflow
from cratepy.functions import intervals
from cratepy.functions.arrow_kernels import checked_arithmetic, float_power
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.values import DECIMAL_CONTEXT, checked_integer, decimal_of, float32, numeric_text, overflow_word
from cratepy.model.types import DataType

_BOTH: Final = (
    "integer,integer -> integer",
    "bigint,bigint -> bigint",
    "timestamp,timestamp -> timestamp",
    "timestamptz,timestamptz -> timestamptz",
    "real,real -> real",
    "double,double -> double",
    "numeric,numeric -> numeric",
)
_WITH_INTERVAL: Final = (
    "interval,timestamp -> timestamp",
    "timestamp,interval -> timestamp",
    "interval,timestamptz -> timestamptz",
    "timestamptz,interval -> timestamptz",
    "interval,date -> timestamp",
    "date,interval -> timestamp",
    "interval,interval -> interval",
)
_MINUS: Final = (
    "integer,integer -> integer",
    "bigint,bigint -> bigint",
    "real,real -> real",
    "double,double -> double",
    "numeric,numeric -> numeric",
    "timestamp,timestamp -> interval",
    "timestamptz,timestamptz -> interval",
    "timestamp,interval -> timestamp",
    "timestamptz,interval -> timestamptz",
    "date,interval -> timestamp",
    "interval,interval -> interval",
)
_QUOTIENT: Final = decimal.Context(prec=38, rounding=decimal.ROUND_HALF_UP)
_FLOATS: Final = frozenset({"real", "double precision"})


def truncated_division(left: int, right: int) -> int:
    """Division towards zero. Raises RowDivisionByZero."""
    if right == 0:
        raise RowDivisionByZero("/ by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    return left - right * truncated_division(left, right)


def float_division(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _float_remainder(left: float, right: float) -> float:
    if right == 0 or math.isinf(left) or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.fmod(left, right)


def decimal_quotient(left: decimal.Decimal, right: decimal.Decimal) -> decimal.Decimal:
    if right == 0:
        raise RowDivisionByZero("/ by zero")
    return _QUOTIENT.divide(left, right)


def _decimal_remainder(left: decimal.Decimal, right: decimal.Decimal) -> decimal.Decimal:
    if right == 0:
        raise RowDivisionByZero("/ by zero")
    return DECIMAL_CONTEXT.remainder(left, right)


_INTEGER: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": truncated_division,
    "%": _remainder,
}
_FLOAT: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": float_division,
    "%": _float_remainder,
}
_DECIMAL: Final[dict[str, Callable[[Any, Any], decimal.Decimal]]] = {
    "+": DECIMAL_CONTEXT.add,
    "-": DECIMAL_CONTEXT.subtract,
    "*": DECIMAL_CONTEXT.multiply,
    "/": decimal_quotient,
    "%": _decimal_remainder,
}
_INTERVAL: Final[dict[tuple[str, bool, bool], Callable[[Any, Any], Any]]] = {
    ("+", True, True): intervals.add,
    ("-", True, True): intervals.subtract,
    ("+", False, True): intervals.add_to_timestamp,
    ("+", True, False): lambda left, right: intervals.add_to_timestamp(right, left),
    ("-", False, True): lambda left, right: intervals.add_to_timestamp(left, intervals.negate(right)),
    ("*", True, False): intervals.multiply,
    ("*", False, True): lambda left, right: intervals.multiply(right, left),
    ("-", False, False): intervals.between,
}


def _arithmetic_row(symbol: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    def make(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
        left, right = (argument.kind == "interval" for argument in arguments)
        if left or right or result.kind == "interval":
            return _INTERVAL[symbol, left, right]
        if result.kind == "numeric":
            compute = _DECIMAL[symbol]
            return lambda a, b: numeric_text(compute(decimal_of(a), decimal_of(b)))
        if result.kind in _FLOATS:
            floating = _FLOAT[symbol]
            return floating if result.kind != "real" else lambda a, b: float32(floating(a, b))
        exact, kind = _INTEGER[symbol], result.kind
        return lambda a, b: checked_integer(exact(a, b), kind)

    return make


def _arithmetic_sql(symbol: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    def choose(arguments: tuple[DataType, ...], result: DataType) -> str | None:
        kinds = [argument.kind for argument in arguments]
        if result.kind in _FLOATS:
            return f"({{0}} {symbol} {{1}})"
        if result.kind == "integer" and kinds == ["integer", "integer"]:
            if symbol in "+-*":
                return f"arrow_cast(CAST({{0}} AS BIGINT) {symbol} CAST({{1}} AS BIGINT), 'Int32')"
            return f"({{0}} {symbol} {{1}})"
        if result.kind == "bigint" and kinds == ["bigint", "bigint"] and symbol in "/%":
            # The engine's own refuse zero and what does not fit; the smallest number modulo -1 is 0.
            return f"({{0}} {symbol} {{1}})"
        if result.is_timestamp and symbol in "+-" and kinds[0] == result.kind and kinds[1] == "interval":
            return f"({{0}} {symbol} {{1}})"
        if result.kind == "numeric" and symbol in "+-*":
            return _decimal_sql(symbol, arguments)
        return None

    return choose


def _decimal_sql(symbol: str, arguments: tuple[DataType, ...]) -> str | None:
    """Native decimals while the exact result fits 38 digits of which 18 are a fraction."""
    digits = []
    for argument in arguments:
        if argument.precision is None:
            return None
        digits.append((argument.precision, argument.scale or 0))
    (left, left_scale), (right, right_scale) = digits
    scale = left_scale + right_scale if symbol == "*" else max(left_scale, right_scale)
    whole = (
        left - left_scale + right - right_scale + 1
        if symbol == "*"
        else max(left - left_scale, right - right_scale) + 1
    )
    if scale > 18 or whole > 20:
        return None
    return f"CAST({{0}} {symbol} {{1}} AS DECIMAL(38,18))"


def _negate_row(_arguments: tuple[DataType, ...], result: DataType) -> Callable[[Any], Any]:
    if result.kind == "numeric":
        return lambda value: numeric_text(-decimal_of(value), result)
    if result.kind in _FLOATS:
        return operator.neg
    if result.kind == "interval":
        return intervals.negate
    return lambda value: checked_integer(-value, result.kind)


def _power(left: float, right: float) -> float:
    """Java's Math.pow: NaN instead of a complex number, infinite instead of an error."""
    try:
        return math.pow(left, right)
    except OverflowError:
        is_odd = right == int(right) and int(right) % 2 == 1
        return -math.inf if left < 0 and is_odd else math.inf
    except ValueError:
        return (
            math.nan
            if left != 0
            else math.copysign(math.inf, left)
            if right == int(right) and int(right) % 2
            else math.inf
        )


def _power_row(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    if result.kind != "numeric":
        return _power

    def power(left: str, right: str) -> str:
        base, exponent = decimal_of(left), decimal_of(right)
        try:
            return numeric_text(decimal.Context(prec=38, rounding=decimal.ROUND_HALF_UP).power(base, exponent))
        except decimal.InvalidOperation as error:
            raise RowOverflow("numeric power is not defined for these values") from error
        except decimal.Overflow as error:
            raise RowOverflow(overflow_word("bigint")) from error

    return power


def _arithmetic(symbol: str, texts: tuple[str, ...]) -> Declaration:
    return Declaration(
        name=f"op_{symbol}",
        aliases={"+": ("add",), "-": ("subtract",), "*": ("multiply",), "/": ("divide",)}.get(symbol, ()),
        signatures=signatures(*texts),
        row_of=_arithmetic_row(symbol),
        sql=_arithmetic_sql(symbol),
        arrow=checked_arithmetic(symbol),
        doc=f"a {symbol} b",
    )


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    _arithmetic("+", _BOTH + _WITH_INTERVAL),
    _arithmetic("-", _MINUS),
    _arithmetic("*", (*_BOTH, "integer,interval -> interval", "interval,integer -> interval")),
    _arithmetic("/", _BOTH),
    _arithmetic("%", _BOTH),
    Declaration(
        name="mod",
        aliases=("modulus",),
        signatures=signatures(*_BOTH),
        row_of=_arithmetic_row("%"),
        sql=_arithmetic_sql("%"),
        doc="the remainder, with the sign of the dividend",
    ),
    Declaration(
        name="op_^",
        aliases=("power", "pow"),
        signatures=signatures("double,double -> double", "numeric,numeric -> numeric"),
        row_of=_power_row,
        arrow=lambda _arguments, result: float_power if result.kind != "numeric" else None,
        doc="a to the power of b",
    ),
    Declaration(
        name="op_negate",
        aliases=("_negate",),
        signatures=signatures(
            "double -> double",
            "real -> real",
            "integer -> integer",
            "bigint -> bigint",
            "smallint -> smallint",
            "numeric -> numeric",
            is_strict=True,
        ),
        row_of=_negate_row,
        sql=lambda arguments, result: "(- {0})" if result.kind in _FLOATS else None,
        arrow=checked_arithmetic("negate"),
        doc="the number with the other sign",
    ),
)
