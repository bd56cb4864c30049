"""Clients that cut their messages anywhere and leave at any byte: nothing acknowledged is lost, nobody gets another's answer, nothing is left behind."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Cluster, Node
from tests.protocols.postgres.test_decoder import frame
from tests.server.test_postgres import SYNC, Wire, execute, parse, plain_bind

CLIENTS = 8
ROUNDS = 60
INSERT = "INSERT INTO disorder (id, name) VALUES ($1, $2)"
READ = "SELECT name FROM disorder WHERE id = $1"
DESCRIBE = frame(b"D", b"P\0")
FLUSH = frame(b"H")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Cluster(tmp_path, 1) as cluster:
        yield cluster.nodes[0]


class Disorder:
    """One client after the other, all by one thread; ``acknowledged`` are the ids it was told of."""

    def __init__(self, port: int, number: int) -> None:
        self.acknowledged: set[int] = set()
        self.wrong: list[str] = []
        self._port = port
        self._chance = random.Random(number)
        self._first = self._next = 1_000 + number * 1_000_000

    def run(self) -> None:
        wire: Wire | None = None
        for _ in range(ROUNDS):
            if wire is None:
                wire = Wire(self._port)
                wire.send(parse(INSERT, "i"), parse(READ, "r"), SYNC)
                wire.until("Z")
            if self._talk(wire):
                wire.socket.close()
                wire = None
        if wire is not None:
            wire.socket.close()

    def _talk(self, wire: Wire) -> bool:
        """Some statements and their answers; True if the client has left in between."""
        chance, sent, wanted = self._chance, b"", []
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            statement, answer = self._statement()
            flushed = FLUSH if chance.random() < 0.1 else b""
            sent += statement + (DESCRIBE if chance.random() < 0.3 else b"") + flushed + execute() + SYNC
            wanted.append(answer)
        cut = chance.randrange(len(sent)) if chance.random() < 0.5 else 0
        leaves = chance.random()
        if leaves < 0.05:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if leaves < 0.1:
            wire.send(sent[: cut or None])
            return True
        wire.send(sent[:cut])
        wire.send(sent[cut:])
        for answer in wanted:
            kinds = wire.kinds().replace(" n ", " ").replace(" T ", " ")
            if isinstance(answer, int):
                self.acknowledged.add(answer)
                answer = "2 C(INSERT 0 1) ZI"
            if kinds not in answer.split("|"):
                self.wrong.append(f"{kinds} instead of {answer}")
        if leaves > 0.95:
            wire.send(b"\xff\xff\xff\xff\xff")
            assert wire.until("Z")[-1][0] == "<closed>"
            return True
        return False

    def _statement(self) -> tuple[bytes, int | str]:
        kind = self._chance.randrange(6)
        if kind < 3:
            self._next += 1
            return plain_bind("i", values=(str(self._next).encode(), b"n")), self._next
        if kind == 3:
            return plain_bind("i", values=(b"5", b"again")), "2 E(23505) ZI"
        if kind == 4:
            return plain_bind("r", values=(b"5",)), "2 D C(SELECT 1) ZI"
        return plain_bind("r", values=(b"zz",)), "E(22P02) ZI|2 E(22P02) ZI"


def test_clients_that_come_and_go_lose_nothing_and_leave_nothing(node: Node) -> None:
    node.sql("CREATE TABLE disorder (id BIGINT PRIMARY KEY, name TEXT) CLUSTERED INTO 4 SHARDS")
    node.sql("INSERT INTO disorder VALUES (5, 'five')")
    clients = [Disorder(node.psql_port, number) for number in range(CLIENTS)]
    assert node.process is not None
    descriptors = Path(f"/proc/{node.process.pid}/fd")
    before = len(os.listdir(descriptors))
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.wrong for client in clients if client.wrong] == []
    node.sql("REFRESH TABLE disorder")
    rows = node.sql("SELECT id FROM disorder LIMIT 1000000")["rows"]
    ids = {row[0] for row in rows}
    assert len(ids) == len(rows)
    assert set().union(*(client.acknowledged for client in clients)) - ids == set()
    while node.sql("SELECT count(*) FROM sys.sessions")["rows"] != [[1]]:
        pass  # their ends are noticed one after the other
    assert node.sql("SELECT stmt FROM sys.jobs WHERE stmt LIKE '%disorder%' AND stmt NOT LIKE '%jobs%'")["rows"] == []
    # Logs and segments have files of their own; a connection that was left behind would be one of hundreds.
    assert len(os.listdir(descriptors)) < before + 30
