"""Aggregates and window functions as the engine's SQL text.

In: an aggregate or a window function of a fragment. Out: SQL in which it stands for itself. There are three ways, the first
that means the same is taken:

* the engine's own aggregates: a template of :mod:`cratepy.functions.aggregates`, or one of ``_WAYS`` where more than the
  arguments has to be rendered (an order inside, a condition of its own);
* the values of the group as a list, given to a kernel that works on the lists of all groups at once
  (:mod:`cratepy.functions.array_collectors`); arguments that are constant are not collected;
* the same lists given to Python (:mod:`cratepy.functions.collectors`), some groups at a time. A Python object takes much
  more memory than the engine has accounted for, so what would not fit its limit is refused.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.errors import SQLParseError
from cratepy.execution.engine.casting import arrow_cast, arrow_name
from cratepy.execution.engine.expressions import Text, render, sort_keys
from cratepy.execution.engine.failures import exhausted
from cratepy.execution.engine.kernels import Stopped, encoded
from cratepy.functions.aggregates import NATIVE_ORDER, SUM_OF_DISTINCT, SUM_OF_HALVES
from cratepy.functions.arithmetic import decimal_quotient
from cratepy.functions.array_collectors import ArrayCollector, array_collector
from cratepy.functions.collectors import Collector, collector
from cratepy.functions.distinct import exact_count
from cratepy.functions.evaluate import NO_COLUMNS, has_columns, is_volatile, value_of
from cratepy.functions.registry import aggregate_of, window_of
from cratepy.functions.values import DECIMAL_CONTEXT, numeric_text
from cratepy.model import compute as pc
from cratepy.model.arrow import TEXT_KINDS, UNCONSTRAINED_SCALE, arrow_type, from_arrow
from cratepy.model.expressions import Aggregate, Expression, Frame, FrameBound, Literal, SortKey, Window
from cratepy.model.types import DataType, array_of

#: What a Python object of a value takes, its place in a list included, beside the bytes of a text.
_OBJECT_BYTES: Final = 64
#: The list itself, and what a kernel makes of it.
_LIST_COPIES: Final = 2
#: Values of several groups that are Python objects at the same time; one group may have more.
_CHUNK_VALUES: Final = 16_384
#: Digits up to which a sum of 10^10 decimals fits 38 digits.
_SHORT_DIGITS: Final = 28
_SMALLEST: Final = decimal.Decimal(1).scaleb(-UNCONSTRAINED_SCALE)


def aggregate(expression: Aggregate, text: Text, over: str = "", *, is_grouped: bool = False) -> str:
    """An aggregate; ``over`` is the text of its OVER, if it is used as a window function."""
    expression = _known_count(expression, text)
    if is_grouped and expression.function in _FLOAT_EXTREMES and expression.type.kind in _FLOATS:
        return arrow_cast(_FLOAT_EXTREMES[expression.function](expression, text), expression.type)
    way = _WAYS.get(expression.function)
    if way is not None:
        sql = way(expression, text, over)
        if sql is not None:
            return arrow_cast(sql, expression.type)
    types = tuple(argument.type for argument in expression.arguments)
    declaration = aggregate_of(expression.function)
    template = declaration.sql if isinstance(declaration.sql, str | None) else declaration.sql(types, expression.type)
    if template is None or (over and expression.function in _NOT_SLIDING):
        return _collected(expression, types, text, over)
    arguments = [render(argument, text) for argument in expression.arguments]
    if expression.is_distinct and template == SUM_OF_HALVES:
        template = SUM_OF_DISTINCT
    filled = template.format(
        *arguments,
        args=", ".join(arguments),
        distinct="DISTINCT " if expression.is_distinct else "",
        order=_order(expression.order_by, text),
        filter=f"{_condition(expression, text)}{over}",
    )
    return filled if _has_wanted_type(expression) else arrow_cast(filled, expression.type)


#: Sums of logarithms, out of which a row that leaves the frame is taken again: minus infinity, of 0, would stay.
_NOT_SLIDING: Final = frozenset({"geometric_mean"})


def _has_wanted_type(expression: Aggregate) -> bool:
    """Whether the engine's result surely is of the type already; every cast costs the planning of a fragment 0.1 ms."""
    match expression.function:
        case "count":
            return True
        case "avg" | "geometric_mean":
            return expression.type.kind == "double precision"
        case "sum":
            return expression.arguments[0].type.kind in ("byte", "smallint", "integer", "double precision")
    return False


