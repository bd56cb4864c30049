"""A search of a shard: which rows match, their scores, and their columns as record batches.

In: a view, a request, the layout. Out: batches like those of a scan. First the index says which rows (:class:`_Found`), then
columns are gathered for these rows only: cell by cell if they are few, by selection from a block if they are many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import tantivy

from cratepy.model.search import MatchQuery
from cratepy.records import dataclass
from cratepy.storage.blocks import Layout
from cratepy.storage.operations import SearchRequest
from cratepy.storage.text.fields import text_fields
from cratepy.storage.text.gathering import Gatherer
from cratepy.storage.text.hits import BestHit, Hits, best_rows, matching_rows, scored_rows
from cratepy.storage.text.queries import EVERYTHING, NOTHING, Always, Built, QueryMaker
from cratepy.storage.text.usual import SCORE
from cratepy.storage.text.view import SearchableGroup, TextView

MATCH_PREFIX: Final = "_match_"
_MUST: Final = tantivy.Occur.Must
_SHOULD: Final = tantivy.Occur.Should


Makers = Sequence[tuple[SearchableGroup | None, QueryMaker]]


def search_segments(view: TextView, makers: Makers, request: SearchRequest, layout: Layout) -> list[pa.RecordBatch]:
    """See :class:`~cratepy.storage.operations.SearchRequest`."""
    search = _Search(view, makers, request, layout)
    if request.limit is not None:
        batch = search.best(request.limit)
        return [] if batch is None else [batch]
    return search.all()


def best_values(view: TextView, makers: Makers, request: SearchRequest, layout: Layout) -> list[tuple[Any, ...]]:
    """The best ``request.limit`` rows as tuples of SQL values: for a few rows Arrow costs more than the search."""
    assert request.limit is not None
    return _Search(view, makers, request, layout).best_rows(request.limit)


def query_makers(view: TextView, layout: Layout) -> Makers:
    """One per group, and one for the segments without an index."""
    definition = layout.definition
    known = {field.source: field.analyzer for field in text_fields(definition)}
    makers: list[tuple[SearchableGroup | None, QueryMaker]] = [
        (
            group,
            QueryMaker(
                searcher=group.searcher,
                schema=group.schema,
                indexed={source: field.analyzer for source, field in group.fields.items()},
                known=known,
                custom=definition.analyzers,
            ),
        )
        for group in view.groups
    ]
    if view.without_index or not makers:
        makers.append((None, QueryMaker(None, None, {}, known, definition.analyzers)))
    return makers


@dataclass(frozen=True, slots=True)
class _Group:
    """The request's queries for some segments: ``group`` is None for those without an index."""

    group: SearchableGroup | None
    ordinals: tuple[int, ...]
    built: tuple[Built, ...]


