"""Operators: arithmetic, comparison, logic, concatenation, ANY and ALL.

Canonical names::

    op_+ op_- op_* op_/ op_% op_^ op_negate                     arithmetic (unary minus is op_negate)
    op_= op_<> op_< op_<= op_> op_>= op_is_distinct_from        comparison
    op_and op_or op_not op_isnull op_is_true op_is_false        logic
    op_|| op_<< op_&&                                           text/array/object concatenation, ip in CIDR, overlap
    op_any_= … op_any_>=  op_all_= … op_all_>=                  operand OP ANY/ALL (array); first argument is the operand
    (LIKE and regular expressions are in ``patterns``, bitwise operators in ``bits``.)

Source: CrateDB's operators and arithmetic functions; integer overflow is an error, integer division truncates towards
zero, floats follow IEEE 754. Comparisons other than equality exist for primitive types only.
"""

from __future__ import annotations

import decimal
import ipaddress
import math
import operator
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import RowDivisionByZero, RowOverflow, SQLParseError
from cratepy.functions import intervals
from cratepy.functions.arrow_kernels import checked_arithmetic
from cratepy.functions.signatures import Declaration, Signature, signatures
from cratepy.functions.values import (
    DECIMAL_CONTEXT,
    checked_integer,
    decimal_of,
    float32,
    numeric_text,
    order_key,
    overflow_word,
)
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
PRIMITIVES: Final = (
    "byte",
    "boolean",
    "char",
    "text",
    "ip",
    "double",
    "real",
    "smallint",
    "integer",
    "interval",
    "bigint",
    "timestamptz",
    "timestamp",
    "date",
    "numeric",
)
#: Kinds that the engine's own comparison orders as SQL does.
_NATIVE_COMPARISON: Final = frozenset(
    {"boolean", "byte", "smallint", "integer", "bigint", "text", "ip", "uuid", "numeric", "date", "regclass", "bit"}
    | {"real", "double precision"}
    | {"timestamp with time zone", "timestamp without time zone", "regproc", "regtype", "undefined"}
)
_FLOATS: Final = frozenset({"real", "double precision"})


# --- arithmetic ------------------------------------------------------------------------------------------------------


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
    return decimal.Context(prec=38, rounding=decimal.ROUND_HALF_UP).divide(left, right)


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
            return f"({{0}} {symbol} {{1}})" if symbol == "/" else None
        if result.kind == "bigint" and kinds == ["bigint", "bigint"] and symbol == "/":
            return "({0} / {1})"
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
    whole = left - left_scale + right - right_scale + 1 if symbol == "*" else max(left - left_scale, right - right_scale) + 1
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
        return math.nan if left != 0 else math.copysign(math.inf, left) if right == int(right) and int(right) % 2 else math.inf


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


# --- comparison ------------------------------------------------------------------------------------------------------

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compared(symbol: str, data_type: DataType) -> Callable[[Any, Any], bool]:
    """The comparison of two values of one type, neither NULL."""
    compare = _COMPARE[symbol]
    return lambda left, right: compare(order_key(left, data_type), order_key(right, data_type))


