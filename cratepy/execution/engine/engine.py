"""The engine's front door: a fragment and its inputs in, batches out.

In: a relation tree, one :class:`FragmentInput` per scan or exchange leaf, the statement's context. Out: a
:class:`~cratepy.execution.engine.stream.FragmentStream` (large or unknown), a list of batches (``run_small``) or one batch
(``evaluate``). A session context of the engine lives as long as its fragment; memory pool and spill directory are the
node's. Facts and figures about DataFusion that shaped this: docs/architecture/engine.md.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import trio

from cratepy.errors import CrateError
from cratepy.execution.engine import failures
from cratepy.execution.engine.decorrelate import without_subqueries
from cratepy.execution.engine.expressions import Text
from cratepy.execution.engine.inputs import ROW_MARKER, FragmentInput, Series, bind
from cratepy.execution.engine.kernels import BatchTooLarge, Notes, encoded, weighed
from cratepy.execution.engine.render import Renderer
from cratepy.execution.engine.stopping import JoinGuard
from cratepy.execution.engine.stream import FragmentStream
from cratepy.functions.evaluate import children, value_of
from cratepy.model.arrow import arrow_schema, arrow_type, from_arrow
from cratepy.model.expressions import Column, Expression
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    Apply,
    ExchangeInput,
    Item,
    Join,
    OutputColumn,
    Project,
    Relation,
    SetOperation,
    output_columns,
)
from cratepy.model.relations import children as relation_children
from cratepy.records import dataclass

if TYPE_CHECKING:
    from datafusion import RuntimeEnvBuilder, SessionContext

    from cratepy.execution.engine.loop import LoopThread

#: Inputs with fewer rows than this run in one partition: starting threads costs more.
_ONE_PARTITION_ROWS_MAX: Final = 16_384
#: Up to so many rows evaluate() computes in Python; DataFusion needs a millisecond to start.
_PYTHON_ROWS_MAX: Final = 256
_BATCH_ROWS: Final = 8_192
#: DataFusion's parser refuses deeper SQL (its default is 50). Each of our operators is a level of the rendered text, and
#: joined-in subqueries repeat their left side, so that the nesting of what people write says little.
_SQL_NESTING_MAX: Final = 400


#: Sessions of a kind kept for the next fragment.
_IDLE_SESSIONS_MAX: Final = 8


class _Way(enum.Enum):
    """How a fragment is run, in the order tried: the next one takes over if memory is exhausted before the first batch.

    Partitions side by side may not spill: a repartitioning that spills from two inputs at once waits for ever
    (apache/datafusion issue 24883). So they run without a disk, and what does not fit runs again in one partition.
    """

    PARALLEL = enum.auto()
    SPILLING = enum.auto()
    #: Hash joins cannot spill, sort-merge joins can.
    MERGING = enum.auto()
    #: What a function makes of the usual number of rows is too much: fewer rows at once.
    NARROW = enum.auto()
    NARROWEST = enum.auto()


_BATCH_ROWS_OF: Final = {_Way.NARROW: 128, _Way.NARROWEST: 4}


def _next_way(ways: list[_Way], error: BaseException) -> bool:
    """Whether there is another way after the first of these has failed; then it is the first."""
    tried = ways.pop(0)
    if failures.is_batch_too_large(error):
        ways[:] = [way for way in _BATCH_ROWS_OF if tried not in _BATCH_ROWS_OF or way.value > tried.value]
    elif not failures.is_exhausted(error):
        return False
    return bool(ways)


@dataclass(frozen=True, slots=True)
class _SessionKind:
    """What differs between the engine's sessions; the number of kinds with the usual batches is six."""

    partitions: int
    batch_rows: int
    way: _Way
    has_union: bool


@dataclass(slots=True)
class _Fragment:
    """A fragment ready to run: the engine's session and the text over its tables."""

    session: SessionContext
    sql: str
    text: Text
    notes: Notes
    schema: pa.Schema
    #: The session may serve another fragment: the plan has all it needs.
    release: Callable[[], None]

    def frame(self) -> Any:
        """The planned text; once."""
        frame = self.session.sql(self.sql, param_values=self.text.parameters)
        self.release()
        return frame