class _Search:
    def __init__(self, view: TextView, makers: Makers, request: SearchRequest, layout: Layout) -> None:
        self._segments = view.segments
        self._request = request
        self._layout = layout
        queries = request.queries
        matches = tuple(i for i, query in enumerate(queries) if isinstance(query, MatchQuery))
        self._scored = matches if request.scored is None else request.scored
        self._groups = [
            _Group(
                group,
                view.without_index if group is None else group.ordinals,
                tuple(maker.make(query) for query in queries),
            )
            for group, maker in makers
        ]
        self._gather = Gatherer(view.segments, layout)

    # --- the best rows -----------------------------------------------------------------------------------------------

    def best(self, limit: int) -> pa.RecordBatch | None:
        hits = self._best_hits(limit)
        if not hits:
            return None
        sources = self._request.sources
        columns = []
        for source, values in zip(sources, self._values(hits), strict=True):
            if source == SCORE:
                columns.append(pa.array(values, pa.float32()))
            elif source.startswith(MATCH_PREFIX):
                columns.append(pa.array(values, pa.bool_()))
            else:
                columns.append(self._gather.as_column(source, values))
        return _batch(columns, sources, len(hits))

    def best_rows(self, limit: int) -> list[tuple[Any, ...]]:
        hits = self._best_hits(limit)
        return list(zip(*self._values(hits), strict=True)) if self._request.sources else [()] * len(hits)

    def _best_hits(self, limit: int) -> list[BestHit]:
        hits: list[BestHit] = []
        for part in self._groups:
            query, constant = self._score_query(part)
            if query is NOTHING:
                continue
            if part.group is None or isinstance(query, Always) or not self._request.required:
                hits.extend(self._best_of_all(part, limit))
            else:
                found = best_rows(part.group, self._segments, query, limit)
                hits.extend(
                    [(_sum(score, -constant), ordinal, row) for score, ordinal, row in found] if constant else found
                )
        if len(self._groups) > 1 or not self._request.required:
            hits.sort()
        return hits[:limit]

    def _values(self, hits: Sequence[BestHit]) -> list[list[Any]]:
        """SQL values of each source."""
        cells = self._gather.cells([hit[1] for hit in hits], [hit[2] for hit in hits])
        columns: list[list[Any]] = []
        flags: dict[str, list[bool]] = {}
        for source in self._request.sources:
            if source == SCORE:
                columns.append([-hit[0] for hit in hits] if self._scored else [1.0] * len(hits))
            elif source.startswith(MATCH_PREFIX):
                if source not in flags:
                    flags[source] = self._flags_of(source, hits)
                columns.append(flags[source])
            else:
                columns.append(cells.values(source))
        return columns

    def _best_of_all(self, part: _Group, limit: int) -> list[BestHit]:
        """Where all rows may be in the answer, those with no score, too."""
        hits: list[BestHit] = []
        for ordinal, found in self._found(part, with_scores=True).items():
            assert found.scores is not None
            order = np.argsort(-found.scores, kind="stable")[:limit]
            scores, rows = (-found.scores[order]).tolist(), found.rows[order].tolist()
            hits.extend((score, ordinal, row) for score, row in zip(scores, rows, strict=True))
        return hits

    def _flags_of(self, source: str, hits: Sequence[BestHit]) -> list[bool]:
        places = np.array([hit[1] for hit in hits])
        all_rows: np.ndarray = np.array([hit[2] for hit in hits], dtype=np.int64)
        flags: np.ndarray = np.zeros(len(hits), dtype=bool)
        for part in self._groups:
            for ordinal, matching in self._matching(part, self._ordinal_of(source)).items():
                here = np.flatnonzero(places == ordinal)
                flags[here] = True if matching is None else np.isin(all_rows[here], matching)
        return flags.tolist()

    # --- all rows ----------------------------------------------------------------------------------------------------

    def all(self) -> list[pa.RecordBatch]:
        request = self._request
        with_scores = SCORE in request.sources and bool(self._scored)
        found: dict[int, Hits] = {}
        flags: dict[str, dict[int, np.ndarray | None]] = {}
        for part in self._groups:
            found.update(self._found(part, with_scores=with_scores))
        for source in request.sources:
            if source.startswith(MATCH_PREFIX) and source not in flags:
                flags[source] = {}
                for part in self._groups:
                    flags[source].update(self._matching(part, self._ordinal_of(source)))
        batches = []
        for ordinal in sorted(found):
            segment = self._segments[ordinal].segment
            hits = found[ordinal]
            bounds: list[int] = np.searchsorted(hits.rows, np.array(segment.starts)).tolist()  # type: ignore[assignment]
            for index in range(len(segment.blocks)):
                first, end = bounds[index], bounds[index + 1]
                if first == end or not segment.may_match(index, request.ranges):
                    continue
                rows = hits.rows[first:end]
                columns = []
                for source in request.sources:
                    if source == SCORE:
                        columns.append(
                            pa.array(
                                np.ones(len(rows), dtype=np.float32) if hits.scores is None else hits.scores[first:end]
                            )
                        )
                    elif source in flags:
                        columns.append(_flags(flags[source], ordinal, rows))
                    else:
                        columns.append(self._gather.column(source, ordinal, index, rows))
                batches.append(_batch(columns, request.sources, len(rows)))
        return batches

    def _found(self, part: _Group, *, with_scores: bool) -> dict[int, Hits]:
        """The rows of the answer, by segment."""
        required, constant = self._required(part)
        if required is NOTHING:
            return {}
        group = part.group
        if not with_scores or group is None:
            if group is None or required is EVERYTHING:
                rows = self._live_rows(part.ordinals)
            else:
                rows = matching_rows(group, self._segments, required)
            if not with_scores:
                return {ordinal: Hits(found) for ordinal, found in rows.items()}
            return {
                ordinal: Hits(found, np.full(len(found), constant if self._scored else 1.0, dtype=np.float32))
                for ordinal, found in rows.items()
            }
        query, constant = self._score_query(part)
        scored = {} if isinstance(query, Always) else scored_rows(group, self._segments, query)
        if required is not EVERYTHING:
            return {ordinal: _raised(hits, constant) for ordinal, hits in scored.items()}
        result = {}
        for ordinal, alive in self._live_rows(part.ordinals).items():
            scores: np.ndarray = np.full(len(alive), constant if self._scored else 1.0, dtype=np.float32)
            if ordinal in scored:
                hits = scored[ordinal]
                scores[alive.searchsorted(hits.rows)] += hits.scores
            result[ordinal] = Hits(alive, scores)
        return result

    def _required(self, part: _Group) -> tuple[Built, float]:
        """What every row of the answer matches, without scores; and the score of a row that matches everything."""
        must = [built for built in part.built[: self._request.required] if built is not EVERYTHING]
        constant = float(sum(part.built[ordinal] is EVERYTHING for ordinal in self._scored))
        if any(built is NOTHING for built in must):
            return NOTHING, constant
        if not must:
            return EVERYTHING, constant
        if len(must) == 1:
            return must[0], constant
        return tantivy.Query.boolean_query([(_MUST, built) for built in must]), constant

    def _score_query(self, part: _Group) -> tuple[Built, float]:
        """The required queries and the optional ones with a score, so that a row's score is the sum of the scored."""
        count = self._request.required
        if count == 1 and len(part.built) == 1 and self._scored and not isinstance(part.built[0], Always):
            return part.built[0], 0.0
        required, constant = self._required(part)
        if required is NOTHING:
            return NOTHING, constant
        clauses = []
        for ordinal, built in enumerate(part.built):
            if isinstance(built, Always):
                continue
            if ordinal in self._scored:
                clauses.append((_MUST if ordinal < count else _SHOULD, built))
            elif ordinal < count:
                clauses.append((_MUST, tantivy.Query.const_score_query(built, 0.0)))
        if not clauses:
            return EVERYTHING, constant
        if len(clauses) == 1:
            return clauses[0][1], constant
        return tantivy.Query.boolean_query(clauses), constant

    def _matching(self, part: _Group, ordinal: int) -> dict[int, np.ndarray | None]:
        """Rows that match one query, by segment; None: all."""
        built = part.built[ordinal]
        if ordinal < self._request.required or built is EVERYTHING:
            return dict.fromkeys(part.ordinals)
        if built is NOTHING or part.group is None:
            return {}
        return dict(matching_rows(part.group, self._segments, built))

    def _live_rows(self, ordinals: Sequence[int]) -> dict[int, np.ndarray]:
        result = {}
        for ordinal in ordinals:
            live = self._segments[ordinal]
            rows = np.arange(live.segment.rows)
            if live.deletes is not None:
                is_alive: np.ndarray = np.ones(len(rows), dtype=bool)
                is_alive[np.array(live.deletes, dtype=np.int64)] = False
                rows = np.flatnonzero(is_alive)
            if len(rows):
                result[ordinal] = rows
        return result

    def _ordinal_of(self, source: str) -> int:
        ordinal = int(source.removeprefix(MATCH_PREFIX))
        assert 0 <= ordinal < len(self._request.queries), f"there is no query {ordinal}"
        return ordinal


def _sum(score: float, constant: float) -> float:
    return float(np.float32(score + constant))


def _raised(hits: Hits, constant: float) -> Hits:
    if not constant:
        return hits
    assert hits.scores is not None
    return Hits(hits.rows, hits.scores + np.float32(constant))


def _flags(found: Mapping[int, np.ndarray | None], ordinal: int, rows: np.ndarray) -> pa.Array:
    if ordinal not in found:
        return pa.array(np.zeros(len(rows), dtype=bool))
    matching = found[ordinal]
    if matching is None:
        return pa.array(np.ones(len(rows), dtype=bool))
    return pa.array(np.isin(rows, matching, assume_unique=True))


def _batch(columns: list[pa.Array], sources: Sequence[str], count: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(columns, names=list(sources))
    # pyarrow keeps the length of a batch without columns when it is made by dropping them.
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["rows"]).select([])
