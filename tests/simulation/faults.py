"""What can go wrong with a cluster, drawn at random while a simulation runs.

Each fault is a function of the cluster and the stream of chance of faults; some repair what they broke after a while, the
rest stays broken until a later draw heals everything. The list is the set of faults of the network (cut both ways, one
way, a bridge, a ring of majorities, loss, delay, repetition, reset), of processes (crash noticed or not, crash at a write,
all at once, pause, clean stop) and of machines (slow disk, clock rate).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator

from cratepy.cluster.coordination.messages import HealthChanged, StepDown
from tests.simulation.cluster import SimulatedCluster

Fault = Callable[[SimulatedCluster, random.Random], None]


def cut_in_two(cluster: SimulatedCluster, chance: random.Random) -> None:
    side = chance.sample(cluster.ids, chance.randrange(1, len(cluster.ids)))
    cluster.network.separate(side, [n for n in cluster.ids if n not in side])


def deaf_node(cluster: SimulatedCluster, chance: random.Random) -> None:
    """It is heard by nobody, or hears nobody, or only some."""
    one = chance.choice(cluster.ids)
    some = [n for n in cluster.ids if chance.random() < 0.7]
    if chance.random() < 0.5:
        cluster.network.cut([one], some)
    else:
        cluster.network.cut(some, [one])


def isolated_master(cluster: SimulatedCluster, chance: random.Random) -> None:
    for leader in cluster.leaders:
        cluster.network.separate([leader], cluster.ids)


def bridge(cluster: SimulatedCluster, chance: random.Random) -> None:
    """Two halves that both still hear one node."""
    middle = chance.choice(cluster.ids)
    rest = [n for n in cluster.ids if n != middle]
    half = rest[: len(rest) // 2]
    cluster.network.separate(half, [n for n in rest if n not in half])


def ring_of_majorities(cluster: SimulatedCluster, chance: random.Random) -> None:
    """Every node hears a majority, no two hear the same one."""
    ring = chance.sample(cluster.ids, len(cluster.ids))
    reach = len(ring) // 2 // 2 + 1
    for place, node_id in enumerate(ring):
        near = {ring[(place + step) % len(ring)] for step in range(-reach, reach + 1)}
        cluster.network.separate([node_id], [n for n in ring if n not in near])


def bad_network(cluster: SimulatedCluster, chance: random.Random) -> None:
    network = cluster.network
    network.loss, network.repeat = chance.choice([0, 0.02, 0.2]), chance.choice([0, 0.05])
    network.delay_s = chance.choice([(0.0005, 0.003), (0.001, 0.01), (0.01, 0.3), (0.1, 1.5)])


def broken_connection(cluster: SimulatedCluster, chance: random.Random) -> None:
    one, other = chance.sample(cluster.ids, 2)
    cluster.reset_connection(one, other)


def crash(cluster: SimulatedCluster, chance: random.Random) -> None:
    node_id = chance.choice(cluster.ids)
    cluster.crash(node_id, is_noticed=chance.random() < 0.7)
    cluster.loop.schedule(chance.uniform(0, 4), cluster.start, node_id)


def crash_of_the_master(cluster: SimulatedCluster, chance: random.Random) -> None:
    for node_id in cluster.leaders:
        cluster.crash(node_id, is_noticed=chance.random() < 0.7)
        cluster.loop.schedule(chance.uniform(0, 4), cluster.start, node_id)


def crash_at_a_write(cluster: SimulatedCluster, chance: random.Random) -> None:
    node_id = chance.choice([*cluster.leaders, *cluster.ids])
    cluster.crash_at_write[node_id] = chance.choice(["before", "within", "after"])
    cluster.loop.schedule(chance.uniform(3, 6), cluster.start, node_id)


def election_among_the_dying(cluster: SimulatedCluster, chance: random.Random) -> None:
    """The master goes, and whoever votes for the next one may crash while the vote is written."""
    for node_id in cluster.ids:
        if chance.random() < 0.5:
            cluster.crash_at_write[node_id] = chance.choice(["before", "within", "after"])
            cluster.loop.schedule(chance.uniform(0.2, 1), cluster.start, node_id)
    for node_id in cluster.leaders:
        cluster.crash(node_id, is_noticed=True)
        cluster.loop.schedule(chance.uniform(0.1, 1), cluster.start, node_id)


def crash_of_all(cluster: SimulatedCluster, chance: random.Random) -> None:
    for node_id in cluster.ids:
        cluster.crash(node_id, is_noticed=True)
        cluster.loop.schedule(chance.uniform(0, 2), cluster.start, node_id)


def clean_stop(cluster: SimulatedCluster, chance: random.Random) -> None:
    node_id = chance.choice([*cluster.leaders, *cluster.ids])
    cluster.stop(node_id)
    cluster.loop.schedule(chance.uniform(0.1, 4), cluster.start, node_id)


def pause(cluster: SimulatedCluster, chance: random.Random) -> None:
    node_id = chance.choice([*cluster.leaders, *cluster.ids])
    cluster.pause(node_id)
    cluster.loop.schedule(chance.uniform(0.5, 8), cluster.resume, node_id)


def slow_disk(cluster: SimulatedCluster, chance: random.Random) -> None:
    cluster.write_s[chance.choice(cluster.ids)] = chance.choice([0.2, 1.0, 4.0])


def bad_disk(cluster: SimulatedCluster, chance: random.Random) -> None:
    """The probe of a node's disk fails or is slow for a while: it must not be master, and need not be a member."""
    node_id = chance.choice([*cluster.leaders, *cluster.ids])
    cluster.post(node_id, HealthChanged("the disk is slow"))
    cluster.loop.schedule(chance.uniform(0.5, 10), cluster.post, node_id, HealthChanged(None))


