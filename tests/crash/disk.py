"""A disk that can lose power at every call and fail at every call: what the shard's FileSystem seam stands on here.

In: the calls of storage. Out: their effects as programs see them, and :meth:`Image.settled`: what may be left of them
after a power cut. The model is the weakest disk the design speaks of:

- A file's bytes are durable when ``sync`` returned. Of what was written, cut off or reserved since, each 512-byte sector
  is as it was at *any* moment since, whatever the order of the writes; the size is one the file had since.
- A sector that belongs to the file by its size but was never written holds zeros or what some removed file left there.
- A name is durable after ``sync_directory`` of its directory. Of the changes since, a prefix or any subset survives;
  a rename is one change.
- A failed ``sync`` leaves the pages clean and unwritten: a later ``sync`` succeeds and proves nothing ("fsyncgate").

Everything is immutable below the dictionaries, so an image of the disk before each call costs a few microseconds, and a
workload that ran once can be cut at each of its calls in as many ways as wanted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from cratepy.storage.filesystem import SyncFailed

SECTOR: Final = 512
#: As an inode number: the name is a directory.
DIRECTORY: Final = -1
#: Removed contents that are remembered, to come back in sectors that were never written.
_STALE_MAX: Final = 12

#: Ways to lose power that every crash point gets; higher numbers are drawn by chance.
ALL_LOST, ALL_KEPT, NAMES_KEPT, FILES_KEPT = range(4)
FIRST_DRAWN: Final = 4
#: No power cut: the process dies, the system goes on with its cache.
KILLED: Final = 99


class Change(NamedTuple):
    """An unsynced change of a file: bytes written at an offset, or (None) a new size."""

    offset: int
    data: bytes | None


class Content(NamedTuple):
    """A file: as programs see it, as it is durable, and what happened since."""

    cache: bytes
    durable: bytes
    pending: tuple[Change, ...]
    #: A sync failed: what programs see will never be durable.
    is_diverged: bool = False


class Rename(NamedTuple):
    """A change of names that happens as a whole: path → inode, or None where the name goes away."""

    directories: tuple[str, ...]
    names: tuple[tuple[str, int | None], ...]


_EMPTY: Final = Content(b"", b"", ())


def _applied(content: bytes, change: Change) -> bytes:
    offset, data = change
    if data is None:
        return content[:offset] if offset <= len(content) else content + bytes(offset - len(content))
    if offset > len(content):
        content += bytes(offset - len(content))
    if offset == len(content):
        return content + data
    return b"".join((content[:offset], data, content[offset + len(data) :]))


@dataclass(frozen=True, slots=True)
class Image:
    """A disk at one moment; never changed."""

    names: dict[str, int]
    durable_names: dict[str, int]
    changes: tuple[Rename, ...]
    contents: dict[int, Content]
    stale: tuple[bytes, ...]
    next_inode: int

    @property
    def is_settled(self) -> bool:
        """Whether a power cut would lose nothing."""
        return not self.changes and not any(content.pending for content in self.contents.values())

    def settled(self, variant: int, chance: random.Random) -> Image:
        """The disk as the next start finds it after a power cut; the same variant and chance give the same disk."""
        if variant == KILLED:
            return self
        names = dict(self.durable_names)
        for change in self._surviving(variant, chance):
            for path, inode in change.names:
                if inode is None:
                    names.pop(path, None)
                else:
                    names[path] = inode
        names = {path: inode for path, inode in names.items() if _is_reachable(names, path)}
        contents = {}
        for inode in names.values():
            if inode != DIRECTORY:
                content = self.contents[inode]
                left = content.durable if not content.pending else self._surviving_bytes(content, variant, chance)
                contents[inode] = Content(left, left, ())
        return Image(names, names, (), contents, self.stale, self.next_inode)

    def fingerprint(self) -> int:
        """Equal for equal disks of one process; only for a settled image."""
        return hash(tuple((path, inode >= 0 and self.contents[inode].cache) for path, inode in self.names.items()))

    def _surviving(self, variant: int, chance: random.Random) -> Iterator[Rename]:
        if variant in (ALL_KEPT, NAMES_KEPT):
            yield from self.changes
        if variant < FIRST_DRAWN:
            return
        policies: dict[str, int] = {}
        for change in self.changes:
            # A number of changes that survive in order, or -1: each on its own.
            directory = change.directories[-1]
            if directory not in policies:
                policies[directory] = chance.choice((-1, chance.randrange(len(self.changes) + 1), len(self.changes)))
            left = policies[directory]
            if left < 0:
                if chance.random() < 0.5:
                    yield change
            elif left:
                policies[directory] = left - 1
                yield change

    def _surviving_bytes(self, content: Content, variant: int, chance: random.Random) -> bytes:
        if variant in (ALL_LOST, NAMES_KEPT):
            return content.durable
        versions = [content.durable]
        for change in content.pending:
            versions.append(_applied(versions[-1], change))
        if variant in (ALL_KEPT, FILES_KEPT):
            return versions[-1]
        policy = chance.randrange(8)
        if policy < 2:
            # The file as it was at one moment since: an orderly disk.
            return versions[chance.randrange(len(versions))]
        size = len(versions[-1]) if policy != 5 else len(chance.choice(versions))
        sectors = (size + SECTOR - 1) // SECTOR
        touched = _touched(content.pending, sectors, len(content.durable))
        if policy == 2 and touched:
            # Everything but one sector.
            lost = chance.choice(touched)
            picks = {sector: (0 if sector == lost else -1) for sector in touched}
        elif policy == 3 and touched:
            # Nothing but one sector.
            kept = chance.choice(touched)
            picks = {sector: (-1 if sector == kept else 0) for sector in touched}
        elif policy >= 6 and touched:
            # All up to a sector; behind it, what the space held before it was the file's.
            end = chance.choice(touched)
            picks = {sector: (-1 if sector < end else 0) for sector in touched}
        else:
            picks = {sector: chance.randrange(len(versions)) for sector in touched}
        # The worst that may come back is what a file of the same kind held there.
        alike = [old for old in self.stale if old[:8] == content.cache[:8]] or self.stale
        filler = chance.choice(alike) if alike and (policy >= 6 or chance.random() < 0.5) else b""
        parts = []
        for sector in range(sectors):
            start = sector * SECTOR
            part = versions[picks.get(sector, -1)][start : start + SECTOR]
            if len(part) < SECTOR:
                old = filler[start + len(part) : start + SECTOR] if not part else b""
                part = part + old + bytes(SECTOR - len(part) - len(old))
            parts.append(part)
        return b"".join(parts)[:size]


def _touched(pending: tuple[Change, ...], sectors: int, durable_size: int) -> list[int]:
    """Sectors that some pending change wrote, ascending."""
    found: set[int] = set()
    for offset, data in pending:
        if data is None:
            found.update(range(min(offset, durable_size) // SECTOR, sectors))
        elif data:
            found.update(range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1))
    return sorted(sector for sector in found if sector < sectors)


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _is_reachable(names: dict[str, int], path: str) -> bool:
    above = parent(path)
    return above == "/" or (above in names and _is_reachable(names, above))


#: Called before each call with its name and path; may raise OSError to make it fail.
Watcher = Callable[[str, str], None]


@dataclass(slots=True)
class Faults:
    """Which steps this disk leaves out or swaps: deliberate bugs, for the proof of the proof (``mutants``)."""

    skipped_syncs: tuple[str, ...] = ()
    #: A file whose path contains this is synced only up to the first sector of what was written.
    short_syncs: tuple[str, ...] = ()
    skips_directory_syncs: bool = False
    skips_truncate: bool = False
    ignores_sync_errors: bool = False
    ignores_write_errors: bool = False
    rename_is_two_steps: bool = False
    #: Syncs of segments happen only after the next rename.
    delays_segment_syncs: bool = False
    #: Older translogs go away when a new manifest is begun.
    unlinks_translogs_early: bool = False
    #: Names that ``sync_directory`` forgets.
    forgotten_names: tuple[str, ...] = ()
    delayed: list[int] = field(default_factory=list)

    def copy(self) -> Faults:
        return replace(self, delayed=list(self.delayed))


class SimulatedFile:
    """An open file; the position is the handle's, as of the seam."""

    __slots__ = ("_disk", "_end", "_inode", "_path")

    def __init__(self, disk: SimulatedDisk, path: str, inode: int, end: int) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._end = end

    def write(self, data: bytes | memoryview | pa.Buffer) -> None:
        written = bytes(data)
        try:
            self._disk.watch("write", self._path)
        except OSError:
            # A full disk takes the beginning: the write comes back short, the rest fails.
            half = written[: len(written) // 2]
            if half:
                self._disk.change(self._inode, Change(self._end, half))
                self._end += len(half)
            if self._disk.faults.ignores_write_errors:
                self._end += len(written) - len(half)
                return
            raise
        if written:
            self._disk.change(self._inode, Change(self._end, written))
            self._end += len(written)

    def sync(self) -> None:
        try:
            self._disk.watch("sync", self._path)
        except OSError as error:
            self._disk.forget_pages(self._inode)
            if self._disk.faults.ignores_sync_errors:
                return
            raise SyncFailed(error.errno, error.strerror, self._path) from error
        self._disk.sync_file(self._path, self._inode)

    def reserve(self, size: int, *, is_written: bool = False) -> bool:
        try:
            self._disk.watch("reserve", self._path)
        except OSError as error:
            if error.errno == 28:
                return False
            raise
        if size > len(self._disk.contents[self._inode].cache):
            self._disk.change(self._inode, Change(size, None))
        return True

    def truncate(self, size: int) -> None:
        self._disk.watch("truncate", self._path)
        if not self._disk.faults.skips_truncate:
            self._end = size
            self._disk.change(self._inode, Change(size, None))

    def close(self) -> None:
        pass


class SimulatedDisk:
    """The seam. ``watch`` is called before every call; ``images`` of the moment are cheap."""

    def __init__(self, image: Image | None = None, *, faults: Faults | None = None) -> None:
        if image is None:
            # The node's directory was there before.
            image = Image({"/d": DIRECTORY}, {"/d": DIRECTORY}, (), {}, (), 0)
        self.contents = dict(image.contents)
        self._names = dict(image.names)
        self._durable_names = dict(image.durable_names)
        self._changes = image.changes
        self._stale = image.stale
        self._next_inode = image.next_inode
        self.faults = Faults() if faults is None else faults
        self.watcher: Watcher | None = None

    def image(self) -> Image:
        return Image(
            dict(self._names),
            dict(self._durable_names),
            self._changes,
            dict(self.contents),
            self._stale,
            self._next_inode,
        )

    def watch(self, call: str, path: str) -> None:
        if self.watcher is not None:
            self.watcher(call, path)

    # --- files -------------------------------------------------------------------------------------------------------

    def change(self, inode: int, change: Change) -> None:
        cache, durable, pending, is_diverged = self.contents[inode]
        if change.data is None and change.offset < len(cache):
            self._remember(cache)
        self.contents[inode] = Content(_applied(cache, change), durable, (*pending, change), is_diverged)

    def sync_file(self, path: str, inode: int) -> None:
        faults = self.faults
        if any(part in path for part in faults.skipped_syncs):
            return
        if faults.delays_segment_syncs and "/seg-" in path:
            faults.delayed.append(inode)
            return
        content = self.contents[inode]
        if not content.pending:
            return
        if any(part in path for part in faults.short_syncs):
            first = next((c for c in content.pending if c.data), None)
            if first is not None and first.data is not None:
                kept = Change(first.offset, first.data[:SECTOR])
                rest = tuple(c for c in content.pending if c is not first)
                rest = (Change(first.offset, first.data), *rest)
                self.contents[inode] = content._replace(durable=_applied(content.durable, kept), pending=rest)
            return
        if content.is_diverged:
            durable = content.durable
            for change in content.pending:
                durable = _applied(durable, change)
        else:
            durable = content.cache
        self.contents[inode] = Content(content.cache, durable, (), content.is_diverged)

    def forget_pages(self, inode: int) -> None:
        content = self.contents[inode]
        if content.pending:
            self.contents[inode] = Content(content.cache, content.durable, (), is_diverged=True)

    def _remember(self, content: bytes) -> None:
        if content:
            self._stale = (*self._stale[1 - _STALE_MAX :], content)

    # --- names -------------------------------------------------------------------------------------------------------

    def _record(self, *names: tuple[str, int | None]) -> None:
        for path, inode in names:
            before = self._names.get(path)
            if inode is None:
                del self._names[path]
            else:
                self._names[path] = inode
            if before is not None and before != DIRECTORY and before not in self._names.values():
                self._remember(self.contents[before].cache)
        directories = tuple(sorted({parent(path) for path, _ in names}))
        self._changes = (*self._changes, Rename(directories, names))

    def _inode(self, path: Path) -> int:
        inode = self._names.get(str(path), DIRECTORY)
        if inode == DIRECTORY:
            raise FileNotFoundError(2, "No such file", str(path))
        return inode

    # --- the seam ----------------------------------------------------------------------------------------------------

    def create(self, path: Path) -> SimulatedFile:
        self.watch("create", str(path))
        if str(path.parent) not in self._names:
            raise FileNotFoundError(2, "No such directory", str(path.parent))
        if self.faults.unlinks_translogs_early and path.name == "manifest.tmp":
            logs = [name for name in self._names if "/translog-" in name]
            for name in sorted(logs, key=lambda name: int(name.rpartition("-")[2]))[:-1]:
                self._record((name, None))
        inode = self._next_inode
        self._next_inode += 1
        self.contents[inode] = _EMPTY
        self._record((str(path), inode))
        return SimulatedFile(self, str(path), inode, 0)

    def append(self, path: Path, *, at: int | None = None) -> SimulatedFile:
        self.watch("append", str(path))
        inode = self._inode(path)
        return SimulatedFile(self, str(path), inode, len(self.contents[inode].cache) if at is None else at)

    def read(self, path: Path) -> bytes:
        self.watch("read", str(path))
        return self.contents[self._inode(path)].cache

    def map(self, path: Path) -> pa.Buffer:
        self.watch("map", str(path))
        return pa.py_buffer(self.contents[self._inode(path)].cache)

    def chunks(self, path: Path, size: int) -> Iterator[bytes]:
        data = self.read(path)
        return (data[first : first + size] for first in range(0, len(data), size))

    def size(self, path: Path) -> int:
        return len(self.contents[self._inode(path)].cache)

    def exists(self, path: Path) -> bool:
        return str(path) in self._names

    def names(self, directory: Path) -> list[str]:
        self.watch("names", str(directory))
        prefix = f"{directory}/"
        start = len(prefix)
        inner = [path[start:] for path in self._names if path.startswith(prefix)]
        return sorted(name for name in inner if "/" not in name)

    def real_path(self, path: Path) -> Path | None:
        return None

    def make_directory(self, path: Path, *, is_synced: bool = True) -> None:
        missing: list[Path] = []
        while path != Path("/") and str(path) not in self._names:
            missing.append(path)
            path = path.parent
        for directory in reversed(missing):
            self.watch("make_directory", str(directory))
            self._record((str(directory), DIRECTORY))
            if is_synced:
                self.sync_directory(directory.parent)

    def sync_directory(self, path: Path) -> None:
        try:
            self.watch("sync_directory", str(path))
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror, str(path)) from error
        if self.faults.skips_directory_syncs:
            return
        directory = str(path)
        kept = []
        for change in self._changes:
            forgotten = any(part in name for part in self.faults.forgotten_names for name, _ in change.names)
            if directory not in change.directories or forgotten:
                kept.append(change)
                continue
            for name, inode in change.names:
                if inode is None:
                    self._durable_names.pop(name, None)
                else:
                    self._durable_names[name] = inode
        self._changes = tuple(kept)

    def space(self, path: Path) -> tuple[int, int]:
        return 1 << 60, 1 << 60

    def begin_writing(self, path: Path) -> None:
        """What was not synced survives or not, as before."""

    def rename(self, source: Path, target: Path) -> None:
        self.watch("rename", str(target))
        inode = self._inode(source)
        if self.faults.rename_is_two_steps:
            if str(target) in self._names:
                self.unlink(target)
            self.watch("rename", str(target))
        self._record((str(target), inode), (str(source), None))
        delayed, self.faults.delayed = self.faults.delayed, []
        for waiting in delayed:
            self.watch("late sync", "a file of a segment")
            if waiting in self.contents:
                self.contents[waiting] = Content(self.contents[waiting].cache, self.contents[waiting].cache, ())

    def unlink(self, path: Path) -> None:
        self.watch("unlink", str(path))
        self._inode(path)
        self._record((str(path), None))

    def remove_tree(self, path: Path) -> None:
        if str(path) not in self._names:
            return
        for name in self.names(path):
            inner = path / name
            if self._names[str(inner)] == DIRECTORY:
                self.remove_tree(inner)
            else:
                self.unlink(inner)
        self.watch("remove_directory", str(path))
        self._record((str(path), None))
