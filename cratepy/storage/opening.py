"""Opening a shard copy: lay it out or find it, open its segments, do what its translogs say.

In: a core that knows its directory. Out: the core as the last process left it, durable, and its rows visible. Which files
there are, and what is damage, is :mod:`recovery`'s; this room puts the pieces together.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from cratepy.errors import DiskFull, ShardFailed
from cratepy.storage import recovery
from cratepy.storage.buffer import WriteBuffer
from cratepy.storage.core import ShardCore
from cratepy.storage.log import ShardLog
from cratepy.storage.lookup import ShardState
from cratepy.storage.maintainer import ShardMaintainer
from cratepy.storage.manifest import Manifest
from cratepy.storage.segment import COLUMNS, segment_name
from cratepy.storage.text.failures import TextIndexFailed
from cratepy.storage.tombstones import Tombstones, read_tombstones
from cratepy.storage.writer import ShardWriter


def open_copy(
    core: ShardCore, writer: ShardWriter, maintainer: ShardMaintainer, *, primary_term: int, create: bool
) -> None:
    """Raises ShardFailed (damaged, not there) and OSError. ``create``: one that is not there is made."""
    files, directory = core.files, core.directory
    started = core.clock.monotonic()
    core.was_created = create and recovery.create_if_missing(
        files, directory, _first_manifest(core, primary_term), file_id=core.new_file_id()
    )
    core.manifest = manifest = recovery.read_current(files, directory)
    named = (manifest.table_uuid, manifest.shard, manifest.allocation_id)
    if named != (core.table_uuid, core.shard, core.allocation_id):
        raise ShardFailed(f"{directory} belongs to another shard copy: {named}")
    if not core.was_created:
        # A process that was killed may have made names and not synced them; what goes now goes for good.
        files.sync_directory(directory)
        recovery.remove_orphans(files, directory, manifest)
    core.primary_term = max(primary_term, manifest.primary_term)
    core.max_seq_no = core.flushed_seq_no = manifest.max_seq_no
    core.next_segment = manifest.next_segment
    core.tombstones = Tombstones(
        read_tombstones(files, directory, manifest.tombstones), known_from=manifest.deletes_known_from
    )
    core.state = ShardState(WriteBuffer(), None, recovery.open_segments(files, directory, manifest, core.cache))
    _replay(core, writer, maintainer)
    core.opening_s = core.clock.monotonic() - started


def _replay(core: ShardCore, writer: ShardWriter, maintainer: ShardMaintainer) -> None:
    """In bounded memory: a buffer that is full becomes a segment, as when the rows were written.

    Then a flush, as Elasticsearch does: if an fsync of the log failed before the last process ended, the system shows
    what it never wrote as if it were durable, and nothing that is acknowledged from now on may stand behind that.
    """
    replay = recovery.Replay(core.files, core.directory, core.manifest, is_new=core.was_created)
    with _RefreshBeside(core, maintainer) as beside:
        for header, ids, rows, size in replay.operations():
            with core.write_lock:
                writer.write_again(header, ids, rows, size)
            if core.state.active.buffered_bytes > core.buffer_bytes_max:
                beside.refresh()
    core.log = ShardLog(core.files, core.directory, replay)
    # Nothing maps the translogs any more, so that a flush can let go of them.
    del replay
    maintainer.refresh_if_possible()
    # Nothing is left if the refresh was possible; else gets find the rows in the buffer.
    writer.complete()
    if core.log.operations and not core.is_put_off:
        try:
            maintainer.flush()
        except (DiskFull, TextIndexFailed):
            assert core.is_put_off, "the translog stays, and a flush is tried again later"


class _RefreshBeside:
    """Makes segments of full buffers on a thread, while the next records are read: that takes twice as long as reading them.

    One at a time, so no more than two buffers are in memory, as when the rows were written. A log that fits one needs no thread.
    """

    def __init__(self, core: ShardCore, maintainer: ShardMaintainer) -> None:
        self._core = core
        self._maintainer = maintainer
        self._threads = ThreadPoolExecutor(1, "replay")
        self._running: Future[None] | None = None

    def __enter__(self) -> _RefreshBeside:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What it raised is the replay's error, unless that has one already."""
        self._threads.shutdown()
        if self._running is not None and kind is None:
            self._running.result()

    def refresh(self) -> None:
        """Returns when the buffer is another one, or cannot be."""
        if self._running is not None:
            self._running.result()
        is_frozen = threading.Event()
        self._running = self._threads.submit(self._refresh, is_frozen)
        is_frozen.wait()

    def _refresh(self, is_frozen: threading.Event) -> None:
        try:
            self._maintainer.refresh_if_possible(on_frozen=is_frozen.set)
            # The flush that ends the replay waits for the disk; it may take the segments that are there already meanwhile.
            for live in self._core.state.segments[-1:]:
                self._core.files.begin_writing(self._core.directory / segment_name(live.segment.number) / COLUMNS)
        finally:
            is_frozen.set()


def _first_manifest(core: ShardCore, primary_term: int) -> Manifest:
    return Manifest(
        table_uuid=core.table_uuid,
        shard=core.shard,
        allocation_id=core.allocation_id,
        revision=1,
        primary_term=primary_term,
        max_seq_no=-1,
        local_checkpoint=-1,
        translog_generation=1,
        next_segment=1,
    )
