"""The best rows by score, without the engine: the usual search, ``ORDER BY _score DESC LIMIT 10`` on one node.

In: a query's only phase. Out: its rows, if it does no more than merge the best of each shard, cut them and name them. With
the engine such a query would take three times as long: it plans a text and makes batches of a handful of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.execution.cpu import Workers
from cratepy.execution.engine.constants import constant_values
from cratepy.execution.searching import ScanReader, scan_reader
from cratepy.execution.sources import LocalSources, local_shards
from cratepy.model.arrow import arrow_type, from_arrow
from cratepy.model.expressions import Column, Expression
from cratepy.model.plan import Phase, StatementContext
from cratepy.model.relations import Limit, Project, Relation, Scan, Sort, output_columns
from cratepy.records import dataclass
from cratepy.storage.operations import SearchRequest

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard

#: More rows are sorted by the engine.
_ROWS_MAX: Final = 256
#: Sources whose values a shard gives as JSON texts.
_ARE_TEXTS: Final = frozenset({"_doc", "_raw"})


@dataclass(frozen=True, slots=True)
class BestOf:
    """A query that is a merge of its scan's best rows."""

    scan: Scan
    #: Places of the output's columns, and of the score, among the scan's.
    columns: tuple[int, ...]
    score: int
    #: Places of the columns of which one must be true; none if every row counts.
    any_of: tuple[int, ...]
    count: Expression
    offset: Expression | None


def best_of(relation: Relation) -> BestOf | None:
    """How to answer the relation from the best rows of each shard; None if it asks for more."""
    wanted = [column.id for column in output_columns(relation)]
    if isinstance(relation, Project):
        items = [item.expression for item in relation.items]
        if not all(isinstance(item, Column) for item in items):
            return None
        wanted = [item.id for item in items if isinstance(item, Column)]
        relation = relation.child
    match relation:
        case Limit(child=Sort(child=Scan() as scan, keys=(key,)), count=count, offset=offset) if (
            scan.best is not None
            and not scan.best.with_ties
            and not scan.best.tests_filter
            and count is not None
            and isinstance(key.expression, Column)
        ):
            places = {column.id: i for i, column in enumerate(scan.columns)}
            sources = {column.source: i for i, column in enumerate(scan.columns)}
            # Whose best rows an index knows has no filter but that one of these matches.
            any_of = () if scan.filter is None else tuple(sources[source] for source in scan.any_of)
            columns = tuple(places[i] for i in wanted)
            return BestOf(scan, columns, places[key.expression.id], any_of, count, offset)
        case _:
            return None


class BestSearch:
    """A search of some shards. Each is read once, by any thread; then the rows are merged.

    Most searches take less than waking a thread, so one thread reads all shards; where it has taken long, many do.
    """

    def __init__(self, plan: BestOf, reader: ScanReader, shards: Sequence[Shard], wanted: slice, clock: Clock) -> None:
        self._plan = plan
        self._reader = reader
        self._shards = shards
        self._wanted = wanted
        self._clock = clock
        self._found: list[list[tuple[Any, ...]]] = [[] for _ in shards]
        #: Places of the shards that are still to be read.
        self.rest = list(reversed(range(len(shards))))
        self._score, self._picked = plan.score, plan.columns
        #: Asks for values instead of batches. What is not among them is true in every row: it stands behind the last.
        self._request: SearchRequest | None = None
        request = reader.best
        if request is not None and not plan.any_of and not _ARE_TEXTS.intersection(request.sources):
            places = [len(request.sources) if s is None else request.sources.index(s) for s in reader.sources]
            self._request = request
            self._score, self._picked = places[plan.score], tuple([places[i] for i in plan.columns])

    def read(self, place: int) -> None:
        """For a worker thread."""
        shard = self._shards[place]
        if self._request is not None:
            self._found[place] = [(*row, True) for row in shard.best(self._request)]
            return
        for batch in self._reader.read(shard):
            rows = _rows(batch, self._plan.scan, self._reader.sources)
            if self._plan.any_of:
                rows = [row for row in rows if any(row[place] for place in self._plan.any_of)]
            self._found[place].extend(rows)

    def read_quick(self) -> None:
        """Read one shard after the other while that is quick. For a worker thread."""
        until = self._clock.monotonic() + limits.SEARCH_ALONE_S
        while self.rest:
            self.read(self.rest.pop())
            if self._clock.monotonic() > until:
                return

    async def finish(self, workers: Workers) -> list[tuple[Any, ...]]:
        """Read the rest, a thread for each shard. Raises what the first of them fails with."""
        errors: list[Exception] = []

        async def read(place: int) -> None:
            try:
                await workers.compute(self.read, place)
            except Exception as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for place in self.rest:
                nursery.start_soon(read, place)
        if errors:
            raise errors[0]
        return await workers.compute(self.rows)

    def rows(self) -> list[tuple[Any, ...]]:
        """As SQL values, when every shard has been read."""
        score = self._score
        # No two have the same number, so values that cannot be compared never are.
        numbered = enumerate([row for rows in self._found for row in rows])
        best = sorted([(-row[score], number, row) for number, row in numbered])
        return [tuple([row[i] for i in self._picked]) for _, _, row in best[self._wanted]]


def begin_best(
    plan: BestOf, phase: Phase, context: StatementContext, sources: LocalSources, clock: Clock
) -> BestSearch | None:
    """The search for the plan's rows; None if the engine has to see to it (many rows, odd counts)."""
    count, offset = constant_values([plan.count, plan.count if plan.offset is None else plan.offset], context)
    offset = 0 if plan.offset is None or offset is None else offset
    if count is None or count < 0 or offset < 0 or count + offset > _ROWS_MAX:
        return None
    shards = list(local_shards(plan.scan, phase, sources))
    return BestSearch(plan, scan_reader(plan.scan, context), shards, slice(offset, offset + count), clock)


def _rows(batch: pa.RecordBatch, scan: Scan, sources: Sequence[str | None]) -> list[tuple[Any, ...]]:
    columns = []
    for column, source in zip(scan.columns, sources, strict=True):
        if source is None:
            columns.append([True] * batch.num_rows)
            continue
        array, kind = batch.column(source), arrow_type(column.type)
        columns.append(from_arrow(array if array.type == kind else array.cast(kind), column.type))
    return list(zip(*columns, strict=True))
