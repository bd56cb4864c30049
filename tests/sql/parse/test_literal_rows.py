"""The fast path of INSERT … VALUES says the same as the grammar, or gives up."""

from __future__ import annotations

import pytest

from cratepy.sql.parse import tree
from cratepy.sql.parse.literal_rows import scan_insert
from cratepy.sql.parse.parser import parse

PADDING = ", ".join(f"({i}, 'padding {i}')" for i in range(100))


def rows_of(row: str) -> tree.LiteralRows | None:
    node = scan_insert(f"INSERT INTO t (a, b) VALUES {row}, {PADDING}")
    return None if node is None else node.rows


def test_rows_become_columns_of_values() -> None:
    rows = rows_of("(-1, 'it''s')")
    assert rows is not None
    assert rows.columns[0][:2] == [-1, 0]
    assert rows.columns[1][:2] == ["it's", "padding 0"]
    assert rows.kinds == (frozenset("i"), frozenset("s"))


def test_null_true_and_false_are_literals() -> None:
    rows = rows_of("(NULL, null)")
    assert rows is not None
    assert (rows.columns[0][0], rows.columns[1][0]) == (None, None)
    mixed = rows_of("(True, 'x')")
    assert mixed is not None
    assert mixed.kinds[0] == frozenset("bi")


def test_numbers_with_a_point_stay_text() -> None:
    rows = rows_of("(1.50, 'x')")
    assert rows is not None
    assert rows.columns[0][0] == "1.50"
    assert rows.kinds[0] == frozenset("ni")


@pytest.mark.parametrize(
    "row",
    [
        "(1 + 1, 'x')",
        "(1, 'x', 2)",
        "(1)",
        "($1, 'x')",
        "(1, E'x')",
        "(1, /* c */ 'x')",
        "(1.5, 'x'), (2, 2.5)",
        "(a, 'b')",
        "(1, 'x'",
    ],
)
def test_anything_else_makes_it_give_up(row: str) -> None:
    assert rows_of(row) is None


def test_what_follows_the_rows_makes_it_give_up() -> None:
    text = f"INSERT INTO t (a, b) VALUES {PADDING}"
    assert scan_insert(text + " ON CONFLICT DO NOTHING") is None
    assert scan_insert(text + "; SELECT 1") is None
    assert scan_insert(text + " ; ") is not None


def test_names_fold_and_quoted_names_do_not() -> None:
    node = scan_insert(f'insert into S."T" (A, "B") values {PADDING}')
    assert node is not None
    assert node.name == ("s", "T")
    assert [target.parts for target in node.columns if isinstance(target, tree.Name)] == [("a",), ("B",)]


def test_short_statements_take_the_grammar() -> None:
    (statement,) = parse("INSERT INTO t VALUES (1, 'a')")
    assert isinstance(statement.tree, tree.InsertNode)
    assert statement.tree.rows is None
