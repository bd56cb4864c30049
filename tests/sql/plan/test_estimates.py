"""What is known about sizes, and what unknown means."""

from __future__ import annotations

from cratepy import limits
from cratepy.model.relations import Join, SetOperation, Values, output_columns
from cratepy.sql.plan.estimates import SYSTEM_TABLE_ROWS, Estimates
from tests.sql.plan.building import Builder, count_all, eq, gt, limit, lit, where
from tests.sql.plan.test_physical import _system

KNOWN = Estimates({"uuid-ta": 1_000, "uuid-tb": 3_000})


def test_unknown_is_neither_small_nor_large() -> None:
    scan = Builder().scan("ta")
    assert Estimates().rows(scan) is None
    assert not Estimates().is_small(scan)
    assert not Estimates().is_large(scan)


def test_filters_do_not_lower_the_estimate() -> None:
    b = Builder()
    scan = b.scan("ta")
    assert KNOWN.rows(where(scan, gt(b["ta.a"], lit(1)))) == 1_000


def test_sizes_of_operators() -> None:
    b = Builder()
    ta, tb, tc = b.scan("ta"), b.scan("tb"), b.scan("tc")
    on = eq(b["ta.id"], b["tb.ta_id"])
    assert KNOWN.rows(Join("inner", ta, tb, on)) == 3_000
    assert KNOWN.rows(Join("cross", ta, tb, None)) == 3_000_000
    assert KNOWN.rows(Join("semi", ta, tc, on)) == 1_000
    assert KNOWN.rows(Join("inner", ta, tc, on)) is None
    assert KNOWN.rows(b.group(tc, [], b.item(count_all(), "n"))) == 1
    assert KNOWN.rows(limit(tc, 7)) == 7
    assert KNOWN.rows(SetOperation(kind="union_all", children=(ta, tb), columns=output_columns(ta))) == 4_000
    assert KNOWN.rows(Values(rows=(), columns=())) == 0
    assert KNOWN.rows(_system("nodes")(b)) == SYSTEM_TABLE_ROWS


def test_the_bound_of_a_broadcast() -> None:
    scan = Builder().scan("ta")
    assert Estimates({"uuid-ta": limits.BROADCAST_ROWS_MAX}).is_small(scan)
    assert Estimates({"uuid-ta": limits.GATHERED_ROWS_MAX + 1}).is_large(scan)
