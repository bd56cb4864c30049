"""Bitwise operators on integers and bit strings: ``op_&``, ``op_|``, ``op_#`` (exclusive or).

A bit string is the text of its digits. Source: CrateDB's bitwise functions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import BadRequest
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.types import DataType

_COMPUTE: Final[dict[str, Callable[[int, int], int]]] = {"&": operator.and_, "|": operator.or_, "#": operator.xor}
_NAMES: Final = {"&": "AND", "|": "OR", "#": "XOR"}


def _bitwise_row(symbol: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    compute = _COMPUTE[symbol]

    def bit_strings(left: str, right: str) -> str:
        if len(left) != len(right):
            raise BadRequest(f"Cannot {_NAMES[symbol]} bit strings of different sizes")
        return format(compute(int(left, 2), int(right, 2)), f"0{len(left)}b") if left else ""

    return lambda arguments, _result: bit_strings if arguments[0].kind == "bit" else compute


def _bitwise_sql(symbol: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    return lambda arguments, _result: f"({{0}} {symbol} {{1}})" if arguments[0].is_integer else None


DECLARATIONS: Final[tuple[Declaration, ...]] = tuple(
    Declaration(
        name=f"op_{symbol}",
        signatures=signatures(
            "bigint,bigint -> bigint",
            "integer,integer -> integer",
            "smallint,smallint -> smallint",
            "byte,byte -> byte",
            "bit,bit -> bit",
        ),
        row_of=_bitwise_row(symbol),
        sql=_bitwise_sql(symbol),
    )
    for symbol in _COMPUTE
)
