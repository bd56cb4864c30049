"""What goes wrong with text indexes: panics, full disks, damage, views that cannot be made; no row is lost by any of it."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import tantivy

from cratepy.errors import DiskFull, ShardFailed
from cratepy.storage.segment import segment_name
from cratepy.storage.shard import Shard
from cratepy.storage.text import building, formats, scratch, view
from cratepy.storage.text.failures import TextIndexFailed, contained
from cratepy.storage.text.formats import EXTENSIONS
from cratepy.storage.text.shard_text import ShardText
from tests.storage.shards import delete, insert, open_shard, scanned
from tests.storage.simulated_disk import SimulatedDisk
from tests.storage.text.texts import bm25, found, fulltext, match

DIRECTORY = Path("/data/indices/table-1/0/copy-1")


def panic() -> None:
    """A real one: a search for no hits."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("t")
    tantivy.Index(builder.build()).searcher().search(tantivy.Query.all_query(), limit=0)


def test_panics_become_errors_and_a_full_disk_stays_one() -> None:
    with pytest.raises(TextIndexFailed, match="x: the index library panicked"), contained("x"):
        panic()
    with pytest.raises(TextIndexFailed, match="x: bad"), contained("x"):
        raise ValueError("bad")
    with pytest.raises(OSError, match="x: ") as caught, contained("x"):
        raise ValueError("An IO error occurred: 'No space left on device (os error 28)'")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(KeyboardInterrupt), contained("x"):
        raise KeyboardInterrupt


def failing(monkeypatch: pytest.MonkeyPatch, fail: Any) -> None:
    def add_rows(*arguments: Any) -> None:
        fail()

    monkeypatch.setattr(building, "_add_rows", add_rows)


def test_a_build_that_panics_fails_the_refresh_and_loses_no_row(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, panic)
        shard.write(insert({"a": (1, "x")}))
        with pytest.raises(TextIndexFailed, match=r"text index of .*seg-1 cannot be built: the index library panicked"):
            shard.refresh()
        assert shard.failure is None
        assert shard.get(["a"], ["c2"]) == [("x",)]
        assert scanned(shard) == []
        shard.write(insert({"b": (2, "x")}))
        assert not (tmp_path / "s" / segment_name(1)).exists()
        shard.close()
        # Also while the shard is opened: its rows are found by id, and by search once the index can be built.
        shard = open_shard(tmp_path / "s", definition=fulltext(), create=False)
        assert shard.get(["a", "b"], ["c2"]) == [("x",), ("x",)]
    shard.refresh()
    assert found(shard, match("x")) == ["a", "b"]


def test_a_full_disk_while_building_is_a_full_disk(tmp_path: Path) -> None:
    def full() -> None:
        raise ValueError("No space left on device")

    shard = open_shard(tmp_path / "s", definition=fulltext())
    shard.write(insert({"a": (1, "x")}))
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, full)
        with pytest.raises(DiskFull):
            shard.refresh()
    shard.refresh()
    assert found(shard, match("x")) == ["a"]


def test_an_index_that_lost_rows_is_not_taken(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    shard.write(insert({"a": (1, "x")}))
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, lambda: None)
        with pytest.raises(TextIndexFailed, match="1 rows became index segments of"):
            shard.refresh()
    shard.refresh()
    assert found(shard, match("x")) == ["a"]


def test_a_merge_whose_index_cannot_be_built_changes_nothing(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    for row_id in "abc":
        shard.write(insert({row_id: (1, "x")}))
        shard.refresh()
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, panic)
        with pytest.raises(TextIndexFailed):
            shard.optimize(max_num_segments=1)
    assert shard.failure is None
    assert found(shard, match("x")) == ["a", "b", "c"]
    shard.optimize(max_num_segments=1)
    assert shard.segment_count == 1
    assert found(shard, match("x")) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["text.meta", *(f"text.{extension}" for extension in EXTENSIONS)])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_a_damaged_text_file_is_found_before_it_answers(tmp_path: Path, name: str, place: float) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    shard.write(insert({f"i{n}": (n, f"x {n}") for n in range(50)}))
    shard.flush()
    shard.close()
    path = tmp_path / "s" / segment_name(1) / name
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)
    shard = open_shard(tmp_path / "s", definition=fulltext(), create=False)
    with pytest.raises(ShardFailed, match=f"{name} is damaged"):
        shard.verify()
    with pytest.raises(ShardFailed, match=f"{name} is damaged"):
        found(shard, match("x"))
    assert shard.failure is not None, "the cluster makes another copy"


def test_a_missing_text_file_is_found_at_open(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=fulltext())
    shard.write(insert({"a": (1, "x")}))
    shard.flush()
    shard.close()
    (tmp_path / "s" / segment_name(1) / "text.idx").unlink()
    with pytest.raises(ShardFailed, match=r"text\.idx is damaged: it is missing"):
        open_shard(tmp_path / "s", definition=fulltext(), create=False)


# --- views -----------------------------------------------------------------------------------------------------------


