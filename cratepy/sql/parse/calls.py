"""Calls with a grammar of their own: CAST, EXTRACT, TRIM, SUBSTRING, POSITION, INTERVAL, MATCH, and calls without parentheses.

Each becomes a plain node: ``extract(day from x)`` is the function ``extract`` with the field as a string.
"""

from __future__ import annotations

from typing import Final

from cratepy.sql.parse import tree
from cratepy.sql.parse.tokens import QUOTED, STRING, Cursor
from cratepy.sql.parse.tree import Node
from cratepy.sql.parse.typenames import parse_type

#: Functions that are called without parentheses → their canonical name.
BARE_CALLS: Final = {
    "current_date": "current_date",
    "current_time": "current_time",
    "current_timestamp": "current_timestamp",
    "current_user": "current_user",
    "current_role": "current_role",
    "session_user": "session_user",
    "user": "current_user",
    "current_catalog": "current_catalog",
    "current_schema": "current_schema",
}
_UNITS: Final = frozenset({"year", "month", "week", "day", "hour", "minute", "second"})


def parse_call(cursor: Cursor) -> Node | None:
    """The special form that begins here, or None."""
    key = cursor.key
    if key in BARE_CALLS and cursor.peek() not in ("(", "."):
        if key == "current_schema" and cursor.peek() == ".":
            return None
        cursor.advance()
        return tree.Function((BARE_CALLS[key],), without_parentheses=True)
    if cursor.peek() == STRING and key == "interval":
        return _interval(cursor)
    if key == "interval" and cursor.peek() in ("+", "-") and cursor.peek(2) == STRING:
        return _interval(cursor)
    if cursor.peek() != "(":
        return None
    match key:
        case "cast" | "try_cast":
            return _cast(cursor)
        case "extract":
            return _extract(cursor)
        case "trim":
            return _trim(cursor)
        case "substring" | "substr":
            return _substring(cursor)
        case "position":
            return _position(cursor)
        case "match":
            return _match(cursor)
        case _:
            return None


def _expression(cursor: Cursor) -> Node:
    from cratepy.sql.parse.expressions import parse_expression  # expressions hold calls and calls hold expressions

    return parse_expression(cursor)


def _value(cursor: Cursor) -> Node:
    from cratepy.sql.parse.expressions import parse_value  # as above

    return parse_value(cursor)


def _cast(cursor: Cursor) -> Node:
    is_try = cursor.advance() == "try_cast"
    cursor.expect("(")
    operand = _expression(cursor)
    cursor.expect("as")
    written = parse_type(cursor)
    cursor.expect(")")
    return tree.CastNode(operand, written, is_try)


def _extract(cursor: Cursor) -> Node:
    cursor.advance()
    cursor.expect("(")
    field = cursor.string() if cursor.key == STRING else cursor.any_word()
    cursor.expect("from")
    operand = _expression(cursor)
    cursor.expect(")")
    return tree.Function(("extract",), (tree.StringWord(field.lower()), operand))


def _trim(cursor: Cursor) -> Node:
    cursor.advance()
    cursor.expect("(")
    side = "both"
    has_side = cursor.key in ("leading", "trailing", "both") and cursor.peek() not in (",", ")", "[", "::", ".")
    if has_side:
        side = cursor.advance()
    if cursor.take("from"):
        arguments: tuple[Node, ...] = (_expression(cursor),)
    else:
        first = _expression(cursor)
        if cursor.take("from"):
            arguments = (_expression(cursor), first)
        elif cursor.take(","):
            arguments = (first, _expression(cursor))
        else:
            arguments = (first,)
    cursor.expect(")")
    name = {"both": "trim", "leading": "ltrim", "trailing": "rtrim"}[side]
    return tree.Function((name,), arguments, label="trim")


def _substring(cursor: Cursor) -> Node:
    """``substring(x FROM n FOR m)``, ``substring(x FROM 'regex')`` or the plain call."""
    name = cursor.advance()
    cursor.expect("(")
    if cursor.take(")"):
        return tree.Function((name,))
    arguments = [_expression(cursor)]
    if cursor.take("from"):
        arguments.append(_expression(cursor))
        if cursor.take("for"):
            arguments.append(_expression(cursor))
    elif cursor.take("for"):
        arguments += [tree.NumberWord("1"), _expression(cursor)]
    else:
        while cursor.take(","):
            arguments.append(_expression(cursor))
    cursor.expect(")")
    return tree.Function((name,), tuple(arguments))


def _position(cursor: Cursor) -> Node:
    index = cursor.index
    cursor.advance()
    cursor.expect("(")
    needle = _value(cursor)
    if not cursor.take("in"):
        cursor.rewind(index)
        cursor.advance()
        from cratepy.sql.parse.functions import parse_function  # as above

        return parse_function(cursor, ("position",))
    haystack = _expression(cursor)
    cursor.expect(")")
    return tree.Function(("strpos",), (haystack, needle))


def _interval(cursor: Cursor) -> Node:
    cursor.advance()
    is_negative = False
    if cursor.key in ("+", "-"):
        is_negative = cursor.advance() == "-"
    text = cursor.string()
    unit = end = None
    if cursor.key in _UNITS:
        unit = cursor.advance()
        if cursor.key == "to" and cursor.peek() in _UNITS:
            cursor.advance()
            end = cursor.advance()
    return tree.IntervalWord(text, unit, end, is_negative)


def _match(cursor: Cursor) -> Node:
    """``MATCH(col | (col boost, …), term) [USING method [WITH (options)]]``."""
    cursor.advance()
    cursor.expect("(")
    columns: list[tuple[Node, Node | None]] = []
    if cursor.take("("):
        columns.append(_boosted(cursor))
        while cursor.take(","):
            columns.append(_boosted(cursor))
        cursor.expect(")")
    else:
        columns.append(_boosted(cursor))
    cursor.expect(",")
    term = _expression(cursor)
    cursor.expect(")")
    method = None
    options: tuple[tuple[str, Node], ...] = ()
    if cursor.take("using"):
        method = cursor.any_word()
        if cursor.take("with"):
            from cratepy.sql.parse.columns import parse_settings  # as above

            options = parse_settings(cursor)
    return tree.MatchNode(tuple(columns), term, method, options)


def _boosted(cursor: Cursor) -> tuple[Node, Node | None]:
    column = _value(cursor)
    boost = None if cursor.key in (",", ")") else _value(cursor)
    return column, boost


def is_quoted(cursor: Cursor) -> bool:
    return cursor.key == QUOTED
