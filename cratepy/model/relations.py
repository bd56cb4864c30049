"""Relational operators: the logical plan, and the fragments that the physical plan sends to nodes.

A tree of frozen operators. Column ids are unique in a statement, so an operator can be moved without renaming;
:func:`output_columns` says what an operator gives. The same operators serve before and after distribution: the physical
planner cuts the tree at exchanges and puts an :class:`ExchangeInput` where a branch was cut off.

::

    Limit 3                              SELECT origin, count(*) FROM flights
    └ Sort [#5 DESC]                     WHERE month = 1
      └ Aggregation [#4] [#5 count(*)]   GROUP BY origin ORDER BY 2 DESC LIMIT 3
        └ Filter [#2 = 1]
          └ Scan doc.flights [#2 month, #4 origin]
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from cratepy.model.expressions import Expression, SortKey
from cratepy.model.names import RelationName
from cratepy.model.search import IndexedSource
from cratepy.model.types import BOOLEAN, DataType


class OutputColumn(msgspec.Struct, frozen=True):
    """A column an operator gives: its id, its name for people and clients, its type."""

    id: int
    name: str
    type: DataType


class ScanColumn(msgspec.Struct, frozen=True):
    """A stored column: ``source`` is its physical name (``c<oid>``) or a system column (``_id``)."""

    id: int
    name: str
    type: DataType
    source: str


#: Sources of the boolean columns that say whether a row satisfies a MATCH: ``_match_0``, ``_match_1``, …
MATCH_SOURCE_PREFIX: Final = "_match_"


class TextMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A MATCH over columns of one scan. Its truth is the virtual column ``source`` of that scan; it is never NULL.

    ``text`` names no columns: it has one value in a statement. A NULL text is an error when the statement runs. A row that a
    scan gives satisfies every match that ``is_required``; these make its ``_score`` (the sum), which is 1.0 without any.
    """

    source: str
    #: As EXPLAIN prints it.
    name: str
    columns: tuple[IndexedSource, ...]
    text: Expression
    kind: str
    options: tuple[tuple[str, str], ...] = ()
    is_required: bool = False
    #: Options whose texts are known only when the statement runs (parameters).
    late_options: tuple[tuple[str, Expression], ...] = ()
    #: As many as columns if there are any: factors known only then, None for those that stand in ``columns``.
    late_boosts: tuple[Expression | None, ...] = ()


class BestRows(msgspec.Struct, frozen=True, kw_only=True):
    """A shard need give only its ``count`` rows of the highest score, and with ``with_ties`` those that score like the last.

    ``count`` is an expression without columns; NULL is all rows. A shard may always give more. With ``tests_filter`` rows that
    the scan's filter drops do not count.
    """

    count: Expression
    with_ties: bool = False
    tests_filter: bool = False


class Scan(msgspec.Struct, frozen=True, tag_field="$", tag="scan", kw_only=True):
    """The rows of a user table as of the last refresh of each shard.

    ``filter`` is what the source may use to skip blocks and rows (zone maps, text index); who reads the scan tests it again
    on the rows given. ``limit`` lets a source stop early; it may give more. ``matches`` are asked of the text index.
    """

    table_uuid: str
    table: RelationName
    columns: tuple[ScanColumn, ...]
    filter: Expression | None = None
    limit: int | None = None
    matches: tuple[TextMatch, ...] = ()
    #: Sources of matches of which every row that passes the filter satisfies one; the filter says so, too.
    any_of: tuple[str, ...] = ()
    best: BestRows | None = None
    #: (column source, index source) of text columns that have an index of whole values.
    exact_indexes: tuple[tuple[str, str], ...] = ()


class SystemScan(msgspec.Struct, frozen=True, tag_field="$", tag="sys", kw_only=True):
    """The rows of a table of sys, information_schema or pg_catalog. ``source`` of a column is its name there."""

    table: RelationName
    columns: tuple[ScanColumn, ...]
    filter: Expression | None = None


class TableFunction(msgspec.Struct, frozen=True, tag_field="$", tag="tfn", kw_only=True):
    """A function in FROM: unnest, generate_series, …; arguments name no columns except OuterColumns."""

    function: str
    arguments: tuple[Expression, ...]
    columns: tuple[OutputColumn, ...]
    #: The last column counts the rows from 1.
    with_ordinality: bool = False


class Values(msgspec.Struct, frozen=True, tag_field="$", tag="val", kw_only=True):
    """Rows of expressions without columns. One row without columns is the FROM of a SELECT that has none."""

    rows: tuple[tuple[Expression, ...], ...]
    columns: tuple[OutputColumn, ...]


class Item(msgspec.Struct, frozen=True):
    """A computed column: its id, name and expression."""

    id: int
    name: str
    expression: Expression


class Filter(msgspec.Struct, frozen=True, tag_field="$", tag="fil"):
    """Rows for which the predicate is true (neither false nor NULL)."""

    child: Relation
    predicate: Expression


class Project(msgspec.Struct, frozen=True, tag_field="$", tag="pro"):
    """One output column per item; an item that is a Column with the same id passes it on."""

    child: Relation
    items: tuple[Item, ...]


class ProjectSet(msgspec.Struct, frozen=True, tag_field="$", tag="pset"):
    """Set-returning functions in the select list: the child's columns plus one per item, rows multiplied.

    Items run in step; a shorter one is padded with NULL (PostgreSQL 10's rule).
    """

    child: Relation
    items: tuple[Item, ...]


