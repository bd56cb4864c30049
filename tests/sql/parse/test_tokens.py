"""Tokens, cursors, and the bounds checked before any recursion."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cratepy import limits
from cratepy.errors import ParsingError, StatementTooComplex, StatementTooLong
from cratepy.sql.parse.parser import parse
from cratepy.sql.parse.tokens import END, PARAMETER, cursors


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
        ("select N'abc' + 1", "line 1:9: "),
    ],
)
def test_what_is_no_token_is_a_syntax_error_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ParsingError, match=f"^{place}"):
        parse(text)


def test_a_long_statement_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(StatementTooLong, match="statement_max_length"):
        parse("select " + "1" * limits.STATEMENT_CHARS_MAX)


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


def test_the_rest_of_sqlglot_can_still_be_imported() -> None:
    """Its tokenizer is imported without its package: whoever wants all of it gets it all the same."""
    script = (
        "import sys\n"
        "from cratepy.sql.parse.parser import parse\n"
        "assert len(parse('select a; select b')) == 2\n"
        "assert 'sqlglot' not in sys.modules and 'sqlglot.parser' not in sys.modules\n"
        "import sqlglot\n"
        "print(sqlglot.transpile('select a from t group by 1', write='duckdb')[0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "SELECT a FROM t GROUP BY 1\n"


@pytest.mark.parametrize("text", ["1e", "4.9e-", "1e308.5", "1e5x", "1__0", "1_", "1.2.3"])
def test_what_only_begins_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(ParsingError):
        parse(f"select {text} from t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r"E'\u12'", r"invalid escape sequence '\\u'"),
        (r"E'a\xZZ'", r"^line 1:11: invalid escape sequence '\\x'"),
        (r"E'\U00110000'", r"invalid escape sequence '\\U00110000'"),
        (r"E'\uD83D'", "half of a surrogate pair without the other"),
    ],
)
def test_strings_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ParsingError, match=message):
        parse(f"select {text}")


def test_a_pair_of_surrogates_is_one_character() -> None:
    (statement,) = parse(r"select E'\uD83D\uDE00'")
    assert "😀" in repr(statement.tree)


@pytest.mark.parametrize("text", ["/*" * 120_000, "$a$" + "/*" * 120_000, "$$" + "e'" * 100_001, "'" * 200_001])
def test_what_does_not_end_is_read_once(text: str) -> None:
    """Reading it again from every place took minutes."""
    with pytest.raises(ParsingError):
        parse(f"select $b$ {text}")
    with pytest.raises((ParsingError, StatementTooComplex)):
        parse(f"select {text}")


@pytest.mark.parametrize(
    "text",
    [
        "select " + "9" * 5_000,
        "select 1 limit " + "9" * 5_000,
        "insert into t values (" + "9" * 5_000 + ")",
        "select $99999999999999999999",
        "select $65536",
        "select $0",
        "select $" + "9" * 5_000,
    ],
)
def test_numbers_beyond_all_bounds_are_refused(text: str) -> None:
    with pytest.raises(ParsingError):
        parse(text)
