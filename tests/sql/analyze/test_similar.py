"""What errors suggest instead of a name that does not exist."""

from __future__ import annotations

import pytest

from cratepy.limits import SIMILAR_NAMES_MAX, SUGGESTED_NAMES_MAX
from cratepy.sql.analyze.similar import similar_names


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("reading", ["readings", "meters"], ["readings"]),
        ("readnigs_2024", ["readings_2024", "readings_2023"], ["readings_2024", "readings_2023"]),
        ("METERS", ["meters"], ["meters"]),
        ("meters", ["meters"], []),
        ("abcdefghij", ["abcdefg"], []),  # exactly three tenths are missing
        ("abcdefghij", ["abcdefgh"], ["abcdefgh"]),
        ("", ["a", ""], []),
        ("x", [], []),
    ],
)
def test_names_with_few_changes_are_alike(name: str, known: list[str], expected: list[str]) -> None:
    assert similar_names(name, known) == expected


def test_the_most_alike_come_first_and_only_some() -> None:
    known = [f"measurements_{number}" for number in range(9)]
    found = similar_names("measurements_x7", known)
    assert found[0] == "measurements_7"
    assert len(found) == SUGGESTED_NAMES_MAX


def test_only_so_many_names_are_compared() -> None:
    known = [f"t{number:06d}" for number in range(10 * SIMILAR_NAMES_MAX)]
    assert similar_names("t000000x", known)
    assert not similar_names(f"t{9 * SIMILAR_NAMES_MAX:06d}x", [k for k in known if not k.startswith("t0000")])
