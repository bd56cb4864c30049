"""The best rows by score without the engine: which queries, and that the answer is the sorted one."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cratepy.execution.best import best_of, merged
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import Call, Column, Expression, Literal, Parameter, SortKey
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import BestRows, Item, Limit, Project, Relation, Scan, ScanColumn, Sort
from cratepy.model.types import BIGINT, REAL, TEXT

TITLE, SCORE = Column(1, "title", TEXT), Column(2, "_score", REAL)
TEN = Literal(10, BIGINT)


def scan(*, with_ties: bool = False) -> Scan:
    return Scan(
        table_uuid="u",
        table=RelationName("doc", "t"),
        columns=(ScanColumn(1, "title", TEXT, "c1"), ScanColumn(2, "_score", REAL, "_score")),
        best=BestRows(count=TEN, with_ties=with_ties),
    )


def query(count: Expression = TEN, offset: Expression | None = None, source: Scan | None = None) -> Limit:
    return Limit(Sort(scan() if source is None else source, (SortKey(SCORE, is_descending=True),)), count, offset)


def batch(*rows: tuple[str, float]) -> pa.RecordBatch:
    arrays = [
        pa.array([title for title, _ in rows], arrow_type(TEXT)),
        pa.array([score for _, score in rows], pa.float32()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["c1", "c2"])


def context(*parameters: object) -> StatementContext:
    return StatementContext(job_id="j", handler_id="n", user="crate", text="", now_ms=0, parameters=parameters)


def titles(relation: Relation, *batches: pa.RecordBatch, parameters: tuple[object, ...] = ()) -> list[str]:
    plan = best_of(relation)
    assert plan is not None
    answer = merged(plan, batches, context(*parameters))
    assert answer is not None
    return list(answer.column("c1").to_pylist())


SHARDS = (batch(("a", 3.0), ("b", 1.0)), batch(("c", 2.0), ("d", 0.5)), batch())


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
    assert titles(query(), batch(("a", 1.0), ("b", 2.0))) == ["b", "a"]


def test_a_projection_picks_columns() -> None:
    relation = Project(query(), (Item(3, "s", SCORE), Item(1, "title", TITLE), Item(4, "again", TITLE)))
    plan = best_of(relation)
    assert plan is not None
    answer = merged(plan, SHARDS, context())
    assert answer is not None
    assert answer.schema.names == ["c3", "c1", "c4"]
    assert answer.to_pylist()[0] == {"c3": 3.0, "c1": "a", "c4": "a"}


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


@pytest.mark.parametrize("count", [-1, None])
def test_odd_counts_and_many_rows_are_for_the_engine(count: int | None) -> None:
    plan = best_of(query(Parameter(0, BIGINT)))
    assert plan is not None
    assert merged(plan, SHARDS, context(count)) is None
    assert merged(plan, [batch(*[("x", 1.0)] * 300)], context(10)) is None
