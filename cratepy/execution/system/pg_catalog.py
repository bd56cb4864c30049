"""Rows of pg_catalog, made from the cluster state so that PostgreSQL's clients can find their way.

Types are a table of facts (``pg_types.txt``); relations, attributes, indexes and constraints are the user's tables and the
system tables seen through PostgreSQL's eyes. Tables without a provider exist and are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from cratepy.execution.system.information_schema import schema_names, user_tables
from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.functions.catalog import index_definition
from cratepy.functions.procedure_texts import pseudo_type_oid
from cratepy.functions.registry import procedures
from cratepy.model.leaves import known_key_part, split_path
from cratepy.model.names import CATALOG_NAME, RelationName
from cratepy.model.oids import (
    DATABASE_OID,
    PRIMARY_KEY_INDEX_OFFSET,
    SUPERUSER_OID,
    constraint_oid,
    default_oid,
    procedure_oid,
    schema_oid,
    system_relation_oids,
)
from cratepy.model.pg_types import pg_type_facts
from cratepy.model.schema import TableDefinition, primary_key_name
from cratepy.model.system_tables import required_system_columns, system_tables
from cratepy.model.types import DataType, facts, type_oid

_INTERNAL_LANGUAGE: Final = 12
#: Types that have a collation, and the preferred types of their categories.
_COLLATED: Final = frozenset({"text", "varchar", "bpchar", "name"})
_PREFERRED: Final = frozenset({"bool", "text", "oid", "float8", "timestamptz", "interval", "varbit", "inet"})


@cache
def pg_types() -> tuple[Row, ...]:
    """The rows of pg_type."""
    rows: list[Row] = []
    for facts_of_type in pg_type_facts():
        row: dict[str, Any] = {
            **facts_of_type,
            "typnamespace": schema_oid("pg_catalog"),
            "typowner": SUPERUSER_OID,
            "typrelid": 0,
            "typnotnull": False,
            "typbasetype": 0,
            "typtypmod": -1,
            "typndims": 0,
            "typcollation": 100 if facts_of_type["typname"] in _COLLATED else 0,
            "typispreferred": facts_of_type["typname"] in _PREFERRED,
        }
        for name in ("typinput", "typoutput", "typreceive", "typsend"):
            row[name] = 0 if row[name] is None else procedure_oid(row[name])
        for name in ("typmodin", "typmodout", "typanalyze", "typsubscript"):
            row[name] = 0
        rows.append(row)
    return tuple(rows)


def _pg_type(view: SystemView) -> Iterable[Row]:
    return pg_types()


def _pg_namespace(view: SystemView) -> Iterator[Row]:
    for name in schema_names(view.state):
        yield {"oid": schema_oid(name), "nspname": name, "nspowner": SUPERUSER_OID}


def _pg_database(view: SystemView) -> Iterable[Row]:
    return (
        {
            "oid": DATABASE_OID,
            "datname": CATALOG_NAME,
            "datdba": SUPERUSER_OID,
            "encoding": 6,
            "datcollate": "C.UTF-8",
            "datctype": "C.UTF-8",
            "datistemplate": False,
            "datallowconn": True,
            "datconnlimit": -1,
            "datlocprovider": "c",
            "dattablespace": 1663,
        },
    )


def _roles(view: SystemView) -> Iterable[Row]:
    return (
        {
            "oid": SUPERUSER_OID,
            "rolname": "crate",
            "rolsuper": True,
            "rolinherit": True,
            "rolcreaterole": True,
            "rolcreatedb": True,
            "rolcanlogin": True,
            "rolreplication": True,
            "rolconnlimit": -1,
            "rolbypassrls": True,
        },
    )


def _pg_user(view: SystemView) -> Iterable[Row]:
    return (
        {
            "usename": "crate",
            "usesysid": SUPERUSER_OID,
            "usecreatedb": True,
            "usesuper": True,
            "userepl": True,
            "usebypassrls": True,
            "passwd": "********",
        },
    )


def _relations(view: SystemView) -> Iterator[tuple[int, RelationName, str, tuple[tuple[str, DataType], ...]]]:
    """Everything with columns: (oid, name, relkind, columns)."""
    for definition in user_tables(view.state):
        columns = tuple((column.name, column.type) for column in definition.columns)
        yield definition.oid, definition.name, "r", columns
    described = view.describe_views(view.state)
    for found in sorted(view.state.views.values(), key=lambda found: found.name):
        yield found.oid, found.name, "v", described.get(found.name, ())
    oids = system_relation_oids()
    for name, columns in sorted(system_tables().items()):
        kind = "v" if name.schema == "information_schema" else "r"
        yield oids[name], name, kind, columns


def _pg_class(view: SystemView) -> Iterator[Row]:
    tables = {definition.oid: definition for definition in user_tables(view.state)}
    for oid, name, kind, columns in _relations(view):
        table = tables.get(oid)
        row = _class_row(oid, name, kind, len(columns), has_index=table is not None and bool(table.primary_key))
        yield row if table is None else row | {"relchecks": len(table.checks)}
    for definition in user_tables(view.state):
        if definition.primary_key:
            index = RelationName(definition.name.schema, primary_key_name(definition))
            yield _class_row(
                definition.oid + PRIMARY_KEY_INDEX_OFFSET, index, "i", len(definition.primary_key), has_index=False
            )


def _class_row(oid: int, name: RelationName, kind: str, columns: int, *, has_index: bool) -> dict[str, Any]:
    return {
        "oid": oid,
        "relname": name.name,
        "relnamespace": schema_oid(name.schema),
        "reltype": 0,
        "reloftype": 0,
        "relowner": SUPERUSER_OID,
        "relam": 403 if kind == "i" else 2,
        "relfilenode": 0,
        "reltablespace": 0,
        "relpages": 0,
        "reltuples": -1.0,
        "relallvisible": 0,
        "reltoastrelid": 0,
        "relhasindex": has_index,
        "relisshared": False,
        "relpersistence": "p",
        "relkind": kind,
        "relnatts": columns,
        "relchecks": 0,
        "relhasrules": False,
        "relhastriggers": False,
        "relhassubclass": False,
        "relrowsecurity": False,
        "relforcerowsecurity": False,
        "relispopulated": True,
        "relreplident": "n" if kind == "i" else "d",
        "relispartition": False,
        "relrewrite": 0,
        "relfrozenxid": 0,
        "relminmxid": 0,
    }


def _pg_attribute(view: SystemView) -> Iterator[Row]:
    required: dict[int, frozenset[str]] = {}
    defaulted: dict[int, frozenset[str]] = {}
    generated: dict[int, frozenset[str]] = {}
    for definition in user_tables(view.state):
        columns = definition.columns
        required[definition.oid] = frozenset(c.name for c in columns if not c.is_nullable) | set(definition.primary_key)
        generated[definition.oid] = frozenset(c.name for c in columns if c.generated_sql is not None)
        defaulted[definition.oid] = generated[definition.oid] | {c.name for c in columns if c.default_sql is not None}
    nothing: frozenset[str] = frozenset()
    for table, table_oid in system_relation_oids().items():
        required[table_oid] = required_system_columns()[table]
    for oid, _, _, columns_of in _relations(view):
        for number, (name, data_type) in enumerate(columns_of, start=1):
            yield _attribute_row(
                oid,
                number,
                name,
                data_type,
                is_required=name in required.get(oid, nothing),
                has_default=name in defaulted.get(oid, nothing),
                is_generated=name in generated.get(oid, nothing),
            )
    for definition in user_tables(view.state):
        for number, name in enumerate(definition.primary_key, start=1):
            column = known_key_part(definition, name)
            index_oid = definition.oid + PRIMARY_KEY_INDEX_OFFSET
            yield _attribute_row(
                index_oid, number, name, column.type, is_required=True, has_default=False, is_generated=False
            )


def _attribute_row(
    oid: int, number: int, name: str, data_type: DataType, *, is_required: bool, has_default: bool, is_generated: bool
) -> Row:
    is_array = data_type.kind == "array"
    return {
        "attrelid": oid,
        "attname": name,
        "atttypid": type_oid(data_type),
        "attstattarget": -1,
        "attlen": -1 if is_array else facts(data_type).pg_length,
        "attnum": number,
        "attndims": 1 if is_array else 0,
        "attcacheoff": -1,
        "atttypmod": type_modifier(data_type),
        "attbyval": False,
        "attalign": "i",
        "attstorage": "p",
        "attcompression": "",
        "attnotnull": is_required,
        "atthasdef": has_default,
        "atthasmissing": False,
        "attidentity": "",
        "attgenerated": "s" if is_generated else "",
        "attisdropped": False,
        "attislocal": True,
        "attinhcount": 0,
        "attcollation": 0,
    }


def type_modifier(data_type: DataType) -> int:
    """PostgreSQL's typmod: length + 4 of varchar, ``precision << 16 | scale`` + 4 of numeric; -1 is none."""
    if data_type.kind in ("text", "character") and data_type.length is not None:
        return data_type.length + 4
    if data_type.kind == "bit" and data_type.length is not None:
        return data_type.length
    if data_type.kind == "numeric" and data_type.precision is not None:
        return (data_type.precision << 16 | (data_type.scale or 0)) + 4
    return -1


