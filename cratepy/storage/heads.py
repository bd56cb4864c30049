"""Sequence number, primary term and version of each row of a chunk of the write buffer.

In: what a write was given. Out: numbers by row, and arrays for the next segment. Its own room because a batch's are a range or
all the same: three arrays for each batch, joined later, were a fifteenth of a replay.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Union

import numpy as np

from cratepy.records import dataclass


@dataclass(frozen=True, slots=True)
class _Same:
    """A number that all rows of a chunk have."""

    value: int
    count: int

    def __getitem__(self, _row: int) -> int:
        return self.value

    def __len__(self) -> int:
        return self.count


#: One per row; a batch's are a range or all the same.
Numbers = Union["array[int]", np.ndarray, range, _Same]


def _joined(parts: Sequence[Numbers]) -> np.ndarray:
    """All of them, one after the other (int64)."""
    same = [part for part in parts if isinstance(part, _Same)]
    if len(same) == len(parts) and len({part.value for part in same}) == 1:
        return np.full(sum(map(len, same)), same[0].value, dtype=np.int64)
    ranges = [part for part in parts if isinstance(part, range)]
    if len(ranges) == len(parts) and all(one.stop == next_.start for one, next_ in itertools.pairwise(ranges)):
        return np.arange(ranges[0].start, ranges[-1].stop, dtype=np.int64)
    return np.concatenate([array_of(part) for part in parts])


def array_of(numbers: Numbers) -> np.ndarray:
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, dtype=np.int64)
    if isinstance(numbers, _Same):
        return np.full(numbers.count, numbers.value, dtype=np.int64)
    return np.asarray(numbers, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Heads:
    """Sequence number, primary term and version of each row of a chunk; ``array`` where rows are added one by one."""

    seq_nos: Numbers
    primary_terms: Numbers
    versions: Numbers

    def append(self, head: tuple[int, int, int]) -> None:
        """One more row, where rows are added one by one."""
        seq_nos, primary_terms, versions = self.seq_nos, self.primary_terms, self.versions
        assert type(seq_nos) is array
        assert type(primary_terms) is array
        assert type(versions) is array
        seq_nos.append(head[0])
        primary_terms.append(head[1])
        versions.append(head[2])

    @staticmethod
    def of_batch(first_seq_no: int, primary_term: int, versions: Sequence[int] | int, count: int) -> Heads:
        """``versions``: a single number stands for all of them."""
        return Heads(
            range(first_seq_no, first_seq_no + count),
            _Same(primary_term, count),
            _Same(versions, count) if isinstance(versions, int) else np.array(versions, dtype=np.int64),
        )

    @staticmethod
    def joined(parts: Sequence[Heads]) -> Heads:
        return Heads(
            _joined([part.seq_nos for part in parts]),
            _joined([part.primary_terms for part in parts]),
            _joined([part.versions for part in parts]),
        )
