"""Where an aggregation runs.

Rows that are together, or partitioned by the group keys already, are aggregated where they are. Otherwise each node
aggregates its own rows first and the parts are merged: on the handler, or, if there may be many groups (a large input, or a
DISTINCT of unknown size), partitioned by the keys over the nodes that made them. An aggregate that cannot be computed in
parts gets its rows unaggregated, partitioned unless they are surely few.
"""

from __future__ import annotations

from collections.abc import Callable

from cratepy.functions.split import split_aggregate
from cratepy.model.expressions import Aggregate, Column
from cratepy.model.relations import Aggregation, Item, Project
from cratepy.records import dataclass
from cratepy.sql.plan.fragments import Fragment, Workshop, computed, grown, is_partitionable


@dataclass(frozen=True, slots=True)
class Parts:
    """An aggregation's aggregates in two steps."""

    partial: tuple[Item, ...]
    merged: tuple[Item, ...]
    final: tuple[Item, ...]


def distribute_aggregation(aggregation: Aggregation, fragment: Fragment, shop: Workshop) -> Fragment:
    """The aggregation of a fragment's rows as a fragment."""
    if fragment.is_together or _keeps_groups_apart(aggregation, fragment):
        return _whole(aggregation, fragment)
    parts = split_aggregates(aggregation.aggregates, shop.new_id)
    keys = _hash_keys(aggregation)
    if parts is None:
        is_few = shop.estimates.is_small(aggregation.child)
        return _unsplit(aggregation, fragment, shop, keys=() if is_few else keys)
    # DISTINCT often keeps most of its rows; aggregates are asked for because they do not.
    is_many = shop.estimates.is_large(aggregation.child)
    is_many = is_many or not (aggregation.aggregates or shop.estimates.is_small(aggregation.child))
    return _in_parts(aggregation, fragment, parts, shop, keys=keys if is_many else ())


def _hash_keys(aggregation: Aggregation) -> tuple[int, ...]:
    """Ids of the group keys that may be partitioned by. Some are enough: they bring every group together."""
    return tuple(item.id for item in aggregation.keys if is_partitionable(item.expression.type))


def _keeps_groups_apart(aggregation: Aggregation, fragment: Fragment) -> bool:
    """Whether every group is on one node: the rows are partitioned by columns that are all group keys."""
    if fragment.partitioning is None or not aggregation.keys:
        return False
    grouped = {item.expression.id for item in aggregation.keys if isinstance(item.expression, Column)}
    return all(columns & grouped for columns in fragment.partitioning)


def _whole(aggregation: Aggregation, fragment: Fragment) -> Fragment:
    below = grown(fragment, Aggregation(fragment.relation, aggregation.keys, aggregation.aggregates))
    renamed: dict[int, set[int]] = {}
    for item in aggregation.keys:
        if isinstance(item.expression, Column):
            renamed.setdefault(item.expression.id, set()).add(item.id)
    carried = tuple(
        frozenset(new for old in columns for new in renamed.get(old, ())) for columns in fragment.partitioning or ()
    )
    return Fragment(
        relation=below.relation,
        nodes=fragment.nodes,
        shards=fragment.shards,
        partitioning=carried if carried and all(carried) else None,
    )


def split_aggregates(aggregates: tuple[Item, ...], new_id: Callable[[], int]) -> Parts | None:
    """All aggregates in two steps; None if one of them cannot be split."""
    partial: list[Item] = []
    merged: list[Item] = []
    final: list[Item] = []
    for item in aggregates:
        aggregate = item.expression
        assert isinstance(aggregate, Aggregate)
        split = split_aggregate(aggregate, new_id)
        if split is None:
            return None
        partial.extend(split.partial)
        merged.extend(split.merge)
        final.append(Item(item.id, item.name, split.final))
    return Parts(tuple(partial), tuple(merged), tuple(final))


def passed_keys(aggregation: Aggregation) -> tuple[Item, ...]:
    """The group keys as columns of the aggregation's rows."""
    return tuple(Item(k.id, k.name, Column(k.id, k.name, k.expression.type)) for k in aggregation.keys)


def _in_parts(
    aggregation: Aggregation, fragment: Fragment, parts: Parts, shop: Workshop, *, keys: tuple[int, ...]
) -> Fragment:
    """``keys``: what to partition the parts by; none gathers them."""
    partial = grown(fragment, Aggregation(fragment.relation, aggregation.keys, parts.partial))
    moved = shop.partitioned(partial, keys, fragment.nodes) if keys else shop.at_handler(partial)
    passed = passed_keys(aggregation)
    merged = grown(moved, Aggregation(moved.relation, passed, parts.merged))
    return grown(merged, Project(merged.relation, (*passed, *parts.final))) if parts.final else merged


def _unsplit(aggregation: Aggregation, fragment: Fragment, shop: Workshop, *, keys: tuple[int, ...]) -> Fragment:
    if not keys:
        return _whole(aggregation, shop.at_handler(fragment))
    # Keys that are columns of the input under another id, or computed, become columns before the rows are sent.
    new = [
        item for item in aggregation.keys if not (isinstance(item.expression, Column) and item.expression.id == item.id)
    ]
    moved = shop.partitioned(computed(fragment, new), keys, fragment.nodes)
    return grown(moved, Aggregation(moved.relation, passed_keys(aggregation), aggregation.aggregates))