def several_segments(directory: Path) -> Shard:
    """Rows i0 to i29 in three segments, i5 and i15 dead, i25 replaced."""
    shard = open_shard(directory / "s", definition=fulltext())
    for first in (0, 10, 20):
        shard.write(insert({f"i{n}": (n, "x" if n % 2 else "x y y") for n in range(first, first + 10)}))
        shard.refresh()
    shard.write(delete("i5", "i15"))
    shard.write(insert({"i25": (25, "z")}, kind="index"))
    shard.refresh()
    return shard


def test_a_view_that_cannot_be_opened_gives_way_to_one_index_per_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = several_segments(tmp_path)
    real = formats.view_meta
    calls: list[int] = []

    def broken_once(*arguments: Any, **more: Any) -> bytes:
        # One index per segment is opened with the same function's help.
        calls.append(1)
        return b"{not json" if len(calls) == 1 else real(*arguments, **more)

    monkeypatch.setattr(view, "view_meta", broken_once)
    alive = [f"i{n}" for n in range(30) if n not in (5, 15, 25)]
    assert found(shard, match("x")) == alive
    assert shard.text_view_failure is not None
    assert "cannot be opened" in shard.text_view_failure
    flags = found(shard, match("x"), match("y"), required=0, sources=("_id", "_match_0", "_match_1"))
    assert [row[0] for row in flags] == [*alive, "i25"]
    assert {row[0] for row in flags if row[2]} == {f"i{n}" for n in range(0, 30, 2)}
    assert found(shard, match("y"), limit=3) == ["i0", "i2", "i4"]
    assert len(found(shard, match("x"), limit=100)) == 27
    assert all(score > 0 for score in found(shard, match("x"), sources=("_score",)))
    shard.write(delete("i0"))
    shard.refresh()
    assert found(shard, match("y"), limit=2) == ["i2", "i4"]
    shard.optimize(max_num_segments=1)
    assert found(shard, match("x")) == alive[1:]


def test_segments_whose_fields_do_not_fit_are_searched_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = several_segments(tmp_path)
    monkeypatch.setattr(view, "_are_compatible", lambda metas: False)
    assert len(found(shard, match("x"))) == 27
    assert found(shard, match("z")) == ["i25"]
    assert shard.text_view_failure == "its segments number their fields differently"


