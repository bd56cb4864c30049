"""CrateDB's dialect for sqlglot: how text becomes tokens.

Enters: statement text. Leaves: sqlglot's tokens (compiled tokenizer). The tokenizer knows no keywords but operators: which
word is reserved where is the grammar's business (``parse.statements``), so no word of another database (QUALIFY, PIVOT,
CACHE, …) can turn a column name into something else, and ``$1,$2`` and ``::oid[]`` are ordinary tokens. Lexical rules:
CrateDB's SqlBaseLexer (docs: sql/general/lexical-structure).

The grammar is our own, so of sqlglot only the tokenizer is loaded: its package would import the parsers, generators and
expressions of thirty databases, 28 MiB and a tenth of a second of every start (decision 0005).
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Final

#: sqlglot's names have this address here: importing them from it would load all of it.
__all__ = ["TokenError", "TokenType", "tokenize"]


@contextlib.contextmanager
def _only_modules_asked_for(*packages: str) -> Iterator[None]:
    """Inside, modules of the packages are imported without running the packages' own ``__init__``.

    Packages that are loaded stay as they are; who imports one afterwards gets all of it.
    """
    missing = [package for package in packages if package not in sys.modules]
    for package in missing:
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is installed"
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        for package in missing:
            del sys.modules[package]


# ``expressions`` because the compiled helpers of the tokenizer name it for their types.
with _only_modules_asked_for("sqlglot", "sqlglot.expressions"):
    from sqlglot.errors import TokenError
    from sqlglot.tokenizer_core import Token, TokenizerCore, TokenType
    from sqlglot.trie import new_trie

#: The longest that fits is one token. Their types, and those of single characters, say nothing: the grammar looks at texts.
_OPERATORS: Final = dict.fromkeys(
    (
        *("::", "||", ">=", "<=", "<>", "!=", "&&", "<<", ">>", "->", "->>", "=>", "@>", "<@"),
        *("~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*"),
    ),
    TokenType.UNKNOWN,
)
#: Tokens of one character, also where no blank is around them; ``$`` and ``@`` are parts of words.
_SINGLE: Final = dict.fromkeys("()[]{}&^:,.-=><%!|+;/\\*~?#'`\"", TokenType.UNKNOWN)
_QUOTES: Final = {"'": "'"}
_COMMENTS: Final[dict[str, str | None]] = {"--": None, "/*": "*/"}
_PREFIXED: Final = {
    "b'": ("'", TokenType.BIT_STRING),
    "B'": ("'", TokenType.BIT_STRING),
    "e'": ("'", TokenType.BYTE_STRING),
    "E'": ("'", TokenType.BYTE_STRING),
}
_CORE: Final = TokenizerCore(
    single_tokens=_SINGLE,
    keywords=_OPERATORS,
    quotes=_QUOTES,
    format_strings=_PREFIXED,
    identifiers={'"': '"'},
    comments=_COMMENTS,
    string_escapes={"'"},
    byte_string_escapes={"'", "\\"},
    identifier_escapes=set(),
    commands=set(),
    command_prefix_tokens=set(),
    nested_comments=False,
    dash_comment_requires_boundary=False,
    comments_terminate_at_newline_only=False,
    hint_start="/*+",
    tokens_preceding_hint=set(),
    has_bit_strings=True,
    has_hex_strings=False,
    numeric_literals={},
    var_single_tokens={"$", "@"},
    string_escapes_allowed_in_raw_strings=True,
    heredoc_tag_is_identifier=True,
    heredoc_string_alternative=TokenType.UNKNOWN,
    keyword_trie=new_trie(key.upper() for key in (*_OPERATORS, *_COMMENTS, *_QUOTES, *_PREFIXED)),
    numbers_can_be_underscore_separated=True,
    numbers_can_have_decimals=True,
    identifiers_can_start_with_digit=False,
    # The value of an E'…' is made in ``parse.tokens``; here only its end is found.
    unescaped_sequences={},
    numeric_escapes={},
    drop_unknown_escapes=True,
    numeric_escapes_are_bytes=False,
    byte_strings_are_bytes=False,
    lone_surrogate_replacement="",
)


def tokenize(text: str) -> list[Token]:
    """The tokens of the text, comments left out. Raises TokenError: a string, quoted name or comment does not end."""
    return list(_CORE.tokenize(text))
