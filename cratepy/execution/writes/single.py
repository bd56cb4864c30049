"""INSERT of one row, in microseconds: what a plan needs is worked out once per plan and table version.

In: an InsertPlan of one row of expressions over a table of plain columns. Out: the row as a batch and its id, or None where
this short way does not lead (then the general way does, with the same outcome). Its own room because the latency of a
durable single-row insert is this code plus one fsync: no engine, no thread, no array per column.

The short way is taken if there are no generated columns, checks, objects, RETURNING or ON CONFLICT DO UPDATE; values that
might exceed a length limit leave it for the general way.
"""

from __future__ import annotations

import decimal
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cratepy import limits
from cratepy.errors import NotNullViolation, SQLParseError
from cratepy.execution.engine.constants import constant_values
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.values import is_exact
from cratepy.model.arrow import MS_PER_DAY
from cratepy.model.expressions import Expression, Parameter
from cratepy.model.plan import InsertPlan, StatementContext
from cratepy.model.routing import composite_id, key_text
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import DataType

Encode = Callable[[Any], Any]

_PLAIN: Final = frozenset(
    {
        "boolean", "byte", "smallint", "integer", "bigint", "real", "double precision",
        "timestamp with time zone", "timestamp without time zone", "text", "ip", "uuid",
    }
)  # fmt: skip
#: A character has at most four bytes.
_SAFE_CHARACTERS: Final = limits.TEXT_BYTES_MAX // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleInsert:
    """A plan against one version of its table."""

    plan: InsertPlan
    layout: TableLayout
    expressions: tuple[Expression, ...]
    #: Per expression: its place in the row, how it is encoded (None: as it is), the most characters it may have, and
    #: the kind that a parameter must be of already ("": no parameter).
    places: tuple[tuple[int, Encode | None, int, str], ...]
    #: Places of the key in key order.
    key: tuple[int, ...]
    required: tuple[tuple[int, str], ...]
    skips_duplicates: bool

    def row(self, context: StatementContext, take_ids: Callable[[int], list[str]]) -> tuple[str, pa.RecordBatch] | None:
        """The id and the row at rest; None if a value needs the general way."""
        layout = self.layout
        row: list[Any] = [None] * len(layout.columns)
        values = constant_values(self.expressions, context)
        for (place, encode, length, kind), value in zip(self.places, values, strict=True):
            if value is not None:
                if kind and not is_exact(value, kind):
                    return None
                if length and len(value) > length:
                    return None
                row[place] = value if encode is None else encode(value)
        for place in self.key:
            if row[place] is None:
                raise SQLParseError("A primary key value must not be NULL")
        for place, name in self.required:
            if row[place] is None:
                raise NotNullViolation(f'"{name}" must not be null')
        batch = pa.RecordBatch.from_struct_array(pa.array([tuple(row)], type=layout.row_type))
        key = self.key
        if not key:
            return take_ids(1)[0], batch
        types = layout.key_types
        if len(key) == 1:
            return key_text(row[key[0]], types[0]), batch
        texts = [key_text(row[place], data_type) for place, data_type in zip(key, types, strict=True)]
        return composite_id(texts, layout.clustered_position), batch


class SingleInserts:
    """Prepared plans, bounded; a plan is known by its identity while it is held here."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[InsertPlan, TableLayout, SingleInsert | None]] = OrderedDict()

    def of(self, plan: InsertPlan, layout: TableLayout) -> SingleInsert | None:
        """The prepared plan; None if it is not for the short way."""
        known = self._known.get(id(plan))
        if known is not None and known[0] is plan and known[1] is layout:
            return known[2]
        prepared = _prepare(plan, layout)
        self._known[id(plan)] = (plan, layout, prepared)
        if len(self._known) > limits.PLAN_CACHE_ENTRIES_MAX:
            self._known.popitem(last=False)
        return prepared


def _prepare(plan: InsertPlan, layout: TableLayout) -> SingleInsert | None:
    if plan.rows is None or len(plan.rows) != 1 or plan.generated or plan.checks or plan.returning:
        return None
    if plan.conflict is not None and plan.conflict.assignments:
        return None
    if layout.routing is not None:
        return None
    values = list(zip(plan.targets, plan.rows[0], strict=True))
    values.extend((item.name, item.expression) for item in plan.defaults if item.name not in plan.targets)
    places = []
    for name, expression in values:
        place = layout.position_by_name[name]
        encoding = _encoding(layout.columns[place])
        if encoding is None:
            return None
        places.append((place, *encoding, expression.type.kind if isinstance(expression, Parameter) else ""))
    if any(data_type.kind in ("date", "numeric") for data_type in layout.key_types):
        # Their texts are those of the SQL values, which are encoded here.
        return None
    by_oid = {column.oid: place for place, column in enumerate(layout.columns)}
    return SingleInsert(
        plan=plan,
        layout=layout,
        expressions=tuple(expression for _, expression in values),
        places=tuple(places),
        key=tuple(by_oid[oid] for oid in layout.key),
        required=tuple((by_oid[column.oid], column.name) for column in layout.required),
        skips_duplicates=plan.conflict is not None,
    )


def _encoding(column: ColumnDefinition) -> tuple[Encode | None, int] | None:
    """How values of the column are encoded, and their longest length; None if that is not simple."""
    data_type: DataType = column.type
    kind = data_type.kind
    if kind == "text":
        return None, min(data_type.length or _SAFE_CHARACTERS, _SAFE_CHARACTERS)
    if kind in _PLAIN:
        return None, 0
    if kind == "date":
        return (lambda value: value // MS_PER_DAY), 0
    if kind == "numeric" and data_type.scale is not None:
        return decimal.Decimal, 0
    if kind == "array":
        assert data_type.element is not None
        return (None, 0) if data_type.element.kind in _PLAIN - {"text"} else None
    return None
