"""Searches on the event loop: what they answer is what worker threads would, and everything that may take long is left to these."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cratepy import limits
from cratepy.clock import FakeClock
from cratepy.errors import ShardFailed
from cratepy.execution.best import begin_best, best_of
from cratepy.execution.best_now import ShortSearches
from cratepy.execution.sources import LocalSources
from cratepy.model.expressions import Column, Expression, Literal, Parameter, SortKey
from cratepy.model.plan import Phase, QueryPlan, ShardSource, StatementContext
from cratepy.model.relations import BestRows, Limit, Relation, Scan, ScanColumn, Sort, TextMatch, output_columns
from cratepy.model.search import AnalyzerDefinition, IndexedSource
from cratepy.model.types import BIGINT, REAL, TEXT
from cratepy.storage.operations import SearchRequest
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard
from tests.storage.text.texts import fulltext, match

TEN = Literal(10, BIGINT)
SCORE = Column(3, "_score", REAL)


class Store:
    """Shards of one table, by number."""

    def __init__(self, *shards: Shard) -> None:
        self.shards = shards

    def shard(self, table_uuid: str, number: int) -> Shard | None:
        return self.shards[number] if number < len(self.shards) else None


def relation(text: Expression, *, count: Expression = TEN, offset: Expression | None = None, **match: Any) -> Relation:
    scan = Scan(
        table_uuid="u",
        table=fulltext().name,
        columns=(
            ScanColumn(1, "id", TEXT, "_id"),
            ScanColumn(2, "n", BIGINT, "c1"),
            ScanColumn(3, "s", REAL, "_score"),
        ),
        matches=(
            TextMatch(
                source="_match_0",
                name="",
                columns=(IndexedSource("c2"),),
                text=text,
                kind=match.pop("kind", "best_fields"),
                is_required=True,
                **match,
            ),
        ),
        best=BestRows(count=TEN if offset is not None else count),
    )
    return Limit(Sort(scan, (SortKey(SCORE, is_descending=True),)), count, offset)


def plan_of(wanted: Relation, shards: int) -> QueryPlan:
    source = ShardSource("n", "u", tuple(range(shards)))
    phase = Phase(id=0, nodes=("n",), relation=wanted, output=None, shards=(source,))
    return QueryPlan(phases=(phase,), columns=output_columns(wanted))


def context(*parameters: object) -> StatementContext:
    return StatementContext(job_id="j", handler_id="n", user="crate", text="", now_ms=0, parameters=parameters)


def at_once(plan: QueryPlan, shards: list[Shard], *parameters: object) -> list[tuple[Any, ...]] | None:
    store: Any = Store(*shards)
    return ShortSearches(store, node_id="n").answer(plan, context(*parameters))


def on_threads(plan: QueryPlan, shards: list[Shard], *parameters: object) -> list[tuple[Any, ...]]:
    best = best_of(plan.phases[0].relation)
    assert best is not None
    opened: Any = {("u", number): shard for number, shard in enumerate(shards)}
    nothing: Any = None
    sources = LocalSources(node_id="n", shards=opened, system_tables=nothing, view=nothing)
    search = begin_best(best, plan.phases[0], context(*parameters), sources, FakeClock())
    assert search is not None
    search.read_quick()
    return search.rows()


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[list[Shard]]:
    chance = random.Random(7)
    made = []
    for number in range(3):
        shard = open_shard(tmp_path / f"{number}", definition=fulltext())
        for part in range(number + 1):
            texts = {f"{number}/{part}/{n}": " ".join(chance.choices("abcdefghij", k=4)) for n in range(60)}
            shard.write(insert({row_id: (n, text) for n, (row_id, text) in enumerate(texts.items())}))
            shard.refresh()
        shard.write(delete(*(f"{number}/0/{n}" for n in range(0, 60, 4))))
        shard.refresh()
        made.append(shard)
    yield made
    for shard in made:
        shard.close()


def test_the_rows_are_those_that_worker_threads_find(shards: list[Shard]) -> None:
    for text in ("a", "b c", "a b c d", "zz", "a z"):
        for kind, options in (("best_fields", ()), ("best_fields", (("operator", "and"),)), ("phrase", ())):
            for count, offset in ((10, None), (3, 2), (1, None), (7, 3)):
                wanted = relation(
                    Literal(text, TEXT),
                    count=Literal(count, BIGINT),
                    offset=None if offset is None else Literal(offset, BIGINT),
                    kind=kind,
                    options=options,
                )
                plan = plan_of(wanted, len(shards))
                expected = on_threads(plan, shards)
                assert at_once(plan, shards) == expected, (text, kind, options, count, offset)


def test_texts_and_counts_may_be_parameters(shards: list[Shard]) -> None:
    plan = plan_of(relation(Parameter(0, TEXT), count=Parameter(1, BIGINT)), len(shards))
    for text, count in (("a", 5), ("b c", 2), ("zz", 10)):
        expected = on_threads(plan, shards, text, count)
        assert at_once(plan, shards, text, count) == expected
    for text, count in ((None, 5), ("a", None), ("a", 0), ("a", -1), ("a", 10**6)):
        assert at_once(plan, shards, text, count) is None


def test_what_has_to_be_made_first_is_not_made_on_the_event_loop(shards: list[Shard]) -> None:
    plan = plan_of(relation(Literal("a", TEXT)), len(shards))
    assert at_once(plan, shards) is None, "the view is made by the first search"
    on_threads(plan, shards)
    assert at_once(plan, shards) is not None
    shards[1].write(insert({"new": (1, "a a a a")}))
    assert at_once(plan, shards) is not None
    shards[1].refresh()
    assert at_once(plan, shards) is None, "the view is that of the state before"
    expected = on_threads(plan, shards)
    assert expected[0][0] == "new"
    assert at_once(plan, shards) == expected


def test_a_sleeping_shard_is_woken_by_a_worker_thread(tmp_path: Path) -> None:
    clock = FakeClock()
    shard = open_shard(tmp_path / "s", definition=fulltext(), clock=clock)
    shard.write(insert({"one": (1, "a")}))
    shard.refresh()
    plan = plan_of(relation(Literal("a", TEXT)), 1)
    on_threads(plan, [shard])
    clock.advance(limits.SEARCH_IDLE_S + 1)
    found = at_once(plan, [shard])
    assert found is not None, "nothing waits to become visible"
    assert [row[0] for row in found] == ["one"]
    clock.advance(limits.SEARCH_IDLE_S + 1)
    shard.write(insert({"two": (2, "a")}))
    assert at_once(plan, [shard]) is None
    assert len(on_threads(plan, [shard])) == 2


def test_searches_that_read_much_or_cannot_be_told_are_for_threads(
    shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = plan_of(relation(Literal("a", TEXT)), len(shards))
    fuzzy = plan_of(relation(Literal("a", TEXT), options=(("fuzziness", "1"),)), len(shards))
    prefix = plan_of(relation(Literal("a", TEXT), kind="phrase_prefix"), len(shards))
    long = plan_of(relation(Literal("a " * 200, TEXT)), len(shards))
    for plan in (usual, fuzzy, prefix, long):
        assert on_threads(plan, shards)
    assert at_once(usual, shards) is not None
    assert [at_once(plan, shards) for plan in (fuzzy, prefix, long)] == [None, None, None]
    monkeypatch.setattr(limits, "SEARCH_INLINE_VALUES", 29)
    assert at_once(usual, shards) is None
    monkeypatch.undo()
    monkeypatch.setattr(limits, "SEARCH_INLINE_ENTRIES", 20)
    assert at_once(usual, shards) is None
    rare = plan_of(relation(Literal("zz", TEXT)), len(shards))
    assert at_once(rare, shards) == []


def test_compressed_columns_and_costly_analyzers_are_for_threads(tmp_path: Path) -> None:
    compressed = msgspec.structs.replace(fulltext(), settings={"codec": "best_compression"})
    costly = fulltext("own", analyzers=[AnalyzerDefinition(name="own", tokenizer="ngram")])
    for number, definition in enumerate((compressed, costly)):
        shard = open_shard(tmp_path / f"{number}", definition=definition)
        shard.write(insert({"one": (1, "a")}))
        shard.refresh()
        plan = plan_of(relation(Literal("a", TEXT)), 1)
        assert len(on_threads(plan, [shard])) == 1
        assert at_once(plan, [shard]) is None
        shard.close()


def test_damage_fails_the_copy(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    shard.write(insert({f"{n}": (n * n, "a") for n in range(300)}))
    shard.flush()
    shard.close()
    (columns,) = (tmp_path / "s").glob("seg-*/columns")
    data = bytearray(columns.read_bytes())
    data[20:] = bytes(byte ^ 1 for byte in data[20:])
    columns.write_bytes(data)
    shard = open_shard(tmp_path / "s", definition=fulltext(), create=False)
    shard.best(SearchRequest(queries=(match("a"),), required=1, sources=("_score",), limit=1))
    with pytest.raises(ShardFailed, match="damaged"):
        at_once(plan_of(relation(Literal("a", TEXT)), 1), [shard])
    with pytest.raises(ShardFailed, match="damaged"):
        shard.row_count()


def test_shards_that_are_closed_or_elsewhere_are_not_asked(shards: list[Shard]) -> None:
    plan = plan_of(relation(Literal("a", TEXT)), len(shards))
    on_threads(plan, shards)
    assert at_once(plan_of(relation(Literal("a", TEXT)), len(shards) + 1), shards) is None
    away = msgspec.structs.replace(plan.phases[0], shards=(ShardSource("other", "u", (0,)),))
    assert at_once(msgspec.structs.replace(plan, phases=(away,)), shards) is None
    shards[2].close()
    assert at_once(plan, shards) is None
