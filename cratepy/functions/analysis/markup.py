"""HTML without its tags, as Lucene's char filter leaves it.

In: any text. Out: the words of it, entities decoded. Its own room because a single expression for it takes quadratic time for
texts made to that end: each begin of a script looked for an end behind it.
"""

from __future__ import annotations

import re
from typing import Final

#: A comment's or a script's begin, or a tag that parts words. Neither looks further than to the next bracket.
_BLOCK_TAGS: Final = re.compile(
    r"<!--|<(script|style)\b[^<>]*>|</?(?:p|br|div|li|ul|ol|h[1-6]|tr|td|th|table|hr|pre)\b[^<>]*>", re.I
)
_ENDS: Final = {
    "": re.compile("-->"),
    "script": re.compile(r"</script\s*>", re.I),
    "style": re.compile(r"</style\s*>", re.I),
}
_TAGS: Final = re.compile(r"</?[A-Za-z!?][^<>]*>")


def _without_blocks(text: str) -> str:
    """Scripts, styles and comments, and tags that part words, as line ends. Takes linear time for any text."""
    parts: list[str] = []
    done = at = 0
    open_ended: set[str] = set()
    while (found := _BLOCK_TAGS.search(text, at)) is not None:
        at = found.end()
        if found.group(1) is not None or found.group() == "<!--":
            kind = (found.group(1) or "").lower()
            end = None if kind in open_ended else _ENDS[kind].search(text, at)
            if end is None:
                # Nor is there one behind any later begin, so nobody looks again.
                open_ended.add(kind)
                continue
            at = end.end()
        parts.append(text[done : found.start()])
        done = at
    return "\n".join([*parts, text[done:]])


def without_markup(text: str) -> str:
    """The char filter ``html_strip``."""
    from html import unescape  # a table of 2,000 names

    return unescape(_TAGS.sub("", _without_blocks(text)))
