"""COPY FROM: files to rows, several blocks at a time, while the next ones are read.

In: a CopyFromPlan. Out: the number of rows written, or RETURN SUMMARY's rows. Its own room because reading, parsing and
writing overlap here, within bounds::

    file ──read (thread)──► block ──parse, complete (thread)──► rows ──► shards (threads) ──► fsync
             one at a time            COPY_BLOCKS_AHEAD blocks at a time

Rows that fail do not fail the statement: they are counted by message, with line numbers. But a statement that did nothing
says why: a file that cannot be read, a scheme that is unknown, or not one row that could be written is an error (CrateDB
answers 0 rows), unless RETURN SUMMARY tells it. Files are read on the node the client talks to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import BadRequest, CrateError, JobKilled
from cratepy.execution.results import Result
from cratepy.execution.writes.blocks import BlockOutcome, BlockWriter, rules_of
from cratepy.execution.writes.copy_files import (
    Block,
    CopyOptions,
    SourceFile,
    copy_options,
    find_files,
    read_blocks,
)
from cratepy.execution.writes.copy_parquet import parse_parquet
from cratepy.execution.writes.copy_parse import (
    CsvMemory,
    JsonMemory,
    ParsedBlock,
    csv_header,
    json_memory,
    parse_csv,
    parse_json,
)
from cratepy.execution.writes.copy_progress import CopyProgress, FileSummary
from cratepy.execution.writes.growth import definition_of
from cratepy.execution.writes.layout import TableLayout, make_layout
from cratepy.execution.writes.values import values_of
from cratepy.model.plan import CopyFromPlan, StatementContext
from cratepy.model.relations import OutputColumn
from cratepy.model.schema import TableDefinition
from cratepy.model.types import BIGINT, OBJECT, TEXT

#: RETURN SUMMARY's columns, as in CrateDB.
SUMMARY_COLUMNS: Final = (
    OutputColumn(1, "node", OBJECT),
    OutputColumn(2, "uri", TEXT),
    OutputColumn(3, "success_count", BIGINT),
    OutputColumn(4, "error_count", BIGINT),
    OutputColumn(5, "errors", OBJECT),
)


class Copier:
    """Executes CopyFromPlans."""

    def __init__(self, *, cluster: ClusterService, blocks: BlockWriter) -> None:
        self._cluster = cluster
        self._blocks = blocks
        self._threads = trio.CapacityLimiter(limits.WRITE_THREADS_MAX)
        self._running: dict[str, CopyProgress] = {}

    def progress(self, job_id: str) -> CopyProgress | None:
        return self._running.get(job_id)

    async def copy_from(self, plan: CopyFromPlan, context: StatementContext) -> Result:
        """Execute the plan; see the module for errors."""
        options = copy_options(plan.options, plan.format)
        uris = _uris(values_of((plan.uris,), context)[0])
        files = await trio.to_thread.run_sync(find_files, uris, options, limiter=self._threads)
        if not plan.returns_summary:
            for file in files:
                if file.error is not None:
                    raise type(file.error)(f"COPY FROM: {file.error.message}")
        progress = CopyProgress(bytes_total=sum(file.size_bytes for file in files))
        self._running[context.job_id] = progress
        try:
            newest = partial(definition_of, self._cluster, plan.table_uuid, plan.table)
            run = _CopyRun(self._blocks, plan, options, context, progress, newest, self._threads)
            for file in files:
                await run.copy_file(file)
        finally:
            del self._running[context.job_id]
        if plan.returns_summary:
            return Result(columns=SUMMARY_COLUMNS, rows=self._summary(progress))
        _raise_if_fruitless(progress)
        return Result(rowcount=progress.rows_written)

    def _summary(self, progress: CopyProgress) -> list[tuple[Any, ...]]:
        node_id = self._cluster.node_id
        info = self._cluster.state.nodes.get(node_id)
        node = {"id": node_id, "name": node_id if info is None else info.name}
        return [(node, file.uri, file.success_count, file.error_count, file.errors()) for file in progress.files]


class _CopyRun:
    """One COPY FROM: what stays the same for all its blocks."""

    def __init__(
        self,
        blocks: BlockWriter,
        plan: CopyFromPlan,
        options: CopyOptions,
        context: StatementContext,
        progress: CopyProgress,
        newest: Callable[[], TableDefinition],
        threads: trio.CapacityLimiter,
    ) -> None:
        layout = make_layout(newest())
        self._blocks = blocks
        self._plan = plan
        self._options = options
        self._context = context
        self._progress = progress
        self._newest = newest
        self._threads = threads
        self._defaults = {item.name: item.expression for item in plan.insert.defaults}
        self._generated = {item.name for item in plan.insert.generated}
        self._positional = plan.targets or tuple(c.name for c in layout.columns if c.name not in self._generated)
        #: Whether names that the table does not know become columns of it.
        self._adds = plan.targets is None and layout.definition.column_policy == "dynamic"
        self._names: tuple[str, ...] = ()
        self._csv = CsvMemory()
        self._look_at(layout)

    def _look_at(self, layout: TableLayout) -> None:
        """Parse for this version of the table from now on; blocks that are being parsed have the one before."""
        self._layout = layout
        self._wanted = self._plan.targets or tuple(column.name for column in layout.columns)
        computed = self._generated | self._defaults.keys()
        needs_absent = not computed.isdisjoint(self._wanted)
        self._json = json_memory(self._wanted, layout, needs_absent=needs_absent)

    async def copy_file(self, file: SourceFile) -> None:
        """All blocks of one file; its summary is in the progress afterwards."""
        summary = FileSummary(file.uri)
        self._progress.files.append(summary)
        self._progress.file = file.uri
        if file.error is not None:
            summary.fail(file.error)
            return
        blocks = read_blocks(file, self._options)
        gate = trio.Semaphore(limits.COPY_BLOCKS_AHEAD)
        failures: list[CrateError] = []
        start_bytes = self._progress.bytes_done
        is_first = True
        async with trio.open_nursery() as nursery:
            while not failures:
                await gate.acquire()
                try:
                    block = await trio.to_thread.run_sync(next, blocks, None, limiter=self._threads)
                except CrateError as error:
                    summary.add_error(error, None)
                    break
                if block is None:
                    break
                self._progress.bytes_done = start_bytes + block.bytes_done
                if is_first and file.format == "csv":
                    block = self._take_header(block)
                is_first = False
                nursery.start_soon(self._copy_block, file, block, summary, gate, failures)
        if failures:
            raise failures[0]

    def _take_header(self, block: Block) -> Block:
        assert isinstance(block.data, bytes)
        names, rest, lines = csv_header(block.data, self._options)
        self._names = names or self._positional
        return Block(rest, block.first_line + lines, block.bytes_done)

    async def _copy_block(
        self, file: SourceFile, block: Block, summary: FileSummary, gate: trio.Semaphore, failures: list[CrateError]
    ) -> None:
        try:
            if self._adds:
                # Once the first block has added its columns the next ones are parsed the fast way.
                newest = self._newest()
                if newest.version != self._layout.definition.version:
                    self._look_at(make_layout(newest))
            parse = partial(self._parse, file, block, self._layout, self._wanted, self._json)
            parsed = await trio.to_thread.run_sync(parse, limiter=self._threads)
            for part in _in_parts(parsed, limits.WRITE_BATCH_ROWS * limits.WRITE_BATCHES_IN_FLIGHT_MAX):
                self._count(part, await self._write(part), summary)
        except CrateError as error:
            failures.append(error)
        finally:
            gate.release()

    def _parse(
        self, file: SourceFile, block: Block, layout: TableLayout, wanted: tuple[str, ...], memory: JsonMemory
    ) -> ParsedBlock:
        """On a worker thread."""
        data = block.data
        if not isinstance(data, bytes):
            return parse_parquet(data, wanted, layout, block.first_line, adds=self._adds)
        if file.format == "csv":
            if self._adds:
                wanted = (*wanted, *(name for name in self._names if name not in wanted))
            return parse_csv(data, self._names, wanted, layout, block.first_line, self._options, self._csv)
        return parse_json(data, wanted, layout, block.first_line, memory, adds=self._adds)

    async def _write(self, parsed: ParsedBlock) -> BlockOutcome:
        columns = [
            self._with_defaults(name, values, parsed)
            for name, values in zip(parsed.targets, parsed.columns, strict=True)
        ]
        kept = [(name, values) for name, values in zip(parsed.targets, columns, strict=True) if values is not None]
        rules = rules_of(
            self._plan.insert,
            targets=tuple(name for name, _ in kept),
            overwrites=self._options.overwrite_duplicates and bool(self._layout.key),
        )
        block = await self._blocks.build(
            rules,
            [values for _, values in kept],
            parsed.count,
            self._context,
            is_raw=True,
            errors=parsed.errors,
            absent=parsed.absent,
        )
        return await self._blocks.write(rules, block, self._context)

    def _with_defaults(
        self, name: str, values: list[Any] | pa.Array, parsed: ParsedBlock
    ) -> list[Any] | pa.Array | None:
        """The values with defaults where a row does not name the column; None if no row does."""
        absent = parsed.absent.get(name)
        if not absent or not isinstance(values, list):
            return values
        if len(absent) == parsed.count:
            return None
        default = self._defaults.get(name)
        if default is not None:
            for row in absent:
                values[row] = values_of((default,), self._context)[0]
        return values

    def _count(self, parsed: ParsedBlock, outcome: BlockOutcome, summary: FileSummary) -> None:
        summary.success_count = (summary.success_count or 0) + outcome.written
        self._progress.rows_written += outcome.written
        self._progress.rows_failed += len(outcome.errors)
        for row in sorted(outcome.errors):
            summary.add_error(outcome.errors[row], parsed.line_of(row))
        if outcome.errors and self._options.fail_fast:
            row = min(outcome.errors)
            error = outcome.errors[row]
            raise JobKilled(f"{error.message} [URI: {summary.uri}, line {parsed.line_of(row)}]")


def _in_parts(parsed: ParsedBlock, rows_max: int) -> Iterator[ParsedBlock]:
    """A block of very short rows in several pieces."""
    if parsed.count <= rows_max:
        yield parsed
        return
    for start in range(0, parsed.count, rows_max):
        end = min(start + rows_max, parsed.count)
        yield ParsedBlock(
            end - start,
            parsed.targets,
            [values[start:end] for values in parsed.columns],
            lambda row, start=start: parsed.line_of(start + row),  # type: ignore[misc]
            {row - start: error for row, error in parsed.errors.items() if start <= row < end},
            {name: [row - start for row in rows if start <= row < end] for name, rows in parsed.absent.items()},
        )


def _uris(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(uri, str) for uri in value):
        return value
    raise BadRequest(f"fileUri must be of type STRING or STRING ARRAY. Got {value}")


def _raise_if_fruitless(progress: CopyProgress) -> None:
    """Not one row: say why."""
    if progress.rows_written or not any(file.first for file in progress.files):
        return
    file = next(file for file in progress.files if file.first is not None)
    assert file.first is not None
    message, count = file.counts.most_common(1)[0]
    raise type(file.first)(
        f"COPY FROM {file.uri}: no row could be written, {progress.rows_failed} failed; {count} of them with: {message}"
    )
