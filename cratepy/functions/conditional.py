"""Conditional functions: COALESCE, NULLIF, GREATEST, LEAST, IF. CASE is its own expression.

Source: CrateDB's conditional functions; GREATEST and LEAST ignore NULLs. ``case`` is declared for its typing only: the
analyzer resolves ``case(boolean, T, …)`` and builds a Case expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cratepy.functions.operators import compared
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.values import order_key
from cratepy.model.types import DataType


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _nullif_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[Any, Any], Any]:
    equal = compared("=", arguments[0])
    return lambda left, right: None if left is not None and right is not None and equal(left, right) else left


def _extreme_row(choose: Callable[..., Any]) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    def make(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
        def extreme(*values: Any) -> Any:
            present = [value for value in values if value is not None]
            return choose(present, key=lambda value: order_key(value, result)) if present else None

        return extreme

    return make


def _if(condition: bool | None, value: Any, default: Any = None) -> Any:
    return value if condition else default


def _native_extreme(name: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    native = {"byte", "smallint", "integer", "bigint", "text", "timestamp with time zone"}
    native |= {"timestamp without time zone", "date", "numeric", "boolean"}
    return lambda _arguments, result: f"{name}({{args}})" if result.kind in native else None


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="coalesce",
        signatures=signatures("E... -> E"),
        row=_coalesce,
        sql="coalesce({args})",
        takes_null=True,
        doc="the first argument that is not NULL",
    ),
    Declaration(
        name="nullif",
        signatures=signatures("E,E -> E"),
        row_of=_nullif_row,
        sql=lambda arguments, _result: (
            "nullif({0}, {1})" if arguments[0].kind in ("integer", "bigint", "text") else None
        ),
        takes_null=True,
        doc="NULL if both arguments are equal, else the first",
    ),
    Declaration(
        name="greatest",
        signatures=signatures("E... -> E"),
        row_of=_extreme_row(max),
        sql=_native_extreme("greatest"),
        takes_null=True,
        doc="the largest argument; NULLs are ignored",
    ),
    Declaration(
        name="least",
        signatures=signatures("E... -> E"),
        row_of=_extreme_row(min),
        sql=_native_extreme("least"),
        takes_null=True,
        doc="the smallest argument; NULLs are ignored",
    ),
    Declaration(
        name="if",
        signatures=signatures("boolean,E -> E", "boolean,E,E -> E"),
        row=_if,
        sql=lambda arguments, _result: (
            "CASE WHEN {0} THEN {1} ELSE {2} END" if len(arguments) == 3 else "CASE WHEN {0} THEN {1} END"
        ),
        takes_null=True,
        doc="the second argument if the condition is true, else the third",
    ),
    Declaration(
        name="case",
        signatures=signatures("boolean...,T... -> T"),
        row=lambda *values: next((v for c, v in zip(values[::2], values[1::2], strict=False) if c), None),
        takes_null=True,
    ),
)
