"""Whatever a fragment is doing, leaving its scope frees the CPU.

Each test opens a fragment that would run for minutes, lets it run for a moment of the process's CPU time, leaves the scope,
allows a tenth of a second of settling and then measures the CPU time the process spends while nothing is asked of it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import trio

from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.model.arrow import arrow_schema
from cratepy.model.expressions import Aggregate, Call, Cast, Column, Expression, Literal, OuterColumn, SortKey, Window
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Item,
    Join,
    OutputColumn,
    Project,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Sort,
    TableFunction,
    Values,
    WindowCalculation,
)
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, TEXT

#: What the process may burn in a quarter of a second once the fragment has been left.
IDLE_CPU_S_MAX = 0.05
WATCHED_S = 0.25
#: Looks until then: the fragments here would take hours, so that a machine with other work is no reason to be strict.
LOOKS_MAX = 20
ROWS = 400_000
CONTEXT = StatementContext(job_id="job", handler_id="node", user="crate", text="", now_ms=0)


def column(number: int) -> Column:
    return Column(number, f"x{number}", BIGINT)


def leaf(first: int) -> ExchangeInput:
    """Two columns: unique numbers, and numbers below ten."""
    return ExchangeInput(0, (OutputColumn(first, "x", BIGINT), OutputColumn(first + 1, "y", BIGINT)))


def rows_of(relation: ExchangeInput, count: int = ROWS) -> FragmentInput:
    numbers = np.random.default_rng(seed=1).permutation(count)
    arrays = [pa.array(numbers), pa.array(numbers % 10)]
    batches = pa.Table.from_arrays(arrays, schema=arrow_schema(relation.columns)).to_batches(max_chunksize=65_536)
    return FragmentInput(relation.columns, [batches])


def counted(relation: Relation) -> Relation:
    return Aggregation(relation, (), (Item(99, "count", Aggregate("count", (), BIGINT)),))


def call(name: str, *arguments: Expression) -> Call:
    return Call(name, arguments, BOOLEAN)


LEFT, RIGHT = leaf(1), leaf(3)
SERIES = TableFunction(
    function="generate_series",
    arguments=(Literal(1, BIGINT), Literal(10**13, BIGINT)),
    columns=(OutputColumn(50, "g", BIGINT),),
)
ENDLESS = RecursiveQuery(
    name="r",
    base=Values(rows=((Literal(1, BIGINT),),), columns=(OutputColumn(60, "n", BIGINT),)),
    step=Project(
        RecursiveReference("r", (OutputColumn(61, "n", BIGINT),)),
        (Item(62, "n", Call("op_%", (Column(61, "n", BIGINT), Literal(7, BIGINT)), BIGINT)),),
    ),
    columns=(OutputColumn(63, "n", BIGINT),),
)
CROSS = Join("cross", LEFT, RIGHT, None)
SUM = Call("op_+", (column(1), column(3)), BIGINT)


def text_of(column_id: int) -> Cast:
    return Cast(column(column_id), TEXT)


FRAGMENTS: dict[str, Relation] = {
    "cross join": counted(CROSS),
    "cross join filtered above": counted(
        Filter(CROSS, call("op_<", Call("op_/", (column(1), Literal(3, BIGINT)), BIGINT), column(3)))
    ),
    "nested loop join": counted(Join("inner", LEFT, RIGHT, call("op_<", column(1), column(3)))),
    "left nested loop join": counted(Join("left", LEFT, RIGHT, call("op_<", column(1), column(3)))),
    "anti nested loop join": counted(
        Join("anti", LEFT, RIGHT, call("op_=", Call("op_+", (column(1), column(3)), BIGINT), Literal(-1, BIGINT)))
    ),
    "full nested loop join": counted(Join("full", LEFT, RIGHT, call("op_>", column(1), column(3)))),
    "many-to-many hash join": counted(Join("inner", LEFT, RIGHT, call("op_=", column(2), column(4)))),
    "many-to-many hash join with a condition": counted(
        Join(
            "inner",
            LEFT,
            RIGHT,
            call("op_and", call("op_=", column(2), column(4)), call("op_<", column(1), column(3))),
        )
    ),
    "many-to-many left join": counted(Join("left", LEFT, RIGHT, call("op_=", column(2), column(4)))),
    "rows of a join nobody reads": Join("inner", LEFT, RIGHT, call("op_=", column(2), column(4))),
    "three-way cross join": counted(Join("cross", CROSS, leaf(5), None)),
    "three-way cross join with a condition over all": counted(
        Join("inner", CROSS, leaf(5), call("op_=", Call("op_+", (SUM, column(5)), BIGINT), Literal(-1, BIGINT)))
    ),
    "nested loops in nested loops": counted(
        Join(
            "inner",
            Join("inner", LEFT, RIGHT, call("op_>", Call("op_*", (column(1), Literal(7, BIGINT)), BIGINT), column(3))),
            leaf(5),
            call("op_>", column(5), SUM),
        )
    ),
    "many-to-many joins in a row": counted(
        Join(
            "inner",
            Join("inner", LEFT, RIGHT, call("op_=", column(2), column(4))),
            leaf(5),
            call("op_and", call("op_=", column(4), column(6)), call("op_<>", column(5), column(1))),
        )
    ),
    "costly condition of a nested loop": counted(
        Join(
            "inner",
            LEFT,
            RIGHT,
            call("op_like", Call("op_||", (text_of(1), text_of(3)), TEXT), Literal("%zz%z", TEXT)),
        )
    ),
    "aggregation of a cross join": Aggregation(
        CROSS, (Item(90, "k", column(2)),), (Item(91, "s", Aggregate("sum", (column(3),), BIGINT)),)
    ),
    "sort of a cross join": Sort(CROSS, (SortKey(column(3)),)),
    "window over a cross join": counted(
        WindowCalculation(
            CROSS, (Item(92, "w", Window("row_number", (), BIGINT, (column(2),), (SortKey(column(3)),))),)
        )
    ),
    "series": counted(SERIES),
    "filtered series": Filter(SERIES, call("op_<", Column(50, "g", BIGINT), Literal(0, BIGINT))),
    "distinct series": counted(Aggregation(SERIES, (Item(93, "g", Column(50, "g", BIGINT)),), ())),
    "series nobody reads": SERIES,
    "recursion": counted(ENDLESS),
    "kernel of a constant over a series": counted(
        Filter(
            SERIES,
            call("op_=", Call("md5", (Call("chr", (Literal(65, BIGINT),), TEXT),), TEXT), Literal("", TEXT)),
        )
    ),
    "correlated subquery": counted(
        Filter(
            Apply(
                kind="exists",
                left=LEFT,
                right=Filter(
                    RIGHT,
                    call(
                        "op_=",
                        Call(
                            "op_%",
                            (
                                Call("op_+", (column(3), OuterColumn(1, "x", BIGINT)), BIGINT),
                                Literal(1_000_003, BIGINT),
                            ),
                            BIGINT,
                        ),
                        Literal(1_000_002, BIGINT),
                    ),
                ),
                id=94,
                name="e",
            ),
            Column(94, "e", BOOLEAN),
        )
    ),
    "numbers through a row kernel": counted(
        Filter(
            SERIES,
            call("op_>", Call("ln", (Call("sqrt", (Column(50, "g", DOUBLE),), DOUBLE),), DOUBLE), Literal(1e9, DOUBLE)),
        )
    ),
}


#: So few rows that joins are checked at their sides; these take long all the same.
SMALL_ROWS = 30_000
LONG_EVEN_IF_SMALL = (
    "three-way cross join",
    "three-way cross join with a condition over all",
    "nested loops in nested loops",
    "many-to-many joins in a row",
    "costly condition of a nested loop",
)


def inputs_of(relation: Relation, rows: int = ROWS) -> list[FragmentInput]:
    from cratepy.model.relations import children

    if isinstance(relation, ExchangeInput):
        return [rows_of(relation, rows)]
    return [given for child in children(relation) for given in inputs_of(child, rows)]


async def burn(seconds: float) -> None:
    """Let the engine work until the process has used the CPU time, or for as long in real time."""
    used, started = time.process_time(), trio.current_time()
    while time.process_time() - used < seconds and trio.current_time() - started < seconds:  # noqa: ASYNC110 (CPU time has no event)
        await trio.sleep(0.01)


async def becomes_idle() -> bool:
    """Whether the process stops burning CPU time."""
    for _ in range(LOOKS_MAX):
        before = time.process_time()
        await trio.sleep(WATCHED_S)
        if time.process_time() - before < IDLE_CPU_S_MAX:
            return True
    return False


@pytest.mark.parametrize(
    ("name", "rows"), [(name, ROWS) for name in FRAGMENTS] + [(name, SMALL_ROWS) for name in LONG_EVEN_IF_SMALL]
)
def test_leaving_the_scope_frees_the_cpu(name: str, rows: int, tmp_path: Path) -> None:
    engine = Engine(memory_bytes=256 * 1024 * 1024, spill_path=tmp_path, partitions=2)
    relation = FRAGMENTS[name]
    inputs = inputs_of(relation, rows)

    async def main() -> bool:
        async with engine.open(relation, inputs, CONTEXT):
            await burn(0.3)
        return await becomes_idle()

    assert trio.run(main)
    engine.close()


def test_a_result_nobody_reads_stops_the_engine(tmp_path: Path) -> None:
    engine = Engine(memory_bytes=256 * 1024 * 1024, spill_path=tmp_path, partitions=2)

    async def main() -> bool:
        async with engine.open(SERIES, [], CONTEXT) as stream:
            assert await stream.receive() is not None
            await burn(0.3)
            return await becomes_idle()

    assert trio.run(main)
    engine.close()


def test_cancelling_a_short_query_lets_its_thread_end(tmp_path: Path) -> None:
    engine = Engine(memory_bytes=256 * 1024 * 1024, spill_path=tmp_path, partitions=2)
    relation = counted(Join("inner", LEFT, RIGHT, call("op_=", column(2), column(4))))
    inputs = inputs_of(relation)

    async def main() -> bool:
        with trio.move_on_after(0.3):
            await engine.run_small(relation, inputs, CONTEXT)
        return await becomes_idle()

    assert trio.run(main)
    engine.close()
