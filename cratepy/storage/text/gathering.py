"""Columns of the rows that a search has found.

In: rows as (segment, row). Out: SQL values, or Arrow arrays like those of a scan: cell by cell if they are few, by selection
from a block if they are many. Its own room because it knows columns and no queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.model.arrow import arrow_type, to_arrow
from cratepy.storage.blocks import ID, Layout, raw_text
from cratepy.storage.merging import LiveSegment

#: Rows of a block up to which cells are read one by one: a block's column costs 20 to 200 µs to select from.
_CELLWISE_ROWS_MAX: Final = 64


class Gatherer:
    """Columns of chosen rows, as a scan gives them."""

    def __init__(self, segments: Sequence[LiveSegment], layout: Layout) -> None:
        self._segments = segments
        self._layout = layout
        self._live_before: list[int] | None = None

    def column(self, source: str, ordinal: int, index: int, rows: np.ndarray) -> pa.Array:
        """Of rows of one block, ascending."""
        source = ID if source == "_uid" else source
        if source in ("_doc", "_raw", "_docid") or len(rows) <= _CELLWISE_ROWS_MAX:
            return self.as_column(source, self.cells([ordinal] * len(rows), rows.tolist()).values(source))
        segment = self._segments[ordinal].segment
        block = segment.blocks[index]
        data_type = self._layout.type_of(source)
        if not block.has(source):
            return pa.nulls(len(rows), arrow_type(data_type))
        places: np.ndarray = rows - segment.starts[index]
        array, _ = block.flight(source, data_type, None if len(places) == block.row_count else places)
        return array

    def cells(self, ordinals: Sequence[int], rows: Sequence[int]) -> Cells:
        """Of rows anywhere, in the given order."""
        return Cells(self, ordinals, rows, self._segments, self._layout)

    def as_column(self, source: str, values: list[Any]) -> pa.Array:
        """What :meth:`Cells.values` gave, in flight."""
        if source == "_docid":
            return pa.array(values, pa.int32())
        if source in ("_doc", "_raw"):
            return pa.array(values, pa.string_view())
        return to_arrow(values, self._layout.type_of(ID if source == "_uid" else source))

    def docid(self, ordinal: int, row: int) -> int:
        if self._live_before is None:
            self._live_before = np.cumsum([0, *(live.live_count for live in self._segments)]).tolist()
            assert self._live_before is not None
        live = self._segments[ordinal]
        # ``rank`` counts up to the row itself, which is alive.
        dead = 0 if live.deletes is None else live.deletes.rank(row)
        return self._live_before[ordinal] + row - dead


class Cells:
    """Columns of rows anywhere, read one by one."""

    def __init__(
        self,
        gatherer: Gatherer,
        ordinals: Sequence[int],
        rows: Sequence[int],
        segments: Sequence[LiveSegment],
        layout: Layout,
    ) -> None:
        self._gatherer = gatherer
        self._layout = layout
        self._rows = list(zip(ordinals, rows, strict=True))
        #: (block, row in it) each.
        self._places = [segments[ordinal].segment.locate(row) for ordinal, row in self._rows]

    def values(self, source: str) -> list[Any]:
        """SQL values; of ``_doc`` and ``_raw`` the JSON text."""
        source = ID if source == "_uid" else source
        if source == "_docid":
            return [self._gatherer.docid(ordinal, row) for ordinal, row in self._rows]
        if source in ("_doc", "_raw"):
            return [raw_text(block.document(place, self._layout)) for block, place in self._places]
        data_type = self._layout.type_of(source)
        return [block.reader(source, data_type)(place) for block, place in self._places]
