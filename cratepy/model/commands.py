"""Commands that change the cluster state: what a node asks the master for.

``cluster.commands.apply(state, command)`` is pure: everything that needs time or chance (uuids) is in the command.
"""

from __future__ import annotations

import msgspec

from cratepy.model.names import RelationName
from cratepy.model.schema import CheckConstraint, ColumnDefinition, SettingValue, TableDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition, IndexDefinition


class CreateTable(msgspec.Struct, frozen=True, tag_field="$", tag="create_table", kw_only=True):
    """``definition.oid`` is 0; the master sets it. Fails with RelationAlreadyExists unless ``if_not_exists``."""

    definition: TableDefinition
    if_not_exists: bool = False


class DropTable(msgspec.Struct, frozen=True, tag_field="$", tag="drop_table", kw_only=True):
    name: RelationName
    if_exists: bool = False


class AddColumns(msgspec.Struct, frozen=True, tag_field="$", tag="add_columns", kw_only=True):
    """Add top-level columns, and parts of object columns (``object_fields``: column name → new type of the column).

    Columns that are there already with the same type are fine (two writers saw the same new key); with another type it
    is a ColumnValidation. Oids of the columns are 0; the master sets them.
    """

    table_uuid: str
    columns: tuple[ColumnDefinition, ...] = ()
    object_fields: tuple[ColumnDefinition, ...] = ()
    #: Indexes of new parts of objects, and the custom analyzers that new columns and indexes use.
    indexes: tuple[IndexDefinition, ...] = ()
    analyzers: tuple[AnalyzerDefinition, ...] = ()
    #: CHECK constraints of the new columns.
    checks: tuple[CheckConstraint, ...] = ()


class ChangeTable(msgspec.Struct, frozen=True, tag_field="$", tag="change_table", kw_only=True):
    """A new definition instead of the one with ``definition.version``: columns dropped or renamed, constraints, defaults.

    Made of a whole definition because texts of expressions change with the names in them, and only ``sql`` reads those.
    Fails with VersionConflict if the table has changed since; the statement is then compiled again.
    """

    definition: TableDefinition


class CreateView(msgspec.Struct, frozen=True, tag_field="$", tag="create_view", kw_only=True):
    view: ViewDefinition
    or_replace: bool = False


class DropView(msgspec.Struct, frozen=True, tag_field="$", tag="drop_view", kw_only=True):
    names: tuple[RelationName, ...]
    if_exists: bool = False


class CreateSchema(msgspec.Struct, frozen=True, tag_field="$", tag="create_schema", kw_only=True):
    name: str
    if_not_exists: bool = False


class DropSchema(msgspec.Struct, frozen=True, tag_field="$", tag="drop_schema", kw_only=True):
    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


class AlterTableSettings(msgspec.Struct, frozen=True, tag_field="$", tag="alter_settings", kw_only=True):
    """New values of table settings; None removes one."""

    name: RelationName
    settings: dict[str, SettingValue]


class RenameTable(msgspec.Struct, frozen=True, tag_field="$", tag="rename_table", kw_only=True):
    """A table or a view."""

    name: RelationName
    new_name: str


class SwapTables(msgspec.Struct, frozen=True, tag_field="$", tag="swap_tables", kw_only=True):
    """The two tables exchange their names at once; with ``drops_source`` the one that is called ``source`` then goes."""

    source: RelationName
    target: RelationName
    drops_source: bool = False


class CreateAnalyzer(msgspec.Struct, frozen=True, tag_field="$", tag="create_analyzer"):
    """Make an analyzer, or make it anew; tables keep the one they were made with."""

    analyzer: AnalyzerDefinition


class DropAnalyzer(msgspec.Struct, frozen=True, tag_field="$", tag="drop_analyzer"):
    """Fails with AnalyzerUnknown."""

    name: str


class SetClusterSettings(msgspec.Struct, frozen=True, tag_field="$", tag="set_settings", kw_only=True):
    """None resets a setting."""

    settings: dict[str, SettingValue]
    is_persistent: bool = False


class RetireNodes(msgspec.Struct, frozen=True, tag_field="$", tag="retire_nodes"):
    """These nodes, and no others, shall not vote and not be master: they are being taken out of service."""

    node_ids: tuple[str, ...]


class RetryFailedShards(msgspec.Struct, frozen=True, tag_field="$", tag="retry_failed"):
    """Forget how often copies could not be opened: they are tried again."""


class StartedCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that a node has open, under the primary term it was opened for."""

    table_uuid: str
    shard: int
    allocation_id: str
    primary_term: int


class ShardsStarted(msgspec.Struct, frozen=True, tag_field="$", tag="shards_started"):
    """A node has opened or recovered its copies."""

    copies: tuple[StartedCopy, ...]


class ShardFailed(msgspec.Struct, frozen=True, tag_field="$", tag="shard_failed", kw_only=True):
    table_uuid: str
    shard: int
    allocation_id: str
    primary_term: int
    reason: str


Command = (
    CreateTable
    | DropTable
    | AddColumns
    | ChangeTable
    | CreateView
    | DropView
    | CreateSchema
    | DropSchema
    | AlterTableSettings
    | RenameTable
    | SwapTables
    | CreateAnalyzer
    | DropAnalyzer
    | SetClusterSettings
    | ShardsStarted
    | RetireNodes
    | RetryFailedShards
    | ShardFailed
)
