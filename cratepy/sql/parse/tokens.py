"""Text → tokens → a cursor over them, with CrateDB's words for whatever does not fit.

Enters: the text of one or several statements. Leaves: :class:`Cursor`. The tokenizer is sqlglot's (own dialect); this room
adds what it lacks: dollar quotes beside ``$1``, the place of a lexical error, and the bound on nesting, which is checked
on the tokens so that no recursion over hostile text ever starts.
"""

from __future__ import annotations

import re
from typing import Final

from cratepy import limits
from cratepy.errors import ParsingError, StatementTooComplex, StatementTooLong
from cratepy.functions.keywords import RESERVED
from cratepy.sql.parse.dialect import TokenError, TokenType, tokenize

#: Keys of tokens that are not words or operators. A word's key is the word in lower case, an operator's its text.
QUOTED: Final = '"'
STRING: Final = "'"
NUMBER: Final = "0"
PARAMETER: Final = "$"
BITS: Final = "b'"
END: Final = ""

_SPECIAL: Final = {
    TokenType.STRING: STRING,
    TokenType.BYTE_STRING: STRING,
    TokenType.IDENTIFIER: QUOTED,
    TokenType.NUMBER: NUMBER,
    TokenType.BIT_STRING: BITS,
}
_NUMBER: Final = re.compile(r"\d+(?:_\d+)*(?:\.\d*)?(?:[eE][+-]?\d+)?")
_DOLLAR_QUOTE: Final = re.compile(r"\$(?:[^\W\d]\w*)?\$")
#: What may hide a dollar quote: strings, quoted identifiers and comments.
_PIECES: Final = re.compile(
    r"""(?:(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*')|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/"""
    r"""|(?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$(?P<body>.*?)\$(?P=tag)\$)"""
    # What does not end takes all the rest, so that the text is read once.
    r"""|['"].*|/\*.*|(?<![\w$])\$(?:[^\W\d]\w*)?\$.*""",
    re.DOTALL,
)
#: Words after which an operand follows that may be nested without parentheses.
_PREFIXES: Final = frozenset({"not", "case", "-", "+"})


class Cursor:
    """The tokens of one statement and a place in them.

    ``key`` is what the grammar decides by: a word in lower case, an operator, or one of the constants above; a quoted
    identifier or a string never has the key of a word. ``text`` is the content: an identifier's name (folded unless
    quoted), a string's characters, a number's digits.
    """

    __slots__ = ("_keys", "_starts", "_texts", "end", "index", "key", "parameters", "positional", "source")

    def __init__(self, source: str, keys: list[str], texts: list[str], starts: list[int], end: int) -> None:
        self.source = source
        #: Where the statement ends: at its semicolon or at the end of the text.
        self.end = end
        self._keys = [*keys, END, END, END]
        self._texts = texts
        self._starts = starts
        self.index = 0
        self.key = self._keys[0]
        #: The highest parameter number met so far, and how many ``?`` there were.
        self.parameters = 0
        self.positional = 0

    @property
    def text(self) -> str:
        return self._texts[self.index] if self.index < len(self._texts) else ""

    @property
    def start(self) -> int:
        """0-based position of the token in the text."""
        return self._starts[self.index] if self.index < len(self._starts) else self.end

    def peek(self, ahead: int = 1) -> str:
        """The key of a later token."""
        place = self.index + ahead
        return self._keys[place] if place < len(self._keys) else END

    def advance(self) -> str:
        """Go on; gives the text of the token left behind."""
        text = self._texts[self.index]
        self.index += 1
        self.key = self._keys[self.index]
        return text

    def rewind(self, index: int) -> None:
        self.index = index
        self.key = self._keys[index]

    def take(self, key: str) -> bool:
        if self.key == key:
            self.index += 1
            self.key = self._keys[self.index]
            return True
        return False

    def take_words(self, *words: str) -> bool:
        """All of the words, or nothing."""
        keys, index = self._keys, self.index
        for offset, word in enumerate(words):
            if keys[index + offset] != word:
                return False
        self.index += len(words)
        self.key = keys[self.index]
        return True

    def expect(self, key: str) -> None:
        if self.key != key:
            raise self.error(f"expecting '{key.upper()}'")
        self.index += 1
        self.key = self._keys[self.index]

    def name(self) -> str:
        """An identifier: quoted, or any word that is not reserved."""
        if self.key == QUOTED or self.is_name():
            return self.advance()
        raise self.error("expecting an identifier")

    def is_name(self) -> bool:
        key = self.key
        return key == QUOTED or (key not in RESERVED and (key[:1].isalpha() or key[:1] == "_"))

    def any_word(self) -> str:
        """A word in a place where reserved ones are fine, too (after a dot, after AS)."""
        if self.key == QUOTED or self.key[:1].isalpha() or self.key[:1] == "_":
            return self.advance()
        raise self.error("expecting an identifier")

    def string(self) -> str:
        if self.key != STRING:
            raise self.error("expecting STRING")
        return self.advance()

    def integer(self) -> int:
        if self.key != NUMBER or not self.text.isdigit():
            raise self.error("expecting INTEGER_VALUE")
        return int(self.advance())

    def snippet(self, start: int, end_index: int) -> str:
        """The source from a position to just before a token."""
        end = self._starts[end_index] if end_index < len(self._starts) else self.end
        return self.source[start:end].rstrip()

    def error(self, expectation: str = "") -> ParsingError:
        """The syntax error of this place, to be raised."""
        start = self.start
        shown = "<EOF>" if self.index >= len(self._texts) else self.source[start : self._token_end()]
        message = f"mismatched input '{shown}' {expectation}"
        return syntax_error(self.source, start, message if expectation else f"no viable alternative at input '{shown}'")

    def _token_end(self) -> int:
        """Where the token ends: before the next one or the blank in between."""
        following = self._starts[self.index + 1] if self.index + 1 < len(self._starts) else self.end
        words = self.source[self.start : following].split(None, 1)
        return self.start + (len(words[0]) if words else 1)


