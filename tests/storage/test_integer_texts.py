"""Texts are taken for integers exactly if they are what Python writes for one of 64 bits."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from cratepy.storage.integer_texts import integers_of

OTHERS = ["007", "0x10", "+5", "-0", "", "1 ", " 1", "1.0", "1e3", "٣", "a", "12345678901234567890", "1/2", "00"]


@pytest.mark.parametrize("high", [10, 1_000, 10**9, 10**18, 1 << 63])
@pytest.mark.parametrize("low", [0, 1])
def test_texts_of_integers_are_parsed(low: int, high: int) -> None:
    chance = random.Random(high)
    numbers = [chance.randrange(-high * low, high) for _ in range(500)] + [0, high - 1]
    texts = pa.array(["x", *map(str, numbers), "y"]).slice(1, len(numbers))
    found = integers_of(texts)
    assert found is not None
    assert found.tolist() == numbers
    same_length = [number for number in numbers if len(str(number)) == len(str(high - 1))]
    assert (integers_of(pa.array(list(map(str, same_length)))) == same_length).all()


@pytest.mark.parametrize("other", OTHERS)
def test_one_other_text_and_there_are_no_integers(other: str) -> None:
    for texts in ([other], ["12", other], [other, "12"], ["1" * max(len(other), 1), other], ["-1", other]):
        assert integers_of(pa.array(texts)) is None


def test_no_texts_are_no_integers_to_compare() -> None:
    found = integers_of(pa.array([], pa.string()))
    assert found is not None
    assert len(found) == 0
