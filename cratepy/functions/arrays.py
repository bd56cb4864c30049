"""Array functions. Indexes count from 1; an array is a Python list.

``_array`` builds one, ``subscript`` takes an element out (of an object: a part, see ``objects``). Source: CrateDB's
array functions; ``array_slice`` is ``a[from:to]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import BadRequest, SQLParseError, UnsupportedFeature
from cratepy.functions.arithmetic import decimal_quotient
from cratepy.functions.operators import array_depth
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.values import checked_integer, decimal_of, numeric_text, order_key
from cratepy.model.types import DataType

_INDEX_MAX: Final = 2_147_483_647
_NULL_KEY: Final = ("null",)


def item_key(value: Any, data_type: DataType) -> Any:
    """Equality of elements: NULL equals NULL."""
    return _NULL_KEY if value is None else (repr(order_key(value, data_type)),)


def _unique(arrays: tuple[list[Any] | None, ...], element: DataType) -> list[Any]:
    found: dict[Any, Any] = {}
    for array in arrays:
        for item in array or ():
            found.setdefault(item_key(item, element), item)
    return list(found.values())


def element_of(data_type: DataType) -> DataType:
    assert data_type.element is not None
    return data_type.element


def _unique_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = element_of(arguments[0])
    return lambda *arrays: None if all(a is None for a in arrays) else _unique(arrays, element)


def _difference_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = element_of(arguments[0])

    def difference(left: list[Any] | None, right: list[Any] | None) -> list[Any] | None:
        if left is None:
            return None
        gone = {item_key(item, element) for item in right or ()}
        return [item for item in left if item_key(item, element) not in gone]

    return difference


def _remove_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = element_of(arguments[0])

    def remove(array: list[Any] | None, gone: Any) -> list[Any] | None:
        key = item_key(gone, element)
        return None if array is None else [item for item in array if item_key(item, element) != key]

    return remove


def _overlap_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = element_of(arguments[0])

    def overlap(left: list[Any], right: list[Any]) -> bool:
        keys = {item_key(item, element) for item in left if item is not None}
        return any(item_key(item, element) in keys for item in right if item is not None)

    return overlap


def _position_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    element = element_of(arguments[0])

    def position(array: list[Any] | None, value: Any, start: int | None = None) -> int | None:
        if array is None or (start is not None and not 1 <= start <= len(array)):
            return None
        wanted = item_key(value, element)
        for index in range((start or 1) - 1, len(array)):
            if item_key(array[index], element) == wanted:
                return index + 1
        return None

    return position


def _upper(array: list[Any] | None, dimension: int | None) -> int | None:
    if array is None or dimension is None or dimension < 1:
        return None
    level: list[Any] = [array]
    sizes: list[int] = []
    for _ in range(dimension):
        sizes = [len(inner) for inner in level if isinstance(inner, list)]
        level = [item for inner in level if isinstance(inner, list) for item in inner]
    return max(sizes) if sizes else None


def _upper_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    depth = array_depth(arguments[0])
    return lambda array, dimension: _upper(array, dimension) if (dimension or 0) <= depth else None


def _lower_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    upper = _upper_row(arguments, _result)
    return lambda array, dimension: 1 if upper(array, dimension) else None


def _slice(array: list[Any] | None, start: int | None, end: int | None) -> list[Any] | None:
    if array is None:
        return None
    for index in (start, end):
        if index is not None and not 1 <= index <= _INDEX_MAX:
            raise SQLParseError(f"Array index must be in range 1 to {_INDEX_MAX}")
    return array[(start or 1) - 1 : end]


def _set(array: list[Any], index: Any, value: Any) -> list[Any]:
    if isinstance(index, list):
        if value is None or len(index) != len(value):
            raise SQLParseError(
                "`array_set(array, indexes, values)`: the size of indexes and values must match or both be nulls"
            )
        for one, new in zip(index, value, strict=True):
            array = _set(array, one, new)
        return array
    if index is None or index <= 0:
        raise UnsupportedFeature("Updating arrays with indexes <= 0 is not supported")
    if index > max(len(array), _SET_INDEX_MAX):
        raise BadRequest(f"array index {index} exceeds the limit of {_SET_INDEX_MAX}")
    grown = array + [None] * (index - len(array))
    grown[index - 1] = value
    return grown


#: An array grows to the index that is set; CrateDB has no bound and dies for a large one.
_SET_INDEX_MAX: Final = 1_000_000


def _set_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    def array_set(array: list[Any] | None, index: Any, value: Any) -> list[Any] | None:
        return None if array is None or index is None else _set(array, index, value)

    return array_set


def _present(array: list[Any]) -> list[Any]:
    return [item for item in array if item is not None]


def _extreme_row(choose: Callable[..., Any]) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    def make(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
        return lambda array: choose(_present(array), key=lambda item: order_key(item, result), default=None)

    return make


def _sum_row(_arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    def array_sum(array: list[Any]) -> Any:
        items = _present(array)
        if not items:
            return None
        if result.kind == "numeric":
            return numeric_text(sum(map(decimal_of, items), decimal_of(0)))
        total = sum(items)
        return checked_integer(total, "bigint") if result.is_integer else float(total)

    return array_sum


def _average_row(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    def array_avg(array: list[Any]) -> Any:
        items = _present(array)
        if not items:
            return None
        if result.kind == "numeric":
            return numeric_text(decimal_quotient(sum(map(decimal_of, items), decimal_of(0)), decimal_of(len(items))))
        return sum(items) / len(items)

    return array_avg


def _unnest(array: list[Any]) -> list[Any]:
    return [item for inner in array if inner is not None for item in inner]


def element_at(array: Any, index: Any) -> Any:
    if not 1 <= index <= _INDEX_MAX:
        return None
    return array[index - 1] if index <= len(array) else None


_NUMBERS: Final = ("byte", "smallint", "integer", "bigint")
_ORDERED: Final = (
    "numeric",
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
)


def _array(name: str, types: str | tuple[str, ...], row_of: Any, **more: Any) -> Declaration:
    texts = (types,) if isinstance(types, str) else types
    return Declaration(name=name, signatures=signatures(*texts), row_of=row_of, takes_null=True, **more)


def _null_is_empty(array: list[Any] | None) -> list[Any]:
    return array or []


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="_array",
        signatures=signatures("E... -> E[]", "-> undefined[]"),
        row=lambda *items: list(items),
        takes_null=True,
    ),
    _array("array_append", "E[],E -> E[]", lambda _a, _r: lambda array, item: [*_null_is_empty(array), item]),
    _array("array_prepend", "E,E[] -> E[]", lambda _a, _r: lambda item, array: [item, *_null_is_empty(array)]),
    _array(
        "array_cat",
        "E[],E[] -> E[]",
        lambda _a, _r: (
            lambda left, right: (
                None if left is None and right is None else [*_null_is_empty(left), *_null_is_empty(right)]
            )
        ),
    ),
    _array("array_unique", ("E[] -> E[]", "E[],E[] -> E[]"), _unique_row),
    _array("array_remove", "E[],E -> E[]", _remove_row),
    _array("array_difference", "E[],E[] -> E[]", _difference_row),
    Declaration(
        name="array_overlap",
        aliases=("op_&&",),
        signatures=signatures("E[],E[] -> boolean"),
        row_of=_overlap_row,
        doc="whether the arrays share an element",
    ),
    _array("array_position", ("E[],E -> integer", "E[],E,integer -> integer"), _position_row),
    _array("array_upper", "E[],integer -> integer", _upper_row, aliases=("array_length",)),
    _array("array_lower", "E[],integer -> integer", _lower_row),
    _array("array_slice", "E[],integer,integer -> E[]", lambda _a, _r: _slice),
    _array("array_set", ("E[],integer[],E[] -> E[]", "E[],integer,E -> E[]"), _set_row),
    Declaration(
        name="array_min", signatures=signatures(*(f"{n}[] -> {n}" for n in _ORDERED)), row_of=_extreme_row(min)
    ),
    Declaration(
        name="array_max", signatures=signatures(*(f"{n}[] -> {n}" for n in _ORDERED)), row_of=_extreme_row(max)
    ),
    Declaration(
        name="array_sum",
        signatures=signatures(
            "numeric[] -> numeric", "double[] -> double", "real[] -> real", *(f"{n}[] -> bigint" for n in _NUMBERS)
        ),
        row_of=_sum_row,
    ),
    Declaration(
        name="array_avg",
        signatures=signatures(
            "numeric[] -> numeric", "real[] -> real", "double[] -> double", *(f"{n}[] -> numeric" for n in _NUMBERS)
        ),
        row_of=_average_row,
    ),
    Declaration(name="array_unnest", signatures=signatures("E[][] -> E[]"), row=_unnest),
    Declaration(
        name="collection_avg",
        signatures=signatures("numeric[] -> numeric", "double[] -> double"),
        row_of=_average_row,
    ),
    Declaration(name="collection_count", signatures=signatures("E[] -> bigint"), row=len),
    Declaration(
        name="cardinality",
        signatures=signatures("E[] -> integer"),
        row=len,
        doc="the number of elements (PostgreSQL)",
    ),
)
