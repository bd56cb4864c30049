"""xxh3-64 of many short texts at once: ids of a batch as an Arrow array in, their hashes out, 15 to 40 ns each.

The same values as :func:`xxhash.xxh3_64_intdigest` of each text's UTF-8 bytes, without a Python string and a call per id:
that was a quarter of a bulk insert. Its own room because it is arithmetic that nothing else needs to know. Texts above
``_VECTOR_BYTES_MAX`` are hashed one by one. Source: xxHash 0.8 ``xxh3.h``, seed 0 and the default secret.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

_VECTOR_BYTES_MAX: Final = 128
#: So many at once: the dozen arrays on the way to a hash stay in the processor's cache.
_SLICE_ROWS: Final = 8_192

# fmt: off
_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)
# fmt: on


def _secret(at: int) -> np.uint64:
    return np.uint64(int.from_bytes(_SECRET[at : at + 8], "little"))


_PRIME64_1: Final = np.uint64(0x9E3779B185EBCA87)
_PRIME64_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME64_3: Final = np.uint64(0x165667B19E3779F9)
_PRIME_MX1: Final = np.uint64(0x165667919E3779F9)
_PRIME_MX2: Final = np.uint64(0x9FB21C651E98DF25)
_FLIP_3: Final = np.uint64(int.from_bytes(_SECRET[:4], "little") ^ int.from_bytes(_SECRET[4:8], "little"))
_FLIP_8: Final = _secret(8) ^ _secret(16)
_FLIP_16_LOW: Final = _secret(24) ^ _secret(32)
_FLIP_16_HIGH: Final = _secret(40) ^ _secret(48)
_LOW_HALF: Final = np.uint64(0xFFFFFFFF)


def hash_array(ids: pa.StringArray) -> np.ndarray:
    """uint64 per text; no NULLs."""
    assert ids.null_count == 0
    if 0 < len(ids) <= _SLICE_ROWS:
        return _hash_slice(ids)
    hashes: np.ndarray = np.empty(len(ids), dtype=np.uint64)
    for first in range(0, len(ids), _SLICE_ROWS):
        hashes[first : first + _SLICE_ROWS] = _hash_slice(ids.slice(first, _SLICE_ROWS))
    return hashes


def _hash_slice(ids: pa.StringArray) -> np.ndarray:
    _, offsets_buffer, data_buffer = ids.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int32, count=len(ids) + 1, offset=4 * ids.offset).astype(np.int64)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", dtype=np.uint8)
    starts, lengths = offsets[:-1], np.diff(offsets)
    shortest, longest = int(lengths.min()), int(lengths.max())
    for low, high, function in _WAYS:
        if low <= shortest and longest <= high:
            return function(_Texts(data), starts, lengths)
    hashes: np.ndarray = np.empty(len(ids), dtype=np.uint64)
    texts = _Texts(data)
    for low, high, function in _WAYS:
        chosen = np.flatnonzero((lengths >= low) & (lengths <= high))
        if len(chosen):
            hashes[chosen] = function(texts, starts[chosen], lengths[chosen])
    return hashes


def hash_texts(ids: Sequence[str]) -> np.ndarray:
    return hash_array(pa.array(ids, pa.string()))


class _Texts:
    """Bytes that can be read as numbers at any place."""

    def __init__(self, data: np.ndarray) -> None:
        self.bytes = data

    @functools.cached_property
    def words(self) -> np.ndarray:
        return np.ndarray((max(len(self.bytes) - 3, 0),), dtype="<u4", buffer=self.bytes, strides=(1,))

    @functools.cached_property
    def longs(self) -> np.ndarray:
        return np.ndarray((max(len(self.bytes) - 7, 0),), dtype="<u8", buffer=self.bytes, strides=(1,))


def _hash_0(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.full(len(starts), xxhash.xxh3_64_intdigest(b""), dtype=np.uint64)


def _hash_3(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    first = texts.bytes[starts].astype(np.uint64)
    middle = texts.bytes[starts + (lengths >> 1)].astype(np.uint64)
    last = texts.bytes[starts + lengths - 1].astype(np.uint64)
    combined = (first << np.uint64(16)) | (middle << np.uint64(24)) | last | (_unsigned(lengths) << np.uint64(8))
    mixed = combined ^ _FLIP_3
    mixed ^= mixed >> np.uint64(33)
    mixed *= _PRIME64_2
    mixed ^= mixed >> np.uint64(29)
    mixed *= _PRIME64_3
    return mixed ^ (mixed >> np.uint64(32))


def _hash_8(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    first = texts.words[starts].astype(np.uint64)
    last = texts.words[starts + lengths - 4].astype(np.uint64)
    mixed = (last + (first << np.uint64(32))) ^ _FLIP_8
    mixed ^= _rotated(mixed, 49) ^ _rotated(mixed, 24)
    mixed *= _PRIME_MX2
    mixed ^= (mixed >> np.uint64(35)) + _unsigned(lengths)
    mixed *= _PRIME_MX2
    return mixed ^ (mixed >> np.uint64(28))


def _hash_16(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    low = texts.longs[starts] ^ _FLIP_16_LOW
    high = texts.longs[starts + lengths - 8] ^ _FLIP_16_HIGH
    return _avalanche(_unsigned(lengths) + low.byteswap() + high + _folded_product(low, high))


def _hash_128(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    hashes = _unsigned(lengths) * _PRIME64_1
    ends = starts + lengths
    for turn in range(4):
        # A turn takes 16 bytes from either side, so longer texts take more turns.
        chosen: Any = slice(None)
        if turn:
            chosen = np.flatnonzero(lengths > 32 * turn)
            if not len(chosen):
                break
        front = _mixed_16(texts, starts[chosen] + 16 * turn, 32 * turn)
        hashes[chosen] += front + _mixed_16(texts, ends[chosen] - 16 * (turn + 1), 32 * turn + 16)
    return _avalanche(hashes)


def _mixed_16(texts: _Texts, at: np.ndarray, secret: int) -> np.ndarray:
    return _folded_product(texts.longs[at] ^ _secret(secret), texts.longs[at + 8] ^ _secret(secret + 8))


def _hash_long(texts: _Texts, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    data = texts.bytes.data
    places = zip(starts.tolist(), lengths.tolist(), strict=True)
    digests = (xxhash.xxh3_64_intdigest(data[start : start + length]) for start, length in places)
    return np.fromiter(digests, dtype=np.uint64, count=len(starts))


#: (shortest, longest, function) by bytes of a text, as xxh3 tells them apart.
_WAYS: Final = (
    (0, 0, _hash_0),
    (1, 3, _hash_3),
    (4, 8, _hash_8),
    (9, 16, _hash_16),
    (17, _VECTOR_BYTES_MAX, _hash_128),
    (_VECTOR_BYTES_MAX + 1, 1 << 31, _hash_long),
)


def _unsigned(numbers: np.ndarray) -> np.ndarray:
    return numbers.view(np.uint64)


def _rotated(numbers: np.ndarray, bits: int) -> np.ndarray:
    return (numbers << np.uint64(bits)) | (numbers >> np.uint64(64 - bits))


def _folded_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Upper and lower half of the 128-bit product, joined by exclusive or; from four products of 32-bit halves."""
    half = np.uint64(32)
    a_low, a_high = a & _LOW_HALF, a >> half
    b_low, b_high = b & _LOW_HALF, b >> half
    low = a_low * b_low
    middle = a_high * b_low
    cross = (low >> half) + (middle & _LOW_HALF) + a_low * b_high
    upper = (middle >> half) + (cross >> half) + a_high * b_high
    return upper ^ ((cross << half) | (low & _LOW_HALF))


def _avalanche(numbers: np.ndarray) -> np.ndarray:
    numbers ^= numbers >> np.uint64(37)
    numbers *= _PRIME_MX1
    numbers ^= numbers >> np.uint64(32)
    return numbers
