"""Hand-made plans through the real engine: two- and three-step aggregation over nodes, and engine work that is stopped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cratepy.errors import JobKilled, StatementTimeout
from cratepy.execution.engine.engine import Engine
from cratepy.execution.results import Result
from cratepy.limits import MIB
from cratepy.model.arrow import from_arrow
from cratepy.model.commands import AddColumns, CreateTable
from cratepy.model.expressions import Aggregate, Call, Column, Expression, Literal, SortKey
from cratepy.model.plan import (
    CommandPlan,
    Gather,
    HashPartition,
    InsertPlan,
    Output,
    Phase,
    QueryPlan,
    RefreshPlan,
    ShardSource,
)
from cratepy.model.relations import (
    Aggregation,
    ExchangeInput,
    Item,
    Join,
    Limit,
    OutputColumn,
    Project,
    Relation,
    Scan,
    ScanColumn,
    Sort,
    output_columns,
)
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import BIGINT, BOOLEAN
from tests.execution.fakes import TABLE, TABLE_UUID, Server, scan, servers, table_definition, wait_until

ROWS = 20_000
A = Column(1, "a", BIGINT)
OTHER = Scan(table_uuid=TABLE_UUID, table=TABLE, columns=(ScanColumn(11, "a", BIGINT, "c1"),))
#: Pairs of all rows with all rows: hours of work.
ENDLESS_JOINS = {
    "cross": Join("cross", scan(), OTHER, None),
    "nested loop": Join("inner", scan(), OTHER, Call("op_<", (A, Column(11, "a", BIGINT)), BOOLEAN)),
}


def run(test: Callable[[list[Server]], Awaitable[None]], tmp_path: Path, *, count: int, rows: int = ROWS) -> None:
    def engine(path: Path) -> Engine:
        return Engine(memory_bytes=256 * MIB, spill_path=path, partitions=2)

    async def main() -> None:
        with trio.fail_after(60):
            async with servers(count, tmp_path, engine=engine) as made:
                await made[0].execute(CommandPlan(command=CreateTable(definition=table_definition(shards=6))))
                for first in range(0, rows, 50_000):
                    values = list(range(first, min(rows, first + 50_000)))
                    plan = InsertPlan(table_uuid=TABLE_UUID, table=TABLE, targets=("a",), columns_data=(values,))
                    await made[0].execute(plan)
                await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
                await test(made)

    trio.run(main)


def reading(server: Server, relation: Relation, output: Output | None) -> Phase:
    """Phase 0: every node reads its shards."""
    sources: dict[str, list[int]] = {}
    for routing in server.cluster.state.tables[TABLE_UUID].routing:
        assert routing.primary is not None
        assert routing.primary.node_id is not None
        sources.setdefault(routing.primary.node_id, []).append(routing.shard)
    shards = tuple(ShardSource(node, TABLE_UUID, tuple(sources[node])) for node in sorted(sources))
    return Phase(id=0, nodes=tuple(sorted(sources)), relation=relation, output=output, shards=shards)


def query(*phases: Phase) -> QueryPlan:
    return QueryPlan(phases=phases, columns=output_columns(phases[-1].relation))


def gathered(server: Server, relation: Relation) -> QueryPlan:
    last = ExchangeInput(0, output_columns(relation))
    return query(reading(server, relation, Gather(1)), Phase(id=1, nodes=(server.id,), relation=last, output=None))


def count_item(id: int) -> Item:
    return Item(id, "n", Aggregate("count", (), BIGINT))


def partial() -> Aggregation:
    """count(*) by a % 7, each node for itself: columns #2 and #3."""
    modulo = Call("op_%", (A, Literal(7, BIGINT)), BIGINT)
    return Aggregation(Project(scan(), (Item(2, "g", modulo),)), (key_item(),), (count_item(3),))


def key_item() -> Item:
    return Item(2, "g", Column(2, "g", BIGINT))


def merged(below: Relation) -> Aggregation:
    """The partial counts added up: columns #2 and #4."""
    total = Aggregate("sum", (Column(3, "n", BIGINT),), BIGINT)
    return Aggregation(below, (key_item(),), (Item(4, "n", total),))


def by_key(below: Relation) -> Sort:
    return Sort(below, (SortKey(Column(2, "g", BIGINT)),))


async def rows_of(result: Result) -> list[tuple[object, ...]]:
    assert result.columns is not None
    if result.rows is not None:
        return result.rows
    rows: list[tuple[object, ...]] = []
    while (batch := await result.receive()) is not None:
        columns = [from_arrow(batch.column(i), column.type) for i, column in enumerate(result.columns)]
        rows.extend(zip(*columns, strict=True))
    return rows


EXPECTED = sorted(Counter(value % 7 for value in range(ROWS)).items())


