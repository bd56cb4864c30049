"""A statement that is cancelled is gone and burns no CPU on any node, whatever it was doing.

What is measured is CPU time of the processes after the cancellation, not how long anything takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil
import psycopg
import pytest

from demo.processes import Cluster, Node, SqlError, polls

#: After a cancellation the nodes get this long to stop …
GRACE_S = 0.1
#: … and then their CPU time over this window …
WINDOW_S = 0.5
#: … must stay below this (three idle nodes, their checks and our own polling).
CPU_S_MAX = 0.15

KINDS = {
    "scan": "SELECT count(*) AS {m} FROM big a, generate_series(1, 100000) AS g(n) WHERE a.t || g.n::text LIKE '%zz%z'",
    "sort": "SELECT a.t AS {m}, b.t FROM big a, (SELECT t FROM big LIMIT 2000) b ORDER BY a.t || b.t, b.t || a.t",
    "aggregation": "SELECT a.id * 100000::bigint + g.n AS {m}, count(*) FROM big a, generate_series(1, 900) AS g(n) GROUP BY 1",
    "cross join": "SELECT count(*) AS {m} FROM big a CROSS JOIN big b CROSS JOIN big c WHERE a.n + b.n + c.n = -1",
    "nested-loop join": "SELECT count(*) AS {m} FROM big a JOIN big b ON a.n * 7 > b.n * 3 + 1 JOIN big c ON c.n > a.n - b.n",
    "many-to-many join": "SELECT count(*) AS {m} FROM big a JOIN big b ON a.g = b.g JOIN big c ON b.g = c.g AND c.n <> a.n",
    "generate_series": "SELECT sum(n) AS {m} FROM generate_series(1, 9000000000000) AS g(n)",
}  # fmt: skip
#: Results nobody reads: the client stays connected and takes nothing.
UNREAD = "SELECT a.t AS unread, b.t, a.id, b.id FROM big a CROSS JOIN big b"


@pytest.fixture(scope="module")
def big(cluster: Cluster) -> Cluster:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE big (id INTEGER PRIMARY KEY, n INTEGER, g INTEGER, t TEXT) CLUSTERED INTO 6 SHARDS")
    node.sql(
        "INSERT INTO big (id, n, g, t) SELECT i, i % 1000, i % 3, 'text ' || i FROM generate_series(1, 30000) AS s(i)"
    )
    node.sql("REFRESH TABLE big")
    return cluster


def cpu_seconds(cluster: Cluster) -> float:
    total = 0.0
    for node in cluster.nodes:
        assert node.process is not None
        times = psutil.Process(node.process.pid).cpu_times()
        total += times.user + times.system
    return total


def jobs_like(node: Node, marker: str) -> list[str]:
    rows = node.sql("SELECT id, stmt FROM sys.jobs WHERE stmt LIKE ?", [f"%{marker}%"])["rows"]
    return [job for job, statement in rows if "sys.jobs" not in statement]


def wait_running(node: Node, marker: str) -> str:
    for _ in polls(10):
        found = jobs_like(node, marker)
        if found:
            return found[0]
    raise AssertionError("the statement never appeared in sys.jobs")


def assert_gone(cluster: Cluster, marker: str) -> None:
    time.sleep(GRACE_S)
    assert jobs_like(cluster.nodes[1], marker) == []
    before = cpu_seconds(cluster)
    time.sleep(WINDOW_S)
    burnt = cpu_seconds(cluster) - before
    assert burnt < CPU_S_MAX, f"{burnt:.2f} s of CPU in {WINDOW_S} s after the cancellation"


class Running:
    """A statement in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (SqlError, psycopg.Error, OSError) as error:
            self.error = error

    def result(self) -> BaseException | None:
        self._thread.join(15)
        assert not self._thread.is_alive(), "the client never heard an answer"
        return self.error


@pytest.fixture(params=KINDS)
def marked(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(statement with a marker as the name of a column, the marker)."""
    marker = f"kind_{request.param.replace(' ', '_').replace('-', '_')}"
    return KINDS[request.param].format(m=marker), marker


def settle(seconds: float = 0.4) -> None:
    """Let the statement get going before it is stopped."""
    time.sleep(seconds)


def test_kill_ends_a_statement_on_every_node(marked: tuple[str, str], big: Cluster) -> None:
    statement, marker = marked
    running = Running(lambda: big.nodes[0].sql(statement, timeout_s=60))
    job = wait_running(big.nodes[2], marker)
    settle()
    big.nodes[2].sql("KILL ?", [job])
    assert_gone(big, marker)
    error = running.result()
    assert isinstance(error, SqlError)
    assert error.code == 5005


def test_a_cancel_request_ends_a_statement(marked: tuple[str, str], big: Cluster) -> None:
    statement, marker = marked
    with psycopg.connect(
        f"host=127.0.0.1 port={big.nodes[0].psql_port} user=crate dbname=doc", autocommit=True
    ) as connection:
        running = Running(lambda: connection.execute(statement))
        wait_running(big.nodes[1], marker)
        settle()
        connection.cancel()
        assert_gone(big, marker)
        assert isinstance(running.result(), psycopg.errors.QueryCanceled)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_statement_timeout_ends_a_statement(marked: tuple[str, str], big: Cluster) -> None:
    statement, marker = marked
    with psycopg.connect(
        f"host=127.0.0.1 port={big.nodes[1].psql_port} user=crate dbname=doc", autocommit=True
    ) as connection:
        connection.execute("SET statement_timeout = '500ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(statement)
        assert_gone(big, marker)


def test_a_client_that_goes_away_ends_its_statement(marked: tuple[str, str], big: Cluster) -> None:
    statement, marker = marked
    connection = psycopg.connect(f"host=127.0.0.1 port={big.nodes[0].psql_port} user=crate dbname=doc", autocommit=True)
    connection.pgconn.send_query(statement.encode())
    connection.pgconn.flush()
    wait_running(big.nodes[1], marker)
    settle()
    connection.pgconn.finish()
    assert_gone(big, marker)


def test_a_result_nobody_reads_costs_bounded_memory_and_ends_with_its_client(big: Cluster) -> None:
    handler = big.nodes[0]
    assert handler.process is not None
    processes = [psutil.Process(node.process.pid) for node in big.nodes if node.process is not None]
    connection = psycopg.connect(f"host=127.0.0.1 port={handler.psql_port} user=crate dbname=doc", autocommit=True)
    before = sum(process.memory_info().rss for process in processes)
    connection.pgconn.send_query(UNREAD.encode())
    connection.pgconn.flush()
    wait_running(big.nodes[1], "unread")
    time.sleep(2)
    grown = (sum(process.memory_info().rss for process in processes) - before) / 2**20
    assert grown < 300, f"the nodes grew by {grown:.0f} MiB for a result of 900 million rows that nobody reads"
    connection.pgconn.finish()
    assert_gone(big, "unread")
