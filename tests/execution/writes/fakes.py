"""A small cluster in one process: real shards and real write services, a fake cluster service, transport and engine.

The fake engine computes the few operators the tests use, row by row; the real one has its own tests. The fake transport
hands requests from node to node and can lose requests or replies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import trio

from cratepy.clock import FakeClock
from cratepy.cluster.commands import apply
from cratepy.errors import CrateError, PeerUnavailable, RequestTimeout, RowDivisionByZero
from cratepy.execution.lookups import LookupService
from cratepy.execution.results import Result
from cratepy.execution.writes.service import WriteService
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.commands import AddColumns
from cratepy.model.expressions import Call, Cast, Column, Expression, Literal, Parameter
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item
from cratepy.model.schema import CheckConstraint, ColumnDefinition, TableDefinition
from cratepy.model.state import ClusterState, NodeInfo, ShardCopy, ShardRouting, TableState
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER, TEXT, DataType
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.store import ShardStore

NAME = RelationName("doc", "t")


# --- expressions -----------------------------------------------------------------------------------------------------


class FakeEngine:
    """Engine.evaluate for a handful of operators; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def evaluate(self, items: tuple[Item, ...], batch: pa.RecordBatch, context: StatementContext) -> pa.RecordBatch:
        self.calls += 1
        arrays = []
        for item in items:
            values = [_value(item.expression, batch, row, context) for row in range(batch.num_rows)]
            arrays.append(to_arrow(values, item.expression.type))
        return pa.RecordBatch.from_arrays(arrays, names=[f"c{item.id}" for item in items])


def _value(expression: Expression, batch: pa.RecordBatch, row: int, context: StatementContext) -> Any:
    match expression:
        case Literal():
            return expression.value
        case Parameter():
            return context.parameters[expression.index]
        case Column():
            return from_arrow(batch.column(f"c{expression.id}").slice(row, 1), expression.type)[0]
        case Cast():
            return _value(expression.argument, batch, row, context)
        case Call():
            arguments = [_value(argument, batch, row, context) for argument in expression.arguments]
            if None in arguments:
                return None
            match expression.function:
                case "op_+":
                    return arguments[0] + arguments[1]
                case "op_>":
                    return arguments[0] > arguments[1]
                case "op_=":
                    return arguments[0] == arguments[1]
                case "op_||":
                    return arguments[0] + arguments[1]
                case "op_/":
                    if arguments[1] == 0:
                        raise RowDivisionByZero("/ by zero")
                    return arguments[0] // arguments[1]
    raise NotImplementedError(str(expression))


def literal(value: Any, data_type: DataType) -> Literal:
    return Literal(value, data_type)


def call(function: str, data_type: DataType, *arguments: Expression) -> Call:
    return Call(function, arguments, data_type)


def greater(left: Expression, right: int) -> Call:
    return call("op_>", BOOLEAN, left, literal(right, INTEGER))


# --- tables ----------------------------------------------------------------------------------------------------------


def column(oid: int, name: str, data_type: DataType, **more: Any) -> ColumnDefinition:
    return ColumnDefinition(oid=oid, name=name, type=data_type, **more)


ID = column(1, "id", INTEGER)
TABLE = (ID, column(2, "a", TEXT), column(3, "n", BIGINT))


def table(
    columns: tuple[ColumnDefinition, ...] = TABLE,
    *,
    key: tuple[str, ...] = ("id",),
    shards: int = 3,
    clustered_by: str | None = None,
    checks: tuple[CheckConstraint, ...] = (),
) -> TableDefinition:
    return TableDefinition(
        name=NAME,
        uuid="table-1",
        oid=100,
        columns=columns,
        primary_key=key,
        clustered_by=clustered_by,
        shards=shards,
        routing_shards=shards,
        checks=checks,
    )


def context(*parameters: Any, job_id: str = "job-1") -> StatementContext:
    return StatementContext(
        job_id=job_id, handler_id="n1", user="crate", text="", now_ms=1_700_000_000_000, parameters=parameters
    )


# --- nodes -----------------------------------------------------------------------------------------------------------

