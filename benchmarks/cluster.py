"""The cluster under its master: failover, changes of the state, starts. Real processes on loopback, default settings.

    python -m benchmarks.cluster [failover leaving silent changes starts simulated idle sizes]

Figures of CrateDB 6.4.3 were measured on a machine like this one (three nodes, 1 GiB heap each); it is not started here, so
those are fixed. ROUNDS is the number of kills (default 20) and of cuts (half of it); SHARDS are the shards that there are
when changes are timed (default ``10,1000``; the last of them are restarted). ``sizes``, which runs only when it is named, times
changes in clusters of NODES real processes (default ``3,9,30``; 30 take 3 GB of memory) and among 10,000 shards. A line whose figure misses its aim says so; the
last line sums up, and misses count as failed. On a busy machine everything is slower: look at the load beside the sum.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

from benchmarks.traffic import Traffic
from cratepy.cluster.coordination.settings import CoordinationSettings
from cratepy.cluster.diff import diff
from cratepy.cluster.state_log import StateLog
from cratepy.model.commands import CreateTable, SetClusterSettings
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import INTEGER
from demo.processes import Cluster, Node, SqlError
from tests.simulation.cluster import SimulatedCluster

ROUNDS = int(os.environ.get("ROUNDS", "20"))
SHARDS = tuple(int(part) for part in os.environ.get("SHARDS", "10,1000").split(","))
NODES = tuple(int(part) for part in os.environ.get("NODES", "3,9,30").split(","))
_TABLE = "CREATE TABLE IF NOT EXISTS {} (a INTEGER) CLUSTERED INTO {} SHARDS"


_verdicts: list[bool] = []


def _print(what: str, figure: str, aim: str, peer: str, *, is_met: bool | None = None) -> None:
    """One line; ``is_met``: whether the figure reaches the aim, None if there is no aim."""
    verdict = "" if is_met is None else "   passed" if is_met else "   MISSED"
    if is_met is not None:
        _verdicts.append(is_met)
    print(f"{what:<58} {figure:>26}   aim {aim:<22} CrateDB {peer:<17}{verdict}", flush=True)


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
    is_met = statistics.median(times) <= 0.5 and max(times) <= 1.5
    what = f"kill -9 of the master, {len(times)} times: next DDL"
    _print(what, figure, "0.5 s, max 1.5 s", "0.57 s, max 0.71 s", is_met=is_met)
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
    is_met = max(times) <= 5
    _print(f"silent master, {len(times)} times: next DDL", figure, "5 s", "61 to 90 s", is_met=is_met)


def _timed(node: Node, statements: Sequence[str]) -> list[float]:
    times = []
    for statement in statements:
        started = time.perf_counter()
        node.sql(statement)
        times.append((time.perf_counter() - started) * 1000)
    return times


def _has_primaries(node: Node) -> bool:
    try:
        with urllib.request.urlopen(f"{node.url}/health/ready?level=primaries", timeout=5):
            return True
    except OSError:
        return False


def changes() -> None:
    """CREATE TABLE, ADD COLUMN, a dynamic column and DROP while there are 10 and 1,000 shards; then all nodes at once."""
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3) as cluster:
        node = cluster.nodes[0]
        node.sql("SET GLOBAL PERSISTENT cluster.max_shards_per_node = 100000")
        node.sql("CREATE TABLE grows (a INTEGER) CLUSTERED INTO 1 SHARDS WITH (column_policy = 'dynamic')")
        for shards in SHARDS:
            for number in range(shards // 4):
                node.sql(_TABLE.format(f"fill{number}", 4))
            _timed(node, [_TABLE.format("warm", 4), "DROP TABLE warm"])
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
                is_met = statistics.median(times) <= 10
                _print(f"{what} at {shards:,} shards", figure, "p50 10 ms", peer, is_met=is_met)
        sizes = [sum(f.stat().st_size for f in (n.data / "nodes/0/_state").iterdir()) for n in cluster.nodes]
        _print(f"state on disk at {SHARDS[-1]:,} shards", f"{sizes[0] / 1024:.0f} KiB", "-", "-")
        for stopped in cluster.nodes:
            stopped.stop()
        started = time.monotonic()
        for again in cluster.nodes:
            again.start()
        while not all(node.is_ready() for node in cluster.nodes):
            time.sleep(0.02)
        ready_s = time.monotonic() - started
        # Not sys.shards: whoever asks all nodes for all shards fifty times a second measures that.
        while not all(_has_primaries(node) for node in cluster.nodes):
            time.sleep(0.02)
        took_s = time.monotonic() - started
        what = f"full restart with {SHARDS[-1]:,} shards, until all primaries are started"
        _print(what, f"{took_s:.1f} s (answers at {ready_s:.1f})", "5 s", "70 s", is_met=took_s <= 5)


def sizes() -> None:
    """What a change takes with more nodes and more shards than most have: all processes on this machine, its cores and its disk.

    The aim of 10,000 shards is against 10: a change may cost what copying a dictionary of so many tables costs, and no more.
    """
    for nodes in NODES:
        _sized(nodes, (10,))
    _sized(3, (10, 10_000))


def _sized(nodes: int, sizes: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        with Cluster(Path(directory), nodes) as cluster:
            _print(f"{nodes} empty nodes, until they know each other", f"{time.monotonic() - started:.1f} s", "-", "-")
            master = cluster.master()
            master.sql("SET GLOBAL PERSISTENT cluster.max_shards_per_node = 100000")
            first: dict[str, float] = {}
            made = 0
            for shards in sizes:
                for number in range(made, shards, 40):
                    master.sql(_TABLE.format(f"fill{number}", min(40, shards - number)))
                made = shards
                _sized_changes(cluster, master, shards, first)
            if made > 1_000:
                _state_load(cluster, made)


def _sized_changes(cluster: Cluster, master: Node, shards: int, first: dict[str, float]) -> None:
    """Thirty CREATE TABLE, ADD COLUMN and DROP TABLE each; ``first``: what they took with the fewest shards."""
    tag = f"s{shards}"
    master.sql(_TABLE.format(f"{tag}_grows", 1))
    _timed(master, [_TABLE.format("warm", 4), "DROP TABLE warm"])
    before = _state_bytes(master)
    times = {
        "CREATE TABLE of 4 shards": _timed(master, [_TABLE.format(f"{tag}_{n}", 4) for n in range(30)]),
        "ADD COLUMN": _timed(master, [f"ALTER TABLE {tag}_grows ADD COLUMN c{n} INTEGER" for n in range(30)]),
        "DROP TABLE": _timed(master, [f"DROP TABLE {tag}_{n}" for n in range(30)]),
    }
    after = _state_bytes(master)
    for what, took in times.items():
        p50 = statistics.median(took)
        known = first.setdefault(what, p50)
        is_met = None if shards == 10 else p50 <= 2 * known + 5
        what = f"{what}, {len(cluster.nodes)} nodes, {shards:,} shards"
        aim = "-" if is_met is None else f"{2 * known + 5:.0f} ms"
        _print(what, f"p50 {p50:.1f} ms, max {max(took):.0f}", aim, "-", is_met=is_met)
    if after > before:  # no new generation was begun meanwhile
        what = f"bytes of the state log per change, {shards:,} shards"
        _print(what, f"{(after - before) / 120:.0f} B", "4 KiB", "-", is_met=(after - before) / 120 <= 4096)


def _state_bytes(node: Node) -> int:
    """Where the node's state log ends: zeros that are reserved follow."""
    logs = sorted((node.data / "nodes/0/_state").glob("state-*"), key=lambda log: int(log.name.partition("-")[2]))
    return len(logs[-1].read_bytes().rstrip(b"\0"))


