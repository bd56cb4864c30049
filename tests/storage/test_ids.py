"""Arrays of ids: texts, hashes and numbers of the same ids, whole and in parts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cratepy.storage.hashing import hash_id
from cratepy.storage.ids import IdArray


def test_an_array_is_the_sequence_it_was_made_of() -> None:
    texts = ["b", "a", "", "ü" * 40, "b"]
    ids = IdArray.of(texts)
    assert list(ids) == texts
    assert ids[3] == texts[3]
    assert list(ids[1:3]) == texts[1:3]
    assert ids.hashes.tolist() == [hash_id(text) for text in texts]
    taken = ids.take(np.array([4, 2]))
    assert list(taken) == ["b", ""]
    assert taken.hashes.tolist() == [hash_id("b"), hash_id("")]
    assert ids[2:].hashes.tolist() == ids.hashes[2:].tolist()
    assert IdArray.of(ids) is ids


@pytest.mark.parametrize(("texts", "has_repeats"), [(["a", "b"], False), (["a", "b", "a"], True), (["a"], False)])
def test_repeats_are_seen(texts: list[str], has_repeats: bool) -> None:
    assert IdArray.of(texts).has_repeats is has_repeats


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", "-7", "0", str(2**63 - 1), str(-(2**63))], [1, -7, 0, 2**63 - 1, -(2**63)]),
        (["1", "007"], None),
        (["1", "x"], None),
        (["x", "1"], None),
        (["1", "+1"], None),
        (["1", "-0"], None),
        (["1", " 1"], None),
        ([str(2**63)], None),
        (["1", ""], None),
        (["²"], None),
    ],
)
def test_only_texts_that_an_integer_is_written_as_are_numbers(texts: list[str], numbers: list[int] | None) -> None:
    found = IdArray.of(texts).numbers
    assert (None if found is None else found.tolist()) == numbers


def test_no_ids_are_no_numbers_wrongly() -> None:
    assert len(IdArray(pa.array([], pa.string())).hashes) == 0
