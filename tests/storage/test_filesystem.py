"""The operating system's files: big ones are freed behind the back of whoever removes them, and nothing else changes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.storage import errands as errands_room
from cratepy.storage.errands import Errands
from cratepy.storage.filesystem import RealFileSystem

BIG = 5 * limits.MIB


def _descriptors_of(path: Path) -> list[str]:
    """What of a file, which may be removed, is open in this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith(str(path)):
            found.append(name)
    return found


def test_a_removed_big_file_is_gone_at_once_and_let_go_of_soon(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(BIG))
    files = RealFileSystem()
    mapped = files.map(path)
    files.unlink(path)
    assert files.names(tmp_path) == []
    errands_room.errands.wait()
    assert _descriptors_of(path) == []
    assert mapped.size == BIG
    assert not any(mapped.slice(BIG - 10).to_pybytes())


def test_a_removed_tree_is_gone_at_once(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "small").write_bytes(b"small")
    (tree / "inner" / "big").write_bytes(bytes(BIG))
    (tree / "link").symlink_to(tmp_path)
    files = RealFileSystem()
    files.remove_tree(tree)
    assert files.names(tmp_path) == []
    files.remove_tree(tree)  # gone already is fine
    errands_room.errands.wait()
    assert _descriptors_of(tree) == []


def test_a_file_that_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RealFileSystem().unlink(tmp_path / "nothing")


def test_a_file_that_is_being_written_is_synced_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files = RealFileSystem()
    file = files.create(path)
    file.write(bytes(BIG))
    files.begin_writing(path)
    errands_room.errands.wait()
    file.write(b"more")
    file.sync()
    file.close()
    assert files.size(path) == BIG + 4
    assert _descriptors_of(path) == []


def test_more_errands_than_may_wait_are_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_ERRANDS_MAX", 1)
    errands = Errands()
    # The thread is not started: nothing is worked off.
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.write_bytes(b"x")
        errands.close(os.open(path, os.O_RDONLY))
    assert len(_descriptors_of(paths[0])) == 1
    assert _descriptors_of(paths[1]) == []
    os.close(int(_descriptors_of(paths[0])[0]))


def test_what_a_full_disk_gave_of_a_reservation_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 keeps what it could allocate before it found no more: all that was free, which refreshes and other logs need."""

    def in_part(descriptor: int, offset: int, length: int) -> None:
        os.ftruncate(descriptor, offset + length // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", in_part)
    files = RealFileSystem()
    file = files.create(tmp_path / "log")
    file.write(b"record")
    file.reserve(limits.MIB)
    assert files.size(tmp_path / "log") == 6
    file.write(b"another")
    assert files.read(tmp_path / "log") == b"recordanother"
    file.close()
