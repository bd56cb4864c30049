"""Leaves are what the subscript gives, whichever way they are made, stored or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.functions.casts import json_value_as
from cratepy.model.arrow import from_arrow
from cratepy.model.leaves import Leaf, leaf_at, leaves_of
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    REAL,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    Field,
    array_of,
    numeric,
    object_of,
)
from cratepy.storage.leaves import WAYS, shred
from cratepy.storage.operations import ColumnRange, WriteBatch
from tests.storage.shards import open_shard, scanned, table

ITEM = object_of((Field("x", INTEGER), Field("y", TEXT)))
TYPE = object_of(
    (
        Field("a", BIGINT),
        Field("s", TEXT),
        Field("d", DOUBLE),
        Field("b", BOOLEAN),
        Field("l", array_of(INTEGER)),
        Field("n", object_of((Field("ts", TIMESTAMPTZ), Field("r", REAL), Field("it's", TEXT)), "strict")),
        Field("items", array_of(ITEM)),
        Field("free", object_of((Field("z", BIGINT),), "ignored")),
        Field("open", array_of(DataType("undefined"))),
    )
)
OBJECT = ColumnDefinition(oid=5, name="o", type=TYPE)
ARRAY = ColumnDefinition(oid=6, name="items", type=array_of(ITEM))


def json_column(values: list[Any]) -> pa.Array:
    encode = msgspec.json.encode
    if any(isinstance(value, list) for value in values):
        return pa.array(
            [None if v is None else [None if i is None else encode(i).decode() for i in v] for v in values],
            pa.list_(pa.string()),
        )
    return pa.array([None if value is None else encode(value).decode() for value in values], pa.string())


def subscript(value: Any, leaf: Leaf) -> Any:
    """The leaf by its definition: key after key, arrays of objects element by element."""
    for key in leaf.path:
        if isinstance(value, list):
            value = [None if item is None else item.get(key) for item in value]
        else:
            value = None if value is None else value.get(key)
    return json_value_as(value, leaf.type)


def test_the_leaves_of_a_column_are_its_scalars_and_arrays_outside_of_ignored_objects() -> None:
    assert [(leaf.source, leaf.type.name) for leaf in leaves_of(OBJECT)] == [
        ("c5['a']", "bigint"), ("c5['s']", "text"), ("c5['d']", "double precision"), ("c5['b']", "boolean"),
        ("c5['l']", "integer_array"), ("c5['n']['ts']", "timestamp with time zone"), ("c5['n']['r']", "real"),
        ("c5['n']['it''s']", "text"), ("c5['items']['x']", "integer_array"), ("c5['items']['y']", "text_array"),
    ]  # fmt: skip
    assert [(leaf.source, leaf.type.name) for leaf in leaves_of(ARRAY)] == [
        ("c6['x']", "integer_array"), ("c6['y']", "text_array"),
    ]  # fmt: skip


def test_a_path_finds_the_leaf_that_the_column_has() -> None:
    for column in (OBJECT, ARRAY):
        for leaf in leaves_of(column):
            assert leaf_at(leaf.base, column.type, leaf.path) == leaf
    for path in ((), ("n",), ("items",), ("free", "z"), ("open",), ("a", "b"), ("nothing",)):
        assert leaf_at("c5", TYPE, path) is None


_texts = st.text(st.characters(codec="utf-8"), max_size=6)
_bigints = st.integers(-(2**63), 2**63 - 1)
_items = st.none() | st.fixed_dictionaries(
    {}, optional={"x": st.none() | st.integers(-(2**31), 2**31 - 1), "y": st.none() | _texts, "more": _texts}
)
_objects = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "a": st.none() | _bigints,
        "s": st.none() | _texts,
        "d": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.just("NaN"),
        "b": st.none() | st.booleans(),
        "l": st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=3),
        "n": st.none()
        | st.fixed_dictionaries(
            {},
            optional={"ts": _bigints, "r": st.floats(width=32, allow_nan=False, allow_infinity=False), "it's": _texts},
        ),
        "items": st.none() | st.lists(_items, max_size=3),
        "free": st.just({"z": 1}),
        "open": st.just([]),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_objects, min_size=1, max_size=8))
def test_shredding_gives_what_the_subscript_gives(values: list[Any]) -> None:
    leaves = list(leaves_of(OBJECT))
    column = json_column(values)
    for leaf, array in zip(leaves, shred(column, leaves), strict=True):
        # Texts of both, so that NaN equals NaN.
        assert repr(from_arrow(array, leaf.type)) == repr([subscript(value, leaf) for value in values])
    if not any(value and "NaN" in value.values() for value in values):
        one, *others = (make(column, leaves) for make in WAYS.values())
        for other in others:
            assert all(left.equals(right) for left, right in zip(one, other, strict=True))


def test_many_leaves_are_made_by_what_is_there() -> None:
    wide = object_of(tuple(Field(f"k{i}", BIGINT if i % 2 else TEXT) for i in range(200)))
    leaves = list(leaves_of(ColumnDefinition(oid=5, name="o", type=wide)))
    values = [
        None if row == 3 else {f"k{i}": i if i % 2 else f"v{i}" for i in range(row, row + 5)} for row in range(20)
    ]
    for leaf, array in zip(leaves, shred(json_column(values), leaves), strict=True):
        assert from_arrow(array, leaf.type) == [subscript(value, leaf) for value in values]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.lists(_items, max_size=3), min_size=1, max_size=8), st.integers(0, 2))
def test_leaves_of_an_array_of_objects_are_arrays(values: list[Any], skipped: int) -> None:
    leaves = list(leaves_of(ARRAY))
    column = json_column([[], *values]).slice(1).slice(skipped)
    values = values[skipped:]
    for leaf, array in zip(leaves, shred(column, leaves), strict=True):
        assert from_arrow(array, leaf.type) == [subscript(value, leaf) for value in values]


@pytest.mark.parametrize("data_type", [DATE, numeric(10, 2), array_of(numeric(10, 2))])
def test_kinds_that_arrow_does_not_parse_are_decoded(data_type: DataType) -> None:
    value = {DATE: 86_400_000, numeric(10, 2): "1.50"}.get(data_type, ["1.50", None])
    leaf = Leaf("c5", ("k",), data_type)
    (array,) = shred(json_column([{"k": value}, None, {"k": None}]), [leaf])
    assert from_arrow(array, data_type) == [value, None, None]


def test_a_value_that_is_not_of_the_type_is_null_and_spoils_no_other() -> None:
    leaf = Leaf("c5", ("k",), BIGINT)
    (array,) = shred(json_column([{"k": 1}, {"k": "x"}, {"k": {}}, {"k": 2}]), [leaf])
    assert array.to_pylist() == [1, None, None, 2]


# --- shards ----------------------------------------------------------------------------------------------------------


def definition(data_type: DataType, **more: Any) -> TableDefinition:
    return table([("n", BIGINT), ("o", data_type)], **more)


def write(shard: Any, values: dict[str, Any]) -> None:
    rows = pa.RecordBatch.from_arrays(
        [pa.array(range(len(values)), pa.int64()), json_column(list(values.values()))], names=["c1", "c2"]
    )
    shard.write(WriteBatch(kind="index", ids=list(values), rows=rows, primary_term=1))


SMALL = object_of((Field("a", BIGINT), Field("t", TEXT)))
WIDER = object_of((*SMALL.fields, Field("late", BIGINT)))


def test_a_leaf_is_read_before_and_after_a_refresh_and_from_a_segment_without_it(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=definition(SMALL))
    write(shard, {"1": {"a": 1, "t": "x", "late": 7}, "2": None, "3": {"t": "z"}})
    assert shard.get(["1", "2", "3"], ["c2['a']", "c2['t']"]) == [(1, "x"), (None, None), (None, "z")]
    shard.refresh()
    shard.update_definition(definition(WIDER, version=2))
    write(shard, {"4": {"a": 4, "late": 8}})
    shard.refresh()
    sources = ("_id", "c2['a']", "c2['late']")
    expected = [("1", 1, 7), ("2", None, None), ("3", None, None), ("4", 4, 8)]
    assert scanned(shard, sources) == expected
    assert shard.get(["1", "4"], sources) == [expected[0], expected[3]]
    shard.write(WriteBatch(kind="delete", ids=["2"], rows=None, primary_term=1))
    shard.refresh()
    assert scanned(shard, sources) == [expected[0], expected[2], expected[3]]


def test_a_merge_makes_the_leaves_that_its_segments_lack(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=definition(SMALL))
    write(shard, {"1": {"a": 1, "late": 7}, "2": {"a": 2}})
    shard.refresh()
    shard.update_definition(definition(WIDER, version=2))
    write(shard, {"3": {"a": 3, "late": 9}})
    shard.refresh()
    assert shard.bounds("c2['late']") is None
    shard.optimize(max_num_segments=1)
    bounds = shard.bounds("c2['late']")
    assert bounds is not None
    assert (bounds.minimum, bounds.maximum, bounds.null_count) == (7, 9, 1)
    assert scanned(shard, ("_id", "c2['late']")) == [("1", 7), ("2", None), ("3", 9)]


def test_statistics_of_leaves_skip_blocks_and_their_absence_does_not(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=definition(SMALL))
    write(shard, {"1": {"a": 1, "late": 5}})
    shard.refresh()
    shard.update_definition(definition(WIDER, version=2))
    write(shard, {"2": {"a": 100, "late": 6}})
    shard.refresh()
    over_50 = [ColumnRange("c2['a']", minimum=50)]
    assert [batch.num_rows for batch in shard.scan(("_id",), ranges=over_50)] == [1]
    late = [ColumnRange("c2['late']", minimum=5, maximum=5, is_null=False)]
    assert [row for batch in shard.scan(("_id",), ranges=late) for row in batch.column(0).to_pylist()] == ["1"]


def test_leaves_survive_a_reopening(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "s", definition=definition(SMALL))
    write(shard, {"1": {"a": 1}, "2": {"a": 2, "t": "é"}})
    shard.refresh()
    shard.flush()
    write(shard, {"3": {"a": 3}})
    shard.close()
    shard = open_shard(tmp_path / "s", definition=definition(SMALL), create=False)
    shard.refresh()
    assert scanned(shard, ("c2['a']", "c2['t']")) == [(1, None), (2, "é"), (3, None)]
    shard.verify()