class Aggregation(msgspec.Struct, frozen=True, tag_field="$", tag="agn"):
    """GROUP BY. ``keys`` and ``aggregates`` are items; no keys gives exactly one row. DISTINCT has keys only."""

    child: Relation
    keys: tuple[Item, ...]
    aggregates: tuple[Item, ...]


class WindowCalculation(msgspec.Struct, frozen=True, tag_field="$", tag="wnd"):
    """The child's columns plus one per window function."""

    child: Relation
    items: tuple[Item, ...]


class Join(msgspec.Struct, frozen=True, tag_field="$", tag="join"):
    """``kind``: inner, left, right, full, cross, semi, anti. Semi and anti give the left columns only.

    The condition names columns of both sides; None only for cross.
    """

    kind: str
    left: Relation
    right: Relation
    condition: Expression | None


class Apply(msgspec.Struct, frozen=True, tag_field="$", tag="app", kw_only=True):
    """A subquery: the left columns plus column ``id``, which says something about ``right`` for each left row.

    ``kind`` and the value of the new column:

    * ``scalar``: the only value of right's only row; NULL if there is none; CardinalityViolation if there are more.
    * ``exists``: boolean, whether right has a row.
    * ``any`` / ``all``: boolean in three-valued logic, ``operand <operator> ANY (right's only column)``; IN is
      ``any`` with ``op_=``, NOT IN is ``op_not`` of that.
    * ``array``: all values of right's only column, in right's order, as an array.

    ``right`` may name columns of ``left`` as OuterColumn (a correlated subquery).
    """

    kind: str
    left: Relation
    right: Relation
    id: int
    name: str
    type: DataType = BOOLEAN
    operand: Expression | None = None
    operator: str | None = None


class Sort(msgspec.Struct, frozen=True, tag_field="$", tag="sort"):
    child: Relation
    keys: tuple[SortKey, ...]


class Limit(msgspec.Struct, frozen=True, tag_field="$", tag="lim"):
    """``count`` and ``offset`` are expressions without columns (literals, parameters); NULL means none."""

    child: Relation
    count: Expression | None
    offset: Expression | None = None


class SetOperation(msgspec.Struct, frozen=True, tag_field="$", tag="set", kw_only=True):
    """``kind``: union_all, union, intersect, except. Children's columns match ``columns`` by position and type."""

    kind: str
    children: tuple[Relation, ...]
    columns: tuple[OutputColumn, ...]


class RecursiveQuery(msgspec.Struct, frozen=True, tag_field="$", tag="rec", kw_only=True):
    """WITH RECURSIVE: ``base``, then ``step`` over what came last (RecursiveReference) until nothing comes."""

    name: str
    base: Relation
    step: Relation
    columns: tuple[OutputColumn, ...]
    is_distinct: bool = False


class RecursiveReference(msgspec.Struct, frozen=True, tag_field="$", tag="ref"):
    """In the step of a RecursiveQuery: the rows of the last round."""

    name: str
    columns: tuple[OutputColumn, ...]


class ExchangeInput(msgspec.Struct, frozen=True, tag_field="$", tag="ex"):
    """Physical plans only: the rows another phase sends here."""

    phase: int
    columns: tuple[OutputColumn, ...]


Relation = (
    Scan
    | SystemScan
    | TableFunction
    | Values
    | Filter
    | Project
    | ProjectSet
    | Aggregation
    | WindowCalculation
    | Join
    | Apply
    | Sort
    | Limit
    | SetOperation
    | RecursiveQuery
    | RecursiveReference
    | ExchangeInput
)


def children(relation: Relation) -> tuple[Relation, ...]:
    """The operators directly below, left to right."""
    match relation:
        case Scan() | SystemScan() | TableFunction() | Values() | RecursiveReference() | ExchangeInput():
            return ()
        case Filter() | Project() | ProjectSet() | Aggregation() | WindowCalculation() | Sort() | Limit():
            return (relation.child,)
        case Join() | Apply():
            return (relation.left, relation.right)
        case SetOperation():
            return relation.children
        case RecursiveQuery():
            return (relation.base, relation.step)
        case _:
            assert_never(relation)


def output_columns(relation: Relation) -> tuple[OutputColumn, ...]:
    """The columns of the operator, in order."""
    match relation:
        case Scan() | SystemScan():
            return tuple(OutputColumn(c.id, c.name, c.type) for c in relation.columns)
        case TableFunction() | Values() | SetOperation() | RecursiveQuery() | RecursiveReference() | ExchangeInput():
            return relation.columns
        case Filter() | Sort() | Limit():
            return output_columns(relation.child)
        case Project():
            return tuple(_item_column(item) for item in relation.items)
        case ProjectSet() | WindowCalculation():
            return output_columns(relation.child) + tuple(_item_column(item) for item in relation.items)
        case Aggregation():
            return tuple(_item_column(item) for item in relation.keys + relation.aggregates)
        case Join():
            if relation.kind in ("semi", "anti"):
                return output_columns(relation.left)
            return output_columns(relation.left) + output_columns(relation.right)
        case Apply():
            return (*output_columns(relation.left), OutputColumn(relation.id, relation.name, relation.type))
        case _:
            assert_never(relation)


def _item_column(item: Item) -> OutputColumn:
    return OutputColumn(item.id, item.name, item.expression.type)
