"""Blocks of proposed rows into a table: complete them, write them, settle conflicts, tell what became of each row.

In: the target columns of some rows (SQL values or arrays). Out: a :class:`BlockOutcome`. Its own room because INSERT in all
its forms, bulk requests and COPY FROM write rows in this one way and differ only in where rows come from and in what they
do with a row that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.service import ClusterService
from cratepy.errors import ColumnUnknown, CrateError, DuplicateKey, InvalidColumnName, VersionConflict
from cratepy.execution.engine.engine import Engine
from cratepy.execution.writes.assignments import Changes
from cratepy.execution.writes.growth import definition_of, grow
from cratepy.execution.writes.layout import Layouts, TableLayout
from cratepy.execution.writes.objects import fit_objects, guess_type, holds_objects
from cratepy.execution.writes.returning import WrittenRows
from cratepy.execution.writes.router import Begun, RowWrites, WriteRouter
from cratepy.execution.writes.rows import RowBlock, Rules, complete, json_texts
from cratepy.execution.writes.updater import Candidates, Updater
from cratepy.execution.writes.values import (
    at_rest,
    column_of_raw_values,
    column_of_values,
)
from cratepy.model.arrow import from_arrow, stored_type
from cratepy.model.names import check_column_name
from cratepy.model.plan import InsertPlan, StatementContext
from cratepy.model.routing import IdMaker
from cratepy.model.schema import NEW_COLUMN_IDS, SYSTEM_COLUMNS
from cratepy.model.types import UNDEFINED, DataType, Field, is_open
from cratepy.records import dataclass
from cratepy.storage.ids import ids_at

DUPLICATE_WORDS = "A document with the same primary key exists already"

#: The values of one target column: SQL values, or an array in flight or at rest.
TargetValues: TypeAlias = list[Any] | pa.Array
#: Makes the target columns, on the thread that completes the rows; again if the schema has to grow first.
ReadColumns: TypeAlias = Callable[[], Sequence[TargetValues]]


@dataclass(frozen=True, slots=True)
class InsertRules:
    """The parts of an InsertPlan that are the same for all its rows."""

    table_uuid: str
    table: object
    rules: Rules
    #: None: a duplicate is an error. An empty tuple of assignments: it is skipped. ``overwrites``: it is replaced.
    conflict: Changes | None
    overwrites: bool = False
    #: Targets that may be new columns, and the types of their values; see InsertPlan.
    new_columns: tuple[Field, ...] = ()


@dataclass(slots=True)
class BlockOutcome:
    """What became of ``count`` rows: written, skipped (ON CONFLICT DO NOTHING), or failed."""

    count: int
    layout: TableLayout
    errors: dict[int, CrateError] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    pieces: list[WrittenRows] = field(default_factory=list)

    @property
    def written(self) -> int:
        return self.count - len(self.errors) - len(self.skipped)


def rules_of(plan: InsertPlan, *, targets: tuple[str, ...] | None = None, overwrites: bool = False) -> InsertRules:
    conflict = plan.conflict
    return InsertRules(
        plan.table_uuid,
        plan.table,
        Rules(plan.targets if targets is None else targets, plan.defaults, plan.generated, plan.checks),
        None if conflict is None else Changes(conflict.assignments, plan.generated, plan.checks),
        overwrites,
        plan.new_columns,
    )


class BlockWriter:
    """Writes blocks of proposed rows."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        engine: Engine,
        clock: Clock,
        router: WriteRouter,
        updater: Updater,
        layouts: Layouts,
    ) -> None:
        self._cluster = cluster
        self._engine = engine
        self._router = router
        self._updater = updater
        self._layouts = layouts
        self.ids = IdMaker(clock)
        self._threads = trio.CapacityLimiter(limits.WRITE_THREADS_MAX)

    # --- building ----------------------------------------------------------------------------------------------------

    async def build(
        self,
        rules: InsertRules,
        columns: Sequence[TargetValues],
        count: int,
        context: StatementContext,
        *,
        is_raw: bool = False,
        errors: dict[int, CrateError] | None = None,
        absent: Mapping[str, Sequence[int]] | None = None,
    ) -> RowBlock:
        """The completed rows; the schema has grown by their new keys.

        ``errors`` are rows that failed before; ``absent`` are the rows that do not name a target, by target.
        """
        block, _ = await self._build(
            rules, lambda: columns, count, context, is_raw=is_raw, errors=errors, absent=absent, begins=False
        )
        return block

    async def build_and_begin(
        self, rules: InsertRules, read: ReadColumns, count: int, context: StatementContext, *, is_raw: bool
    ) -> tuple[RowBlock, Begun | None]:
        """:meth:`build`; if no row has failed, and all belong to this node, they are given to their shards.

        That is one thread to wait for instead of two, and ``read`` makes the columns on the same. :meth:`write` must follow
        in any case.
        """
        return await self._build(rules, read, count, context, is_raw=is_raw, errors=None, absent=None, begins=True)

    async def _build(
        self,
        rules: InsertRules,
        read: ReadColumns,
        count: int,
        context: StatementContext,
        *,
        is_raw: bool,
        errors: dict[int, CrateError] | None,
        absent: Mapping[str, Sequence[int]] | None,
        begins: bool,
    ) -> tuple[RowBlock, Begun | None]:
        definition = definition_of(self._cluster, rules.table_uuid, rules.table)
        is_small = count <= limits.WRITE_INLINE_ROWS and count * len(rules.rules.targets) <= limits.BULK_INLINE_VALUES
        for _ in range(limits.DYNAMIC_ROUNDS_MAX):
            layout = self._layouts.of(definition)
            unnamed = {
                layout.column(name).oid: frozenset(rows)
                for name, rows in (absent or {}).items()
                if name in layout.position_by_name
            }
            block = RowBlock(layout, count, {}, dict(errors or {}), unnamed)
            fill = partial(self._fill, block, rules, read, context, is_raw=is_raw)
            begun: Begun | None = None
            if is_small:
                grown = fill()
            elif begins:
                work = partial(self._fill_and_begin, fill, rules, block)
                grown, begun = await trio.to_thread.run_sync(work, limiter=self._threads)
            else:
                grown = await trio.to_thread.run_sync(fill, limiter=self._threads)
            if not grown:
                return block, begun
            definition = await grow(self._cluster, definition, grown)
        raise VersionConflict(f"Other writers changed the columns of {rules.table} again and again")

    def _fill(
        self,
        block: RowBlock,
        rules: InsertRules,
        read: ReadColumns,
        context: StatementContext,
        *,
        is_raw: bool,
    ) -> dict[str, DataType]:
        """Complete the block; or, if columns must be added or grow first, give their types back."""
        grown = _add_targets(block, rules, read(), is_raw=is_raw)
        if not grown:
            known = tuple(name for name in rules.rules.targets if name in block.layout.position_by_name)
            complete(block, replace(rules.rules, targets=known), self._engine, context, self.ids.take)
        return grown

    def _fill_and_begin(
        self, fill: Callable[[], dict[str, DataType]], rules: InsertRules, block: RowBlock
    ) -> tuple[dict[str, DataType], Begun | None]:
        grown = fill()
        if grown or block.errors:
            return grown, None
        return grown, self._router.begin(_writes_of(rules, block, block.batch(), block.ids, block.shards))

    # --- writing -----------------------------------------------------------------------------------------------------

    async def write(
        self,
        rules: InsertRules,
        block: RowBlock,
        context: StatementContext,
        *,
        wants_rows: bool = False,
        begun: Begun | None = None,
    ) -> BlockOutcome:
        """Write the good rows of a completed block; bad ones are errors of the outcome already."""
        outcome = BlockOutcome(block.count, block.layout, dict(block.errors))
        good = block.good_rows()
        places: Sequence[int] = range(block.count) if good is None else good.tolist()
        if not places:
            return outcome
        assert begun is None or good is None
        batch = block.batch() if begun is None or begun.writes.rows is None else begun.writes.rows
        ids, shards = block.ids, block.shards
        if good is not None:
            batch, ids, shards = batch.take(pa.array(good)), ids_at(ids, good), shards[good]
        writes = _writes_of(rules, block, batch, ids, shards) if begun is None else begun.writes
        pending: Sequence[int] = range(len(ids))
        for _ in range(limits.WRITE_CONFLICT_ROUNDS_MAX):
            report = await self._router.write(writes, wants_versions=wants_rows, begun=begun)
            begun = None
            for row, error in report.errors.items():
                outcome.errors[places[pending[row]]] = error
            if wants_rows:
                _keep_written(outcome, block, writes, places, pending, report.refused, report.errors, report.versions)
            duplicates = [pending[row] for row in sorted(report.refused)]
            if not duplicates:
                return outcome
            gone = await self._settle(
                rules, block, batch, ids, shards, places, duplicates, context, outcome, wants_rows
            )
            if not gone:
                return outcome
            # Deleted by somebody else since the insert was refused: insert again.
            pending = gone
            rows = pa.array(gone, type=pa.int64())
            writes = RowWrites(
                definition=block.layout.definition,
                kind="insert",
                ids=ids_at(ids, gone),
                shards=shards[np.asarray(gone)],
                rows=batch.take(rows),
            )
        raise VersionConflict(f"Rows of {rules.table} were deleted by other writers again and again")

    async def _settle(
        self,
        rules: InsertRules,
        block: RowBlock,
        batch: pa.RecordBatch,
        ids: Sequence[str],
        shards: np.ndarray[Any, np.dtype[np.int64]],
        places: Sequence[int],
        duplicates: list[int],
        context: StatementContext,
        outcome: BlockOutcome,
        wants_rows: bool,
    ) -> list[int]:
        """Rows whose key exists: an error, skipped, or changed. Gives back those that exist no more."""
        conflict = rules.conflict
        if conflict is None:
            outcome.errors.update({places[i]: DuplicateKey(DUPLICATE_WORDS) for i in duplicates})
            return []
        if not conflict.assignments:
            outcome.skipped.update(places[i] for i in duplicates)
            return []
        rows = batch.take(pa.array(duplicates, type=pa.int64()))
        changed = await self._updater.update(
            Candidates(
                definition=block.layout.definition,
                ids=list(ids_at(ids, duplicates)),
                shards=[int(shards[i]) for i in duplicates],
            ),
            conflict,
            context,
            proposed=_proposed(rules, block.layout, rows),
            wants_rows=wants_rows,
        )
        for position, error in changed.errors.items():
            outcome.errors[places[duplicates[position]]] = error
        outcome.pieces.extend(
            WrittenRows(
                positions=[places[duplicates[p]] for p in piece.positions],
                columns=piece.columns,
                ids=piece.ids,
                versions=piece.versions,
            )
            for piece in changed.pieces
        )
        return [duplicates[position] for position in sorted(changed.missing)]


