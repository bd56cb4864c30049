"""The best rows by score, without the engine: the usual search, ``ORDER BY _score DESC LIMIT 10`` on one node.

In: a query's only phase. Out: its rows, if it does no more than merge the best of each shard, cut them and name them. With
the engine such a query would take three times as long: it plans a text and makes batches of a handful of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cratepy.execution.engine.constants import constant_values
from cratepy.execution.searching import scan_reader
from cratepy.execution.sources import LocalSources, local_shards
from cratepy.model.arrow import arrow_type, from_arrow
from cratepy.model.expressions import Column, Expression
from cratepy.model.plan import Phase, StatementContext
from cratepy.model.relations import Limit, Project, Relation, Scan, Sort, output_columns

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


def read_best(
    plan: BestOf, phase: Phase, context: StatementContext, sources: LocalSources
) -> list[tuple[Any, ...]] | None:
    """The rows as SQL values; None if the engine has to see to it (many rows, odd counts). For a worker thread."""
    count, offset = constant_values([plan.count, plan.count if plan.offset is None else plan.offset], context)
    offset = 0 if plan.offset is None or offset is None else offset
    if count is None or count < 0 or offset < 0 or count + offset > _ROWS_MAX:
        return None
    reader = scan_reader(plan.scan, context)
    request = reader.best
    #: (negative score, number, row of the scan). No two have the same number, so values that cannot be compared never are.
    found: list[tuple[float, int, tuple[Any, ...]]] = []
    if request is not None and not plan.any_of and not _ARE_TEXTS.intersection(request.sources):
        # What is not among the answer's columns is true in every row: it stands behind the last.
        places = [len(request.sources) if s is None else request.sources.index(s) for s in reader.sources]
        score = places[plan.score]
        picked = [places[i] for i in plan.columns]
        for shard in local_shards(plan.scan, phase, sources):
            found.extend((-row[score], len(found) + i, row) for i, row in enumerate(shard.best(request)))
        found.sort()
        return [tuple([(*row, True)[i] for i in picked]) for _, _, row in found[offset : offset + count]]
    for shard in local_shards(plan.scan, phase, sources):
        for batch in reader.read(shard):
            rows = _rows(batch, plan.scan, reader.sources)
            if plan.any_of:
                rows = [row for row in rows if any(row[place] for place in plan.any_of)]
            found.extend((-row[plan.score], len(found) + i, row) for i, row in enumerate(rows))
    found.sort()
    return [tuple([row[i] for i in plan.columns]) for _, _, row in found[offset : offset + count]]


def _rows(batch: pa.RecordBatch, scan: Scan, sources: Sequence[str | None]) -> list[tuple[Any, ...]]:
    columns = []
    for column, source in zip(scan.columns, sources, strict=True):
        if source is None:
            columns.append([True] * batch.num_rows)
            continue
        array, kind = batch.column(source), arrow_type(column.type)
        columns.append(from_arrow(array if array.type == kind else array.cast(kind), column.type))
    return list(zip(*columns, strict=True))