def _pg_attrdef(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        for number, column in enumerate(definition.columns, start=1):
            text = column.generated_sql or column.default_sql
            if text is not None:
                yield {
                    "oid": default_oid(definition.oid, number),
                    "adrelid": definition.oid,
                    "adnum": number,
                    "adbin": text,
                    "adsrc": text,
                }


def _pg_index(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        if not definition.primary_key:
            continue
        keys = _column_numbers(definition, definition.primary_key)
        yield {
            "indexrelid": definition.oid + PRIMARY_KEY_INDEX_OFFSET,
            "indrelid": definition.oid,
            "indnatts": len(keys),
            "indnkeyatts": len(keys),
            "indisunique": True,
            "indnullsnotdistinct": False,
            "indisprimary": True,
            "indisexclusion": False,
            "indimmediate": True,
            "indisclustered": False,
            "indisvalid": True,
            "indcheckxmin": False,
            "indisready": True,
            "indislive": True,
            "indisreplident": False,
            "indkey": keys,
            "indcollation": [0] * len(keys),
            "indclass": [0] * len(keys),
            "indoption": [0] * len(keys),
        }


def _column_numbers(definition: TableDefinition, names: Iterable[str]) -> list[int]:
    numbers = {column.name: number for number, column in enumerate(definition.columns, start=1)}
    # A part of an object has the number of its column.
    return [numbers[name if name in numbers else split_path(name)[0]] for name in names]


def _pg_indexes(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        if definition.primary_key:
            yield {
                "schemaname": definition.name.schema,
                "tablename": definition.name.name,
                "indexname": primary_key_name(definition),
                "indexdef": index_definition(definition),
            }


def _pg_constraint(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        if definition.primary_key:
            keys = _column_numbers(definition, definition.primary_key)
            yield _constraint_row(definition, primary_key_name(definition), "p", keys=keys)
        for check in definition.checks:
            yield _constraint_row(definition, check.name, "c", text=check.sql)


def _constraint_row(
    definition: TableDefinition,
    name: str,
    kind: str,
    *,
    keys: list[int] | None = None,
    text: str | None = None,
) -> Row:
    return {
        "oid": constraint_oid(definition.oid, name),
        "conname": name,
        "connamespace": schema_oid(definition.name.schema),
        "contype": kind,
        "condeferrable": False,
        "condeferred": False,
        "convalidated": True,
        "conrelid": definition.oid,
        "contypid": 0,
        "conindid": definition.oid + PRIMARY_KEY_INDEX_OFFSET if kind == "p" else 0,
        "conparentid": 0,
        "confrelid": 0,
        "confupdtype": " ",
        "confdeltype": " ",
        "confmatchtype": " ",
        "conislocal": True,
        "coninhcount": 0,
        "connoinherit": True,
        "conkey": keys,
        "conbin": text,
    }


def _pg_tables(view: SystemView) -> Iterator[Row]:
    for _, name, kind, _ in _relations(view):
        if kind == "r":
            yield {
                "schemaname": name.schema,
                "tablename": name.name,
                "tableowner": "crate",
                "hasindexes": False,
                "hasrules": False,
                "hastriggers": False,
                "rowsecurity": False,
            }


def _pg_views(view: SystemView) -> Iterator[Row]:
    for found in sorted(view.state.views.values(), key=lambda found: found.name):
        yield {
            "schemaname": found.name.schema,
            "viewname": found.name.name,
            "viewowner": found.owner,
            "definition": found.sql,
        }


def _pg_am(view: SystemView) -> Iterable[Row]:
    return ({"oid": 2, "amname": "heap", "amtype": "t"}, {"oid": 403, "amname": "btree", "amtype": "i"})


def _pg_tablespace(view: SystemView) -> Iterable[Row]:
    return ({"oid": 1663, "spcname": "pg_default", "spcowner": SUPERUSER_OID},)


@cache
def pg_procs() -> tuple[Row, ...]:
    """One row per function name, with its first signature: there is no oid for every overload."""
    rows: list[Row] = []
    for name, kind, signature in procedures():
        rows.append(
            {
                "oid": procedure_oid(name),
                "proname": name,
                "pronamespace": schema_oid("pg_catalog"),
                "proowner": SUPERUSER_OID,
                "prolang": _INTERNAL_LANGUAGE,
                "prokind": "f" if kind == "s" else kind,
                "proretset": kind == "s",
                "prosecdef": False,
                "proleakproof": False,
                "proisstrict": True,
                "provolatile": "i",
                "proparallel": "s",
                "pronargs": len(signature.parameters),
                "pronargdefaults": 0,
                "proargtypes": [pseudo_type_oid(parameter) for parameter in signature.parameters],
                "prorettype": pseudo_type_oid(signature.result),
                "prosrc": name,
                "provariadic": 0,
                "procost": 1.0,
                "prorows": 100.0 if kind == "s" else 0.0,
            }
        )
    return tuple(rows)


def _pg_proc(view: SystemView) -> Iterable[Row]:
    return pg_procs()


def _pg_language(view: SystemView) -> Iterable[Row]:
    owned = {"lanowner": SUPERUSER_OID, "lanispl": False}
    return (
        owned | {"oid": _INTERNAL_LANGUAGE, "lanname": "internal", "lanpltrusted": False},
        owned | {"oid": 14, "lanname": "sql", "lanpltrusted": True},
    )


def _pg_collation(view: SystemView) -> Iterable[Row]:
    base = {
        "collnamespace": schema_oid("pg_catalog"),
        "collowner": SUPERUSER_OID,
        "collencoding": -1,
        "collisdeterministic": True,
    }
    return (
        base | {"oid": 100, "collname": "default", "collprovider": "d"},
        base | {"oid": 950, "collname": "C", "collprovider": "c", "collcollate": "C", "collctype": "C"},
    )


PROVIDERS: Final[Mapping[str, Provider]] = {
    "pg_am": _pg_am,
    "pg_attrdef": _pg_attrdef,
    "pg_attribute": _pg_attribute,
    "pg_class": _pg_class,
    "pg_collation": _pg_collation,
    "pg_constraint": _pg_constraint,
    "pg_database": _pg_database,
    "pg_index": _pg_index,
    "pg_indexes": _pg_indexes,
    "pg_language": _pg_language,
    "pg_namespace": _pg_namespace,
    "pg_proc": _pg_proc,
    "pg_roles": _roles,
    "pg_authid": _roles,
    "pg_tables": _pg_tables,
    "pg_tablespace": _pg_tablespace,
    "pg_type": _pg_type,
    "pg_user": _pg_user,
    "pg_views": _pg_views,
}