class Engine:
    """One per node. ``open`` and ``run_small`` are for trio tasks, ``evaluate`` for any thread."""

    def __init__(self, *, memory_bytes: int, spill_path: Path, partitions: int) -> None:
        assert memory_bytes > 0
        assert partitions > 0
        spill_path.mkdir(parents=True, exist_ok=True)
        self._memory_bytes = memory_bytes
        self._partitions = partitions
        self._spill_path = spill_path
        self._spilling_runtime: RuntimeEnvBuilder | None = None
        self._parallel_runtime: RuntimeEnvBuilder | None = None
        self._loop: LoopThread | None = None
        self._lock = threading.Lock()
        self._idle: dict[_SessionKind, list[SessionContext]] = {}

    def close(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.close()
                self._loop = None

    def prepare(self) -> None:
        """Do on this thread what the first fragment would wait for: load the library, make a session."""
        kind = _SessionKind(1, _BATCH_ROWS, _Way.SPILLING, False)
        self._put_back(self._session(kind), kind, tables=0, kernels=0)

    def _loop_thread(self) -> LoopThread:
        """Called on a worker thread: the first call imports asyncio, which is for streams only."""
        with self._lock:
            if self._loop is None:
                from cratepy.execution.engine.loop import LoopThread

                self._loop = LoopThread()
            return self._loop

    def open(
        self,
        relation: Relation,
        inputs: Sequence[FragmentInput],
        context: StatementContext,
        *,
        partition_by: tuple[int, ...] = (),
        partition_count: int = 1,
    ) -> FragmentStream:
        """The fragment as a stream; it starts when its scope is entered and stops when it is left.

        ``partition_by`` are ids of output columns whose hash chooses one of ``partition_count`` partitions.
        """
        notes = Notes()
        ways = self._ways(relation, inputs)

        def start() -> Any:
            fragment = self._prepared(relation, inputs, context, notes, ways[0])
            return _typed_stream(fragment)

        def restart(error: BaseException) -> Callable[[], Any] | None:
            return start if notes.error is None and _next_way(ways, error) else None

        ids = [column.id for column in output_columns(relation)]
        return FragmentStream(
            loop_of=self._loop_thread,
            start=start,
            restart=restart,
            translate=lambda error: self._translated(error, notes, context),
            stop=notes.stop,
            partition_keys=tuple(ids.index(key) for key in partition_by),
            partition_count=partition_count,
        )

    async def run_small(
        self, relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext
    ) -> list[pa.RecordBatch]:
        """The whole result of a fragment known to be short, in one hop to a worker thread."""
        notes = Notes()
        try:
            return await trio.to_thread.run_sync(
                self._collected, relation, inputs, context, notes, abandon_on_cancel=True
            )
        except trio.Cancelled:
            notes.stop()
            raise

    def _collected(
        self, relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext, notes: Notes
    ) -> list[pa.RecordBatch]:
        ways = self._ways(relation, inputs)
        while True:
            try:
                fragment = self._prepared(relation, inputs, context, notes, ways[0])
                return [_typed(batch, fragment.schema) for batch in fragment.frame().collect() if batch.num_rows]
            except CrateError:
                raise
            except BaseException as error:
                if notes.error is None and _next_way(ways, error):
                    continue
                raise self._translated(error, notes, context) from error.with_traceback(None)

    def explain(self, relation: Relation, inputs: Sequence[FragmentInput], context: StatementContext) -> str:
        """The SQL text of a fragment, for EXPLAIN VERBOSE and for people."""
        return self._prepared(relation, inputs, context, Notes(), _Way.SPILLING).sql

    def evaluate(self, items: tuple[Item, ...], batch: pa.RecordBatch, context: StatementContext) -> pa.RecordBatch:
        """Columns ``c<item id>`` computed from the batch's columns ``c<id>``. Raises CrateError."""
        simple = [_passed(item.expression, batch) for item in items]
        if all(array is not None for array in simple):
            arrays = simple
        elif batch.num_rows <= _PYTHON_ROWS_MAX:
            try:
                arrays = _computed(items, batch, context)
            except BatchTooLarge as error:
                raise self._translated(error, Notes(), context) from error
        else:
            return self._evaluated(items, batch, context)
        fields = [pa.field(f"c{item.id}", arrow_type(item.expression.type)) for item in items]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _evaluated(self, items: tuple[Item, ...], batch: pa.RecordBatch, context: StatementContext) -> pa.RecordBatch:
        columns = tuple(_referenced(items).values())
        given = FragmentInput(columns, [[batch.select([f"c{column.id}" for column in columns])]])
        project = Project(ExchangeInput(0, columns), items)
        batches = self._collected(project, [given], context, Notes())
        schema = arrow_schema(output_columns(project))
        if len(batches) == 1:
            return batches[0]
        table = pa.Table.from_batches(batches, schema=schema).combine_chunks()
        return table.to_batches(max_chunksize=None)[0]

    # --- preparing ---

    def _ways(self, relation: Relation, inputs: Sequence[FragmentInput]) -> list[_Way]:
        ways = [_Way.SPILLING, _Way.MERGING] if _has_join(relation) else [_Way.SPILLING]
        if self._partitions > 1 and sum(one.row_count for one in inputs) > _ONE_PARTITION_ROWS_MAX:
            return [_Way.PARALLEL, *ways]
        return ways

    def _prepared(
        self,
        relation: Relation,
        given: Sequence[FragmentInput],
        context: StatementContext,
        notes: Notes,
        way: _Way,
    ) -> _Fragment:
        bound, inputs = bind(relation, given, context)
        flat = without_subqueries(bound)
        text = Text(context, notes, self._memory_bytes)
        guard = JoinGuard(flat, [one.row_count for one in inputs], text)
        sql = Renderer(text, guard).sql(flat)
        series_check = guard.number_check() if any(isinstance(one, Series) for one in inputs) else ""
        partitions = self._partitions if way is _Way.PARALLEL else 1
        batch_rows = min(guard.batch_rows, _BATCH_ROWS_OF.get(way, _BATCH_ROWS))
        kind = _SessionKind(partitions, batch_rows, way, _has_union(flat))
        session = self._session(kind)
        for kernel in text.kernels:
            session.register_udf(kernel)
        for number, one in enumerate(inputs):
            if isinstance(one, Series):
                session.sql(f"CREATE VIEW i{number} AS {_series_sql(one, series_check)}")
            else:
                session.register_record_batches(f"i{number}", self._spread(one, _BATCH_ROWS_OF.get(way)))

        def release() -> None:
            if not series_check:
                self._put_back(session, kind, tables=len(inputs), kernels=len(text.kernels))

        return _Fragment(session, sql, text, notes, arrow_schema(output_columns(relation)), release)

    def _environment(self, way: _Way) -> RuntimeEnvBuilder:
        """One pool is for fragments that run side by side, one as large for those that may spill."""
        # Imported at the first use: a node that is only written to and read by key never needs it.
        from datafusion import RuntimeEnvBuilder

        with self._lock:
            if way is _Way.PARALLEL:
                if self._parallel_runtime is None:
                    builder = RuntimeEnvBuilder().with_disk_manager_disabled()
                    self._parallel_runtime = builder.with_greedy_memory_pool(self._memory_bytes)
                return self._parallel_runtime
            if self._spilling_runtime is None:
                builder = RuntimeEnvBuilder().with_disk_manager_specified(str(self._spill_path))
                self._spilling_runtime = builder.with_fair_spill_pool(self._memory_bytes)
            return self._spilling_runtime

    def _session(self, kind: _SessionKind) -> SessionContext:
        """A session without tables and kernels, used before if there is one: making one takes as long as planning."""
        from datafusion import SessionConfig, SessionContext

        with contextlib.suppress(KeyError, IndexError):
            return self._idle[kind].pop()
        config = (
            SessionConfig()
            .with_target_partitions(kind.partitions)
            .with_batch_size(kind.batch_rows)
            .set("datafusion.sql_parser.dialect", "PostgreSQL")
            .set("datafusion.sql_parser.recursion_limit", str(_SQL_NESTING_MAX))
            .set("datafusion.optimizer.prefer_hash_join", "false" if kind.way is _Way.MERGING else "true")
            # Sorting the branches of a union each for itself fails at planning if a key is constant in one of them.
            .set("datafusion.optimizer.repartition_sorts", "false" if kind.has_union else "true")
        )
        return SessionContext(config, self._environment(kind.way))

    def _put_back(self, session: SessionContext, kind: _SessionKind, *, tables: int, kernels: int) -> None:
        for number in range(tables):
            session.deregister_table(f"i{number}")
        for number in range(kernels):
            session.deregister_udf(f"k{number + 1}")
        if kind.batch_rows == _BATCH_ROWS:
            idle = self._idle.setdefault(kind, [])
            if len(idle) < _IDLE_SESSIONS_MAX:
                idle.append(session)

    def _spread(self, given: FragmentInput, batch_rows: int | None) -> list[list[pa.RecordBatch]]:
        """The batches as they are if they come in enough partitions, else dealt out; never an empty list."""
        batches = [batch for partition in given.partitions for batch in partition if batch.num_rows]
        if batch_rows is not None:
            batches = [piece for batch in batches for piece in _slices(batch, batch_rows)]
        schema = arrow_schema(given.columns)
        if not given.columns:
            batches = [pa.record_batch({ROW_MARKER: pa.nulls(b.num_rows, pa.int8())}) for b in batches]
            schema = pa.schema([pa.field(ROW_MARKER, pa.int8())])
        if not batches:
            return [[pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)]]
        if sum(batch.num_rows for batch in batches) <= _ONE_PARTITION_ROWS_MAX:
            return [batches]
        if len(batches) < self._partitions:
            batches = [piece for batch in batches for piece in _pieces(batch, self._partitions)]
        return [batches[i :: self._partitions] for i in range(min(self._partitions, len(batches)))]

    def _translated(self, error: BaseException, notes: Notes, context: StatementContext) -> CrateError:
        if notes.is_stopped and not isinstance(error, CrateError):
            return failures.killed(context.job_id)
        return failures.translated(error, noted=notes.error, job_id=context.job_id, memory_bytes=self._memory_bytes)


