"""Segments: what was written is read, whatever codec, value, age; damage is found before it is believed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    IP,
    OBJECT,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    array_of,
)
from cratepy.storage.encoding import Encoding
from cratepy.storage.operations import ColumnRange, Scalar, WriteBatch
from cratepy.storage.shard import Shard
from tests.storage.shards import open_shard, table

CODECS = ("default", "best_compression")

VALUES: dict[str, tuple[DataType, list[Any]]] = {
    "bigint": (BIGINT, [-(2**63), 2**63 - 1, 0, -1, None]),
    "smallint": (SMALLINT, [-(2**15), 2**15 - 1, None]),
    "double": (DOUBLE, [math.nan, -0.0, 0.0, math.inf, -math.inf, 5e-324, None]),
    "real": (REAL, [math.nan, -0.0, 1.5, math.inf, None]),
    "boolean": (BOOLEAN, [True, False, None]),
    "timestamp": (TIMESTAMPTZ, [-(2**63), 2**63 - 1, -62_135_596_800_000, 253_402_300_799_999, None]),
    "date": (DATE, [0, -86_400_000, 86_400_000 * (2**31 - 1), -86_400_000 * 2**31, None]),
    "text": (TEXT, ["", "\0", "a\0b", "x" * limits.TEXT_BYTES_MAX, "ä" * 100, "\U0010ffff", None]),
    "object": (OBJECT, [{}, {"a": None}, {"a": [1, {"b": "\0"}]}, None]),
    "bigints": (array_of(BIGINT), [[], [None], [2**63 - 1, 1], None]),
    "texts": (array_of(TEXT), [[], [None, ""], ["a" * 100, "b"], None]),
}
COLUMNS = tuple((name, data_type) for name, (data_type, _) in VALUES.items())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BLOCK_ROWS", 16)


def column(values: list[Any], data_type: DataType) -> pa.Array:
    return to_arrow(values, data_type, at_rest=True)


def write(shard: Shard, first: int, arrays: list[pa.Array]) -> list[str]:
    names = [f"c{oid}" for oid in range(1, len(arrays) + 1)]
    ids = [f"k{row}" for row in range(first, first + len(arrays[0]))]
    shard.write(WriteBatch(kind="index", ids=ids, rows=pa.RecordBatch.from_arrays(arrays, names=names), primary_term=1))
    return ids


def read(shard: Shard, columns: tuple[tuple[str, DataType], ...]) -> dict[str, tuple[Any, ...]]:
    """All rows by id; from a scan, and they must be what gets of one and of many say."""
    sources = [f"c{oid}" for oid in range(1, len(columns) + 1)]
    found: dict[str, tuple[Any, ...]] = {}
    for batch in shard.scan(["_id", *sources]):
        arrays = [from_arrow(batch.column(at + 1), data_type) for at, (_, data_type) in enumerate(columns)]
        found.update(zip(batch.column(0).to_pylist(), zip(*arrays, strict=True), strict=True))
    ids = list(found)
    expected = [repr(found[row_id]) for row_id in ids]
    assert [repr(row) for row in shard.get(ids, sources)] == expected
    assert [repr(shard.get([row_id], sources)[0]) for row_id in ids] == expected
    return found


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.usefixtures("small_blocks")
def test_values_at_every_edge_come_back_from_refresh_merge_and_reopening(tmp_path: Path, codec: str) -> None:
    rows = 40
    chance = random.Random(codec)
    definition = table(COLUMNS, settings={"codec": codec})
    shard = open_shard(tmp_path / "s", definition=definition)
    expected: dict[str, tuple[Any, ...]] = {}
    for segment in range(3):
        drawn = [[chance.choice(values) for _ in range(rows)] for _, values in VALUES.values()]
        ids = write(shard, segment * rows, [column(v, t) for v, (t, _) in zip(drawn, VALUES.values(), strict=True)])
        expected.update(zip(ids, zip(*drawn, strict=True), strict=True))
        shard.refresh()
    dead = [row_id for row_id in expected if chance.random() < 0.3]
    shard.write(WriteBatch(kind="delete", ids=dead, rows=None, primary_term=1))
    for row_id in dead:
        del expected[row_id]
    text = {row_id: repr(row) for row_id, row in expected.items()}
    shard.refresh()
    assert {row_id: repr(row) for row_id, row in read(shard, COLUMNS).items()} == text
    shard.optimize(max_num_segments=1)
    assert {row_id: repr(row) for row_id, row in read(shard, COLUMNS).items()} == text
    shard.flush()
    shard.verify()
    shard.close()
    again = open_shard(tmp_path / "s", definition=definition, create=False)
    assert {row_id: repr(row) for row_id, row in read(again, COLUMNS).items()} == text


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.usefixtures("small_blocks")
def test_blocks_that_a_merge_keeps_and_blocks_that_it_joins_are_the_same_rows(tmp_path: Path, seed: int) -> None:
    """Segments of any size, some rows dead, merged twice; blocks stay at least half full, but for the last."""
    chance = random.Random(seed)
    codec = chance.choice(CODECS)
    definition = table((("n", BIGINT), ("t", TEXT)), settings={"codec": codec})
    shard = open_shard(tmp_path / "s", definition=definition)
    expected: dict[str, tuple[Any, ...]] = {}
    for turn in range(2):
        for segment in range(4):
            rows, first = chance.choice((1, 7, 8, 9, 16, 17, 33, 100)), (turn * 4 + segment) * 1000
            numbers, texts = pa.array(range(first, first + rows)), long_texts(rows, f"{segment}")
            ids = write(shard, first, [numbers, texts])
            expected.update(zip(ids, zip(numbers.to_pylist(), texts.to_pylist(), strict=True), strict=True))
            shard.refresh()
        dead = chance.sample(sorted(expected), min(chance.choice((0, 0, 3, 30)), len(expected) - 1))
        if dead:
            shard.write(WriteBatch(kind="delete", ids=dead, rows=None, primary_term=1))
        for row_id in dead:
            del expected[row_id]
        shard.refresh()
        shard.optimize(max_num_segments=1)
        assert read(shard, (("n", BIGINT), ("t", TEXT))) == expected
        (live,) = shard._core.state.segments
        sizes = [block.row_count for block in live.segment.blocks]
        assert all(8 <= size <= 16 for size in sizes[:-1])
        assert [value for batch in shard.scan(["c1"]) for value in batch.column(0).to_pylist()] == sorted(
            number for number, _ in expected.values()
        ), "rows stay in order"
    shard.flush()
    shard.verify()


def test_a_merge_copies_full_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BLOCK_ROWS", 50)
    shard = open_shard(tmp_path / "s", definition=table((("t", TEXT),)))
    for first in (0, 100):
        write(shard, first, [long_texts(100, "x")])
        shard.refresh()
    monkeypatch.setattr("cratepy.storage.segment_writing.encode", None)
    shard.optimize(max_num_segments=1)
    assert len(read(shard, (("t", TEXT),))) == 200


def long_texts(rows: int, salt: str) -> pa.Array:
    return pa.array(
        [f"{salt} a text that repeats itself, {row % 7} and again: {row * 7919 % 1000}" for row in range(rows)]
    )


def stored_bytes(shard: Shard) -> int:
    return sum(segment.size_bytes for segment in shard.stats().segments)


def test_a_changed_codec_counts_for_new_segments_and_merges_rewrite_old_ones(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=table((("t", TEXT),)))
    write(shard, 0, [long_texts(2000, "first")])
    shard.refresh()
    plain = stored_bytes(shard)
    changed = table((("t", TEXT),), settings={"codec": "best_compression"}, version=2)
    shard.update_definition(changed)
    assert stored_bytes(shard) == plain
    write(shard, 2000, [long_texts(2000, "second")])
    shard.refresh()
    assert stored_bytes(shard) < 1.6 * plain
    shard.optimize(max_num_segments=1)
    assert stored_bytes(shard) < 0.7 * plain
    assert len(read(shard, (("t", TEXT),))) == 4000


def test_ids_that_are_the_key_are_stored_once(tmp_path: Path) -> None:
    definition = table((("n", BIGINT), ("t", TEXT)), primary_key=("n",))
    shard = open_shard(tmp_path / "s", definition=definition)
    rows = pa.RecordBatch.from_arrays([pa.array(range(1000)), pa.array(["x"] * 1000)], names=["c1", "c2"])
    ids = [str(row) for row in range(1000)]
    shard.write(WriteBatch(kind="insert", ids=ids, rows=rows, primary_term=1))
    shard.flush()
    (live,) = shard._core.state.segments
    place = live.segment.schema.names.index("_id")
    assert live.segment.blocks[0].pieces[place].encoding is Encoding.SAME
    assert [value for batch in shard.scan(["_id"]) for value in batch.column(0).to_pylist()] == ids
    assert shard.get(["17"], ["_id", "c1"]) == [("17", 17)]
    assert shard.get([*ids, "no"], ["_id"]) == [*((row_id,) for row_id in ids), None]


def test_blocks_of_big_rows_have_fewer_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BLOCK_BYTES", 100_000)
    shard = open_shard(tmp_path / "s", definition=table((("t", TEXT),)))
    for first in (0, 100):
        write(shard, first, [pa.array([f"{row}" + "x" * 10_000 for row in range(first, first + 100)])])
        shard.refresh()
    assert all(1 <= batch.num_rows <= 10 for batch in shard.scan(["c1"]))
    shard.optimize(max_num_segments=1)
    batches = shard.scan(["c1"])
    assert all(1 <= batch.num_rows <= 10 for batch in batches)
    assert [len(text) for batch in batches for text in batch.column(0).to_pylist()][::50] == [
        10_001,
        10_002,
        10_003,
        10_003,
    ]
    assert len(read(shard, (("t", TEXT),))) == 200


def test_readers_of_many_columns_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_READERS_MAX", 3)
    shard = open_shard(tmp_path / "s", definition=table(COLUMNS))
    write(shard, 0, [column(values[:2], data_type) for data_type, values in VALUES.values()])
    shard.refresh()
    before = shard._core.cache.cached_bytes
    assert len(read(shard, COLUMNS)) == 2
    (live,) = shard._core.state.segments
    assert len(live.segment.blocks[0].readers) == 3
    assert shard._core.cache.cached_bytes > before + 2_000 * (len(COLUMNS) - 3)


def test_a_table_of_two_thousand_columns(tmp_path: Path) -> None:
    columns = tuple((f"n{i}", INTEGER if i % 2 else TEXT) for i in range(2000))
    definition = table(columns)
    shard = open_shard(tmp_path / "s", definition=definition)
    arrays = [pa.array([i, None, -i], pa.int32()) if i % 2 else pa.array([str(i), "", None]) for i in range(2000)]
    write(shard, 0, arrays)
    shard.flush()
    shard.close()
    again = open_shard(tmp_path / "s", definition=definition, create=False)
    found = read(again, columns)
    assert found["k0"][:4] == ("0", 1, "2", 3)
    assert found["k2"][1998:] == (None, -1999)


@pytest.mark.usefixtures("small_blocks")
def test_documents_of_a_scan_are_those_of_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cratepy.storage.scanning._DOCUMENTS_AT_ONCE", 7)
    drawn = [[values[row % len(values)] for row in range(60)] for _, values in VALUES.values()]
    drawn[0][40:] = range(20)
    shard = open_shard(tmp_path / "s", definition=table((*COLUMNS, ('odd\n"name', TEXT))))
    arrays = [column(v, t) for v, (t, _) in zip(drawn, VALUES.values(), strict=True)]
    ids = write(shard, 0, [*arrays, pa.array([None, "line\nline\r\n"] * 30)])
    shard.write(WriteBatch(kind="delete", ids=ids[5:25], rows=None, primary_term=1))
    shard.refresh()
    live = ids[:5] + ids[25:]
    scanned = [tuple(row.values()) for batch in shard.scan(["_doc", "_raw"]) for row in batch.to_pylist()]
    assert [raw for _, raw in scanned] == [row[0] for row in shard.get(live, ["_raw"]) if row is not None]
    assert all(doc == raw for doc, raw in scanned)
    empty = open_shard(tmp_path / "e", definition=table((("n", BIGINT),)))
    write(empty, 0, [pa.array([None, 1, None])])
    empty.refresh()
    assert [batch.column(0).to_pylist() for batch in empty.scan(["_raw"])] == [["{}", '{"n":1}', "{}"]]


# --- ranges ----------------------------------------------------------------------------------------------------------

RANGED: dict[str, tuple[DataType, list[Scalar]]] = {
    "bigint": (BIGINT, [-(2**63), -5, 0, 3, 2**63 - 1]),
    "double": (DOUBLE, [-math.inf, -1.5, -0.0, 0.0, 2.5, math.inf, math.nan, -math.nan]),
    "boolean": (BOOLEAN, [True, False]),
    "timestamp": (TIMESTAMPTZ, [-(10**15), 0, 1_700_000_000_000]),
    "date": (DATE, [-86_400_000, 0, 86_400_000 * 20_000]),
    "text": (TEXT, ["", "a", "a" * 100, "a" * 99 + "b", "\ud7ff" * 40, "\ue000", "\U0010ffff" * 40, "ä"]),
    "ip": (IP, ["10.0.0.1", "9.1.1.1", "::1"]),
}


def in_range(value: Any, wanted: ColumnRange) -> bool:
    """As the engine compares: NULL is in no range, NaN is above all, −NaN below."""
    if wanted.is_null is True:
        return value is None
    if value is None:
        return wanted.is_null is None and wanted.minimum is None and wanted.maximum is None
    key = (math.copysign(1, value), 0.0) if value != value else (0, value)
    above = wanted.minimum is None or (0, wanted.minimum) <= key
    return above and (wanted.maximum is None or key <= (0, wanted.maximum))


def ranges_of(values: list[Scalar]) -> Iterator[ColumnRange]:
    bounds: list[Scalar] = [None, *(value for value in values if value == value)]
    for minimum in bounds:
        for maximum in bounds:
            yield ColumnRange("c1", minimum, maximum)
    yield ColumnRange("c1", is_null=True)
    yield ColumnRange("c1", is_null=False)


@pytest.mark.parametrize("name", RANGED)
@pytest.mark.usefixtures("small_blocks")
def test_no_row_in_range_is_ever_left_out(tmp_path: Path, name: str) -> None:
    data_type, values = RANGED[name]
    shard = open_shard(tmp_path / "s", definition=table((("v", data_type),)))
    blocks = [[value] * 16 for value in values]
    blocks += [[values[i % len(values)] for i in range(first, first + 16)] for first in range(3)]
    blocks += [[None] * 16, [None, *[values[0]] * 15]]  # type: ignore[list-item]
    write(shard, 0, [column([value for block in blocks for value in block], data_type)])
    shard.refresh()
    pruned = 0
    for wanted in ranges_of(values):
        found = [from_arrow(batch.column(0), data_type) for batch in shard.scan(["c1"], ranges=[wanted])]
        for block in blocks:
            if any(in_range(value, wanted) for value in block):
                assert repr(block) in [repr(kept) for kept in found], (block, wanted)
        pruned += len(blocks) - len(found)
    assert pruned > 0


@pytest.mark.usefixtures("small_blocks")
def test_blocks_out_of_range_are_left_out_and_row_numbers_stay(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=table((("n", BIGINT), ("t", TEXT))))
    write(shard, 0, [pa.array(range(64)), pa.array([f"{'x' * 50}{row:03}" for row in range(64)])])
    shard.refresh()
    (batch,) = shard.scan(["_docid", "c1"], ranges=[ColumnRange("c1", 20, 25)])
    assert batch.column(0).to_pylist() == batch.column(1).to_pylist() == list(range(16, 32))
    assert shard.scan([], ranges=[ColumnRange("c1", 64)]) == []
    assert shard.scan(["c1"], ranges=[ColumnRange("c1", 20, 25), ColumnRange("c2", None, "x")]) == []
    # Bounds of long texts are prefixes: too wide, never too narrow.
    assert len(shard.scan(["c1"], ranges=[ColumnRange("c2", "x" * 50 + "001", "x" * 50 + "002")])) == 4
    assert shard.scan(["c1"], ranges=[ColumnRange("c2", "y")]) == []
    assert len(shard.scan(["c1"], ranges=[ColumnRange("c1", "a")])) == 4, "another type proves nothing"


def test_a_column_added_later_is_null_in_older_blocks(tmp_path: Path) -> None:
    before = table((("n", BIGINT),))
    shard = open_shard(tmp_path / "s", definition=before)
    write(shard, 0, [pa.array([1, 2])])
    shard.refresh()
    added = ColumnDefinition(oid=2, name="m", type=BIGINT)
    shard.update_definition(changed_to(before, (*before.columns, added)))
    assert shard.scan(["c1"], ranges=[ColumnRange("c2", 1, 1)]) == []
    assert shard.scan(["c1"], ranges=[ColumnRange("c2", is_null=False)]) == []
    (batch,) = shard.scan(["c2"], ranges=[ColumnRange("c2", is_null=True)])
    assert batch.column(0).to_pylist() == [None, None]
    bounds = shard.bounds("c2")
    assert bounds is not None
    assert (bounds.minimum, bounds.maximum, bounds.null_count, bounds.rows) == (None, None, 2, 2)


def changed_to(definition: TableDefinition, columns: tuple[ColumnDefinition, ...]) -> TableDefinition:
    return TableDefinition(
        name=definition.name, uuid=definition.uuid, oid=definition.oid, columns=columns, version=definition.version + 1
    )


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path: Path, codec: str) -> None:
    """Every byte of every file of a segment: opening or reading says so, or everything is as it was."""
    columns = (("n", BIGINT), ("t", TEXT), ("a", array_of(BIGINT)))
    definition = table(columns, settings={"codec": codec})
    shard = open_shard(tmp_path / "s", definition=definition)
    write(shard, 0, [pa.array([5, None, 7] * 40), long_texts(120, "x"), pa.array([[1], None, [2, 3]] * 40)])
    shard.flush()
    expected = repr(read(shard, columns))
    shard.close()
    found = 0
    for path in sorted((tmp_path / "s" / "seg-1").iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), 1 if path.name != "columns" else 5):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
            try:
                again = open_shard(tmp_path / "s", definition=definition, create=False)
            except ShardFailed:
                found += 1
                continue
            try:
                assert repr(read(again, columns)) == expected
            except ShardFailed as error:
                found += 1
                assert str(error) in str(again.failure), "the copy has failed, and says why"
            else:
                with pytest.raises(ShardFailed):
                    again.verify()
            again.close()
        path.write_bytes(whole)
    assert found > 500


def test_damage_of_a_column_is_found_when_that_column_is_read(tmp_path: Path) -> None:
    definition = table((("n", TEXT), ("t", TEXT)))
    shard = open_shard(tmp_path / "s", definition=definition)
    write(shard, 0, [pa.array([f"one {row}" for row in range(100)]), pa.array([f"two {row}" for row in range(100)])])
    shard.flush()
    shard.close()
    path = tmp_path / "s" / "seg-1" / "columns"
    path.write_bytes(path.read_bytes().replace(b"two 17", b"two 71"))
    again = open_shard(tmp_path / "s", definition=definition, create=False)
    assert len(again.scan(["c1"])) == 1
    with pytest.raises(ShardFailed, match=r"columns is damaged: the checksum of column c2 of block 0"):
        again.scan(["c2"])
    with pytest.raises(ShardFailed, match="column c2 of block 0"):
        again.get(["k1"], ["c1"])


def test_a_merge_that_reads_damage_fails_the_copy(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=table((("t", TEXT),)))
    for first in (0, 100):
        write(shard, first, [pa.array([f"text {row}" for row in range(first, first + 100)])])
        shard.flush()
    shard.close()
    path = tmp_path / "s" / "seg-1" / "columns"
    path.write_bytes(path.read_bytes().replace(b"text 17", b"text 71"))
    again = open_shard(tmp_path / "s", definition=table((("t", TEXT),)), create=False)
    with pytest.raises(ShardFailed):
        again.optimize(max_num_segments=1)
    assert again.failure is not None
    assert "column c1 of block 0" in again.failure


def test_a_segment_of_another_format_is_refused_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = open_shard(tmp_path / "s", definition=table((("n", BIGINT),)))
    write(shard, 0, [pa.array([1])])
    with monkeypatch.context() as patch:
        patch.setattr("cratepy.storage.segment_writing.FORMAT", 3)
        patch.setattr("cratepy.storage.segment.FORMAT", 3)
        shard.flush()
    shard.close()
    with pytest.raises(ShardFailed, match="has format 3; this version reads format 2"):
        open_shard(tmp_path / "s", definition=table((("n", BIGINT),)), create=False)
