"""The WHERE of a search, for asking it again of one row.

In: the plan that found rows for an UPDATE or DELETE. Out: a :class:`~cratepy.execution.writes.updater.Recheck`, or None if the
search was more than a filter over one table (a subquery, a join): then a row that changed since is changed all the same, as
CrateDB does for every search. Its own room because it reads plans backwards, and nothing else does.
"""

from __future__ import annotations

from cratepy.execution.writes.expressions import columns_of
from cratepy.execution.writes.updater import Recheck
from cratepy.model.expressions import Call, Expression
from cratepy.model.leaves import is_leaf_source
from cratepy.model.plan import GetPlan, QueryPlan
from cratepy.model.relations import Filter, Item, Project, Relation, Scan
from cratepy.model.types import BOOLEAN


def recheck_of(find: QueryPlan | GetPlan) -> Recheck | None:
    """How to ask again whether a row of the table is meant."""
    match find:
        case GetPlan():
            if find.residual is None:
                return None
            sources = {column.id: source for column, source in zip(find.columns, find.sources, strict=True)}
            return _recheck([find.residual], sources)
        case QueryPlan():
            if find.subplans:
                return None
            scanning = [phase for phase in find.phases if phase.shards]
            if len(scanning) != 1:
                return None
            return _of_relation(scanning[0].relation)


def _of_relation(relation: Relation) -> Recheck | None:
    conditions: list[Expression] = []
    while not isinstance(relation, Scan):
        match relation:
            case Filter(child, predicate):
                conditions.append(predicate)
                relation = child
            case Project(child, _):
                relation = child
            case _:
                return None
    if relation.filter is not None:
        conditions.append(relation.filter)
    return _recheck(conditions, {column.id: column.source for column in relation.columns})


def _recheck(conditions: list[Expression], sources: dict[int, str]) -> Recheck | None:
    """None if there is nothing to ask, or a condition names something else than stored columns."""
    if not conditions:
        return None
    condition = conditions[0]
    for other in conditions[1:]:
        condition = Call("op_and", (condition, other), BOOLEAN)
    item = Item(max(sources, default=0) + 1, "condition", condition)
    oids: dict[int, int] = {}
    leaves: dict[int, str] = {}
    for key in columns_of((item,)):
        source = sources.get(key, "")
        if is_leaf_source(source):
            leaves[key] = source
        elif source.startswith("c") and source[1:].isdigit():
            oids[key] = int(source[1:])
        else:
            return None
    return Recheck(item, oids, leaves)
