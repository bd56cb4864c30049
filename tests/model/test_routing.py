"""Document ids and shards agree with CrateDB to the bit."""

from __future__ import annotations

import base64

import mmh3
import pyarrow as pa
import pytest

from cratepy.clock import FakeClock
from cratepy.model.names import RelationName
from cratepy.model.routing import (
    IdMaker,
    composite_id,
    document_id,
    document_ids,
    key_text,
    routing_hash,
    shard_of,
    shard_router,
    shards_of,
)
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, REAL, TEXT, TIMESTAMP, DataType


def table(
    *columns: tuple[str, DataType], key: tuple[str, ...] = (), clustered_by: str | None = None, shards: int = 4
) -> TableDefinition:
    return TableDefinition(
        name=RelationName("doc", "t"),
        uuid="u",
        oid=1,
        columns=tuple(ColumnDefinition(oid=i + 1, name=n, type=t) for i, (n, t) in enumerate(columns)),
        primary_key=key,
        clustered_by=clustered_by,
        shards=shards,
        routing_shards=shards,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Elasticsearch's Murmur3HashFunctionTests.testKnownValues
        ("hell", 0x5A0CB7C3),
        ("hello", 0xD7C31989),
        ("hello w", 0x22AB2984),
        ("hello wo", 0xDF0CA123),
        ("hello wor", 0xE7744D61),
        ("The quick brown fox jumps over the lazy dog", 0xE07DB09C),
        ("The quick brown fox jumps over the lazy cog", 0x4E63D2AD),
    ],
)
def test_hashes_are_those_of_elasticsearch(text: str, expected: int) -> None:
    assert routing_hash(text) & 0xFFFFFFFF == expected


def test_a_negative_hash_gives_a_shard_by_floor_division() -> None:
    assert routing_hash("hello") < 0
    definition = table(("id", INTEGER), key=("id",), shards=3)
    assert shard_of("hello", definition) == routing_hash("hello") % 3 >= 0


def test_routing_shards_are_folded_onto_shards() -> None:
    definition = TableDefinition(
        name=RelationName("doc", "t"), uuid="u", oid=1, columns=(), shards=2, routing_shards=1024
    )
    assert shard_of("hello", definition) == (routing_hash("hello") % 1024) // 512


@pytest.mark.parametrize("count", [3, 3_000])
def test_many_rows_route_as_each_row_alone(count: int) -> None:
    definition = table(("id", INTEGER), key=("id",), shards=6)
    texts = [str(i * 7919) for i in range(count)] + ["", "a", "ab" * 40]
    assert shards_of(texts, definition).tolist() == [shard_of(text, definition) for text in texts]
    assert [shard_router(definition)(text) for text in texts] == [shard_of(text, definition) for text in texts]


def test_texts_beyond_ascii_are_hashed_as_utf_16() -> None:
    definition = table(("id", TEXT), key=("id",), shards=5)
    texts = [f"größe {i} 😀" for i in range(2_100)]
    expected = [mmh3.hash(text.encode("utf-16-le"), 0) % 5 for text in texts]
    assert shards_of(texts, definition).tolist() == expected


@pytest.mark.parametrize(
    ("value", "data_type", "text"),
    [
        (5, INTEGER, "5"),
        (-(2**63), BIGINT, "-9223372036854775808"),
        ("ä", TEXT, "ä"),
        (True, BOOLEAN, "t"),
        (False, BOOLEAN, "f"),
        (1.0, DOUBLE, "1.0"),
        (0.1, REAL, "0.1"),
        (1e20, DOUBLE, "1.0E20"),
        (1.5e-7, DOUBLE, "1.5E-7"),
        (1234567.5, DOUBLE, "1234567.5"),
        (1e7, DOUBLE, "1.0E7"),
        (float("nan"), DOUBLE, "NaN"),
        (1577836800000, TIMESTAMP, "1577836800000"),
    ],
)
def test_key_texts_are_javas(value: object, data_type: DataType, text: str) -> None:
    assert key_text(value, data_type) == text


def test_the_id_of_one_key_column_is_its_text() -> None:
    definition = table(("id", INTEGER), key=("id",))
    assert document_id((7,), definition) == "7"
    assert document_ids([pa.array([7, -1], type=pa.int32())], definition) == ["7", "-1"]
    stamps = table(("ts", TIMESTAMP), key=("ts",))
    assert document_ids([pa.array([5], type=pa.timestamp("ms"))], stamps) == ["5"]


def test_the_id_of_several_key_columns_is_their_lengths_and_bytes() -> None:
    definition = table(("a", INTEGER), ("b", TEXT), key=("a", "b"))
    # vint(2), vint(1) "1", vint(2) "xy"
    assert document_id((1, "xy"), definition) == base64.b64encode(b"\x02\x011\x02xy").decode()
    arrays = [pa.array([1, 2], type=pa.int32()), pa.array(["xy", "z"])]
    assert document_ids(arrays, definition) == [document_id((1, "xy"), definition), document_id((2, "z"), definition)]


def test_the_clustered_by_value_stands_first_in_a_composite_id() -> None:
    definition = table(("a", INTEGER), ("b", TEXT), key=("a", "b"), clustered_by="b")
    assert document_id((1, "xy"), definition) == base64.b64encode(b"\x02\x02xy\x011").decode()


def test_long_parts_have_a_length_of_several_bytes() -> None:
    encoded = base64.b64decode(composite_id(["a" * 300, "b"], None))
    assert encoded[:3] == b"\x02\xac\x02"


def test_made_ids_are_twenty_characters_and_never_repeat() -> None:
    maker = IdMaker(FakeClock(seed=1))
    ids = maker.take(1) + maker.take(1000) + maker.take(1)
    assert len(set(ids)) == 1002
    assert {len(text) for text in ids} == {20}
    other = IdMaker(FakeClock(seed=2))
    assert not set(ids) & set(other.take(1000))
