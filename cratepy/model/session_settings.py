"""Session settings: what SET, SHOW, RESET and pg_settings know, as data.

``SETTINGS`` are the ones CrateDB lists in pg_settings and SHOW ALL; ``SILENT_SETTINGS`` are PostgreSQL's that clients
ask for by name and CrateDB does not list. The session (``server.session_settings``) keeps the values; a value of a
setting that differs from its default travels in ``StatementContext.settings``, which is how ``current_setting`` and
pg_settings answer for it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy import CRATEDB_VERSION, POSTGRES_VERSION
from cratepy.limits import IDENTIFIER_BYTES_MAX


class SettingDefinition(msgspec.Struct, frozen=True):
    """``type`` is pg_settings' vartype: text, boolean, integer or interval. ``default`` is as SHOW prints it."""

    name: str
    default: str | None
    type: str
    description: str
    is_read_only: bool = False


_NAMED: Final = (
    SettingDefinition(
        "application_name",
        None,
        "text",
        "Optional application name. Can be set by a client to identify the application which created the connection",
    ),
    SettingDefinition(
        "client_encoding", "UTF8", "text", "Sets the client-side encoding. The only supported encoding is UTF8"
    ),
    SettingDefinition("datestyle", "ISO", "text", "Display format for date and time values."),
    SettingDefinition(
        "enable_hashjoin",
        "true",
        "boolean",
        "Considers using the Hash Join instead of the Nested Loop Join implementation.",
    ),
    SettingDefinition(
        "error_on_unknown_object_key",
        "true",
        "boolean",
        "Raises or suppresses ObjectKeyUnknownException when querying nonexistent keys to dynamic objects.",
    ),
    SettingDefinition(
        "insert_select_fail_fast", "false", "boolean", "Allows partial failure of 'INSERT FROM SELECT' statements"
    ),
    SettingDefinition(
        "max_identifier_length",
        "255",
        "integer",
        "Shows the maximum length of identifiers in bytes.",
        is_read_only=True,
    ),
    SettingDefinition("max_index_keys", "32", "integer", "Shows the maximum number of index keys.", is_read_only=True),
    SettingDefinition(
        "memory.operation_limit",
        "0",
        "integer",
        "Memory limit in bytes for an individual operation. 0 by-passes the operation limit, relying entirely on the global circuit breaker limits",
    ),
    SettingDefinition("search_path", "doc", "text", "Sets the schema search order."),
    SettingDefinition(
        "server_version", "14.0", "text", "Reports the emulated PostgreSQL version number", is_read_only=True
    ),
    SettingDefinition(
        "server_version_num", "140000", "integer", "Reports the emulated PostgreSQL version number", is_read_only=True
    ),
    SettingDefinition(
        "standard_conforming_strings",
        "on",
        "text",
        "Causes '...' strings to treat backslashes literally.",
        is_read_only=True,
    ),
    SettingDefinition(
        "statement_timeout",
        "0s",
        "interval",
        "The maximum duration of any statement before it gets killed. Infinite/disabled if 0",
    ),
)
#: CrateDB's optimizer rules. They can be switched, and SHOW tells how; the optimizer here has its own rules.
_OPTIMIZER_RULES: Final = (
    "deduplicate_order",
    "eliminate_cross_join",
    "equi_join_to_lookup_join",
    "merge_aggregate_and_collect_to_count",
    "merge_aggregate_rename_and_collect_to_count",
    "merge_filter_and_collect",
    "merge_filter_and_foreign_collect",
    "merge_filters",
    "move_constant_join_conditions_beneath_join",
    "move_equi_join_filter_into_inner_join",
    "move_filter_beneath_correlated_join",
    "move_filter_beneath_eval",
    "move_filter_beneath_group_by",
    "move_filter_beneath_join",
    "move_filter_beneath_multi_phase",
    "move_filter_beneath_order",
    "move_filter_beneath_project_set",
    "move_filter_beneath_rename",
    "move_filter_beneath_union",
    "move_filter_beneath_window_agg",
    "move_limit_beneath_eval",
    "move_limit_beneath_rename",
    "move_order_beneath_eval",
    "move_order_beneath_nested_loop",
    "move_order_beneath_rename",
    "move_order_beneath_union",
    "optimize_collect_where_clause_access",
    "remove_order_beneath_insert",
    "remove_redundant_eval",
    "reorder_hash_join",
    "reorder_nested_loop_join",
    "rewrite_filter_on_cross_join_to_inner_join",
    "rewrite_filter_on_outer_join_to_inner_join",
    "rewrite_group_by_keys_limit_to_limit_distinct",
    "rewrite_left_outer_join_to_hash_join",
    "rewrite_right_outer_join_to_hash_join",
    "rewrite_to_query_then_fetch",
)


def _rule(name: str) -> SettingDefinition:
    words = "".join(word.capitalize() for word in name.split("_"))
    default = "false" if name == "equi_join_to_lookup_join" else "true"
    return SettingDefinition(
        f"optimizer_{name}", default, "boolean", f"Indicates if the optimizer rule {words} is activated."
    )


#: In the order of SHOW ALL.
SETTINGS: Final[tuple[SettingDefinition, ...]] = tuple(
    sorted((*_NAMED, *(_rule(name) for name in _OPTIMIZER_RULES)), key=lambda definition: definition.name)
)
#: Name → value of PostgreSQL's settings that are answered by name only.
SILENT_SETTINGS: Final[dict[str, str]] = {
    "bytea_output": "hex",
    "client_min_messages": "notice",
    "crate_version": CRATEDB_VERSION,
    "default_table_access_method": "heap",
    "default_transaction_isolation": "read uncommitted",
    "default_transaction_read_only": "off",
    "escape_string_warning": "on",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "intervalstyle": "postgres",
    "is_superuser": "on",
    "lc_collate": "C",
    "lc_ctype": "C",
    "lc_messages": "C",
    "lock_timeout": "0",
    "row_security": "on",
    "server_encoding": "UTF8",
    "timezone": "UTC",
    "transaction_isolation": "read uncommitted",
    "transaction_read_only": "off",
}
#: Of these, what SET refuses.
READ_ONLY_SILENT: Final = frozenset({"crate_version", "in_hot_standby", "integer_datetimes", "server_encoding"})
DEFINITIONS: Final[dict[str, SettingDefinition]] = {definition.name: definition for definition in SETTINGS}

assert DEFINITIONS["server_version"].default == POSTGRES_VERSION
assert DEFINITIONS["max_identifier_length"].default == str(IDENTIFIER_BYTES_MAX)