Handler = Callable[[str, Any], Awaitable[Any]]


class FakeTransport:
    """Requests to other nodes of the network, encoded and decoded as on the wire. ``faults`` are used up in order:

    ``lost`` (the request never arrives), ``no_reply`` (it is executed, the connection breaks), ``late`` (executed, times out).
    """

    def __init__(self, node_id: str, network: dict[str, FakeTransport]) -> None:
        self.node_id = node_id
        self.network = network
        self.handlers: dict[str, tuple[type, Handler]] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str, Any]] = []
        network[node_id] = self

    def register(self, action: str, request_type: type, handler: Handler) -> None:
        self.handlers[action] = (request_type, handler)

    async def request(
        self, node_id: str, action: str, request: Any, *, reply_type: Any = None, timeout_s: float = 30.0
    ) -> Any:
        await trio.lowlevel.checkpoint()
        self.requests.append((node_id, action, request))
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "lost" or node_id not in self.network:
            raise PeerUnavailable(node_id, sent=False)
        request_type, handler = self.network[node_id].handlers[action]
        received = msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=request_type)
        reply = await handler(self.node_id, received)
        if fault == "no_reply":
            raise PeerUnavailable(node_id, sent=True)
        if fault == "late":
            raise RequestTimeout(node_id)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=reply_type)


class FakeCluster:
    """One node's view; all nodes share one state box, so a change is seen by all at once."""

    def __init__(self, node_id: str, transport: FakeTransport, shared: SharedState) -> None:
        self.node_id = node_id
        self.transport = transport
        self.has_master = True
        self._shared = shared

    @property
    def state(self) -> ClusterState:
        return self._shared.state

    async def submit(self, command: Any, *, timeout_s: float = 30.0) -> ClusterState:
        await trio.lowlevel.checkpoint()
        return self._shared.apply(command)

    async def wait_for(self, predicate: Callable[[ClusterState], bool], *, timeout_s: float) -> ClusterState:
        while not predicate(self.state):
            await self._shared.wait_changed()
        return self.state


class SharedState:
    def __init__(self, state: ClusterState, stores: list[ShardStore]) -> None:
        self.state = state
        self.stores = stores
        self.commands: list[Any] = []
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def publish(self, state: ClusterState) -> ClusterState:
        self.state = msgspec.structs.replace(state, version=self.state.version + 1)
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        return self.state

    def apply(self, command: Any) -> ClusterState:
        self.commands.append(command)
        assert isinstance(command, AddColumns)
        state = apply(self.state, command)
        definition = state.tables[command.table_uuid].definition
        for store in self.stores:
            store.update_definition(definition)
        return self.publish(state)


class Node:
    def __init__(
        self,
        node_id: str,
        path: Path,
        network: dict[str, FakeTransport],
        queries: Queries,
        files: FileSystem | None = None,
    ) -> None:
        self.node_id = node_id
        self.clock = FakeClock(seed=sum(map(ord, node_id)))
        self.store = ShardStore(path / node_id, clock=self.clock, files=files)
        self.transport = FakeTransport(node_id, network)
        self.engine = FakeEngine()
        self.queries = queries
        self.cluster: Any = None
        self.writes: Any = None
        self.lookups: Any = None

    def start(self, shared: SharedState) -> None:
        self.cluster = FakeCluster(self.node_id, self.transport, shared)
        self.writes = WriteService(
            cluster=self.cluster,
            store=self.store,
            engine=self.engine,  # type: ignore[arg-type]
            run_query=self.queries.run,
            clock=self.clock,
        )
        self.lookups = LookupService(cluster=self.cluster, store=self.store, engine=self.engine)  # type: ignore[arg-type]
        self.writes.register()
        self.lookups.register()