def _condition(expression: Aggregate, text: Text, *more: str) -> str:
    conditions = [*more, *([render(expression.filter, text)] if expression.filter is not None else [])]
    return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""


def _order(keys: Sequence[SortKey], text: Text) -> str:
    return " ORDER BY " + sort_keys(keys, text) if keys else ""


# --- ways of their own -----------------------------------------------------------------------------------------------


def _known_count(expression: Aggregate, text: Text) -> Aggregate:
    """hyperloglog_distinct as the count that it is; its precision may be a parameter."""
    if expression.function != "hyperloglog_distinct":
        return expression
    first, *rest = expression.arguments
    if any(not _is_constant(argument) for argument in rest):
        return expression
    known = (Literal(value_of(argument, NO_COLUMNS, text.context), argument.type) for argument in rest)
    return exact_count(msgspec.structs.replace(expression, arguments=(first, *known)))


def _any_value(expression: Aggregate, text: Text, over: str) -> str | None:
    """Of types that have no order in the engine; of the others the smallest, which grouping is much faster at."""
    if over or expression.arguments[0].type.kind in NATIVE_ORDER:
        return None
    value = render(expression.arguments[0], text)
    order = _order(expression.order_by, text)
    return f"first_value({value}{order}){_condition(expression, text, f'({value} IS NOT NULL)')}"


def _least_float(expression: Aggregate, text: Text) -> str:
    """The engine's min of a group begins with the largest finite number and takes NaN for less than any."""
    value, infinite = render(expression.arguments[0], text), arrow_cast("'inf'", expression.type)
    least = f"min({value}){_condition(expression, text, f'({value} >= -{infinite} AND {value} < {infinite})')}"
    # Without numbers below infinity: infinity if it is there, NaN if that is all there is, or NULL.
    is_infinite = f"bool_or({value} = {infinite}){_condition(expression, text)}"
    not_a_number = arrow_cast("'NaN'", expression.type)
    return f"coalesce({least}, CASE {is_infinite} WHEN TRUE THEN {infinite} WHEN FALSE THEN {not_a_number} END)"


def _largest_float(expression: Aggregate, text: Text) -> str:
    value, infinite = render(expression.arguments[0], text), arrow_cast("'inf'", expression.type)
    largest = f"max({value}){_condition(expression, text, f'({value} > -{infinite} AND {value} <= {infinite})')}"
    lowest = f"CASE WHEN bool_or({value} = -{infinite}){_condition(expression, text)} THEN -{infinite} END"
    has_nan = f"bool_or(isnan({value})){_condition(expression, text)}"
    not_a_number = arrow_cast("'NaN'", expression.type)
    return f"CASE WHEN {has_nan} THEN {not_a_number} ELSE coalesce({largest}, {lowest}) END"


_FLOATS: Final = frozenset({"real", "double precision"})
_FLOAT_EXTREMES: Final = {"min": _least_float, "any_value": _least_float, "max": _largest_float}


def _extreme_by(*, is_descending: bool) -> Callable[[Aggregate, Text, str], str | None]:
    def way(expression: Aggregate, text: Text, over: str) -> str | None:
        # min and max of intervals are min_by and max_by of themselves.
        value, key = expression.arguments[0], expression.arguments[-1]
        is_ordered = key.type.kind in NATIVE_ORDER and len(expression.arguments) == 2
        if over or not (is_ordered or key.type.kind == "interval"):
            return None
        order = _order((SortKey(key, is_descending), *expression.order_by), text)
        condition = _condition(expression, text, f"({render(key, text)} IS NOT NULL)")
        return f"first_value({render(value, text)}{order}){condition}"

    return way


