"""Columns of parameters are the rows that were sent, whichever way they are looked at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cratepy.errors import CrateError
from cratepy.execution.writes.values import column_of_raw_values
from cratepy.model.parameter_columns import ParameterColumns, columns_of_rows, joined_columns, values_of_column
from cratepy.model.types import BIGINT, BOOLEAN, BYTE, DOUBLE, INTEGER, TEXT, TIMESTAMPTZ, DataType


def test_rows_are_made_of_lists_and_numbers_alike() -> None:
    rows = ParameterColumns([np.array([1, 2]), ("a", None), np.array([True, False])], 2)
    assert list(rows) == [(1, "a", True), (2, None, False)]
    assert rows[1] == (2, None, False)
    assert [type(value) for value in rows[0]] == [int, str, bool]
    assert len(ParameterColumns((), 3)) == len(list(ParameterColumns((), 3))) == 3


def test_rows_of_different_lengths_have_the_columns_of_the_shortest() -> None:
    assert columns_of_rows([(1, 2), (3,)]) == [[1, 3]]


def test_pieces_stay_numbers_unless_one_has_null() -> None:
    numbers = np.array([2, 3])
    joined = joined_columns([[1], numbers])
    assert isinstance(joined, np.ndarray)
    assert joined.tolist() == [1, 2, 3]
    assert joined_columns([[None], numbers]) == [None, 2, 3]
    assert joined_columns([["a"], ("b",)]) == ["a", "b"]


@pytest.mark.parametrize("data_type", [BYTE, INTEGER, BIGINT, DOUBLE, TIMESTAMPTZ, TEXT, BOOLEAN])
@pytest.mark.parametrize(
    "column",
    [
        np.array([1, -2, 100], np.int16),
        np.array([2**40, 3, 1000]),
        np.array([0.5, -3.0, 1e300]),
        np.array([True, False]),
    ],
    ids=["smallint", "bigint", "double", "boolean"],
)
def test_numbers_become_the_same_column_as_their_values(data_type: DataType, column: np.ndarray) -> None:
    errors: dict[int, Exception] = {}
    expected: dict[int, Exception] = {}
    array = column_of_raw_values(column, data_type, errors)  # type: ignore[arg-type]
    assert array.equals(column_of_raw_values(list(values_of_column(column)), data_type, expected))  # type: ignore[arg-type]
    assert {row: str(error) for row, error in errors.items()} == {row: str(error) for row, error in expected.items()}


def test_pieces_of_texts_stay_an_array() -> None:
    texts = pa.array(["b", None], pa.string())
    joined = joined_columns([["a"], texts, (None, "c")])
    assert isinstance(joined, pa.StringArray)
    assert values_of_column(joined) == ["a", "b", None, None, "c"]
    assert ParameterColumns([joined, np.arange(5)], 5).rows[1:3] == [("b", 1), (None, 2)]


@pytest.mark.parametrize("data_type", [TEXT, INTEGER, TIMESTAMPTZ, BOOLEAN])
def test_an_array_of_texts_is_written_as_its_texts(data_type: DataType) -> None:
    texts = ["1", None, "x", "true", "2020-01-01T00:00:00Z"]
    of_array: dict[int, CrateError] = {}
    of_list: dict[int, CrateError] = {}
    array = column_of_raw_values(pa.array(texts, pa.string()), data_type, of_array)
    assert array.equals(column_of_raw_values(texts, data_type, of_list))
    assert {row: str(error) for row, error in of_array.items()} == {row: str(error) for row, error in of_list.items()}
