"""Folding: what is computed while planning, what fails the statement, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cratepy.errors import DivisionByZero
from cratepy.model.expressions import Branch, Call, Case, Column, Expression, Literal
from cratepy.model.relations import ProjectSet, Relation
from cratepy.model.types import BOOLEAN, INTEGER
from cratepy.sql.plan.explain import operator_text
from cratepy.sql.plan.rules.constants import fold_constants, simplified
from cratepy.sql.plan.walk import map_parts
from tests.sql.plan.building import Builder, call, eq, gt, lit, parameter, where


class Folder:
    """Computes + and / of integer literals and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Expression] = []

    def __call__(self, expressions: Sequence[Expression]) -> list[Expression]:
        self.asked.extend(expressions)
        return [self._value(expression) for expression in expressions]

    def _value(self, expression: Expression) -> Expression:
        expression = map_parts(expression, self._value)
        match expression:
            case Call(function="op_+", arguments=(Literal(value=a), Literal(value=b))):
                return lit(a + b)
            case Call(function="op_/", arguments=(Literal(), Literal(value=0))):
                raise DivisionByZero("/ by zero")
            case Call(function="op_/", arguments=(Literal(value=a), Literal(value=b))):
                return lit(a // b)
            case Call(function="op_=", arguments=(Literal(value=a), Literal(value=b))):
                return lit(a == b)
            case _:
                return expression


def _plus(one: Expression, other: Expression) -> Call:
    return call("op_+", one, other, to=INTEGER)


BROKEN = call("op_/", lit(1), lit(0), to=INTEGER)


def _folded(expression: Expression) -> str:
    b = Builder()
    scan = b.scan("ta")
    project = b.project(scan, b.item(expression, "value"))
    return operator_text(fold_constants(project, Folder()))


def test_the_largest_constant_call_is_folded_in_one_question() -> None:
    b = Builder()
    scan = b.scan("ta")
    fold = Folder()
    relation: Relation = where(scan, gt(b["ta.a"], _plus(lit(1), _plus(lit(2), lit(3)))), eq(b["ta.g"], lit(1)))
    assert operator_text(fold_constants(relation, fold)) == "Filter[((a > 6) AND (g = 1))]"
    assert len(fold.asked) == 1


def test_a_constant_that_cannot_be_computed_fails_the_statement() -> None:
    with pytest.raises(DivisionByZero):
        _folded(BROKEN)


def test_parameters_and_statement_time_are_not_folded() -> None:
    assert _folded(_plus(parameter(0, INTEGER), lit(1))) == "Eval[($1 + 1) AS value]"
    assert _folded(call("now", to=INTEGER)) == "Eval[now() AS value]"


def test_an_untaken_branch_is_never_computed() -> None:
    case = Case((Branch(eq(lit(1), lit(2)), BROKEN),), _plus(lit(1), lit(1)), INTEGER)
    assert _folded(case) == "Eval[2 AS value]"


def test_a_branch_that_may_be_taken_stays_if_it_fails() -> None:
    column = Column(1, "id", INTEGER)
    case = Case((Branch(eq(column, lit(0)), BROKEN),), lit(1), INTEGER)
    assert _folded(case) == "Eval[CASE WHEN (id = 0) THEN (1 / 0) ELSE 1 END AS value]"


def test_coalesce_stops_at_its_first_value() -> None:
    null = Literal(None, INTEGER)
    assert _folded(call("coalesce", null, lit(7), BROKEN, to=INTEGER)) == "Eval[7 AS value]"
    column = Column(1, "id", INTEGER)
    assert _folded(call("coalesce", column, BROKEN, to=INTEGER)) == "Eval[coalesce(id, (1 / 0)) AS value]"


def test_a_first_argument_is_always_computed() -> None:
    with pytest.raises(DivisionByZero):
        _folded(call("coalesce", BROKEN, lit(1), to=INTEGER))


def test_set_returning_calls_keep_their_call_and_lose_constant_work() -> None:
    b = Builder()
    scan = b.scan("ta")
    series = call("generate_series", lit(1), _plus(lit(1), lit(2)), to=INTEGER)
    relation = ProjectSet(scan, (b.item(series, "i"),))
    assert operator_text(fold_constants(relation, Folder())).startswith("ProjectSet[generate_series(1, 3) AS i")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (call("op_and", lit(True), gt(lit(2), lit(1))), gt(lit(2), lit(1))),
        (call("op_and", lit(False), gt(lit(2), lit(1))), lit(False)),
        (call("op_or", Literal(None, BOOLEAN), lit(True)), lit(True)),
        (call("op_or", Literal(None, BOOLEAN), Literal(None, BOOLEAN)), Literal(None, BOOLEAN)),
        (call("op_not", Literal(None, BOOLEAN)), Literal(None, BOOLEAN)),
        (eq(lit(1), Literal(None, INTEGER)), Literal(None, BOOLEAN)),
    ],
)
def test_three_valued_logic(before: Expression, after: Expression) -> None:
    assert simplified(before) == after
