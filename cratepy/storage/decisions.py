"""What becomes of each row of a write batch: the rules of versions, uniqueness and conflicts. Pure.

In: the batch, where its ids are now, the next sequence number. Out: which rows are written, with which versions, which
rows they replace, which were refused and why. Rows are decided in order, so a row sees the ones before it in its batch.
Source: Elasticsearch 7 ``InternalEngine`` (plans for index and delete); an unknown row starts at version 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from cratepy.records import dataclass
from cratepy.storage.lookup import Holder, Place, Places, row_head, seq_nos_of, versions_of
from cratepy.storage.operations import Refusal, WriteBatch

_DUPLICATE, _CONFLICT, _MISSING = 1, 2, 3
_REFUSALS: Final[tuple[Refusal, ...]] = ("duplicate", "duplicate", "conflict", "missing")


@dataclass(frozen=True, slots=True)
class Decision:
    """``accepted``: rows of the batch that are written, in order; None is all of them."""

    accepted: Sequence[int] | None
    failures: Sequence[tuple[int, Refusal]]
    #: Per row of the batch, 0 where refused.
    versions: Sequence[int]
    #: Existing rows that die by it.
    replaced: Sequence[tuple[Holder, Sequence[int]]]
    #: Ordinals among the accepted rows that a later row of the same batch replaces.
    replaced_in_batch: Sequence[int]
    #: Every row is the first of its id.
    is_all_new: bool = False


@dataclass(frozen=True, slots=True)
class _Now:
    """An id's row as the next row of the batch finds it; ``place`` is an ordinal if it is of this batch."""

    seq_no: int
    primary_term: int
    version: int
    place: Place | int


def decide_all_new(count: int) -> Decision:
    """The decision when no id exists, none repeats and nothing is expected."""
    return Decision(None, (), [1] * count, (), (), is_all_new=True)


def decide_apart(batch: WriteBatch, places: Places) -> Decision:
    """The decision when no id repeats: each row for itself, so all together."""
    exists = places.holder_of >= 0
    #: Ordinals in ``_REFUSALS``, 0 for none.
    refused: np.ndarray = np.zeros(len(exists), dtype=np.int8)
    expected = None if batch.expected is None else _Expected.of(batch.expected)
    if batch.kind == "insert":
        refused[exists] = _DUPLICATE
    if batch.kind == "delete":
        refused[~exists] = _MISSING
    elif expected is not None:
        refused[~exists & expected.is_given] = _MISSING
    versions: np.ndarray = np.ones(len(exists), dtype=np.int64)
    replaced: list[tuple[Holder, Sequence[int]]] = []
    for number, holder in enumerate(places.holders):
        positions, rows = places.of(number)
        if expected is not None and len(rows):
            is_met = expected.are_met(positions, *seq_nos_of(holder, rows))
            refused[positions[~is_met]] = _CONFLICT
        is_written = refused[positions] == 0
        if is_written.any():
            positions, rows = positions[is_written], rows[is_written]
            versions[positions] = versions_of(holder, rows) + 1
            replaced.append((holder, rows.tolist()))
    versions[refused > 0] = 0
    failures = [(row, _REFUSALS[refused[row]]) for row in np.flatnonzero(refused).tolist()]
    accepted = np.flatnonzero(refused == 0).tolist() if failures else None
    return Decision(accepted, failures, versions.tolist(), replaced, ())


@dataclass(frozen=True, slots=True)
class _Expected:
    """What rows must have, per row of a batch."""

    is_given: np.ndarray
    seq_nos: np.ndarray
    primary_terms: np.ndarray

    @staticmethod
    def of(expected: Sequence[tuple[int, int] | None]) -> _Expected:
        pairs = np.array([(-1, -1) if pair is None else pair for pair in expected], dtype=np.int64).reshape(-1, 2)
        # Sequence numbers begin at 0.
        return _Expected(pairs[:, 0] >= 0, pairs[:, 0], pairs[:, 1])

    def are_met(self, positions: np.ndarray, seq_nos: np.ndarray, primary_terms: np.ndarray) -> np.ndarray:
        is_same = (self.seq_nos[positions] == seq_nos) & (self.primary_terms[positions] == primary_terms)
        is_met: np.ndarray = ~self.is_given[positions] | is_same
        return is_met


def decide(batch: WriteBatch, places: Mapping[str, Place], first_seq_no: int) -> Decision:
    accepted: list[int] = []
    failures: list[tuple[int, Refusal]] = []
    versions = [0] * len(batch.ids)
    replaced: list[tuple[Holder, Sequence[int]]] = []
    replaced_in_batch: list[int] = []
    written: dict[str, _Now | None] = {}
    for row, row_id in enumerate(batch.ids):
        now = written[row_id] if row_id in written else _existing(places.get(row_id))
        refusal = _refusal(batch, row, now)
        if refusal is not None:
            failures.append((row, refusal))
            continue
        version = 1
        if now is not None:
            version = now.version + 1
            if isinstance(now.place, int):
                replaced_in_batch.append(now.place)
            else:
                replaced.append((now.place[0], now.place[1:]))
        versions[row] = version
        seq_no = first_seq_no + len(accepted)
        is_delete = batch.kind == "delete"
        written[row_id] = None if is_delete else _Now(seq_no, batch.primary_term, version, len(accepted))
        accepted.append(row)
    everything = len(accepted) == len(batch.ids)
    return Decision(None if everything else accepted, failures, versions, replaced, replaced_in_batch)


def _existing(place: Place | None) -> _Now | None:
    return None if place is None else _Now(*row_head(place), place)


def _refusal(batch: WriteBatch, row: int, now: _Now | None) -> Refusal | None:
    expected = None if batch.expected is None else batch.expected[row]
    if now is None:
        return "missing" if batch.kind == "delete" or expected is not None else None
    if expected is not None and expected != (now.seq_no, now.primary_term):
        return "conflict"
    return "duplicate" if batch.kind == "insert" else None
