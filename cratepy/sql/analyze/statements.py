"""Analyzed statements: what the analyzer hands to the planner.

Every name is resolved and every expression typed; nothing is decided yet about where rows are read or how operators are
distributed. A statement that needs no query is a finished plan already (:class:`AnalyzedDirect`).

Conventions on column ids. In a query they are unique numbers. In an INSERT, UPDATE or DELETE the columns of the target
table have their oid as id, its system columns have :data:`cratepy.model.schema.SYSTEM_COLUMN_IDS`, and whatever else
the statement computes (the value of a subquery in SET) has an id above all of these. ``find`` of an UPDATE or DELETE
gives ``_id``, ``_seq_no``, ``_primary_term`` first, then every column that the statement's expressions read.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy.model.commands import CreateTable
from cratepy.model.names import RelationName
from cratepy.model.plan import CopyFromPlan, CopyToPlan, InsertPlan, Plan
from cratepy.model.relations import Item, OutputColumn, Relation
from cratepy.model.types import DataType

#: How versions may be named in the WHERE of an UPDATE or DELETE; CrateDB's words (its ``VersioningValidationException``).
SEQ_NO_USAGE: Final = (
    '"_seq_no" and "_primary_term" columns can only be used together in the WHERE clause with equals comparisons and if '
    "there are also equals comparisons on primary key columns"
)
VERSION_USAGE: Final = (
    '"_version" column can only be used in the WHERE clause with equals comparisons and there must be also equals '
    "comparisons on primary key columns"
)


class AnalyzedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query. ``columns`` are the output in the client's order (ids may repeat: ``SELECT a, a``).

    ``relation`` gives exactly these columns. ``tables`` are the uuids of the user tables read.
    """

    relation: Relation
    columns: tuple[OutputColumn, ...]
    tables: tuple[str, ...] = ()


class AnalyzedInsert(msgspec.Struct, frozen=True, kw_only=True):
    """``plan.query`` is None; if ``query`` is given the planner fills it in. ``columns`` are those of RETURNING."""

    plan: InsertPlan
    query: AnalyzedQuery | None
    columns: tuple[OutputColumn, ...] | None


class AnalyzedCreateTableAs(msgspec.Struct, frozen=True, kw_only=True):
    """CREATE TABLE AS: the command, then an INSERT of the query's rows into the new table."""

    command: CreateTable
    insert: AnalyzedInsert


class AnalyzedUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of UpdatePlan but for ``find``, a relation that the planner turns into a query or a get."""

    table_uuid: str
    table: RelationName
    find: AnalyzedQuery
    assignments: tuple[Item, ...]
    generated: tuple[Item, ...]
    checks: tuple[Item, ...]
    returning: tuple[Item, ...]
    expects_version: bool
    columns: tuple[OutputColumn, ...] | None


class AnalyzedDelete(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of DeletePlan but for ``find``, as in AnalyzedUpdate."""

    table_uuid: str
    table: RelationName
    find: AnalyzedQuery
    returning: tuple[Item, ...]
    expects_version: bool
    columns: tuple[OutputColumn, ...] | None


class AnalyzedCopyFrom(msgspec.Struct, frozen=True, kw_only=True):
    plan: CopyFromPlan
    columns: tuple[OutputColumn, ...] | None


class AnalyzedCopyTo(msgspec.Struct, frozen=True, kw_only=True):
    """``plan.query`` is filled in by the planner."""

    plan: CopyToPlan
    query: AnalyzedQuery


class AnalyzedExplain(msgspec.Struct, frozen=True, kw_only=True):
    """EXPLAIN of a query (or of another statement that has a plan to show)."""

    statement: AnalyzedStatement
    is_verbose: bool = False
    is_analyze: bool = False
    shows_costs: bool = False


class AnalyzedDeclare(msgspec.Struct, frozen=True, kw_only=True):
    """DECLARE cursor FOR query."""

    name: str
    query: AnalyzedQuery
    is_scrollable: bool = False
    is_holdable: bool = False


class AnalyzedDirect(msgspec.Struct, frozen=True, kw_only=True):
    """A statement whose plan needs no planning. ``columns`` is None without a result set; ``tag`` as in CompiledStatement."""

    plan: Plan
    columns: tuple[OutputColumn, ...] | None
    tag: str


AnalyzedStatement = (
    AnalyzedQuery
    | AnalyzedInsert
    | AnalyzedCreateTableAs
    | AnalyzedUpdate
    | AnalyzedDelete
    | AnalyzedCopyFrom
    | AnalyzedCopyTo
    | AnalyzedExplain
    | AnalyzedDeclare
    | AnalyzedDirect
)


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """``parameter_types`` holds every parameter's type, given or inferred.

    ``is_cacheable`` is False if something that is only true now went into the statement (a folded ``regclass``, a
    fresh uuid). ``reads_catalog``: a function in it needs the relations of the cluster state.
    """

    statement: AnalyzedStatement
    parameter_types: tuple[DataType, ...]
    tag: str
    is_cacheable: bool = True
    reads_catalog: bool = False
