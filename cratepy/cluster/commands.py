"""Commands applied: ``apply(state, command) → state``, pure, the only way the cluster state changes besides membership.

Enter the state and one command of :mod:`cratepy.model.commands`; leaves the new state (the same object if nothing
changed), or a CrateError in CrateDB's words. Time and chance came with the command. Repeating a command after its answer
was lost is harmless where the command names what it made: a table by its uuid, columns by name and type.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeVar, assert_never

import msgspec

from cratepy import limits
from cratepy.cluster import allocation
from cratepy.errors import (
    AnalyzerUnknown,
    BadRequest,
    ColumnValidation,
    DependentObjects,
    RelationAlreadyExists,
    RelationUnknown,
    SchemaAlreadyExists,
    SchemaUnknown,
    SQLParseError,
    VersionConflict,
)
from cratepy.model.commands import (
    AddColumns,
    AlterTableSettings,
    ChangeTable,
    Command,
    CreateAnalyzer,
    CreateSchema,
    CreateTable,
    CreateView,
    DropAnalyzer,
    DropSchema,
    DropTable,
    DropView,
    RenameTable,
    RetireNodes,
    RetryFailedShards,
    SetClusterSettings,
    ShardFailed,
    ShardsStarted,
    SwapTables,
)
from cratepy.model.names import DEFAULT_SCHEMA, SYSTEM_SCHEMAS, RelationName
from cratepy.model.schema import ColumnDefinition, SettingValue, TableDefinition, check_total_columns, column_paths
from cratepy.model.search import IndexDefinition
from cratepy.model.state import ClusterState, TableState
from cratepy.model.types import DataType, Field, array_of

replace = msgspec.structs.replace
Numbered = TypeVar("Numbered", ColumnDefinition, IndexDefinition)
_RESERVED_SCHEMAS: Final = SYSTEM_SCHEMAS | {DEFAULT_SCHEMA}


def apply(state: ClusterState, command: Command, avoided: Collection[str] = ()) -> ClusterState:
    """The state after the command. Raises the CrateError the client is told.

    ``avoided``: nodes that get no new shard as long as there are others, because the master does not hear of them.
    """
    match command:
        case CreateTable():
            return _create_table(state, command, avoided)
        case DropTable():
            return _drop_table(state, command)
        case AddColumns():
            return _add_columns(state, command)
        case ChangeTable():
            return _change_table(state, command)
        case CreateView():
            return _create_view(state, command)
        case DropView():
            return _drop_view(state, command)
        case CreateSchema():
            return _create_schema(state, command)
        case DropSchema():
            return _drop_schema(state, command)
        case AlterTableSettings():
            return _alter_settings(state, command)
        case RenameTable():
            return _rename_table(state, command)
        case SwapTables():
            return _swap_tables(state, command)
        case CreateAnalyzer():
            return _create_analyzer(state, command)
        case DropAnalyzer():
            return _drop_analyzer(state, command)
        case SetClusterSettings():
            return _set_cluster_settings(state, command)
        case ShardsStarted(copies):
            return allocation.start_shards(state, copies)
        case RetireNodes(node_ids):
            return _retire_nodes(state, node_ids)
        case RetryFailedShards():
            return allocation.retry_failed(state)
        case ShardFailed():
            return allocation.fail_shard(
                state,
                table_uuid=command.table_uuid,
                shard=command.shard,
                allocation_id=command.allocation_id,
                term=command.primary_term,
                reason=command.reason,
            )
        case _:
            assert_never(command)


def _retire_nodes(state: ClusterState, node_ids: tuple[str, ...]) -> ClusterState:
    retired = tuple(sorted(set(node_ids)))
    if retired == state.coordination.retired:
        return state
    return replace(state, coordination=replace(state.coordination, retired=retired))


def is_repeatable(command: Command) -> bool:
    """Whether a command whose outcome is unknown may be sent again without doing it twice or failing because it was done."""
    match command:
        case (
            CreateTable()
            | AddColumns()
            | ChangeTable()
            | AlterTableSettings()
            | CreateAnalyzer()
            | SetClusterSettings()
            | ShardsStarted()
            | RetireNodes()
            | RetryFailedShards()
            | ShardFailed()
        ):
            return True
        case CreateView(or_replace=flag) | DropView(if_exists=flag):
            return flag
        case CreateSchema(if_not_exists=flag) | DropSchema(if_exists=flag) | DropTable(if_exists=flag):
            return flag
        case RenameTable() | SwapTables() | DropAnalyzer():
            return False
        case _:
            assert_never(command)


# --- tables ----------------------------------------------------------------------------------------------------------


def _create_table(state: ClusterState, command: CreateTable, avoided: Collection[str]) -> ClusterState:
    definition = command.definition
    if definition.uuid in state.tables:
        return state
    if _relation_exists(state, definition.name):
        if command.if_not_exists:
            return state
        raise RelationAlreadyExists(f"Relation '{definition.name}' already exists.")
    _check_shards(state, definition.shards)
    columns, next_oid = _with_oids(definition.columns, max(definition.next_column_oid, 1))
    indexes, next_oid = _with_oids(definition.indexes, next_oid)
    definition = replace(definition, oid=state.next_oid, columns=columns, indexes=indexes, next_column_oid=next_oid)
    table = allocation.new_table(state, definition, avoided)
    return replace(state, tables={**state.tables, definition.uuid: table}, next_oid=state.next_oid + 1)


def _check_shards(state: ClusterState, added: int) -> None:
    setting = state.settings_transient.get("cluster.max_shards_per_node")
    if setting is None:
        setting = state.settings_persistent.get("cluster.max_shards_per_node", limits.SHARDS_PER_NODE_MAX)
    data_nodes = sum(1 for node in state.nodes.values() if node.is_data)
    total = sum(len(table.routing) for table in state.tables.values())
    # Before the first data node has joined there is nothing to count against.
    allowed = int(setting or limits.SHARDS_PER_NODE_MAX) * max(data_nodes, 1)
    if total + added > allowed:
        raise BadRequest(
            f"Validation Failed: 1: this action would add [{added}] total shards, but this cluster currently has "
            f"[{total}]/[{allowed}] maximum shards open;"
        )


def _with_oids(columns: tuple[Numbered, ...], next_oid: int) -> tuple[tuple[Numbered, ...], int]:
    """The columns or indexes with oids of their own, and the next free oid."""
    result = tuple(replace(column, oid=next_oid + index) for index, column in enumerate(columns))
    return result, next_oid + len(columns)


def _drop_table(state: ClusterState, command: DropTable) -> ClusterState:
    table = state.table(command.name)
    if table is None:
        if command.if_exists:
            return state
        raise RelationUnknown(f"Relation '{command.name}' unknown")
    return _without_tables(state, {table.definition.uuid})


def _without_tables(state: ClusterState, uuids: set[str]) -> ClusterState:
    dropped = (*state.dropped, *(uuid for uuid in state.tables if uuid in uuids))
    return replace(
        state,
        tables={uuid: table for uuid, table in state.tables.items() if uuid not in uuids},
        dropped=dropped[-limits.DROPPED_TABLES_MAX :],
    )


def _add_columns(state: ClusterState, command: AddColumns) -> ClusterState:
    table = state.tables.get(command.table_uuid)
    if table is None:
        raise RelationUnknown(f"Relation '{command.table_uuid}' unknown")
    definition = table.definition
    columns = list(definition.columns)
    position = {column.name: index for index, column in enumerate(columns)}
    added: list[ColumnDefinition] = []
    for column in command.columns:
        known = position.get(column.name)
        if known is None:
            position[column.name] = len(columns) + len(added)
            added.append(column)
        elif known < len(columns):
            columns[known] = replace(columns[known], type=_merged(column.name, columns[known].type, column.type))
    for column in command.object_fields:
        known = position.get(column.name)
        if known is None or known >= len(columns):
            raise ColumnValidation(f"Validation failed for {column.name}: the object column does not exist")
        columns[known] = replace(columns[known], type=_merged(column.name, columns[known].type, column.type))
    first_oid = definition.next_column_oid or max((column.oid for column in columns), default=0) + 1
    with_oids, next_oid = _with_oids(tuple(added), first_oid)
    known_indexes = {index.name for index in definition.indexes}
    indexes, next_oid = _with_oids(tuple(i for i in command.indexes if i.name not in known_indexes), next_oid)
    all_columns = (*columns, *with_oids)
    known_checks = {check.name for check in definition.checks}
    checks = tuple(check for check in command.checks if check.name not in known_checks)
    if all_columns == definition.columns and not indexes and not checks:
        return state
    known_analyzers = {analyzer.name for analyzer in definition.analyzers}
    definition = replace(
        definition,
        columns=all_columns,
        next_column_oid=next_oid,
        indexes=(*definition.indexes, *indexes),
        analyzers=(*definition.analyzers, *(a for a in command.analyzers if a.name not in known_analyzers)),
        checks=(*definition.checks, *checks),
    )
    definition = _grown_ordinals(table.definition, definition)
    check_total_columns(definition)
    return _with_definition(state, table, definition)


def _grown_ordinals(before: TableDefinition, after: TableDefinition) -> TableDefinition:
    """The definition with its new columns and sub-columns after all others, if they are not written there anyway."""
    paths = column_paths(after.columns)
    known = before.ordinals or tuple(column_paths(before.columns))
    seen = set(known)
    order = (*known, *(path for path in paths if path not in seen))
    return replace(after, ordinals=() if list(order) == paths else order)


def _merged(name: str, known: DataType, new: DataType) -> DataType:
    """Two writers' view of one column: parts of objects are united, anything else must agree.

    A type that nothing has told yet (of a key that was only NULL, of elements of ``[]``) is told by the other.
    """
    if known == new or new.kind == "undefined":
        return known
    if known.kind == "undefined":
        return new
    if known.kind == "array" and new.kind == "array":
        assert known.element is not None
        assert new.element is not None
        return array_of(_merged(name, known.element, new.element))
    if known.kind != "object" or new.kind != "object":
        raise ColumnValidation(
            f"Validation failed for {name}: column exists with type {known.name} and cannot become {new.name}"
        )
    wanted = {field.name: field.type for field in new.fields}
    fields = [
        Field(field.name, _merged(f"{name}['{field.name}']", field.type, wanted.pop(field.name)))
        if field.name in wanted
        else field
        for field in known.fields
    ]
    fields += [Field(field_name, field_type) for field_name, field_type in wanted.items()]
    return replace(known, fields=tuple(fields))


def _with_definition(state: ClusterState, table: TableState, definition: TableDefinition) -> ClusterState:
    definition = replace(definition, version=definition.version + 1)
    return replace(state, tables={**state.tables, definition.uuid: replace(table, definition=definition)})


def _change_table(state: ClusterState, command: ChangeTable) -> ClusterState:
    definition = command.definition
    table = state.tables.get(definition.uuid)
    if table is None:
        raise RelationUnknown(f"Relation '{definition.name}' unknown")
    known = table.definition
    if known == replace(definition, version=known.version):
        # It is done, by this command when its answer was lost, or by another that wanted the same.
        return state
    if known.version != definition.version:
        raise VersionConflict(f"Relation '{known.name}' was changed by another statement at the same time")
    return _with_definition(state, table, definition)


def _alter_settings(state: ClusterState, command: AlterTableSettings) -> ClusterState:
    table = state.table(command.name)
    if table is None:
        raise RelationUnknown(f"Relation '{command.name}' unknown")
    definition = table.definition
    settings = dict(command.settings)
    if "number_of_replicas" in settings:
        replicas = settings.pop("number_of_replicas")
        definition = replace(definition, replicas="0-1" if replicas is None else str(replicas))
    if "column_policy" in settings:
        policy = settings.pop("column_policy")
        definition = replace(definition, column_policy="strict" if policy is None else str(policy))
    definition = replace(definition, settings=_changed_settings(definition.settings, settings))
    return state if definition == table.definition else _with_definition(state, table, definition)


def _changed_settings(settings: dict[str, SettingValue], changes: dict[str, SettingValue]) -> dict[str, SettingValue]:
    merged = {**settings, **changes}
    return {name: value for name, value in sorted(merged.items()) if value is not None}


def _rename_table(state: ClusterState, command: RenameTable) -> ClusterState:
    table, view = state.table(command.name), state.views.get(str(command.name))
    if table is None and view is None:
        raise RelationUnknown(f"Relation '{command.name}' unknown")
    target = RelationName(command.name.schema, command.new_name)
    if target == command.name:
        return state
    if _relation_exists(state, target):
        kind = "view" if str(target) in state.views else "table"
        raise SQLParseError(f"Cannot rename table {command.name} to {target}, {kind} {target} already exists")
    if table is None:
        assert view is not None
        others = {key: known for key, known in state.views.items() if key != str(command.name)}
        return replace(state, views={**others, str(target): replace(view, name=target)})
    return _with_definition(state, table, replace(table.definition, name=target))


def _swap_tables(state: ClusterState, command: SwapTables) -> ClusterState:
    found = []
    for name in (command.source, command.target):
        table = state.table(name)
        if table is None:
            raise RelationUnknown(f"Relation '{name}' unknown")
        found.append(table)
    source, target = found
    if source is not target:
        state = _with_definition(state, source, replace(source.definition, name=command.target))
        state = _with_definition(state, target, replace(target.definition, name=command.source))
    return _without_tables(state, {target.definition.uuid}) if command.drops_source else state


def _relation_exists(state: ClusterState, name: RelationName) -> bool:
    return str(name) in state.views or state.table(name) is not None


# --- views, schemas, settings ----------------------------------------------------------------------------------------


def _create_view(state: ClusterState, command: CreateView) -> ClusterState:
    view = command.view
    key = str(view.name)
    existing = state.views.get(key)
    if state.table(view.name) is not None or (existing is not None and not command.or_replace):
        raise RelationAlreadyExists(f"Relation '{view.name}' already exists.")
    if existing is not None:
        view = replace(view, oid=existing.oid)
        return state if view == existing else replace(state, views={**state.views, key: view})
    view = replace(view, oid=state.next_oid)
    return replace(state, views={**state.views, key: view}, next_oid=state.next_oid + 1)


def _drop_view(state: ClusterState, command: DropView) -> ClusterState:
    missing = [str(name) for name in command.names if str(name) not in state.views]
    if missing and not command.if_exists:
        raise RelationUnknown(f"Relations not found: {', '.join(missing)}")
    dropped = {str(name) for name in command.names} - set(missing)
    if not dropped:
        return state
    return replace(state, views={key: view for key, view in state.views.items() if key not in dropped})


def _create_schema(state: ClusterState, command: CreateSchema) -> ClusterState:
    if command.name in _RESERVED_SCHEMAS:
        raise SQLParseError(f"Schema '{command.name}' is reserved")
    if command.name in state.schemas:
        if command.if_not_exists:
            return state
        raise SchemaAlreadyExists(f"Schema '{command.name}' already exists")
    return replace(state, schemas=tuple(sorted((*state.schemas, command.name))))


def _drop_schema(state: ClusterState, command: DropSchema) -> ClusterState:
    for name in command.names:
        state = _drop_one_schema(state, name, command)
    return state


def _drop_one_schema(state: ClusterState, name: str, command: DropSchema) -> ClusterState:
    if name in _RESERVED_SCHEMAS:
        raise SQLParseError(f"Cannot drop reserved schema '{name}'")
    tables = {uuid for uuid, table in state.tables.items() if table.definition.name.schema == name}
    views = {key for key, view in state.views.items() if view.name.schema == name}
    if name not in state.schemas and not tables and not views:
        if command.if_exists:
            return state
        raise SchemaUnknown(f"Schema '{name}' unknown")
    if (tables or views) and not command.cascade:
        raise DependentObjects(f'Cannot drop schema "{name}" because other objects depend on it')
    return replace(
        _without_tables(state, tables),
        views={key: view for key, view in state.views.items() if key not in views},
        schemas=tuple(known for known in state.schemas if known != name),
    )


def _create_analyzer(state: ClusterState, command: CreateAnalyzer) -> ClusterState:
    analyzer = command.analyzer
    if state.analyzers.get(analyzer.name) == analyzer:
        return state
    return replace(state, analyzers={**state.analyzers, analyzer.name: analyzer})


def _drop_analyzer(state: ClusterState, command: DropAnalyzer) -> ClusterState:
    if command.name not in state.analyzers:
        raise AnalyzerUnknown(f"Analyzer '{command.name}' unknown")
    return replace(state, analyzers={name: a for name, a in state.analyzers.items() if name != command.name})


def _set_cluster_settings(state: ClusterState, command: SetClusterSettings) -> ClusterState:
    if command.is_persistent:
        persistent = _changed_settings(state.settings_persistent, command.settings)
        return state if persistent == state.settings_persistent else replace(state, settings_persistent=persistent)
    resets = {name: None for name, value in command.settings.items() if value is None}
    # A reset names a setting, not a storage: it takes the value away from both.
    persistent = _changed_settings(state.settings_persistent, dict(resets))
    transient = _changed_settings(state.settings_transient, command.settings)
    if (persistent, transient) == (state.settings_persistent, state.settings_transient):
        return state
    return replace(state, settings_persistent=persistent, settings_transient=transient)
