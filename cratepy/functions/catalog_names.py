"""Names and object ids of types and system relations, as PostgreSQL's catalog functions need them.

In: a name or an oid. Out: the other. Source: PostgreSQL's ``format_type`` and ``to_regtype``; the oids of CrateDB's types.
"""

from __future__ import annotations

import functools
from typing import Final

from cratepy.model.names import RelationName
from cratepy.model.oids import system_relation_oids
from cratepy.model.pg_types import pg_type_facts
from cratepy.model.types import TYPE_FACTS, TYPE_NAMES, DataType, array_of, type_oid

#: oid → PostgreSQL's name, for the types whose name there is not CrateDB's.
_POSTGRES_NAMES: Final[dict[int, str]] = {
    16: "boolean",
    17: "bytea",
    18: '"char"',
    19: "name",
    20: "bigint",
    21: "smallint",
    23: "integer",
    24: "regproc",
    25: "text",
    26: "oid",
    30: "oidvector",
    114: "json",
    600: "point",
    700: "real",
    701: "double precision",
    705: "unknown",
    1042: "character",
    1043: "character varying",
    1082: "date",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    1186: "interval",
    1266: "time with time zone",
    1560: "bit",
    1700: "numeric",
    2205: "regclass",
    2206: "regtype",
    2249: "record",
    2276: '"any"',
    2277: "anyarray",
    2950: "uuid",
}
_ARRAY_OIDS: Final[dict[int, int]] = {
    1002: 18,
    1003: 19,
    1009: 25,
    1028: 26,
    **{facts.array_oid: facts.oid for facts in TYPE_FACTS.values() if facts.array_oid != facts.oid},
}
_TYPMOD_HEADER: Final = 4


def format_type(oid: int | None, typmod: int | None) -> str | None:
    """PostgreSQL's name of a type, with its parameter."""
    if oid is None:
        return None
    element = _ARRAY_OIDS.get(oid) if oid not in _POSTGRES_NAMES else None
    if element is not None:
        return f"{format_type(element, typmod)}[]"
    name = _POSTGRES_NAMES.get(oid) or _catalog_names().get(oid)
    if name is None:
        return "-" if oid == 0 else "???"
    return name + _typmod_text(oid, typmod)


@functools.cache
def _catalog_names() -> dict[int, str]:
    """The types of pg_type; an array by its element, as PostgreSQL prints it."""
    rows = {row["oid"]: row for row in pg_type_facts()}
    plain = {oid: _POSTGRES_NAMES.get(oid, row["typname"]) for oid, row in rows.items()}
    arrays = {oid: f"{plain[row['typelem']]}[]" for oid, row in rows.items() if row["typinput"] == "array_in"}
    return plain | arrays


def _typmod_text(oid: int, typmod: int | None) -> str:
    if typmod is None or typmod < 0:
        return ""
    if oid in (1042, 1043) and typmod >= _TYPMOD_HEADER:
        return f"({typmod - _TYPMOD_HEADER})"
    if oid == 1560:
        return f"({typmod})"
    if oid == 1700 and typmod >= _TYPMOD_HEADER:
        packed = typmod - _TYPMOD_HEADER
        return f"({packed >> 16},{packed & 0xFFFF})"
    return ""


@functools.cache
def _oids_by_type_name() -> dict[str, int]:
    found: dict[str, int] = {name.strip('"'): oid for oid, name in _POSTGRES_NAMES.items()}
    for name, data_type in TYPE_NAMES.items():
        found.setdefault(name, type_oid(data_type))
        found.setdefault(f"{name}[]", type_oid(array_of(data_type)))
    for facts in TYPE_FACTS.values():
        found.setdefault(facts.pg_name, facts.oid)
    for row in pg_type_facts():
        found.setdefault(row["typname"], row["oid"])
        if row["typarray"]:
            found.setdefault(f"{row['typname']}[]", row["typarray"])
    return found


def type_oid_of_name(name: str) -> int | None:
    """The oid of a type's name in either spelling; None if there is none."""
    plain = name.strip().lower().removeprefix("pg_catalog.").strip('"')
    return _oids_by_type_name().get(plain)


def system_relation_oid(name: str) -> int | None:
    """The oid of a system table by its name, with or without its schema; None if there is none."""
    schema, _, table = name.replace('"', "").rpartition(".")
    schemas = (schema,) if schema else ("pg_catalog", "sys", "information_schema")
    for candidate in schemas:
        oid = system_relation_oids().get(RelationName(candidate, table))
        if oid is not None:
            return oid
    return None


def system_relation_name(oid: int) -> str | None:
    """The name ``regclass`` prints for a system table."""
    for name, known in system_relation_oids().items():
        if known == oid:
            return name.name if name.schema == "pg_catalog" else str(name)
    return None


def type_name(data_type: DataType) -> str:
    """What ``pg_typeof`` prints."""
    return data_type.name if data_type.kind not in ("text", "character", "numeric", "bit") else data_type.kind
