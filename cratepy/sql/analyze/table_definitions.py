"""CREATE TABLE: the elements as written become a TableDefinition; CREATE TABLE AS takes its columns from a query."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cratepy.errors import (
    ColumnUnknown,
    InvalidColumnName,
    InvalidRelationName,
    RelationAlreadyExists,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.limits import IDENTIFIER_BYTES_MAX, TABLE_SHARDS_MAX
from cratepy.model.commands import CreateTable
from cratepy.model.expressions import Column
from cratepy.model.leaves import key_part, split_path
from cratepy.model.names import SYSTEM_SCHEMAS, RelationName, check_column_name
from cratepy.model.plan import CommandPlan, InsertPlan
from cratepy.model.schema import (
    SYSTEM_COLUMNS,
    CheckConstraint,
    ColumnDefinition,
    SettingValue,
    TableDefinition,
    check_total_columns,
)
from cratepy.model.search import part_path
from cratepy.model.types import BOOLEAN, UNDEFINED, DataType
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.generated_columns import with_generated
from cratepy.sql.analyze.indexes import column_index, custom_analyzers, named_indexes, part_indexes
from cratepy.sql.analyze.like_tables import like_definition
from cratepy.sql.analyze.part_rules import part_checks, part_defaults, required_parts
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.schema_text import first_name_offset, stored_text, table_scope
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.settings import constant, table_settings
from cratepy.sql.analyze.statements import AnalyzedCreateTableAs, AnalyzedInsert, AnalyzedQuery
from cratepy.sql.analyze.storable import check_storable
from cratepy.sql.analyze.typing import cast_to, data_type
from cratepy.sql.analyze.walk import nodes
from cratepy.sql.parse import tree

_FORBIDDEN: Final = frozenset('\\/*?"<>| ,#')
#: What a geo_shape may be indexed with in CrateDB. There is no such index here; the clause is kept for SHOW CREATE TABLE.
_SHAPE_TREES: Final = frozenset({"bkdtree", "geohash", "quadtree"})
_NO_KEY: Final = frozenset({"object", "geo_point", "geo_shape"})


def check_name(name: RelationName) -> None:
    """Whether a relation of that name may be made. Raises InvalidRelationName, SQLParseError."""
    if name.schema in SYSTEM_SCHEMAS:
        raise SQLParseError(f"Cannot create relation in read-only schema: {name.schema}")
    for part in (name.schema, name.name):
        if set(part) & _FORBIDDEN:
            raise InvalidRelationName(
                f"Relation name '{part}' is invalid. Must not contain the following characters "
                '[>, |, ,, /, \\,  , ", <, *, ?]'
            )
        if "." in part:
            raise InvalidRelationName(f"Relation name '{name}' is invalid. Name can't contain '.'")
        if not part:
            raise InvalidRelationName(f"Relation name '{name}' is invalid. Name cannot be empty")
    if len(str(name).encode()) > IDENTIFIER_BYTES_MAX:
        raise InvalidRelationName(
            f"Relation name '{name}' is invalid. Full name must be no longer than {IDENTIFIER_BYTES_MAX} bytes"
        )


def create_table(context: Context, node: tree.CreateTableNode) -> CommandPlan:
    """The command of a CREATE TABLE."""
    name = context.catalog.new_name(node.name)
    check_name(name)
    if node.like is not None:
        made = like_definition(context, node.like, name, frozenset(node.like_parts))
        return _created(context, made, node)
    if node.partitioned_by:
        raise UnsupportedFeature("PARTITIONED BY is not supported")
    settings = table_settings(context, node.settings)
    seen: set[str] = set()
    for written in node.columns:
        if written.name in seen:
            raise SQLParseError(f'column "{written.name}" specified more than once')
        seen.add(written.name)
    columns = tuple(column_definition(context, c, oid, name) for oid, c in enumerate(node.columns, 1))
    plain = TableDefinition(name=name, uuid="", oid=0, columns=columns)
    key, key_name = _primary_key(node, plain)
    columns = tuple(
        msgspec.structs.replace(column, is_nullable=False) if column.name in key else column for column in columns
    )
    definition = TableDefinition(
        name=name,
        uuid=context.new_uuid(),
        oid=0,
        columns=columns,
        primary_key=key,
        primary_key_name=key_name,
        clustered_by=_clustered_by(node, plain, key),
        required_parts=required_parts(node.columns),
        part_defaults=part_defaults(context, node.columns),
    )
    definition = with_generated(context, definition, node.columns)
    definition = _with_indexes(context, definition, node)
    definition = msgspec.structs.replace(definition, checks=_checks(context, definition, node))
    definition = _with_layout(context, definition, node, settings)
    check_total_columns(definition)
    return _created(context, definition, node)


def _created(context: Context, definition: TableDefinition, node: tree.CreateTableNode) -> CommandPlan:
    name = definition.name
    if context.catalog.find((name.schema, name.name)) is not None and not node.if_not_exists:
        raise RelationAlreadyExists(f"Relation '{name}' already exists.")
    return CommandPlan(command=CreateTable(definition=definition, if_not_exists=node.if_not_exists))


def _with_indexes(context: Context, definition: TableDefinition, node: tree.CreateTableNode) -> TableDefinition:
    parts = [index for written in node.columns for index in part_indexes(context, written.type, written.name)]
    indexes = (*parts, *named_indexes(context, node.indexes, definition.columns))
    analyzers = custom_analyzers(context, definition.columns, indexes)
    return msgspec.structs.replace(definition, indexes=indexes, analyzers=analyzers)


# --- columns ---------------------------------------------------------------------------------------------------------


def written_type(written: tree.ColumnDef) -> DataType:
    """The type of a column that may be stored. Raises SQLParseError, UnsupportedFeature."""
    if written.type is None:
        raise SQLParseError(
            f"Column [{written.name}]: data type needs to be provided or column should be defined as a generated "
            "expression"
        )
    result = data_type(written.type)
    check_storable(result)
    return result


def column_definition(context: Context, written: tree.ColumnDef, oid: int, table: RelationName) -> ColumnDefinition:
    """A column without its generated expression (that needs the other columns)."""
    check_new_column_name(written.name)
    if written.declares_both:
        raise SQLParseError(f'Column "{written.name}" is declared as NOT NULL, therefore, cannot be declared NULL')
    if written.is_nullable is True and written.is_primary_key:
        raise SQLParseError(f'Column "{written.name}" is declared as PRIMARY KEY, therefore, cannot be declared NULL')
    if written.generated is not None and written.type is None:
        kind = UNDEFINED
    else:
        kind = written_type(written)
    index, analyzer = column_index(context, written, kind)
    index_options: tuple[tuple[str, str], ...] = ()
    if kind.kind == "geo_shape" and written.index in _SHAPE_TREES:
        index = written.index
        index_options = tuple((name, str(constant(context, value))) for name, value in written.index_options)
    default_sql = None
    if written.default is not None:
        default_sql = default_text(context, written.name, written.default, kind)
    has_columnstore = True
    for option, value in written.storage:
        if option != "columnstore":
            raise SQLParseError(f"Invalid STORAGE WITH option `{option}` for column `{written.name}`")
        has_columnstore = bool(constant(context, value))
    return ColumnDefinition(
        oid=oid,
        name=written.name,
        type=kind,
        is_nullable=written.is_nullable is not False,
        default_sql=default_sql,
        index=index,
        analyzer=analyzer,
        index_options=index_options,
        has_columnstore=has_columnstore,
    )


def check_new_column_name(name: str) -> None:
    """Whether a column may have that name. Raises InvalidColumnName."""
    check_column_name(name)
    if name in SYSTEM_COLUMNS:
        raise InvalidColumnName(f'"{name}" conflicts with system column')


def default_text(context: Context, name: str, default: tuple[tree.Node, str], kind: DataType) -> str:
    """A DEFAULT as it is stored. Raises SQLParseError, UnsupportedFeature for what cannot be one of the column."""
    node, text = default
    if kind.kind == "object":
        raise SQLParseError(f"Default values are not allowed for object columns: {name}")
    a = ExpressionAnalyzer(context, Scope(), place="DEFAULT")
    try:
        expression = a.analyze(node)
    except ColumnUnknown as error:
        column = error.message.removeprefix("Column ").removesuffix(" unknown")
        raise UnsupportedFeature(
            f"Cannot reference columns in DEFAULT expression of `{name}`. "
            f"Maybe you wanted to use a string literal with single quotes instead: '{column}'"
        ) from error
    cast_to(context, expression, kind)
    return stored_text(node, text, 0)


def _checks(context: Context, definition: TableDefinition, node: tree.CreateTableNode) -> tuple[CheckConstraint, ...]:
    written: list[tuple[str | None, str | None, tree.Node, str]]
    written = [(column.name, *check) for column in node.columns for check in column.checks]
    written += part_checks(node.columns)
    written += [(None, *check) for check in node.checks]
    return check_constraints(context, definition, written)


def check_constraints(
    context: Context,
    definition: TableDefinition,
    written: Iterable[tuple[str | None, str | None, tree.Node, str]],
) -> tuple[CheckConstraint, ...]:
    """CHECK constraints as they are stored, from (column, constraint's name, tree, text). Raises SQLParseError."""
    found: list[CheckConstraint] = []
    scope, _ = table_scope(context, definition)
    for column, name, tree_node, text in written:
        a = ExpressionAnalyzer(context, scope, place="CHECK")
        expression = a.analyze(tree_node)
        if expression.type != BOOLEAN:
            expression = cast_to(context, expression, BOOLEAN)
        for part in nodes(expression):
            if column is not None and isinstance(part, Column) and part.name != split_path(column)[0]:
                raise UnsupportedFeature(
                    f"CHECK constraint on column `{column}` cannot refer to column `{part.name}`. "
                    "Use full path to refer to a sub-column or a table check constraint instead"
                )
        sql = stored_text(tree_node, text, first_name_offset(tree_node, text))
        found.append(CheckConstraint(name or _check_name(definition.name, column, sql), sql))
    names = [check.name for check in found]
    for name in names:
        if names.count(name) > 1:
            raise SQLParseError(f"a check constraint of the same name is already declared [{name}]")
    return tuple(found)


def _check_name(table: RelationName, column: str | None, sql: str) -> str:
    digest = hashlib.sha256(f"{table}/{column}/{sql}".encode()).hexdigest()[:12]
    middle = ""
    if column is not None:
        base, keys = split_path(column)
        middle = "".join(f"_{part}" for part in (base, *keys))
    return f"{table.schema}_{table.name}{middle}_check_{digest}"


# --- key, routing, shards --------------------------------------------------------------------------------------------


def _column_of(node: tree.Node) -> str:
    """The name of a column, or of a part: ``o['id']``."""
    path: list[str] = []
    while isinstance(node, tree.Subscript) and isinstance(node.index, tree.StringWord):
        path.insert(0, node.index.value)
        node = node.base
    if isinstance(node, tree.Name) and len(node.parts) == 1:
        return part_path(node.parts[0], *path)
    raise UnsupportedFeature("PRIMARY KEY and CLUSTERED BY take columns and parts of object columns only")


def _key_type(definition: TableDefinition, name: str) -> DataType:
    """The type of a column or part that is to be in a key. Raises ColumnUnknown, UnsupportedFeature."""
    found = key_part(definition, name)
    if found is not None:
        return found.type
    base, path = split_path(name)
    column = definition.column(base)
    kind = None if column is None else column.type
    for key in path:
        if kind is not None and kind.kind == "array":
            raise UnsupportedFeature(f'Cannot use column "{name}" with type "{kind.name}" as primary key')
        kind = None if kind is None else kind.field(key)
    if kind is None:
        raise ColumnUnknown(f"Column {name} unknown")
    if kind.kind not in (*_NO_KEY, "array"):
        raise UnsupportedFeature(f"Column {name} of an IGNORED object cannot be in a key")
    return kind


def _keys_in(columns: tuple[tree.ColumnDef, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[str, tree.ColumnDef]]:
    """Columns and parts with PRIMARY KEY behind them, by name."""
    for written in columns:
        name = part_path(path[0], *path[1:], written.name) if path else written.name
        if written.is_primary_key:
            yield name, written
        if written.type is not None and written.type.columns:
            yield from _keys_in(written.type.columns, (*path, written.name))


def _primary_key(node: tree.CreateTableNode, definition: TableDefinition) -> tuple[tuple[str, ...], str | None]:
    written_keys = list(_keys_in(node.columns))
    key = [name for name, _ in written_keys]
    names = [column.primary_key_name for _, column in written_keys if column.primary_key_name]
    if node.primary_key is not None:
        for written in node.primary_key:
            name = _column_of(written)
            if name in key:
                raise SQLParseError(f"Columns `{name}` appears twice in primary key constraint")
            key.append(name)
        if node.primary_key_name:
            names.append(node.primary_key_name)
    for name in key:
        kind = _key_type(definition, name)
        if kind.kind == "array":
            raise UnsupportedFeature(f'Cannot use column "{name}" with type "{kind.name}" as primary key')
        if kind.kind in _NO_KEY:
            raise UnsupportedFeature(f'Cannot use columns of type "{kind.kind}" as primary key')
    return tuple(key), names[0] if names else None


def _clustered_by(node: tree.CreateTableNode, definition: TableDefinition, key: tuple[str, ...]) -> str | None:
    if node.clustered_by is None:
        return key[0] if len(key) == 1 else None
    name = _column_of(node.clustered_by)
    if name == "_id":
        return None
    _key_type(definition, name)
    if key and name not in key:
        raise SQLParseError(f"Clustered by column `{name}` must be part of primary keys: [{', '.join(key)}]")
    return name


def routing_shards_of(shards: int) -> int:
    """Room to double the number of shards up to 1,024, as in CrateDB."""
    bits = (shards - 1).bit_length()
    return shards << max(1, 10 - bits)


def _with_layout(
    context: Context, definition: TableDefinition, node: tree.CreateTableNode, settings: dict[str, SettingValue]
) -> TableDefinition:
    data_nodes = sum(1 for info in context.catalog.state.nodes.values() if info.is_data)
    shards = max(4, 2 * data_nodes)
    if node.shards is not None:
        shards = _shards(constant(context, node.shards))
    kept = dict(settings)
    if "number_of_shards" in kept:
        raise SQLParseError('Invalid property "number_of_shards" passed to [ALTER | CREATE] TABLE statement')
    routing = kept.pop("number_of_routing_shards", None)
    routing_shards = routing_shards_of(shards) if routing is None else int(routing)
    if routing_shards < shards or routing_shards % shards:
        raise SQLParseError(
            f"the number of source shards [{shards}] must be a factor of [{routing_shards}] (number_of_routing_shards)"
        )
    replicas = str(kept.pop("number_of_replicas", "0-1"))
    policy = str(kept.pop("column_policy", "strict"))
    return msgspec.structs.replace(
        definition,
        shards=shards,
        routing_shards=routing_shards,
        replicas=replicas,
        column_policy=policy,
        settings=kept,
    )


def _shards(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SQLParseError(f"Failed to parse value [{value}] for setting [number_of_shards]")
    if value < 1:
        raise SQLParseError("num_shards in CLUSTERED clause must be greater than 0")
    if value > TABLE_SHARDS_MAX:
        raise SQLParseError(
            f"Failed to parse value [{value}] for setting [number_of_shards] must be <= {TABLE_SHARDS_MAX}"
        )
    return value


# --- CREATE TABLE AS -------------------------------------------------------------------------------------------------


def create_table_as(context: Context, node: tree.CreateTableNode, query: tree.Query) -> AnalyzedCreateTableAs:
    """The command and the insert of a CREATE TABLE AS."""
    name = context.catalog.new_name(node.name)
    check_name(name)
    if context.catalog.find((name.schema, name.name)) is not None and not node.if_not_exists:
        raise RelationAlreadyExists(f"Relation '{name}' already exists.")
    result = analyze_query(context, query, parent=None, with_names={})
    columns: list[ColumnDefinition] = []
    for oid, column in enumerate(result.columns, 1):
        if any(known.name == column.name for known in columns):
            raise SQLParseError(f'column "{column.name}" specified more than once')
        check_new_column_name(column.name)
        kind = (
            column.type
            if column.type.kind != "numeric" or column.type.precision
            else DataType("numeric", precision=38, scale=18)
        )
        check_storable(kind)
        columns.append(ColumnDefinition(oid=oid, name=column.name, type=kind))
    definition = TableDefinition(name=name, uuid=context.new_uuid(), oid=0, columns=tuple(columns))
    definition = _with_layout(context, definition, node, {})
    plan = InsertPlan(
        table_uuid=definition.uuid, table=name, targets=tuple(column.name for column in definition.columns)
    )
    source = AnalyzedQuery(relation=result.relation, columns=result.columns, tables=tuple(context.tables))
    return AnalyzedCreateTableAs(
        command=CreateTable(definition=definition, if_not_exists=node.if_not_exists),
        insert=AnalyzedInsert(plan=plan, query=source, columns=None),
    )
