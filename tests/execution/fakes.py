"""Nodes in one process for tests of jobs: real transports on loopback; cluster, store and engine are fakes.

The fake engine passes its inputs on, column by position, hash-partitioned by value; what it does besides (wait, burn, fail) a
test tells it per node.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import trio

from cratepy.clock import SystemClock
from cratepy.cluster.options import ClusterOptions
from cratepy.cluster.service import ClusterService
from cratepy.cluster.transport import Transport
from cratepy.errors import RequestTimeout
from cratepy.execution.cpu import Workers
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.jobs import Job, JobRegistry
from cratepy.execution.local_view import LocalView
from cratepy.execution.phases import NodeParts
from cratepy.execution.queries import QueryRunner
from cratepy.execution.results import Result
from cratepy.execution.runs import RunTable
from cratepy.execution.service import ExecutionService
from cratepy.execution.system.tables import SystemTables
from cratepy.model.commands import Command
from cratepy.model.names import RelationName
from cratepy.model.plan import (
    CompiledStatement,
    CountPlan,
    Gather,
    GetPlan,
    Output,
    Phase,
    Plan,
    QueryPlan,
    ShardSource,
    StatementContext,
    SubPlan,
)
from cratepy.model.relations import ExchangeInput, OutputColumn, Relation, Scan, ScanColumn, output_columns
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.state import ClusterState, NodeInfo, TableState
from cratepy.model.types import BIGINT
from cratepy.storage.store import ShardStore

TABLE = RelationName("doc", "t")
TABLE_UUID = "table-1"


class FakeShard:
    """A shard of one bigint column ``c1``."""

    def __init__(self, table_uuid: str, shard: int, values: Sequence[int], *, batch_rows: int = 65_536) -> None:
        self.table_uuid = table_uuid
        self.shard = shard
        self.allocation_id = f"{table_uuid}-{shard}"
        self.batches = [
            pa.record_batch([pa.array(values[i : i + batch_rows], pa.int64())], names=["c1"])
            for i in range(0, len(values), batch_rows)
        ]

    def scan(self, sources: Sequence[str], *, ranges: Sequence[object] = ()) -> list[pa.RecordBatch]:
        return self.batches


class FakeStore:
    path = Path("/")

    def __init__(self) -> None:
        self.opened: dict[tuple[str, int], FakeShard] = {}

    def add(self, shard: FakeShard) -> None:
        self.opened[shard.table_uuid, shard.shard] = shard

    def shard(self, table_uuid: str, shard: int) -> FakeShard | None:
        return self.opened.get((table_uuid, shard))

    def shards(self) -> list[FakeShard]:
        return list(self.opened.values())


class FakeCluster:
    """A cluster service whose state a test sets."""

    def __init__(self, node_id: str, transport: Transport | None = None) -> None:
        self.node_id = node_id
        self.transport = transport
        self.state = ClusterState()
        self.appliers: list[Callable[[ClusterState, ClusterState], None]] = []
        self.announcements: list[Callable[[Iterable[TableState], int], None]] = []
        self.submitted: list[Command] = []
        self.on_submit: Callable[[Command], None] = lambda command: None
        self._changed = trio.Event()

    def add_applier(self, applier: Callable[[ClusterState, ClusterState], None]) -> None:
        self.appliers.append(applier)

    def on_new_tables(self, listener: Callable[[Iterable[TableState], int], None]) -> None:
        self.announcements.append(listener)

    def announce(self, state: ClusterState) -> None:
        for listener in self.announcements:
            listener([table for uuid, table in state.tables.items() if uuid not in self.state.tables], state.version)

    def apply(self, state: ClusterState) -> None:
        for applier in self.appliers:
            applier(self.state, state)
        self.state = state
        self._changed.set()
        self._changed = trio.Event()

    async def submit(self, command: Command, *, timeout_s: float = 1.0) -> ClusterState:
        self.submitted.append(command)
        self.on_submit(command)
        await trio.lowlevel.checkpoint()
        return self.state

    async def wait_for(self, predicate: Callable[[ClusterState], bool], *, timeout_s: float) -> ClusterState:
        with trio.move_on_after(timeout_s):
            while not predicate(self.state):
                await self._changed.wait()
            return self.state
        raise RequestTimeout("no such state came")


class FakeFragment:
    """A stream over batches; ``gate`` is awaited before each."""

    def __init__(self, items: Iterator[tuple[int, pa.RecordBatch]], gate: Callable[[], Awaitable[None]]) -> None:
        self._items = items
        self._gate = gate

    async def __aenter__(self) -> FakeFragment:
        return self

    async def __aexit__(self, *args: object) -> None:
        return None

    async def receive(self) -> tuple[int, pa.RecordBatch] | None:
        await self._gate()
        return next(self._items, None)


async def _pass() -> None:
    await trio.lowlevel.checkpoint()


@dataclass
class FakeEngine:
    """Passes inputs on. ``gate`` runs before every batch it gives, and before it answers a short fragment."""

    gate: Callable[[], Awaitable[None]] = _pass
    opened: list[Relation] = field(default_factory=list)
    given: int = 0

    def open(
        self,
        relation: Relation,
        inputs: Sequence[FragmentInput],
        context: StatementContext,
        *,
        partition_by: tuple[int, ...] = (),
        partition_count: int = 1,
    ) -> FakeFragment:
        self.opened.append(relation)
        return FakeFragment(self._items(relation, inputs, partition_by, partition_count), self.gate)

    async def run_small(
        self, relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext
    ) -> list[pa.RecordBatch]:
        self.opened.append(relation)
        await self.gate()
        return [batch for _, batch in self._items(relation, inputs, (), 1)]

    def _items(
        self, relation: Relation, inputs: Sequence[FragmentInput], keys: tuple[int, ...], count: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        names = [f"c{column.id}" for column in output_columns(relation)]
        for source in inputs:
            for batches in source.partitions:
                for batch in batches:
                    self.given += 1
                    batch = batch.rename_columns(names)
                    if not keys:
                        yield 0, batch
                        continue
                    values = batch.column(f"c{keys[0]}").to_pylist()
                    for part in range(count):
                        rows = [i for i, value in enumerate(values) if value % count == part]
                        yield part, batch.take(pa.array(rows, pa.int64()))


class FakeSystemTables:
    """sys.jobs with one column, the ids of the statements running on the node."""

    def batch(
        self, table: RelationName, columns: Sequence[ScanColumn], context: StatementContext, local: LocalView
    ) -> pa.RecordBatch:
        values = [int(job.session_id) for job in local.jobs()]
        return pa.record_batch([pa.array(values, pa.int64())], names=[f"c{columns[0].id}"])


@dataclass
class Node:
    id: str
    transport: Transport
    cluster: FakeCluster
    store: FakeStore
    engine: FakeEngine
    jobs: JobRegistry
    runs: RunTable
    queries: QueryRunner
    scope: trio.CancelScope
    #: The tasks of queries, which end before the transport does when a node is stopped.
    work: trio.CancelScope
    ends: list[tuple[Exception | None, int]] = field(default_factory=list)

    def start_job(
        self, *, timeout_s: float | None = None, parameters: tuple[Any, ...] = ()
    ) -> tuple[Job, StatementContext]:
        context = statement(self.id, parameters=parameters)
        return self.jobs.start(context, classification="SELECT", timeout_s=timeout_s), context

    async def query(
        self, plan: QueryPlan, *, timeout_s: float | None = None, parameters: tuple[Any, ...] = ()
    ) -> Result:
        """Run a query as a whole statement."""
        job, context = self.start_job(timeout_s=timeout_s, parameters=parameters)

        def on_end(error: Exception | None, rows: int) -> None:
            self.ends.append((error, rows))
            self.jobs.finish(job, error=None if error is None else str(error), rowcount=rows)

        return await self.queries.query(job, plan, context, state_version=0, on_end=on_end)

    @property
    def is_idle(self) -> bool:
        return not self.jobs.jobs() and not self.jobs.operations() and len(self.runs) == 0


def statement(handler_id: str, *, parameters: tuple[Any, ...] = (), text: str = "select 1") -> StatementContext:
    return StatementContext(
        job_id=SystemClock().new_id(),
        handler_id=handler_id,
        user="crate",
        text=text,
        now_ms=0,
        parameters=parameters,
        session_id=7,
    )


def node_info(node_id: str) -> NodeInfo:
    return NodeInfo(
        id=node_id,
        name=f"name-{node_id}",
        ephemeral_id="e",
        host="127.0.0.1",
        transport_port=0,
        http_port=0,
        psql_port=0,
    )


def table_definition(uuid: str = TABLE_UUID, *, shards: int = 3, version: int = 1) -> TableDefinition:
    column = ColumnDefinition(oid=1, name="a", type=BIGINT)
    return TableDefinition(
        name=TABLE, uuid=uuid, oid=1, columns=(column,), shards=shards, routing_shards=shards, version=version
    )


@asynccontextmanager
async def nodes(count: int, tmp_path: Path, *, exchange_memory_bytes: int = 1_000_000) -> AsyncIterator[list[Node]]:
    """Nodes n1, n2, … that are connected to each other; shard i-1 of the table is on node i."""
    made: list[Node] = []
    async with trio.open_nursery() as nursery:
        made.extend([await _start_node(f"n{i}", nursery, tmp_path, exchange_memory_bytes) for i in range(1, count + 1)])
        state = ClusterState(version=1, nodes={node.id: node_info(node.id) for node in made})
        for node in made:
            node.cluster.state = state
            node.transport.keep_peers({o.id: ("127.0.0.1", o.transport.port) for o in made if o is not node})
        for node in made:
            for other in made:
                await wait_until(lambda node=node, other=other: node.transport.connected(other.id))
        yield made
        nursery.cancel_scope.cancel()


async def _start_node(node_id: str, nursery: trio.Nursery, tmp_path: Path, exchange_memory_bytes: int) -> Node:
    clock = SystemClock()
    transport = Transport(node_id=node_id, cluster_name="test", clock=clock)
    cluster = FakeCluster(node_id, transport)
    store, engine, jobs, runs = FakeStore(), FakeEngine(), JobRegistry(clock=clock), RunTable()

    def view() -> LocalView:
        return LocalView(
            node_id=node_id,
            state=cluster.state,
            jobs=jobs.jobs,
            jobs_log=jobs.jobs_log,
            operations=jobs.operations,
            operations_log=jobs.operations_log,
            shards=store.shards,
        )

    parts = NodeParts(
        node_id=node_id,
        engine=engine,
        streams=transport,
        workers=Workers(),
        jobs=jobs,
        system_tables=FakeSystemTables(),
        view=view,
        spill_path=tmp_path / node_id,
        name_of=lambda other: f"name-{other}",
        exchange_memory_bytes=exchange_memory_bytes,
        phase_values_here_max=0,  # the tests are about what the engine does
    )
    queries = QueryRunner(cluster=cluster, store=store, parts=parts, runs=runs)
    scope, work = trio.CancelScope(), trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            async with trio.open_nursery() as inner:
                await inner.start(transport.run)
                with work:
                    async with trio.open_nursery() as working:
                        queries.start(working)
                        task_status.started()
                        try:
                            await trio.sleep_forever()
                        finally:
                            queries.stop()
                await trio.sleep_forever()

    await nursery.start(run)
    return Node(node_id, transport, cluster, store, engine, jobs, runs, queries, scope, work)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true; fail after two seconds."""
    with trio.fail_after(2):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.001)


