"""Settings of a node: read once at start, checked, frozen.

Names and defaults are CrateDB's (docs: config/node, config/cluster). Precedence: ``-C key=value`` > ``crate.yml`` > default.
``crate.yml`` may nest (``cluster: {name: x}``) or dot (``cluster.name: x``) its keys, and ``${NAME}`` in a value is taken
from the environment. A setting this server does not know is refused: a mistyped name must not be silently ignored.
A setting CrateDB has and this server does not use yet is accepted and named in a warning at start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from cratepy.errors import CrateError
from cratepy.records import dataclass


class ConfigError(CrateError):
    """A setting that is unknown or has a value that cannot be; refuses the start of the node."""

    code, sqlstate, label = 4000, "22023", "SettingsException"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports to try in order; the first free one is taken."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not (0 <= self.first <= self.last <= 65_535):
            raise ConfigError(f"ports must be a number or a range within 0-65535, got {self.first}-{self.last}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What a node was told. Every field has the setting's name with ``.`` as ``_``."""

    cluster_name: str = "crate"
    node_name: str = ""
    path_data: Path = Path("data")
    network_host: str = "127.0.0.1"
    network_publish_host: str = ""
    http_port: PortRange = PortRange(4200, 4300)
    psql_port: PortRange = PortRange(5432, 5532)
    psql_enabled: bool = True
    transport_port: PortRange = PortRange(4300, 4400)
    discovery_seed_hosts: tuple[str, ...] = ()
    discovery_type: str = "zen"
    discovery_seed_providers: tuple[str, ...] = ()
    discovery_srv_query: str = ""
    discovery_srv_resolver: str = ""
    #: Everything below ``discovery.ec2.``, without the prefix.
    discovery_ec2: Mapping[str, Any] = field(default_factory=dict)
    discovery_find_peers_interval_s: float = 1.0
    discovery_request_peers_timeout_s: float = 3.0
    #: How nodes prove themselves to each other: a secret, or certificates (PEM files), or neither.
    cluster_secret: str = ""
    ssl_transport_mode: str = ""
    ssl_certificate: Path | None = None
    ssl_key: Path | None = None
    ssl_authority: Path | None = None
    #: Plaintext between nodes although others can reach the port.
    transport_insecure: bool = False
    #: The directory of ``unicast_hosts.txt``; by default that of the settings file.
    path_conf: Path | None = None
    cluster_initial_master_nodes: tuple[str, ...] = ()
    node_master: bool = True
    node_data: bool = True
    node_attributes: Mapping[str, str] = field(default_factory=dict)
    #: Timings of coordination that were given: fields of ``CoordinationSettings``.
    coordination: Mapping[str, float] = field(default_factory=dict)
    cluster_no_master_block: str = "write"
    cluster_bootstrap_expect: int = 0
    statement_max_length: int = 262_144
    http_max_content_length: int = 100 * 1024 * 1024
    #: Everything that was given, by setting name, as written: for sys.cluster and for services with settings of their own.
    given: Mapping[str, Any] = field(default_factory=dict)
    #: Given settings that have no effect in this version.
    without_effect: tuple[str, ...] = ()


#: Settings of CrateDB that are accepted although nothing reads them yet; a trailing ``.`` takes all names below.
KNOWN_WITHOUT_EFFECT: Final = (
    "auth.", "blobs.path", "bootstrap.memory_lock", "bulk.request_timeout", "fdw.", "gateway.",
    "http.compression", "http.cors.", "indices.", "lang.js.enabled", "legacy.", "license.", "memory.", "monitor.",
    "node.sql.read_only", "node.store.allow_mmap", "overload_protection.", "path.home", "path.logs", "path.repo",
    "plugin.", "processors", "replication.", "repositories.", "ssl.", "stats.", "thread_pool.", "udc.",
    "network.tcp.", "http.publish_port", "http.bind_host", "http.publish_host", "transport.bind_host", "transport.publish_host",
    "transport.publish_port", "transport.compress", "transport.ping_schedule", "transport.connect_timeout", "transport.tcp.", "psql.publish_port",
    "cluster.max_shards_per_node", "cluster.graceful_stop.", "cluster.routing.", "cluster.info.", "cluster.join.",
    "cluster.publish.info_timeout",
    "discovery.probe.",
    "discovery.unconfigured_bootstrap_timeout", "logger.", "statement_timeout",
)  # fmt: skip


