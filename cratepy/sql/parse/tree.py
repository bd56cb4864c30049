"""The syntax tree: what the grammar gives and the analyzer reads. Nothing here is resolved or typed.

Types keep the spelling they were written in, and numbers their digits, because output names show them.
"""

from __future__ import annotations

import msgspec


class TypeName(msgspec.Struct, frozen=True):
    """A type as written. ``name`` is in lower case without schema; ``depth`` counts array brackets."""

    name: str
    arguments: tuple[int, ...] = ()
    depth: int = 0
    #: OBJECT(policy) AS (…): the declared columns; None if there is no AS.
    columns: tuple[ColumnDef, ...] | None = None
    policy: str | None = None
    is_quoted: bool = False


# --- expressions -----------------------------------------------------------------------------------------------------


class NullWord(msgspec.Struct, frozen=True):
    pass


class BooleanWord(msgspec.Struct, frozen=True):
    value: bool


class NumberWord(msgspec.Struct, frozen=True):
    text: str


class StringWord(msgspec.Struct, frozen=True):
    value: str


class BitsWord(msgspec.Struct, frozen=True):
    text: str


class IntervalWord(msgspec.Struct, frozen=True):
    """``INTERVAL '1' DAY``; ``unit`` and ``end`` are None without a field."""

    text: str
    unit: str | None = None
    end: str | None = None
    is_negative: bool = False


class ParameterWord(msgspec.Struct, frozen=True):
    """Counted from 0."""

    index: int


class DefaultWord(msgspec.Struct, frozen=True):
    """DEFAULT in a VALUES row or an assignment."""


class Name(msgspec.Struct, frozen=True):
    """A column: one to four identifiers. ``start`` is its 0-based position in the text."""

    parts: tuple[str, ...]
    start: int = -1


class Star(msgspec.Struct, frozen=True):
    """``*`` or ``t.*``."""

    qualifier: tuple[str, ...] = ()


class Unary(msgspec.Struct, frozen=True):
    """``operator`` is ``-`` or ``not``."""

    operator: str
    operand: Node


class Binary(msgspec.Struct, frozen=True):
    """Arithmetic, comparison, concatenation, bit and regular expression operators."""

    operator: str
    left: Node
    right: Node


class Logic(msgspec.Struct, frozen=True):
    """A chain of AND or OR, flat however long it is."""

    operator: str
    operands: tuple[Node, ...]


class IsNull(msgspec.Struct, frozen=True):
    operand: Node
    is_negated: bool


class IsTruth(msgspec.Struct, frozen=True):
    """IS [NOT] TRUE / FALSE / UNKNOWN (None)."""

    operand: Node
    value: bool | None
    is_negated: bool


class IsDistinct(msgspec.Struct, frozen=True):
    left: Node
    right: Node
    is_negated: bool


class Between(msgspec.Struct, frozen=True):
    operand: Node
    low: Node
    high: Node
    is_negated: bool
    is_symmetric: bool = False


class InItems(msgspec.Struct, frozen=True):
    operand: Node
    items: tuple[Node, ...]
    is_negated: bool


class InSubquery(msgspec.Struct, frozen=True):
    operand: Node
    query: Query
    is_negated: bool


class Like(msgspec.Struct, frozen=True):
    operand: Node
    pattern: Node
    escape: Node | None
    is_negated: bool
    is_insensitive: bool


class Quantified(msgspec.Struct, frozen=True):
    """``left OP ANY|ALL (right)``; ``operator`` may be like, ilike, not like, not ilike. ``right`` is a Query or a node."""

    operator: str
    left: Node
    quantifier: str
    right: Node | Query


class SortItem(msgspec.Struct, frozen=True):
    expression: Node
    is_descending: bool = False
    nulls_first: bool | None = None


class FrameEdge(msgspec.Struct, frozen=True):
    kind: str
    offset: Node | None = None


class WindowDef(msgspec.Struct, frozen=True):
    """What stands in OVER: a name, a specification, or both. ``frame`` is unit, start, end."""

    base: str | None = None
    partition_by: tuple[Node, ...] = ()
    order_by: tuple[SortItem, ...] = ()
    frame: tuple[str, FrameEdge, FrameEdge] | None = None


