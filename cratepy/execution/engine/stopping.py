"""Joins that can be stopped: where a check is put and how small batches have to be.

The engine's operators end when their stream is dropped, but only at points where they yield, which joins without an
equality and joins of many to many seldom reach (apache/datafusion issue 19358). What ends them is a kernel that raises:

* A join with an equality evaluates its condition for each chunk of pairs: a check of both sides stands first in it
  (4 ns a row).
* A join without one would pay 20 µs for each row of a side. If the inputs are small the check stands in front of both
  sides instead, and batches are so small that the pairs between two checks are few.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.execution.engine.expressions import Text
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import Call, Column, Expression
from cratepy.model.relations import Join, OutputColumn, Relation, children, output_columns

#: Pairs a nested loop makes between two checks: about 12 ms of work.
_PAIRS_MAX: Final = 50_000_000
_BATCH_ROWS: Final = 8_192
_BATCH_ROWS_MIN: Final = 64


class JoinGuard:
    """Decides once per fragment; ``guarded`` is called by the renderer for each join."""

    def __init__(self, relation: Relation, input_rows: list[int], text: Text) -> None:
        self._text = text
        rows = max(input_rows, default=0)
        self.has_loops = _has_loop(relation)
        wanted = _PAIRS_MAX // max(rows, 1)
        self.batch_rows = max(_BATCH_ROWS_MIN, min(_BATCH_ROWS, wanted)) if self.has_loops else _BATCH_ROWS

    def guarded(self, condition: str, join: Join) -> str:
        """The condition behind a check of both sides."""
        left, right = output_columns(join.left), output_columns(join.right)
        if not left or not right:
            return condition
        return f"{self._check(left[0], right[0])} AND {condition}"

    def _check(self, left: OutputColumn, right: OutputColumn) -> str:
        types = [arrow_type(left.type), arrow_type(right.type)]
        name = self._text.kernel(("check", *map(str, types)), lambda: _always_true, types, pa.bool_(), is_volatile=True)
        return f"{name}(c{left.id}, c{right.id})"


def _always_true(left: Any, _right: Any) -> Any:
    """The stop itself is in every kernel's guard."""
    return pa.array(np.ones(len(left), dtype=bool))


def _has_loop(relation: Relation) -> bool:
    if isinstance(relation, Join) and (relation.condition is None or not _has_equality(relation.condition, relation)):
        return True
    return any(_has_loop(child) for child in children(relation))


def _has_equality(condition: Expression, join: Join) -> bool:
    if isinstance(condition, Call) and condition.function == "op_and":
        return any(_has_equality(part, join) for part in condition.arguments)
    if not isinstance(condition, Call) or condition.function != "op_=":
        return False
    left = {column.id for column in output_columns(join.left)}
    right = {column.id for column in output_columns(join.right)}
    sides = [_sides(argument, left, right) for argument in condition.arguments]
    return sides in (["left", "right"], ["right", "left"])


def _sides(expression: Expression, left: set[int], right: set[int]) -> str:
    from cratepy.functions.evaluate import subexpressions

    ids = {part.id for part in subexpressions(expression) if isinstance(part, Column)}
    if ids and ids <= left:
        return "left"
    return "right" if ids and ids <= right else "both"
