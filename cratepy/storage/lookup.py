"""Rows by id, real time: the write buffer first, then segments; cells as SQL values.

In: a shard's state at one moment, ids, sources. Out: where a row is, or its values. Everything here only reads, takes
no lock, and sees what was written before the state was taken. A single get is 2–5 µs: the latency-critical path.

Sources: ``c<oid>``, ``_id`` (``_uid``), ``_seq_no``, ``_primary_term``, ``_version``, ``_doc`` (an object of the columns
that are not NULL), ``_raw`` (the same as JSON text), ``_score`` (NULL: nothing was searched).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cratepy.model.arrow import MS_PER_DAY, stored_type
from cratepy.records import dataclass
from cratepy.storage.blocks import ID, PRIMARY_TERM, SEQ_NO, SYSTEM_TYPES, VERSION, Block, Layout, raw_text
from cratepy.storage.buffer import UNKNOWN, WriteBuffer
from cratepy.storage.cells import CellReader
from cratepy.storage.gathering import Located
from cratepy.storage.hashing import DROPPED_BITS, hash_id, stored_hashes
from cratepy.storage.ids import IdArray
from cratepy.storage.leaves import leaf_reader
from cratepy.storage.merging import LiveSegment
from cratepy.storage.plain_rows import PlainBlock
from cratepy.storage.segment import GATHERED_ROWS_MIN, Segment
from cratepy.storage.stored import StoredBlock

#: Up to this many ids are looked up one by one; more together.
_SINGLE_LOOKUPS_MAX: Final = 32
#: From so many rows of a block on a system column is decoded as a whole.
_WHOLE_BLOCK_MIN: Final = 256

#: Sources with an underscore that are columns of a segment.
_STORED: Final = frozenset(SYSTEM_TYPES)

Holder = WriteBuffer | LiveSegment
#: Who holds a row, and the row's number there.
Place = tuple[Holder, int]


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
    row = state.active.find(id)
    if row is not None:
        return (state.active, row) if row >= 0 else None
    if state.frozen is not None:
        row = state.frozen.find(id)
        if row is not None:
            return (state.frozen, row) if row >= 0 else None
    if state.segments:
        id_hash = hash_id(id) >> DROPPED_BITS
        for live in reversed(state.segments):
            row = live.segment.find(id_hash, id)
            # The newest segment with the id decides only if the row lives there: older versions are dead, too.
            if row >= 0 and not live.is_dead(row):
                return live, row
    return None


@dataclass(frozen=True, slots=True)
class Places:
    """Where the live rows of many ids are: per id its holder (-1: there is no row) and the row's number there."""

    holders: tuple[Holder, ...]
    holder_of: np.ndarray
    rows: np.ndarray

    @property
    def is_nowhere(self) -> bool:
        """Whether no id has a row."""
        return not self.holders

    def of(self, holder: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the ids whose rows the ``holder``-th holds, and the rows, ascending."""
        positions = np.flatnonzero(self.holder_of == holder)
        rows = self.rows[positions]
        order = np.argsort(rows)
        return positions[order], rows[order]

    def at(self, position: int) -> Place | None:
        holder = int(self.holder_of[position])
        return None if holder < 0 else (self.holders[holder], int(self.rows[position]))


def find_rows(state: ShardState, ids: IdArray) -> Places:
    """Where the live rows of these ids are. 0.1 µs for an id that does not exist, 1 to 2 µs for one that does."""
    holders: list[Holder] = []
    holder_of: np.ndarray = np.full(len(ids), -1, dtype=np.int16)
    rows: np.ndarray = np.full(len(ids), -1, dtype=np.int64)
    #: Positions that nothing newer knows.
    left: np.ndarray = np.arange(len(ids))
    for buffer in (state.active, state.frozen):
        if buffer is None or (not buffer.row_count and not buffer.rows_by_id):
            continue
        found = buffer.find_many(ids)[left]
        alive = found >= 0
        if alive.any():
            holder_of[left[alive]] = len(holders)
            rows[left[alive]] = found[alive]
            holders.append(buffer)
        left = left[found == UNKNOWN]
    if not state.segments or not len(left):
        return Places(tuple(holders), holder_of, rows)
    hashes = stored_hashes(ids.hashes[left])
    order = np.argsort(hashes)
    hashes, order = hashes[order], left[order]
    for live in reversed(state.segments):
        places, numbers = live.segment.find_many(hashes, order, ids)
        if len(numbers) and live.deletes is not None:
            # An id lives in one segment at most: in all others its rows are dead.
            alive = np.fromiter((row not in live.deletes for row in numbers.tolist()), dtype=bool, count=len(numbers))
            places, numbers = places[alive], numbers[alive]
        if len(numbers):
            holder_of[places] = len(holders)
            rows[places] = numbers
            holders.append(live)
    return Places(tuple(holders), holder_of, rows)


def versions_of(holder: Holder, rows: np.ndarray) -> np.ndarray:
    """The versions of rows (int64); ``rows`` ascend."""
    if isinstance(holder, WriteBuffer):
        return np.array([holder.head(row)[2] for row in rows.tolist()], dtype=np.int64)
    return _numbers(holder.segment, VERSION, rows)


def seq_nos_of(holder: Holder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sequence numbers and primary terms of rows (int64); ``rows`` ascend."""
    if isinstance(holder, WriteBuffer):
        heads = np.array([holder.head(row)[:2] for row in rows.tolist()], dtype=np.int64).reshape(-1, 2)
        return heads[:, 0], heads[:, 1]
    return _numbers(holder.segment, SEQ_NO, rows), _numbers(holder.segment, PRIMARY_TERM, rows)


def _numbers(segment: Segment, source: str, rows: np.ndarray) -> np.ndarray:
    """Values of a system column that is never NULL (int64)."""
    located = segment.locate_many(rows)
    column = segment.number_column(source, located)
    numbers = None if column is None else column.numbers(located)
    if numbers is not None:
        return numbers
    # Compressed: blocks with one value for all of their rows are not read.
    statistics = segment.statistics(source)
    assert statistics is not None
    numbers = np.empty(len(rows), dtype=np.int64)
    for index, start, end in segment.ranges(rows.tolist()):
        known, block = statistics[index], segment.blocks[index]
        at: np.ndarray = rows[start:end] - segment.starts[index]
        if known.minimum == known.maximum:
            numbers[start:end] = known.minimum
        elif end - start >= _WHOLE_BLOCK_MIN:
            whole = block.column(source)
            assert whole is not None
            numbers[start:end] = whole.to_numpy(zero_copy_only=False)[at]
        else:
            read = block.reader(source, SYSTEM_TYPES[source])
            numbers[start:end] = [read(row) for row in at.tolist()]
    return numbers


def row_head(place: Place) -> tuple[int, int, int]:
    """(seq_no, primary_term, version) of a row."""
    holder, row = place
    if isinstance(holder, WriteBuffer):
        return holder.head(row)
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
    places = find_rows(state, IdArray.of(ids))
    result: list[tuple[Any, ...] | None] = [None] * len(ids)
    is_stored = bool(sources) and _STORED.issuperset(source for source in sources if source[0] == "_")
    for number, holder in enumerate(places.holders):
        positions, rows = places.of(number)
        if isinstance(holder, LiveSegment) and is_stored:
            _fill_values(result, holder.segment, positions.tolist(), rows, sources, layout)
        else:
            for position, row in zip(positions.tolist(), rows.tolist(), strict=True):
                result[position] = _row_values((holder, row), sources, layout)
    return result


def _fill_values(
    result: list[tuple[Any, ...] | None],
    segment: Segment,
    positions: list[int],
    rows: np.ndarray,
    sources: Sequence[str],
    layout: Layout,
) -> None:
    """The values of a segment's rows, column by column: a quarter of the cost of row by row."""
    located = segment.locate_many(rows) if len(rows) >= GATHERED_ROWS_MIN else None
    columns = []
    for source in sources:
        values = None if located is None else _gathered(segment, source, located, layout)
        columns.append(_cells(segment, source, rows.tolist(), layout) if values is None else values)
    for position, row in zip(positions, zip(*columns, strict=True), strict=True):
        result[position] = row


def _gathered(segment: Segment, source: str, rows: Located, layout: Layout) -> list[Any] | None:
    """The values of numbers that can be read in place; None if they are not."""
    if source in layout.leaves:
        return None
    data_type = layout.type_of(source)
    column = segment.number_column(source, rows)
    if column is None or segment.schema.field(source).type != stored_type(data_type):
        return None
    return column.values(rows, factor=MS_PER_DAY if data_type.kind == "date" else 1)


def _cells(segment: Segment, source: str, rows: list[int], layout: Layout) -> list[Any]:
    values: list[Any] = []
    for block, start, end in segment.ranges(rows):
        read, first = _reader(segment.blocks[block], source, layout), segment.starts[block]
        values += [read(row - first) for row in rows[start:end]]
    return values


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
