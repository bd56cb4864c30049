"""The cluster under its master: failover, changes of the state, starts. Real processes on loopback, default settings.

    python -m benchmarks.cluster [failover leaving silent changes starts simulated idle]

Ratios are to CrateDB 6.4.3 as measured on a machine like this one (three nodes, 1 GiB heap each); it is not started here, so
those are fixed figures. ROUNDS is the number of kills (default 20) and of cuts (half of it).
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.traffic import Traffic
from cratepy.cluster.coordination.settings import CoordinationSettings
from demo.processes import Cluster, Node, SqlError
from tests.simulation.cluster import SimulatedCluster

ROUNDS = int(os.environ.get("ROUNDS", "20"))
_TABLE = "CREATE TABLE IF NOT EXISTS {} (a INTEGER) CLUSTERED INTO {} SHARDS"


def _print(what: str, figure: str, aim: str, peer: str) -> None:
    print(f"{what:<58} {figure:>26}   aim {aim:<22} CrateDB {peer}", flush=True)


def _acknowledged(nodes: Sequence[Node], statement: str, *, timeout_s: float = 30) -> float:
    """Seconds until one of the nodes acknowledges the statement."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        for node in nodes:
            try:
                node.sql(statement, timeout_s=5)
            except (OSError, SqlError, ValueError):
                continue
            return time.monotonic() - started
        time.sleep(0.005)
    raise RuntimeError(f"nobody acknowledged within {timeout_s:g} s: {statement}")


def failover() -> None:
    """kill -9 of the master under clients that read and write: time to the next acknowledged DDL, and what failed."""
    times = []
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        traffic = Traffic(cluster)
        with traffic:
            for number in range(ROUNDS):
                master = cluster.master()
                rest = [node for node in cluster.nodes if node is not master]
                with traffic.without(master):
                    master.kill()
                    times.append(_acknowledged(rest, _TABLE.format(f"t{number}", 1)))
                    master.start()
                    cluster.wait_ready()
        said = traffic.text()
    figure = f"{statistics.median(times):.2f} s, max {max(times):.2f} s"
    _print(f"kill -9 of the master, {len(times)} times: next DDL", figure, "0.5 s, max 1.5 s", "0.57 s, max 0.71 s")
    print(said, flush=True)


def leaving() -> None:
    """Nodes, master or not, are stopped or killed and come back, under clients that read and write: what failed."""
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        traffic = Traffic(cluster)
        with traffic:
            for number in range(ROUNDS):
                node = cluster.nodes[number % 3]
                with traffic.without(node):
                    node.kill() if number % 2 else node.stop()
                    node.start()
                    cluster.wait_ready()
        said = traffic.text()
    print(
        f"nodes stopped (SIGTERM) and killed in turn, {ROUNDS} times; aim: no read of what is alive fails\n{said}",
        flush=True,
    )


