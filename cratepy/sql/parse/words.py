"""Words of the grammar: which are reserved (CrateDB's 96, ``pg_get_keywords`` with catcode R), which begin a clause."""

from __future__ import annotations

from typing import Final

RESERVED: Final = frozenset(
    """
    add all alter and any array as asc between by called case cast column constraint costs create cross current_catalog
    current_date current_role current_time current_timestamp current_user default delete deny desc describe directory
    distinct drop else end escape except exists extract false first for from full function grant group having if in index
    inner input insert intersect into is join last left like limit match natural not null nulls object offset on or order
    outer persistent recursive reset returns revoke right select session_user set some stratify table then transient true
    try_cast unbounded union update user using when where with
    """.split()
)

#: Reserved words that are also names of functions when a parenthesis follows.
FUNCTION_WORDS: Final = frozenset(
    "left right if array object index first last any some all exists extract current_date current_time current_timestamp "
    "current_user current_role session_user current_catalog user match".split()
)
#: Words that cannot be an alias without AS, although they are not reserved.
NO_IMPLICIT_ALIAS: Final = frozenset({"fetch", "window", "returning", "tablesample", "lateral"})
