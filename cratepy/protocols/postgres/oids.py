"""OIDs that clients send for parameters → SQL types.

In: an OID of a Parse message. Out: the SQL type, or None where the type is to be inferred. Besides the OIDs of
``cratepy.model.types`` clients send their own habits: ``text``, ``name``, ``oid`` and the arrays of them, ``jsonb``, ``inet``.
"""

from __future__ import annotations

from typing import Final

from cratepy.errors import TypeUnknown
from cratepy.model.types import (
    DATE,
    INTEGER,
    IP,
    OBJECT,
    TEXT,
    TIMETZ,
    TYPE_FACTS,
    DataType,
    array_of,
)

#: unspecified, unknown, void and the pseudo types: infer.
UNSPECIFIED_OIDS: Final = frozenset({0, 705, 2276, 2278, 2283})
BYTEA_OID: Final = 17
CHAR_OID: Final = 18
JSONB_OID: Final = 3802
OID_OID: Final = 26

_CANONICAL: Final = (
    "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "text", "timestamp with time zone",
    "timestamp without time zone", "date", "time with time zone", "interval", "uuid", "regclass", "regproc", "regtype",
    "oidvector", "geo_point",
)  # fmt: skip


def _types_by_oid() -> dict[int, DataType]:
    found: dict[int, DataType] = {}
    for kind in _CANONICAL:
        facts = TYPE_FACTS[kind]
        found[facts.oid] = DataType(kind)
        if facts.array_oid != facts.oid:
            found[facts.array_oid] = array_of(DataType(kind))
    # Text by its other names. A parameter declared bpchar or bit has no declared length: it must not be cut.
    for oid, array_oid in ((25, 1009), (19, 1003), (18, 1002), (1042, 1014), (17, 1001)):
        found[oid] = TEXT
        found[array_oid] = array_of(TEXT)
    found.update({1560: DataType("bit"), 1561: array_of(DataType("bit")), 1562: DataType("bit")})
    found.update({26: INTEGER, 1028: array_of(INTEGER)})
    found.update({869: IP, 1041: array_of(IP), 1083: TIMETZ, 1183: array_of(TIMETZ)})
    found.update({114: OBJECT, 199: array_of(OBJECT), 3802: OBJECT, 3807: array_of(OBJECT)})
    assert found[1082] == DATE
    return found


PARAMETER_TYPES: Final[dict[int, DataType]] = _types_by_oid()
#: OID → PostgreSQL's name, for output of regtype.
TYPE_NAMES_BY_OID: Final[dict[int, str]] = {
    **{facts.array_oid: f"_{facts.pg_name}" for facts in TYPE_FACTS.values()},
    **{facts.oid: facts.pg_name for facts in TYPE_FACTS.values()},
}


def parameter_type(oid: int) -> DataType | None:
    """The type of a declared parameter; None: infer it. Raises TypeUnknown with CrateDB's words."""
    if oid in UNSPECIFIED_OIDS:
        return None
    found = PARAMETER_TYPES.get(oid)
    if found is None:
        raise TypeUnknown(f"Can't map PGType with oid={oid} to Crate type")
    return found
