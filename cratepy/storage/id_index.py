"""Which rows of a write buffer may have an id: a hash table that takes and answers thousands of ids at a time.

In: hashes of ids and the numbers of their rows; rows are only added. Out: for a hash the newest row with it, and for a row
the one before with the same hash; for many hashes, pairs. That a row has the id itself, and is not dead, is the caller's to
check. A dict of texts took four times as long and eight times the memory for rows that come in big batches.

    table   u32 per slot: a row or EMPTY; a hash's slot is at its upper bits or after them, before the first EMPTY
    hashes  u64 per row
    older   u32 per row: the row before it with the same hash, or EMPTY; so an id that is replaced again and again has one
            slot, and its newest row is found at once

One thread adds, any thread looks: a slot is written after the row's hash and ``older``, and a bigger table replaces the
one before as a whole. Source: open addressing with linear probing (Knuth, TAOCP 3, 6.4, algorithm L); at most half of the
slots are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from cratepy.records import dataclass

_EMPTY: Final = 0xFFFFFFFF
_FIRST_ROWS: Final = 16_384
#: How much bigger the next table is.
_GROWTH: Final = 4
#: Slots per row at the least, when the table is full.
_SLOTS_PER_ROW: Final = 2
#: The last few of many are looked at one by one: a round of numpy costs as much as a dozen slots.
_FEW: Final = 12
#: Memory of a row on average: its hash, the row before and its slots, half of the table being free for rows to come.
ROW_BYTES: Final = (8 + 4 + 4 * _SLOTS_PER_ROW) * _GROWTH // 2


@dataclass(frozen=True, slots=True)
class _Table:
    slots: np.ndarray
    hashes: np.ndarray
    older: np.ndarray
    #: The same memory, for looking at single numbers: six times faster than through an array.
    slot_view: memoryview
    hash_view: memoryview
    older_view: memoryview
    #: ``hash >> shift`` is the first slot.
    shift: int

    @property
    def rows_max(self) -> int:
        return len(self.hashes)


class IdIndex:
    """See the module."""

    __slots__ = ("_table", "row_count")

    def __init__(self) -> None:
        self._table: _Table | None = None
        #: Rows that were added.
        self.row_count = 0

    def add(self, first_row: int, hashes: np.ndarray) -> None:
        """Add rows from ``first_row`` on, above all rows added before."""
        end = first_row + len(hashes)
        table = self._table
        if table is None or end > table.rows_max:
            table = self._grown(table, end)
        table.hashes[first_row:end] = hashes
        _insert(table, hashes, np.arange(first_row, end, dtype=np.uint32))
        self._table = table
        self.row_count += len(hashes)

    @staticmethod
    def _grown(old: _Table | None, rows: int) -> _Table:
        rows_max = _FIRST_ROWS
        while rows_max < rows:
            rows_max *= _GROWTH
        slot_bits = (rows_max * _SLOTS_PER_ROW - 1).bit_length()
        slots: np.ndarray = np.full(1 << slot_bits, _EMPTY, dtype=np.uint32)
        hashes: np.ndarray = np.zeros(rows_max, dtype=np.uint64)
        older: np.ndarray = np.full(rows_max, _EMPTY, dtype=np.uint32)
        table = _Table(slots, hashes, older, slots.data, hashes.data, older.data, 64 - slot_bits)
        if old is not None:
            table.hashes[: old.rows_max] = old.hashes
            table.older[: old.rows_max] = old.older
            added = old.slots[old.slots != _EMPTY]
            _insert(table, old.hashes[added], added)
        return table

    def find(self, id_hash: int) -> Iterator[int]:
        """Rows with the hash, newest first."""
        table = self._table
        if table is None:
            return
        slots, hashes, mask = table.slot_view, table.hash_view, len(table.slots) - 1
        slot = id_hash >> table.shift
        while (row := slots[slot]) != _EMPTY:
            if hashes[row] == id_hash:
                while row != _EMPTY:
                    yield row
                    row = table.older_view[row]
                return
            slot = slot + 1 & mask

    def find_many(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places in ``hashes``, newest row with the hash) for those there are, both int64, in no order."""
        table = self._table
        nothing: np.ndarray = np.empty(0, dtype=np.int64)
        if table is None:
            return nothing, nothing
        mask = np.int64(len(table.slots) - 1)
        slots = (hashes >> np.uint64(table.shift)).astype(np.int64)
        places: np.ndarray = np.arange(len(hashes))
        found_places, found_rows = [nothing], [nothing]
        while len(places) > _FEW:
            rows = table.slots[slots]
            taken = np.flatnonzero(rows != _EMPTY)
            places, slots, rows = places[taken], slots[taken], rows[taken]
            is_same = table.hashes[rows] == hashes[places]
            if is_same.any():
                found_places.append(places[is_same])
                found_rows.append(rows[is_same].astype(np.int64))
                places, slots = places[~is_same], slots[~is_same]
            slots = (slots + 1) & mask
        few = [(place, next(self.find(int(hashes[place])), -1)) for place in places.tolist()]
        if any(row >= 0 for _, row in few):
            found_places.append(np.array([place for place, row in few if row >= 0]))
            found_rows.append(np.array([row for _, row in few if row >= 0]))
        return np.concatenate(found_places), np.concatenate(found_rows)


def _insert(table: _Table, hashes: np.ndarray, rows: np.ndarray) -> None:
    """``rows`` ascend, and are newer than those in the table."""
    mask = np.int64(len(table.slots) - 1)
    slots = (hashes >> np.uint64(table.shift)).astype(np.int64)
    while len(rows):
        there = table.slots[slots]
        free, taken = np.flatnonzero(there == _EMPTY), np.flatnonzero(there != _EMPTY)
        is_same = table.hashes[there[taken]] == hashes[taken]
        if is_same.any():
            _replace(table, slots[taken[is_same]], rows[taken[is_same]])
            taken = taken[~is_same]
        table.slots[slots[free]] = rows[free]
        # Of several that wanted one free slot the last one got it: the newest. One of the same hash goes behind it.
        lost = free[table.slots[slots[free]] != rows[free]]
        if len(lost):
            winners = table.slots[slots[lost]]
            is_behind = table.hashes[winners] == hashes[lost]
            for row, newest in zip(rows[lost[is_behind]].tolist(), winners[is_behind].tolist(), strict=True):
                _put_behind(table.older_view, row, newest)
            taken = np.concatenate((taken, lost[~is_behind]))
            taken.sort()
        rows, hashes, slots = rows[taken], hashes[taken], (slots[taken] + 1) & mask


def _replace(table: _Table, slots: np.ndarray, rows: np.ndarray) -> None:
    """Put rows, ascending, before the ones of the same hash that have the slots."""
    if len(np.unique(slots)) == len(slots):
        table.older[rows] = table.slots[slots]
        table.slots[slots] = rows
        return
    for slot, row in zip(slots.tolist(), rows.tolist(), strict=True):
        table.older_view[row] = table.slot_view[slot]
        table.slot_view[slot] = row


def _put_behind(older: memoryview, row: int, newest: int) -> None:
    """Into the rows of one hash, from newest to oldest."""
    while (behind := older[newest]) != _EMPTY and behind > row:
        newest = behind
    older[row] = behind
    older[newest] = row
