"""The usual search: the best rows by score of one MATCH, in a shard whose segments are one view.

In: the query makers of a view, a request. Out: rows as tuples of SQL values, or None if the request is of another kind (see
``searching``, which would give the same); one that is short (:class:`ShortSearch`) may run on any thread. Its own room because the interpreter's steps are what such a search costs beside the
index: a search that reads a megabyte of postings leaves nothing of us in the processor's caches, and then each object and function
that is touched for the first time takes as long as ten of them otherwise. So there are few here, and nothing is made that is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cratepy.storage.blocks import Layout
from cratepy.storage.merging import LiveSegment
from cratepy.storage.operations import SearchRequest
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.failures import contained
from cratepy.storage.text.queries import Always, Built, QueryMaker
from cratepy.storage.text.view import SearchableGroup

SCORE: Final = "_score"
#: A score and the index's address of the row.
Hit = tuple[float, Any]
#: Fails the copy and says with what.
Damaged = Callable[[SegmentDamaged], Exception]
#: Sources that are not read from one column of the row.
_NO_COLUMNS: Final = frozenset({"_docid", "_doc", "_raw", "_match_0"})


def usual_query(
    makers: Sequence[tuple[SearchableGroup | None, QueryMaker]], request: SearchRequest
) -> tuple[SearchableGroup, Built] | None:
    """The group to search and the query to ask it; None: the search is not a usual one."""
    if len(makers) != 1 or request.required != 1 or len(request.queries) != 1 or request.scored is not None:
        return None
    group, maker = makers[0]
    if group is None or not group.honours_deletes or not _NO_COLUMNS.isdisjoint(request.sources):
        return None
    query = maker.make(request.queries[0])
    return None if isinstance(query, Always) else (group, query)


def usual_hits(group: SearchableGroup, query: Built, limit: int) -> list[Hit]:
    """At most so many rows, the best first."""
    # More than there are documents would be allocated nevertheless; too many abort the process.
    limit = min(limit, group.documents)
    if limit < 1:
        return []
    hits: list[Hit] = group.searcher.search(query, limit, False).hits
    return hits


def usual_values(
    group: SearchableGroup,
    segments: Sequence[LiveSegment],
    hits: Sequence[Hit],
    sources: Sequence[str],
    layout: Layout,
) -> list[tuple[Any, ...]]:
    """The rows that were hit."""
    ordinals = group.ordinals
    if len(ordinals) == 1:
        locate = segments[ordinals[0]].segment.locate
        cells = [locate(address.doc) for _, address in hits]
    else:
        cells = [segments[ordinals[address.segment_ord]].segment.locate(address.doc) for _, address in hits]
    columns: list[list[Any]] = []
    for source in sources:
        if source == SCORE:
            columns.append([score for score, _ in hits])
            continue
        source = "_id" if source == "_uid" else source
        kind = layout.type_of(source)
        columns.append([(block.readers.get(source) or block.reader(source, kind))(row) for block, row in cells])
    return list(zip(*columns, strict=True)) if columns else [()] * len(hits)


class ShortSearch:
    """A usual search that takes microseconds, of one state of the shard: what it reads stays as it is, whatever happens to the shard."""

    __slots__ = ("_damaged", "_group", "_layout", "_query", "_request", "_segments", "cost")

    def __init__(
        self,
        group: SearchableGroup,
        query: Built,
        segments: Sequence[LiveSegment],
        request: SearchRequest,
        layout: Layout,
        cost: int,
        damaged: Damaged,
    ) -> None:
        self._group = group
        self._query = query
        self._segments = segments
        self._request = request
        self._layout = layout
        #: Entries of the index that it reads, about.
        self.cost = cost
        self._damaged = damaged

    def hits(self) -> list[Hit]:
        """The best rows, to choose from and to be given to :meth:`rows`; they begin with the score. Raises TextIndexFailed."""
        assert self._request.limit is not None
        with contained("the search failed"):
            return usual_hits(self._group, self._query, self._request.limit)

    def rows(self, hits: Sequence[Hit]) -> list[tuple[Any, ...]]:
        """These rows as the request wants them. Raises ShardFailed."""
        try:
            return usual_values(self._group, self._segments, hits, self._request.sources, self._layout)
        except SegmentDamaged as error:
            raise self._damaged(error) from error
