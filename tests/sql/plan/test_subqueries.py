"""Subqueries: which become values, which joins, which stay."""

from __future__ import annotations

from cratepy.model.expressions import Column, Expression, OuterColumn, SubqueryValue
from cratepy.model.relations import Apply, Join, Limit, Relation, children
from cratepy.model.types import BIGINT, INTEGER
from cratepy.sql.plan.explain import tree_text
from cratepy.sql.plan.optimizer import Optimized, optimize
from cratepy.sql.plan.walk import expressions_of, nodes, operators
from tests.sql.plan.building import (
    Builder,
    aggregate,
    count_all,
    either,
    eq,
    gt,
    limit,
    lit,
    negated,
    where,
)
from tests.sql.plan.test_physical import unfolded


def _apply(b: Builder, kind: str, left: Relation, right: Relation, **more: object) -> tuple[Apply, Column]:
    apply = Apply(kind=kind, left=left, right=right, id=next(b.ids), name=kind, **more)  # type: ignore[arg-type]
    return apply, Column(apply.id, kind, apply.type)


def _outer(column: Column) -> OuterColumn:
    return OuterColumn(column.id, column.name, column.type)


def _optimized(relation: Relation) -> Optimized:
    return optimize(relation, unfolded)


def _kinds(relation: Relation) -> list[str]:
    return [node.kind for node in operators(relation) if isinstance(node, Join | Apply)]


def _slots(relation: Relation) -> set[int]:
    return {
        node.slot
        for operator in operators(relation)
        for expression in expressions_of(operator)
        for node in nodes(expression)
        if isinstance(node, SubqueryValue)
    }


def test_in_asked_for_as_a_value_is_an_array_computed_first() -> None:
    b = Builder()
    apply, column = _apply(b, "any", b.scan("ta", "id", "a"), b.scan("tb", "c"), operand=b["ta.id"], operator="op_=")
    done = _optimized(b.project(where(apply, either(column, gt(b["ta.a"], lit(1)))), b["ta.id"]))
    assert [s.kind for s in done.subqueries] == ["array"]
    assert "(id = ANY((SELECT #0)))" in tree_text(done.relation)


def test_other_comparisons_with_any_are_arrays() -> None:
    b = Builder()
    apply, column = _apply(b, "all", b.scan("ta", "id"), b.scan("tb", "c"), operand=b["ta.id"], operator="op_>")
    done = _optimized(b.project(where(apply, column), b["ta.id"]))
    assert "(id > ALL((SELECT #0)))" in tree_text(done.relation)


def test_not_in_of_rows_that_may_differ_next_time_reads_them_once() -> None:
    """The limit may pick other rows, so asking twice (for NULLs, then for equals) could give a wrong answer."""
    b = Builder()
    right = limit(b.scan("tb", "c"), 5)
    apply, column = _apply(b, "any", b.scan("ta", "id"), right, operand=b["ta.id"], operator="op_=")
    done = _optimized(b.project(where(apply, negated(column)), b["ta.id"]))
    assert done.subqueries == ()
    assert _kinds(done.relation) == ["anti"]
    assert "((id = c) OR ((id IS NULL) OR (c IS NULL)))" in tree_text(done.relation)


def test_not_exists_is_an_anti_join() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id")
    apply, column = _apply(b, "exists", left, where(right, eq(b["tb.ta_id"], _outer(b["ta.id"]))))
    done = _optimized(b.project(where(apply, negated(column)), b["ta.id"]))
    assert _kinds(done.relation) == ["anti"]


def test_correlated_in_joins_on_both_conditions() -> None:
    b = Builder()
    left, right = b.scan("ta", "id", "a"), b.scan("tb", "ta_id", "c")
    inner = b.project(where(right, eq(b["tb.ta_id"], _outer(b["ta.id"]))), b["tb.c"])
    apply, column = _apply(b, "any", left, inner, operand=b["ta.a"], operator="op_=")
    done = _optimized(b.project(where(apply, column), b["ta.id"]))
    assert _kinds(done.relation) == ["semi"]
    assert "HashJoin[SEMI | ((a = c) AND (ta_id = id))]" in tree_text(done.relation)


