"""Whole nodes' cluster services in one process over loopback: forming, commands, fail-over, coming back, restarts."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cratepy import limits
from cratepy.clock import SystemClock
from cratepy.cluster.coordination.messages import StepDown
from cratepy.cluster.diff import StateDiff
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.persistence import DirectoryInUse
from cratepy.cluster.service import ClusterService
from cratepy.cluster.state_log import StateLog, StateLogFull
from cratepy.errors import NoMaster, RelationAlreadyExists, RelationUnknown, RequestTimeout
from cratepy.model.commands import CreateTable, DropTable, SetClusterSettings, ShardsStarted, StartedCopy
from cratepy.model.names import RelationName
from cratepy.model.state import ClusterState
from cratepy.storage.filesystem import SyncFailed
from tests.cluster.states import definition

T = RelationName("doc", "t")


class Cluster:
    """Nodes that can be started and stopped; their transport ports are known before the first one starts."""

    def __init__(self, path: Path, nursery: trio.Nursery, ports: list[int]) -> None:
        self._path = path
        self._nursery = nursery
        self._ports = ports
        self._scopes: dict[int, tuple[trio.CancelScope, trio.Event]] = {}
        self.services: dict[int, ClusterService] = {}

    def options(self, number: int, **changes: object) -> ClusterOptions:
        seeds = tuple(f"127.0.0.1:{port}" for port in self._ports)
        values = {
            "data_path": self._path / str(number),
            "node_name": f"n{number}",
            "transport_ports": [self._ports[number]],
            "seed_hosts": seeds,
            "initial_master_nodes": ("n0", "n1", "n2"),
            **changes,
        }
        return ClusterOptions(**values)  # type: ignore[arg-type]

    async def start(self, number: int, **changes: object) -> ClusterService:
        service = ClusterService(self.options(number, **changes), clock=SystemClock())
        await self._nursery.start(self._host, number, service)
        self.services[number] = service
        return service

    async def _host(self, number: int, service: ClusterService, *, task_status: trio.TaskStatus[None]) -> None:
        ended = trio.Event()
        with trio.CancelScope() as scope:
            self._scopes[number] = (scope, ended)
            await service.run(task_status=task_status)
        ended.set()

    async def stop(self, number: int) -> None:
        scope, ended = self._scopes.pop(number)
        del self.services[number]
        scope.cancel()
        await ended.wait()

    async def start_three(self) -> None:
        for number in range(3):
            await self.start(number)
        await self.agree(3)

    async def agree(self, members: int) -> ClusterState:
        """Wait until all running nodes see that many members and the same master."""
        states = [
            await service.wait_for(lambda s: len(s.nodes) == members and s.master_id is not None, timeout_s=8)
            for service in self.services.values()
        ]
        return states[0]

    @property
    def master(self) -> int:
        return next(number for number, service in self.services.items() if service.is_master)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@asynccontextmanager
async def _cluster(path: Path) -> AsyncIterator[Cluster]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield Cluster(path, nursery, _free_ports(4))
            nursery.cancel_scope.cancel()


def _with(path: Path, test: Callable[[Cluster], object]) -> None:
    async def main() -> None:
        async with _cluster(path) as cluster:
            await test(cluster)  # type: ignore[misc]

    trio.run(main)


def _started(state: ClusterState) -> list[ShardsStarted]:
    return [
        ShardsStarted(
            (
                StartedCopy(
                    table_uuid=uuid,
                    shard=routing.shard,
                    allocation_id=copy.allocation_id,
                    primary_term=routing.primary_term,
                ),
            )
        )
        for uuid, table in state.tables.items()
        for routing in table.routing
        for copy in routing.copies
        if copy.state == "initializing"
    ]


def test_a_node_without_configuration_is_a_cluster_of_its_own(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        seen: list[tuple[int, int]] = []
        service = ClusterService(cluster.options(0, seed_hosts=(), initial_master_nodes=()), clock=SystemClock())
        service.add_applier(lambda old, new: seen.append((old.version, new.version)))
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            state = await service.wait_for(lambda s: s.master_id == service.node_id, timeout_s=2)
            assert list(state.nodes) == [service.node_id]
            state = await service.submit(CreateTable(definition=definition()))
            assert state.table(T) is not None
            with pytest.raises(RelationAlreadyExists):
                await service.submit(CreateTable(definition=definition(uuid="other")))
            nursery.cancel_scope.cancel()
        assert seen == [(0, 1), (1, 2)]
        again = await cluster.start(0, seed_hosts=(), initial_master_nodes=())
        assert again.node_id == service.node_id
        state = await again.wait_for(lambda s: s.table(T) is not None, timeout_s=2)
        assert state.tables["uuid-t"].routing[0].copies[0].allocation_id

    _with(tmp_path, check)


def test_a_change_waits_for_space_on_a_full_disk_and_the_node_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(limits, "STATE_LOG_RETRY_S", 0.001)
    write, refused = StateLog.write, []

    def full(log: StateLog, term: int, state: ClusterState, change: StateDiff | None = None) -> None:
        if state.tables and len(refused) < 3:
            refused.append(term)
            raise StateLogFull(28, "No space left on device", "state-1")
        write(log, term, state, change)

    monkeypatch.setattr(StateLog, "write", full)

    async def test(cluster: Cluster) -> None:
        service = await cluster.start(0, seed_hosts=(), initial_master_nodes=())
        await service.wait_for(lambda state: state.master_id is not None, timeout_s=5)
        state = await service.submit(CreateTable(definition=definition()))
        assert state.table(T) is not None

    _with(tmp_path, test)
    assert len(refused) == 3
    assert caplog.text.count("the disk is full, and so is the space that was reserved") == 1
    assert "there is space for the cluster state again" in caplog.text


def test_a_state_whose_sync_failed_ends_the_node_and_it_says_why_also_where_the_reason_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sync that failed may have lost what was written, so that a second one that succeeds proves nothing."""
    write = StateLog.write

    def failing(log: StateLog, term: int, state: ClusterState, change: StateDiff | None = None) -> None:
        if state.tables:
            raise SyncFailed(28, "No space left on device", "state-1")
        write(log, term, state, change)

    monkeypatch.setattr(StateLog, "write", failing)

    async def test(cluster: Cluster) -> None:
        service = await cluster.start(0, seed_hosts=(), initial_master_nodes=())
        await service.wait_for(lambda state: state.master_id is not None, timeout_s=5)
        await service.submit(CreateTable(definition=definition()))

    with pytest.raises(ExceptionGroup) as caught:
        _with(tmp_path, test)
    assert caught.group_contains(SyncFailed)
    assert "the cluster state could not be made durable" in caplog.text
    assert "No space left on device" in caplog.text


