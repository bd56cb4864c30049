"""Values that could take a function down, or keep it busy for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cratepy.errors import CrateError
from cratepy.functions.casts import convert
from cratepy.functions.patterns import _matches, _matches_ignoring_case
from cratepy.model.types import GEO_POINT, OBJECT, TEXT


@pytest.mark.parametrize("matches", [_matches, _matches_ignoring_case])
def test_a_pattern_of_repeated_repetitions_takes_linear_time(matches: Callable[[str, str], bool]) -> None:
    """Python's own matcher would need 2^60 steps for this one."""
    assert matches("a" * 60 + "!", "^(a+)+$") is False
    assert matches("a" * 60, "(a+)+") is True


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["arrays", "objects"])
@pytest.mark.parametrize("target", [OBJECT, GEO_POINT], ids=["object", "geo_point"])
def test_json_nested_without_end_is_a_value_that_cannot_be_cast(text: str, target: object) -> None:
    with pytest.raises(CrateError, match="Cannot cast"):
        convert(text, TEXT, target)  # type: ignore[arg-type]
