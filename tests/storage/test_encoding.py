"""What is encoded is decoded, as an array, as views and cell by cell; and it is small."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cratepy.clock import FakeClock
from cratepy.model.arrow import from_arrow, stored_type, to_arrow
from cratepy.model.routing import IdMaker
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NUMERIC,
    OBJECT,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    array_of,
)
from cratepy.storage.cells import cell_reader
from cratepy.storage.decoding import decode, decode_views, piece_reader
from cratepy.storage.encoding import Encoding, Piece, encode
from cratepy.storage.statistics import value_bounds

ROWS = 200


def encoded(array: pa.Array, **how: Any) -> tuple[Piece, bytes]:
    piece, data = encode(array, *value_bounds(array), **how)
    assert len(data) % 8 == 0 or piece.encoding is Encoding.ARROW
    return piece, data


def check(array: pa.Array, data_type: DataType, **how: Any) -> tuple[Piece, bytes]:
    """Every way of reading gives what was written."""
    piece, data = encoded(array, **how)
    buffer, rows = pa.py_buffer(data), len(array)
    back = decode(piece, buffer, rows, array.type)
    back.validate(full=True)
    assert back.type == array.type
    assert bits(back) == bits(array)
    if array.type == pa.string():
        views, _ = decode_views(piece, buffer, rows)
        views.validate(full=True)
        assert views.to_pylist() == array.to_pylist()
    read = piece_reader(piece, buffer, rows, array.type, data_type) or cell_reader(back, data_type)
    expected = from_arrow(array, data_type)
    assert [repr(read(row)) for row in range(rows)] == list(map(repr, expected))
    return piece, data


def bits(array: pa.Array) -> Any:
    """Values that tell −0.0 from 0.0 and are equal to themselves as NaN."""
    if pa.types.is_floating(array.type):
        return [None if value is None else struct.pack("<d", value) for value in array.to_pylist()]
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    elif pa.types.is_date32(array.type):
        array = array.view(pa.int32())
    return array.to_pylist()


INTEGERS = {
    "constant": [7] * ROWS,
    "sequence": list(range(50, 50 + 3 * ROWS, 3)),
    "falling": list(range(100, 100 - ROWS, -1)),
    "small": [i * 31 % 100 for i in range(ROWS)],
    "far from zero": [2**62 + i * 31 % 100 for i in range(ROWS)],
    "negative": [-(2**40) - i * 31 % 1000 for i in range(ROWS)],
    "rising with gaps": [i * 1_000_003 + i * i % 7 for i in range(ROWS)],
    "rising and falling": [(i % 64) + i // 64 * 10**12 for i in range(ROWS)],
    "edges": [-(2**63), 2**63 - 1] * (ROWS // 2),
    "few values": [(2**60, -5, 0, 2**40)[i % 4] for i in range(ROWS)],
    "one": [5],
    "two": [2**63 - 1, -(2**63)],
    "sixty-five": [i * i * 2**33 for i in range(65)],
}


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("nulls", [0, 1, 3])
def test_integers_come_back(name: str, nulls: int) -> None:
    values: list[int | None] = list(INTEGERS[name])
    for row in range(nulls):
        values[row * 7 % len(values)] = None
    check(pa.array(values, pa.int64()), BIGINT)
    check(pa.array(values, pa.timestamp("ms")), TIMESTAMPTZ)


@pytest.mark.parametrize(("data_type", "low", "high"), [(BYTE, -128, 127), (SMALLINT, -(2**15), 2**15 - 1), (INTEGER, -(2**31), 2**31 - 1)])  # fmt: skip
def test_narrow_integers_come_back(data_type: DataType, low: int, high: int) -> None:
    chance = random.Random(1)
    for values in (
        [low, high] * 50,
        [low] * 100,
        [chance.randint(low, high) for _ in range(300)],
        [low + i for i in range(100)],
        [high - i % 3 for i in range(300)],
        [None, low, high, None],
    ):
        check(pa.array(values, stored_type(data_type)), data_type)


def test_random_integers_come_back() -> None:
    chance = random.Random(2)
    for _ in range(200):
        rows, low, span = chance.choice((1, 2, 63, 64, 65, 128, 129, 500)), chance.randint(-(2**62), 2**62), chance.choice((0, 1, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**61))  # fmt: skip
        rising = chance.random() < 0.3
        values: list[int | None] = [chance.randint(low, low + span) for _ in range(rows)]
        if rising:
            values.sort(key=lambda value: value or 0)
        if chance.random() < 0.3:
            values = [None if chance.random() < 0.2 else value for value in values]
        check(pa.array(values, pa.int64()), BIGINT)


FLOATS: list[float | None] = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1, None]


@pytest.mark.parametrize("rows", [1, 5, 9, 300])
@pytest.mark.parametrize("data_type", [REAL, DOUBLE])
def test_floats_come_back_to_the_bit(rows: int, data_type: DataType) -> None:
    check(pa.array((FLOATS * 40)[:rows], stored_type(data_type)), data_type)
    check(pa.array([random.Random(3).random() for _ in range(rows)], stored_type(data_type)), data_type)
    check(pa.array([-0.0] * rows, stored_type(data_type)), data_type)


@pytest.mark.parametrize("values", [[True] * 70, [False], [True, False] * 9, [None, True], [None] * 3, [None, False, True]])  # fmt: skip
def test_booleans_come_back(values: list[bool | None]) -> None:
    check(pa.array(values, pa.bool_()), BOOLEAN)


@pytest.mark.parametrize("first", [0, 3, 8])
@pytest.mark.parametrize("rows", [61, 64])
@pytest.mark.parametrize("has_nulls", [False, True])
def test_a_slice_of_booleans_is_encoded_as_what_it_shows(first: int, rows: int, has_nulls: bool) -> None:
    chance = random.Random(first)
    values = [chance.choice([True, False, None] if has_nulls else [True, False]) for _ in range(100)]
    check(pa.array(values, pa.bool_()).slice(first, rows), BOOLEAN)


@pytest.mark.parametrize("data_type", [SMALLINT, INTEGER])
def test_narrow_integers_that_rise_from_group_to_group_come_back(data_type: DataType) -> None:
    highest = 2**15 - 1 if data_type is SMALLINT else 2**31 - 1
    values = [-highest - 1 + (i // 64) * (highest // 4) + i * 7 % 64 for i in range(512)]
    piece, _ = check(to_arrow(values, data_type), data_type)
    assert (piece.encoding, piece.step) == (Encoding.FRAME, 64)


TEXTS: dict[str, list[str | None]] = {
    "empty": [""] * 10,
    "one": ["x"],
    "short": [f"t{i}" for i in range(ROWS)],
    "same length": [f"{i:08}" for i in range(ROWS)],
    "few": [("red", "green", "blue and more than twelve bytes")[i % 3] for i in range(ROWS)],
    "constant": ["always the same, and long enough for a buffer"] * ROWS,
    "nulls": [None if i % 3 else f"text {i}" for i in range(ROWS)],
    "few and nulls": [("a", None, "")[i % 3] for i in range(ROWS)],
    "big": ["x" * (i * 1009 % 32_766) for i in range(ROWS)],
    "one big": ["a", "y" * 32_766, ""],
    "odd": ["\0", "a\0b", "ä", "𝄞", "\U0010ffff", "\u2028", '"', "\\", "\x7f", ""],
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_come_back(name: str) -> None:
    check(pa.array(TEXTS[name], pa.string()), TEXT)
    check(pa.array([*TEXTS[name], None], pa.string()), TEXT)


def test_a_slice_is_encoded_as_what_it_shows() -> None:
    for name in TEXTS:
        check(pa.array([None, "left out", *TEXTS[name], "left out"], pa.string()).slice(1, len(TEXTS[name])), TEXT)
    check(pa.array([1, None, 3, 4, None, 6]).slice(1, 4), BIGINT)
    check(pa.array([True, None, False, True, None]).slice(1, 3), BOOLEAN)
    check(pa.array([[1], None, [2, 3], []], pa.list_(pa.int64())).slice(1, 2), array_of(BIGINT))


@pytest.mark.parametrize(
    ("data_type", "values"),
    [
        (DATE, [0, 86_400_000, None, -86_400_000 * 700_000]),
        (OBJECT, [{"a": 1}, None, {}, {"b": [1, {"c": "ä"}]}]),
        (NUMERIC, ["1.5", None, "-0.000000000000000001"]),
        (INTERVAL, [[1, 2, 3], None]),
        (array_of(TEXT), [["a", None], [], None, ["b"]]),
        (array_of(BIGINT), [[1, 2], None, []]),
    ],
)
@pytest.mark.parametrize("times", [1, 40])
def test_other_types_come_back(data_type: DataType, values: list[Any], times: int) -> None:
    check(to_arrow(values * times, data_type, at_rest=True), data_type)


def test_generated_ids_take_two_bytes() -> None:
    ids = IdMaker(FakeClock()).take(5000)
    piece, data = check(pa.array(ids[::3]), TEXT, is_id=True)
    assert piece.encoding is Encoding.KEYS
    assert len(data) < 2 * len(ids[::3])


def test_generated_ids_of_several_processes_come_back() -> None:
    makers = [IdMaker(FakeClock(seed=seed)) for seed in range(3)]
    ids = [made for _ in range(20) for maker in makers for made in maker.take(50)]
    piece, _ = check(pa.array(ids), TEXT, is_id=True)
    assert (piece.encoding, piece.count) == (Encoding.KEYS, 3)


@pytest.mark.parametrize("last", ["", "x" * 20, "ä" * 10, "a" * 19 + "=", "a" * 21])
def test_ids_among_which_one_looks_different_come_back(last: str) -> None:
    check(pa.array([*IdMaker(FakeClock()).take(10), last]), TEXT, is_id=True)


@pytest.mark.parametrize(
    "key",
    [
        pa.array([1, -5, 2**63 - 1, -(2**63)]),
        pa.array([0, 17], pa.int8()),
        pa.array([0, -1, 1700000000000], pa.timestamp("ms")),
        pa.array(["a", "", "1"]),
    ],
)
def test_ids_that_are_the_text_of_the_key_take_nothing(key: pa.Array) -> None:
    whole = key.view(pa.int64()) if pa.types.is_timestamp(key.type) else key
    piece, data = encoded(whole.cast(pa.string()), is_id=True, key=("c1", key))
    assert (piece.encoding, piece.source, data) == (Encoding.SAME, "c1", b"")


@pytest.mark.parametrize(("ids", "key"), [(["1", "3"], [1, 2]), (["01"], [1]), (["+1"], [1]), (["1"], [None]), (["a"], [1]), (["٣"], [3])])  # fmt: skip
def test_ids_that_are_not_the_text_of_the_key_are_kept(ids: list[str], key: list[int | None]) -> None:
    check(pa.array(ids), TEXT, is_id=True, key=("c1", pa.array(key, pa.int64())))


@pytest.mark.parametrize(
    ("values", "encoding", "bytes_max"),
    [
        (np.arange(65_536), Encoding.SEQUENCE, 0),
        (np.full(65_536, 12), Encoding.FRAME, 0),
        (np.arange(65_536) * 7 % 200, Encoding.FRAME, 65_536),
        (np.arange(65_536) * 7919 % 60_000, Encoding.FRAME, 2 * 65_536),
        (np.arange(65_536) * 1000 + np.arange(65_536) % 7, Encoding.FRAME, 2 * 65_536 + 8_192),
        (np.arange(65_536) % 100 * 2**50, Encoding.DICTIONARY, 65_536 + 800),
        (np.random.default_rng(1).integers(-(2**62), 2**62, 65_536), Encoding.PLAIN, 8 * 65_536),
    ],
)
def test_numbers_are_as_small_as_they_can_be_read(values: np.ndarray, encoding: Encoding, bytes_max: int) -> None:
    piece, data = encoded(pa.array(values))
    assert piece.encoding is encoding
    assert len(data) <= bytes_max
