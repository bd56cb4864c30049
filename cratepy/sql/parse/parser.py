"""The parser's front door: text in, parsed statements out.

::

    text ─ tokens (sqlglot's tokenizer, own dialect) ─ cursor per statement ─ grammar ─► ParsedStatement(text, tree)

A long ``INSERT … VALUES`` of literals is read without a tree for its rows (``parse.literal_rows``). Syntax errors are
CrateDB's class with its ``line L:C:``; the rest of their words is ours (CrateDB's are its parser generator's token lists).
"""

from __future__ import annotations

from cratepy.sql.parse.literal_rows import scan_insert
from cratepy.sql.parse.statements import parse_statement
from cratepy.sql.parse.tokens import Cursor, cursors
from cratepy.sql.parse.tree import ParsedStatement


def parse(text: str) -> list[ParsedStatement]:
    """The statements of the text; none for blanks and comments.

    Raises ParsingError, StatementTooLong, StatementTooComplex. Cost: about 5 µs a token.
    """
    scanned = scan_insert(text)
    if scanned is not None:
        return [ParsedStatement(text, scanned)]
    return [_parsed(cursor) for cursor in cursors(text)]


def _parsed(cursor: Cursor) -> ParsedStatement:
    start = cursor.start
    tree = parse_statement(cursor)
    return ParsedStatement(cursor.snippet(start, cursor.index), tree, cursor.parameters)
