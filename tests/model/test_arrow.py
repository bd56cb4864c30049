"""SQL values ↔ Arrow arrays."""

from __future__ import annotations

from typing import Any

import pytest

from cratepy.errors import NumericOverflow
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NUMERIC,
    OBJECT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    array_of,
    numeric,
)

ROUND_TRIPS: list[tuple[DataType, list[Any]]] = [
    (BOOLEAN, [True, None, False]),
    (INTEGER, [1, None, -(2**31)]),
    (BIGINT, [2**63 - 1, -(2**63), None]),
    (DOUBLE, [1e300, None, float("inf")]),
    (TEXT, ["", None, "żółw"]),
    (TIMESTAMPTZ, [-1, None, 1_700_000_000_000]),
    (DATE, [-86_400_000, None, 86_400_000]),
    (INTERVAL, [[1, -2, 3_000], None]),
    (NUMERIC, ["1.5", "-3", "100", None, "0"]),
    (numeric(5, 2), ["1.50", None, "-999.99"]),
    (OBJECT, [{"a": [1, {"b": None}]}, None, {}]),
    (array_of(TIMESTAMPTZ), [[1, None, 2], None, []]),
    (array_of(array_of(INTEGER)), [[[1], [2, 3], None], None]),
    (array_of(numeric(5, 2)), [["1.50", None]]),
    (array_of(OBJECT), [[{"a": 1}, None], None]),
]


@pytest.mark.parametrize(("data_type", "values"), ROUND_TRIPS, ids=lambda value: str(getattr(value, "name", "")))
@pytest.mark.parametrize("at_rest", [False, True])
def test_values_come_back_as_they_went(data_type: DataType, values: list[Any], at_rest: bool) -> None:
    array = to_arrow(values, data_type, at_rest=at_rest)
    assert from_arrow(array, data_type) == values
    for start in range(len(values) + 1):
        for count in range(len(values) - start + 1):
            assert from_arrow(array.slice(start, count), data_type) == values[start : start + count]


def test_decimals_are_rounded_half_up_to_their_scale() -> None:
    assert from_arrow(to_arrow(["1.005", "-1.005", "2"], numeric(5, 2)), numeric(5, 2)) == ["1.01", "-1.01", "2.00"]


@pytest.mark.parametrize(
    ("data_type", "value"), [(numeric(5, 2), "1000"), (numeric(5, 2), "999.995"), (NUMERIC, "1e20"), (NUMERIC, "NaN")]
)
def test_a_decimal_with_too_many_digits_is_refused(data_type: DataType, value: str) -> None:
    with pytest.raises(NumericOverflow, match="before the decimal point"):
        to_arrow([value], data_type)
    with pytest.raises(NumericOverflow, match="before the decimal point"):
        to_arrow([[value]], array_of(data_type))
