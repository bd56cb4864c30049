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
