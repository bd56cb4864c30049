"""Typed expressions: what plans carry, what goes over the wire, what EXPLAIN prints.

The analyzer makes them from sqlglot's tree, with every name resolved, every overload chosen and every implicit cast
written out, so that whoever evaluates one never guesses. They hold no relations: a subquery is an
:class:`~cratepy.model.relations.Apply` below the operator that uses its value, so an expression only ever names columns.

A function is named by the canonical name of its declaration in ``functions``; operators are functions, too:
``op_+ op_- op_* op_/ op_% op_^ op_= op_<> op_< op_<= op_> op_>= op_and op_or op_not op_|| op_like op_ilike op_~ op_~*
op_isnull op_is_distinct_from op_any_= …`` (the list is ``functions.operators``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from cratepy.model.types import BOOLEAN, DataType


class Literal(msgspec.Struct, frozen=True, tag_field="$", tag="lit"):
    """A constant; ``value`` is a SQL value as listed in :mod:`cratepy.model.types`."""

    value: Any
    type: DataType


class Column(msgspec.Struct, frozen=True, tag_field="$", tag="col"):
    """A column of the operator below. ``id`` is unique in the statement; ``name`` is for people."""

    id: int
    name: str
    type: DataType


class OuterColumn(msgspec.Struct, frozen=True, tag_field="$", tag="out"):
    """Inside the right side of an Apply: a column of its left side (or of an Apply further out)."""

    id: int
    name: str
    type: DataType


class Parameter(msgspec.Struct, frozen=True, tag_field="$", tag="par"):
    """A statement parameter, counted from 0. Its value travels with the job, not with the plan."""

    index: int
    type: DataType


class SubqueryValue(msgspec.Struct, frozen=True, tag_field="$", tag="sub"):
    """The value of an uncorrelated subquery that ran before; it travels with the job like a parameter."""

    slot: int
    type: DataType


class Call(msgspec.Struct, frozen=True, tag_field="$", tag="call"):
    """A scalar function of its arguments. The types of the arguments are those of the chosen signature."""

    function: str
    arguments: tuple[Expression, ...]
    type: DataType


class Cast(msgspec.Struct, frozen=True, tag_field="$", tag="cast"):
    """A conversion. ``is_try`` gives NULL instead of an error; ``is_implicit`` is not printed in output names."""

    argument: Expression
    type: DataType
    is_try: bool = False
    is_implicit: bool = False


class Branch(msgspec.Struct, frozen=True):
    condition: Expression
    value: Expression


class Case(msgspec.Struct, frozen=True, tag_field="$", tag="case"):
    """Searched CASE; the simple form is rewritten by the analyzer. A missing ELSE is a NULL literal."""

    branches: tuple[Branch, ...]
    default: Expression
    type: DataType


class InList(msgspec.Struct, frozen=True, tag_field="$", tag="in"):
    """``operand IN (items)`` in three-valued logic; NOT IN is ``op_not`` of it."""

    operand: Expression
    items: tuple[Expression, ...]
    type: DataType = BOOLEAN


class SortKey(msgspec.Struct, frozen=True):
    """An ORDER BY item. NULLs sort as larger than anything unless said otherwise (PostgreSQL's rule)."""

    expression: Expression
    is_descending: bool = False
    nulls_first: bool = False


class Aggregate(msgspec.Struct, frozen=True, tag_field="$", tag="agg"):
    """An aggregate function; only inside :class:`~cratepy.model.relations.Aggregation`. ``count(*)`` has no arguments."""

    function: str
    arguments: tuple[Expression, ...]
    type: DataType
    is_distinct: bool = False
    filter: Expression | None = None
    order_by: tuple[SortKey, ...] = ()


class FrameBound(msgspec.Struct, frozen=True):
    """``kind``: unbounded_preceding, preceding, current_row, following, unbounded_following."""

    kind: str
    offset: Expression | None = None


class Frame(msgspec.Struct, frozen=True):
    """``unit`` is rows, range or groups."""

    unit: str
    start: FrameBound
    end: FrameBound


class Window(msgspec.Struct, frozen=True, tag_field="$", tag="win"):
    """A window function; only inside :class:`~cratepy.model.relations.WindowCalculation`."""

    function: str
    arguments: tuple[Expression, ...]
    type: DataType
    partition_by: tuple[Expression, ...] = ()
    order_by: tuple[SortKey, ...] = ()
    frame: Frame | None = None
    filter: Expression | None = None
    ignores_nulls: bool = False


Expression = (
    Literal | Column | OuterColumn | Parameter | SubqueryValue | Call | Cast | Case | InList | Aggregate | Window
)

TRUE = Literal(True, BOOLEAN)
FALSE = Literal(False, BOOLEAN)
