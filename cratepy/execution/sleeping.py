"""``pg_sleep``: the statement waits here, in trio, before its query runs.

In: a plan. Out: the seconds to wait. No thread sleeps and the engine never does, so a KILL, a timeout or a client that went
away ends the wait at once. A sleep counts once per statement, not once per row; one whose argument is a column does not wait.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cratepy import limits
from cratepy.execution.engine.constants import constant_values
from cratepy.functions.evaluate import has_columns
from cratepy.model.expressions import Call, Expression
from cratepy.model.plan import QueryPlan, StatementContext

_SLEEPERS: Final = frozenset({"pg_sleep"})


class Sleeps:
    """Remembers per plan which sleeps it calls: plans are cached, so the tree is walked once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[QueryPlan, tuple[Expression, ...]]] = {}

    def seconds(self, plan: QueryPlan, context: StatementContext) -> float:
        """How long the statement has to wait; 0 for all but a few."""
        known = self._known.get(id(plan))
        if known is None or known[0] is not plan:
            if len(self._known) >= limits.PLAN_CACHE_ENTRIES_MAX:
                self._known.clear()
            known = self._known[id(plan)] = (plan, tuple(_arguments(plan.phases)))
        if not known[1]:
            return 0.0
        return sum(max(value, 0.0) for value in constant_values(known[1], context) if value is not None)


def _arguments(node: Any) -> list[Expression]:
    if isinstance(node, tuple | list):
        return [found for part in node for found in _arguments(part)]
    if not isinstance(node, msgspec.Struct):
        return []
    if isinstance(node, Call) and node.function in _SLEEPERS and not has_columns(node.arguments[0]):
        return [node.arguments[0]]
    return [found for name in node.__struct_fields__ for found in _arguments(getattr(node, name))]