def _average(expression: Aggregate, text: Text, over: str) -> str | None:
    """Of numerics: the exact sum divided by the count."""
    (argument,) = expression.arguments
    if argument.type.kind != "numeric":
        return None
    value = render(argument, text)
    scale = UNCONSTRAINED_SCALE if argument.type.precision is None else argument.type.scale or 0
    summand, total = value, pa.decimal128(38, scale)
    if argument.type.precision is None or argument.type.precision > _SHORT_DIGITS:
        # 256 bits hold the sum of any number of rows.
        summand, total = f"CAST({value} AS DECIMAL(66,{scale}))", pa.decimal256(76, scale)
    what = "DISTINCT " if expression.is_distinct else ""
    tail = f"{_condition(expression, text)}{over}"

    def quotients(sums: Any, counts: Any) -> Any:
        pairs = zip(sums.to_pylist(), counts.to_pylist(), strict=True)
        found = [_rounded(decimal_quotient(total, decimal.Decimal(count))) if count else None for total, count in pairs]
        try:
            return pa.array(found, arrow_type(expression.type))
        except pa.ArrowInvalid:
            return encoded([None if one is None else numeric_text(one) for one in found], expression.type)

    key = ("quotient", total, expression.type)
    name = text.kernel(key, lambda: quotients, [total, pa.int64()], arrow_type(expression.type))
    bits = 256 if total == pa.decimal256(76, scale) else 128
    exact = f"arrow_cast(sum({what}{summand}){tail}, 'Decimal{bits}({total.precision}, {scale})')"
    return f"{name}({exact}, count({what}{value}){tail})"


def _rounded(quotient: decimal.Decimal) -> decimal.Decimal:
    """To the digits that a numeric without precision has after the point."""
    return quotient.quantize(_SMALLEST, context=DECIMAL_CONTEXT)


_WAYS: Final[dict[str, Callable[[Aggregate, Text, str], str | None]]] = {
    "any_value": _any_value,
    "min": _extreme_by(is_descending=False),
    "max": _extreme_by(is_descending=True),
    "min_by": _extreme_by(is_descending=False),
    "max_by": _extreme_by(is_descending=True),
    "avg": _average,
}


# --- lists -----------------------------------------------------------------------------------------------------------


def _collected(expression: Aggregate, types: tuple[DataType, ...], text: Text, over: str) -> str:
    """The values of the group as arrays, given to a kernel over all groups or to a Python function."""
    first, *rest = expression.arguments
    constants: tuple[Any, ...] | None = None
    if all(_is_constant(argument) for argument in rest):
        constants = tuple(value_of(argument, NO_COLUMNS, text.context) for argument in rest)
    collected = expression.arguments if constants is None else (first,)
    distinct = "DISTINCT " if expression.is_distinct and len(collected) == 1 else ""
    inside = _order(expression.order_by, text)
    tail = f"{_condition(expression, text)}{over}"
    arrays = [f"array_agg({distinct}{_accounted(argument, text)}{inside}){tail}" for argument in collected]
    lists = [DataType("array", element=argument.type) for argument in collected]

    def make() -> Callable[..., Any]:
        fast = None if constants is None else array_collector(expression.function, types, expression.type, constants)
        if fast is not None:
            return _bounded(fast, arrow_type(expression.type), text)
        compute = collector(expression.function, types, expression.type)
        if constants is None:
            return _python_kernel(compute, lists, expression.type, text)
        given = [[constant] for constant in constants]
        return _python_kernel(lambda values: compute(values, *given), lists, expression.type, text)

    key = ("aggregate", expression.function, types, expression.type, repr(constants))
    inputs = [
        pa.list_(pa.large_string()) if a.type.kind in TEXT_KINDS else arrow_type(array_of(a.type)) for a in collected
    ]
    name = text.kernel(key, make, inputs, arrow_type(expression.type))
    return f"{name}({', '.join(arrays)})"


def _accounted(argument: Expression, text: Text) -> str:
    """The engine's pool does not see the texts that gathered views refer to: 17 GB were taken out of a pool of 5."""
    value = render(argument, text)
    return f"arrow_cast({value}, 'LargeUtf8')" if argument.type.kind in TEXT_KINDS else value


def _is_constant(expression: Expression) -> bool:
    return not has_columns(expression) and not is_volatile(expression)


def _bounded(fast: ArrayCollector, result: Any, text: Text) -> ArrayCollector:
    """The kernel, for lists whose copies fit the engine's memory once more: its pool has accounted for the values only."""

    def kernel(lists: Any) -> Any:
        if _LIST_COPIES * _value_bytes(lists) > text.memory_bytes:
            raise exhausted(text.context.job_id, text.memory_bytes)
        found = fast(lists)
        return found if found.type == result else found.cast(result)

    return kernel


