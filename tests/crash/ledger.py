"""What must be true of a shard: every row operation in order, and how many of them were acknowledged.

In: the operations of a workload, before they are given to the shard. Out: the only contents a shard may have after any
crash. The log is one sequence, so what survives is a *prefix* of the operations: at least the acknowledged ones, at most
the ones begun. That is stronger than "no acknowledged row lost, none resurrected, no wrong value", and implies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cratepy.storage.operations import Refusal

#: Lengths of the text of a row: nothing, less than a sector, about one, several.
_LENGTHS = (0, 7, 40, 300, 520, 1_300)
#: Words of the full-text column: each is in every third row, and one is in all.
WORDS = ("amber", "birch", "cedar")
#: Numbers from here on tell the length of their text: see :func:`sized`.
_SIZED: Final = 1 << 40
_SIZES: Final = 1 << 12


class Row(NamedTuple):
    """A row as the shard must give it."""

    id: str
    number: int
    seq_no: int
    primary_term: int
    version: int


class RowPlan(NamedTuple):
    """A row of a batch: to write (a number, which all its values follow from) or to delete (None)."""

    id: str
    number: int | None
    #: (seq_no, primary_term) it must have.
    expected: tuple[int, int] | None = None


def sized(number: int, length: int) -> int:
    """A number whose text has this length; all of them take the same bytes in a log."""
    assert number < 1 << 20
    assert length < _SIZES
    return _SIZED + number * _SIZES + length


def text_of(number: int) -> str:
    if number >= _SIZED:
        return f"{number}:".ljust(number % _SIZES, chr(97 + number // _SIZES % 26))
    return f"{number}:" + chr(97 + number % 26) * _LENGTHS[number % len(_LENGTHS)]


def object_of(number: int) -> dict[str, Any] | None:
    match number % 4:
        case 0:
            return None
        case 1:
            return {"a": number}
        case 2:
            return {"a": number, "b": f"b{number}", "list": [number, None]}
        case _:
            return {"b": "ü" * 30, "deep": {"x": number / 2}}


def words_of(number: int) -> str | None:
    return None if number % 7 == 0 else f"{WORDS[number % 3]} common w{number}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a batch must be answered."""

    failures: list[tuple[int, Refusal]]
    versions: list[int]
    first_seq_no: int


class Ledger:
    """``states[n]`` is the shard after the first n operations; ``acknowledged`` counts operations."""

    __slots__ = ("acknowledged", "next_number", "primary_term", "states")

    def __init__(self) -> None:
        self.states: list[dict[str, Row]] = [{}]
        self.acknowledged = 0
        #: Never used twice, not even by rows that were lost: so an old value is told from a new one.
        self.next_number = 1
        self.primary_term = 1

    @property
    def count(self) -> int:
        """Operations begun; also the next sequence number."""
        return len(self.states) - 1

    @property
    def now(self) -> dict[str, Row]:
        return self.states[-1]

    def fork(self, count: int, acknowledged: int) -> Ledger:
        """As it was when ``count`` operations had begun."""
        forked = Ledger()
        forked.states = self.states[: count + 1]
        forked.acknowledged = acknowledged
        forked.next_number = self.next_number
        forked.primary_term = self.primary_term
        return forked

    def write(self, kind: str, plans: Sequence[RowPlan]) -> Expected:
        """Decide a batch by the rules of the storage seam; the operations count as begun from now on."""
        first = self.count
        failures: list[tuple[int, Refusal]] = []
        versions = []
        for index, plan in enumerate(plans):
            old = self.now.get(plan.id)
            refusal: Refusal | None = None
            if old is None:
                if kind == "delete" or plan.expected is not None:
                    refusal = "missing"
            elif plan.expected is not None and plan.expected != (old.seq_no, old.primary_term):
                refusal = "conflict"
            elif kind == "insert":
                refusal = "duplicate"
            if refusal is not None:
                failures.append((index, refusal))
                versions.append(0)
                continue
            version = 1 if old is None else old.version + 1
            versions.append(version)
            state = dict(self.now)
            if plan.number is None:
                del state[plan.id]
            else:
                state[plan.id] = Row(plan.id, plan.number, self.count, self.primary_term, version)
            self.states.append(state)
        return Expected(failures, versions, first)

    def take_back(self, count: int) -> None:
        """A write was refused as a whole: it never began."""
        assert count >= self.acknowledged
        del self.states[count + 1 :]

    def acknowledge(self) -> None:
        """Everything begun was promised to last."""
        self.acknowledged = self.count

    def restart(self, count: int) -> None:
        """A start showed the first ``count`` operations: the others are gone, these are promised."""
        assert self.acknowledged <= count <= self.count
        del self.states[count + 1 :]
        self.acknowledged = count
