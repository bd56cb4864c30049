"""Output columns with different ids: ``SELECT a, a`` names one column twice, a batch has every field once.

The analyzer lets ids repeat in an output; what is planned, sent and rendered never has repeated ids. Repetitions get an id
of their own in one more projection at the top, and below set operations and recursions, which read by position anyway.
"""

from __future__ import annotations

from itertools import count

from cratepy.model.relations import (
    Filter,
    Item,
    Limit,
    Project,
    RecursiveQuery,
    Relation,
    SetOperation,
    Sort,
    children,
    output_columns,
)
from cratepy.sql.plan.walk import all_ids, map_relations, reference, with_children


def with_unique_columns(relation: Relation) -> Relation:
    """The relation with an id of its own for every output column."""
    ids = count(max(all_ids(relation), default=0) + 1)

    def change(operator: Relation) -> Relation:
        if isinstance(operator, SetOperation | RecursiveQuery):
            return with_children(operator, [_renamed(child, ids) for child in children(operator)])
        return operator

    return _renamed(map_relations(relation, change), ids)


def _renamed(relation: Relation, ids: count[int]) -> Relation:
    columns = output_columns(relation)
    if len({column.id for column in columns}) == len(columns):
        return relation
    seen: set[int] = set()
    items: list[Item] = []
    for column in columns:
        items.append(Item(next(ids) if column.id in seen else column.id, column.name, reference(column)))
        seen.add(column.id)
    return Project(_without_repeats(relation), tuple(items))


def _without_repeats(relation: Relation) -> Relation:
    match relation:
        case Filter() | Sort() | Limit():
            return with_children(relation, [_without_repeats(relation.child)])
        case Project():
            first = {item.id: item for item in reversed(relation.items)}
            items = tuple(item for item in relation.items if first[item.id] is item)
            return Project(relation.child, items)
        case _:
            return relation
