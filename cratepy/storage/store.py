"""All shards of a node: opens, closes and removes them, and makes their writes durable together.

In: table definitions and allocation ids, as the cluster state tells. Out: :class:`Shard` objects; callbacks when writes
are durable. Layout below ``path`` (the node's directory, ``path.data/nodes/0``; its lock file is the cluster's)::

    indices/<table uuid>/<shard>/<allocation id>/     one shard copy

Its own room because shards share a committer, a column cache and the memory for write buffers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cratepy import limits
from cratepy.clock import Clock
from cratepy.model.schema import TableDefinition
from cratepy.storage.columns import ColumnCache
from cratepy.storage.committer import Committer
from cratepy.storage.filesystem import FileSystem, RealFileSystem
from cratepy.storage.shard import Shard

_DIRECTORY: Final = "indices"


class ShardStore:
    """See the module. Safe on all threads."""

    def __init__(self, path: Path, *, clock: Clock, files: FileSystem | None = None) -> None:
        self._path = path / _DIRECTORY
        self._clock = clock
        self._files = RealFileSystem() if files is None else files
        self._cache = ColumnCache()
        self._committer = Committer()
        self._shards: dict[tuple[str, int], Shard] = {}
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The node's directory: on the disk whose space counts."""
        return self._path.parent

    def open_shard(
        self, definition: TableDefinition, shard: int, allocation_id: str, *, primary_term: int, create: bool
    ) -> Shard:
        """Open a copy and replay its translog; with ``create`` an empty one is made if there is none under this id.

        Raises ShardFailed (damaged, not there) and OSError. Another copy of the shard that is open here is closed first.
        Blocks for as long as the replay takes; other shards go on meanwhile.
        """
        self.close_shard(definition.uuid, shard)
        directory = self._path / definition.uuid / str(shard) / allocation_id
        self._sync_names(directory)
        opened = Shard(
            definition,
            shard,
            allocation_id,
            directory=directory,
            files=self._files,
            clock=self._clock,
            cache=self._cache,
            primary_term=primary_term,
            create=create,
        )
        with self._lock:
            self._shards[definition.uuid, shard] = opened
            self._share_buffer()
        return opened

    def _sync_names(self, directory: Path) -> None:
        """Make durable that the directories above are there: who made them may have been killed before it did."""
        for above in reversed(directory.parents[: list(directory.parents).index(self.path) + 1]):
            if self._files.exists(above):
                self._files.sync_directory(above)

    def shard(self, table_uuid: str, shard: int) -> Shard | None:
        return self._shards.get((table_uuid, shard))

    def shards(self) -> list[Shard]:
        """Open shards, failed ones too, by table and number."""
        with self._lock:
            return [self._shards[key] for key in sorted(self._shards)]

    def update_definition(self, definition: TableDefinition) -> None:
        """Tell the open shards of a table its new columns."""
        for shard in self.shards():
            if shard.table_uuid == definition.uuid:
                shard.update_definition(definition)

    def close_shard(self, table_uuid: str, shard: int) -> None:
        """Close a shard and keep its files; not open is fine."""
        with self._lock:
            found = self._shards.pop((table_uuid, shard), None)
            self._share_buffer()
        if found is not None:
            found.close()

    def remove_shard(self, table_uuid: str, shard: int) -> None:
        """Close a shard and delete all copies of it on this node."""
        self.close_shard(table_uuid, shard)
        self._remove(self._path / table_uuid / str(shard))

    def close_table(self, table_uuid: str) -> None:
        """Close a table's shards and keep their files."""
        for shard in self.shards():
            if shard.table_uuid == table_uuid:
                self.close_shard(table_uuid, shard.shard)

    def remove_table(self, table_uuid: str) -> None:
        """Close a table's shards and delete their files."""
        self.close_table(table_uuid)
        self._remove(self.table_path(table_uuid))

    def table_path(self, table_uuid: str) -> Path:
        """The directory of a table's shards."""
        return self._path / table_uuid

    def table_uuids_on_disk(self) -> list[str]:
        """Tables that have files here, open or not: what a node may still have to remove."""
        return self._files.names(self._path) if self._files.exists(self._path) else []

    def _remove(self, directory: Path) -> None:
        if self._files.exists(directory):
            self._files.remove_tree(directory)
            self._files.sync_directory(directory.parent)

    def when_durable(self, shard: Shard, position: int, done: Callable[[BaseException | None], None]) -> None:
        """Call ``done`` on the committer's thread: None once ``position`` is durable, else the ShardFailed.

        ``done`` must be short: all writers of the node wait behind it. Raises TooManyRequests.
        """
        self._committer.wait(shard, position, done)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call it on the committer's thread each time some ``done`` callbacks were called, once for all of them."""
        self._committer.listeners.append(listener)

    @property
    def buffered_bytes(self) -> int:
        """Estimated bytes of rows that are in no segment; callers hold writes back above ``WRITE_BUFFER_BYTES_MAX``."""
        with self._lock:
            return sum(shard.buffered_bytes for shard in self._shards.values())

    def _share_buffer(self) -> None:
        # Half of the memory, so that shards at their share leave room for the ones being frozen just then.
        share = limits.WRITE_BUFFER_BYTES_MAX // 2 // max(1, len(self._shards))
        share = max(limits.SHARD_BUFFER_BYTES_MIN, min(limits.SHARD_BUFFER_BYTES_MAX, share))
        for shard in self._shards.values():
            shard.buffer_bytes_max = share

    def close(self) -> None:
        """Close every shard durably, then answer whoever still waits."""
        for shard in self.shards():
            self.close_shard(shard.table_uuid, shard.shard)
        self._committer.close()