class Function(msgspec.Struct, frozen=True):
    """A call. ``is_star`` is ``count(*)``; ``without_parentheses`` is ``current_date`` and its kin."""

    name: tuple[str, ...]
    arguments: tuple[Node, ...] = ()
    is_distinct: bool = False
    is_star: bool = False
    order_by: tuple[SortItem, ...] = ()
    filter: Node | None = None
    over: WindowDef | None = None
    ignores_nulls: bool = False
    without_parentheses: bool = False
    #: The output name if it is not the function's (``trim(leading …)`` is ltrim and called trim).
    label: str | None = None


class CastNode(msgspec.Struct, frozen=True):
    operand: Node
    type: TypeName
    is_try: bool = False


class CaseNode(msgspec.Struct, frozen=True):
    operand: Node | None
    branches: tuple[tuple[Node, Node], ...]
    default: Node | None


class Subscript(msgspec.Struct, frozen=True):
    base: Node
    index: Node


class Slice(msgspec.Struct, frozen=True):
    base: Node
    low: Node | None
    high: Node | None


class FieldOf(msgspec.Struct, frozen=True):
    """``(expression).field``."""

    base: Node
    field: str


class ArrayNode(msgspec.Struct, frozen=True):
    items: tuple[Node, ...]


class ObjectNode(msgspec.Struct, frozen=True):
    entries: tuple[tuple[str, Node], ...]


class RowNode(msgspec.Struct, frozen=True):
    """``(a, b)``."""

    items: tuple[Node, ...]


class ScalarSubquery(msgspec.Struct, frozen=True):
    query: Query


class ArraySubquery(msgspec.Struct, frozen=True):
    query: Query


class ExistsNode(msgspec.Struct, frozen=True):
    query: Query


class MatchNode(msgspec.Struct, frozen=True):
    columns: tuple[tuple[Node, Node | None], ...]
    term: Node
    method: str | None
    options: tuple[tuple[str, Node], ...] = ()


Node = (
    NullWord
    | BooleanWord
    | NumberWord
    | StringWord
    | BitsWord
    | IntervalWord
    | ParameterWord
    | DefaultWord
    | Name
    | Star
    | Unary
    | Binary
    | Logic
    | IsNull
    | IsTruth
    | IsDistinct
    | Between
    | InItems
    | InSubquery
    | Like
    | Quantified
    | Function
    | CastNode
    | CaseNode
    | Subscript
    | Slice
    | FieldOf
    | ArrayNode
    | ObjectNode
    | RowNode
    | ScalarSubquery
    | ArraySubquery
    | ExistsNode
    | MatchNode
)


# --- queries ---------------------------------------------------------------------------------------------------------


class SelectItem(msgspec.Struct, frozen=True):
    expression: Node
    alias: str | None = None


class TableName(msgspec.Struct, frozen=True):
    parts: tuple[str, ...]
    alias: str | None = None
    columns: tuple[str, ...] = ()
    start: int = -1


class DerivedTable(msgspec.Struct, frozen=True):
    query: Query
    alias: str | None
    columns: tuple[str, ...] = ()


class FunctionTable(msgspec.Struct, frozen=True):
    call: Node
    alias: str | None = None
    columns: tuple[str, ...] = ()
    with_ordinality: bool = False


class JoinTable(msgspec.Struct, frozen=True):
    """``kind``: inner, left, right, full, cross."""

    kind: str
    left: TableNode
    right: TableNode
    on: Node | None = None
    using: tuple[str, ...] = ()
    is_natural: bool = False


TableNode = TableName | DerivedTable | FunctionTable | JoinTable


class Select(msgspec.Struct, frozen=True):
    items: tuple[SelectItem, ...]
    is_distinct: bool = False
    tables: tuple[TableNode, ...] = ()
    where: Node | None = None
    group_by: tuple[Node, ...] = ()
    groups_all: bool = False
    having: Node | None = None
    windows: tuple[tuple[str, WindowDef], ...] = ()


class SetNode(msgspec.Struct, frozen=True):
    """``kind``: union, intersect, except."""

    kind: str
    is_all: bool
    left: QueryBody
    right: QueryBody


class ValuesNode(msgspec.Struct, frozen=True):
    rows: tuple[tuple[Node, ...], ...]


class WithItem(msgspec.Struct, frozen=True):
    name: str
    columns: tuple[str, ...]
    query: Query


class Query(msgspec.Struct, frozen=True):
    body: QueryBody
    with_items: tuple[WithItem, ...] = ()
    is_recursive: bool = False
    order_by: tuple[SortItem, ...] = ()
    limit: Node | None = None
    offset: Node | None = None


QueryBody = Select | SetNode | ValuesNode | Query


