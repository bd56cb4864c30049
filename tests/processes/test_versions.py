"""Optimistic concurrency as clients use it: versions read, expected, refused, and told by RETURNING."""

from __future__ import annotations

import threading

import pytest

from demo.processes import Cluster, Node, SqlError

KEYS_ONLY = "equals comparisons on primary key columns"


def _rows(node: Node, statement: str, *parameters: object) -> list[list[object]]:
    rows: list[list[object]] = node.sql(statement, list(parameters))["rows"]
    return rows


def test_a_write_that_expects_a_version_meets_it_or_does_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE versions (id INTEGER PRIMARY KEY, a TEXT)")
    node.sql("INSERT INTO versions VALUES (1, 'a')")
    for statement in ("UPDATE versions SET a = 'b' WHERE {}", "DELETE FROM versions WHERE {}"):
        ((seq_no, term, version),) = _rows(node, "SELECT _seq_no, _primary_term, _version FROM versions WHERE id = 1")
        stale = statement.format("id = 1 AND _seq_no = ? AND _primary_term = ?")
        assert node.sql(stale, [seq_no + 1, term])["rowcount"] == 0
        assert node.sql(stale, [seq_no, term + 1])["rowcount"] == 0
        assert node.sql(statement.format("id = 1 AND _version = ?"), [version + 1])["rowcount"] == 0
        assert node.sql(statement.format("id = 1 AND _version = ?"), [version])["rowcount"] == 1
    assert _rows(node, "SELECT * FROM versions WHERE id = 1") == []


@pytest.mark.parametrize("where", [
    "_seq_no = 0 AND _primary_term = 1", "id > 0 AND _seq_no = 0 AND _primary_term = 1", "id = 1 AND _seq_no = 0",
    "id = 1 AND _seq_no > 0 AND _primary_term = 1", "id = 1 OR (_seq_no = 0 AND _primary_term = 1)",
    "id = 1 AND _seq_no = _primary_term AND _primary_term = 1", "_version = 1", "id = 1 AND _version > 0",
])  # fmt: skip
def test_versions_without_the_key_or_an_equality_are_refused(cluster: Cluster, where: str) -> None:
    node = cluster.nodes[1]
    node.sql("CREATE TABLE IF NOT EXISTS version_usage (id INTEGER PRIMARY KEY, a TEXT)")
    for statement in ("UPDATE version_usage SET a = 'b' WHERE ", "DELETE FROM version_usage WHERE "):
        with pytest.raises(SqlError, match=KEYS_ONLY) as refused:
            node.sql(statement + where)
        assert refused.value.code == 4003


def test_returning_tells_versions_of_every_kind_of_write(cluster: Cluster) -> None:
    node = cluster.nodes[2]
    node.sql("CREATE TABLE returned_versions (id INTEGER PRIMARY KEY, a TEXT) CLUSTERED INTO 1 SHARDS")
    told = "RETURNING _id, _version, _seq_no, _primary_term, a"
    assert _rows(node, f"INSERT INTO returned_versions VALUES (1, 'a') {told}") == [["1", 1, 0, 1, "a"]]
    upsert = "INSERT INTO returned_versions VALUES (1, 'b'), (2, 'c') ON CONFLICT (id) DO UPDATE SET a = excluded.a"
    assert [row[:2] for row in _rows(node, f"{upsert} {told}")] == [["1", 2], ["2", 1]]
    ((_, version, seq_no, *_),) = _rows(node, f"UPDATE returned_versions SET a = 'd' WHERE id = 1 {told}")
    assert (version, seq_no) == (3, 3)
    node.sql("REFRESH TABLE returned_versions")
    assert _rows(node, f"DELETE FROM returned_versions WHERE id = 1 {told}") == [["1", 3, 3, 1, "d"]]
    ((*versions, raw),) = _rows(node, f"DELETE FROM returned_versions WHERE a = 'c' {told}, _raw")
    assert versions[:2] == ["2", 1]
    assert raw == '{"id":2,"a":"c"}'


