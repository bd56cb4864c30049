"""The writer of a translog: records that somebody waits for are gathered until a sync, all others are in the file at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.storage.filesystem import AppendFile, RealFileSystem, SyncFailed, is_disk_full
from cratepy.storage.translog import HEADER_BYTES, TranslogReader, TranslogWriter, create_translog


class Disk(RealFileSystem):
    """Counts writes; they fail from some moment on, and it reserves nothing if it is told so."""

    def __init__(self, *, reserves: bool = True) -> None:
        self.writes = 0
        self.failure: int | None = None
        self.reserves = reserves

    def create(self, path: Path) -> AppendFile:
        file, disk = super().create(path), self

        class Counted:
            def write(self, data: bytes) -> None:
                disk.writes += 1
                if disk.failure is not None:
                    raise OSError(disk.failure, "no")
                file.write(data)

            def reserve(self, size: int, *, is_written: bool = False) -> bool:
                return disk.reserves and file.reserve(size, is_written=is_written)

            sync, truncate, close = file.sync, file.truncate, file.close

        return Counted()  # type: ignore[return-value]


def started(disk: Disk, directory: Path) -> TranslogWriter:
    log = create_translog(disk, directory, generation=1, file_id=b"f" * 16)
    disk.writes = 0
    return log


def payloads(directory: Path) -> list[bytes]:
    path = directory / "translog-1"
    return [bytes(record) for record in TranslogReader(memoryview(path.read_bytes()), path=str(path), generation=1)]


def test_records_somebody_waits_for_are_written_by_the_sync_in_one_call(tmp_path: Path) -> None:
    disk = Disk()
    log = started(disk, tmp_path)
    for number in range(5):
        log.append(b"%d" % number, is_awaited=True)
    assert (disk.writes, payloads(tmp_path)) == (0, [])
    assert log.sync() == log.end
    assert (disk.writes, payloads(tmp_path)) == (1, [b"0", b"1", b"2", b"3", b"4"])


def test_a_record_nobody_waits_for_takes_those_before_it_along(tmp_path: Path) -> None:
    disk = Disk()
    log = started(disk, tmp_path)
    log.append(b"a", is_awaited=True)
    log.append(b"b")
    assert payloads(tmp_path) == [b"a", b"b"]
    log.append(b"c", is_awaited=True)
    log.seal()
    assert payloads(tmp_path) == [b"a", b"b", b"c"]
    assert (tmp_path / "translog-1").stat().st_size == log.end


def test_big_records_and_too_many_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSLOG_GATHERED_MAX", 2)
    log = started(Disk(), tmp_path)
    for number in range(3):
        log.append(b"%d" % number, is_awaited=True)
    assert payloads(tmp_path) == [b"0", b"1", b"2"]
    log.append(b"x" * 20_000, is_awaited=True)
    assert payloads(tmp_path)[3:] == [b"x" * 20_000]


def test_reserving_more_space_loses_no_gathered_record(tmp_path: Path) -> None:
    log = started(Disk(), tmp_path)
    wanted = [b"%4d" % number * 1_000 for number in range(100)]
    for payload in wanted:
        log.append(payload, is_awaited=True)
    log.sync()
    assert log.end > HEADER_BYTES + limits.TRANSLOG_RESERVE_BYTES_MIN
    assert payloads(tmp_path) == wanted


def test_without_reserved_space_a_full_disk_is_found_by_the_write_and_refuses_it(tmp_path: Path) -> None:
    disk = Disk(reserves=False)
    log = started(disk, tmp_path)
    log.append(b"a", is_awaited=True)
    assert payloads(tmp_path) == [b"a"]
    disk.failure = errno.ENOSPC
    with pytest.raises(OSError, match="no") as refused:
        log.append(b"b", is_awaited=True)
    assert is_disk_full(refused.value)
    disk.failure = None
    log.append(b"c")
    log.sync()
    assert payloads(tmp_path) == [b"a", b"c"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_gathered_record_that_cannot_be_written_is_as_final_as_a_failed_sync(tmp_path: Path, number: int) -> None:
    disk = Disk()
    log = started(disk, tmp_path)
    log.append(b"a", is_awaited=True)
    disk.failure = number
    with pytest.raises(SyncFailed):
        log.sync()
    assert log.synced < log.end
