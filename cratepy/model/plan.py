"""Plans: what ``sql`` hands to ``execution``, frozen, cacheable, and the same for every value of the parameters.

A query's plan is a list of **phases**. A phase is one fragment (a relation tree whose leaves are scans, values or
exchange inputs) that runs on one or several nodes and sends its rows somewhere::

    phase 0  on n1,n2,n3   Aggregation (partial)        ── hash(origin) ──►  phase 1
                           └ Scan doc.flights
    phase 1  on n1,n2,n3   Aggregation (final)          ── gather ──►        phase 2
                           └ ExchangeInput 0
    phase 2  on n1         Limit                        ── client
                           └ Sort
                             └ ExchangeInput 1

The last phase runs on the handler, the node the client talks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cratepy.model.commands import Command
from cratepy.model.expressions import Expression
from cratepy.model.names import RelationName
from cratepy.model.relations import Item, OutputColumn, Relation
from cratepy.model.schema import CatalogFacts, SettingValue
from cratepy.model.types import DataType, Field


class Gather(msgspec.Struct, frozen=True, tag_field="$", tag="gather"):
    """All rows to the one node of the receiving phase."""

    phase: int


class HashPartition(msgspec.Struct, frozen=True, tag_field="$", tag="hash"):
    """Each row to the node of the receiving phase chosen by the hash of the key columns; equal keys meet.

    Keys are ids of output columns. Both sides of a join name keys of the same types in the same order.
    """

    phase: int
    keys: tuple[int, ...]


class Broadcast(msgspec.Struct, frozen=True, tag_field="$", tag="broadcast"):
    """All rows to every node of the receiving phase."""

    phase: int


Output = Gather | HashPartition | Broadcast


class ShardSource(msgspec.Struct, frozen=True):
    """Which shards of which table a phase reads on one node."""

    node_id: str
    table_uuid: str
    shards: tuple[int, ...]


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """``nodes`` are sorted; ``output`` is None for the last phase, whose rows go to the client."""

    id: int
    nodes: tuple[str, ...]
    relation: Relation
    output: Output | None
    shards: tuple[ShardSource, ...] = ()


class SubPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An uncorrelated subquery to run first; its value fills ``slot``. ``kind`` as in Apply."""

    slot: int
    kind: str
    plan: QueryPlan


class QueryPlan(msgspec.Struct, frozen=True, tag_field="$", tag="query", kw_only=True):
    """Phases in an order in which every phase stands after those it reads from.

    ``columns`` are the output of the last phase. ``tables`` are the uuids read, for privileges and for staleness.
    ``text`` is what EXPLAIN prints before the phases (the logical plan); filled only for EXPLAIN.
    """

    phases: tuple[Phase, ...]
    columns: tuple[OutputColumn, ...]
    subplans: tuple[SubPlan, ...] = ()
    tables: tuple[str, ...] = ()


class GetPlan(msgspec.Struct, frozen=True, tag_field="$", tag="get", kw_only=True):
    """Rows by primary key, read in real time. Never enters the engine.

    ``keys`` are rows of expressions (literals, parameters) in the order of the primary key, each of its column's type;
    with ``is_by_id`` every key is one text, the ``_id`` itself. ``key_list``, an array whose elements are keys of one
    column, stands for them where their number is not known before (``= ANY($1)``). A key with a NULL finds nothing, and
    keys that turn out equal give their row once. ``columns[i]`` is what is read from the stored column ``sources[i]`` (``c<oid>`` or a
    system column). These are the output, unless the plan also computes over the row (``Engine.evaluate``; both name
    columns by the ids in ``columns``): ``residual`` drops the rows for which it is not true, and a ``projection`` that is
    not empty is the output instead, one column per item (:func:`get_output`). ``order`` sorts the output (column, whether
    descending, whether NULLs come first); ``offset`` and ``count`` then cut it.
    """

    table_uuid: str
    table: RelationName
    keys: tuple[tuple[Expression, ...], ...]
    sources: tuple[str, ...]
    columns: tuple[OutputColumn, ...]
    residual: Expression | None = None
    projection: tuple[Item, ...] = ()
    is_by_id: bool = False
    key_list: Expression | None = None
    order: tuple[tuple[int, bool, bool], ...] = ()
    offset: int = 0
    count: int | None = None


def get_output(plan: GetPlan) -> tuple[OutputColumn, ...]:
    """The columns a get gives: its projection's if it has one, else those read."""
    if plan.projection:
        return tuple(OutputColumn(item.id, item.name, item.expression.type) for item in plan.projection)
    return plan.columns


class CountPlan(msgspec.Struct, frozen=True, tag_field="$", tag="count", kw_only=True):
    """``SELECT count(*) FROM t`` without a filter: the sum of the shards' live row counts as of their last refresh."""

    table_uuid: str
    table: RelationName
    columns: tuple[OutputColumn, ...]


class ConflictAction(msgspec.Struct, frozen=True, kw_only=True):
    """ON CONFLICT: no assignments is DO NOTHING.

    Assignments are items whose ``name`` is the target column; in their expressions a Column whose id is the oid of a
    table column is the stored value, and one whose id is minus the oid is ``excluded``'s.
    """

    assignments: tuple[Item, ...] = ()


