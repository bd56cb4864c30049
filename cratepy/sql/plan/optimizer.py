"""The logical optimizer: rules applied until nothing changes.

A rule is a pure function from a relation to one that gives the same rows in the same output columns; that the columns are
the same is asserted after each. The rules run in the order of :data:`RULES`, all of them again while one of them changes
something, at most ``OPTIMIZER_PASSES_MAX`` times: what is left undone then is slower, not wrong. Every change is recorded
for EXPLAIN VERBOSE.

Before the rules, constants are folded and subqueries are taken apart, both once: the first needs the functions' code, the
second makes several relations out of one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

from cratepy import limits
from cratepy.model.relations import Relation, output_columns
from cratepy.records import dataclass
from cratepy.sql.plan.rules.aggregates import group_distinct_unions, split_distinct_aggregates
from cratepy.sql.plan.rules.columns import merge_projects, prune_columns, remove_redundant_projects
from cratepy.sql.plan.rules.constants import Fold, count_rows, fold_constants, simplify_booleans
from cratepy.sql.plan.rules.filters import drop_constant_filters, narrow_outer_joins, push_filters_down
from cratepy.sql.plan.rules.joins import order_joins
from cratepy.sql.plan.rules.leaves import take_leaves
from cratepy.sql.plan.rules.limits import push_limits_down, push_sorts_down
from cratepy.sql.plan.rules.matches import require_matches, take_best_matches
from cratepy.sql.plan.subqueries import Subqueries, rewrite_subqueries
from cratepy.sql.plan.walk import all_ids, map_expressions, map_relations, with_short_chains

Rule = Callable[[Relation], Relation]

RULES: Final[tuple[Rule, ...]] = (
    simplify_booleans,
    count_rows,
    group_distinct_unions,
    # Projections first out of the way: filters, limits and aggregations then meet what they can go into.
    merge_projects,
    push_filters_down,
    # After the filters, so that they stand right above the joins they concern.
    narrow_outer_joins,
    order_joins,
    drop_constant_filters,
    require_matches,
    split_distinct_aggregates,
    # Before the limits: a top-n is recognised by its sort right below the limit.
    push_sorts_down,
    push_limits_down,
    take_best_matches,
    # After the filters have gone down, before the columns that they made needless go.
    take_leaves,
    prune_columns,
    remove_redundant_projects,
)


@dataclass(frozen=True, slots=True)
class Step:
    """The tree after a rule changed it."""

    rule: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class OptimizedSubquery:
    """As :class:`cratepy.sql.plan.subqueries.Subquery`, optimized."""

    slot: int
    kind: str
    relation: Relation


@dataclass(frozen=True, slots=True)
class Optimized:
    """The tree, the subqueries that run before it (in order), and how the tree became what it is."""

    relation: Relation
    subqueries: tuple[OptimizedSubquery, ...]
    steps: tuple[Step, ...]


def optimize(relation: Relation, fold: Fold) -> Optimized:
    """The relation as it should be distributed. Raises the CrateError of a constant that cannot be computed."""
    steps: list[Step] = []
    relation = map_relations(relation, lambda operator: map_expressions(operator, with_short_chains))
    current = _stepped(relation, fold_constants(relation, fold), "fold_constants", steps)
    subqueries = Subqueries(count(max(all_ids(current), default=0) + 1).__next__)
    current = _stepped(current, rewrite_subqueries(current, subqueries), "rewrite_subqueries", steps)
    current = apply_rules(current, steps)
    optimized = [OptimizedSubquery(s.slot, s.kind, apply_rules(s.relation, [])) for s in subqueries.found]
    return Optimized(current, tuple(optimized), tuple(steps))


def apply_rules(relation: Relation, steps: list[Step]) -> Relation:
    """The rules until nothing changes; every change is appended to ``steps``."""
    for _ in range(limits.OPTIMIZER_PASSES_MAX):
        before = relation
        for rule in RULES:
            relation = _stepped(relation, rule(relation), rule.__name__, steps)
        if relation is before:
            break
    return relation


def _stepped(before: Relation, after: Relation, rule: str, steps: list[Step]) -> Relation:
    if after is before or after == before:
        return before
    assert output_columns(after) == output_columns(before), f"{rule} changed the output columns"
    steps.append(Step(rule, after))
    return after
