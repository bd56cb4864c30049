"""SQL cursors: DECLARE, FETCH, MOVE, CLOSE over a running Result.

In: a Result and fetch directions. Out: rows of SQL values. Positions follow PostgreSQL: 0 stands before the first row,
n + 1 behind the last; FETCH moves and returns. A scrollable cursor keeps the rows it has passed (bounded by
``limits.CURSOR_ROWS_MAX``); a forward-only one keeps none but the rest of the batch at hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cratepy import limits
from cratepy.errors import CircuitBreaking, CursorIsForwardOnly
from cratepy.execution.results import Result
from cratepy.model.arrow import from_arrow
from cratepy.model.plan import FetchPlan
from cratepy.model.relations import OutputColumn

Row = tuple[Any, ...]


def batch_rows(batch: Any, columns: tuple[OutputColumn, ...]) -> list[Row]:
    """The rows of an Arrow batch as SQL values."""
    if not columns:
        return [()] * int(batch.num_rows)
    return list(zip(*(from_arrow(batch.column(i), column.type) for i, column in enumerate(columns)), strict=True))


class Cursor:
    """A declared cursor. The Result is its own: :meth:`aclose` ends the job."""

    def __init__(
        self,
        result: Result,
        *,
        job_id: str,
        is_scrollable: bool,
        is_holdable: bool,
        statement: str = "",
        created_ms: int = 0,
    ) -> None:
        assert result.columns is not None
        self.columns = result.columns
        self.job_id = job_id
        self.is_scrollable = is_scrollable
        self.is_holdable = is_holdable
        self.statement = statement
        self.created_ms = created_ms
        self._result = result
        #: Rows from number ``_first`` (counted from 1) on.
        self._rows: list[Row] = []
        self._first = 1
        self._is_drained = False
        self._position = 0
        if result.rows is not None:
            self._rows = list(result.rows)
            self._is_drained = True

    async def fetch(self, plan: FetchPlan) -> list[Row]:
        """Move as the plan says; the rows passed, in that order."""
        count = plan.count
        match plan.direction:
            case "next" | "prior":
                return await self._move(1 if plan.direction == "next" else -1)
            case "forward":
                return await self._move(count)
            case "backward":
                return await self._move(-count) if count is not None else await self._backward_all()
            case "first":
                return await self._goto(1)
            case "last":
                await self._read(None)
                return await self._goto(self._end - 1)
            case "absolute":
                return await self._goto(await self._absolute(count or 0))
            case "relative":
                return await self._goto(max(0, self._position + (count or 0)))
            case _:
                raise AssertionError(f"direction {plan.direction}")

    async def aclose(self) -> None:
        await self._result.aclose()

    @property
    def _end(self) -> int:
        """The position behind the last row read."""
        return self._first + len(self._rows)

    async def _absolute(self, count: int) -> int:
        if count >= 0:
            return count
        await self._read(None)
        return max(0, self._end + count)

    async def _move(self, count: int | None) -> list[Row]:
        if count is None or count > 0:
            start = self._position + 1
            await self._read(None if count is None else self._position + count)
            stop = self._end if count is None else min(start + count, self._end)
            rows = self._rows[start - self._first : stop - self._first]
            self._position = stop - 1 if count is not None and stop == start + count else self._end
            self._forget()
            return rows
        if count == 0:
            return await self._goto(self._position)
        self._refuse_unless_scrollable()
        stop = max(0, self._position + count)
        rows = [self._rows[number - self._first] for number in range(self._position - 1, max(stop, 1) - 1, -1)]
        self._position = stop
        return rows

    async def _backward_all(self) -> list[Row]:
        return await self._move(-self._position - 1)

    async def _goto(self, position: int) -> list[Row]:
        if position < self._position or (position == self._position and position > 0):
            self._refuse_unless_scrollable()
        await self._read(position)
        self._position = min(position, self._end)
        number = self._position
        rows = [self._rows[number - self._first]] if self._first <= number < self._end else []
        self._forget()
        return rows

    def _refuse_unless_scrollable(self) -> None:
        if not self.is_scrollable:
            raise CursorIsForwardOnly("Cannot move backward if cursor was created with NO SCROLL")

    def _forget(self) -> None:
        """Drop rows that a forward-only cursor never returns to."""
        if not self.is_scrollable:
            passed = min(self._position + 1, self._end) - self._first
            if passed > 0:
                del self._rows[:passed]
                self._first += passed

    async def _read(self, position: int | None) -> None:
        """Read until the row at ``position`` is there, or to the end."""
        while not self._is_drained and (position is None or self._end <= position):
            batch = await self._result.receive()
            if batch is None:
                self._is_drained = True
                return
            self._keep(batch_rows(batch, self.columns))

    def _keep(self, rows: Iterable[Row]) -> None:
        self._rows.extend(rows)
        if len(self._rows) > limits.CURSOR_ROWS_MAX:
            raise CircuitBreaking(f"A cursor holds at most {limits.CURSOR_ROWS_MAX} rows")
