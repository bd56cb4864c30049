"""DDL: statements that change the schema become commands for the master; REFRESH and OPTIMIZE become plans.

What the cluster state can decide (does the relation exist, is the schema writable) is checked here for the words of the
error, and again by the master, whose state may be newer.
"""

from __future__ import annotations

from typing import assert_never

from cratepy.errors import (
    DependentObjects,
    RelationAlreadyExists,
    RelationUnknown,
    SchemaAlreadyExists,
    SchemaUnknown,
    SQLParseError,
)
from cratepy.model.commands import (
    Command,
    CreateSchema,
    CreateView,
    DropSchema,
    DropTable,
    DropView,
)
from cratepy.model.names import DEFAULT_SCHEMA, SYSTEM_SCHEMAS, RelationName
from cratepy.model.plan import CommandPlan, OptimizePlan, Plan, RefreshPlan
from cratepy.model.schema import ViewDefinition
from cratepy.sql.analyze import analyzers, table_definitions
from cratepy.sql.analyze.alter_tables import alter_table, swap_tables
from cratepy.sql.analyze.catalog import CatalogView, SystemTable, split_name
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.settings import constant, optimize_option
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
    | tree.SwapTablesNode
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
            return _command(alter_table(context, node), "ALTER")
        case tree.SwapTablesNode():
            return _command(swap_tables(context, node), "ALTER")
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
