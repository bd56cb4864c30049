"""What statements mean where it is easy to get wrong, over HTTP and through every room of the server."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from demo.processes import Cluster, SqlError


def test_a_generated_column_is_not_set_to_something_else(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE generated_values (a INTEGER, b INTEGER GENERATED ALWAYS AS a + 1)")
    node.sql("INSERT INTO generated_values (a) VALUES (2)")
    node.sql("REFRESH TABLE generated_values")
    for value, is_right in ((5, False), (3, True)):
        if is_right:
            assert node.sql("UPDATE generated_values SET b = ?", [value])["rowcount"] == 1
        else:
            with pytest.raises(SqlError, match="Given value 5 for generated column b does not match calculation"):
                node.sql("UPDATE generated_values SET b = ?", [value])
    node.sql("UPDATE generated_values SET a = 7")
    node.sql("REFRESH TABLE generated_values")
    assert node.sql("SELECT a, b FROM generated_values")["rows"] == [[7, 8]]


def test_undeclared_keys_of_ignored_objects_are_whatever_they_were(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE ignored_keys (id INTEGER PRIMARY KEY, o OBJECT(IGNORED))")
    node.sql("INSERT INTO ignored_keys VALUES (1, {x = 1}), (2, {x = 'zz'}), (3, {x = [1, 2]}), (4, {y = 1})")
    node.sql("REFRESH TABLE ignored_keys")
    rows = node.sql("SELECT o['x'] FROM ignored_keys ORDER BY id")["rows"]
    assert rows == [[1], ["zz"], [[1, 2]], [None]]
    assert node.sql("SELECT id FROM ignored_keys WHERE o['x'] = 'zz'")["rows"] == [[2]]
    # They can stand wherever a value of any type can, and clients are told that their type is not known.
    reply = node.sql("SELECT o['x'], array_agg(o['x'] ORDER BY id), pg_typeof(o['x']) FROM ignored_keys GROUP BY 1, 3")
    assert reply["col_types"] == [0, [100, 0], 4]
    found = sorted(reply["rows"], key=str)
    assert found == sorted([[value, [value], "undefined"] for value in (1, "zz", [1, 2], None)], key=str)
    rows = node.sql("SELECT {a = o['x'], b = [o['x'], o['y']]} FROM ignored_keys ORDER BY id")["rows"]
    assert rows[1:] == [
        [{"a": "zz", "b": ["zz", None]}],
        [{"a": [1, 2], "b": [[1, 2], None]}],
        [{"a": None, "b": [None, 1]}],
    ]
    query = "SELECT id, count(*) OVER (PARTITION BY o['x'] IS NULL), lag(o['x']) OVER (ORDER BY id) FROM ignored_keys"
    assert sorted(node.sql(query)["rows"]) == [[1, 3, None], [2, 3, 1], [3, 3, "zz"], [4, 1, [1, 2]]]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT id FROM {v} WHERE k = 'north'", [[1]]),
        ("SELECT id FROM {v} WHERE k IN ('north', 'west') OR id = 4", [[1], [4]]),
        ("SELECT id FROM {v} WHERE k LIKE 'no%'", [[1]]),
        ("SELECT k || '!', length(k) FROM {v} WHERE id < 3", [["north!", 5], ["12!", 2]]),
        ("SELECT k::integer + 1, k + 1 FROM {v} WHERE id = 2", [[13, 13]]),
        ("SELECT try_cast(k AS integer) FROM {v}", [[None], [12], [None], [None]]),
        ("SELECT try_cast(o['k'] AS integer) FROM {t}", [[None], [12], [None], [None]]),
        ("SELECT coalesce(k, 'none') FROM {v} WHERE id <> 3", [["north"], ["12"], ["none"]]),
        ("SELECT k FROM {v} WHERE id = 2 UNION ALL SELECT 'south' ORDER BY 1", [["12"], ["south"]]),
        ("SELECT CASE WHEN id = 1 THEN k ELSE 'other' END FROM {v}", [["north"], ["other"], ["other"], ["other"]]),
        ("SELECT a.id FROM {v} a JOIN {v} b ON a.k = b.k", [[1], [2], [3]]),
        ("SELECT k['list'][2], k['list'], k['list']::array(bigint) FROM {v} WHERE id = 3", [[8, [7, 8], [7, 8]]]),
        ("SELECT o['k']['list'][1] FROM {t} WHERE id = 3", [[7]]),
    ],
)
def test_an_undeclared_key_that_a_view_gives_is_what_the_place_wants(
    cluster: Cluster, query: str, rows: list[list[object]]
) -> None:
    node = cluster.nodes[0]
    if not node.sql("SELECT 1 FROM information_schema.views WHERE table_name = 'keys_seen'")["rows"]:
        node.sql("CREATE TABLE keys_there (id INTEGER PRIMARY KEY, o OBJECT(IGNORED))")
        node.sql("INSERT INTO keys_there VALUES (1, {k = 'north'}), (2, {k = 12}), (3, {k = {list = [7, 8]}}), (4, {})")
        node.sql("REFRESH TABLE keys_there")
        node.sql("CREATE VIEW keys_seen AS SELECT id, o['k'] AS k FROM keys_there")
    found = node.sql(query.format(v="keys_seen", t="keys_there"))["rows"]
    assert sorted(found, key=str) == sorted(rows, key=str)


def test_postgres_reads_undeclared_keys_as_text(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE loose_keys (id INTEGER PRIMARY KEY, o OBJECT(IGNORED))")
    node.sql("INSERT INTO loose_keys VALUES (1, {k = 'it\"s'}), (2, {k = 7}), (3, {k = {l = true}}), (4, {})")
    node.sql("REFRESH TABLE loose_keys")

    async def read() -> tuple[list[object], str]:
        connection = await asyncpg.connect(host="127.0.0.1", port=node.psql_port, user="crate")
        try:
            # A scan comes in Arrow batches, a read by key as plain values.
            scanned = [row[0] for row in await connection.fetch("SELECT o['k'] FROM loose_keys ORDER BY id")]
            got = [await connection.fetchval("SELECT o['k'] FROM loose_keys WHERE id = $1", n) for n in range(1, 5)]
            statement = await connection.prepare("SELECT o['k'] FROM loose_keys")
            assert scanned == got
            return scanned, statement.get_attributes()[0].type.name
        finally:
            await connection.close()

    assert asyncio.run(read()) == (['it"s', "7", '{"l":true}', None], "unknown")


def test_arrays_as_parameters(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    reply = node.sql("SELECT ?, ?", [[], [[1], []]])
    assert (reply["rows"], reply["col_types"]) == ([[[], [[1], []]]], [[100, 0], [100, [100, 9]]])
    assert node.sql("SELECT x FROM generate_series(1, 3) t (x) WHERE x = ANY(?)", [[]])["rows"] == []
    with pytest.raises(SqlError, match="Cannot cast value"):
        node.sql("SELECT ?", [[1, "a", None]])


def test_a_cast_to_the_unknown_type_leaves_the_value(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    reply = node.sql("SELECT 'a'::unknown, CAST(5 AS unknown), CAST(? AS unknown), CAST(NULL AS unknown)", ["b"])
    assert reply["rows"] == [["a", 5, "b", None]]


def test_rows_of_several_keys_are_read_in_real_time_sorted_or_not(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql(
        "CREATE TABLE sorted_keys (id INTEGER PRIMARY KEY, x INTEGER, t TEXT) CLUSTERED INTO 5 SHARDS"
        " WITH (refresh_interval = 0)"
    )
    texts = [None if n % 5 == 0 else "äbz"[n % 3] * (n % 4) for n in range(300)]
    rows = [[n, None if n % 7 == 0 else n % 4, text] for n, text in enumerate(texts)]
    node.sql("INSERT INTO sorted_keys VALUES (?, ?, ?)", bulk_args=rows)
    asked = ", ".join(map(str, range(0, 250, 2)))
    orders = ("x, id", "x DESC, t, id", "x NULLS FIRST, t DESC NULLS LAST, id DESC", "t, x DESC, id LIMIT 7 OFFSET 3")
    texts_of = [f"SELECT id, x, t FROM sorted_keys WHERE id IN ({asked}) ORDER BY {order}" for order in orders]
    texts_of.append(f"SELECT id AS n, t, x * 2 FROM sorted_keys WHERE id IN ({asked}, 1000) AND x > 1 ORDER BY n DESC")
    texts_of.append("SELECT t, id FROM sorted_keys WHERE id IN (3, 1, 2) ORDER BY id LIMIT 0")
    before = [node.sql(text)["rows"] for text in texts_of]
    assert [len(found) for found in before[:4]] == [125, 125, 125, 7]
    assert len(node.sql("SELECT id FROM sorted_keys WHERE id IN (1, 2, 3) LIMIT 2")["rows"]) == 2
    any_of = "SELECT id FROM sorted_keys WHERE id = ANY(?) ORDER BY id DESC LIMIT 3"
    assert node.sql(any_of, [list(range(290))])["rows"] == [[289], [288], [287]]
    node.sql("REFRESH TABLE sorted_keys")
    # The engine's answer to the same question, of rows that a scan gives.
    for text, found in zip(texts_of, before, strict=True):
        assert node.sql(text.replace("WHERE id IN", "WHERE id + 0 IN"))["rows"] == found, text
