"""Rows by primary key and counts from metadata: the two queries that never enter the engine.

In: a GetPlan or CountPlan with its parameters. Out: a Result with rows of SQL values. Its own room because these answers
take microseconds: no job, no stream, no engine, and for a shard on this node no await. Reads by key are real-time: they
see every acknowledged write, refreshed or not, because they ask the primary. Counts are as of the last refresh.

Writers use :class:`RowReader`, too, to read the newest version of a row before they change it.

Does not do yet: reads from replicas.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import PeerUnavailable, RelationUnknown, RequestTimeout, ShardUnavailable, StaleRouting
from cratepy.execution.engine.engine import Engine
from cratepy.execution.refresh import wake
from cratepy.execution.results import Result
from cratepy.execution.writes.requests import COUNT, GET, Counted, ShardGet, ShardRows, ShardsOf
from cratepy.execution.writes.values import all_exact, values_of
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.expressions import Column, Expression, Parameter
from cratepy.model.leaves import known_key_part
from cratepy.model.names import RelationName
from cratepy.model.parameter_columns import columns_of_rows, values_of_column
from cratepy.model.plan import CountPlan, GetPlan, StatementContext, get_output
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.routing import document_id, key_text, shard_router, shards_of
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState, ShardCopy
from cratepy.records import dataclass
from cratepy.storage.store import ShardStore

Row = tuple[Any, ...]
#: Types of key values whose text is the id.
_ID_TYPES: Final = frozenset({int, str, type(None)})


class RowShard(Protocol):
    """What is asked of a shard here."""

    def get(self, ids: Sequence[str], sources: Sequence[str]) -> list[Row | None]: ...

    def row_count(self) -> int: ...


# --- where the copies are --------------------------------------------------------------------------------------------


def primary_of(state: ClusterState, table_uuid: str, shard: int, table: RelationName) -> ShardCopy:
    """The started primary. Raises RelationUnknown, ShardUnavailable."""
    known = state.tables.get(table_uuid)
    if known is None:
        raise RelationUnknown(f"Relation '{table}' unknown")
    primary = known.routing[shard].primary
    if primary is None or primary.node_id is None:
        raise ShardUnavailable(f"[{table}][{shard}] has no started copy on a live node")
    return primary


def any_opening(state: ClusterState, shards: Iterable[tuple[str, int]]) -> bool:
    """Whether one of the shards (table uuid, number) is being opened by its node: worth waiting for."""
    for table_uuid, shard in shards:
        table = state.tables.get(table_uuid)
        if table is not None and table.routing[shard].opening is not None:
            return True
    return False


def settled_after(state: ClusterState, shards: Sequence[tuple[str, int]]) -> Callable[[ClusterState], bool]:
    """Whether a state is newer than this one and none of these shards is being opened."""
    is_newer = newer_than(state)
    return lambda newer: is_newer(newer) and not any_opening(newer, shards)


def newer_than(state: ClusterState) -> Callable[[ClusterState], bool]:
    """Whether a state is newer than this one: what a retry waits for."""
    version = state.version
    return lambda newer: newer.version > version


class RowReader:
    """Reads rows of shards by id, wherever the primaries are."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore) -> None:
        self._cluster = cluster
        self._store = store

    def read_local(
        self, definition: TableDefinition, shard: int, ids: Sequence[str], sources: Sequence[str]
    ) -> list[Row | None] | None:
        """The rows (None: no such row) if the shard's primary is open on this node, else None. Raises ShardUnavailable."""
        state = self._cluster.state
        try:
            primary = primary_of(state, definition.uuid, shard, definition.name)
        except ShardUnavailable:
            if any_opening(state, ((definition.uuid, shard),)):
                return None
            raise
        if primary.node_id != self._cluster.node_id:
            return None
        copy = self._store.shard(definition.uuid, shard)
        if copy is None or copy.allocation_id != primary.allocation_id:
            return None
        return copy.get(ids, sources)

    async def read(
        self, definition: TableDefinition, ids: Sequence[str], shards: Sequence[int], sources: Sequence[str]
    ) -> list[Row | None]:
        """The newest version of every row, in the order of ``ids``. Raises ShardUnavailable."""
        by_shard: dict[int, list[int]] = {}
        for position, shard in enumerate(shards):
            by_shard.setdefault(shard, []).append(position)
        found: list[Row | None] = [None] * len(ids)
        remote: list[tuple[int, list[int]]] = []

        def read_here() -> None:
            for shard, positions in by_shard.items():
                rows = self.read_local(definition, shard, [ids[i] for i in positions], sources)
                if rows is None:
                    remote.append((shard, positions))
                    continue
                for position, row in zip(positions, rows, strict=True):
                    found[position] = row

        if len(ids) <= limits.GET_INLINE_KEYS:
            read_here()
        else:
            await trio.to_thread.run_sync(read_here)
        if remote:
            async with trio.open_nursery() as nursery:
                failures: list[Exception] = []
                for shard, positions in remote:
                    nursery.start_soon(
                        self._fill, definition, shard, positions, ids, sources, found, failures, nursery.cancel_scope
                    )
            if failures:
                raise failures[0]
        return found

    async def _fill(
        self,
        definition: TableDefinition,
        shard: int,
        positions: list[int],
        ids: Sequence[str],
        sources: Sequence[str],
        found: list[Row | None],
        failures: list[Exception],
        siblings: trio.CancelScope,
    ) -> None:
        try:
            rows = await self._read_shard(definition, shard, [ids[i] for i in positions], sources)
        except ShardUnavailable as error:
            failures.append(error)
            siblings.cancel()
            return
        except RelationUnknown as error:
            failures.append(error)
            siblings.cancel()
            return
        for position, row in zip(positions, rows, strict=True):
            found[position] = row

    async def _read_shard(
        self, definition: TableDefinition, shard: int, ids: list[str], sources: Sequence[str]
    ) -> list[Row | None]:
        """One shard, again if the routing was stale, the node is gone or opens it. Raises ShardUnavailable at once if it is lost."""
        last: Exception | None = None
        wanted = [(definition.uuid, shard)]
        for _ in range(limits.ROUTING_RETRIES_MAX):
            state = self._cluster.state
            try:
                rows = self.read_local(definition, shard, ids, sources)
                if rows is not None:
                    return rows
                primary = primary_of(state, definition.uuid, shard, definition.name)
                return await self._ask(primary, definition, shard, ids, sources)
            except (StaleRouting, PeerUnavailable, RequestTimeout) as error:
                last = error
            except ShardUnavailable as error:
                if not any_opening(state, wanted):
                    raise
                last = error
            with trio.move_on_after(limits.WRITE_RETRY_MAX_S):
                await self._cluster.wait_for(settled_after(state, wanted), timeout_s=limits.REQUEST_TIMEOUT_S)
        raise ShardUnavailable(f"[{definition.name}][{shard}] cannot be read: {last}") from last

    async def _ask(
        self, primary: ShardCopy, definition: TableDefinition, shard: int, ids: list[str], sources: Sequence[str]
    ) -> list[Row | None]:
        assert primary.node_id is not None
        if primary.node_id == self._cluster.node_id:
            raise StaleRouting(f"[{definition.name}][{shard}] is not open here yet")
        request = ShardGet(
            table_uuid=definition.uuid,
            shard=shard,
            allocation_id=primary.allocation_id,
            definition_version=definition.version,
            ids=ids,
            sources=list(sources),
        )
        reply: ShardRows = await self._cluster.transport.request(
            primary.node_id, GET, request, reply_type=ShardRows, timeout_s=limits.REQUEST_TIMEOUT_S
        )
        if reply.status != "done":
            raise StaleRouting(f"[{definition.name}][{shard}] is not at {primary.node_id}")
        return [None if row is None else tuple(row) for row in reply.rows]


