"""The ``standard`` tokenizer over whole columns: texts in which blanks alone separate the words.

In: an array of texts at rest. Out: one text per row whose words, split at blanks, are what
:func:`~cratepy.functions.analysis.tokenizers.split_standard` gives. The index then only needs its fastest tokenizer: with a
regular expression per text, building was six times slower.

Bytes are classified at once with numpy. Texts of ASCII, Latin and Cyrillic letters need no more; rows with anything else
(or underscores that touch no word, or words above the limit) are split one by one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from cratepy.functions.analysis.tokenizers import TOKEN_CHARS_MAX, split_standard

_SEPARATOR, _LETTER, _DIGIT, _MID_LETTER, _MID_NUMBER, _MID_BOTH, _JOINER, _HARD = range(8)


def _classes() -> np.ndarray:
    classes: np.ndarray = np.full(256, _HARD, dtype=np.uint8)
    for byte in range(128):
        char = chr(byte)
        classes[byte] = _LETTER if char.isalpha() else _DIGIT if char.isdigit() else _SEPARATOR
    for chars, kind in ((":", _MID_LETTER), (",;", _MID_NUMBER), (".'", _MID_BOTH), ("_", _JOINER)):
        for char in chars:
            classes[ord(char)] = kind
    # Continuation bytes, and the first bytes of U+00C0-U+017F and U+0400-U+047F: all letters but U+00D7 and U+00F7.
    classes[0x80:0xC0] = _LETTER
    classes[[0xC3, 0xC4, 0xC5, 0xD0, 0xD1]] = _LETTER
    return classes


_BLANK: Final = 32
#: Tables for ``bytes.translate``, which takes a tenth of the time of numpy's indexing.
_CLASSES: Final = _classes().tobytes()
#: A byte that separates becomes a blank, all others stay.
_BLANKED: Final = np.where(_classes() == _SEPARATOR, _BLANK, np.arange(256)).astype(np.uint8).tobytes()


#: Bytes of text that are looked at together.
_PIECE_BYTES: Final = 1 << 18


def separated(text: str) -> str:
    """One text, in the form of :func:`separated_column`."""
    return " ".join(split_standard(text))


def separated_column(array: pa.Array) -> list[str | None]:
    """Per row the words of a text with blanks between them; NULL stays. ``array``: string."""
    assert array.type == pa.string()
    rows = len(array)
    if rows == 0:
        return []
    offsets: np.ndarray = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + rows + 1]
    size = int(offsets[-1]) - int(offsets[0])
    if size == 0:
        return [None if text is None else "" for text in array.to_pylist()]
    # Pieces that stay in the processor's cache, which is passed over ten times.
    step = max(1, rows * _PIECE_BYTES // size)
    texts: list[str | None] = []
    for first in range(0, rows, step):
        texts.extend(_separated_piece(array.slice(first, step), offsets[first : first + step + 1]))
    return texts


def _separated_piece(array: pa.Array, offsets: np.ndarray) -> list[str | None]:
    rows = len(array)
    validity, _, data_buffer = array.buffers()
    content = memoryview(data_buffer)[int(offsets[0]) : int(offsets[-1])].tobytes()
    if not content:
        return [None if text is None else "" for text in array.to_pylist()]
    offsets = offsets - offsets[0]
    kinds: np.ndarray = np.frombuffer(content.translate(_CLASSES), dtype=np.uint8)
    words: np.ndarray = np.frombuffer(bytearray(content.translate(_BLANKED)), dtype=np.uint8)
    begins_row: np.ndarray = np.zeros(len(kinds) + 1, dtype=bool)
    begins_row[offsets] = True
    special = np.flatnonzero(kinds >= _MID_LETTER)
    hard = []
    if len(special):
        found = kinds[special]
        _blank_outer_marks(special[found <= _MID_BOTH], kinds, words, begins_row)
        hard.append(special[found == _HARD])
        hard.append(_lonely_joiners(special[found == _JOINER], kinds, begins_row))
    if not content.isascii():
        data: np.ndarray = np.frombuffer(content, dtype=np.uint8)
        hard.append(np.flatnonzero((data[:-1] == 0xC3) & ((data[1:] == 0x97) | (data[1:] == 0xB7))))
    if int(np.diff(offsets).max()) > TOKEN_CHARS_MAX:
        hard.append(_within_long_words(words, begins_row))
    hard_rows = np.unique(offsets.searchsorted(np.concatenate(hard), side="right") - 1).tolist() if hard else []
    if array.null_count:
        bits = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")
        validity = pa.py_buffer(np.packbits(bits[array.offset : array.offset + rows], bitorder="little"))
    else:
        validity = None
    buffers = [validity, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(words)]
    texts: list[str | None]
    if not hard_rows:
        texts = pa.StringArray.from_buffers(rows, buffers[1], buffers[2], validity).to_pylist()
        return texts
    # What was blanked in a hard row may be no UTF-8 any more, but it is not looked at.
    raw = pa.BinaryArray.from_buffers(pa.binary(), rows, buffers).to_pylist()
    for row in hard_rows:
        text = array[row].as_py()
        raw[row] = None if text is None else separated(text).encode()
    return [None if text is None else text.decode() for text in raw]


def _blank_outer_marks(at: np.ndarray, kinds: np.ndarray, words: np.ndarray, begins_row: np.ndarray) -> None:
    """``.``, ``'``, ``:``, ``,``, ``;`` stay between two letters or two digits of one row, as Unicode says."""
    mark = kinds[at]
    before = kinds[np.maximum(at - 1, 0)]
    after = kinds[np.minimum(at + 1, len(kinds) - 1)]
    in_letters = (before == _LETTER) & (after == _LETTER) & (mark != _MID_NUMBER)
    in_digits = (before == _DIGIT) & (after == _DIGIT) & (mark != _MID_LETTER)
    is_inner = ~(begins_row[at] | begins_row[at + 1])
    words[at[~(is_inner & (in_letters | in_digits))]] = _BLANK


def _lonely_joiners(at: np.ndarray, kinds: np.ndarray, begins_row: np.ndarray) -> np.ndarray:
    """Underscores belong to the word beside them; these have none, and may be no word at all."""
    before = kinds[np.maximum(at - 1, 0)]
    after = kinds[np.minimum(at + 1, len(kinds) - 1)]
    has_before = ((before == _LETTER) | (before == _DIGIT)) & ~begins_row[at]
    has_after = ((after == _LETTER) | (after == _DIGIT)) & ~begins_row[at + 1]
    return at[~(has_before | has_after)]


def _within_long_words(words: np.ndarray, begins_row: np.ndarray) -> np.ndarray:
    """A byte at least of each word above the limit: it covers a whole stretch of half its length, wherever it begins."""
    stretch = TOKEN_CHARS_MAX // 2 + 1
    count = len(words) // stretch
    ends = (words[: count * stretch] == _BLANK) | begins_row[: count * stretch]
    unbroken = np.flatnonzero(~ends.reshape(count, stretch).any(axis=1))
    return unbroken * stretch
