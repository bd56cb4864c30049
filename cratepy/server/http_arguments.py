"""JSON arguments → parameter values and types for the compiler.

JSON does not say which SQL type a value is meant to be. Where a value suggests a type, that is what the compiler is told,
and implicit casts do the rest. Where the values of a bulk column do not agree (or are null), the type is inferred from
the statement and the values are made to fit it here, once, for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cratepy.errors import ConversionError, SQLParseError
from cratepy.functions.casts import plain_text
from cratepy.model.parameter_columns import ParameterColumn, ParameterColumns, values_of_column
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, DataType
from cratepy.protocols.http.statements import column_type, value_type
from cratepy.protocols.postgres.parameters import parameter_decoder
from cratepy.protocols.values import double_text
from cratepy.server.session import check_parameter_count

#: Other kinds than arrays whose values may come as JSON arrays, and those whose values come as JSON objects.
_KINDS_OF_LISTS: Final = frozenset({"geo_point", "float_vector", "oidvector", "json"})
_KINDS_OF_OBJECTS: Final = frozenset({"object", "json", "geo_shape"})


def argument_types(arguments: Sequence[Any]) -> tuple[DataType | None, ...]:
    """The types the values of one execution suggest; None is to be inferred."""
    return tuple(map(value_type, arguments))


def fitted(
    arguments: Sequence[Any], suggested: Sequence[DataType | None], inferred: Sequence[DataType]
) -> tuple[Any, ...]:
    """As many values as the statement has parameters, each of its parameter's type. Raises SQLParseError, ConversionError."""
    check_parameter_count(len(arguments), len(inferred))
    return tuple(
        coerce(value, data_type) if suggestion is None or isinstance(value, list) else value
        for value, suggestion, data_type in zip(arguments, suggested, inferred, strict=False)
    )


class BulkArguments:
    """The rows of ``bulk_args``. Short rows miss values; raises SQLParseError."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        width = max(map(len, rows))
        if any(len(row) != width for row in rows):
            raise SQLParseError("mixed number of arguments inside bulk arguments")
        self._count = len(rows)
        read = [_column(values) for values in zip(*rows, strict=True)]
        self._columns = [values for values, _ in read]
        self.types: tuple[DataType | None, ...] = tuple(data_type for _, data_type in read)

    @property
    def value_count(self) -> int:
        return self._count * len(self._columns)

    def are_right(self, inferred: Sequence[DataType]) -> bool:
        """Whether :meth:`values` has nothing to convert."""
        return all(map(_is_right, self.types, inferred))

    def values(self, inferred: Sequence[DataType]) -> ParameterColumns:
        """The rows with every value of the type of its parameter."""
        check_parameter_count(len(self.types), len(inferred))
        columns: list[ParameterColumn] = []
        for column, suggested, data_type in zip(self._columns, self.types, inferred, strict=False):
            if _is_right(suggested, data_type):
                columns.append(column)
            else:
                columns.append([coerce(value, data_type) for value in values_of_column(column)])
        return ParameterColumns(columns, self._count)


def _column(values: Sequence[Any]) -> tuple[ParameterColumn, DataType | None]:
    """The values, as numbers of one kind if they are that, and the type they suggest together. Raises SQLParseError."""
    kinds = set(map(type, values))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is float:
            return np.fromiter(values, np.float64, len(values)), DOUBLE
        if kind is bool:
            return np.fromiter(values, np.bool_, len(values)), BOOLEAN
        if kind is int:
            try:
                numbers = np.fromiter(values, np.int64, len(values))
            except OverflowError:
                return values, column_type(values)
            is_short = numbers.min() >= -(2**31) and numbers.max() < 2**31
            return numbers, INTEGER if is_short else BIGINT
    return values, column_type(values)


def _is_right(suggested: DataType | None, data_type: DataType) -> bool:
    """Whether values that suggest the one type are values of the other as they are."""
    return suggested is not None and (suggested == data_type or suggested.kind == data_type.kind == "object")


def coerce(value: Any, data_type: DataType) -> Any:
    """A JSON value as SQL value of the type. Raises ConversionError."""
    kind = data_type.kind
    if value is None or kind == "undefined":
        return value
    if isinstance(value, str):
        if kind in ("text", "character", "ip", "json"):
            return value
        return parameter_decoder(data_type, 0, is_binary=False)(value.encode())
    if kind == "array" and isinstance(value, list):
        assert data_type.element is not None
        return value if _are_all(value, data_type.element) else [coerce(item, data_type.element) for item in value]
    if (
        kind == "array"
        or (isinstance(value, list) and kind not in _KINDS_OF_LISTS)
        or (isinstance(value, dict) and kind not in _KINDS_OF_OBJECTS)
    ):
        raise ConversionError(f"Cannot cast value `{plain_text(value)}` to type `{data_type.name}`")
    if kind in ("real", "double precision") and isinstance(value, int):
        return float(value)
    if isinstance(value, bool):
        text = "true" if value else "false"
        return value if kind == "boolean" else coerce(text, data_type)
    if isinstance(value, int | float) and kind not in ("real", "double precision"):
        if isinstance(value, int) and data_type.is_timestamp:
            return value
        is_whole = isinstance(value, float) and value.is_integer() and data_type.is_integer
        text = str(int(value)) if is_whole else double_text(value) if isinstance(value, float) else str(value)
        return coerce(text, data_type)
    return value


def _are_all(values: list[Any], data_type: DataType) -> bool:
    """Whether the values are of the type as they are; for long lists, 3 µs each to look at alone."""
    types = set(map(type, values))
    if types == {str}:
        return data_type.kind == "text"
    if types == {int}:
        # Wider numbers than the type's are the decoder's to refuse.
        bits = _INTEGER_BITS.get(data_type.kind)
        return bits is not None and -(1 << bits) <= min(values) and max(values) < 1 << bits
    return types == {float} and data_type.kind == "double precision"


_INTEGER_BITS: Final = {"byte": 7, "smallint": 15, "integer": 31, "bigint": 63}
