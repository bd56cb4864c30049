"""UPDATE and DELETE of one row by its key, in microseconds, as :mod:`~cratepy.execution.writes.single` does for INSERT.

In: an UpdatePlan or DeletePlan that pins one key. Out: how many rows it changed, or None where this short way does not lead
(then the general way does, with the same outcome; nothing was done). Its own room because it is the most usual change of
all: no search, no Arrow, one look at the row where its primary is.

The short way is taken if the shard is on this node, constants are assigned to whole plain columns, and the table has only
such columns: the row goes back as it was read, with the new values. Somebody who is faster sends it the general way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cratepy.cluster.service import ClusterService
from cratepy.errors import StaleRouting
from cratepy.execution.lookups import LookupService
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.primary import PrimaryWriter
from cratepy.execution.writes.router import WriteRouter
from cratepy.execution.writes.single import UNFIT, BegunWrite, Fit, PreparedPlans, SingleInsert, fit_of
from cratepy.execution.writes.values import is_exact, values_of
from cratepy.model.expressions import Expression, Literal, Parameter
from cratepy.model.plan import DeletePlan, GetPlan, StatementContext, UpdatePlan
from cratepy.records import dataclass
from cratepy.storage.operations import WriteBatch
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class _SingleUpdate:
    """A plan against one version of its table."""

    layout: TableLayout
    #: What a row is read by: its sequence number and term, then its columns.
    sources: tuple[str, ...]
    expressions: tuple[Expression, ...]
    #: Per expression its place in the row and what makes a value fit.
    places: tuple[tuple[int, Fit], ...]
    required: frozenset[int]

    def assigned(self, context: StatementContext) -> list[tuple[int, Any]] | None:
        """The new values by their places; None if one needs the general way."""
        for expression in self.expressions:
            if isinstance(expression, Parameter) and not is_exact(
                context.parameters[expression.index], expression.type.kind
            ):
                return None
        assigned = []
        try:
            for (place, fit), value in zip(self.places, values_of(self.expressions, context), strict=True):
                if value is None and place in self.required:
                    return None
                assigned.append((place, None if value is None else fit(value)))
        except UNFIT:
            return None
        return assigned


class SingleChanges:
    """Changes single rows; what updates need is worked out once per plan."""

    def __init__(
        self, *, cluster: ClusterService, router: WriteRouter, primary: PrimaryWriter, lookups: LookupService
    ) -> None:
        self._cluster = cluster
        self._router = router
        self._primary = primary
        self._lookups = lookups
        self._updates = PreparedPlans(_prepare)

    async def update(self, plan: UpdatePlan, layout: TableLayout, context: StatementContext) -> int | None:
        """The rows changed, 0 or 1, which is durable; None: nothing was done, go the general way."""
        return await self._durable(lambda: self.begin_update(plan, layout, context))

    async def upsert(self, single: SingleInsert, row_id: str, proposed: PlainRow, context: StatementContext) -> bool:
        """Insert the row, or change the one that exists; False: nothing was done, go the general way."""
        return await self._durable(lambda: self.begin_upsert(single, row_id, proposed, context)) is not None

    async def delete(self, plan: DeletePlan, layout: TableLayout, context: StatementContext) -> int | None:
        """As :meth:`update`."""
        return await self._durable(lambda: self.begin_delete(plan, layout, context))

    async def _durable(self, begin: Callable[[], BegunWrite | None]) -> int | None:
        try:
            begun = begin()
        except StaleRouting:
            return None
        if begun is None:
            return None
        await self._primary.wait_durable(((begun.copy, begun.position),))
        assert isinstance(begun.outcome, int), "what cannot be done is left to the general way"
        return begun.outcome

    def begin_update(self, plan: UpdatePlan, layout: TableLayout, context: StatementContext) -> BegunWrite | None:
        """The change into the log of its shard, without waiting for anything; None: nothing was done.

        Raises StaleRouting, then nothing was done, and CrateError.
        """
        prepared = self._updates.of(plan, layout)
        assigned = None if prepared is None else prepared.assigned(context)
        row_id = None if assigned is None else self._id(plan, context)
        if prepared is None or assigned is None or row_id is None:
            return None
        copy, term = self._local_copy(layout, row_id)
        if copy is None:
            return None
        (row,) = copy.get((row_id,), prepared.sources)
        if row is None:
            return BegunWrite(copy, copy.position, 0)
        seq_no, seen_term, *values = row
        for place, value in assigned:
            values[place] = value
        changed = PlainRow(layout.schema, values)
        return self._begin(copy, _replacement(row_id, changed, term, expected=(seq_no, seen_term)))

    def begin_upsert(
        self, single: SingleInsert, row_id: str, proposed: PlainRow, context: StatementContext
    ) -> BegunWrite | None:
        """As :meth:`begin_update`."""
        copy, term = self._local_copy(single.layout, row_id)
        if copy is None:
            return None
        (row,) = copy.get((row_id,), _sources(single.layout))
        if row is None:
            return self._begin(copy, WriteBatch(kind="insert", ids=(row_id,), rows=proposed, primary_term=term))
        changed = single.changed(context, row[2:], proposed.values)
        if changed is None:
            return None
        return self._begin(copy, _replacement(row_id, changed, term, expected=(row[0], row[1])))

    def begin_delete(self, plan: DeletePlan, layout: TableLayout, context: StatementContext) -> BegunWrite | None:
        """As :meth:`begin_update`."""
        if not is_by_one_key(plan) or layout.routing is not None:
            return None
        row_id = self._id(plan, context)
        if row_id is None:
            return None
        copy, term = self._local_copy(layout, row_id)
        if copy is None:
            return None
        batch = WriteBatch(kind="delete", ids=(row_id,), rows=None, primary_term=term)
        return self._begin(copy, batch, missing=0)

    def _begin(self, copy: Shard, batch: WriteBatch, *, missing: int | None = None) -> BegunWrite | None:
        """``missing``: the outcome if the row is refused; None: then the general way finds out."""
        result = self._primary.write_one_nowait(copy, batch)
        if result is None:
            return None  # the general way waits for room
        if result.failures:
            return None if missing is None else BegunWrite(copy, result.position, missing)
        return BegunWrite(copy, result.position, 1)

    def _local_copy(self, layout: TableLayout, row_id: str) -> tuple[Shard | None, int]:
        return self._router.local_copy(self._cluster.state, layout.definition, layout.shard_of(row_id))

    def _id(self, plan: UpdatePlan | DeletePlan, context: StatementContext) -> str | None:
        assert isinstance(plan.find, GetPlan)
        return self._lookups.one_id(plan.find, context)


def _replacement(row_id: str, row: PlainRow, primary_term: int, *, expected: tuple[int, int]) -> WriteBatch:
    return WriteBatch(kind="index", ids=(row_id,), rows=row, primary_term=primary_term, expected=(expected,))


def is_by_one_key(plan: UpdatePlan | DeletePlan) -> bool:
    """One key, and nothing that needs the row that was seen."""
    find = plan.find
    return (
        isinstance(find, GetPlan)
        and len(find.keys) == 1
        and not find.is_by_id
        and find.residual is None
        and not plan.returning
        and not plan.expects_version
    )


def _prepare(plan: UpdatePlan, layout: TableLayout) -> _SingleUpdate | None:
    if not is_by_one_key(plan) or plan.generated or plan.checks or layout.routing is not None:
        return None
    if layout.has_costly_analyzers:
        return None
    fits = [fit_of(column) for column in layout.columns]
    places: list[tuple[int, Fit]] = []
    for item in plan.assignments:
        place = layout.position_by_name.get(item.name)
        fit = None if place is None else fits[place]
        if place is None or fit is None or not isinstance(item.expression, Literal | Parameter):
            return None
        if item.expression.type.kind != layout.columns[place].type.kind:
            return None
        places.append((place, fit))
    if None in fits:
        return None
    required = frozenset(layout.position_by_name[column.name] for column in layout.required)
    return _SingleUpdate(
        layout=layout,
        sources=_sources(layout),
        expressions=tuple(item.expression for item in plan.assignments),
        places=tuple(places),
        required=required,
    )


def _sources(layout: TableLayout) -> tuple[str, ...]:
    return ("_seq_no", "_primary_term", *layout.schema.names)