def test_rows_by_their_id_are_read_in_real_time(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql('CREATE TABLE by_id (a TEXT) WITH ("refresh_interval" = 0)')
    ids = [row[0] for row in _rows(node, "INSERT INTO by_id VALUES ('x'), ('y') RETURNING _id")]
    assert _rows(node, "SELECT a, _score FROM by_id WHERE _id = ?", ids[0]) == [["x", None]]
    assert sorted(_rows(node, "SELECT a FROM by_id WHERE _id IN (?, ?)", *ids)) == [["x"], ["y"]]
    assert _rows(node, "SELECT a FROM by_id WHERE _uid = ?", ids[1]) == [["y"]]
    assert node.sql("DELETE FROM by_id WHERE _id = ?", [ids[1]])["rowcount"] == 1
    assert node.sql("UPDATE by_id SET a = 'z' WHERE _id = ?", [ids[0]])["rowcount"] == 1
    assert _rows(node, "SELECT a, _version FROM by_id WHERE _id = ?", ids[0]) == [["z", 2]]


def test_many_keys_of_an_array_are_read_in_real_time_on_all_nodes(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    node.sql(
        "CREATE TABLE many_keys (id INTEGER PRIMARY KEY, n BIGINT) CLUSTERED INTO 5 SHARDS WITH (refresh_interval = 0)"
    )
    node.sql("INSERT INTO many_keys SELECT x, x * 2 FROM generate_series(1, 2000) t (x)")
    keys = [*range(1990, 2010), None, 5, 5, -1, *range(100, 1100)]
    wanted = sorted({key for key in keys if key is not None and 0 < key <= 2000})
    rows = _rows(node, "SELECT id, n FROM many_keys WHERE id = ANY(?)", keys)
    assert sorted(rows) == [[key, 2 * key] for key in wanted]
    listed = ", ".join("NULL" if key is None else str(key) for key in keys)
    assert sorted(_rows(node, f"SELECT id, n FROM many_keys WHERE id IN ({listed})")) == sorted(rows)
    assert _rows(node, "SELECT id FROM many_keys WHERE id = ANY(?) AND n > 3998", keys) == [[2000]]
    assert _rows(node, "SELECT id FROM many_keys WHERE id = ANY(?)", None) == []
    assert node.sql("UPDATE many_keys SET n = 0 WHERE id = ANY(?)", [keys])["rowcount"] == len(wanted)
    assert node.sql("DELETE FROM many_keys WHERE id = ANY(?) AND n = 0", [[1, 5, 100]])["rowcount"] == 2
    assert sorted(_rows(node, "SELECT id FROM many_keys WHERE id = ANY(?)", [1, 5, 100])) == [[1]]
    bulk = node.sql("DELETE FROM many_keys WHERE id = ANY(?)", bulk_args=[[[101, 102]], [[-1]], [None]])["results"]
    assert [item["rowcount"] for item in bulk] == [2, 0, 0]


def test_updates_and_deletes_by_predicate_lose_nothing_to_each_other(cluster: Cluster) -> None:
    """Every statement changes every row it means exactly once, however many run at a time and on whatever node."""
    first = cluster.nodes[0]
    first.sql("CREATE TABLE contended (id INTEGER PRIMARY KEY, n BIGINT, m BIGINT) CLUSTERED INTO 3 SHARDS")
    first.sql("INSERT INTO contended SELECT x, 0, 0 FROM generate_series(1, 3000) t (x)")
    first.sql("REFRESH TABLE contended")
    counts: list[int] = []

    def increment(number: int) -> None:
        statement = "UPDATE contended SET n = n + 1 WHERE id > 0"
        counts.extend(cluster.nodes[number].sql(statement)["rowcount"] for _ in range(4))

    def single(number: int) -> None:
        for key in range(1, 60):
            cluster.nodes[number].sql("UPDATE contended SET m = m + 1 WHERE id = ?", [key])

    workers = [threading.Thread(target=increment, args=(number,)) for number in range(3)]
    workers += [threading.Thread(target=single, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    first.sql("REFRESH TABLE contended")
    assert counts == [3000] * 12
    assert _rows(first, "SELECT count(*), min(n), max(n), sum(m) FROM contended") == [[3000, 12, 12, 3 * 59]]
    deleted: list[int] = []
    removers = [
        threading.Thread(
            target=lambda node: deleted.append(node.sql("DELETE FROM contended WHERE id <= 2000")["rowcount"]),
            args=(node,),
        )
        for node in cluster.nodes
    ]
    for remover in removers:
        remover.start()
    for remover in removers:
        remover.join(60)
    first.sql("REFRESH TABLE contended")
    assert sum(deleted) == 2000, "each row is deleted by one of them"
    assert _rows(first, "SELECT count(*), min(id) FROM contended") == [[1000, 2001]]
