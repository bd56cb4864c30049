"""Types that columns may have."""

from __future__ import annotations

from typing import Final

from cratepy.errors import UnsupportedFeature
from cratepy.limits import ARRAY_DEPTH_MAX
from cratepy.model.types import ANY_JSON, DataType

_NOT_STORED: Final = frozenset(
    {"interval", "time with time zone", "json", "regclass", "regproc", "regtype", "oidvector", "record"}
)


def check_storable(kind: DataType) -> None:
    """Whether values of the type can be stored. Raises UnsupportedFeature."""
    inner = kind
    depth = 0
    while inner.kind == "array":
        assert inner.element is not None
        inner = inner.element
        depth += 1
    if depth > ARRAY_DEPTH_MAX:
        raise UnsupportedFeature(f"Arrays are nested deeper than {ARRAY_DEPTH_MAX} levels")
    if inner.kind in _NOT_STORED:
        raise UnsupportedFeature(f"Type `{inner.name}` does not support storage")
    if inner.kind == "undefined" or inner == ANY_JSON:
        raise UnsupportedFeature(f"Type `{kind.name.upper()}` does not support storage using an index")
    if inner.kind == "numeric":
        if inner.precision is None:
            raise UnsupportedFeature("NUMERIC storage is only supported if precision and scale are specified")
    for field in inner.fields:
        if field.type.kind != "undefined":
            check_storable(field.type)
