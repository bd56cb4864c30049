"""Writes reach primaries on other nodes, wait out stale routing, and are never executed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from cratepy import limits
from cratepy.errors import OutcomeUnknown, ShardUnavailable
from cratepy.execution.writes.requests import WRITE
from cratepy.model.expressions import Column
from cratepy.model.plan import ConflictAction, CountPlan, DeletePlan, GetPlan, RefreshPlan, UpdatePlan
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.state import ClusterState
from cratepy.model.types import BIGINT, INTEGER, TEXT
from tests.execution.writes.fakes import (
    NAME,
    Cluster,
    call,
    context,
    error_of,
    literal,
    open_cluster,
    parameters_plan,
    values_plan,
)

IDENTITY = (
    OutputColumn(901, "_id", TEXT),
    OutputColumn(902, "_seq_no", BIGINT),
    OutputColumn(903, "_primary_term", BIGINT),
)
SOURCES = ("_id", "_seq_no", "_primary_term")


def get_plan(*keys: int) -> GetPlan:
    return GetPlan(
        table_uuid="table-1",
        table=NAME,
        keys=tuple((literal(key, INTEGER),) for key in keys),
        sources=("c1", "c2", "c3"),
        columns=(OutputColumn(1, "id", INTEGER), OutputColumn(2, "a", TEXT), OutputColumn(3, "n", BIGINT)),
    )


def find(key: int) -> GetPlan:
    return GetPlan(
        table_uuid="table-1", table=NAME, keys=((literal(key, INTEGER),),), sources=SOURCES, columns=IDENTITY
    )


def increment(key: int) -> UpdatePlan:
    value = call("op_+", BIGINT, Column(3, "n", BIGINT), literal(1, BIGINT))
    return UpdatePlan(table_uuid="table-1", table=NAME, find=find(key), assignments=(Item(1, "n", value),))


async def fill(cluster: Cluster, count: int) -> None:
    plan = values_plan([(i, f"v{i}", i) for i in range(count)], cluster.definition)
    assert (await cluster.first.writes.insert(plan, context())).rowcount == count


def test_rows_go_to_the_nodes_of_their_shards_and_are_read_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=3, owners=("n1", "n2", "n3")) as cluster:
            await fill(cluster, 60)
            assert {node for node, action, _ in cluster.first.transport.requests if action == WRITE} == {"n2", "n3"}
            for node in cluster.nodes:
                result = await node.lookups.get(get_plan(*range(60)), context())
                assert result.rows == [(i, f"v{i}", i) for i in range(60)]
            count = CountPlan(table_uuid=cluster.uuid, table=NAME, columns=(OutputColumn(1, "count(*)", BIGINT),))
            assert (await cluster.nodes[1].lookups.count(count, context())).rows == [(0,)]
            refreshed = await cluster.first.writes.refresh(RefreshPlan(tables=(cluster.uuid,)), context())
            assert refreshed.rowcount == 1
            assert (await cluster.nodes[1].lookups.count(count, context())).rows == [(60,)]

    trio.run(main)


def test_updates_and_deletes_work_on_rows_of_other_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster, 5)
            assert (await cluster.first.writes.update(increment(3), context())).rowcount == 1
            delete = DeletePlan(table_uuid=cluster.uuid, table=NAME, find=find(4))
            assert (await cluster.first.writes.delete(delete, context())).rowcount == 1
            assert (await cluster.first.writes.delete(delete, context())).rowcount == 0
            assert cluster.rows() == [(0, "v0", 0), (1, "v1", 1), (2, "v2", 2), (3, "v3", 4)]

    trio.run(main)


def test_a_lost_reply_is_asked_for_again_and_not_executed_again(tmp_path: Path) -> None:
    """Without operation ids the repeat would find its own row: a duplicate."""

    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            for key, fault in enumerate(["no_reply", "late", "lost"]):
                cluster.first.transport.faults = [fault]
                plan = parameters_plan(cluster.definition, ["id", "a", "n"])
                assert (await cluster.first.writes.insert(plan, context(key, "x", 0))).rowcount == 1
            writes = [request for _, action, request in cluster.first.transport.requests if action == WRITE]
            assert len(writes) == 6
            assert len({request.op_id for request in writes}) == 3
            assert cluster.rows() == [(0, "x", 0), (1, "x", 0), (2, "x", 0)]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_a_duplicate_is_answered_from_memory_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster, 1)
            cluster.first.transport.faults = ["no_reply"]
            plan = values_plan([(0, "y", 1), (7, "z", 1)], cluster.definition, conflict=ConflictAction())
            assert (await cluster.first.writes.insert(plan, context())).rowcount == 1
            assert cluster.rows() == [(0, "v0", 0), (7, "z", 1)]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_the_outcome_is_unknown_if_the_process_that_got_the_write_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            node = cluster.shared.state.nodes["n2"]
            restarted = msgspec.structs.replace(node, ephemeral_id="n2-2")

            class Restarting(list[str]):
                def pop(self, index: Any = -1) -> str:
                    nodes = {**cluster.shared.state.nodes, "n2": restarted}
                    cluster.shared.publish(msgspec.structs.replace(cluster.shared.state, nodes=nodes))
                    return super().pop(index)

            cluster.first.transport.faults = Restarting(["no_reply"])
            error = await error_of(
                cluster.first.writes.insert(values_plan([(1, "x", 1)], cluster.definition), context())
            )
            assert isinstance(error, OutcomeUnknown)
            assert len([r for r in cluster.first.transport.requests if r[1] == WRITE]) == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def _without_n2(cluster: Cluster) -> ClusterState:
    state = cluster.shared.state
    table = state.tables[cluster.uuid]
    routing = tuple(
        msgspec.structs.replace(
            shard,
            copies=tuple(
                msgspec.structs.replace(copy, state="unassigned", node_id=None, last_node_id="n2")
                for copy in shard.copies
            ),
        )
        for shard in table.routing
    )
    nodes = {node_id: node for node_id, node in state.nodes.items() if node_id != "n2"}
    return msgspec.structs.replace(
        state, nodes=nodes, tables={cluster.uuid: msgspec.structs.replace(table, routing=routing)}
    )


def test_the_outcome_is_unknown_as_soon_as_the_node_that_got_the_write_is_gone(tmp_path: Path) -> None:
    """Whether it comes back or not: no other process can know. It was waited for a minute."""

    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:

            class Leaving(list[str]):
                def pop(self, index: Any = -1) -> str:
                    cluster.shared.publish(_without_n2(cluster))
                    return super().pop(index)

            cluster.first.transport.faults = Leaving(["no_reply"])
            plan = values_plan([(1, "x", 1)], cluster.definition)
            started = trio.current_time()
            assert isinstance(await error_of(cluster.first.writes.insert(plan, context())), OutcomeUnknown)
            assert trio.current_time() - started < 2, "of simulated time"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_reads_of_a_lost_shard_fail_at_once_and_name_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster, 3)
            cluster.shared.publish(_without_n2(cluster))
            count = CountPlan(table_uuid=cluster.uuid, table=NAME, columns=(OutputColumn(1, "count(*)", BIGINT),))
            started = trio.current_time()
            for read in (
                cluster.first.lookups.get(get_plan(1), context()),
                cluster.first.lookups.count(count, context()),
            ):
                error = await error_of(read)
                assert isinstance(error, ShardUnavailable)
                assert error.message.startswith("[doc.t][")
            assert trio.current_time() == started, "of simulated time"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_reads_wait_for_a_shard_that_is_being_opened(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster, 3)
            await cluster.first.writes.refresh(RefreshPlan(tables=(cluster.uuid,)), context())
            started = cluster.shared.state
            table = started.tables[cluster.uuid]
            routing = tuple(
                msgspec.structs.replace(
                    shard, copies=tuple(msgspec.structs.replace(copy, state="initializing") for copy in shard.copies)
                )
                for shard in table.routing
            )
            opening = msgspec.structs.replace(
                started, tables={cluster.uuid: msgspec.structs.replace(table, routing=routing)}
            )
            count = CountPlan(table_uuid=cluster.uuid, table=NAME, columns=(OutputColumn(1, "count(*)", BIGINT),))
            cluster.shared.publish(opening)

            async def start_later() -> None:
                for _ in range(3 * limits.ROUTING_RETRIES_MAX):  # news of other tables is no reason to give up
                    await trio.sleep(0.1)
                    cluster.shared.publish(cluster.shared.state)
                cluster.shared.publish(started)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(start_later)
                assert (await cluster.first.lookups.get(get_plan(1), context())).rows == [(1, "v1", 1)]
            cluster.shared.publish(opening)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(start_later)
                assert (await cluster.first.lookups.count(count, context())).rows == [(3,)]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_a_forgotten_operation_is_not_executed_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "WRITE_OPERATIONS_REMEMBERED", 1)

    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            second = cluster.nodes[1]
            request_type, handler = second.transport.handlers[WRITE]
            plan = values_plan([(1, "x", 1)], cluster.definition)
            await cluster.first.writes.insert(plan, context())
            old = cluster.first.transport.requests[-1][2]
            await cluster.first.writes.insert(values_plan([(2, "x", 1)], cluster.definition), context())
            second.clock.advance(1)
            repeat = msgspec.structs.replace(old, sent_ms_ago=5_000)
            assert (await handler("n1", repeat)).status == "unknown"
            assert request_type is type(old)

    trio.run(main)


def test_writes_wait_for_a_primary_that_moves(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            started = cluster.shared.state
            table = started.tables[cluster.uuid]
            waiting = tuple(
                msgspec.structs.replace(
                    routing, copies=tuple(msgspec.structs.replace(c, state="initializing") for c in routing.copies)
                )
                for routing in table.routing
            )
            cluster.shared.publish(
                msgspec.structs.replace(started, tables={cluster.uuid: msgspec.structs.replace(table, routing=waiting)})
            )

            async def start_later() -> None:
                await trio.sleep(5)
                cluster.shared.publish(msgspec.structs.replace(cluster.shared.state, tables=started.tables))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(start_later)
                await fill(cluster, 3)
            assert len(cluster.rows()) == 3

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_a_primary_that_does_not_come_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "WRITE_RETRY_TIMEOUT_S", 0.0)
    monkeypatch.setattr(limits, "ROUTING_RETRIES_MAX", 1)

    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            table = cluster.shared.state.tables[cluster.uuid]
            gone = tuple(msgspec.structs.replace(routing, copies=()) for routing in table.routing)
            cluster.shared.publish(
                msgspec.structs.replace(
                    cluster.shared.state, tables={cluster.uuid: msgspec.structs.replace(table, routing=gone)}
                )
            )
            error = await error_of(
                cluster.first.writes.insert(values_plan([(1, "x", 1)], cluster.definition), context())
            )
            assert isinstance(error, ShardUnavailable)
            assert "doc.t" in error.message
            assert isinstance(await error_of(cluster.first.lookups.get(get_plan(1), context())), ShardUnavailable)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.5))


def test_increments_from_two_nodes_are_all_counted(tmp_path: Path) -> None:
    """The optimistic loop: no update of the other node is overwritten."""

    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster, 1)

            async def add(node: Any) -> None:
                for _ in range(10):
                    assert (await node.writes.update(increment(0), context())).rowcount == 1

            async with trio.open_nursery() as nursery:
                for node in cluster.nodes:
                    nursery.start_soon(add, node)
                    nursery.start_soon(add, node)
            assert cluster.rows() == [(0, "v0", 40)]

    trio.run(main)


def test_a_failed_shard_is_an_error_of_its_rows(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            for shard in cluster.first.store.shards():
                shard.fail("disk gone")
            error = await error_of(
                cluster.first.writes.insert(values_plan([(1, "x", 1)], cluster.definition), context())
            )
            assert error.code == 5002
            assert "disk gone" in error.message

    trio.run(main)
