"""Columns of plain literals (the fast path of INSERT … VALUES) as SQL values of the target columns.

The usual cases (whole numbers into integer columns, strings into text) need no work per value; the rest is converted value
by value with the same casts that a literal in an expression gets.
"""

from __future__ import annotations

from typing import Any, Final

from cratepy.errors import ConversionError, CrateError, NotNullViolation, SQLParseError
from cratepy.functions.casts import convert
from cratepy.functions.parsing import plain_timestamp
from cratepy.functions.values import INTEGER_RANGES
from cratepy.model.schema import TableDefinition
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, NUMERIC, TEXT, DataType
from cratepy.sql.analyze.context import Context
from cratepy.sql.parse.tree import LiteralRows

_LONG_MAX: Final = 2**63 - 1


def literal_columns(
    context: Context,
    table: TableDefinition,
    targets: tuple[str, ...],
    types: list[DataType],
    rows: LiteralRows,
) -> tuple[list[Any], ...]:
    """Per target the values of all rows. Raises ConversionError and NotNullViolation like the slow path."""
    del context
    columns: list[list[Any]] = []
    for name, kind, values, kinds in zip(targets, types, rows.columns, rows.kinds, strict=True):
        if name in table.primary_key and None in values:
            raise NotNullViolation("A primary key value must not be NULL")
        columns.append(_column(values, kinds, kind))
    return tuple(columns)


def _column(values: list[Any], kinds: frozenset[str], target: DataType) -> list[Any]:
    kind = target.kind
    if kinds <= {"s"} and kind == "text" and target.length is None:
        return values
    if kinds <= {"b"} and kind == "boolean":
        return values
    if kinds <= {"i"} and kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        present = [value for value in values if value is not None] if None in values else values
        if not present or (low <= min(present) and max(present) <= high):
            return values
    if kinds <= {"i", "n"} and kind == "double precision":
        return [None if value is None else float(value) for value in values]
    if not kinds:
        return values
    if kinds <= {"s"} and target.is_timestamp:
        return [None if value is None else _timestamp(value, target) for value in values]
    return [None if value is None else _converted(value, kinds, target) for value in values]


def _converted(value: Any, kinds: frozenset[str], target: DataType) -> Any:
    source = _source(value, kinds)
    if source == DOUBLE:
        value = float(value)
    elif source == NUMERIC:
        value = str(value)
    wanted = target if target.kind != "undefined" else _dynamic(source)
    try:
        return convert(value, source, wanted, is_implicit=True)
    except CrateError as error:
        if "too long" in error.message or "length" in error.message:
            raise SQLParseError(error.message) from error
        shown = f"'{value}'" if isinstance(value, str) and source == TEXT else str(value)
        raise ConversionError(f"Cannot cast `{shown}` of type `{source.name}` to type `{wanted.name}`") from error


def _timestamp(text: str, target: DataType) -> int:
    """Milliseconds since the epoch; the usual form is parsed in C, any other by the cast."""
    plain = plain_timestamp(text, keeps_zone=target.kind == "timestamp with time zone")
    if plain is not None:
        return plain
    result: int = _converted(text, frozenset("s"), target)
    return result


def _dynamic(source: DataType) -> DataType:
    return BIGINT if source == INTEGER else DOUBLE if source == NUMERIC else source


def _source(value: Any, kinds: frozenset[str]) -> DataType:
    """The type of a literal; a number with a point is kept as text until here."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return INTEGER
        return BIGINT if -_LONG_MAX - 1 <= value <= _LONG_MAX else NUMERIC
    # The scanner gives up on columns that mix such numbers with strings.
    return DOUBLE if "n" in kinds else TEXT
