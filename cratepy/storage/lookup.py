"""Rows by id, real time: the write buffer first, then segments; cells as SQL values.

In: a shard's state at one moment, ids, sources. Out: where a row is, or its values. Everything here only reads, takes
no lock, and sees what was written before the state was taken. A single get is 2–5 µs: the latency-critical path.

Sources: ``c<oid>``, ``_id`` (``_uid``), ``_seq_no``, ``_primary_term``, ``_version``, ``_doc`` (an object of the columns
that are not NULL), ``_raw`` (the same as JSON text), ``_score`` (NULL: nothing was searched).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cratepy.storage.blocks import ID, PRIMARY_TERM, SEQ_NO, SYSTEM_TYPES, VERSION, Block, Layout, raw_text
from cratepy.storage.buffer import WriteBuffer
from cratepy.storage.cells import CellReader
from cratepy.storage.hashing import hash_id, hash_ids
from cratepy.storage.leaves import leaf_reader
from cratepy.storage.merging import LiveSegment
from cratepy.storage.plain_rows import PlainBlock
from cratepy.storage.stored import StoredBlock

#: Up to this many ids are looked up one by one; more together.
_SINGLE_LOOKUPS_MAX: Final = 32

#: Sources with an underscore that are columns of a segment.
_STORED: Final = frozenset(SYSTEM_TYPES)

#: Who holds a row, and the row's number there.
Place = tuple[WriteBuffer | LiveSegment, int]


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard holds at one moment. Replaced as a whole; ``active`` alone goes on growing."""

    active: WriteBuffer
    #: The buffer that is being written to a segment just now; it does not change any more.
    frozen: WriteBuffer | None
    #: Oldest rows first.
    segments: tuple[LiveSegment, ...]


def find_row(state: ShardState, id: str) -> Place | None:
    """Where the live row of an id is."""
    row = state.active.rows_by_id.get(id)
    if row is not None:
        return (state.active, row) if row >= 0 else None
    if state.frozen is not None:
        row = state.frozen.rows_by_id.get(id)
        if row is not None:
            return (state.frozen, row) if row >= 0 else None
    if state.segments:
        id_hash = hash_id(id)
        for live in reversed(state.segments):
            row = live.segment.find(id_hash, id)
            # The newest segment with the id decides only if the row lives there: older versions are dead, too.
            if row >= 0 and not live.is_dead(row):
                return live, row
    return None


def find_rows(state: ShardState, ids: Sequence[str]) -> dict[str, Place]:
    """Where the live rows of these ids are; ids without one are left out."""
    if len(ids) <= _SINGLE_LOOKUPS_MAX:
        places = ((row_id, find_row(state, row_id)) for row_id in ids)
        return {row_id: place for row_id, place in places if place is not None}
    found, hidden = _in_buffers(state, ids)
    if state.segments and len(hidden) < len(ids):
        for live, positions, rows in _in_segments(state, ids):
            for at, row in zip(positions, rows, strict=True):
                if ids[at] not in hidden:
                    found[ids[at]] = (live, row)
    return found


def _in_buffers(state: ShardState, ids: Sequence[str]) -> tuple[dict[str, Place], set[str]]:
    """Where rows in buffers are, and the ids that buffers decide on: of these, rows in segments are dead."""
    found: dict[str, Place] = {}
    hidden: set[str] = set()
    for buffer in (state.active, state.frozen):
        if buffer is None or not buffer.rows_by_id or buffer.rows_by_id.keys().isdisjoint(ids):
            continue
        for row_id in buffer.rows_by_id.keys() & set(ids):
            if row_id not in hidden:
                hidden.add(row_id)
                row = buffer.rows_by_id[row_id]
                if row >= 0:
                    found[row_id] = (buffer, row)
    return found, hidden


def _in_segments(state: ShardState, ids: Sequence[str]) -> Iterator[tuple[LiveSegment, list[int], list[int]]]:
    """Places in ``ids`` and live rows, rows ascending, per segment that has some. An id lives in one of them at most."""
    hashes = hash_ids(ids)
    order = np.argsort(hashes)
    hashes = hashes[order]
    for live in reversed(state.segments):
        places, rows = live.segment.find_many(hashes, order, ids)
        if rows and live.deletes is not None:
            alive = [index for index, row in enumerate(rows) if row not in live.deletes]
            if len(alive) < len(rows):
                places, rows = [places[index] for index in alive], [rows[index] for index in alive]
        if rows:
            yield live, places, rows


