"""The rows of parameters of a bulk request, as the columns that they came in.

In: per parameter the values of all rows. Out: a sequence of rows for whoever wants rows, and the columns for whoever writes
columns. Its own room because the sessions make what the writes take, and both would turn a thousand rows around otherwise,
each of them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
import pyarrow as pa

#: SQL values, or an array that stands for them: of numbers (int64, float64, bool: none of them NULL), or of texts.
ParameterColumn: TypeAlias = Sequence[Any] | np.ndarray | pa.StringArray


class ParameterColumns(Sequence[tuple[Any, ...]]):
    """``count`` rows; immutable."""

    __slots__ = ("_count", "_rows", "columns")

    def __init__(self, columns: Sequence[ParameterColumn], count: int) -> None:
        assert all(len(column) == count for column in columns)
        self.columns = columns
        self._count = count
        self._rows: list[tuple[Any, ...]] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Any, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Any, ...] | list[tuple[Any, ...]]:
        return self.rows[index]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        if self._rows is None:
            lists = [values_of_column(column) for column in self.columns]
            self._rows = list(zip(*lists, strict=True)) if lists else [()] * self._count
        return self._rows


def columns_of_rows(rows: Sequence[Sequence[Any]]) -> list[ParameterColumn]:
    """The columns of rows of parameters, as many as the shortest row has."""
    if isinstance(rows, ParameterColumns):
        return list(rows.columns)
    return [[row[i] for row in rows] for i in range(min(map(len, rows)))]


def joined_columns(parts: Sequence[ParameterColumn]) -> ParameterColumn:
    """Pieces of one column one after the other: numbers if some are and the others have no NULL."""
    if len(parts) == 1:
        return parts[0]
    dtypes = {part.dtype for part in parts if isinstance(part, np.ndarray)}
    if len(dtypes) == 1 and not any(None in part for part in parts if not isinstance(part, np.ndarray)):
        (dtype,) = dtypes
        return np.concatenate([np.asarray(part, dtype=dtype) for part in parts])
    if any(isinstance(part, pa.StringArray) for part in parts):
        # The others are texts and NULLs as well.
        return pa.concat_arrays([part if isinstance(part, pa.Array) else pa.array(part, pa.string()) for part in parts])
    return [value for part in parts for value in values_of_column(part)]


def values_of_column(column: ParameterColumn) -> Sequence[Any]:
    """The SQL values of a column."""
    if isinstance(column, pa.Array):
        values: list[Any] = column.to_pylist()
        return values
    return column.tolist() if isinstance(column, np.ndarray) else column
