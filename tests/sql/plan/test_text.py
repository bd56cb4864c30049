"""Expressions as CrateDB prints them (captured EXPLAIN texts)."""

from __future__ import annotations

import pytest

from cratepy.model.expressions import (
    Branch,
    Case,
    Cast,
    Expression,
    Frame,
    FrameBound,
    InList,
    Literal,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.types import BIGINT, INTEGER, OBJECT, TEXT, TIMESTAMP, array_of
from cratepy.sql.plan.text import expression_text, keys_text
from tests.sql.plan.building import Builder, both, call, count_all, either, eq, gt, lit, negated, parameter

B = Builder()
B.scan("ta")
ID, A, TEXT_COLUMN = B["ta.id"], B["ta.a"], B["ta.b"]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (eq(A, lit(1)), "(a = 1)"),
        (both(gt(A, lit(1)), call("op_like", TEXT_COLUMN, lit("b1%"))), "((a > 1) AND (b LIKE 'b1%'))"),
        (negated(either(eq(A, lit(1)), eq(A, lit(2)))), "(NOT ((a = 1) OR (a = 2)))"),
        (eq(call("op_+", A, lit(1), to=INTEGER), lit(5)), "((a + 1) = 5)"),
        (InList(ID, (lit(1), lit(2), lit(3))), "(id = ANY([1, 2, 3]))"),
        (gt(count_all(), lit(5, BIGINT)), "(count(*) > 5::bigint)"),
        (lit("it's"), "'it''s'"),
        (Literal(None, TEXT), "NULL"),
        (lit(True), "true"),
        (Literal(0, TIMESTAMP), "0::timestamp without time zone"),
        (Literal([1, None], array_of(INTEGER)), "[1, NULL]"),
        (Literal({"k": "v"}, OBJECT), "{k = 'v'}"),
        (parameter(0, INTEGER), "$1"),
        (SubqueryValue(2, INTEGER), "(SELECT #2)"),
        (Cast(A, BIGINT), "a::bigint"),
        (Cast(A, BIGINT, is_try=True), "try_cast(a AS bigint)"),
        (call("op_isnull", A), "(a IS NULL)"),
        (call("op_any_=", A, Literal([1], array_of(INTEGER))), "(a = ANY([1]))"),
        (call("op_is_distinct_from", A, ID), "(a IS DISTINCT FROM id)"),
        (call("lower", TEXT_COLUMN, to=TEXT), "lower(b)"),
        (Case((Branch(eq(A, lit(1)), lit(2)),), lit(3), INTEGER), "CASE WHEN (a = 1) THEN 2 ELSE 3 END"),
        (
            Window(
                "sum", (A,), BIGINT, (ID,), (SortKey(A, is_descending=True, nulls_first=True),),
                Frame("rows", FrameBound("preceding", lit(1)), FrameBound("current_row")),
            ),
            "sum(a) OVER (PARTITION BY id ORDER BY a DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        ),
    ],
)  # fmt: skip
def test_expression(expression: Expression, text: str) -> None:
    assert expression_text(expression) == text


def test_order_names_nulls_only_where_they_are_unusual() -> None:
    keys = (SortKey(A), SortKey(ID, nulls_first=True), SortKey(A, True, True), SortKey(ID, True, False))
    assert keys_text(keys) == "a ASC, id ASC NULLS FIRST, a DESC, id DESC NULLS LAST"
