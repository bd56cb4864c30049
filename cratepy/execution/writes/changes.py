"""UPDATE and DELETE: find rows, change or remove each under the version it has now.

In: an UpdatePlan or DeletePlan and its parameters. Out: a Result (count or RETURNING rows), or one BulkItem per parameter
row. Its own room because both are a search followed by the optimistic loop; the search may be old (it sees the last
refresh), the loop never is.

Bulk requests that address rows by key and set constants are gathered into one pass; all others run one after the other.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import CrateError, DocumentMissing, UnsupportedFeature, VersionConflict
from cratepy.execution.engine.engine import Engine
from cratepy.execution.lookups import LookupService, RowReader
from cratepy.execution.results import BulkItem, Result
from cratepy.execution.writes.assignments import Changes, is_constant
from cratepy.execution.writes.found_rows import FoundRows, Pace, piece_of_found, piece_of_newer
from cratepy.execution.writes.growth import definition_of
from cratepy.execution.writes.inserts import RunQuery, one_by_one
from cratepy.execution.writes.layout import Layouts, TableLayout
from cratepy.execution.writes.recheck import recheck_of
from cratepy.execution.writes.returning import WrittenRows, returning_result
from cratepy.execution.writes.router import RowWrites, WriteRouter
from cratepy.execution.writes.single import BegunWrite
from cratepy.execution.writes.single_changes import SingleChanges, is_by_one_key
from cratepy.execution.writes.updater import Candidates, ReadRows, UpdateOutcome, Updater
from cratepy.execution.writes.values import at_rest, column_of_raw_values, column_of_values, values_of
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.expressions import Literal, Parameter
from cratepy.model.parameter_columns import columns_of_rows
from cratepy.model.plan import DeletePlan, GetPlan, StatementContext, UpdatePlan
from cratepy.model.routing import key_text, shards_of
from cratepy.model.schema import TableDefinition
from cratepy.storage.leaves import shred


class Changer:
    """Executes UpdatePlans and DeletePlans."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        engine: Engine,
        router: WriteRouter,
        updater: Updater,
        reader: RowReader,
        lookups: LookupService,
        layouts: Layouts,
        run_query: RunQuery,
        singles: SingleChanges,
    ) -> None:
        self._cluster = cluster
        self._engine = engine
        self._router = router
        self._updater = updater
        self._reader = reader
        self._lookups = lookups
        self._layouts = layouts
        self._run_query = run_query
        self._singles = singles

    # --- statements --------------------------------------------------------------------------------------------------

    async def update(self, plan: UpdatePlan, context: StatementContext) -> Result:
        """Execute the plan; the Result counts the rows changed or has RETURNING's rows."""
        single = await self._singles.update(plan, self._layout(plan), context)
        if single is not None:
            return Result(rowcount=single)
        changes = Changes(plan.assignments, plan.generated, plan.checks)
        pieces: list[WrittenRows] = []
        changed = read = 0
        pace = Pace()
        async for block in self._find(plan, context):
            for found in pace.parts(block):
                candidates = await self._candidates(plan, found)
                outcome = await self._updater.update(candidates, changes, context, wants_rows=bool(plan.returning))
                pace.note(len(outcome.written), outcome.written_bytes)
                changed += len(outcome.written)
                pieces.extend(piece.moved(read) for piece in outcome.pieces)
                read += len(found.ids)
                if outcome.errors:
                    raise _told(outcome.errors, changed=changed)
        if plan.returning:
            layout = self._layout(plan)
            return returning_result(plan.returning, pieces, layout, self._engine, context)
        return Result(rowcount=changed)

    def update_nowait(self, plan: UpdatePlan, context: StatementContext) -> BegunWrite | None:
        """A row that a key names, without waiting for anything; None: nothing was done, see :meth:`update`."""
        return self._singles.begin_update(plan, self._layout(plan), context)

    def delete_nowait(self, plan: DeletePlan, context: StatementContext) -> BegunWrite | None:
        """As :meth:`update_nowait`."""
        return self._singles.begin_delete(plan, self._layout(plan), context)

    async def delete(self, plan: DeletePlan, context: StatementContext) -> Result:
        """Execute the plan; RETURNING gives the rows as they were."""
        single = await self._singles.delete(plan, self._layout(plan), context)
        if single is not None:
            return Result(rowcount=single)
        pieces: list[WrittenRows] = []
        deleted = read = 0
        async for found in self._find(plan, context):
            candidates = await self._candidates(plan, found)
            # A key means whatever row has it now; a search or RETURNING means the row that was seen.
            is_by_key = isinstance(plan.find, GetPlan) and plan.find.residual is None and not plan.returning
            outcome = await self._delete(candidates, context, is_by_key=is_by_key and not plan.expects_version)
            deleted += len(outcome.written)
            if plan.returning and outcome.written:
                again = {position for piece in outcome.pieces for position in piece.positions}
                as_found = piece_of_found(found, sorted(outcome.written - again), self._layout(plan))
                pieces.extend(piece.moved(read) for piece in (as_found, *outcome.pieces) if piece.ids)
            read += len(found.ids)
            if outcome.errors:
                raise _told(outcome.errors, changed=deleted)
        if plan.returning:
            return returning_result(plan.returning, pieces, self._layout(plan), self._engine, context)
        return Result(rowcount=deleted)

    async def _delete(self, candidates: Candidates, context: StatementContext, *, is_by_key: bool) -> UpdateOutcome:
        """Delete the rows; one that changed since it was seen is looked at again, and is a piece of the outcome then."""
        outcome = UpdateOutcome()
        pending = list(range(len(candidates.ids)))
        expected: dict[int, tuple[int, int]] = {}
        newer: ReadRows | None = None
        if candidates.seen is not None and not is_by_key:
            expected = dict(enumerate(candidates.seen))
        for _ in range(limits.WRITE_CONFLICT_ROUNDS_MAX):
            report = await self._router.write(
                RowWrites(
                    definition=candidates.definition,
                    kind="delete",
                    ids=[candidates.ids[i] for i in pending],
                    shards=np.asarray([candidates.shards[i] for i in pending], dtype=np.int64),
                    rows=None,
                    expected=[expected.get(i) for i in pending] if expected else None,
                )
            )
            for row, error in report.errors.items():
                outcome.errors[pending[row]] = error
            conflicts = []
            done = []
            for row, position in enumerate(pending):
                match report.refused.get(row):
                    case None:
                        if row not in report.errors:
                            outcome.written.add(position)
                            done.append(row)
                    case "missing":
                        outcome.missing.add(position)
                    case _:
                        conflicts.append(position)
            if newer is not None and done:
                outcome.pieces.append(piece_of_newer(newer.kept(done), candidates.ids))
            if not conflicts or candidates.is_pinned:
                return outcome
            layout = self._layouts.of(candidates.definition)
            newer = await self._updater.read_rows(candidates, conflicts, layout, outcome)
            newer = self._updater.still_wanted(candidates, newer, context)
            pending = newer.positions
            if not pending:
                return outcome
            expected.update(zip(pending, newer.versions, strict=True))
        raise VersionConflict(f"Rows changed by other writers in each of {limits.WRITE_CONFLICT_ROUNDS_MAX} attempts")

    # --- finding -----------------------------------------------------------------------------------------------------

    async def _find(self, plan: UpdatePlan | DeletePlan, context: StatementContext) -> Any:
        """The rows meant, in blocks. An async generator; only this module iterates it, to its end or its error."""
        if isinstance(plan.find, GetPlan):
            result = await self._lookups.get(plan.find, context)
            rows = result.rows or []
            if not rows:
                return
            columns = list(zip(*rows, strict=True))
            assert result.columns is not None
            yield FoundRows(
                ids=list(columns[0]),
                seen=list(zip(columns[1], columns[2], strict=True)),
                columns={
                    column.id: to_arrow(list(values), column.type)
                    for column, values in zip(result.columns[3:], columns[3:], strict=True)
                },
            )
            return
        batches = await self._run_query(plan.find, context)
        try:
            while (batch := await batches.receive()) is not None:
                ids, seq_nos, terms = (batch.column(i).to_pylist() for i in range(3))
                yield FoundRows(
                    ids=ids,
                    seen=list(zip(seq_nos, terms, strict=True)),
                    columns={c.id: batch.column(i + 3) for i, c in enumerate(plan.find.columns[3:])},
                )
        finally:
            await batches.aclose()

    async def _candidates(self, plan: UpdatePlan | DeletePlan, found: FoundRows) -> Candidates:
        definition = definition_of(self._cluster, plan.table_uuid, plan.table)
        return Candidates(
            definition=definition,
            ids=found.ids,
            shards=await self._shards(definition, found),
            seen=found.seen,
            recheck=recheck_of(plan.find),
            is_pinned=plan.expects_version,
        )

    async def _shards(self, definition: TableDefinition, found: FoundRows) -> list[int]:
        """The shard of every row: by its id, by the first part of a composite id, by its column, or by asking all."""
        layout = self._layouts.of(definition)
        if layout.routing is None or definition.shards == 1:
            return shards_of(found.ids, definition).tolist()
        if layout.clustered_position is not None:
            return shards_of([_first_part(row_id) for row_id in found.ids], definition).tolist()
        array = found.columns.get(layout.routing)
        if array is not None:
            data_type, leaf = layout.by_oid[layout.routing].type, layout.routing_leaf
            if leaf is not None:
                array, data_type = shred(at_rest(array, data_type), [leaf])[0], leaf.type
            texts = [
                row_id if value is None else key_text(value, data_type)
                for row_id, value in zip(found.ids, from_arrow(array, data_type), strict=True)
            ]
            return shards_of(texts, definition).tolist()
        return await self._probe(definition, found.ids)

    async def _probe(self, definition: TableDefinition, ids: Sequence[str]) -> list[int]:
        """A table without key that routes by a column: the id does not tell the shard, so all are asked."""
        count = definition.shards
        rows = await self._reader.read(
            definition, [row_id for row_id in ids for _ in range(count)], list(range(count)) * len(ids), ("_seq_no",)
        )
        shards = []
        for start in range(0, len(rows), count):
            holders = [shard for shard in range(count) if rows[start + shard] is not None]
            # A row that is gone is looked for, and not found, in shard 0.
            shards.append(holders[0] if holders else 0)
        return shards

    def _layout(self, plan: UpdatePlan | DeletePlan) -> TableLayout:
        return self._layouts.of(definition_of(self._cluster, plan.table_uuid, plan.table))

    # --- bulk --------------------------------------------------------------------------------------------------------

    async def update_bulk(
        self, plan: UpdatePlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        """One item per parameter row; a key that finds nothing is the error DocumentMissing."""
        if not is_by_one_key(plan) or not all(_is_settable(item.expression) for item in plan.assignments):
            items = await one_by_one(self.update, plan, context, parameter_rows)
            return _with_missing(plan, items, context, parameter_rows)
        ids, candidates = self._keys(plan, context, parameter_rows)
        given = columns_of_rows(parameter_rows)
        errors: dict[int, CrateError] = {}
        assigned = []
        for item in plan.assignments:
            expression = item.expression
            if isinstance(expression, Parameter):
                array = column_of_raw_values(given[expression.index], expression.type, errors)
            else:
                value = values_of((expression,), context)[0]
                array = column_of_values([value] * len(parameter_rows), expression.type)
            assigned.append(array)
        if errors:
            raise errors[min(errors)]
        changes = Changes(plan.assignments, plan.generated, plan.checks)
        outcome = await self._updater.update(candidates, changes, context, assigned=assigned)
        return _items(ids, outcome)

    async def delete_bulk(
        self, plan: DeletePlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        """As :meth:`update_bulk`."""
        if not is_by_one_key(plan):
            items = await one_by_one(self.delete, plan, context, parameter_rows)
            return _with_missing(plan, items, context, parameter_rows)
        ids, candidates = self._keys(plan, context, parameter_rows)
        return _items(ids, await self._delete(candidates, context, is_by_key=True))

    def _keys(
        self, plan: UpdatePlan | DeletePlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> tuple[list[str], Candidates]:
        """The one key of every parameter row. A key with a NULL finds nothing; its id is one that no row has."""
        assert isinstance(plan.find, GetPlan)
        ids, shards = self._lookups.keys_of_rows(plan.find, context, parameter_rows)
        definition = definition_of(self._cluster, plan.table_uuid, plan.table)
        return ids, Candidates(definition=definition, ids=ids, shards=shards)


def _is_settable(expression: Any) -> bool:
    if expression.type.kind == "undefined":
        return False
    if isinstance(expression, Literal | Parameter):
        return True
    return is_constant(expression) and not any(isinstance(part, Parameter) for part in _inside(expression))


def _inside(expression: Any) -> list[Any]:
    inside = []
    while hasattr(expression, "argument"):
        expression = expression.argument
        inside.append(expression)
    return inside


def _items(ids: list[str], outcome: UpdateOutcome) -> list[BulkItem]:
    items = []
    for position, row_id in enumerate(ids):
        if position in outcome.written:
            items.append(BulkItem(1))
        elif position in outcome.errors:
            items.append(BulkItem(0, outcome.errors[position]))
        else:
            items.append(BulkItem(0, DocumentMissing(f"[{row_id}]: document missing")))
    return items


def _with_missing(
    plan: UpdatePlan | DeletePlan,
    items: list[BulkItem],
    context: StatementContext,
    parameter_rows: Sequence[Sequence[Any]],
) -> list[BulkItem]:
    """Rows addressed by key that were not there are errors, as in CrateDB; a search that finds nothing is not."""
    find = plan.find
    if not isinstance(find, GetPlan) or plan.expects_version or find.residual is not None or not find.keys:
        return items
    told = []
    for item, parameters in zip(items, parameter_rows, strict=True):
        if item.error is None and item.rowcount == 0:
            keys = values_of([part for key in find.keys for part in key], context.with_parameters(parameters))
            item = replace(item, error=DocumentMissing(f"[{', '.join(map(str, keys))}]: document missing"))
        told.append(item)
    return told


def _first_part(id: str) -> str:
    """The CLUSTERED BY value's text at the start of a composite id."""
    data = base64.b64decode(id)
    length = shift = 0
    place = 1
    while True:
        byte = data[place]
        length |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            return data[place : place + length].decode()


def _told(errors: dict[int, CrateError], *, changed: int) -> CrateError:
    error = errors[min(errors)]
    if changed == 0 or isinstance(error, UnsupportedFeature):
        return error
    return type(error)(f"{error.message} ({changed} rows were changed)")
