"""Where a join runs.

In order: where both sides are already together or partitioned by the join's keys; a side that can be made anywhere goes to
the other; a small side is broadcast to the nodes of the other; equal keys are partitioned to the same nodes; what has no
equality is broadcast if that is right for the kind of join, else both sides are gathered.

A side may be given to every node only if the join never gives its unmatched rows (each node would give them): the right one
of inner, left, semi, anti; the left one of inner and right.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy.model.expressions import Call, Column, Expression
from cratepy.model.relations import Item, Join
from cratepy.sql.plan.fragments import Fragment, Partitioning, Workshop, computed, is_partitionable, merged_shards
from cratepy.sql.plan.walk import columns_of, conjuncts, output_ids

REPLICABLE_RIGHT: Final = frozenset({"inner", "cross", "left", "semi", "anti"})
REPLICABLE_LEFT: Final = frozenset({"inner", "cross", "right"})
#: Kinds of join whose left (right) columns are never NULL for want of a match.
_LEFT_STAYS: Final = frozenset({"inner", "cross", "left", "semi", "anti"})
_RIGHT_STAYS: Final = frozenset({"inner", "cross", "right"})

KeyPair = tuple[Expression, Expression]


def distribute_join(join: Join, left: Fragment, right: Fragment, shop: Workshop) -> Fragment:
    """The join of two fragments as a fragment."""
    in_place = _in_place(join, left, right)
    if in_place is not None:
        return in_place
    # A side that could run anywhere but may not be given to every node is given to one.
    left, right = (shop.at_handler(side) if side.is_anywhere else side for side in (left, right))
    pairs = equal_pairs(join)
    small = _small_side(join, shop)
    if small == "right":
        return _beside(join, left, _everywhere(right, shop))
    if small == "left":
        return _beside(join, _everywhere(left, shop), right)
    if pairs:
        return _partitioned(join, left, right, pairs, shop)
    if join.kind in REPLICABLE_RIGHT:
        return _beside(join, left, _everywhere(right, shop))
    if join.kind in REPLICABLE_LEFT:
        return _beside(join, _everywhere(left, shop), right)
    return _together(join, shop.at_handler(left), shop.at_handler(right))


def _in_place(join: Join, left: Fragment, right: Fragment) -> Fragment | None:
    """The join without moving a row, if it can be."""
    if left.is_anywhere and right.is_anywhere:
        return Fragment(relation=_over(join, left, right), nodes=())
    if right.is_anywhere and (join.kind in REPLICABLE_RIGHT or left.is_together):
        return _beside(join, left, right)
    if left.is_anywhere and (join.kind in REPLICABLE_LEFT or right.is_together):
        return _beside(join, left, right)
    if left.nodes != right.nodes:
        return None
    if left.is_together:
        return _together(join, left, right)
    if _is_copartitioned(left.partitioning, right.partitioning, equal_pairs(join)):
        return _matched(join, left, right)
    return None


def _everywhere(fragment: Fragment, shop: Workshop) -> Fragment:
    return Fragment(relation=shop.broadcast(fragment), nodes=())


def _over(join: Join, left: Fragment, right: Fragment) -> Join:
    return msgspec.structs.replace(join, left=left.relation, right=right.relation)


def _together(join: Join, left: Fragment, right: Fragment) -> Fragment:
    return Fragment(relation=_over(join, left, right), nodes=left.nodes, shards=merged_shards([left, right]))


def _beside(join: Join, left: Fragment, right: Fragment) -> Fragment:
    """One side stays where it is; the other, whose fragment has no nodes, is wherever that is."""
    assert left.is_anywhere != right.is_anywhere
    stays = right if left.is_anywhere else left
    return Fragment(
        relation=_over(join, left, right),
        nodes=stays.nodes,
        shards=stays.shards,
        partitioning=stays.partitioning,
    )


def _small_side(join: Join, shop: Workshop) -> str | None:
    """The side to give to every node: the smaller one of those that are small enough and may be."""
    sides = {
        "right": (join.kind in REPLICABLE_RIGHT, join.right),
        "left": (join.kind in REPLICABLE_LEFT, join.left),
    }
    small = [
        (shop.estimates.rows(relation) or 0, name)
        for name, (may_be, relation) in sides.items()
        if may_be and shop.estimates.is_small(relation)
    ]
    return min(small, key=lambda pair: pair[0])[1] if small else None


# --- equal keys ------------------------------------------------------------------------------------------------------


def equal_pairs(join: Join) -> list[KeyPair]:
    """The equalities of the condition between an expression of the left and one of the right, of one hashable type."""
    left_ids, right_ids = output_ids(join.left), output_ids(join.right)
    found: list[KeyPair] = []
    for predicate in conjuncts(join.condition):
        if not (isinstance(predicate, Call) and predicate.function == "op_=" and len(predicate.arguments) == 2):
            continue
        one, other = predicate.arguments
        if _is_of(one, right_ids) and _is_of(other, left_ids):
            one, other = other, one
        if not (_is_of(one, left_ids) and _is_of(other, right_ids)):
            continue
        # Decimals of different scale are equal with different bits.
        same = one.type == other.type or (one.type.kind == other.type.kind and one.type.kind != "numeric")
        if same and is_partitionable(one.type):
            found.append((one, other))
    return found


def _is_of(expression: Expression, ids: frozenset[int]) -> bool:
    named = columns_of(expression)
    return bool(named) and named <= ids


def _partitioned(join: Join, left: Fragment, right: Fragment, pairs: list[KeyPair], shop: Workshop) -> Fragment:
    nodes = tuple(sorted({*left.nodes, *right.nodes}))
    left_order = _pair_order(left.partitioning, [one for one, _ in pairs])
    right_order = _pair_order(right.partitioning, [other for _, other in pairs])
    if left_order is not None and not left.is_together:
        moved = _by_keys(right, [pairs[i][1] for i in left_order], left.nodes, shop)
        return _matched(join, left, moved)
    if right_order is not None and not right.is_together:
        moved = _by_keys(left, [pairs[i][0] for i in right_order], right.nodes, shop)
        return _matched(join, moved, right)
    new_left = _by_keys(left, [one for one, _ in pairs], nodes, shop)
    new_right = _by_keys(right, [other for _, other in pairs], nodes, shop)
    return _matched(join, new_left, new_right)


def _by_keys(fragment: Fragment, keys: list[Expression], nodes: tuple[str, ...], shop: Workshop) -> Fragment:
    """The fragment partitioned by the values of expressions, computing those that are no columns yet."""
    ids: list[int] = []
    items: list[Item] = []
    for key in keys:
        if isinstance(key, Column):
            ids.append(key.id)
        else:
            items.append(Item(shop.new_id(), "key", key))
            ids.append(items[-1].id)
    return shop.partitioned(computed(fragment, items), ids, nodes)


def _pair_order(partitioning: Partitioning | None, keys: list[Expression]) -> list[int] | None:
    """Which pair each partitioning key is, in the partitioning's order; None if one is in no pair."""
    if partitioning is None:
        return None
    order: list[int] = []
    for columns in partitioning:
        at = next((i for i, key in enumerate(keys) if isinstance(key, Column) and key.id in columns), None)
        if at is None:
            return None
        order.append(at)
    return order


def _is_copartitioned(left: Partitioning | None, right: Partitioning | None, pairs: list[KeyPair]) -> bool:
    left_order = _pair_order(left, [one for one, _ in pairs])
    return left_order is not None and left_order == _pair_order(right, [other for _, other in pairs])


def _matched(join: Join, left: Fragment, right: Fragment) -> Fragment:
    """Both sides partitioned alike: every node joins its part."""
    assert left.nodes == right.nodes
    assert left.partitioning is not None
    assert right.partitioning is not None
    keys: list[frozenset[int]] = []
    for of_left, of_right in zip(left.partitioning, right.partitioning, strict=True):
        kept: frozenset[int] = frozenset()
        if join.kind in _LEFT_STAYS:
            kept |= of_left
        if join.kind in _RIGHT_STAYS:
            kept |= of_right
        keys.append(kept)
    return Fragment(
        relation=_over(join, left, right),
        nodes=left.nodes,
        shards=merged_shards([left, right]),
        # Unmatched rows of both sides have no common key.
        partitioning=tuple(keys) if all(keys) else None,
    )