class InsertPlan(msgspec.Struct, frozen=True, tag_field="$", tag="insert", kw_only=True):
    """INSERT. Exactly one of ``rows``, ``columns_data`` and ``query`` is given.

    * ``rows``: expressions without columns (the usual VALUES), one per target.
    * ``columns_data``: per target the SQL values of all rows (a VALUES list of literals takes this fast path).
    * ``query``: its output columns match the targets by position.

    Values are already cast to the targets' types. The executor adds defaults and generated columns, checks NOT NULL and
    CHECK, computes ``_id`` and the shard.
    """

    table_uuid: str
    table: RelationName
    #: Names of the target columns.
    targets: tuple[str, ...]
    rows: tuple[tuple[Expression, ...], ...] | None = None
    columns_data: tuple[list[Any], ...] | None = None
    query: QueryPlan | None = None
    conflict: ConflictAction | None = None
    returning: tuple[Item, ...] = ()
    #: Expressions for columns that are not targets: defaults (name → expression without columns).
    defaults: tuple[Item, ...] = ()
    #: Generated columns: expressions in which a Column's id is the oid of a table column.
    generated: tuple[Item, ...] = ()
    #: CHECK constraints, same columns; ``name`` is the constraint's.
    checks: tuple[Item, ...] = ()
    #: Targets that a dynamic table does not have yet (or of which it has only seen ``[]``), and the types of their values;
    #: undefined if they must tell. In DO UPDATE the i-th of them is Column ``-(NEW_COLUMN_IDS + i)``.
    new_columns: tuple[Field, ...] = ()


class UpdatePlan(msgspec.Struct, frozen=True, tag_field="$", tag="update", kw_only=True):
    """UPDATE: find rows, compute new values, write each under the version that was read; retried on conflict.

    ``find`` is a QueryPlan or GetPlan whose columns are ``_id``, ``_seq_no``, ``_primary_term`` and then the columns
    that the assignments, generated columns, checks and RETURNING read. In all expressions a Column's id is the oid of
    a table column.
    """

    table_uuid: str
    table: RelationName
    find: QueryPlan | GetPlan
    #: Name of the target column → new value; an item named ``o['a']`` sets a part of object column ``o``.
    assignments: tuple[Item, ...]
    generated: tuple[Item, ...] = ()
    checks: tuple[Item, ...] = ()
    returning: tuple[Item, ...] = ()
    #: WHERE _seq_no = x AND _primary_term = y: a mismatch is 0 rows, not a retry.
    expects_version: bool = False


class DeletePlan(msgspec.Struct, frozen=True, tag_field="$", tag="delete", kw_only=True):
    """DELETE: ``find`` gives ``_id``, ``_seq_no``, ``_primary_term`` (and the columns RETURNING reads)."""

    table_uuid: str
    table: RelationName
    find: QueryPlan | GetPlan
    returning: tuple[Item, ...] = ()
    expects_version: bool = False


class CopyFromPlan(msgspec.Struct, frozen=True, tag_field="$", tag="copy_from", kw_only=True):
    """COPY t FROM files. ``uris`` evaluates to a text or an array of texts."""

    table_uuid: str
    table: RelationName
    uris: Expression
    #: ``json``, ``csv`` or ``parquet``; None is decided by the file name.
    format: str | None
    options: dict[str, SettingValue]
    targets: tuple[str, ...] | None
    insert: InsertPlan
    returns_summary: bool


class CopyToPlan(msgspec.Struct, frozen=True, tag_field="$", tag="copy_to", kw_only=True):
    """COPY t TO files. The last column of the query is the text that routes the row; the others are written."""

    table_uuid: str
    table: RelationName
    query: QueryPlan
    #: A text.
    directory: Expression
    #: Whole rows: what is NULL is left out.
    is_whole: bool
    #: Keys of an object per line; None: an array per line.
    names: tuple[str, ...] | None
    is_gzip: bool


class CommandPlan(msgspec.Struct, frozen=True, tag_field="$", tag="command", kw_only=True):
    """DDL: a command for the master."""

    command: Command


class CreateTableAsPlan(msgspec.Struct, frozen=True, tag_field="$", tag="create_as", kw_only=True):
    """CREATE TABLE AS: the command, and when the new table is there (and its primaries are), the insert."""

    command: Command
    insert: InsertPlan


class RefreshPlan(msgspec.Struct, frozen=True, tag_field="$", tag="refresh", kw_only=True):
    tables: tuple[str, ...]


class OptimizePlan(msgspec.Struct, frozen=True, tag_field="$", tag="optimize", kw_only=True):
    tables: tuple[str, ...]
    options: dict[str, SettingValue]


class SetPlan(msgspec.Struct, frozen=True, tag_field="$", tag="set", kw_only=True):
    """Session settings by name; a value of None is DEFAULT. ``is_local`` is SET LOCAL."""

    values: tuple[tuple[str, Expression | None], ...]
    is_local: bool = False