def _writes_of(
    rules: InsertRules,
    block: RowBlock,
    batch: pa.RecordBatch,
    ids: Sequence[str],
    shards: np.ndarray[Any, np.dtype[np.int64]],
) -> RowWrites:
    return RowWrites(
        definition=block.layout.definition,
        kind="index" if rules.overwrites else "insert",
        ids=ids,
        shards=shards,
        rows=batch,
    )


def _proposed(rules: InsertRules, layout: TableLayout, rows: pa.RecordBatch) -> dict[int, pa.Array]:
    """The columns of ``excluded``, those that were new when the statement was planned under their ids of then, too."""
    proposed = {column.oid: rows.column(i) for i, column in enumerate(layout.columns)}
    for place, new in enumerate(rules.new_columns):
        position = layout.position_by_name.get(new.name)
        proposed[NEW_COLUMN_IDS + place] = (
            pa.nulls(rows.num_rows, stored_type(new.type)) if position is None else rows.column(position)
        )
    return proposed


def _keep_written(
    outcome: BlockOutcome,
    block: RowBlock,
    writes: RowWrites,
    places: Sequence[int],
    pending: Sequence[int],
    refused: dict[int, str],
    errors: dict[int, CrateError],
    versions: Sequence[tuple[int, int, int] | None],
) -> None:
    done = [row for row in range(len(writes.ids)) if row not in refused and row not in errors]
    if not done or writes.rows is None:
        return
    batch = writes.rows.take(pa.array(done, type=pa.int64()))
    outcome.pieces.append(
        WrittenRows(
            positions=[places[pending[row]] for row in done],
            columns={column.oid: batch.column(i) for i, column in enumerate(block.layout.columns)},
            ids=list(ids_at(writes.ids, done)),
            versions=[versions[row] for row in done],
        )
    )