# --- the service -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PreparedGet:
    """A GetPlan against one version of its table. ``plan`` is held so that its identity stays its own."""

    plan: GetPlan
    definition: TableDefinition
    routing_position: int | None
    shard_of: Callable[[str], int]
    output: tuple[OutputColumn, ...]
    #: All expressions of all keys.
    parts: tuple[Expression, ...]
    #: One key of one part, whose text is the id and the routing.
    is_single: bool
    #: ``WHERE _id = x`` in a table that routes by another column: the id does not tell the shard.
    asks_all_shards: bool
    #: It has an order, a count or an offset.
    is_ordered: bool
    #: Positions of ``plan.columns`` that are the output as they are, empty for all; None if something must be computed.
    picks: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _Keys:
    """Ids to read, and the shard of each."""

    ids: list[str]
    shards: list[int]


class LookupService:
    """Answers GetPlans and CountPlans."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore, engine: Engine) -> None:
        self._cluster = cluster
        self._store = store
        self._engine = engine
        self._reader = RowReader(cluster=cluster, store=store)
        self._prepared: OrderedDict[int, _PreparedGet] = OrderedDict()

    def register(self) -> None:
        """Answer other nodes' reads."""
        self._cluster.transport.register(GET, ShardGet, self._on_get)
        self._cluster.transport.register(COUNT, ShardsOf, self._on_count)

    # --- gets --------------------------------------------------------------------------------------------------------

    def get_nowait(self, plan: GetPlan, context: StatementContext) -> Result | None:
        """The rows, if all their shards are on this node and they are few; None if not, then ask :meth:`get`."""
        prepared = self._prepare(plan)
        if prepared.is_single:
            # One key that is its own routing: nearly every read.
            (value,) = values_of(prepared.parts, context)
            if type(value) is int or type(value) is str:
                text = str(value)
                found = self._reader.read_local(prepared.definition, prepared.shard_of(text), (text,), plan.sources)
                if found is None:
                    return None
                rows = [] if found[0] is None else [found[0]]
                return Result(columns=prepared.output, rows=self._finish(prepared, rows, context))
        if _count_at_least(prepared, context) > limits.GET_INLINE_KEYS:
            return None  # more than the event loop has time for
        keys = self._keys(prepared, context)
        ids, shards = keys.ids, keys.shards
        if len(ids) == 1:
            found = self._reader.read_local(prepared.definition, shards[0], ids, plan.sources)
            if found is None:
                return None
            rows = [row for row in found if row is not None]
        else:
            by_shard: dict[int, list[int]] = {}
            for position, shard in enumerate(shards):
                by_shard.setdefault(shard, []).append(position)
            slots: list[Row | None] = [None] * len(ids)
            for shard, positions in by_shard.items():
                found = self._reader.read_local(prepared.definition, shard, [ids[i] for i in positions], plan.sources)
                if found is None:
                    return None
                for position, row in zip(positions, found, strict=True):
                    slots[position] = row
            rows = [row for row in slots if row is not None]
        return Result(columns=prepared.output, rows=self._finish(prepared, rows, context))

    async def get(self, plan: GetPlan, context: StatementContext) -> Result:
        """The rows in the order of the keys; a key that finds nothing gives no row."""
        prepared = self._prepare(plan)
        keys = self._keys(prepared, context)
        found = await self._reader.read(prepared.definition, keys.ids, keys.shards, plan.sources)
        rows = [row for row in found if row is not None]
        if prepared.is_ordered and len(rows) > limits.GET_INLINE_KEYS:
            rows = await trio.to_thread.run_sync(self._finish, prepared, rows, context)
        else:
            rows = self._finish(prepared, rows, context)
        return Result(columns=prepared.output, rows=rows)

    def one_id(self, plan: GetPlan, context: StatementContext) -> str | None:
        """The id that a plan of one key of one part means, if its text is that of a number or text; else None."""
        prepared = self._prepare(plan)
        if not prepared.is_single:
            return None
        (value,) = values_of(prepared.parts, context)
        return str(value) if type(value) is int or type(value) is str else None

    def keys_of_rows(
        self, plan: GetPlan, context: StatementContext, rows: Sequence[Sequence[Any]]
    ) -> tuple[list[str], list[int]]:
        """Per row of parameters the id and shard that a plan of one key means; the id of no row if the key has a NULL."""
        prepared = self._prepare(plan)
        part = prepared.parts[0]
        if prepared.is_single and isinstance(part, Parameter):
            given = columns_of_rows(rows)
            values = values_of_column(given[part.index]) if part.index < len(given) else ()
            if (
                len(values) == len(rows)
                and all_exact(values, part.type.kind)
                and _ID_TYPES.issuperset(map(type, values))
            ):
                ids = ["" if value is None else str(value) for value in values]
                return ids, shards_of(ids, prepared.definition).tolist()
        keys = [self._keys(prepared, context.with_parameters(parameters)) for parameters in rows]
        return [key.ids[0] if key.ids else "" for key in keys], [key.shards[0] if key.shards else 0 for key in keys]

    def _prepare(self, plan: GetPlan) -> _PreparedGet:
        table = self._cluster.state.tables.get(plan.table_uuid)
        if table is None:
            raise RelationUnknown(f"Relation '{plan.table}' unknown")
        definition = table.definition
        known = self._prepared.get(id(plan))
        if known is not None and known.plan is plan and known.definition is definition:
            return known
        routing_position = None
        clustered = definition.clustered_by
        if not plan.is_by_id and clustered in definition.primary_key and len(definition.primary_key) > 1:
            routing_position = definition.primary_key.index(clustered)
        picks: tuple[int, ...] | None = None
        if plan.residual is None:
            places = {column.id: i for i, column in enumerate(plan.columns)}
            items = [item.expression for item in plan.projection]
            if all(isinstance(item, Column) for item in items):
                picks = tuple(places[item.id] for item in items if isinstance(item, Column))
        parts = tuple(part for key in plan.keys for part in key)
        asks_all = plan.is_by_id and clustered not in (None, "_id") and definition.primary_key != (clustered,)
        if picks == tuple(range(len(plan.columns))):
            picks = ()
        prepared = _PreparedGet(
            plan=plan,
            definition=definition,
            routing_position=routing_position,
            shard_of=shard_router(definition),
            output=get_output(plan),
            parts=parts,
            is_single=len(parts) == 1 and not asks_all,
            asks_all_shards=asks_all,
            is_ordered=bool(plan.order or plan.offset or plan.count is not None),
            picks=picks,
        )
        self._prepared[id(plan)] = prepared
        if len(self._prepared) > limits.PLAN_CACHE_ENTRIES_MAX:
            self._prepared.popitem(last=False)
        return prepared

    def _keys(self, prepared: _PreparedGet, context: StatementContext) -> _Keys:
        """The ids to read and their shards; keys with a NULL are left out, equal ones are one."""
        plan, definition = prepared.plan, prepared.definition
        if plan.key_list is not None:
            keys = [(value,) for value in _listed_values(plan.key_list, context)]
        else:
            values = values_of(prepared.parts, context)
            width = len(plan.keys[0]) if plan.keys else 1
            keys = [tuple(values[start : start + width]) for start in range(0, len(values), width)]
        routings: dict[str, str] = {}
        position = prepared.routing_position
        for key in keys:
            if None in key:
                continue
            if plan.is_by_id or (len(key) == 1 and type(key[0]) in (int, str)):
                document = str(key[0])
            else:
                document = document_id(key, definition)
            if document in routings:
                continue
            routing = document
            if position is not None:
                part = known_key_part(definition, definition.primary_key[position])
                routing = key_text(key[position], part.type)
            routings[document] = routing
        ids = list(routings)
        if prepared.asks_all_shards:
            count = definition.shards
            return _Keys([document for document in ids for _ in range(count)], list(range(count)) * len(ids))
        if len(ids) == 1:
            return _Keys(ids, [prepared.shard_of(routings[ids[0]])])
        return _Keys(ids, shards_of(list(routings.values()), definition).tolist())

    def _finish(self, prepared: _PreparedGet, rows: list[Row], context: StatementContext) -> list[Row]:
        """Filter and compute, if the plan wants it."""
        picks = prepared.picks
        if picks is not None:
            rows = [tuple([row[i] for i in picks]) for row in rows] if picks else rows
        elif rows:
            rows = _computed(prepared, rows, self._engine, context)
        return _ordered(prepared.plan, rows) if prepared.is_ordered else rows

    async def _on_get(self, _source: str, request: ShardGet) -> ShardRows:
        copy = self._store.shard(request.table_uuid, request.shard)
        if copy is None or copy.allocation_id != request.allocation_id:
            return ShardRows(status="stale")
        if len(request.ids) <= limits.GET_INLINE_KEYS:
            rows = copy.get(request.ids, request.sources)
        else:
            rows = await trio.to_thread.run_sync(copy.get, request.ids, request.sources)
        return ShardRows(status="done", rows=[None if row is None else list(row) for row in rows])

    # --- counts ------------------------------------------------------------------------------------------------------

    async def count(self, plan: CountPlan, context: StatementContext) -> Result:
        """One row with the number of live rows."""
        last: Exception | None = None
        for _ in range(limits.ROUTING_RETRIES_MAX):
            state = self._cluster.state
            table = state.tables.get(plan.table_uuid)
            wanted = [(plan.table_uuid, routing.shard) for routing in ([] if table is None else table.routing)]
            try:
                return Result(columns=plan.columns, rows=[(await self._count(plan, state),)])
            except (StaleRouting, PeerUnavailable, RequestTimeout) as error:
                last = error
            except ShardUnavailable as error:
                if not any_opening(state, wanted):
                    raise
                last = error
            with trio.move_on_after(limits.WRITE_RETRY_MAX_S):
                await self._cluster.wait_for(settled_after(state, wanted), timeout_s=limits.REQUEST_TIMEOUT_S)
        raise ShardUnavailable(f"[{plan.table}] cannot be counted: {last}") from last

    async def _count(self, plan: CountPlan, state: ClusterState) -> int:
        table = state.tables.get(plan.table_uuid)
        if table is None:
            raise RelationUnknown(f"Relation '{plan.table}' unknown")
        total = 0
        by_node: dict[str, list[tuple[str, int]]] = {}
        for routing in table.routing:
            primary = primary_of(state, plan.table_uuid, routing.shard, plan.table)
            assert primary.node_id is not None
            by_node.setdefault(primary.node_id, []).append((plan.table_uuid, routing.shard))
        for _, shard in by_node.pop(self._cluster.node_id, []):
            copy = self._store.shard(plan.table_uuid, shard)
            if copy is None:
                raise StaleRouting(f"[{plan.table}][{shard}] is not open here yet")
            await wake(copy)
            total += copy.row_count()
        if not by_node:
            return total
        counts: list[int] = []
        failures: list[Exception] = []

        async def ask(node_id: str, shards: list[tuple[str, int]]) -> None:
            try:
                reply: Counted = await self._cluster.transport.request(
                    node_id, COUNT, ShardsOf(shards=shards), reply_type=Counted, timeout_s=limits.REQUEST_TIMEOUT_S
                )
            except (PeerUnavailable, RequestTimeout) as error:
                failures.append(error)
                return
            if reply.missing:
                failures.append(StaleRouting(f"[{plan.table}] {reply.missing} are not at {node_id}"))
            counts.append(reply.count)

        async with trio.open_nursery() as nursery:
            for node_id, shards in sorted(by_node.items()):
                nursery.start_soon(ask, node_id, shards)
        if failures:
            raise failures[0]
        return total + sum(counts)

    async def _on_count(self, _source: str, request: ShardsOf) -> Counted:
        total = 0
        missing = []
        for table_uuid, shard in request.shards:
            copy = self._store.shard(table_uuid, shard)
            if copy is None:
                missing.append((table_uuid, shard))
            else:
                await wake(copy)
                total += copy.row_count()
        return Counted(count=total, missing=missing)


