"""Parameters of many Binds of one statement, left where they lie in the received bytes.

In: the bytes, and where the frames are. Out: per parameter a :class:`RepeatedColumn`, whose fixed-width values become
numbers in one go. Its own room because executemany spends its time here: a bytes object per value was two fifths of it.
Source: PostgreSQL docs, "Message Formats", Bind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cratepy.records import dataclass


@dataclass(frozen=True, slots=True)
class RepeatedColumn:
    """One parameter of each Bind."""

    buffer: bytes
    starts: np.ndarray
    #: Bytes of each value; -1 is NULL.
    sizes: np.ndarray

    def items(self) -> list[bytes | None]:
        buffer = self.buffer
        places = zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        return [None if size < 0 else buffer[at : at + size] for at, size in places]

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


def parameters_of(
    buffer: bytes, starts: list[int], ends: list[int], *, skipped: int, tail: bytes, parameter_count: int
) -> Repeats:
    """The parameters of frames that begin with ``skipped`` bytes and end with ``tail``, up to the first that is not so."""
    assert starts
    at: Any = np.array(starts, dtype=np.int64) + skipped
    end: Any = np.array(ends, dtype=np.int64)
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
