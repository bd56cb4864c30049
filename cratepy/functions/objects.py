"""Object functions: building (``_map``), taking parts out (``subscript``), keys.

An object is a ``dict``. ``subscript(object, name)`` is declared as undefined: the analyzer sets the call's type to the
declared type of the part, and the value is converted to it. A part of an array of objects is the array of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cratepy.functions.arrays import element_at
from cratepy.functions.casts import json_value_as, to_json_value
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.types import DataType


def _map_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    types = arguments[1::2]

    def build(*parts: Any) -> dict[str, Any]:
        names, values = parts[::2], parts[1::2]
        return {name: to_json_value(value, kind) for name, value, kind in zip(names, values, types, strict=True)}

    return build


def _part(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [None if item is None else _part(item, name) for item in value]
    return value.get(name) if isinstance(value, dict) else None


def _subscript_row(arguments: tuple[DataType, ...], result: DataType) -> Callable[..., Any]:
    if arguments[0].kind == "array" and arguments[1].kind != "text":
        return element_at
    if arguments[0].kind == "record":
        places = {field.name: place for place, field in enumerate(arguments[0].fields)}
        return lambda row, name: json_value_as(row[places[name]], result)
    return lambda value, name: json_value_as(_part(value, name), result)


def _null_or_empty(value: Any) -> bool:
    return value is None or len(value) == 0


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="_map",
        aliases=("json_build_object", "jsonb_build_object"),
        signatures=signatures("text...,V... -> object", "-> object"),
        row_of=_map_row,
        takes_null=True,
    ),
    Declaration(
        name="subscript",
        aliases=("subscript_obj",),
        signatures=signatures(
            "E[],integer -> E",
            "object[],text -> undefined[]",
            "object,text -> undefined",
            "undefined,text -> undefined",
        ),
        row_of=_subscript_row,
        doc="an element of an array or a part of an object",
    ),
    Declaration(name="object_keys", signatures=signatures("object -> text[]"), row=lambda value: list(value)),
    Declaration(
        name="null_or_empty",
        signatures=signatures("object -> boolean", "E[] -> boolean"),
        row=_null_or_empty,
        takes_null=True,
    ),
)
