"""Aggregates in two steps: part of the work where the rows are, the rest where the parts meet.

In: an aggregate. Out: a :class:`Split`: aggregates over the rows, aggregates over their columns, and an expression that
makes the result; or None for one that cannot be split (DISTINCT, array_agg, percentile, topk …): then the rows of a group must
meet. ::

    avg(x)        partial  sum(x::double) → #7, count(x) → #8
                  merge    sum(#7) → #9, sum(#8) → #10
                  final    #9 / #10::double

Sums of bigint travel as numeric(38,0), so that an intermediate sum beyond 64 bits is no error if the total fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cratepy.model.expressions import Aggregate, Call, Cast, Column, Expression, Literal
from cratepy.model.relations import Item
from cratepy.model.types import BIGINT, DOUBLE, NUMERIC, DataType, numeric
from cratepy.records import dataclass

#: The sum of as many 64-bit integers as a cluster can hold.
EXACT_SUM: Final = numeric(38, 0)
_IDEMPOTENT: Final = frozenset({"min", "max", "any_value", "bool_and", "bool_or", "bit_and", "bit_or"})
_MEASURES: Final = frozenset({"variance", "var_samp", "stddev_pop", "stddev_samp"})


@dataclass(frozen=True, slots=True)
class Split:
    """``partial``: aggregates over the rows. ``merge``: aggregates over the partial columns. ``final``: of the merge's."""

    partial: tuple[Item, ...]
    merge: tuple[Item, ...]
    final: Expression


def split_aggregate(aggregate: Aggregate, new_id: Callable[[], int]) -> Split | None:
    """The two steps, with fresh column ids; None if the aggregate needs all rows of a group at once."""
    function = aggregate.function
    if function in _IDEMPOTENT:
        return _same(aggregate, function, aggregate.type, new_id)
    if aggregate.is_distinct or aggregate.order_by:
        return None
    match function:
        case "count":
            return _count(aggregate, new_id)
        case "sum":
            return _sum(aggregate, new_id)
        case "avg":
            return _average(aggregate, new_id)
        case "_sum_exact":
            return _same(aggregate, function, aggregate.type, new_id)
        case "geometric_mean":
            return _geometric_mean(aggregate, new_id)
        case "min_by" | "max_by":
            return _extreme_by(aggregate, new_id)
        case "collect_set":
            return _same(aggregate, "_merge_sets", aggregate.type, new_id)
    return _spread(aggregate, new_id) if function in _MEASURES else None


def _partial(aggregate: Aggregate, function: str, arguments: tuple[Expression, ...], result: DataType) -> Aggregate:
    return Aggregate(function, arguments, result, filter=aggregate.filter)


def _item(new_id: Callable[[], int], name: str, expression: Expression) -> Item:
    return Item(new_id(), name, expression)


def _column(item: Item) -> Column:
    return Column(item.id, item.name, item.expression.type)


def _same(aggregate: Aggregate, merge: str, result: DataType, new_id: Callable[[], int]) -> Split:
    """The function over its own results."""
    partial = _item(new_id, aggregate.function, _partial(aggregate, aggregate.function, aggregate.arguments, result))
    merged = _item(new_id, merge, Aggregate(merge, (_column(partial),), result))
    return Split((partial,), (merged,), _column(merged))


def _count(aggregate: Aggregate, new_id: Callable[[], int]) -> Split:
    partial = _item(new_id, "count", _partial(aggregate, "count", aggregate.arguments, BIGINT))
    merged = _item(new_id, "sum", Aggregate("sum", (_column(partial),), BIGINT))
    final = Call("coalesce", (_column(merged), Literal(0, BIGINT)), BIGINT)
    return Split((partial,), (merged,), final)


def _sum(aggregate: Aggregate, new_id: Callable[[], int]) -> Split | None:
    (argument,) = aggregate.arguments
    kind = argument.type.kind
    if kind in ("byte", "smallint", "integer", "real", "double precision", "numeric"):
        if kind == "real":
            return _real_sum(aggregate, new_id)
        return _same(aggregate, "sum", aggregate.type, new_id)
    if kind == "bigint":
        partial = _item(new_id, "sum", _partial(aggregate, "_sum_exact", (argument,), EXACT_SUM))
        merged = _item(new_id, "sum", Aggregate("_sum_exact", (_column(partial),), EXACT_SUM))
        return Split((partial,), (merged,), Call("_narrowed_sum", (_column(merged),), BIGINT))
    return None


