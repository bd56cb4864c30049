"""Taking apart and putting together."""

from __future__ import annotations

import sys

from cratepy.model.expressions import TRUE, Expression, InList, OuterColumn
from cratepy.model.plan import GetPlan
from cratepy.model.relations import Apply
from cratepy.model.types import INTEGER
from cratepy.sql.plan.walk import (
    columns_of,
    conjunction,
    conjuncts,
    disjuncts,
    outer_references,
    substitute,
    transform,
    with_short_chains,
)
from tests.sql.plan.building import Builder, both, call, either, eq, gt, lit, where
from tests.sql.plan.test_physical import planned, state


def test_conjuncts_and_conjunction_are_inverse() -> None:
    b = Builder()
    b.scan("ta")
    parts = [eq(b["ta.a"], lit(i)) for i in range(3)]
    assert conjuncts(both(*parts)) == parts
    assert conjuncts(None) == conjuncts(TRUE) == []
    assert conjunction([]) is None
    assert conjunction([parts[0], parts[0]]) == parts[0]


def test_what_does_not_change_stays_the_same_object() -> None:
    b = Builder()
    b.scan("ta")
    predicate = both(eq(b["ta.a"], lit(1)), gt(b["ta.g"], lit(2)))
    assert transform(predicate, lambda node: node) is predicate
    assert substitute(predicate, {-1: lit(1)}) is predicate


def test_a_list_of_literals_is_kept_when_its_operand_changes() -> None:
    b = Builder()
    b.scan("ta")
    literals, mixed = (lit(1), lit(2)), (lit(1), b["ta.g"])
    assert substitute(InList(b["ta.a"], literals), {b["ta.a"].id: b["ta.g"]}) == InList(b["ta.g"], literals)
    assert substitute(InList(b["ta.a"], mixed), {b["ta.g"].id: lit(3)}) == InList(b["ta.a"], (lit(1), lit(3)))
    assert substitute(InList(b["ta.a"], ()), {b["ta.a"].id: lit(3)}) == InList(lit(3), ())
    assert columns_of(InList(b["ta.a"], mixed)) == {b["ta.a"].id, b["ta.g"].id}


def test_an_inner_apply_provides_its_own_outer_columns() -> None:
    b = Builder()
    left, right = b.scan("ta"), b.scan("tb")
    inner = where(right, eq(b["tb.id"], OuterColumn(b["ta.id"].id, "id", INTEGER)))
    assert outer_references(inner) == {b["ta.id"].id}
    assert outer_references(Apply(kind="exists", left=left, right=inner, id=99, name="e")) == frozenset()


def test_chains_as_long_as_clients_write_them_need_no_deep_stack() -> None:
    b = Builder()
    scan = b.scan("ta")
    count = sys.getrecursionlimit() * 3
    keys: Expression = either(*(eq(b["ta.id"], lit(i)) for i in range(count)))
    assert len(disjuncts(with_short_chains(keys))) == count
    plan = planned(b.project(where(scan, keys), b["ta.b"]), state(3)).plan
    assert isinstance(plan, GetPlan)
    assert len(plan.keys) == count
    tests = both(*(call("op_<>", b["ta.a"], lit(i)) for i in range(300)))
    planned(where(scan, tests), state(3))
