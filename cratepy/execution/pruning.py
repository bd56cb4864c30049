"""What a filter says about single columns, so that a shard can skip blocks that cannot match.

In: a scan's filter and the statement's parameters. Out: :class:`ColumnRange`, one or two per column that the filter bounds.
They are necessary conditions, never sufficient ones: a row for which the filter is true is in all of them, and the filter
is tested on every row that is read all the same. Its own room because it is the one place that must know how values
compare in the engine and in the statistics of a block at once. Zone maps: Moerkotte, "Small Materialized Aggregates" (1998).

Understood: comparisons of a column with a value that is the same for all rows (parameters, ``now()``, subqueries that ran),
BETWEEN, IN, ``= ANY`` of an array, IS [NOT] NULL, boolean columns, LIKE with a fixed beginning; AND, OR (the hull), NOT. A
column may stand in a cast that keeps order and value. Everything else bounds nothing.

Floats: the engine orders NaN above all numbers and equal to itself; blocks with NaN have no bounds, and a NaN to compare with
gives none here. −0.0 and 0.0 are equal in Python's comparison of bounds, so neither hides the other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from typing import Any, Final

from cratepy.errors import CrateError
from cratepy.execution.writes.values import values_of
from cratepy.functions.evaluate import has_columns, is_volatile, subexpressions
from cratepy.model.expressions import Call, Cast, Column, Expression, InList, Literal, Parameter
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Scan
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.storage.operations import ColumnRange, Scalar

_INTEGERS: Final = ("byte", "smallint", "integer", "bigint")
_TIMESTAMPS: Final = ("timestamp with time zone", "timestamp without time zone")
#: Kinds of columns whose statistics compare as the engine does.
_COMPARABLE: Final = frozenset({*_INTEGERS, *_TIMESTAMPS, "date", "real", "double precision", "boolean", "text"})
_SYSTEM: Final = frozenset({"_id", "_uid", "_seq_no", "_primary_term", "_version"})
#: Magnitude below which every integer is a number of the float type, so that the cast keeps order strictly.
_EXACT_BELOW: Final = {"real": 2**24, "double precision": 2**53}
#: Operator → the one that holds if it is not true and no side is NULL; and the one with the sides exchanged.
_NEGATED: Final = {"op_=": "op_<>", "op_<>": "op_=", "op_<": "op_>=", "op_>=": "op_<", "op_>": "op_<=", "op_<=": "op_>"}
_MIRRORED: Final = {
    "op_=": "op_=",
    "op_<>": "op_<>",
    "op_<": "op_>",
    "op_>": "op_<",
    "op_<=": "op_>=",
    "op_>=": "op_<=",
}
#: Functions that are called for what they do.
_WITH_EFFECT: Final = frozenset({"pg_sleep", "set_config"})
_FLOAT: Final = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class _Interval:
    """The values a column may have: between the bounds (None: open), and NULL or not."""

    minimum: Scalar = None
    maximum: Scalar = None
    takes_null: bool = False
    takes_values: bool = True

    def both(self, other: _Interval) -> _Interval:
        return _Interval(
            _of_bounds(max, self.minimum, other.minimum),
            _of_bounds(min, self.maximum, other.maximum),
            self.takes_null and other.takes_null,
            self.takes_values and other.takes_values,
        )

    def either(self, other: _Interval) -> _Interval:
        takes_null = self.takes_null or other.takes_null
        if not (self.takes_values and other.takes_values):
            bounds = self if self.takes_values else other
            return _Interval(bounds.minimum, bounds.maximum, takes_null, bounds.takes_values)
        return _Interval(
            None if self.minimum is None or other.minimum is None else _of_bounds(min, self.minimum, other.minimum),
            None if self.maximum is None or other.maximum is None else _of_bounds(max, self.maximum, other.maximum),
            takes_null,
        )


#: Per source what a row must satisfy; None if no row can. A source that is missing may be anything.
_Demands = dict[str, _Interval] | None

_NOT_NULL: Final = _Interval()


def column_ranges(scan: Scan, context: StatementContext) -> tuple[ColumnRange, ...]:
    """The ranges that every row of the scan must be in if its filter is true. About 20 µs per comparison."""
    if scan.filter is None:
        return ()
    demands = _Reader(scan, context).demands(scan.filter, is_negated=False)
    if demands is None:
        # No row can match. Contradicting demands on any column say so.
        source = next((column.source for column in scan.columns if _has_statistics(column.source)), "_seq_no")
        return ColumnRange(source, is_null=True), ColumnRange(source, is_null=False)
    return tuple(found for source, interval in demands.items() for found in _ranges(source, interval))


def _ranges(source: str, interval: _Interval) -> list[ColumnRange]:
    if not interval.takes_values:
        found = [ColumnRange(source, is_null=True)]
        return found if interval.takes_null else [*found, ColumnRange(source, is_null=False)]
    if interval.takes_null:
        return []
    return [ColumnRange(source, interval.minimum, interval.maximum, is_null=False)]


def _has_statistics(source: str) -> bool:
    return not source.startswith("_") or source in _SYSTEM


def _of_bounds(choose: Callable[..., Any], one: Scalar, other: Scalar) -> Scalar:
    if one is None or other is None:
        return one if other is None else other
    chosen: Scalar = choose(one, other)
    return chosen


@dataclass(frozen=True, slots=True)
class _Operand:
    """A column as it stands in a comparison: ``kind`` is its own, ``compared`` that of the comparison."""

    source: str
    kind: str
    compared: str


class _Reader:
    """Takes one filter apart."""

    def __init__(self, scan: Scan, context: StatementContext) -> None:
        self._context = context
        self._sources = {
            column.id: "_id" if column.source == "_uid" else column.source
            for column in scan.columns
            if _has_statistics(column.source) and (column.type.kind in _COMPARABLE)
        }
        #: For IS NULL any stored column will do.
        self._stored = {column.id: column.source for column in scan.columns if _has_statistics(column.source)}

    def demands(self, expression: Expression, *, is_negated: bool) -> _Demands:
        """What rows must satisfy for which the expression is true (negated: false)."""
        match expression:
            case Call(function="op_and" | "op_or" as function):
                parts = [self.demands(part, is_negated=is_negated) for part in _terms(expression, function)]
                return reduce(_all if (function == "op_and") is not is_negated else _any, parts)
            case Call(function="op_not", arguments=(argument,)):
                return self.demands(argument, is_negated=not is_negated)
            case Call(function="op_is_true" | "ignore3vl", arguments=(argument,)) if not is_negated:
                return self.demands(argument, is_negated=False)
            case Call(function="op_is_false", arguments=(argument,)) if not is_negated:
                return self.demands(argument, is_negated=True)
            case Call(function="op_isnull", arguments=(Column(id=key),)) if key in self._stored:
                return {self._stored[key]: _NOT_NULL if is_negated else _Interval(takes_null=True, takes_values=False)}
            case Call(function=function, arguments=(one, other)) if function in _NEGATED:
                return self._comparison(_NEGATED[function] if is_negated else function, one, other)
            case Call(function="op_like", arguments=(Column() as column, pattern, *escape)) if not is_negated:
                return self._like(column, pattern, escape)
            case Call(function="op_any_=", arguments=(operand, array)):
                return self._among(operand, self._elements(array), is_negated=is_negated)
            case InList(operand=operand, items=items):
                return self._among(operand, self._values(items), is_negated=is_negated)
            case Column(id=key, type=DataType(kind="boolean")) if key in self._sources:
                return {self._sources[key]: _Interval(not is_negated, not is_negated)}
            case Literal(value=value):
                return {} if value is (not is_negated) else None
            case _:
                return {}

    def _comparison(self, operator: str, one: Expression, other: Expression) -> _Demands:
        operand = self._operand(one)
        if operand is None:
            operand, other, operator = self._operand(other), one, _MIRRORED[operator]
        if operand is None:
            return {}
        values = self._values([other])
        if values is None:
            return {}
        if values[0] is None:
            return None
        bound = _bound(values[0], operand, other.type)
        minimum = None if bound is None or operator not in ("op_=", "op_>", "op_>=") else bound[0]
        maximum = None if bound is None or operator not in ("op_=", "op_<", "op_<=") else bound[1]
        return {operand.source: _Interval(minimum, maximum)}

    def _among(self, one: Expression, values: Sequence[Any] | None, *, is_negated: bool) -> _Demands:
        operand = self._operand(one)
        if operand is None or values is None:
            return {}
        known = [value for value in values if value is not None]
        if is_negated:
            # NOT IN with a NULL in the list is never true; without values it is always, of NULL, too.
            return ({operand.source: _NOT_NULL} if values else {}) if len(known) == len(values) else None
        if not known:
            return None
        bounds = [_bound(value, operand, DataType(operand.compared)) for value in known]
        if any(bound is None for bound in bounds):
            return {operand.source: _NOT_NULL}
        lows, highs = zip(*(bound for bound in bounds if bound is not None), strict=True)
        return {operand.source: _Interval(min(lows), max(highs))}

    def _like(self, column: Column, pattern: Expression, escape: Sequence[Expression]) -> _Demands:
        operand = self._operand(column)
        values = self._values([pattern, *escape])
        if operand is None or operand.kind != "text" or values is None:
            return {}
        if None in values:
            return None
        prefix, is_whole = _fixed_start(values[0], values[1] if escape else "\\")
        if is_whole:
            return {operand.source: _Interval(prefix, prefix)}
        return {operand.source: _Interval(prefix or None, _after(prefix))}

    def _operand(self, expression: Expression) -> _Operand | None:
        """The column, if the expression is one, or a cast of one that keeps order and value."""
        compared = expression.type.kind
        kinds = [compared]
        while isinstance(expression, Cast):
            if expression.type.length is not None or expression.type.precision is not None:
                return None
            expression = expression.argument
            kinds.append(expression.type.kind)
        if not isinstance(expression, Column) or expression.id not in self._sources:
            return None
        if not all(_keeps_order(source, target) for target, source in pairwise(kinds)):
            return None
        return _Operand(self._sources[expression.id], expression.type.kind, compared)

    def _values(self, expressions: Sequence[Expression]) -> list[Any] | None:
        """Their values, if they are the same for all rows and can be computed; an error is the filter's to raise."""
        try:
            if not all(_is_known(expression) for expression in expressions):
                return None
            return values_of(expressions, self._context)
        except CrateError:
            return None

    def _elements(self, array: Expression) -> list[Any] | None:
        values = self._values([array])
        if values is None or array.type.element is None or array.type.element.kind == "array":
            return None
        elements = values[0]
        return elements if isinstance(elements, list) else None


