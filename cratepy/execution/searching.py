"""Scans that the text index answers: the MATCHes of a scan, the best rows by score, filters an exact index knows.

In: a scan of the plan and the statement's context. Out: a function from a shard to its batches. Made once per scan, so that
texts are evaluated and checked once, whatever the number of shards. Its own room because :mod:`sources` need not know what
a text index is.

An exact index has one term per value, so ``=``, ``IN`` and ``LIKE 'abc%'`` may ask it: where the shard's document frequencies
say that it finds few of the rows. What it finds is filtered again above, so this decides only how much is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cratepy import limits
from cratepy.errors import BadRequest, CrateError
from cratepy.execution.engine.constants import constant_values
from cratepy.functions.analysis.match_options import match_options
from cratepy.functions.evaluate import has_columns, subexpressions, value_of
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type, from_arrow
from cratepy.model.expressions import Call, Column, Expression, InList
from cratepy.model.plan import StatementContext
from cratepy.model.relations import MATCH_SOURCE_PREFIX, Scan, TextMatch
from cratepy.model.search import IndexedSource, MatchQuery, PrefixQuery, TermsQuery, TextQuery
from cratepy.records import dataclass
from cratepy.storage.operations import ColumnRange, SearchRequest

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard

SCORE: Final = "_score"
#: Rows asked for beyond the best k, so that most searches see at once where the ties end.
_TIES_EXPECTED: Final = 32
#: Shorter prefixes are in too many terms to be worth it.
_PREFIX_MIN: Final = 1
#: The index is asked if it finds at most one row in so many; below that a scan of a column is as fast.
_SELECTIVE: Final = 16


Read = Callable[["Shard"], list[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class ScanReader:
    """``read`` gives a shard's batches; column i of the scan is ``sources[i]`` of them, or true in every row if None.

    ``best``: what ``read`` asks for, if that is a number of best rows: ``Shard.best`` gives them without Arrow.
    """

    read: Read
    sources: tuple[str | None, ...]
    best: SearchRequest | None = None


def scan_reader(scan: Scan, context: StatementContext, ranges: Sequence[ColumnRange] = ()) -> ScanReader:
    """How to read the scan's rows. Raises BadRequest for a NULL text, and what a text's evaluation fails with."""
    if scan.matches:
        return _matching(scan, context, tuple(ranges))
    sources = tuple(column.source for column in scan.columns)
    # A scan without columns still has rows; the cheapest column tells how many.
    names = sources or ("_seq_no",)
    queries = _exact_queries(scan, context)
    if not queries:
        return ScanReader(lambda shard: shard.scan(names, ranges=ranges), sources)

    def read(shard: Shard) -> list[pa.RecordBatch]:
        rows = shard.row_count()
        selective: tuple[TextQuery, ...] = ()
        if rows >= limits.INDEXED_SCAN_ROWS_MIN:
            selective = tuple(q for q in queries if shard.estimate_hits(q) * _SELECTIVE <= rows)
        if not selective:
            return shard.scan(names, ranges=ranges)
        return shard.search(
            SearchRequest(queries=selective, required=len(selective), sources=names, ranges=tuple(ranges), scored=())
        )

    return ScanReader(read, sources)


# --- MATCH -----------------------------------------------------------------------------------------------------------


def _matching(scan: Scan, context: StatementContext, ranges: tuple[ColumnRange, ...]) -> ScanReader:
    texts = constant_values([match.text for match in scan.matches], context)
    if None in texts:
        raise BadRequest("cannot use NULL as query term in match predicate")
    queries = {match.source: _query(match, text, context) for match, text in zip(scan.matches, texts, strict=True)}
    wanted = None
    if scan.best is not None:
        (wanted,) = constant_values([scan.best.count], context)
    if scan.any_of:
        return _any_of(scan, queries, wanted, ranges)
    required = tuple(match.source for match in scan.matches if match.is_required)
    request, sources = _request(scan, queries, required, ranges)
    if scan.best is not None and scan.best.tests_filter:
        return ScanReader(_passing(scan, request, sources, wanted, context), sources)
    best = None if scan.best is None or scan.best.with_ties else _best_request(scan, request, wanted)
    return ScanReader(_search(scan, request, wanted), sources, best)


def _query(match: TextMatch, text: str, context: StatementContext) -> MatchQuery:
    """With the options and boosts that came as parameters. Raises BadRequest for those that cannot be."""
    columns, options = match.columns, match.options
    if match.late_options:
        values = constant_values([value for _, value in match.late_options], context)
        for (name, _), value in zip(match.late_options, values, strict=True):
            if value is None:
                raise BadRequest(f"invalid value for option '{name}': null")
            options = (*options, (name, value))
        match_options(match.kind, options)
    if match.late_boosts:
        factors = [
            column.boost if boost is None else constant_values([boost], context)[0]
            for column, boost in zip(columns, match.late_boosts, strict=True)
        ]
        # As without a boost.
        columns = tuple(
            IndexedSource(column.source, 1.0 if factor is None else factor)
            for column, factor in zip(columns, factors, strict=True)
        )
    return MatchQuery(sources=columns, text=text, kind=match.kind, options=options)


def _request(
    scan: Scan, queries: Mapping[str, MatchQuery], required: Sequence[str], ranges: tuple[ColumnRange, ...]
) -> tuple[SearchRequest, tuple[str | None, ...]]:
    """The request for rows that match all that is required, and the sources of the scan's columns in its answer."""
    # Required queries come first, so the flags of the others are numbered by their new places.
    ordered = [*required, *(source for source in queries if source not in required)]
    places = {source: None if i < len(required) else f"{MATCH_SOURCE_PREFIX}{i}" for i, source in enumerate(ordered)}
    sources = tuple(places.get(column.source, column.source) for column in scan.columns)
    request = SearchRequest(
        queries=tuple(queries[source] for source in ordered),
        required=len(required),
        sources=tuple(source for source in sources if source is not None),
        ranges=ranges,
    )
    return request, sources


