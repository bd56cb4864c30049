"""Constants: boolean logic with constant parts, and calls of constants computed while planning.

A constant expression that cannot be computed fails the statement, with the error CrateDB gives for it, unless it stands
where it may never be computed: a later branch of CASE, a later argument of COALESCE, IF or NULLIF. There it stays as it
is and fails, if ever, when a row gets there. Branches that can be decided now go before anything in them is computed.
Source: CrateDB's ``Function.normalizeSymbol`` and its literal folding in ``EvaluatingNormalizer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from cratepy.errors import CrateError
from cratepy.model.expressions import (
    FALSE,
    TRUE,
    Aggregate,
    Branch,
    Call,
    Case,
    Cast,
    Expression,
    InList,
    Literal,
)
from cratepy.model.relations import Aggregation, ProjectSet, Relation, TableFunction
from cratepy.model.types import BOOLEAN
from cratepy.sql.plan.volatility import is_foldable_function, is_volatile
from cratepy.sql.plan.walk import map_expressions, map_parts, map_relations, nodes, transform

#: Computes deterministic calls and casts of constants: gives a literal for each, or the expression as it was.
Fold = Callable[[Sequence[Expression]], list[Expression]]

UNKNOWN: Final = Literal(None, BOOLEAN)
#: Functions that compute their later arguments only if the earlier ones ask for it.
_LAZY_FUNCTIONS: Final = frozenset({"coalesce", "if", "nullif"})


# --- folding ---------------------------------------------------------------------------------------------------------


def fold_constants(relation: Relation, fold: Fold) -> Relation:
    """Every largest constant call in the tree replaced by its value.

    Raises the CrateError of a constant expression that cannot be computed.
    """
    relation = simplify_booleans(relation)
    wanted: list[Expression] = []

    def collect(expression: Expression) -> Expression:
        return _collect(expression, wanted)

    map_relations(relation, lambda operator: map_expressions(operator, lambda e: _at_root(operator, e, collect)))
    # By identity: literals may hold lists, so expressions have no hash.
    values = {id(e): value for e, value in zip(wanted, fold(wanted), strict=True)} if wanted else {}

    def replaced(expression: Expression) -> Expression:
        if id(expression) in values:
            return values[id(expression)]
        if _is_lazy(expression):
            return _fold_lazy(expression, values, fold)
        return map_parts(expression, replaced)

    return simplify_booleans(
        map_relations(relation, lambda operator: map_expressions(operator, lambda e: _at_root(operator, e, replaced)))
    )


def _at_root(operator: Relation, expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """Set-returning functions are calls like others: only their arguments have values."""
    return map_parts(expression, change) if isinstance(operator, ProjectSet) else change(expression)


def _collect(expression: Expression, wanted: list[Expression]) -> Expression:
    if _is_lazy(expression):
        # What is surely computed first may fail the statement; the rest is tried one by one later.
        if isinstance(expression, Case):
            _collect(expression.branches[0].condition, wanted)
        elif isinstance(expression, Call):
            _collect(expression.arguments[0], wanted)
        return expression
    if _is_foldable(expression):
        wanted.append(expression)
        return expression
    return map_parts(expression, lambda part: _collect(part, wanted))


def _is_lazy(expression: Expression) -> bool:
    return (isinstance(expression, Call) and expression.function in _LAZY_FUNCTIONS) or isinstance(expression, Case)


def _is_foldable(expression: Expression) -> bool:
    """A call, cast or list of literals only. Parameters are not constants of a plan: it serves all their values."""
    if not isinstance(expression, Call | Cast | InList):
        return False
    return all(
        isinstance(node, Literal | Cast | InList)
        or (isinstance(node, Call) and is_foldable_function(node.function) and node.function not in _LAZY_FUNCTIONS)
        for node in nodes(expression)
    )


def _fold_lazy(expression: Expression, values: dict[int, Expression], fold: Fold) -> Expression:
    def tried(part: Expression) -> Expression:
        if id(part) in values:
            return values[id(part)]
        if _is_lazy(part):
            return _fold_lazy(part, values, fold)
        if not _is_foldable(part):
            return map_parts(part, tried)
        try:
            return fold([part])[0]
        except CrateError:
            return part  # It may never be computed; if it is, the engine says the same.

    folded = simplified(map_parts(expression, tried))
    arguments_are_literal = isinstance(folded, Call) and all(isinstance(a, Literal) for a in folded.arguments)
    return tried_call(folded, fold) if arguments_are_literal else folded


def tried_call(call: Expression, fold: Fold) -> Expression:
    """A call of literals as its value, or as it is if it has none."""
    try:
        return fold([call])[0]
    except CrateError:
        return call


# --- boolean logic ---------------------------------------------------------------------------------------------------


def simplify_booleans(relation: Relation) -> Relation:
    """AND, OR, NOT, IN, CASE and COALESCE with constant parts, in every expression."""

    def change(operator: Relation) -> Relation:
        if isinstance(operator, ProjectSet | TableFunction):
            return operator
        return map_expressions(operator, lambda expression: transform(expression, simplified))

    return map_relations(relation, change)


def simplified(expression: Expression) -> Expression:
    """The expression without what its constant parts decide; its parts are simplified already."""
    match expression:
        case Call(function="op_and", arguments=(left, right)):
            return _simplified_pair(expression, left, right, neutral=TRUE, absorbing=FALSE)
        case Call(function="op_or", arguments=(left, right)):
            return _simplified_pair(expression, left, right, neutral=FALSE, absorbing=TRUE)
        case Call(function="op_not", arguments=(Literal(value=value),)):
            return Literal(None if value is None else not value, BOOLEAN)
        case Call(function="op_not", arguments=(Call(function="op_not", arguments=(inner,)),)):
            return inner
        case Call(function=name, arguments=(left, right)) if name in _COMPARISONS and (
            _is_null(left) or _is_null(right)
        ):
            other = right if _is_null(left) else left
            return expression if is_volatile(other) else UNKNOWN
        case Call(function="coalesce"):
            return _simplified_coalesce(expression)
        case Case():
            return _simplified_case(expression)
        case InList(items=(only,)):
            return Call("op_=", (expression.operand, only), BOOLEAN)
        case InList(items=()):
            return FALSE
        case Cast(argument=Literal(value=None), type=target):
            return Literal(None, target)
        case _:
            return expression


_COMPARISONS: Final = frozenset({"op_=", "op_<>", "op_<", "op_<=", "op_>", "op_>="})


def _is_null(expression: Expression) -> bool:
    return isinstance(expression, Literal) and expression.value is None


def _simplified_pair(
    whole: Expression, left: Expression, right: Expression, *, neutral: Literal, absorbing: Literal
) -> Expression:
    if left == neutral:
        return right
    if right == neutral or left == right:
        return left
    if absorbing in (left, right):
        return absorbing
    return UNKNOWN if _is_null(left) and _is_null(right) else whole


def _simplified_coalesce(call: Call) -> Expression:
    kept: list[Expression] = []
    for argument in call.arguments:
        if _is_null(argument):
            continue
        kept.append(argument)
        if isinstance(argument, Literal):
            break
    if not kept:
        return Literal(None, call.type)
    if len(kept) == 1:
        return kept[0]
    return call if len(kept) == len(call.arguments) else msgspec.structs.replace(call, arguments=tuple(kept))


def _simplified_case(case: Case) -> Expression:
    kept: list[Branch] = []
    default = case.default
    for branch in case.branches:
        if branch.condition == FALSE or _is_null(branch.condition):
            continue
        if branch.condition == TRUE:
            default = branch.value
            break
        kept.append(branch)
    if not kept:
        return default
    if len(kept) == len(case.branches):
        return case
    return msgspec.structs.replace(case, branches=tuple(kept), default=default)


def count_rows(relation: Relation) -> Relation:
    """``count(1)`` is ``count(*)``: a constant that is not NULL is there for every row."""

    def change(expression: Expression) -> Expression:
        match expression:
            case Aggregate(function="count", arguments=(Literal(value=value),), is_distinct=False) if value is not None:
                return msgspec.structs.replace(expression, arguments=())
            case _:
                return expression

    def operator(node: Relation) -> Relation:
        return map_expressions(node, change) if isinstance(node, Aggregation) else node

    return map_relations(relation, operator)