async def drain(result: Result) -> list[Any]:
    """All values of the first column."""
    values: list[Any] = []
    while (batch := await result.receive()) is not None:
        assert batch.num_rows > 0
        values.extend(batch.column(0).to_pylist())
    return values


# --- plans -----------------------------------------------------------------------------------------------------------

COLUMN = OutputColumn(1, "a", BIGINT)


def scan() -> Scan:
    return Scan(table_uuid=TABLE_UUID, table=TABLE, columns=(ScanColumn(1, "a", BIGINT, "c1"),))


def scan_phase(
    node_ids: Sequence[str], output: Output | None, *, id: int = 0, relation: Relation | None = None
) -> Phase:
    """Each node n<i> reads shard i-1."""
    return Phase(
        id=id,
        nodes=tuple(node_ids),
        relation=scan() if relation is None else relation,
        output=output,
        shards=tuple(ShardSource(node, TABLE_UUID, (int(node[1:]) - 1,)) for node in node_ids),
    )


def gathered(node_ids: Sequence[str], handler: str, *, last: Relation | None = None) -> QueryPlan:
    """All rows of the table, gathered on the handler."""
    relation = ExchangeInput(0, (COLUMN,)) if last is None else last
    return QueryPlan(
        phases=(scan_phase(node_ids, Gather(1)), Phase(id=1, nodes=(handler,), relation=relation, output=None)),
        columns=output_columns(relation),
    )


