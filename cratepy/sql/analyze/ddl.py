"""DDL: statements that change the schema become commands for the master; REFRESH and OPTIMIZE become plans.

What the cluster state can decide (does the relation exist, is the schema writable) is checked here for the words of the
error, and again by the master, whose state may be newer.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from cratepy.errors import (
    DependentObjects,
    OperationOnInaccessibleRelation,
    RelationAlreadyExists,
    RelationUnknown,
    SchemaAlreadyExists,
    SchemaUnknown,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    Command,
    CreateSchema,
    CreateView,
    DropSchema,
    DropTable,
    DropView,
    RenameTable,
)
from cratepy.model.names import DEFAULT_SCHEMA, SYSTEM_SCHEMAS, RelationName, check_column_name
from cratepy.model.plan import CommandPlan, OptimizePlan, Plan, RefreshPlan
from cratepy.model.schema import ColumnDefinition, TableDefinition, ViewDefinition
from cratepy.model.search import IndexDefinition, part_path
from cratepy.model.table_blocks import check_blocks
from cratepy.model.types import DataType, Field, array_of, object_of
from cratepy.sql.analyze import analyzers, table_definitions
from cratepy.sql.analyze.catalog import CatalogView, SystemTable, split_name
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.indexes import custom_analyzers, part_index, part_indexes
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.settings import (
    check_changeable,
    check_table_setting_name,
    constant,
    optimize_option,
    table_settings,
)
from cratepy.sql.analyze.statements import AnalyzedDirect, AnalyzedStatement
from cratepy.sql.parse import tree

_Node = (
    tree.CreateTableNode
    | tree.CreateViewNode
    | tree.CreateSchemaNode
    | tree.DropNode
    | tree.CreateAnalyzerNode
    | tree.DropAnalyzerNode
    | tree.AlterTableNode
    | tree.RefreshNode
    | tree.OptimizeNode
)


def define(context: Context, node: _Node) -> tuple[AnalyzedStatement, str]:
    """The statement's plan and its command tag."""
    # Every plan here holds what is true now; the next run must look again.
    context.is_cacheable = False
    match node:
        case tree.CreateTableNode():
            if node.query is not None:
                return table_definitions.create_table_as(context, node, node.query), "CREATE"
            return _direct(table_definitions.create_table(context, node), "CREATE")
        case tree.CreateViewNode():
            return _command(_create_view(context, node), "CREATE")
        case tree.CreateSchemaNode():
            return _create_schema(context, node)
        case tree.DropNode():
            return _drop(context, node)
        case tree.CreateAnalyzerNode():
            return _command(analyzers.create_analyzer(context, node), "CREATE")
        case tree.DropAnalyzerNode():
            return _command(analyzers.drop_analyzer(context, node), "DROP")
        case tree.AlterTableNode():
            return _command(_alter_table(context, node), "ALTER")
        case tree.RefreshNode():
            return _direct(RefreshPlan(tables=_uuids(context, node.names, "REFRESH")), "REFRESH")
        case tree.OptimizeNode():
            options = {name: optimize_option(name, constant(context, value)) for name, value in node.options}
            if options.get("upgrade_segments") is True and len(options) > 1:
                raise SQLParseError("cannot use other parameters if upgrade_segments is set to true")
            return _direct(OptimizePlan(tables=_uuids(context, node.names, "OPTIMIZE"), options=options), "OPTIMIZE")
        case _:
            assert_never(node)


def _direct(plan: Plan, tag: str) -> tuple[AnalyzedStatement, str]:
    return AnalyzedDirect(plan=plan, columns=None, tag=tag), tag


def _command(command: Command, tag: str) -> tuple[AnalyzedStatement, str]:
    return _direct(CommandPlan(command=command), tag)


