"""A shard's text indexes as one searcher: global statistics for scores, dead rows left out by the index itself.

In: the live segments of a state. Out: a :class:`TextView` of exactly these. A view is a directory of hard links to the text
files of the segments, with a ``meta.json`` and ``.del`` files that we write; tantivy takes it for an index of its own. It is
derived data: made at the first search, changed in place when segments or dead rows have changed, removed when the shard is
closed or opened. A running search keeps the searcher it has: an immutable snapshot that outlives its files.

The format we write is internal to tantivy, so there is another way behind the same interface: one index per segment, which
knows nothing of dead rows; they are left out afterwards, and scores count each segment alone. It is taken when the view
cannot be opened, and by groups of segments whose fields do not have the same numbers (a bug, not a state one gets into).

Checksums: tantivy verifies nothing, so the files of a segment are compared with its manifest entry before it first joins.
Threads: an open index owns one that polls ``meta.json``; a shard has one index while all is well.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import tantivy

from cratepy.records import dataclass
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.merging import LiveSegment
from cratepy.storage.segment import segment_name
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.analyzers import analyzer
from cratepy.storage.text.failures import TextIndexFailed, contained
from cratepy.storage.text.formats import (
    EXTENSIONS,
    META,
    PREFIX,
    FieldMeta,
    TextMeta,
    ViewSegment,
    decode_meta,
    deletes_file,
    view_meta,
)
from cratepy.storage.text.scratch import expose, view_directory

_META_JSON: Final = "meta.json"


@dataclass(frozen=True, slots=True)
class SearchableGroup:
    """Segments that one searcher covers, in its order."""

    searcher: Any
    schema: Any
    #: Source → how its texts were analyzed.
    fields: dict[str, FieldMeta]
    #: Ordinals of the segments in the state.
    ordinals: tuple[int, ...]
    #: Of each segment, -1 if not known.
    tie_bases: tuple[int, ...]
    rows: tuple[int, ...]
    #: Whether dead rows are never found. If not, whoever searches drops them.
    honours_deletes: bool
    #: Those that can be found.
    documents: int


@dataclass(frozen=True, slots=True)
class TextView:
    #: The very tuple of the state this is a view of.
    segments: tuple[LiveSegment, ...]
    groups: tuple[SearchableGroup, ...]
    #: Ordinals of segments without a text index: nothing in them was indexed.
    without_index: tuple[int, ...]


class ViewMaker:
    """Makes views for a shard; one call at a time."""

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._directory = directory
        #: Segment number → its meta, checked against the manifest entry.
        self._checked: dict[int, TextMeta] = {}
        self._room: _Room | None = None
        #: Why the last state has no view, or None.
        self.view_failure: str | None = None

    def make(self, segments: tuple[LiveSegment, ...]) -> TextView:
        """Raises SegmentDamaged, TextIndexFailed, OSError."""
        metas: dict[int, TextMeta] = {}
        for ordinal, live in enumerate(segments):
            if has_text_index(live):
                metas[ordinal] = self._meta(live)
        without = tuple(ordinal for ordinal in range(len(segments)) if ordinal not in metas)
        if not metas:
            self.close()
            return TextView(segments, (), without)
        if _are_compatible(list(metas.values())):
            try:
                group = self._one_group(segments, metas)
                self.view_failure = None
                return TextView(segments, (group,), without)
            except TextIndexFailed as error:
                self.view_failure = str(error)
        else:
            self.view_failure = "its segments number their fields differently"
        groups = tuple(self._group_of_one(segments[ordinal], ordinal, meta) for ordinal, meta in metas.items())
        return TextView(segments, groups, without)

    def forget(self, numbers: set[int]) -> None:
        for number in numbers:
            self._checked.pop(number, None)

    def close(self) -> None:
        if self._room is not None:
            self._room.close()
            self._room = None

    def _meta(self, live: LiveSegment) -> TextMeta:
        segment = live.segment
        meta = self._checked.get(segment.number)
        if meta is None:
            target = self._directory / segment_name(segment.number)
            for entry in segment.entry.files:
                if entry.name.startswith(PREFIX):
                    path = target / entry.name
                    data = self._files.map(path)
                    if len(data) != entry.size or google_crc32c.value(data) != entry.checksum:
                        raise SegmentDamaged(f"{path} is damaged: its checksum does not match")
            meta = decode_meta(self._files.read(target / META), str(target / META))
            if meta.rows != segment.rows:
                raise SegmentDamaged(f"{target / META} is damaged: {meta.rows} rows are not {segment.rows}")
            self._checked[segment.number] = meta
        return meta

    def _one_group(self, segments: Sequence[LiveSegment], metas: dict[int, TextMeta]) -> SearchableGroup:
        widest = max(metas.values(), key=lambda meta: len(meta.fields))
        if self._room is not None and self._room.fields != widest.fields:
            self.close()
        if self._room is None:
            self._room = _Room(self._files, self._directory, widest)
        try:
            searcher = self._room.show([segments[ordinal] for ordinal in metas])
        except BaseException:
            # Half a change: the next view starts from nothing.
            self.close()
            raise
        return _group(searcher, self._room.schema, widest, segments, metas, honours_deletes=True)

    def _group_of_one(self, live: LiveSegment, ordinal: int, meta: TextMeta) -> SearchableGroup:
        room = _Room(self._files, self._directory, meta)
        try:
            searcher = room.show([LiveSegment(live.segment, None, 0)])
        finally:
            # The searcher keeps its maps; the index and its thread go.
            room.close()
        return _group(searcher, room.schema, meta, {ordinal: live}, {ordinal: meta}, honours_deletes=False)


def has_text_index(live: LiveSegment) -> bool:
    return any(entry.name == META for entry in live.segment.entry.files)


def _are_compatible(metas: Sequence[TextMeta]) -> bool:
    """Whether the fields of each begin those of the widest."""
    widest = max((meta.fields for meta in metas), key=len)
    return all(meta.fields == widest[: len(meta.fields)] for meta in metas)


def _group(
    searcher: Any,
    schema: Any,
    widest: TextMeta,
    segments: Any,
    metas: dict[int, TextMeta],
    *,
    honours_deletes: bool,
) -> SearchableGroup:
    return SearchableGroup(
        searcher=searcher,
        schema=schema,
        fields={field.source: field for field in widest.fields},
        ordinals=tuple(metas),
        tie_bases=_distinct([(meta.tie_base, meta.rows) for meta in metas.values()]),
        rows=tuple(segments[ordinal].segment.rows for ordinal in metas),
        honours_deletes=honours_deletes,
        documents=int(searcher.num_docs),
    )


def _distinct(bases: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The tie bases, or all -1: two segments share numbers, or one has none of its own."""
    ordered = sorted(bases)
    is_distinct = all(base + rows <= after for (base, rows), (after, _) in itertools.pairwise(ordered))
    if ordered[0][0] < 0 or not is_distinct:
        return (-1,) * len(bases)
    return tuple(base for base, _ in bases)