def _real_sum(aggregate: Aggregate, new_id: Callable[[], int]) -> Split:
    """Single precision is summed in double and rounded once."""
    wide = Cast(aggregate.arguments[0], DOUBLE, is_implicit=True)
    partial = _item(new_id, "sum", _partial(aggregate, "sum", (wide,), DOUBLE))
    merged = _item(new_id, "sum", Aggregate("sum", (_column(partial),), DOUBLE))
    return Split((partial,), (merged,), Cast(_column(merged), aggregate.type, is_implicit=True))


def _average(aggregate: Aggregate, new_id: Callable[[], int]) -> Split | None:
    (argument,) = aggregate.arguments
    kind = argument.type.kind
    if kind == "interval":
        return None
    unit = NUMERIC if kind == "numeric" else DOUBLE
    value = argument if kind == unit.kind else Cast(argument, unit, is_implicit=True)
    total = _item(new_id, "sum", _partial(aggregate, "sum", (value,), unit))
    count = _item(new_id, "count", _partial(aggregate, "count", (argument,), BIGINT))
    merged_total = _item(new_id, "sum", Aggregate("sum", (_column(total),), unit))
    merged_count = _item(new_id, "count", Aggregate("sum", (_column(count),), BIGINT))
    # Without rows the sum is NULL and so is the quotient; the count is never divided by then.
    divisor = Call("nullif", (_column(merged_count), Literal(0, BIGINT)), BIGINT)
    final = Call("op_/", (_column(merged_total), Cast(divisor, unit, is_implicit=True)), unit)
    return Split((total, count), (merged_total, merged_count), final)


def _geometric_mean(aggregate: Aggregate, new_id: Callable[[], int]) -> Split:
    total = _item(new_id, "sum", _partial(aggregate, "_sum_of_logarithms", aggregate.arguments, DOUBLE))
    count = _item(new_id, "count", _partial(aggregate, "count", aggregate.arguments, BIGINT))
    merged_total = _item(new_id, "sum", Aggregate("sum", (_column(total),), DOUBLE))
    merged_count = _item(new_id, "count", Aggregate("sum", (_column(count),), BIGINT))
    # A sum of no logarithms is NULL, and so is what is made of it.
    mean = Call("op_/", (_column(merged_total), Cast(_column(merged_count), DOUBLE, is_implicit=True)), DOUBLE)
    return Split((total, count), (merged_total, merged_count), Call("exp", (mean,), DOUBLE))


def _extreme_by(aggregate: Aggregate, new_id: Callable[[], int]) -> Split:
    """Each part's value goes with what it was chosen by, which is chosen by itself: both are of one order."""
    key = aggregate.arguments[1]
    value = _item(
        new_id, aggregate.function, _partial(aggregate, aggregate.function, aggregate.arguments, aggregate.type)
    )
    best = _item(new_id, "key", _partial(aggregate, aggregate.function, (key, key), key.type))
    merged = Aggregate(aggregate.function, (_column(value), _column(best)), aggregate.type)
    item = _item(new_id, aggregate.function, merged)
    return Split((value, best), (item,), _column(item))


def _spread(aggregate: Aggregate, new_id: Callable[[], int]) -> Split | None:
    """Count, mean and variance of each part meet in Chan's formula, which loses no digits to a large mean."""
    (argument,) = aggregate.arguments
    if argument.type.kind == "numeric":
        return None
    value = argument if argument.type == DOUBLE else Cast(argument, DOUBLE, is_implicit=True)
    count = _item(new_id, "count", _partial(aggregate, "count", (argument,), BIGINT))
    mean = _item(new_id, "avg", _partial(aggregate, "avg", (value,), DOUBLE))
    variance = _item(new_id, "variance", _partial(aggregate, "variance", (value,), DOUBLE))
    parts = (count, mean, variance)
    merged = _item(
        new_id, aggregate.function, Aggregate(f"_merge_{aggregate.function}", tuple(map(_column, parts)), DOUBLE)
    )
    return Split(parts, (merged,), _column(merged))
