"""Building the text index of one segment: rows in order, one tantivy segment, checked, copied through the seam.

In: an open segment, the table's definition, the fields that other segments of the shard have. Out: entries of the files
``text.*``, or none if nothing is indexed. Document number is row: one writer thread, one commit, a heap that is a limit and
not a reservation. A writer that failed lies afterwards (its later commits succeed without rows), so it lives for one build.

Fields have the same numbers in all segments of a shard, so that one searcher can read them all: those that other segments
have come first, new ones behind them in the order of their oids.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import tantivy

from cratepy import limits
from cratepy.model.schema import TableDefinition
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.manifest import FileEntry
from cratepy.storage.segment import Segment, segment_name
from cratepy.storage.text.analyzers import Value, analyzer
from cratepy.storage.text.failures import TextIndexFailed, contained
from cratepy.storage.text.fields import TextField, field_values, text_fields
from cratepy.storage.text.formats import (
    EXTENSIONS,
    META,
    PREFIX,
    TIE_FIELD,
    FieldMeta,
    TextMeta,
    encode_meta,
    has_right_footer,
)
from cratepy.storage.text.memory import build_memory
from cratepy.storage.text.scratch import build_directory

#: tantivy takes less than 4,293,967,295 bytes. A limit, not a reservation: what is really used, ``memory`` bounds.
_HEAP_BYTES: Final = 4_000_000_000


def build_text_index(
    files: FileSystem,
    directory: Path,
    segment: Segment,
    definition: TableDefinition,
    *,
    known: Sequence[FieldMeta],
    check: Callable[[], None],
) -> tuple[FileEntry, ...]:
    """Raises TextIndexFailed and OSError; ``check`` is called between blocks and may raise to stop it."""
    fields = text_fields(definition)
    if not fields:
        return ()
    by_source = {field.source: field for field in fields}
    ordered = [by_source.get(old.source, TextField(old.source, (), old.analyzer)) for old in known]
    seen = {old.source for old in known}
    ordered.extend(field for field in fields if field.source not in seen)
    size = _text_bytes(segment, ordered)
    with build_memory(size, check), build_directory(files, directory, bytes_expected=size) as scratch:
        with contained(f"the text index of {directory / segment_name(segment.number)} cannot be built"):
            meta = _build(scratch, segment, ordered, check)
        target = directory / segment_name(segment.number)
        entry = _write(files, target / META, [encode_meta(meta)])
        (stem,) = {path.stem for path in scratch.glob(f"*.{EXTENSIONS[0]}")}
        copied = [_copy(files, scratch / f"{stem}.{kind}", target / f"{PREFIX}{kind}") for kind in EXTENSIONS]
    return (entry, *copied)


def _text_bytes(segment: Segment, fields: Sequence[TextField]) -> int:
    """About how many bytes of text are in a segment: what its columns take, encoded or not, is near enough."""
    size = sum(entry.size for entry in segment.entry.files)
    return size * (2 if len(fields) == 1 else len(fields))


def _build(scratch: Path, segment: Segment, fields: Sequence[TextField], check: Callable[[], None]) -> TextMeta:
    builder = tantivy.SchemaBuilder()
    builder.add_tie_breaker_field(TIE_FIELD)
    analyzers = [analyzer(field.analyzer) for field in fields]
    for field in fields:
        builder.add_text_field(field.source, stored=False, tokenizer_name=field.source, index_option="position")
    index = tantivy.Index(builder.build(), str(scratch))
    for field, made in zip(fields, analyzers, strict=True):
        index.register_tokenizer(field.source, made.native)
    writer = index.writer(_HEAP_BYTES, num_threads=1)
    try:
        for block in segment.blocks:
            check()
            columns = [field_values(field, made, block) for field, made in zip(fields, analyzers, strict=True)]
            _add_rows(writer, [field.source for field in fields], columns)
        writer.commit()
    finally:
        # Dropping it without a commit takes everything back; there is no other way to let go of its threads.
        del writer
    meta = json.loads((scratch / "meta.json").read_bytes())
    found = [(one["max_doc"], one["deletes"]) for one in meta["segments"]]
    if len(found) > 1:
        raise TextIndexFailed(f"the texts of {segment.rows} rows need more than {_HEAP_BYTES} bytes of memory")
    if found != [(segment.rows, None)]:
        raise TextIndexFailed(f"{segment.rows} rows became index segments of {found}")
    return TextMeta(
        rows=segment.rows,
        tie_base=_tie_base(index, segment.rows),
        fields=tuple(FieldMeta(field.source, field.analyzer) for field in fields),
        schema=json.dumps(meta["schema"]).encode(),
        settings=json.dumps(meta["index_settings"]).encode(),
    )


def _add_rows(writer: Any, sources: Sequence[str], columns: Sequence[Sequence[Value | None]]) -> None:
    make, add = tantivy.Document, writer.add_document
    if len(sources) == 1:
        source = sources[0]
        for value in columns[0]:
            document = make()
            if value.__class__ is str:
                document.add_text(source, value)
            elif value is not None:
                document.add_pre_tokenized_text(source, value)
            add(document)
        return
    for row in zip(*columns, strict=True):
        document = make()
        for source, value in zip(sources, row, strict=True):
            if value.__class__ is str:
                document.add_text(source, value)
            elif value is not None:
                document.add_pre_tokenized_text(source, value)
        add(document)


def _tie_base(index: Any, rows: int) -> int:
    """Of the first row; -1 if the numbers are not consecutive."""
    index.reload()
    searcher = index.searcher()
    first, last = searcher.fast_field_values(TIE_FIELD, [tantivy.DocAddress(0, 0), tantivy.DocAddress(0, rows - 1)])
    return int(first) if last - first == rows - 1 and first >= 0 else -1


def _write(files: FileSystem, path: Path, parts: Iterable[bytes]) -> FileEntry:
    file = files.create(path)
    size = checksum = 0
    try:
        for part in parts:
            file.write(part)
            checksum = google_crc32c.extend(checksum, part)
            size += len(part)
    finally:
        file.close()
    return FileEntry(path.name, size, checksum)


def _copy(files: FileSystem, source: Path, target: Path) -> FileEntry:
    step = limits.TEXT_COPY_BYTES
    if not source.stat().st_size:
        raise TextIndexFailed(f"{source.name} was written wrongly")
    with open(source, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        with memoryview(data) as view:
            if not has_right_footer(view):
                raise TextIndexFailed(f"{source.name} was written wrongly")
        return _write(files, target, (data[at : at + step] for at in range(0, len(data), step)))