def _is_known(expression: Expression) -> bool:
    """Whether the value is one for all rows, and asking for it does nothing else."""
    if isinstance(expression, Literal | Parameter):
        return True
    has_effect = any(isinstance(part, Call) and part.function in _WITH_EFFECT for part in subexpressions(expression))
    return not has_effect and not has_columns(expression) and not is_volatile(expression)


def _all(one: _Demands, other: _Demands) -> _Demands:
    if one is None or other is None:
        return None
    return one | {source: demand.both(one.get(source, demand)) for source, demand in other.items()}


def _any(one: _Demands, other: _Demands) -> _Demands:
    if one is None or other is None:
        return one if other is None else other
    return {source: demand.either(other[source]) for source, demand in one.items() if source in other}


def _terms(expression: Expression, function: str) -> list[Expression]:
    """The parts of a chain of ANDs or ORs; not recursive, for chains are long."""
    terms: list[Expression] = []
    pending = [expression]
    while pending:
        term = pending.pop()
        if isinstance(term, Call) and term.function == function:
            pending.extend(reversed(term.arguments))
        else:
            terms.append(term)
    return terms


def _keeps_order(source: str, target: str) -> bool:
    """Whether a cast keeps order and value; for integers as floats :func:`_bound` looks at the magnitude, too."""
    if source == target:
        return True
    if source in _INTEGERS:
        is_wider = target in _INTEGERS and _INTEGERS.index(source) < _INTEGERS.index(target)
        return is_wider or target in ("real", "double precision", "numeric")
    if source == "real":
        return target == "double precision"
    return target in _TIMESTAMPS and source in (*_TIMESTAMPS, "date")