def _series_sql(series: Series, check: str) -> str:
    """The engine's own series, which neither yields (hence the check) nor survives adding to the largest number."""
    column = series.columns[0]
    kind = "Int32" if column.type.kind == "integer" else "Int64"
    is_safe = max(abs(series.first), abs(series.last)) + abs(series.step) < 2**63
    last = series.last if is_safe else series.last - series.step
    rows = f"SELECT value FROM generate_series({series.first}, {last}, {series.step}) AS s(value)"
    if not is_safe:
        rows += f" UNION ALL SELECT CAST('{series.last}' AS BIGINT)"
    return f"SELECT arrow_cast(value, '{kind}') AS c{column.id} FROM ({rows}) AS s(value) WHERE {check}(value)"


def _pieces(batch: pa.RecordBatch, count: int) -> list[pa.RecordBatch]:
    return _slices(batch, max(_BATCH_ROWS, -(-batch.num_rows // count)))


def _slices(batch: pa.RecordBatch, size: int) -> list[pa.RecordBatch]:
    return [batch.slice(start, size) for start in range(0, batch.num_rows, size)]


async def _typed_batches(stream: Any, schema: pa.Schema) -> Any:
    async for batch in stream:
        yield _typed(batch.to_pyarrow(), schema)


class _typed_stream:  # noqa: N801
    """The engine's stream with batches of exactly the schema promised."""

    def __init__(self, fragment: _Fragment) -> None:
        self._stream = fragment.frame().execute_stream()
        self._schema = fragment.schema
        self._fragment = fragment

    def __aiter__(self) -> _typed_stream:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        batch = await self._stream.__anext__()
        return _typed(batch.to_pyarrow(), self._schema)


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch under the promised schema; the engine may call a text by its other kind."""
    if batch.schema.equals(schema):
        return batch
    if len(schema) == 0:
        return batch.select([])
    arrays = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _has_union(relation: Relation) -> bool:
    return isinstance(relation, SetOperation) or any(_has_union(child) for child in relation_children(relation))


def _has_join(relation: Relation) -> bool:
    return isinstance(relation, Join | Apply) or any(_has_join(child) for child in relation_children(relation))


# --- small batches ---------------------------------------------------------------------------------------------------


def _passed(expression: Expression, batch: pa.RecordBatch) -> Any:
    """The batch's own array of a plain column; None for anything else."""
    return batch.column(f"c{expression.id}") if isinstance(expression, Column) else None


def _computed(items: tuple[Item, ...], batch: pa.RecordBatch, context: StatementContext) -> list[Any]:
    columns = _referenced(items)
    values = {i: from_arrow(batch.column(f"c{i}"), column.type) for i, column in columns.items()}
    rows = [{i: column[number] for i, column in values.items()} for number in range(batch.num_rows)]
    kinds = [item.expression.type for item in items]
    found = (
        weighed((value_of(i.expression, row, context) for row in rows), k) for i, k in zip(items, kinds, strict=True)
    )
    return [encoded(values, kind) for values, kind in zip(found, kinds, strict=True)]


def _referenced(items: Sequence[Item]) -> dict[int, OutputColumn]:
    found: dict[int, OutputColumn] = {}

    def visit(expression: Expression) -> None:
        if isinstance(expression, Column):
            found.setdefault(expression.id, OutputColumn(expression.id, expression.name, expression.type))
        for child in children(expression):
            visit(child)

    for item in items:
        visit(item.expression)
    return found
