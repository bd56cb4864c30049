"""The best rows by score without the engine: which queries, and that the answer is the sorted one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import trio

from cratepy.clock import Clock, FakeClock
from cratepy.errors import ShardFailed
from cratepy.execution.best import BestSearch, begin_best, best_of
from cratepy.execution.cpu import Workers
from cratepy.execution.sources import LocalSources
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import Call, Column, Expression, Literal, Parameter, SortKey
from cratepy.model.names import RelationName
from cratepy.model.plan import Phase, ShardSource, StatementContext
from cratepy.model.relations import BestRows, Item, Limit, Project, Relation, Scan, ScanColumn, Sort, TextMatch
from cratepy.model.search import IndexedSource
from cratepy.model.types import BIGINT, BOOLEAN, REAL, TEXT
from cratepy.storage.operations import SearchRequest

TITLE, SCORE = Column(1, "title", TEXT), Column(2, "_score", REAL)
TEN = Literal(10, BIGINT)


class Shard:
    """Gives its best rows in the order it holds them."""

    def __init__(self, *rows: tuple[str, float]) -> None:
        self.rows = rows

    def search(self, request: SearchRequest) -> list[pa.RecordBatch]:
        rows = self.rows[: request.limit]
        if not rows:
            return []
        arrays = {
            "c1": pa.array([title for title, _ in rows], arrow_type(TEXT)),
            "_score": pa.array([score for _, score in rows], pa.float32()),
            "_match_1": pa.array([True for _ in rows]),
        }
        return [pa.record_batch({source: arrays[source] for source in request.sources})]

    def best(self, request: SearchRequest) -> list[tuple[Any, ...]]:
        values = [
            dict(zip(batch.schema.names, row, strict=True)) for batch in self.search(request) for row in _rows(batch)
        ]
        return [tuple(row[source] for source in request.sources) for row in values]


def _rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def scan(*, with_ties: bool = False) -> Scan:
    match = TextMatch(
        source="_match_0",
        name="",
        columns=(IndexedSource("c1"),),
        text=Literal("x", TEXT),
        kind="best_fields",
        is_required=True,
    )
    return Scan(
        table_uuid="u",
        table=RelationName("doc", "t"),
        columns=(ScanColumn(1, "title", TEXT, "c1"), ScanColumn(2, "_score", REAL, "_score")),
        matches=(match,),
        best=BestRows(count=TEN, with_ties=with_ties),
    )


def query(count: Expression = TEN, offset: Expression | None = None, source: Scan | None = None) -> Limit:
    return Limit(Sort(scan() if source is None else source, (SortKey(SCORE, is_descending=True),)), count, offset)


class LateClock(FakeClock):
    """Every look at it is a second later."""

    def monotonic(self) -> float:
        self.advance(1)
        return super().monotonic()


def begun(
    relation: Relation, *shards: Shard, parameters: tuple[object, ...] = (), clock: Clock | None = None
) -> BestSearch | None:
    plan = best_of(relation)
    assert plan is not None
    source = ShardSource("n", "u", tuple(range(len(shards))))
    phase = Phase(id=0, nodes=("n",), relation=relation, output=None, shards=(source,))
    context = StatementContext(job_id="j", handler_id="n", user="crate", text="", now_ms=0, parameters=parameters)
    opened: Any = {("u", number): shard for number, shard in enumerate(shards)}
    nothing: Any = None
    sources = LocalSources(node_id="n", shards=opened, system_tables=nothing, view=nothing)
    return begin_best(plan, phase, context, sources, FakeClock() if clock is None else clock)


def rows(relation: Relation, *shards: Shard, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]] | None:
    search = begun(relation, *shards, parameters=parameters)
    if search is None:
        return None
    search.read_quick()
    assert not search.rest
    return search.rows()


def titles(relation: Relation, *shards: Shard, parameters: tuple[object, ...] = ()) -> list[object]:
    found = rows(relation, *shards, parameters=parameters)
    assert found is not None
    return [row[0] for row in found]


SHARDS = (Shard(("a", 3.0), ("b", 1.0)), Shard(("c", 2.0), ("d", 0.5)), Shard())


@pytest.mark.parametrize(
    ("count", "offset", "expected"),
    [(10, None, "acbd"), (2, None, "ac"), (2, 1, "cb"), (0, None, ""), (5, 9, ""), (1, None, "a")],
)
def test_rows_of_all_shards_are_merged_by_score(count: int, offset: int | None, expected: str) -> None:
    skipped = None if offset is None else Literal(offset, BIGINT)
    assert titles(query(Literal(count, BIGINT), skipped), *SHARDS) == list(expected)


def test_counts_may_be_parameters() -> None:
    relation = query(Parameter(0, BIGINT), Parameter(1, BIGINT))
    assert titles(relation, *SHARDS, parameters=(2, 1)) == ["c", "b"]
    assert titles(relation, *SHARDS, parameters=(2, None)) == ["a", "c"]


def test_rows_that_are_not_in_order_are_sorted() -> None:
    assert titles(query(), Shard(("a", 1.0), ("b", 2.0))) == ["b", "a"]


def test_a_projection_picks_columns() -> None:
    relation = Project(query(), (Item(3, "s", SCORE), Item(1, "title", TITLE), Item(4, "again", TITLE)))
    assert rows(relation, *SHARDS)[:1] == [(3.0, "a", "a")]  # type: ignore[index]


@pytest.mark.parametrize(
    "relation",
    [
        Project(query(), (Item(3, "upper", Call("upper", (TITLE,), TEXT)),)),
        query(source=scan(with_ties=True)),
        Limit(Sort(scan(), (SortKey(SCORE, is_descending=True), SortKey(TITLE))), TEN),
        Sort(scan(), (SortKey(SCORE, is_descending=True),)),
        scan(),
    ],
)
def test_what_computes_or_orders_more_is_for_the_engine(relation: Relation) -> None:
    assert best_of(relation) is None


def test_a_row_that_several_matches_find_is_given_once() -> None:
    flags = (ScanColumn(5, "m0", BOOLEAN, "_match_0"), ScanColumn(6, "m1", BOOLEAN, "_match_1"))
    condition = Call("op_or", (Column(5, "m0", BOOLEAN), Column(6, "m1", BOOLEAN)), BOOLEAN)
    plain = scan()
    source = Scan(
        table_uuid="u",
        table=plain.table,
        columns=(*plain.columns, *flags),
        filter=condition,
        any_of=("_match_0", "_match_1"),
        best=plain.best,
        matches=tuple(
            TextMatch(source=f"_match_{i}", name="", columns=(), text=Literal("x", TEXT), kind="best_fields")
            for i in range(2)
        ),
    )
    relation = Project(query(source=source), (Item(1, "title", TITLE),))
    assert titles(relation, *SHARDS) == ["a", "c", "b", "d"]


@pytest.mark.parametrize("count", [-1, None, 300])
def test_odd_counts_and_many_rows_are_for_the_engine(count: int | None) -> None:
    assert rows(query(Parameter(0, BIGINT)), *SHARDS, parameters=(count,)) is None


def test_shards_of_a_slow_search_are_read_by_several_threads_with_the_same_answer() -> None:
    expected = rows(query(), *SHARDS, *SHARDS)

    async def run() -> list[tuple[object, ...]]:
        search = begun(query(), *SHARDS, *SHARDS, clock=LateClock())
        assert search is not None
        search.read_quick()
        assert len(search.rest) == 5
        return await search.finish(Workers(compute_threads=2))

    assert trio.run(run) == expected


def test_a_shard_that_fails_fails_the_slow_search() -> None:
    class Broken(Shard):
        def best(self, request: SearchRequest) -> list[tuple[Any, ...]]:
            raise ShardFailed("it is broken")

    async def run() -> None:
        search = begun(query(), SHARDS[0], Broken(), SHARDS[1], clock=LateClock())
        assert search is not None
        search.read_quick()
        await search.finish(Workers(compute_threads=2))

    with pytest.raises(ShardFailed, match="it is broken"):
        trio.run(run)
