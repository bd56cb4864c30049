"""INSERT of one row, in microseconds: what a plan needs is worked out once per plan and table version.

In: an InsertPlan of one row of expressions over a table of plain columns. Out: the row as SQL values and its id, or None where
this short way does not lead (then the general way does, with the same outcome). Its own room because the latency of a
durable single-row insert is this code plus one fsync: no engine, no thread, no Arrow.

The short way is taken if there are no generated columns, checks, objects, RETURNING, and if ON CONFLICT DO UPDATE sets whole columns to constants and columns. Every value is
checked to be one of its column as it is, because nobody does it later; one that is not leaves for the general way.
"""

from __future__ import annotations

import decimal
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa

from cratepy import limits
from cratepy.errors import CrateError, NotNullViolation, SQLParseError
from cratepy.execution.engine.constants import constant_values
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.values import exact_types, is_exact
from cratepy.model.arrow import MS_PER_DAY, from_arrow, to_arrow
from cratepy.model.expressions import Column, Expression, Literal, Parameter
from cratepy.model.plan import InsertPlan, StatementContext
from cratepy.model.relations import Item
from cratepy.model.routing import composite_id, key_text
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard

#: A value as the column has it; raises one of ``UNFIT``.
Fit = Callable[[Any], Any]

UNFIT: Final = (ValueError, OverflowError, TypeError, struct.error, decimal.DecimalException, pa.ArrowException)
_FLOAT: Final = struct.Struct("<f")
_RANGES: Final = {
    "byte": 2**7,
    "smallint": 2**15,
    "integer": 2**31,
    "bigint": 2**63,
    "timestamp with time zone": 2**63,
    "timestamp without time zone": 2**63,
}
_PLAIN: Final = frozenset(
    {
        "boolean", "byte", "smallint", "integer", "bigint", "real", "double precision",
        "timestamp with time zone", "timestamp without time zone", "text", "ip", "uuid",
    }
)  # fmt: skip
#: A character has at most four bytes.
_SAFE_CHARACTERS: Final = limits.TEXT_BYTES_MAX // 4


@dataclass(frozen=True, slots=True)
class BegunWrite:
    """A change of a row that is in its log, or was refused. The outcome, a row count or an error, is true once the position is
    durable: a refusal, or that there is no such row, rests on what must not be lost after it was told."""

    copy: Shard
    position: int
    outcome: int | CrateError


@dataclass(frozen=True, slots=True)
class _Set:
    """A plain column that a constant, a column of the row, or one of the proposed row is assigned to."""

    place: int
    fit: Fit
    expression: Literal | Parameter | Column
    #: The column's place in the row or, if ``is_proposed``, in the proposed one.
    source: int
    is_proposed: bool

    def value(self, context: StatementContext, before: Sequence[Any], proposed: Sequence[Any]) -> Any:
        """Raises ValueError if it needs a closer look."""
        if isinstance(self.expression, Column):
            return (proposed if self.is_proposed else before)[self.source]
        (value,) = constant_values((self.expression,), context)
        if value is not None and isinstance(self.expression, Parameter):
            if not is_exact(value, self.expression.type.kind):
                raise ValueError
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleInsert:
    """A plan against one version of its table."""

    plan: InsertPlan
    layout: TableLayout
    #: The row with its literals; all else is None.
    literals: tuple[Any, ...]
    #: Per parameter: its place in the row, its number, the Python types that it must have already, and what makes it fit.
    parameters: tuple[tuple[int, int, Set[type], Fit], ...]
    #: Per other expression: its place, and what makes its value fit.
    computed: tuple[tuple[int, Expression, Fit], ...]
    #: Places of the key in key order.
    key: tuple[int, ...]
    required: tuple[tuple[int, str], ...]
    skips_duplicates: bool
    #: ON CONFLICT DO UPDATE: what is set to what.
    sets: tuple[_Set, ...] = ()

    def changed(self, context: StatementContext, before: Sequence[Any], proposed: Sequence[Any]) -> PlainRow | None:
        """The row that exists after ON CONFLICT DO UPDATE; None if a value needs the general way."""
        row = list(before)
        needed = {place for place, _ in self.required}
        try:
            for one in self.sets:
                value = one.value(context, before, proposed)
                if value is None and one.place in needed:
                    return None
                row[one.place] = None if value is None else one.fit(value)
        except UNFIT:
            return None
        return PlainRow(self.layout.schema, row)

    def row(self, context: StatementContext, take_ids: Callable[[int], list[str]]) -> tuple[str, PlainRow] | None:
        """The id and the row; None if a value needs the general way."""
        layout = self.layout
        row = list(self.literals)
        given = context.parameters
        try:
            for place, number, exact, fit in self.parameters:
                value = given[number]
                if value is not None:
                    if type(value) not in exact:
                        return None
                    row[place] = fit(value)
            if self.computed:
                values = constant_values([expression for _, expression, _ in self.computed], context)
                for (place, _, fit), value in zip(self.computed, values, strict=True):
                    row[place] = None if value is None else fit(value)
        except UNFIT:
            return None
        for place in self.key:
            if row[place] is None:
                raise SQLParseError("A primary key value must not be NULL")
        for place, name in self.required:
            if row[place] is None:
                raise NotNullViolation(f'"{name}" must not be null')
        plain = PlainRow(layout.schema, row)
        key = self.key
        if not key:
            return take_ids(1)[0], plain
        types = layout.key_types
        if len(key) == 1:
            value = row[key[0]]
            return (str(value) if type(value) is int else key_text(value, types[0])), plain
        texts = [key_text(row[place], data_type) for place, data_type in zip(key, types, strict=True)]
        return composite_id(texts, layout.clustered_position), plain


