"""INSERT: one row, VALUES, a query, and bulk requests.

In: an InsertPlan and its parameters. Out: a Result (count or RETURNING rows), or one BulkItem per parameter row. Its own room
because these are the policies for rows that fail:

* VALUES: every row is checked before any is written. Rows that are refused when written (a key that exists) are an error
  that says how many rows were written; CrateDB drops them silently.
* a query: ends with the first error, which says how many rows were written; CrateDB drops the rows.
* bulk: a value that cannot be converted, or a NULL key, fails the request before anything is written; all else is the error
  of its own item, and the other items are written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import CrateError, DuplicateKey, SQLParseError
from cratepy.execution.engine.engine import Engine
from cratepy.execution.results import BulkItem, Result
from cratepy.execution.writes.blocks import (
    DUPLICATE_WORDS,
    BlockOutcome,
    BlockWriter,
    TargetValues,
    first_error,
    rules_of,
)
from cratepy.execution.writes.expressions import evaluate, parameter_column_id, walk, with_columns_for_parameters
from cratepy.execution.writes.growth import definition_of
from cratepy.execution.writes.layout import Layouts, TableLayout
from cratepy.execution.writes.objects import holds_objects
from cratepy.execution.writes.returning import WrittenRows, returning_result
from cratepy.execution.writes.router import WriteRouter
from cratepy.execution.writes.single import BegunWrite, PreparedPlans, SingleInsert, prepare_insert
from cratepy.execution.writes.single_changes import SingleChanges
from cratepy.execution.writes.values import (
    all_exact,
    column_of_raw_values,
    column_of_values,
    text_column,
    values_of,
)
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Cast, Expression, Literal, Parameter
from cratepy.model.parameter_columns import ParameterColumn, columns_of_rows, values_of_column
from cratepy.model.plan import InsertPlan, QueryPlan, StatementContext
from cratepy.model.relations import Item
from cratepy.model.types import UNDEFINED, DataType

#: Runs a QueryPlan as part of a statement: a Result, whose batches are received.
RunQuery = Callable[[QueryPlan, StatementContext], Awaitable[Result]]


class Inserter:
    """Executes InsertPlans."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        engine: Engine,
        router: WriteRouter,
        blocks: BlockWriter,
        layouts: Layouts,
        run_query: RunQuery,
        changes: SingleChanges,
    ) -> None:
        self._cluster = cluster
        self._engine = engine
        self._router = router
        self._blocks = blocks
        self._layouts = layouts
        self._run_query = run_query
        self._singles = PreparedPlans(prepare_insert)
        self._changes = changes

    async def insert(self, plan: InsertPlan, context: StatementContext) -> Result:
        """Execute the plan; the Result counts the rows written or has RETURNING's rows."""
        result = await self._insert_single(plan, context)
        if result is not None:
            return result
        if plan.query is not None:
            return await self._insert_query(plan, plan.query, context)
        return await self._insert_values(plan, context)

    def _single(self, plan: InsertPlan) -> tuple[TableLayout, SingleInsert] | None:
        """What the short way needs; None if it does not lead."""
        if plan.rows is None or len(plan.rows) != 1:
            return None
        layout = self._layouts.of(definition_of(self._cluster, plan.table_uuid, plan.table))
        prepared = self._singles.of(plan, layout)
        return None if prepared is None else (layout, prepared)

    async def _insert_single(self, plan: InsertPlan, context: StatementContext) -> Result | None:
        single = self._single(plan)
        if single is None:
            return None
        layout, prepared = single
        row = prepared.row(context, self._blocks.ids.take)
        if row is None:
            return None
        if prepared.sets:
            return Result(rowcount=1) if await self._changes.upsert(prepared, row[0], row[1], context) else None
        refusal = await self._router.write_one(layout, "insert", row[0], row[1])
        outcome = _outcome(prepared, is_refused=refusal is not None)
        if isinstance(outcome, CrateError):
            raise outcome
        return Result(rowcount=outcome)

    def insert_nowait(self, plan: InsertPlan, context: StatementContext) -> BegunWrite | None:
        """One row into its log on this node without waiting for anything; None: nothing was done, see :meth:`insert`.

        Raises StaleRouting, then nothing was done, and CrateError.
        """
        single = self._single(plan)
        if single is None:
            return None
        layout, prepared = single
        row = prepared.row(context, self._blocks.ids.take)
        if row is None:
            return None
        if prepared.sets:
            return self._changes.begin_upsert(prepared, row[0], row[1], context)
        begun = self._router.begin_insert(layout, row[0], row[1])
        if begun is None:
            return None
        copy, position, is_refused = begun
        return BegunWrite(copy, position, _outcome(prepared, is_refused=is_refused) if is_refused else 1)

    async def _insert_values(self, plan: InsertPlan, context: StatementContext) -> Result:
        columns, count = _values(plan, context)
        rules = rules_of(plan)
        # Parameters come as the client sent them.
        block, begun = await self._blocks.build_and_begin(
            rules, lambda: columns, count, context, is_raw=plan.rows is not None
        )
        if block.errors:
            raise first_error(block.errors)
        outcome = await self._blocks.write(rules, block, context, wants_rows=bool(plan.returning), begun=begun)
        if outcome.errors:
            raise _told(first_error(outcome.errors), written=outcome.written, count=count)
        if plan.returning:
            return self._returning(plan, outcome.pieces, outcome.layout, context)
        return Result(rowcount=outcome.written)

    def _returning(
        self, plan: InsertPlan, pieces: Sequence[WrittenRows], layout: TableLayout, context: StatementContext
    ) -> Result:
        return returning_result(plan.returning, pieces, layout, self._engine, context)

    # --- INSERT … SELECT ---------------------------------------------------------------------------------------------

    async def _insert_query(self, plan: InsertPlan, query: QueryPlan, context: StatementContext) -> Result:
        """Batches of the query are written while the next ones are computed."""
        rules = rules_of(plan)
        in_order = plan.conflict is not None or bool(plan.returning)
        gate = trio.Semaphore(1 if in_order else limits.WRITE_BATCHES_IN_FLIGHT_MAX)
        pieces: list[WrittenRows] = []
        failures: list[CrateError] = []
        written = 0

        async def write(batch: pa.RecordBatch, first_row: int) -> None:
            nonlocal written
            try:
                columns: list[TargetValues] = list(batch.columns)
                block, begun = await self._blocks.build_and_begin(
                    rules, lambda: columns, batch.num_rows, context, is_raw=False
                )
                if block.errors:
                    failures.append(first_error(block.errors))
                    return
                outcome = await self._blocks.write(rules, block, context, wants_rows=bool(plan.returning), begun=begun)
                written += outcome.written
                pieces.extend(piece.moved(first_row) for piece in outcome.pieces)
                if outcome.errors:
                    failures.append(first_error(outcome.errors))
            except CrateError as error:
                failures.append(error)
            finally:
                gate.release()

        read = 0
        batches = await self._run_query(query, context)
        try:
            async with trio.open_nursery() as nursery:
                while (batch := await batches.receive()) is not None:
                    await gate.acquire()
                    if failures:
                        gate.release()
                        break
                    nursery.start_soon(write, batch, read)
                    read += batch.num_rows
        finally:
            await batches.aclose()
        if failures:
            raise _told(failures[0], written=written, count=None)
        if not plan.returning:
            return Result(rowcount=written)
        layout = self._layouts.of(definition_of(self._cluster, plan.table_uuid, plan.table))
        return self._returning(plan, pieces, layout, context)

    # --- bulk --------------------------------------------------------------------------------------------------------

    async def insert_bulk(
        self, plan: InsertPlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        """All parameter rows in one pass; one item each, in order."""
        if not parameter_rows:
            return []
        if plan.query is not None:
            return await one_by_one(self.insert, plan, context, parameter_rows)
        read = partial(self._bulk_columns, plan, context, parameter_rows)
        width = len(plan.columns_data[0]) if plan.columns_data is not None else len(plan.rows or ())
        count = width * len(parameter_rows)
        rules = rules_of(plan)
        block, begun = await self._blocks.build_and_begin(rules, read, count, context, is_raw=True)
        for row in sorted(block.errors):
            if block.errors[row].message == "A primary key value must not be NULL":
                raise block.errors[row]
        outcome = await self._blocks.write(rules, block, context, begun=begun)
        if not outcome.errors and not outcome.skipped:
            # One object many times, which those who look at the items know how to make use of.
            return [BulkItem(width)] * len(parameter_rows)
        return [_item(outcome, range(start, start + width)) for start in range(0, count, width)]

    def _bulk_columns(
        self, plan: InsertPlan, context: StatementContext, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[TargetValues]:
        """The target columns of the rows that all parameter rows make."""
        given, items = columns_of_rows(parameter_rows), len(parameter_rows)
        _check_parameters(plan, len(given))
        layout = self._layouts.of(definition_of(self._cluster, plan.table_uuid, plan.table))
        if plan.columns_data is not None:
            return [list(values) * items for values in plan.columns_data]
        assert plan.rows is not None
        width = len(plan.rows)
        if width == 1:
            return self._bulk_row(plan, plan.rows[0], given, items, layout, context)
        rows = [self._bulk_row(plan, row, given, items, layout, context) for row in plan.rows]
        order = pa.array([row * items + item for item in range(items) for row in range(width)], type=pa.int64())
        columns: list[TargetValues] = []
        for pieces in zip(*rows, strict=True):
            if isinstance(pieces[0], list):
                columns.append([piece[item] for item in range(items) for piece in pieces])
            else:
                columns.append(pa.concat_arrays(pieces).take(order))
        return columns

    def _bulk_row(
        self,
        plan: InsertPlan,
        row: tuple[Expression, ...],
        given: Sequence[ParameterColumn],
        count: int,
        layout: TableLayout,
        context: StatementContext,
    ) -> list[TargetValues]:
        errors: dict[int, CrateError] = {}
        columns: list[TargetValues] = []
        new = {field.name for field in plan.new_columns}
        for name, expression in zip(plan.targets, row, strict=True):
            # A column that was new when the statement was planned is told by its values, or converted when it is known.
            data_type = UNDEFINED if name in new else layout.column(name).type
            match expression:
                case Literal():
                    columns.append([expression.value] * count)
                case Parameter() if name in new or holds_objects(data_type):
                    columns.append(list(values_of_column(given[expression.index])))
                case Parameter():
                    columns.append(column_of_raw_values(given[expression.index], data_type, errors))
                case Cast(Parameter() as inner, cast_type) if (
                    expression.is_implicit and cast_type == data_type and _is_plain(inner.type) and _is_plain(data_type)
                ):
                    # JSON numbers for a narrower column: the same conversion without the engine.
                    columns.append(column_of_raw_values(given[inner.index], data_type, errors))
                case _:
                    array = _read_texts(expression, given) if name not in new else None
                    if array is None:
                        array = self._computed(expression, given, count, context, errors)
                    columns.append(from_arrow(array, expression.type) if name in new else array)
        if errors:
            raise first_error(errors)
        # Lists among arrays: literals and objects, which are of their types or are fitted to them.
        return columns

    def _computed(
        self,
        expression: Expression,
        given: Sequence[ParameterColumn],
        count: int,
        context: StatementContext,
        errors: dict[int, CrateError],
    ) -> pa.Array:
        """An expression over the parameters, for all parameter rows."""
        named = {part.index: part.type for part in walk(expression) if isinstance(part, Parameter)}
        arrays = {
            parameter_column_id(index): column_of_raw_values(given[index], data_type, errors)
            for index, data_type in named.items()
        }
        if errors:
            raise first_error(errors)
        if not named:
            value = values_of((expression,), context)[0]
            return column_of_values([value] * count, expression.type)
        item = Item(1, "value", with_columns_for_parameters(expression))
        return evaluate(self._engine, (item,), arrays, count, context, errors)[0]


def _outcome(prepared: SingleInsert, *, is_refused: bool) -> int | CrateError:
    """The row count, or the error, of a row whose key may exist."""
    if not is_refused:
        return 1
    return 0 if prepared.skips_duplicates else DuplicateKey(DUPLICATE_WORDS)


def _values(plan: InsertPlan, context: StatementContext) -> tuple[list[TargetValues], int]:
    """The target columns of a VALUES list as SQL values."""
    if plan.columns_data is not None:
        return list(plan.columns_data), len(plan.columns_data[0])
    assert plan.rows is not None
    width = len(plan.targets)
    values = values_of([expression for row in plan.rows for expression in row], context)
    return [values[i::width] for i in range(width)], len(plan.rows)


def _told(error: CrateError, *, written: int, count: int | None) -> CrateError:
    """The error, saying how much of the statement was done if it was more than one row."""
    if count == 1 or (count is None and written == 0):
        return error
    done = f"{written} rows" if count is None else f"{written} of {count} rows"
    return type(error)(f"{error.message} ({done} were written)")


def _read_texts(expression: Expression, given: Sequence[ParameterColumn]) -> pa.Array | None:
    """Texts of times (from JSON, which has no others) as Arrow reads them, if all are plain: it is what the cast gives."""
    match expression:
        case Cast(Parameter() as inner, cast_type) if cast_type.is_timestamp and inner.type.kind == "text":
            values = values_of_column(given[inner.index])
            if all_exact(values, "text"):
                return text_column(pa.array(values, type=pa.string()), cast_type)
    return None


def _is_plain(data_type: DataType) -> bool:
    return data_type.is_integer or data_type.is_timestamp or data_type.kind in ("real", "double precision")


def _check_parameters(plan: InsertPlan, given: int) -> None:
    for row in plan.rows or ():
        for expression in row:
            for part in walk(expression):
                if isinstance(part, Parameter) and part.index >= given:
                    raise SQLParseError(
                        f"The query contains a parameter placeholder ${part.index + 1}, "
                        f"but there are only {given} parameter values"
                    )


def _item(outcome: BlockOutcome, rows: range) -> BulkItem:
    for row in rows:
        error = outcome.errors.get(row)
        if error is not None:
            return BulkItem(0, error)
    return BulkItem(sum(1 for row in rows if row not in outcome.skipped))


async def one_by_one(
    execute: Callable[[Any, StatementContext], Awaitable[Result]],
    plan: Any,
    context: StatementContext,
    parameter_rows: Sequence[Sequence[Any]],
) -> list[BulkItem]:
    """Statements that cannot be gathered: in order, each with its own outcome."""
    items = []
    for parameters in parameter_rows:
        try:
            result = await execute(plan, context.with_parameters(parameters))
        except CrateError as error:
            items.append(BulkItem(0, error))
        else:
            items.append(BulkItem(max(result.rowcount, 0)))
    return items
