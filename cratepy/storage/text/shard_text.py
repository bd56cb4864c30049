"""The text side of one shard copy: an index beside each new segment, a view of the live ones, searches.

In: segments as they are written, states as they are searched. Out: segments with more files; batches. Threads: building may
go on several times at once (refresh, merges); views are made one at a time; searches share the view of their state.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import msgspec
import pyarrow as pa

from cratepy import limits
from cratepy.model.search import TextQuery
from cratepy.storage.blocks import DEFAULT_CODEC, Layout
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.merging import LiveSegment
from cratepy.storage.operations import SearchRequest
from cratepy.storage.segment import Segment, segment_name
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.building import build_text_index
from cratepy.storage.text.failures import TextIndexFailed, contained, translated
from cratepy.storage.text.fields import text_fields
from cratepy.storage.text.formats import META, FieldMeta, decode_meta
from cratepy.storage.text.queries import UNKNOWN_COST
from cratepy.storage.text.scratch import remove_left_overs
from cratepy.storage.text.searching import Makers, best_values, query_makers, search_segments
from cratepy.storage.text.usual import Damaged, ShortSearch, usual_hits, usual_query, usual_values
from cratepy.storage.text.view import TextView, ViewMaker, has_text_index

_searches: Final = itertools.count(1)
_open_lock: Final = threading.Lock()
_open_views: Final[weakref.WeakSet[ShardText]] = weakref.WeakSet()


def _make_room(newcomer: ShardText) -> None:
    """At most ``TEXT_VIEWS_MAX`` shards have a view."""
    with _open_lock:
        _open_views.add(newcomer)
        excess = len(_open_views) - limits.TEXT_VIEWS_MAX
        oldest = sorted(_open_views, key=lambda text: text.searched)[: max(excess, 0)]
    for text in oldest:
        text.close()


class ShardText:
    """See the module."""

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._lock = threading.Lock()
        self._maker = ViewMaker(files, directory)
        #: Segment number → its fields, as far as they were looked at.
        self._fields: dict[int, tuple[FieldMeta, ...]] = {}
        #: Rises with every search of any shard.
        self.searched = 0
        self._view: TextView | None = None
        #: Made for this view and this layout.
        self._made: tuple[TextView, Layout, Makers] | None = None
        remove_left_overs(files, directory)

    def add_index(
        self, segment: Segment, layout: Layout, beside: Sequence[LiveSegment], *, check: Callable[[], None]
    ) -> None:
        """Build the text index of a segment that nobody has seen yet. ``beside``: the shard's other segments.

        Raises TextIndexFailed and OSError; the segment is the caller's to remove then.
        """
        if not text_fields(layout.definition):
            return
        entries = build_text_index(
            self._files, self._directory, segment, layout.definition, known=self._known(beside), check=check
        )
        segment.entry = msgspec.structs.replace(segment.entry, files=(*segment.entry.files, *entries))

    def _known(self, segments: Sequence[LiveSegment]) -> tuple[FieldMeta, ...]:
        """The fields of the segment with the most."""
        widest: tuple[FieldMeta, ...] = ()
        for live in segments:
            if not has_text_index(live):
                continue
            number = live.segment.number
            fields = self._fields.get(number)
            if fields is None:
                try:
                    fields = self._fields_of(live.segment)
                except FileNotFoundError:
                    # Another merge has taken it away since; what took its place has its fields.
                    continue
                self._fields[number] = fields
            widest = max(widest, fields, key=len)
        return widest

    def _fields_of(self, segment: Segment) -> tuple[FieldMeta, ...]:
        """From the file, which is compared with its checksum: what it says goes into the next segment."""
        path = self._directory / segment_name(segment.number) / META
        data = self._files.read(path)
        known = next(entry for entry in segment.entry.files if entry.name == META)
        if len(data) != known.size or google_crc32c.value(data) != known.checksum:
            raise SegmentDamaged(f"{path} is damaged: its checksum does not match")
        return decode_meta(data, str(path)).fields

    def search(self, segments: tuple[LiveSegment, ...], request: SearchRequest, layout: Layout) -> list[pa.RecordBatch]:
        """Raises StaleRouting, BadRequest, SegmentDamaged, TextIndexFailed; FileNotFoundError: ``segments`` are gone."""
        view = self._view_of(segments)
        with contained("the search failed"):
            return search_segments(view, self._makers(view, layout), request, layout)

    def best(self, segments: tuple[LiveSegment, ...], request: SearchRequest, layout: Layout) -> list[tuple[Any, ...]]:
        """Raises what ``search`` raises."""
        view = self._view_of(segments)
        makers = self._makers(view, layout)
        # Not ``contained``, which is three functions to enter and to leave.
        try:
            usual = usual_query(makers, request)
            if usual is not None:
                group, query = usual
                hits = usual_hits(group, query, request.limit or 0)
                return usual_values(group, segments, hits, request.sources, layout)
            return best_values(view, makers, request, layout)
        except BaseException as error:
            known = translated("the search failed", error)
            if known is error:
                raise
            raise known  # noqa: B904 - it has its cause

    def short_search(
        self, segments: tuple[LiveSegment, ...], request: SearchRequest, layout: Layout, damaged: Damaged
    ) -> ShortSearch | None:
        """The search, if what it needs has been made before; see :meth:`Shard.short_search`."""
        made = self._made
        if made is None or made[0].segments is not segments or made[1] is not layout:
            return None
        if any(live.segment.codec != DEFAULT_CODEC for live in segments):
            return None  # a block is decompressed as a whole
        with contained("the index cannot be asked"):
            cost = made[2][0][1].cost(request.queries[0])
            usual = None if cost >= UNKNOWN_COST else usual_query(made[2], request)
        if usual is None:
            return None
        self.searched = next(_searches)
        return ShortSearch(*usual, segments, request, layout, cost, damaged)

    def estimate_hits(self, segments: tuple[LiveSegment, ...], query: TextQuery, layout: Layout) -> int:
        view = self._view_of(segments)
        rows = sum(live.live_count for live in segments)
        with contained("the index cannot be asked"):
            return min(rows, sum(maker.estimate(query) for _, maker in self._makers(view, layout)))

    def _makers(self, view: TextView, layout: Layout) -> Makers:
        made = self._made
        if made is None or made[0] is not view or made[1] is not layout:
            made = self._made = (view, layout, query_makers(view, layout))
        return made[2]

    def _view_of(self, segments: tuple[LiveSegment, ...]) -> TextView:
        self.searched = next(_searches)
        view = self._view
        if view is not None and view.segments is segments:
            return view
        _make_room(self)
        with self._lock:
            view = self._view
            if view is None or view.segments is not segments:
                try:
                    view = self._view = self._maker.make(segments)
                except FileNotFoundError:
                    raise
                except OSError as error:
                    raise TextIndexFailed(f"the view of {self._directory} cannot be made: {error}") from error
        return view

    def forget(self, numbers: set[int]) -> None:
        """Segments were merged away: a view would keep their space on disk. The next search makes another."""
        with self._lock:
            self._maker.forget(numbers)
            for number in numbers:
                self._fields.pop(number, None)
            if self._view is not None and any(live.segment.number in numbers for live in self._view.segments):
                self._view = self._made = None
                self._maker.close()

    @property
    def view_failure(self) -> str | None:
        """Why segments are searched one by one, or None."""
        return self._maker.view_failure

    def close(self) -> None:
        """Running searches go on; another one makes a new view."""
        with _open_lock:
            _open_views.discard(self)
        with self._lock:
            self._view = self._made = None
            self._maker.close()
