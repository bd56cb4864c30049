"""Directories of the operating system for what can be made again: an index being built, a shard's view.

In: where the shard is, how big it gets. Out: empty directories. tantivy writes files itself, past the FileSystem seam, so
nothing here is ever durable or trusted: built files are checked and copied through the seam, views are made of hard links.

Small builds happen in ``/dev/shm``: a build syncs 19 times, which a disk makes slow. A process locks its directory there;
what a killed one left is found by its free lock and removed by the next that starts.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cratepy import limits
from cratepy.storage.filesystem import FileSystem

_MEMORY: Final = Path("/dev/shm")
_PREFIX: Final = "cratepy-text-"
_LOCK: Final = "lock"
#: Name of the directory in a shard for big builds.
BUILD: Final = "text-build"
#: Name of a shard's view.
VIEW: Final = "view"
_names: Final = itertools.count(1)


@contextlib.contextmanager
def build_directory(files: FileSystem, directory: Path, *, bytes_expected: int) -> Iterator[Path]:
    """An empty directory for a build, removed afterwards. ``directory``: the shard's."""
    root = _root_for(files.real_path(directory), bytes_expected)
    path = root / f"{next(_names)}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def view_directory(files: FileSystem, directory: Path) -> Path:
    """An empty directory for a view; whoever uses it removes it."""
    real = files.real_path(directory)
    root = (_temporary_root(None) if real is None else real) / VIEW
    path = root / f"{next(_names)}"
    path.mkdir(parents=True)
    return path


def expose(files: FileSystem, source: Path, target: Path) -> None:
    """The file ``source`` of the seam as ``target`` of the operating system: the same file if possible, else a copy."""
    real = files.real_path(source)
    if real is not None:
        try:
            os.link(real, target)
            return
        except OSError:
            # Another device, or a file system without hard links: the copy below says what is wrong if it is more.
            pass
    target.write_bytes(files.map(source))


def remove_left_overs(files: FileSystem, directory: Path) -> None:
    """What a process before this one left in the shard's directory."""
    real = files.real_path(directory)
    if real is not None:
        for name in (BUILD, VIEW):
            shutil.rmtree(real / name, ignore_errors=True)


def _root_for(real: Path | None, bytes_expected: int) -> Path:
    if bytes_expected <= limits.TEXT_BUILD_MEMORY_BYTES_MAX:
        memory = _memory_root()
        # An index is at most about as big as its text.
        if memory is not None and shutil.disk_usage(memory).free > 4 * limits.TEXT_BUILD_MEMORY_BYTES_MAX:
            return memory
    return _temporary_root(None) if real is None else real / BUILD


@functools.cache
def _memory_root() -> Path | None:
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK):
        return None
    for stale in sorted(_MEMORY.glob(f"{_PREFIX}*")):
        _remove_if_free(stale)
    return _temporary_root(_MEMORY)


@functools.cache
def _temporary_root(parent: Path | None) -> Path:
    """This process's own directory, locked as long as it lives."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _remove_if_free(path: Path) -> None:
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # Of another user, or being made just now.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return  # Its process lives.
    finally:
        os.close(descriptor)