def _state_load(cluster: Cluster, shards: int) -> None:
    """How long a stopped node takes to read its state, and to be back with its shards open."""
    node = next(node for node in cluster.nodes if node is not cluster.master())
    node.stop()
    directory = node.data / "nodes/0/_state"
    log = StateLog(directory, cluster_name=None)
    log.close()
    began = time.perf_counter()
    StateLog(directory, cluster_name=None).close()
    load_ms = (time.perf_counter() - began) * 1000
    what = f"state of {shards:,} shards, read at start"
    _print(what, f"{load_ms:.0f} ms, {_state_bytes(node) / 2**20:.1f} MiB", "500 ms", "-", is_met=load_ms <= 500)
    started = time.monotonic()
    node.start()
    while not node.is_ready():
        time.sleep(0.02)
    ready_s = time.monotonic() - started
    while not _has_primaries(node):
        time.sleep(0.02)
    took_s = time.monotonic() - started
    what = f"restart of one of {len(cluster.nodes)} nodes, {shards:,} shards"
    _print(what, f"{took_s:.1f} s (answers at {ready_s:.1f})", "-", "-")


def starts() -> None:
    """Three empty nodes at once, then one more."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        with Cluster(Path(directory), 3) as cluster:
            took_s = time.monotonic() - started
            what = "three empty nodes, until they know each other"
            _print(what, f"{took_s:.2f} s", "1.5 s", "9.8 to 11.5 s", is_met=took_s <= 1.5)
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
                took_s = time.monotonic() - started
                _print("a further node, until it is a member", f"{took_s:.2f} s", "1 s", "3.8 s", is_met=took_s <= 1)
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
        is_met = memory <= 100 and percent <= 1
        figure = f"{memory:.0f} MiB, {percent:.1f} %"
        _print("idle node", figure, "100 MiB, 1 %", "453 to 521 MiB, 1 to 1.8 %", is_met=is_met)


def simulated() -> None:
    """CREATE TABLE in the core alone: simulated time, network and disks, real CPU; and what one change sends.

    The CPU of a change is the difference of the CPU with it and of the same time without: heartbeats are not its.
    """
    costs: dict[tuple[int, int], float] = {}
    for nodes in (3, 9, 30):
        for shards in (10, 1_000, 10_000):
            cluster = SimulatedCluster(seed=1, nodes=nodes, settings=CoordinationSettings()).formed()
            cluster.network.straggler_chance = 0.0  # Otherwise this measures how long a node is waited for.
            leader = cluster.leaders[0]
            cluster.command(leader, SetClusterSettings(settings={"cluster.max_shards_per_node": 100_000}))
            for number in range(shards // 4):
                cluster.command(leader, CreateTable(definition=_definition(f"fill{number}")))
            cluster.run_for(2)
            assert len(cluster.accepted(leader).tables) == shards // 4
            latencies, cpu_s, size = [], 0.0, 0
            for number in range(30):
                before, began, cpu = cluster.accepted(leader), cluster.now, time.process_time()
                ticket = cluster.command(leader, CreateTable(definition=_definition(f"t{number}")))
                while ticket not in cluster.answers:
                    cluster.run_for(0.001)
                took_s, cpu = cluster.now - began, time.process_time() - cpu
                latencies.append(took_s * 1000)
                size = len(msgspec.msgpack.encode(diff(before, cluster.accepted(leader))))
                quiet = time.process_time()
                cluster.run_for(took_s)
                cpu_s += cpu - (time.process_time() - quiet)
            costs[nodes, shards] = cpu_ms = cpu_s / len(latencies) / nodes * 1000
            what = f"CREATE TABLE, {nodes} simulated nodes, {shards:,} shards"
            # A thousand times the shards may cost what copying a dictionary of so many tables costs, and no more.
            is_met = None if shards == 10 else cpu_ms < costs[nodes, 10] + 2 and size < 4096
            figure = f"p50 {statistics.median(latencies):.0f} ms, {cpu_ms:.2f} ms CPU, {size} B"
            _print(what, figure, "-" if is_met is None else "+ 2 ms CPU, 4 KiB", "-", is_met=is_met)


def _definition(name: str) -> TableDefinition:
    columns = (ColumnDefinition(oid=0, name="a", type=INTEGER),)
    return TableDefinition(name=RelationName("doc", name), uuid=f"uuid-{name}", oid=0, columns=columns, shards=4)


PARTS: dict[str, Callable[[], None]] = {
    "failover": failover,
    "leaving": leaving,
    "silent": silent,
    "changes": changes,
    "starts": starts,
    "simulated": simulated,
    "idle": idle,
    "sizes": sizes,
}
#: What runs only when it is named.
_LONG = ("sizes",)


def main(names: Sequence[str]) -> int:
    """Run the parts named, or all."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"parts: {', '.join(PARTS)}")
        return 2
    broken = 0
    for name in names or [name for name in PARTS if name not in _LONG]:
        try:
            PARTS[name]()
        except Exception as error:  # one part's failure is told, the others still run
            broken += 1
            print(f"{name} failed: {error}", flush=True)
    failed = _verdicts.count(False) + broken
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: {_verdicts.count(True)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
