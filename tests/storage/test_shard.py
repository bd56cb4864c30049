"""The shard's promises to its callers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import ShardFailed, StaleRouting
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    OBJECT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    array_of,
    numeric,
)
from cratepy.storage.operations import WriteBatch
from tests.storage.shards import COLUMNS, delete, insert, open_shard, rows, scanned, table
from tests.storage.simulated_disk import SimulatedDisk


def test_an_insert_of_an_existing_id_is_refused_wherever_the_id_is(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"in-segment": (1, "a")}))
    shard.refresh()
    shard.write(insert({"in-buffer": (2, "b")}))
    result = shard.write(insert({"in-buffer": (3, "c"), "new": (4, "d"), "in-segment": (5, "e")}))
    assert list(result.failures) == [(0, "duplicate"), (2, "duplicate")]
    assert list(result.versions) == [0, 1, 0]
    assert shard.get(["in-buffer", "new", "in-segment"], ["c1"]) == [(2,), (4,), (1,)]


def test_an_id_twice_in_a_batch_is_a_duplicate_of_itself(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    batch = WriteBatch(kind="insert", ids=["a", "b", "a"], rows=rows([(1, ""), (2, ""), (3, "")]), primary_term=1)
    assert list(shard.write(batch).failures) == [(2, "duplicate")]
    index = WriteBatch(kind="index", ids=["a", "a"], rows=rows([(7, ""), (8, "")]), primary_term=1)
    assert list(shard.write(index).versions) == [2, 3]
    shard.refresh()
    assert scanned(shard, ("_id", "c1", "_version")) == [("b", 2, 1), ("a", 8, 3)]


def test_sequence_numbers_are_consecutive_over_written_rows_only(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}))
    result = shard.write(insert({"a": (2, ""), "b": (3, ""), "c": (4, "")}))
    assert result.first_seq_no == 1
    assert shard.get(["b", "c"], ["_seq_no", "_primary_term"]) == [(1, 1), (2, 1)]
    assert shard.stats().max_seq_no == 2


def test_a_write_that_expects_another_sequence_number_is_a_conflict(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}))
    shard.refresh()
    result = shard.write(insert({"a": (2, ""), "z": (3, "")}, kind="index", expected=[(5, 1), (0, 1)]))
    assert list(result.failures) == [(0, "conflict"), (1, "missing")]
    assert not shard.write(insert({"a": (2, "")}, kind="index", expected=[(0, 1)])).failures
    assert list(shard.write(delete("a", expected=[(0, 1)])).failures) == [(0, "conflict")]
    assert not shard.write(delete("a", expected=[(1, 1)])).failures


def test_a_get_sees_every_write_at_once_and_a_scan_only_refreshed_ones(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "x")}))
    assert shard.get(["a", "no"], ["c1", "c2", "_version", "_id"]) == [(1, "x", 1, "a"), None]
    assert scanned(shard) == []
    assert shard.row_count() == 0
    assert shard.refresh()
    assert not shard.refresh()
    assert scanned(shard) == [("a", 1, "x")]


def test_an_update_is_seen_by_scans_as_one_change(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "old"), "b": (2, "b")}))
    shard.refresh()
    shard.write(insert({"a": (1, "new")}, kind="index"))
    shard.write(delete("b"))
    assert scanned(shard) == [("a", 1, "old"), ("b", 2, "b")]
    assert shard.get(["a", "b"], ["c2", "_version"]) == [("new", 2), None]
    shard.refresh()
    assert scanned(shard) == [("a", 1, "new")]
    assert shard.row_count() == 1


def test_a_deleted_id_can_be_inserted_again_at_version_one(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}))
    shard.refresh()
    shard.write(delete("a"))
    assert list(shard.write(delete("a")).failures) == [(0, "missing")]
    assert list(shard.write(insert({"a": (2, "")})).versions) == [1]
    shard.refresh()
    assert scanned(shard, ("_id", "c1")) == [("a", 2)]


def test_batches_of_a_scan_stay_as_they_were_while_writes_go_on(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({f"k{i}": (i, f"t{i}") for i in range(100)}))
    shard.refresh()
    before = shard.scan(["c1", "c2"])
    expected = [batch.to_pylist() for batch in before]
    shard.write(delete(*[f"k{i}" for i in range(100)]))
    shard.refresh()
    shard.flush()
    assert [batch.to_pylist() for batch in before] == expected
    assert shard.scan(["c1"]) == []


def test_what_was_written_is_there_after_close_without_flush(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "x"), "b": (2, None)}))
    shard.write(insert({"a": (3, "y")}, kind="index"))
    shard.write(delete("b"))
    shard.close()
    with pytest.raises(ShardFailed, match="closed"):
        shard.get(["a"], ["c1"])
    again = open_shard(tmp_path / "s", create=False)
    assert scanned(again, ("_id", "c1", "c2", "_version", "_seq_no")) == [("a", 3, "y", 2, 2)]
    assert again.write(insert({"c": (4, "")})).first_seq_no == 4


def test_a_flush_drops_the_translog_and_a_reopened_shard_needs_it_not(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    for i in range(30):
        shard.write(insert({f"k{i}": (i, "x" * 100)}))
        shard.refresh()
    shard.write(delete("k3"))
    shard.optimize()
    shard.flush()
    stats = shard.stats()
    assert stats.translog_operations == 0
    assert len(stats.segments) < limits.MERGE_SEGMENTS
    assert all(segment.is_committed for segment in stats.segments)
    assert sorted(path.name for path in (tmp_path / "s").glob("translog-*")) == ["translog-2"]
    shard.close()
    again = open_shard(tmp_path / "s", create=False)
    assert [row[0] for row in scanned(again)] == [f"k{i}" for i in range(30) if i != 3]
    assert again.stats().max_seq_no == 30
    again.verify()


def test_merging_keeps_rows_in_order_and_deletes_that_come_in_between(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    for i in range(100):
        shard.write(insert({f"k{i}": (i, None if i % 3 else str(i))}))
        if i % 7 == 0:
            shard.write(delete(f"k{i // 2}"))
        shard.refresh()
    deleted = {i // 2 for i in range(100) if i % 7 == 0}
    assert [row[1] for row in scanned(shard)] == [i for i in range(100) if i not in deleted]
    assert shard.stats().merge_count > 0
    keys = [f"k{i}" for i in range(100)]
    assert [row is None for row in shard.get(keys, ["c1"])] == [i in deleted for i in range(100)]


def test_a_column_added_later_is_null_in_older_rows(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "x")}))
    shard.refresh()
    shard.write(insert({"b": (2, "y")}))
    with pytest.raises(StaleRouting):
        shard.scan(["c3"])
    wider = (*COLUMNS, ("d", DOUBLE))
    shard.update_definition(table(wider, version=2))
    shard.write(WriteBatch(kind="insert", ids=["c"], rows=rows([(3, "z", 1.5)], wider), primary_term=1))
    assert shard.get(["a", "b", "c"], ["c3", "c1"]) == [(None, 1), (None, 2), (1.5, 3)]
    shard.refresh()
    assert scanned(shard, ("_id", "c3")) == [("a", None), ("b", None), ("c", 1.5)]
    shard.close()
    again = open_shard(tmp_path / "s", definition=table(wider, version=2), create=False)
    assert scanned(again, ("_id", "c3")) == [("a", None), ("b", None), ("c", 1.5)]


EVERY_TYPE: list[tuple[DataType, Any, Any]] = [
    (BIGINT, -(1 << 62), None),
    (DataType("byte"), 7, -7),
    (DataType("real"), 1.5, None),
    (DOUBLE, float("inf"), -0.5),
    (BOOLEAN, True, False),
    (TEXT, "žluťoučký kůň, longer than a view holds inline", ""),
    (TIMESTAMPTZ, 1_700_000_000_123, -1),
    (DATE, 86_400_000, None),
    (numeric(10, 2), "-12.50", "0.00"),
    (OBJECT, {"a": [1, {"b": None}]}, {}),
    (array_of(BIGINT), [1, None, 3], []),
    (array_of(TEXT), ["a", None, "a text longer than a view holds inline"], None),
    (DataType("interval"), [1, 2, 3], None),
    (DataType("ip"), "127.0.0.1", None),
]


@pytest.mark.parametrize("data_type", [entry[0] for entry in EVERY_TYPE], ids=lambda t: t.name)
def test_a_value_of_every_type_is_the_same_from_buffer_segment_and_scan(tmp_path: Path, data_type: DataType) -> None:
    from cratepy.model.arrow import arrow_type, from_arrow, to_arrow

    _, first, second = next(entry for entry in EVERY_TYPE if entry[0] == data_type)
    values = [first, second, None] * 20
    column = to_arrow(values, data_type, at_rest=True)
    ids = [f"k{i}" for i in range(60)]
    shard = open_shard(tmp_path / "s", definition=table((("v", data_type),)))
    shard.write(
        WriteBatch(kind="insert", ids=ids, rows=pa.RecordBatch.from_arrays([column], names=["c1"]), primary_term=1)
    )
    expected = [(value,) for value in values]
    assert shard.get(ids, ["c1"]) == expected
    assert shard.get(ids[1:2], ["c1"]) == expected[1:2]
    shard.flush()
    assert shard.get(ids, ["c1"]) == expected
    (batch,) = shard.scan(["c1"])
    assert batch.column(0).type == arrow_type(data_type)
    assert from_arrow(batch.column(0), data_type) == values
    shard.write(delete("k0"))
    shard.refresh()
    (batch,) = shard.scan(["c1"])
    batch.validate(full=True)
    assert from_arrow(batch.column(0), data_type) == values[1:]


def test_documents_hold_the_columns_that_are_not_null(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, None), "b": (2, "x")}))
    assert shard.get(["a", "b"], ["_doc"]) == [({"n": 1},), ({"n": 2, "t": "x"},)]
    shard.refresh()
    assert shard.get(["b"], ["_doc", "_raw", "_uid"]) == [({"n": 2, "t": "x"}, '{"n":2,"t":"x"}', "b")]
    assert scanned(shard, ("_raw", "_docid")) == [('{"n":1}', 0), ('{"n":2,"t":"x"}', 1)]


def test_a_scan_without_columns_has_as_many_rows(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({f"k{i}": (i, "") for i in range(5)}))
    shard.refresh()
    assert [(batch.num_rows, batch.num_columns) for batch in shard.scan([])] == [(5, 0)]


def test_a_shard_refuses_an_older_primary(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "")}, primary_term=3))
    with pytest.raises(StaleRouting):
        shard.write(insert({"b": (1, "")}, primary_term=2))


def test_a_buffer_above_its_share_becomes_a_segment(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.buffer_bytes_max = 200_000
    for first in range(0, 3_000, 300):
        shard.write(insert({f"k{i}": (i, "x") for i in range(first, first + 300)}))
        assert shard.buffered_bytes < 400_000
    assert shard.stats().refresh_count > 0


def test_a_translog_above_its_threshold_is_flushed(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=table(settings={"translog.flush_threshold_size": 10_000}))
    shard.write(insert({f"k{i}": (i, "x" * 100) for i in range(300)}))
    assert shard.stats().flush_count == 1
    assert shard.translog_bytes < 1_000


def test_bounds_of_a_column_come_from_statistics(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (5, "m"), "b": (-3, None)}))
    shard.refresh()
    shard.write(insert({"c": (9, "z" * 100)}))
    shard.refresh()
    bounds = shard.bounds("c1")
    assert bounds is not None
    assert (bounds.minimum, bounds.maximum, bounds.null_count, bounds.rows) == (-3, 9, 0, 3)
    text = shard.bounds("c2")
    assert text is not None
    # A long text is bounded by a prefix, so not exactly.
    assert text.minimum == "m"
    assert isinstance(text.maximum, str)
    assert "z" * 100 < text.maximum < "{"


def test_the_first_failed_sync_fails_the_shard_for_good() -> None:
    disk = SimulatedDisk()
    shard = open_shard(Path("/data/s"), files=disk)
    shard.write(insert({"a": (1, "")}))
    disk.failing_sync = disk.syncs + 1
    with pytest.raises(ShardFailed, match="Input/output error"):
        shard.sync()
    assert shard.failure is not None
    before = disk.syncs
    for call in (
        lambda: shard.write(insert({"b": (1, "")})),
        lambda: shard.get(["a"], ["c1"]),
        lambda: shard.scan(["c1"]),
        shard.sync,
        shard.refresh,
        shard.flush,
    ):
        with pytest.raises(ShardFailed):
            call()
    shard.close()
    assert disk.syncs == before, "an fsync was retried"


def test_many_single_rows_are_the_same_as_one_batch(tmp_path: Path) -> None:
    """One-row batches are gathered behind the rows; a row's place must not depend on it."""
    shard = open_shard(tmp_path / "s")
    for i in range(1_100):
        shard.write(insert({f"k{i}": (i, f"t{i}")}))
        if i % 97 == 0:
            shard.write(insert({f"b{i}-{j}": (j, "") for j in range(40)}))
    keys = [f"k{i}" for i in range(1_100)]
    assert shard.get(keys, ["c1", "c2"]) == [(i, f"t{i}") for i in range(1_100)]
    shard.refresh()
    assert [row for row in scanned(shard) if row[0][0] == "k"] == [(f"k{i}", i, f"t{i}") for i in range(1_100)]


def test_a_dropped_and_added_column_is_another_column(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s")
    shard.write(insert({"a": (1, "x")}))
    changed = table(version=2)
    columns = (changed.columns[0], ColumnDefinition(oid=9, name="t", type=TEXT))
    shard.update_definition(type(changed)(name=changed.name, uuid=changed.uuid, oid=1, columns=columns, version=2))
    assert shard.get(["a"], ["c9", "c1"]) == [(None, 1)]
    shard.refresh()
    assert scanned(shard, ("_id", "c9")) == [("a", None)]
