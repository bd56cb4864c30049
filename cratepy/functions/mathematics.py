"""Mathematical functions. Doubles follow IEEE 754 and Java's Math; numerics carry 34 digits.

Source: CrateDB's scalar.arithmetic package: round is half-up, ceil/floor/round of real give integer and of double
bigint, logarithms of what has none are errors, out of range is an error (CrateDB saturates).
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from typing import Any, Final

from cratepy.clock import SystemClock
from cratepy.errors import RowDivisionByZero, RowOverflow, SQLParseError
from cratepy.functions.arrow_kernels import checked_arithmetic, rounded_floats
from cratepy.functions.decimals import DECIMAL_FUNCTIONS
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.texts_of_numbers import float_text
from cratepy.functions.values import checked_integer, decimal_of, numeric_text
from cratepy.model.types import DataType

_FLOATS: Final = frozenset({"real", "double precision"})
_SAME: Final = ("double", "real", "byte", "smallint", "integer", "bigint", "numeric")
_ROUNDED: Final = (
    "double -> bigint",
    "real -> integer",
    "byte -> integer",
    "smallint -> integer",
    "integer -> integer",
    "bigint -> bigint",
)


def _half_up(value: float) -> int:
    return math.floor(decimal.Decimal(value) + decimal.Decimal("0.5"))


def _rounded(value: float, how: Callable[[float], int], kind: str) -> int:
    if math.isnan(value):
        raise RowOverflow(f"NaN is out of range of {kind}")
    if math.isinf(value):
        raise RowOverflow(f"{value} is out of range of {kind}")
    return checked_integer(how(value), kind)


def _rounding_row(
    how: Callable[[Any], int], mode: str
) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    def make(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
        if len(arguments) == 2:
            return _round_numeric if result.kind == "numeric" else _trunc_digits
        if result.kind == "numeric":
            return lambda value: numeric_text(decimal_of(value).to_integral_value(mode))
        if arguments[0].kind in _FLOATS:
            return lambda value: _rounded(value, how, result.kind)
        return lambda value: value

    return make


def _rounding_sql(name: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    def choose(arguments: tuple[DataType, ...], result: DataType) -> str | None:
        if len(arguments) == 1 and arguments[0].is_integer:
            return (
                "{0}"
                if arguments[0] == result
                else f"arrow_cast({{0}}, '{'Int32' if result.kind == 'integer' else 'Int64'}')"
            )
        return None

    return choose


def _rounding_arrow(
    how: str,
) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any] | None]:
    def make(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any] | None:
        is_float = len(arguments) == 1 and arguments[0].kind in _FLOATS and result.is_integer
        return rounded_floats(how, result) if is_float else None

    return make


def _round_numeric(value: str, digits: int) -> str:
    # No numeric has more digits on either side of its point.
    digits = max(-_NUMERIC_DIGITS_MAX, min(digits, _NUMERIC_DIGITS_MAX))
    exponent = decimal.Decimal(1).scaleb(-digits)
    rounded = decimal_of(value).quantize(
        exponent, rounding=decimal.ROUND_HALF_UP, context=decimal.Context(prec=200, Emax=200_000, Emin=-200_000)
    )
    return numeric_text(rounded)


_NUMERIC_DIGITS_MAX: Final = 76
#: More digits than a double has after the point, more than it has before it.
_DOUBLE_DIGITS_MAX: Final = 330


def _trunc_digits(value: float, digits: int) -> float:
    if math.isnan(value) or math.isinf(value) or digits > _DOUBLE_DIGITS_MAX:
        return value
    if digits < -_DOUBLE_DIGITS_MAX:
        return 0.0
    exponent = decimal.Decimal(1).scaleb(-digits)
    wide = decimal.Context(prec=400, Emax=200_000, Emin=-200_000)
    return float(decimal.Decimal(repr(value)).quantize(exponent, rounding=decimal.ROUND_DOWN, context=wide))


def _abs_row(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    if result.kind == "numeric":
        return lambda value: numeric_text(abs(decimal_of(value)), result)
    if result.kind in _FLOATS:
        return math.fabs
    return lambda value: checked_integer(abs(value), result.kind)


def _sign(value: float) -> float:
    return value if value == 0 or math.isnan(value) else math.copysign(1.0, value)


def _logarithm(value: float, base: float | None = None) -> float:
    shown = "log(x)" if base is None else "log(x, b)"
    if base is None:
        result = math.log10(value) if value > 0 else _bad_logarithm(value)
    else:
        below = _natural(base)
        if math.isinf(below) and base == 0:
            raise SQLParseError(f"{shown}: given arguments would result in: '-Infinity'")
        if below == 0:
            raise RowDivisionByZero(f"{shown}: given 'base' would result in a division by zero.")
        result = _natural(value) / below
    if (math.isnan(result) and not math.isnan(value)) or (math.isinf(result) and not math.isinf(value)):
        raise SQLParseError(f"{shown}: given arguments would result in: '{_java(result)}'")
    return result


def _natural(value: float) -> float:
    return math.log(value) if value > 0 else _bad_logarithm(value)


def _bad_logarithm(value: float) -> float:
    return -math.inf if value == 0 else math.nan


def _java(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _ln(value: float) -> float:
    result = _natural(value)
    if (math.isnan(result) and not math.isnan(value)) or (math.isinf(result) and not math.isinf(value)):
        raise SQLParseError(f"ln(x): given arguments would result in: '{_java(result)}'")
    return result


def _sqrt(value: float) -> float:
    if value < 0:
        raise SQLParseError("cannot take square root of a negative number")
    return math.sqrt(value)


def _quiet(function: Callable[..., float]) -> Callable[..., float]:
    """As Java computes it: NaN where Python raises, infinity where it overflows."""

    def quiet(*values: float) -> float:
        try:
            return function(*values)
        except ValueError:
            return math.nan
        except OverflowError:
            return math.inf

    return quiet


def _in_unit_range(function: Callable[[float], float]) -> Callable[[float], float]:
    def checked(value: float) -> float:
        if abs(value) > 1:
            raise SQLParseError(
                f"input value {float_text(value)} is out of range. Values must be in range of [-1.0, 1.0]"
            )
        return function(value)

    return checked


def _cot(value: float) -> float:
    tangent = math.tan(value)
    return 1 / tangent if tangent else math.copysign(math.inf, tangent)


def _real_or_numeric(name: str, function: Callable[..., float]) -> Callable[..., Callable[..., Any]]:
    quiet = _quiet(function)

    def make(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
        if result.kind == "numeric":
            exact = DECIMAL_FUNCTIONS[name]
            return lambda *values: numeric_text(exact(*map(decimal_of, values)))
        return quiet

    return make


def _function(name: str, function: Callable[..., float], *, sql: bool = False, doc: str = "") -> Declaration:
    def template(_arguments: tuple[DataType, ...], result: DataType) -> str | None:
        return f"{name}({{0}})" if sql and result.kind != "numeric" else None

    return Declaration(
        name=name,
        signatures=signatures("double -> double", "numeric -> numeric"),
        row_of=_real_or_numeric(name, function),
        sql=template,
        doc=doc,
    )


_CLOCK: Final = SystemClock()

DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="abs",
        signatures=signatures(*(f"{name} -> {name}" for name in _SAME)),
        row_of=_abs_row,
        sql=lambda _arguments, result: "abs({0})" if result.kind in _FLOATS else None,
        arrow=checked_arithmetic("abs"),
        doc="the number without its sign",
    ),
    Declaration(
        name="sign",
        signatures=signatures("numeric -> numeric", "double -> double"),
        row_of=lambda _arguments, result: (
            (lambda value: str((decimal_of(value) > 0) - (decimal_of(value) < 0)))
            if result.kind == "numeric"
            else _sign
        ),
        doc="-1, 0 or 1",
    ),
    Declaration(
        name="ceil",
        aliases=("ceiling",),
        signatures=signatures(*_ROUNDED, "numeric -> numeric"),
        row_of=_rounding_row(math.ceil, decimal.ROUND_CEILING),
        sql=_rounding_sql("ceil"),
        arrow=_rounding_arrow("ceil"),
    ),
    Declaration(
        name="floor",
        signatures=signatures(*_ROUNDED, "numeric -> numeric"),
        row_of=_rounding_row(math.floor, decimal.ROUND_FLOOR),
        sql=_rounding_sql("floor"),
        arrow=_rounding_arrow("floor"),
    ),
    Declaration(
        name="round",
        signatures=signatures(*_ROUNDED, "numeric -> numeric", "numeric,integer -> numeric"),
        row_of=_rounding_row(_half_up, decimal.ROUND_HALF_UP),
        sql=_rounding_sql("round"),
        arrow=_rounding_arrow("round"),
        doc="to the nearest integer, halves up",
    ),
    Declaration(
        name="trunc",
        signatures=signatures(*_ROUNDED, "double,integer -> double"),
        row_of=_rounding_row(math.trunc, decimal.ROUND_DOWN),
        sql=_rounding_sql("trunc"),
        arrow=_rounding_arrow("trunc"),
        doc="towards zero",
    ),
    Declaration(
        name="sqrt",
        signatures=signatures("double -> double", "numeric -> numeric"),
        row_of=lambda _arguments, result: (
            (lambda value: numeric_text(DECIMAL_FUNCTIONS["sqrt"](decimal_of(value))))
            if result.kind == "numeric"
            else _sqrt
        ),
    ),
    Declaration(
        name="ln",
        signatures=signatures("double -> double", "numeric -> numeric"),
        row_of=lambda _arguments, result: (
            (lambda value: numeric_text(DECIMAL_FUNCTIONS["ln"](decimal_of(value))))
            if result.kind == "numeric"
            else _ln
        ),
    ),
    Declaration(
        name="log",
        signatures=signatures("double,double -> double", "double -> double", "numeric -> numeric"),
        row_of=lambda _arguments, result: (
            (lambda value: numeric_text(DECIMAL_FUNCTIONS["log"](decimal_of(value))))
            if result.kind == "numeric"
            else _logarithm
        ),
        doc="the logarithm to base 10 or to the base given second",
    ),
    _function("exp", math.exp, sql=True),
    _function("sin", math.sin),
    _function("cos", math.cos),
    _function("tan", math.tan),
    _function("cot", _cot),
    _function("asin", _in_unit_range(math.asin)),
    _function("acos", _in_unit_range(math.acos)),
    _function("atan", math.atan),
    _function("degrees", math.degrees),
    _function("radians", math.radians),
    Declaration(
        name="atan2",
        signatures=signatures("double,double -> double", "numeric,numeric -> numeric"),
        row_of=_real_or_numeric("atan2", math.atan2),
    ),
    Declaration(
        name="_narrowed_sum",
        signatures=signatures("numeric -> bigint"),
        row=lambda value: checked_integer(int(decimal_of(value)), "bigint"),
        sql="arrow_cast({0}, 'Int64')",
    ),
    Declaration(name="pi", signatures=signatures("-> double"), row=lambda: math.pi),
    Declaration(
        name="random", signatures=signatures("-> double"), row=_CLOCK.random, sql="random()", is_deterministic=False
    ),
)
