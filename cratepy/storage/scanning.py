"""Scans: the live rows of a shard's segments as record batches, as of the last refresh.

In: the segments of one state, sources. Out: one batch per block, columns named by source, in-flight types. The batches
are stable while writes go on: segments never change, and which rows are dead was fixed by the refresh. Beside the stored
sources a scan gives ``_doc`` and ``_raw`` (made row by row: slow), ``_uid``, ``_docid`` and ``_score`` (1.0: every row of
a scan matches alike, as in CrateDB).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cratepy.model.arrow import arrow_type, from_arrow
from cratepy.storage.blocks import ID, Layout, raw_text
from cratepy.storage.columns import ColumnCache, live_rows
from cratepy.storage.leaves import leaf_in_flight
from cratepy.storage.merging import LiveSegment
from cratepy.storage.operations import ColumnRange


def scan_segments(
    segments: Sequence[LiveSegment],
    sources: Sequence[str],
    layout: Layout,
    cache: ColumnCache,
    *,
    ranges: Sequence[ColumnRange] = (),
) -> list[pa.RecordBatch]:
    """At most ``SEGMENT_BLOCK_ROWS`` rows a batch, oldest first, none empty. Without sources: rows and no columns.

    Blocks in which no row can be in all ``ranges`` are left out.
    """
    batches = []
    first = 0
    for live in segments:
        for index in range(len(live.segment.blocks)):
            selection = _selection(live, index, cache)
            starts = live.segment.starts
            count = starts[index + 1] - starts[index] if selection is None else len(selection)
            if count == 0:
                continue
            if not live.segment.may_match(index, ranges):
                first += count
                continue
            columns = [_column(live, index, selection, source, layout, cache, first) for source in sources]
            batches.append(_batch(columns, sources, count))
            first += count
    return batches


def _batch(columns: list[pa.Array], sources: Sequence[str], count: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(columns, names=list(sources))
    # pyarrow keeps the length of a batch without columns when it is made by dropping them.
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["rows"]).select([])


def _selection(live: LiveSegment, index: int, cache: ColumnCache) -> np.ndarray | None:
    deletes = live.deletes
    if deletes is None:
        return None

    def make() -> tuple[np.ndarray | None, int]:
        rows = live_rows(live.segment, index, deletes)
        return rows, 64 if rows is None else rows.nbytes

    # The entry is wrapped so that "all rows live" is remembered, too.
    selection: np.ndarray | None = cache.get((live.segment.key, "rows", index, live.generation), make)
    return selection


def _column(
    live: LiveSegment,
    index: int,
    selection: np.ndarray | None,
    source: str,
    layout: Layout,
    cache: ColumnCache,
    first: int,
) -> pa.Array:
    source = ID if source == "_uid" else source
    block = live.segment.blocks[index]
    count = block.row_count if selection is None else len(selection)
    if source == "_docid":
        return pa.array(np.arange(first, first + count, dtype=np.int32))
    if source == "_score":
        return pa.array(np.ones(count, dtype=np.float32))
    if source in ("_doc", "_raw"):
        return _documents(live, index, selection, layout)
    data_type = layout.type_of(source)
    leaf = layout.leaves.get(source)
    if leaf is not None and not block.has(source):
        generation = 0 if selection is None else live.generation
        made: pa.Array = cache.get(
            (live.segment.key, source, index, generation), lambda: leaf_in_flight(block, leaf, selection)
        )
        return made
    if not block.has(source):
        return pa.nulls(count, arrow_type(data_type))
    generation = 0 if selection is None else live.generation
    column: pa.Array = cache.get(
        (live.segment.key, source, index, generation), lambda: block.flight(source, data_type, selection)
    )
    return column


def _documents(live: LiveSegment, index: int, selection: np.ndarray | None, layout: Layout) -> pa.Array:
    """JSON text per row; an object in flight is that, too."""
    block = live.segment.blocks[index]
    batch = block.batch if selection is None else block.batch.take(pa.array(selection))
    columns: list[tuple[str, list[Any]]] = []
    for name, source in layout.columns:
        at = batch.schema.get_field_index(source)
        if at >= 0:
            columns.append((name, from_arrow(batch.column(at), layout.types[source])))
    texts = []
    for row in range(batch.num_rows):
        values = ((name, column[row]) for name, column in columns)
        texts.append(raw_text({name: value for name, value in values if value is not None}))
    return pa.array(texts, pa.string_view())
