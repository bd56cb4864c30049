"""Settings: precedence, nesting, refusals that name the setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cratepy.config import (
    _COORDINATION,
    _READERS,
    KNOWN_WITHOUT_EFFECT,
    ConfigError,
    PortRange,
    load_config,
)
from cratepy.model.cluster_settings import CLUSTER_SETTINGS


def test_a_single_node_needs_no_option() -> None:
    config = load_config()
    assert config.path_data == Path("data")
    assert config.http_port == PortRange(4200, 4300)
    assert config.psql_port == PortRange(5432, 5532)
    assert config.transport_port == PortRange(4300, 4400)


def test_the_command_line_overrides_the_file_and_keys_may_nest_or_dot(tmp_path: Path) -> None:
    file = tmp_path / "crate.yml"
    file.write_text("cluster:\n  name: from-file\nnode.name: ${NODE}\nhttp.port: 4201\n")
    config = load_config(["cluster.name=mine"], file=file, environment={"NODE": "n7"})
    assert (config.cluster_name, config.node_name, config.http_port) == ("mine", "n7", PortRange(4201, 4201))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("foo.bar=1", "unknown setting [foo.bar]"),
        ("http.port=many", "[http.port]"),
        ("http.port=99999", "65535"),
        ("discovery.type=magic", "zen or single-node"),
        ("cluster.name", "key=value"),
        ("node.master=maybe", "only true and false"),
        ("cluster.election.duration=soon", "[cluster.election.duration]"),
        ("cluster.publish.timeout=1m", "[cluster.follower_lag.timeout]"),
        ("cluster.election.initial_timeout=20s", "[cluster.election.max_timeout]"),
        ("cluster.fault_detection.leader_check.retry_count=0", "at least 1"),
        ("cluster.no_master_block=reads", "write or all"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("]", r"\]")):
        load_config([override])


def test_a_missing_environment_variable_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "crate.yml"
    file.write_text("node.name: ${NOWHERE}\n")
    with pytest.raises(ConfigError, match="NOWHERE"):
        load_config(file=file, environment={})


def test_lists_are_written_with_commas_or_as_yaml(tmp_path: Path) -> None:
    file = tmp_path / "crate.yml"
    file.write_text("discovery.seed_hosts:\n  - a:4300\n  - b\n")
    config = load_config(["cluster.initial_master_nodes=n1, n2"], file=file)
    assert config.discovery_seed_hosts == ("a:4300", "b")
    assert config.cluster_initial_master_nodes == ("n1", "n2")


def test_settings_without_effect_are_accepted_and_named() -> None:
    assert load_config(["gateway.expected_data_nodes=3"]).without_effect == ("gateway.expected_data_nodes",)


def test_timings_of_coordination_are_read_by_cratedbs_names() -> None:
    given = ["cluster.fault_detection.follower_check.timeout=1500ms", "cluster.follower_lag.timeout=2m"]
    assert load_config(given).coordination == {"follower_check_timeout_s": 1.5, "lag_timeout_s": 120.0}


#: A value each setting of the guide takes, where ``1`` is none.
_VALUES = {
    "discovery.type": "zen",
    "discovery.seed_providers": "file",
    "node.master": "true",
    "node.data": "true",
    "cluster.no_master_block": "all",
    "cluster.auto_shrink_voting_configuration": "false",
    "cluster.publish.timeout": "3s",
    "cluster.follower_lag.timeout": "20s",
    "transport.insecure": "true",
    "ssl.transport.mode": "off",
}


def _guide() -> dict[str, str]:
    """Setting → what the guide says of it."""
    text = (Path(__file__).parents[1] / "docs" / "operations" / "clusters.md").read_text()
    section = text.split("## Settings of discovery and coordination")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: row[2].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[1])}


@pytest.mark.parametrize(("name", "effect"), _guide().items(), ids=lambda text: str(text))
def test_the_guide_says_of_each_setting_what_happens_to_it(name: str, effect: str) -> None:
    value = _VALUES.get(name, "5s" if re.search("time|interval|duration|timeout", name) else "1")
    if effect == "refused":
        with pytest.raises(ConfigError, match=re.escape(f"unknown setting [{name}]")):
            load_config([f"{name}={value}"])
        return
    config = load_config([f"{name}={value}"])
    assert (name in config.without_effect) is (effect in ("no effect", "SQL only"))
    is_sql = name in CLUSTER_SETTINGS and CLUSTER_SETTINGS[name].is_dynamic
    assert is_sql is (effect in ("works, SQL too", "SQL only"))
    assert config != load_config()


def test_the_guide_knows_every_setting_of_coordination_and_discovery() -> None:
    ours = [*_READERS, *_COORDINATION, *KNOWN_WITHOUT_EFFECT]
    relevant = [name for name in ours if re.match(r"discovery\.(?!.*\.$)|cluster\.(?!.*\.$)", name)]
    aliases = {"discovery.zen.no_master_block", "cluster.max_shards_per_node"}
    assert set(relevant) - aliases <= set(_guide())
