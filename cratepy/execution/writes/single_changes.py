"""UPDATE and DELETE of one row by its key, in microseconds, as :mod:`~cratepy.execution.writes.single` does for INSERT.

In: an UpdatePlan or DeletePlan that pins one key. Out: how many rows it changed, or None where this short way does not lead
(then the general way does, with the same outcome; nothing was done). Its own room because it is the most usual change of
all: no search, no Arrow, one look at the row where its primary is.

The short way is taken if the shard is on this node, constants are assigned to whole plain columns, and the table has only
such columns: the row goes back as it was read, with the new values. Somebody who is faster sends it the general way.
"""

from __future__ import annotations

from typing import Any

from cratepy.cluster.service import ClusterService
from cratepy.errors import StaleRouting
from cratepy.execution.lookups import LookupService
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.primary import PrimaryWriter
from cratepy.execution.writes.router import WriteRouter
from cratepy.execution.writes.single import UNFIT, Fit, PreparedPlans, SingleInsert, fit_of
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
        """The rows changed, 0 or 1; None: nothing was done, go the general way."""
        prepared = self._updates.of(plan, layout)
        if prepared is None:
            return None
        assigned = prepared.assigned(context)
        row_id = None if assigned is None else self._id(plan, context)
        if assigned is None or row_id is None:
            return None

        copy, term = self._local_copy(layout, row_id)
        if copy is None:
            return None
        try:
            (row,) = copy.get((row_id,), prepared.sources)
            if row is None:
                return 0
            seq_no, seen_term, *values = row
            for place, value in assigned:
                values[place] = value
            batch = WriteBatch(
                kind="index",
                ids=(row_id,),
                rows=PlainRow(layout.schema, values),
                primary_term=term,
                expected=((seq_no, seen_term),),
            )
            result = await self._primary.write_one(copy, batch)
        except StaleRouting:
            return None
        if result.failures:
            return None
        await self._primary.wait_durable(((copy, result.position),))
        return 1

    async def upsert(self, single: SingleInsert, row_id: str, proposed: PlainRow, context: StatementContext) -> bool:
        """Insert the row, or change the one that exists; False: nothing was done, go the general way."""
        copy, term = self._local_copy(single.layout, row_id)
        if copy is None:
            return False
        try:
            (row,) = copy.get((row_id,), _sources(single.layout))
            if row is None:
                batch = WriteBatch(kind="insert", ids=(row_id,), rows=proposed, primary_term=term)
            else:
                changed = single.changed(context, row[2:], proposed.values)
                if changed is None:
                    return False
                batch = WriteBatch(
                    kind="index", ids=(row_id,), rows=changed, primary_term=term, expected=((row[0], row[1]),)
                )
            result = await self._primary.write_one(copy, batch)
        except StaleRouting:
            return False
        if result.failures:
            return False
        await self._primary.wait_durable(((copy, result.position),))
        return True

    async def delete(self, plan: DeletePlan, layout: TableLayout, context: StatementContext) -> int | None:
        """As :meth:`update`."""
        if not is_by_one_key(plan) or layout.routing is not None:
            return None
        row_id = self._id(plan, context)
        if row_id is None:
            return None
        copy, term = self._local_copy(layout, row_id)
        if copy is None:
            return None
        try:
            batch = WriteBatch(kind="delete", ids=(row_id,), rows=None, primary_term=term)
            result = await self._primary.write_one(copy, batch)
        except StaleRouting:
            return None
        # That there is no such row may rest on a deletion that must not be lost after it was told.
        await self._primary.wait_durable(((copy, result.position),))
        return 0 if result.failures else 1

    def _local_copy(self, layout: TableLayout, row_id: str) -> tuple[Shard | None, int]:
        return self._router.local_copy(self._cluster.state, layout.definition, layout.shard_of(row_id))

    def _id(self, plan: UpdatePlan | DeletePlan, context: StatementContext) -> str | None:
        assert isinstance(plan.find, GetPlan)
        return self._lookups.one_id(plan.find, context)


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
