"""Queries that never become one: rows by primary key, and the number of rows of a table.

A predicate pins the primary key if it leaves only a list of keys that a row may have: ``=``, ``IN``, ``= ANY`` of an array
literal, joined by AND (which combines columns) and OR (which adds keys). Such rows are read in real time, whatever else the
statement asks of them: the rest of the predicate is tested on the rows that were found. Above
``PRIMARY_KEY_GETS_MAX`` keys a scan is better. After CrateDB's ``EqualityExtractor``, ``DocKeys``, ``Get`` and ``Count``.

``= ANY($1)`` of an array parameter is a get of as many keys as it has, where the key is one column.

Not gets (yet): more than one key under ORDER BY or LIMIT; keys inside joins. They read the last refresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cratepy import limits
from cratepy.model.expressions import Aggregate, Call, Cast, Column, Expression, InList, Literal
from cratepy.model.leaves import known_key_part
from cratepy.model.plan import CountPlan, GetPlan
from cratepy.model.relations import (
    Aggregation,
    Item,
    Limit,
    OutputColumn,
    Project,
    Relation,
    Scan,
    ScanColumn,
    Sort,
    output_columns,
)
from cratepy.model.schema import TableDefinition
from cratepy.model.state import ClusterState
from cratepy.model.types import INTEGER_KINDS
from cratepy.records import dataclass
from cratepy.sql.plan.placement import shard_sources
from cratepy.sql.plan.volatility import is_volatile
from cratepy.sql.plan.walk import columns_of, conjunction, conjuncts, disjuncts, is_constant, nodes, passed_on

#: System columns that a row read by key has: ``_score`` is NULL, for nothing was searched. ``_docid`` exists only there.
GET_SYSTEM_COLUMNS: Final = frozenset({"_id", "_uid", "_version", "_seq_no", "_primary_term", "_raw", "_doc", "_score"})
#: Kinds whose SQL values sort in Python as the engine sorts them.
_SORTED_KINDS: Final = frozenset(
    {
        "byte", "smallint", "integer", "bigint", "boolean", "text", "date",
        "timestamp with time zone", "timestamp without time zone",
    }
)  # fmt: skip
#: Functions that only an index can answer.
_INDEX_FUNCTIONS: Final = frozenset({"match", "knn_match"})

#: Values of some key columns, by source, that a row must have together.
Assignment = dict[str, Expression]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys a predicate allows; ``is_exact`` if every row with such a key satisfies it."""

    assignments: tuple[Assignment, ...]
    is_exact: bool


# --- count(*) --------------------------------------------------------------------------------------------------------


def as_count(relation: Relation, columns: tuple[OutputColumn, ...], state: ClusterState) -> CountPlan | None:
    """``SELECT count(*) FROM t``. Raises ShardUnavailable: the count of some of the shards would be wrong."""
    if isinstance(relation, Project):
        match relation.items:
            case (Item(expression=Column(id=named)),):
                inner = relation.child
                if isinstance(inner, Aggregation) and [c.id for c in output_columns(inner)] == [named]:
                    return as_count(inner, columns, state)
        return None
    match relation:
        case Aggregation(
            child=Scan(filter=None, limit=None, matches=()) as scan,
            keys=(),
            aggregates=(Item(expression=Aggregate(function="count", arguments=(), filter=None)),),
        ):
            shard_sources(state, scan.table_uuid, scan.table)
            return CountPlan(table_uuid=scan.table_uuid, table=scan.table, columns=columns)
        case _:
            return None


# --- rows by key -----------------------------------------------------------------------------------------------------


def as_get(relation: Relation, columns: tuple[OutputColumn, ...], state: ClusterState) -> GetPlan | None:
    """A plain read of rows whose key the filter pins; None for anything else."""
    items: tuple[Item, ...] | None = None
    shape = _without_sorts_and_limits(relation)
    if isinstance(shape, Project):
        items, shape = shape.items, shape.child
    if not isinstance(shape, Scan) or shape.filter is None or shape.matches:
        return None
    table = state.tables.get(shape.table_uuid)
    if table is None:
        return None
    found = _keys_of(shape, table.definition)
    if found is None:
        return None
    items = items if items is not None else tuple(passed_on(column) for column in output_columns(shape))
    if any(is_volatile(item.expression) or _asks_index(item.expression) for item in items):
        return None
    plan = _get(shape, items, columns, found)
    above = _operators_above(relation, shape)
    if plan is None or not above or (len(found.keys) == 1 and all(_keeps_a_row(operator) for operator in above)):
        return plan
    return _ordered(plan, items, above)


def _without_sorts_and_limits(relation: Relation) -> Relation:
    """The relation below sorts and limits."""
    match relation:
        case Sort() | Limit():
            return _without_sorts_and_limits(relation.child)
        case Project(child=Sort() | Limit()):
            below = _without_sorts_and_limits(relation.child)
            return Project(below, relation.items) if isinstance(below, Scan) else relation
        case _:
            return relation


