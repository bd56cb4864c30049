"""Full-text search end to end: every answer of MATCH against one found by splitting texts in Python.

Texts are words of a small vocabulary with blanks between, so that the standard analyzer and ``str.split`` agree. Each question
is asked of tables of one and of five shards, over HTTP and PostgreSQL.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from demo.processes import Cluster, Node, SqlError

WORDS = [a + b for a in ("ba", "de", "fi", "go", "ku") for b in ("lan", "mer", "nop", "rist", "sut", "tav")]
ROWS = 600
TABLES = ("search_one", "search_five")


@dataclass(frozen=True)
class Text:
    """A row."""

    id: int
    title: str | None
    body: str | None
    tag: str
    n: int

    def words(self, name: str) -> list[str]:
        text: str | None = getattr(self, name)
        return [] if text is None else text.split()


def _sentence(chance: random.Random, length: int) -> str:
    # Early words of the vocabulary are frequent, late ones rare.
    return " ".join(WORDS[min(int(chance.expovariate(0.2)), len(WORDS) - 1)] for _ in range(length))


def _texts() -> list[Text]:
    chance = random.Random(5)
    rows = []
    for number in range(ROWS):
        title = None if number % 17 == 0 else _sentence(chance, chance.randint(1, 5))
        body = None if number % 23 == 0 else _sentence(chance, chance.randint(3, 40))
        rows.append(Text(number, title, body, f"{WORDS[number % 7]} {WORDS[number % 5]}", chance.randint(0, 9)))
    return rows


TEXTS = _texts()


@pytest.fixture(scope="module")
def searched(cluster: Cluster) -> Cluster:
    node = cluster.nodes[0]
    for table, shards in zip(TABLES, (1, 5), strict=True):
        node.sql(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, title TEXT INDEX USING fulltext, body TEXT INDEX USING fulltext,"
            " tag TEXT, n INTEGER, o OBJECT AS (t TEXT INDEX USING fulltext), INDEX ft USING fulltext (title, body),"
            f" INDEX exact USING plain (tag)) CLUSTERED INTO {shards} SHARDS WITH (refresh_interval = 0)"
        )
        # Several segments, and rows that are replaced and deleted afterwards.
        for first in range(0, ROWS, 150):
            _insert(node, table, TEXTS[first : first + 150])
            node.sql(f"REFRESH TABLE {table}")
        stale = [Text(row.id + ROWS, row.title, "balan balan", row.tag, row.n) for row in TEXTS[:50]]
        _insert(node, table, stale)
        node.sql(f"REFRESH TABLE {table}")
        node.sql(f"DELETE FROM {table} WHERE id >= ?", [ROWS])
        node.sql(f"UPDATE {table} SET body = 'balan' WHERE id < 20")
        node.sql(f"UPDATE {table} SET body = NULL WHERE id < 20 AND id % 23 = 0")
        for row in TEXTS[:20]:
            node.sql(f"UPDATE {table} SET body = ? WHERE id = ?", [row.body, row.id])
        node.sql(f"REFRESH TABLE {table}")
    return cluster


def _insert(node: Node, table: str, rows: list[Text]) -> None:
    node.sql(
        f"INSERT INTO {table} (id, title, body, tag, n, o) VALUES (?, ?, ?, ?, ?, ?)",
        bulk_args=[[r.id, r.title, r.body, r.tag, r.n, {"t": r.title}] for r in rows],
    )


def _any(name: str, *words: str) -> Callable[[Text], bool]:
    return lambda row: any(word in row.words(name) for word in words)


def _phrase(words: list[str], phrase: list[str]) -> bool:
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words)))


def _any_of_one(row: Text) -> bool:
    return row.n < 5 and bool(set(TEXTS[1].tag.split()) & set(row.words("body")))


A, B, C = WORDS[0], WORDS[4], WORDS[11]
QUESTIONS: list[tuple[str, Callable[[Text], bool]]] = [
    (f"MATCH(body, '{A}')", _any("body", A)),
    (f"MATCH(body, '{B} {C}')", _any("body", B, C)),
    (f"MATCH(body, '{B.upper()}')", _any("body", B)),
    ("MATCH(body, 'nosuchword')", lambda row: False),
    (
        f"MATCH(body, '{A} {B}') USING best_fields WITH (operator = 'and')",
        lambda row: {A, B} <= set(row.words("body")),
    ),
    (f"MATCH(body, '{A} {B}') USING phrase", lambda row: _phrase(row.words("body"), [A, B])),
    (
        f"MATCH(body, '{A} {B[:2]}') USING phrase_prefix",
        lambda row: any(
            one == A and two.startswith(B[:2])
            for one, two in zip(row.words("body"), row.words("body")[1:], strict=False)
        ),
    ),
    (f"MATCH((title 2.0, body 0.5), '{C}')", lambda row: _any("title", C)(row) or _any("body", C)(row)),
    (f"MATCH(ft, '{C}')", lambda row: _any("title", C)(row) or _any("body", C)(row)),
    (f"MATCH(o['t'], '{C}')", _any("title", C)),
    (f"MATCH(tag, '{WORDS[1]} {WORDS[1]}')", lambda row: row.tag == f"{WORDS[1]} {WORDS[1]}"),
    (f"MATCH(exact, '{WORDS[1]} {WORDS[1]}')", lambda row: row.tag == f"{WORDS[1]} {WORDS[1]}"),
    (f"MATCH(exact, '{WORDS[1]}')", lambda row: False),
    (f"MATCH(body, '{B}') AND n < 5", lambda row: B in row.words("body") and row.n < 5),
    (f"MATCH(body, (SELECT '{B}'))", _any("body", B)),
    ("MATCH(body, (SELECT max(tag) FROM search_one WHERE id = 1)) AND n < 5", _any_of_one),
    (
        f"NOT MATCH(title, (SELECT '{A}')) AND MATCH((title, body), (SELECT '{C}'))",
        lambda row: A not in row.words("title") and (C in row.words("title") or C in row.words("body")),
    ),
    (
        f"MATCH(body, '{A}') AND MATCH(title, '{B}')",
        lambda row: A in row.words("body") and B in row.words("title"),
    ),
    (f"NOT MATCH(body, '{A}')", lambda row: A not in row.words("body")),
    (
        f"MATCH(body, '{A}') AND NOT MATCH(body, '{B}')",
        lambda row: A in row.words("body") and B not in row.words("body"),
    ),
    (f"MATCH(body, '{C}') OR n = 3", lambda row: C in row.words("body") or row.n == 3),
    (f"MATCH(body, '{C}') OR MATCH(title, '{B}')", lambda row: C in row.words("body") or B in row.words("title")),
    (
        f"(MATCH(body, '{A}') OR MATCH(title, '{B}')) AND n > 4",
        lambda row: (A in row.words("body") or B in row.words("title")) and row.n > 4,
    ),
    (
        f"(MATCH(body, '{A}') OR MATCH(title, '{B}')) AND NOT MATCH(title, '{C}')",
        lambda row: (A in row.words("body") or B in row.words("title")) and C not in row.words("title"),
    ),
    (
        f"CASE WHEN MATCH(body, '{C}') THEN n < 3 ELSE n = 9 END",
        lambda row: row.n < 3 if C in row.words("body") else row.n == 9,
    ),
    (f"tag = '{WORDS[1]} {WORDS[1]}'", lambda row: row.tag == f"{WORDS[1]} {WORDS[1]}"),
    (f"tag LIKE '{WORDS[2]}%'", lambda row: row.tag.startswith(WORDS[2])),
]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("condition", "holds"), QUESTIONS, ids=[condition for condition, _ in QUESTIONS])
def test_the_rows_that_match_are_those_that_hold_the_words(
    searched: Cluster, table: str, condition: str, holds: Callable[[Text], bool]
) -> None:
    expected = [row.id for row in TEXTS if holds(row)]
    for node in searched.nodes:
        rows = node.sql(f"SELECT id FROM {table} WHERE {condition} ORDER BY id")["rows"]
        assert [number for (number,) in rows] == expected
    node = searched.nodes[1]
    assert node.sql(f"SELECT count(*) FROM {table} WHERE {condition}")["rows"] == [[len(expected)]]
    assert node.sql(f"SELECT count(*), max(n) FROM {table} t WHERE {condition}")["rows"][0][0] == len(expected)


SEARCHES = [condition for condition, _ in QUESTIONS if "MATCH(" in condition]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("condition", SEARCHES)
def test_the_best_rows_are_the_first_of_all_rows_by_score(searched: Cluster, table: str, condition: str) -> None:
    # Some handlers have all shards of a table and some have none.
    node = searched.nodes[len(condition) % 3]
    everything = f"SELECT id, _score FROM {table} WHERE {condition}"
    # A merge in the background forgets deleted rows, and with them their part in the scores: then all is asked again.
    scores: dict[int, float] = {}
    answers: list[tuple[int, int, list[list[Any]], list[list[Any]]]] = []
    for _ in range(5):
        scores = dict(node.sql(everything)["rows"])
        answers = []
        for count, offset in ((7, 0), (5, 3), (1, 0), (1_000, 0), (3, len(scores))):
            cut = f"LIMIT {count} OFFSET {offset}"
            by_id = node.sql(f"{everything} ORDER BY _score DESC, id {cut}")["rows"]
            answers.append((count, offset, by_id, node.sql(f"{everything} ORDER BY _score DESC {cut}")["rows"]))
        if dict(node.sql(everything)["rows"]) == scores:
            break
    ordered = sorted(scores, key=lambda number: (-scores[number], number))
    for count, offset, by_id, by_score in answers:
        expected = ordered[offset : offset + count]
        assert [number for number, _ in by_id] == expected
        assert [score for _, score in by_score] == [scores[number] for number in expected]
        assert all(scores[number] == score for number, score in by_score)


def test_scores_are_one_without_a_match_and_grow_with_boosts(searched: Cluster) -> None:
    node = searched.nodes[0]
    assert node.sql("SELECT DISTINCT _score FROM search_five WHERE n = 3")["rows"] == [[1.0]]
    plain = dict(node.sql(f"SELECT id, _score FROM search_one WHERE MATCH(body, '{C}')")["rows"])
    boosted = dict(node.sql(f"SELECT id, _score FROM search_one WHERE MATCH((body 3.0), '{C}')")["rows"])
    assert plain
    assert boosted == pytest.approx({number: 3 * score for number, score in plain.items()}, rel=1e-5)


@pytest.mark.parametrize("table", TABLES)
def test_parameters_over_postgres_are_those_over_http(searched: Cluster, table: str) -> None:
    expected = [row.id for row in TEXTS if B in row.words("body")]
    text = f"SELECT id FROM {table} WHERE MATCH(body, {{}}) ORDER BY id LIMIT {{}}"
    for node in searched.nodes:
        rows = node.sql(text.format("?", "?"), [B, 1_000])["rows"]
        assert [number for (number,) in rows] == expected
        address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc"
        with psycopg.connect(address, autocommit=True) as connection:
            for word in (B, C, B, "nosuchword", B):
                # The same statement again and again: from the fifth time on psycopg prepares it.
                found = connection.execute(text.format("%s", "%s"), [word, 1_000], prepare=True).fetchall()
                assert [number for (number,) in found] == [row.id for row in TEXTS if word in row.words("body")]
            best = f"SELECT id, _score FROM {table} WHERE MATCH(body, %s) ORDER BY _score DESC LIMIT %s"
            assert len(connection.execute(best, [B, 4], prepare=True).fetchall()) == 4
            with pytest.raises(psycopg.Error, match="cannot use NULL as query term"):
                connection.execute(best, [None, 4], prepare=True)
            late = (
                f"SELECT id FROM {table} WHERE MATCH((title %s, body 2.0), %s) USING best_fields WITH (operator = %s)"
                " ORDER BY _score DESC, id"
            )
            for boost in (1, 0.25):
                for operator in ("and", "or"):
                    known = node.sql(
                        f"SELECT id FROM {table} WHERE MATCH((title {boost}, body 2.0), ?)"
                        f" USING best_fields WITH (operator = '{operator}') ORDER BY _score DESC, id",
                        [f"{A} {B}"],
                    )["rows"]
                    found = connection.execute(late, [boost, f"{A} {B}", operator], prepare=True).fetchall()
                    assert [[number] for (number,) in found] == known
            with pytest.raises(psycopg.Error, match="invalid value for option 'operator': nor"):
                connection.execute(late, [1.0, A, "nor"], prepare=True)


def test_joins_subqueries_views_and_with_search_their_tables(searched: Cluster) -> None:
    node = searched.nodes[1]
    node.sql("CREATE VIEW search_view AS SELECT id, body AS b, n FROM search_five WHERE n > 4")
    searches: list[tuple[str, Callable[[Text], Any]]] = [
        (
            "SELECT f.id FROM search_five f JOIN search_one o ON f.id = o.id"
            f" WHERE MATCH(f.body, '{A}') AND MATCH(o.title, '{B}') ORDER BY 1",
            lambda row: A in row.words("body") and B in row.words("title"),
        ),
        (
            "SELECT f.id FROM search_five f JOIN search_one o ON f.id = o.id"
            f" WHERE MATCH(f.body, '{C}') OR MATCH(o.title, '{B}') ORDER BY 1",
            lambda row: C in row.words("body") or B in row.words("title"),
        ),
        (
            f"SELECT id FROM search_one WHERE id IN (SELECT id FROM search_five WHERE MATCH(body, '{C}')) ORDER BY 1",
            lambda row: C in row.words("body"),
        ),
        (
            "SELECT id FROM search_one o WHERE EXISTS (SELECT 1 FROM search_five f WHERE f.id = o.id AND"
            f" MATCH(f.title, '{B}')) ORDER BY 1",
            lambda row: B in row.words("title"),
        ),
        (
            f"WITH w AS (SELECT id, n FROM search_five WHERE MATCH(body, '{C}')) SELECT id FROM w WHERE n < 5 ORDER BY 1",
            lambda row: C in row.words("body") and row.n < 5,
        ),
        (
            f"SELECT id FROM search_view WHERE MATCH(b, '{C}') ORDER BY 1",
            lambda row: C in row.words("body") and row.n > 4,
        ),
        (
            f"SELECT o.id FROM search_one o LEFT JOIN search_five f ON o.id = f.id AND MATCH(f.body, '{C}')"
            " WHERE f.id IS NULL ORDER BY 1",
            lambda row: C not in row.words("body"),
        ),
    ]
    for sql, holds in searches:
        assert [number for (number,) in node.sql(sql)["rows"]] == [row.id for row in TEXTS if holds(row)], sql
    node.sql("DROP VIEW search_view")


def test_update_and_delete_find_their_rows_by_match(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE search_changed (id INTEGER PRIMARY KEY, body TEXT INDEX USING fulltext, n INTEGER)")
    node.sql(
        "INSERT INTO search_changed (id, body, n) VALUES (?, ?, 0)", bulk_args=[[row.id, row.body] for row in TEXTS]
    )
    node.sql("REFRESH TABLE search_changed")
    with_b = [row.id for row in TEXTS if B in row.words("body")]
    with_c = [row.id for row in TEXTS if C in row.words("body")]
    assert node.sql("UPDATE search_changed SET n = 1 WHERE MATCH(body, ?)", [B])["rowcount"] == len(with_b)
    node.sql("REFRESH TABLE search_changed")
    assert [n for (n,) in node.sql("SELECT id FROM search_changed WHERE n = 1 ORDER BY id")["rows"]] == with_b
    assert node.sql(f"DELETE FROM search_changed WHERE MATCH(body, '{C}') AND n = 0")["rowcount"] == len(
        set(with_c) - set(with_b)
    )
    node.sql("REFRESH TABLE search_changed")
    left = [n for (n,) in node.sql(f"SELECT id FROM search_changed WHERE MATCH(body, '{C}') ORDER BY 1")["rows"]]
    assert left == sorted(set(with_c) & set(with_b))
    node.sql("DROP TABLE search_changed")


def test_analyzers_are_made_used_kept_and_dropped(cluster: Cluster) -> None:
    node, other = cluster.nodes[0], cluster.nodes[2]
    node.sql(
        "CREATE ANALYZER search_cut (TOKENIZER c WITH (type = 'pattern', pattern = '-'), TOKEN_FILTERS (lowercase))"
    )
    node.sql("CREATE TABLE search_cut_one (a TEXT INDEX USING fulltext WITH (analyzer = 'search_cut'))")
    node.sql("CREATE ANALYZER search_cut (TOKENIZER keyword)")
    node.sql("CREATE TABLE search_cut_two (a TEXT INDEX USING fulltext WITH (analyzer = 'search_cut'))")
    for table in ("search_cut_one", "search_cut_two"):
        node.sql(f"INSERT INTO {table} VALUES ('One two-THREE')")
        node.sql(f"REFRESH TABLE {table}")
    # The table keeps the analyzer it was made with.
    assert other.sql("SELECT a FROM search_cut_one WHERE MATCH(a, 'three')")["rowcount"] == 1
    assert other.sql("SELECT a FROM search_cut_one WHERE MATCH(a, 'two')")["rowcount"] == 0
    assert other.sql("SELECT a FROM search_cut_two WHERE MATCH(a, 'three')")["rowcount"] == 0
    assert other.sql("SELECT a FROM search_cut_two WHERE MATCH(a, 'One two-THREE')")["rowcount"] == 1
    listed = "SELECT routine_name FROM information_schema.routines WHERE routine_name LIKE 'search_cut%'"
    assert other.sql(listed)["rows"] == [["search_cut"]]
    assert node.sql("DROP ANALYZER search_cut")["rowcount"] == 1
    assert other.sql(listed)["rows"] == []
    with pytest.raises(SqlError, match="Analyzer 'search_cut' unknown"):
        node.sql("DROP ANALYZER search_cut")
    node.sql("DROP TABLE search_cut_one")
    node.sql("DROP TABLE search_cut_two")


def test_a_text_that_an_analyzer_cannot_split_is_refused_when_it_is_written(cluster: Cluster) -> None:
    node, other = cluster.nodes[0], cluster.nodes[2]
    bad = "a" * 60 + "!"
    refused = "A text cannot be indexed by analyzer 'search_slow'.* takes more than"
    node.sql("CREATE ANALYZER search_slow (TOKENIZER c WITH (type = 'pattern', pattern = '(a|aa)+$|,'))")
    node.sql(
        "CREATE TABLE search_slow (id INTEGER PRIMARY KEY, a TEXT INDEX USING fulltext WITH (analyzer = 'search_slow')) "
        "CLUSTERED INTO 1 SHARDS"
    )
    node.sql("INSERT INTO search_slow VALUES (1, 'x,y')")
    node.sql("REFRESH TABLE search_slow")
    for statement in (
        f"INSERT INTO search_slow VALUES (2, '{bad}')",
        f"INSERT INTO search_slow VALUES (2, 'x'), (3, '{bad}')",
        f"INSERT INTO search_slow VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET a = '{bad}'",
        f"UPDATE search_slow SET a = '{bad}' WHERE id = 1",
        f"UPDATE search_slow SET a = '{bad}'",
    ):
        with pytest.raises(SqlError, match=refused):
            other.sql(statement)
    counts = node.sql("INSERT INTO search_slow VALUES (?, ?)", bulk_args=[[4, "y"], [5, bad]])["results"]
    assert [result["rowcount"] for result in counts] == [1, -2]
    node.sql("REFRESH TABLE search_slow")
    assert other.sql("SELECT id FROM search_slow WHERE MATCH(a, 'y') ORDER BY 1")["rows"] == [[1], [4]]
    with pytest.raises(SqlError, match="takes more than"):
        other.sql(f"SELECT id FROM search_slow WHERE MATCH(a, '{bad}')")
    assert other.sql("SELECT id, a FROM search_slow ORDER BY 1")["rows"] == [[1, "x,y"], [4, "y"]]
    node.sql("DROP TABLE search_slow")
    node.sql("DROP ANALYZER search_slow")


def test_a_column_added_later_is_searched(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.sql("CREATE TABLE search_added (id INTEGER PRIMARY KEY, o OBJECT)")
    node.sql("INSERT INTO search_added (id) VALUES (1), (2)")
    node.sql("REFRESH TABLE search_added")
    node.sql("ALTER TABLE search_added ADD COLUMN body TEXT INDEX USING fulltext WITH (analyzer = 'english')")
    node.sql("ALTER TABLE search_added ADD COLUMN o['t'] TEXT INDEX USING fulltext")
    assert node.sql("SELECT id FROM search_added WHERE MATCH(body, 'run')")["rows"] == []
    node.sql("INSERT INTO search_added (id, body, o) VALUES (3, 'she runs', {t = 'fast'}), (4, 'he ran', {t = 'slow'})")
    node.sql("REFRESH TABLE search_added")
    assert node.sql("SELECT id FROM search_added WHERE MATCH(body, 'running')")["rows"] == [[3]]
    assert node.sql("SELECT id FROM search_added WHERE MATCH(o['t'], 'slow')")["rows"] == [[4]]
    assert sorted(node.sql("SELECT id FROM search_added WHERE NOT MATCH(body, 'run')")["rows"]) == [[1], [2], [4]]
    node.sql("DROP TABLE search_added")
