"""Opening a shard copy: from files to a state that goes on where the last process stopped.

In: the shard's directory. Out: the manifest, its segments, and the operations of the translogs in order. A new copy is
one file, the first translog, whose first record holds the first manifest: one file to sync instead of two and a rename.
What the manifest does not name is a left-over of a crash and removed. Damage is refused with ShardFailed naming the file; only
the tail of the last translog, which was never acknowledged, is cut.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import xxhash

from cratepy.errors import ShardFailed
from cratepy.storage import manifest as manifests
from cratepy.storage import segment as segments
from cratepy.storage import tombstones
from cratepy.storage import translog as translogs
from cratepy.storage.columns import ColumnCache
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.manifest import Manifest
from cratepy.storage.merging import LiveSegment
from cratepy.storage.plain_rows import PlainRow, decode_plain_row, plain_batch
from cratepy.storage.records import RecordHeader, decode_record, decode_rows, decode_schema, encode_birth, split_ids

#: Header, ids, rows (None: deletes), bytes.
Operation = tuple[RecordHeader, Sequence[str], pa.RecordBatch | PlainRow | None, int]
#: Single rows that replay puts into one batch.
_GATHERED_ROWS_MAX: Final = 4_096
#: Written into a new shard's directory before anything else is durable in it.
_FIRST_TRANSLOG: Final = 1


def create_if_missing(files: FileSystem, directory: Path, first: Manifest, *, file_id: bytes) -> bool:
    """Lay out an empty shard copy if there is none; what an interrupted attempt left is removed first.

    What is in the directory is durable on return, the names above it are not: they are the store's. Returns whether
    there is nothing to open.
    """
    assert first.translog_generation == _FIRST_TRANSLOG
    birth = encode_birth(manifests.encode_payload(first))
    if not files.exists(directory):
        files.make_directory(directory, is_synced=False)
    else:
        names = files.names(directory)
        if _is_finished(files, directory, names, birth):
            return False
        if _is_born_again(files, directory, names):
            return True
        # Durable before a new log is: nothing of the interrupted attempt may come back beside it.
        for name in names:
            remove = files.remove_tree if name.startswith(segments.PREFIX) else files.unlink
            remove(directory / name)
        files.sync_directory(directory)
    translogs.create_translog(files, directory, generation=_FIRST_TRANSLOG, file_id=file_id, first=birth).close()
    return True


def _is_finished(files: FileSystem, directory: Path, names: Sequence[str], birth: bytes) -> bool:
    """Whether the copy was finished: nothing is appended and no other file is made before."""
    first = translogs.translog_name(_FIRST_TRANSLOG)
    if first not in names:
        return manifests.NAME in names  # The first log outlives everything but the manifest of the first flush.
    return len(names) > 1 or files.size(directory / first) > translogs.created_bytes(birth)


def _is_born_again(files: FileSystem, directory: Path, names: Sequence[str]) -> bool:
    """Make a copy that is nothing but its birth durable; False if it is not even that.

    If the sync of it failed, the system shows what it never wrote as if it were durable, so it is written once more: in its
    place, because a name that is removed and made again may bring back an older directory.
    """
    if list(names) != [translogs.translog_name(_FIRST_TRANSLOG)]:
        return False
    path = directory / names[0]
    try:
        reader = translogs.TranslogReader(memoryview(files.map(path)), path=str(path), generation=_FIRST_TRANSLOG)
        payloads = list(reader)
        if len(payloads) != 1 or reader.has_tail or decode_record(payloads[0])[0].kind != "birth":
            return False
    except (ShardFailed, msgspec.MsgspecError, struct.error):
        return False  # Torn: nothing of it was ever durable.
    file = files.append(path, at=0)
    try:
        file.write(reader.good_bytes())
        file.sync()
    finally:
        file.close()
    files.sync_directory(directory)
    return True


def read_current(files: FileSystem, directory: Path) -> Manifest:
    """The manifest, or of a copy that was never flushed the first record of its log. Raises ShardFailed."""
    born = None if files.exists(directory / manifests.NAME) else _read_birth(files, directory)
    return manifests.read_manifest(files, directory) if born is None else born


def _read_birth(files: FileSystem, directory: Path) -> Manifest | None:
    path = directory / translogs.translog_name(_FIRST_TRANSLOG)
    if not files.exists(path):
        return None
    reader = translogs.TranslogReader(memoryview(files.map(path)), path=str(path), generation=_FIRST_TRANSLOG)
    for payload in reader:
        try:
            header, body = decode_record(payload)
            return manifests.decode_payload(body) if header.kind == "birth" else None
        except (msgspec.MsgspecError, struct.error) as error:
            raise ShardFailed(f"{path} is damaged: its first record: {error}") from error
    raise ShardFailed(f"{path} is damaged: its first record is not there, and there is no manifest")


def open_segments(
    files: FileSystem, directory: Path, manifest: Manifest, cache: ColumnCache
) -> tuple[LiveSegment, ...]:
    opened = []
    for entry in manifest.segments:
        deletes = segments.read_deletes(files, directory, entry)
        generation = 0 if entry.deletes is None else deletes_generation(entry.deletes.name)
        opened.append(LiveSegment(segments.open_segment(files, directory, entry, cache), deletes, generation))
    return tuple(opened)


def deletes_generation(name: str) -> int:
    return int(name.removeprefix(segments.DELETES_PREFIX))


def remove_orphans(files: FileSystem, directory: Path, manifest: Manifest, *, spared: Iterable[int] = ()) -> None:
    """Remove files and segments that no manifest names: a crash left them, or they were merged away.

    ``spared``: segments that are being written just now.
    """
    kept_names = {segments.segment_name(number) for number in spared}
    live = {segments.segment_name(entry.number): entry for entry in manifest.segments}
    for name in files.names(directory):
        path = directory / name
        if name.startswith(segments.PREFIX):
            if name not in live and name not in kept_names:
                files.remove_tree(path)
        elif name.startswith(translogs.PREFIX):
            if translog_generation(name) < manifest.translog_generation:
                files.unlink(path)
        elif name.startswith(tombstones.PREFIX):
            if manifest.tombstones is None or name != manifest.tombstones.name:
                files.unlink(path)
        elif name == manifests.TEMPORARY_NAME:
            files.unlink(path)
    for name, entry in live.items():
        kept = {file.name for file in entry.files} | ({entry.deletes.name} if entry.deletes is not None else set())
        for inner in files.names(directory / name):
            if inner not in kept:
                files.unlink(directory / name / inner)


def translog_generation(name: str) -> int:
    number = name.removeprefix(translogs.PREFIX)
    if not number.isdecimal():
        raise ShardFailed(f"{name} is no translog's name")
    return int(number)


class Replay:
    """The translogs of a shard from the manifest's generation on. Iterate over :meth:`operations`, then :meth:`resume`."""

    def __init__(self, files: FileSystem, directory: Path, manifest: Manifest, *, is_new: bool) -> None:
        """``is_new``: it was laid out just now, so nothing that is read can be in the system's cache alone."""
        self._files = files
        self._directory = directory
        self._is_new = is_new
        names = [name for name in files.names(directory) if name.startswith(translogs.PREFIX)]
        self._generations = sorted(translog_generation(name) for name in names)
        self._generations = [g for g in self._generations if g >= manifest.translog_generation]
        expected = list(range(manifest.translog_generation, manifest.translog_generation + len(self._generations)))
        if not self._generations or self._generations != expected:
            path = directory / translogs.translog_name(manifest.translog_generation)
            raise ShardFailed(f"{path} or a translog after it is missing")
        #: The schemas that records of the last generation refer to.
        self.schemas: list[pa.Schema] = []
        self.operation_count = 0
        self.translog_bytes = 0
        self._last: translogs.TranslogReader | None = None
        self._last_generation = manifest.translog_generation

    def operations(self) -> Iterator[Operation]:
        """(header, ids, rows, bytes) in the order they were written; raises ShardFailed for damage."""
        return _gathered(self._operations())

    def _operations(self) -> Iterator[Operation]:
        for generation in self._generations:
            path = self._directory / translogs.translog_name(generation)
            data = memoryview(self._files.map(path))
            reader = translogs.TranslogReader(data, path=str(path), generation=generation)
            if reader.is_blank:
                # Only the newest file can be without a header: its predecessor's records go on being the last ones.
                if generation != self._generations[-1] or generation == self._generations[0]:
                    raise ShardFailed(f"{path} is damaged: it has no header")
                continue
            if self._last is not None and self._last.has_tail:
                raise ShardFailed(f"{path} follows a translog that is damaged at byte {self._last.end}")
            yield from self._operations_of(reader, str(path))
            self._last, self._last_generation = reader, generation
            self.translog_bytes += reader.end

    def _operations_of(self, reader: translogs.TranslogReader, path: str) -> Iterator[Operation]:
        self.schemas = []
        for payload in reader:
            try:
                header, body = decode_record(payload)
                if header.kind == "row":
                    self.operation_count += 1
                    yield header, header.ids, decode_plain_row(body, self.schemas[header.schema]), len(body)
                elif header.kind == "schema":
                    assert header.schema == len(self.schemas)
                    self.schemas.append(decode_schema(body))
                elif header.kind not in ("mark", "birth"):
                    ids: Sequence[str] = header.ids
                    rows: pa.RecordBatch | None = None
                    if header.kind == "index":
                        rows = decode_rows(body, self.schemas[header.schema])
                    elif header.kind == "rows":
                        rows, ids = split_ids(decode_rows(body, self.schemas[header.schema]))
                    self.operation_count += len(ids)
                    yield header, ids, rows, len(body)
            except (msgspec.MsgspecError, struct.error, pa.ArrowException, IndexError) as error:
                raise ShardFailed(f"{path} is damaged: record at byte {reader.end}: {error}") from error

    def resume(self) -> translogs.TranslogWriter:
        """The last translog, cut to its good records and durable, ready to be appended to; after a torn one the next.

        Behind a torn record there may be good ones that were never acknowledged. They are cut off, but a disk that brings
        back what a sector held before would show them again behind new records of the same file: so no new record
        is written there. The name of the next file is durable before the cut, so that a crash in between is noticed.
        """
        last = self._last
        assert last is not None
        newest = self._generations[-1]
        was_interrupted = newest != self._last_generation
        if last.is_torn and not was_interrupted:
            newest += 1
            self._files.create(self._directory / translogs.translog_name(newest)).close()
            self._files.sync_directory(self._directory)
        # If a sync of the file had failed, it would be shown as if it were durable. Rows that were read are flushed into
        # segments after this; a log without rows is written once more, so that the first row's sync takes all of it along.
        is_rewritten = not self._is_new and not self.operation_count
        path = self._directory / translogs.translog_name(self._last_generation)
        file = self._files.append(path, at=0 if is_rewritten else None)
        if is_rewritten:
            file.write(last.good_bytes())
        if last.has_tail:
            file.truncate(last.end)
        # What was read is shown to clients from now on, so it must not be lost by the next power cut. And the beginning
        # must be durable before any record is behind it, which a record that knows of a sync says.
        is_synced = bool(self.operation_count or last.has_tail or newest != self._last_generation)
        is_synced = is_synced or (is_rewritten and not last.known_durable)
        if is_synced:
            file.sync()
        if newest != self._last_generation:
            file.close()
            return self._next(newest, last.file_id)
        writer = translogs.TranslogWriter(file, generation=newest, file_id=last.file_id, end=last.end)
        writer.synced = last.end if is_synced or self._is_new else last.known_durable
        return writer

    def _next(self, generation: int, before: bytes) -> translogs.TranslogWriter:
        """A new translog behind the last one, with a file id of its own."""
        file_id = xxhash.xxh3_128_digest(before + generation.to_bytes(8, "little"))
        writer = translogs.create_translog(self._files, self._directory, generation=generation, file_id=file_id)
        writer.synced = writer.end
        self.schemas = []
        self.translog_bytes += writer.end
        return writer


def _gathered(operations: Iterator[Operation]) -> Iterator[Operation]:
    """The same with neighbouring new rows as one batch: what a batch costs, each of its rows does not cost again."""
    ids: list[str] = []
    values: list[Sequence[Any]] = []
    schema: pa.Schema | None = None
    first = RecordHeader("index")
    size = 0
    for header, row_ids, rows, row_bytes in operations:
        row = rows if isinstance(rows, PlainRow) and header.versions == 1 else None
        if ids and not (
            row is not None
            and row.schema is schema
            and header.first_seq_no == first.first_seq_no + len(ids)
            and header.primary_term == first.primary_term
            and len(ids) < _GATHERED_ROWS_MAX
        ):
            yield first, ids, plain_batch(schema, values), size
            ids, values, size = [], [], 0
        if row is None:
            yield header, row_ids, rows, row_bytes
            continue
        if not ids:
            first = RecordHeader("index", 0, header.first_seq_no, header.primary_term)
            schema = row.schema
        ids.append(row_ids[0])
        values.append(row.values)
        size += row_bytes
    if ids:
        yield first, ids, plain_batch(schema, values), size
