"""Table functions: rows from arguments, in FROM and (as sets) in the select list.

In: SQL values of the arguments. Out: an iterator of rows. Each runs in Python and is read in batches, so that a large
series is never held at once and can be stopped between batches. Source: CrateDB's tablefunctions package; a series ends
before it would overflow (CrateDB never ends there).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions import intervals
from cratepy.functions.arrays import element_of
from cratepy.functions.keywords import KEYWORDS
from cratepy.functions.operators import array_depth
from cratepy.functions.patterns import regexp_matches
from cratepy.functions.signatures import Signature, signatures
from cratepy.functions.values import INTEGER_RANGES
from cratepy.model.types import INTEGER, TEXT, DataType
from cratepy.records import dataclass

Columns = tuple[tuple[str, DataType], ...]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFunctionDeclaration:
    """``columns`` from the bound argument types and the signature's result; ``rows`` from values and types.

    With ``takes_arrays`` any number of arrays of any type is taken (unnest).
    """

    name: str
    signatures: tuple[Signature, ...]
    columns: Callable[[tuple[DataType, ...], DataType], Columns]
    rows: Callable[[Sequence[Any], tuple[DataType, ...]], Iterator[Row]]
    aliases: tuple[str, ...] = ()
    takes_arrays: bool = False
    doc: str = ""


def innermost(data_type: DataType) -> DataType:
    while data_type.kind == "array":
        data_type = element_of(data_type)
    return data_type


def _unnest_columns(arguments: tuple[DataType, ...], _result: DataType) -> Columns:
    if len(arguments) == 1:
        return (("unnest", innermost(arguments[0])),)
    return tuple((f"col{index}", innermost(argument)) for index, argument in enumerate(arguments, 1))


def _flattened(array: list[Any] | None, depth: int) -> Iterator[Any]:
    for item in array or ():
        if depth > 1:
            yield from _flattened(item, depth - 1)
        else:
            yield item


def _unnest(values: Sequence[Any], types: tuple[DataType, ...]) -> Iterator[Row]:
    columns = [_flattened(value, array_depth(kind)) for value, kind in zip(values, types, strict=True)]
    return itertools.zip_longest(*columns)


def _series(values: Sequence[Any], types: tuple[DataType, ...]) -> Iterator[Row]:
    if any(value is None for value in values):
        return
    start, stop = values[0], values[1]
    if types[0].kind != "bigint" and types[0].kind != "integer":
        if len(values) < 3:
            raise SQLParseError(
                "generate_series(start, stop) has type `timestamp` for start, but requires long/int values for start and stop, or if used with timestamps, it requires a third argument for the step (interval)"
            )
        yield from _timestamp_series(start, stop, values[2])
        return
    step = values[2] if len(values) > 2 else 1
    if step == 0:
        raise SQLParseError("step argument of generate_series must not be zero")
    # Python's numbers do not overflow, so the series stops by itself at the largest value of the type.
    low, high = INTEGER_RANGES[types[0].kind]
    for value in range(start, min(stop, high) + 1, step) if step > 0 else range(start, max(stop, low) - 1, step):
        yield (value,)


def _timestamp_series(start: int, stop: int, step: list[int]) -> Iterator[Row]:
    direction = step[0] * intervals.DAY_MS * 28 + step[1] * intervals.DAY_MS + step[2]
    if direction == 0:
        raise SQLParseError("step argument of generate_series must not be zero")
    value = start
    while value <= stop if direction > 0 else value >= stop:
        yield (value,)
        # One step after the other, as in PostgreSQL: 31 January, 29 February, 29 March.
        value = intervals.add_to_timestamp(value, step)


def _subscripts(values: Sequence[Any], _types: tuple[DataType, ...]) -> Iterator[Row]:
    array, dimension = values[0], values[1]
    is_reverse = len(values) > 2 and values[2]
    for _ in range((dimension or 0) - 1):
        if not array or not isinstance(array[0], list):
            return
        array = array[0]
    if array is None or dimension is None or dimension < 1:
        return
    indexes = range(1, len(array) + 1)
    yield from ((index,) for index in (reversed(indexes) if is_reverse else indexes))


def _expanded(values: Sequence[Any], _types: tuple[DataType, ...]) -> Iterator[Row]:
    return ((item, index) for index, item in enumerate(values[0] or (), 1))


def _matches(values: Sequence[Any], _types: tuple[DataType, ...]) -> Iterator[Row]:
    if any(value is None for value in values):
        return iter(())
    return ((groups,) for groups in regexp_matches(*values))


def _one(name: str) -> Callable[[tuple[DataType, ...], DataType], Columns]:
    return lambda _arguments, result: ((name, result),)


TABLE_FUNCTIONS: Final[tuple[TableFunctionDeclaration, ...]] = (
    TableFunctionDeclaration(
        name="unnest",
        signatures=signatures("E[]... -> record"),
        columns=_unnest_columns,
        rows=_unnest,
        takes_arrays=True,
        doc="the elements of arrays as rows; shorter arrays are padded with NULL",
    ),
    TableFunctionDeclaration(
        name="generate_series",
        signatures=signatures(
            "bigint,bigint -> bigint",
            "bigint,bigint,bigint -> bigint",
            "integer,integer -> integer",
            "integer,integer,integer -> integer",
            "timestamp,timestamp -> timestamp",
            "timestamp,timestamp,interval -> timestamp",
            "timestamptz,timestamptz -> timestamptz",
            "timestamptz,timestamptz,interval -> timestamptz",
        ),
        columns=_one("generate_series"),
        rows=_series,
        doc="numbers or timestamps from start to stop, both included",
    ),
    TableFunctionDeclaration(
        name="generate_subscripts",
        signatures=signatures("E[],integer -> integer", "E[],integer,boolean -> integer"),
        columns=_one("generate_subscripts"),
        rows=_subscripts,
        doc="the indexes of an array's dimension",
    ),
    TableFunctionDeclaration(
        name="regexp_matches",
        signatures=signatures("text,text -> text[]", "text,text,text -> text[]"),
        columns=_one("regexp_matches"),
        rows=_matches,
        doc="the groups of each match",
    ),
    TableFunctionDeclaration(
        name="_pg_expandarray",
        signatures=signatures("E[] -> record"),
        columns=lambda arguments, _result: (("x", element_of(arguments[0])), ("n", INTEGER)),
        rows=_expanded,
        doc="the elements of an array with their indexes",
    ),
    TableFunctionDeclaration(
        name="pg_get_keywords",
        signatures=signatures("-> record"),
        columns=lambda _arguments, _result: (("word", TEXT), ("catcode", TEXT), ("catdesc", TEXT)),
        rows=lambda _values, _types: iter(KEYWORDS),
        doc="the words of the SQL dialect and whether they are reserved",
    ),
    TableFunctionDeclaration(
        name="empty_row",
        signatures=signatures("-> record"),
        columns=lambda _arguments, _result: (),
        rows=lambda _values, _types: iter(((),)),
        doc="one row without columns",
    ),
)
