"""Start node processes on free loopback ports, wait until they answer, stop them by their own pids."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

#: Of all nodes of a cluster; a machine that is busy with other things takes seconds to start one.
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            ports.append(holder.getsockname()[1])
        return ports


class SqlError(Exception):
    """An error reply of ``/_sql``."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.status = status
        self.code = code
        self.message = message


@dataclass
class Node:
    """One server process."""

    name: str
    data: Path
    http_port: int
    psql_port: int
    transport_port: int
    settings: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"
    #: Put before the command, to run it somewhere else: ``ip netns exec …``.
    prefix: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        return self.data.parent / f"{self.name}.log"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    def start(self) -> None:
        """Start the process; does not wait."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = [*self.prefix, sys.executable, "-m", "cratepy", "start", "--data", str(self.data)]
        for setting in self.settings:
            command += ["-C", setting]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def sql(
        self,
        statement: str,
        args: Sequence[Any] | None = None,
        *,
        schema: str | None = None,
        timeout_s: float = 60.0,
        **fields: Any,
    ) -> Any:
        """The decoded reply of ``POST /_sql``. Raises SqlError."""
        body: dict[str, Any] = {"stmt": statement, **fields}
        if args is not None:
            body["args"] = list(args)
        headers = {"Content-Type": "application/json"}
        if schema is not None:
            headers["Default-Schema"] = schema
        request = urllib.request.Request(f"{self.url}/_sql?types", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                found = json.loads(error.read())["error"]
            raise SqlError(error.code, found["code"], found["message"]) from None

    def is_ready(self) -> bool:
        """Whether the node has joined and answers."""
        try:
            self.sql("SELECT 1", timeout_s=2.0)
        except (OSError, SqlError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """kill -9, as a crash."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int | None:
        """SIGTERM; SIGKILL if that takes too long. Returns the exit status."""
        return self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> int | None:
        process = self.process
        if process is None:
            return None
        self.process = None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


@dataclass
class Cluster:
    """Some nodes that form a cluster; a context manager that leaves nothing running."""

    directory: Path
    size: int = 3
    settings: tuple[str, ...] = ()
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        ports = free_ports(3 * self.size)
        transports = ports[2 * self.size :]
        for index in range(self.size):
            name = f"node-{index + 1}"
            own = (
                f"cluster.name=demo-{transports[0]}",
                f"node.name={name}",
                f"http.port={ports[index]}",
                f"psql.port={ports[self.size + index]}",
                f"transport.port={transports[index]}",
                "discovery.seed_hosts=" + ",".join(f"127.0.0.1:{port}" for port in transports),
                "cluster.initial_master_nodes=" + ",".join(f"node-{number + 1}" for number in range(self.size)),
            )
            self.nodes.append(
                Node(
                    name=name,
                    data=self.directory / name,
                    http_port=ports[index],
                    psql_port=ports[self.size + index],
                    transport_port=transports[index],
                    settings=own + self.settings,
                )
            )

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self, nodes: Sequence[Node] | None = None) -> None:
        """Wait until the nodes (all running ones) answer and know each other."""
        running = [node for node in (nodes or self.nodes) if node.process is not None]
        expected = sum(1 for node in self.nodes if node.process is not None)
        for node in running:
            for _ in polls(START_TIMEOUT_S):
                # Of all nodes: the others wait in vain for one that has ended.
                for one in self.nodes:
                    if one.process is not None and one.process.poll() is not None:
                        raise RuntimeError(f"{one.name} ended with {one.process.returncode}:\n{tail(one.log)}")
                if node.is_ready() and node.sql("SELECT count(*) FROM sys.nodes")["rows"][0][0] == expected:
                    break
            else:
                raise RuntimeError(f"{node.name} is not ready after {START_TIMEOUT_S:.0f} s:\n{tail(node.log)}")

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()

    def master(self) -> Node:
        """The node that is master now."""
        for node in self.nodes:
            if node.process is not None and node.is_ready():
                rows = node.sql("SELECT n.name FROM sys.nodes n, sys.cluster c WHERE n.id = c.master_node")["rows"]
                if rows:
                    return next(found for found in self.nodes if found.name == rows[0][0])
        raise RuntimeError("no master")


def polls(timeout_s: float, *, interval_s: float = 0.02) -> Iterator[None]:
    """Yield until the time is over: the loop of everything that waits for another process."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(interval_s)


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log, for error messages."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
