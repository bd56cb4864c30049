"""What functions make of a batch of rows has a bound: smaller batches below it, an error above it, and nothing left behind."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio

from cratepy import limits
from cratepy.errors import CircuitBreaking
from cratepy.execution.engine.constants import constant_values, fold
from cratepy.execution.engine.engine import Engine, _typed_stream
from cratepy.execution.engine.inputs import FragmentInput, rows_input
from cratepy.model.expressions import Column, Expression
from cratepy.model.relations import Aggregation, ExchangeInput, OutputColumn, Project, Relation
from cratepy.model.types import INTEGER, TEXT, array_of
from tests.execution.engine.tables import CONTEXT, aggregate, call, item, lit

COLUMNS = (OutputColumn(1, "n", INTEGER),)
N = Column(1, "n", INTEGER)


def given(counts: list[int]) -> FragmentInput:
    return rows_input(COLUMNS, [(count,) for count in counts])


def repeated(text: str = "x") -> Expression:
    return call("repeat", lit(text, TEXT), N, result=TEXT)


def longest() -> Relation:
    length = call("length", repeated(), result=INTEGER)
    items = (item(3, aggregate("max", length, result=INTEGER)), item(4, aggregate("count")))
    return Aggregation(ExchangeInput(0, COLUMNS), (), items)


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KERNEL_BATCH_BYTES_MAX", 1024 * 1024)


def streamed(engine: Engine, relation: Relation, counts: list[int]) -> list[Any]:
    async def main() -> list[Any]:
        found: list[Any] = []
        async with engine.open(relation, [given(counts)], CONTEXT) as stream:
            while (received := await stream.receive()) is not None:
                found.extend(tuple(row.values()) for row in received[1].to_pylist())
        return found

    return trio.run(main)


def at_once(engine: Engine, relation: Relation, counts: list[int]) -> list[Any]:
    batches = trio.run(engine.run_small, relation, [given(counts)], CONTEXT)
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("length", [1_000, 100_000])
def test_rows_of_long_texts_are_taken_in_smaller_batches(engine: Engine, length: int) -> None:
    """8,192 rows of 1 kB are too much at once, 128 are not; of 100 kB there may be four."""
    counts = [length - number % 7 for number in range(2_000 if length == 1_000 else 150)]
    for run in (streamed, at_once):
        assert run(engine, longest(), counts) == [(length, len(counts))]


def test_one_text_above_the_bound_is_an_error_that_names_it(engine: Engine) -> None:
    for run in (streamed, at_once):
        with pytest.raises(CircuitBreaking, match=r"^Allocating memory for job job failed: .* limit of 1048576 bytes"):
            run(engine, longest(), [5, 2_000_000, 5])


def test_a_few_rows_computed_without_the_engine_have_the_same_bound(engine: Engine) -> None:
    (batch,) = given([600_000, 600_000]).partitions[0]
    with pytest.raises(CircuitBreaking, match="limit of 1048576 bytes"):
        engine.evaluate((item(2, repeated()),), batch, CONTEXT)
    (batch,) = given([500_000, 500_000]).partitions[0]
    assert engine.evaluate((item(2, repeated()),), batch, CONTEXT).num_rows == 2


def test_a_failed_fragment_leaves_no_memory_behind(engine: Engine) -> None:
    """Its stream holds what it has of the engine's pool: as long as it is there, others have nothing."""
    collected = item(3, aggregate("array_agg", repeated(), result=array_of(TEXT)))
    relation = Aggregation(ExchangeInput(0, COLUMNS), (), (collected,))
    engine.prepare()
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(CircuitBreaking):
            streamed(engine, relation, [1_000] * 100_000)
        assert not [one for one in gc.get_objects() if isinstance(one, _typed_stream)]
    finally:
        gc.enable()


def test_large_constants_are_not_kept_in_plans() -> None:
    small = call("repeat", lit("x", TEXT), lit(100), result=TEXT)
    large = call("repeat", lit("x", TEXT), lit(1_000_000), result=TEXT)
    length = call("length", large, result=INTEGER)
    assert fold([small, large, length]) == [lit("x" * 100, TEXT), large, lit(1_000_000)]


def test_constants_of_a_statement_have_a_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESULT_ROW_BYTES_MAX", 500_000)
    texts = [call("repeat", lit("x", TEXT), lit(100_000 + number), result=TEXT) for number in range(6)]
    assert [len(value) for value in constant_values(texts[:4], CONTEXT)] == [100_000, 100_001, 100_002, 100_003]
    with pytest.raises(CircuitBreaking, match="limit of 500000 bytes"):
        constant_values(texts, CONTEXT)
    project = Project(ExchangeInput(0, COLUMNS), tuple(item(10 + i, text) for i, text in enumerate(texts)))
    for run in (streamed, at_once):
        with pytest.raises(CircuitBreaking, match="limit of 500000 bytes"):
            run(engine, project, [1, 2])