def _search(scan: Scan, request: SearchRequest, wanted: int | None) -> Read:
    """How to ask a shard for the rows, or for the best of them."""
    best = _best_request(scan, request, wanted)
    if best is None or wanted is None or scan.best is None:
        return lambda shard: shard.search(request)
    if not scan.best.with_ties:
        return lambda shard: shard.search(best)
    return lambda shard: _with_ties(shard, best, wanted)


def _best_request(scan: Scan, request: SearchRequest, wanted: int | None) -> SearchRequest | None:
    """The request for the best rows only, if these are what the scan wants."""
    if scan.best is None or not request.required or wanted is None or not 0 < wanted <= limits.BEST_ROWS_MAX:
        # A count of zero or below is for the operator above, which knows what to say about it.
        return None
    # The rows that statistics would skip do not match either, if the index alone decides.
    return SearchRequest(
        queries=request.queries, required=request.required, sources=request.sources, limit=wanted, scored=request.scored
    )


def _passing(
    scan: Scan, request: SearchRequest, sources: Sequence[str | None], wanted: int | None, context: StatementContext
) -> Read:
    """How to ask for the best rows that pass the filter: some more of the best than wanted, and if too few of these pass, all.

    Only where many rows match: the filter is tested row by row here.
    """
    attempt = limits.BEST_FILTERED_ROWS if wanted is None else max(wanted * 16, _TIES_EXPECTED)
    condition = scan.filter
    if wanted is None or condition is None or not 0 < wanted <= attempt <= limits.BEST_FILTERED_ROWS:
        return lambda shard: shard.search(request)
    best = replace(request, limit=attempt, ranges=())
    named = {part.id for part in subexpressions(condition) if isinstance(part, Column)}
    columns = [(c, source) for c, source in zip(scan.columns, sources, strict=True) if c.id in named]

    def passes(batch: pa.RecordBatch) -> int:
        values = []
        for column, source in columns:
            array, kind = pa.repeat(True, batch.num_rows) if source is None else batch.column(source), column.type
            wanted_type = arrow_type(kind)
            values.append(from_arrow(array if array.type == wanted_type else array.cast(wanted_type), kind))
        ids = [column.id for column, _ in columns]
        rows = (dict(zip(ids, row, strict=True)) for row in zip(*values, strict=True))
        return sum(value_of(condition, row, context) is True for row in rows)

    def read(shard: Shard) -> list[pa.RecordBatch]:
        if min(shard.estimate_hits(query) for query in request.queries[: request.required]) < attempt * _SELECTIVE:
            return shard.search(request)
        batches = shard.search(best)
        if sum(batch.num_rows for batch in batches) < attempt:
            return batches
        try:
            is_enough = sum(map(passes, batches)) >= wanted
        except CrateError:
            is_enough = False  # Whoever filters the rows meets the error again, or never needs that row.
        return batches if is_enough else shard.search(request)

    return read