# --- statements ------------------------------------------------------------------------------------------------------


class ColumnDef(msgspec.Struct, frozen=True, kw_only=True):
    """A column of CREATE TABLE or of an object type. Expressions keep their text beside the tree."""

    name: str
    type: TypeName | None = None
    is_nullable: bool | None = None
    declares_both: bool = False
    is_primary_key: bool = False
    primary_key_name: str | None = None
    default: tuple[Node, str] | None = None
    generated: tuple[Node, str] | None = None
    checks: tuple[tuple[str | None, Node, str], ...] = ()
    index: str | None = None
    index_options: tuple[tuple[str, Node], ...] = ()
    storage: tuple[tuple[str, Node], ...] = ()
    path: tuple[str, ...] = ()


class IndexDef(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    method: str
    columns: tuple[Node, ...]
    options: tuple[tuple[str, Node], ...] = ()


class CreateTableNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    if_not_exists: bool = False
    columns: tuple[ColumnDef, ...] = ()
    primary_key: tuple[Node, ...] | None = None
    primary_key_name: str | None = None
    checks: tuple[tuple[str | None, Node, str], ...] = ()
    indexes: tuple[IndexDef, ...] = ()
    partitioned_by: tuple[Node, ...] = ()
    clustered_by: Node | None = None
    shards: Node | None = None
    settings: tuple[tuple[str, Node], ...] = ()
    query: Query | None = None
    #: The table of ``(LIKE table)``, and what is copied beside its columns.
    like: tuple[str, ...] | None = None
    like_parts: tuple[str, ...] = ()


class CreateViewNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    query: Query
    text: str
    or_replace: bool = False


class DropNode(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: table, view, schema."""

    kind: str
    names: tuple[tuple[str, ...], ...]
    if_exists: bool = False
    cascade: bool = False


class CreateSchemaNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    if_not_exists: bool = False


class AnalyzerPart(msgspec.Struct, frozen=True):
    """A tokenizer or filter: a name, and settings (with ``type``, if the name is the statement's own)."""

    name: str
    settings: tuple[tuple[str, Node], ...] = ()


class CreateAnalyzerNode(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    extends: str | None = None
    tokenizer: AnalyzerPart | None = None
    token_filters: tuple[AnalyzerPart, ...] | None = None
    char_filters: tuple[AnalyzerPart, ...] | None = None
    settings: tuple[tuple[str, Node], ...] = ()


class DropAnalyzerNode(msgspec.Struct, frozen=True):
    name: str


class AlterTableNode(msgspec.Struct, frozen=True, kw_only=True):
    """``action``: add, set, reset, rename, rename_column, drop, drop_constraint, set_default, drop_default, open, close."""

    name: tuple[str, ...]
    action: str
    columns: tuple[ColumnDef, ...] = ()
    settings: tuple[tuple[str, Node], ...] = ()
    names: tuple[str, ...] = ()
    #: Columns and parts of objects: those to drop, the one to alter, or the old and the new name.
    paths: tuple[tuple[str, ...], ...] = ()
    #: Those of ``paths`` that need not be there.
    optional_paths: tuple[tuple[str, ...], ...] = ()
    if_exists: bool = False
    default: tuple[Node, str] | None = None


class OnConflict(msgspec.Struct, frozen=True):
    """``assignments`` is None for DO NOTHING."""

    columns: tuple[Node, ...]
    assignments: tuple[tuple[Node, Node], ...] | None


class LiteralRows(msgspec.Struct, frozen=True):
    """A VALUES list of plain literals, column by column: int, float (as text), str, bool, None."""

    columns: tuple[list[object], ...]
    #: Per column, the kinds of literal met: i, n (other numbers, kept as text), s, b.
    kinds: tuple[frozenset[str], ...]


class InsertNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    columns: tuple[Node, ...] = ()
    query: Query | None = None
    rows: LiteralRows | None = None
    conflict: OnConflict | None = None
    returning: tuple[SelectItem, ...] = ()


class UpdateNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    alias: str | None
    assignments: tuple[tuple[Node, Node], ...]
    where: Node | None
    returning: tuple[SelectItem, ...] = ()


class DeleteNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    alias: str | None
    where: Node | None
    returning: tuple[SelectItem, ...] = ()


class CopyFromNode(msgspec.Struct, frozen=True, kw_only=True):
    name: tuple[str, ...]
    columns: tuple[str, ...] | None
    source: Node
    options: tuple[tuple[str, Node], ...] = ()
    returns_summary: bool = False


class CopyToNode(msgspec.Struct, frozen=True, kw_only=True):
    """``columns`` is empty for whole rows."""

    name: tuple[str, ...]
    columns: tuple[Node, ...]
    where: Node | None
    directory: Node
    options: tuple[tuple[str, Node], ...] = ()


class CopyOtherNode(msgspec.Struct, frozen=True):
    """COPY in a form that is refused, with the reason."""

    reason: str


class RefreshNode(msgspec.Struct, frozen=True):
    names: tuple[tuple[str, ...], ...]


class OptimizeNode(msgspec.Struct, frozen=True):
    names: tuple[tuple[str, ...], ...]
    options: tuple[tuple[str, Node], ...] = ()


class SetStatement(msgspec.Struct, frozen=True, kw_only=True):
    """``scope``: session, local, global, global persistent. A value of None is DEFAULT."""

    scope: str
    values: tuple[tuple[str, tuple[Node, ...] | None], ...]


class ResetStatement(msgspec.Struct, frozen=True, kw_only=True):
    """``names`` is None for ALL."""

    names: tuple[str, ...] | None
    is_global: bool = False


class ShowStatement(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: tables, schemas, columns, create_table, setting, all."""

    kind: str
    name: tuple[str, ...] = ()
    schema: str | None = None
    like: str | None = None
    where: Node | None = None


class TransactionStatement(msgspec.Struct, frozen=True, kw_only=True):
    action: str
    name: str | None = None


class KillStatement(msgspec.Struct, frozen=True):
    job_id: Node | None


class AlterClusterStatement(msgspec.Struct, frozen=True):
    """``action``: decommission, step_down, retry_failed, gc."""

    action: str
    node: Node | None = None


class DeallocateStatement(msgspec.Struct, frozen=True, kw_only=True):
    name: str | None
    discards_session: bool = False


class DeclareStatement(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    query: Query
    is_scrollable: bool
    is_holdable: bool


class FetchStatement(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    direction: str
    count: int | None
    is_move: bool


class CloseStatement(msgspec.Struct, frozen=True):
    name: str | None


class ExplainStatement(msgspec.Struct, frozen=True, kw_only=True):
    statement: Statement
    is_analyze: bool = False
    is_verbose: bool = False
    shows_costs: bool = False


class NoOperation(msgspec.Struct, frozen=True):
    """A statement accepted without effect; ``tag`` is its command tag."""

    tag: str
    rowcount: int = 0


class MissingObject(msgspec.Struct, frozen=True, kw_only=True):
    """DROP or ALTER (``tag``) of an object of a kind this server has none of; ``types`` are a function's."""

    kind: str
    name: tuple[str, ...]
    tag: str
    types: tuple[TypeName, ...] = ()
    if_exists: bool = False


class PrivilegesNode(msgspec.Struct, frozen=True, kw_only=True):
    """GRANT, DENY or REVOKE (``verb``) of privileges, or of roles, to ``roles``."""

    verb: str
    #: Privileges or roles as written; empty for ALL.
    names: tuple[str, ...]
    #: ``schema``, ``table`` or ``view``; empty for the whole cluster.
    kind: str = ""
    objects: tuple[tuple[str, ...], ...] = ()
    roles: tuple[str, ...]


class SwapTablesNode(msgspec.Struct, frozen=True, kw_only=True):
    source: tuple[str, ...]
    target: tuple[str, ...]
    options: tuple[tuple[str, Node], ...] = ()


Statement = (
    Query
    | CreateTableNode
    | CreateViewNode
    | CreateSchemaNode
    | DropNode
    | CreateAnalyzerNode
    | DropAnalyzerNode
    | AlterTableNode
    | InsertNode
    | UpdateNode
    | DeleteNode
    | CopyFromNode
    | CopyToNode
    | CopyOtherNode
    | RefreshNode
    | OptimizeNode
    | SetStatement
    | ResetStatement
    | ShowStatement
    | TransactionStatement
    | KillStatement
    | AlterClusterStatement
    | DeallocateStatement
    | DeclareStatement
    | FetchStatement
    | CloseStatement
    | ExplainStatement
    | NoOperation
    | MissingObject
    | PrivilegesNode
    | SwapTablesNode
)


class ParsedStatement(msgspec.Struct, frozen=True):
    """``parameters`` counts them (the highest ``$n``, or the number of ``?``)."""

    text: str
    tree: Statement
    parameters: int = 0
