"""Transcendental functions of decimals, with 34 digits: what CrateDB's big-math library computes for NUMERIC.

In and out: :class:`decimal.Decimal`. Computed with guard digits and rounded half up once at the end.
"""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from cratepy.errors import RowOverflow, SQLParseError

_DIGITS: Final = 34
_GUARD_DIGITS: Final = 12
_WORK: Final = decimal.Context(
    prec=_DIGITS + _GUARD_DIGITS, rounding=decimal.ROUND_HALF_EVEN, Emax=200_000, Emin=-200_000
)
_FINAL: Final = decimal.Context(prec=_DIGITS, rounding=decimal.ROUND_HALF_UP, Emax=200_000, Emin=-200_000)
#: Terms of a series; each adds at least half a digit after argument reduction.
_TERMS_MAX: Final = 400


@functools.cache
def pi() -> Decimal:
    """Machin's formula."""
    return _WORK.multiply(Decimal(4), 4 * _arctan_inverse(5) - _arctan_inverse(239))


def _arctan_inverse(number: int) -> Decimal:
    total, power, sign = Decimal(0), _WORK.divide(Decimal(1), Decimal(number)), 1
    for term in range(1, _TERMS_MAX, 2):
        total = _WORK.add(total, _WORK.divide(power * sign, Decimal(term)))
        power, sign = _WORK.divide(power, Decimal(number * number)), -sign
    return total


def _sin(value: Decimal) -> Decimal:
    return _series(_reduced(value), start=1)


def _cos(value: Decimal) -> Decimal:
    return _series(_reduced(value), start=0)


def _reduced(value: Decimal) -> Decimal:
    return _WORK.remainder_near(value, 2 * pi())


def _series(value: Decimal, *, start: int) -> Decimal:
    """The Taylor series of sine (start 1) or cosine (start 0)."""
    square = _WORK.multiply(value, value)
    term = value if start else Decimal(1)
    total = term
    for index in range(start + 1, _TERMS_MAX, 2):
        term = _WORK.divide(_WORK.multiply(-term, square), Decimal(index * (index + 1)))
        total = _WORK.add(total, term)
        if abs(term) < Decimal(10) ** -(_DIGITS + _GUARD_DIGITS):
            break
    return total


def _tan(value: Decimal) -> Decimal:
    return _WORK.divide(_sin(value), _cos(value))


def _cot(value: Decimal) -> Decimal:
    if value == 0:
        raise SQLParseError("Illegal cot(x) for x = 0")
    return _WORK.divide(_cos(value), _sin(value))


def _atan(value: Decimal) -> Decimal:
    """Halve the angle until the series converges fast."""
    halvings = 0
    while abs(value) > Decimal("0.1"):
        value = _WORK.divide(value, 1 + _WORK.sqrt(1 + _WORK.multiply(value, value)))
        halvings += 1
    square, power, total = _WORK.multiply(value, value), value, value
    for index in range(3, _TERMS_MAX, 2):
        power = _WORK.multiply(-power, square)
        total = _WORK.add(total, _WORK.divide(power, Decimal(index)))
    return total * 2**halvings


def _refuse_beyond_one(value: Decimal) -> None:
    if abs(value) > 1:
        raise SQLParseError(f"input value {value} is out of range. Values must be in range of [-1.0, 1.0]")


def _asin(value: Decimal) -> Decimal:
    _refuse_beyond_one(value)
    if abs(value) == 1:
        return pi() / 2 * int(value)
    return _atan(_WORK.divide(value, _WORK.sqrt(1 - _WORK.multiply(value, value))))


def _acos(value: Decimal) -> Decimal:
    _refuse_beyond_one(value)
    return pi() / 2 - _asin(value)


def _atan2(y: Decimal, x: Decimal) -> Decimal:
    if x > 0:
        return _atan(_WORK.divide(y, x))
    if x < 0:
        return _atan(_WORK.divide(y, x)) + (pi() if y >= 0 else -pi())
    if y == 0:
        raise SQLParseError("Illegal atan2(y, x) for x = 0; y = 0")
    return pi() / 2 if y > 0 else -pi() / 2


def _no_logarithm(call: str, value: Decimal) -> SQLParseError:
    """The refusal names what the function of doubles would give."""
    return SQLParseError(f"{call}: given arguments would result in: '{'NaN' if value < 0 else '-Infinity'}'")


def _ln(value: Decimal) -> Decimal:
    if value <= 0:
        raise _no_logarithm("ln(x)", value)
    return _WORK.ln(value)


def _log10(value: Decimal) -> Decimal:
    if value <= 0:
        raise _no_logarithm("log(x)", value)
    return _WORK.log10(value)


def _sqrt(value: Decimal) -> Decimal:
    if value < 0:
        raise SQLParseError("cannot take square root of a negative number")
    return _WORK.sqrt(value)


def _rounded(function: Callable[..., Decimal]) -> Callable[..., Decimal]:
    def rounded(*values: Decimal) -> Decimal:
        try:
            return _FINAL.plus(function(*values))
        except decimal.Overflow as error:
            raise RowOverflow("Overflow") from error

    return rounded


DECIMAL_FUNCTIONS: Final[dict[str, Callable[..., Decimal]]] = {
    "exp": _rounded(_WORK.exp),
    "ln": _rounded(_ln),
    "log": _rounded(_log10),
    "sqrt": _rounded(_sqrt),
    "sin": _rounded(_sin),
    "cos": _rounded(_cos),
    "tan": _rounded(_tan),
    "cot": _rounded(_cot),
    "asin": _rounded(_asin),
    "acos": _rounded(_acos),
    "atan": _rounded(_atan),
    "atan2": _rounded(_atan2),
    "degrees": _rounded(lambda value: _WORK.divide(value * 180, pi())),
    "radians": _rounded(lambda value: _WORK.divide(_WORK.multiply(value, pi()), Decimal(180))),
}
