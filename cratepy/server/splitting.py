"""A text of several statements → its statements, with the place of each.

Every statement of a text has to be compiled against the state that the ones before it left (``CREATE TABLE t …; INSERT
INTO t …``), so the session takes the text apart before the compiler sees it. What counts as a boundary is PostgreSQL's
lexical structure: ``;`` outside of strings, quoted names, dollar quotes and comments.
"""

from __future__ import annotations

import re
from typing import Final

from cratepy import limits
from cratepy.errors import StatementTooComplex

_TOKEN: Final = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*|\$(?:[A-Za-z_]\w*)?\$|;""", re.DOTALL
)
_BLANK: Final = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)


def is_blank(text: str) -> bool:
    """Nothing but white space, comments and semicolons."""
    return _BLANK.fullmatch(text) is not None


def split_statements(text: str) -> list[tuple[int, str]]:
    """The statements that are not blank, each with the offset of its first character in the text."""
    if ";" not in text or ";" not in text.rstrip().removesuffix(";"):
        return [] if is_blank(text) else [(0, text)]
    found: list[tuple[int, str]] = []
    start = position = 0
    while (match := _TOKEN.search(text, position)) is not None:
        token = match.group()
        position = match.end()
        if token == ";":
            _add(found, text, start, match.start())
            start = position
        elif token == "/*":
            position = _comment_end(text, position)
        elif token[0] == "$" and (
            match.start() == 0 or not (text[match.start() - 1].isalnum() or text[match.start() - 1] == "_")
        ):
            closing = text.find(token, position)
            # ``$1,$2`` is no dollar quote, and an unclosed one is the parser's business.
            position = closing + len(token) if closing >= 0 else position
    _add(found, text, start, len(text))
    return found


def _add(found: list[tuple[int, str]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    if is_blank(piece):
        return
    if len(found) >= limits.PG_QUERY_STATEMENTS_MAX:
        raise StatementTooComplex(f"A query has at most {limits.PG_QUERY_STATEMENTS_MAX} statements")
    lead = len(piece) - len(piece.lstrip())
    found.append((start + lead, piece[lead:]))


def _comment_end(text: str, position: int) -> int:
    """Comments nest, as in PostgreSQL."""
    depth = 1
    while depth:
        opening, closing = text.find("/*", position), text.find("*/", position)
        if closing < 0:
            return len(text)
        if 0 <= opening < closing:
            depth, position = depth + 1, opening + 2
        else:
            depth, position = depth - 1, closing + 2
    return position