def test_uncorrelated_exists_needs_one_row_once() -> None:
    b = Builder()
    apply, column = _apply(b, "exists", b.scan("ta", "id"), b.scan("tb", "c"))
    done = _optimized(b.project(where(apply, column), b["ta.id"]))
    (subquery,) = done.subqueries
    assert subquery.kind == "exists"
    assert any(isinstance(node, Limit) for node in operators(subquery.relation))


def test_nested_subqueries_come_before_those_that_use_them() -> None:
    b = Builder()
    inner_top = b.group(b.scan("tc", "e"), [], b.item(aggregate("max", b["tc.e"], INTEGER), "m"))
    inner, inner_column = _apply(b, "scalar", b.scan("tb", "c"), inner_top, type=INTEGER)
    middle = b.group(where(inner, eq(b["tb.c"], inner_column)), [], b.item(count_all(), "n"))
    outer, outer_column = _apply(b, "scalar", b.scan("ta", "id"), middle, type=BIGINT)
    done = _optimized(b.project(outer, b["ta.id"], outer_column))
    assert [s.slot for s in done.subqueries] == [0, 1]
    assert _slots(done.subqueries[0].relation) == set()
    assert _slots(done.subqueries[1].relation) == {0}
    assert _slots(done.relation) == {1}


def test_a_subquery_inside_a_correlated_one_is_still_computed_first() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id", "c")
    top = b.group(b.scan("tc", "e"), [], b.item(aggregate("max", b["tc.e"], INTEGER), "m"))
    inner, inner_column = _apply(b, "scalar", right, top, type=INTEGER)
    filtered = where(inner, eq(b["tb.ta_id"], _outer(b["ta.id"])), gt(b["tb.c"], inner_column))
    apply, column = _apply(b, "exists", left, filtered)
    done = _optimized(b.project(where(apply, column), b["ta.id"]))
    assert len(done.subqueries) == 1
    assert _kinds(done.relation) == ["semi"]


def test_correlated_count_of_nothing_is_zero() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id")
    inner = where(right, eq(b["tb.ta_id"], _outer(b["ta.id"])))
    apply, column = _apply(b, "scalar", left, b.group(inner, [], b.item(count_all(), "n")), type=BIGINT)
    text = tree_text(_optimized(b.project(apply, b["ta.id"], column)).relation)
    assert "HashJoin[LEFT" in text
    assert "coalesce(n, 0::bigint)" in text


def test_a_correlated_subquery_with_a_limit_stays() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id", "c")
    inner = limit(where(right, eq(b["tb.ta_id"], _outer(b["ta.id"]))), 1)
    apply, column = _apply(b, "scalar", left, b.project(inner, b["tb.c"]), type=INTEGER)
    done = _optimized(b.project(apply, b["ta.id"], column))
    assert _kinds(done.relation) == ["scalar"]


def test_an_unread_scalar_subquery_is_kept_for_its_error() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id", "c")
    inner = where(right, gt(b["tb.ta_id"], _outer(b["ta.id"])))
    apply, _ = _apply(b, "scalar", left, b.project(inner, b["tb.c"]), type=INTEGER)
    assert _kinds(_optimized(b.project(apply, b["ta.id"])).relation) == ["scalar"]


def test_a_condition_that_was_joined_still_has_its_value() -> None:
    b = Builder()
    left, right = b.scan("ta", "id"), b.scan("tb", "ta_id")
    apply, column = _apply(b, "any", left, right, operand=b["ta.id"], operator="op_=")
    done = _optimized(b.project(where(apply, column), b["ta.id"], column))
    assert tree_text(done.relation).startswith("Eval[id, true AS any]")


def test_several_conditions_are_several_joins() -> None:
    b = Builder()
    first, one = _apply(b, "any", b.scan("ta", "id", "a"), b.scan("tb", "c"), operand=b["ta.id"], operator="op_=")
    second, two = _apply(b, "any", first, b.scan("tc", "e"), operand=b["ta.a"], operator="op_=")
    predicates: list[Expression] = [one, two, gt(b["ta.a"], lit(1))]
    done = _optimized(b.project(where(second, *predicates), b["ta.id"]))
    assert _kinds(done.relation) == ["semi", "semi"]
    assert children(done.relation)
