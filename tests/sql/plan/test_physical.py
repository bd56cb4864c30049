"""Physical plans as text, on one node and on three; and the shards that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from cratepy.errors import ShardUnavailable
from cratepy.model.expressions import Call, Column, Expression, OuterColumn, SortKey, Window
from cratepy.model.names import RelationName
from cratepy.model.plan import QueryPlan
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Join,
    OutputColumn,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    ScanColumn,
    SetOperation,
    SystemScan,
    TableFunction,
    WindowCalculation,
    output_columns,
)
from cratepy.model.state import ClusterState
from cratepy.model.types import BIGINT, DOUBLE, INTEGER, TEXT, array_of
from cratepy.sql.analyze.statements import AnalyzedQuery
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.explain import logical_text, phases_text
from cratepy.sql.plan.planner import PlannedQuery, Surroundings, plan_readable
from cratepy.sql.plan.walk import operators
from tests.sql.plan.building import (
    Builder,
    aggregate,
    call,
    count_all,
    eq,
    gt,
    limit,
    lit,
    negated,
    order,
    state,
    where,
)


def unfolded(expressions: Sequence[Expression]) -> list[Expression]:
    """A fold that knows no functions."""
    return list(expressions)


def planned(relation: Relation, cluster: ClusterState, rows: Mapping[str, int] | None = None) -> PlannedQuery:
    around = Surroundings(state=cluster, handler_id="n1", fold=unfolded, estimates=Estimates(rows or {}))
    return plan_readable(AnalyzedQuery(relation=relation, columns=output_columns(relation)), around)


def shown(relation: Relation, cluster: ClusterState, rows: Mapping[str, int] | None = None) -> str:
    query = planned(relation, cluster, rows)
    text = logical_text(query.plan, query.optimized)
    return f"{text}\n{phases_text(query.plan, cluster)}" if isinstance(query.plan, QueryPlan) else text


def _scan(b: Builder) -> Relation:
    return where(b.scan("ta"), gt(b["ta.a"], lit(1)))


def _projected(b: Builder) -> Relation:
    scan = b.scan("ta")
    return b.project(where(scan, gt(b["ta.a"], lit(1))), b["ta.id"])


def _group(b: Builder) -> Relation:
    scan = b.scan("ta")
    items = b.item(count_all(), "n"), b.item(aggregate("avg", b["ta.x"], DOUBLE), "m")
    return b.group(scan, [b["ta.g"]], *items)


def _top_groups(b: Builder) -> Relation:
    grouped = _group(b)
    return limit(order(grouped, b["n"]), 3)


def _global(b: Builder) -> Relation:
    scan = b.scan("ta")
    return b.group(scan, [], b.item(aggregate("sum", b["ta.a"], BIGINT), "s"))


def _unsplittable(b: Builder) -> Relation:
    scan = b.scan("ta")
    return b.group(scan, [b["ta.g"]], b.item(aggregate("array_agg", b["ta.b"], array_of(TEXT)), "all"))


def _unsplittable_computed_key(b: Builder) -> Relation:
    scan = b.scan("ta")
    key = b.item(call("op_%", b["ta.g"], lit(2), to=INTEGER), "even")
    return Aggregation(scan, (key,), (b.item(aggregate("array_agg", b["ta.b"], array_of(TEXT)), "all"),))


def _distinct(b: Builder) -> Relation:
    scan = b.scan("ta")
    return b.group(scan, [b["ta.g"]], b.item(aggregate("count", b["ta.b"], BIGINT, distinct=True), "n"))


def _equi_join(kind: str) -> Callable[[Builder], Relation]:
    def build(b: Builder) -> Relation:
        left, right = b.scan("ta"), b.scan("tb")
        joined = b.equal_join(left, right, "ta.id", "tb.ta_id", kind)
        return b.project(joined, b["ta.id"]) if kind in ("semi", "anti") else b.project(joined, b["ta.id"], b["tb.d"])

    return build


def _join_then_group(b: Builder) -> Relation:
    joined = b.equal_join(b.scan("ta"), b.scan("tb"), "ta.id", "tb.ta_id")
    return b.group(joined, [b["ta.id"]], b.item(count_all(), "n"))


def _three_joined(b: Builder) -> Relation:
    lower = b.equal_join(b.scan("ta"), b.scan("tb"), "ta.id", "tb.ta_id")
    return b.project(b.equal_join(lower, b.scan("tc"), "tb.id", "tc.tb_id"), b["ta.id"], b["tc.e"])


def _computed_keys(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb")
    on = eq(call("op_+", b["ta.id"], lit(1), to=INTEGER), b["tb.ta_id"])
    return b.project(Join("inner", left, right, on), b["ta.b"], b["tb.d"])


def _non_equi(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb")
    return b.project(Join("left", left, right, gt(b["ta.id"], b["tb.ta_id"])), b["ta.id"], b["tb.d"])


def _non_equi_full(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb")
    return b.project(Join("full", left, right, gt(b["ta.id"], b["tb.ta_id"])), b["ta.id"], b["tb.d"])


def _sorted(b: Builder) -> Relation:
    return order(b.scan("ta", "id", "a"), b["ta.a"])


def _top_n(b: Builder) -> Relation:
    return limit(_sorted(b), 5, 10)


def _limited(b: Builder) -> Relation:
    return limit(b.scan("ta", "id"), 5)


def _window(b: Builder) -> Relation:
    scan = b.scan("ta", "id", "g", "a")
    window = Window("row_number", (), INTEGER, (b["ta.g"],), (SortKey(b["ta.a"]),))
    return WindowCalculation(scan, (b.item(window, "r"),))


def _global_window(b: Builder) -> Relation:
    scan = b.scan("ta", "id", "a")
    return WindowCalculation(scan, (b.item(Window("row_number", (), INTEGER, (), (SortKey(b["ta.a"]),)), "r"),))


def _union_group(b: Builder) -> Relation:
    left, right = b.scan("ta", "g"), b.scan("tb", "c")
    union = SetOperation(kind="union_all", children=(left, right), columns=output_columns(left))
    return b.group(union, [b["ta.g"]], b.item(count_all(), "n"))


def _except(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "id")
    return SetOperation(kind="except", children=(left, right), columns=output_columns(left))


def _in_subquery(b: Builder, *, is_negated: bool = False) -> Relation:
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "ta_id")
    apply = Apply(kind="any", left=left, right=right, id=next(b.ids), name="in", operand=b["ta.id"], operator="op_=")
    value: Expression = Column(apply.id, "in", apply.type)
    return b.project(where(apply, negated(value) if is_negated else value), b["ta.id"])


def _not_in_subquery(b: Builder) -> Relation:
    return _in_subquery(b, is_negated=True)


def _exists(b: Builder) -> Relation:
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "ta_id", "c")
    inner = where(right, eq(b["tb.ta_id"], OuterColumn(b["ta.id"].id, "id", INTEGER)), gt(b["tb.c"], lit(3)))
    apply = Apply(kind="exists", left=left, right=inner, id=next(b.ids), name="exists")
    return b.project(where(apply, Column(apply.id, "exists", apply.type)), b["ta.id"])


def _scalar_correlated(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id", "c")
    inner = where(right, eq(b["tb.ta_id"], OuterColumn(b["ta.id"].id, "id", INTEGER)))
    total = b.group(inner, [], b.item(count_all(), "n"))
    apply = Apply(kind="scalar", left=left, right=total, id=next(b.ids), name="total", type=BIGINT)
    return b.project(apply, b["ta.id"], Column(apply.id, "total", BIGINT))


def _scalar_first(b: Builder) -> Relation:
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "c")
    top = b.group(right, [], b.item(aggregate("max", b["tb.c"], INTEGER), "top"))
    apply = Apply(kind="scalar", left=left, right=top, id=next(b.ids), name="top", type=INTEGER)
    return b.project(where(apply, eq(b["ta.a"], Column(apply.id, "top", INTEGER))), b["ta.id"])


def _leftover(b: Builder) -> Relation:
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "ta_id", "c")
    inner = where(right, gt(b["tb.ta_id"], OuterColumn(b["ta.id"].id, "id", INTEGER)))
    apply = Apply(kind="array", left=where(left, gt(b["ta.a"], lit(1))), right=b.project(inner, b["tb.c"]),
                  id=next(b.ids), name="all", type=array_of(INTEGER))  # fmt: skip
    return b.project(apply, b["ta.id"], Column(apply.id, "all", array_of(INTEGER)))


def _recursive(b: Builder) -> Relation:
    base = b.scan("ta", "id")
    columns = (OutputColumn(next(b.ids), "id", INTEGER),)
    reference = RecursiveReference("r", (OutputColumn(next(b.ids), "id", INTEGER),))
    step = Join("inner", reference, b.scan("tb", "id", "ta_id"),
                eq(Column(reference.columns[0].id, "id", INTEGER), b["tb.ta_id"]))  # fmt: skip
    return RecursiveQuery(name="r", base=base, step=b.project(step, b["tb.id"]), columns=columns, is_distinct=True)


def _system(name: str) -> Callable[[Builder], Relation]:
    def build(b: Builder) -> Relation:
        column = ScanColumn(next(b.ids), "id", TEXT, "id")
        return SystemScan(table=RelationName("sys", name), columns=(column,))

    return build


def _function_join(b: Builder) -> Relation:
    numbers = OutputColumn(next(b.ids), "i", INTEGER)
    function = TableFunction(function="generate_series", arguments=(lit(1), lit(3)), columns=(numbers,))
    scan = b.scan("ta", "id", "a")
    return Join("inner", scan, function, eq(b["ta.a"], Column(numbers.id, "i", INTEGER)))


CASES: dict[str, Callable[[Builder], Relation]] = {
    "scan": _scan,
    "projected_scan": _projected,
    "group": _group,
    "top_groups": _top_groups,
    "global_aggregation": _global,
    "unsplittable_aggregate": _unsplittable,
    "unsplittable_aggregate_computed_key": _unsplittable_computed_key,
    "distinct_aggregate": _distinct,
    **{f"{kind}_join": _equi_join(kind) for kind in ("inner", "left", "right", "full", "semi", "anti")},
    "join_then_group": _join_then_group,
    "three_joined": _three_joined,
    "join_on_computed_key": _computed_keys,
    "non_equi_left_join": _non_equi,
    "non_equi_full_join": _non_equi_full,
    "sort": _sorted,
    "top_n": _top_n,
    "limit": _limited,
    "window": _window,
    "global_window": _global_window,
    "union_then_group": _union_group,
    "except": _except,
    "in_subquery": _in_subquery,
    "not_in_subquery": _not_in_subquery,
    "exists": _exists,
    "correlated_aggregate": _scalar_correlated,
    "scalar_subquery_first": _scalar_first,
    "leftover_apply": _leftover,
    "recursive": _recursive,
    "system_table_of_every_node": _system("nodes"),
    "system_table_of_the_cluster": _system("cluster"),
    "join_with_table_function": _function_join,
}


@pytest.mark.parametrize("name", CASES)
def test_plan_on_three_nodes(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"physical_{name}", shown(CASES[name](Builder()), state(3)))


@pytest.mark.parametrize("name", CASES)
def test_one_node_needs_no_exchange(name: str) -> None:
    plan = planned(CASES[name](Builder()), state(1)).plan
    if isinstance(plan, QueryPlan):
        for query in (plan, *(subplan.plan for subplan in plan.subplans)):
            assert [phase.nodes for phase in query.phases] == [("n1",)]


@pytest.mark.parametrize("name", CASES)
def test_phases_fit_together(name: str) -> None:
    """Every phase but the last is read by exactly one later phase, which expects the columns that are sent."""
    plan = planned(CASES[name](Builder()), state(3)).plan
    if not isinstance(plan, QueryPlan):
        return
    for query in (plan, *(subplan.plan for subplan in plan.subplans)):
        read: dict[int, int] = {}
        for phase in query.phases:
            assert phase.id == query.phases.index(phase)
            for node in operators(phase.relation):
                if isinstance(node, ExchangeInput):
                    assert node.phase < phase.id
                    assert node.phase not in read
                    read[node.phase] = phase.id
                    assert output_columns(query.phases[node.phase].relation) == node.columns
        for phase in query.phases[:-1]:
            assert phase.output is not None
            assert phase.output.phase == read[phase.id]
        assert query.phases[-1].output is None
        assert query.phases[-1].nodes == ("n1",)
        assert output_columns(query.phases[-1].relation) == query.columns


def test_all_shards_on_another_node_are_read_there(golden: Callable[[str, str], None]) -> None:
    golden("physical_all_on_another_node", shown(_top_groups(Builder()), state(3, only_on="n2")))


def test_small_side_is_broadcast(golden: Callable[[str, str], None]) -> None:
    rows = {"uuid-ta": 1_000, "uuid-tb": 3_000_000}
    golden("physical_broadcast_join", shown(_equi_join("inner")(Builder()), state(3), rows))


def test_small_left_side_of_left_join_is_not_broadcast() -> None:
    """Every node would give its unmatched rows."""
    rows = {"uuid-ta": 1_000, "uuid-tb": 3_000_000}
    plan = planned(_equi_join("left")(Builder()), state(3), rows).plan
    assert isinstance(plan, QueryPlan)
    assert "broadcast" not in phases_text(plan, state(3))


def test_groups_are_partitioned_only_if_there_may_be_many(golden: Callable[[str, str], None]) -> None:
    assert "hash by" not in shown(_group(Builder()), state(3), {"uuid-ta": 100})
    assert "hash by" not in shown(_group(Builder()), state(3))
    golden("physical_many_groups", shown(_top_groups(Builder()), state(3), {"uuid-ta": 100_000_000}))


def _with_shard_2(**changes: Any) -> ClusterState:
    cluster = state(3)
    table = cluster.tables["uuid-ta"]
    routing = list(table.routing)
    copy = msgspec.structs.replace(routing[2].copies[0], **changes)
    routing[2] = msgspec.structs.replace(routing[2], copies=(copy,))
    table = msgspec.structs.replace(table, routing=tuple(routing))
    return msgspec.structs.replace(cluster, tables={**cluster.tables, "uuid-ta": table})


def test_shard_without_a_primary_is_an_error_that_names_it() -> None:
    with pytest.raises(ShardUnavailable, match=r"Shard 2 of table \[doc.ta\]"):
        planned(_scan(Builder()), _with_shard_2(state="unassigned", node_id=None))


def test_a_shard_that_its_node_is_opening_is_read_there() -> None:
    as_usual = planned(_scan(Builder()), state(3)).plan
    assert planned(_scan(Builder()), _with_shard_2(state="initializing")).plan == as_usual


def test_primary_on_a_node_that_left_is_not_available() -> None:
    cluster = state(3)
    nodes = {name: node for name, node in cluster.nodes.items() if name != "n3"}
    with pytest.raises(ShardUnavailable):
        planned(_scan(Builder()), msgspec.structs.replace(cluster, nodes=nodes))


def test_other_tables_shards_do_not_matter() -> None:
    cluster = state(3)
    table = msgspec.structs.replace(
        cluster.tables["uuid-tb"],
        routing=tuple(msgspec.structs.replace(r, copies=()) for r in cluster.tables["uuid-tb"].routing),
    )
    planned(_scan(Builder()), msgspec.structs.replace(cluster, tables={**cluster.tables, "uuid-tb": table}))


def test_float_keys_are_not_partitioned_by() -> None:
    """0.0 and -0.0 are equal and have different bits."""
    b = Builder()
    left, right = b.scan("ta"), b.scan("ta", alias="t2")
    joined = Join("inner", left, right, Call("op_=", (b["ta.x"], b["t2.x"]), eq(lit(1), lit(1)).type))
    assert "hash by" not in shown(joined, state(3))