def _any_of(
    scan: Scan, queries: Mapping[str, MatchQuery], wanted: int | None, ranges: tuple[ColumnRange, ...]
) -> ScanReader:
    """Rows that match one of several: what each finds, one after the other.

    A row that an earlier one has found already is made to match none, and the filter drops it.
    """
    parts: list[tuple[str, Read, tuple[str | None, ...]]] = []
    for source in scan.any_of:
        request, sources = _request(scan, queries, (source,), ranges)
        parts.append((source, _search(scan, request, wanted), sources))

    def read(shard: Shard) -> list[pa.RecordBatch]:
        found: list[pa.RecordBatch] = []
        for number, (_, search, sources) in enumerate(parts):
            for batch in search(shard):
                columns = [
                    pa.repeat(pa.scalar(True), batch.num_rows) if source is None else batch.column(source)
                    for source in sources
                ]
                names = [column.source for column in scan.columns]
                for earlier in scan.any_of[:number]:
                    repeated = columns[names.index(earlier)]
                    for alternative in scan.any_of:
                        place = names.index(alternative)
                        columns[place] = pc.and_not(columns[place], repeated)
                found.append(pa.RecordBatch.from_arrays(columns, names=names))
        return found

    return ScanReader(read, tuple(column.source for column in scan.columns))


def _with_ties(shard: Shard, best: SearchRequest, wanted: int) -> list[pa.RecordBatch]:
    """The best rows and all that score like the last of them: what else the statement orders by decides among these."""
    asked = wanted + _TIES_EXPECTED
    while asked <= limits.BEST_ROWS_MAX:
        batches = shard.search(replace(best, limit=asked))
        if sum(batch.num_rows for batch in batches) < asked:
            return batches
        scores = batches[0].column(batches[0].schema.get_field_index(SCORE))
        if scores[wanted - 1].as_py() > scores[asked - 1].as_py():
            return batches
        asked *= 8
    return shard.search(replace(best, limit=None))


# --- filters ---------------------------------------------------------------------------------------------------------


def _exact_queries(scan: Scan, context: StatementContext) -> list[TextQuery]:
    """Conjuncts of the filter that an exact index of the table answers."""
    if not scan.exact_indexes or scan.filter is None:
        return []
    by_source = dict(scan.exact_indexes)
    indexes = {c.id: by_source[c.source] for c in scan.columns if c.source in by_source and c.type.kind == "text"}
    found: list[TextQuery] = []
    query: TextQuery | None
    for predicate in _conjuncts(scan.filter):
        match predicate:
            case Call(function="op_=", arguments=(Column(id=known), value)) if known in indexes:
                query = _terms(indexes[known], [value], context)
            case Call(function="op_=", arguments=(value, Column(id=known))) if known in indexes:
                query = _terms(indexes[known], [value], context)
            case InList(operand=Column(id=known), items=items) if known in indexes:
                query = _terms(indexes[known], list(items), context)
            case Call(function="op_like", arguments=(Column(id=known), pattern)) if known in indexes:
                query = _prefix(indexes[known], pattern, context)
            case _:
                query = None
        if query is not None:
            found.append(query)
    return found


def _conjuncts(predicate: Expression) -> list[Expression]:
    if isinstance(predicate, Call) and predicate.function == "op_and":
        return [part for argument in predicate.arguments for part in _conjuncts(argument)]
    return [predicate]


def _terms(index: str, values: Sequence[Expression], context: StatementContext) -> TermsQuery | None:
    """None if a value is not a short text that is known now; a NULL in a list matches no row."""
    if len(values) > limits.INDEXED_TERMS_MAX or any(has_columns(value) for value in values):
        return None
    texts = [text for text in _tried(values, context) if text is not None]
    if not texts or not all(isinstance(text, str) and _is_term(text) for text in texts):
        return None
    return TermsQuery(source=index, values=tuple(dict.fromkeys(texts)))


def _prefix(index: str, pattern: Expression, context: StatementContext) -> PrefixQuery | None:
    """``LIKE 'abc%…'``: rows that begin with what stands before the first wildcard or escape."""
    if has_columns(pattern):
        return None
    (text,) = _tried([pattern], context)
    if not isinstance(text, str):
        return None
    end = min((i for i in map(text.find, "%_\\") if i >= 0), default=len(text))
    return PrefixQuery(source=index, prefix=text[:end]) if end >= _PREFIX_MIN and _is_term(text[:end]) else None


def _tried(values: Sequence[Expression], context: StatementContext) -> Sequence[Any]:
    """The values, or NULLs if one cannot be computed: then the filter above fails, if it meets a row."""
    try:
        return constant_values(values, context)
    except CrateError:
        return [None] * len(values)


def _is_term(text: str) -> bool:
    # Of longer texts the index has the beginning only; the empty text is no token.
    return 0 < len(text) * 4 <= limits.INDEXED_TERM_BYTES_MAX // 2