def row_head(place: Place) -> tuple[int, int, int]:
    """(seq_no, primary_term, version) of a row."""
    holder, row = place
    if isinstance(holder, WriteBuffer):
        return holder.seq_nos[row], holder.primary_terms[row], holder.versions[row]
    block, at = holder.segment.locate(row)
    reader, types = block.reader, SYSTEM_TYPES
    return (
        reader(SEQ_NO, types[SEQ_NO])(at),
        reader(PRIMARY_TERM, types[PRIMARY_TERM])(at),
        reader(VERSION, types[VERSION])(at),
    )


def get_rows(
    state: ShardState, ids: Sequence[str], sources: Sequence[str], layout: Layout
) -> list[tuple[Any, ...] | None]:
    """One tuple of SQL values per id, or None: no such row. Raises StaleRouting for a source not known here."""
    if len(ids) <= _SINGLE_LOOKUPS_MAX:
        return [_row_values(find_row(state, row_id), sources, layout) for row_id in ids]
    found, hidden = _in_buffers(state, ids)
    result: list[tuple[Any, ...] | None] = [None] * len(ids)
    if found:
        result = [_row_values(found.get(row_id), sources, layout) for row_id in ids]
    if state.segments and len(hidden) < len(ids):
        for live, places, rows in _in_segments(state, ids):
            _fill_values(result, live, places, rows, hidden, ids, sources, layout)
    return result


def _fill_values(
    result: list[tuple[Any, ...] | None],
    live: LiveSegment,
    places: list[int],
    rows: list[int],
    hidden: set[str],
    ids: Sequence[str],
    sources: Sequence[str],
    layout: Layout,
) -> None:
    """The values of a segment's rows, block by block and column by column: half of the cost of row by row."""
    if hidden:
        kept = [index for index, place in enumerate(places) if ids[place] not in hidden]
        places, rows = [places[index] for index in kept], [rows[index] for index in kept]
    if not sources or not _STORED.issuperset(source for source in sources if source[0] == "_"):
        for place, row in zip(places, rows, strict=True):
            result[place] = _row_values((live, row), sources, layout)
        return
    segment = live.segment
    for block, start, end in segment.ranges(rows):
        first = segment.starts[block]
        at = [row - first for row in rows[start:end]]
        columns = []
        for source in sources:
            read = _reader(segment.blocks[block], source, layout)
            columns.append([read(row) for row in at])
        for place, values in zip(places[start:end], zip(*columns, strict=True), strict=True):
            result[place] = values


def _row_values(place: Place | None, sources: Sequence[str], layout: Layout) -> tuple[Any, ...] | None:
    if place is None:
        return None
    holder, row = place
    block: Block | PlainBlock | StoredBlock
    block, at = holder.locate(row) if isinstance(holder, WriteBuffer) else holder.segment.locate(row)
    readers = block.readers
    values = []
    for source in sources:
        reader = readers.get(source)
        if reader is not None:
            values.append(reader(at))
        elif source[0] == "_":
            values.append(_special_value(holder, block, row, at, source, layout))
        else:
            values.append(_reader(block, source, layout)(at))
    return tuple(values)


def _reader(block: Block | PlainBlock | StoredBlock, source: str, layout: Layout) -> CellReader:
    """What reads a column or a leaf; a single cell of a leaf comes from its object, whether or not it is stored."""
    leaf = layout.leaves.get(source)
    if leaf is None:
        return block.reader(source, layout.type_of(source))
    return leaf_reader(leaf, block.reader(leaf.base, layout.types[leaf.base]))


def _special_value(
    holder: WriteBuffer | LiveSegment,
    block: Block | PlainBlock | StoredBlock,
    row: int,
    at: int,
    source: str,
    layout: Layout,
) -> Any:
    if source == "_doc":
        return block.document(at, layout)
    if source == "_raw":
        return raw_text(block.document(at, layout))
    if source == "_score":
        return None
    source = ID if source == "_uid" else source
    if isinstance(holder, WriteBuffer) and source in SYSTEM_TYPES:
        return holder.system_value(row, source)
    return _reader(block, source, layout)(at)
