"""Each rule's effect as text: the tree before, the rule, the tree after. Rewritten by ``pytest --update-goldens``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cratepy.model.expressions import Aggregate, Branch, Case, Column, Literal, SortKey, Window
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Join,
    Limit,
    ProjectSet,
    Relation,
    SetOperation,
    Sort,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER, TEXT
from cratepy.sql.plan.explain import tree_text
from cratepy.sql.plan.optimizer import RULES, Rule, apply_rules
from cratepy.sql.plan.rules.aggregates import group_distinct_unions, split_distinct_aggregates
from cratepy.sql.plan.rules.columns import merge_projects, prune_columns, remove_redundant_projects
from cratepy.sql.plan.rules.constants import count_rows, simplify_booleans
from cratepy.sql.plan.rules.filters import drop_constant_filters, narrow_outer_joins, push_filters_down
from cratepy.sql.plan.rules.joins import order_joins
from cratepy.sql.plan.rules.limits import push_limits_down, push_sorts_down
from tests.sql.plan.building import (
    Builder,
    aggregate,
    both,
    call,
    count_all,
    either,
    eq,
    gt,
    limit,
    lit,
    negated,
    order,
    parameter,
    where,
)

Case_ = tuple[Rule, Callable[[Builder], Relation]]


def _filters(b: Builder) -> Relation:
    scan = b.scan("ta")
    return where(where(scan, gt(b["ta.a"], lit(1))), eq(b["ta.g"], lit(2)))


def _through_project(b: Builder) -> Relation:
    scan = b.scan("ta")
    twice = b.item(call("op_*", b["ta.a"], lit(2), to=INTEGER), "twice")
    return where(b.project(scan, b["ta.id"], twice), gt(b["twice"], lit(10)), eq(b["ta.id"], lit(1)))


def _volatile_project(b: Builder) -> Relation:
    scan = b.scan("ta")
    chance = b.item(call("random", to=b["ta.x"].type), "chance")
    return where(b.project(scan, b["ta.id"], chance), gt(b["chance"], lit(0.5)), gt(b["ta.id"], lit(1)))


def _through_group(b: Builder) -> Relation:
    scan = b.scan("ta")
    n = b.item(count_all(), "n")
    return where(b.group(scan, [b["ta.g"]], n), eq(b["ta.g"], lit(1)), gt(b["n"], lit(5, BIGINT)))


def _global_group(b: Builder) -> Relation:
    scan = b.scan("ta")
    return where(b.group(scan, [], b.item(count_all(), "n")), eq(parameter(0, INTEGER), lit(1)))


def _through_window(b: Builder) -> Relation:
    scan = b.scan("ta")
    window = Window("row_number", (), INTEGER, (b["ta.g"],), (SortKey(b["ta.a"]),))
    numbered = WindowCalculation(scan, (b.item(window, "r"),))
    return where(numbered, eq(b["ta.g"], lit(1)), eq(b["ta.a"], lit(2)), eq(b["r"], lit(1)))


def _join(kind: str) -> Callable[[Builder], Relation]:
    def build(b: Builder) -> Relation:
        left, right = b.scan("ta"), b.scan("tb")
        on = both(eq(b["ta.id"], b["tb.ta_id"]), gt(b["ta.g"], lit(1)), gt(b["tb.c"], lit(2)), gt(b["ta.a"], b["tb.c"]))
        above = [eq(b["ta.b"], lit("l"))]
        if kind not in ("semi", "anti"):
            above.append(call("op_isnull", b["tb.d"]))
        return where(Join(kind, left, right, on), *above)

    return build


def _join_on_tested_key(kind: str) -> Callable[[Builder], Relation]:
    def build(b: Builder) -> Relation:
        left, right = b.scan("ta"), b.scan("tb")
        return where(b.equal_join(left, right, "ta.id", "tb.ta_id", kind), eq(b["ta.id"], lit(5)))

    return build


def _cross(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb")
    return where(Join("cross", left, right, None), eq(b["ta.id"], b["tb.ta_id"]), eq(b["ta.a"], lit(1)))


def _through_union(b: Builder) -> Relation:
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "id", "c")
    union = SetOperation(kind="union_all", children=(left, right), columns=output_columns(b.scan("ta", "id", "a")))
    return where(union, eq(Column(union.columns[0].id, "id", INTEGER), lit(1)))


def _through_project_set(b: Builder) -> Relation:
    scan = b.scan("ta")
    numbers = b.item(call("generate_series", lit(1), b["ta.a"], to=INTEGER), "i")
    return where(ProjectSet(scan, (numbers,)), eq(b["ta.id"], lit(1)), gt(b["i"], lit(2)))


def _through_apply(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb", "c")
    apply = Apply(kind="scalar", left=left, right=right, id=next(b.ids), name="s", type=INTEGER)
    return where(apply, eq(b["ta.id"], lit(1)), gt(b["ta.a"], Column(apply.id, "s", INTEGER)))


def _outer(kind: str, *, null_proof: bool) -> Callable[[Builder], Relation]:
    def build(b: Builder) -> Relation:
        left, right = b.scan("ta"), b.scan("tb")
        test = gt(b["tb.c"], lit(5)) if null_proof else either(gt(b["tb.c"], lit(5)), call("op_isnull", b["tb.c"]))
        return where(Join(kind, left, right, eq(b["ta.id"], b["tb.ta_id"])), test)

    return build


def _below_inner(b: Builder) -> Relation:
    left, right, other = b.scan("ta"), b.scan("tb"), b.scan("tc")
    lower = b.equal_join(left, right, "ta.id", "tb.ta_id", "left")
    return b.equal_join(lower, other, "tb.id", "tc.tb_id")


def _comma_list(b: Builder) -> Relation:
    a, bb, c = b.scan("ta"), b.scan("tb"), b.scan("tc")
    cross = Join("cross", a, c, None)
    return Join("inner", cross, bb, both(eq(b["ta.id"], b["tb.ta_id"]), eq(b["tc.tb_id"], b["tb.id"])))


def _constant_filters(b: Builder) -> Relation:
    a, bb = b.scan("ta", "id"), b.scan("tb", "id")
    return SetOperation(
        kind="union_all", children=(Filter(a, lit(False)), Filter(bb, lit(True))), columns=output_columns(a)
    )


def _booleans(b: Builder) -> Relation:
    scan = b.scan("ta")
    unknown = Literal(None, BOOLEAN)
    choice = Case((Branch(lit(False), lit(1)), Branch(lit(True), lit(2))), lit(3), INTEGER)
    return where(
        b.project(scan, b["ta.id"], b["ta.a"], b.item(choice, "two")),
        call("op_or", lit(False), call("op_and", lit(True), negated(negated(eq(b["ta.a"], lit(1)))))),
        either(eq(b["ta.id"], Literal(None, INTEGER)), gt(b["ta.id"], lit(1)), unknown),
    )


def _pruned(b: Builder) -> Relation:
    left, right = b.scan("ta"), b.scan("tb")
    joined = b.equal_join(where(left, gt(b["ta.a"], lit(1))), right, "ta.id", "tb.ta_id")
    n = b.item(count_all(), "n")
    unused = b.item(aggregate("sum", b["tb.c"], BIGINT), "unused")
    return b.project(b.group(joined, [b["ta.g"]], n, unused), b["ta.g"], b["n"])


def _pruned_union(b: Builder) -> Relation:
    left, right = b.scan("ta", "id", "a", "b"), b.scan("tb", "id", "c", "d")
    union = SetOperation(kind="union_all", children=(left, right), columns=output_columns(left))
    return b.project(union, b["ta.a"])


def _projects(b: Builder) -> Relation:
    scan = b.scan("ta")
    one = b.item(call("op_+", b["ta.a"], lit(1), to=INTEGER), "one")
    lower = b.project(scan, b["ta.id"], one)
    return b.project(lower, b.item(b["ta.id"], "key"), b.item(call("op_*", b["one"], lit(2), to=INTEGER), "two"))


def _twice_used(b: Builder) -> Relation:
    scan = b.scan("ta")
    one = b.item(call("op_+", b["ta.a"], lit(1), to=INTEGER), "one")
    lower = b.project(scan, one)
    return b.project(lower, b.item(call("op_*", b["one"], b["one"], to=INTEGER), "square"))


def _identity(b: Builder) -> Relation:
    scan = b.scan("ta", "id", "a")
    return where(b.project(scan, b["ta.id"], b["ta.a"]), gt(b["ta.a"], lit(1)))


def _limit_union(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "id")
    renamed = b.project(right, b.item(b["tb.id"], "other"))
    return limit(SetOperation(kind="union_all", children=(left, renamed), columns=output_columns(left)), 5, 2)


def _limit_parameters(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "id")
    union = SetOperation(kind="union_all", children=(left, right), columns=output_columns(left))
    return Limit(union, parameter(0, BIGINT), parameter(1, BIGINT))


def _top_n(b: Builder) -> Relation:
    scan = b.scan("ta")
    dear = b.item(call("upper", b["ta.b"], to=TEXT), "dear")
    return limit(order(b.project(scan, b["ta.id"], dear), b["ta.id"]), 3)


def _top_n_union(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "id")
    return limit(
        order(SetOperation(kind="union_all", children=(left, right), columns=output_columns(left)), b["ta.id"]), 3
    )


def _distinct(b: Builder) -> Relation:
    scan = b.scan("ta")
    distinct = b.item(aggregate("count", b["ta.b"], BIGINT, distinct=True), "n")
    return b.group(scan, [b["ta.g"]], distinct, b.item(aggregate("max", b["ta.b"], TEXT), "top"))


def _estimated_distinct(b: Builder) -> Relation:
    scan = b.scan("ta")
    estimate = Aggregate("hyperloglog_distinct", (b["ta.b"], lit(14)), BIGINT)
    return b.group(scan, [b["ta.g"]], b.item(estimate, "n"))


def _mixed_distinct(b: Builder) -> Relation:
    scan = b.scan("ta")
    distinct = b.item(aggregate("count", b["ta.b"], BIGINT, distinct=True), "n")
    return b.group(scan, [b["ta.g"]], distinct, b.item(aggregate("sum", b["ta.a"], BIGINT), "s"))


def _union(b: Builder) -> Relation:
    left, right = b.scan("ta", "id"), b.scan("tb", "id")
    return SetOperation(kind="union", children=(left, right), columns=output_columns(left))


def _count_one(b: Builder) -> Relation:
    return Aggregation(b.scan("ta", "id"), (), (b.item(aggregate("count", lit(1), BIGINT), "n"),))


def _double_sort(b: Builder) -> Relation:
    scan = b.scan("ta", "id", "a")
    return Sort(order(scan, b["ta.a"]), (SortKey(b["ta.id"], is_descending=True, nulls_first=True),))


CASES: dict[str, Case_] = {
    "merge_filters_into_scan": (push_filters_down, _filters),
    "filter_through_project": (push_filters_down, _through_project),
    "filter_stays_above_volatile": (push_filters_down, _volatile_project),
    "filter_through_group_keys": (push_filters_down, _through_group),
    "filter_stays_above_global_aggregation": (push_filters_down, _global_group),
    "filter_through_window_partition": (push_filters_down, _through_window),
    **{f"filter_through_{kind}_join": (push_filters_down, _join(kind)) for kind in
       ("inner", "left", "right", "full", "semi", "anti")},
    "filter_of_key_holds_for_both_sides": (push_filters_down, _join_on_tested_key("inner")),
    "filter_of_key_holds_for_optional_side": (push_filters_down, _join_on_tested_key("left")),
    "filter_of_key_of_full_join_stays": (push_filters_down, _join_on_tested_key("full")),
    "filter_makes_cross_join_inner": (push_filters_down, _cross),
    "filter_through_union": (push_filters_down, _through_union),
    "filter_through_project_set": (push_filters_down, _through_project_set),
    "filter_through_apply": (push_filters_down, _through_apply),
    "left_join_becomes_inner": (narrow_outer_joins, _outer("left", null_proof=True)),
    "full_join_becomes_right": (narrow_outer_joins, _outer("full", null_proof=True)),
    "left_join_stays_for_null_test": (narrow_outer_joins, _outer("left", null_proof=False)),
    "left_join_below_inner_join": (narrow_outer_joins, _below_inner),
    "comma_list_without_cross_join": (order_joins, _comma_list),
    "constant_filters": (drop_constant_filters, _constant_filters),
    "boolean_constants": (simplify_booleans, _booleans),
    "prune_join_and_aggregation": (prune_columns, _pruned),
    "prune_union": (prune_columns, _pruned_union),
    "merge_projects": (merge_projects, _projects),
    "keep_project_used_twice": (merge_projects, _twice_used),
    "remove_redundant_project": (remove_redundant_projects, _identity),
    "limit_into_union": (push_limits_down, _limit_union),
    "limit_of_parameters_into_union": (push_limits_down, _limit_parameters),
    "sort_below_project": (push_sorts_down, _top_n),
    "sort_into_union": (push_sorts_down, _top_n_union),
    "upper_sort_wins": (push_sorts_down, _double_sort),
    "distinct_aggregates_of_one_argument": (split_distinct_aggregates, _distinct),
    "estimated_distinct_counts_are_exact_ones": (split_distinct_aggregates, _estimated_distinct),
    "distinct_aggregates_of_several_stay": (split_distinct_aggregates, _mixed_distinct),
    "union_as_groups": (group_distinct_unions, _union),
    "count_of_a_constant": (count_rows, _count_one),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rule_changes_the_tree_as_written(name: str, golden: Callable[[str, str], None]) -> None:
    rule, build = CASES[name]
    before = build(Builder())
    after = rule(before)
    golden(f"rule_{name}", f"{tree_text(before)}\n\n-- {rule.__name__}\n\n{tree_text(after)}")


@pytest.mark.parametrize("name", CASES)
def test_no_rule_changes_output_columns(name: str) -> None:
    relation = CASES[name][1](Builder())
    for rule in RULES:
        assert output_columns(rule(relation)) == output_columns(relation), rule.__name__


@pytest.mark.parametrize("name", CASES)
def test_rules_come_to_an_end(name: str) -> None:
    """Applied to their own result the rules change nothing: the fixpoint is not a cycle cut short."""
    steps: list = []
    done = apply_rules(CASES[name][1](Builder()), [])
    assert apply_rules(done, steps) == done
    assert steps == []
