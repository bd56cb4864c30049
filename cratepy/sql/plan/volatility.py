"""Which expressions may be computed elsewhere, more or less often, or in advance.

*Volatile* functions give another value at every call: they are never moved, doubled or dropped into another place.
*Stable* ones give one value for a statement but another for the next: they move freely and are never folded into a plan
that may be cached. Which functions are deterministic is in their declarations; which of the others are volatile is here.
"""

from __future__ import annotations

from typing import Final

from cratepy.functions import registry
from cratepy.model.expressions import Call, Expression
from cratepy.model.relations import Limit, Relation
from cratepy.sql.plan.walk import expressions_of, nodes, operators

VOLATILE_FUNCTIONS: Final = frozenset({"random", "gen_random_text_uuid", "gen_random_uuid", "pg_sleep", "set_config"})


def is_volatile(expression: Expression) -> bool:
    """Whether two evaluations may differ within one statement."""
    return any(isinstance(node, Call) and node.function in VOLATILE_FUNCTIONS for node in nodes(expression))


def is_foldable_function(function: str) -> bool:
    """Whether a call of constants may be replaced by its value when the plan is made."""
    if not registry.is_scalar(function):
        return False
    declaration = registry.declaration_of(function)
    return declaration.is_deterministic and not declaration.is_costly


def gives_same_rows_again(relation: Relation) -> bool:
    """Whether evaluating the tree twice in a statement gives the same rows.

    A limit picks its rows by arrival unless a total order stands below it, which nobody can know here.
    """
    return not any(
        isinstance(operator, Limit) or any(is_volatile(expression) for expression in expressions_of(operator))
        for operator in operators(relation)
    )
