"""Every check passes where all is well and fails for its own reason, and needs no master to say so."""

from __future__ import annotations

import msgspec
import pytest

from cratepy import limits
from cratepy.cluster.commands import apply
from cratepy.execution.system.checks import cluster_checks, is_above, node_checks
from cratepy.model.commands import SetClusterSettings
from cratepy.model.state import ClusterState, Coordination
from tests.cluster.states import THREE, created, node, with_nodes

replace = msgspec.structs.replace
GB = 1 << 30


def cluster(*ids: str, voters: int | None = None, zones: str = "", versions: str = "") -> ClusterState:
    """Nodes with a zone letter and a version digit each."""
    nodes = [
        replace(
            node(node_id),
            attributes={"zone": zones[i]} if i < len(zones) and zones[i] != "-" else {},
            version=f"1.{versions[i]}" if versions else "1.0",
        )
        for i, node_id in enumerate(ids)
    ]
    config = tuple(ids[: len(ids) if voters is None else voters])
    state = with_nodes(ClusterState(), *nodes)
    return replace(state, coordination=Coordination(term=1, committed_config=config, accepted_config=config))


def failed(state: ClusterState) -> dict[int, str]:
    return {check.id: check.description for check in cluster_checks(state) if not check.passed}


def failed_of_node(
    state: ClusterState,
    *,
    free: int = 50 * GB,
    problem: str | None = None,
    dangling: int = 0,
    reserved: int = limits.STATE_LOG_RESERVE_BYTES,
) -> list[int]:
    checks = node_checks(
        state,
        node_id="a",
        disk_total=100 * GB,
        disk_free=free,
        problem=problem,
        dangling=dangling,
        reserved=reserved,
    )
    return [check.id for check in checks if not check.passed]


def test_a_lone_node_and_three_nodes_are_well() -> None:
    assert failed(cluster("a")) == {}
    assert failed(cluster("a", "b", "c")) == {}
    assert failed(replace(cluster("a", "b", "c"), master_id=None)) == {}
    assert [(check.id, check.severity) for check in cluster_checks(cluster("a"))] == [
        (101, 2), (102, 1), (103, 3), (104, 2), (105, 1),
    ]  # fmt: skip


def test_two_nodes_are_no_better_than_one() -> None:
    assert "should have at least 3 voting nodes" in failed(cluster("a", "b", voters=1))[103]
    assert set(failed(cluster("a", "b", voters=2))) == {101, 103}


def test_an_even_number_of_voters_and_more_than_nine_are_told() -> None:
    assert "voting nodes (4) should be odd" in failed(cluster(*"abcd"))[101]
    assert set(failed(cluster(*"abcdefghijk"))) == {102}
    assert failed(cluster(*"abcdefghijk", voters=9)) == {}


def test_zones_must_be_on_all_nodes_and_none_may_hold_a_majority_of_the_voters() -> None:
    assert failed(cluster(*"abc", zones="xyz")) == {}
    assert failed(cluster(*"abcde", zones="xxyyz")) == {}
    assert failed(cluster(*"abc", zones="xxy"))[104].endswith("Without zone x there is none.")
    assert failed(cluster(*"abc", zones="x-y"))[104].endswith("No zone has: b.")


def test_nodes_of_several_versions_are_told() -> None:
    assert failed(cluster(*"abc", versions="121"))[105].endswith(": 1.1, 1.2.")


def test_watermarks_are_those_of_the_settings() -> None:
    assert failed_of_node(THREE) == []
    assert failed_of_node(THREE, free=14 * GB) == [6]
    assert failed_of_node(THREE, free=9 * GB) == [5, 6]
    assert failed_of_node(THREE, free=4 * GB) == [5, 6, 7]
    name = "cluster.routing.allocation.disk."
    lower = apply(THREE, SetClusterSettings(settings={f"{name}watermark.low": "40%"}))
    assert failed_of_node(lower) == [6]
    in_bytes = apply(THREE, SetClusterSettings(settings={f"{name}watermark.flood_stage": "20gb"}))
    assert failed_of_node(in_bytes, free=19 * GB) == [7]
    off = apply(THREE, SetClusterSettings(settings={f"{name}threshold_enabled": False}))
    assert failed_of_node(off, free=0) == []


@pytest.mark.parametrize(
    ("watermark", "free", "is_over"),
    [
        ("85%", 15, False),
        ("85%", 14, True),
        ("0.85", 14, True),
        ("0.85", 15, False),
        ("15b", 15, False),
        ("15", 14, True),
    ],
)
def test_a_watermark_is_a_share_used_or_bytes_free(watermark: str, free: int, is_over: bool) -> None:
    assert is_above(watermark, total=100, free=free) is is_over


def test_a_node_near_its_limit_of_shards_is_told() -> None:
    state = created(with_nodes(ClusterState(), node("a")), shards=9)
    assert failed_of_node(apply(state, SetClusterSettings(settings={"cluster.max_shards_per_node": 10}))) == [8]
    assert failed_of_node(apply(state, SetClusterSettings(settings={"cluster.max_shards_per_node": 11}))) == []


def test_a_bad_disk_and_directories_of_no_table_are_told() -> None:
    assert failed_of_node(THREE, problem="a write failed", dangling=1) == [101, 102]
    assert failed_of_node(THREE, reserved=1) == [103]