def load_config(
    overrides: Sequence[str] = (),
    *,
    file: Path | None = None,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodeConfig:
    """The configuration from a file and ``key=value`` overrides. Raises ConfigError naming the setting."""
    given: dict[str, Any] = {}
    if file is not None:
        given |= _read_file(file, os.environ if environment is None else environment)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"-C wants key=value, got '{override}'")
        given[key.strip()] = value.strip()
    if data is not None:
        given["path.data"] = str(data)
    if file is not None:
        given.setdefault("path.conf", str(file.parent))
    return _build(given)


def _read_file(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    import yaml  # most nodes have no file

    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold settings as 'name: value' lines")
    return {key: _substitute(value, environment) for key, value in _flatten(tree)}


def _flatten(tree: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.extend(_flatten(value, f"{name}."))
        else:
            flat.append((name, value))
    return flat


def _substitute(value: Any, environment: Mapping[str, str]) -> Any:
    def variable(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(f"environment variable {match[1]} is not set")
        return environment[match[1]]

    return re.sub(r"\$\{(\w+)\}", variable, value) if isinstance(value, str) else value


def _build(given: Mapping[str, Any]) -> NodeConfig:
    values: dict[str, Any] = {"given": dict(given)}
    attributes: dict[str, str] = {}
    unused: list[str] = []
    coordination: dict[str, float] = {}
    ec2: dict[str, Any] = {}
    for name, value in given.items():
        if name in _READERS:
            target, read = _READERS[name]
            values[target] = read(name, value)
        elif name in _COORDINATION:
            target, read = _COORDINATION[name]
            coordination[target] = read(name, value)
        elif name.startswith("discovery.ec2."):
            ec2[name.removeprefix("discovery.ec2.")] = value
        elif name.startswith("node.attr."):
            attributes[name.removeprefix("node.attr.")] = str(value)
        elif any(name == known or (known.endswith(".") and name.startswith(known)) for known in KNOWN_WITHOUT_EFFECT):
            unused.append(name)
        else:
            raise ConfigError(f"unknown setting [{name}]")
    values["node_attributes"] = attributes
    values["discovery_ec2"] = ec2
    values["coordination"] = _checked_coordination(coordination)
    values["without_effect"] = tuple(sorted(unused))
    return NodeConfig(**values)


def _checked_coordination(given: Mapping[str, float]) -> Mapping[str, float]:
    """Timings that contradict each other are refused here, where their names are known."""
    publish_s, lag_s = given.get("publish_timeout_s", 5.0), given.get("lag_timeout_s", 15.0)
    if not 0.5 < publish_s < lag_s:
        raise ConfigError(
            f"[cluster.publish.timeout] must be more than 0.5s and less than [cluster.follower_lag.timeout], "
            f"got {publish_s:g}s and {lag_s:g}s"
        )
    initial_s, longest_s = given.get("election_initial_timeout_s", 0.1), given.get("election_max_timeout_s", 10.0)
    if initial_s > longest_s:
        raise ConfigError(
            f"[cluster.election.initial_timeout] is {initial_s:g}s, "
            f"which is above [cluster.election.max_timeout], {longest_s:g}s"
        )
    return given


def _text(name: str, value: Any) -> str:
    if value is None or str(value) == "":
        raise ConfigError(f"setting [{name}] must not be empty")
    return str(value)


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ConfigError(f"failed to parse value [{value}] of setting [{name}]: only true and false are allowed")


def _names(name: str, value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else str(value).strip("[]").split(",")
    return tuple(text for text in (str(part).strip().strip("\"'") for part in parts) if text)


def _ports(name: str, value: Any) -> PortRange:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(value).strip())
    if match is None:
        raise ConfigError(f"setting [{name}] must be a port or a range like 4200-4300, got [{value}]")
    return PortRange(int(match[1]), int(match[2] or match[1]))


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value)).expanduser()


def _host(name: str, value: Any) -> str:
    host = _text(name, value)
    return {"_local_": "127.0.0.1", "_site_": "0.0.0.0", "_global_": "0.0.0.0"}.get(host, host)


def _discovery_type(name: str, value: Any) -> str:
    if value not in ("zen", "single-node"):
        raise ConfigError(f"setting [{name}] must be zen or single-node, got [{value}]")
    return str(value)


_UNITS: Final = {"": 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}


def _bytes(name: str, value: Any) -> int:
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", str(value).strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ConfigError(f"setting [{name}] must be a size like 100mb, got [{value}]")
    return int(match[1]) * _UNITS[match[2]]


_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(name: str, value: Any) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", str(value).strip().lower())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"setting [{name}] must be a duration above zero like 500ms or 10s, got [{value}]")
    return float(match[1]) * _DURATIONS[match[2]]


def _retries(name: str, value: Any) -> int:
    count = _count(name, value)
    if count < 1:
        raise ConfigError(f"setting [{name}] must be at least 1, got [{value}]")
    return count


def _seed_providers(name: str, value: Any) -> tuple[str, ...]:
    names = _names(name, value)
    for provider in names:
        if provider not in ("file", "srv", "ec2"):
            raise ConfigError(f"setting [{name}] must name file, srv or ec2, got [{provider}]")
    return names


def _transport_mode(name: str, value: Any) -> str:
    text = "on" if value is True else "off" if value is False else str(value).lower()
    if text not in ("on", "off", "legacy"):
        raise ConfigError(f"setting [{name}] must be on, off or legacy, got [{value}]")
    return text


def _no_master_block(name: str, value: Any) -> str:
    if value not in ("write", "all"):
        raise ConfigError(f"setting [{name}] must be write or all, got [{value}]")
    return str(value)


def _count(name: str, value: Any) -> int:
    if not re.fullmatch(r"\d+", str(value).strip()):
        raise ConfigError(f"setting [{name}] must be a whole number, got [{value}]")
    return int(value)


_READERS: Final[dict[str, tuple[str, Any]]] = {
    "cluster.name": ("cluster_name", _text),
    "node.name": ("node_name", _text),
    "path.data": ("path_data", _path),
    "network.host": ("network_host", _host),
    "network.bind_host": ("network_host", _host),
    "network.publish_host": ("network_publish_host", _text),
    "http.port": ("http_port", _ports),
    "psql.port": ("psql_port", _ports),
    "psql.enabled": ("psql_enabled", _boolean),
    "transport.port": ("transport_port", _ports),
    "transport.tcp.port": ("transport_port", _ports),
    "discovery.seed_hosts": ("discovery_seed_hosts", _names),
    "discovery.seed_providers": ("discovery_seed_providers", _seed_providers),
    "discovery.srv.query": ("discovery_srv_query", _text),
    "discovery.srv.resolver": ("discovery_srv_resolver", _text),
    "discovery.find_peers_interval": ("discovery_find_peers_interval_s", _seconds),
    "discovery.request_peers_timeout": ("discovery_request_peers_timeout_s", _seconds),
    "path.conf": ("path_conf", _path),
    "cluster.secret": ("cluster_secret", _text),
    "ssl.transport.mode": ("ssl_transport_mode", _transport_mode),
    "ssl.certificate_filepath": ("ssl_certificate", _path),
    "ssl.key_filepath": ("ssl_key", _path),
    "ssl.authority_filepath": ("ssl_authority", _path),
    "transport.insecure": ("transport_insecure", _boolean),
    "discovery.type": ("discovery_type", _discovery_type),
    "cluster.initial_master_nodes": ("cluster_initial_master_nodes", _names),
    "node.master": ("node_master", _boolean),
    "node.data": ("node_data", _boolean),
    "cluster.no_master_block": ("cluster_no_master_block", _no_master_block),
    "discovery.zen.no_master_block": ("cluster_no_master_block", _no_master_block),
    "cluster.bootstrap_expect": ("cluster_bootstrap_expect", _count),
    "statement_max_length": ("statement_max_length", _count),
    "http.max_content_length": ("http_max_content_length", _bytes),
}

#: Timings of coordination: setting → (field of ``CoordinationSettings``, reader).
_COORDINATION: Final[dict[str, tuple[str, Any]]] = {
    "cluster.election.initial_timeout": ("election_initial_timeout_s", _seconds),
    "cluster.election.back_off_time": ("election_back_off_s", _seconds),
    "cluster.election.max_timeout": ("election_max_timeout_s", _seconds),
    "cluster.election.duration": ("election_duration_s", _seconds),
    "cluster.fault_detection.follower_check.interval": ("follower_check_interval_s", _seconds),
    "cluster.fault_detection.follower_check.timeout": ("follower_check_timeout_s", _seconds),
    "cluster.fault_detection.follower_check.retry_count": ("follower_check_retries", _retries),
    "cluster.fault_detection.leader_check.interval": ("leader_check_interval_s", _seconds),
    "cluster.fault_detection.leader_check.timeout": ("leader_check_timeout_s", _seconds),
    "cluster.fault_detection.leader_check.retry_count": ("leader_check_retries", _retries),
    "cluster.publish.timeout": ("publish_timeout_s", _seconds),
    "cluster.follower_lag.timeout": ("lag_timeout_s", _seconds),
    "cluster.auto_shrink_voting_configuration": ("auto_shrink", _boolean),
}