def _operators_above(relation: Relation, scan: Scan) -> list[Sort | Limit]:
    """The sorts and limits between the output and the scan, the uppermost first."""
    found: list[Sort | Limit] = []
    while relation is not scan:
        if isinstance(relation, Sort | Limit):
            found.append(relation)
        assert isinstance(relation, Project | Sort | Limit)
        relation = relation.child
    return found


def _keeps_a_row(operator: Sort | Limit) -> bool:
    """Whether it means nothing for a single row."""
    match operator:
        case Sort():
            return True
        case Limit(count=Literal(value=int(count)), offset=None | Literal(value=None | 0)):
            return count >= 1
        case _:
            return False


def _ordered(plan: GetPlan, items: tuple[Item, ...], above: list[Sort | Limit]) -> GetPlan | None:
    """The get with one sort and one limit above it; None if it cannot do what they ask for."""
    limit = above[0] if isinstance(above[0], Limit) else None
    sorts = above if limit is None else above[1:]
    if len(sorts) > 1 or not all(isinstance(operator, Sort) for operator in sorts):
        return None
    keys = [key for operator in sorts if isinstance(operator, Sort) for key in operator.keys]
    places: dict[int, int] = {}
    for place, item in enumerate(items):
        places.setdefault(item.id, place)
        if isinstance(item.expression, Column):
            places.setdefault(item.expression.id, place)
    order = []
    for key in keys:
        column = key.expression
        if not isinstance(column, Column) or column.id not in places or column.type.kind not in _SORTED_KINDS:
            return None
        order.append((places[column.id], key.is_descending, key.nulls_first))
    count, offset = _number(None if limit is None else limit.count), _number(None if limit is None else limit.offset)
    if (limit is not None and limit.count is not None and count is None) or (offset or 0) < 0 or (count or 0) < 0:
        return None
    if limit is not None and limit.offset is not None and offset is None:
        return None
    return msgspec.structs.replace(plan, order=tuple(order), offset=offset or 0, count=count)


def _number(expression: Expression | None) -> int | None:
    return expression.value if isinstance(expression, Literal) and type(expression.value) is int else None


def _get(
    scan: Scan,
    items: tuple[Item, ...],
    columns: tuple[OutputColumn, ...],
    pinned: _Pinned,
) -> GetPlan | None:
    residual = pinned.residual
    stored = {column.id: column for column in scan.columns}
    if residual is None and all(isinstance(item.expression, Column) for item in items):
        read = [stored[item.expression.id] for item in items if isinstance(item.expression, Column)]
        sources = tuple(column.source for column in read)
        projection: tuple[Item, ...] = ()
        read_columns = columns
    else:
        used = columns_of(*(item.expression for item in items))
        used |= columns_of(residual) if residual is not None else frozenset()
        read = [column for column in scan.columns if column.id in used]
        sources = tuple(column.source for column in read)
        read_columns = tuple(OutputColumn(column.id, column.name, column.type) for column in read)
        projection = tuple(Item(c.id, c.name, i.expression) for c, i in zip(columns, items, strict=True))
    if not all(_is_readable(column) for column in read):
        return None
    return GetPlan(
        table_uuid=scan.table_uuid,
        table=scan.table,
        keys=pinned.keys,
        sources=sources,
        columns=read_columns,
        residual=residual,
        projection=projection,
        is_by_id=pinned.is_by_id,
        key_list=pinned.key_list,
    )


def _is_readable(column: ScanColumn) -> bool:
    return not column.source.startswith("_") or column.source in GET_SYSTEM_COLUMNS


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pinned:
    """What a filter says about the key: see :class:`GetPlan`."""

    keys: tuple[tuple[Expression, ...], ...]
    residual: Expression | None
    is_by_id: bool
    key_list: Expression | None = None


def _keys_of(scan: Scan, table: TableDefinition) -> _Pinned | None:
    """The keys, and what else a row must satisfy; None if the filter pins no key."""
    assert scan.filter is not None
    if is_volatile(scan.filter) or _asks_index(scan.filter):
        return None
    sources = {column.id: column.source for column in scan.columns}
    primary = tuple(known_key_part(table, name).source for name in table.primary_key)
    choices: list[tuple[tuple[str, ...], bool]] = [(primary, False)] if primary else []
    choices += [(("_id",), True), (("_uid",), True)]
    for wanted, is_by_id in choices:
        kept = {id_: source for id_, source in sources.items() if source in wanted}
        found = _allowed(scan.filter, kept)
        if found is None and len(wanted) == 1:
            pinned = _listed(scan.filter, kept, is_by_id=is_by_id)
            if pinned is not None:
                return pinned
        if found is None or not all(assignment.keys() == set(wanted) for assignment in found.assignments):
            continue
        keys = _different([tuple(assignment[source] for source in wanted) for assignment in found.assignments])
        return _Pinned(keys, None if found.is_exact else _residual(scan.filter, kept), is_by_id)
    return None


