"""Tokens, cursors, and the bounds checked before any recursion."""

from __future__ import annotations

import contextlib

import pytest

from cratepy import limits
from cratepy.errors import ParsingError, StatementTooComplex, StatementTooLong
from cratepy.sql.parse.lexer import PARAMETER, tokenize
from cratepy.sql.parse.parser import parse
from cratepy.sql.parse.tokens import END, cursors


def keys(text: str) -> list[str]:
    (cursor,) = cursors(text)
    found = []
    while cursor.key != END:
        found.append(cursor.key)
        cursor.advance()
    return found


def texts(text: str) -> list[str]:
    (cursor,) = cursors(text)
    found = []
    while cursor.key != END:
        found.append(cursor.advance())
    return found


def test_parameters_need_no_space_between_them() -> None:
    assert keys("values ($1,$2)") == ["values", "(", PARAMETER, ",", PARAMETER, ")"]


def test_unquoted_names_fold_and_quoted_ones_do_not() -> None:
    assert texts('select Ab."Cd""e"') == ["select", "ab", ".", 'Cd"e']


def test_a_dollar_quoted_string_keeps_everything_in_it() -> None:
    assert texts("select $$it's; \"x$$, $t$a$$b$t$, 1") == ["select", "it's; \"x", ",", "a$$b", ",", "1"]


def test_dollars_inside_other_strings_are_no_quotes() -> None:
    assert texts("select '$$', \"$$\", 1 -- $$\n") == ["select", "$$", ",", "$$", ",", "1"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"E'a\nb'", "a\nb"),
        (r"e'\x41\u00e9\101'", "AéA"),
        (r"E'it''s\'q'", "it's'q"),
        (r"'a\nb'", r"a\nb"),
        (r"E'\q\\'", "q\\"),
    ],
)
def test_escapes_count_in_e_strings_only(written: str, value: str) -> None:
    assert texts(f"select {written}") == ["select", value]


def test_statements_are_split_at_semicolons_outside_of_strings() -> None:
    assert [cursor.source for cursor in cursors("select ';'; ; select 2;")] == ["select ';'; ; select 2;"] * 2
    assert len(parse(";; -- nothing\n /* at all */ ;")) == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("select 'abc", "line 1:8: "),
        ('select "abc', "line 1:8: "),
        ("select 1 /* x", "line 1:10: "),
        ("select `a`", "line 1:8: "),
        ("select E'a\\'", "line 1:9: "),
        ("select $t$ $$", "line 1:8: "),
        ("select B'12'", "line 1:8: "),
        (r"select E'\UFFFFFFFF'", "line 1:8: "),
        (r"select E'\ud800'", "line 1:8: "),
        ("select 'it''s', N'abc', 'x", "line 1:25: "),
    ],
)
def test_what_is_no_token_is_a_syntax_error_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ParsingError, match=f"^{place}"):
        parse(text)


def test_a_long_statement_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(StatementTooLong, match="statement_max_length"):
        parse("select " + "1" * limits.STATEMENT_CHARS_MAX)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a!~~*b", ["a", "!~~*", "b"]),
        ("a->>'x'->b", ["a", "->>", "x", "->", "b"]),
        ("a@>b <@ @c", ["a@", ">", "b", "<@", "@c"]),
        ("a::int[1:2]", ["a", "::", "int", "[", "1", ":", "2", "]"]),
        ("1.5e-3+1_000 .5", ["1.5e-3", "+", "1000", ".", "5"]),
        ("1..2", ["1.", ".", "2"]),
        ("1e+x 1E5", ["1e", "+", "x", "1E5"]),
        ("b'01' e e1 b 0b10", ["01", "e", "e1", "b", "10"]),
        ("a--b\rc/*d*/e-- f", ["a", "c", "e"]),
        ("n'abc'", ["n", "abc"]),
        ("größe\u00a0x", ["größe", "x"]),
        ("{a=1}[?]", ["{", "a", "=", "1", "}", "[", "?", "]"]),
        ("a$1 $tag$x$tag$y", ["a$1", "x", "y"]),
    ],
)
def test_the_longest_token_counts(written: str, found: list[str]) -> None:
    assert texts(written) == found


@pytest.mark.parametrize("piece", ["'", "e'\\\\", '"', "/*", "$a", "$$", "1_", "1e", "a@", "!~", "--"])
def test_any_text_is_read_in_linear_time(piece: str) -> None:
    """A regular expression that tries again from every place would not come back within the test's timeout."""
    text = piece * (limits.STATEMENT_CHARS_MAX // len(piece))
    with contextlib.suppress(ParsingError):
        tokenize(text)


@pytest.mark.parametrize(
    "text",
    [
        "select " + "(" * 100_000 + "1" + ")" * 100_000,
        "select " + "[" * 100_000,
        "select " + "not " * 50_000 + "true",
        "select " + "- " * 100_000 + "1",
        "select " + "case when true then " * 10_000,
        "select " + "1+" * 100_000 + "1",
        "select 1" + "::int" * 40_000,
        "select a" + "[1]" * 60_000,
        "select " + "(select " * 10_000,
    ],
)
def test_deep_nesting_is_refused_and_never_overflows_the_stack(text: str) -> None:
    with pytest.raises(StatementTooComplex):
        parse(text)


def test_long_chains_of_and_and_or_are_flat() -> None:
    parse("select " + " or ".join(f"a = {i}" for i in range(10_000)))


def test_a_place_in_a_later_line_counts_lines_and_columns() -> None:
    with pytest.raises(ParsingError, match=r"^line 3:5: ") as caught:
        parse("select 1\nfrom t\n    ) x = 1")
    assert caught.value.position == len("select 1\nfrom t\n    ") + 1