def step_down(cluster: SimulatedCluster, chance: random.Random) -> None:
    for leader in cluster.leaders:
        cluster.post(leader, StepDown(chance.choice([None, *cluster.ids])))


def retirement(cluster: SimulatedCluster, chance: random.Random) -> None:
    """Some nodes shall not vote, for a while."""
    cluster.retire(*chance.sample(cluster.voters, chance.randrange(1, max(2, len(cluster.voters) // 2))))
    cluster.loop.schedule(chance.uniform(1, 10), cluster.retire)


def drifting_clock(cluster: SimulatedCluster, chance: random.Random) -> None:
    cluster.clock_rate[chance.choice(cluster.ids)] = chance.choice([0.5, 0.9, 1.1, 2.0])


def heal(cluster: SimulatedCluster, chance: random.Random) -> None:
    cluster.heal()


FAULTS: tuple[Fault, ...] = (
    cut_in_two,
    deaf_node,
    isolated_master,
    bridge,
    ring_of_majorities,
    bad_network,
    broken_connection,
    crash,
    crash_of_the_master,
    crash_at_a_write,
    election_among_the_dying,
    crash_of_all,
    clean_stop,
    pause,
    slow_disk,
    bad_disk,
    step_down,
    retirement,
    drifting_clock,
    heal,
    heal,
)


def faults_until(cluster: SimulatedCluster, end: float, *, every_s: float = 3.0) -> Generator[float, None, None]:
    """A script for the event loop: a fault every few seconds."""
    chance = cluster.chance.stream("faults")
    while True:
        yield chance.expovariate(1 / every_s)
        if cluster.now >= end:
            return
        fault = chance.choice(FAULTS)
        cluster.checker.tell(cluster.now, "all", f"fault: {fault.__name__}")
        fault(cluster, chance)


def clients_until(cluster: SimulatedCluster, end: float, name: str) -> Generator[float, None, None]:
    """A client that asks any node, waits for the answer up to eight seconds, and asks again."""
    chance = cluster.chance.stream(f"client {name}")
    while cluster.now < end:
        ticket = cluster.submit(chance.choice([*cluster.leaders, *cluster.ids]))
        for _ in range(80):
            if ticket in cluster.answers:
                break
            yield 0.1
        yield chance.expovariate(1)
