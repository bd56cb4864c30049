"""Clients that go on while nodes of a cluster die and come back: what they read, what they wrote, what failed and why.

In: a running cluster; the driver says which node is about to go (:meth:`Traffic.without`). Out: :class:`Tally` for each kind of
statement. Its own room because several parts of the cluster benchmark run the same clients.

Three kinds of statement. **Alive**: reads over both protocols that need nothing but the nodes that stay, with answers that
are known; none may fail. **Gone**: reads that need a shard whose only copy is on the node that went; each must fail with an
error that names a shard, and soon. **Writes** to primaries that stay: refused while there is no master, never lost.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from demo.processes import Cluster, Node, SqlError, polls

_ROWS: Final = 200
_PAUSE_S: Final = 0.002
_TIMEOUT_S: Final = 60.0
#: A statement that takes longer than this is counted as hanging.
HANG_S: Final = 30.0


@dataclass
class Tally:
    """One kind of statement."""

    name: str
    sent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float, reason: str | None) -> None:
        self.sent += 1
        self.seconds.append(seconds)
        if reason is not None:
            self.reasons[reason] += 1

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def text(self) -> str:
        ordered = sorted(self.seconds) or [0.0]
        figures = f"p50 {ordered[len(ordered) // 2] * 1000:.0f} ms, max {ordered[-1] * 1000:.0f} ms"
        lines = [f"  {self.name:<46} {self.sent:>7,} sent, {self.failed:>4,} failed   {figures}"]
        lines += [f"      {count:>5} × {reason}" for reason, count in self.reasons.most_common(12)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Read:
    text: str
    parameters: tuple[Any, ...]
    #: None: any answer will do.
    expected: list[tuple[Any, ...]] | None


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    homes: frozenset[str]


class Traffic:
    """Clients in threads; a context manager. Nodes are known by name."""

    def __init__(self, cluster: Cluster, *, with_writes: bool = True) -> None:
        self._cluster = cluster
        self._tables = _make_tables(cluster, "pair", count=6, shards=2) + _make_tables(
            cluster, "one", count=3, shards=1
        )
        self._written = _make_tables(cluster, "written", count=3, shards=1, rows=0)
        self.alive = Tally("reads of what is alive")
        self.gone = Tally("reads of what is gone: no error, or a bad one")
        self.writes = Tally("writes to what is alive")
        self._acknowledged: dict[str, set[int]] = {table.name: set() for table in self._written}
        self._lost: str | None = None
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        #: Statements each client has begun: all of them moving on means that nobody acts on old news.
        self._begun: list[int] = []
        works: list[Callable[[int, random.Random], None]] = [self._http, self._postgres, self._http, self._dead]
        if with_writes:
            works += [self._write, self._write]
        self._ids = itertools.count()
        self._threads = [
            threading.Thread(target=self._client, args=(number, work), daemon=True) for number, work in enumerate(works)
        ]
        self._begun = [0] * len(works)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def without(self, node: Node) -> Iterator[None]:
        """Clients ask nothing of this node and, except those who mean to, for nothing that it holds."""
        self._lost = node.name
        seen = list(self._begun)
        while any(now <= before for now, before in zip(self._begun, seen, strict=True)):
            time.sleep(0.001)
        try:
            yield
            self._wait_started()
        finally:
            self._lost = None

    def text(self) -> str:
        """The tallies, and what has become of the acknowledged rows."""
        missing = doubled = 0
        for table in self._written:
            rows = self._all_ids(table.name)
            missing += len(self._acknowledged[table.name] - set(rows))
            doubled += len(rows) - len(set(rows))
        acknowledged = sum(len(ids) for ids in self._acknowledged.values())
        hanging = sum(1 for tally in self._tallies for took in tally.seconds if took > HANG_S)
        jobs = [row for node in self._cluster.nodes for row in node.sql(_OTHER_JOBS)["rows"]]
        last = f"  acknowledged rows {acknowledged:,}: {missing} lost, {doubled} doubled; {hanging} statements over {HANG_S:g} s"
        return "\n".join([*(tally.text() for tally in self._tallies), f"{last}; {len(jobs)} jobs left {jobs or ''}"])

    @property
    def is_good(self) -> bool:
        """Whether nothing failed that should not; see :meth:`text` for the rest."""
        return not self.alive.failed and not self.gone.failed

    @property
    def _tallies(self) -> tuple[Tally, ...]:
        return self.alive, self.gone, self.writes

    # --- the cluster -------------------------------------------------------------------------------------------------

    def _wait_started(self) -> None:
        for _ in polls(60):
            with contextlib.suppress(SqlError, OSError):
                rows = [node.sql(_NOT_STARTED, timeout_s=5)["rows"] for node in self._cluster.nodes]
                if all(row == [[0]] for row in rows):
                    return
        raise RuntimeError("shards are not started after 60 s")

    def _all_ids(self, table: str) -> list[int]:
        node = self._cluster.nodes[0]
        node.sql(f"REFRESH TABLE {table}")
        return [row[0] for row in node.sql(f"SELECT id FROM {table} LIMIT 10000000")["rows"]]

    # --- clients -----------------------------------------------------------------------------------------------------

    def _client(self, number: int, work: Callable[[int, random.Random], None]) -> None:
        chance = random.Random(number)
        while not self._is_over.is_set():
            self._begun[number] += 1
            work(number, chance)
            time.sleep(_PAUSE_S)

    def _http(self, _: int, chance: random.Random) -> None:
        lost = self._lost
        node, read = self._node(chance, lost), self._read(chance, lost)
        started = time.monotonic()
        reason = None
        try:
            rows = node.sql(read.text, read.parameters, timeout_s=_TIMEOUT_S)["rows"]
            reason = _wrong(read, [tuple(row) for row in rows])
        except (SqlError, OSError, ValueError) as error:
            reason = _reason("HTTP", read, error)
        self._note(self.alive, time.monotonic() - started, reason)

    def _postgres(self, _: int, chance: random.Random) -> None:
        lost = self._lost
        node = self._node(chance, lost)
        address = f"host={node.host} port={node.psql_port} user=crate dbname=doc connect_timeout=10"
        reads = [self._read(chance, lost) for _ in range(5)]
        started = time.monotonic()
        try:
            with psycopg.connect(address, autocommit=True) as connection:
                for read in reads:
                    started = time.monotonic()
                    text = read.text.replace("?", "%s")
                    reason = None
                    try:
                        rows = connection.execute(text, read.parameters).fetchall()
                        reason = _wrong(read, rows)
                    except psycopg.Error as error:
                        reason = _reason("PostgreSQL", read, error)
                    self._note(self.alive, time.monotonic() - started, reason)
                    if connection.broken:
                        return
        except psycopg.Error as error:
            self._note(self.alive, time.monotonic() - started, _reason("PostgreSQL", reads[0], error))

    def _dead(self, _: int, chance: random.Random) -> None:
        lost = self._lost
        if lost is None:
            return
        node = self._node(chance, lost)
        table = chance.choice([table for table in self._tables if lost in table.homes])
        texts = [f"SELECT sum(id) FROM {table.name}", f"SELECT count(*) FROM {table.name}"]
        if len(table.homes) == 1:
            texts.append(f"SELECT g FROM {table.name} WHERE id = {chance.randrange(_ROWS)}")
        read = _Read(chance.choice(texts), (), None)
        started = time.monotonic()
        reason: str | None = None
        try:
            node.sql(read.text, timeout_s=_TIMEOUT_S)
        except SqlError as error:
            is_named = error.code == 5002 and table.name in error.message and "hard" in error.message
            reason = None if is_named else _reason("HTTP", read, error)
        except (OSError, ValueError) as error:
            reason = _reason("HTTP", read, error)
        # An answer is right as long as the node has not gone yet, and as soon as it is back.
        self._note(self.gone, time.monotonic() - started, reason)

    def _write(self, _: int, chance: random.Random) -> None:
        lost = self._lost
        node = self._node(chance, lost)
        table = chance.choice([table for table in self._written if lost not in table.homes])
        ids = [next(self._ids) for _ in range(chance.choice((1, 1, 4)))]
        values = ", ".join(f"({key}, {key % 7})" for key in ids)
        read = _Read(f"INSERT INTO {table.name} (id, g) VALUES {values}", (), None)
        started = time.monotonic()
        reason = None
        try:
            if node.sql(read.text, timeout_s=_TIMEOUT_S)["rowcount"] == len(ids):
                with self._lock:
                    self._acknowledged[table.name].update(ids)
        except (SqlError, OSError, ValueError) as error:
            reason = _reason("HTTP", _Read("INSERT", (), None), error)
        self._note(self.writes, time.monotonic() - started, reason)

    def _note(self, tally: Tally, seconds: float, reason: str | None) -> None:
        with self._lock:
            tally.add(seconds, reason)

    def _node(self, chance: random.Random, lost: str | None) -> Node:
        return chance.choice([node for node in self._cluster.nodes if node.name != lost])

    def _read(self, chance: random.Random, lost: str | None) -> _Read:
        """A read that needs nothing of the lost node."""
        tables = [table for table in self._tables if lost not in table.homes]
        a, b = chance.choice(tables).name, chance.choice(tables).name
        key = chance.randrange(_ROWS)
        groups = [(g, len(range(g, _ROWS, 7))) for g in range(7)]
        return chance.choice(
            (
                _Read(f"SELECT g FROM {a} WHERE id = ?", (key,), [(key % 7,)]),
                _Read(f"SELECT count(*), sum(id) FROM {a}", (), [(_ROWS, _ROWS * (_ROWS - 1) // 2)]),
                _Read(f"SELECT count(*) FROM {a}", (), [(_ROWS,)]),
                _Read(f"SELECT g, count(*) FROM {a} GROUP BY g ORDER BY g", (), groups),
                _Read(f"SELECT count(*) FROM {a} x JOIN {b} y ON x.id = y.id", (), [(_ROWS,)]),
                _Read(f"SELECT x.id FROM {a} x, {b} y WHERE x.id = y.id AND y.g = 3 AND x.id = 17", (), [(17,)]),
                _Read(f"SELECT id FROM {a} ORDER BY id DESC LIMIT 2", (), [(_ROWS - 1,), (_ROWS - 2,)]),
                _Read(f"SELECT count(*) FROM {a} WHERE id IN (SELECT id FROM {b})", (), [(_ROWS,)]),
                _Read("SELECT name, hostname FROM sys.nodes", (), None),
                _Read("SELECT count(*) FROM sys.shards", (), None),
                _Read("SELECT count(*) FROM sys.jobs", (), None),
                _Read("SELECT master_node FROM sys.cluster", (), None),
                _Read("SELECT health FROM sys.health", (), None),
                _Read("SELECT table_name FROM information_schema.tables WHERE table_name = ?", (a,), [(a,)]),
            )
        )


#: Of the tables below; whoever runs the clients may be making others.
_NOT_STARTED: Final = (
    "SELECT count(*) FROM sys.shards WHERE routing_state <> 'STARTED' AND table_name ~ '(pair|one|written)_[0-9]'"
)
_OTHER_JOBS: Final = "SELECT stmt, node['name'] FROM sys.jobs WHERE stmt NOT LIKE '%sys.jobs%'"


def _make_tables(cluster: Cluster, prefix: str, *, count: int, shards: int, rows: int = _ROWS) -> list[_Table]:
    node = cluster.nodes[0]
    tables = []
    for number in range(count):
        name = f"{prefix}_{number}"
        node.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, g INTEGER) CLUSTERED INTO {shards} SHARDS")
        if rows:
            node.sql(f"INSERT INTO {name} (id, g) SELECT i, i % 7 FROM generate_series(0, {rows - 1}) AS t (i)")
            node.sql(f"REFRESH TABLE {name}")
        homes = node.sql("SELECT DISTINCT node['name'] FROM sys.shards WHERE table_name = ?", [name])["rows"]
        tables.append(_Table(name, frozenset(row[0] for row in homes)))
    return tables


def _wrong(read: _Read, rows: Sequence[tuple[Any, ...]]) -> str | None:
    """Why the answer is not the known one."""
    if read.expected is None or list(rows) == read.expected:
        return None
    return f"WRONG: {read.text}: {list(rows)[:3]}"


def _reason(protocol: str, read: _Read, error: Exception) -> str:
    shape = read.text if len(read.text) < 70 else read.text[:69] + "…"
    return f"{protocol}: {shape}: {type(error).__name__}: {str(error)[:160]}"
