"""Words of the grammar with a part of their own. Which are reserved is ``functions.keywords``' to say."""

from __future__ import annotations

from typing import Final

#: Reserved words that are also names of functions when a parenthesis follows.
FUNCTION_WORDS: Final = frozenset(
    [
        "left",
        "right",
        "if",
        "array",
        "object",
        "index",
        "first",
        "last",
        "any",
        "some",
        "all",
        "exists",
        "extract",
        "current_date",
        "current_time",
        "current_timestamp",
        "current_user",
        "current_role",
        "session_user",
        "current_catalog",
        "user",
        "match",
    ]
)
#: Words that cannot be an alias without AS, although they are not reserved.
NO_IMPLICIT_ALIAS: Final = frozenset({"fetch", "window", "returning", "tablesample", "lateral"})
