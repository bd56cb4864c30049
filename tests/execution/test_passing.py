"""Last phases that only pass rows on."""

from __future__ import annotations

import pyarrow as pa
import pytest
import trio

from cratepy.errors import BadRequest
from cratepy.execution.passing import Passer, limit_values, passing
from cratepy.model.expressions import Call, Column, Literal, Parameter, SortKey
from cratepy.model.relations import ExchangeInput, Filter, Item, Limit, OutputColumn, Project, Relation, Sort
from cratepy.model.types import BIGINT, BOOLEAN, TEXT
from tests.execution.fakes import statement

A, B = OutputColumn(1, "a", BIGINT), OutputColumn(2, "b", TEXT)
INPUT = ExchangeInput(0, (A, B))
COL_A, COL_B = Column(1, "a", BIGINT), Column(2, "b", TEXT)


def limited(child: Relation, count: int | None, offset: int | None = None) -> Limit:
    return Limit(
        child,
        None if count is None else Literal(count, BIGINT),
        None if offset is None else Literal(offset, BIGINT),
    )


def passed(relation: Relation, sizes: list[int]) -> tuple[list[dict[str, object]], int]:
    """(the rows given, how many batches were taken before no more were wanted)."""
    plan = passing(relation)
    assert plan is not None
    out: list[dict[str, object]] = []
    taken = 0

    async def deliver(batch: pa.RecordBatch) -> bool:
        out.extend(batch.to_pylist())
        return True

    async def main() -> None:
        nonlocal taken
        passer = Passer(plan, statement("n1"), deliver)
        first = 0
        for size in sizes:
            if not passer.wants_rows:
                return
            values = range(first, first + size)
            batch = pa.record_batch([pa.array(values), pa.array([str(v) for v in values])], names=["c1", "c2"])
            first += size
            taken += 1
            if not await passer.give(batch):
                return

    trio.run(main)
    return out, taken


@pytest.mark.parametrize(
    "relation",
    [
        Sort(INPUT, (SortKey(COL_A),)),
        Filter(INPUT, Call("op_>", (COL_A, Literal(1, BIGINT)), BOOLEAN)),
        Project(INPUT, (Item(5, "x", Call("op_+", (COL_A, COL_A), BIGINT)),)),
        limited(limited(INPUT, 5), 3),
    ],
)
def test_whatever_computes_is_no_passing_on(relation: Relation) -> None:
    assert passing(relation) is None


def test_columns_are_renamed_reordered_repeated_and_dropped() -> None:
    inner = Project(INPUT, (Item(7, "b", COL_B), Item(1, "a", COL_A)))
    relation = Project(inner, (Item(9, "x", Column(7, "b", TEXT)), Item(10, "y", Column(7, "b", TEXT))))
    assert passed(relation, [2]) == ([{"c9": "0", "c10": "0"}, {"c9": "1", "c10": "1"}], 1)


@pytest.mark.parametrize(
    ("count", "offset", "rows", "batches"),
    [
        (3, None, [0, 1, 2], 1),
        (4, 3, [3, 4, 5, 6], 2),
        (5, 5, [5, 6, 7, 8, 9], 2),
        (None, 13, [13, 14], 3),
        (0, None, [], 0),
        (100, None, list(range(15)), 3),
        (2, 100, [], 3),
    ],
)
def test_limit_and_offset_count_over_batches(
    count: int | None, offset: int | None, rows: list[int], batches: int
) -> None:
    given, taken = passed(limited(INPUT, count, offset), [5, 5, 5])
    assert [row["c1"] for row in given] == rows
    assert taken == batches


def test_a_limit_may_be_a_parameter_and_null_is_none() -> None:
    limit = Limit(INPUT, Parameter(0, BIGINT), Parameter(1, BIGINT))
    assert limit_values(limit, statement("n1", parameters=(3, 1))) == (1, 3)
    assert limit_values(limit, statement("n1", parameters=(None, None))) == (0, None)
    with pytest.raises(BadRequest, match="LIMIT"):
        limit_values(limit, statement("n1", parameters=(-1, 0)))
