"""Rows of information_schema, from the cluster state.

Spellings and oddities are CrateDB's: primary-key columns appear as NOT NULL checks in table_constraints, parts of object
columns are columns named ``o['a']``, ``data_type`` of an array is ``integer_array``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.functions.analysis.catalog import (
    BUILTIN_ANALYZERS,
    CHAR_FILTER_NAMES,
    TOKEN_FILTER_NAMES,
    TOKENIZER_NAMES,
)
from cratepy.model.names import CATALOG_NAME, DEFAULT_SCHEMA, RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition, primary_key_name
from cratepy.model.search import part_path
from cratepy.model.state import ClusterState
from cratepy.model.system_tables import required_system_columns, system_tables
from cratepy.model.types import DataType

#: bits or digits, radix and scale of numbers, as CrateDB reports them.
_NUMERIC_PRECISION: Final = {"byte": 8, "smallint": 16, "integer": 32, "bigint": 64, "real": 24, "double precision": 53}


def user_tables(state: ClusterState) -> list[TableDefinition]:
    """All tables, by name."""
    return sorted((table.definition for table in state.tables.values()), key=lambda definition: definition.name)


def schema_names(state: ClusterState) -> list[str]:
    """All schemas: the fixed ones, those made by hand, those that have a relation."""
    names = {"blob", "information_schema", "pg_catalog", "sys", DEFAULT_SCHEMA, *state.schemas}
    names.update(table.definition.name.schema for table in state.tables.values())
    names.update(view.name.schema for view in state.views.values())
    return sorted(names)


def flat_columns(
    columns: Iterable[tuple[str, DataType]], *, wraps: bool = True
) -> Iterator[tuple[str, tuple[str, ...], DataType]]:
    """Columns with the parts of objects after them: (printed name, path, type).

    A part in an array of objects is an array (``wraps``), as its subscript is; of user tables CrateDB tells its own type.
    """

    def parts(name: str, path: tuple[str, ...], data_type: DataType) -> Iterator[tuple[str, tuple[str, ...], DataType]]:
        yield name, path, data_type
        inner = data_type if data_type.element is None else data_type.element
        if inner.kind == "object":
            for field in inner.fields:
                is_array = wraps and data_type.element is not None
                part = DataType("array", element=field.type) if is_array else field.type
                yield from parts(part_path(name, field.name), (*path, field.name), part)

    for name, data_type in columns:
        yield from parts(name, (name,), data_type)


def _schemata(view: SystemView) -> Iterable[Row]:
    return ({"catalog_name": CATALOG_NAME, "schema_name": name} for name in schema_names(view.state))


def _tables(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        yield {
            "table_catalog": CATALOG_NAME,
            "table_schema": definition.name.schema,
            "table_name": definition.name.name,
            "table_type": "BASE TABLE",
            "number_of_shards": definition.shards,
            "number_of_replicas": definition.replicas,
            "clustered_by": definition.clustered_by
            or (definition.primary_key[0] if len(definition.primary_key) == 1 else "_id"),
            "column_policy": definition.column_policy,
            "closed": definition.is_closed,
            "partitioned_by": list(definition.partitioned_by) or None,
            "routing_hash_function": "Murmur3",
            "reference_generation": "SYSTEM GENERATED",
            "self_referencing_column_name": "_id",
            "settings": table_settings(definition),
            "version": {"created": "6.4.3", "upgraded": None},
        }
    for definition_of_view in sorted(view.state.views.values(), key=lambda found: found.name):
        yield _plain_table(definition_of_view.name, "VIEW")
    for name in sorted(system_tables()):
        yield _plain_table(name, "BASE TABLE")


def _plain_table(name: RelationName, table_type: str) -> Row:
    return {
        "table_catalog": CATALOG_NAME,
        "table_schema": name.schema,
        "table_name": name.name,
        "table_type": table_type,
        "column_policy": "strict",
        "reference_generation": "SYSTEM GENERATED",
    }


def table_settings(definition: TableDefinition) -> dict[str, Any]:
    """The settings object of a table: CrateDB's defaults with what was given."""
    settings: dict[str, Any] = {
        "blocks": {
            "read_only": False,
            "read": False,
            "write": False,
            "metadata": False,
            "read_only_allow_delete": False,
        },
        "codec": "default",
        "refresh_interval": 1000,
        "store": {"type": "fs"},
        "translog": {"flush_threshold_size": 536_870_912, "sync_interval": 5000, "durability": "REQUEST"},
        "mapping": {"total_fields": {"limit": 1000}, "depth": {"limit": 100}},
        "write": {"wait_for_active_shards": "1"},
        "unassigned": {"node_left": {"delayed_timeout": 60_000}},
        "merge": {"scheduler": {"max_thread_count": 1, "max_merge_count": 6}},
        "routing": {"allocation": {"enable": "all", "total_shards_per_node": -1}},
    }
    for name, value in definition.settings.items():
        *path, last = name.split(".")
        target = settings
        for part in path:
            child = target.get(part)
            if not isinstance(child, dict):
                child = {}
            target[part] = child
            target = child
        target[last] = value
    return settings


