"""Clients write through all nodes while nodes are killed and come back: every acknowledged row is there, none twice.

``CHAOS_ROUNDS`` sets the number of kills (``make chaos`` runs twenty).
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from pathlib import Path
from typing import Final

from demo.processes import Cluster, Node, SqlError, polls

ROUNDS: Final = int(os.environ.get("CHAOS_ROUNDS", "2"))
WRITERS: Final = 6


class Ledger:
    """What the clients were told: the ids that were acknowledged."""

    def __init__(self, nodes: list[Node]) -> None:
        self.acknowledged: set[int] = set()
        self.unexpected: list[str] = []
        self._nodes = nodes
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(WRITERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._is_over.is_set():
            node = chance.choice(self._nodes)
            with self._lock:
                ids = [next(self._ids) for _ in range(chance.choice((1, 1, 5)))]
            try:
                written = self._insert(node, ids)
            except SqlError as error:
                if error.code == 5000:
                    self.unexpected.append(error.message)
            except OSError:
                self._is_over.wait(0.02)  # the node is dead just now
            else:
                with self._lock:
                    self.acknowledged.update(written)

    def _insert(self, node: Node, ids: list[int]) -> list[int]:
        statement = "INSERT INTO ledger (id, v) VALUES (?, 'x')"
        if len(ids) == 1:
            node.sql(statement, ids, timeout_s=30)
            return ids
        results = node.sql(statement, bulk_args=[[number] for number in ids], timeout_s=30)["results"]
        return [number for number, result in zip(ids, results, strict=True) if result["rowcount"] == 1]


def test_no_acknowledged_row_is_lost_or_doubled_while_nodes_are_killed(tmp_path: Path) -> None:
    chance = random.Random(11)
    with Cluster(tmp_path) as cluster:
        cluster.nodes[0].sql(
            "CREATE TABLE ledger (id BIGINT PRIMARY KEY, v TEXT) CLUSTERED INTO 6 SHARDS WITH (number_of_replicas = 0)"
        )
        ledger = Ledger(cluster.nodes)
        ledger.start()
        try:
            for _ in range(ROUNDS):
                before = len(ledger.acknowledged)
                for _ in polls(30):
                    if len(ledger.acknowledged) > before + 200:
                        break
                victim = chance.choice(cluster.nodes)
                victim.kill()
                victim.start()
                cluster.wait_ready([victim])
        finally:
            ledger.stop()
        rows = _all_ids(cluster)
        assert ledger.acknowledged - set(rows) == set(), "acknowledged rows are gone"
        assert len(rows) == len(set(rows)), "a row is there twice"
        assert ledger.unexpected == []


def _all_ids(cluster: Cluster) -> list[int]:
    """Every id, once all shards are open again."""
    failure: SqlError | None = None
    for _ in polls(30):
        try:
            cluster.nodes[0].sql("REFRESH TABLE ledger")
            return [row[0] for row in cluster.nodes[1].sql("SELECT id FROM ledger")["rows"]]
        except SqlError as error:
            failure = error
    raise AssertionError(f"the table does not come back: {failure}")
