"""What a node does when the cluster state puts shards on it, changes them, or takes them away."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from cratepy import limits
from cratepy.errors import NoMaster, ShardFailed
from cratepy.execution import messages
from cratepy.execution.cpu import Workers
from cratepy.execution.messages import RunPlan
from cratepy.execution.runs import Run, RunTable
from cratepy.execution.shards import ShardKeeper, assignments
from cratepy.model import commands
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState, ShardCopy, ShardRouting, TableState
from tests.execution.fakes import TABLE_UUID, FakeCluster, FakeShard, statement, table_definition, wait_until

replace = msgspec.structs.replace


@dataclass
class RecordingStore:
    """Remembers what it was asked; fails to open what it is told to."""

    opened: list[tuple[int, str, int, bool]] = field(default_factory=list)
    definitions: list[int] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    on_disk: list[str] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)
    #: Opening these waits for the gate.
    gated: set[int] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)

    def open_shard(
        self, definition: TableDefinition, shard: int, allocation_id: str, *, primary_term: int, create: bool
    ) -> FakeShard:
        if shard in self.gated:
            assert self.gate.wait(5)
        if shard in self.failing:
            raise ShardFailed("checksum of segment 3 does not match")
        self.opened.append((shard, allocation_id, primary_term, create))
        return FakeShard(definition.uuid, shard, [])

    def update_definition(self, definition: TableDefinition) -> None:
        self.definitions.append(definition.version)

    def remove_table(self, table_uuid: str) -> None:
        self.removed.append(table_uuid)

    def close_table(self, table_uuid: str) -> None:
        self.closed.append(table_uuid)

    def table_uuids_on_disk(self) -> list[str]:
        return [uuid for uuid in self.on_disk if uuid not in self.removed]

    def table_path(self, table_uuid: str) -> Path:
        return Path(table_uuid)


@dataclass
class Bench:
    cluster: FakeCluster
    store: RecordingStore
    runs: RunTable
    keeper: ShardKeeper


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster, store, runs = FakeCluster("n1"), RecordingStore(), RunTable()
        keeper = ShardKeeper(cluster=cluster, store=store, workers=Workers(), runs=runs)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keeper.run)
                await test(Bench(cluster, store, runs, keeper))
                nursery.cancel_scope.cancel()

    trio.run(main)


def routing(shard: int, *, node: str = "n1", state: str = "initializing", in_sync: bool = False) -> ShardRouting:
    copy = ShardCopy(allocation_id=f"a{shard}", node_id=node, is_primary=True, state=state)
    return ShardRouting(shard=shard, primary_term=2, in_sync=(f"a{shard}",) if in_sync else (), copies=(copy,))


def state_of(*routings: ShardRouting, version: int = 1) -> ClusterState:
    table = TableState(table_definition(shards=len(routings), version=version), routings)
    return ClusterState(version=version, tables={TABLE_UUID: table})


def started(bench: Bench) -> list[int]:
    reports = [c for c in bench.cluster.submitted if isinstance(c, commands.ShardsStarted)]
    return sorted(copy.shard for report in reports for copy in report.copies)


def test_only_initializing_copies_of_this_node_are_opened() -> None:
    state = state_of(routing(0), routing(1, node="n2"), routing(2, state="started"))
    assert [a.shard for a in assignments(state.tables[TABLE_UUID], "n1")] == [0]


def test_a_new_copy_is_created_and_one_in_sync_must_be_on_disk() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(routing(0), routing(1, in_sync=True)))
        await wait_until(lambda: started(bench) == [0, 1])
        assert sorted(bench.store.opened) == [(0, "a0", 2, True), (1, "a1", 2, False)]

    run(test)


def test_a_copy_is_opened_once_however_many_states_come() -> None:
    async def test(bench: Bench) -> None:
        for version in range(1, 6):
            bench.cluster.apply(state_of(routing(0), version=version))
        bench.cluster.on_submit = lambda command: bench.cluster.apply(state_of(routing(0, state="started"), version=9))
        await wait_until(lambda: started(bench) == [0])
        bench.cluster.apply(state_of(routing(0, state="started"), version=10))
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.store.opened) == 1

    run(test)


def test_copies_opened_together_are_one_report() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(*[routing(shard) for shard in range(20)]))
        await wait_until(lambda: len(started(bench)) == 20)
        assert len(bench.cluster.submitted) == 1

    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SHARD_REPORT_GATHER_S", 5.0)
        run(test)


def test_a_slow_copy_does_not_keep_the_others_from_being_reported() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate = threading.Event()
        bench.store.gated = {1}
        try:
            bench.cluster.apply(state_of(routing(0), routing(1)))
            await wait_until(lambda: started(bench) == [0])
        finally:
            bench.store.gate.set()
        await wait_until(lambda: started(bench) == [0, 1])

    run(test)


def test_a_copy_that_cannot_be_opened_is_reported_with_the_reason() -> None:
    async def test(bench: Bench) -> None:
        bench.store.failing.add(0)
        bench.cluster.apply(state_of(routing(0)))
        await wait_until(lambda: bool(bench.cluster.submitted))
        command = bench.cluster.submitted[0]
        assert isinstance(command, commands.ShardFailed)
        assert command.reason == "checksum of segment 3 does not match"

    run(test)


def test_without_a_master_the_report_is_repeated_and_the_shard_stays_open(monkeypatch: object) -> None:
    async def test(bench: Bench) -> None:
        refusals = iter([True, True, False])

        def submit(command: commands.Command) -> None:
            if next(refusals):
                raise NoMaster("no master")
            bench.cluster.apply(state_of(routing(0, state="started"), version=2))

        bench.cluster.on_submit = submit
        bench.cluster.apply(state_of(routing(0)))
        await wait_until(lambda: len(bench.cluster.submitted) == 3)
        assert len(bench.store.opened) == 1

    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SHARD_RETRY_S", 0.001)
        run(test)


def test_a_changed_definition_reaches_the_store_before_the_state_is_visible() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(routing(0, state="started")))
        bench.keeper.on_state(bench.cluster.state, state_of(routing(0, state="started"), version=2))
        assert bench.store.definitions == [2]
        bench.keeper.on_state(bench.cluster.state, bench.cluster.state)
        assert bench.store.definitions == [2]

    run(test)


def test_a_dropped_table_is_removed_when_nobody_reads_it_any_more() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(routing(0, state="started")))
        plan = RunPlan(phases=(), context=statement("n1"))
        reader = Run(id="r", handler_id="n1", plan=plan, shards={(TABLE_UUID, 0): FakeShard(TABLE_UUID, 0, [])})
        bench.runs.add(reader)
        bench.cluster.apply(ClusterState(version=2, dropped=(TABLE_UUID,)))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.store.removed == []
        bench.runs.end(reader)
        await wait_until(lambda: bench.store.removed == [TABLE_UUID])

    run(test)


def test_a_table_that_is_gone_but_was_not_dropped_is_closed_and_kept() -> None:
    """A master of another line of states (peers.json, unsafe-bootstrap) may never have heard of it."""

    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(routing(0, state="started")))
        bench.cluster.apply(ClusterState(version=2, dropped=("another",)))
        await wait_until(lambda: bench.store.closed == [TABLE_UUID])
        assert bench.store.removed == []

    run(test)


def test_a_node_that_was_away_deletes_what_was_dropped_meanwhile_and_keeps_what_nobody_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(bench: Bench) -> None:
        bench.store.on_disk = ["dropped", "never heard of", TABLE_UUID]
        await trio.testing.wait_all_tasks_blocked()
        assert bench.store.removed == []  # nothing is known before the first state
        state = replace(state_of(routing(0, state="started")), dropped=("older", "dropped"))
        bench.cluster.apply(state)
        await wait_until(lambda: bench.store.removed == ["dropped"] and bench.store.closed == ["never heard of"])
        await wait_until(lambda: "files of table never heard of are kept" in caplog.text)
        bench.cluster.apply(replace(state, version=2))
        assert await bench.keeper.remove_dangling() == 0
        bench.store.on_disk.append("older")
        assert await bench.keeper.remove_dangling() == 1
        assert bench.store.removed == ["dropped", "older"]

    run(test)


def test_a_shard_that_fails_while_open_is_reported_once() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(state_of(routing(0, state="started", in_sync=True)))
        shard = FakeShard(TABLE_UUID, 0, [])
        shard.allocation_id = "a0"
        shard.failure = "fsync failed"  # type: ignore[attr-defined]
        bench.keeper.on_failed(shard)
        bench.keeper.on_failed(shard)
        await wait_until(lambda: bool(bench.cluster.submitted))
        await trio.testing.wait_all_tasks_blocked()
        assert [c.reason for c in bench.cluster.submitted if isinstance(c, commands.ShardFailed)] == ["fsync failed"]

    run(test)


def test_messages_survive_the_wire() -> None:
    plan = RunPlan(phases=(), context=statement("n1", parameters=(1, "a", None, [1.5], {"k": 2})))
    assert messages.decode_plan(messages.encode_plan(plan)) == plan


def test_a_copy_of_a_new_table_is_opened_while_its_state_is_published_and_told_of_when_that_is_committed() -> None:
    async def test(bench: Bench) -> None:
        state = state_of(routing(0), routing(1), routing(2, node="n2"), version=5)
        bench.cluster.apply(ClusterState(version=4))
        bench.cluster.announce(state)
        await wait_until(lambda: len(bench.store.opened) == 2)
        await trio.testing.wait_all_tasks_blocked()
        assert not bench.cluster.submitted
        bench.cluster.on_submit = lambda command: bench.cluster.apply(
            state_of(routing(0, state="started"), routing(1, state="started"), routing(2, node="n2"), version=6)
        )
        bench.cluster.apply(state)
        await wait_until(lambda: started(bench) == [0, 1])
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.store.opened) == 2
        assert len(bench.cluster.submitted) == 1

    run(test)


def test_a_copy_that_is_still_being_opened_when_its_state_is_committed_is_opened_once() -> None:
    async def test(bench: Bench) -> None:
        state = state_of(routing(0), routing(1), version=5)
        bench.store.gated.add(1)
        bench.cluster.announce(state)
        bench.cluster.apply(state)
        bench.cluster.on_submit = lambda command: bench.cluster.apply(
            state_of(routing(0, state="started"), routing(1, state="started"), version=6)
        )
        await wait_until(lambda: [shard for shard, *_ in bench.store.opened] == [0])
        bench.store.gate.set()
        await wait_until(lambda: started(bench) == [0, 1])
        assert sorted(shard for shard, *_ in bench.store.opened) == [0, 1]

    run(test)


def test_a_table_that_comes_to_be_later_than_announced_keeps_what_is_being_opened() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gated.add(1)
        bench.cluster.apply(ClusterState(version=4))
        bench.cluster.announce(state_of(routing(0), routing(1), version=5))
        bench.store.on_disk = [TABLE_UUID]
        await wait_until(lambda: [shard for shard, *_ in bench.store.opened] == [0])
        bench.cluster.apply(ClusterState(version=5))
        assert not await bench.keeper.remove_dangling()
        bench.cluster.announce(state_of(routing(0), routing(1), version=6))
        bench.cluster.apply(state_of(routing(0), routing(1), version=6))
        await trio.testing.wait_all_tasks_blocked()
        assert [shard for shard, *_ in bench.store.opened] == [0]
        bench.store.gate.set()
        await wait_until(lambda: started(bench) == [0, 1])
        assert (bench.store.removed, bench.store.closed) == ([], [])

    run(test)


def test_a_table_that_was_never_made_leaves_no_files() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.apply(ClusterState(version=4))
        bench.cluster.announce(state_of(routing(0), version=5))
        await wait_until(lambda: len(bench.store.opened) == 1)
        bench.cluster.apply(ClusterState(version=5))
        await wait_until(lambda: bench.store.removed == [TABLE_UUID])
        bench.cluster.announce(state_of(routing(0), version=6))
        bench.cluster.apply(state_of(routing(0), version=6))
        await wait_until(lambda: started(bench) == [0])

    run(test)


def test_data_is_not_opened_before_the_state_that_says_so_is_committed() -> None:
    async def test(bench: Bench) -> None:
        bench.cluster.announce(state_of(routing(0, in_sync=True), version=5))
        await trio.testing.wait_all_tasks_blocked()
        assert not bench.store.opened

    run(test)
