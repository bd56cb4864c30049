"""Which fragments are surely short, so that one call on a worker thread may run them to the end, or none at all.

In: a relation and how many rows its inputs have. Out: yes or no. A stream costs half a millisecond more than one call, but a
call cannot be stopped in the middle (``reference``: DataFusion's ``collect``), so only what touches a bounded number of rows
is called short. The bound follows the operators: joins multiply, everything that makes rows of
its own (table functions, recursion) is unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

import pyarrow as pa

from cratepy import limits
from cratepy.execution.batches import batch_of
from cratepy.execution.engine.constants import constant_values
from cratepy.functions.values import INTEGER_RANGES
from cratepy.model.arrow import arrow_schema, from_arrow, to_arrow
from cratepy.model.expressions import Cast, Expression, Literal, Parameter
from cratepy.model.plan import Plan, QueryPlan, StatementContext
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
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
from cratepy.model.types import DataType


def is_constant_query(plan: Plan) -> bool:
    """Whether it is a SELECT of literals and parameters without FROM (``SELECT 1``, the usual ping)."""
    return (
        type(plan) is QueryPlan
        and len(plan.phases) == 1
        and not plan.subplans
        and type(relation := plan.phases[0].relation) is Project
        and _is_row_of_constants(relation)
    )


def constant_row(relation: Relation, context: StatementContext) -> tuple[Any, ...] | None:
    """The one row of a SELECT of literals and parameters without FROM; None for any other.

    Raises what a cast of a value fails with.
    """
    if type(relation) is not Project or not _is_row_of_constants(relation):
        return None
    expressions = [item.expression for item in relation.items]
    row = constant_values(expressions, context)
    return tuple(
        [
            value if _is_plain(value, expression.type.kind) else _as_given_back(value, expression.type)
            for value, expression in zip(row, expressions, strict=True)
        ]
    )


def batch_of_row(relation: Relation, row: Sequence[Any]) -> pa.RecordBatch:
    """A constant row for those who read batches."""
    columns = output_columns(relation)
    arrays = [to_arrow([value], column.type) for value, column in zip(row, columns, strict=True)]
    return batch_of(arrow_schema(columns), arrays, 1)


def _is_row_of_constants(relation: Project) -> bool:
    values = relation.child
    return (
        type(values) is Values
        and not values.columns
        and len(values.rows) == 1
        and all(_is_constant(item.expression) for item in relation.items)
    )


def _is_plain(value: Any, kind: str) -> bool:
    """Whether the value surely is one that a column of the kind would give back as it is."""
    if type(value) is int:
        bounds = INTEGER_RANGES.get(kind)
        return bounds is not None and bounds[0] <= value <= bounds[1]
    return value is None or (type(value) is bool and kind == "boolean") or (type(value) is str and kind == "text")


def _as_given_back(value: Any, data_type: DataType) -> Any:
    return from_arrow(to_arrow([value], data_type), data_type)[0]


def _is_constant(expression: Expression) -> bool:
    while isinstance(expression, Cast):
        expression = expression.argument
    return isinstance(expression, Literal | Parameter)


def is_short(relation: Relation, input_rows: Sequence[int]) -> bool:
    """``input_rows`` are the rows of each input leaf, in the engine's order."""
    return rows_touched(relation, iter(input_rows)) <= limits.SMALL_FRAGMENT_ROWS_MAX


def rows_touched(relation: Relation, inputs: Iterator[int]) -> float:
    """An upper bound of the rows any operator of the tree gives; takes the inputs' rows in order."""
    match relation:
        case Scan() | SystemScan() | ExchangeInput():
            return next(inputs)
        case Values():
            return len(relation.rows)
        case TableFunction() | RecursiveReference():
            return math.inf
        case Filter() | Project() | Aggregation() | WindowCalculation() | Sort() | Limit():
            return max(1, rows_touched(relation.child, inputs))
        case ProjectSet():
            rows_touched(relation.child, inputs)
            return math.inf
        case Join() | Apply():
            left = rows_touched(relation.left, inputs)
            right = rows_touched(relation.right, inputs)
            return max(left, 1) * max(right, 1)
        case SetOperation():
            return sum([rows_touched(child, inputs) for child in relation.children])
        case RecursiveQuery():
            rows_touched(relation.base, inputs)
            rows_touched(relation.step, inputs)
            return math.inf
        case _:
            assert_never(relation)
