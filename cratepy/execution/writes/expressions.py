"""The expressions of a write (defaults, generated columns, checks, assignments, RETURNING) over its rows.

In: items whose Columns name table columns by oid, and the rows' columns at rest. Out: the items' columns, and per row the
error that computing it raised. Its own room because a write computes with the engine's synchronous door, and only on the
columns that the expressions name. If a batch fails it is halved until the bad rows stand alone: the error belongs to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

import msgspec
import pyarrow as pa

from cratepy.errors import CrateError, FunctionUnknown
from cratepy.execution.engine.engine import Engine
from cratepy.functions.registry import resolve
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import (
    Aggregate,
    Branch,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SubqueryValue,
    Window,
)
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it."""
    yield expression
    for part in parts(expression):
        yield from walk(part)


def parts(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside."""
    match expression:
        case Literal() | Column() | OuterColumn() | Parameter() | SubqueryValue():
            return ()
        case Call() | Aggregate() | Window():
            return expression.arguments
        case Cast():
            return (expression.argument,)
        case Case():
            inner = [part for branch in expression.branches for part in (branch.condition, branch.value)]
            return (*inner, expression.default)
        case InList():
            return (expression.operand, *expression.items)
        case _:
            assert_never(expression)


def columns_of(items: Iterable[Item]) -> dict[int, Column]:
    """The columns that the items name, by id."""
    return {part.id: part for item in items for part in walk(item.expression) if isinstance(part, Column)}


def is_deterministic(expression: Expression) -> bool:
    """Whether the same row always gives the same value; ``now()`` does within a statement."""
    for part in walk(expression):
        if isinstance(part, Call):
            try:
                resolution = resolve(part.function, [argument.type for argument in part.arguments])
            except FunctionUnknown:
                continue
            if not resolution.is_deterministic:
                return False
    return True


def parameter_column_id(index: int) -> int:
    """The column that stands for a parameter; positive, as the engine's names of columns must be."""
    return index + 2


def with_columns_for_parameters(expression: Expression) -> Expression:
    """The expression with every Parameter ``i`` as a Column of :func:`parameter_column_id`: for many parameter rows at once."""
    match expression:
        case Parameter(index, data_type):
            return Column(parameter_column_id(index), f"${index + 1}", data_type)
        case Literal() | Column() | OuterColumn() | SubqueryValue():
            return expression
        case Call():
            arguments = tuple(with_columns_for_parameters(part) for part in expression.arguments)
            return msgspec.structs.replace(expression, arguments=arguments)
        case Cast():
            return msgspec.structs.replace(expression, argument=with_columns_for_parameters(expression.argument))
        case Case():
            return msgspec.structs.replace(
                expression,
                branches=tuple(
                    Branch(with_columns_for_parameters(branch.condition), with_columns_for_parameters(branch.value))
                    for branch in expression.branches
                ),
                default=with_columns_for_parameters(expression.default),
            )
        case InList():
            return msgspec.structs.replace(
                expression,
                operand=with_columns_for_parameters(expression.operand),
                items=tuple(with_columns_for_parameters(item) for item in expression.items),
            )
        case Aggregate() | Window():
            raise AssertionError(f"{type(expression).__name__} among the values of a write")
        case _:
            assert_never(expression)


def evaluate(
    engine: Engine,
    items: tuple[Item, ...],
    columns: Mapping[int, pa.Array],
    count: int,
    context: StatementContext,
    errors: dict[int, CrateError],
) -> list[pa.Array]:
    """One array in flight per item, ``count`` rows each; rows that cannot be computed are NULL and in ``errors``.

    ``columns`` are arrays by id, at rest or in flight; one that is missing is all NULL.
    """
    if not items:
        return []
    named = columns_of(items)
    arrays = [_in_flight(columns.get(key), column, count) for key, column in named.items()]
    fields = [pa.field(f"c{key}", array.type) for key, array in zip(named, arrays, strict=True)]
    if not arrays:
        # A batch must have a column to have rows.
        arrays, fields = [pa.nulls(count, pa.int64())], [pa.field("c0", pa.int64())]
    batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    pieces = list(_halved(engine, items, batch, context, errors, 0))
    columns_out = []
    for position in range(len(items)):
        chunks = [piece.column(position) for piece in pieces]
        columns_out.append(chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks))
    return columns_out


def _halved(
    engine: Engine,
    items: tuple[Item, ...],
    batch: pa.RecordBatch,
    context: StatementContext,
    errors: dict[int, CrateError],
    offset: int,
) -> Iterator[pa.RecordBatch]:
    try:
        yield engine.evaluate(items, batch, context)
        return
    except CrateError as error:
        if batch.num_rows <= 1:
            errors.setdefault(offset, error)
            yield pa.RecordBatch.from_arrays(
                [pa.nulls(batch.num_rows, arrow_type(item.expression.type)) for item in items],
                names=[f"c{item.id}" for item in items],
            )
            return
    middle = batch.num_rows // 2
    yield from _halved(engine, items, batch.slice(0, middle), context, errors, offset)
    yield from _halved(engine, items, batch.slice(middle), context, errors, offset + middle)


def _in_flight(array: pa.Array | None, column: Column, count: int) -> pa.Array:
    wanted = arrow_type(column.type)
    if array is None:
        return pa.nulls(count, wanted)
    return array if array.type == wanted else array.cast(wanted)
