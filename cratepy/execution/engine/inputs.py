"""The leaves of a fragment as numbered inputs of record batches.

In: a tree and the inputs its caller brings, one per scan or exchange leaf, left to right. Out: the same tree in which
every leaf is an ``ExchangeInput`` whose ``phase`` is the number of its input, and all inputs: the caller's, and those made
here of literal rows and table functions. A scan's filter becomes a Filter: the source may have used it, the engine applies it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, assert_never

import msgspec
import pyarrow as pa

from cratepy.errors import CircuitBreaking
from cratepy.execution.engine.kernels import encoded
from cratepy.functions.evaluate import NO_COLUMNS, subexpressions, value_of
from cratepy.functions.registry import is_table_function, table_function_of
from cratepy.model.arrow import arrow_schema
from cratepy.model.expressions import Call, OuterColumn
from cratepy.model.plan import StatementContext
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    output_columns,
)
from cratepy.records import dataclass

#: The name of the column an input without columns has, because batches without columns forget their rows.
ROW_MARKER: Final = "none"
_BATCH_ROWS: Final = 8_192
#: Rows of a table function that are made at once before it is refused.
TABLE_FUNCTION_ROWS_MAX: Final = 20_000_000
#: A series of at most so many numbers is made as a batch; a longer one is left to the engine, which makes it piece by piece.
SERIES_ROWS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class FragmentInput:
    """Rows for one leaf: the columns (fields ``c<id>``) and, for each partition, its batches."""

    columns: tuple[OutputColumn, ...]
    partitions: list[list[pa.RecordBatch]]

    @property
    def row_count(self) -> int:
        return sum(batch.num_rows for partition in self.partitions for batch in partition)


@dataclass(frozen=True, slots=True)
class Series:
    """A long run of numbers, made by the engine: ``first``, ``first + step`` … ``last``."""

    columns: tuple[OutputColumn, ...]
    first: int
    last: int
    step: int

    @property
    def row_count(self) -> int:
        return (self.last - self.first) // self.step + 1


EngineInput = FragmentInput | Series


class _Binder:
    def __init__(self, given: Sequence[FragmentInput], context: StatementContext) -> None:
        self._given = iter(given)
        self._context = context
        self.inputs: list[EngineInput] = []

    def bound(self, relation: Relation) -> Relation:
        match relation:
            case Scan() | SystemScan():
                leaf = self._input(next(self._given), output_columns(relation))
                return leaf if relation.filter is None else Filter(leaf, relation.filter)
            case ExchangeInput():
                return self._input(next(self._given), relation.columns)
            case Values():
                if any(_is_correlated(e) for row in relation.rows for e in row):
                    return relation
                return self._input(values_input(relation, self._context), relation.columns)
            case TableFunction():
                if any(_is_correlated(argument) for argument in relation.arguments):
                    return relation
                return self._input(table_function_input(relation, self._context), relation.columns)
            case RecursiveReference():
                return relation
            case Filter() | Project() | ProjectSet() | Aggregation() | WindowCalculation() | Sort() | Limit():
                return msgspec.structs.replace(relation, child=self.bound(relation.child))
            case Join() | Apply():
                left = self.bound(relation.left)
                return msgspec.structs.replace(relation, left=left, right=self.bound(relation.right))
            case SetOperation():
                return msgspec.structs.replace(relation, children=tuple(self.bound(c) for c in relation.children))
            case RecursiveQuery():
                base = self.bound(relation.base)
                return msgspec.structs.replace(relation, base=base, step=self.bound(relation.step))
            case _:
                assert_never(relation)

    def _input(self, given: EngineInput, columns: tuple[OutputColumn, ...]) -> ExchangeInput:
        self.inputs.append(given)
        return ExchangeInput(len(self.inputs) - 1, columns)


def bind(
    relation: Relation, given: Sequence[FragmentInput], context: StatementContext
) -> tuple[Relation, list[EngineInput]]:
    """The tree over numbered inputs, and the inputs."""
    binder = _Binder(given, context)
    return binder.bound(relation), binder.inputs


def _is_correlated(expression: Any) -> bool:
    return any(isinstance(part, OuterColumn) for part in subexpressions(expression))


# --- rows made here --------------------------------------------------------------------------------------------------


def values_input(relation: Values, context: StatementContext) -> FragmentInput:
    rows = ([value_of(expression, NO_COLUMNS, context) for expression in row] for row in relation.rows)
    return rows_input(relation.columns, rows)


def rows_input(columns: tuple[OutputColumn, ...], rows: Iterator[Sequence[Any]] | Any) -> FragmentInput:
    """Rows of SQL values as batches. Raises CircuitBreaking for more than a node should hold at once."""
    batches: list[pa.RecordBatch] = []
    count = 0
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, _BATCH_ROWS)):
        count += len(chunk)
        if count > TABLE_FUNCTION_ROWS_MAX:
            raise CircuitBreaking(f"a table function made more than the limit of {TABLE_FUNCTION_ROWS_MAX} rows")
        batches.append(_batch(columns, chunk))
    return FragmentInput(columns, [batches])


def _batch(columns: tuple[OutputColumn, ...], rows: list[Sequence[Any]]) -> pa.RecordBatch:
    if not columns:
        return pa.record_batch({ROW_MARKER: pa.array([None] * len(rows), pa.int8())})
    arrays = [encoded([row[i] for row in rows], column.type) for i, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(columns))


def table_function_input(relation: TableFunction, context: StatementContext) -> EngineInput:
    """The rows of a function in FROM."""
    values = [value_of(argument, NO_COLUMNS, context) for argument in relation.arguments]
    if relation.function == "generate_series" and not relation.with_ordinality and None not in values:
        series = _long_series(relation, values)
        if series is not None:
            return series
    rows: Iterator[Sequence[Any]] = _rows(relation, values, context)
    if relation.with_ordinality:
        rows = ((*row, number) for number, row in enumerate(rows, 1))
    return rows_input(relation.columns, rows)


def _rows(relation: TableFunction, values: list[Any], context: StatementContext) -> Iterator[Sequence[Any]]:
    types = tuple(argument.type for argument in relation.arguments)
    if is_table_function(relation.function):
        return table_function_of(relation.function).rows(values, types)
    # Any scalar function may stand in FROM: one row of one column.
    call = Call(relation.function, relation.arguments, relation.columns[0].type)
    return iter([(value_of(call, NO_COLUMNS, context),)])


def _long_series(relation: TableFunction, values: list[Any]) -> Series | None:
    """A series of integers too long to be made at once; None for all others."""
    if not isinstance(values[0], int) or relation.columns[0].type.kind not in ("integer", "bigint"):
        return None
    first, last = values[0], values[1]
    step = values[2] if len(values) > 2 else 1
    if step == 0 or (last - first) // step + 1 <= SERIES_ROWS_MAX:
        return None
    return Series(relation.columns, first, first + (last - first) // step * step, step)
