"""Where a fragment's rows come from when they are on this node: shards and system tables.

In: the leaves of a phase's relation. Out: one :class:`FragmentInput` per leaf, in the engine's order. Everything here is
synchronous and runs on a worker thread, all leaves of a fragment in one go: a hop to a thread costs more than most small
scans. Columns are named ``c<id>``; a column that a shard does not have is NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from cratepy.execution.batches import batch_of
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.execution.local_view import LocalView
from cratepy.execution.pruning import column_ranges
from cratepy.execution.searching import scan_reader
from cratepy.model.arrow import arrow_type
from cratepy.model.plan import Phase, StatementContext
from cratepy.model.relations import ExchangeInput, Relation, Scan, ScanColumn, SystemScan, children, output_columns
from cratepy.records import dataclass

if TYPE_CHECKING:
    from cratepy.execution.system.tables import SystemTables
    from cratepy.storage.shard import Shard
    from cratepy.storage.store import ShardStore

Leaf = Scan | SystemScan | ExchangeInput
#: The open shards a run reads, by (table uuid, shard).
Shards = Mapping[tuple[str, int], "Shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSources:
    """What a fragment may read on this node."""

    node_id: str
    shards: Shards
    system_tables: SystemTables
    view: Callable[[], LocalView]


def leaves(relation: Relation) -> list[Leaf]:
    """The leaves that need an input, depth first, left to right: the engine's order."""
    if isinstance(relation, Scan | SystemScan | ExchangeInput):
        return [relation]
    return [leaf for child in children(relation) for leaf in leaves(child)]


def resolve_shards(
    store: ShardStore, phases: Sequence[Phase], node_id: str
) -> tuple[dict[tuple[str, int], Shard], list[str]]:
    """The open shards that phases read on this node, and the names of those that are not here."""
    found: dict[tuple[str, int], Shard] = {}
    missing: list[str] = []
    for phase in phases:
        for source in phase.shards:
            if source.node_id != node_id:
                continue
            for number in source.shards:
                shard = store.shard(source.table_uuid, number)
                if shard is None:
                    missing.append(f"{source.table_uuid}/{number}")
                else:
                    found[source.table_uuid, number] = shard
    return found, missing


def read_leaf(leaf: Scan | SystemScan, phase: Phase, context: StatementContext, sources: LocalSources) -> FragmentInput:
    """The rows of a local leaf. Raises ShardFailed, and whatever a system table fails with."""
    columns = output_columns(leaf)
    if isinstance(leaf, SystemScan):
        view = replace(sources.view(), speaks_for_all=len(phase.nodes) == 1)
        batch = sources.system_tables.batch(leaf.table, leaf.columns, context, view)
        return FragmentInput(columns, [[batch]])
    return FragmentInput(columns, [_scan(leaf, phase, context, sources)])


def _scan(scan: Scan, phase: Phase, context: StatementContext, sources: LocalSources) -> list[pa.RecordBatch]:
    reader = scan_reader(scan, context, column_ranges(scan, context))
    batches: list[pa.RecordBatch] = []
    rows = 0
    # With a filter the engine has to see rows before it can tell how many are enough.
    limit = scan.limit if scan.filter is None else None
    for shard in local_shards(scan, phase, sources):
        for batch in reader.read(shard):
            if limit is not None:
                batch = batch.slice(0, limit - rows)
            batches.append(as_scanned(batch, scan.columns, reader.sources))
            rows += batch.num_rows
            if limit is not None and rows >= limit:
                return batches
    return batches


def local_shards(scan: Scan, phase: Phase, sources: LocalSources) -> Iterator[Shard]:
    """The shards of the table that the phase reads on this node."""
    for source in phase.shards:
        if source.node_id == sources.node_id and source.table_uuid == scan.table_uuid:
            for number in source.shards:
                yield sources.shards[scan.table_uuid, number]


def as_scanned(batch: pa.RecordBatch, columns: Sequence[ScanColumn], sources: Sequence[str | None]) -> pa.RecordBatch:
    """A shard's batch under the statement's names and types; what the shard does not have is NULL.

    ``sources`` are the batch's names of the columns, None for one that is true in every row.
    """
    rows = batch.num_rows
    arrays: list[pa.Array] = []
    fields: list[pa.Field] = []
    for column, source in zip(columns, sources, strict=True):
        wanted = arrow_type(column.type)
        position = -1 if source is None else batch.schema.get_field_index(source)
        if source is None:
            array = pa.repeat(pa.scalar(True), rows)
        elif position < 0:
            array = pa.nulls(rows, wanted)
        else:
            array = batch.column(position)
            if array.type != wanted:
                array = array.cast(wanted)
        arrays.append(array)
        fields.append(pa.field(f"c{column.id}", wanted))
    return batch_of(pa.schema(fields), arrays, rows)
