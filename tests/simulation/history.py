"""One simulated history from its seed: faults while clients work, then everything healed, and progress required."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.checker import Violation
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.faults import clients_until, faults_until

#: After the faults: how long until all nodes must agree, and until one more change must be done.
_SETTLE_S, _PROGRESS_S = 60.0, 5.0
_CLIENTS = 3


@dataclass(frozen=True, slots=True)
class History:
    """What a seed gave."""

    seed: int
    nodes: int
    simulated_s: float
    digest: str
    messages: int
    crashes: int
    elections: int
    commits: int
    acknowledged: int


def nodes_of(seed: int) -> int:
    """3, 5, 7 or 9 nodes; the larger clusters less often, because they cost more."""
    return (3, 5, 3, 7, 3, 5, 9, 5)[seed % 8]


def explore(seed: int, *, seconds: float, nodes: int | None = None, cluster: SimulatedCluster | None = None) -> History:
    """Run a seed. Raises Violation."""
    count = nodes or nodes_of(seed)
    if cluster is None:
        cluster = SimulatedCluster(seed=seed, nodes=count, data_only=1 if count > 3 and seed % 3 == 0 else 0)
    for node_id in cluster.ids:
        cluster.start(node_id, bootstrap=cluster.voters if node_id in cluster.voters else ())
    cluster.loop.spawn(faults_until(cluster, seconds))
    for name in range(_CLIENTS):
        cluster.loop.spawn(clients_until(cluster, seconds, str(name)))
    cluster.loop.run(seconds + 10)
    cluster.heal()
    cluster.run_for(_SETTLE_S)
    _require_progress(cluster)
    checker = cluster.checker
    return History(
        seed=seed,
        nodes=count,
        simulated_s=cluster.now,
        digest=checker.digest,
        messages=cluster.network.messages,
        crashes=cluster.crashes,
        elections=cluster.elections,
        commits=len(checker.committed),
        acknowledged=len(checker.acknowledged),
    )


def _require_progress(cluster: SimulatedCluster) -> None:
    leaders = cluster.leaders
    if len(leaders) != 1:
        raise Violation(f"the healed cluster has {len(leaders)} masters")
    members = sorted(cluster.accepted(leaders[0]).nodes)
    if members != cluster.ids:
        raise Violation(f"the healed cluster has only the nodes {members}")
    cluster.checker.at_rest({node_id: cluster.accepted(node_id) for node_id in cluster.ids})
    ticket = cluster.submit(leaders[0])
    cluster.run_for(_PROGRESS_S)
    if cluster.answers.get(ticket) != "ok":
        raise Violation(f"the healed cluster does not take a change: {cluster.answers.get(ticket)}")
