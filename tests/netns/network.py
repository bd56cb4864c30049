"""Nodes in network namespaces of their own, on one bridge: a small network that can be cut with iptables.

Needs root, iproute2 and iptables. Every name carries the process id, so that runs do not meet; leaving the context removes
namespaces and bridge whatever happened. The harness itself sits on the bridge and reaches every node as a client would.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from demo.processes import Node, SqlError

_SUBNET: Final = "10.231.77"
_SECRET: Final = "only for this test network"
_HARNESS: Final = 254
HTTP_PORT, PSQL_PORT, TRANSPORT_PORT = 4200, 5432, 4300


def unavailable() -> str | None:
    """Why namespaces cannot be used here; None if they can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for tool, package in (("ip", "iproute2"), ("iptables", "iptables")):
        if shutil.which(tool) is None:
            return f"needs {tool}: apt-get install -y {package}"
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


#: A namespace that was deleted lives on for a moment, with its end of a pair of interfaces: names are not used again.
_NUMBERS: Final = itertools.count()


class Network:
    """A cluster of ``size`` nodes, one namespace each. ``zones`` gives the zone of each node, by index."""

    def __init__(self, directory: Path, size: int, *, zones: Sequence[str] = (), settings: Sequence[str] = ()) -> None:
        self._tag = f"cp{os.getpid() % 100_000}x{next(_NUMBERS) % 100}"
        self._directory = directory
        self._settings = tuple(settings)
        self._zones = tuple(zones)
        self.nodes = [self._node(index, size) for index in range(size)]

    def _node(self, index: int, size: int, *, port_offset: int = 0) -> Node:
        names = ",".join(f"n{number}" for number in range(size))
        seeds = ",".join(f"{self.address(number)}:{TRANSPORT_PORT + port_offset}" for number in range(size))
        http, psql, transport = (port + port_offset for port in (HTTP_PORT, PSQL_PORT, TRANSPORT_PORT))
        settings = [
            "cluster.name=netns",
            f"cluster.secret={_SECRET}",
            f"node.name=n{index}",
            f"network.host={self.address(index)}",
            f"http.port={http}",
            f"psql.port={psql}",
            f"transport.port={transport}",
            f"discovery.seed_hosts={seeds}",
            f"cluster.initial_master_nodes={names}",
            *self._settings,
        ]
        if self._zones:
            settings.append(f"node.attr.zone={self._zones[index]}")
        return Node(
            name=f"n{index}",
            data=self._directory / f"n{index}",
            http_port=http,
            psql_port=psql,
            transport_port=transport,
            settings=tuple(settings),
            host=self.address(index),
            prefix=("ip", "netns", "exec", self._namespace(index)),
        )

    def move_ports(self, offset: int) -> None:
        """All nodes, which must be stopped, get other ports."""
        self.nodes = [self._node(index, len(self.nodes), port_offset=offset) for index in range(len(self.nodes))]

    @staticmethod
    def address(index: int) -> str:
        return f"{_SUBNET}.{index + 1}"

    def _namespace(self, index: int) -> str:
        return f"{self._tag}n{index}"

    def __enter__(self) -> Self:
        try:
            bridge = f"{self._tag}br"
            _run("ip", "link", "add", bridge, "type", "bridge")
            _run("ip", "addr", "add", f"{_SUBNET}.{_HARNESS}/24", "dev", bridge)
            _run("ip", "link", "set", bridge, "up")
            for index in range(len(self.nodes)):
                name, veth = self._namespace(index), f"{self._tag}v{index}"
                _run("ip", "netns", "add", name)
                _run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
                _run("ip", "link", "set", veth, "master", bridge, "up")
                _run("ip", "-n", name, "addr", "add", f"{self.address(index)}/24", "dev", "eth0")
                _run("ip", "-n", name, "link", "set", "eth0", "up")
                _run("ip", "-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
        for node in self.nodes:
            node.stop()
        for index in range(len(self.nodes)):
            subprocess.run(["ip", "link", "del", f"{self._tag}v{index}"], capture_output=True)
            subprocess.run(["ip", "netns", "del", self._namespace(index)], capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self._tag}br"], capture_output=True)

    # --- faults ------------------------------------------------------------------------------------------------------

    def drop(self, source: int, target: int) -> None:
        """Packets from one node do not reach another; silently, in this direction only."""
        _run(
            "ip", "netns", "exec", self._namespace(target),
            "iptables", "-A", "INPUT", "-s", self.address(source), "-j", "DROP",
        )  # fmt: skip

    def cut(self, side: Sequence[int], others: Sequence[int] | None = None) -> None:
        """Nothing passes between a side and the others, in either direction."""
        rest = others if others is not None else [n for n in range(len(self.nodes)) if n not in side]
        for a in side:
            for b in rest:
                self.drop(a, b)
                self.drop(b, a)

    def heal(self) -> None:
        for index in range(len(self.nodes)):
            _run("ip", "netns", "exec", self._namespace(index), "iptables", "-F")

    # --- what nodes say ----------------------------------------------------------------------------------------------

    def start_all(self) -> float:
        """Start every node at once; the seconds until all of them see all of them."""
        started = time.monotonic()
        for node in self.nodes:
            node.start()
        self.wait(lambda: self.agree(range(len(self.nodes))), "all nodes know each other", timeout_s=120)
        return time.monotonic() - started

    def members(self, index: int) -> int:
        """How many nodes this one sees in a cluster with a master; 0 if it has none or does not answer."""
        try:
            reply = self.nodes[index].sql(
                "SELECT count(*), (SELECT master_node FROM sys.cluster) FROM sys.nodes", timeout_s=2
            )
        except (OSError, SqlError, ValueError):
            return 0
        ((count, master),) = reply["rows"]
        return int(count) if master is not None else 0

    def master(self, index: int) -> str | None:
        """The name of the master as a node sees it."""
        try:
            rows = self.nodes[index].sql(
                "SELECT n.name FROM sys.nodes n JOIN sys.cluster c ON n.id = c.master_node", timeout_s=2
            )["rows"]
        except (OSError, SqlError, ValueError):
            return None
        return str(rows[0][0]) if rows else None

    def master_index(self, asked: int = 0) -> int:
        name = self.master(asked)
        assert name is not None, "there is a master"
        return int(name.removeprefix("n"))

    def agree(self, indexes: Sequence[int] | range, members: int | None = None) -> bool:
        """Whether these nodes see so many members (by default: so many as they are) and the same master."""
        wanted = len(indexes) if members is None else members
        if any(self.members(index) != wanted for index in indexes):
            return False
        return len({self.master(index) for index in indexes}) == 1

    def wait(self, is_true: Callable[[], Any], what: str, *, timeout_s: float) -> float:
        """Poll until something holds; the seconds it took. Raises AssertionError."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if is_true():
                return time.monotonic() - started
            time.sleep(0.02)
        raise AssertionError(f"not within {timeout_s:g} s: {what}")

    def home(self, index: int, table: str) -> int:
        """The index of the node that has a table's only shard, as a node tells it."""
        rows = self.nodes[index].sql("SELECT node['name'] FROM sys.shards WHERE table_name = ?", [table])["rows"]
        return int(rows[0][0].removeprefix("n"))

    def ddl(self, index: int, name: str, *, timeout_s: float = 30) -> bool:
        """Create a table through a node; whether that was acknowledged."""
        try:
            self.nodes[index].sql(
                f"CREATE TABLE IF NOT EXISTS {name} (a INTEGER) CLUSTERED INTO 1 SHARDS", timeout_s=timeout_s
            )
        except (OSError, SqlError):
            return False
        return True


@contextlib.contextmanager
def network(directory: Path, size: int, **options: Any) -> Iterator[Network]:
    """A network with all nodes running and agreed."""
    with Network(directory, size, **options) as made:
        made.start_all()
        yield made
