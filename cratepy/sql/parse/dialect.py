"""CrateDB's dialect for sqlglot: how text becomes tokens.

Enters: statement text. Leaves: sqlglot's tokens (compiled tokenizer). A subclass of its PostgreSQL dialect whose tokenizer knows
no keywords but operators: which word is reserved where is the grammar's business (``parse.grammar``), so no word of
another database (QUALIFY, PIVOT, CACHE, …) can turn a column name into something else, and ``$1,$2`` and ``::oid[]`` are
ordinary tokens. Lexical rules: CrateDB's SqlBaseLexer (docs: sql/general/lexical-structure).

``parse`` of this dialect is the own grammar: sqlglot's accepts words it then drops (``DISCARD ALL`` as an alias, a
missing AND in BETWEEN), forgets how a type was written, which names the output column, and gives no column for an error.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import tokens
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokens import TokenType

_OPERATORS: dict[str, TokenType] = {
    "::": TokenType.DCOLON,
    "||": TokenType.DPIPE,
    ">=": TokenType.GTE,
    "<=": TokenType.LTE,
    "<>": TokenType.NEQ,
    "!=": TokenType.NEQ,
    "&&": TokenType.DAMP,
    "<<": TokenType.LT_AT,
    ">>": TokenType.AT_GT,
    "~*": TokenType.IRLIKE,
    "!~": TokenType.RLIKE,
    "!~*": TokenType.IRLIKE,
    "~~": TokenType.LIKE,
    "~~*": TokenType.ILIKE,
    "!~~": TokenType.LIKE,
    "!~~*": TokenType.ILIKE,
    "->": TokenType.ARROW,
    "->>": TokenType.DARROW,
    "=>": TokenType.FARROW,
    "@>": TokenType.AT_GT,
    "<@": TokenType.LT_AT,
}


class CrateDB(Postgres):
    """The dialect; only its tokenizer is used."""

    NUMBERS_CAN_BE_UNDERSCORE_SEPARATED = True

    class Tokenizer(Postgres.Tokenizer):
        KEYWORDS: ClassVar[dict[str, Any]] = dict(_OPERATORS)
        COMMANDS: ClassVar[set[Any]] = set()
        HEREDOC_STRINGS: ClassVar[list[Any]] = []
        HEX_STRINGS: ClassVar[list[Any]] = []
        UNICODE_STRINGS: ClassVar[list[Any]] = []
        NESTED_COMMENTS = False
        SINGLE_TOKENS: ClassVar[dict[str, Any]] = {
            **{k: v for k, v in tokens.Tokenizer.SINGLE_TOKENS.items() if k not in ("$", "@")},
            "`": TokenType.UNKNOWN,
        }
        VAR_SINGLE_TOKENS: ClassVar[set[str]] = {"$", "@"}
