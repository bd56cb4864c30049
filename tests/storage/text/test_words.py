"""Columns split at once are split as text by text."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.functions.analysis.tokenizers import split_standard
from cratepy.storage.text.words import separated_column

_PIECES = st.sampled_from(
    ["a", "B", "1", "23", ".", "'", ":", ",", ";", " ", "_", "-", "é", "×", "÷", "Ж", "ß", "漢", "か", "👍", "\x00", "\n", "\u00a0",
     "\u2019", "x" * 254, "y" * 300, "1" * 256, "·", "ª", "\u0301", "ก", "İ", "ŉ"]
)  # fmt: skip
_TEXTS = st.lists(st.none() | st.lists(_PIECES, max_size=12).map("".join) | st.text(max_size=20), max_size=12)


@settings(max_examples=400, deadline=None)
@given(_TEXTS, st.integers(0, 3))
def test_the_words_of_a_column_are_those_of_its_texts(texts: list[str | None], skipped: int) -> None:
    array = pa.array(texts, pa.string()).slice(skipped)
    separated = separated_column(array)
    assert [None if text is None else text.split() for text in separated] == [
        None if text is None else split_standard(text) for text in texts[skipped:]
    ]


def test_marks_do_not_join_the_words_of_neighbouring_rows() -> None:
    assert separated_column(pa.array(["a.", "b", ".c", None, "1,", "2"])) == ["a ", "b", " c", None, "1 ", "2"]
