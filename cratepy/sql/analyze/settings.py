"""Settings of tables and of the cluster: which exist, and what values they take.

Names and words of refusals are CrateDB's (docs: sql/statements/create-table "WITH", config/cluster). Values are kept as
CrateDB shows them: times in milliseconds, sizes in bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cratepy.errors import SQLParseError, UnsupportedFeature
from cratepy.model.cluster_settings import CLUSTER_SETTINGS, ClusterSetting
from cratepy.model.expressions import Literal, Parameter
from cratepy.model.schema import SettingValue, TableDefinition
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
    "write.wait_for_active_shards": "active shards",
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
#: Smallest value of the integers that have one.
_INTEGER_MIN: Final = {
    "number_of_shards": 1,
    "number_of_routing_shards": 1,
    "mapping.total_fields.limit": 0,
    "mapping.depth.limit": 1,
    "routing.allocation.total_shards_per_node": -1,
    "allocation.max_retries": 0,
    "max_ngram_diff": 0,
    "max_shingle_diff": 0,
    "merge.scheduler.max_thread_count": 1,
    "merge.scheduler.max_merge_count": 1,
}
#: Settings that say how data was laid out when the table was made.
_FIXED: Final = frozenset({"store.type", "soft_deletes.enabled", "number_of_routing_shards"})
_ALLOCATION: Final = re.compile(r"routing\.allocation\.(include|require|exclude)\.[\w.-]+\Z")
#: Settings whose last words are free.
_CLUSTER_OPEN: Final = re.compile(
    r"(?:logger(?:\..+)?|cluster\.routing\.allocation\.(?:include|exclude|require|awareness\.force)\..+)\Z"
)
_LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "error", "off", "all"})
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
        case "active shards":
            return _active_shards(value)
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


def check_changeable(name: str, definition: TableDefinition) -> None:
    """Whether ALTER TABLE may change the setting. Raises SQLParseError."""
    if name in _FIXED:
        raise SQLParseError(f"Can't update non dynamic settings [[{name}]] for open indices [{definition.uuid}]")


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
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}]") from None
    minimum = _INTEGER_MIN.get(name, -(2**31))
    if number < minimum:
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be >= {minimum}")
    if number >= 2**31:
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be <= {2**31 - 1}")
    return number


def _active_shards(value: Any) -> str:
    """``all``, or a number of copies."""
    text = _text(value)
    if text.lower() != "all" and not (text.isascii() and text.isdigit()):
        raise SQLParseError(f"cannot parse ActiveShardCount[{text}]")
    return text


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


def optimize_option(name: str, value: Any) -> SettingValue:
    """An option of OPTIMIZE TABLE; ``max_num_segments`` below 1 leaves the number to the merge policy."""
    match name:
        case "max_num_segments":
            number = _integer(name, value)
            if number == 0 or number < -1:
                raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be >= 1")
            return number if number > 0 else None
        case "only_expunge_deletes" | "flush" | "upgrade_segments":
            return boolean_value(value)
        case _:
            raise SQLParseError(f"Setting '{name}' is not supported")


def check_cluster_setting(name: str) -> None:
    """Whether SET GLOBAL may change it, or settings below that name (``RESET GLOBAL stats``). Raises SQLParseError, UnsupportedFeature."""
    if _CLUSTER_OPEN.match(name):
        return
    known = CLUSTER_SETTINGS.get(name)
    if known is None and not settings_below(name):
        raise SQLParseError(f"Setting '{name}' is not supported")
    if known is not None and not known.is_dynamic:
        raise UnsupportedFeature(f"Setting '{name}' cannot be set/reset at runtime")


def settings_below(name: str) -> tuple[str, ...]:
    """The setting, or every changeable setting below the name."""
    if name in CLUSTER_SETTINGS or _CLUSTER_OPEN.match(name):
        return (name,)
    return tuple(
        sorted(
            known.name for known in CLUSTER_SETTINGS.values() if known.is_dynamic and known.name.startswith(f"{name}.")
        )
    )


def cluster_value(name: str, value: Any) -> SettingValue:
    """A cluster setting's value in canonical form. Raises SQLParseError."""
    if isinstance(value, list):
        value = ",".join(_text(item) for item in value)
    if name.startswith("logger"):
        if value is not None and _text(value).lower() not in _LEVELS:
            raise SQLParseError(f"Unknown level constant [{_text(value).upper()}].")
        return value if value is None else _text(value)
    known = CLUSTER_SETTINGS.get(name)
    if known is None:
        if not _CLUSTER_OPEN.match(name):
            raise SQLParseError(f"Setting '{name}' is not supported")
        return value if value is None else _text(value)
    if known.words:
        return _cluster_word(known, value)
    match known.kind:
        case "boolean":
            return boolean_value(value)
        case "integer":
            number = _integer(name, value)
            if known.minimum is not None and number < known.minimum:
                raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be >= {known.minimum}")
            return number
        case "number":
            return _number(name, value)
        case "time":
            return time_ms(name, value)
        case "size":
            return _size_bytes(name, value)
        case "share":
            return _share(name, value)
        case _:
            return value if value is None else _text(value)


def _cluster_word(setting: ClusterSetting, value: Any) -> str:
    """One of the setting's words, in whatever case."""
    text = _text(value)
    for word in setting.words:
        if text.lower() == word:
            return word
    raise SQLParseError(
        f"Failed to parse value [{text}] for setting [{setting.name}] must be one of [{', '.join(setting.words)}]"
    )


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}]") from None
    if not 0 <= number < float("inf"):
        raise SQLParseError(f"Failed to parse value [{value}] for setting [{name}] must be >= 0.0")
    return number


def _share(name: str, value: Any) -> SettingValue:
    """A percentage, or bytes; kept as written."""
    text = _text(value)
    if text.endswith("%"):
        try:
            percent = float(text[:-1])
        except ValueError:
            raise SQLParseError(f"failed to parse [{text}] as a double") from None
        if not 0 <= percent <= 100:
            raise SQLParseError(f"percentage should be in [0-100], got [{text[:-1]}]")
        return text
    _size_bytes(name, value)
    return text