def local(node_id: str, *, relation: Relation | None = None, subplans: tuple[SubPlan, ...] = ()) -> QueryPlan:
    """One phase on the handler."""
    phase = scan_phase([node_id], None, relation=relation)
    return QueryPlan(phases=(phase,), columns=output_columns(phase.relation), subplans=subplans)


# --- whole nodes -----------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A node with the real cluster service, store and execution service."""

    id: str
    cluster: ClusterService
    store: ShardStore
    execution: ExecutionService
    scope: trio.CancelScope

    async def execute(
        self,
        plan: Plan,
        *,
        columns: tuple[OutputColumn, ...] | None = None,
        parameters: tuple[Any, ...] = (),
        timeout_s: float | None = None,
        text: str = "statement",
        session_id: int = 1,
    ) -> Result:
        compiled = compiled_statement(plan, self.cluster.state.version, columns=columns, text=text)
        context = msgspec.structs.replace(
            statement(self.id, parameters=parameters, text=text), session_id=session_id, now_ms=1_000
        )
        return await self.execution.execute(compiled, context, timeout_s=timeout_s)


def compiled_statement(
    plan: Plan, state_version: int, *, columns: tuple[OutputColumn, ...] | None = None, text: str = "statement"
) -> CompiledStatement:
    if columns is None and isinstance(plan, QueryPlan | GetPlan | CountPlan):
        columns = plan.columns
    return CompiledStatement(
        text=text, plan=plan, columns=columns, parameter_types=(), tag="TEST", state_version=state_version
    )