def _columns(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        by_name = {column.name: column for column in definition.columns}
        flat = flat_columns(((column.name, column.type) for column in definition.columns), wraps=False)
        places = {path: place for place, path in enumerate(definition.ordinals, start=1)}
        for natural, (printed, path, data_type) in enumerate(flat, start=1):
            column = by_name[path[0]] if len(path) == 1 else None
            ordinal = places.get(printed, natural)
            yield _column_row(definition.name, printed, path, data_type, ordinal, column, definition)
    for name, columns in sorted(view.describe_views(view.state).items()):
        for ordinal, (printed, path, data_type) in enumerate(flat_columns(columns), start=1):
            yield _column_row(name, printed, path, data_type, ordinal, None, None)
    required = required_system_columns()
    for name, system_columns in sorted(system_tables().items()):
        for ordinal, (printed, path, data_type) in enumerate(flat_columns(system_columns), start=1):
            row = _column_row(name, printed, path, data_type, ordinal, None, None)
            yield {**row, "is_nullable": "NO"} if printed in required[name] else row


def _part_default(definition: TableDefinition | None, path: str) -> str | None:
    if definition is None:
        return None
    return next((part.sql for part in definition.part_defaults if part.path == path), None)


def _column_row(
    table: RelationName,
    printed: str,
    path: tuple[str, ...],
    data_type: DataType,
    ordinal: int,
    column: ColumnDefinition | None,
    definition: TableDefinition | None,
) -> Row:
    is_nullable = (column is None or column.is_nullable) and not (
        definition and (printed in definition.primary_key or printed in definition.required_parts)
    )
    is_generated = column is not None and column.generated_sql is not None
    digits = data_type.precision if data_type.kind == "numeric" else _NUMERIC_PRECISION.get(data_type.kind)
    return {
        "table_catalog": CATALOG_NAME,
        "table_schema": table.schema,
        "table_name": table.name,
        "column_name": printed,
        "ordinal_position": ordinal,
        "data_type": type_name(data_type),
        "is_nullable": "YES" if is_nullable else "NO",
        "is_generated": "ALWAYS" if is_generated else "NEVER",
        "generation_expression": column.generated_shown or column.generated_sql if column is not None else None,
        "column_default": column.default_sql if column is not None else _part_default(definition, printed),
        "character_maximum_length": data_type.length,
        "numeric_precision": digits,
        "numeric_precision_radix": None if digits is None else (10 if data_type.kind == "numeric" else 2),
        "numeric_scale": data_type.scale if data_type.kind == "numeric" else None,
        "datetime_precision": 3 if data_type.is_timestamp else None,
        "is_identity": False,
        "udt_catalog": CATALOG_NAME,
        "udt_schema": None,
        "udt_name": type_name(data_type),
        "column_details": {
            "name": path[0],
            "oid": column.oid if column is not None else ordinal,
            "path": list(path[1:]),
            "policy": data_type.policy or None,
        },
    }


def type_name(data_type: DataType) -> str:
    """The name in ``data_type``: ``varchar(3)`` is ``character varying``, array names end in ``_array``."""
    if data_type.kind == "text" and data_type.length is not None:
        return "character varying"
    if data_type.kind == "array":
        assert data_type.element is not None
        return f"{type_name(data_type.element)}_array"
    return data_type.kind


def _views(view: SystemView) -> Iterator[Row]:
    for found in sorted(view.state.views.values(), key=lambda found: found.name):
        yield {
            "table_catalog": CATALOG_NAME,
            "table_schema": found.name.schema,
            "table_name": found.name.name,
            "view_definition": found.sql,
            "check_option": "NONE",
            "is_updatable": False,
            "owner": found.owner,
        }


def _table_constraints(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        base = {
            "constraint_catalog": CATALOG_NAME,
            "constraint_schema": definition.name.schema,
            "table_catalog": CATALOG_NAME,
            "table_schema": definition.name.schema,
            "table_name": definition.name.name,
            "initially_deferred": "NO",
            "is_deferrable": "NO",
        }
        if definition.primary_key:
            yield base | {"constraint_name": primary_key_name(definition), "constraint_type": "PRIMARY KEY"}
        for check in definition.checks:
            yield base | {"constraint_name": check.name, "constraint_type": "CHECK"}
        for column in definition.columns:
            if not column.is_nullable or column.name in definition.primary_key:
                name = f"{definition.name.schema}_{definition.name.name}_{column.name}_not_null"
                yield base | {"constraint_name": name, "constraint_type": "CHECK"}


def _key_column_usage(view: SystemView) -> Iterator[Row]:
    for definition in user_tables(view.state):
        for position, column in enumerate(definition.primary_key, start=1):
            yield {
                "constraint_catalog": CATALOG_NAME,
                "constraint_schema": definition.name.schema,
                "constraint_name": primary_key_name(definition),
                "table_catalog": CATALOG_NAME,
                "table_schema": definition.name.schema,
                "table_name": definition.name.name,
                "column_name": column,
                "ordinal_position": position,
            }


def _character_sets(view: SystemView) -> Iterable[Row]:
    return (
        {
            "character_repertoire": "UCS",
            "character_set_name": "UTF8",
            "default_collate_catalog": CATALOG_NAME,
            "form_of_use": "UTF8",
        },
    )


def _collations(view: SystemView) -> Iterable[Row]:
    return (
        {
            "collation_catalog": CATALOG_NAME,
            "collation_schema": "pg_catalog",
            "collation_name": "C.utf8",
            "pad_attribute": "NO PAD",
        },
    )


def _routines(view: SystemView) -> Iterator[Row]:
    """What analyzers are made of, and the analyzers, custom ones too."""
    kinds = (
        ("ANALYZER", {*BUILTIN_ANALYZERS, *view.state.analyzers}),
        ("CHAR_FILTER", set(CHAR_FILTER_NAMES)),
        ("TOKENIZER", set(TOKENIZER_NAMES)),
        ("TOKEN_FILTER", set(TOKEN_FILTER_NAMES)),
    )
    for kind, names in kinds:
        for name in sorted(names):
            yield {"routine_name": name, "routine_type": kind, "is_deterministic": False}


PROVIDERS: Final[Mapping[str, Provider]] = {
    "schemata": _schemata,
    "tables": _tables,
    "columns": _columns,
    "views": _views,
    "table_constraints": _table_constraints,
    "key_column_usage": _key_column_usage,
    "character_sets": _character_sets,
    "collations": _collations,
    "routines": _routines,
}
