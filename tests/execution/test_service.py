"""Statements from front door to storage: real cluster services and stores, three nodes in one process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from cratepy import limits
from cratepy.errors import CrateError, JobKilled, RelationAlreadyExists, ShardUnavailable, SQLParseError
from cratepy.execution.service import ExecutionService
from cratepy.model.commands import AlterTableSettings, CreateTable, DropTable
from cratepy.model.expressions import Literal
from cratepy.model.plan import (
    CommandPlan,
    CompiledStatement,
    CountPlan,
    ExplainPlan,
    Gather,
    InsertPlan,
    KillPlan,
    NoOperationPlan,
    Phase,
    QueryPlan,
    RefreshPlan,
    ShardSource,
    ShowPlan,
    StatementContext,
)
from cratepy.model.relations import ExchangeInput, OutputColumn
from cratepy.model.types import TEXT
from tests.execution.fakes import (
    COLUMN,
    TABLE,
    TABLE_UUID,
    FakeEngine,
    Server,
    compiled_statement,
    drain,
    scan,
    servers,
    statement,
    table_definition,
    wait_until,
)

CREATE = CommandPlan(command=CreateTable(definition=table_definition(shards=4)))


def run(test: Callable[[list[Server]], Awaitable[None]], tmp_path: Path, *, count: int = 3) -> None:
    async def main() -> None:
        with trio.fail_after(40):
            async with servers(count, tmp_path, engine=lambda path: FakeEngine()) as made:
                await test(made)

    trio.run(main)


def insert(values: list[int]) -> InsertPlan:
    return InsertPlan(table_uuid=TABLE_UUID, table=TABLE, targets=("a",), columns_data=(values,))


def select_all(server: Server) -> QueryPlan:
    """What the planner makes of SELECT a FROM t."""
    routing = server.cluster.state.tables[TABLE_UUID].routing
    sources: dict[str, list[int]] = {}
    for shard in routing:
        assert shard.primary is not None
        assert shard.primary.node_id is not None
        sources.setdefault(shard.primary.node_id, []).append(shard.shard)
    reading = Phase(
        id=0,
        nodes=tuple(sorted(sources)),
        relation=scan(),
        output=Gather(1),
        shards=tuple(ShardSource(node, TABLE_UUID, tuple(sources[node])) for node in sorted(sources)),
    )
    last = Phase(id=1, nodes=(server.id,), relation=ExchangeInput(0, (COLUMN,)), output=None)
    return QueryPlan(phases=(reading, last), columns=(COLUMN,), tables=(TABLE_UUID,))


def test_a_table_can_be_written_right_after_it_was_created_and_read_from_every_node(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        assert (await made[0].execute(CREATE)).rowcount == 1
        routing = made[0].cluster.state.tables[TABLE_UUID].routing
        assert all(shard.primary is not None for shard in routing)
        for server in made:
            await server.cluster.wait_for(lambda state: TABLE_UUID in state.tables, timeout_s=5)
        assert (await made[1].execute(insert(list(range(1_000))))).rowcount == 1_000
        assert (await made[2].execute(RefreshPlan(tables=(TABLE_UUID,)))).rowcount == 1
        for server in made:
            assert sorted(await drain(await server.execute(select_all(server)))) == list(range(1_000))
            count = CountPlan(table_uuid=TABLE_UUID, table=TABLE, columns=(COLUMN,))
            assert (await server.execute(count)).rows == [(1_000,)]
            assert server.execution.local_view().jobs() == ()

    run(test, tmp_path)


def test_written_rows_become_visible_without_a_refresh_statement(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert([1, 2, 3]))
        count = CountPlan(table_uuid=TABLE_UUID, table=TABLE, columns=(COLUMN,))
        with trio.fail_after(5):
            while (await made[0].execute(count)).rows != [(3,)]:  # noqa: ASYNC110 - refreshing has no event
                await trio.sleep(0.05)

    run(test, tmp_path, count=1)


def test_row_counts_of_ddl_say_whether_something_changed(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        create_again = CreateTable(definition=table_definition("other"), if_not_exists=True)
        alter = AlterTableSettings(name=TABLE, settings={"refresh_interval": 500})
        drop = DropTable(name=TABLE, if_exists=True)
        counts = [(await made[0].execute(CREATE)).rowcount]
        with pytest.raises(RelationAlreadyExists):
            await made[0].execute(CommandPlan(command=CreateTable(definition=table_definition("other"))))
        counts += [(await made[0].execute(CommandPlan(command=c))).rowcount for c in (create_again, alter, drop, drop)]
        assert counts == [1, 0, -1, 1, 0]
        await wait_until(lambda: made[0].store.table_uuids_on_disk() == [])

    run(test, tmp_path, count=1)


def test_a_dropped_tables_files_are_gone_on_all_nodes(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        assert sum(len(server.store.shards()) for server in made) == 4
        await made[1].execute(CommandPlan(command=DropTable(name=TABLE)))
        await wait_until(lambda: all(server.store.table_uuids_on_disk() == [] for server in made))

    run(test, tmp_path)


def never_ending(server: Server) -> None:
    async def never() -> None:
        await trio.sleep_forever()

    engine = server.execution._parts.engine
    engine.gate = never  # type: ignore[attr-defined]


async def killed(server: Server, plan: QueryPlan, outcome: list[str]) -> None:
    try:
        await drain(await server.execute(plan, session_id=9))
    except JobKilled as error:
        outcome.append(str(error))


def test_kill_from_another_node_finds_the_statement_by_its_id(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert(list(range(100))))
        await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
        for server in made:
            never_ending(server)
        outcome: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(killed, made[0], select_all(made[0]), outcome)
            await wait_until(lambda: any(job.session_id == 9 for job in made[0].execution.local_view().jobs()))
            job = made[0].execution.local_view().jobs()[0]
            await wait_until(lambda: bool(made[1].execution.local_view().operations()))
            result = await made[2].execute(KillPlan(job_id=Literal(job.id, TEXT)))
            assert result.rowcount == 1
        assert outcome == ["Job killed. KILL invoked by user: crate"]
        assert (await made[2].execute(KillPlan(job_id=None))).rowcount == 0
        await wait_until(lambda: not any(server.execution.local_view().operations() for server in made))

    run(test, tmp_path)


def test_kill_of_something_that_is_no_job_id_is_refused(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        with pytest.raises(SQLParseError, match="Can not parse job ID: 'nosuch'"):
            await made[0].execute(KillPlan(job_id=Literal("nosuch", TEXT)))
        assert made[0].execution.local_view().jobs() == ()

    run(test, tmp_path, count=1)


def test_cancel_stops_a_statement_by_its_id(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert(list(range(100))))
        await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
        never_ending(made[0])
        outcome: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(killed, made[0], select_all(made[0]), outcome)
            await wait_until(lambda: bool(made[0].execution.local_view().jobs()))
            assert made[0].execution.cancel(made[0].execution.local_view().jobs()[0].id, JobKilled("by request"))
        assert outcome == ["by request"]
        assert not made[0].execution.cancel("nosuch")

    run(test, tmp_path, count=1)


def test_stale_routing_is_compiled_again_and_repeated(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert([5, 6]))
        await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
        right = select_all(made[0])
        wrong = QueryPlan(
            phases=(
                Phase(
                    id=0,
                    nodes=(made[0].id,),
                    relation=scan(),
                    output=None,
                    shards=(ShardSource(made[0].id, "gone", (0,)),),
                ),
            ),
            columns=(COLUMN,),
        )
        asked: list[CompiledStatement] = []

        def recompile(compiled: CompiledStatement, context: StatementContext) -> CompiledStatement:
            asked.append(compiled)
            return compiled_statement(right, made[0].cluster.state.version)

        made[0].execution.recompile = recompile
        stale = compiled_statement(wrong, 0)
        result = await made[0].execution.execute(stale, statement(made[0].id), timeout_s=None)
        assert sorted(await drain(result)) == [5, 6]
        assert asked == [stale]

    run(test, tmp_path, count=1)


def test_stale_routing_without_a_newer_state_names_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROUTING_WAIT_S", 0.1)

    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        for shard in range(4):
            made[0].store.close_shard(TABLE_UUID, shard)
        with pytest.raises(ShardUnavailable, match=r"shard \[doc.t\]\[0\] is not available on node \[name0\]"):
            await made[0].execute(select_all(made[0]))
        assert made[0].execution.local_view().jobs() == ()

    run(test, tmp_path, count=1)


def test_explain_analyze_runs_the_plan(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert([5, 6]))
        await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
        columns = (OutputColumn(1, "QUERY PLAN", TEXT),)
        plan = ExplainPlan(lines=(("Scan doc.t",),), analyze=select_all(made[0]))
        rows = (await made[0].execute(plan, columns=columns)).rows
        assert rows is not None
        assert rows[0] == ("Scan doc.t",)
        assert "rows=2" in rows[1][0]

    run(test, tmp_path, count=1)


def test_statements_without_effect_and_plans_of_the_session(tmp_path: Path) -> None:
    async def test(made: list[Server]) -> None:
        result = await made[0].execute(NoOperationPlan(notice="LISTEN has no effect"))
        assert result.notices == ("LISTEN has no effect",)
        with pytest.raises(CrateError, match="internal error"):
            await made[0].execute(ShowPlan(name="x"))

    run(test, tmp_path, count=1)


def test_rows_survive_a_restart_of_the_node(tmp_path: Path) -> None:
    async def write(made: list[Server]) -> None:
        await made[0].execute(CREATE)
        await made[0].execute(insert(list(range(50))))

    async def read(made: list[Server]) -> None:
        def is_started(state: Any) -> bool:
            return TABLE_UUID in state.tables and all(r.primary is not None for r in state.tables[TABLE_UUID].routing)

        await made[0].cluster.wait_for(is_started, timeout_s=10)
        await made[0].execute(RefreshPlan(tables=(TABLE_UUID,)))
        assert sorted(await drain(await made[0].execute(select_all(made[0])))) == list(range(50))

    run(write, tmp_path, count=1)
    run(read, tmp_path, count=1)


def test_the_service_is_built_from_its_parts() -> None:
    assert ExecutionService.__init__.__annotations__["recompile"] == "Recompile | None"