_Plan = TypeVar("_Plan")
_Short = TypeVar("_Short")


class PreparedPlans(Generic[_Plan, _Short]):
    """What the short way of plans needs, worked out once, bounded; a plan is known by its identity while it is held here."""

    def __init__(self, prepare: Callable[[_Plan, TableLayout], _Short | None]) -> None:
        self._prepare = prepare
        self._known: OrderedDict[int, tuple[_Plan, TableLayout, _Short | None]] = OrderedDict()

    def of(self, plan: _Plan, layout: TableLayout) -> _Short | None:
        """The prepared plan; None if it is not for the short way."""
        known = self._known.get(id(plan))
        if known is not None and known[0] is plan and known[1] is layout:
            return known[2]
        prepared = self._prepare(plan, layout)
        self._known[id(plan)] = (plan, layout, prepared)
        if len(self._known) > limits.PLAN_CACHE_ENTRIES_MAX:
            self._known.popitem(last=False)
        return prepared


def prepare_insert(plan: InsertPlan, layout: TableLayout) -> SingleInsert | None:
    if plan.rows is None or len(plan.rows) != 1 or plan.generated or plan.checks or plan.returning:
        return None
    if layout.routing is not None or plan.new_columns or any(layout.key_leaves) or layout.has_costly_analyzers:
        return None
    values = list(zip(plan.targets, plan.rows[0], strict=True))
    values.extend(
        (item.name, item.expression)
        for item in plan.defaults
        # Defaults of parts are for objects that are given, which go the general way.
        if item.name not in plan.targets and item.name in layout.position_by_name
    )
    literals: list[Any] = [None] * len(layout.columns)
    parameters: list[tuple[int, int, Set[type], Fit]] = []
    computed: list[tuple[int, Expression, Fit]] = []
    for name, expression in values:
        place = layout.position_by_name[name]
        fit = fit_of(layout.columns[place])
        if fit is None:
            return None
        match expression:
            case Literal():
                try:
                    literals[place] = None if expression.value is None else fit(expression.value)
                except UNFIT:
                    return None
            case Parameter():
                parameters.append((place, expression.index, exact_types(expression.type.kind), fit))
            case _:
                computed.append((place, expression, fit))
    by_oid = {column.oid: place for place, column in enumerate(layout.columns)}
    sets = () if plan.conflict is None else _sets(plan.conflict.assignments, layout, by_oid)
    if sets is None:
        return None
    return SingleInsert(
        plan=plan,
        layout=layout,
        literals=tuple(literals),
        parameters=tuple(parameters),
        computed=tuple(computed),
        key=tuple(by_oid[oid] for oid in layout.key),
        required=tuple((by_oid[column.oid], column.name) for column in layout.required),
        skips_duplicates=plan.conflict is not None,
        sets=sets,
    )


def _sets(items: Sequence[Item], layout: TableLayout, by_oid: Mapping[int, int]) -> tuple[_Set, ...] | None:
    """None if an assignment is not simple, or the row that exists cannot be written back as it is read."""
    fits = [fit_of(column) for column in layout.columns]
    if items and None in fits:
        return None
    sets = []
    for item in items:
        place, expression = layout.position_by_name.get(item.name), item.expression
        fit = None if place is None else fits[place]
        if place is None or fit is None or not isinstance(expression, Literal | Parameter | Column):
            return None
        if expression.type.kind != layout.columns[place].type.kind:
            return None
        source, is_proposed = 0, False
        if isinstance(expression, Column):
            # Columns of the proposed row have the negative ids.
            is_proposed = expression.id < 0
            if abs(expression.id) not in by_oid:
                return None
            source = by_oid[abs(expression.id)]
        sets.append(_Set(place, fit, expression, source, is_proposed))
    return tuple(sets)


def fit_of(column: ColumnDefinition) -> Fit | None:
    """What makes a value fit the column; None if that is not simple."""
    data_type: DataType = column.type
    kind = data_type.kind
    bound = _RANGES.get(kind)
    if bound is not None:
        return partial(_integer, bound)
    if kind in ("text", "ip", "uuid"):
        return partial(_text, min(data_type.length or _SAFE_CHARACTERS, _SAFE_CHARACTERS))
    if kind in ("double precision", "real", "boolean", "date"):
        return {"double precision": _double, "real": _real, "boolean": _boolean, "date": _date}[kind]
    if kind == "numeric" and data_type.scale is not None:
        return partial(_stored, data_type)
    if kind == "array":
        assert data_type.element is not None
        return partial(_stored, data_type) if data_type.element.kind in _PLAIN - {"text"} else None
    return None


def _integer(bound: int, value: Any) -> int:
    if type(value) is not int or not -bound <= value < bound:
        raise ValueError
    return value


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise ValueError
    return float(value)


def _real(value: Any) -> float:
    single: float = _FLOAT.unpack(_FLOAT.pack(_double(value)))[0]
    return single


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _date(value: Any) -> int:
    days = _integer(2**31 * MS_PER_DAY, value) // MS_PER_DAY
    return days * MS_PER_DAY


def _text(characters_max: int, value: Any) -> str:
    if type(value) is not str or len(value) > characters_max:
        raise ValueError
    if not value.isascii():
        value.encode()  # a lone surrogate is no text
    return value


def _stored(data_type: DataType, value: Any) -> Any:
    """As a column gives it back."""
    return from_arrow(to_arrow([value], data_type, at_rest=True), data_type)[0]
