"""The vectorised hash is xxh3-64, byte for byte of every length's way."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
import xxhash

from cratepy.storage.bulk_hashing import hash_array
from cratepy.storage.hashing import hash_id, hash_ids


@pytest.mark.parametrize("length", [*range(140), 200, 240, 241, 1_000])
def test_texts_of_one_length_hash_as_one_by_one(length: int) -> None:
    chance = random.Random(length)
    texts = ["".join(chance.choice("abcxyz0189-_") for _ in range(length)) for _ in range(9)]
    assert hash_array(pa.array(texts, pa.string())).tolist() == [xxhash.xxh3_64_intdigest(t.encode()) for t in texts]


def test_mixed_lengths_slices_and_more_than_a_slice_of_rows_hash_as_one_by_one() -> None:
    chance = random.Random(7)
    texts = ["é" * chance.randrange(90) + str(i) for i in range(20_000)]
    array = pa.array(texts, pa.string())
    expected = [hash_id(text) for text in texts]
    assert hash_array(array).tolist() == expected
    assert hash_array(array.slice(17, 5_000)).tolist() == expected[17:5_017]
    assert hash_ids(texts[:10]).tolist() == expected[:10]
    assert hash_ids(texts).tolist() == expected


def test_no_texts_have_no_hashes() -> None:
    assert hash_array(pa.array([], pa.string())).tolist() == []
