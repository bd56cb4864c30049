"""Dynamic columns and objects over three real nodes: schemas grow under concurrent writers, and no row is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demo.processes import Cluster, Node, SqlError


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Node:
    return cluster.nodes[0]


def rows(node: Node, statement: str, *args: Any) -> list[list[Any]]:
    found: list[list[Any]] = node.sql(statement, list(args) or None)["rows"]
    return found


def error_of(node: Node, statement: str, *args: Any) -> tuple[int, str]:
    with pytest.raises(SqlError) as caught:
        node.sql(statement, list(args) or None)
    return caught.value.code, caught.value.message


@pytest.fixture
def dynamic(cluster: Cluster) -> Iterator[str]:
    cluster.nodes[0].sql(
        "CREATE TABLE dyn (id INTEGER PRIMARY KEY) CLUSTERED INTO 3 SHARDS WITH (column_policy = 'dynamic')"
    )
    yield "dyn"
    cluster.nodes[0].sql("DROP TABLE dyn")


def test_a_thousand_columns_at_once(node: Node, dynamic: str) -> None:
    names = [f"c{i}" for i in range(999)]
    statement = f"INSERT INTO {dynamic} (id, {', '.join(names)}) VALUES ({', '.join(['?'] * 1000)})"
    node.sql(statement, list(range(1000)))
    node.sql(f"REFRESH TABLE {dynamic}")
    assert rows(node, f"SELECT id, c0, c998 FROM {dynamic}") == [[0, 1, 999]]
    code, message = error_of(node, f"INSERT INTO {dynamic} (id, another) VALUES (1, 1)")
    assert (code, "Limit of total columns [1000]" in message) == (4000, True)
    assert rows(node, f"SELECT count(*) FROM {dynamic} WHERE id = 1") == [[0]]


def test_writers_on_all_nodes_agree_on_the_columns(cluster: Cluster, node: Node, dynamic: str) -> None:
    def write(number: int) -> tuple[int, str]:
        value: Any = "words" if number % 4 == 0 else number
        try:
            cluster.nodes[number % 3].sql(
                f"INSERT INTO {dynamic} (id, shared, own{number % 7}, o) VALUES (?, ?, ?, ?)",
                [number, value, number * 1.5, {f"k{number % 5}": number, "n": {"deep": [number]}}],
            )
        except SqlError as error:
            return number, error.message
        return number, ""

    with ThreadPoolExecutor(12) as pool:
        outcomes = dict(pool.map(write, range(60)))
    kind = rows(
        node,
        f"SELECT data_type FROM information_schema.columns WHERE table_name = '{dynamic}' AND column_name = 'shared'",
    )
    node.sql(f"REFRESH TABLE {dynamic}")
    found = {row[0]: row[1:] for row in rows(node, f"SELECT id, shared, o['n']['deep'] FROM {dynamic}")}
    written = {number for number, error in outcomes.items() if not error}
    assert found.keys() == written
    assert all("Cannot cast value `words` to type `bigint`" in error for error in outcomes.values() if error)
    if kind == [["bigint"]]:
        assert written == {number for number in range(60) if number % 4}
        assert all(found[number] == [number, [number]] for number in written)
    else:
        assert kind == [["text"]]
        assert written == set(range(60))
    assert rows(node, f"SELECT sum(o['k1']) FROM {dynamic}") == [[float(sum(n for n in written if n % 5 == 1))]]


def test_copy_from_adds_the_columns_its_file_names(node: Node, dynamic: str, tmp_path: Path) -> None:
    lines = [{"id": i, "v": i / 2, "tags": ["a", str(i)], "o": {"k": i}} for i in range(2_000)]
    lines[7] |= {"rare": True}
    lines[9] |= {"bad.name": 1}
    file = tmp_path / "rows.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert node.sql(f"COPY {dynamic} FROM 'file://{file}'")["rowcount"] == 1_999
    node.sql(f"REFRESH TABLE {dynamic}")
    assert rows(node, f"SELECT count(v), count(rare), max(o['k']), count(tags) FROM {dynamic}") == [
        [1999, 1, 1999, 1999]
    ]


def test_new_columns_in_every_kind_of_write(node: Node, dynamic: str) -> None:
    node.sql(f"INSERT INTO {dynamic} (id, a) SELECT 1, 'x'")
    node.sql(f"INSERT INTO {dynamic} (id, b) VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET b = excluded.b + 1, c = true")
    node.sql(f"UPDATE {dynamic} SET d = 1.5, e['f']['g'] = [1, 2] WHERE id = 1")
    assert rows(node, f"SELECT a, b, c, d, e FROM {dynamic} WHERE id = 1") == [
        ["x", 6, True, 1.5, {"f": {"g": [1, 2]}}]
    ]
    node.sql(f"ALTER TABLE {dynamic} SET (column_policy = 'strict')")
    assert error_of(node, f"INSERT INTO {dynamic} (id, z) VALUES (2, 1)") == (
        4043,
        "ColumnUnknownException[Column z unknown]",
    )
    assert error_of(node, f"UPDATE {dynamic} SET z = 1")[0] == 4043


def test_leaves_answer_like_their_objects_before_and_after_merges(node: Node, dynamic: str) -> None:
    statement = f"INSERT INTO {dynamic} (id, o) VALUES (?, ?)"
    for first in (0, 100, 200):
        # Every segment knows one key more than the one before.
        parts = [
            {"v": i, "t": f"w{i % 3}", f"late{first}": i, "l": [{"x": i}, None]} for i in range(first, first + 100)
        ]
        node.sql(statement, bulk_args=[[part["v"], part] for part in parts])
        node.sql(f"REFRESH TABLE {dynamic}")
    questions = (
        f"SELECT o['t'], count(*), sum(o['v']), count(o['late100']) FROM {dynamic} GROUP BY 1 ORDER BY 1",
        f"SELECT id FROM {dynamic} WHERE o['late200'] BETWEEN 250 AND 252 ORDER BY o['v'] DESC",
        f"SELECT id, o['l']['x'] FROM {dynamic} WHERE 7 = ANY(o['l']['x'])",
    )
    expected = [
        [["w0", 100, 14850, 33], ["w1", 100, 14950, 34], ["w2", 100, 15050, 33]],
        [[252], [251], [250]],
        [[7, [7, None]]],
    ]
    before = [rows(node, question) for question in questions]
    assert before == expected
    node.sql(f"OPTIMIZE TABLE {dynamic} WITH (max_num_segments = 1)")
    assert [rows(node, question) for question in questions] == expected
    node.sql(f"DELETE FROM {dynamic} WHERE o['late200'] IS NOT NULL")
    node.sql(f"REFRESH TABLE {dynamic}")
    assert rows(node, questions[1]) == []


# --- bad input -------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = {"z": 1}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


@pytest.fixture(scope="module")
def objects(node: Node) -> Node:
    node.sql(
        "CREATE TABLE objs (id INTEGER PRIMARY KEY, d OBJECT(DYNAMIC), s OBJECT(STRICT) AS (a INTEGER), i OBJECT(IGNORED), "
        "f DOUBLE PRECISION, r REAL, t TEXT, off TEXT INDEX OFF STORAGE WITH (columnstore = false), ts TIMESTAMP)"
    )
    return node


@pytest.mark.parametrize(
    ("column", "value", "code", "words"),
    [
        ("d", nested(101), 40000, "nested deeper than 100"),
        ("i", nested(101), 40000, "nested deeper than 100"),
        ("d", {"k": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, 40000, "nested deeper than 32"),
        ("d", {f"c{i}": i for i in range(2_000)}, 4000, "Limit of total columns [1000]"),
        ("d", {"a.b": 1}, 4008, '"a.b" contains a dot'),
        ("d", {"x['y']": 1}, 4008, "square brackets are not allowed"),
        ("d", {"k" * 300: 1}, 4008, "longer than 255 bytes"),
        ("s", {"b": 1}, 4000, "Cannot add column `b` to strict object `s`"),
        ("s", {"a": 2**40}, 4000, "Cannot cast value `1099511627776`"),
        ("t", "x" * 40_000, 40000, "40000 bytes"),
        ("ts", "yesterday or so", 4000, "Cannot cast"),
        ("r", 1e39, 4000, "Cannot cast"),
        ("id", 2**31, 4000, "Cannot cast"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_with_nothing_written(
    objects: Node, column: str, value: Any, code: int, words: str
) -> None:
    found = (
        error_of(objects, f"INSERT INTO objs (id, {column}) VALUES (-1, ?)", value)
        if column != "id"
        else error_of(objects, "INSERT INTO objs (id) VALUES (?)", value)
    )
    assert found[0] == code, found
    assert words in found[1]
    assert rows(objects, "SELECT count(*) FROM objs WHERE id = -1") == [[0]]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("d", nested(100), nested(100)),
        ("i", nested(100), nested(100)),
        ("d", {"": 1, "_x": 2, "a b": 3, "it's": 4}, {"": 1, "_x": 2, "a b": 3, "it's": 4}),
        ("d", {"e": "", "nul": "a\0b", "none": None, "list": []}, {"e": "", "nul": "a\0b", "none": None, "list": []}),
        ("i", {"mixed": [1, "a", {"b": None}], "a.b": 1}, {"mixed": [1, "a", {"b": None}], "a.b": 1}),
        ("f", "NaN", "NaN"),
        ("f", "-Infinity", "-Infinity"),
        ("f", -0.0, -0.0),
        ("t", "", ""),
        ("t", "a\0b \U0001f600", "a\0b \U0001f600"),
        ("t", "x" * 32_766, "x" * 32_766),
        ("off", "x" * 40_000, "x" * 40_000),
        ("ts", "9999-12-31T23:59:59.999", 253402300799999),
        ("ts", -(2**62), -(2**62)),
    ],
)
def test_unusual_values_come_back_as_they_were(objects: Node, column: str, value: Any, expected: Any) -> None:
    objects.sql("DELETE FROM objs WHERE id = 1")
    objects.sql(f"INSERT INTO objs (id, {column}) VALUES (1, ?)", [value])
    assert rows(objects, f"SELECT {column} FROM objs WHERE id = 1") == [[expected]]
    objects.sql("REFRESH TABLE objs")
    found = rows(objects, f"SELECT {column} FROM objs WHERE id + 0 = 1")
    assert found == [[expected]]
    assert str(found[0][0]) == str(expected)


def test_nan_in_objects_is_not_lost(objects: Node) -> None:
    objects.sql(
        "INSERT INTO objs (id, d) VALUES (50, {f = 'NaN'::DOUBLE, g = ['Infinity'::DOUBLE, 1.0]}), (51, {f = 2.5})"
    )
    objects.sql("REFRESH TABLE objs")
    assert rows(objects, "SELECT d['f'], d['g'] FROM objs WHERE id >= 50 ORDER BY id") == [
        ["NaN", ["Infinity", 1.0]],
        [2.5, None],
    ]
    assert rows(objects, "SELECT id FROM objs WHERE d['f'] = 2.5") == [[51]]


def test_a_lone_surrogate_is_no_text(objects: Node) -> None:
    for statement in ("INSERT INTO objs (id, t) VALUES (60, ?)", "INSERT INTO objs (id, d) VALUES (60, {k = ?})"):
        assert error_of(objects, statement, "\ud800")[0] == 4000
    assert rows(objects, "SELECT count(*) FROM objs WHERE id = 60") == [[0]]


# --- keys in objects -------------------------------------------------------------------------------------------------


def test_a_part_of_an_object_is_a_primary_key(cluster: Cluster, node: Node) -> None:
    node.sql(
        "CREATE TABLE keyed (o OBJECT AS (id INTEGER, k TEXT), v INTEGER, PRIMARY KEY (o['id'])) CLUSTERED INTO 3 SHARDS"
    )
    for i in range(10):
        cluster.nodes[i % 3].sql("INSERT INTO keyed (o, v) VALUES ({id = ?, k = 'a'}, ?)", [i, i])
    # By key, before any refresh, from any node.
    assert [rows(cluster.nodes[i % 3], "SELECT v, _id FROM keyed WHERE o['id'] = ?", i) for i in range(10)] == [
        [[i, str(i)]] for i in range(10)
    ]
    assert error_of(node, "INSERT INTO keyed (o) VALUES ({id = 3})")[0] == 4091
    for value in ("{k = 'x'}", "NULL"):
        assert "primary key value must not be NULL" in error_of(node, f"INSERT INTO keyed (o) VALUES ({value})")[1]
    for target in ("o['id'] = 99", "o = {id = 99}"):
        assert error_of(node, f"UPDATE keyed SET {target} WHERE o['id'] = 1")[0] == 4003
    node.sql(
        "INSERT INTO keyed (o, v) VALUES ({id = 1}, 5) ON CONFLICT (o['id']) DO UPDATE SET v = excluded.v, o['k'] = 'b'"
    )
    node.sql("DELETE FROM keyed WHERE o['id'] = 2")
    assert rows(node, "SELECT v, o['k'] FROM keyed WHERE o['id'] = 1") == [[5, "b"]]
    assert rows(node, "SELECT v FROM keyed WHERE o['id'] = 2") == []
    assert "PRIMARY KEY (\"o\"['id'])" in rows(node, "SHOW CREATE TABLE keyed")[0][0]


def test_rows_are_routed_by_a_part_of_an_object(cluster: Cluster, node: Node) -> None:
    node.sql("CREATE TABLE routed (a INTEGER, o OBJECT AS (k TEXT)) CLUSTERED BY (o['k']) INTO 5 SHARDS")
    bulk = [[i, {"k": f"k{i % 4}"}] for i in range(40)] + [[40, None]]
    node.sql("INSERT INTO routed (a, o) VALUES (?, ?)", bulk_args=bulk)
    node.sql("REFRESH TABLE routed")
    assert cluster.nodes[1].sql("UPDATE routed SET a = a + 100 WHERE o['k'] = 'k1'")["rowcount"] == 10
    node.sql("REFRESH TABLE routed")
    assert cluster.nodes[2].sql("UPDATE routed SET a = a + 1000 WHERE a IN (0, 40)")["rowcount"] == 2
    assert node.sql("DELETE FROM routed WHERE o['k'] = 'k2'")["rowcount"] == 10
    node.sql("REFRESH TABLE routed")
    assert rows(node, "SELECT count(*), sum(a) FROM routed") == [[31, sum(range(41)) - sum(range(2, 40, 4)) + 3000]]


def test_the_document_of_a_row_is_taken_apart_into_its_columns(objects: Node) -> None:
    objects.sql("INSERT INTO objs (id, t, d) VALUES (70, 'doc', {x = {y = 7}})")
    objects.sql("REFRESH TABLE objs")
    assert rows(
        objects, "SELECT _doc['t'], _doc['d']['x']['y'], _doc, _raw FROM objs WHERE _doc['d']['x']['y'] = 7"
    ) == [["doc", 7, {"id": 70, "t": "doc", "d": {"x": {"y": 7}}}, '{"id":70,"d":{"x":{"y":7}},"t":"doc"}']]
