"""Parameters of many Binds of one statement, left where they lie in the received bytes.

In: the bytes, and where the frames are. Out: per parameter a :class:`RepeatedColumn`, whose fixed-width values become
numbers in one go. Its own room because executemany spends its time here: a bytes object per value was two fifths of it.
Source: PostgreSQL docs, "Message Formats", Bind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.records import dataclass

#: Texts of more bytes than this on average are faster copied one by one.
_TEXT_BYTES: Final = 48
_NON_ASCII: Final = 0x80
_BIND: Final = ord("B")


@dataclass(frozen=True, slots=True)
class RepeatedColumn:
    """One parameter of each Bind."""

    buffer: bytes
    starts: np.ndarray
    #: Bytes of each value; -1 is NULL.
    sizes: np.ndarray

    @property
    def has_null(self) -> bool:
        return bool((self.sizes < 0).any())

    def items(self) -> list[bytes | None]:
        buffer = self.buffer
        places = zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        return [None if size < 0 else buffer[at : at + size] for at, size in places]

    def texts(self) -> pa.StringArray | None:
        """The values as texts, copied together at once; None if they are long, or one is no UTF-8: then one by one."""
        count = len(self.sizes)
        offsets: np.ndarray = np.zeros(count + 1, dtype=np.int32)
        sizes = np.maximum(self.sizes, 0)
        np.cumsum(sizes, out=offsets[1:])
        total = int(offsets[-1])
        if total > count * _TEXT_BYTES:
            return None
        places: np.ndarray = np.repeat(self.starts - offsets[:-1], sizes)
        places += np.arange(total)
        data = np.frombuffer(self.buffer, dtype=np.uint8)[places]
        is_null = self.sizes < 0
        valid = pa.py_buffer(np.packbits(~is_null, bitorder="little")) if is_null.any() else None
        texts = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data), valid)
        if total and int(data.max()) >= _NON_ASCII:
            try:
                texts.validate(full=True)
            except pa.ArrowInvalid:
                return None
        return texts

    def numbers(self, dtype: str) -> np.ndarray | None:
        """The values as numbers of this format; None if some are NULL or of another size."""
        width = np.dtype(dtype).itemsize
        if not bool((self.sizes == width).all()):
            return None
        found: np.ndarray = _at_any_byte(self.buffer, dtype)[self.starts]
        return found.astype(found.dtype.newbyteorder("="))


@dataclass(frozen=True, slots=True)
class Repeats:
    """Parameters by column, as many values in each as there are Binds."""

    columns: tuple[RepeatedColumn, ...]
    count: int

    def rows(self) -> list[list[bytes | None]]:
        if not self.columns:
            return [[] for _ in range(self.count)]
        return [list(row) for row in zip(*(column.items() for column in self.columns), strict=True)]


def _at_any_byte(buffer: bytes, dtype: str) -> np.ndarray:
    width = np.dtype(dtype).itemsize
    return np.ndarray((len(buffer) - width + 1,), dtype=dtype, buffer=buffer, strides=(1,))


def frames_between(
    buffer: bytes, position: int, *, head: bytes, after: bytes, rows_max: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Starts and ends of the complete Binds from ``position`` on that have this ``head`` and are each followed by ``after``.

    They are looked for by what follows them, and checked by their lengths: half of the time of going from one to the
    next. None: there is none, or it cannot be told this way, since a value holds the same bytes as ``after``.
    """
    pieces = buffer[position:].split(after, rows_max)
    # The rest, which is not followed by it.
    pieces.pop()
    count = len(pieces)
    if not count or not pieces[0].startswith(head, 5):
        return None
    sizes = np.fromiter(map(len, pieces), np.int64, count)
    ends = position + np.cumsum(sizes + len(after)) - len(after)
    starts = ends - sizes
    is_good: np.ndarray = sizes >= 5 + len(head)
    # Nothing else is read before it is known to be inside of the buffer.
    safe = starts if is_good.all() else np.where(is_good, starts, starts[0])
    is_good &= _at_any_byte(buffer, ">i4")[safe + 1] == sizes - 1
    is_good &= np.frombuffer(buffer, np.uint8)[safe] == _BIND
    is_good &= _at_any_byte(buffer, f"V{len(head)}")[safe + 5] == np.void(head)
    if not is_good.all():
        count = int(is_good.argmin())
    return (starts[:count], ends[:count]) if count else None


def parameters_of(
    buffer: bytes,
    starts: Sequence[int] | np.ndarray,
    ends: Sequence[int] | np.ndarray,
    *,
    skipped: int,
    tail: bytes,
    parameter_count: int,
) -> Repeats:
    """The parameters of frames that begin with ``skipped`` bytes and end with ``tail``, up to the first that is not so."""
    assert len(starts)
    at: Any = np.asarray(starts, dtype=np.int64) + skipped
    end: Any = np.asarray(ends, dtype=np.int64)
    last = end - len(tail) - 4
    lengths = _at_any_byte(buffer, ">i4")
    is_good: np.ndarray = np.ones(len(starts), dtype=bool)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(parameter_count):
        is_good &= at <= last
        size = lengths[np.where(is_good, at, 0)].astype(np.int64)
        is_good &= size >= -1
        found.append((at + 4, size))
        at = at + 4 + np.maximum(size, 0)
    # Positions only grow, so all values are inside the frame if the last one ends where it should.
    is_good &= at + len(tail) == end
    for offset, expected in enumerate(tail):
        is_good &= np.frombuffer(buffer, np.uint8)[np.where(is_good, at + offset, 0)] == expected
    count = len(starts) if is_good.all() else int(is_good.argmin())
    return Repeats(tuple(RepeatedColumn(buffer, where[:count], size[:count]) for where, size in found), count)