def _comparison_row(symbol: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    return lambda arguments, _result: compared(symbol, arguments[0])


def _comparison_sql(symbol: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    def choose(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
        if all(argument.kind in _NATIVE_COMPARISON for argument in arguments):
            return f"({{0}} {symbol} {{1}})"
        return None

    return choose


def _is_distinct_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[Any, Any], bool]:
    differs = compared("<>", arguments[0])
    return lambda left, right: (left is None) != (right is None) if left is None or right is None else differs(left, right)


def _negation(predicate: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: not predicate(left, right)


def _is_distinct_sql(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
    native = all(argument.kind in _NATIVE_COMPARISON for argument in arguments)
    return "({0} IS DISTINCT FROM {1})" if native else None


# --- logic -----------------------------------------------------------------------------------------------------------


def sql_and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def sql_or(left: bool | None, right: bool | None) -> bool | None:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


# --- concatenation, ANY, ALL -----------------------------------------------------------------------------------------


def _concat_row(arguments: tuple[DataType, ...], result: DataType) -> Callable[[Any, Any], Any]:
    if result.kind == "array":
        left_is_array, right_is_array = (argument == result for argument in arguments)
        return lambda left, right: (
            _as_list(left, is_array=left_is_array or left is None and right_is_array is False)
            + _as_list(right, is_array=right_is_array)
        )
    if result.kind == "object":
        return lambda left, right: None if left is None or right is None else {**left, **right}
    return lambda left, right: None if left is None or right is None else left + right


def _as_list(value: Any, *, is_array: bool) -> list[Any]:
    if value is None:
        return [] if is_array else [None]
    return list(value) if is_array else [value]


def _concat_sql(_arguments: tuple[DataType, ...], result: DataType) -> str | None:
    return "({0} || {1})" if result.kind == "text" else None


def _in_network(address: str, block: str) -> bool:
    """CIDR with a short IPv4 prefix allowed: ``192.168/16``."""
    prefix, slash, length = block.partition("/")
    if slash and ":" not in prefix:
        prefix += ".0" * (3 - prefix.count("."))
    try:
        network = ipaddress.ip_network(f"{prefix}/{length}" if slash else prefix, strict=False)
    except ValueError as error:
        raise SQLParseError(f"Invalid CIDR block: {block}") from error
    return ipaddress.ip_address(address) in network


def leaf_values(array: list[Any], depth: int) -> list[Any]:
    """The elements of a nested array, ``depth`` levels taken away."""
    for _ in range(depth):
        array = [item for inner in array if inner is not None for item in inner]
    return array


def any_of(compare: Callable[[Any, Any], bool | None], operand: Any, array: list[Any]) -> bool | None:
    """``operand OP ANY (array)`` in three-valued logic."""
    found: bool | None = False
    for item in array:
        answer = None if operand is None or item is None else compare(operand, item)
        if answer:
            return True
        if answer is None:
            found = None
    return found


def all_of(compare: Callable[[Any, Any], bool | None], operand: Any, array: list[Any]) -> bool | None:
    """``operand OP ALL (array)`` in three-valued logic."""
    found: bool | None = True
    for item in array:
        answer = None if operand is None or item is None else compare(operand, item)
        if answer is False:
            return False
        if answer is None:
            found = None
    return found


def quantified_row(
    quantifier: Callable[..., bool | None], symbol: str
) -> Callable[[tuple[DataType, ...], DataType], Callable[[Any, Any], bool | None]]:
    def make(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[Any, Any], bool | None]:
        operand, array = arguments
        compare = compared(symbol, operand)
        depth = array_depth(array) - array_depth(operand) - 1
        return lambda value, items: (
            None if items is None else quantifier(compare, value, leaf_values(items, depth) if depth > 0 else items)
        )

    return make


def array_depth(data_type: DataType) -> int:
    depth = 0
    while data_type.kind == "array":
        assert data_type.element is not None
        data_type, depth = data_type.element, depth + 1
    return depth


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


def _comparison(symbol: str, candidates: tuple[Signature, ...]) -> Declaration:
    return Declaration(
        name=f"op_{symbol}", signatures=candidates, row_of=_comparison_row(symbol), sql=_comparison_sql(symbol)
    )


_EQUALITY: Final = signatures("E,E -> boolean")
_ORDER: Final = signatures(
    *(f"{name},{name} -> boolean" for name in PRIMITIVES), "uuid,uuid -> boolean", "regclass,regclass -> boolean"
)
_QUANTIFIED: Final = signatures("E,E[] -> boolean", "E,E[][] -> boolean", "E,E[][][] -> boolean")

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
        doc="the remainder, with the sign of the dividend",
    ),
    Declaration(
        name="op_^",
        aliases=("power", "pow"),
        signatures=signatures("double,double -> double", "numeric,numeric -> numeric"),
        row_of=_power_row,
        sql=lambda arguments, result: "power({0}, {1})" if result.kind != "numeric" else None,
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
        ),
        row_of=_negate_row,
        sql=lambda arguments, result: "(- {0})" if result.kind in _FLOATS else None,
        arrow=checked_arithmetic("negate"),
        doc="the number with the other sign",
    ),
    _comparison("=", _EQUALITY),
    _comparison("<>", _EQUALITY),
    _comparison("<", _ORDER),
    _comparison("<=", _ORDER),
    _comparison(">", _ORDER),
    _comparison(">=", _ORDER),
    Declaration(
        name="op_is_distinct_from",
        signatures=_EQUALITY,
        row_of=_is_distinct_row,
        sql=_is_distinct_sql,
        takes_null=True,
        doc="like <>, with NULL as a value",
    ),
    Declaration(
        name="op_is_not_distinct_from",
        signatures=_EQUALITY,
        row_of=lambda arguments, result: _negation(_is_distinct_row(arguments, result)),
        sql=lambda arguments, result: "({0} IS NOT DISTINCT FROM {1})" if _is_distinct_sql(arguments, result) else None,
        takes_null=True,
    ),
    Declaration(
        name="op_and",
        signatures=signatures("boolean,boolean -> boolean"),
        row=sql_and,
        sql="({0} AND {1})",
        takes_null=True,
    ),
    Declaration(
        name="op_or",
        signatures=signatures("boolean,boolean -> boolean"),
        row=sql_or,
        sql="({0} OR {1})",
        takes_null=True,
    ),
    Declaration(
        name="op_not", signatures=signatures("boolean -> boolean"), row=lambda value: not value, sql="(NOT {0})"
    ),
    Declaration(
        name="op_isnull",
        signatures=signatures("E -> boolean"),
        row=lambda value: value is None,
        sql="({0} IS NULL)",
        takes_null=True,
    ),
    Declaration(
        name="op_is_true",
        signatures=signatures("boolean -> boolean"),
        row=lambda value: value is True,
        sql="({0} IS TRUE)",
        takes_null=True,
    ),
    Declaration(
        name="op_is_false",
        signatures=signatures("boolean -> boolean"),
        row=lambda value: value is False,
        sql="({0} IS FALSE)",
        takes_null=True,
    ),
    Declaration(
        name="ignore3vl",
        signatures=signatures("boolean -> boolean"),
        row=lambda value: value is True,
        sql="({0} IS TRUE)",
        takes_null=True,
        doc="NULL as false",
    ),
    Declaration(
        name="op_||",
        signatures=signatures(
            "text,text -> text", "E[],E[] -> E[]", "E[],E -> E[]", "E,E[] -> E[]", "object,object -> object"
        ),
        row_of=_concat_row,
        sql=_concat_sql,
        takes_null=True,
        doc="texts, arrays or objects one after the other",
    ),
    Declaration(
        name="op_<<",
        signatures=signatures("ip,text -> boolean"),
        row=_in_network,
        doc="whether an address is in a CIDR block",
    ),
    *(
        Declaration(
            name=f"op_any_{symbol}",
            aliases=(f"any_{symbol}",),
            signatures=_QUANTIFIED,
            row_of=quantified_row(any_of, symbol),
            takes_null=True,
        )
        for symbol in _COMPARE
    ),
    *(
        Declaration(
            name=f"op_all_{symbol}",
            aliases=(f"_all_{symbol}",),
            signatures=_QUANTIFIED,
            row_of=quantified_row(all_of, symbol),
            takes_null=True,
        )
        for symbol in _COMPARE
    ),
)
