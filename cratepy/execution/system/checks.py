"""Rows of sys.checks and sys.node_checks: what an operator should change, computed from the real state.

In: the cluster state, a node's disk and the directories on it. Out: rows. Ids, severities and words are CrateDB's where it
has the check (docs: sql/system "Cluster checks", "Node checks"); ours have ids from 101. A check of CrateDB's that nothing
here can fail is not listed: too many partitions (2), tables of older versions (3), the gateway's settings (node checks 1
to 3). Neither table needs a master: each node answers from the last state it knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import psutil

from cratepy import limits
from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.model.state import ClusterState, NodeInfo
from cratepy.records import dataclass

LOW, MEDIUM, HIGH = 1, 2, 3
#: Voting nodes above this make every publication slower without adding safety that anyone needs.
VOTERS_RECOMMENDED_MAX: Final = 9
#: The node attribute that names a zone.
ZONE: Final = "zone"
#: The share of ``cluster.max_shards_per_node`` at which a node is said to be nearly full.
SHARDS_WARNING_SHARE: Final = 0.9
_WATERMARK: Final = "cluster.routing.allocation.disk.watermark"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|tb)?\Z")
_SIZE_BYTES: Final = {None: 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}


@dataclass(frozen=True, slots=True)
class Check:
    """One row of sys.checks."""

    id: int
    severity: int
    description: str
    passed: bool


def cluster_checks(state: ClusterState) -> tuple[Check, ...]:
    """All checks that follow from a cluster state."""
    return (_odd_voters(state), _few_voters(state), _spare_voters(state), _zones(state), _one_version(state))


def _voters(state: ClusterState) -> tuple[str, ...]:
    return state.coordination.committed_config


def _odd_voters(state: ClusterState) -> Check:
    voters = len(_voters(state))
    text = f"The number of voting nodes ({voters}) should be odd: an even one survives no more failures than the odd one below it."
    return Check(101, MEDIUM, text, voters % 2 == 1)


def _few_voters(state: ClusterState) -> Check:
    voters = len(_voters(state))
    text = (
        f"The number of voting nodes ({voters}) should not be above {VOTERS_RECOMMENDED_MAX}: more make every change slower and "
        "nothing safer. Set [node.master] to false on further nodes."
    )
    return Check(102, LOW, text, voters <= VOTERS_RECOMMENDED_MAX)


def _spare_voters(state: ClusterState) -> Check:
    """A cluster of several nodes should survive the loss of any of them; with one or two voters it does not."""
    voters, nodes = len(_voters(state)), len(state.nodes)
    text = (
        f"A cluster of several nodes ({nodes}) should have at least 3 voting nodes, to take changes when one is lost; it has "
        f"{voters}. Add master-eligible nodes."
    )
    return Check(103, HIGH, text, nodes < 2 or voters >= 3)


def _zones(state: ClusterState) -> Check:
    """Zones are asked about once a node names one."""
    named = [node for node in state.nodes.values() if node.attributes.get(ZONE)]
    problem = _zone_problem(state, named) if named else ""
    text = (
        "If nodes name a zone [node.attr.zone], all should, and the loss of any zone should leave a majority of voters."
    )
    return Check(104, MEDIUM, f"{text} {problem}".rstrip(), not problem)


def _zone_problem(state: ClusterState, named: list[NodeInfo]) -> str:
    without = sorted(node.name for node in state.nodes.values() if not node.attributes.get(ZONE))
    if without:
        return f"No zone has: {', '.join(without)}."
    voters = _voters(state)
    members = Counter(node.attributes[ZONE] for node in named if node.id in voters)
    # Of a single voter every zone is a majority: that is what check 103 says.
    fatal = sorted(zone for zone, count in members.items() if 2 * (len(voters) - count) <= len(voters))
    return f"Without zone {', '.join(fatal)} there is none." if fatal and len(state.nodes) > 1 else ""


def _one_version(state: ClusterState) -> Check:
    versions = sorted({node.version for node in state.nodes.values()})
    text = f"All nodes should run the same version, except while they are upgraded one after the other: {', '.join(versions)}."
    return Check(105, LOW, text, len(versions) <= 1)


def _checks(view: SystemView) -> Iterator[Row]:
    for check in cluster_checks(view.state):
        yield {
            "id": check.id,
            "severity": check.severity,
            "description": check.description,
            "passed": check.passed,
        }


# --- of a node -------------------------------------------------------------------------------------------------------


def node_checks(
    state: ClusterState,
    *,
    node_id: str,
    disk_total: int,
    disk_free: int,
    problem: str | None,
    dangling: int,
    reserved: int,
) -> tuple[Check, ...]:
    """All checks of one node: of its disk (bytes), its shards, and what lies around."""
    return (
        *_watermarks(state, total=disk_total, free=disk_free),
        _shards(state, node_id),
        _disk_works(problem),
        _dangling(dangling),
        _reserve(reserved),
    )


def _watermarks(state: ClusterState, *, total: int, free: int) -> Iterator[Check]:
    texts = (
        (5, "high", 90, "The high disk watermark is exceeded on the node. The cluster will attempt to relocate shards to another node."),
        (6, "low", 85, "The low disk watermark is exceeded on the node. The cluster will not allocate new shards to the node."),
        (
            7,
            "flood_stage",
            95,
            "The flood stage disk watermark is exceeded on the node. Tables that reside on an affected disk on this node have been "
            "made read-only.",
        ),
    )  # fmt: skip
    is_on = state.setting("cluster.routing.allocation.disk.threshold_enabled") is not False
    for check, name, percent, text in texts:
        setting = state.setting(f"{_WATERMARK}.{name}")
        passed = not is_on or not is_above(str(setting or f"{percent}%"), total=total, free=free)
        yield Check(check, HIGH, f"{text} Please check the node disk usage.", passed)


def is_above(watermark: str, *, total: int, free: int) -> bool:
    """Whether a disk is fuller than a watermark: a share that is used (``85%``, ``0.85``), or bytes that are free (``5gb``)."""
    text = watermark.strip().lower()
    if text.endswith("%"):
        return 100 * (total - free) > float(text[:-1]) * total
    found = _SIZE.match(text)
    assert found is not None, watermark  # SET GLOBAL takes no other
    number = float(found[1])
    if found[2] is None and number <= 1:
        return total - free > number * total
    return free < number * _SIZE_BYTES[found[2]]


def _shards(state: ClusterState, node_id: str) -> Check:
    allowed = int(state.setting("cluster.max_shards_per_node") or limits.SHARDS_PER_NODE_MAX)
    copies = sum(
        copy.node_id == node_id
        for table in state.tables.values()
        for routing in table.routing
        for copy in routing.copies
    )
    text = (
        "The amount of shards on the node reached 90 % of the limit of the cluster setting `cluster.max_shards_per_node`. Creating "
        "new tables or partitions which would push the number of shards beyond 100 % of the limit will be rejected."
    )
    return Check(8, MEDIUM, text, copies < SHARDS_WARNING_SHARE * allowed)


def _disk_works(problem: str | None) -> Check:
    text = (
        "The node's disk should take small durable writes promptly; until it does, the node takes no part in elections."
    )
    return Check(101, HIGH, f"{text} {problem}." if problem else text, problem is None)


def _dangling(count: int) -> Check:
    text = (
        f"Directories of tables that do not exist take space on the node: {count}. `ALTER CLUSTER GC DANGLING ARTIFACTS` deletes "
        "those of tables that this cluster has dropped."
    )
    return Check(102, LOW, text, count == 0)


def _reserve(reserved: int) -> Check:
    text = (
        "The disk should have the space that is reserved for the cluster state; without it tables cannot be dropped when the disk "
        "is full. Free some space, and it is taken again."
    )
    return Check(103, HIGH, text, reserved >= limits.STATE_LOG_RESERVE_BYTES // 2)


def _node_checks(view: SystemView) -> Iterable[Row]:
    local = view.local
    usage = psutil.disk_usage(local.data_path)
    checks = node_checks(
        view.state,
        node_id=local.node_id,
        disk_total=usage.used + usage.free,  # what is kept for root is in neither, as in df's percentage
        disk_free=usage.free,
        problem=local.disk_problem(),
        dangling=len(local.dangling_tables()),
        reserved=local.state_reserve_bytes(),
    )
    return [
        {
            "id": check.id,
            "node_id": local.node_id,
            "severity": check.severity,
            "description": check.description,
            "passed": check.passed,
            "acknowledged": False,
        }
        for check in checks
    ]


PROVIDERS: Final[Mapping[str, Provider]] = {"checks": _checks, "node_checks": _node_checks}
