"""A disk that can lose power: every call may be the last one.

What survives a power cut: contents that were synced; of the rest any subset of 512-byte sectors of what was written
since; of the changes of a directory since its last sync any prefix. Faults can also be planted: the n-th sync fails; the
disk is full above a number of bytes, then a write leaves what fitted.
Files and directories are one flat namespace of paths.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from cratepy.storage.filesystem import SyncFailed

SECTOR = 512


class PowerCut(Exception):
    """The machine is off; nothing the program does after it counts."""


class Inode:
    def __init__(self) -> None:
        self.cache = bytearray()
        self.disk = bytearray()
        self.dirty: set[int] = set()


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, inode: Inode, end: int | None = None) -> None:
        self._disk = disk
        self._inode = inode
        self._end = len(inode.cache) if end is None else end

    def write(self, data: bytes | memoryview | pa.Buffer) -> None:
        self._disk.tick()
        content = bytes(data)
        inode = self._inode
        room = self._disk.room() + len(inode.cache) - self._end
        if len(content) > room:
            fitting = content[: max(room, 0)]
            inode.cache[self._end : self._end + len(fitting)] = fitting
            if fitting:
                inode.dirty.update(range(self._end // SECTOR, (self._end + len(fitting) - 1) // SECTOR + 1))
            self._end += len(fitting)
            raise OSError(28, "No space left on device")
        start = self._end
        self._end += len(content)
        inode.cache[start : self._end] = content
        if content:
            inode.dirty.update(range(start // SECTOR, (self._end - 1) // SECTOR + 1))

    def sync(self) -> None:
        self._disk.tick()
        self._disk.syncs += 1
        if self._disk.syncs == self._disk.failing_sync:
            raise SyncFailed(5, "Input/output error")
        self._inode.disk = bytearray(self._inode.cache)
        self._inode.dirty.clear()

    def reserve(self, size: int, *, is_written: bool = False) -> bool:
        self._disk.tick()
        start = len(self._inode.cache)
        if 0 < size - start <= self._disk.room():
            self._inode.cache.extend(bytes(size - start))
            self._inode.dirty.update(range(start // SECTOR, (size - 1) // SECTOR + 1))
        return size <= len(self._inode.cache)

    def truncate(self, size: int) -> None:
        self._disk.tick()
        self._end = size
        del self._inode.cache[size:]
        self._inode.dirty.update(range(size // SECTOR, len(self._inode.disk) // SECTOR + 1))

    def close(self) -> None:
        pass


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class SimulatedDisk:
    def __init__(self) -> None:
        #: Path → inode (None: a directory), as programs see it and as it is durable.
        self._names: dict[str, Inode | None] = {}
        self._durable: dict[str, Inode | None] = {}
        #: Changes of names since, in order: (path, inode or None, is_removed).
        self._pending: list[tuple[str, Inode | None, bool]] = []
        self.calls = 0
        self.cut_at: int | None = None
        self.syncs = 0
        self.failing_sync: int | None = None
        #: Bytes of all files, reserved ones too; None: there is always room.
        self.quota: int | None = None
        #: Quotas of users do not show in the free space of a disk.
        self.is_quota_shown = True
        #: Bytes of the whole disk, as it says.
        self.total = 1 << 20

    def used(self) -> int:
        return sum(len(inode.cache) for inode in self._names.values() if inode is not None)

    def room(self) -> int:
        return 1 << 60 if self.quota is None else self.quota - self.used()

    def tick(self) -> None:
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise PowerCut

    def power_cut(self, chance: random.Random) -> None:
        """Become what the next start finds."""
        by_directory: dict[str, list[tuple[str, Inode | None, bool]]] = {}
        for change in self._pending:
            by_directory.setdefault(parent(change[0]), []).append(change)
        for changes in by_directory.values():
            for path, inode, is_removed in changes[: chance.randint(0, len(changes))]:
                self._change(self._durable, path, inode, is_removed=is_removed)
        self._durable = {path: inode for path, inode in self._durable.items() if self._is_reachable(path)}
        for inode in self._durable.values():
            if inode is not None and inode.dirty:
                self._settle(inode, chance)
        self._names = dict(self._durable)
        self._pending = []
        self.cut_at = None

    def _is_reachable(self, path: str) -> bool:
        above = parent(path)
        return above == "/" or (above in self._durable and self._is_reachable(above))

    @staticmethod
    def _settle(inode: Inode, chance: random.Random) -> None:
        """Each sector written since the last sync reached the disk or did not."""
        new = bytearray(inode.disk)
        for sector in sorted(inode.dirty):
            if chance.random() < 0.5:
                chunk = inode.cache[sector * SECTOR : (sector + 1) * SECTOR]
                if len(new) < sector * SECTOR:
                    new.extend(b"\0" * (sector * SECTOR - len(new)))
                new[sector * SECTOR : sector * SECTOR + len(chunk)] = chunk
        inode.disk, inode.cache, inode.dirty = new, bytearray(new), set()

    @staticmethod
    def _change(names: dict[str, Inode | None], path: str, inode: Inode | None, *, is_removed: bool) -> None:
        if is_removed:
            names.pop(path, None)
        else:
            names[path] = inode

    def _record(self, path: str, inode: Inode | None, *, is_removed: bool = False) -> None:
        self._change(self._names, path, inode, is_removed=is_removed)
        self._pending.append((path, inode, is_removed))

    def _inode(self, path: Path) -> Inode:
        inode = self._names.get(str(path))
        if inode is None:
            raise FileNotFoundError(2, "No such file", str(path))
        return inode

    # --- FileSystem --------------------------------------------------------------------------------------------------

    def create(self, path: Path) -> SimulatedFile:
        self.tick()
        assert str(path.parent) in self._names, path
        inode = Inode()
        self._record(str(path), inode)
        return SimulatedFile(self, inode)

    def append(self, path: Path, *, at: int | None = None) -> SimulatedFile:
        return SimulatedFile(self, self._inode(path), at)

    def read(self, path: Path) -> bytes:
        return bytes(self._inode(path).cache)

    def map(self, path: Path) -> pa.Buffer:
        return pa.py_buffer(self.read(path))

    def chunks(self, path: Path, size: int) -> Iterator[bytes]:
        data = self.read(path)
        return (data[first : first + size] for first in range(0, len(data), size))

    def size(self, path: Path) -> int:
        return len(self._inode(path).cache)

    def exists(self, path: Path) -> bool:
        return str(path) in self._names

    def names(self, directory: Path) -> list[str]:
        prefix = f"{directory}/"
        inner = (path[len(prefix) :] for path in self._names if path.startswith(prefix))
        return sorted(name for name in inner if "/" not in name)

    def real_path(self, path: Path) -> Path | None:
        return None

    def make_directory(self, path: Path, *, is_synced: bool = True) -> None:
        missing: list[Path] = []
        while path != Path("/") and str(path) not in self._names:
            missing.append(path)
            path = path.parent
        for directory in reversed(missing):
            self.tick()
            self._record(str(directory), None)
            if is_synced:
                self.sync_directory(directory.parent)

    def sync_directory(self, path: Path) -> None:
        self.tick()
        directory = str(path)
        for changed, inode, is_removed in self._pending:
            if parent(changed) == directory:
                self._change(self._durable, changed, inode, is_removed=is_removed)
        self._pending = [change for change in self._pending if parent(change[0]) != directory]

    def space(self, path: Path) -> tuple[int, int]:
        return (self.room() if self.is_quota_shown else 1 << 60), self.total

    def begin_writing(self, path: Path) -> None:
        """What was not synced survives or not, as before."""

    def rename(self, source: Path, target: Path) -> None:
        self.tick()
        inode = self._inode(source)
        # Journalled as one change: after a crash the target is the old or the new file, never missing.
        self._record(str(target), inode)
        self._record(str(source), None, is_removed=True)

    def unlink(self, path: Path) -> None:
        self.tick()
        self._inode(path)
        self._record(str(path), None, is_removed=True)

    def remove_tree(self, path: Path) -> None:
        for name in self.names(path):
            inner = path / name
            if self._names[str(inner)] is None:
                self.remove_tree(inner)
            else:
                self.unlink(inner)
        if str(path) in self._names:
            self.tick()
            self._record(str(path), None, is_removed=True)
