"""Which queries become a count or a get by key."""

from __future__ import annotations

import msgspec
import pytest

from cratepy import limits
from cratepy.errors import ShardUnavailable
from cratepy.model.expressions import Cast, Column, Expression, InList, Literal
from cratepy.model.plan import CountPlan, GetPlan, QueryPlan, get_output
from cratepy.model.relations import Relation, Scan, ScanColumn
from cratepy.model.types import BIGINT, INTEGER, TEXT, array_of
from cratepy.sql.plan.text import expression_text
from tests.sql.plan.building import (
    Builder,
    both,
    call,
    count_all,
    either,
    eq,
    gt,
    limit,
    lit,
    order,
    parameter,
    state,
    where,
)
from tests.sql.plan.test_physical import planned


class Table(Builder):
    """A builder that has scanned a table."""

    def __init__(self, name: str = "ta") -> None:
        super().__init__()
        self.last = self.scan(name)


def _plan(relation: Relation) -> object:
    return planned(relation, state(3)).plan


def _get(b: Table, *predicates: Expression) -> GetPlan:
    plan = _plan(b.project(where(b.last, *predicates), b["ta.id"], b["ta.b"]))
    assert isinstance(plan, GetPlan)
    return plan


def _keys(plan: object) -> list[list[str]]:
    assert isinstance(plan, GetPlan)
    return [[expression_text(value) for value in key] for key in plan.keys]


def test_equality_with_a_parameter_is_a_get_of_plain_columns() -> None:
    b = Table()
    plan = _get(b, eq(b["ta.id"], parameter(0, INTEGER)))
    assert _keys(plan) == [["$1"]]
    assert plan.sources == ("c1", "c4")
    assert [column.name for column in plan.columns] == ["id", "b"]
    assert plan.residual is None
    assert plan.projection == ()


def test_the_value_may_stand_on_the_left() -> None:
    b = Table()
    assert _keys(_get(b, eq(lit(3), b["ta.id"]))) == [["3"]]


def test_in_or_and_any_give_several_keys_each_once() -> None:
    b = Table()
    assert _keys(_get(b, InList(b["ta.id"], (lit(1), lit(2), lit(1))))) == [["1"], ["2"]]
    assert _keys(_get(b, either(eq(b["ta.id"], lit(1)), eq(b["ta.id"], lit(2))))) == [["1"], ["2"]]
    values = Literal([4, 5], array_of(INTEGER))
    assert _keys(_get(b, call("op_any_=", b["ta.id"], values))) == [["4"], ["5"]]


def test_a_null_key_finds_nothing() -> None:
    b = Table()
    assert _keys(_get(b, InList(b["ta.id"], (lit(1), Literal(None, INTEGER))))) == [["1"]]


def test_all_key_columns_are_needed() -> None:
    b = Table("tp")
    both_pinned = where(b.last, eq(b["tp.p"], lit(2)), eq(b["tp.id"], lit(1)))
    assert _keys(_plan(b.project(both_pinned, b["tp.v"]))) == [["1", "2"]]
    assert isinstance(_plan(b.project(where(b.last, eq(b["tp.id"], lit(1))), b["tp.v"])), QueryPlan)


def test_lists_of_key_columns_are_combined() -> None:
    b = Table("tp")
    filtered = where(b.last, InList(b["tp.id"], (lit(1), lit(2))), InList(b["tp.p"], (lit(3), lit(4))))
    assert _keys(_plan(b.project(filtered, b["tp.v"]))) == [["1", "3"], ["1", "4"], ["2", "3"], ["2", "4"]]


def test_pairs_joined_by_or_stay_pairs() -> None:
    b = Table("tp")
    pairs = either(
        both(eq(b["tp.id"], lit(1)), eq(b["tp.p"], lit(2))), both(eq(b["tp.id"], lit(3)), eq(b["tp.p"], lit(4)))
    )
    assert _keys(_plan(b.project(where(b.last, pairs), b["tp.v"]))) == [["1", "2"], ["3", "4"]]


def test_the_rest_of_the_filter_is_the_residual() -> None:
    b = Table()
    plan = _get(b, eq(b["ta.id"], lit(1)), gt(b["ta.a"], lit(5)))
    assert plan.residual == gt(b["ta.a"], lit(5))
    assert [column.name for column in plan.columns] == ["id", "a", "b"]
    assert [column.name for column in get_output(plan)] == ["id", "b"]


def test_two_demands_on_one_key_are_tested_on_the_row() -> None:
    b = Table()
    plan = _get(b, eq(b["ta.id"], parameter(0, INTEGER)), eq(b["ta.id"], parameter(1, INTEGER)))
    assert _keys(plan) == [["$1"]]
    assert plan.residual is not None
    assert "$2" in expression_text(plan.residual)


def test_a_branch_without_key_makes_it_a_query() -> None:
    b = Table()
    filtered = where(b.last, either(eq(b["ta.id"], lit(1)), gt(b["ta.a"], lit(5))))
    assert isinstance(_plan(b.project(filtered, b["ta.id"])), QueryPlan)


def test_computed_columns_are_the_projection() -> None:
    b = Table()
    twice = b.item(call("op_*", b["ta.a"], lit(2), to=INTEGER), "twice")
    plan = _plan(b.project(where(b.last, eq(b["ta.id"], lit(1))), twice))
    assert isinstance(plan, GetPlan)
    assert [column.name for column in plan.columns] == ["a"]
    assert [column.name for column in get_output(plan)] == ["twice"]


def test_the_same_column_twice_has_two_ids() -> None:
    b = Table()
    plan = _plan(b.project(where(b.last, eq(b["ta.id"], lit(1))), b["ta.b"], b["ta.b"]))
    assert isinstance(plan, GetPlan)
    assert plan.sources == ("c4", "c4")
    assert len({column.id for column in plan.columns}) == 2


