"""Scans: the live rows of a shard's segments as record batches, as of the last refresh.

In: the segments of one state, sources. Out: one batch per block, columns named by source, in-flight types. The batches
are stable while writes go on: segments never change, and which rows are dead was fixed by the refresh. Beside the stored
sources a scan gives ``_doc`` and ``_raw`` (made of all columns of a row: slow, 0.3 µs a cell), ``_uid``, ``_docid`` and ``_score`` (1.0: every row of
a scan matches alike, as in CrateDB).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type, from_arrow
from cratepy.storage.blocks import ID, Layout
from cratepy.storage.columns import ColumnCache, live_rows
from cratepy.storage.leaves import leaf_in_flight
from cratepy.storage.merging import LiveSegment
from cratepy.storage.operations import ColumnRange

#: Rows whose documents are in memory as Python objects at a time.
_DOCUMENTS_AT_ONCE: Final = 4_096
_encode_lines: Final = msgspec.json.Encoder().encode_lines


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
    names: list[str] = []
    columns: list[list[Any]] = []
    has_nulls = False
    for name, source in layout.columns:
        array = block.column(source)
        if array is not None:
            array = array if selection is None else array.take(pa.array(selection))
            has_nulls = has_nulls or array.null_count > 0
            names.append(name)
            columns.append(from_arrow(array, layout.types[source]))
    rows = block.row_count if selection is None else len(selection)
    cells: Iterator[tuple[Any, ...]] = zip(*columns, strict=True) if columns else iter([()] * rows)
    parts = []
    while chunk := list(islice(cells, _DOCUMENTS_AT_ONCE)):
        if has_nulls:
            parts.append(_lines([{n: v for n, v in zip(names, row, strict=True) if v is not None} for row in chunk]))
        else:
            parts.append(_lines([dict(zip(names, row, strict=True)) for row in chunk]))
    return pa.concat_arrays(parts)


def _lines(documents: list[dict[str, Any]]) -> pa.Array:
    """A text for each: all at once, then cut at the line ends, of which JSON has none inside; a third of one by one."""
    data = _encode_lines(documents)
    ends: np.ndarray = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    texts = pa.Array.from_buffers(pa.large_string(), len(documents), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return pc.utf8_rtrim(texts, characters="\n").cast(pa.string_view())
