"""Rows that a search found for an UPDATE or DELETE: blocks of them, how many at a time, and as rows of RETURNING.

In: identities, versions and columns as the search gives them. Out: parts small enough to be in memory as whole rows, and
:class:`~cratepy.execution.writes.returning.WrittenRows` of the deleted ones. Its own room because these are about what was
found, and :mod:`changes` is about what is done with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

import pyarrow as pa

from cratepy import limits
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.returning import WrittenRows
from cratepy.execution.writes.updater import ReadRows
from cratepy.execution.writes.values import at_rest
from cratepy.records import dataclass


@dataclass(slots=True)
class FoundRows:
    """Rows a search found: identity, the version seen, and the other columns of the search (in flight, by column id)."""

    ids: list[str] = field(default_factory=list)
    seen: list[tuple[int, int]] = field(default_factory=list)
    columns: dict[int, pa.Array] = field(default_factory=dict)

    def part(self, start: int, rows: int) -> FoundRows:
        """So many of the rows, from one on."""
        columns = {key: array.slice(start, rows) for key, array in self.columns.items()}
        return FoundRows(self.ids[start : start + rows], self.seen[start : start + rows], columns)


class Pace:
    """How many rows an UPDATE has in memory at once: as many as are about ``UPDATE_BYTES``, judged by those before."""

    def __init__(self) -> None:
        self._rows = limits.UPDATE_FIRST_ROWS

    def parts(self, found: FoundRows) -> Iterator[FoundRows]:
        start = 0
        while start < len(found.ids):
            rows = self._rows
            yield found if rows >= len(found.ids) and start == 0 else found.part(start, rows)
            start += rows

    def note(self, rows: int, size: int) -> None:
        if rows:
            self._rows = max(1, min(limits.WRITE_BATCH_ROWS, limits.UPDATE_BYTES * rows // max(size, 1)))


def piece_of_found(found: FoundRows, places: list[int], layout: TableLayout) -> WrittenRows:
    """The deleted rows as they were seen, for RETURNING; the search has given every system column that it reads."""
    rows = pa.array(places, type=pa.int64())
    columns = {}
    for key, array in found.columns.items():
        if key in layout.by_oid:
            array = at_rest(array, layout.by_oid[key].type)
        # Views of text have no take kernel; only ``_raw`` and ``_doc`` are some here.
        columns[key] = (array.cast(pa.string()) if array.type == pa.string_view() else array).take(rows)
    return WrittenRows(
        positions=places,
        columns=columns,
        ids=[found.ids[i] for i in places],
        # ``_version`` is a column if it is read.
        versions=[(*found.seen[i], 0) for i in places],
    )


def piece_of_newer(rows: ReadRows, ids: Sequence[str]) -> WrittenRows:
    """Deleted rows that were read again, because they had changed since the search."""
    return WrittenRows(
        positions=rows.positions,
        columns=rows.columns,
        ids=[ids[position] for position in rows.positions],
        versions=[(*version, count) for version, count in zip(rows.versions, rows.counts, strict=True)],
    )