def test_order_and_limit_mean_nothing_for_one_row() -> None:
    b = Table()
    one = where(b.last, eq(b["ta.id"], lit(1)))
    plan = _plan(limit(order(b.project(one, b["ta.id"]), b["ta.id"]), 10))
    assert isinstance(plan, GetPlan)
    assert (plan.order, plan.offset, plan.count) == ((), 0, None)


def test_rows_of_several_keys_are_sorted_and_cut() -> None:
    b = Table()
    two = where(b.last, InList(b["ta.id"], (lit(1), lit(2))))
    plan = _plan(limit(order(b.project(two, b["ta.a"], b["ta.id"]), b["ta.id"]), 5, 1))
    assert isinstance(plan, GetPlan)
    assert (plan.order, plan.offset, plan.count) == (((1, False, False),), 1, 5)
    plan = _plan(limit(b.project(two, b["ta.id"]), 1))
    assert isinstance(plan, GetPlan)
    assert (plan.order, plan.offset, plan.count) == ((), 0, 1)
    # What is sorted by is not given.
    assert isinstance(_plan(b.project(order(two, b["ta.a"]), b["ta.id"])), QueryPlan)
    # A limit below a sort.
    assert isinstance(_plan(order(limit(b.project(two, b["ta.id"]), 1), b["ta.id"])), QueryPlan)


def _with_id(b: Builder, table: str) -> tuple[Scan, ScanColumn]:
    scan = b.scan(table)
    column = ScanColumn(next(b.ids), "_id", TEXT, "_id")
    return msgspec.structs.replace(scan, columns=(*scan.columns, column)), column


def test_the_id_is_a_key_of_any_table() -> None:
    b = Builder()
    scan, column = _with_id(b, "tc")
    plan = _plan(b.project(where(scan, eq(Column(column.id, "_id", TEXT), lit("x"))), b["tc.e"]))
    assert isinstance(plan, GetPlan)
    assert plan.is_by_id
    assert plan.sources == ("c3",)


def test_too_many_keys_are_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRIMARY_KEY_GETS_MAX", 3)
    b = Table()
    many = InList(b["ta.id"], tuple(lit(i) for i in range(4)))
    assert isinstance(_plan(b.project(where(b.last, many), b["ta.id"])), QueryPlan)


def test_a_value_of_another_kind_is_no_key() -> None:
    b = Table()
    assert isinstance(_plan(b.project(where(b.last, eq(b["ta.id"], lit(1, BIGINT))), b["ta.id"])), QueryPlan)


def test_count_of_a_whole_table_is_a_count() -> None:
    b = Table()
    plan = _plan(b.group(b.last, [], b.item(count_all(), "n")))
    assert isinstance(plan, CountPlan)
    assert [column.name for column in plan.columns] == ["n"]


def test_count_with_filter_or_group_is_a_query() -> None:
    b = Table()
    assert isinstance(_plan(b.group(where(b.last, gt(b["ta.a"], lit(1))), [], b.item(count_all(), "n"))), QueryPlan)
    b = Table()
    assert isinstance(_plan(b.group(b.last, [b["ta.g"]], b.item(count_all(), "n"))), QueryPlan)


def test_count_of_a_table_with_a_lost_shard_is_an_error() -> None:
    b = Table()
    cluster = state(3)
    nodes = {name: node for name, node in cluster.nodes.items() if name != "n3"}
    with pytest.raises(ShardUnavailable):
        planned(b.group(b.last, [], b.item(count_all(), "n")), msgspec.structs.replace(cluster, nodes=nodes))


def any_of(operand: Expression, array: Expression) -> Expression:
    return call("op_any_=", operand, array)


def test_any_of_an_array_parameter_is_a_get_of_its_elements() -> None:
    b = Table()
    plan = _get(b, any_of(b["ta.id"], parameter(0, array_of(INTEGER))))
    assert plan.keys == ()
    assert plan.key_list == parameter(0, array_of(INTEGER))
    assert plan.residual is None


def test_conditions_beside_the_array_are_tested_on_the_rows() -> None:
    b = Table()
    plan = _get(b, any_of(b["ta.id"], parameter(0, array_of(INTEGER))), gt(b["ta.b"], lit(5)))
    assert plan.key_list is not None
    assert plan.residual is not None


def test_a_key_compared_as_a_wider_integer_is_the_same_key() -> None:
    b = Table()
    wider = Cast(b["ta.id"], BIGINT, is_implicit=True)
    assert _keys(_get(b, eq(wider, parameter(0, BIGINT)))) == [["$1"]]
    b = Table()
    wider = Cast(b["ta.id"], BIGINT, is_implicit=True)
    assert _get(b, any_of(wider, parameter(0, array_of(BIGINT)))).key_list is not None
    b = Table()
    narrow = Cast(b["ta.id"], TEXT, is_implicit=True)
    plan = _plan(b.project(where(b.last, eq(narrow, lit("5", TEXT))), b["ta.id"]))
    assert isinstance(plan, QueryPlan), "the text of a number is not the number"


def test_the_rows_of_an_array_are_sorted_and_cut() -> None:
    b = Table()
    rows = where(b.last, any_of(b["ta.id"], parameter(0, array_of(INTEGER))))
    plan = _plan(limit(order(b.project(rows, b["ta.id"]), b["ta.id"]), 1))
    assert isinstance(plan, GetPlan)
    assert plan.key_list is not None
    assert (plan.order, plan.offset, plan.count) == (((0, False, False),), 0, 1)
