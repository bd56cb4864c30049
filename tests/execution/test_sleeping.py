"""pg_sleep waits in trio."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from cratepy.errors import JobKilled
from cratepy.execution.sleeping import Sleeps
from cratepy.model.expressions import Call, Column, Expression, Literal, Parameter
from cratepy.model.plan import Phase, QueryPlan
from cratepy.model.relations import Filter, Item, Project, Values, output_columns
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE
from tests.execution.fakes import Node, nodes, scan, statement, wait_until


def sleep(seconds: Expression) -> Call:
    return Call("pg_sleep", (seconds,), BOOLEAN)


def plan(*sleeps: Call) -> QueryPlan:
    items = tuple(Item(10 + i, "s", call) for i, call in enumerate(sleeps))
    relation = Project(Values(rows=((),), columns=()), items)
    phase = Phase(id=0, nodes=("n1",), relation=relation, output=None)
    return QueryPlan(phases=(phase,), columns=output_columns(relation))


def test_constant_sleeps_add_up_wherever_they_stand() -> None:
    sleeps = Sleeps()
    context = statement("n1", parameters=(2.5,))
    one = plan(sleep(Literal(1.0, DOUBLE)), sleep(Parameter(0, DOUBLE)), sleep(Literal(None, DOUBLE)))
    assert sleeps.seconds(one, context) == 3.5
    assert sleeps.seconds(one, statement("n1", parameters=(0.0,))) == 1.0
    phase = Phase(id=0, nodes=("n1",), relation=Filter(scan(), sleep(Literal(2.0, DOUBLE))), output=None)
    assert sleeps.seconds(QueryPlan(phases=(phase,), columns=()), context) == 2.0


def test_negative_times_and_columns_do_not_wait() -> None:
    sleeps = Sleeps()
    assert sleeps.seconds(plan(sleep(Literal(-5.0, DOUBLE))), statement("n1")) == 0
    assert sleeps.seconds(plan(sleep(Column(1, "a", DOUBLE))), statement("n1")) == 0
    assert sleeps.seconds(plan(Call("f", (Literal(1, BIGINT),), BIGINT)), statement("n1")) == 0


def test_a_sleeping_statement_is_listed_and_can_be_killed(tmp_path: Path) -> None:
    async def kill_when_listed(node: Node) -> None:
        await wait_until(lambda: bool(node.jobs.jobs()))
        node.jobs.kill(None, user="crate", except_job_id="")

    async def main() -> None:
        with trio.fail_after(10):
            async with nodes(1, tmp_path) as (node,), trio.open_nursery() as nursery:
                nursery.start_soon(kill_when_listed, node)
                with pytest.raises(JobKilled):
                    await node.query(plan(sleep(Literal(1e6, DOUBLE))))
                assert node.is_idle

    trio.run(main)
