"""Table settings: the values they take, the form they are kept in, and what a block of a table leaves."""

from __future__ import annotations

import msgspec
import pytest

from cratepy.model.commands import AlterTableSettings
from cratepy.model.plan import CommandPlan
from cratepy.model.schema import SettingValue
from cratepy.model.state import ClusterState, TableState
from cratepy.sql.analyze.statements import AnalyzedDirect
from tests.sql.analyze.helpers import TABLES, analysis, error_of


def altered(text: str, state: ClusterState = TABLES) -> dict[str, SettingValue]:
    statement = analysis(text, state).statement
    assert isinstance(statement, AnalyzedDirect)
    assert isinstance(statement.plan, CommandPlan)
    command = statement.plan.command
    assert isinstance(command, AlterTableSettings)
    return command.settings


@pytest.mark.parametrize(("written", "kept"), [
    ("\"translog.flush_threshold_size\" = '512mb'", 512 << 20),
    ("\"translog.flush_threshold_size\" = '1.5kb'", 1536),
    ('"translog.flush_threshold_size" = 1024', 1024),
    ("\"translog.sync_interval\" = '200ms'", 200),
    ("\"translog.durability\" = 'async'", "ASYNC"),
    ("refresh_interval = '2s'", 2000),
    ("refresh_interval = -1", -1),
    ("codec = 'best_compression'", "best_compression"),
    ('"mapping.total_fields.limit" = 5', 5),
    ("\"write.wait_for_active_shards\" = 'all'", "all"),
    ('"write.wait_for_active_shards" = 1', "1"),
    ("max_ngram_diff = 4", 4),
    ('"blocks.write" = true', True),
    ("\"blocks.write\" = 'f'", False),
    ("\"routing.allocation.include.zone\" = 'a'", "a"),
])  # fmt: skip
def test_settings_are_kept_in_one_form(written: str, kept: SettingValue) -> None:
    ((_, value),) = altered(f"alter table t set ({written})").items()
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(("written", "message"), [
    ("nosuch = 1", 'Invalid property "nosuch" passed to [ALTER | CREATE] TABLE statement'),
    ("\"translog.flush_threshold_size\" = 'x'", "failed to parse setting [translog.flush_threshold_size] with value [x]"),
    ("\"translog.sync_interval\" = '50ms'", "must be >= [100ms]"),
    ("\"translog.durability\" = 'foo'", "must be one of [REQUEST, ASYNC] but was: foo"),
    ("refresh_interval = 'abc'", "failed to parse [abc] as a time value"),
    ("codec = 'zip'", "unknown value for [index.codec] must be one of [default, best_compression] but was: zip"),
    ('"mapping.total_fields.limit" = -1', "[-1] for setting [mapping.total_fields.limit] must be >= 0"),
    ('"merge.scheduler.max_thread_count" = 0', "must be >= 1"),
    ('"max_shingle_diff" = 99999999999', "must be <= 2147483647"),
    ("\"write.wait_for_active_shards\" = 'most'", "cannot parse ActiveShardCount[most]"),
    ("\"blocks.write\" = 'maybe'", "Failed to parse value [maybe] as only [true] or [false] are allowed."),
    ("\"store.type\" = 'niofs'", "Can't update non dynamic settings [[store.type]] for open indices"),
])  # fmt: skip
def test_values_that_a_setting_does_not_take_are_refused(written: str, message: str) -> None:
    told = error_of(f"alter table t set ({written})")
    assert told.startswith("SQLParseException[")
    assert message in told


STATEMENTS = {
    "READ": "select * from t",
    "INSERT": "insert into t (id) values (1)",
    "UPDATE": "update t set a = 'x'",
    "DELETE": "delete from t",
    "DROP": "drop table t",
    "ALTER": "alter table t set (refresh_interval = 5)",
    "ALTER RENAME": "alter table t rename to t_new",
    "ALTER BLOCKS": 'alter table t set ("blocks.write" = false, "blocks.read" = false)',
    "REFRESH": "refresh table t",
    "OPTIMIZE": "optimize table t",
}


@pytest.mark.parametrize(("block", "refused"), [
    ("read_only", {"INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "ALTER RENAME"}),
    ("read_only_allow_delete", {"INSERT", "UPDATE", "ALTER", "ALTER RENAME"}),
    ("read", {"READ"}),
    ("write", {"INSERT", "UPDATE", "DELETE", "DROP"}),
    ("metadata", {"DROP", "ALTER", "ALTER RENAME"}),
])  # fmt: skip
def test_a_block_refuses_some_operations_and_can_be_taken_away(block: str, refused: set[str]) -> None:
    state = _with_setting(f"blocks.{block}")
    for operation, statement in STATEMENTS.items():
        if operation in refused:
            expected = (
                f'OperationOnInaccessibleRelationException[The relation "doc.t" doesn\'t support or allow {operation} '
                "operations]"
            )
            assert error_of(statement, state) == expected
        else:
            analysis(statement, state)


def test_a_table_that_is_not_to_be_read_is_read_nowhere() -> None:
    state = _with_setting("blocks.read")
    for statement in ("insert into t (id) select id from t", "select 1 where exists (select 1 from t)"):
        assert "READ operations" in error_of(statement, state)


def _with_setting(name: str) -> ClusterState:
    tables: dict[str, TableState] = {}
    for uuid, table in TABLES.tables.items():
        definition = table.definition
        if definition.name.name == "t":
            definition = msgspec.structs.replace(definition, settings={name: True})
        tables[uuid] = msgspec.structs.replace(table, definition=definition)
    return msgspec.structs.replace(TABLES, tables=tables)