def syntax_error(source: str, start: int, message: str) -> ParsingError:
    """``line L:C: message``; lines and columns count from 1."""
    line = source.count("\n", 0, start) + 1
    column = start - (source.rfind("\n", 0, start) + 1) + 1
    return ParsingError(f"line {line}:{column}: {message}", position=start + 1)


def cursors(text: str) -> list[Cursor]:
    """One cursor per statement of the text; empty statements are left out.

    Raises StatementTooLong, StatementTooComplex, and ParsingError for what is no token.
    """
    if len(text) > limits.STATEMENT_CHARS_MAX:
        raise StatementTooLong(
            f"Statement exceeds `statement_max_length` ({limits.STATEMENT_CHARS_MAX} allowed, {len(text)} provided). "
            "Try replacing inline values with parameter placeholders (`?`)"
        )
    bodies: dict[int, str] = {}
    plain = _without_dollar_quotes(text, bodies) if "$" in text and _DOLLAR_QUOTE.search(text) else text
    try:
        tokens = tokenize(plain)
    except TokenError:
        raise _lexical_error(plain) from None
    found: list[Cursor] = []
    keys: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    special = _SPECIAL
    for token in tokens:
        start, content = token.start, token.text
        key = special.get(token.token_type)
        if key is None:
            if content == ";":
                if keys:
                    found.append(_checked(Cursor(text, keys, texts, starts, start)))
                    keys, texts, starts = [], [], []
                continue
            key = content.lower()
            content = key
            if key[:1] == "$":
                key = PARAMETER
            elif key == "`":
                raise syntax_error(
                    text, start, "backquoted identifiers are not supported; use double quotes to quote identifiers"
                )
        elif key == NUMBER:
            if len(content) > limits.NUMBER_CHARS_MAX:
                raise syntax_error(text, start, f"a number has more than {limits.NUMBER_CHARS_MAX} characters")
            if not content.isdigit() and _NUMBER.fullmatch(content) is None:
                raise syntax_error(text, start, f"mismatched input '{content}', which is no number")
        elif key == STRING and start in bodies:
            content = bodies[start]
        elif key == STRING and token.token_type == TokenType.BYTE_STRING:
            content = _unescaped(plain, start + 2, token.end)
        keys.append(key)
        texts.append(content)
        starts.append(start)
    if keys:
        found.append(_checked(Cursor(text, keys, texts, starts, len(text))))
    return found


def _checked(cursor: Cursor) -> Cursor:
    """Refuse nesting that would be too deep for the recursive parts of the compiler."""
    depth = deepest = prefixes = 0
    for key in cursor._keys:
        if key in ("(", "[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif key in (")", "]", "}"):
            depth -= 1
        elif key == "case":
            depth += 1
            deepest = max(deepest, depth)
        elif key == "end":
            depth = max(depth - 1, 0)
        prefixes = prefixes + 1 if key in _PREFIXES else 0
        deepest = max(deepest, depth + prefixes)
    if deepest > limits.STATEMENT_NESTING_MAX:
        raise StatementTooComplex(
            f"Statement is nested too deeply: {deepest} levels, {limits.STATEMENT_NESTING_MAX} are allowed"
        )
    return cursor


def _without_dollar_quotes(text: str, bodies: dict[int, str]) -> str:
    """The text with each dollar-quoted string replaced by a plain one of the same length; contents go to ``bodies``."""

    def replaced(match: re.Match[str]) -> str:
        if match["dollar"] is None:
            return match[0]
        bodies[match.start()] = match["body"]
        inner = "".join("\n" if char == "\n" else "." for char in match[0][1:-1])
        return f"'{inner}'"

    return _PIECES.sub(replaced, text)


def _lexical_error(text: str) -> ParsingError:
    """Find the string, identifier or comment that does not end."""
    place = 0
    for match in _PIECES.finditer(text):
        opening = match[0][:2] if match[0].startswith("/*") else match[0][0]
        if match.end() == len(text) and (opening == "/*" or opening in "'\"") and not _is_closed(match[0], opening):
            return syntax_error(text, match.start(), f"mismatched input '{opening}' expecting <EOF>")
        place = match.end()
    return syntax_error(text, place, "token recognition error")


def _is_closed(piece: str, opening: str) -> bool:
    """Whether a string, identifier or comment, the last piece of a text, ends."""
    if opening == "/*":
        return len(piece) > 3 and piece.endswith("*/")
    return piece.count(opening) % 2 == 0


_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)|''", re.DOTALL)
_CONTROLS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _unescaped(text: str, start: int, end: int) -> str:
    """The value of an ``E'…'`` string whose content stands between these places. Raises ParsingError."""

    def value(match: re.Match[str]) -> str:
        escape = match[1]
        if escape is None:
            return "'"
        if escape[0] in "uUx":
            code = int(escape[1:], 16) if len(escape) > 1 else -1
            if not 0 <= code <= _CODE_MAX:
                raise syntax_error(text, start + match.start(), f"invalid escape sequence '\\{escape}'")
            return chr(code)
        if escape.isdigit() and escape[0] in "01234567":
            return chr(int(escape, 8))
        return _CONTROLS.get(escape, escape)

    found = _ESCAPE.sub(value, text[start:end])
    if _SURROGATE.search(found) is None:
        return found
    try:
        return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise syntax_error(text, start, "half of a surrogate pair without the other") from error


_CODE_MAX: Final = 0x10FFFF
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
