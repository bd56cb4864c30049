"""Tables with full-text indexes, searches, and a dumb matcher that reads every row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from cratepy.functions.analysis.tokenizers import split_standard
from cratepy.model.schema import TableDefinition
from cratepy.model.search import AnalyzerDefinition, IndexDefinition, IndexedSource, MatchQuery, TextQuery
from cratepy.storage.operations import SearchRequest
from cratepy.storage.shard import Shard
from tests.storage.shards import table


def fulltext(
    analyzer: str | None = None,
    *,
    indexes: Sequence[IndexDefinition] = (),
    analyzers: Sequence[AnalyzerDefinition] = (),
    version: int = 1,
) -> TableDefinition:
    """The table of the other tests, ``t`` (c2) with a full-text index."""
    definition = table()
    n, t = definition.columns
    return msgspec.structs.replace(
        definition,
        columns=(n, msgspec.structs.replace(t, index="fulltext", analyzer=analyzer)),
        indexes=tuple(indexes),
        analyzers=tuple(analyzers),
        version=version,
    )


def match(text: str, *options: tuple[str, str], kind: str = "best_fields", source: str = "c2") -> MatchQuery:
    return MatchQuery(sources=(IndexedSource(source),), text=text, kind=kind, options=options)


def found(shard: Shard, *queries: TextQuery, sources: Sequence[str] = ("_id",), **request: Any) -> list[Any]:
    """Rows of a search, in its order; bare values if one source is asked for. The best rows are asked for in both ways."""
    request.setdefault("required", len(queries))
    wanted = SearchRequest(queries=queries, sources=tuple(sources), **request)
    rows = [tuple(row.values()) for batch in shard.search(wanted) for row in batch.to_pylist()]
    if wanted.limit is not None:
        assert shard.best(wanted) == rows
    return [row[0] for row in rows] if len(sources) == 1 else rows


def words(text: str | None) -> list[str]:
    return [] if text is None else [word.lower() for word in split_standard(text)]


def bm25(texts: dict[str, str | None], word: str) -> dict[str, float]:
    """Lucene's and tantivy's formula over all rows, lengths exact: k1 1.2, b 0.75."""
    split = {row_id: words(text) for row_id, text in texts.items()}
    count = len(split)
    average = sum(len(tokens) for tokens in split.values()) / count
    frequency = sum(word in tokens for tokens in split.values())
    idf = math.log(1 + (count - frequency + 0.5) / (frequency + 0.5))
    scores = {}
    for row_id, tokens in split.items():
        times = Counter(tokens)[word]
        if times:
            scores[row_id] = idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(tokens) / average))
    return scores