def _add_targets(
    block: RowBlock, rules: InsertRules, columns: Sequence[TargetValues], *, is_raw: bool
) -> dict[str, DataType]:
    """The target columns at rest; gives back the columns that must be added or grow first.

    A column that is nowhere yet and has no value in any row stays so.
    """
    targets = rules.rules.targets
    assert len(targets) == len(columns)
    told = {field.name: field.type for field in rules.new_columns}
    layout = block.layout
    grown: dict[str, DataType] = {}
    for name, values in zip(targets, columns, strict=True):
        place = layout.position_by_name.get(name)
        column = None if place is None else layout.columns[place]
        if column is None or is_open(column.type):
            values = _plain_values(values, told.get(name, UNDEFINED))
            found = _type_of_new(block, name, values, told.get(name, UNDEFINED))
            if found.kind != "undefined" and (column is None or not is_open(found)):
                grown[name] = found
            if column is not None and name not in grown:
                block.columns[column.oid] = column_of_raw_values(values, column.type, block.errors)
        elif holds_objects(column.type):
            block.columns[column.oid] = _objects(block, name, column.type, values, grown)
        elif name in told:
            # It was new when the statement was planned: what it is now may be another writer's choice.
            plain = _plain_values(values, told[name])
            block.columns[column.oid] = column_of_raw_values(plain, column.type, block.errors)
        elif not isinstance(values, list):
            block.columns[column.oid] = at_rest(values, column.type)
        elif is_raw:
            block.columns[column.oid] = column_of_raw_values(values, column.type, block.errors)
        else:
            block.columns[column.oid] = column_of_values(values, column.type)
    return grown


