"""Which rows of a write buffer may have an id: a hash table that takes and answers thousands of ids at a time.

In: hashes of ids and the numbers of their rows; rows are only added. Out: for a hash, all rows with it; for many hashes,
pairs. That a row has the id itself, and is not dead, is the caller's to check. A dict of texts took four times as long and
eight times the memory for rows that come in big batches.

    table   u32 per slot: a row or EMPTY; a hash's slots are its upper bits and the ones after it, up to the first EMPTY
    hashes  u64 per row

One thread adds, any thread looks: a slot is written after the row's hash, slots never change again, and a bigger table
replaces the one before as a whole. Source: open addressing with linear probing (Knuth, TAOCP 3, 6.4, algorithm L); at most
half of the slots are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

_EMPTY: Final = 0xFFFFFFFF
_FIRST_ROWS: Final = 16_384
#: How much bigger the next table is.
_GROWTH: Final = 4
#: Slots per row at the least, when the table is full.
_SLOTS_PER_ROW: Final = 2
#: Memory of a row on average: its hash and its slots, half of the table being free for rows to come.
ROW_BYTES: Final = (8 + 4 * _SLOTS_PER_ROW) * _GROWTH // 2


@dataclass(frozen=True, slots=True)
class _Table:
    slots: np.ndarray
    hashes: np.ndarray
    #: The same memory, for looking at single numbers: six times faster than through an array.
    slot_view: memoryview
    hash_view: memoryview
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
        table = _Table(slots, hashes, slots.data, hashes.data, 64 - slot_bits)
        if old is not None:
            table.hashes[: old.rows_max] = old.hashes
            added = old.slots[old.slots != _EMPTY]
            _insert(table, old.hashes[added], added)
        return table

    def find(self, id_hash: int) -> list[int]:
        """Rows with the hash."""
        table = self._table
        found: list[int] = []
        if table is None:
            return found
        slots, hashes, mask = table.slot_view, table.hash_view, len(table.slots) - 1
        slot = id_hash >> table.shift
        while (row := slots[slot]) != _EMPTY:
            if hashes[row] == id_hash:
                found.append(row)
            slot = slot + 1 & mask
        return found

    def find_many(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places in ``hashes``, rows) of all pairs that have the same hash, both int64, in no order."""
        table = self._table
        nothing: np.ndarray = np.empty(0, dtype=np.int64)
        if table is None:
            return nothing, nothing
        mask = np.int64(len(table.slots) - 1)
        slots = (hashes >> np.uint64(table.shift)).astype(np.int64)
        places: np.ndarray = np.arange(len(hashes))
        found_places, found_rows = [nothing], [nothing]
        while len(places):
            rows = table.slots[slots]
            taken = np.flatnonzero(rows != _EMPTY)
            places, slots, rows = places[taken], slots[taken], rows[taken]
            same = np.flatnonzero(table.hashes[rows] == hashes[places])
            if len(same):
                found_places.append(places[same])
                found_rows.append(rows[same].astype(np.int64))
            slots = (slots + 1) & mask
        return np.concatenate(found_places), np.concatenate(found_rows)


def _insert(table: _Table, hashes: np.ndarray, rows: np.ndarray) -> None:
    mask = np.int64(len(table.slots) - 1)
    slots = (hashes >> np.uint64(table.shift)).astype(np.int64)
    while len(rows):
        free = np.flatnonzero(table.slots[slots] == _EMPTY)
        table.slots[slots[free]] = rows[free]
        # Of several that wanted one slot the last one got it. All others look at the next slot.
        left = np.flatnonzero(table.slots[slots] != rows)
        rows, slots = rows[left], (slots[left] + 1) & mask