def _count_at_least(prepared: _PreparedGet, context: StatementContext) -> int:
    """How many keys there are, as far as it is known without computing one."""
    key_list = prepared.plan.key_list
    if isinstance(key_list, Parameter):
        given = context.parameters[key_list.index]
        return len(given) if isinstance(given, list) else 0
    return len(prepared.parts)


def _listed_values(key_list: Expression, context: StatementContext) -> list[Any]:
    """The elements of the array; none if it is NULL."""
    element = key_list.type.element
    assert element is not None
    if isinstance(key_list, Parameter):
        given = context.parameters[key_list.index]
        if isinstance(given, list) and all_exact(given, element.kind):
            return given
    (values,) = values_of((key_list,), context)
    return [] if values is None else list(values)


def _ordered(plan: GetPlan, rows: list[Row]) -> list[Row]:
    """The rows sorted and cut; those that are alike stay in the order of their keys."""
    for place, is_descending, nulls_first in reversed(plan.order):
        known = sorted([row for row in rows if row[place] is not None], key=itemgetter(place), reverse=is_descending)
        unknown = [row for row in rows if row[place] is None]
        rows = [*unknown, *known] if nulls_first else [*known, *unknown]
    return rows[plan.offset : None if plan.count is None else plan.offset + plan.count]


def _computed(prepared: _PreparedGet, rows: list[Row], engine: Engine, context: StatementContext) -> list[Row]:
    """The residual filter and the projection over the rows read, through the engine."""
    plan = prepared.plan
    columns = list(zip(*rows, strict=True))
    batch = pa.RecordBatch.from_arrays(
        [to_arrow(list(values), column.type) for values, column in zip(columns, plan.columns, strict=True)],
        names=[f"c{column.id}" for column in plan.columns],
    )
    if plan.residual is not None:
        condition_id = max(column.id for column in plan.columns) + 1
        kept = engine.evaluate((Item(condition_id, "residual", plan.residual),), batch, context).column(0)
        places = [i for i, value in enumerate(kept.to_pylist()) if value is True]
        if len(places) < len(rows):
            rows = [rows[i] for i in places]
            # Rows are chosen by slicing: views of text have no take kernel.
            batch = pa.concat_batches([batch.slice(i, 1) for i in places]) if places else batch.slice(0, 0)
    if not plan.projection or not rows:
        return rows
    computed = engine.evaluate(plan.projection, batch, context)
    values = [from_arrow(computed.column(i), item.expression.type) for i, item in enumerate(plan.projection)]
    return list(zip(*values, strict=True))
