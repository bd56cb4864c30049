"""The nouns of the storage seam: what a caller writes, what it hears back, what a shard tells about itself.

In: batches of rows (or ids to delete) with the primary term of the writer. Out: which rows were refused and why, the
sequence numbers and versions of the others, and the translog position to wait for. Its own room because ``execution``
speaks these words without knowing how a shard works. Semantics of versions and sequence numbers: CrateDB/Elasticsearch
7 ("optimistic concurrency control"); a row that does not exist starts at version 1, also after a delete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from cratepy.model.search import TextQuery
from cratepy.records import dataclass
from cratepy.storage.plain_rows import PlainRow

#: Why one row of a batch was not written: an ``insert`` of an id that exists; ``expected`` names another
#: (seq_no, primary_term) than the row has; a ``delete`` of, or ``expected`` on, a row that does not exist.
Refusal = Literal["duplicate", "conflict", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBatch:
    """Rows for one shard; they are decided on one by one, in order."""

    #: ``insert``: an id that exists is an error of that row. ``index``: the whole row replaces what is there.
    kind: Literal["insert", "index", "delete"]
    ids: Sequence[str]
    #: Columns at rest (``c<oid>``, text as utf8), as many rows as ids; None for delete. Missing columns are NULL.
    rows: pa.RecordBatch | PlainRow | None
    primary_term: int
    #: (seq_no, primary_term) each row must have now, or None per row.
    expected: Sequence[tuple[int, int] | None] | None = None

    def __post_init__(self) -> None:
        assert len(self.ids) > 0, "an empty batch is the caller's to skip"
        assert (self.rows is None) == (self.kind == "delete")
        assert self.rows is None or self.rows.num_rows == len(self.ids)
        assert self.expected is None or len(self.expected) == len(self.ids)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch. Nothing is durable before the store says so for ``position``."""

    position: int
    #: (row of the batch, why), ascending; all other rows were written.
    failures: Sequence[tuple[int, Refusal]]
    #: The written rows have consecutive sequence numbers from here, in the order of the batch.
    first_seq_no: int
    #: One per row of the batch; 0 where the row was refused.
    versions: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStats:
    """One segment, for ``sys.segments``."""

    name: str
    rows: int
    deleted: int
    size_bytes: int
    is_committed: bool
    generation: int = 0
    #: Number of the format it is written in.
    format: int = 0
    files: int = 0
    #: It is being rewritten by a merge.
    is_merging: bool = False
    #: Columns are compressed: written under the codec ``best_compression``.
    is_compressed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStats:
    """A shard's numbers at one moment."""

    #: Live rows and dead rows of the segments, as of the last refresh.
    docs: int
    deleted: int
    #: Bytes of segments and translog on disk.
    size_bytes: int
    buffered_rows: int
    buffered_bytes: int
    max_seq_no: int
    local_checkpoint: int
    translog_bytes: int
    translog_operations: int
    translog_generation: int
    uncommitted_bytes: int
    refresh_count: int
    flush_count: int
    merge_count: int
    segments: tuple[SegmentStats, ...]
    path: str = ""
    primary_term: int = 0
    refresh_s: float = 0.0
    flush_s: float = 0.0
    merge_s: float = 0.0
    merged_bytes: int = 0
    #: Merges that are running now.
    merges_running: int = 0
    #: How long opening took, with the replay of the translog, and whether it began from nothing.
    opening_s: float = 0.0
    was_created: bool = False
    #: What is wrong: why the copy failed, or what maintenance met last.
    failure: str | None = None
    last_error: str | None = None


#: A value of a scalar column in a form that statistics compare: see :mod:`cratepy.storage.statistics`.
Scalar = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What a filter's conjunct asks of one column. A scan skips blocks that cannot match; it never drops a row for it."""

    #: ``c<oid>``, a system column, or a leaf of an object.
    source: str
    #: SQL values, both inclusive; None: open on that side. A strict comparison is given as an inclusive one.
    minimum: Scalar = None
    maximum: Scalar = None
    #: True: only NULL can match; False: NULL cannot. A bound alone already implies the latter.
    is_null: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to look for in the text indexes of a shard, and what to give of the rows that are found.

    The answer is like that of a scan: live rows as of the last refresh, columns named by source, in-flight types. Beside
    the sources of a scan there are two virtual ones. ``_match_<n>``: whether the row matches ``queries[n]`` (boolean,
    never NULL). ``_score`` (real): the sum of the scores of those ``scored`` queries the row matches, 1.0 if no query is
    scored, never NaN; comparable between the rows of a shard.
    """

    queries: tuple[TextQuery, ...]
    #: So many queries, from the first, every row of the answer must match; the others only feed ``_match_<n>`` and
    #: ``_score``. 0: all rows are answered.
    required: int
    sources: tuple[str, ...]
    #: None: all rows, in scan order. Else only that many, the best by (_score descending, scan order), in this order, in
    #: one batch (none if nothing matches); the columns of no other row are read.
    limit: int | None = None
    #: As in a scan, blocks only; not together with ``limit``, which would count rows that the filter drops.
    ranges: tuple[ColumnRange, ...] = ()
    #: Ordinals of the queries that give a score. None: every MATCH; filters that only use the index score nothing.
    scored: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        assert 0 <= self.required <= len(self.queries)
        assert self.limit is None or (self.limit > 0 and not self.ranges)
        assert all(0 <= ordinal < len(self.queries) for ordinal in self.scored or ())


@dataclass(frozen=True, slots=True)
class Bounds:
    """Smallest and largest value of a column over a shard's segments, dead rows included; None if not known.

    Values are SQL values. Both are None, too, if all values are NULL.
    """

    minimum: int | float | str | bool | None
    maximum: int | float | str | bool | None
    null_count: int
    rows: int
