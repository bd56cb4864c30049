"""xxh3-64 of many short texts at once: ids of a batch as an Arrow array in, their hashes out, 15 to 40 ns each.

The same values as :func:`xxhash.xxh3_64_intdigest` of each text's UTF-8 bytes, without a Python string and a call per id:
that was a quarter of a bulk insert. Its own room because it is arithmetic that nothing else needs to know. Texts above
``_VECTOR_BYTES_MAX`` are hashed one by one. Source: xxHash 0.8 ``xxh3.h``, seed 0 and the default secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    offsets = np.frombuffer(offsets_buffer, dtype=np.int32, count=len(ids) + 1, offset=4 * ids.offset)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", dtype=np.uint8)
    lengths = np.diff(offsets)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        return _way_of(longest)(_Alike(data, int(offsets[0]), longest, len(ids)))
    starts, lengths = offsets[:-1].astype(np.int64), lengths.astype(np.int64)
    hashes: np.ndarray = np.empty(len(ids), dtype=np.uint64)
    for low, high, function in _WAYS:
        if low <= shortest and longest <= high:
            return function(_Apart(data, starts, lengths))
        chosen = np.flatnonzero((lengths >= low) & (lengths <= high))
        if len(chosen):
            hashes[chosen] = function(_Apart(data, starts[chosen], lengths[chosen]))
    return hashes


def hash_texts(ids: Sequence[str]) -> np.ndarray:
    return hash_array(pa.array(ids, pa.string()))


class _Apart:
    """Texts of any lengths anywhere in ``data``, whose bytes are read as numbers at a distance from starts or ends."""

    def __init__(self, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        self._data = data
        self._starts = starts
        self._lengths = lengths
        self.count = len(starts)

    @property
    def lengths(self) -> Any:
        """uint64 per text."""
        return self._lengths.view(np.uint64)

    def after_start(self, kind: str, distance: int) -> np.ndarray:
        return self._numbers(kind)[self._starts + distance if distance else self._starts]

    def before_end(self, kind: str, distance: int) -> np.ndarray:
        return self._numbers(kind)[self._starts + self._lengths - distance]

    def middle(self) -> np.ndarray:
        return self._data[self._starts + (self._lengths >> 1)]

    def longer(self, length: int) -> tuple[Any, _Apart]:
        """Which are longer, and those."""
        chosen = np.flatnonzero(self._lengths > length)
        return chosen, _Apart(self._data, self._starts[chosen], self._lengths[chosen])

    def _numbers(self, kind: str) -> np.ndarray:
        places = len(self._data) + 1 - np.dtype(kind).itemsize
        return np.ndarray((max(places, 0),), dtype=kind, buffer=self._data, strides=(1,))

    def each(self) -> Iterator[bytes]:
        for start, length in zip(self._starts.tolist(), self._lengths.tolist(), strict=True):
            yield self._data[start : start + length].tobytes()


class _Alike:
    """The same for texts of one length, one after the other, as most ids are: read at a stride, in half of the time."""

    def __init__(self, data: np.ndarray, first: int, length: int, count: int) -> None:
        self._data = data
        self._first = first
        self._length = length
        self.count = count

    @property
    def lengths(self) -> Any:
        return np.uint64(self._length)

    def after_start(self, kind: str, distance: int) -> np.ndarray:
        return np.ndarray((self.count,), kind, self._data, self._first + distance, (self._length,))

    def before_end(self, kind: str, distance: int) -> np.ndarray:
        return self.after_start(kind, self._length - distance)

    def middle(self) -> np.ndarray:
        return self.after_start("u1", self._length >> 1)

    def longer(self, length: int) -> tuple[Any, _Alike]:
        is_longer = self._length > length
        return slice(None), self if is_longer else _Alike(self._data, self._first, self._length, 0)

    def each(self) -> Iterator[bytes]:
        for start in range(self._first, self._first + self._length * self.count, self._length):
            yield self._data[start : start + self._length].tobytes()


_Texts = _Apart | _Alike


def _hash_0(texts: _Texts) -> np.ndarray:
    return np.full(texts.count, xxhash.xxh3_64_intdigest(b""), dtype=np.uint64)


def _hash_3(texts: _Texts) -> np.ndarray:
    first: np.ndarray = texts.after_start("u1", 0).astype(np.uint64)
    middle: np.ndarray = texts.middle().astype(np.uint64)
    last: np.ndarray = texts.before_end("u1", 1).astype(np.uint64)
    combined = (first << np.uint64(16)) | (middle << np.uint64(24)) | last | (texts.lengths << np.uint64(8))
    mixed = combined ^ _FLIP_3
    mixed ^= mixed >> np.uint64(33)
    mixed *= _PRIME64_2
    mixed ^= mixed >> np.uint64(29)
    mixed *= _PRIME64_3
    return mixed ^ (mixed >> np.uint64(32))


def _hash_8(texts: _Texts) -> np.ndarray:
    mixed: np.ndarray = texts.after_start("<u4", 0).astype(np.uint64)
    mixed <<= np.uint64(32)
    mixed += texts.before_end("<u4", 4)
    mixed ^= _FLIP_8
    mixed ^= _rotated(mixed, 49) ^ _rotated(mixed, 24)
    mixed *= _PRIME_MX2
    mixed ^= (mixed >> np.uint64(35)) + texts.lengths
    mixed *= _PRIME_MX2
    mixed ^= mixed >> np.uint64(28)
    return mixed


def _hash_16(texts: _Texts) -> np.ndarray:
    low = texts.after_start("<u8", 0) ^ _FLIP_16_LOW
    high = texts.before_end("<u8", 8) ^ _FLIP_16_HIGH
    return _avalanche(texts.lengths + low.byteswap() + high + _folded_product(low, high))


def _hash_128(texts: _Texts) -> np.ndarray:
    hashes: np.ndarray = np.full(texts.count, texts.lengths)
    hashes *= _PRIME64_1
    for turn in range(4):
        # A turn takes 16 bytes from either side, so longer texts take more turns.
        chosen, longer = texts.longer(32 * turn) if turn else (slice(None), texts)
        if not longer.count:
            break
        front = _mixed_16(longer.after_start("<u8", 16 * turn), longer.after_start("<u8", 16 * turn + 8), 32 * turn)
        end = 16 * (turn + 1)
        back = _mixed_16(longer.before_end("<u8", end), longer.before_end("<u8", end - 8), 32 * turn + 16)
        hashes[chosen] += front + back
    return _avalanche(hashes)


def _mixed_16(first: np.ndarray, second: np.ndarray, secret: int) -> np.ndarray:
    return _folded_product(first ^ _secret(secret), second ^ _secret(secret + 8))


def _hash_long(texts: _Texts) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts.each()), dtype=np.uint64, count=texts.count)


#: (shortest, longest, function) by bytes of a text, as xxh3 tells them apart.
_WAYS: Final = (
    (0, 0, _hash_0),
    (1, 3, _hash_3),
    (4, 8, _hash_8),
    (9, 16, _hash_16),
    (17, _VECTOR_BYTES_MAX, _hash_128),
    (_VECTOR_BYTES_MAX + 1, 1 << 31, _hash_long),
)


def _way_of(length: int) -> Callable[[_Texts], np.ndarray]:
    return next(function for low, high, function in _WAYS if low <= length <= high)


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