def silent() -> None:
    """The master stops answering (SIGSTOP, as dropped packets are: no connection breaks)."""
    times = []
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        for number in range(max(1, ROUNDS // 2)):
            master = cluster.master()
            assert master.process is not None
            rest = [node for node in cluster.nodes if node is not master]
            master.process.send_signal(signal.SIGSTOP)
            times.append(_acknowledged(rest, _TABLE.format(f"t{number}", 1)))
            master.process.send_signal(signal.SIGCONT)
            cluster.wait_ready()
    figure = f"{statistics.median(times):.2f} s, max {max(times):.2f} s"
    _print(f"silent master, {len(times)} times: next DDL", figure, "5 s", "61 to 90 s")


def _timed(node: Node, statements: Sequence[str]) -> list[float]:
    times = []
    for statement in statements:
        started = time.perf_counter()
        node.sql(statement)
        times.append((time.perf_counter() - started) * 1000)
    return times


def changes() -> None:
    """CREATE TABLE, ADD COLUMN, a dynamic column and DROP at 10 and at 1,000 shards."""
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        node = cluster.nodes[0]
        node.sql("SET GLOBAL PERSISTENT cluster.max_shards_per_node = 100000")
        node.sql("CREATE TABLE grows (a INTEGER) CLUSTERED INTO 1 SHARDS WITH (column_policy = 'dynamic')")
        for shards in (10, 1_000):
            for number in range(shards // 4):
                node.sql(_TABLE.format(f"fill{number}", 4))
            tag = f"s{shards}"
            create = _timed(node, [_TABLE.format(f"{tag}_{n}", 4) for n in range(30)])
            add = _timed(node, [f"ALTER TABLE grows ADD COLUMN {tag}_{n} INTEGER" for n in range(30)])
            dynamic = _timed(node, [f"INSERT INTO grows (a, {tag}d{n}) VALUES (1, 1)" for n in range(30)])
            drop = _timed(node, [f"DROP TABLE {tag}_{n}" for n in range(30)])
            for what, times, peer in (
                ("CREATE TABLE of 4 shards", create, "122 → 91 ms"),
                ("ADD COLUMN", add, "53 → 36 ms"),
                ("dynamic column by INSERT", dynamic, "50 → 39 ms"),
                ("DROP TABLE", drop, "47 → 39 ms"),
            ):
                figure = f"p50 {statistics.median(times):.1f} ms, max {max(times):.0f}"
                _print(f"{what} at {shards:,} shards", figure, "p50 10 ms", peer)
        sizes = [sum(f.stat().st_size for f in (n.data / "nodes/0/_state").iterdir()) for n in cluster.nodes]
        _print("state on disk at 1,000 shards", f"{sizes[0] / 1024:.0f} KiB", "-", "-")
        for stopped in cluster.nodes:
            stopped.stop()
        started = time.monotonic()
        for again in cluster.nodes:
            again.start()
        cluster.wait_ready()
        query = "SELECT count(*) FROM sys.shards WHERE routing_state <> 'STARTED'"
        while node.sql(query)["rows"][0][0] or node.sql("SELECT health FROM sys.cluster_health")["rows"][0][0] == "RED":
            time.sleep(0.05)
        _print("full restart with 1,000 shards, until green", f"{time.monotonic() - started:.1f} s", "5 s", "70 s")


def starts() -> None:
    """Three empty nodes at once, then one more."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        with Cluster(Path(directory), 3) as cluster:
            _print(
                "three empty nodes, until they know each other",
                f"{time.monotonic() - started:.2f} s",
                "1.5 s",
                "9.8 to 11.5 s",
            )
            more = Cluster(Path(directory) / "more", 1)
            seeds = ",".join(f"127.0.0.1:{node.transport_port}" for node in cluster.nodes)
            settings = [s for s in more.nodes[0].settings if not s.startswith(("cluster.", "discovery.", "node.name"))]
            name = next(s for s in cluster.nodes[0].settings if s.startswith("cluster.name"))
            more.nodes[0].settings = (*settings, name, "node.name=one-more", f"discovery.seed_hosts={seeds}")
            started = time.monotonic()
            more.nodes[0].start()
            try:
                query = "SELECT count(*) FROM sys.nodes"
                while cluster.nodes[0].sql(query)["rows"][0][0] < 4:
                    time.sleep(0.01)
                _print("a further node, until it is a member", f"{time.monotonic() - started:.2f} s", "1 s", "3.8 s")
            finally:
                more.stop()


def idle() -> None:
    """Memory and processor of nodes that nobody asks."""
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        processes = [psutil.Process(node.process.pid) for node in cluster.nodes if node.process is not None]
        time.sleep(3)
        for process in processes:
            process.cpu_percent()
        time.sleep(10)
        percent = statistics.mean(process.cpu_percent() for process in processes)
        memory = statistics.mean(process.memory_info().rss for process in processes) / 2**20
        _print("idle node", f"{memory:.0f} MiB, {percent:.1f} %", "100 MiB, 1 %", "453 to 521 MiB, 1 to 1.8 %")


def simulated() -> None:
    """Publications of the core alone: simulated time with the simulated network's delays, and real CPU per change."""
    for nodes in (3, 9, 30):
        cluster = SimulatedCluster(seed=1, nodes=nodes, settings=CoordinationSettings()).formed()
        leader, latencies = cluster.leaders[0], []
        cpu = time.process_time()
        for _ in range(50):
            began = cluster.now
            ticket = cluster.submit(leader)
            while ticket not in cluster.answers:
                cluster.run_for(0.001)
            latencies.append((cluster.now - began) * 1000)
        cpu = (time.process_time() - cpu) / 50 * 1000
        figure = f"p50 {statistics.median(latencies):.0f} ms, {cpu / nodes:.2f} ms CPU a node"
        _print(f"a publication, {nodes} simulated nodes (0.5 to 5 ms a message)", figure, "-", "-")


PARTS: dict[str, Callable[[], None]] = {
    "failover": failover,
    "leaving": leaving,
    "silent": silent,
    "changes": changes,
    "starts": starts,
    "simulated": simulated,
    "idle": idle,
}


def main(names: Sequence[str]) -> int:
    """Run the parts named, or all."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"parts: {', '.join(PARTS)}")
        return 2
    failed = 0
    for name in names or PARTS:
        try:
            PARTS[name]()
        except Exception as error:  # one part's failure is told, the others still run
            failed += 1
            print(f"{name} failed: {error}", flush=True)
    print(f"{len(names or PARTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
