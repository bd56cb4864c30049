"""Settings of tables and of the cluster: which exist, and what values they take.

Names and words of refusals are CrateDB's (docs: sql/statements/create-table "WITH", config/cluster). Values are kept as
CrateDB shows them: times in milliseconds, sizes in bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.model.expressions import Literal, Parameter
from cratepy.model.schema import SettingValue
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.parse import tree

#: Table setting → kind of value: boolean, integer, time, size, text, or the allowed words.
TABLE_SETTINGS: Final[dict[str, str | tuple[str, ...]]] = {
    "number_of_replicas": "replicas",
    "number_of_shards": "integer",
    "number_of_routing_shards": "integer",
    "refresh_interval": "time",
    "write.wait_for_active_shards": "text",
    "blocks.read_only": "boolean",
    "blocks.read_only_allow_delete": "boolean",
    "blocks.read": "boolean",
    "blocks.write": "boolean",
    "blocks.metadata": "boolean",
    "soft_deletes.enabled": "boolean",
    "soft_deletes.retention_lease.period": "time",
    "codec": ("default", "best_compression"),
    "store.type": ("fs", "niofs", "mmapfs", "hybridfs"),
    "mapping.total_fields.limit": "integer",
    "mapping.depth.limit": "integer",
    "translog.flush_threshold_size": "size",
    "translog.sync_interval": "time",
    "translog.durability": ("REQUEST", "ASYNC"),
    "routing.allocation.total_shards_per_node": "integer",
    "routing.allocation.enable": ("all", "none", "primaries", "new_primaries"),
    "allocation.max_retries": "integer",
    "unassigned.node_left.delayed_timeout": "time",
    "column_policy": ("strict", "dynamic"),
    "max_ngram_diff": "integer",
    "max_shingle_diff": "integer",
    "merge.scheduler.max_thread_count": "integer",
    "merge.scheduler.max_merge_count": "integer",
}
_ALLOCATION: Final = re.compile(r"routing\.allocation\.(include|require|exclude)\.[\w.-]+\Z")
#: First words of the cluster settings that SET GLOBAL takes.
_CLUSTER_PREFIXES: Final = (
    "stats.",
    "cluster.",
    "indices.",
    "bulk.",
    "discovery.",
    "gateway.",
    "overload_protection.",
    "replication.",
    "logger.",
    "udc.",
    "memory.",
    "statement_timeout",
    "statement_max_length",
)
_TIME: Final = re.compile(r"(-?\d+(?:\.\d+)?)\s*(ms|s|m|h|d|micros|nanos)?\Z")
_TIME_MS: Final = {
    None: 1.0,
    "ms": 1.0,
    "s": 1_000.0,
    "m": 60_000.0,
    "h": 3_600_000.0,
    "d": 86_400_000.0,
    "micros": 0.001,
    "nanos": 1e-6,
}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|tb)?\Z")
_SIZE_BYTES: Final = {None: 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_REPLICAS: Final = re.compile(r"(\d+)(?:-(\d+|all)?)?\Z")


def constant(context: Context, node: tree.Node) -> Any:
    """The value of a setting: a literal, or an expression that folds to one. Raises SQLParseError."""
    a = ExpressionAnalyzer(context, Scope(), place="a setting")
    expression = a.analyze(node)
    if isinstance(expression, Parameter):
        raise SQLParseError("Parameters are not supported in settings")
    if not isinstance(expression, Literal):
        (expression,) = context.fold([expression])
    if not isinstance(expression, Literal):
        raise SQLParseError("The value of a setting must be a constant")
    return expression.value


def table_settings(context: Context, written: tuple[tuple[str, tree.Node], ...]) -> dict[str, SettingValue]:
    """WITH (…) of CREATE TABLE or SET (…) of ALTER TABLE, checked and in canonical form."""
    return {name: table_setting(name, constant(context, node)) for name, node in written}


def table_setting(name: str, value: Any) -> SettingValue:
    kind = TABLE_SETTINGS.get(name)
    if kind is None and not _ALLOCATION.match(name):
        raise SQLParseError(f'Invalid property "{name}" passed to [ALTER | CREATE] TABLE statement')
    match kind:
        case None | "text":
            return _text(value)
        case "replicas":
            return _replicas(value)
        case "boolean":
            return boolean_value(value)
        case "integer":
            return _integer(name, value)
        case "time":
            return time_ms(name, value)
        case "size":
            return _size_bytes(name, value)
        case _:
            return _word(name, value, kind)


def check_table_setting_name(name: str) -> None:
    if name not in TABLE_SETTINGS and not _ALLOCATION.match(name):
        raise SQLParseError(f'Invalid property "{name}" passed to [ALTER | CREATE] TABLE statement')


def _word(name: str, value: Any, words: str | tuple[str, ...]) -> str:
    text = _text(value)
    for word in words:
        if text.lower() == word.lower():
            return word
    if name == "column_policy":
        if text.lower() == "ignored":
            raise SQLParseError("Invalid value for argument 'column_policy'")
        raise SQLParseError(f"Invalid column policy: {text} use one of [dynamic, strict, ignored]")
    raise SQLParseError(f"unknown value for [index.{name}] must be one of [{', '.join(words)}] but was: {text}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def boolean_value(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = _text(value).lower()
    if text in ("true", "t"):
        return True
    if text in ("false", "f"):
        return False
    raise SQLParseError(f"Failed to parse value [{value}] as only [true] or [false] are allowed.")


def _integer(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}]") from None


def _replicas(value: Any) -> str:
    text = _text(value)
    found = _REPLICAS.match(text)
    if found is None or (found[2] not in (None, "all") and int(found[2]) < int(found[1])):
        raise SQLParseError(f'The "number_of_replicas" range "{text}" isn\'t valid')
    return text


def time_ms(name: str, value: Any) -> int:
    """A time as milliseconds: a number, or ``5s``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = int(value)
    else:
        found = _TIME.match(_text(value).strip().lower())
        if found is None:
            raise SQLParseError(f"failed to parse [{value}] as a time value")
        number = int(float(found[1]) * _TIME_MS[found[2]])
    if name == "translog.sync_interval" and number < 100:
        raise SQLParseError(f"failed to parse value [{value}] for setting [index.{name}], must be >= [100ms]")
    return number


def _size_bytes(name: str, value: Any) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    found = _SIZE.match(_text(value).strip().lower())
    if found is None:
        raise SQLParseError(f"failed to parse setting [{name}] with value [{value}] as a size in bytes")
    return int(float(found[1]) * _SIZE_BYTES[found[2]])


def check_cluster_setting(name: str) -> None:
    """Whether the cluster has such a setting."""
    if not any(f"{name}.".startswith(prefix) for prefix in _CLUSTER_PREFIXES):
        raise SQLParseError(f"Setting '{name}' is not supported")


def cluster_value(name: str, value: Any) -> SettingValue:
    """A cluster setting's value, checked where its kind can be told from the name."""
    last = name.rsplit(".", 1)[-1]
    if last in ("enabled", "force", "allow_rebalance") and name.startswith(
        ("stats.", "udc.", "cluster.graceful_stop.")
    ):
        if last != "allow_rebalance":
            return boolean_value(value)
    if last.endswith("_size") and name.startswith("stats."):
        number = _integer(name, value)
        if number < 0:
            raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be >= 0")
        return number
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}]")
