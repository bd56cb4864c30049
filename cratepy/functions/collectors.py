"""Aggregates computed in Python over the values of a group: those the engine has no equal for.

In: for each argument the list of its values in the group (NULLs included, FILTER applied). Out: the SQL value. Source:
CrateDB's aggregations; percentile is exact here (CrateDB estimates with a t-digest), as is hyperloglog_distinct.
"""

from __future__ import annotations

import collections
import decimal
import functools
import math
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import CardinalityViolation, SQLParseError
from cratepy.functions import intervals
from cratepy.functions.arithmetic import decimal_quotient
from cratepy.functions.casts import text_of
from cratepy.functions.intervals import DAY_MS
from cratepy.functions.values import DECIMAL_CONTEXT, decimal_of, numeric_text, order_key
from cratepy.model.types import DataType

Collector = Callable[..., Any]
Types = tuple[DataType, ...]
_TOPK_DEFAULT: Final = 8
_TOPK_LIMIT_MAX: Final = 5_000
#: Of hyperloglog_distinct: the least and the largest.
PRECISIONS: Final = (4, 18)


def _present(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _first_constant(values: list[Any]) -> Any:
    """An argument that is the same for every row, such as a fraction."""
    return next(iter(values), None)


def _keyed(values: list[Any], data_type: DataType) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for value in values:
        groups.setdefault(repr(order_key(value, data_type)), []).append(value)
    return groups


def _any_value(_types: Types, _result: DataType) -> Collector:
    return lambda values: next(iter(_present(values)), None)


def _only(_types: Types, _result: DataType) -> Collector:
    """The value of a scalar subquery."""

    def only(values: list[Any]) -> Any:
        if len(values) > 1:
            raise CardinalityViolation("Subquery returned more than 1 row when it shouldn't.")
        return values[0] if values else None

    return only


def _array_agg(_types: Types, _result: DataType) -> Collector:
    return lambda values: values


def _collect_set(types: Types, _result: DataType) -> Collector:
    return lambda values: [group[0] for group in _keyed(_present(values), types[0]).values()]


def _merge_sets(types: Types, result: DataType) -> Collector:
    """Sets of parts: what collect_set makes of all their values."""
    element = result.element
    assert element is not None
    collect = _collect_set((element,), result)
    return lambda sets: collect([value for one in sets for value in one or []])


def _string_agg(_types: Types, _result: DataType) -> Collector:
    def string_agg(values: list[Any], separators: list[Any]) -> str | None:
        parts: list[str] = []
        for value, separator in zip(values, separators, strict=True):
            if value is None:
                continue
            if parts:
                parts.append(separator or "")
            parts.append(value)
        return "".join(parts) if parts else None

    return string_agg


def _count(types: Types, _result: DataType) -> Collector:
    """Of a type the engine cannot tell apart; DISTINCT arrives as distinct by bits, so equal values are told here."""
    return lambda values: len(_present(values))


def _extreme(choose: Callable[..., Any]) -> Callable[[Types, DataType], Collector]:
    def make(types: Types, _result: DataType) -> Collector:
        return lambda values: choose(_present(values), key=lambda value: order_key(value, types[0]), default=None)

    return make


def _extreme_by(choose: Callable[..., Any]) -> Callable[[Types, DataType], Collector]:
    def make(types: Types, _result: DataType) -> Collector:
        def extreme_by(values: list[Any], keys: list[Any]) -> Any:
            pairs = [(value, key) for value, key in zip(values, keys, strict=True) if key is not None]
            best = choose(pairs, key=lambda pair: order_key(pair[1], types[1]), default=(None, None))
            return best[0]

        return extreme_by

    return make


def _sum(_types: Types, result: DataType) -> Collector:
    def sum_intervals(values: list[Any]) -> Any:
        present = _present(values)
        if not present:
            return None
        return intervals.normalized(*(sum(parts) for parts in zip(*present, strict=True)))

    assert result.kind == "interval"
    return sum_intervals


def _average(types: Types, result: DataType) -> Collector:
    def average(values: list[Any]) -> Any:
        present = _present(values)
        if not present:
            return None
        if result.kind == "numeric":
            total = functools.reduce(DECIMAL_CONTEXT.add, map(decimal_of, present))
            return numeric_text(decimal_quotient(total, decimal_of(len(present))))
        assert result.kind == "interval"
        return intervals.normalized(0, 0, int(sum(map(_interval_ms, present)) / len(present)))

    return average


def _interval_ms(value: list[int]) -> int:
    """The length of an interval whose months have 30 days."""
    return value[0] * 30 * DAY_MS + value[1] * DAY_MS + value[2]


def _spread(*, is_sample: bool, is_root: bool) -> Callable[[Types, DataType], Collector]:
    def make(types: Types, result: DataType) -> Collector:
        def spread(values: list[Any]) -> Any:
            present = [decimal_of(value) for value in _present(values)]
            divisor = len(present) - is_sample
            if divisor < 1:
                return None
            mean = DECIMAL_CONTEXT.divide(sum(present, decimal.Decimal(0)), decimal.Decimal(len(present)))
            squares = sum((DECIMAL_CONTEXT.power(value - mean, 2) for value in present), decimal.Decimal(0))
            variance = DECIMAL_CONTEXT.divide(squares, decimal.Decimal(divisor))
            answer = DECIMAL_CONTEXT.sqrt(variance) if is_root else variance
            if result.kind == "numeric":
                return numeric_text(decimal.Context(prec=34).plus(answer))
            return float(answer)

        return spread

    return make


def _merged_spread(*, is_sample: bool, is_root: bool) -> Callable[[Types, DataType], Collector]:
    """Chan's formula over (count, mean, population variance) of each part."""

    def make(_types: Types, _result: DataType) -> Collector:
        def merged(counts: list[Any], means: list[Any], variances: list[Any]) -> float | None:
            count, mean, squares = 0, 0.0, 0.0
            for part_count, part_mean, part_variance in zip(counts, means, variances, strict=True):
                if not part_count:
                    continue
                total = count + part_count
                difference = part_mean - mean
                squares += part_variance * part_count + difference * difference * count * part_count / total
                mean += difference * part_count / total
                count = total
            if count - is_sample < 1:
                return None
            variance = squares / (count - is_sample)
            return math.sqrt(variance) if is_root else variance

        return merged

    return make


def _geometric_mean(_types: Types, _result: DataType) -> Collector:
    def geometric_mean(values: list[Any]) -> float | None:
        present = [float(value) for value in _present(values)]
        if not present:
            return None
        try:
            return math.exp(math.fsum(map(_logarithm, present)) / len(present))
        except ValueError:  # infinity and its negative
            return math.nan

    return geometric_mean


def _logarithm(value: float) -> float:
    """IEEE 754's: of 0 it is minus infinity, of less NaN."""
    if value == 0:
        return -math.inf
    return math.log(value) if value > 0 else math.nan


def check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise SQLParseError(f"q should be in [0,1], got {fraction}")


def wanted_fractions(wanted: Any) -> list[float]:
    """The fractions of percentile: its second argument or what is in it. Raises SQLParseError."""
    fractions = wanted if isinstance(wanted, list) else [wanted]
    if not fractions or any(fraction is None for fraction in fractions):
        raise SQLParseError("no fraction value specified")
    return fractions


def _quantile(ordered: list[Any], fraction: float) -> Any:
    check_fraction(fraction)
    found = ordered[min(int(fraction * len(ordered)), len(ordered) - 1)]
    return found if isinstance(found, list) else float(found)


def _percentile(types: Types, _result: DataType) -> Collector:
    order = _interval_ms if types[0].kind == "interval" else None

    def percentile(values: list[Any], fractions: list[Any], _compression: list[Any] | None = None) -> Any:
        ordered = sorted(_present(values), key=order)
        wanted = _first_constant(fractions)
        if not ordered:
            return None
        found = [_quantile(ordered, fraction) for fraction in wanted_fractions(wanted)]
        return found if isinstance(wanted, list) else found[0]

    return percentile


def _median(_types: Types, _result: DataType) -> Collector:
    def median(values: list[Any]) -> float | None:
        ordered = sorted(_present(values))
        if not ordered:
            return None
        half, odd = divmod(len(ordered), 2)
        return float(ordered[half]) if odd else (ordered[half - 1] + ordered[half]) / 2

    return median


def _distinct_count(types: Types, _result: DataType) -> Collector:
    def distinct_count(values: list[Any], precisions: list[Any] | None = None) -> int:
        precision = _first_constant(precisions or [])
        if precision is not None and not PRECISIONS[0] <= precision <= PRECISIONS[1]:
            raise SQLParseError(f"precision must be >= {PRECISIONS[0]} and <= {PRECISIONS[1]}")
        return len(_keyed(_present(values), types[0]))

    return distinct_count


def topk_limit(limit: int | None = _TOPK_DEFAULT, capacity: int | None = None) -> int:
    """How many of the most frequent values to tell. Raises SQLParseError."""
    if limit is None or not 0 < limit <= _TOPK_LIMIT_MAX:
        raise SQLParseError(f"Limit parameter for topk must be between 0 and 10_000. Got: {limit}")
    if capacity is not None and (capacity < 1 or capacity & (capacity - 1)):
        raise SQLParseError(f"Capacity parameter must be a positive integer-power of 2. Got: {capacity}")
    return limit


def _topk(types: Types, _result: DataType) -> Collector:
    def topk(values: list[Any], limits: list[Any] | None = None, capacities: list[Any] | None = None) -> Any:
        limit = topk_limit(*(_first_constant(given) for given in (limits, capacities) if given is not None))
        groups = _keyed(_present(values), types[0])
        if not groups:
            return {}
        counts = collections.Counter({key: len(group) for key, group in groups.items()})
        frequencies = [
            {
                "item": shown_item(groups[key][0], types[0]),
                "estimate": count,
                "lower_bound": count,
                "upper_bound": count,
            }
            for key, count in counts.most_common(limit)
        ]
        return {"maximum_error": 0, "frequencies": frequencies}

    return topk


def shown_item(value: Any, data_type: DataType) -> Any:
    if data_type.kind == "numeric":
        return float(value)
    return text_of(value, data_type) if data_type.kind == "interval" else value


def _lttb(_types: Types, _result: DataType) -> Collector:
    """Largest triangle three buckets (Steinarsson 2013): the points that keep the shape of a line."""

    def lttb(times: list[Any], heights: list[Any], limits: list[Any]) -> Any:
        pairs = [(x, y) for x, y in zip(times, heights, strict=True) if x is not None and y is not None]
        points = sorted(pairs, key=lambda point: point[0])
        if not points:
            return None
        limit = _first_constant(limits)
        if limit is None or limit < 1:
            raise SQLParseError("lttb needs a positive number of points")
        chosen = points if limit >= len(points) else _largest_triangles(points, limit)
        return {"x": [x for x, _ in chosen], "y": [y for _, y in chosen]}

    return lttb


def _largest_triangles(points: list[tuple[Any, Any]], limit: int) -> list[tuple[Any, Any]]:
    chosen = [points[0]]
    buckets = max(limit - 2, 0)
    size = (len(points) - 2) / buckets if buckets else 0.0
    for bucket in range(buckets):
        start, end = int(bucket * size) + 1, int((bucket + 1) * size) + 1
        following = points[end : min(int((bucket + 2) * size) + 1, len(points))] or points[-1:]
        mean_x = sum(x for x, _ in following) / len(following)
        mean_y = sum(y for _, y in following) / len(following)
        last_x, last_y = chosen[-1]

        def area(
            point: tuple[Any, Any], x: float = mean_x, y: float = mean_y, at: tuple[Any, Any] = (last_x, last_y)
        ) -> float:
            return abs((at[0] - x) * (point[1] - at[1]) - (at[0] - point[0]) * (y - at[1]))

        chosen.append(max(points[start:end], key=area))
    return [*chosen, points[-1]]


_MAKERS: Final[dict[str, Callable[[Types, DataType], Collector]]] = {
    "any_value": _any_value,
    "_only": _only,
    "array_agg": _array_agg,
    "collect_set": _collect_set,
    "_merge_sets": _merge_sets,
    "string_agg": _string_agg,
    "count": _count,
    "min": _extreme(min),
    "max": _extreme(max),
    "min_by": _extreme_by(min),
    "max_by": _extreme_by(max),
    "sum": _sum,
    "avg": _average,
    "variance": _spread(is_sample=False, is_root=False),
    "var_samp": _spread(is_sample=True, is_root=False),
    "stddev_pop": _spread(is_sample=False, is_root=True),
    "stddev_samp": _spread(is_sample=True, is_root=True),
    "_merge_variance": _merged_spread(is_sample=False, is_root=False),
    "_merge_var_samp": _merged_spread(is_sample=True, is_root=False),
    "_merge_stddev_pop": _merged_spread(is_sample=False, is_root=True),
    "_merge_stddev_samp": _merged_spread(is_sample=True, is_root=True),
    "geometric_mean": _geometric_mean,
    "percentile": _percentile,
    "median": _median,
    "hyperloglog_distinct": _distinct_count,
    "topk": _topk,
    "lttb": _lttb,
}


def collector(name: str, types: Types, result: DataType) -> Collector:
    """The Python function of an aggregate for arguments of these types."""
    return _MAKERS[name](types, result)
