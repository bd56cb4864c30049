"""From a query to rows: all of them, with scores or without, or the best k.

In: a group of segments and a query of it. Out: numpy arrays of rows per segment, ascending. tantivy gives hits as Python
tuples only, 0.2 to 0.4 µs each; of a query that most rows match, the other rows are asked for instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tantivy
from pyroaring import BitMap

from cratepy.records import dataclass
from cratepy.storage.merging import LiveSegment
from cratepy.storage.text.formats import TIE_FIELD
from cratepy.storage.text.view import SearchableGroup

_ASCENDING: Final = tantivy.Order.Asc


@dataclass(frozen=True, slots=True)
class Hits:
    """Rows of one segment, ascending, and their scores (float32) if asked for."""

    rows: np.ndarray
    scores: np.ndarray | None = None


#: (negative score, segment ordinal, row): sorts as the best rows are to be.
BestHit = tuple[float, int, int]


def matching_rows(group: SearchableGroup, segments: Sequence[LiveSegment], query: Any) -> dict[int, np.ndarray]:
    """Live rows that match, per segment ordinal; segments without any are left out."""
    searcher = group.searcher
    count = int(searcher.search(query, limit=1).count)
    if not count:
        return {}
    documents = group.documents
    if count * 2 <= documents or not group.honours_deletes:
        return _only_live(group, segments, _rows(group, query, count))
    others: dict[int, np.ndarray] = {}
    if count < documents:
        rest = tantivy.Query.boolean_query(
            [(tantivy.Occur.Must, tantivy.Query.all_query()), (tantivy.Occur.MustNot, query)]
        )
        others = _rows(group, rest, documents - count)
    found = {}
    for ordinal in group.ordinals:
        live = segments[ordinal]
        is_hit: np.ndarray = np.ones(live.segment.rows, dtype=bool)
        if live.deletes is not None:
            is_hit[_array(live.deletes)] = False
        if ordinal in others:
            is_hit[others[ordinal]] = False
        rows = np.flatnonzero(is_hit)
        if len(rows):
            found[ordinal] = rows
    return found


def scored_rows(group: SearchableGroup, segments: Sequence[LiveSegment], query: Any) -> dict[int, Hits]:
    """As :func:`matching_rows`, with scores."""
    count = int(group.searcher.search(query, limit=1).count)
    if not count:
        return {}
    hits = group.searcher.search(query, limit=count, count=False).hits
    scores = np.fromiter((hit[0] for hit in hits), dtype=np.float32, count=len(hits))
    places, rows = _places(group, hits)
    found = {}
    for place, ordinal in enumerate(group.ordinals):
        here = np.flatnonzero(places == place) if len(group.ordinals) > 1 else np.arange(len(rows))
        here = here[np.argsort(rows[here], kind="stable")]
        live = segments[ordinal]
        if not group.honours_deletes and live.deletes is not None:
            here = here[~np.isin(rows[here], _array(live.deletes))]
        if len(here):
            found[ordinal] = Hits(rows[here], scores[here])
    return found


def best_rows(group: SearchableGroup, segments: Sequence[LiveSegment], query: Any, limit: int) -> list[BestHit]:
    """At most ``limit`` live rows, the best first."""
    documents = group.documents
    dead = 0 if group.honours_deletes else sum(segments[ordinal].deleted for ordinal in group.ordinals)
    # More than there are documents would be allocated nevertheless; too many abort the process.
    asked = min(limit + dead, documents)
    if asked < 1:
        return []
    hits = group.searcher.search(query, limit=asked, count=False).hits
    ordinals = group.ordinals
    best = [(-score, ordinals[address.segment_ord], address.doc) for score, address in hits]
    if not group.honours_deletes:
        best = [hit for hit in best if not segments[hit[1]].is_dead(hit[2])][:limit]
    return best


def _rows(group: SearchableGroup, query: Any, count: int) -> dict[int, np.ndarray]:
    """Rows of all hits, dead ones too if the group does not know them."""
    if group.tie_bases[0] >= 0:
        keys = [
            hit[0]
            for hit in group.searcher.search(
                query, limit=count, count=False, order_by_field=TIE_FIELD, order=_ASCENDING
            ).hits
        ]
        values: np.ndarray = np.array(keys, dtype=np.int64)
        found: dict[int, np.ndarray] = {}
        for base, rows, ordinal in zip(group.tie_bases, group.rows, group.ordinals, strict=True):
            first, end = int(values.searchsorted(base)), int(values.searchsorted(base + rows))
            if end > first:
                found[ordinal] = values[first:end] - base
        return found
    hits = group.searcher.search(query, limit=count, count=False).hits
    places, documents = _places(group, hits)
    found = {}
    for place, ordinal in enumerate(group.ordinals):
        here = documents[places == place]
        if len(here):
            found[ordinal] = np.sort(here)
    return found


def _places(group: SearchableGroup, hits: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    rows: np.ndarray = np.fromiter((hit[1].doc for hit in hits), dtype=np.int64, count=len(hits))
    if len(group.ordinals) == 1:
        return np.zeros(len(hits), dtype=np.int64), rows
    return np.fromiter((hit[1].segment_ord for hit in hits), dtype=np.int64, count=len(hits)), rows


def _only_live(
    group: SearchableGroup, segments: Sequence[LiveSegment], found: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    if group.honours_deletes:
        return found
    kept = {}
    for ordinal, rows in found.items():
        deletes = segments[ordinal].deletes
        alive = rows if deletes is None else rows[~np.isin(rows, _array(deletes))]
        if len(alive):
            kept[ordinal] = alive
    return kept


def _array(rows: BitMap) -> np.ndarray:
    return np.array(rows, dtype=np.int64)
