"""The ids of a big batch as one Arrow array: from the caller through log and buffer into a segment without a text each.

In: texts, or an Arrow array of them. Out: a sequence of texts whose hashes are worked out once, all together. A Python
string per id cost more than all else in a bulk insert: each is a cache miss whenever it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

from cratepy.storage.bulk_hashing import hash_array
from cratepy.storage.integer_texts import integers_of


class IdArray(Sequence[str]):
    """Immutable; ``array`` is of type string, without NULLs."""

    __slots__ = ("_hashes", "_is_parsed", "_numbers", "_texts", "array")

    def __init__(self, array: pa.StringArray, *, hashes: np.ndarray | None = None) -> None:
        assert array.type == pa.string()
        assert array.null_count == 0
        self.array = array
        self._hashes = hashes
        self._texts: list[str] | None = None
        self._numbers: np.ndarray | None = None
        self._is_parsed = False

    @staticmethod
    def of(ids: Sequence[str]) -> IdArray:
        return ids if isinstance(ids, IdArray) else IdArray(pa.array(ids, pa.string()))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> IdArray: ...
    def __getitem__(self, index: int | slice) -> str | IdArray:
        if isinstance(index, slice):
            return IdArray(self.array[index], hashes=None if self._hashes is None else self._hashes[index])
        text: str = self.array[index].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @property
    def hashes(self) -> np.ndarray:
        """xxh3-64 of each (uint64)."""
        if self._hashes is None:
            self._hashes = hash_array(self.array)
        return self._hashes

    @property
    def texts(self) -> list[str]:
        if self._texts is None:
            self._texts = self.array.to_pylist()
        return self._texts

    @property
    def numbers(self) -> np.ndarray | None:
        """What the ids are the text of, if all are integers as this database writes them (int64); else None."""
        if not self._is_parsed:
            self._numbers = integers_of(self.array)
            self._is_parsed = True
        return self._numbers

    @property
    def has_repeats(self) -> bool:
        """Whether an id may be there twice: certainly not if False."""
        ordered = np.sort(self.hashes)
        return bool((ordered[1:] == ordered[:-1]).any())

    @property
    def known_hashes(self) -> np.ndarray | None:
        """:attr:`hashes` if they were worked out, or are those of a slice whose were."""
        return self._hashes

    def take(self, positions: np.ndarray) -> IdArray:
        hashes = None if self._hashes is None else self._hashes[positions]
        return IdArray(self.array.take(pa.array(positions)), hashes=hashes)


def ids_at(ids: Sequence[str], positions: Sequence[int] | np.ndarray) -> Sequence[str]:
    """Some of the ids, in the order of ``positions``."""
    if isinstance(ids, IdArray):
        return ids.take(np.asarray(positions, dtype=np.int64))
    return [ids[position] for position in positions]
