"""Full text: building the index of a shard, and MATCH top-10 in the shard and through SQL, against tantivy alone.

Documents of about 75 words from a vocabulary of 200,000 with Zipf frequencies (exponent 1.07), 745 bytes each, as the ones
CrateDB was measured with: 14 MB/s indexed, 1.2 to 2.3 ms for a top-10 at the client. The raw index is the same library on
the same texts with one thread, its tokenizer as near to ours as it has; it stores the row's number and nothing else.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import tantivy

from benchmarks.common import cratepy_node
from benchmarks.storage_common import BATCH_ROWS, ROWS, Bench, Figure, Stopwatch, check, one_core, paired_seconds
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.search import IndexedSource, MatchQuery
from cratepy.model.types import BIGINT, TEXT
from cratepy.storage.operations import SearchRequest, WriteBatch
from cratepy.storage.shard import Shard

_DOCUMENTS = 200_000 if ROWS >= 5_000_000 else 40_000
_SQL_DOCUMENTS = 40_000
_VOCABULARY = 200_000
_WORDS = 75
_BUILDS = 3
#: Most frequent word is rank 0.
_QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "frequent term": ("w3", {}),
    "middle term": ("w300", {}),
    "rare term": ("w30000", {}),
    "2 terms, and": ("w30 w200", {"options": (("operator", "and"),)}),
    "3 terms, or": ("w30 w200 w3000", {}),
    "phrase": ("w1 w2", {"kind": "phrase"}),
}


def documents(count: int) -> list[str]:
    random = np.random.default_rng(11)
    weights: np.ndarray = 1 / np.arange(1, _VOCABULARY + 1) ** 1.07
    bounds: np.ndarray = np.cumsum(weights / weights.sum())
    words = [f"w{rank}" for rank in range(_VOCABULARY)]
    lengths: Any = random.integers(_WORDS - 40, _WORDS + 41, count)
    # Numbers of frequent words are short, so words are padded to what they are in a real text: six letters and more.
    padded = [word if rank < 400 else f"{word} {'x' * 3}{rank % 977}" for rank, word in enumerate(words)]
    ranks: Any = np.searchsorted(bounds, random.random(int(lengths.sum())))
    texts, first = [], 0
    for length in lengths.tolist():
        texts.append(" ".join([padded[rank] for rank in ranks[first : first + length].tolist()]))
        first += length
    return texts


def text(bench: Bench) -> Iterator[Figure]:
    """Building the index, then top-10 by score in the shard."""
    texts = documents(_DOCUMENTS)
    size = sum(len(text) for text in texts)
    plain, definition = _definition("plain", is_indexed=False), _definition("fulltext", is_indexed=True)
    with one_core(), tempfile.TemporaryDirectory(prefix="bench-tantivy-") as directory:
        # They take turns; the least CPU is what the work takes without neighbours in the caches.
        without, ours, raw_seconds = [], [], []
        for number in range(_BUILDS):
            without.append(_insert(bench.open(plain), texts))
            bench.store.remove_shard(plain.uuid, 0)
            if number:
                bench.store.remove_shard(definition.uuid, 0)
            shard = bench.open(definition)
            ours.append(_insert(shard, texts))
            searcher, took, parse = _raw_index(f"{directory}/{number}", texts)
            raw_seconds.append(took)
        yield Figure(
            name=f"the index of {len(texts):,} documents",
            ours=size / (min(ours) - min(without)) / 1e6,
            unit="MB/s",
            peer=size / min(raw_seconds) / 1e6,
            peer_name="tantivy",
            goal=0.9,
            is_ratio=True,
        )
        yield Figure(
            name="  with log and columns; CrateDB: 14 MB/s",
            ours=size / min(ours) / 1e6,
            unit="MB/s",
            peer=size / min(raw_seconds) / 1e6,
            peer_name="tantivy",
            goal=14,
        )
        watch = Stopwatch()
        shard.optimize(max_num_segments=1)
        yield Figure(name="  merge to one segment", ours=watch.seconds(), unit="s")
        for name, (words, how) in _QUERIES.items():
            query = MatchQuery(sources=(IndexedSource("c2"),), text=words, **how)
            request = SearchRequest(queries=(query,), required=1, sources=("_id", "_score"), limit=10)
            found = [row for batch in shard.search(request) for row in batch.column(0).to_pylist()]
            raw = parse(name, words)
            expected = searcher.search(raw, limit=10, count=True)
            check(len(found) == min(10, expected.count or 0), f"{name}: {len(found)} rows of {expected.count}")
            best = shard.best(request)
            check([row[0] for row in best] == found, f"{name}: best gives {best}, search {found}")
            # What SQL asks for its ten best rows; ``search`` gives them as a batch.
            mine, theirs = paired_seconds(
                lambda request=request: shard.best(request),  # type: ignore[misc]
                lambda raw=raw: searcher.search(raw, limit=10, count=False),  # type: ignore[misc]
                times=40,
                together=10,
            )
            yield Figure(
                name=f"top-10, {name} ({expected.count:,} rows)",
                ours=mine * 1e6,
                unit="µs",
                peer=theirs * 1e6,
                peer_name="tantivy",
                goal=theirs * 1e6 + 60,
                is_upper_bound=True,
            )
    bench.store.remove_shard(definition.uuid, 0)


def _definition(uuid: str, *, is_indexed: bool) -> TableDefinition:
    indexed: dict[str, Any] = {"index": "fulltext", "analyzer": "standard"} if is_indexed else {}
    columns = (
        ColumnDefinition(oid=1, name="id", type=BIGINT),
        ColumnDefinition(oid=2, name="body", type=TEXT, **indexed),
    )
    return TableDefinition(
        name=RelationName("doc", "texts"), uuid=uuid, oid=1, columns=columns, primary_key=("id",), clustered_by="id"
    )


def _insert(shard: Shard, texts: list[str]) -> float:
    """Seconds of CPU, of all threads: the library indexes on one of its own."""
    started = time.process_time()
    for first in range(0, len(texts), BATCH_ROWS):
        some = texts[first : first + BATCH_ROWS]
        rows = pa.RecordBatch.from_arrays(
            [pa.array(range(first, first + len(some))), pa.array(some)], names=["c1", "c2"]
        )
        ids = [str(number) for number in range(first, first + len(some))]
        check(not shard.write(WriteBatch(kind="insert", ids=ids, rows=rows, primary_term=1)).failures, "refused")
    shard.refresh()
    check(shard.row_count() == len(texts), "rows are missing")
    return time.process_time() - started


def _raw_index(directory: str, texts: list[str]) -> tuple[tantivy.Searcher, float, Callable[[str, str], tantivy.Query]]:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("body", stored=False, index_option="position")
    builder.add_unsigned_field("row", stored=True, indexed=False, fast=True)
    schema = builder.build()
    os.mkdir(directory)
    index = tantivy.Index(schema, path=directory)
    started = time.process_time()
    writer = index.writer(1_000_000_000, num_threads=1)
    for row, body in enumerate(texts):
        document = tantivy.Document()
        document.add_text("body", body)
        document.add_unsigned("row", row)
        writer.add_document(document)
    writer.commit()
    took = time.process_time() - started
    index.reload()

    def parse(name: str, words: str) -> tantivy.Query:
        if name == "phrase":
            return index.parse_query(f'"{words}"', ["body"])
        if "and" in name:
            return index.parse_query(" AND ".join(words.split()), ["body"])
        return index.parse_query(words, ["body"])

    return index.searcher(), took, parse


def sql(bench: Bench) -> Iterator[Figure]:
    """MATCH top-10 at the client of a single node, one connection, four shards."""
    texts = documents(_SQL_DOCUMENTS)
    with cratepy_node() as node:
        node.sql(
            "CREATE TABLE texts (id BIGINT PRIMARY KEY, body TEXT INDEX USING fulltext WITH (analyzer = 'standard')) "
            "CLUSTERED INTO 4 SHARDS WITH (number_of_replicas = 0)"
        )
        insert = "INSERT INTO texts (id, body) VALUES (?, ?)"
        for first in range(0, len(texts), 2_000):
            some = [[first + i, body] for i, body in enumerate(texts[first : first + 2_000])]
            node.sql(insert, bulk_args=some)
        node.sql("REFRESH TABLE texts")
        node.sql("OPTIMIZE TABLE texts WITH (max_num_segments = 1)")
        address = f"host=127.0.0.1 port={node.psql_port} user=crate dbname=doc"
        with psycopg.connect(address, autocommit=True) as connection:
            for name, (words, how) in _QUERIES.items():
                using = ""
                if how.get("kind") == "phrase":
                    using = " USING phrase"
                elif how:
                    using = " USING best_fields WITH (operator = 'and')"
                statement = (
                    f"SELECT id, _score FROM texts WHERE MATCH(body, '{words}'){using} ORDER BY _score DESC LIMIT 10"
                )
                count = connection.execute(f"SELECT count(*) FROM texts WHERE MATCH(body, '{words}'){using}").fetchone()
                assert count is not None
                rows = connection.execute(statement, prepare=True).fetchall()
                check(len(rows) == min(10, count[0]), f"{name}: {len(rows)} rows of {count[0]}")
                times = []
                for _ in range(200):
                    started = time.perf_counter()
                    connection.execute(statement, prepare=True).fetchall()
                    times.append(time.perf_counter() - started)
                yield Figure(
                    name=f"SQL top-10, {name} ({count[0]:,} rows)",
                    ours=statistics.median(times) * 1e3,
                    unit="ms",
                    goal=1.2,
                    is_upper_bound=True,
                )
