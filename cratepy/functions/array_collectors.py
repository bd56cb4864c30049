"""Aggregates over the values of many groups at once, without a Python object per value.

In: the lists of the values of each group (an Arrow list array, NULLs included, a NULL list for a group without rows) and the
constant arguments of the aggregate. Out: an Arrow array with one value per group. The same aggregates in plain Python are
:mod:`cratepy.functions.collectors`: they say what is meant, take what is left here (arguments that differ from row to row,
intervals, arrays) and are the twins of these in the tests. Its own room because here NumPy and Arrow do the work: numbers
are sorted in place group by group, equal values are found by hashing them together with the number of their group.

One is as exact as the other, but for the order of 0.0 and -0.0, which are equal, and of NaNs, which are last here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.functions.collectors import check_fraction, shown_item, topk_limit, wanted_fractions
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type, from_arrow, to_arrow
from cratepy.model.types import DataType
from cratepy.records import dataclass

#: A function over one list array.
ArrayCollector = Callable[[Any], Any]
Types = tuple[DataType, ...]
Constants = tuple[Any, ...]

_NUMBERS: Final = frozenset({"byte", "smallint", "integer", "bigint", "real", "double precision"})
#: Kinds whose values are equal if their Arrow values are (of floats: if their bits are).
_HASHED: Final = _NUMBERS | {"boolean", "text", "ip", "uuid", "numeric", "date"} | {
    "timestamp with time zone", "timestamp without time zone"
}  # fmt: skip


def array_collector(name: str, types: Types, result: DataType, constants: Constants) -> ArrayCollector | None:
    """The kernel of an aggregate whose arguments after the first are these; None if it has to be computed in Python."""
    kind = types[0].kind
    match name:
        case "array_agg":
            return _without_null_lists
        case "percentile" if kind in _NUMBERS:
            return _percentile(constants[0], result)
        case "median" if kind in _NUMBERS:
            return _median
        case "collect_set" if kind in _HASHED:
            return _collect_set(result)
        case "_merge_sets" if result.element is not None and result.element.kind in _HASHED:
            return _merge_sets(result)
        case "topk" if kind in _HASHED:
            return _topk(types[0], result, constants)
        case "string_agg":
            return lambda lists: joined_texts(lists, constants[0])
    return None


# --- groups ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Groups:
    """The values that are not NULL, one group after the other; ``bounds``: where each group begins, and the end."""

    values: Any
    bounds: Any

    @property
    def count(self) -> int:
        return len(self.bounds) - 1

    @property
    def sizes(self) -> Any:
        return np.diff(self.bounds)


def _bounds(lists: Any) -> Any:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _present(lists: Any) -> _Groups:
    values, bounds = _movable(lists.flatten()), _bounds(lists)
    if values.null_count:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        bounds = np.concatenate(([0], np.cumsum(valid, dtype=np.int64)))[bounds]
        values = values.drop_null()
    return _Groups(values, bounds)


def _movable(values: Any) -> Any:
    """Views of texts can be neither filtered nor taken by Arrow."""
    return values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values


def _without_null_lists(lists: Any) -> Any:
    """array_agg of no rows is an empty array."""
    if not lists.null_count:
        return lists
    return pa.ListArray.from_arrays(_bounds(lists).astype(np.int32), lists.flatten(), type=lists.type)


# --- numbers in order ------------------------------------------------------------------------------------------------


def _ordered(groups: _Groups) -> Any:
    """The values, those of each group ascending, NaN last."""
    values = np.array(groups.values.to_numpy(zero_copy_only=False))
    for start, end in itertools.pairwise(groups.bounds.tolist()):
        if end - start > 1:
            values[start:end].sort()
    return values


def _percentile(wanted: Any, result: DataType) -> ArrayCollector:
    def percentile(lists: Any) -> Any:
        groups = _present(lists)
        is_empty = groups.sizes == 0
        if is_empty.all():
            return pa.nulls(groups.count, arrow_type(result))
        fractions = wanted_fractions(wanted)
        for fraction in fractions:
            check_fraction(fraction)
        ordered, starts, sizes = _ordered(groups), groups.bounds[:-1], groups.sizes
        # Positions of empty groups lie anywhere in the values; they are masked below.
        places = [np.minimum((fraction * sizes).astype(np.int64), sizes - 1) for fraction in fractions]
        picked = [ordered[np.clip(starts + place, 0, len(ordered) - 1)].astype(np.float64) for place in places]
        if result.kind != "array":
            return pa.array(picked[0], mask=is_empty)
        rows = np.stack(picked, axis=1)[~is_empty].ravel()
        ends = np.concatenate(([0], np.cumsum(np.where(is_empty, 0, len(fractions)))))
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(rows), mask=pa.array(is_empty))

    return percentile


def _median(lists: Any) -> Any:
    groups = _present(lists)
    sizes, starts = groups.sizes, groups.bounds[:-1]
    filled = np.flatnonzero(sizes)
    ordered = _ordered(groups)
    high = starts[filled] + sizes[filled] // 2
    low = high - (sizes[filled] % 2 == 0)
    found = np.zeros(groups.count)
    if ordered.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            middle = (ordered[low].astype(np.float64) + ordered[high].astype(np.float64)) / 2
        # A single middle is given as it is: twice the largest number is infinite.
        found[filled] = np.where(low == high, ordered[high], middle)
    else:
        pairs = zip(ordered[low].tolist(), ordered[high].tolist(), strict=True)
        found[filled] = [(left + right) / 2 for left, right in pairs]
    return pa.array(found, mask=sizes == 0)


# --- equal values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Distinct:
    """The different values of each group in the order of their first appearance, and how often each is there."""

    groups: Any
    values: Any
    counts: Any


def _distinct(groups: _Groups) -> _Distinct:
    encoded = _hashable(groups.values).dictionary_encode()
    codes, known = encoded.indices.to_numpy(zero_copy_only=False), max(len(encoded.dictionary), 1)
    if groups.count == 1:
        codes_found: Any = np.arange(len(encoded.dictionary))
        numbers: Any = np.zeros_like(codes_found)
        counts = np.bincount(codes, minlength=len(codes_found))
    else:
        both = np.repeat(np.arange(groups.count, dtype=np.int64) * known, groups.sizes) + codes
        found = pc.value_counts(pa.array(both))
        numbers, codes_found = np.divmod(found.field(0).to_numpy(), known)
        counts = found.field(1).to_numpy()
    values = encoded.dictionary.take(pa.array(codes_found, pa.int64()))
    return _Distinct(numbers, _unhashed(values, groups.values.type), counts)


_BITS: Final[dict[Any, Any]] = {pa.float32(): np.int32, pa.float64(): np.int64}


def _hashable(values: Any) -> Any:
    """Floats as their bits, with one NaN."""
    bits = _BITS.get(values.type)
    if bits is None:
        return values
    floats = np.array(values.to_numpy(zero_copy_only=False))
    floats[np.isnan(floats)] = np.nan
    return pa.array(floats.view(bits))


def _unhashed(values: Any, wanted: Any) -> Any:
    if wanted not in _BITS:
        return values
    return pa.array(values.to_numpy(zero_copy_only=False).view(wanted.to_pandas_dtype()))


def _collect_set(result: DataType) -> ArrayCollector:
    wanted = arrow_type(result)

    def collect_set(lists: Any) -> Any:
        groups = _present(lists)
        found = _distinct(groups)
        ends = np.concatenate(([0], np.cumsum(np.bincount(found.groups, minlength=groups.count))))
        values = found.values.cast(wanted.value_type)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=wanted)

    return collect_set


def _merge_sets(result: DataType) -> ArrayCollector:
    """Sets of parts of a group: lists of lists."""
    collect = _collect_set(result)

    def merge_sets(lists: Any) -> Any:
        sets = lists.flatten()
        bounds = _bounds(sets)[_bounds(lists)]
        return collect(pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), sets.flatten()))

    return merge_sets


def _topk(item: DataType, result: DataType, constants: Constants) -> ArrayCollector:
    def topk(lists: Any) -> Any:
        limit = topk_limit(*constants)
        groups = _present(lists)
        found = _distinct(groups)
        # Groups ascending, in each the most frequent first, among equals the one that came first.
        order = np.argsort(-found.counts, kind="stable")
        order = order[np.argsort(found.groups[order], kind="stable")]
        starts: Any = np.searchsorted(found.groups[order], np.arange(groups.count))
        rank = np.arange(len(order)) - starts[found.groups[order]]
        kept = order[rank < limit]
        items = from_arrow(found.values.take(pa.array(kept)), item)
        answers: list[dict[str, Any]] = [{} for _ in range(groups.count)]
        for number, value, count in zip(found.groups[kept].tolist(), items, found.counts[kept].tolist(), strict=True):
            answer = answers[number] or answers[number].setdefault("maximum_error", 0) or answers[number]
            answer.setdefault("frequencies", []).append(
                {"item": shown_item(value, item), "estimate": count, "lower_bound": count, "upper_bound": count}
            )
        return to_arrow(answers, result)

    return topk


# --- texts -----------------------------------------------------------------------------------------------------------


def joined_texts(lists: Any, separator: str | None) -> Any:
    """The texts of each group with the separator between them; NULL for a group without texts."""
    groups = _present(lists)
    if not len(groups.values):
        return pa.nulls(groups.count, pa.string_view())
    is_first: Any = np.zeros(len(groups.values), np.bool_)
    is_first[groups.bounds[:-1][groups.sizes > 0]] = True
    before = pc.if_else(
        pa.array(is_first), pa.scalar("", pa.large_string()), pa.scalar(separator or "", pa.large_string())
    )
    pieces = pc.binary_join_element_wise(before, groups.values, pa.scalar("", pa.large_string()))
    # The pieces lie one after the other: a group's text is what lies between its bounds.
    _, ends, data = pieces.buffers()
    places = np.frombuffer(ends, np.int64)[pieces.offset :][groups.bounds]
    validity = pa.array(groups.sizes > 0).buffers()[1]
    texts = pa.Array.from_buffers(pa.large_string(), groups.count, [validity, pa.py_buffer(places), data])
    return texts.cast(pa.string_view())
