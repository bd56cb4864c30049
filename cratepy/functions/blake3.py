"""BLAKE3, the hash with a 256-bit digest, for texts of any length.

In: bytes. Out: the digest in hexadecimal digits. Its own room because the standard library does not have it. The same
compression works on numbers and on arrays: the chunks of a long text are compressed all at once, one column of an array
each, so that a megabyte takes some tens of milliseconds.

Source: "BLAKE3: one function, fast everywhere" (O'Connor, Aumasson, Neves, Wilcox-O'Hearn), sections 2.1 to 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy

_IV: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
#: The quarters of the state that a round mixes: its columns, then its diagonals.
_QUARTERS: Final = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_ROUNDS: Final = 7
_MASK: Final = 0xFFFF_FFFF
_BLOCK_BYTES: Final = 64
_CHUNK_BYTES: Final = 1024
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8

#: 32 bits, or an array of them; the words of a chaining value, of a block.
Word = Any
Words = list[Word]


def digest(data: bytes) -> str:
    """64 hexadecimal digits."""
    whole = (len(data) - 1) // _CHUNK_BYTES if data else 0
    last = _chunk(data[whole * _CHUNK_BYTES :], whole, flags=0 if whole else _ROOT)
    root = last if not whole else _tree(_whole_chunks(data, whole), last)
    return b"".join(int(word).to_bytes(4, "little") for word in root).hex()


def _tree(values: Words, last: Words) -> Words:
    """The root over the chaining values of all chunks; every left subtree is a full one."""
    level: Words = [numpy.append(word, numpy.uint32(end)) for word, end in zip(values, last, strict=True)]
    # Pairs, level by level: an odd last one goes up as it is, which makes the same tree.
    while (count := len(level[0])) > 2:
        paired = count - count % 2
        lefts, rights = [word[:paired:2] for word in level], [word[1:paired:2] for word in level]
        parents = _parent(lefts, rights, flags=0)
        level = [numpy.append(parent, word[paired:]) for parent, word in zip(parents, level, strict=True)]
    return _parent([int(word[0]) for word in level], [int(word[1]) for word in level], flags=_ROOT)


def _parent(left: Words, right: Words, *, flags: int) -> Words:
    zero = left[0] * 0
    return _compress(
        [zero + word for word in _IV], [*left, *right], counter=(zero, zero), length=_BLOCK_BYTES, flags=flags | _PARENT
    )


def _chunk(data: bytes, index: int, *, flags: int) -> Words:
    """The chaining value of one chunk of up to 1,024 bytes; with the flag of the root, the digest."""
    value: Words = list(_IV)
    starts = range(0, max(len(data), 1), _BLOCK_BYTES)
    for start in starts:
        block = data[start : start + _BLOCK_BYTES]
        padded = block.ljust(_BLOCK_BYTES, b"\0")
        words = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, _BLOCK_BYTES, 4)]
        marks = (_CHUNK_START if start == 0 else 0) | (_CHUNK_END | flags if start == starts[-1] else 0)
        value = _compress(value, words, counter=(index & _MASK, index >> 32), length=len(block), flags=marks)
    return value


def _whole_chunks(data: bytes, count: int) -> Words:
    """The chaining values of the first ``count`` chunks, which are full, computed side by side: words of arrays."""
    words = numpy.frombuffer(data, dtype="<u4", count=count * _CHUNK_BYTES // 4).astype(numpy.uint32)
    blocks = words.reshape(count, _CHUNK_BYTES // _BLOCK_BYTES, _BLOCK_BYTES // 4)
    counter: tuple[Word, Word] = (numpy.arange(count, dtype=numpy.uint32), numpy.zeros(count, dtype=numpy.uint32))
    value: Words = [numpy.full(count, word, dtype=numpy.uint32) for word in _IV]
    last = blocks.shape[1] - 1
    for position in range(blocks.shape[1]):
        block = [numpy.ascontiguousarray(blocks[:, position, word]) for word in range(blocks.shape[2])]
        marks = (_CHUNK_START if position == 0 else 0) | (_CHUNK_END if position == last else 0)
        value = _compress(value, block, counter=counter, length=_BLOCK_BYTES, flags=marks)
    return value


def _compress(value: Words, block: Words, *, counter: tuple[Word, Word], length: int, flags: int) -> Words:
    """The first half of the output, which is the next chaining value."""
    zero = value[0] * 0  # of the shape of a word
    state = [*value, *(zero + word for word in _IV[:4]), *counter, zero + length, zero + flags]
    for _ in range(_ROUNDS):
        _round(state, block)
        block = [block[place] for place in _PERMUTATION]
    return [low ^ high for low, high in zip(state[:8], state[8:], strict=True)]


def _round(state: Words, block: Sequence[Word]) -> None:
    for quarter, (a, b, c, d) in enumerate(_QUARTERS):
        for word, right, back in ((block[2 * quarter], 16, 12), (block[2 * quarter + 1], 8, 7)):
            state[a] = (state[a] + state[b] + word) & _MASK
            state[d] = _rotated(state[d] ^ state[a], right)
            state[c] = (state[c] + state[d]) & _MASK
            state[b] = _rotated(state[b] ^ state[c], back)


def _rotated(word: Word, bits: int) -> Word:
    return (word >> bits | word << (32 - bits)) & _MASK
