"""Names that look like one that does not exist: what errors suggest.

In: a name and the names there are. Out: the alike ones, most alike first. Two names are alike if fewer than three tenths
of their characters have to be inserted, removed or changed, whatever their case: CrateDB's measure. Its own room because
the measure is work: quadratic in the length of the names, so only so many are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cratepy.limits import SIMILAR_NAMES_MAX, SUGGESTED_NAMES_MAX

_ALIKE: Final = 0.7


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """The names of ``known`` that are alike, most alike first, then by name."""
    wanted = name.lower()
    candidates = [other for other in sorted(set(known)) if other != name and _may_be_alike(wanted, other.lower())]
    scored = ((_likeness(wanted, other.lower()), other) for other in candidates[:SIMILAR_NAMES_MAX])
    alike = sorted((-likeness, other) for likeness, other in scored if likeness > _ALIKE)
    return [other for _, other in alike[:SUGGESTED_NAMES_MAX]]


def _may_be_alike(one: str, other: str) -> bool:
    longer, shorter = max(len(one), len(other)), min(len(one), len(other))
    return shorter > _ALIKE * longer


def _likeness(one: str, other: str) -> float:
    """1 for equal names, 0 for names without anything in common."""
    return 1 - _distance(one, other) / max(len(one), len(other), 1)


def _distance(one: str, other: str) -> int:
    """The insertions, removals and changes of characters between two names."""
    before = list(range(len(other) + 1))
    for place, character in enumerate(one, start=1):
        row = [place]
        for column, known in enumerate(other, start=1):
            row.append(min(before[column] + 1, row[-1] + 1, before[column - 1] + (character != known)))
        before = row
    return before[-1]