def _bound(value: Any, operand: _Operand, value_type: DataType) -> tuple[Scalar, Scalar] | None:
    """The value as (lower, upper) bound of the column's own values; None if it bounds nothing."""
    kind = operand.kind
    if value_type.kind != operand.compared:
        return None
    if kind == "text":
        return (value, value) if type(value) is str else None
    if kind == "boolean":
        return (value, value) if type(value) is bool else None
    if isinstance(value, Decimal) and kind in _INTEGERS and value.is_finite():
        return math.floor(value), math.ceil(value)
    if type(value) not in (int, float) or value != value:
        return None
    if operand.compared == "real":
        try:
            value = _FLOAT.unpack(_FLOAT.pack(value))[0]
        except OverflowError:
            return None
    if kind in _INTEGERS and operand.compared in _EXACT_BELOW and abs(value) >= _EXACT_BELOW[operand.compared]:
        return None
    return value, value


def _fixed_start(pattern: str, escape: str) -> tuple[str, bool]:
    """What every text that is LIKE the pattern begins with, and whether it is the whole text."""
    start: list[str] = []
    position = 0
    while position < len(pattern) and pattern[position] not in "%_":
        if pattern[position] == escape:
            position += 1
            if position == len(pattern):
                break
        start.append(pattern[position])
        position += 1
    else:
        return "".join(start), position == len(pattern)
    return "".join(start), False


def _after(prefix: str) -> str | None:
    """A text above all that begin with the prefix; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Surrogates are no characters of a text.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None
