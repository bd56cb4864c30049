"""Addresses as operators write them, and who bootstraps a cluster when."""

from __future__ import annotations

import pytest

from cratepy.cluster.discovery import PLACEHOLDER, bootstrap_config
from cratepy.cluster.seeds import parse_address
from tests.cluster.states import node

A, B, C = node("a"), node("b"), node("c")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", ("host", 4300)),
        ("host:4301", ("host", 4301)),
        ("10.0.0.1:9", ("10.0.0.1", 9)),
        ("[::1]", ("::1", 4300)),
        ("[::1]:4302", ("::1", 4302)),
        ("::1", ("::1", 4300)),
    ],
)
def test_an_address_may_leave_out_its_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":4300", "host:x", "host:0", "host:70000", "[::1", "[::1]4300"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


def test_a_patient_node_waits_for_all_named_nodes() -> None:
    assert bootstrap_config(["a", "b", "c"], me=A, known=[B], is_patient=True) is None
    assert bootstrap_config(["a", "b", "c"], me=A, known=[C, B], is_patient=True) == ("a", "b", "c")


def test_a_majority_is_enough_in_the_end_and_the_missing_keep_their_place() -> None:
    assert bootstrap_config(["a", "b", "c"], me=A, known=[], is_patient=False) is None
    found = bootstrap_config(["a", "b", "c"], me=A, known=[B], is_patient=False)
    assert found == ("a", "b", f"{PLACEHOLDER}c")


def test_a_node_that_is_not_named_bootstraps_nothing() -> None:
    assert bootstrap_config(["a", "b"], me=C, known=[A, B], is_patient=False) is None


def test_nodes_may_be_named_by_address() -> None:
    assert bootstrap_config(["127.0.0.1:4300"], me=A, known=[], is_patient=True) == ("a",)
    assert bootstrap_config(["127.0.0.1:4301"], me=A, known=[], is_patient=True) is None