def _listed(predicate: Expression, sources: dict[int, str], *, is_by_id: bool) -> _Pinned | None:
    """``key = ANY(array)``, maybe beside other conditions, of an array that is known when the statement runs."""
    parts = conjuncts(predicate)
    for place, part in enumerate(parts):
        match part:
            case Call(function="op_any_=", arguments=(operand, array)) if not isinstance(array, Literal):
                column, element = _key_column(operand), array.type.element
                is_known = column is not None and column.id in sources and is_constant(array)
                if not is_known or element is None or element.kind != operand.type.kind or element.kind == "numeric":
                    continue
                others = conjunction([other for i, other in enumerate(parts) if i != place])
                return _Pinned((), others, is_by_id, key_list=array)
            case _:
                continue
    return None


def _key_column(operand: Expression) -> Column | None:
    """The column, also as a wider integer: the number, and so the key's text, is the same."""
    if isinstance(operand, Cast) and operand.is_implicit and operand.type.kind in INTEGER_KINDS:
        argument = operand.argument
        if isinstance(argument, Column) and argument.type.kind in INTEGER_KINDS:
            return argument
    return operand if isinstance(operand, Column) else None


def _residual(predicate: Expression, sources: dict[int, str]) -> Expression | None:
    """What the keys do not say: the predicates beside them, or the whole if keys and the rest cannot be told apart."""
    parts = conjuncts(predicate)
    found = [_allowed(part, sources) for part in parts]
    keyed = _all_of([keys for keys in found if keys is not None])
    if keyed is None or not keyed.is_exact:
        return predicate
    return conjunction([part for part, keys in zip(parts, found, strict=True) if keys is None])


def _different(keys: list[tuple[Expression, ...]]) -> tuple[tuple[Expression, ...], ...]:
    if all(isinstance(value, Literal) for key in keys for value in key):
        seen = {tuple(value.value for value in key if isinstance(value, Literal)): key for key in keys}
        return tuple(seen.values())
    return tuple(keys)


def _asks_index(expression: Expression) -> bool:
    return any(isinstance(node, Call) and node.function in _INDEX_FUNCTIONS for node in nodes(expression))


def _allowed(predicate: Expression, sources: dict[int, str]) -> KeySet | None:
    """The keys the predicate allows; None if it says nothing about them."""
    match predicate:
        case Call(function="op_and"):
            return _all_of([_allowed(part, sources) for part in conjuncts(predicate)])
        case Call(function="op_or"):
            return _any_of([_allowed(part, sources) for part in disjuncts(predicate)])
        case Call(function="op_=", arguments=(one, other)):
            return _one_of(one, [other], sources) or _one_of(other, [one], sources)
        case InList(operand=operand, items=items):
            return _one_of(operand, items, sources)
        case Call(function="op_any_=", arguments=(operand, Literal(value=list(values), type=array))):
            if array.element is None:
                return None
            element = array.element
            return _one_of(operand, [Literal(value, element) for value in values], sources)
        case _:
            return None


def _one_of(operand: Expression, values: Sequence[Expression], sources: dict[int, str]) -> KeySet | None:
    column = _key_column(operand)
    if column is None or column.id not in sources or len(values) > limits.PRIMARY_KEY_GETS_MAX:
        return None
    source = sources[column.id]
    if not all(is_constant(value) and value.type.kind == operand.type.kind for value in values):
        return None
    known = [value for value in values if not (isinstance(value, Literal) and value.value is None)]
    if column.type.kind == "numeric" and any(value.type != column.type for value in known):
        return None  # Equal numbers of different scale have different texts, and the text is the key.
    return KeySet(tuple({source: value} for value in known), is_exact=True)


def _all_of(found: list[KeySet | None]) -> KeySet | None:
    result: KeySet | None = None
    is_exact = None not in found
    for keys in found:
        if keys is None:
            continue
        if result is None:
            result = keys
            continue
        if len(result.assignments) * len(keys.assignments) > limits.PRIMARY_KEY_GETS_MAX:
            return None
        pairs = [(a, b) for a in result.assignments for b in keys.assignments]
        overlaps = any(a.keys() & b.keys() for a, b in pairs)
        # Two demands on one column: the keys of the first are tested for the second.
        is_exact = is_exact and not overlaps
        if all(b.keys() <= a.keys() for a, b in pairs):
            merged = result.assignments
        else:
            merged = tuple({**b, **a} for a, b in pairs)
        result = KeySet(merged, is_exact and result.is_exact and keys.is_exact)
    return None if result is None else KeySet(result.assignments, is_exact and result.is_exact)


def _any_of(found: list[KeySet | None]) -> KeySet | None:
    total: list[Assignment] = []
    is_exact = True
    for keys in found:
        if keys is None:
            return None
        total.extend(keys.assignments)
        is_exact = is_exact and keys.is_exact
    return KeySet(tuple(total), is_exact) if len(total) <= limits.PRIMARY_KEY_GETS_MAX else None