def _plain_values(values: TargetValues, data_type: DataType) -> list[Any]:
    """SQL values of a column whose type is told by them."""
    if isinstance(values, list):
        return values
    return from_arrow(values, data_type) if data_type.kind != "undefined" else values.to_pylist()


def _type_of_new(block: RowBlock, name: str, values: list[Any], told: DataType) -> DataType:
    """The type of a column that the table does not have; undefined if no row has a value."""
    definition = block.layout.definition
    if block.layout.position_by_name.get(name) is None:
        if definition.column_policy == "strict":
            raise ColumnUnknown(f"Column {name} unknown")
        check_column_name(name)
        if name in SYSTEM_COLUMNS:
            raise InvalidColumnName(f'"{name}" conflicts with system column')
    if all(value is None or row in block.errors for row, value in enumerate(values)):
        return UNDEFINED
    if told.kind == "undefined" or holds_objects(told):
        return guess_type(values, name=name, errors=block.errors)
    return told


def _objects(
    block: RowBlock,
    name: str,
    data_type: DataType,
    values: TargetValues,
    grown: dict[str, DataType],
) -> pa.Array:
    decoded = values if isinstance(values, list) else from_arrow(values, data_type)
    fitted, fitted_type = fit_objects(decoded, name=name, data_type=data_type, errors=block.errors)
    if fitted_type is not data_type:
        grown[name] = fitted_type
    return json_texts(fitted) if data_type.kind == "object" else column_of_values(fitted, data_type)


def first_error(errors: dict[int, CrateError]) -> CrateError:
    """The error of the first row that has one."""
    return errors[min(errors)]