def test_a_segment_merged_away_while_a_view_is_made_is_looked_for_in_the_next_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is half changed then: a search after it must not go on with the half."""
    shard = several_segments(tmp_path)
    assert len(found(shard, match("x"))) == 27
    real = scratch.expose
    merged: list[bool] = []

    def expose(files: Any, source: Path, target: Path) -> None:
        if not merged and source.name == "text.term":
            merged.append(True)
            shard.optimize(max_num_segments=1)
        real(files, source, target)

    shard.write(insert({"new": (1, "fresh")}))
    shard.refresh()
    monkeypatch.setattr(view, "expose", expose)
    # A merge drops the shard's view itself, which waits for the maker: here it is the maker, so that is left out.
    monkeypatch.setattr(ShardText, "forget", lambda text, numbers: None)
    assert found(shard, match("fresh")) == ["new"]
    assert len(found(shard, match("x"))) == 27
    assert merged
    assert shard.failure is None
    assert shard.text_view_failure is None


def test_a_segment_merged_away_while_another_is_built_does_not_fail_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = several_segments(tmp_path)

    def gone(text: ShardText, segment: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "text.meta")

    monkeypatch.setattr(ShardText, "_fields_of", gone)
    shard.optimize(max_num_segments=1)
    assert shard.failure is None
    assert len(found(shard, match("x"))) == 27


def test_numbers_that_two_segments_share_are_not_used(tmp_path: Path) -> None:
    assert view._distinct([(10, 5), (20, 5), (15, 5)]) == (10, 20, 15)
    assert view._distinct([(10, 6), (15, 5)]) == (-1, -1)
    assert view._distinct([(-1, 6), (15, 5)]) == (-1, -1)
    shard = several_segments(tmp_path)
    expected = found(shard, match("y"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "_distinct", lambda bases: (-1,) * len(bases))
        shard.write(insert({"new": (1, "other")}))
        shard.refresh()
        assert found(shard, match("y")) == expected


def test_a_view_follows_refreshes_and_forgets_what_is_gone(tmp_path: Path) -> None:
    shard = several_segments(tmp_path)
    threads = threading.active_count()
    directory = tmp_path / "s" / "view"
    for n in range(20):
        shard.write(insert({f"n{n}": (n, f"x new{n}")}))
        shard.write(delete(f"i{n}") if n not in (5, 15) else insert({f"m{n}": (n, "q")}))
        shard.refresh()
        assert found(shard, match(f"new{n}")) == [f"n{n}"]
        assert f"i{n}" not in found(shard, match("x"))
    shard.optimize(max_num_segments=1)
    assert found(shard, match("new7")) == ["n7"]
    shard.write(delete("n7"))
    shard.refresh()
    assert found(shard, match("new7")) == []
    (room,) = directory.iterdir()
    kept = sorted(path.suffix for path in room.iterdir() if path.name.startswith("0"))
    assert kept == sorted([".del", *(f".{extension}" for extension in EXTENSIONS)]), "of one segment and its dead rows"
    assert threading.active_count() == threads
    # Hard links: a view takes no space.
    linked = [path for path in room.iterdir() if path.name.startswith("0") and path.suffix != ".del"]
    assert all(path.stat().st_nlink == 2 for path in linked)
    shard.close()
    assert not directory.exists()


def test_few_views_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cratepy.limits.TEXT_VIEWS_MAX", 2)
    shards = []
    for name in "abc":
        shard = open_shard(tmp_path / name, definition=fulltext())
        shard.write(insert({name: (1, "x")}))
        shard.refresh()
        shards.append(shard)
    for _ in range(2):
        for name, shard in zip("abc", shards, strict=True):
            assert found(shard, match("x")) == [name]
    assert [(tmp_path / name / "view").exists() for name in "abc"] == [False, True, True]
    for shard in shards:
        shard.close()


def test_a_merge_frees_the_space_that_a_view_held(tmp_path: Path) -> None:
    shard = several_segments(tmp_path)
    assert len(found(shard, match("x"))) == 27
    shard.optimize(max_num_segments=1)
    assert not (tmp_path / "s" / "view").exists()
    assert len(found(shard, match("x"))) == 27


def test_what_a_killed_process_left_is_removed_at_open(tmp_path: Path) -> None:
    shard = several_segments(tmp_path)
    shard.close()
    for name in (scratch.VIEW, scratch.BUILD):
        (tmp_path / "s" / name / "7").mkdir(parents=True)
        (tmp_path / "s" / name / "7" / "meta.json").write_text("{}")
    shard = open_shard(tmp_path / "s", definition=fulltext(), create=False)
    assert not (tmp_path / "s" / scratch.VIEW).exists()
    assert not (tmp_path / "s" / scratch.BUILD).exists()
    assert len(found(shard, match("x"))) == 27


def test_a_simulated_disk_has_views_beside_it() -> None:
    disk = SimulatedDisk()
    shard = open_shard(DIRECTORY, files=disk, definition=fulltext())
    shard.write(insert({"a": (1, "x"), "b": (2, "y")}))
    shard.flush()
    assert found(shard, match("x")) == ["a"]
    shard.close()
    again = open_shard(DIRECTORY, files=disk, definition=fulltext(), create=False)
    assert found(again, match("y")) == ["b"]
    again.verify()
    again.close()


def test_big_segments_are_built_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cratepy.limits.TEXT_BUILD_MEMORY_BYTES_MAX", 0)
    shard = several_segments(tmp_path)
    assert len(found(shard, match("x"))) == 27
    assert not list((tmp_path / "s" / scratch.BUILD).iterdir())


def test_where_links_are_not_possible_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*arguments: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", link)
    shard = several_segments(tmp_path)
    assert len(found(shard, match("x"))) == 27
    assert shard.text_view_failure is None


def test_searches_go_on_while_segments_come_and_go(tmp_path: Path) -> None:
    """Four searchers against one writer: each answer is that of some state, so i100 is always found once."""
    shard = several_segments(tmp_path)
    shard.write(insert({"i100": (100, "steady")}))
    shard.refresh()
    is_over = threading.Event()
    errors: list[BaseException] = []

    def search() -> None:
        try:
            while not is_over.is_set():
                assert found(shard, match("steady"), limit=5) == ["i100"]
                assert found(shard, match("steady x"), match("steady")) == ["i100"]
        except BaseException as error:
            errors.append(error)

    searchers = [threading.Thread(target=search) for _ in range(4)]
    for thread in searchers:
        thread.start()
    for n in range(60):
        shard.write(insert({f"w{n}": (n, "x y"), "i100": (100 + n, "steady")}, kind="index"))
        shard.refresh()
        if n % 10 == 9:
            shard.optimize(max_num_segments=1)
    is_over.set()
    for thread in searchers:
        thread.join()
    assert not errors, errors[0]
    assert shard.text_view_failure is None


def test_scores_count_dead_rows_until_they_are_merged_away(tmp_path: Path) -> None:
    """As Lucene's do: statistics are those of the segments."""
    shard = open_shard(tmp_path / "s", definition=fulltext())
    texts: dict[str, str | None] = {f"i{n}": "x" if n % 2 else "y y" for n in range(20)}
    shard.write(insert({row_id: (1, text) for row_id, text in texts.items()}))
    shard.refresh()
    before = dict(found(shard, match("x"), sources=("_id", "_score")))
    shard.write(delete("i1", "i3", "i0"))
    shard.refresh()
    after = dict(found(shard, match("x"), sources=("_id", "_score")))
    assert after == {row_id: score for row_id, score in before.items() if row_id not in ("i1", "i3")}
    shard.optimize(max_num_segments=1)
    left = {row_id: text for row_id, text in texts.items() if row_id not in ("i0", "i1", "i3")}
    assert dict(found(shard, match("x"), sources=("_id", "_score"))) == pytest.approx(bm25(left, "x"), rel=1e-5)
