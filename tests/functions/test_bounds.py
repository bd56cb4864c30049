"""Values that could take a function down, or keep it busy for ever."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from cratepy import limits
from cratepy.errors import CrateError, SQLParseError
from cratepy.functions.arrow_kernels import replaced_parts
from cratepy.functions.casts import convert
from cratepy.functions.evaluate import row_function
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


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("regexp_replace", ("a" * 10_000, "a", "b" * 10_000, "g"), "result of regexp_replace exceeds the limit of"),
        ("replace", ("a" * 10_000, "a", "b" * 10_000), "result of replace exceeds the limit of"),
        ("op_~", ("a", "(a|b)" * 10_000), "Regular expression of 50000 characters exceeds the limit of 32768"),
        ("op_like", ("a", "a%" * 1_000_000), "Pattern of 2000000 characters exceeds the limit of 1048576"),
    ],
)
def test_texts_that_grow_and_patterns_have_a_bound(function: str, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(SQLParseError, match=words):
        row_function(function, tuple(TEXT for _ in arguments), TEXT)(*arguments)


@pytest.mark.parametrize(
    ("old", "new"), [("a", "bb"), ("aa", ""), ("", "x"), ("ä", "aeae"), ("x", "y" * 300), ("ab", "ba")]
)
def test_replace_of_many_rows_is_replace_of_each(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    monkeypatch.setattr(limits, "KERNEL_BATCH_BYTES_MAX", 10_000)
    texts = ["aab", "", "äaä", "xx", None, "abab" * 50]
    arrays = [pa.array(values, pa.string_view()) for values in (texts, [old] * 6, [new] * 6)]
    found = replaced_parts(*arrays)
    wanted = [None if text is None else text.replace(old, new) for text in texts]
    assert (found is None) == (old == "" or len(new) == 300)
    assert found is None or (found.type == pa.string_view() and found.to_pylist() == wanted)
