"""The grammar of CREATE TABLE's elements and of ``WITH (name = value, …)``.

Expressions of DEFAULT, GENERATED and CHECK are given with their text, which is what the schema keeps.
"""

from __future__ import annotations

from typing import Any

from cratepy.sql.parse import tree
from cratepy.sql.parse.expressions import parse_expression, parse_list, parse_value
from cratepy.sql.parse.queries import parse_qualified_name
from cratepy.sql.parse.tokens import QUOTED, STRING, Cursor
from cratepy.sql.parse.tree import ColumnDef, Node
from cratepy.sql.parse.typenames import parse_type

_COLUMN_WORDS = frozenset(
    {
        "primary",
        "not",
        "null",
        "index",
        "storage",
        "default",
        "generated",
        "as",
        "check",
        "constraint",
        "on",
        "unique",
        "references",
    }
)


#: What LIKE can include. There are no comments on columns.
_LIKE_PARTS = ("comments", "constraints", "defaults", "generated", "indexes", "storage")


def parse_column(cursor: Cursor) -> ColumnDef:
    """``name [type] constraint*``; the name may be a path ``o['k']`` (ALTER TABLE ADD)."""
    name, *path = parse_column_path(cursor)
    written = None
    if cursor.key not in _COLUMN_WORDS and cursor.key not in (",", ")", ""):
        written = parse_type(cursor)
    parts: dict[str, Any] = {}
    checks: list[tuple[str | None, Node, str]] = []
    while True:
        constraint_name = cursor.name() if cursor.take("constraint") else None
        if not _constraint(cursor, parts, checks, constraint_name):
            if constraint_name is not None:
                raise cursor.error()
            return ColumnDef(name=name, type=written, checks=tuple(checks), path=tuple(path), **parts)


def parse_column_path(cursor: Cursor) -> tuple[str, ...]:
    """``name`` or ``name['a']['b']``."""
    path = [cursor.name()]
    while cursor.key == "[" and cursor.peek() == STRING:
        cursor.advance()
        path.append(cursor.string())
        cursor.expect("]")
    return tuple(path)


def _constraint(
    cursor: Cursor, parts: dict[str, Any], checks: list[tuple[str | None, Node, str]], name: str | None
) -> bool:
    """Read one constraint of a column into ``parts``; False if none stands here."""
    if cursor.take_words("primary", "key"):
        parts["is_primary_key"] = True
        parts["primary_key_name"] = name
    elif cursor.take_words("not", "null"):
        parts["declares_both"] = parts.get("is_nullable") is True
        parts["is_nullable"] = False
    elif cursor.take("null"):
        parts["declares_both"] = parts.get("is_nullable") is False
        parts["is_nullable"] = parts.get("is_nullable", True)
    elif cursor.key == "index" and cursor.peek() in ("off", "using"):
        cursor.advance()
        if cursor.take("off"):
            parts["index"] = "off"
        else:
            cursor.advance()
            parts["index"] = cursor.any_word()
            if cursor.take("with"):
                parts["index_options"] = parse_settings(cursor)
    elif cursor.take_words("storage", "with"):
        parts["storage"] = parse_settings(cursor)
    elif cursor.take("default"):
        parts["default"] = parse_with_text(cursor)
    elif cursor.take_words("generated", "always", "as") or cursor.take("as"):
        parts["generated"] = parse_with_text(cursor)
    elif cursor.take("check"):
        cursor.expect("(")
        checks.append((name, *parse_with_text(cursor)))
        cursor.expect(")")
    else:
        return False
    return True


def parse_with_text(cursor: Cursor) -> tuple[Node, str]:
    """An expression and how it was written."""
    start = cursor.start
    node = parse_expression(cursor)
    text = cursor.snippet(start, cursor.index)
    # ``AS (a + 1)``: the parentheses are the grammar's, the rest is the expression's.
    return node, text


def parse_settings(cursor: Cursor) -> tuple[tuple[str, Node], ...]:
    """``(a.b = v, "c.d" = [v, w], …)``; WITH is behind the cursor."""
    cursor.expect("(")
    settings: list[tuple[str, Node]] = []
    while not cursor.take(")"):
        if settings:
            cursor.expect(",")
        name = parse_setting_name(cursor)
        cursor.expect("=")
        settings.append((name, parse_setting_value(cursor)))
    return tuple(settings)


def parse_setting_name(cursor: Cursor) -> str:
    parts = [cursor.string() if cursor.key == STRING else cursor.any_word()]
    while cursor.take("."):
        parts.append(cursor.any_word())
    return ".".join(parts)


def parse_setting_value(cursor: Cursor) -> Node:
    """A value: an expression, or a bare word (``on``, ``read``)."""
    if cursor.key not in ("null", "true", "false", "default", "case", "cast") and _is_bare_word(cursor):
        return tree.StringWord(cursor.advance())
    return parse_value(cursor)


def _is_bare_word(cursor: Cursor) -> bool:
    key = cursor.key
    is_word = key == QUOTED or key[:1].isalpha() or key[:1] == "_"
    return is_word and cursor.peek() in (",", ")", "", ";")


def parse_like(cursor: Cursor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``(LIKE table INCLUDING … EXCLUDING …)``: the table, and the parts that are included in the end."""
    cursor.expect("(")
    cursor.expect("like")
    name = parse_qualified_name(cursor)
    included: set[str] = set()
    while cursor.key in ("including", "excluding"):
        is_included = cursor.advance() == "including"
        word = cursor.any_word()
        if word not in (*_LIKE_PARTS, "all"):
            raise cursor.error(f"expecting {{'ALL', {', '.join(repr(part.upper()) for part in _LIKE_PARTS)}}}")
        parts = _LIKE_PARTS if word == "all" else (word,)
        included = included.union(parts) if is_included else included.difference(parts)
    cursor.expect(")")
    return name, tuple(sorted(included))


def parse_table_elements(cursor: Cursor) -> dict[str, Any]:
    """``(element, …)`` of CREATE TABLE, as fields of CreateTableNode."""
    columns: list[ColumnDef] = []
    checks: list[tuple[str | None, Node, str]] = []
    indexes: list[tree.IndexDef] = []
    fields: dict[str, Any] = {}
    cursor.expect("(")
    while True:
        name = cursor.name() if cursor.take("constraint") else None
        if cursor.key == "primary" and cursor.peek() == "key" and cursor.peek(2) == "(":
            cursor.take_words("primary", "key")
            cursor.expect("(")
            if "primary_key" in fields:
                raise cursor.error()
            fields["primary_key"] = parse_list(cursor)
            fields["primary_key_name"] = name
            cursor.expect(")")
        elif cursor.key == "check" and cursor.peek() == "(":
            cursor.advance()
            cursor.advance()
            checks.append((name, *parse_with_text(cursor)))
            cursor.expect(")")
        elif name is not None:
            raise cursor.error()
        elif cursor.key == "index" and cursor.peek(2) == "using":
            indexes.append(_index(cursor))
        else:
            columns.append(parse_column(cursor))
        if not cursor.take(","):
            cursor.expect(")")
            return {**fields, "columns": tuple(columns), "checks": tuple(checks), "indexes": tuple(indexes)}


def _index(cursor: Cursor) -> tree.IndexDef:
    cursor.advance()
    name = cursor.name()
    cursor.expect("using")
    method = cursor.any_word()
    cursor.expect("(")
    columns = parse_list(cursor)
    cursor.expect(")")
    options = parse_settings(cursor) if cursor.take("with") else ()
    return tree.IndexDef(name=name, method=method, columns=columns, options=options)
