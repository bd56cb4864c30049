"""SQL values of one column to an Arrow array at rest, with the rows that cannot be converted named.

In: the values of a column, either of its type already (the analyzer cast them) or raw (bulk parameters, fields of a JSON or
CSV file). Out: an array of ``stored_type`` and, per bad row, the error; a bad row's value is NULL in the array. Its own
room because one column at a time is ten times faster than one value at a time, but errors belong to rows: the fast
conversion is tried for the whole column, and only if it fails each value is converted alone.

Length limits of the type (varchar, char, bit, vectors) are checked here, too, with CrateDB's words
(``StringType``, ``CharacterType``, ``BitStringType``, ``FloatVectorType``: valueForInsert).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import BadRequest, ConversionError, CrateError, SQLParseError, ValueConversionError
from cratepy.execution.engine.constants import constant_values
from cratepy.functions.casts import convert, plain_text
from cratepy.model import compute as pc
from cratepy.model.arrow import JSON_KINDS, stored_type, to_arrow
from cratepy.model.expressions import Expression, Parameter
from cratepy.model.parameter_columns import ParameterColumn
from cratepy.model.plan import StatementContext
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    OBJECT,
    TEXT,
    UNDEFINED,
    DataType,
    array_of,
    common_type,
)

_NONE: Final[type] = type(None)
_INTEGERS: Final[frozenset[type]] = frozenset[type]({int, _NONE})
_TEXTS: Final[frozenset[type]] = frozenset[type]({str, _NONE})
#: Python types of raw values that are values of the kind as they are. Kinds that are not here need a look at each value.
_EXACT: Final[dict[str, frozenset[type]]] = {
    "boolean": frozenset[type]({bool, _NONE}),
    "byte": _INTEGERS,
    "smallint": _INTEGERS,
    "integer": _INTEGERS,
    "bigint": _INTEGERS,
    "real": frozenset[type]({float, _NONE}),
    "double precision": frozenset[type]({float, int, _NONE}),
    "text": _TEXTS,
    "timestamp with time zone": _INTEGERS,
    "timestamp without time zone": _INTEGERS,
    "date": _INTEGERS,
}
_NO_TYPES: Final[frozenset[type]] = frozenset()
_ARROW_ERRORS: Final = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError)


def values_of(expressions: Sequence[Expression], context: StatementContext) -> list[Any]:
    """SQL values of expressions without columns; parameters are converted to the types they stand for."""
    values = constant_values(expressions, context)
    for place, expression in enumerate(expressions):
        if isinstance(expression, Parameter) and not is_exact(values[place], expression.type.kind):
            values[place] = convert_raw(values[place], expression.type)
    return values


def is_exact(value: Any, kind: str) -> bool:
    """Whether a raw value surely is a value of the kind as it is."""
    return type(value) in exact_types(kind)


def exact_types(kind: str) -> Set[type]:
    """The Python types of which raw values surely are values of the kind as they are."""
    return _EXACT.get(kind, _NO_TYPES) if kind != "real" else _NO_TYPES


def all_exact(values: Sequence[Any], kind: str) -> bool:
    """Whether all of these raw values surely are values of the kind as they are."""
    exact = _EXACT.get(kind)
    return exact is not None and kind != "real" and set(map(type, values)) <= exact


def convert_raw(value: Any, data_type: DataType) -> Any:
    """A raw value (of a parameter, a file, an object's part) as a SQL value of the type. Raises ConversionError.

    Lengths of text types are not looked at: :func:`limited` does that for whole columns.
    """
    if value is None:
        return None
    if isinstance(value, list) and data_type.kind in ("interval", "time with time zone"):
        # Such a list can only be a SQL value already.
        return value
    if data_type.kind == "float_vector" and isinstance(value, list) and set(map(type, value)) <= {float, int}:
        return value
    if data_type.kind == "bit" and isinstance(value, str) and set(value) <= {"0", "1"}:
        # A cast would cut or pad it; a value that is stored must have the length.
        return value
    source = raw_type(value)
    target = DataType(data_type.kind) if data_type.kind in ("text", "character") else data_type
    if source == target:
        return value
    try:
        return convert(value, source, target, is_implicit=True)
    except ValueConversionError as error:
        raise ConversionError(error.message) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # A pair of types for which there is no cast at all.
        raise ConversionError(f"Cannot cast value `{plain_text(value)}` to type `{data_type.name}`") from error


def raw_type(value: Any) -> DataType:
    """The type that a JSON-like value shows by itself."""
    match value:
        case bool():
            return BOOLEAN
        case int():
            return BIGINT
        case float():
            return DOUBLE
        case str():
            return TEXT
        case dict():
            return OBJECT
        case list():
            element = UNDEFINED
            for item in value:
                if item is not None:
                    element = common_type(element, raw_type(item))
            return array_of(element)
        case _:
            raise ConversionError(f"Cannot detect the type of the value: {value!r}")


def column_of_values(values: list[Any], data_type: DataType) -> pa.Array:
    """Values that are of the type already. Raises ConversionError if one does not fit after all."""
    try:
        return to_arrow(values, data_type, at_rest=True)
    except _ARROW_ERRORS as error:
        raise ConversionError(f"Cannot convert a value to type `{data_type.name}`: {error}") from error


def column_of_raw_values(values: ParameterColumn, data_type: DataType, errors: dict[int, CrateError]) -> pa.Array:
    """Raw values; rows that cannot be converted are added to ``errors`` and are NULL."""
    if isinstance(values, np.ndarray):
        numbers = _of_numbers(values, data_type)
        if numbers is not None:
            return numbers
        values = values.tolist()
    elif isinstance(values, pa.Array):
        if data_type.kind == "text":
            return values
        values = values.to_pylist()
    values = values if isinstance(values, list) else list(values)
    array = _as_they_are(values, data_type)
    if array is not None:
        return array
    converted: list[Any] = []
    for row, value in enumerate(values):
        try:
            converted.append(convert_raw(value, data_type))
        except CrateError as error:
            errors.setdefault(row, error)
            converted.append(None)
    try:
        return to_arrow(converted, data_type, at_rest=True)
    except _ARROW_ERRORS:
        return _one_by_one(converted, data_type, errors)


def _of_numbers(values: np.ndarray, data_type: DataType) -> pa.Array | None:
    """An array of numbers that are values of the type as they are; None if each is to be looked at."""
    of, kind = values.dtype.kind, data_type.kind
    if of == "i" and data_type.is_timestamp:
        return pa.array(values.astype(np.int64, copy=False)).view(stored_type(data_type))
    if not (
        (of == "i" and data_type.is_integer)
        or (of == "f" and kind == "double precision")
        or (of == "b" and kind == "boolean")
    ):
        return None
    try:
        return pa.array(values).cast(stored_type(data_type))
    except _ARROW_ERRORS:
        return None


def _as_they_are(values: list[Any], data_type: DataType) -> pa.Array | None:
    """The array if all values need no conversion (or one that Arrow does as CrateDB does), else None."""
    kind = data_type.kind
    types = set(map(type, values))
    if types == {_NONE}:
        return pa.nulls(len(values), stored_type(data_type))
    exact = _EXACT.get(kind)
    try:
        if kind == "array":
            assert data_type.element is not None
            exact = _EXACT.get(data_type.element.kind)
            if exact is None or not types <= {list, _NONE}:
                return None
            if not {type(element) for value in values if value is not None for element in value} <= exact:
                return None
            return to_arrow(values, data_type, at_rest=True)
        if exact is not None and types <= exact:
            array = to_arrow(values, data_type, at_rest=True)
            if kind == "real" and pc.any(pc.is_inf(array)).as_py():
                return None
            return array
        if data_type.is_timestamp and types <= _TEXTS:
            return text_column(pa.array(values, type=pa.string()), data_type)
    except _ARROW_ERRORS:
        return None
    return None


def text_column(array: pa.Array, data_type: DataType) -> pa.Array | None:
    """A column of texts cast by Arrow where its rules are CrateDB's; None if they are not, or a value does not fit."""
    kind = data_type.kind
    try:
        if kind == "text":
            return array
        if data_type.is_timestamp:
            return _timestamps(array, data_type)
        if data_type.is_integer or kind in ("real", "double precision"):
            # Arrow refuses blanks, signs and words that it does not know; then each value is looked at.
            return array.cast(stored_type(data_type))
    except _ARROW_ERRORS:
        return None
    return None


#: What Arrow takes for a time and a cast does not: hours without minutes, offsets beyond 18 hours.
_NO_TIMESTAMP: Final = r"[T ](?:\d{1,2}(?:[Zz+-].*)?|.*[+-](?:18:?(?:0[1-9]|[1-5]\d)|19|2\d)(?::?\d\d)?)$"


def _timestamps(array: pa.Array, data_type: DataType) -> pa.Array:
    if pc.any(pc.match_substring_regex(array, _NO_TIMESTAMP)).as_py():
        raise pa.ArrowInvalid("a text that is to be looked at")
    try:
        return array.cast(pa.timestamp("ms"))
    except pa.ArrowInvalid:
        some = array.drop_null()
        if len(some) and some[0].as_py().lstrip("-").isdigit():
            # Milliseconds; Arrow takes no number for a time.
            return array.cast(pa.int64()).view(pa.timestamp("ms"))
        if data_type.kind != "timestamp with time zone":
            # Without time zone an offset is dropped, not applied; each value is looked at.
            raise
        return array.cast(pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("ms"))


def _one_by_one(values: list[Any], data_type: DataType, errors: dict[int, CrateError]) -> pa.Array:
    kept = list(values)
    for row, value in enumerate(values):
        try:
            to_arrow([value], data_type, at_rest=True)
        except _ARROW_ERRORS:
            errors.setdefault(
                row, ConversionError(f"Cannot cast value `{plain_text(value)}` to type `{data_type.name}`")
            )
            kept[row] = None
    return to_arrow(kept, data_type, at_rest=True)


def at_rest(array: pa.Array, data_type: DataType) -> pa.Array:
    """A column in flight as a column at rest."""
    wanted = stored_type(data_type)
    return array if array.type == wanted else array.cast(wanted)


# --- limits of types -------------------------------------------------------------------------------------------------


def is_limited(column: ColumnDefinition) -> bool:
    """Whether :func:`limited` has anything to check."""
    kind = column.type.kind
    if kind in ("text", "character", "bit"):
        return column.type.length is not None or _is_keyword(column)
    return kind == "float_vector" and column.type.length is not None


def limited(array: pa.Array, column: ColumnDefinition, errors: dict[int, CrateError]) -> pa.Array:
    """The column with its values cut or padded to the type's length; rows that do not fit are added to ``errors``."""
    length = column.type.length
    match column.type.kind:
        case "text":
            if length is not None:
                array = _varchar(array, length, errors)
            if _is_keyword(column):
                _check_bytes(array, column.name, errors)
        case "character":
            array = _character(array, length or 1, errors)
        case "bit" if length is not None:
            for row in _rows(pc.not_equal(pc.utf8_length(array), length)):
                found = len(array[row].as_py())
                errors.setdefault(row, SQLParseError(f"bit string length {found} does not match type bit({length})"))
        case "float_vector" if length is not None:
            for row in _rows(pc.not_equal(pc.list_value_length(array), length)):
                errors.setdefault(row, SQLParseError("The number of vector dimensions does not match the field type"))
        case _:
            pass
    return array


def _is_keyword(column: ColumnDefinition) -> bool:
    return column.index == "plain" and column.has_columnstore


def _rows(condition: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(pc.fill_null(condition, False)).to_pylist()
    return rows


def _varchar(array: pa.Array, length: int, errors: dict[int, CrateError]) -> pa.Array:
    """Longer values lose their trailing blanks; what is too long then is an error."""
    if not _rows(pc.greater(pc.utf8_length(array), length)):
        return array
    values = array.to_pylist()
    for row, value in enumerate(values):
        if value is not None and len(value) > length:
            values[row] = value[:length]
            if value[length:].strip(" "):
                errors.setdefault(row, SQLParseError(f"'{value}' is too long for the text type of length: {length}"))
    return pa.array(values, type=pa.string())


def _character(array: pa.Array, length: int, errors: dict[int, CrateError]) -> pa.Array:
    values = array.to_pylist()
    for row, value in enumerate(values):
        if value is None:
            continue
        if len(value) > length and value[length:].strip(" "):
            errors.setdefault(row, SQLParseError(f"'{value}' is too long for the character type of length: {length}"))
        values[row] = value[:length].ljust(length)
    return pa.array(values, type=pa.string())


def _check_bytes(array: pa.Array, name: str, errors: dict[int, CrateError]) -> None:
    longest = pc.max(pc.binary_length(array)).as_py()
    if longest is None or longest <= limits.TEXT_BYTES_MAX:
        return
    for row in _rows(pc.greater(pc.binary_length(array), limits.TEXT_BYTES_MAX)):
        errors.setdefault(
            row,
            BadRequest(
                f'A value of column "{name}" has {len(array[row].as_py().encode())} bytes; '
                f"text with an index may have at most {limits.TEXT_BYTES_MAX}"
            ),
        )


# --- texts of values in messages -------------------------------------------------------------------------------------


def is_json(data_type: DataType) -> bool:
    """Whether the column is JSON text in Arrow, itself or its elements."""
    while data_type.kind == "array":
        assert data_type.element is not None
        data_type = data_type.element
    return data_type.kind in JSON_KINDS
