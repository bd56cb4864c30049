"""Hashes of many routing texts at once are those of each text alone."""

from __future__ import annotations

import random

import mmh3
import pyarrow as pa
import pytest

from cratepy.model.bulk_routing import hashes_of_texts


def alone(texts: list[str]) -> list[int]:
    return [mmh3.hash(text.encode("utf-16-le"), 0) for text in texts]


def test_texts_of_all_lengths_hash_as_each_alone() -> None:
    chance = random.Random(1)
    for _ in range(60):
        longest = chance.choice([0, 1, 2, 3, 8, 20])
        texts = ["".join(chance.choices("aZ09-~\x00\x7f", k=chance.randint(0, longest))) for _ in range(700)]
        assert hashes_of_texts(pa.array(texts, pa.string())).tolist() == alone(texts)


@pytest.mark.parametrize("length", range(10))
def test_texts_of_one_length_hash_as_each_alone(length: int) -> None:
    texts = [str(10**9 + number)[10 - length :] for number in range(500)]
    assert hashes_of_texts(pa.array(texts, pa.string())).tolist() == alone(texts)


@pytest.mark.parametrize(
    "texts", [[], ["7"], ["größe", "😀", ""] * 300, ["x" * 4000, "y"], [str(i) for i in range(3000)]]
)
def test_few_long_and_other_texts_hash_as_each_alone(texts: list[str]) -> None:
    assert hashes_of_texts(pa.array(texts, pa.string())).tolist() == alone(texts)


def test_a_slice_of_an_array_is_hashed_where_it_lies() -> None:
    texts = [f"{number}" for number in range(2_000)]
    assert hashes_of_texts(pa.array(texts, pa.string()).slice(900, 700)).tolist() == alone(texts[900:1600])
