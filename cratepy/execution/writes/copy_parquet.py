"""Batches of Parquet files to columns of a table.

In: a batch as it is in the file. Out: a :class:`~cratepy.execution.writes.copy_parse.ParsedBlock`. Its own room because the
file has types: what Arrow casts as CrateDB does goes by the column, the rest value by value like JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cratepy.errors import CrateError
from cratepy.execution.writes.copy_parse import ParsedBlock, check_new_columns
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.objects import holds_objects
from cratepy.execution.writes.values import at_rest, is_json
from cratepy.model.arrow import from_arrow, stored_type
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import UNDEFINED, is_open


def parse_parquet(
    batch: pa.RecordBatch, wanted: Sequence[str], layout: TableLayout, first_row: int, *, adds: bool
) -> ParsedBlock:
    """A batch of a Parquet file; columns are found by name, with ``adds`` unknown ones are new columns."""
    names = batch.schema.names
    unknown = [name for name in names if name not in layout.position_by_name and name not in wanted]
    errors: dict[int, CrateError] = {}
    try:
        check_new_columns(unknown, adds=adds)
        wanted = (*wanted, *unknown)
    except CrateError as error:
        errors = dict.fromkeys(range(batch.num_rows), error)
    targets = tuple(name for name in names if name in wanted)
    columns = [_of_parquet(batch.column(names.index(name)), layout.find(name)) for name in targets]
    return ParsedBlock(batch.num_rows, targets, columns, lambda row: first_row + row, errors)


def _of_parquet(array: pa.Array, column: ColumnDefinition | None) -> list[Any] | pa.Array:
    data_type = UNDEFINED if column is None else column.type
    try:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp("ms", tz=array.type.tz), safe=False).cast(pa.timestamp("ms"))
            if not data_type.is_timestamp:
                return [None if value is None else value // 1 for value in array.cast(pa.int64()).to_pylist()]
        if pa.types.is_date(array.type):
            array = array.cast(pa.timestamp("ms"))
        same = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
        if not is_open(data_type) and not is_json(data_type) and (not same or data_type.kind == "text"):
            return at_rest(array, data_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        pass
    if holds_objects(data_type) or pa.types.is_nested(array.type):
        values: list[Any] = array.to_pylist()
        return values
    if array.type == stored_type(data_type):
        return from_arrow(array, data_type)
    values = array.to_pylist()
    return [str(value) if not isinstance(value, int | float | str | bool | None) else value for value in values]
