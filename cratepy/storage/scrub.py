"""Reading a copy's durable files again, to find what the disk has lost before somebody needs it.

In: a core, and a ``pause`` that the caller slows the reading down with. Out: the bytes read; or the copy has failed, with
the file and the reason. Segments are compared with the checksums of the manifest, the manifest with itself, translogs
record by record up to what was synced. Files are read, not mapped: an I/O error is an error here, and not a signal.

Nothing is locked while a file is read. A flush may remove it meanwhile, so a file is damaged only if the copy still
needs it after it was read. Does not do yet: read past the cache of the operating system; what is cached is found intact.
"""

from __future__ import annotations

from collections.abc import Callable

import google_crc32c

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage.core import ShardCore
from cratepy.storage.manifest import FileEntry, SegmentEntry, read_manifest
from cratepy.storage.segment import segment_name
from cratepy.storage.translog import TranslogReader, translog_name

#: Called with the bytes of each piece that was read; no lock is held.
Pause = Callable[[int], None]


def scrub(core: ShardCore, *, pause: Pause) -> int:
    """Read every durable file once; returns the bytes read. Raises ShardFailed: damage, or the copy is being closed."""
    total = 0
    with core.maintenance_lock:
        core.raise_if_unusable()
        with core.guarded():
            if core.manifest.revision > 1:  # The first is a record of the log.
                read_manifest(core.files, core.directory)
        segments = core.manifest.segments
        tombstones = core.manifest.tombstones
    if tombstones is not None:
        total += _scrub_file(core, tombstones.name, tombstones, pause)
    for segment in segments:
        for file in _files_of(segment):
            total += _scrub_file(core, f"{segment_name(segment.number)}/{file.name}", file, pause)
    generation, synced = core.log.durable_end()
    for older in range(core.manifest.translog_generation, generation):
        total += _scrub_translog(core, older, None, pause)
    return total + _scrub_translog(core, generation, synced, pause)


def _files_of(segment: SegmentEntry) -> tuple[FileEntry, ...]:
    return segment.files if segment.deletes is None else (*segment.files, segment.deletes)


def _read(core: ShardCore, name: str, pause: Pause) -> tuple[int, int]:
    """(bytes, checksum) of a file below the copy's directory."""
    size = checksum = 0
    for chunk in core.files.chunks(core.directory / name, limits.SCRUB_CHUNK_BYTES):
        if core.is_closing or core.failure is not None:
            raise ShardFailed(core.failure or f"{core} is being closed")
        checksum = google_crc32c.extend(checksum, chunk)
        size += len(chunk)
        pause(len(chunk))
    return size, checksum


def _scrub_file(core: ShardCore, name: str, file: FileEntry, pause: Pause) -> int:
    try:
        if _read(core, name, pause) == (file.size, file.checksum):
            return file.size
        problem = "its checksum does not match"
    except OSError as error:
        problem = str(error)
    with core.maintenance_lock:
        manifest = core.manifest
        needed = {
            f"{segment_name(each.number)}/{kept.name}": kept for each in manifest.segments for kept in _files_of(each)
        }
        if manifest.tombstones is not None:
            needed[manifest.tombstones.name] = manifest.tombstones
        if needed.get(name) == file:
            _give_up(core, name, problem)
    return file.size


def _scrub_translog(core: ShardCore, generation: int, synced: int | None, pause: Pause) -> int:
    """``synced``: the offset up to which records are durable; None: all of the file."""
    name = translog_name(generation)
    path = core.directory / name
    problem = ""
    end = 0
    try:
        _read(core, name, pause)
        data = memoryview(core.files.map(path))
        reader = TranslogReader(data, path=str(path), generation=generation)
        wanted = len(data) if synced is None else synced
        for _ in reader:
            if reader.end >= wanted:
                break
        end = reader.end
        if end < wanted:
            problem = f"the record at byte {end} is bad although it had been written safely"
    except OSError as error:
        problem = str(error)
    except ShardFailed as error:
        if core.is_closing or core.failure is not None:
            raise
        problem = error.message
    if problem:
        with core.maintenance_lock:
            if generation >= core.manifest.translog_generation:
                _give_up(core, name, problem)
    return end


def _give_up(core: ShardCore, name: str, problem: str) -> None:
    core.fail(f"{core.directory / name} is damaged: {problem}")
    raise ShardFailed(str(core.failure))
