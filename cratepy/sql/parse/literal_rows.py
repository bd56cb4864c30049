"""The fast path: a long ``INSERT … VALUES`` whose rows are plain literals becomes columns of values without a tree.

The grammar needs a node per literal; here one compiled regular expression takes a row at a time at C speed, and columns are
converted as a whole. Anything unusual (an expression, a parameter, a comment, another kind of string, rows of different
width) makes it give up, and the grammar takes over; so it never raises for what is written.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from cratepy import limits
from cratepy.errors import ParsingError, StatementTooLong
from cratepy.functions.keywords import RESERVED
from cratepy.sql.parse import tree

#: Shorter statements gain nothing.
_CHARS_MIN: Final = 400
_HEAD: Final = re.compile(
    r'\s*insert\s+into\s+((?:[a-z_]\w*|"(?:[^"]|"")+")(?:\s*\.\s*(?:[a-z_]\w*|"(?:[^"]|"")+"))?)\s*'
    r'(?:\(\s*((?:[a-z_]\w*|"(?:[^"]|"")+")(?:\s*,\s*(?:[a-z_]\w*|"(?:[^"]|"")+"))*)\s*\)\s*)?values\s*(?=\()',
    re.IGNORECASE | re.ASCII,
)
_NAME: Final = re.compile(r'[a-z_]\w*|"(?:[^"]|"")+"', re.IGNORECASE | re.ASCII)
#: A literal; possessive, so that the check of a long text never goes back.
_LITERAL: Final = (
    r"(?:'[^']*+(?:''[^']*+)*+'|-?\d++(?:\.\d*+)?(?:[eE][+-]?\d++)?|-?\.\d++(?:[eE][+-]?\d++)?"
    r"|[nN][uU][lL]{2}|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])"
)
#: The same where the text is known to hold nothing but literals.
_CHECKED: Final = r"('[^']*+(?:''[^']*+)*+'|[-+.\deE]++|[a-zA-Z]++)"
_WORDS: Final[dict[str, bool | None]] = {"null": None, "true": True, "false": False}
#: Literals of one row; wider rows take the slow path.
_WIDTH_MAX: Final = 90


def scan_insert(text: str) -> tree.InsertNode | None:
    """The INSERT if it is one of plain literals and long enough, else None. Raises StatementTooLong."""
    if len(text) < _CHARS_MIN:
        return None
    if len(text) > limits.STATEMENT_CHARS_MAX:
        raise StatementTooLong(
            f"Statement exceeds `statement_max_length` ({limits.STATEMENT_CHARS_MAX} allowed, {len(text)} provided). "
            "Try replacing inline values with parameter placeholders (`?`)"
        )
    head = _HEAD.match(text)
    if head is None:
        return None
    name = _identifiers(head[1])
    targets = _identifiers(head[2]) if head[2] else ()
    if name is None or targets is None:
        return None
    rows = _rows(text, head.end())
    if rows is None:
        return None
    return tree.InsertNode(name=name, columns=tuple(tree.Name((target,)) for target in targets), rows=rows)


def _identifiers(text: str) -> tuple[str, ...] | None:
    names: list[str] = []
    for word in _NAME.findall(text):
        if word[0] == '"':
            names.append(word[1:-1].replace('""', '"'))
        elif word.lower() in RESERVED:
            return None
        else:
            names.append(word.lower())
    return tuple(names)


@functools.lru_cache(maxsize=256)
def _patterns(width: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Rows of so many literals to the end of the text; and one row with its literals as groups."""
    row = rf"\(\s*+{_LITERAL}(?:\s*+,\s*+{_LITERAL}){{{width - 1}}}\s*+\)"
    groups = r"\s*+,\s*+".join([_CHECKED] * width)
    return (
        re.compile(rf"{row}(?:\s*+,\s*+{row})*+\s*+;?\s*+\Z", re.ASCII),
        re.compile(rf"[\s,]*+\(\s*+{groups}\s*+\)", re.ASCII),
    )


_FIRST: Final = re.compile(rf"\s*+({_LITERAL})\s*+(,|\))", re.ASCII)


def _width(text: str, start: int) -> int | None:
    """How many literals the first row has."""
    place, width = start + 1, 0
    while width <= _WIDTH_MAX:
        found = _FIRST.match(text, place)
        if found is None:
            return None
        width += 1
        place = found.end()
        if found[2] == ")":
            return width
    return None


def _rows(text: str, start: int) -> tree.LiteralRows | None:
    """All rows, if the text from ``start`` to its end is nothing but rows of as many literals each."""
    width = _width(text, start)
    if width is None:
        return None
    whole, row = _patterns(width)
    if whole.match(text, start) is None:
        return None
    found = row.findall(text, start)
    columns: list[tuple[str, ...]] = [tuple(found)] if width == 1 else list(zip(*found, strict=True))
    converted = [_column(column) for column in columns]
    values: list[list[object]] = []
    kinds: list[frozenset[str]] = []
    for one in converted:
        if one is None:
            return None
        values.append(one[0])
        kinds.append(one[1])
    return tree.LiteralRows(tuple(values), tuple(kinds))


def _column(texts: tuple[str, ...]) -> tuple[list[object], frozenset[str]] | None:
    """The literals' values and kinds; None if numbers with a point stand among strings (they are kept as text)."""
    heads = {text[0] for text in texts}
    joined = "".join(texts)
    if heads == {"'"}:
        if "''" in joined and any("''" in text for text in texts):
            return [text[1:-1].replace("''", "'") for text in texts], frozenset("s")
        return [text[1:-1] for text in texts], frozenset("s")
    if heads <= _DIGITS:
        if joined.replace("-", "").isdigit() and len(max(texts, key=len)) <= limits.NUMBER_CHARS_MAX:
            return list(map(int, texts)), frozenset("i")
        numbers: list[object] = [_number(text) for text in texts]
        return numbers, frozenset("i" if isinstance(number, int) else "n" for number in numbers)
    values: list[object] = []
    kinds: set[str] = set()
    for text in texts:
        head = text[0]
        if head == "'":
            values.append(text[1:-1].replace("''", "'"))
            kinds.add("s")
        elif head in _DIGITS:
            number = _number(text)
            values.append(number)
            kinds.add("i" if isinstance(number, int) else "n")
        else:
            word = _WORDS[text.lower()]
            values.append(word)
            if word is not None:
                kinds.add("b")
    return None if {"n", "s"} <= kinds else (values, frozenset(kinds))


_DIGITS: Final = frozenset("0123456789-.")


def _number(text: str) -> int | str:
    """A whole number as such; one with a point or an exponent stays text until its type is known."""
    if len(text) > limits.NUMBER_CHARS_MAX:
        raise ParsingError(f"a number has more than {limits.NUMBER_CHARS_MAX} characters")
    return text if "." in text or "e" in text or "E" in text else int(text)
