"""Groups made before a join: when, how it looks, and that answers stay the same."""

from __future__ import annotations

import random

import pytest

from cratepy import limits
from cratepy.model.plan import QueryPlan
from cratepy.model.relations import Aggregation, Join, Relation
from cratepy.model.types import BIGINT, DOUBLE
from cratepy.sql.plan.early_grouping import group_early
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.walk import operators
from tests.sql.plan.building import Builder, aggregate, both, call, count_all, eq, gt, state
from tests.sql.plan.random_relations import random_relation
from tests.sql.plan.simulation import Cluster, multiset
from tests.sql.plan.test_physical import planned

STAR = {"uuid-tb": 5_000_000, "uuid-ta": 1_000, "uuid-tc": 100}


def _joined(b: Builder, kind: str = "inner") -> Join:
    return b.equal_join(b.scan("tb"), b.scan("ta"), "tb.ta_id", "ta.id", kind)


def _early(relation: Relation, rows: dict[str, int]) -> Relation:
    return group_early(relation, Estimates(rows), iter(range(1_000, 2_000)).__next__)


def _groups_below_joins(relation: Relation) -> int:
    return sum(
        isinstance(below, Aggregation)
        for node in operators(relation)
        if isinstance(node, Join)
        for below in (node.left, node.right)
    )


def _star(b: Builder) -> Relation:
    """Facts tb, joined to ta by reference and to tc by a second one."""
    joined = b.equal_join(_joined(b), b.scan("tc"), "tb.c", "tc.id")
    items = b.item(count_all(), "n"), b.item(aggregate("sum", b["tb.c"], BIGINT), "s")
    return b.group(joined, [b["ta.b"], b["tc.e"]], *items)


def test_facts_are_grouped_before_every_join_of_a_star() -> None:
    assert _groups_below_joins(_early(_star(Builder()), STAR)) >= 1
    innermost = next(node for node in operators(_early(_star(Builder()), STAR)) if _is_group_of_scan(node))
    assert {key.name for key in innermost.keys} == {"ta_id", "c"}


def _is_group_of_scan(node: Relation) -> bool:
    return isinstance(node, Aggregation) and not any(isinstance(below, Join) for below in operators(node.child))


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"uuid-tb": 5_000_000},
        {**STAR, "uuid-ta": 4_000_000},
        {**STAR, "uuid-tb": limits.EARLY_GROUPING_ROWS_MIN - 1},
    ],
    ids=["nothing known", "other side unknown", "too many groups", "few rows"],
)
def test_nothing_changes_unless_groups_are_surely_few(rows: dict[str, int]) -> None:
    b = Builder()
    relation = b.group(_joined(b), [b["ta.b"]], b.item(count_all(), "n"))
    assert _early(relation, rows) == relation


def test_a_key_of_the_facts_that_refers_to_nothing_keeps_the_rows_as_they_are() -> None:
    b = Builder()
    relation = b.group(_joined(b), [b["tb.d"]], b.item(count_all(), "n"))
    assert _early(relation, STAR) == relation


@pytest.mark.parametrize("what", ["other side", "computed", "distinct"])
def test_aggregates_that_need_the_joined_rows_are_left_alone(what: str) -> None:
    b = Builder()
    joined = _joined(b)
    made = {
        "other side": aggregate("sum", b["ta.a"], BIGINT),
        # Would divide by zero for a row that the join drops.
        "computed": aggregate("sum", call("op_/", b["tb.c"], b["tb.id"], to=b["tb.c"].type), BIGINT),
        "distinct": aggregate("count", b["tb.c"], BIGINT, distinct=True),
    }[what]
    relation = b.group(joined, [b["ta.b"]], b.item(made, "s"))
    assert _early(relation, STAR) == relation


@pytest.mark.parametrize("kind", ["inner", "left", "right", "full", "semi", "anti"])
@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize("has_keys", [False, True])
def test_answers_are_the_same_for_every_kind_of_join(kind: str, is_swapped: bool, has_keys: bool) -> None:
    b = Builder()
    facts, names = b.scan("tb"), b.scan("ta")
    on = (
        both(eq(b["tb.ta_id"], b["ta.id"]), gt(b["ta.a"], b["tb.c"]))
        if kind != "full"
        else eq(b["tb.ta_id"], b["ta.id"])
    )
    joined = Join(kind, names, facts, on) if is_swapped else Join(kind, facts, names, on)
    is_one_sided = kind in ("semi", "anti")
    if is_one_sided and is_swapped:
        items = (b.item(count_all(), "n"),)
    else:
        items = tuple(
            b.item(made, name)
            for name, made in {
                "n": count_all(),
                "m": aggregate("count", b["tb.c"], BIGINT),
                "s": aggregate("sum", b["tb.c"], BIGINT),
                "a": aggregate("avg", b["tb.c"], DOUBLE),
                "l": aggregate("min", b["tb.d"], b["tb.d"].type),
                "h": aggregate("max", b["tb.c"], b["tb.c"].type),
            }.items()
        )
    key = b["ta.b"] if is_swapped or not is_one_sided else b["tb.ta_id"]
    _check(b.group(joined, [key] if has_keys else [], *items), STAR)


def test_a_star_is_answered_the_same() -> None:
    _check(_star(Builder()), STAR)


@pytest.mark.parametrize("seed", range(12))
def test_random_relations_are_answered_the_same_when_all_that_can_be_is_grouped_early(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds were run once."""
    monkeypatch.setattr(limits, "EARLY_GROUPING_ROWS_MIN", 0)
    monkeypatch.setattr(limits, "EARLY_GROUPING_FACTOR", -1)
    _check(random_relation(random.Random(seed)), STAR)


def _check(relation: Relation, rows: dict[str, int]) -> None:
    wanted = multiset(Cluster(6).answer(relation))
    for nodes in (1, 3):
        plan = planned(relation, state(nodes, 6), rows).plan
        if isinstance(plan, QueryPlan):
            assert multiset(Cluster(6).execute(plan)) == wanted
