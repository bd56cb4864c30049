"""A node whose disk fills up refuses writes with 53100, answers reads, and goes on when there is space; no row is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.processes import Cluster, Node, SqlError, polls

STATES = "SELECT DISTINCT state FROM sys.shards WHERE table_name = 'filled'"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """A node on a tmpfs of 32 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    data = tmp_path / "node-1"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(data)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with Cluster(tmp_path, size=1) as cluster:
            yield cluster
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill(node: Node, first: int) -> tuple[int, SqlError]:
    """Insert rows until one is refused: (the number of the first that was, why)."""
    for number in range(first, first + 10_000):
        try:
            node.sql("INSERT INTO filled VALUES (?, ?)", [number, f"{number}" * 2_000])
        except SqlError as error:
            return number, error
    raise AssertionError("the disk does not fill up")


def count(node: Node) -> int:
    found: int = node.sql("SELECT count(*) FROM filled")["rows"][0][0]
    return found


def fill_up(node: Node) -> None:
    """Insert rows, smaller and smaller ones, until the disk has no page left for any."""
    for size in (200_000, 20_000, 2_000):
        for number in range(10_000):
            try:
                node.sql("INSERT INTO filled VALUES (?, ?)", [size * 10_000 + number, f"{number}" * (size // 4)])
            except SqlError:
                break


def stuff(path: Path) -> None:
    """Take the last pages, which no row fits in."""
    with (path / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def test_on_a_full_disk_settings_change_and_tables_can_be_dropped_to_free_it(small: Cluster) -> None:
    (node,) = small.nodes
    node.sql("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    node.sql("CREATE TABLE filled (id BIGINT PRIMARY KEY, t TEXT) CLUSTERED INTO 2 SHARDS")
    fill_up(node)
    for number in range(100):
        stuff(node.data)  # again and again: flushes give some space back
        node.sql(f"SET GLOBAL PERSISTENT stats.jobs_log_size = {number}")
    stuff(node.data)
    node.sql("CREATE VIEW doc.v AS SELECT 1")
    query = "SELECT id FROM sys.node_checks WHERE NOT passed AND id <> 102 ORDER BY id"
    assert node.sql(query)["rows"] == [[5], [6], [7]]
    # It starts again, too, and still can.
    node.kill()
    node.start()
    small.wait_ready()
    assert node.sql("SELECT settings['stats']['jobs_log_size'] FROM sys.cluster")["rows"] == [[99]]
    node.sql("DROP VIEW doc.v")
    node.sql("DROP TABLE filled")
    for _ in polls(20.0):
        if free_bytes(node.data) > 10 << 20:
            break
    assert free_bytes(node.data) > 10 << 20
    for _ in polls(30.0):
        with contextlib.suppress(SqlError):
            node.sql("INSERT INTO other VALUES (1) ON CONFLICT DO NOTHING")
            break
    node.sql("REFRESH TABLE other")
    assert node.sql("SELECT count(*) FROM other")["rows"] == [[1]]


def test_a_full_disk_refuses_writes_and_recovers(small: Cluster) -> None:
    (node,) = small.nodes
    node.sql("CREATE TABLE filled (id INTEGER PRIMARY KEY, t TEXT) CLUSTERED INTO 2 SHARDS")
    ballast = node.data / "ballast"
    # Half of the disk: whatever waits in the log to become segments, there is room for it when the ballast goes.
    ballast.write_bytes(bytes(16 << 20))
    end, error = fill(node, 0)
    for _ in range(20):  # until flushes free nothing any more
        time.sleep(0.5)
        end, error = fill(node, end)
    assert (error.status, error.code) == (403, 4030)
    assert "disk full, writes are refused until there is space again" in error.message
    assert "No space left on device" in error.message
    with (
        psycopg.connect(host=node.host, port=node.psql_port, user="crate", autocommit=True) as connection,
        pytest.raises(psycopg.errors.DiskFull),
    ):
        connection.execute("INSERT INTO filled VALUES (%s, %s)", (end, "x" * 30_000))
    assert node.sql(STATES)["rows"] == [["STARTED"]]
    assert node.sql("SELECT id FROM filled WHERE id IN (?, ?, ?)", [0, end - 1, end])["rowcount"] == 2
    ballast.unlink()
    for _ in polls(30.0):  # merges that were running may have to end first
        with contextlib.suppress(SqlError):
            node.sql("REFRESH TABLE filled")
        if count(node) == end:
            break
    assert count(node) == end
    node.sql("INSERT INTO filled VALUES (?, 'again')", [end])
    node.kill()
    node.start()
    small.wait_ready()
    for _ in polls(20.0):
        if node.sql(STATES)["rows"] == [["STARTED"]]:
            break
    node.sql("REFRESH TABLE filled")
    assert count(node) == end + 1
    assert node.sql("SELECT t FROM filled WHERE id = ?", [end])["rows"] == [["again"]]