def _uuids(context: Context, names: tuple[tuple[str, ...], ...], operation: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        relation = context.catalog.relation(name)
        if isinstance(relation, SystemTable) and operation == "REFRESH":
            continue
        found[context.catalog.table(name, operation).uuid] = None
    return tuple(found)


# --- views and schemas -----------------------------------------------------------------------------------------------


def _create_view(context: Context, node: tree.CreateViewNode) -> CreateView:
    name = context.catalog.new_name(node.name)
    table_definitions.check_name(name)
    existing = context.catalog.find((name.schema, name.name))
    if existing is not None and not (node.or_replace and isinstance(existing, ViewDefinition)):
        raise RelationAlreadyExists(f"Relation '{name}' already exists.")
    # The query must be right now; its result is thrown away.
    result = analyze_query(context, node.query, parent=None, with_names={})
    names = [column.name for column in result.columns]
    for column in names:
        if names.count(column) > 1:
            raise SQLParseError(f'Query in CREATE VIEW must not have duplicate column names: "{column}"')
    if context.parameter_types:
        raise SQLParseError("Cannot use parameters in CREATE VIEW")
    view = ViewDefinition(
        name=name, oid=0, sql=node.text, owner=context.session.user, search_path=context.catalog.search_path
    )
    return CreateView(view=view, or_replace=node.or_replace)


def _create_schema(context: Context, node: tree.CreateSchemaNode) -> tuple[AnalyzedStatement, str]:
    _, name = split_name(node.name)
    if name in SYSTEM_SCHEMAS or name == DEFAULT_SCHEMA:
        raise SQLParseError(f"Schema '{name}' is reserved")
    if name in context.catalog.state.schemas and not node.if_not_exists:
        raise SchemaAlreadyExists(f"Schema '{name}' already exists")
    return _command(CreateSchema(name=name, if_not_exists=node.if_not_exists), "CREATE")


def _drop(context: Context, node: tree.DropNode) -> tuple[AnalyzedStatement, str]:
    match node.kind:
        case "table":
            return _drop_table(context, node)
        case "view":
            return _drop_view(context, node)
        case _:
            return _drop_schema(context, node)


def _drop_table(context: Context, node: tree.DropNode) -> tuple[AnalyzedStatement, str]:
    catalog = context.catalog
    found = catalog.find(node.names[0])
    if found is None:
        if node.if_exists:
            return _command(DropTable(name=catalog.new_name(node.names[0]), if_exists=True), "DROP")
        catalog.relation(node.names[0])
        raise AssertionError("an unknown relation has raised")
    table = catalog.table(node.names[0], "DROP")
    return _command(DropTable(name=table.name, if_exists=node.if_exists), "DROP")


def _drop_view(context: Context, node: tree.DropNode) -> tuple[AnalyzedStatement, str]:
    names: list[RelationName] = []
    missing: list[RelationName] = []
    for parts in node.names:
        found = context.catalog.find(parts)
        if isinstance(found, ViewDefinition):
            names.append(found.name)
        else:
            missing.append(found.name if found is not None else context.catalog.new_name(parts))
    if missing and not node.if_exists:
        raise RelationUnknown(f"Relations not found: {', '.join(map(str, missing))}")
    return _command(DropView(names=tuple(names), if_exists=node.if_exists), "DROP")


def _drop_schema(context: Context, node: tree.DropNode) -> tuple[AnalyzedStatement, str]:
    names = tuple(split_name(parts)[1] for parts in node.names)
    catalog: CatalogView = context.catalog
    for name in names:
        if name in SYSTEM_SCHEMAS or name == DEFAULT_SCHEMA:
            raise SQLParseError(f"Cannot drop reserved schema '{name}'")
        if name not in catalog.schemas and not node.if_exists:
            raise SchemaUnknown(f"Schema '{name}' unknown")
        state = catalog.state
        relations = [table.definition.name for table in state.tables.values()] + [v.name for v in state.views.values()]
        if not node.cascade and any(relation.schema == name for relation in relations):
            raise DependentObjects(f'Cannot drop schema "{name}" because other objects depend on it')
    return _command(DropSchema(names=names, if_exists=node.if_exists, cascade=node.cascade), "DROP")


# --- ALTER TABLE -----------------------------------------------------------------------------------------------------


def _alter_table(context: Context, node: tree.AlterTableNode) -> Command:
    if node.action == "rename":
        return _rename(context, node)
    names = [name for name, _ in node.settings] if node.action == "set" else node.names
    is_of_blocks = node.action in ("set", "reset") and all(name.startswith("blocks.") for name in names)
    table = context.catalog.table(node.name, "ALTER BLOCKS" if is_of_blocks else "ALTER")
    match node.action:
        case "add":
            return _add_columns(context, node, table)
        case "set":
            settings = table_settings(context, node.settings)
            for name in settings:
                check_changeable(name, table)
            if "number_of_shards" in settings:
                raise UnsupportedFeature("Changing number_of_shards of a table is not supported")
            return AlterTableSettings(name=table.name, settings=settings)
        case _:
            for name in node.names:
                check_table_setting_name(name)
                check_changeable(name, table)
            return AlterTableSettings(name=table.name, settings=dict.fromkeys(node.names))


def _rename(context: Context, node: tree.AlterTableNode) -> Command:
    found = context.catalog.relation(node.name)
    if isinstance(found, SystemTable):
        raise OperationOnInaccessibleRelation(
            f'The relation "{found.name}" doesn\'t support or allow ALTER RENAME operations'
        )
    if len(node.names) > 1:
        raise SQLParseError("Target table name must not include a schema")
    target = RelationName(found.name.schema, node.names[0])
    table_definitions.check_name(target)
    if isinstance(found, ViewDefinition):
        raise UnsupportedFeature("ALTER TABLE RENAME of a view is not supported")
    check_blocks(found, "ALTER RENAME")
    if context.catalog.find((target.schema, target.name)) is not None:
        raise SQLParseError(f"Cannot rename table {found.name} to {target}, table {target} already exists")
    return RenameTable(name=found.name, new_name=node.names[0])


def _add_columns(context: Context, node: tree.AlterTableNode, table: TableDefinition) -> Command:
    columns: list[ColumnDefinition] = []
    changed: dict[str, ColumnDefinition] = {}
    indexes: list[IndexDefinition] = []
    for written in node.columns:
        if written.checks:
            raise UnsupportedFeature("ALTER TABLE ADD COLUMN with CHECK is not supported")
        if written.is_primary_key:
            raise UnsupportedFeature("Cannot add a primary key column to a table that isn't empty")
        if written.generated is not None:
            raise UnsupportedFeature("Cannot add a generated column to a table that isn't empty")
        if written.path:
            name = written.name
            known = changed.get(name) or table.column(name)
            if known is None:
                # The object is made with its first part, as in CrateDB.
                check_column_name(name)
                known = ColumnDefinition(oid=0, name=name, type=object_of(()))
            changed[name] = _with_part(known, written)
            indexes += part_index(context, written, part_path(name, *written.path))
            continue
        if table.column(written.name) is not None:
            raise SQLParseError(f"The table {table.name} already has a column named {written.name}")
        columns.append(table_definitions.column_definition(context, written, 0, table.name))
        indexes += part_indexes(context, written.type, written.name)
    columns.extend(column for name, column in changed.items() if table.column(name) is None)
    parts = tuple(column for name, column in changed.items() if table.column(name) is not None)
    return AddColumns(
        table_uuid=table.uuid,
        columns=tuple(columns),
        object_fields=parts,
        indexes=tuple(indexes),
        analyzers=custom_analyzers(context, columns, indexes),
    )


def _with_part(column: ColumnDefinition, written: tree.ColumnDef) -> ColumnDefinition:
    """The object column with one more part at ``o['a']['b']``."""
    new_type = table_definitions.written_type(written)
    return msgspec.structs.replace(column, type=_grown(column.type, written.path, Field(written.path[-1], new_type)))


def _grown(kind: DataType, path: tuple[str, ...], part: Field) -> DataType:
    if kind.kind == "array":
        assert kind.element is not None
        return array_of(_grown(kind.element, path, part))
    if kind.kind != "object":
        raise SQLParseError(f"Cannot add a part to a column of type {kind.name}")
    if len(path) == 1:
        if kind.field(path[0]) is not None:
            raise SQLParseError(f"The object already has a part named {path[0]}")
        return object_of((*kind.fields, part), kind.policy)
    known = kind.field(path[0])
    inner = _grown(known if known is not None else object_of(()), path[1:], part)
    if known is None:
        return object_of((*kind.fields, Field(path[0], inner)), kind.policy)
    fields = tuple(Field(f.name, inner) if f.name == path[0] else f for f in kind.fields)
    return object_of(fields, kind.policy)
