"""The optimistic loop: read the newest version of rows, change them, write each under the version that was read.

In: ids (with the versions a search has seen, if any) and what to do with the rows. Out: which rows were changed, which are
gone, which failed. Its own room because UPDATE and ON CONFLICT DO UPDATE are the same loop, and it is where no acknowledged
change of somebody else may be overwritten blindly::

    pending ─► read newest ─► still wanted? ─► compute ─► write if version is the one read ─► done
       ▲                                                        │ conflict
       └────────────────────────────────────────────────────────┘

An id that stands in the statement twice is changed twice, in order. For a few rows whose primaries are on this node there is
no await between the read and the write, so there is nothing to conflict with. Source: CrateDB's ``TransportShardUpsertAction``
(retry on version conflict); PostgreSQL's EvalPlanQual for looking at the predicate again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import CrateError, VersionConflict
from cratepy.execution.engine.engine import Engine
from cratepy.execution.lookups import Row, RowReader
from cratepy.execution.writes.assignments import Changes, changed_rows
from cratepy.execution.writes.expressions import evaluate
from cratepy.execution.writes.growth import grow
from cratepy.execution.writes.layout import Layouts, TableLayout
from cratepy.execution.writes.returning import WrittenRows
from cratepy.execution.writes.router import RowWrites, WriteRouter
from cratepy.execution.writes.values import column_of_values
from cratepy.model.leaves import leaves_of
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item
from cratepy.model.schema import TableDefinition
from cratepy.records import dataclass
from cratepy.storage.leaves import shred


@dataclass(frozen=True, slots=True)
class Recheck:
    """The WHERE of a search, to be asked again of a newer version: a boolean item, and its column ids → oids.

    ``leaves`` are the columns that are parts of objects, by their sources.
    """

    condition: Item
    oids: Mapping[int, int]
    leaves: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Rows to change. ``seen`` are the (seq_no, primary_term) a search saw; ``shards`` their shards."""

    definition: TableDefinition
    ids: Sequence[str]
    shards: Sequence[int]
    seen: Sequence[tuple[int, int]] | None = None
    recheck: Recheck | None = None
    #: A row that is not the version seen is left alone.
    is_pinned: bool = False


@dataclass(slots=True)
class UpdateOutcome:
    written: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    errors: dict[int, CrateError] = field(default_factory=dict)
    #: Of the new rows, in memory.
    written_bytes: int = 0
    pieces: list[WrittenRows] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRows:
    """Rows read in one round: their positions, versions and columns at rest."""

    positions: list[int]
    versions: list[tuple[int, int]]
    #: ``_version``, which counts the changes of a row.
    counts: list[int]
    columns: dict[int, pa.Array]

    def kept(self, keep: list[int]) -> ReadRows:
        if len(keep) == len(self.positions):
            return self
        places = pa.array(keep, type=pa.int64())
        return ReadRows(
            positions=[self.positions[i] for i in keep],
            versions=[self.versions[i] for i in keep],
            counts=[self.counts[i] for i in keep],
            columns={oid: array.take(places) for oid, array in self.columns.items()},
        )


