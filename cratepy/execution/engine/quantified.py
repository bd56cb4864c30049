"""Comparisons with every element of a known array: ``= ANY``, ``< ALL``, long IN lists.

In: the operand and the array's values, known before the fragment runs (a literal, a parameter, a subquery's values). Out:
SQL text. The engine repeats a constant argument for every row, which is rows × elements of memory for an array; so the
array stays on this side: ``= ANY`` and ``<> ALL`` look into a set, an order compares with the one extreme that decides.
Only arrays of plain values of the operand's type; the rest is judged row by row (:mod:`cratepy.functions.operators`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa

from cratepy.errors import CircuitBreaking
from cratepy.execution.engine.kernels import encoded
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type
from cratepy.model.types import DataType

#: Constant arrays with more elements are kept out of the engine's text and plan, which cost 10 µs an element.
ITEMS_INLINE_MAX: Final = 256
#: Elements a constant array may be repeated to in one batch.
_REPEATED_ITEMS_MAX: Final = 20_000_000

_PLAIN_KINDS: Final = frozenset({"text", "boolean", "real", "double precision", "date"})
#: The extreme that decides: all the others follow from it.
_ANY_EXTREMES: Final = {"<": max, "<=": max, ">": min, ">=": min}
_ALL_EXTREMES: Final = {"<": min, "<=": min, ">": max, ">=": max}


def has_plain_values(data_type: DataType) -> bool:
    """Whether equal values of the type are equal Python values, ordered as in SQL."""
    return data_type.is_integer or data_type.is_timestamp or data_type.kind in _PLAIN_KINDS


def membership(values: Sequence[Any], data_type: DataType, *, is_all: bool) -> Callable[[Any], Any]:
    """A kernel: operand = ANY (values), or with ``is_all`` operand <> ALL (values), in three-valued logic."""
    has_null = None in values
    known = _comparable(encoded(list({value for value in values if value is not None}), data_type), data_type)
    is_empty = not values

    def kernel(operand: Any) -> Any:
        if is_empty:
            return pa.repeat(is_all, len(operand))
        found = pc.is_in(_comparable(operand, data_type), value_set=known)
        if has_null:
            found = pc.if_else(found, found, pa.scalar(None, pa.bool_()))
        found = pc.if_else(operand.is_valid(), found, pa.scalar(None, pa.bool_()))
        return pc.invert(found) if is_all else found

    return kernel


def _comparable(array: Any, data_type: DataType) -> Any:
    """The array as one whose bytes are equal where its values are."""
    if data_type.kind == "text":
        return array.cast(pa.string())
    return pc.add(array, pa.scalar(0.0, array.type)) if data_type.kind in ("real", "double precision") else array


def deciding_value(symbol: str, values: Sequence[Any], *, is_all: bool) -> Any:
    """The value by whose comparison alone ANY is true or ALL is false; None: there is not a single one."""
    known = [value for value in values if value is not None]
    if symbol in ("<>", "="):
        return known[0] if len(set(known)) == 1 else None
    extreme = (_ALL_EXTREMES if is_all else _ANY_EXTREMES).get(symbol)
    if extreme is None or not known or any(isinstance(value, float) and math.isnan(value) for value in known):
        return None
    return extreme(known)


def differ(values: Sequence[Any]) -> bool:
    """Whether two of the values are different: then every operand is unequal to one of them."""
    return len({value for value in values if value is not None}) > 1


def repeated(values: list[Any], data_type: DataType) -> Callable[[Any], Any]:
    """A kernel that gives the array once for each row of its argument. Raises CircuitBreaking if that is too much."""
    one = encoded([values], data_type)

    def kernel(counter: Any) -> Any:
        if len(counter) * len(values) > _REPEATED_ITEMS_MAX:
            raise CircuitBreaking(
                f"an array of {len(values)} elements for each of {len(counter)} rows is more than the limit of "
                f"{_REPEATED_ITEMS_MAX} elements"
            )
        return one if len(counter) == 1 else pa.concat_arrays([one] * len(counter)).cast(arrow_type(data_type))

    return kernel