class Queries:
    """What run_query answers: batches to be handed out, whatever the plan says."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.columns: tuple[Any, ...] = ()

    async def run(self, _plan: Any, _context: StatementContext) -> Result:
        return Result(columns=self.columns, batches=list(self.batches))


class Cluster:
    """Nodes n1 … with the table's shards spread over those named in ``owners``."""

    def __init__(self, nodes: list[Node], shared: SharedState, definition: TableDefinition) -> None:
        self.nodes = nodes
        self.shared = shared
        self.uuid = definition.uuid
        self.first = nodes[0]

    @property
    def definition(self) -> TableDefinition:
        return self.shared.state.tables[self.uuid].definition

    def rows(self, sources: Sequence[str] = ("c1", "c2", "c3")) -> list[tuple[Any, ...]]:
        """All rows of the table after a refresh, sorted by their text."""
        found: list[tuple[Any, ...]] = []
        for node in self.nodes:
            for shard in node.store.shards():
                shard.refresh()
                for batch in shard.scan(sources):
                    found.extend(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        return sorted(found, key=repr)


@asynccontextmanager
async def open_cluster(
    path: Path,
    definition: TableDefinition | None = None,
    *,
    nodes: int = 1,
    owners: Sequence[str] = ("n1",),
    files: FileSystem | None = None,
) -> AsyncIterator[Cluster]:
    definition = table() if definition is None else definition
    network: dict[str, FakeTransport] = {}
    queries = Queries()
    members = [Node(f"n{i + 1}", path, network, queries, files) for i in range(nodes)]
    by_id = {node.node_id: node for node in members}
    routing = []
    for shard in range(definition.shards):
        owner = owners[shard % len(owners)]
        by_id[owner].store.open_shard(definition, shard, f"a{shard}", primary_term=1, create=True)
        copy = ShardCopy(allocation_id=f"a{shard}", node_id=owner, is_primary=True, state="started")
        routing.append(ShardRouting(shard=shard, primary_term=1, in_sync=(f"a{shard}",), copies=(copy,)))
    state = ClusterState(
        version=1,
        nodes={
            n: NodeInfo(id=n, name=n, ephemeral_id=f"{n}-1", host="", transport_port=0, http_port=0, psql_port=0)
            for n in by_id
        },
        tables={definition.uuid: TableState(definition, tuple(routing))},
    )
    shared = SharedState(state, [node.store for node in members])
    for node in members:
        node.start(shared)
    try:
        yield Cluster(members, shared, definition)
    finally:
        for node in members:
            await trio.to_thread.run_sync(node.store.close)


def values_plan(
    rows: Sequence[Sequence[Any]], definition: TableDefinition, targets: Sequence[str] | None = None, **more: Any
) -> Any:
    """INSERT … VALUES of literals of the targets' types."""
    from cratepy.model.plan import InsertPlan

    names = tuple(targets or (c.name for c in definition.columns[: len(rows[0])]))
    types = []
    for name in names:
        found = definition.column(name)
        assert found is not None
        types.append(found.type)
    return InsertPlan(
        table_uuid=definition.uuid,
        table=definition.name,
        targets=names,
        rows=tuple(tuple(Literal(v, t) for v, t in zip(row, types, strict=True)) for row in rows),
        **more,
    )


def parameters_plan(definition: TableDefinition, targets: Sequence[str], **more: Any) -> Any:
    """INSERT … VALUES ($1, $2, …)."""
    from cratepy.model.plan import InsertPlan

    row = []
    for i, name in enumerate(targets):
        found = definition.column(name)
        assert found is not None
        row.append(Parameter(i, found.type))
    return InsertPlan(
        table_uuid=definition.uuid, table=definition.name, targets=tuple(targets), rows=(tuple(row),), **more
    )


async def drain(result: Result) -> list[tuple[Any, ...]]:
    """All rows of a result as SQL values."""
    if result.rows is not None:
        return result.rows
    assert result.columns is not None
    rows: list[tuple[Any, ...]] = []
    while (batch := await result.receive()) is not None:
        values = [from_arrow(batch.column(i), c.type) for i, c in enumerate(result.columns)]
        rows.extend(zip(*values, strict=True))
    return rows


async def error_of(awaitable: Awaitable[Any]) -> CrateError:
    """The client error something ends with."""
    try:
        await awaitable
    except CrateError as error:
        return error
    raise AssertionError("no error")