def test_a_log_that_could_not_be_prepared_for_the_next_state_ends_the_node_with_that_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(log: StateLog) -> None:
        if log.state.tables:
            raise SyncFailed(5, "Input/output error", "state-1")

    monkeypatch.setattr(StateLog, "prepare", failing)

    async def test(cluster: Cluster) -> None:
        service = await cluster.start(0, seed_hosts=(), initial_master_nodes=())
        await service.wait_for(lambda state: state.master_id is not None, timeout_s=5)
        await service.submit(CreateTable(definition=definition("first")))
        await service.submit(CreateTable(definition=definition("second")))

    with pytest.raises(ExceptionGroup) as caught:
        _with(tmp_path, test)
    assert caught.group_contains(SyncFailed)


def test_three_empty_nodes_form_a_cluster_and_any_of_them_takes_commands(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        assert len({service.state.master_id for service in cluster.services.values()}) == 1
        for number, service in cluster.services.items():
            state = await service.submit(CreateTable(definition=definition(f"t{number}")))
            assert state.table(RelationName("doc", f"t{number}")) is not None
            # Whoever asks another node next finds the table there.
            assert all(s.state.version >= state.version for s in cluster.services.values())
        with pytest.raises(RelationUnknown, match=r"Relation 'doc\.x' unknown"):
            await cluster.services[1].submit(DropTable(name=RelationName("doc", "x")))
        state = cluster.services[0].state
        assert state.coordination.committed_config == tuple(sorted(state.nodes))

    _with(tmp_path, check)


def test_the_master_stops_another_takes_over_and_the_old_one_comes_back_to_its_shards(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        state = await cluster.services[0].submit(CreateTable(definition=definition(shards=6)))
        for command in _started(state):
            state = await cluster.services[0].submit(command)
        old, old_id = cluster.master, cluster.services[cluster.master].node_id
        before = state
        await cluster.stop(old)
        state = await cluster.agree(2)
        assert old_id not in state.nodes
        survivor = next(iter(cluster.services.values()))
        state = await survivor.submit(CreateTable(definition=definition("while_away")))
        for routing, earlier in zip(state.tables["uuid-t"].routing, before.tables["uuid-t"].routing, strict=True):
            assert (routing.primary is None) == (earlier.copies[0].node_id == old_id)
            assert routing.in_sync == earlier.in_sync
        back = await cluster.start(old)
        state = await cluster.agree(3)
        assert back.node_id == old_id
        assert state.table(RelationName("doc", "while_away")) is not None
        mine = [r for r in state.tables["uuid-t"].routing if r.copies[0].node_id == old_id]
        assert len(mine) == 2
        assert all((r.copies[0].state, r.primary_term) == ("initializing", 2) for r in mine)
        assert {r.copies[0].allocation_id for r in mine} <= {
            r.copies[0].allocation_id for r in before.tables["uuid-t"].routing
        }

    _with(tmp_path, check)


def test_without_a_majority_commands_are_refused_and_the_state_is_still_there(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        await cluster.services[0].submit(CreateTable(definition=definition()))
        await cluster.stop(1)
        await cluster.stop(2)
        alone = cluster.services[0]
        await alone.wait_for(lambda s: s.master_id is None, timeout_s=8)
        assert alone.is_joined
        assert not alone.has_master
        assert alone.state.table(T) is not None
        with pytest.raises(NoMaster):
            await alone.submit(DropTable(name=T))
        await cluster.start(2)
        state = await alone.wait_for(lambda s: s.master_id is not None and len(s.nodes) == 2, timeout_s=8)
        assert state.table(T) is not None
        await alone.submit(DropTable(name=T))

    _with(tmp_path, check)


def test_a_node_that_finds_no_master_says_whom_it_asked_and_why_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A host name that cannot be one is no reason to end, either."""
    monkeypatch.setattr(limits, "NO_MASTER_TOLD_S", 0.05)

    async def check(cluster: Cluster) -> None:
        (closed,) = _free_ports(1)
        seeds = ("no..such:4300", f"127.0.0.1:{closed}")
        service = await cluster.start(0, seed_hosts=seeds, initial_master_nodes=("n0", "n1"))
        while f"127.0.0.1:{closed} (Connection refused)" not in caplog.text:
            await trio.lowlevel.checkpoint()
        assert "no master is known yet: connected to no other node; no answer from 127.0.0.1:" in caplog.text
        assert "seed no..such:4300: cannot resolve the host name: not a host name" in caplog.text
        assert not service.is_joined

    _with(tmp_path, check)


def test_a_full_restart_keeps_the_state_but_for_transient_settings(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        await cluster.services[0].submit(CreateTable(definition=definition()))
        await cluster.services[0].submit(SetClusterSettings(settings={"stats.enabled": False}))
        await cluster.services[0].submit(SetClusterSettings(settings={"stats.jobs_log_size": 1}, is_persistent=True))
        uuid = cluster.services[0].state.coordination.cluster_uuid
        await cluster.stop(cluster.master)
        left = next(iter(cluster.services.values()))
        await left.wait_for(lambda s: s.master_id is not None and len(s.nodes) == 2, timeout_s=8)
        assert left.state.settings_transient == {"stats.enabled": False}, "another master is no restart"
        for number in list(cluster.services):
            await cluster.stop(number)
        await cluster.start_three()
        for service in cluster.services.values():
            assert service.state.table(T) is not None
            assert service.state.settings_transient == {}
            assert service.state.settings_persistent == {"stats.jobs_log_size": 1}
            assert service.state.coordination.cluster_uuid == uuid

    _with(tmp_path, check)


def test_a_fourth_node_joins_through_any_member_and_a_second_cluster_is_kept_out(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        seeds = (cluster.options(0).seed_hosts[1],)
        foreign = await cluster.start(3, cluster_name="other", seed_hosts=seeds, initial_master_nodes=())
        with pytest.raises(RequestTimeout):
            await foreign.wait_for(lambda s: bool(s.nodes), timeout_s=0.3)
        await cluster.stop(3)
        for file in (tmp_path / "3").rglob("*"):
            if file.is_file():
                file.unlink()
        await cluster.start(3, seed_hosts=seeds, initial_master_nodes=())
        await cluster.agree(4)

    _with(tmp_path, check)


def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start(0, seed_hosts=(), initial_master_nodes=())
        with pytest.raises(DirectoryInUse, match="is used by another"):
            ClusterService(cluster.options(0), clock=SystemClock())

    _with(tmp_path, check)


def test_a_copied_data_directory_does_not_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        source, target = tmp_path / "1" / "nodes" / "0" / "_state", tmp_path / "3" / "nodes" / "0" / "_state"
        target.mkdir(parents=True)
        for file in source.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        twin = await cluster.start(3)
        original = cluster.services[1]
        assert twin.node_id == original.node_id
        with pytest.raises(RequestTimeout):
            await twin.wait_for(lambda s: s.master_id is not None, timeout_s=0.5)
        assert original.has_master
        assert cluster.services[0].state.nodes[original.node_id].ephemeral_id == original.transport.ephemeral_id

    with caplog.at_level(logging.WARNING):
        _with(tmp_path, check)
    assert "copied data directory" in caplog.text or "is a copy" in caplog.text


def test_a_master_steps_down_on_request_from_any_node_and_when_it_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        asked = next(service for service in cluster.services.values() if not service.is_master)
        assert await asked.step_down(asked.node_id) == asked.node_id
        await cluster.agree(3)
        assert asked.is_master
        new = await cluster.services[cluster.master].step_down()
        assert new != asked.node_id
        await cluster.agree(3)
        await cluster.stop(next(n for n, service in cluster.services.items() if service.node_id == new))
        await cluster.agree(2)
        assert caplog.text.count("steps down in favour of node") == 3

    _with(tmp_path, check)


def test_a_master_that_has_not_heard_is_asked_again_to_step_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        master = cluster.services[cluster.master]
        asked = next(service for service in cluster.services.values() if not service.is_master)
        hear, unheard = master._driver.post, []  # type: ignore[union-attr]

        def post(event: object) -> None:
            if isinstance(event, StepDown) and not unheard:
                unheard.append(event)  # as between two terms, when it is a candidate
            else:
                hear(event)  # type: ignore[arg-type]

        monkeypatch.setattr(master._driver, "post", post)
        assert await asked.step_down(asked.node_id) == asked.node_id
        assert unheard

    _with(tmp_path, check)


def test_a_node_with_the_name_of_another_is_refused_and_told_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def check(cluster: Cluster) -> None:
        await cluster.start_three()
        twin = await cluster.start(3, node_name="n1")
        with pytest.raises(RequestTimeout):
            await twin.wait_for(lambda state: state.version > 0, timeout_s=1)
        assert len(cluster.services[0].state.nodes) == 3
        assert "may not join: its name is that of node" in caplog.text
        assert caplog.text.count("the master refuses this node") == 1

    _with(tmp_path, check)


def test_exactly_as_many_nodes_as_expected_form_a_cluster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check(cluster: Cluster) -> None:
        expecting = {"initial_master_nodes": (), "bootstrap_expect": 3}
        first = await cluster.start(0, **expecting)
        await cluster.start(1, **expecting)
        with pytest.raises(RequestTimeout):
            await first.wait_for(lambda state: state.version > 0, timeout_s=0.5)
        await cluster.start(2, **expecting)
        state = await cluster.agree(3)
        assert len(state.coordination.committed_config) == 3
        late = await cluster.start(3, **expecting)
        assert (await cluster.agree(4)).coordination.cluster_uuid == state.coordination.cluster_uuid
        assert late.state.version > 0

    _with(tmp_path, check)


def test_a_node_that_formed_its_own_cluster_never_joins_another_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.start(3, seed_hosts=(), initial_master_nodes=())
        own = (await cluster.agree(1)).coordination.cluster_uuid
        await cluster.stop(3)
        await cluster.start_three()
        stray = await cluster.start(3)
        await stray.wait_for(lambda state: state.version > 0, timeout_s=2)
        while "never joins another" not in caplog.text:  # noqa: ASYNC110 -- a log line is no event
            await trio.sleep(0.01)
        assert stray.state.coordination.cluster_uuid == own
        assert all(len(cluster.services[number].state.nodes) == 3 for number in range(3))

    _with(tmp_path, check)
