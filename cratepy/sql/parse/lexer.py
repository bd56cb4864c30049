"""Text → tokens: the lexical rules, and nothing about what a statement may say.

Enters: the text of one or several statements. Leaves: for each token its key, its text and where it starts. No word is a
keyword here: which one is reserved where is the grammar's business (``parse.statements``), so no word can turn a column name
into something else. Lexical rules: CrateDB's SqlBaseLexer (docs: sql/general/lexical-structure), and of PostgreSQL's what
clients send: ``$1``, dollar quotes, ``E'…'``.

One regular expression is the whole lexer. Its repetitions are possessive or meet distinct characters, so the time is linear
in the text whatever is in it.
"""

from __future__ import annotations

import re
import sys
from typing import Final

from cratepy.errors import ParsingError

#: Keys of tokens that are not words or operators. A word's key is the word in lower case, an operator's its text.
QUOTED: Final = '"'
STRING: Final = "'"
NUMBER: Final = "0"
PARAMETER: Final = "$"
BITS: Final = "b'"

#: What is a token by itself and ends a word, except in an operator: the longest that fits is one token.
_SYMBOLS: Final = r"()\[\]{}&^:,.\-=><%!|+;/\\*~?#`"
_SINGLE: Final = _SYMBOLS + "'\""
_OPERATORS: Final = r"::|\|\||>=|<=|<>|!=|&&|<<|>>|!~~\*?|!~\*?|~~\*?|~\*|->>?|=>|@>|<@"
_DIGITS: Final = "[0-9]++(?:_[0-9]++)*+"
_DOLLARS: Final = r"\$(?:[^\W\d]\w*+)?\$"
_TOKEN: Final = re.compile(
    rf"""
      \s++ | --[^\n\r]*+ | /\*(?s:.*?)\*/                                              # blanks, comments: no group
    | ((?:[^\s0-9eEbB$@{_SINGLE}]|(?![eEbB]'|@>|{_DOLLARS})[eEbB$@])[^\s{_SINGLE}]*+)  # 1: a word, $1, @name
    | ({_OPERATORS}|(?!/\*)[{_SYMBOLS}])                                               # 2
    | '([^']*+(?:''[^']*+)*+)'                                                         # 3
    | "([^"]*+(?:""[^"]*+)*+)"                                                         # 4
    | 0[bB]([01]++)(?![^\s{_SINGLE}])                                                  # 5: bits as a number
    | ({_DIGITS}(?:\.(?:{_DIGITS})?)?(?:[eE](?!_)(?:[+-]?{_DIGITS})?)?)                # 6
    | [eE]'((?:[^'\\]++|\\(?s:.)|'')*+)'                                               # 7
    | [bB]'([^']*+)'                                                                  # 8
    | (?P<tag>{_DOLLARS})((?s:.*?))(?P=tag)                                            # 9, 10
    | ([eEbB]?['"]|/\*|{_DOLLARS}|(?s:.))                                              # 11: nothing of these
    """,
    re.VERBOSE,
)
_WORD, _SYMBOL, _STRING, _NAME, _NUMERIC_BITS, _NUMBER, _ESCAPED, _BITS, _TAG, _DOLLAR_QUOTED, _BAD = range(1, 12)


def tokenize(text: str) -> tuple[list[str], list[str], list[int]]:
    """Keys, texts and 0-based places of all tokens. Raises ParsingError: something does not end, or is no token."""
    keys: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    for match in _TOKEN.finditer(text):
        kind = match.lastindex
        if kind is None:
            continue
        content = match[kind]
        if kind == _WORD:
            key = content = content.lower()
            if key[0] == "$":
                key = PARAMETER
        elif kind == _SYMBOL:
            key = content
            if key == "`":
                problem = "backquoted identifiers are not supported; use double quotes to quote identifiers"
                raise syntax_error(text, match.start(), problem)
        elif kind == _NUMBER:
            key, content = NUMBER, content.replace("_", "")
        elif kind == _STRING:
            key, content = STRING, content.replace("''", "'")
        elif kind == _NAME:
            key, content = QUOTED, content.replace('""', '"')
        elif kind == _ESCAPED:
            key = STRING
            try:
                content = _ESCAPE.sub(_escaped, content)
            except ValueError:
                raise syntax_error(text, match.start(), "invalid Unicode escape value") from None
        elif kind in (_BITS, _NUMERIC_BITS):
            key = BITS
            if content.strip("01"):
                raise syntax_error(text, match.start(), "token recognition error")
        elif kind == _BAD:
            raise _lexical_error(text, match)
        else:
            assert kind == _DOLLAR_QUOTED
            key = STRING
        keys.append(key)
        texts.append(content)
        starts.append(match.start())
    return keys, texts, starts


_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)|''", re.DOTALL)
_CONTROLS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _escaped(match: re.Match[str]) -> str:
    """The character that an escape of an ``E'…'`` string stands for. Raises ValueError: there is none."""
    escape = match[1]
    if escape is None:
        return "'"
    if escape[0] in "uUx" and len(escape) > 1:
        code = int(escape[1:], 16)
        if 0xD800 <= code <= 0xDFFF or code > sys.maxunicode:
            raise ValueError("half of a surrogate pair, or beyond Unicode")
        return chr(code)
    if escape.isdigit() and escape[0] in "01234567":
        return chr(int(escape, 8))
    return _CONTROLS.get(escape, escape)


def _lexical_error(text: str, match: re.Match[str]) -> ParsingError:
    """For a string, name or comment that does not end: the place of what opens it."""
    opening = match[_BAD]
    if opening[-1] in "'\"":
        opening = opening[-1]
    elif opening[-1] not in "*$":
        return syntax_error(text, match.start(), "token recognition error")
    return syntax_error(text, match.end() - len(opening), f"mismatched input '{opening}' expecting <EOF>")


def syntax_error(source: str, start: int, message: str) -> ParsingError:
    """``line L:C: message``; lines and columns count from 1."""
    line = source.count("\n", 0, start) + 1
    column = start - (source.rfind("\n", 0, start) + 1) + 1
    return ParsingError(f"line {line}:{column}: {message}", position=start + 1)
