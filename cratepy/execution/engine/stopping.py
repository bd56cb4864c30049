"""Joins that can be stopped: where a check is put and how small batches have to be.

The engine's operators end when their stream is dropped, but only at points where they yield, which joins without an
equality and joins of many to many seldom reach (apache/datafusion issue 19358). What ends them is a kernel that raises:

* A join with an equality evaluates its condition for each chunk of pairs: a check of both sides stands first in it
  (4 ns a row).
* In a join without one such a check costs ten times the join. There it stands in front of both sides instead, and
  batches are so small that the pairs made between two checks are few.
* If even the smaller side is too large for that, the check goes into the condition all the same: such a join takes hours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, assert_never

import numpy as np
import pyarrow as pa

from cratepy.execution.engine.expressions import Text
from cratepy.functions.evaluate import subexpressions
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import Call, Column, Expression, Literal
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.records import dataclass

#: Pairs a join without an equality makes between two checks: some milliseconds, whatever is done with them.
_PAIRS_MAX: Final = 10_000_000
_BATCH_ROWS: Final = 8_192
_BATCH_ROWS_MIN: Final = 64
#: A condition with more parts than this is costly.
_CHEAP_PARTS_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Checks:
    """Conditions to add to a join: to each side, and to the pairs; None: none there."""

    left: str | None = None
    right: str | None = None
    pairs: str | None = None


class JoinGuard:
    """Decides once per fragment; the renderer asks for each join. ``input_rows`` are the rows of the numbered inputs."""

    def __init__(self, relation: Relation, input_rows: Sequence[int], text: Text) -> None:
        self._text = text
        self._input_rows = input_rows
        self.batch_rows = _BATCH_ROWS
        for join in _loops(relation):
            wanted = self._wanted_batch_rows(join)
            if wanted >= _BATCH_ROWS_MIN:
                self.batch_rows = min(self.batch_rows, wanted)

    def _wanted_batch_rows(self, join: Join) -> int:
        smaller = min(self._rows_max(join.left), self._rows_max(join.right))
        return 0 if math.isinf(smaller) else int(_PAIRS_MAX // max(smaller, 1))

    def checks(self, join: Join) -> Checks:
        left, right = output_columns(join.left), output_columns(join.right)
        pairs = self._check(left[0], right[0]) if left and right else None
        if not _is_loop(join) or self._wanted_batch_rows(join) < _BATCH_ROWS_MIN:
            return Checks(pairs=pairs)
        return Checks(
            left=self._check(*_cover(join.left)) if left else None,
            right=self._check(*_cover(join.right)) if right else None,
            # Beside a costly condition a check of the pairs costs little, and without it they would take long.
            pairs=pairs if join.condition is not None and _is_costly(join.condition) else None,
        )

    def number_check(self) -> str:
        """The name of a check of one column of bigint."""
        key = ("check", str(pa.int64()))
        return self._text.kernel(key, lambda: _always_true, [pa.int64()], pa.bool_(), is_volatile=True)

    def _check(self, *columns: OutputColumn) -> str:
        types = [arrow_type(column.type) for column in columns]
        name = self._text.kernel(("check", *map(str, types)), lambda: _always_true, types, pa.bool_(), is_volatile=True)
        return f"{name}({', '.join(f'c{column.id}' for column in columns)})"

    def _rows_max(self, relation: Relation) -> float:
        """No more rows than this come from the tree; infinite if nothing is known."""
        match relation:
            case ExchangeInput():
                return self._input_rows[relation.phase]
            case Filter() | Project() | Sort() | WindowCalculation():
                return self._rows_max(relation.child)
            case Aggregation():
                return max(1, self._rows_max(relation.child)) if relation.keys else 1
            case Limit():
                return self._limited(relation)
            case Join():
                if relation.kind in ("semi", "anti"):
                    return self._rows_max(relation.left)
                return max(1, self._rows_max(relation.left)) * max(1, self._rows_max(relation.right))
            case SetOperation():
                return sum(self._rows_max(child) for child in relation.children)
            case ProjectSet() | RecursiveQuery() | RecursiveReference() | Apply():
                return math.inf
            case Scan() | SystemScan() | TableFunction() | Values():
                raise AssertionError(f"{type(relation).__name__} was left in the tree")
            case _:
                assert_never(relation)

    def _limited(self, relation: Limit) -> float:
        rows = self._rows_max(relation.child)
        if isinstance(relation.count, Literal) and isinstance(relation.count.value, int):
            return min(rows, relation.count.value)
        return rows


def _cover(relation: Relation) -> list[OutputColumn]:
    """Columns that come from every leaf of the joins below: a check of fewer would be pushed down to where they are."""
    origins = _origins(relation)
    missing = set[int]().union(*origins.values())
    chosen: list[OutputColumn] = []
    for column in output_columns(relation):
        if not chosen or missing & origins[column.id]:
            chosen.append(column)
            missing -= origins[column.id]
    return chosen


def _origins(relation: Relation) -> dict[int, frozenset[int]]:
    """For each output column the leaves of joins it comes from (an aggregation is a leaf: no filter passes it unseen)."""
    match relation:
        case Join(kind="semi" | "anti"):
            return _origins(relation.left)
        case Join():
            return _origins(relation.left) | _origins(relation.right)
        case Filter() | Sort():
            return _origins(relation.child)
        case Project():
            known = _origins(relation.child)
            return {
                item.id: frozenset[int]().union(
                    *(known[part.id] for part in subexpressions(item.expression) if isinstance(part, Column))
                )
                for item in relation.items
            }
        case _:
            return {column.id: frozenset((id(relation),)) for column in output_columns(relation)}


def _is_costly(condition: Expression) -> bool:
    """Whether judging a pair takes much longer than making it: anything but a little arithmetic."""
    parts = list(subexpressions(condition))
    return len(parts) > _CHEAP_PARTS_MAX or any(
        not (part.type.is_integer or part.type.kind in ("boolean", "real", "double precision")) for part in parts
    )


def _always_true(*arrays: pa.Array) -> pa.Array:
    """The stop itself is in every kernel's guard."""
    return pa.array(np.ones(len(arrays[0]), dtype=bool))


def _loops(relation: Relation) -> list[Join]:
    """The joins without an equality."""
    found = [join for child in children(relation) for join in _loops(child)]
    return [relation, *found] if isinstance(relation, Join) and _is_loop(relation) else found


def _is_loop(join: Join) -> bool:
    return join.condition is None or not _has_equality(join.condition, join)


def _has_equality(condition: Expression, join: Join) -> bool:
    if isinstance(condition, Call) and condition.function == "op_and":
        return any(_has_equality(part, join) for part in condition.arguments)
    if not isinstance(condition, Call) or condition.function not in ("op_=", "op_is_not_distinct_from"):
        return False
    left = {column.id for column in output_columns(join.left)}
    right = {column.id for column in output_columns(join.right)}
    sides = [_side(argument, left, right) for argument in condition.arguments]
    return sides in (["left", "right"], ["right", "left"])


def _side(expression: Expression, left: set[int], right: set[int]) -> str:
    ids = {part.id for part in subexpressions(expression) if isinstance(part, Column)}
    if ids and ids <= left:
        return "left"
    return "right" if ids and ids <= right else "both"
