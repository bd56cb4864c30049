"""Queries over several nodes in one process: rows, order of stages, errors, and every way to stop one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trio
import trio.testing

from cratepy import limits
from cratepy.errors import (
    CardinalityViolation,
    InternalError,
    JobKilled,
    NodeUnavailable,
    RowDivisionByZero,
    StaleRouting,
    StatementTimeout,
)
from cratepy.execution.messages import RunPlan
from cratepy.execution.runs import Run, Unroutable
from cratepy.model.expressions import Column, Literal, SortKey
from cratepy.model.plan import Broadcast, Gather, HashPartition, Phase, QueryPlan, SubPlan
from cratepy.model.relations import ExchangeInput, Item, Limit, Project, ScanColumn, Sort, SystemScan
from cratepy.model.types import BIGINT
from tests.execution import fakes
from tests.execution.fakes import COLUMN, TABLE, TABLE_UUID, FakeShard, Node, drain, gathered, local, nodes, wait_until

IDS = ["n1", "n2", "n3"]
#: A relation that is no mere passing on: the engine has to see all rows before it starts.
SORTED_INPUT = Sort(ExchangeInput(0, (COLUMN,)), (SortKey(Column(1, "a", BIGINT)),))


def run(
    test: Callable[[list[Node]], Awaitable[None]], tmp_path: Path, *, count: int = 3, rows: int = 10, **options: Any
) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            async with nodes(count, tmp_path, **options) as made:
                for i, node in enumerate(made):
                    node.store.add(FakeShard(TABLE_UUID, i, range(i * rows, (i + 1) * rows), batch_rows=1_000))
                await test(made)

    trio.run(main)


def waiting_plan() -> QueryPlan:
    return gathered(IDS, "n1", last=SORTED_INPUT)


async def all_idle(made: list[Node]) -> None:
    await wait_until(lambda: all(node.is_idle for node in made))


def test_rows_of_all_nodes_reach_the_handler(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        result = await made[0].query(gathered(IDS, "n1"))
        assert sorted(await drain(result)) == list(range(30))
        assert result.rowcount == 30
        await all_idle(made)
        assert made[0].ends == [(None, 30)]

    run(test, tmp_path)


def test_any_node_can_be_the_handler_also_one_without_shards(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        assert sorted(await drain(await made[2].query(gathered(["n1", "n2"], "n3")))) == list(range(20))
        await all_idle(made)

    run(test, tmp_path)


def test_hash_partitions_meet_on_one_node_and_only_there(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        plan = QueryPlan(
            phases=(
                fakes.scan_phase(IDS, HashPartition(1, (1,))),
                Phase(id=1, nodes=tuple(IDS), relation=SORTED_INPUT, output=Gather(2)),
                Phase(id=2, nodes=("n2",), relation=ExchangeInput(1, (COLUMN,)), output=None),
            ),
            columns=(COLUMN,),
        )
        assert sorted(await drain(await made[1].query(plan))) == list(range(30))
        await all_idle(made)

    run(test, tmp_path)


def test_broadcast_rows_are_on_every_receiving_node(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        plan = QueryPlan(
            phases=(
                fakes.scan_phase(["n1", "n2"], Broadcast(1)),
                Phase(id=1, nodes=tuple(IDS), relation=SORTED_INPUT, output=Gather(2)),
                Phase(id=2, nodes=("n1",), relation=ExchangeInput(1, (COLUMN,)), output=None),
            ),
            columns=(COLUMN,),
        )
        assert sorted(await drain(await made[0].query(plan))) == sorted(list(range(20)) * 3)
        await all_idle(made)

    run(test, tmp_path)


def test_an_input_larger_than_memory_goes_through_a_file(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        result = await made[0].query(waiting_plan())
        assert sorted(await drain(result)) == list(range(15_000))
        await all_idle(made)

    run(test, tmp_path, rows=5_000, exchange_memory_bytes=10_000)
    assert list((tmp_path / "n1").iterdir()) == [], "the file never has a name"


def test_a_limit_stops_the_producers_early(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        relation = Limit(ExchangeInput(0, (COLUMN,)), Literal(10, BIGINT), Literal(5, BIGINT))
        result = await made[0].query(gathered(IDS, "n1", last=relation))
        assert len(await drain(result)) == 10
        await all_idle(made)
        assert all(node.engine.given < 100 for node in made), "nobody read all of its 1,000 batches"

    run(test, tmp_path, rows=1_000_000)


def test_projected_columns_are_picked_and_renamed_on_the_way(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        item = Item(9, "b", Column(1, "a", BIGINT))
        result = await made[0].query(gathered(IDS, "n1", last=Project(ExchangeInput(0, (COLUMN,)), (item,))))
        batch = await result.receive()
        assert batch is not None
        assert batch.schema.names == ["c9"]
        await result.aclose()
        await all_idle(made)

    run(test, tmp_path)


def test_the_first_rows_come_before_the_last_are_made(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        async def never() -> None:
            await trio.sleep_forever()

        made[1].engine.gate = never
        result = await made[0].query(gathered(IDS, "n1"))
        assert await result.receive() is not None
        await result.aclose()
        await all_idle(made)

    run(test, tmp_path)


def test_a_reader_that_stops_reading_stops_all_producers(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        result = await made[0].query(gathered(IDS, "n1"))
        for _ in range(5):
            await result.receive()
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = [node.engine.given for node in made]
        assert sum(before) < 60, "credits and two batches ahead, not the table"
        await result.aclose()
        await all_idle(made)

    run(test, tmp_path, rows=1_000_000)


def test_an_error_of_one_node_is_the_statements_error(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        async def fail() -> None:
            raise RowDivisionByZero("/ by zero")

        made[2].engine.gate = fail
        with pytest.raises(RowDivisionByZero, match="/ by zero"):
            await drain(await made[0].query(waiting_plan()))
        await all_idle(made)
        assert [str(error) for error, _ in made[0].ends] == ["/ by zero"]
        assert made[0].jobs.jobs_log()[-1].error == "/ by zero"

    run(test, tmp_path)


def test_a_bug_is_logged_and_answered_with_the_job_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(made: list[Node]) -> None:
        async def fail() -> None:
            raise KeyError("secret")

        made[1].engine.gate = fail
        with pytest.raises(InternalError) as caught:
            await drain(await made[0].query(waiting_plan()))
        job_id = made[0].jobs.jobs_log()[-1].job.id
        assert job_id in caught.value.message
        assert "secret" not in caught.value.message
        assert "secret" in caplog.text
        await all_idle(made)

    run(test, tmp_path)


# --- stopping --------------------------------------------------------------------------------------------------------


async def stuck_query(made: list[Node], outcome: list[BaseException], **options: Any) -> None:
    async def never() -> None:
        await trio.sleep_forever()

    for node in made[1:]:
        node.engine.gate = never
    try:
        await made[0].query(waiting_plan(), **options)
    except Exception as error:
        outcome.append(error)


def test_kill_ends_the_statement_on_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            job = made[0].jobs.jobs()[0]
            assert made[0].jobs.kill(job.id, user="crate", except_job_id="") == 1
        assert isinstance(outcome[0], JobKilled)
        assert "KILL invoked by user: crate" in str(outcome[0])
        await all_idle(made)

    run(test, tmp_path)


def test_a_cancel_request_ends_the_statement_with_its_reason(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            assert made[0].jobs.cancel(made[0].jobs.jobs()[0].id, JobKilled("canceling statement due to user request"))
        assert str(outcome[0]) == "canceling statement due to user request"
        await all_idle(made)

    run(test, tmp_path)


def test_statement_timeout_ends_the_statement_on_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        await stuck_query(made, outcome, timeout_s=0.05)
        assert isinstance(outcome[0], StatementTimeout)
        assert str(outcome[0]) == "Job killed. statement_timeout (50ms)"
        await all_idle(made)

    run(test, tmp_path)


def test_a_cancelled_caller_ends_the_statement_on_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            nursery.cancel_scope.cancel()
        assert outcome == []
        await all_idle(made)

    run(test, tmp_path)


def test_a_reader_cancelled_while_it_waits_for_rows_ends_the_statement(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        async def never() -> None:
            await trio.sleep_forever()

        made[1].engine.gate = never
        result = await made[0].query(gathered(IDS, "n1"))
        with trio.move_on_after(0.1):
            await drain(result)
        await all_idle(made)

    run(test, tmp_path)


def test_a_short_query_in_the_callers_task_can_be_killed_too(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []

        async def never() -> None:
            await trio.sleep_forever()

        async def short() -> None:
            with pytest.raises(JobKilled):
                await made[0].query(local("n1"))
            outcome.append(JobKilled(""))

        made[0].engine.gate = never
        async with trio.open_nursery() as nursery:
            nursery.start_soon(short)
            await wait_until(lambda: bool(made[0].jobs.operations()))
            made[0].jobs.kill(None, user="crate", except_job_id="")
        assert outcome
        await all_idle(made)

    run(test, tmp_path)


def test_a_lost_node_has_a_statement_without_rows_begun_anew_and_is_named(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            made[2].scope.cancel()
        assert isinstance(outcome[0], Unroutable)
        assert isinstance(outcome[0].error, NodeUnavailable)
        assert "name-n3" in str(outcome[0])
        await all_idle(made[:2])

    run(test, tmp_path)


def test_a_node_that_stops_says_so_and_the_statement_is_begun_anew(tmp_path: Path) -> None:
    """Its tasks end while its transport goes on: the client was told of a kill that nobody had asked for."""

    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            made[2].work.cancel()
        assert isinstance(outcome[0], Unroutable)
        assert "node [name-n3] is stopping" in str(outcome[0])
        await all_idle(made)

    run(test, tmp_path)


def test_a_node_that_stops_takes_part_in_nothing_new(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        made[2].work.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unroutable, match=r"node \[name-n3\] is stopping"):
            await made[0].query(gathered(IDS, "n1"))
        await wait_until(lambda: all(not node.jobs.operations() and len(node.runs) == 0 for node in made))

    run(test, tmp_path)


def test_rows_of_system_tables_wait_for_those_of_all_nodes(tmp_path: Path) -> None:
    """So that the loss of one does not fail a statement that can do without it."""
    columns = (ScanColumn(1, "a", BIGINT, "a"),)
    plan = QueryPlan(
        phases=(
            Phase(id=0, nodes=tuple(IDS), relation=SystemScan(table=TABLE, columns=columns), output=Gather(1)),
            Phase(id=1, nodes=("n1",), relation=ExchangeInput(0, (COLUMN,)), output=None),
        ),
        columns=(COLUMN,),
    )

    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []

        async def never() -> None:
            await trio.sleep_forever()

        async def ask() -> None:
            with pytest.raises(Unroutable) as raised:
                await made[0].query(plan)
            outcome.append(raised.value)

        made[2].engine.gate = never
        made[2].start_job()  # a row of its own: a phase without any is answered without the engine
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_until(lambda: bool(made[2].engine.opened) and not made[1].jobs.operations())
            await wait_until(lambda: [entry.name for entry in made[0].jobs.operations()] == ["merge"])
            made[2].scope.cancel()
        assert "name-n3" in str(outcome[0])

    run(test, tmp_path)


def test_a_node_that_has_given_all_its_rows_may_go(tmp_path: Path) -> None:
    """The handler still computes: it needs nobody for that."""

    async def test(made: list[Node]) -> None:
        may_go_on = trio.Event()

        async def wait_before_the_last_phase() -> None:
            if isinstance(made[0].engine.opened[-1], Sort):
                await may_go_on.wait()

        rows: list[Any] = []

        async def ask() -> None:
            rows.extend(await drain(await made[0].query(waiting_plan())))

        made[0].engine.gate = wait_before_the_last_phase
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_until(lambda: any(isinstance(relation, Sort) for relation in made[0].engine.opened))
            made[2].scope.cancel()
            await wait_until(lambda: not made[0].transport.connected("n3"))
            may_go_on.set()
        assert sorted(rows) == list(range(30))

    run(test, tmp_path)


def test_a_complete_answer_is_not_failed_by_what_comes_after_it() -> None:
    plan = RunPlan(phases=(), context=fakes.statement("n1"))
    done = Run(id="1", handler_id="n1", plan=plan, shards={})
    done.answer()
    done.fail(NodeUnavailable("gone"))
    assert done.error is None
    assert done.scope.cancel_called


def test_a_lost_handler_ends_its_work_on_the_other_nodes(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            made[0].scope.cancel()
            await all_idle(made[1:])
        assert isinstance(outcome[0], JobKilled)

    run(test, tmp_path)


def test_a_cancellation_that_overtakes_the_start_leaves_nothing_running(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        job, _ = made[0].start_job()
        run_id = f"{job.entry.id}/0"
        made[1].runs.stop(run_id)
        assert made[1].runs.is_dead(run_id)

        async def never() -> None:
            await trio.sleep_forever()

        made[1].engine.gate = never
        with trio.move_on_after(0.1):
            await made[0].queries.query(
                job, gathered(["n2"], "n1"), fakes.statement("n1"), state_version=0, on_end=lambda e, n: None
            )
        assert made[1].is_idle

    run(test, tmp_path)


# --- routing ---------------------------------------------------------------------------------------------------------


def test_a_shard_that_is_not_there_is_stale_routing_before_any_row(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        made[2].store.opened.clear()
        with pytest.raises(StaleRouting, match=r"shard \[table-1\]\[2\] is not available on node \[name-n3\]"):
            await made[0].query(gathered(IDS, "n1"))
        await all_idle_but_job(made)

    async def all_idle_but_job(made: list[Node]) -> None:
        await wait_until(lambda: all(not node.jobs.operations() and len(node.runs) == 0 for node in made))

    run(test, tmp_path)


def test_a_node_that_is_not_connected_is_stale_routing(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        made[2].scope.cancel()
        await wait_until(lambda: not made[0].transport.connected("n3"))
        with pytest.raises(StaleRouting, match="name-n3"):
            await made[0].query(gathered(IDS, "n1"))

    run(test, tmp_path)


# --- subqueries ------------------------------------------------------------------------------------------------------


def subplan(kind: str, plan: QueryPlan) -> SubPlan:
    return SubPlan(slot=0, kind=kind, plan=plan)


def one_row(plan_rows: int, node: str = "n1") -> QueryPlan:
    relation = Limit(ExchangeInput(0, (COLUMN,)), Literal(plan_rows, BIGINT))
    return gathered(["n1"], node, last=relation)


@pytest.mark.parametrize(
    ("kind", "rows", "value"),
    [
        ("scalar", 1, 0),
        ("scalar", 0, None),
        ("exists", 2, True),
        ("exists", 0, False),
        ("any", 3, [0, 1, 2]),
        ("array", 2, [0, 1]),
    ],
)
def test_a_subquery_runs_first_and_its_value_travels_with_the_statement(
    tmp_path: Path, kind: str, rows: int, value: Any
) -> None:
    async def test(made: list[Node]) -> None:
        seen: list[Any] = []
        inner = made[0].engine.run_small

        async def spy(relation: Any, inputs: Any, context: Any) -> Any:
            seen.append(context.subquery_values)
            return await inner(relation, inputs, context)

        made[0].engine.run_small = spy  # type: ignore[method-assign]
        await drain(await made[0].query(local("n1", subplans=(subplan(kind, one_row(rows)),))))
        assert seen[-1] == (value,)
        await all_idle(made)

    run(test, tmp_path)


def test_a_scalar_subquery_with_two_rows_is_refused(tmp_path: Path) -> None:
    async def test(made: list[Node]) -> None:
        with pytest.raises(CardinalityViolation, match="more than 1 row"):
            await made[0].query(local("n1", subplans=(subplan("scalar", one_row(2)),)))
        await all_idle(made)

    run(test, tmp_path)


# --- volume ----------------------------------------------------------------------------------------------------------


def test_a_million_rows_between_two_nodes_need_no_memory(tmp_path: Path) -> None:
    """The reader sees every row while at most a handful of batches is alive (STREAM_CREDITS on the way, two ahead)."""

    async def test(made: list[Node]) -> None:
        result = await made[0].query(gathered(["n2"], "n1"))
        baseline, peak, rows = pa.total_allocated_bytes(), 0, 0
        while (batch := await result.receive()) is not None:
            rows += batch.num_rows
            peak = max(peak, pa.total_allocated_bytes() - baseline)
        assert rows == 1_000_000
        assert peak < 4 * limits.MIB
        await all_idle(made)

    run(test, tmp_path, rows=1_000_000, count=2)


def test_a_node_that_cannot_reach_the_handler_does_not_leave_it_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection to the handler breaks while it works: word of its failure cannot be sent, so the handler asks."""
    monkeypatch.setattr(limits, "RUN_WATCH_S", 0.05)

    async def test(made: list[Node]) -> None:
        outcome: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck_query, made, outcome)
            await wait_until(lambda: all(node.jobs.operations() for node in made))
            monkeypatch.setattr(made[2].cluster.transport, "notify", lambda *_: False)
            for run in list(made[2].queries._runs._runs.values()):
                run.fail(NodeUnavailable("no way to the handler"))
        assert "no way to the handler" in str(outcome[0])
        await all_idle(made)

    run(test, tmp_path)
