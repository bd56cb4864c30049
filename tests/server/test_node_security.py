"""What a node does about its transport port before it starts: refuse, protect, or keep it to this machine."""

from __future__ import annotations

import pytest

from cratepy.config import load_config
from cratepy.server.node import StartError, _transport_host, _transport_security


def test_on_loopback_nothing_is_needed() -> None:
    config = load_config(["discovery.seed_hosts=127.0.0.1:4301"])
    assert _transport_security(config) is None
    assert _transport_host(config, None) == "127.0.0.1"


def test_a_cluster_beyond_this_machine_needs_a_secret_certificates_or_the_word() -> None:
    there = ["network.host=10.1.2.3", "discovery.seed_hosts=10.1.2.4"]
    with pytest.raises(StartError, match=r"\[cluster\.secret\].*\[ssl\.transport\.mode\].*\[transport\.insecure\]"):
        _transport_security(load_config(there))
    secured = load_config([*there, "cluster.secret=0123456789abcdef"])
    security = _transport_security(secured)
    assert security is not None
    assert _transport_host(secured, security) == "10.1.2.3"
    for word in ("transport.insecure=true", "ssl.transport.mode=off"):
        config = load_config([*there, word])
        assert _transport_security(config) is None
        assert _transport_host(config, None) == "10.1.2.3"


def test_a_node_that_is_alone_listens_for_nodes_on_this_machine_only() -> None:
    config = load_config(["network.host=0.0.0.0"])
    assert _transport_security(config) is None
    assert _transport_host(config, None) == "127.0.0.1"


def test_certificates_need_all_three_files() -> None:
    with pytest.raises(StartError, match=r"ssl\.authority_filepath"):
        _transport_security(load_config(["ssl.transport.mode=on", "ssl.certificate_filepath=a.pem"]))
