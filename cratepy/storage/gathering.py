"""Numbers of many rows of a segment at once, whatever blocks they are in: one numpy gather per column, not one per block.

In: the pieces of a numeric column, the map they are in, rows as (block, place in it). Out: their values, or None if a piece
must be decompressed or decoded as a whole; then the caller reads cell by cell. A thousand keys of a big table are a
few rows in each of its blocks, where even making an array costs more than reading the rows one by one. Encodings: see
:mod:`cratepy.storage.encoding`; checksums are the blocks' to compare, before anything is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cratepy.records import dataclass
from cratepy.storage.encoding import GROUP_ROWS, Encoding, Piece, is_fixed

#: How the value of a row comes about; with the bytes of a number and, for dictionaries, of an index.
_LINEAR, _FRAME, _GROUPS, _VALUES, _DICTIONARY, _BITS = range(6)
_Way = tuple[int, int]
#: Instead of the place of a validity bitmap.
_NO_NULLS: Final = -1
_ALL_NULL: Final = -2
_UNSIGNED: Final[dict[int, str]] = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


@dataclass(frozen=True, slots=True)
class Located:
    """Rows of a segment, ascending: the block of each and its place there (int64)."""

    blocks: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.at)


class NumberColumn:
    """A column of integers, floats, timestamps, dates or booleans. Immutable; the map's pages are read as asked for."""

    __slots__ = (
        "_base",
        "_bases_at",
        "_bytes",
        "_data",
        "_dtype",
        "_is_bool",
        "_step",
        "_valid_at",
        "_way",
        "_ways",
        "_x_at",
    )

    def __init__(self, data: pa.Buffer, pieces: Sequence[tuple[Piece, int]], at_rest: pa.DataType) -> None:
        """``pieces`` with the rows of each."""
        self._data = data
        self._bytes = np.frombuffer(data, np.uint8)
        self._is_bool = pa.types.is_boolean(at_rest)
        kind = "f" if pa.types.is_floating(at_rest) else "i"
        self._dtype = np.dtype(np.int64 if self._is_bool else f"{kind}{at_rest.bit_width // 8}")
        #: Of each block: its way (place in ``_ways``, or -1: there is none), and what that needs; places are in bytes.
        self._ways: list[_Way] = []
        self._way, self._valid_at, self._base, self._step, self._x_at, self._bases_at = (
            np.array(numbers, dtype=np.int64)
            for numbers in zip(*(self._described(piece, rows) for piece, rows in pieces), strict=True)
        )

    @staticmethod
    def knows(at_rest: pa.DataType) -> bool:
        return is_fixed(at_rest) or pa.types.is_boolean(at_rest)

    def _described(self, piece: Piece, rows: int) -> tuple[int, int, int, int, int, int]:
        if piece.encoding is Encoding.NULL:
            return self._numbered((_LINEAR, 0)), _ALL_NULL, 0, 0, 0, 0
        if piece.raw_size:
            return -1, _NO_NULLS, 0, 0, 0, 0
        at, valid_at = piece.offset, _NO_NULLS
        if piece.null_count:
            at, valid_at = at + _filled((rows + 7) // 8), at
        way, bases_at = (_LINEAR, 0), 0
        match piece.encoding:
            case Encoding.FRAME if piece.step == GROUP_ROWS:
                way, bases_at, at = (_GROUPS, piece.width), at, at + 8 * -(-rows // GROUP_ROWS)
            case Encoding.FRAME:
                way = (_FRAME, piece.width) if piece.width else way
            case Encoding.PLAIN:
                way = (_BITS, 1) if self._is_bool else (_VALUES, piece.width)
            case Encoding.DICTIONARY:
                way, bases_at = (_DICTIONARY, piece.width), at + _filled(rows * piece.width)
            case _:
                assert piece.encoding is Encoding.SEQUENCE
        return self._numbered(way), valid_at, piece.base, piece.step, at, bases_at

    def _numbered(self, way: _Way) -> int:
        if way not in self._ways:
            self._ways.append(way)
        return self._ways.index(way)

    # --- reading -----------------------------------------------------------------------------------------------------

    def numbers(self, rows: Located) -> np.ndarray | None:
        """int64, or float64; whatever is below a NULL, too. None: some block cannot be read in place."""
        ways = self._way[rows.blocks]
        if len(ways) and (ways == ways[0]).all():
            return None if ways[0] < 0 else self._read(self._ways[ways[0]], rows)
        result: np.ndarray = np.empty(len(rows), dtype=np.float64 if self._dtype.kind == "f" else np.int64)
        for number in np.unique(ways).tolist():
            if number < 0:
                return None
            chosen = np.flatnonzero(ways == number)
            result[chosen] = self._read(self._ways[number], Located(rows.blocks[chosen], rows.at[chosen]))
        return result

    def values(self, rows: Located, *, factor: int) -> list[Any] | None:
        """As SQL values; numbers times ``factor``."""
        numbers = self.numbers(rows)
        if numbers is None:
            return None
        if factor != 1:
            numbers = numbers * factor
        values: list[Any] = (numbers.astype(bool) if self._is_bool else numbers).tolist()
        valid_at = self._valid_at[rows.blocks]
        if (valid_at != _NO_NULLS).any():
            bits = self._bytes[np.maximum(valid_at, 0) + (rows.at >> 3)] >> (rows.at & 7).astype(np.uint8) & 1
            for row in np.flatnonzero((valid_at == _ALL_NULL) | ((valid_at >= 0) & (bits == 0))).tolist():
                values[row] = None
        return values

    def _read(self, way: _Way, rows: Located) -> np.ndarray:
        kind, width = way
        blocks, at = rows.blocks, rows.at
        if kind == _LINEAR:
            linear: np.ndarray = self._base[blocks] + self._step[blocks] * at
            return linear
        if kind == _BITS:
            bits: np.ndarray = self._bytes[self._x_at[blocks] + (at >> 3)] >> (at & 7).astype(np.uint8) & 1
            return bits.astype(np.int64)
        if kind == _VALUES:
            return self._words(self._dtype, self._x_at[blocks], at)
        near: Any = self._words(_UNSIGNED[width], self._x_at[blocks], at) if width else 0
        if kind == _FRAME:
            framed: np.ndarray = self._base[blocks] + near
            return framed
        if kind == _GROUPS:
            return self._words("i8", self._bases_at[blocks], at // GROUP_ROWS) + near
        assert kind == _DICTIONARY
        return self._words(self._dtype, self._bases_at[blocks], near)

    def _words(self, dtype: Any, first: np.ndarray, at: Any) -> np.ndarray:
        """Numbers at these places (bytes, multiples of 8) of the map, and so many further on; int64 or float64."""
        dtype = np.dtype(dtype)
        words = np.frombuffer(self._data, dtype, self._data.size // dtype.itemsize)
        chosen: np.ndarray = words[first // dtype.itemsize + at]
        return chosen.astype(np.float64 if dtype.kind == "f" else np.int64)


def _filled(size: int) -> int:
    return size + -size % 8
