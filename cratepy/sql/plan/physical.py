"""The physical planner: an optimized relation cut into phases on nodes.

In: a relation, the cluster state's routing, the handler, row estimates. Out: a :class:`QueryPlan`. Rows are moved only where
an operator needs rows of other nodes together:

* scans run on the nodes that hold the shards, system tables on the handler or on every node;
* filters, projections and set-returning functions stay where their rows are;
* aggregations and joins: see ``aggregating``, ``early_grouping`` and ``joining``;
* ``ORDER BY … LIMIT n`` and ``LIMIT n`` are done on every node and again on the handler; a sort without a limit is done
  on the handler;
* windows are computed where their partitions are together;
* UNION ALL stays on the nodes of its branches if they are plain reads, other set operations, recursive queries and the
  subqueries that are still Apply run on the handler over what its independent parts give.

If all rows are on one node nothing is cut there; on the handler this makes a plan of a single phase.
After CrateDB's ``ExecutionPlan`` building (``Merge.ensureOnHandler``, ``GroupHashAggregate``, ``HashJoin``).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import assert_never

import msgspec

from cratepy.model.expressions import Column, Window
from cratepy.model.plan import QueryPlan, SubPlan
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.model.state import ClusterState
from cratepy.sql.plan.aggregating import distribute_aggregation
from cratepy.sql.plan.early_grouping import group_early
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.exchanges import narrow_exchanges
from cratepy.sql.plan.fragments import Fragment, Workshop, grown, is_partitionable, merged_shards
from cratepy.sql.plan.joining import distribute_join
from cratepy.sql.plan.optimizer import Optimized
from cratepy.sql.plan.placement import shard_sources, system_nodes
from cratepy.sql.plan.rules.limits import rows_wanted
from cratepy.sql.plan.subqueries import is_self_contained
from cratepy.sql.plan.volatility import is_volatile
from cratepy.sql.plan.walk import all_ids, expressions_of, with_children, with_output


def plan_query(
    optimized: Optimized,
    *,
    columns: tuple[OutputColumn, ...],
    tables: tuple[str, ...],
    state: ClusterState,
    handler_id: str,
    estimates: Estimates,
) -> QueryPlan:
    """The phases of a query and of the subqueries before it. Raises ShardUnavailable."""

    def phases_of(relation: Relation, wanted: tuple[OutputColumn, ...]) -> QueryPlan:
        new_id = count(max(all_ids(relation), default=0) + 1).__next__
        shop = Workshop(state=state, handler_id=handler_id, estimates=estimates, new_id=new_id)
        last = shop.at_handler(distribute(group_early(relation, estimates, new_id), shop))
        shop.close(replace(last, relation=with_output(last.relation, wanted)), None)
        return QueryPlan(phases=narrow_exchanges(tuple(shop.phases)), columns=wanted)

    subplans = tuple(
        SubPlan(slot=s.slot, kind=s.kind, plan=phases_of(s.relation, output_columns(s.relation)))
        for s in optimized.subqueries
    )
    return msgspec.structs.replace(phases_of(optimized.relation, columns), subplans=subplans, tables=tables)


def distribute(relation: Relation, shop: Workshop) -> Fragment:
    """The relation as a fragment, with the phases it reads closed."""
    match relation:
        case Scan():
            sources = shard_sources(shop.state, relation.table_uuid, relation.table)
            nodes = tuple(source.node_id for source in sources)
            return Fragment(relation=relation, nodes=nodes, shards=sources, is_row_local=True)
        case SystemScan():
            nodes = system_nodes(shop.state, relation.table, shop.handler_id)
            return Fragment(relation=relation, nodes=nodes, is_row_local=True)
        case Values() | TableFunction():
            return _pinned(Fragment(relation=relation, nodes=()), relation, shop)
        case Filter() | Project() | ProjectSet():
            child = _pinned(distribute(relation.child, shop), relation, shop)
            return grown(child, with_children(relation, [child.relation]))
        case Aggregation():
            return distribute_aggregation(relation, distribute(relation.child, shop), shop)
        case WindowCalculation():
            return _distribute_window(relation, shop)
        case Join():
            left, right = distribute(relation.left, shop), distribute(relation.right, shop)
            return distribute_join(relation, left, right, shop)
        case Sort():
            return _on_top(relation, shop.together(distribute(relation.child, shop)))
        case Limit():
            return _distribute_limit(relation, shop)
        case SetOperation():
            return _distribute_set_operation(relation, shop)
        case Apply() | RecursiveQuery():
            return _on_handler(relation, shop)
        case RecursiveReference() | ExchangeInput():
            raise AssertionError(f"{type(relation).__name__} cannot be placed by itself")
        case _:
            assert_never(relation)


def _pinned(fragment: Fragment, operator: Relation, shop: Workshop) -> Fragment:
    """A fragment that could run anywhere, on the handler if two runs of the operator may differ."""
    if fragment.is_anywhere and any(is_volatile(expression) for expression in expressions_of(operator)):
        return shop.at_handler(fragment)
    return fragment


def _on_top(relation: Relation, child: Fragment) -> Fragment:
    """An operator over rows that are together."""
    assert child.is_together
    return replace(grown(child, with_children(relation, [child.relation])), is_row_local=False)


def _distribute_limit(limit: Limit, shop: Workshop) -> Fragment:
    sort = limit.child if isinstance(limit.child, Sort) else None
    child = distribute(limit.child if sort is None else sort.child, shop)

    def limited(below: Relation, wanted: Limit) -> Relation:
        ordered = below if sort is None else Sort(below, sort.keys)
        return msgspec.structs.replace(wanted, child=ordered)

    wanted = rows_wanted(limit)
    if not child.is_together:
        if wanted is not None:
            # What is not among the first rows of a node is not among the first of all.
            child = grown(child, limited(child.relation, Limit(child.relation, wanted)))
        child = shop.at_handler(child)
    return replace(grown(child, limited(child.relation, limit)), is_row_local=False)


def _distribute_window(window: WindowCalculation, shop: Workshop) -> Fragment:
    child = distribute(window.child, shop)
    if child.is_together:
        return _on_top(window, child)
    shared: set[int] | None = None
    for item in window.items:
        assert isinstance(item.expression, Window)
        keys = {
            key.id for key in item.expression.partition_by if isinstance(key, Column) and is_partitionable(key.type)
        }
        shared = keys if shared is None else shared & keys
    if not shared:
        return _on_top(window, shop.at_handler(child))
    if child.partitioning is None or not all(columns & shared for columns in child.partitioning):
        child = shop.partitioned(child, sorted(shared), child.nodes)
    return grown(child, with_children(window, [child.relation]))


def _distribute_set_operation(operation: SetOperation, shop: Workshop) -> Fragment:
    branches = [distribute(child, shop) for child in operation.children]
    fixed = [branch for branch in branches if not branch.is_anywhere]
    is_plain = operation.kind == "union_all" and all(branch.is_row_local for branch in branches)
    if not is_plain and len({branch.nodes for branch in fixed}) <= 1 and all(b.is_together for b in fixed):
        nodes = fixed[0].nodes if fixed else ()
    elif is_plain:
        # A node without shards of a table reads no rows of it.
        nodes = tuple(sorted({node for branch in branches for node in branch.nodes}))
    else:
        branches = [shop.at_handler(branch) for branch in branches]
        nodes = (shop.handler_id,)
    return Fragment(
        relation=with_children(operation, [branch.relation for branch in branches]),
        nodes=nodes,
        shards=merged_shards(branches),
        is_row_local=is_plain,
    )


def _on_handler(relation: Relation, shop: Workshop) -> Fragment:
    """The operator on the handler: every part that can run by itself does, where its rows are, and is gathered."""
    parts: list[Fragment] = []

    def gathered(part: Relation) -> Relation:
        if not is_self_contained(part) or part is relation:
            return with_children(part, [gathered(child) for child in children(part)])
        parts.append(shop.at_handler(distribute(part, shop)))
        return parts[-1].relation

    rebuilt = gathered(relation)
    return Fragment(relation=rebuilt, nodes=(shop.handler_id,), shards=merged_shards(parts))