class _Room:
    """A view's directory and the index opened on it."""

    def __init__(self, files: FileSystem, directory: Path, widest: TextMeta) -> None:
        self.fields = widest.fields
        self._files = files
        self._directory = directory
        self._widest = widest
        self._path = view_directory(files, directory)
        self._opstamp = 1
        self._index: Any = None
        self.schema: Any = None
        #: Number → (generation of its dead rows, opstamp of their file).
        self._shown: dict[int, tuple[int, int]] = {}

    def show(self, segments: Sequence[LiveSegment]) -> Any:
        """A searcher of these segments and no others. After an error the caller closes the room."""
        before = self._shown
        listed = self._put_files(segments)
        temporary = self._path / f"{_META_JSON}.tmp"
        temporary.write_bytes(view_meta(listed, self._widest, opstamp=self._opstamp))
        os.replace(temporary, self._path / _META_JSON)
        with contained(f"the view of {self._directory} cannot be opened"):
            searcher = self._searcher()
            found = (searcher.num_segments, searcher.num_docs)
        wanted = (len(listed), sum(one.rows - one.deleted for one in listed))
        if found != wanted:
            raise TextIndexFailed(f"the view of {self._directory} shows {found} segments and rows, not {wanted}")
        self._remove_gone(before)
        return searcher

    def _put_files(self, segments: Sequence[LiveSegment]) -> list[ViewSegment]:
        shown: dict[int, tuple[int, int]] = {}
        listed = []
        for live in segments:
            segment = live.segment
            one = ViewSegment(segment.number, segment.rows, live.deleted, 0)
            if segment.number not in self._shown:
                source = self._directory / segment_name(segment.number)
                for extension in EXTENSIONS:
                    expose(self._files, source / f"{PREFIX}{extension}", self._path / f"{one.stem}.{extension}")
            generation, opstamp = self._shown.get(segment.number, (-1, 0))
            if live.deletes is not None and live.deleted and generation != live.generation:
                # A name is never used again: what is mapped is remembered by path.
                self._opstamp += 1
                opstamp = self._opstamp
                named = ViewSegment(segment.number, segment.rows, live.deleted, opstamp)
                (self._path / named.deletes_name).write_bytes(deletes_file(segment.rows, live.deletes))
            shown[segment.number] = (live.generation, opstamp)
            listed.append(ViewSegment(segment.number, segment.rows, live.deleted, opstamp))
        self._shown = shown
        return listed

    def _searcher(self) -> Any:
        if self._index is None:
            self._index = tantivy.Index.open(str(self._path))
            # Reloaded here and by nobody else, so that the searcher is that of the segments just listed.
            self._index.config_reader("manual")
            for field in self.fields:
                self._index.register_tokenizer(field.source, analyzer(field.analyzer).native)
            self.schema = self._index.schema
        self._index.reload()
        return self._index.searcher()

    def _remove_gone(self, before: dict[int, tuple[int, int]]) -> None:
        for number, (_, opstamp) in before.items():
            stem = f"{number:032x}"
            if number not in self._shown:
                for extension in EXTENSIONS:
                    (self._path / f"{stem}.{extension}").unlink()
            if opstamp and (number not in self._shown or self._shown[number][1] != opstamp):
                (self._path / f"{stem}.{opstamp}.del").unlink()

    def close(self) -> None:
        self._index = None
        shutil.rmtree(self._path, ignore_errors=True)
        parent = self._path.parent
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