class Updater:
    """Changes rows, whatever other writers do meanwhile."""

    def __init__(
        self, *, cluster: ClusterService, engine: Engine, router: WriteRouter, reader: RowReader, layouts: Layouts
    ) -> None:
        self._cluster = cluster
        self._engine = engine
        self._router = router
        self._reader = reader
        self._layouts = layouts

    async def update(
        self,
        candidates: Candidates,
        changes: Changes,
        context: StatementContext,
        *,
        proposed: Mapping[int, pa.Array] | None = None,
        assigned: Sequence[pa.Array] | None = None,
        wants_rows: bool = False,
    ) -> UpdateOutcome:
        """Change all rows. ``proposed`` and ``assigned`` are arrays as long as ``candidates.ids``."""
        outcome = UpdateOutcome()
        definition = candidates.definition
        pending = list(range(len(candidates.ids)))
        stuck_rounds = 0
        while pending:
            now, pending = _first_of_each(pending, candidates.ids)
            layout = self._layouts.of(definition)
            found = await self.read_rows(candidates, now, layout, outcome)
            found = self.still_wanted(candidates, found, context)
            if not found.positions:
                continue
            block, grown = changed_rows(
                layout,
                found.columns,
                len(found.positions),
                changes,
                self._engine,
                context,
                None if proposed is None else _taken(proposed, found.positions),
                None if assigned is None else [array.take(pa.array(found.positions)) for array in assigned],
            )
            if grown:
                definition = await grow(self._cluster, definition, grown)
                pending = now + pending
                stuck_rounds = _counted(stuck_rounds, limits.DYNAMIC_ROUNDS_MAX)
                continue
            for row, error in block.errors.items():
                outcome.errors[found.positions[row]] = error
            good = block.good_rows()
            keep = list(range(block.count)) if good is None else good.tolist()
            if not keep:
                continue
            batch = block.batch()
            if good is not None:
                batch, found = batch.take(pa.array(good)), found.kept(keep)
            conflicts = await self._write(candidates, definition, found, batch, outcome, wants_rows=wants_rows)
            stuck_rounds = 0 if len(conflicts) < len(keep) else _counted(stuck_rounds, limits.WRITE_CONFLICT_ROUNDS_MAX)
            if not candidates.is_pinned:
                pending = sorted(conflicts + pending)
        return outcome

    async def read_rows(
        self, candidates: Candidates, positions: list[int], layout: TableLayout, outcome: UpdateOutcome
    ) -> ReadRows:
        """The newest versions; rows that are gone are noted in the outcome."""
        sources = ["_seq_no", "_primary_term", "_version", *(field.name for field in layout.schema)]
        ids, shards = candidates.ids, candidates.shards
        rows = await self._reader.read(
            layout.definition, [ids[i] for i in positions], [shards[i] for i in positions], sources
        )
        present: list[int] = []
        values: list[Row] = []
        for position, row in zip(positions, rows, strict=True):
            if row is None:
                outcome.missing.add(position)
            else:
                present.append(position)
                values.append(row)
        if not present:
            return ReadRows(positions=[], versions=[], counts=[], columns={})
        columns = list(zip(*values, strict=True))
        return ReadRows(
            positions=present,
            versions=list(zip(columns[0], columns[1], strict=True)),
            counts=list(columns[2]),
            columns={
                column.oid: column_of_values(list(columns[i + 3]), column.type)
                for i, column in enumerate(layout.columns)
            },
        )

    def still_wanted(self, candidates: Candidates, found: ReadRows, context: StatementContext) -> ReadRows:
        """Without the rows that changed since the search so that the statement does not mean them any more."""
        seen = candidates.seen
        if seen is None or not found.positions:
            return found
        changed = [
            i
            for i, (position, version) in enumerate(zip(found.positions, found.versions, strict=True))
            if seen[position] != version
        ]
        if not changed:
            return found
        if candidates.is_pinned:
            dropped = set(changed)
            return found.kept([i for i in range(len(found.positions)) if i not in dropped])
        recheck = candidates.recheck
        if recheck is None:
            return found
        places = pa.array(changed, type=pa.int64())
        columns = {key: found.columns[oid].take(places) for key, oid in recheck.oids.items()}
        columns.update(_leaf_columns(recheck, candidates.definition, found, places))
        errors: dict[int, CrateError] = {}
        (holds,) = evaluate(self._engine, (recheck.condition,), columns, len(changed), context, errors)
        if errors:
            raise errors[min(errors)]
        dropped = {i for i, is_true in zip(changed, holds.to_pylist(), strict=True) if is_true is not True}
        return found.kept([i for i in range(len(found.positions)) if i not in dropped])

    async def _write(
        self,
        candidates: Candidates,
        definition: TableDefinition,
        found: ReadRows,
        batch: pa.RecordBatch,
        outcome: UpdateOutcome,
        *,
        wants_rows: bool,
    ) -> list[int]:
        """Write the new rows; the positions that met another writer come back."""
        positions = found.positions
        outcome.written_bytes += batch.nbytes
        ids = [candidates.ids[i] for i in positions]
        shards = np.asarray([candidates.shards[i] for i in positions], dtype=np.int64)
        report = await self._router.write(
            RowWrites(definition=definition, kind="index", ids=ids, shards=shards, rows=batch, expected=found.versions),
            wants_versions=wants_rows,
        )
        for row, error in report.errors.items():
            outcome.errors[positions[row]] = error
        done = [i for i in range(len(positions)) if i not in report.refused and i not in report.errors]
        outcome.written.update(positions[i] for i in done)
        if wants_rows and done:
            kept = batch.take(pa.array(done, type=pa.int64()))
            outcome.pieces.append(
                WrittenRows(
                    positions=[positions[i] for i in done],
                    columns={c.oid: kept.column(i) for i, c in enumerate(self._layouts.of(definition).columns)},
                    ids=[ids[i] for i in done],
                    versions=[report.versions[i] for i in done],
                )
            )
        return [positions[i] for i in sorted(report.refused)]


def _leaf_columns(
    recheck: Recheck, definition: TableDefinition, found: ReadRows, places: pa.Array
) -> dict[int, pa.Array]:
    """The parts of objects that the WHERE names, from the objects as they were read."""
    if not recheck.leaves:
        return {}
    known = {leaf.source: (column.oid, leaf) for column in definition.columns for leaf in leaves_of(column)}
    columns = {}
    for key, source in recheck.leaves.items():
        oid, leaf = known[source]
        columns[key] = shred(found.columns[oid].take(places), [leaf])[0]
    return columns


def _taken(columns: Mapping[int, pa.Array], positions: list[int]) -> dict[int, pa.Array]:
    places = pa.array(positions, type=pa.int64())
    return {key: array.take(places) for key, array in columns.items()}


def _first_of_each(pending: list[int], ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """The first pending position of every id, and the rest."""
    if len(pending) == 1:
        return pending, []
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for position in pending:
        row_id = ids[position]
        if row_id in seen:
            rest.append(position)
        else:
            seen.add(row_id)
            first.append(position)
    return first, rest


def _counted(rounds: int, bound: int) -> int:
    if rounds + 1 >= bound:
        raise VersionConflict(f"Rows changed by other writers in each of {bound} attempts")
    return rounds + 1
