"""What must hold on real processes when the network between them breaks. Each scenario says it, waits for it, and how long
it took. The limits are those users are promised with default settings, not what is usual."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from demo.processes import Node, SqlError
from tests.netns.network import Network, network

#: Promised with default settings: a silent node is noticed and replaced; a minority refuses; all find each other again.
SILENCE_S: Final = 5.0
REFUSAL_S: Final = 1.0
HEAL_S: Final = 15.0
START_S: Final = {3: 20.0, 5: 30.0, 30: 180.0}

Scenario = Callable[[Path], str]

#: What was measured, by what it is: seconds.
FIGURES: Final[dict[str, list[float]]] = {}


def _figure(what: str, seconds: float) -> float:
    FIGURES.setdefault(what, []).append(seconds)
    return seconds


def _write_somewhere(net: Network, indexes: list[int], name: str) -> float:
    """Seconds until one of the nodes acknowledges a new table."""
    seconds = net.wait(
        lambda: any(net.ddl(index, name, timeout_s=3) for index in indexes), f"DDL through {indexes}", timeout_s=30
    )
    return _figure("next DDL after", seconds)


def _heal(net: Network) -> float:
    """Packets pass again; seconds until all nodes agree."""
    net.heal()
    seconds = net.wait(lambda: net.agree(range(len(net.nodes))), "all nodes agree again", timeout_s=2 * HEAL_S)
    assert seconds <= HEAL_S, f"{seconds:.1f} s"
    return _figure("healed in", seconds)


def _refusal(node: Node, statement: str) -> tuple[float, SqlError | None]:
    started = time.monotonic()
    try:
        node.sql(statement, timeout_s=30)
    except SqlError as error:
        return time.monotonic() - started, error
    return time.monotonic() - started, None


def _check_minority(net: Network, index: int, table: str) -> str:
    """A node without a majority refuses changes at once, with the reason, and still reads."""
    net.wait(lambda: net.members(index) == 0, f"n{index} notices that it has no majority", timeout_s=SILENCE_S + 2)
    for statement in ("CREATE TABLE minority (a INTEGER)", f"INSERT INTO {table} (a) VALUES (1)"):
        took_s, error = _refusal(net.nodes[index], statement)
        assert error is not None, f"a minority must not acknowledge {statement}"
        assert error.code == 5031, error
        assert _figure("minority refused in", took_s) <= REFUSAL_S + 0.5, f"the refusal took {took_s:.1f} s"
    assert net.nodes[index].sql("SELECT count(*) FROM sys.nodes")["rows"], "system tables answer"
    assert net.nodes[index].sql(f"SELECT table_name FROM information_schema.tables WHERE table_name = '{table}'")[
        "rows"
    ]
    return f"minority refused in {took_s:.2f} s"


def three_and_two(path: Path) -> str:
    """Five nodes cut into 3 | 2 with the master in the minority: the majority goes on, the minority refuses and reads."""
    with network(path, 5) as net:
        assert net.ddl(0, "before")
        master = net.master_index()
        few = [master, next(n for n in range(5) if n != master)]
        many = [n for n in range(5) if n not in few]
        net.cut(few)
        took_s = _write_somewhere(net, many, "during")
        assert took_s <= SILENCE_S + 1, f"{took_s:.1f} s until the majority acknowledged"
        refused = _check_minority(net, few[0], "before")
        healed_s = _heal(net)
        assert all(net.ddl(n, "during") for n in range(5))
        return f"majority acknowledged after {took_s:.1f} s, {refused}, healed in {healed_s:.1f} s"


def two_and_two(path: Path) -> str:
    """Four nodes cut in half: at most one half acknowledges; healed, all agree and nothing acknowledged is lost."""
    with network(path, 4) as net:
        net.cut([0, 1])
        time.sleep(SILENCE_S)
        acknowledged = [n for n in range(4) if net.ddl(n, f"half_{n}", timeout_s=10)]
        sides = {n < 2 for n in acknowledged}
        assert len(sides) <= 1, f"both halves acknowledge: {acknowledged}"
        healed_s = _heal(net)
        rows = net.nodes[0].sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'doc'")["rows"]
        assert {f"half_{n}" for n in acknowledged} <= {row[0] for row in rows}
        return f"{len(acknowledged)} nodes of one half went on, healed in {healed_s:.1f} s"


def isolated_master(path: Path) -> str:
    """The master alone, by dropped packets: the others replace it, it refuses and reads, and comes back as a follower."""
    with network(path, 3) as net:
        assert net.ddl(0, "before")
        master = net.master_index()
        others = [n for n in range(3) if n != master]
        net.cut([master])
        took_s = _write_somewhere(net, others, "during")
        assert took_s <= SILENCE_S, f"{took_s:.1f} s"
        refused = _check_minority(net, master, "before")
        healed_s = _heal(net)
        return f"replaced after {took_s:.1f} s, {refused}, healed in {healed_s:.1f} s"


def silent_cuts(path: Path) -> str:
    """Ten times the master alone, by dropped packets: replaced; it refuses within a second and reads what it has."""
    with network(path, 3) as net:
        for n in range(3):
            assert net.ddl(n, f"t{n}")
        at_home = {net.home(0, f"t{n}"): f"t{n}" for n in range(3)}
        assert len(at_home) == 3, at_home
        for n, table in at_home.items():
            net.nodes[n].sql(f"INSERT INTO {table} (a) VALUES (7)")
            net.nodes[n].sql(f"REFRESH TABLE {table}")
        took: list[float] = []
        for number in range(10):
            master = net.master_index()
            others = [n for n in range(3) if n != master]
            net.cut([master])
            took.append(_write_somewhere(net, others, f"during_{number}"))
            _check_minority(net, master, at_home[master])
            for statement in (f"SELECT a FROM {at_home[master]}", f"SELECT count(*) * 7 FROM {at_home[master]}"):
                assert net.nodes[master].sql(statement, timeout_s=5)["rows"] == [[7]], "reads go on"
            _heal(net)
        assert max(took) <= SILENCE_S, took
        return f"replaced after {sorted(took)[5]:.1f} s, at most {max(took):.1f} s"


def one_way_loss(path: Path) -> str:
    """Nothing reaches the master from one node, or one node from the master: changes go on through the others."""
    with network(path, 3) as net:
        told = []
        for is_deaf in (True, False):
            master = net.master_index()
            other = next(n for n in range(3) if n != master)
            net.drop(other, master) if is_deaf else net.drop(master, other)
            rest = [n for n in range(3) if n != other]
            took_s = _write_somewhere(net, rest, f"one_way_{is_deaf}")
            assert took_s <= SILENCE_S + 2, f"{took_s:.1f} s"
            healed_s = _heal(net)
            told.append(f"{took_s:.1f} s, healed in {healed_s:.1f} s")
        return "; ".join(told)


def _zones(path: Path, sizes: tuple[int, ...]) -> str:
    zones = [f"z{zone}" for zone, size in enumerate(sizes) for _ in range(size)]
    with network(path, len(zones), zones=zones) as net:
        told = []
        for zone in range(len(sizes)):
            lost = [n for n, name in enumerate(zones) if name == f"z{zone}"]
            rest = [n for n in range(len(zones)) if n not in lost]
            net.cut(lost)
            took_s = _write_somewhere(net, rest, f"without_z{zone}")
            assert took_s <= SILENCE_S + 2, f"{took_s:.1f} s without zone {zone}"
            net.wait(lambda alive=rest: net.agree(alive), "the others agree", timeout_s=HEAL_S)
            _heal(net)
            told.append(f"{took_s:.1f} s")
        return f"acknowledged after {', '.join(told)}"


def zones_of_three(path: Path) -> str:
    """Zones of 3 + 3 + 3 nodes, each lost in turn."""
    return _zones(path, (3, 3, 3))


def zones_uneven(path: Path) -> str:
    """Zones of 2 + 2 + 1 nodes, each lost in turn."""
    return _zones(path, (2, 2, 1))


def paused_master(path: Path) -> str:
    """SIGSTOP of the master: replaced; SIGCONT: it follows, and acknowledges nothing by itself."""
    with network(path, 3) as net:
        master = net.master_index()
        others = [n for n in range(3) if n != master]
        process = net.nodes[master].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        took_s = _write_somewhere(net, others, "during")
        assert took_s <= SILENCE_S, f"{took_s:.1f} s"
        process.send_signal(signal.SIGCONT)
        healed_s = net.wait(lambda: net.agree(range(3)), "three nodes agree again", timeout_s=HEAL_S)
        assert net.master_index() != master
        return f"replaced after {took_s:.1f} s, back after {healed_s:.1f} s"


def rolling_restart(path: Path) -> str:
    """Each of three nodes restarted in turn while tables are made through the others: none is refused for longer than a second."""
    with network(path, 3) as net:
        gaps: list[float] = []
        is_over = threading.Event()

        def write() -> None:
            number, last = 0, time.monotonic()
            while not is_over.is_set():
                number += 1
                if any(net.ddl(n, f"t{number}", timeout_s=5) for n in range(3) if net.nodes[n].process is not None):
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for node in net.nodes:
                assert node.stop() == 0, f"{node.name} stops cleanly"
                node.start()
                net.wait(lambda: net.agree(range(3)), "three nodes agree again", timeout_s=60)
        finally:
            is_over.set()
            writer.join()
        assert max(gaps) <= 3, f"no table could be made for {max(gaps):.1f} s"
        return f"{len(gaps)} tables, longest gap {max(gaps):.2f} s"


def full_restart_on_other_ports(path: Path) -> str:
    """All stopped, all started with other ports: they find each other by their seeds and have their tables."""
    with network(path, 3) as net:
        assert net.ddl(0, "before")
        for node in net.nodes:
            node.stop()
        net.move_ports(11)
        took_s = net.start_all()
        names = [row[0] for row in net.nodes[2].sql("SHOW TABLES")["rows"]]
        assert "before" in names
        assert took_s <= START_S[3], f"{took_s:.1f} s"
        return f"agreed after {took_s:.1f} s"


def _parallel_start(path: Path, size: int) -> str:
    with Network(path, size) as net:
        took_s = net.start_all()
        assert took_s <= START_S[size], f"{took_s:.1f} s"
        assert net.ddl(size - 1, "t")
        return f"{size} nodes agreed after {took_s:.1f} s"


def five_in_parallel(path: Path) -> str:
    """Five empty nodes started at the same moment."""
    return _parallel_start(path, 5)


def thirty_in_parallel(path: Path) -> str:
    """Thirty empty nodes started at the same moment."""
    return _parallel_start(path, 30)


SCENARIOS: Final[tuple[Scenario, ...]] = (
    three_and_two,
    two_and_two,
    isolated_master,
    silent_cuts,
    one_way_loss,
    zones_of_three,
    zones_uneven,
    paused_master,
    rolling_restart,
    full_restart_on_other_ports,
    five_in_parallel,
    thirty_in_parallel,
)
