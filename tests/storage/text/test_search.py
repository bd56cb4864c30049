"""Shard.search: which rows, in which order, with which scores; over refreshes, deletes, merges and a reopen."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from cratepy.errors import BadRequest, StaleRouting
from cratepy.model.search import (
    AnalyzerDefinition,
    IndexDefinition,
    IndexedSource,
    MatchQuery,
    PrefixQuery,
    TermsQuery,
)
from cratepy.model.types import OBJECT, TEXT, DataType
from cratepy.storage.operations import ColumnRange, SearchRequest, WriteBatch
from cratepy.storage.shard import Shard
from cratepy.storage.text.searching import best_values
from cratepy.storage.text.usual import usual_query
from tests.storage.shards import delete, insert, open_shard, scanned
from tests.storage.text.texts import bm25, found, fulltext, match, words


def shard_of(directory: Path, texts: dict[str, str | None], analyzer: str | None = None, **extra: Any) -> Shard:
    shard = open_shard(directory / "s", definition=fulltext(analyzer, **extra))
    if texts:
        shard.write(insert({row_id: (n, text) for n, (row_id, text) in enumerate(texts.items())}))
    shard.refresh()
    return shard


def test_rows_that_match_come_in_scan_order_with_their_scores(tmp_path: Path) -> None:
    texts = {"a": "a fox", "b": None, "c": "The quick brown FOX, a fox!", "d": "", "e": "dogs"}
    shard = shard_of(tmp_path, texts)
    rows = found(shard, match("Fox"), sources=("_id", "c1", "_score", "_docid"))
    expected = bm25(texts, "fox")
    assert [(row[0], row[1], row[3]) for row in rows] == [("a", 0, 0), ("c", 2, 2)]
    assert [row[2] for row in rows] == pytest.approx([expected["a"], expected["c"]], rel=1e-5)
    assert shard.search(SearchRequest(queries=(match("fox"),), required=1, sources=("_score",)))[0].schema.types == [
        pa.float32()
    ]


def test_the_best_rows_come_first_and_ties_in_scan_order(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x y z", "b": "x", "c": "x x", "d": "x", "e": "y"})
    assert found(shard, match("x"), limit=3) == ["c", "b", "d"]
    assert found(shard, match("x"), limit=100) == ["c", "b", "d", "a"]
    assert found(shard, match("nothing"), limit=100) == []
    scored = found(shard, match("x"), limit=2, sources=("_score", "_id", "c1", "_docid", "_match_0"))
    assert [row[1:] for row in scored] == [("c", 2, 2, True), ("b", 1, 1, True)]
    assert scored[0][0] > scored[1][0] > 0


@pytest.mark.parametrize("refreshes", [1, 4])
def test_the_usual_search_gives_what_the_general_one_gives(tmp_path: Path, refreshes: int) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    chance = random.Random(3)
    for part in range(refreshes):
        texts = {f"{part}/{n}": " ".join(chance.choices("abcdefgh", k=chance.randint(0, 6))) for n in range(40)}
        shard.write(insert({row_id: (n, text) for n, (row_id, text) in enumerate(texts.items())}))
        shard.refresh()
    shard.write(delete(*(f"{part}/{n}" for part in range(refreshes) for n in range(0, 40, 3))))
    shard.refresh()
    for query in (match("a"), match("b c", ("operator", "and")), match("a b", kind="phrase"), match("z")):
        for sources in (("_id", "_score"), ("_score",), ("c2", "_uid", "c1", "_seq_no", "_score"), ()):
            for limit in (1, 7, 1000):
                wanted = SearchRequest(queries=(query,), required=1, sources=sources, limit=limit)
                text, layout = shard._core.text, shard._core.layout
                view = text._view_of(shard._core.state.segments)
                makers = text._makers(view, layout)
                assert usual_query(makers, wanted) is not None
                assert shard.best(wanted) == best_values(view, makers, wanted, layout)


def test_scores_are_those_of_one_index_over_all_segments(tmp_path: Path) -> None:
    texts: dict[str, str | None] = {f"i{n}": " ".join(["x"] * (n % 5) + ["y"] * (n % 7)) for n in range(60)}
    shard = open_shard(tmp_path / "s", definition=fulltext())
    for n, (row_id, text) in enumerate(texts.items()):
        shard.write(insert({row_id: (n, text)}))
        if n % 20 == 19:
            shard.refresh()
    assert shard.segment_count == 3
    scores = dict(found(shard, match("x"), sources=("_id", "_score")))
    assert scores == pytest.approx(bm25(texts, "x"), rel=1e-5)


def test_flags_tell_which_queries_a_row_matches(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x", "b": "x y", "c": "z", "d": None})
    shard.write(delete("c"))
    shard.refresh()
    rows = found(shard, match("x"), match("y"), required=0, sources=("_id", "_match_0", "_match_1", "_score"))
    assert [row[:3] for row in rows] == [("a", True, False), ("b", True, True), ("d", False, False)]
    assert rows[1][3] > rows[0][3] > 0
    assert rows[2][3] == 0.0
    assert found(shard, match("x"), match("y"), required=1, sources=("_id", "_match_1")) == [("a", False), ("b", True)]
    assert found(shard, match("x"), match("y"), required=2) == ["b"]
    assert found(shard, match("y"), required=0, limit=2) == ["b", "a"]


def test_without_a_scored_query_every_row_scores_one(tmp_path: Path) -> None:
    plain = IndexDefinition(oid=3, name="p", columns=("t",), method="plain")
    shard = shard_of(tmp_path, {"a": "x y", "b": "x"}, indexes=[plain])
    terms = TermsQuery(source="c3", values=("x y", "nothing"))
    assert found(shard, terms, sources=("_id", "_score")) == [("a", 1.0)]
    assert found(shard, terms, sources=("_id", "_score"), limit=5) == [("a", 1.0)]
    assert found(shard, match("x"), sources=("_score",), scored=()) == [1.0, 1.0]
    assert found(shard, PrefixQuery(source="c3", prefix="x "), match("y")) == ["a"]
    assert found(shard, PrefixQuery(source="c3", prefix="x")) == ["a", "b"]


def test_blocks_that_cannot_match_are_left_out(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x"})
    shard.write(insert({"b": (100, "x")}))
    shard.refresh()
    assert found(shard, match("x"), ranges=(ColumnRange("c1", minimum=50),)) == ["b"]


def test_a_search_without_columns_still_counts(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x", "b": "y", "c": "x"})
    batches = shard.search(SearchRequest(queries=(match("x"),), required=1, sources=()))
    assert sum(batch.num_rows for batch in batches) == 2


def test_documents_come_as_from_a_scan(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x", "b": "y"})
    assert found(shard, match("y"), sources=("_doc", "_raw", "_uid")) == scanned(shard, ("_doc", "_raw", "_uid"))[1:]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (match("brown fox"), "abcd"),
        (match("brown fox", ("operator", "and")), "ab"),
        (match("brown fox dog", ("minimum_should_match", "2")), "ab"),
        (match("brown fox", kind="phrase"), "a"),
        (match("fox brown", ("slop", "2"), kind="phrase"), "ab"),
        (match("brown", kind="phrase"), "abc"),
        (match("the bro", kind="phrase_prefix"), "ac"),
        (match("f", kind="phrase_prefix"), "abd"),
        (match("brwn", ("fuzziness", "1")), "abc"),
        (match("brwn", ("fuzziness", "AUTO")), "abc"),
        (match("bronw", ("fuzziness", "1")), ""),
        (match("bronw", ("fuzziness", "1"), ("fuzzy_transpositions", "true")), "abc"),
        (match("brwn", ("fuzziness", "1"), ("prefix_length", "2")), "abc"),
        (match("rbown", ("fuzziness", "2"), ("prefix_length", "1")), ""),
        (match(" ., "), ""),
        (match(" ., ", ("zero_terms_query", "all")), "abcdef"),
        (match("BROWN fox", ("analyzer", "keyword")), ""),
        (match("x", kind="most_fields"), ""),
        (match("brown the", kind="cross_fields"), "abc"),
    ],
)
def test_kinds_and_options_of_match(tmp_path: Path, query: MatchQuery, ids: str) -> None:
    texts = {"a": "the brown fox", "b": "fox brown", "c": "The Brown", "d": "fox", "e": None, "f": "cat"}
    shard = shard_of(tmp_path, dict(texts))
    assert "".join(found(shard, query)) == ids
    assert "".join(sorted(found(shard, query, limit=50))) == ids
    flags = found(shard, query, required=0, sources=("_id", "_match_0"))
    assert "".join(row_id for row_id, is_hit in flags if is_hit) == ids
    assert "".join(row_id for row_id, _ in flags) == "abcdef"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (match("x", ("oh", "1")), "unknown match option 'oh'"),
        (match("x", kind="some"), "invalid MATCH type 'some' for type 'text'"),
        (match("x", ("analyzer", "nosuch")), r"No analyzer found for \[nosuch\]"),
        (match("x " * 5000), "5000 words in a MATCH are more than 1024"),
        (MatchQuery(sources=(IndexedSource("c2", float("nan")),), text="x"), "a boost must be a number from 0 to 1e\\+09, not nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(tmp_path: Path, query: MatchQuery, message: str) -> None:
    shard = shard_of(tmp_path, {"a": "x"})
    with pytest.raises(BadRequest, match=message):
        found(shard, query)
    assert found(shard, match("x")) == ["a"]


def test_an_unknown_index_is_stale_routing(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x"})
    with pytest.raises(StaleRouting):
        found(shard, match("x", source="c9"))
    with pytest.raises(StaleRouting):
        found(shard, TermsQuery(source="c1", values=("x",)))


def test_several_fields_are_matched_by_the_best_the_sum_or_across(tmp_path: Path) -> None:
    index = IndexDefinition(oid=3, name="w", columns=("t",), analyzer="whitespace")
    shard = shard_of(tmp_path, {"a": "Red", "b": "red Red", "c": "blue"}, indexes=[index])
    both = (IndexedSource("c2"), IndexedSource("c3", 3.0))

    def scores(kind: str, *options: tuple[str, str]) -> dict[str, float]:
        query = MatchQuery(sources=both, text="red", kind=kind, options=options)
        return dict(found(shard, query, sources=("_id", "_score")))

    standard = dict(found(shard, match("red"), sources=("_id", "_score")))
    exact = dict(found(shard, match("red", source="c3"), sources=("_id", "_score")))
    best = max(standard["b"], 3 * exact["b"])
    total = standard["b"] + 3 * exact["b"]
    assert scores("best_fields") == pytest.approx({"a": standard["a"], "b": best}, rel=1e-5)
    assert scores("most_fields") == pytest.approx({"a": standard["a"], "b": total}, rel=1e-5)
    assert scores("best_fields", ("tie_breaker", "0.5"))["b"] == pytest.approx(best + (total - best) / 2, rel=1e-5)
    assert scores("best_fields", ("boost", "2"))["a"] == pytest.approx(2 * standard["a"], rel=1e-5)


def test_words_may_be_in_different_fields_across(tmp_path: Path) -> None:
    columns = (("f", TEXT), ("l", TEXT))
    definition = fulltext()
    base = definition.columns[1]
    first, last = (msgspec.structs.replace(base, oid=oid, name=name) for oid, name in ((1, "f"), (2, "l")))
    definition = msgspec.structs.replace(definition, columns=(first, last))
    shard = open_shard(tmp_path / "s", definition=definition)
    rows = pa.RecordBatch.from_arrays([pa.array(["Will", "Will"]), pa.array(["Smith", "Jones"])], names=["c1", "c2"])
    shard.write(WriteBatch(kind="insert", ids=["a", "b"], rows=rows, primary_term=1))
    shard.refresh()
    both = (IndexedSource("c1"), IndexedSource("c2"))
    query = MatchQuery(sources=both, text="will smith", kind="cross_fields", options=(("operator", "and"),))
    assert found(shard, query) == ["a"]
    assert found(shard, MatchQuery(sources=both, text="will smith", options=(("operator", "and"),))) == []
    assert len(columns) == 2


def test_a_named_index_covers_columns_arrays_and_parts_of_objects(tmp_path: Path) -> None:
    definition = fulltext()
    n, t = definition.columns
    definition = msgspec.structs.replace(
        definition,
        columns=(
            msgspec.structs.replace(t, index="plain"),
            msgspec.structs.replace(n, name="o", type=OBJECT),
            msgspec.structs.replace(n, oid=3, name="tags", type=DataType("array", element=TEXT), index="fulltext"),
        ),
        indexes=(IndexDefinition(oid=4, name="ft", columns=("t", "o['a']['it''s']", "tags")),),
    )
    shard = open_shard(tmp_path / "s", definition=definition)
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array([None, '{"a":{"it\'s":"deep Sea"}}', '{"a":[{"it\'s":["x"]},{}]}'], pa.string()),
            pa.array(["one two", None, None], pa.string()),
            pa.array([["three four", "five"], None, []], pa.list_(pa.string())),
        ],
        names=["c1", "c2", "c3"],
    )
    shard.write(WriteBatch(kind="insert", ids=["a", "b", "c"], rows=rows, primary_term=1))
    shard.refresh()
    for text, ids in (("two", ["a"]), ("sea", ["b"]), ("x", ["c"]), ("five", ["a"])):
        assert found(shard, match(text, source="c4")) == ids
    assert found(shard, match("five", source="c3")) == ["a"]
    assert found(shard, match("four five", source="c3", kind="phrase")) == [], "texts of an array lie apart"
    assert found(shard, match("three four", source="c3", kind="phrase")) == ["a"]


def test_custom_analyzers_index_and_search_alike(tmp_path: Path) -> None:
    custom = AnalyzerDefinition(
        name="mine",
        tokenizer="whitespace",
        token_filters=(("lowercase", ()), ("synonym", (("synonyms", "tv,television"),)), ("unique", ())),
        char_filters=(("html_strip", ()),),
    )
    shard = shard_of(tmp_path, {"a": "<b>The TV</b> set", "b": "television"}, "mine", analyzers=[custom])
    assert found(shard, match("Television")) == ["a", "b"]
    assert found(shard, match("the television set", kind="phrase")) == ["a"]
    assert found(shard, match("b")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "a\x00b",
        "👍🏽",
        "x" * 40_000,
        "word " * 8_000,
        "漢" * 70_000,
        "\ud7ff\U0010ffff",
        "é" * 255 + "b",
        "''''",
        "_",
    ],
)
def test_no_text_is_too_strange(tmp_path: Path, text: str) -> None:
    plain = IndexDefinition(oid=3, name="p", columns=("t",), method="plain")
    shard = shard_of(tmp_path, {"a": text, "b": "other"}, indexes=[plain])
    short = " ".join(words(text)[:50])
    assert found(shard, match(short)) == (["a"] if short else [])
    assert found(shard, match(short, kind="phrase"), limit=10) == (["a"] if short else [])
    assert found(shard, TermsQuery(source="c3", values=(text,))) == (["a"] if len(text.encode()) <= 65_000 else [])
    assert found(shard, match(text[:60_000], ("fuzziness", "2"), source="c3"), limit=10) is not None


def test_hits_are_estimated_from_frequencies(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {f"i{n}": "x" if n % 4 else "x y" for n in range(40)})
    assert shard.estimate_hits(match("x")) == 40
    assert shard.estimate_hits(match("y")) == 10
    assert shard.estimate_hits(match("x y", ("operator", "and"))) == 10
    assert shard.estimate_hits(TermsQuery(source="c2", values=("y", "z"))) == 10
    assert shard.estimate_hits(PrefixQuery(source="c2", prefix="y")) == 10
    assert shard.estimate_hits(match(".", ("zero_terms_query", "all"))) == 40


def test_a_column_indexed_later_leaves_old_rows_unmatched(tmp_path: Path) -> None:
    definition = fulltext()
    n, t = definition.columns
    before = msgspec.structs.replace(definition, columns=(n,))
    shard = open_shard(tmp_path / "s", definition=before)
    for row_id in ("a", "b"):
        rows = pa.RecordBatch.from_arrays([pa.array([1])], names=["c1"])
        shard.write(WriteBatch(kind="insert", ids=[row_id], rows=rows, primary_term=1))
    shard.refresh()
    shard.update_definition(msgspec.structs.replace(before, columns=(n, t), version=2))
    assert found(shard, match("x")) == []
    assert found(shard, match("x"), required=0, sources=("_id", "_match_0", "_score")) == [
        ("a", False, 0.0),
        ("b", False, 0.0),
    ]
    shard.write(insert({"c": (1, "x")}))
    shard.refresh()
    assert found(shard, match("x")) == ["c"]
    assert found(shard, match("x"), required=0, limit=3) == ["c", "a", "b"]
    assert found(shard, match(".", ("zero_terms_query", "all"))) == ["a", "b", "c"]
    shard.optimize(max_num_segments=1)
    assert found(shard, match("x")) == ["c"]


def test_fields_keep_their_numbers_when_columns_come_and_go(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, {"a": "x"})
    n, t = shard.definition.columns
    later = msgspec.structs.replace(t, oid=3, name="u")
    shard.update_definition(msgspec.structs.replace(shard.definition, columns=(n, later), version=2))
    rows = pa.RecordBatch.from_arrays([pa.array(["x y"])], names=["c3"])
    shard.write(WriteBatch(kind="insert", ids=["b"], rows=rows, primary_term=1))
    shard.refresh()
    assert found(shard, match("x", source="c3")) == ["b"]
    assert found(shard, match("y", source="c3")) == ["b"]
    shard.optimize(max_num_segments=1)
    assert found(shard, match("x", source="c3")) == ["b"]
    assert shard.text_view_failure is None


@pytest.mark.parametrize("seed", range(6))
def test_a_shard_finds_what_reading_every_row_finds(tmp_path: Path, seed: int) -> None:
    """Random inserts, updates, deletes, refreshes, merges and reopens against a dumb twin."""
    chance = random.Random(seed)
    vocabulary = ["x", "y", "z", "won't", "3.14", "é", "漢", "a.b", "X-y", "_u"]
    truth: dict[str, str | None] = {}
    visible: dict[str, str | None] = {}
    definition = fulltext()
    shard = open_shard(tmp_path / "s", definition=definition)
    for _ in range(120):
        match chance.randrange(12):
            case 0 | 1 | 2 | 3 | 4:
                ids = chance.sample(range(60), chance.randint(1, 8))
                batch: dict[str, tuple[Any, ...]] = {}
                for number in ids:
                    text = (
                        None if chance.random() < 0.1 else " ".join(chance.choices(vocabulary, k=chance.randint(0, 6)))
                    )
                    batch[f"i{number}"] = (number, text)
                    truth[f"i{number}"] = text
                shard.write(insert(batch, kind="index"))
            case 5 | 6:
                gone = list(chance.sample(sorted(truth), min(len(truth), 3)))
                if gone:
                    shard.write(delete(*gone))
                for row_id in gone:
                    del truth[row_id]
            case 7 | 8:
                shard.refresh()
                visible = dict(truth)
            case 9:
                while shard.merge():
                    pass
            case 10 if chance.random() < 0.3:
                shard.optimize(max_num_segments=1)
                visible = dict(truth)
            case 11 if chance.random() < 0.5:
                shard.flush()
                shard.close()
                shard = open_shard(tmp_path / "s", definition=definition, create=False)
                visible = dict(truth)
            case _:
                pass
        _compare(shard, visible, chance.choice(vocabulary), chance.choice(vocabulary))
    assert shard.text_view_failure is None
    shard.close()
    assert not list((tmp_path / "s").glob("view/*"))


def _compare(shard: Shard, rows: dict[str, str | None], one: str, two: str) -> None:
    split = {row_id: set(words(text)) for row_id, text in rows.items()}
    wanted, other = set(words(one)), set(words(two))
    some = {row_id for row_id, tokens in split.items() if tokens & wanted}
    every = {row_id for row_id, tokens in split.items() if wanted | other <= tokens}
    assert set(found(shard, match(one))) == some
    assert set(found(shard, match(f"{one} {two}", ("operator", "and")))) == every
    best = found(shard, match(one), sources=("_id", "_score"), limit=4)
    scores = dict(found(shard, match(one), sources=("_id", "_score")))
    assert [row_id for row_id, _ in best] == sorted(scores, key=lambda row_id: -scores[row_id])[:4]
    flags = found(shard, match(one), match(two), required=0, sources=("_id", "_match_1"))
    assert dict(flags) == {row_id: bool(tokens & other) for row_id, tokens in split.items()}


def test_texts_too_long_for_a_term_are_found_by_their_beginning(tmp_path: Path) -> None:
    long = "ab " + "x" * 70_000
    plain = IndexDefinition(oid=3, name="p", columns=("t",), method="plain")
    shard = shard_of(tmp_path, {"a": long, "b": long + "y", "c": "ab", "d": "b"}, indexes=[plain])
    assert found(shard, PrefixQuery(source="c3", prefix="ab")) == ["a", "b", "c"]
    assert found(shard, PrefixQuery(source="c3", prefix="ab x")) == ["a", "b"]
    assert found(shard, TermsQuery(source="c3", values=(long[:16_150],))) == []
    assert found(shard, MatchQuery(sources=(IndexedSource("c3"),), text=long + "y")) == ["b"]
