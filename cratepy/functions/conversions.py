"""Which type can be cast to which: explicitly, and implicitly by the analyzer.

In: two types. Out: yes or no; how a value is converted is :mod:`cratepy.functions.casts`. Source: CrateDB's
``DataTypes.ALLOWED_CONVERSIONS`` as its answers show it. Wider than CrateDB, explicitly only: ``uuid``, ``interval``,
``json`` and ``time with time zone`` to text, and text to arrays of anything.
"""

from __future__ import annotations

from typing import Final

from cratepy.model.types import DataType

_NUMBERS: Final = frozenset({"byte", "smallint", "integer", "bigint", "real", "double precision", "numeric"})
_TEXTS: Final = frozenset({"text", "character"})
_TIMES: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
_CATALOG: Final = frozenset({"regclass", "regproc", "regtype"})

_FROM_TEXT: Final = (
    _NUMBERS
    | _TEXTS
    | _TIMES
    | {"boolean", "ip", "uuid", "json", "object", "geo_point", "geo_shape", "bit", "regclass", "regproc", "regtype"}
    | {"time with time zone"}
)

_IMPLICIT: Final[dict[str, frozenset[str]]] = {
    **{kind: _NUMBERS | _TEXTS | _TIMES | {"boolean", "ip"} for kind in _NUMBERS},
    "byte": _NUMBERS | _TEXTS | _TIMES | _CATALOG | {"boolean", "ip"},
    "smallint": _NUMBERS | _TEXTS | _TIMES | _CATALOG | {"boolean", "ip"},
    **dict.fromkeys(_TEXTS, _FROM_TEXT),
    **{kind: _TIMES | _TEXTS | {"bigint", "double precision"} for kind in _TIMES},
    "boolean": _TEXTS,
    "ip": _TEXTS,
    "integer": _NUMBERS | _TEXTS | _TIMES | _CATALOG | {"boolean", "ip"},
    "bigint": _NUMBERS | _TEXTS | _TIMES | _CATALOG | {"boolean", "ip"},
    "regclass": _TEXTS | {"integer", "bigint"},
    "regproc": _TEXTS | {"integer", "bigint"},
    "regtype": _TEXTS | {"integer", "bigint"},
    "geo_shape": frozenset({"object"}),
    "object": frozenset({"json", "geo_shape"}),
    "json": frozenset({"object"}),
}

_EXPLICIT: Final[dict[str, frozenset[str]]] = {
    "text": frozenset({"interval", "float_vector"}),
    "character": frozenset({"interval"}),
    "object": _TEXTS,
    "json": _TEXTS,
    "uuid": _TEXTS,
    "interval": _TEXTS,
    "time with time zone": _TEXTS,
    "record": _TEXTS,
}


def can_cast(source: DataType, target: DataType, *, explicit: bool) -> bool:
    """Whether a cast is allowed at all; a value may still refuse it."""
    if source == target or source.kind == "undefined" or target.kind == "undefined":
        return True
    if source.kind == "array":
        return _can_cast_array(source, target, explicit=explicit)
    if target.kind == "array":
        assert target.element is not None
        return explicit and (source.kind in _TEXTS or source.kind == "oidvector")
    if source.kind == target.kind:
        return True
    if target.kind in _IMPLICIT.get(source.kind, frozenset()):
        return True
    return explicit and target.kind in _EXPLICIT.get(source.kind, frozenset())


def _can_cast_array(source: DataType, target: DataType, *, explicit: bool) -> bool:
    assert source.element is not None
    element = source.element
    if target.kind == "array":
        assert target.element is not None
        return can_cast(element, target.element, explicit=explicit)
    if target.kind in ("geo_point", "float_vector", "oidvector"):
        return (
            element.kind in _NUMBERS
            or element.kind == "undefined"
            or (element.kind == "text" and target.kind != "oidvector")
        )
    return False
