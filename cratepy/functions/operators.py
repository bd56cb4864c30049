"""Operators: comparison, logic, concatenation, ANY and ALL.

Canonical names::

    op_= op_<> op_< op_<= op_> op_>= op_is_distinct_from        comparison
    op_and op_or op_not op_isnull op_is_true op_is_false        logic
    op_|| op_<< op_&&                                           text/array/object concatenation, ip in CIDR, overlap
    op_any_= … op_any_>=  op_all_= … op_all_>=                  operand OP ANY/ALL (array); first argument is the operand
    (``op_+ op_- op_* op_/ op_% op_^ op_negate`` are in ``arithmetic``, LIKE and regular expressions in ``patterns``,
    bitwise operators in ``bits``.)

Source: CrateDB's operators. Comparisons other than equality exist for primitive types only.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions.signatures import Declaration, Signature, signatures
from cratepy.functions.values import (
    order_key,
)
from cratepy.model.types import DataType

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
    return lambda left, right: (
        (left is None) != (right is None) if left is None or right is None else differs(left, right)
    )


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
            _as_list(left, is_array=left_is_array or (left is None and right_is_array is False))
            + _as_list(right, is_array=right_is_array)
        )
    if result.kind == "object":
        return lambda left, right: None if left is None and right is None else {**(left or {}), **(right or {})}
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