def test_groups_are_counted_in_two_steps(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        inner = partial()
        last = by_key(merged(ExchangeInput(0, output_columns(inner))))
        for server in made:
            plan = query(reading(server, inner, Gather(1)), Phase(id=1, nodes=(server.id,), relation=last, output=None))
            assert await rows_of(await server.execute(plan)) == EXPECTED

    run(test, tmp_path, count=2)


def test_groups_are_counted_in_three_steps_by_the_node_of_their_hash(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        inner = partial()
        middle = merged(ExchangeInput(0, output_columns(inner)))
        last = by_key(ExchangeInput(1, output_columns(middle)))
        plan = query(
            reading(made[0], inner, HashPartition(1, (2,))),
            Phase(id=1, nodes=tuple(server.id for server in made), relation=middle, output=Gather(2)),
            Phase(id=2, nodes=(made[0].id,), relation=last, output=None),
        )
        assert await rows_of(await made[0].execute(plan)) == EXPECTED

    run(test, tmp_path, count=3)


def test_a_single_node_answers_in_one_phase(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        top = Limit(by_key(partial()), Literal(2, BIGINT))
        assert await rows_of(await made[0].execute(query(reading(made[0], top, None)))) == EXPECTED[:2]
        log = made[0].execution.local_view().jobs_log()[-1]
        assert (log.job.classification, log.rowcount, log.error) == ("SELECT", 2, None)

    run(test, tmp_path, count=1)


def test_a_column_added_after_the_rows_is_null_in_them(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        added = AddColumns(table_uuid=TABLE_UUID, columns=(ColumnDefinition(oid=0, name="later", type=BIGINT),))
        await made[0].execute(CommandPlan(command=added))
        definition = made[0].cluster.state.tables[TABLE_UUID].definition.column("later")
        assert definition is not None
        column = ScanColumn(5, "later", BIGINT, f"c{definition.oid}")
        counted = Item(6, "n", Aggregate("count", (Column(5, "later", BIGINT),), BIGINT))
        wide = Scan(table_uuid=TABLE_UUID, table=TABLE, columns=(column,))
        relation = Aggregation(wide, (), (counted, count_item(7)))
        assert await rows_of(await made[0].execute(query(reading(made[0], relation, None)))) == [(0, ROWS)]

    run(test, tmp_path, count=1)


def test_rows_without_columns_are_counted(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        relation = Aggregation(Scan(table_uuid=TABLE_UUID, table=TABLE, columns=()), (), (count_item(7),))
        assert await rows_of(await made[0].execute(query(reading(made[0], relation, None)))) == [(ROWS,)]

    run(test, tmp_path, count=1)


def endless(join: str) -> Relation:
    added: Expression = Call("op_+", (A, Column(11, "a", BIGINT)), BIGINT)
    largest = Item(21, "m", Aggregate("max", (added,), BIGINT))
    return Aggregation(ENDLESS_JOINS[join], (), (count_item(20), largest))


async def is_quiet(made: list[Server]) -> None:
    """No phase is left anywhere, and the engines' threads burn nothing (less than half of one processor)."""
    await wait_until(lambda: not any(server.execution.local_view().operations() for server in made))
    await trio.sleep(0.1)
    before = time.process_time()
    await trio.sleep(0.2)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize("join", list(ENDLESS_JOINS))
def test_a_timeout_frees_the_processors_of_all_nodes(tmp_path: Path, join: str) -> None:
    async def test(made: list[Server]) -> None:
        with pytest.raises(StatementTimeout, match=r"statement_timeout \(300ms\)"):
            await rows_of(await made[0].execute(gathered(made[0], endless(join)), timeout_s=0.3))
        assert made[0].execution.local_view().jobs() == ()
        await is_quiet(made)

    run(test, tmp_path, count=2, rows=300_000)


def test_a_cancel_frees_the_processors_of_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        async def cancel() -> None:
            await wait_until(lambda: all(server.execution.local_view().operations() for server in made))
            made[0].execution.cancel(made[0].execution.local_view().jobs()[0].id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            with pytest.raises(JobKilled):
                await made[0].execute(gathered(made[0], endless("nested loop")))
        await is_quiet(made)

    run(test, tmp_path, count=2, rows=300_000)


def test_a_client_that_closes_a_result_half_way_frees_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        result = await made[0].execute(gathered(made[0], ENDLESS_JOINS["cross"]))
        assert await result.receive() is not None
        await result.aclose()
        assert made[0].execution.local_view().jobs() == ()
        await is_quiet(made)

    run(test, tmp_path, count=2, rows=50_000)


def test_columns_of_a_plan_are_what_it_gives() -> None:
    assert output_columns(merged(partial()))[1] == OutputColumn(4, "n", BIGINT)
