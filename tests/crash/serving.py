"""A whole server under writing clients, killed again and again: every acknowledged change of every row is there.

In: how many rounds. Out: what differs. Clients write over HTTP (single inserts, upserts, deletes, bulk); each keeps, per
key, the value that was acknowledged and those whose answers never came. After each restart a key must have one of them.
"""

from __future__ import annotations

import random
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo.processes import Cluster, SqlError, polls

_CLIENTS: Final = 3
_KEYS: Final = 40


@dataclass(slots=True)
class Client:
    """Writes keys of its own until told to stop or the server is gone."""

    number: int
    cluster: Cluster
    chance: random.Random
    #: Key → acknowledged value; None: not there.
    known: dict[str, int | None] = field(default_factory=dict)
    #: Key → values sent since, whose fate is not known.
    unknown: dict[str, list[int | None]] = field(default_factory=dict)
    acknowledged: int = 0
    unexpected: list[str] = field(default_factory=list)
    value: int = 0

    def run(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            keys = self.chance.sample(range(_KEYS), self.chance.choice((1, 1, 1, 4)))
            try:
                self._write([f"{self.number}-{key}" for key in keys])
            except SqlError as error:
                self.unexpected.append(error.message)
                return
            except (OSError, ValueError):
                return  # The server died before it answered.

    def _write(self, keys: list[str]) -> None:
        node = self.cluster.nodes[0]
        wanted: dict[str, int | None] = {}
        for key in keys:
            self.value += 1
            wanted[key] = None if len(keys) == 1 and self.chance.random() < 0.2 else self.value
            self.unknown.setdefault(key, []).append(wanted[key])
        statement = "INSERT INTO ledger (id, v, t) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v"
        if len(keys) > 1:
            rows = [[key, value, "x" * (self.value % 300)] for key, value in wanted.items()]
            results = node.sql(statement, bulk_args=rows, timeout_s=30)["results"]
            assert all(result["rowcount"] == 1 for result in results), results
        elif wanted[keys[0]] is None:
            node.sql("DELETE FROM ledger WHERE id = ?", [keys[0]], timeout_s=30)
        else:
            node.sql(statement, [keys[0], wanted[keys[0]], "y"], timeout_s=30)
        for key, value in wanted.items():
            self.known[key] = value
            del self.unknown[key]
        self.acknowledged += len(keys)

    def check(self, found: dict[str, int]) -> list[str]:
        """What is wrong with what is there now; from now on that is what is known."""
        wrong = list(self.unexpected)
        for key in (f"{self.number}-{key}" for key in range(_KEYS)):
            possible = [self.known.get(key), *self.unknown.get(key, [])]
            if found.get(key) not in possible:
                wrong.append(f"{key} is {found.get(key)}, expected one of {possible}")
            self.known[key] = found.get(key)
        self.unknown.clear()
        return wrong


def serve_and_kill(rounds: int, seed: int) -> tuple[int, list[str]]:
    """(acknowledged row changes, what was wrong) after so many kills."""
    chance = random.Random(seed)
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="crash-kill-server-") as directory,
        Cluster(Path(directory), size=1) as cluster,
    ):
        node = cluster.nodes[0]
        node.sql("CREATE TABLE ledger (id TEXT PRIMARY KEY, v BIGINT, t TEXT) CLUSTERED INTO 3 SHARDS")
        clients = [Client(number, cluster, random.Random(seed * 10 + number)) for number in range(_CLIENTS)]
        for _ in range(rounds):
            is_over = threading.Event()
            threads = [threading.Thread(target=client.run, args=(is_over,)) for client in clients]
            for thread in threads:
                thread.start()
            is_over.wait(0.2 + chance.expovariate(3))
            node.kill()
            is_over.set()
            for thread in threads:
                thread.join()
            node.start()
            cluster.wait_ready()
            found = _contents(cluster)
            for client in clients:
                wrong += client.check(found)
            if wrong:
                break
    return sum(client.acknowledged for client in clients), wrong


def _contents(cluster: Cluster) -> dict[str, int]:
    failure: SqlError | None = None
    for _ in polls(30):
        try:
            cluster.nodes[0].sql("REFRESH TABLE ledger")
            return dict(cluster.nodes[0].sql("SELECT id, v FROM ledger")["rows"])
        except SqlError as error:
            failure = error
    raise AssertionError(f"the table does not come back: {failure}")
