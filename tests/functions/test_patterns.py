"""Patterns end: LIKE in linear time, regular expressions at their limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cratepy import limits
from cratepy.errors import SQLParseError
from cratepy.functions.patterns import like_pattern, regexp_matches
from cratepy.functions.registry import declaration_of
from cratepy.sql.plan.volatility import is_foldable_function

SLOW = "(?=a)(a|a)*[cd]"
TEXT = "a" * 5_000 + "b"


def _row(name: str) -> Callable[..., Any]:
    row = declaration_of(name).row
    assert row is not None
    return row


@pytest.mark.parametrize(
    "call",
    [
        lambda: regexp_matches(TEXT, SLOW),
        lambda: regexp_matches(TEXT, SLOW, "g"),
        lambda: _row("op_~")(TEXT, SLOW),
        lambda: _row("op_~*")(TEXT, SLOW),
        lambda: _row("regexp_replace")(TEXT, SLOW, "x"),
        lambda: _row("regexp_count")(TEXT, SLOW),
        lambda: _row("regexp_instr")(TEXT, SLOW),
    ],
)
def test_an_expression_that_would_take_for_ever_is_refused(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGEX_S", 0.01)
    with pytest.raises(SQLParseError, match=r"took longer than 0.0\d s for a text of 5001 characters"):
        call()


@pytest.mark.parametrize("name", ["op_~", "op_~*", "regexp_replace", "regexp_count", "regexp_instr"])
def test_expressions_are_not_matched_while_a_statement_is_compiled(name: str) -> None:
    assert not is_foldable_function(name)


def _is_like(text: str, pattern: str) -> bool:
    """The definition, by places that are reached."""
    places = {0}
    for character in pattern:
        if character == "%":
            places = set(range(min(places, default=len(text) + 1), len(text) + 1))
        else:
            places = {i + 1 for i in places if i < len(text) and character in ("_", text[i])}
    return len(text) in places


@given(st.text("ab\n", max_size=12), st.text("ab\n%_", max_size=10))
def test_like_is_what_its_definition_says(text: str, pattern: str) -> None:
    assert (like_pattern(pattern, "\\", ignores_case=False).fullmatch(text) is not None) == _is_like(text, pattern)


def test_like_with_many_wildcards_ends() -> None:
    assert like_pattern("%a" * 50 + "%b", "\\", ignores_case=False).fullmatch("a" * 20_000) is None


@pytest.mark.parametrize(
    ("name", "left", "right", "expected"),
    [
        ("op_any_like_either", "%stories%", ["netball", "short stories"], True),
        ("op_any_like_either", "foo", ["f%"], True),
        ("op_any_like_either", "x%", ["foo", None], None),
        ("op_any_ilike_either", "F%", ["foo"], True),
        ("op_any_not_like_either", "f%", ["foo"], False),
        ("op_any_not_like_either", "f%", ["foo", "bar"], True),
        ("op_any_like", "f%", ["foo"], False),
    ],
)
def test_either_side_of_like_any_may_be_the_pattern(
    name: str, left: str, right: list[str], expected: bool | None
) -> None:
    row = declaration_of(name).row
    assert row is not None
    assert row(left, right) is expected


@pytest.mark.parametrize(
    ("pattern", "written", "answer"),
    [
        ("(?<first>b)(?<last>c)", "${last}${first}", "acbd"),
        ("(b)(c)", "[$2$1]", "a[cb]d"),
        ("(b)c", "$12", "ab2d"),
        ("b(x)?", "<$1>", "a<>cd"),
        ("bc", r"\$1\\", r"a$1\d"),
        ("bc", "$0$0", "abcbcd"),
    ],
)
def test_groups_are_put_into_a_replacement_by_number_and_by_name(pattern: str, written: str, answer: str) -> None:
    assert replaced("abcd", pattern, written) == answer


@pytest.mark.parametrize(
    ("pattern", "written", "words"),
    [
        ("b", "x$", "Illegal group reference: group index is missing"),
        ("b", "$x", "Illegal group reference"),
        ("(b)", "$3", "No group 3"),
        ("(?<n>b)", "${other}", "No group with name {other}"),
        ("b", "x\\", "character to be escaped is missing"),
    ],
)
def test_what_is_no_reference_to_a_group_is_refused(pattern: str, written: str, words: str) -> None:
    with pytest.raises(SQLParseError) as raised:
        replaced("abcd", pattern, written)
    assert raised.value.message == words


def replaced(text: str, pattern: str, written: str) -> object:
    return _row("regexp_replace")(text, pattern, written)
