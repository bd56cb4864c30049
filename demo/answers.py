"""Compare answers of two databases: as multisets unless the order matters, floats to 1e-9."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]


def normal(value: Any) -> Any:
    """A value in the form all protocols and DuckDB are compared in: timestamps are ms since the epoch."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        return round(value.timestamp() * 1000)
    if isinstance(value, datetime.date):
        return round(datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC).timestamp() * 1000)
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list | tuple):
        return [normal(item) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same answer."""
    left, right = normal(left), normal(right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(left) and math.isnan(right))
    return bool(left == right)


def difference(ours: Sequence[Row], theirs: Sequence[Row], *, is_ordered: bool) -> str | None:
    """None if the answers are the same, else what differs first."""
    if len(ours) != len(theirs):
        return f"{len(ours)} rows instead of {len(theirs)}"
    left = [tuple(row) for row in ours]
    right = [tuple(row) for row in theirs]
    if not is_ordered:
        left, right = sorted(left, key=_sort_key), sorted(right, key=_sort_key)
    for index, (mine, other) in enumerate(zip(left, right, strict=True)):
        if len(mine) != len(other) or not all(map(same, mine, other)):
            return f"row {index}: {mine} instead of {other}"
    return None


def _sort_key(row: Row) -> list[tuple[int, str]]:
    key = []
    for value in map(normal, row):
        if isinstance(value, int | float) and not isinstance(value, bool):
            key.append((1, f"{float(value):+032.6f}"))
        else:
            key.append((0 if value is not None else 2, str(value)))
    return key
