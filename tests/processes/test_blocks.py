"""Table settings at work: a block stops writers that run already, durability and refresh follow ALTER TABLE."""

from __future__ import annotations

import threading

import pytest

from demo.processes import Cluster, SqlError


def test_a_write_block_stops_writers_on_all_nodes_and_can_be_taken_away(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    first.sql("CREATE TABLE blocked (id INTEGER PRIMARY KEY) CLUSTERED INTO 6 SHARDS")
    refusals: list[SqlError] = []
    acknowledged: list[int] = []

    def write(number: int) -> None:
        for i in range(10_000):
            key = number * 100_000 + i
            try:
                cluster.nodes[number].sql("INSERT INTO blocked VALUES (?)", [key])
            except SqlError as error:
                refusals.append(error)
                return
            acknowledged.append(key)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    while len(acknowledged) < 30:
        writers[0].join(0.01)
    first.sql('ALTER TABLE blocked SET ("blocks.write" = true)')
    for writer in writers:
        writer.join(30)
    assert [error.code for error in refusals] == [4007] * 3
    assert all("doesn't support or allow INSERT operations" in error.message for error in refusals)
    first.sql("REFRESH TABLE blocked")
    count = first.sql("SELECT count(*) FROM blocked")["rows"][0][0]
    assert count == len(acknowledged)
    with pytest.raises(SqlError, match="doesn't support or allow DROP operations"):
        cluster.nodes[2].sql("DROP TABLE blocked")
    cluster.nodes[1].sql('ALTER TABLE blocked SET ("blocks.write" = false, "blocks.read" = true)')
    with pytest.raises(SqlError, match="doesn't support or allow READ operations"):
        first.sql("SELECT * FROM blocked WHERE id = 1")
    first.sql('ALTER TABLE blocked RESET ("blocks.write", "blocks.read")')
    first.sql("DELETE FROM blocked")
    first.sql("DROP TABLE blocked")


def test_settings_are_shown_and_followed_without_a_restart(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE followed (id INTEGER PRIMARY KEY) CLUSTERED INTO 2 SHARDS WITH (refresh_interval = -1)")
    node.sql("INSERT INTO followed VALUES (1)")
    node.sql(
        "ALTER TABLE followed SET (\"translog.durability\" = 'async', \"translog.flush_threshold_size\" = '1mb', "
        "\"translog.sync_interval\" = '100ms', codec = 'best_compression', refresh_interval = '10ms')"
    )
    shown = node.sql("SHOW CREATE TABLE followed")["rows"][0][0]
    for line in (
        "codec = 'best_compression'",
        "refresh_interval = 10",
        "\"translog.durability\" = 'ASYNC'",
        '"translog.flush_threshold_size" = 1048576',
        '"translog.sync_interval" = 100',
    ):
        assert line in shown
    settings = node.sql("SELECT settings FROM information_schema.tables WHERE table_name = 'followed'")["rows"][0][0]
    assert settings["translog"] == {"durability": "ASYNC", "flush_threshold_size": 1 << 20, "sync_interval": 100}
    node.sql("INSERT INTO followed VALUES (2)")
    deadline = threading.Event()
    while node.sql("SELECT count(*) FROM followed")["rows"] != [[2]]:
        deadline.wait(0.01)
    node.sql('ALTER TABLE followed RESET (refresh_interval, "translog.flush_threshold_size")')
    settings = node.sql("SELECT settings FROM information_schema.tables WHERE table_name = 'followed'")["rows"][0][0]
    assert (settings["refresh_interval"], settings["translog"]["flush_threshold_size"]) == (1000, 512 << 20)