class ResetPlan(msgspec.Struct, frozen=True, tag_field="$", tag="reset", kw_only=True):
    """RESET name; None is RESET ALL."""

    name: str | None


class ShowPlan(msgspec.Struct, frozen=True, tag_field="$", tag="show", kw_only=True):
    """SHOW name, or SHOW ALL if None (columns name, setting, description)."""

    name: str | None


class TransactionPlan(msgspec.Struct, frozen=True, tag_field="$", tag="transaction", kw_only=True):
    """``action``: begin, commit, rollback, savepoint, release, rollback_to."""

    action: str
    name: str | None = None


class KillPlan(msgspec.Struct, frozen=True, tag_field="$", tag="kill", kw_only=True):
    """KILL job; None is KILL ALL."""

    job_id: Expression | None


class ClusterPlan(msgspec.Struct, frozen=True, tag_field="$", tag="cluster", kw_only=True):
    """ALTER CLUSTER. ``action``: decommission, step_down, retry_failed, gc; ``node`` is a name or an id."""

    action: str
    node: Expression | None = None


class DeallocatePlan(msgspec.Struct, frozen=True, tag_field="$", tag="deallocate", kw_only=True):
    """DEALLOCATE name; None is ALL. DISCARD ALL deallocates, closes cursors and resets settings."""

    name: str | None
    discards_session: bool = False


class DeclarePlan(msgspec.Struct, frozen=True, tag_field="$", tag="declare", kw_only=True):
    """DECLARE cursor FOR query."""

    name: str
    query: QueryPlan | GetPlan | CountPlan
    is_scrollable: bool = False
    is_holdable: bool = False


class FetchPlan(msgspec.Struct, frozen=True, tag_field="$", tag="fetch", kw_only=True):
    """FETCH / MOVE. ``direction``: next, prior, first, last, absolute, relative, forward, backward; count None is ALL."""

    name: str
    direction: str
    count: int | None
    is_move: bool = False


class ClosePlan(msgspec.Struct, frozen=True, tag_field="$", tag="close", kw_only=True):
    """CLOSE cursor; None is ALL."""

    name: str | None


class ExplainPlan(msgspec.Struct, frozen=True, tag_field="$", tag="explain", kw_only=True):
    """EXPLAIN: the lines are ready made by the compiler. ``analyze`` also runs the plan and adds its figures."""

    lines: tuple[tuple[str, ...], ...]
    analyze: QueryPlan | GetPlan | CountPlan | None = None


class NoOperationPlan(msgspec.Struct, frozen=True, tag_field="$", tag="noop", kw_only=True):
    """A statement accepted for clients that send it and without effect here (LISTEN, ANALYZE, SET TRANSACTION …)."""

    notice: str | None = None
    rowcount: int = 0


Plan = (
    QueryPlan
    | GetPlan
    | CountPlan
    | InsertPlan
    | UpdatePlan
    | DeletePlan
    | CopyFromPlan
    | CopyToPlan
    | CommandPlan
    | CreateTableAsPlan
    | RefreshPlan
    | OptimizePlan
    | SetPlan
    | ResetPlan
    | ShowPlan
    | TransactionPlan
    | KillPlan
    | ClusterPlan
    | DeallocatePlan
    | DeclarePlan
    | FetchPlan
    | ClosePlan
    | ExplainPlan
    | NoOperationPlan
)


class CompiledStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What ``sql.compile`` gives for one statement.

    ``columns`` is None for a statement without a result set. ``tag`` is the command tag without its count (``SELECT``,
    ``INSERT 0``, ``CREATE``). ``is_cacheable`` is False if the plan holds something that is only true now.
    """

    text: str
    plan: Plan
    columns: tuple[OutputColumn, ...] | None
    parameter_types: tuple[DataType, ...]
    tag: str
    is_cacheable: bool = True
    #: The plan is good while the cluster state has this version (routing and schema are baked in).
    state_version: int = 0
    #: A function in it needs :attr:`StatementContext.catalog`.
    reads_catalog: bool = False


class StatementContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every node needs to know about the statement it is working for; travels with the job.

    ``parameters`` and ``subquery_values`` are SQL values. ``now_ms`` is read once per statement (milliseconds since the
    epoch, UTC), so that all nodes agree; deadlines are absolute on the handler's clock and relative on the wire.
    """

    job_id: str
    handler_id: str
    user: str
    text: str
    now_ms: int
    parameters: tuple[Any, ...] = ()
    parameter_types: tuple[DataType, ...] = ()
    subquery_values: tuple[Any, ...] = ()
    search_path: tuple[str, ...] = ()
    settings: dict[str, SettingValue] = {}
    #: The number of the client's session, as sys.jobs shows it.
    session_id: int = 0
    #: Only for statements that ask for names and definitions by oid (``regclass::text``, ``pg_get_indexdef``).
    catalog: CatalogFacts | None = None
    #: What ``set_config`` wrote while the statement ran on its handler; the session takes it over afterwards.
    written_settings: dict[str, str] = {}

    def with_parameters(self, parameters: Sequence[Any]) -> StatementContext:
        """Of one parameter row of a bulk request."""
        return msgspec.structs.replace(self, parameters=tuple(parameters))
