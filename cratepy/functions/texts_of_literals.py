"""SQL values as CrateDB prints them in error texts and EXPLAIN: ``'abc'``, ``2147483648::bigint``, ``[1, NULL]``.

In: a SQL value and its type. Out: text. Source: CrateDB's Literal.toString.
"""

from __future__ import annotations

from typing import Any

from cratepy.functions.texts_of_numbers import float_text
from cratepy.model.texts import interval_text
from cratepy.model.types import DataType


def type_text(data_type: DataType) -> str:
    """The name of a type in messages: texts with a length are called ``text(n)`` there, as CrateDB does."""
    if data_type.kind in ("text", "character") and data_type.length is not None:
        return f"text({data_type.length})"
    return data_type.name


def literal_text(value: Any, data_type: DataType) -> str:
    """The literal as CrateDB would print it."""
    if value is None:
        return "NULL"
    kind = data_type.kind
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind == "array":
        assert data_type.element is not None
        element = data_type.element
        return "[" + ", ".join(literal_text(item, element) for item in value) + "]"
    if kind == "bigint":
        return f"{value}::bigint"
    if kind == "interval":
        return f"cast('{interval_text(value)}' AS interval)"
    if kind == "numeric" or isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value, is_single=kind == "real")
    if kind == "bit":
        return f"B'{value}'"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}"={_part_text(part)}' for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_part_text(part) for part in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def _part_text(value: Any) -> str:
    if isinstance(value, dict):
        return literal_text(value, DataType("object"))
    if isinstance(value, list):
        return "[" + ", ".join(_part_text(part) for part in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return literal_text(value, DataType("double precision" if isinstance(value, float) else "integer"))