@asynccontextmanager
async def servers(count: int, path: Path, *, engine: Callable[[Path], Any]) -> AsyncIterator[list[Server]]:
    """Nodes that have formed a cluster; sorted by id."""
    ports = free_ports(count)
    options = [
        ClusterOptions(
            data_path=path / f"data{i}",
            node_name=f"name{i}",
            transport_ports=(ports[i],),
            is_single_node=count == 1,
            seed_hosts=() if count == 1 else tuple(f"127.0.0.1:{port}" for port in ports),
            initial_master_nodes=() if count == 1 else tuple(f"name{j}" for j in range(count)),
        )
        for i in range(count)
    ]
    made: list[Server] = []
    async with trio.open_nursery() as nursery:
        for option in options:
            made.append(await nursery.start(_start_server, option, engine))  # noqa: PERF401 - one after the other
        with trio.fail_after(20):
            for server in made:
                await server.cluster.wait_for(lambda state: len(state.nodes) == count, timeout_s=20)
        yield sorted(made, key=lambda server: server.id)
        nursery.cancel_scope.cancel()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


async def _start_server(
    option: ClusterOptions, engine: Callable[[Path], Any], *, task_status: trio.TaskStatus[Server]
) -> None:
    clock = SystemClock()
    cluster = ClusterService(option, clock=clock)
    store = ShardStore(option.data_path / "nodes" / "0", clock=clock)
    execution = ExecutionService(
        cluster=cluster,
        store=store,
        engine=engine(option.data_path / "tmp"),
        clock=clock,
        system_tables=SystemTables(describe_views=lambda state: {}),
        spill_path=option.data_path / "tmp",
    )
    scope = trio.CancelScope()
    server = Server(cluster.node_id, cluster, store, execution, scope)
    try:
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(execution.run)
                await nursery.start(cluster.run)
                task_status.started(server)
    finally:
        store.close()
