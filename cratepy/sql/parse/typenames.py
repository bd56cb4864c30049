"""Type names: ``int``, ``varchar(3)``, ``double precision``, ``timestamp with time zone``, ``object(strict) as (…)``, ``t[]``."""

from __future__ import annotations

from typing import Final

from cratepy.model.types import TYPE_NAMES
from cratepy.sql.parse.tokens import NUMBER, QUOTED, STRING, Cursor
from cratepy.sql.parse.tree import ColumnDef, TypeName

#: First words of types, for ``date '2020-01-01'``.
TYPE_WORDS: Final = frozenset(name.split(" ")[0] for name in TYPE_NAMES if name[0] != '"') - {
    "interval",
    "object",
    "unknown",
}


def is_typed_literal(cursor: Cursor) -> bool:
    """Whether a type and then a string stand here."""
    ahead = 1
    match cursor.key:
        case "double" if cursor.peek() == "precision":
            ahead = 2
        case "timestamp" | "time" if cursor.peek() in ("with", "without"):
            ahead = 4
        case "character" if cursor.peek() == "varying":
            ahead = 2
    if cursor.peek(ahead) == "(" and cursor.peek(ahead + 1) == NUMBER:
        ahead += 5 if cursor.peek(ahead + 2) == "," else 3
    return cursor.peek(ahead) == STRING


def parse_type(cursor: Cursor) -> TypeName:
    """A type with its parameters and array brackets. Whether it exists is the analyzer's question."""
    if cursor.key == "array" and cursor.peek() == "(":
        cursor.advance()
        cursor.advance()
        element = parse_type(cursor)
        cursor.expect(")")
        written = TypeName(
            element.name, element.arguments, element.depth + 1, element.columns, element.policy, element.is_quoted
        )
    elif cursor.key == "object":
        cursor.advance()
        written = _object_type(cursor)
    else:
        written = _plain_type(cursor)
    depth = written.depth
    while cursor.key == "[" and cursor.peek() == "]":
        cursor.advance()
        cursor.advance()
        depth += 1
    if depth == written.depth:
        return written
    return TypeName(written.name, written.arguments, depth, written.columns, written.policy, written.is_quoted)


def _plain_type(cursor: Cursor) -> TypeName:
    is_quoted = cursor.key == QUOTED
    name = cursor.any_word()
    while cursor.key == ".":
        cursor.advance()
        is_quoted = cursor.key == QUOTED
        name = cursor.any_word()
    if not is_quoted:
        name = _words(cursor, name)
    arguments: list[int] = []
    if cursor.key == "(" and cursor.peek() == NUMBER:
        cursor.advance()
        arguments.append(cursor.integer())
        while cursor.take(","):
            arguments.append(cursor.integer())
        cursor.expect(")")
        if name in ("timestamp", "time"):
            name = _words(cursor, name)
    return TypeName(name, tuple(arguments), is_quoted=is_quoted)


def _words(cursor: Cursor, name: str) -> str:
    if name == "double" and cursor.take("precision"):
        return "double precision"
    if name in ("timestamp", "time"):
        if cursor.take_words("with", "time", "zone"):
            return f"{name} with time zone"
        if cursor.take_words("without", "time", "zone"):
            return f"{name} without time zone"
    if name == "character" and cursor.take("varying"):
        return "character varying"
    return name


def _object_type(cursor: Cursor) -> TypeName:
    policy = None
    if cursor.key == "(" and cursor.peek() in ("dynamic", "strict", "ignored"):
        cursor.advance()
        policy = cursor.advance()
        cursor.expect(")")
    columns: tuple[ColumnDef, ...] | None = None
    if cursor.key == "as" and cursor.peek() == "(":
        from cratepy.sql.parse.columns import parse_column  # columns have types and types have columns

        cursor.advance()
        cursor.advance()
        parts = [parse_column(cursor)]
        while cursor.take(","):
            parts.append(parse_column(cursor))
        cursor.expect(")")
        columns = tuple(parts)
    return TypeName("object", columns=columns, policy=policy)
