"""The grammar of CREATE ANALYZER and DROP ANALYZER (CrateDB's ``SqlBaseParser``: ``createStmt #createAnalyzer``)."""

from __future__ import annotations

from typing import Any

from cratepy.sql.parse import tree
from cratepy.sql.parse.columns import parse_setting_name, parse_setting_value, parse_settings
from cratepy.sql.parse.tokens import Cursor


def parse_create_analyzer(cursor: Cursor) -> tree.CreateAnalyzerNode:
    """``name [EXTENDS name] [WITH] ( element, … )``; CREATE ANALYZER is behind the cursor."""
    name = cursor.name()
    extends = cursor.name() if cursor.take("extends") else None
    cursor.take("with")
    cursor.expect("(")
    fields: dict[str, Any] = {}
    settings: list[tuple[str, tree.Node]] = []
    while True:
        if cursor.key == "tokenizer" and cursor.peek() != "=":
            _once(cursor, fields, "tokenizer")
            fields["tokenizer"] = _part(cursor)
        elif cursor.key in ("token_filters", "char_filters") and cursor.peek() == "(":
            kind = cursor.key
            _once(cursor, fields, kind)
            fields[kind] = _parts(cursor)
        else:
            setting = parse_setting_name(cursor)
            cursor.expect("=")
            settings.append((setting, parse_setting_value(cursor)))
        if not cursor.take(","):
            cursor.expect(")")
            return tree.CreateAnalyzerNode(name=name, extends=extends, settings=tuple(settings), **fields)


def _once(cursor: Cursor, fields: dict[str, Any], kind: str) -> None:
    if kind in fields:
        raise cursor.error()
    cursor.advance()


def _parts(cursor: Cursor) -> tuple[tree.AnalyzerPart, ...]:
    cursor.expect("(")
    parts = [_part(cursor)]
    while cursor.take(","):
        parts.append(_part(cursor))
    cursor.expect(")")
    return tuple(parts)


def _part(cursor: Cursor) -> tree.AnalyzerPart:
    name = cursor.any_word()
    return tree.AnalyzerPart(name, parse_settings(cursor) if cursor.take("with") else ())


def parse_drop_analyzer(cursor: Cursor) -> tree.DropAnalyzerNode:
    """``name``; DROP ANALYZER is behind the cursor."""
    return tree.DropAnalyzerNode(cursor.name())
