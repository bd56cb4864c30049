"""Searches that take less time than waking a thread, on the event loop: rare words, ``ORDER BY _score DESC LIMIT 10``, all shards here.

In: plans and statements' contexts. Out: the rows, or None: :mod:`best` does it on worker threads, or the engine does. Its own room
because these searches wait for nothing: what they would cost is known from document frequencies before they begin.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cratepy import limits
from cratepy.execution.best import BestOf, best_of
from cratepy.execution.engine.constants import constant_values
from cratepy.execution.searching import ScanReader, scan_reader
from cratepy.model.expressions import Expression, Literal, Parameter
from cratepy.model.plan import Plan, QueryPlan, StatementContext
from cratepy.records import dataclass

if TYPE_CHECKING:
    from cratepy.storage.store import ShardStore
    from cratepy.storage.text.usual import Hit, ShortSearch

_BY_SCORE = itemgetter(0)


@dataclass(frozen=True, slots=True)
class _Search:
    """What is the same whenever the plan runs."""

    best: BestOf
    #: The table and its shards, all on this node.
    table_uuid: str
    shards: tuple[int, ...]
    #: With the MATCH's text and the number of rows in the statement.
    reader: ScanReader | None


class ShortSearches:
    """Remembers per plan how it is answered: plans are cached."""

    def __init__(self, store: ShardStore, *, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._known: dict[int, tuple[QueryPlan, _Search | None]] = {}

    def is_search(self, plan: Plan) -> bool:
        """Whether :meth:`answer` may know the rows."""
        return type(plan) is QueryPlan and self._search_of(plan) is not None

    def answer(self, plan: QueryPlan, context: StatementContext) -> list[tuple[Any, ...]] | None:
        """The rows; None if this search is not short, or not a search. Raises CrateError."""
        search = self._search_of(plan)
        if search is None:
            return None
        best = search.best
        reader = search.reader
        if reader is None:
            (text,) = constant_values([best.scan.matches[0].text], context)
            if type(text) is not str:
                return None
            reader = scan_reader(best.scan, context)
        count, offset = constant_values([best.count, best.count if best.offset is None else best.offset], context)
        offset = 0 if best.offset is None or offset is None else offset
        request = reader.best
        if request is None or request.limit is None or count is None or count < 0 or offset < 0:
            return None
        if (count + offset) * len(request.sources) > limits.SEARCH_INLINE_VALUES:
            return None
        found: list[ShortSearch] = []
        cost = 0
        for number in search.shards:
            shard = self._store.shard(search.table_uuid, number)
            short = None if shard is None else shard.short_search(request)
            if short is None:
                return None
            cost += short.cost
            if cost > limits.SEARCH_INLINE_ENTRIES:
                return None
            found.append(short)
        return _rows(found, best, reader, slice(offset, offset + count))

    def _search_of(self, plan: QueryPlan) -> _Search | None:
        known = self._known.get(id(plan))
        if known is None or known[0] is not plan:
            if len(self._known) >= limits.PLAN_CACHE_ENTRIES_MAX:
                self._known.clear()
            known = self._known[id(plan)] = (plan, _prepared(plan, self._node_id))
        return known[1]


def _prepared(plan: QueryPlan, node_id: str) -> _Search | None:
    if len(plan.phases) != 1 or plan.subplans:
        return None
    phase = plan.phases[0]
    best = best_of(phase.relation)
    if best is None or best.any_of or len(best.scan.matches) != 1 or len(phase.shards) != 1:
        return None
    (source,) = phase.shards
    constants: list[Expression | None] = [best.scan.matches[0].text, best.count, best.offset]
    if source.node_id != node_id or not all(
        part is None or isinstance(part, Literal | Parameter) for part in constants
    ):
        return None
    reader = None
    match = best.scan.matches[0]
    if match.late_options or match.late_boosts:
        return None
    if isinstance(match.text, Literal) and type(match.text.value) is not str:
        return None
    if all(part is None or isinstance(part, Literal) for part in constants):
        reader = scan_reader(best.scan, _NO_STATEMENT)
    return _Search(best, source.table_uuid, source.shards, reader)


_NO_STATEMENT = StatementContext(job_id="", handler_id="", user="", text="", now_ms=0)


def _rows(searches: list[ShortSearch], best: BestOf, reader: ScanReader, wanted: slice) -> list[tuple[Any, ...]]:
    """The best rows of all shards. Columns are read of these only."""
    assert reader.best is not None
    numbered: list[tuple[float, int, Hit]] = [
        (-hit[0], place, hit) for place, search in enumerate(searches) for hit in search.hits()
    ]
    # Stable: rows of one score stay in the order of the shards and in each shard's.
    numbered.sort(key=_BY_SCORE)
    chosen = numbered[wanted]
    sources = reader.best.sources
    # What is not read is true in every row: it stands behind the last.
    places = [len(sources) if source is None else sources.index(source) for source in reader.sources]
    picked = [places[column] for column in best.columns]
    read: list[list[tuple[Any, ...]]] = []
    for place, search in enumerate(searches):
        read.append(search.rows([hit for _, owner, hit in chosen if owner == place]))
    rows = [iter(of_shard) for of_shard in read]
    result = []
    for _, place, _ in chosen:
        row = (*next(rows[place]), True)
        result.append(tuple([row[column] for column in picked]))
    return result
