"""What opening does with torn and damaged files: cuts what was never promised, refuses the rest by name."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import google_crc32c
import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage import manifest as manifests
from cratepy.storage.translog import HEADER_BYTES
from tests.crash.disk import SimulatedDisk
from tests.storage.shards import delete, insert, open_shard, scanned


def written(directory: Path) -> Path:
    """A shard with five synced writes in its translog, abandoned as by a crash; the translog's path.

    The space reserved behind the records is cut off, so that the file ends with the last record.
    """
    shard = open_shard(directory)
    for i in range(5):
        shard.write(insert({f"k{i}": (i, "x" * 50)}))
        shard.sync()
    os.truncate(directory / "translog-1", shard.translog_bytes)
    return directory / "translog-1"


def copied(directory: Path, translog: bytes) -> Path:
    """The shard once more, with this as its translog: an opening leaves none of the files it reads it from."""
    again = directory.with_name("again")
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(directory, again)
    (again / "translog-1").write_bytes(translog)
    return again


def test_the_log_ends_where_its_reserved_space_begins(tmp_path: Path) -> None:
    whole = written(tmp_path / "s").read_bytes()
    for zeros in (1, 511, 4096, 1 << 20):
        shard = open_shard(copied(tmp_path / "s", whole + bytes(zeros)), create=False)
        assert len(scanned(shard)) == 5


def test_an_opening_that_replays_leaves_the_old_translog_behind(tmp_path: Path) -> None:
    """If its fsync failed in the process before, the system shows it, but it is on no disk (``crash-sim``)."""
    path = written(tmp_path / "s")
    shard = open_shard(tmp_path / "s", create=False)
    assert not path.exists()
    assert shard.stats().translog_operations == 0
    assert all(segment.is_committed for segment in shard.stats().segments)


def test_an_opening_syncs_the_names_that_a_killed_process_made(tmp_path: Path) -> None:
    """It was killed between the rename of the manifest and the sync of the directory; now the power fails."""
    disk = SimulatedDisk()
    open_shard(Path("/d/s"), files=disk)
    disk.faults.forgotten_names = ("/manifest",)
    first = open_shard(Path("/d/s"), files=disk, create=False)
    first.write(insert({"a": (1, "")}))
    first.flush()
    disk.faults.forgotten_names = ()
    second = open_shard(Path("/d/s"), files=disk, create=False)
    second.write(insert({"b": (1, "")}))
    second.sync()
    left = SimulatedDisk(disk.image().settled(0, random.Random(0)))
    assert scanned(open_shard(Path("/d/s"), files=left, create=False), ("_id",)) == [("a",), ("b",)]


def test_space_is_reserved_ahead_of_writes_and_given_back_by_a_flush_and_a_stop(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    first, second = tmp_path / "s" / "translog-1", tmp_path / "s" / "translog-2"
    shard.write(insert({"a": (1, "")}))
    size = first.stat().st_size
    assert size > limits.TRANSLOG_RESERVE_BYTES_MIN > shard.translog_bytes
    shard.write(insert({"b": (1, "")}))
    assert first.stat().st_size == size
    shard.flush()
    shard.write(insert({"c": (1, "")}))
    assert second.stat().st_size > shard.translog_bytes
    shard.close()
    # The mark of a clean stop is a record, too.
    assert shard.translog_bytes == second.stat().st_size
    assert len(scanned(open_shard(tmp_path / "s", create=False))) == 3


def test_a_torn_last_record_is_cut_and_writing_goes_on(tmp_path: Path) -> None:
    whole = written(tmp_path / "s").read_bytes()
    for cut in range(1, 250, 7):
        directory = copied(tmp_path / "s", whole[:-cut])
        shard = open_shard(directory, create=False)
        found = [row[0] for row in scanned(shard)]
        assert found == [f"k{i}" for i in range(len(found))]
        assert len(found) in (3, 4)
        shard.write(insert({"new": (9, "")}))
        shard.close()
        again = open_shard(directory, create=False)
        assert [row[0] for row in scanned(again)] == [*found, "new"]


def test_behind_a_torn_record_nothing_is_written_to_the_same_file(tmp_path: Path) -> None:
    """The sectors of a good record behind it may come back one day (``crash-sim`` found it)."""
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}))
    shard.sync()
    torn = shard.translog_bytes
    shard.write(insert({"b": (1, "")}))
    shard.write(insert({"c": (1, "")}))
    path = tmp_path / "s" / "translog-1"
    whole = path.read_bytes()
    path.write_bytes(whole[:torn] + bytes(30) + whole[torn + 30 :])
    shard = open_shard(tmp_path / "s", create=False)
    found = scanned(shard)
    shard.write(insert({"new": (9, "")}))
    shard.sync()
    assert not path.exists()
    again = open_shard(tmp_path / "s", create=False)
    assert scanned(again) == [*found, ("new", 9, "")]


def test_a_cut_that_was_interrupted_is_noticed_by_the_next_start(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    path.write_bytes(path.read_bytes()[:-3])
    (tmp_path / "s" / "translog-2").write_bytes(b"")
    shard = open_shard(tmp_path / "s", create=False)
    shard.write(insert({"new": (9, "")}))
    shard.close()
    assert len(scanned(open_shard(tmp_path / "s", create=False))) == 5


def test_a_bad_record_that_had_been_durable_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    whole = path.read_bytes()
    for position in range(HEADER_BYTES, len(whole) - 600, 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ShardFailed, match=r"translog-1 is damaged"):
            open_shard(tmp_path / "s", create=False)


def test_after_a_clean_stop_every_flipped_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    written(tmp_path / "s")
    shard = open_shard(tmp_path / "s", create=False)
    for number in (5, 6, 7):
        shard.write(insert({f"k{number}": (number, "")}))
    end = shard.translog_bytes
    path = tmp_path / "s" / f"translog-{shard.stats().translog_generation}"
    shard.close()
    whole = path.read_bytes()
    for position in range(0, end, 11):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ShardFailed):
            open_shard(tmp_path / "s", create=False)
    path.write_bytes(whole)
    assert open_shard(tmp_path / "s", create=False).row_count() == 8


def test_the_newest_translog_may_be_as_long_as_its_header_and_hold_an_older_ones(tmp_path: Path) -> None:
    """A crash while it was made: its size is there, its bytes are what the disk held there before (``crash-sim``)."""
    whole = written(tmp_path / "s").read_bytes()
    directory = copied(tmp_path / "s", whole)
    (directory / "translog-2").write_bytes(whole[:HEADER_BYTES])
    assert len(scanned(open_shard(directory, create=False))) == 5
    directory = copied(tmp_path / "s", whole)
    (directory / "translog-2").write_bytes(whole)
    with pytest.raises(ShardFailed, match="not generation 2"):
        open_shard(directory, create=False)


def test_a_missing_translog_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "s").unlink()
    with pytest.raises(ShardFailed, match="missing"):
        open_shard(tmp_path / "s", create=False)


def flushed(directory: Path) -> None:
    shard = open_shard(directory)
    shard.write(insert({"a": (1, "")}))
    shard.flush()
    shard.close()


def test_every_flipped_byte_of_the_manifest_is_refused(tmp_path: Path) -> None:
    flushed(tmp_path / "s")
    path = tmp_path / "s" / "manifest"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(ShardFailed, match=r"manifest is damaged"):
            open_shard(tmp_path / "s", create=False)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ShardFailed, match=r"manifest is damaged"):
            open_shard(tmp_path / "s", create=False)


def test_a_newer_format_is_refused_as_such(tmp_path: Path) -> None:
    flushed(tmp_path / "s")
    path = tmp_path / "s" / "manifest"
    payload = path.read_bytes()[24:]
    checksum = google_crc32c.extend(google_crc32c.value(struct.pack("<IQ", 99, len(payload))), payload)
    path.write_bytes(struct.pack("<8sIQI", b"CRPYMANI", 99, len(payload), checksum) + payload)
    with pytest.raises(ShardFailed, match="format 99; this version reads formats up to 1"):
        open_shard(tmp_path / "s", create=False)


def test_a_missing_shard_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(ShardFailed, match="does not exist"):
        open_shard(tmp_path / "s", create=False)
    assert not (tmp_path / "s").exists()


def test_another_copys_directory_is_refused(tmp_path: Path) -> None:
    flushed(tmp_path / "s")
    manifest = manifests.decode_manifest((tmp_path / "s" / "manifest").read_bytes(), "")
    assert (manifest.table_uuid, manifest.shard, manifest.allocation_id) == ("table-1", 0, "copy-1")
    import cratepy.storage.filesystem as filesystem
    from tests.storage.shards import table

    with pytest.raises(ShardFailed, match="another shard copy"):
        open_shard(
            tmp_path / "s",
            definition=type(table())(name=table().name, uuid="other", oid=2, columns=()),
            files=filesystem.RealFileSystem(),
            create=False,
        )


def test_left_overs_of_a_crash_are_removed(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, ""), "b": (2, "")}))
    shard.flush()
    shard.write(delete("a"))
    shard.refresh()
    shard.write(insert({"c": (1, "")}))
    shard.refresh()
    shard.close()
    (tmp_path / "s" / "manifest.tmp").write_bytes(b"half")
    (tmp_path / "s" / "seg-1" / "deletes-7").write_bytes(b"half")
    assert (tmp_path / "s" / "seg-2").exists()
    again = open_shard(tmp_path / "s", create=False)
    assert scanned(again, ("_id",)) == [("b",), ("c",)]
    names = sorted(str(path.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert not [name for name in names if name.endswith((".tmp", "deletes-7"))]


def test_damaged_segment_files_are_found_by_opening_or_verifying(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "x"), "b": (2, "y")}))
    shard.flush()
    shard.write(delete("a"))
    shard.flush()
    shard.close()
    for name in ("columns", "ids", "meta", "deletes-1"):
        path = tmp_path / "s" / "seg-1" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 4]) + whole[len(whole) // 2 + 1 :])
        with pytest.raises(ShardFailed):
            open_shard(tmp_path / "s", create=False).verify()
        path.write_bytes(whole)
    open_shard(tmp_path / "s", create=False).verify()


def test_a_new_copy_is_one_file_and_its_damage_is_refused_by_name(tmp_path: Path) -> None:
    open_shard(tmp_path / "s").close()
    path = tmp_path / "s" / "translog-1"
    assert [file.name for file in (tmp_path / "s").iterdir()] == ["translog-1"]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(ShardFailed, match="translog-1"):
            open_shard(tmp_path / "s", create=False)
        path.write_bytes(whole[:at])
        with pytest.raises(ShardFailed, match="translog-1"):
            open_shard(tmp_path / "s", create=False)
    path.write_bytes(whole)
    assert scanned(open_shard(tmp_path / "s", create=False)) == []


def test_a_creation_that_was_interrupted_is_done_again_and_nothing_else_is(tmp_path: Path) -> None:
    open_shard(tmp_path / "s").close()
    path = tmp_path / "s" / "translog-1"
    whole = path.read_bytes()
    for found in (b"", whole[:10], whole[:HEADER_BYTES], whole[:-1], bytes(len(whole)), b"x" * len(whole)):
        path.write_bytes(found)
        shard = open_shard(tmp_path / "s", create=True)
        shard.write(insert({"a": (1, "")}))
        shard.close()
        assert scanned(open_shard(tmp_path / "s", create=True))
        shutil.rmtree(tmp_path / "s")
        open_shard(tmp_path / "s").close()
    written(tmp_path / "t")
    path = tmp_path / "t" / "translog-1"
    path.write_bytes(path.read_bytes()[:HEADER_BYTES] + bytes(40) + path.read_bytes()[HEADER_BYTES + 40 :])
    with pytest.raises(ShardFailed, match="translog-1"):
        open_shard(tmp_path / "t", create=True)
