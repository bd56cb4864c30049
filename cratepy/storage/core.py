"""What the rooms of one shard copy share: its place, its locks, its state and what went wrong.

In: nothing by itself. Out: one object that :mod:`writer`, :mod:`maintainer` and :mod:`merger` work on and
:mod:`shard` reads. Its own room so that each of them is about one thing.

Locks, always taken in this order: *maintenance* (whoever changes the list of segments: refresh, flush, the short ends
of a merge), *write* (whoever changes rows), and the log's own. Readers take none: ``state`` is replaced as a whole.

Failure. What the disk refuses for good (a failed fsync, an I/O error) fails the copy: ``failure`` is set, nothing is
acknowledged or written any more, the cluster makes another copy. A full disk is no failure: the operation is refused
or put off, what was promised stays, and work goes on when there is space. See ``docs/decisions/0009``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import DiskFull, ShardFailed
from cratepy.model.schema import TableDefinition
from cratepy.records import dataclass
from cratepy.storage.blocks import Layout
from cratepy.storage.columns import ColumnCache
from cratepy.storage.filesystem import FileSystem, is_disk_full
from cratepy.storage.log import ShardLog
from cratepy.storage.lookup import ShardState
from cratepy.storage.manifest import Manifest
from cratepy.storage.stored import SegmentDamaged
from cratepy.storage.text.failures import TextIndexFailed
from cratepy.storage.text.shard_text import ShardText
from cratepy.storage.tombstones import Tombstones


@dataclass(slots=True)
class Tally:
    """What maintenance has done since the copy was opened: how often, and for how long."""

    refreshes: int = 0
    refresh_s: float = 0.0
    flushes: int = 0
    flush_s: float = 0.0
    merges: int = 0
    merge_s: float = 0.0
    merged_bytes: int = 0


class ShardCore:
    """See the module."""

    __slots__ = (
        "allocation_id",
        "buffer_bytes_max",
        "cache",
        "clock",
        "directory",
        "failure",
        "files",
        "flushed_seq_no",
        "is_closed",
        "is_closing",
        "last_error",
        "layout",
        "log",
        "maintenance_lock",
        "manifest",
        "max_seq_no",
        "merges_ended",
        "merging",
        "next_segment",
        "opening_s",
        "primary_term",
        "put_off_until",
        "searched_at",
        "shard",
        "state",
        "table_uuid",
        "tally",
        "text",
        "tombstones",
        "wants_space",
        "was_created",
        "write_lock",
    )

    log: ShardLog
    manifest: Manifest
    state: ShardState

    def __init__(
        self,
        definition: TableDefinition,
        shard: int,
        allocation_id: str,
        *,
        directory: Path,
        files: FileSystem,
        clock: Clock,
        cache: ColumnCache,
    ) -> None:
        self.table_uuid = definition.uuid
        self.shard = shard
        self.allocation_id = allocation_id
        self.directory = directory
        self.files = files
        self.clock = clock
        self.cache = cache
        self.layout = Layout(definition)
        self.buffer_bytes_max = limits.SHARD_BUFFER_BYTES_MAX
        self.primary_term = 0
        self.max_seq_no = self.flushed_seq_no = -1
        self.next_segment = 1
        self.failure: str | None = None
        #: What maintenance met last, a full disk too; for operators.
        self.last_error: str | None = None
        #: Set before locks are taken to close: merges stop at their next block.
        self.is_closing = False
        self.is_closed = False
        #: Maintenance nobody asked for waits until then: the disk was full, or an index could not be built.
        self.put_off_until = float("-inf")
        #: A write found no space in the log: a flush may free what the log takes.
        self.wants_space = False
        #: How long opening took, and whether there was nothing to open.
        self.opening_s = 0.0
        self.was_created = False
        #: When somebody searched last, or it was opened.
        self.searched_at = clock.monotonic()
        self.maintenance_lock = threading.Lock()
        self.write_lock = threading.Lock()
        #: Number of the segment being written by a merge → the numbers of its sources. Under the maintenance lock.
        self.merging: dict[int, frozenset[int]] = {}
        self.merges_ended = threading.Condition(self.maintenance_lock)
        self.tally = Tally()
        self.tombstones = Tombstones()
        self.text = ShardText(files, directory)

    def __str__(self) -> str:
        return f"shard {self.shard} of {self.layout.definition.name} ({self.allocation_id})"

    @property
    def buffered_bytes(self) -> int:
        """Estimated bytes of rows in memory that are in no segment."""
        state = self.state
        return state.active.buffered_bytes + (0 if state.frozen is None else state.frozen.buffered_bytes)

    def new_file_id(self) -> bytes:
        return bytes.fromhex(self.clock.new_id().replace("-", ""))

    def forget_columns(self, keys: set[object]) -> None:
        self.cache.drop(lambda key: key[0] in keys)

    # --- failure -----------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException | str) -> None:
        """No way back: the first reason stays."""
        if self.failure is None:
            self.failure = self.last_error = f"{self} failed: {error}"

    def damaged(self, error: SegmentDamaged) -> ShardFailed:
        """What to raise when a read found that a segment's bytes have changed: the copy has failed."""
        self.fail(error)
        return ShardFailed(str(self.failure))

    def raise_if_unusable(self) -> None:
        if self.failure is not None:
            raise ShardFailed(self.failure)
        if self.is_closed:
            raise ShardFailed(f"{self} is closed")

    def refused(self, error: OSError) -> DiskFull:
        """The error to raise when maintenance found the disk full."""
        self.put_off(f"{self}: {error.strerror or error} ({self.directory})")
        return self._disk_full()

    def refused_write(self, error: OSError) -> DiskFull:
        """The same for a write; maintenance is not put off by it, because it may free space."""
        self.wants_space = True
        self.last_error = f"{self}: {error.strerror or error} ({self.directory})"
        return self._disk_full()

    def short_of_space(self, reason: str) -> DiskFull:
        """The error to raise for what was asked and not begun."""
        self.last_error = reason
        return self._disk_full()

    def _disk_full(self) -> DiskFull:
        return DiskFull(
            f"blocked by: [FORBIDDEN/12/disk full, writes are refused until there is space again]; {self.last_error}"
        )

    def put_off(self, reason: str) -> None:
        """Maintenance that nobody asked for waits a while before it tries again."""
        self.last_error = reason
        self.put_off_until = self.clock.monotonic() + limits.MAINTENANCE_RETRY_S

    @property
    def is_put_off(self) -> bool:
        return self.clock.monotonic() < self.put_off_until

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """File work of which half is no state to go on from: any error fails the copy, but DiskFull passes."""
        try:
            yield
        except DiskFull:
            raise
        except OSError as error:
            if is_disk_full(error):
                raise self.refused(error) from error
            self.fail(error)
            raise ShardFailed(str(self.failure)) from error
        except TextIndexFailed as error:
            # The rows are in buffer and translog, and nothing else is half done.
            self.put_off(f"{self}: {error.message}")
            raise
        except BaseException as error:
            self.fail(error)
            raise
