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
        self._by_table: dict[str, dict[int, Shard]] = {}
        #: What :meth:`shards` gives, until one is opened or closed.
        self._sorted: list[Shard] | None = None
        self._buffer_share = 0
        #: Tables of which all names above their copies' directories are known to be durable, but those made since.
        self._named: set[str] = set()
        #: Whether the name of the directory of all tables is known to be durable, and those in it that were there at the start.
        self._is_named = False
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
        self._files.make_directory(self._path)
        try:
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
            try:
                self._sync_names(directory, is_new=opened.was_created)
            except OSError:
                opened.close()
                raise
        except BaseException:
            # What half an attempt has left is not new to the next one.
            self._named.discard(definition.uuid)
            self._is_named = False
            raise
        with self._lock:
            self._shards[definition.uuid, shard] = opened
            self._by_table.setdefault(definition.uuid, {})[shard] = opened
            self._sorted = None
            self._share_buffer(opened)
        return opened

    def _sync_names(self, directory: Path, *, is_new: bool) -> None:
        """Make durable that the directories above are there: who made them may have been killed before it did.

        After the files, because one commit of the file system's journal takes along what was made before: the first
        sync costs one, and the others find nothing to do.
        """
        of_shard, of_table = directory.parent, directory.parent.parent
        self._files.sync_directory(of_shard)
        is_first = of_table.name not in self._named
        if is_new or is_first:
            self._files.sync_directory(of_table)
        if is_first:
            if is_new or not self._is_named:
                self._files.sync_directory(self._path)
            if not self._is_named:
                self._files.sync_directory(self.path)
                self._is_named = True
            self._named.add(of_table.name)

    def shard(self, table_uuid: str, shard: int) -> Shard | None:
        return self._shards.get((table_uuid, shard))

    def shards(self) -> list[Shard]:
        """Open shards, failed ones too, by table and number."""
        with self._lock:
            if self._sorted is None:
                self._sorted = [self._shards[key] for key in sorted(self._shards)]
            return self._sorted.copy()

    def shards_of(self, table_uuid: str) -> list[Shard]:
        """The open shards of one table, by number."""
        with self._lock:
            shards = self._by_table.get(table_uuid, {})
            return [shards[number] for number in sorted(shards)]

    def update_definition(self, definition: TableDefinition) -> None:
        """Tell the open shards of a table its new columns."""
        for shard in self.shards_of(definition.uuid):
            shard.update_definition(definition)

    def close_shard(self, table_uuid: str, shard: int) -> None:
        """Close a shard and keep its files; not open is fine."""
        with self._lock:
            found = self._shards.pop((table_uuid, shard), None)
            if found is not None:
                of_table = self._by_table[table_uuid]
                del of_table[shard]
                if not of_table:
                    del self._by_table[table_uuid]
                self._sorted = None
                self._share_buffer(None)
        if found is not None:
            found.close()

    def remove_shard(self, table_uuid: str, shard: int) -> None:
        """Close a shard and delete all copies of it on this node."""
        self.close_shard(table_uuid, shard)
        self._remove(self._path / table_uuid / str(shard))

    def close_table(self, table_uuid: str) -> None:
        """Close a table's shards and keep their files."""
        for shard in self.shards_of(table_uuid):
            self.close_shard(table_uuid, shard.shard)

    def remove_table(self, table_uuid: str) -> None:
        """Close a table's shards and delete their files.

        Not durably: a commit of the file system's journal for every DROP TABLE would hold up the next statements, and
        files that a power cut brings back are found and deleted by the next start, which knows what was dropped.
        """
        self.close_table(table_uuid)
        self._files.remove_tree(self.table_path(table_uuid))
        self._named.discard(table_uuid)

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

    def _share_buffer(self, opened: Shard | None) -> None:
        # Half of the memory, so that shards at their share leave room for the ones being frozen just then.
        share = limits.WRITE_BUFFER_BYTES_MAX // 2 // max(1, len(self._shards))
        share = max(limits.SHARD_BUFFER_BYTES_MIN, min(limits.SHARD_BUFFER_BYTES_MAX, share))
        if share != self._buffer_share:
            self._buffer_share = share
            for shard in self._shards.values():
                shard.buffer_bytes_max = share
        elif opened is not None:
            opened.buffer_bytes_max = share

    def close(self) -> None:
        """Close every shard durably, then answer whoever still waits."""
        for shard in self.shards():
            self.close_shard(shard.table_uuid, shard.shard)
        self._committer.close()
