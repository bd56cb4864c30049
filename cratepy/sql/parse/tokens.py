"""Text → tokens → a cursor over them, with CrateDB's words for whatever does not fit.

Enters: the text of one or several statements. Leaves: :class:`Cursor`. The bound on nesting is checked here, on the tokens,
so that no recursion over hostile text ever starts.
"""

from __future__ import annotations

from typing import Final

from cratepy import limits
from cratepy.errors import ParsingError, StatementTooComplex, StatementTooLong
from cratepy.functions.keywords import RESERVED
from cratepy.sql.parse.lexer import NUMBER, QUOTED, STRING, syntax_error, tokenize

#: The key after the last token.
END: Final = ""
#: Words after which an operand follows that may be nested without parentheses.
_PREFIXES: Final = frozenset({"not", "case", "-", "+"})


class Cursor:
    """The tokens of one statement and a place in them.

    ``key`` is what the grammar decides by: a word in lower case, an operator, or one of the lexer's constants; a quoted
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


def cursors(text: str) -> list[Cursor]:
    """One cursor per statement of the text; empty statements are left out.

    Raises StatementTooLong, StatementTooComplex, and ParsingError for what is no token.
    """
    if len(text) > limits.STATEMENT_CHARS_MAX:
        raise StatementTooLong(
            f"Statement exceeds `statement_max_length` ({limits.STATEMENT_CHARS_MAX} allowed, {len(text)} provided). "
            "Try replacing inline values with parameter placeholders (`?`)"
        )
    keys, texts, starts = tokenize(text)
    found = []
    first = 0
    for _ in range(keys.count(";")):
        last = keys.index(";", first)
        if last > first:
            parts = (keys[first:last], texts[first:last], starts[first:last])
            found.append(_checked(Cursor(text, *parts, starts[last])))
        first = last + 1
    if first < len(keys):
        found.append(_checked(Cursor(text, keys[first:], texts[first:], starts[first:], len(text))))
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
