"""Reading the tables of facts: what CrateDB answers, as JSON lines.

``calls.jsonl``: function, types of its arguments, arguments, type of the result, result. ``casts.jsonl``: source type, value,
target type, result. A result ``{"error": …}`` is a refusal; ``{"float": "NaN"}`` a float that JSON has no number for.
"""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

from cratepy.model.types import TYPE_NAMES, DataType, array_of, numeric

_DATA = Path(__file__).parent / "data"


def facts(name: str) -> list[Any]:
    return [json.loads(line) for line in (_DATA / name).read_text().splitlines()]


@functools.cache
def type_of(name: str) -> DataType:
    """The type of a name as CrateDB prints it."""
    if name.endswith("_array"):
        return array_of(type_of(name.removesuffix("_array")))
    match = re.fullmatch(r"(\w+)\((\d+)(?:,(\d+))?\)", name)
    if match is None:
        return TYPE_NAMES.get(name, DataType(name))
    kind, first, second = match.groups()
    if kind == "numeric":
        return numeric(int(first), int(second or 0))
    return DataType({"varchar": "text"}.get(kind, kind), length=int(first))


def value_from(fact: Any) -> Any:
    if isinstance(fact, dict) and "float" in fact:
        return float(fact["float"])
    if isinstance(fact, list):
        return [value_from(item) for item in fact]
    return fact


def same(left: Any, right: Any) -> bool:
    """Equal; floats to the last digits, NaN to NaN."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-14) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)
