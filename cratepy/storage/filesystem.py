"""The disk as storage sees it: the one seam below every durable operation.

In: paths, bytes. Out: bytes, maps, ``OSError``. Everything that must survive a power cut goes through a
:class:`FileSystem`, so that a simulated disk can be put below (tests) and the order *write, sync file, rename, sync
directory* can be checked at each step. A file here is append-only, as all of storage is; only a torn tail is cut off.

An error of ``sync`` is final: the kernel may have dropped the dirty pages, so a second ``sync`` that succeeds proves
nothing (PostgreSQL's "fsyncgate"). Callers fail the shard and never retry. An error of ``write`` is, too, unless it says
that there is no space (:func:`is_disk_full`): then nothing that was promised is touched.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from cratepy import limits
from cratepy.storage.errands import errands

#: A full disk or quota, and file systems that do not know reservations.
_CANNOT_RESERVE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
)


#: Smaller files are freed by whoever removes them.
_BIG_BYTES: Final = 4 * limits.MIB
#: What a write is refused with where there is no space.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SyncFailed(OSError):
    """What ``sync`` and ``sync_directory`` raise, whatever the reason: no space, too, is final there."""


def is_disk_full(error: OSError) -> bool:
    """Whether a write found no space, so that it may be tried again later."""
    return error.errno in FULL and not isinstance(error, SyncFailed)


class AppendFile(Protocol):
    """A file open for appending. Not thread-safe, except that ``sync`` may run beside ``write``."""

    def write(self, data: bytes | memoryview | pa.Buffer) -> None:
        """Append all of it, to the cache of the operating system only."""

    def sync(self) -> None:
        """Make everything written before the call durable. Raises SyncFailed."""

    def reserve(self, size: int, *, is_written: bool = False) -> bool:
        """Make the file ``size`` bytes long, zeros after what was written, which goes on where it was.

        A ``sync`` of writes into reserved space has no new size to record, which is all of its cost but the data. A wish
        only: False if the disk cannot reserve it, and ``write`` says what is wrong. ``is_written`` writes the zeros now,
        so that a later ``sync`` has no new block to record either.
        """

    def truncate(self, size: int) -> None:
        """Cut the file off at ``size``, where writing goes on; durable after the next ``sync``."""

    def close(self) -> None: ...


class FileSystem(Protocol):
    """Files and directories. A new, renamed or removed name is durable only after ``sync_directory`` of its parent."""

    def create(self, path: Path) -> AppendFile:
        """Open a new file; an existing one is emptied."""

    def append(self, path: Path, *, at: int | None = None) -> AppendFile:
        """Open a file to go on at its end, or at a place before it: what follows is reserved space."""

    def read(self, path: Path) -> bytes: ...

    def map(self, path: Path) -> pa.Buffer:
        """The file's bytes without a copy; they stay readable after the file is unlinked."""

    def chunks(self, path: Path, size: int) -> Iterator[bytes]:
        """The file's bytes in pieces of at most ``size``, read from the disk: what the disk cannot read is an OSError."""

    def size(self, path: Path) -> int: ...

    def exists(self, path: Path) -> bool: ...

    def names(self, directory: Path) -> list[str]:
        """Sorted names in a directory."""

    def real_path(self, path: Path) -> Path | None:
        """Where the operating system has this path, for libraries that open files themselves; None: nowhere."""

    def make_directory(self, path: Path, *, is_synced: bool = True) -> None:
        """Make it, and its missing parents; each parent that got a new name is synced, if that is wanted now."""

    def sync_directory(self, path: Path) -> None:
        """Raises SyncFailed."""

    def space(self, path: Path) -> tuple[int, int]:
        """Bytes that are free and bytes in all on the disk of a path; a quota may allow less."""

    def begin_writing(self, path: Path) -> None:
        """Have the disk begin to take what was written, as ``sync`` comes soon. A wish only; it promises nothing."""

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below; gone already is fine."""


class _RealFile:
    __slots__ = ("_descriptor", "_end")

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor = descriptor
        #: Where the next write goes; reserved space may follow.
        self._end = end

    def write(self, data: bytes | memoryview | pa.Buffer) -> None:
        total = len(data)
        written = os.pwrite(self._descriptor, data, self._end)
        self._end += written
        if written == total:
            return
        # A short write is legal (a signal, a full disk); what is left fails loudly if the disk is full.
        rest = memoryview(data)[written:]
        while len(rest):
            written = os.pwrite(self._descriptor, rest, self._end)
            self._end += written
            rest = rest[written:]

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def reserve(self, size: int, *, is_written: bool = False) -> bool:
        try:
            os.posix_fallocate(self._descriptor, 0, size)
            if is_written and size > self._end:
                os.pwrite(self._descriptor, bytes(size - self._end), self._end)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
            # ext4 keeps what it found before there was no more: all that was free, and others need it more.
            os.ftruncate(self._descriptor, self._end)
            return False
        return True

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._end = size

    def close(self) -> None:
        os.close(self._descriptor)


class RealFileSystem:
    """The operating system's files."""

    def create(self, path: Path) -> AppendFile:
        return _RealFile(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o640), 0)

    def append(self, path: Path, *, at: int | None = None) -> AppendFile:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        return _RealFile(descriptor, os.fstat(descriptor).st_size if at is None else at)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def map(self, path: Path) -> pa.Buffer:
        if os.path.getsize(path) == 0:
            return pa.py_buffer(b"")
        with pa.memory_map(str(path)) as source:
            return source.read_buffer()

    def chunks(self, path: Path, size: int) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(size):
                yield chunk

    def size(self, path: Path) -> int:
        return os.path.getsize(path)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))

    def real_path(self, path: Path) -> Path | None:
        return path

    def make_directory(self, path: Path, *, is_synced: bool = True) -> None:
        missing: list[Path] = []
        while not path.exists():
            missing.append(path)
            path = path.parent
        for directory in reversed(missing):
            directory.mkdir(mode=0o750, exist_ok=True)
            if is_synced:
                self.sync_directory(directory.parent)

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def space(self, path: Path) -> tuple[int, int]:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def begin_writing(self, path: Path) -> None:
        errands.write_and_close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def unlink(self, path: Path) -> None:
        kept = self._kept(path)
        os.unlink(path)
        if kept is not None:
            errands.close(kept)

    def remove_tree(self, path: Path) -> None:
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                self.remove_tree(Path(entry.path))
            else:
                self.unlink(Path(entry.path))
        os.rmdir(path)

    @staticmethod
    def _kept(path: Path) -> int | None:
        """A descriptor that keeps the bytes of a big file until it is closed: the name goes at once, they go meanwhile."""
        try:
            if os.lstat(path).st_size < _BIG_BYTES:
                return None
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # Whatever it is, ``unlink`` will say it, or it does not matter to it.
            return None
