"""The last phase when it only passes rows on: columns picked, rows skipped and counted, no engine.

In: the relation of a last phase. Out: a :class:`Passing` if the relation is nothing but ``Limit`` and projections of plain
columns over one exchange input, else None. Such a phase need not wait for its input to be complete: the first rows reach
the client early, and a LIMIT stops the senders as soon as it is reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pyarrow as pa

from cratepy.errors import BadRequest
from cratepy.execution.batches import renamed
from cratepy.execution.engine.constants import constant_values
from cratepy.model.expressions import Column, Expression
from cratepy.model.plan import StatementContext
from cratepy.model.relations import ExchangeInput, Limit, Project, Relation, output_columns
from cratepy.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """``columns`` are positions in the exchange input, ``names`` the fields they become."""

    input: ExchangeInput
    columns: tuple[int, ...]
    names: tuple[str, ...]
    limit: Limit | None


def passing(relation: Relation) -> Passing | None:
    """How the relation passes rows on; None if it computes anything."""
    limit: Limit | None = None
    projects: list[Project] = []
    below = relation
    while not isinstance(below, ExchangeInput):
        if isinstance(below, Limit) and limit is None:
            limit = below
            below = below.child
        elif isinstance(below, Project) and all(isinstance(item.expression, Column) for item in below.items):
            projects.append(below)
            below = below.child
        else:
            return None
    positions = {column.id: i for i, column in enumerate(below.columns)}
    for project in reversed(projects):
        positions = {item.id: positions[_column_id(item.expression)] for item in project.items}
    outputs = output_columns(relation)
    return Passing(
        input=below,
        columns=tuple(positions[column.id] for column in outputs),
        names=tuple(f"c{column.id}" for column in outputs),
        limit=limit,
    )


def _column_id(expression: Expression) -> int:
    assert isinstance(expression, Column)
    return expression.id


class Passer:
    """Applies a :class:`Passing` to batch after batch."""

    def __init__(
        self, plan: Passing, context: StatementContext, deliver: Callable[[pa.RecordBatch], Awaitable[bool]]
    ) -> None:
        self._plan = plan
        self._deliver = deliver
        self._skip, self._left = limit_values(plan.limit, context)

    @property
    def wants_rows(self) -> bool:
        return self._left is None or self._left > 0

    async def give(self, batch: pa.RecordBatch) -> bool:
        """Pass the batch on; False if no more rows are wanted."""
        if self._skip > 0:
            skipped = min(self._skip, batch.num_rows)
            self._skip -= skipped
            batch = batch.slice(skipped)
        if self._left is not None:
            batch = batch.slice(0, self._left)
            self._left -= batch.num_rows
        if batch.num_rows > 0 and not await self._deliver(renamed(batch, self._plan.columns, self._plan.names)):
            return False
        return self.wants_rows


def limit_values(limit: Limit | None, context: StatementContext) -> tuple[int, int | None]:
    """(rows to skip, rows to give or None for all). Raises BadRequest for negative numbers."""
    if limit is None:
        return 0, None
    expressions: Sequence[Expression] = [e for e in (limit.count, limit.offset) if e is not None]
    values = iter(constant_values(expressions, context))
    count = next(values) if limit.count is not None else None
    offset = next(values) if limit.offset is not None else None
    for name, value in (("LIMIT", count), ("OFFSET", offset)):
        if value is not None and value < 0:
            raise BadRequest(f"invalid {name}: value must be >= 0; got: {value}")
    return offset or 0, count