def _python_kernel(compute: Collector, lists: Sequence[DataType], result: DataType, text: Text) -> Callable[..., Any]:
    """A Python function of the values of a group as a function over lists, a bounded number of values at a time."""

    def kernel(*arrays: Any) -> Any:
        found: list[Any] = []
        for start, stop, values in _chunks(arrays):
            if text.notes.is_stopped:
                raise Stopped
            pieces = [array.slice(start, stop - start) for array in arrays]
            if values * _OBJECT_BYTES + sum(map(_text_bytes, pieces)) > text.memory_bytes:
                raise exhausted(text.context.job_id, text.memory_bytes)
            columns = [from_arrow(piece, kind) for piece, kind in zip(pieces, lists, strict=True)]
            found.extend(compute(*(group or [] for group in row)) for row in zip(*columns, strict=True))
        return encoded(found, result)

    return kernel


def _chunks(arrays: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """Ranges of groups, and how many values of all arguments are in them."""
    lengths = pc.fill_null(pc.list_value_length(arrays[0]), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths, dtype=np.int64) * len(arrays)
    start = before = 0
    while start < len(ends):
        stop = max(int(np.searchsorted(ends, before + _CHUNK_VALUES, side="right")), start + 1)
        yield start, stop, int(ends[stop - 1]) - before
        start, before = stop, int(ends[stop - 1])


def _text_bytes(lists: Any) -> int:
    """Bytes of the texts in the lists, which Python objects have beside their own."""
    return _value_bytes(lists) if pa.types.is_large_string(lists.type.value_type) else 0


def _value_bytes(lists: Any) -> int:
    return int(lists.flatten().nbytes)


# --- windows ---------------------------------------------------------------------------------------------------------


def window(expression: Window, text: Text) -> str:
    """A window function or an aggregate with OVER."""
    parts: list[str] = []
    if expression.partition_by:
        parts.append("PARTITION BY " + ", ".join(render(part, text) for part in expression.partition_by))
    if expression.order_by:
        parts.append("ORDER BY " + sort_keys(expression.order_by, text))
    if expression.frame is not None:
        _refuse_unequal_offsets(expression.frame, expression.order_by)
        parts.append(_frame(expression.frame, text))
    over = f" OVER ({' '.join(parts)})"
    declaration = window_of(expression.function)
    if declaration is None:
        plain = Aggregate(expression.function, expression.arguments, expression.type, filter=expression.filter)
        return aggregate(plain, text, over)
    template = declaration.sql
    assert isinstance(template, str)
    if expression.function == "nth_value" and not _is_positive(expression.arguments[1], text):
        return arrow_cast("NULL", expression.type)
    arguments = [_offset(a, text) if i == 1 else render(a, text) for i, a in enumerate(expression.arguments)]
    filled = template.format(*arguments, args=", ".join(arguments))
    nulls = " IGNORE NULLS" if expression.ignores_nulls else ""
    return f"arrow_cast({filled}{nulls}{over}, '{arrow_name(expression.type)}')"


def _is_positive(expression: Expression, text: Text) -> bool:
    """Whether a constant row number names a row; the engine counts negative ones from the end."""
    value = None if has_columns(expression) else value_of(expression, NO_COLUMNS, text.context)
    return isinstance(value, int) and value > 0


def _offset(expression: Expression, text: Text) -> str:
    """The offset of lag, lead and nth_value: the engine wants a plain number."""
    if has_columns(expression):
        return render(expression, text)
    value = value_of(expression, NO_COLUMNS, text.context)
    return "NULL" if value is None else str(int(value))


_TIMES: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date", "interval"})


def _refuse_unequal_offsets(frame: Frame, keys: Sequence[SortKey]) -> None:
    """RANGE adds its offset to the order key: an interval to times, a number to numbers."""
    if frame.unit.lower() != "range":
        return
    for bound in (frame.start, frame.end):
        if bound.offset is None or not keys:
            continue
        key = keys[0].expression.type
        if (bound.offset.type.kind == "interval") != (key.kind in _TIMES):
            offset = bound.offset.type.name
            raise SQLParseError(f"RANGE with an offset of type `{offset}` is not possible for an order by `{key.name}`")


def _frame(frame: Frame, text: Text) -> str:
    return f"{frame.unit.upper()} BETWEEN {_bound(frame.start, text)} AND {_bound(frame.end, text)}"


def _bound(bound: FrameBound, text: Text) -> str:
    kind = bound.kind.replace("_", " ").upper()
    if bound.offset is None:
        return kind
    value = value_of(bound.offset, NO_COLUMNS, text.context)
    if isinstance(value, list):
        months, days, milliseconds = value
        shown = f"INTERVAL '{months} months {days} days {milliseconds / 1000:.3f} seconds'"
    else:
        shown = str(int(value))
    return f"{shown} {kind}"
