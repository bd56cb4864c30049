"""Full-text queries as queries of the index.

In: a TextQuery, what is known of the fields of a group of segments. Out: a tantivy query, or *everything* / *nothing*. A
MATCH is analyzed like the texts it looks for, then put together from terms and phrases by hand: tantivy's own query language
never sees a user's text. Source: Elasticsearch 7's match and multi-match queries, which CrateDB's MATCH is.

What the index would panic at never gets there: phrases of one word are terms, distances are at most 2, numbers are bounded.

Deviations: fuzzy words score one point beside what the exact word scores, not by distance; ``cross_fields`` does not blend the
frequencies of its fields; expansions (``phrase_prefix``, fuzzy with ``prefix_length``) are the most frequent words, where
Lucene takes the first by alphabet; more than one tokenizer token at a position in a phrase is tried in at most 32 ways.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final, assert_never

import tantivy

from cratepy import limits
from cratepy.errors import BadRequest, StaleRouting
from cratepy.functions.analysis.catalog import find_analyzer
from cratepy.functions.analysis.match_options import BOOST_MAX, MatchOptions, match_options, minimum_count
from cratepy.functions.analysis.tokenizers import TOKEN_CHARS_MAX, Token
from cratepy.model.search import AnalyzerDefinition, IndexedSource, MatchQuery, PrefixQuery, TermsQuery, TextQuery
from cratepy.records import dataclass
from cratepy.storage.text.analyzers import TERM_BYTES_MAX, Analyzer, analyzer

_MUST: Final = tantivy.Occur.Must
_SHOULD: Final = tantivy.Occur.Should
#: Ways to read a phrase with several tokens at a position.
_PHRASES_MAX: Final = 32
#: Of one view; a changed shard has another.
_REMEMBERED_QUERIES: Final = 256
#: More than any search that is short.
UNKNOWN_COST: Final = 1 << 62
#: Longer texts of a MATCH are not looked at to find out what it costs.
_SHORT_TEXT_CHARS: Final = 256
#: An entry with its positions, in entries without.
_POSITIONS_COST: Final = 16
#: An entry that is looked for in other lists.
_LEAPS_COST: Final = 4
#: Words of the index that are compared with a fuzzy word whose beginning is fixed.
_FUZZY_CANDIDATES_MAX: Final = 10_000


class Always(enum.Enum):
    """A query that needs no index."""

    EVERYTHING = enum.auto()
    NOTHING = enum.auto()


EVERYTHING: Final = Always.EVERYTHING
NOTHING: Final = Always.NOTHING
#: A tantivy query or one of these.
Built = Any


@dataclass(frozen=True, slots=True)
class QueryMaker:
    """Makes the queries of one group of segments. Without a searcher nothing is indexed in them."""

    searcher: Any
    schema: Any
    #: Index source → analyzer of what is indexed in these segments.
    indexed: Mapping[str, AnalyzerDefinition]
    #: The same for all index sources of the table.
    known: Mapping[str, AnalyzerDefinition]
    #: Custom analyzers of the table.
    custom: Sequence[AnalyzerDefinition]
    #: What was made so far: making a query takes longer than running it where few rows match.
    _made: dict[TextQuery, Built] = field(default_factory=dict)
    _costs: dict[TextQuery, int] = field(default_factory=dict)

    def make(self, query: TextQuery) -> Built:
        """Raises StaleRouting for an unknown source, BadRequest for what cannot be asked."""
        built = self._made.get(query)
        if built is None:
            built = self._make(query)
            if len(self._made) >= _REMEMBERED_QUERIES:
                self._made.clear()
            self._made[query] = built
        return built

    def _make(self, query: TextQuery) -> Built:
        match query:
            case MatchQuery():
                return self._match(query)
            case TermsQuery(source=source, values=values):
                values = tuple(value for value in dict.fromkeys(values) if _is_term(value))
                if not self._is_indexed(source) or not values:
                    return NOTHING
                if len(values) == 1:
                    return tantivy.Query.const_score_query(self._term(source, values[0]), 1.0)
                return tantivy.Query.term_set_query(self.schema, source, list(values))
            case PrefixQuery(source=source, prefix=prefix):
                if not self._is_indexed(source) or not _is_term(prefix):
                    return NOTHING
                return tantivy.Query.fuzzy_term_query(self.schema, source, prefix, 0, False, True)
            case _:
                assert_never(query)

    def estimate(self, query: TextQuery) -> int:
        """About how many documents match, from document frequencies."""
        match query:
            case TermsQuery(source=source, values=values):
                terms = [(source, value) for value in values if _is_term(value)]
            case PrefixQuery(source=source, prefix=prefix):
                if not self._is_indexed(source) or not _is_term(prefix):
                    return 0
                return int(self.searcher.search(self.make(query), limit=1).count)
            case MatchQuery():
                options = match_options(query.kind, query.options)
                if (
                    options.fuzziness is not None
                    or options.kind == "phrase_prefix"
                    or options.matches_all_without_terms
                ):
                    built = self.make(query)
                    if isinstance(built, Always):
                        return int(self.searcher.num_docs) if built is EVERYTHING and self.searcher is not None else 0
                    return int(self.searcher.search(built, limit=1).count)
                per_source = [(s.source, self._tokens(s.source, query.text, options)) for s in query.sources]
                if options.is_and or options.kind == "phrase":
                    return sum(min((self._frequency(s, t.text) for t in tokens), default=0) for s, tokens in per_source)
                terms = [(source, token.text) for source, tokens in per_source for token in tokens]
            case _:
                assert_never(query)
        return sum(self._frequency(source, text) for source, text in dict.fromkeys(terms))

    def cost(self, query: TextQuery) -> int:
        """About how many entries of the index a search reads at most; ``UNKNOWN_COST`` where document frequencies do not tell."""
        known = self._costs.get(query)
        if known is None:
            known = self._costs_of(query) if isinstance(query, MatchQuery) else UNKNOWN_COST
            if len(self._costs) >= _REMEMBERED_QUERIES:
                self._costs.clear()
            self._costs[query] = known
        return known

    def _costs_of(self, query: MatchQuery) -> int:
        options = match_options(query.kind, query.options)
        if (
            options.fuzziness is not None
            or options.kind == "phrase_prefix"
            or options.matches_all_without_terms
            or len(query.text) > _SHORT_TEXT_CHARS
            or any(self._analyzer(one.source, options).may_be_costly for one in query.sources)
        ):
            return UNKNOWN_COST
        read = 0
        for one in query.sources:
            counts = [self._frequency(one.source, t.text) for t in self._tokens(one.source, query.text, options)]
            is_leapt = options.kind == "phrase" or (options.is_and and options.kind != "cross_fields")
            # Where all words must be there, the rarest leads.
            here = min(sum(counts), _LEAPS_COST * min(counts)) if counts and is_leapt else sum(counts)
            read += here * _POSITIONS_COST if options.kind == "phrase" else here
        return read

    def _frequency(self, source: str, text: str) -> int:
        return int(self.searcher.doc_freq(source, text)) if self._is_indexed(source) else 0

    def _is_indexed(self, source: str) -> bool:
        if source in self.indexed:
            return True
        if source not in self.known:
            raise StaleRouting(f"there is no index {source} here")
        return False

    # --- MATCH -------------------------------------------------------------------------------------------------------

    def _match(self, query: MatchQuery) -> Built:
        options = match_options(query.kind, query.options)
        for one in query.sources:
            if not 0 <= one.boost <= BOOST_MAX:
                raise BadRequest(f"a boost must be a number from 0 to {BOOST_MAX:g}, not {one.boost}")
        if options.kind == "cross_fields":
            built = self._cross_fields(query, options)
        else:
            parts = [_boosted(self._one_field(s.source, query.text, options), s.boost) for s in query.sources]
            built = _best(parts, options.tie_breaker)
        return _boosted(built, options.boost)

    def _analyzer(self, source: str, options: MatchOptions) -> Analyzer:
        if options.analyzer is not None:
            found = find_analyzer(options.analyzer, self.custom)
            if found is None:
                raise BadRequest(f"No analyzer found for [{options.analyzer}]")
            return analyzer(found)
        return analyzer(self.indexed[source] if self._is_indexed(source) else self.known[source])

    def _tokens(self, source: str, text: str, options: MatchOptions) -> list[Token]:
        tokens = [token for token in self._analyzer(source, options).tokens(text) if _is_term(token.text)]
        if len(tokens) > limits.MATCH_TOKENS_MAX:
            raise BadRequest(f"{len(tokens)} words in a MATCH are more than {limits.MATCH_TOKENS_MAX}")
        return tokens

    def _one_field(self, source: str, text: str, options: MatchOptions) -> Built:
        tokens = self._tokens(source, text, options)
        if not tokens:
            return EVERYTHING if options.matches_all_without_terms else NOTHING
        if source not in self.indexed:
            return NOTHING
        match options.kind:
            case "phrase":
                return self._phrase(source, tokens, options.slop)
            case "phrase_prefix":
                return self._phrase_prefix(source, tokens, options)
            case _:
                clauses = [
                    _any([self._word(source, token.text, options) for token in same]) for same in _by_position(tokens)
                ]
                return _all_or_some(clauses, options)

    def _cross_fields(self, query: MatchQuery, options: MatchOptions) -> Built:
        """Each word in any of the fields that are analyzed alike."""
        groups: dict[tuple[Token, ...], list[IndexedSource]] = {}
        for source in query.sources:
            tokens = tuple(self._tokens(source.source, query.text, options))
            groups.setdefault(tokens, []).append(source)
        parts: list[Built] = []
        for tokens, sources in groups.items():
            if not tokens:
                parts.append(EVERYTHING if options.matches_all_without_terms else NOTHING)
                continue
            present = [source for source in sources if source.source in self.indexed]
            clauses = [
                _best(
                    [
                        _boosted(_any([self._term(source.source, token.text) for token in same]), source.boost)
                        for source in present
                    ],
                    options.tie_breaker,
                )
                for same in _by_position(tokens)
            ]
            parts.append(_all_or_some(clauses, options) if present else NOTHING)
        return _best(parts, 0.0)

    # --- words and phrases -------------------------------------------------------------------------------------------

    def _term(self, source: str, text: str) -> Any:
        return tantivy.Query.term_query(self.schema, source, text, index_option="freq")

    def _word(self, source: str, text: str, options: MatchOptions) -> Any:
        edits = options.edits(text)
        if edits == 0 or len(text) > TOKEN_CHARS_MAX or len(text) < options.prefix_length:
            return self._term(source, text)
        if options.prefix_length:
            candidates = self.searcher.terms_with_prefix(
                source, text[: options.prefix_length], None, _FUZZY_CANDIDATES_MAX
            )
            near = [
                (term, count)
                for term, count in candidates
                if term != text and is_within(text, term, edits, has_transpositions=options.has_transpositions)
            ]
            near.sort(key=lambda found: -found[1])
            words = [term for term, _ in near[: options.max_expansions - 1]]
            if not words:
                return self._term(source, text)
            fuzzy = tantivy.Query.term_set_query(self.schema, source, [text, *words])
        else:
            fuzzy = tantivy.Query.fuzzy_term_query(self.schema, source, text, edits, options.has_transpositions, False)
        return tantivy.Query.boolean_query([(_MUST, fuzzy), (_SHOULD, self._term(source, text))])

    def _phrase(self, source: str, tokens: Sequence[Token], slop: int) -> Any:
        choices = [[token.text for token in same] for same in _by_position(tokens)]
        positions = sorted({token.position for token in tokens})
        first = positions[0]
        if len(choices) == 1:
            return _any([self._term(source, text) for text in choices[0]])
        ways = itertools.islice(itertools.product(*choices), _PHRASES_MAX)
        return _any(
            [
                tantivy.Query.phrase_query(
                    self.schema,
                    source,
                    [(position - first, text) for position, text in zip(positions, texts, strict=True)],
                    slop,
                )
                for texts in ways
            ]
        )

    def _phrase_prefix(self, source: str, tokens: Sequence[Token], options: MatchOptions) -> Built:
        *before, last = tokens
        found = self.searcher.terms_with_prefix(source, last.text, None, options.max_expansions)
        if not found:
            return NOTHING
        ends = [term for term, _ in found]
        if not before or all(token.position == last.position for token in before):
            return _best([self._term(source, term) for term in ends], 0.0)
        return _best([self._phrase(source, [*before, Token(term, last.position)], options.slop) for term in ends], 0.0)


def _is_term(text: str) -> bool:
    """Longer ones are not in an index."""
    return len(text) <= TERM_BYTES_MAX // 4 or len(text.encode()) <= TERM_BYTES_MAX


def _by_position(tokens: Sequence[Token]) -> list[list[Token]]:
    """Tokens at one position stand for each other."""
    return [list(same) for _, same in itertools.groupby(tokens, key=lambda token: token.position)]


def _any(queries: Sequence[Any]) -> Any:
    if len(queries) == 1:
        return queries[0]
    return tantivy.Query.boolean_query([(_SHOULD, query) for query in queries])


def _all_or_some(clauses: Sequence[Any], options: MatchOptions) -> Any:
    if len(clauses) == 1:
        return clauses[0]
    if options.is_and:
        return tantivy.Query.boolean_query([(_MUST, clause) for clause in clauses])
    wanted = [(_SHOULD, clause) for clause in clauses]
    minimum = 1
    if options.minimum_should_match is not None:
        minimum = max(1, minimum_count(options.minimum_should_match, len(clauses)))
    # Without a number the index takes a faster way.
    return tantivy.Query.boolean_query(wanted, minimum_number_should_match=minimum if minimum > 1 else None)


def _best(parts: Sequence[Built], tie_breaker: float) -> Built:
    """Rows that match any part; their score is that of the best and a share of the others'."""
    if any(part is EVERYTHING for part in parts):
        return EVERYTHING
    present = [part for part in parts if part is not NOTHING]
    if not present:
        return NOTHING
    if len(present) == 1:
        return present[0]
    return tantivy.Query.disjunction_max_query(present, tie_breaker)


def _boosted(built: Built, boost: float) -> Built:
    if isinstance(built, Always) or boost == 1.0:
        return built
    return tantivy.Query.boost_query(built, boost)


def is_within(one: str, other: str, edits: int, *, has_transpositions: bool) -> bool:
    """Whether at most so many characters are inserted, deleted or replaced (or two neighbours swapped) between the two."""
    if abs(len(one) - len(other)) > edits:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, against in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (char != against))
            if has_transpositions and i > 1 and j > 1 and char == other[j - 2] and one[i - 2] == against:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > edits:
            return False
    return row[-1] <= edits
