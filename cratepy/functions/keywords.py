"""The words of the SQL dialect, for ``pg_get_keywords()``: which may not be an unquoted name, and which may."""

from __future__ import annotations

from typing import Final

RESERVED: Final = frozenset(
    """
    add all alter and any array as asc between by called case cast column constraint costs create cross
    current_catalog current_date current_role current_time current_timestamp current_user default delete deny
    desc describe directory distinct drop else end escape except exists extract false first for from full
    function grant group having if in index inner input insert intersect into is join last left like limit
    match natural not null nulls object offset on or order outer persistent recursive reset returns revoke
    right select session_user set some stratify table then transient true try_cast unbounded union update user
    using when where with
    """.split()
)
UNRESERVED: Final = frozenset(
    """
    absolute alias allocate always analyze analyzer artifacts asensitive at authorization backward begin
    bernoulli binary blob boolean both byte cancel cascade catalogs char char_filters character
    characteristics check close cluster clustered columns commit committed conflict connection constraints
    copy current current_schema cursor dangling data day deallocate declare decommission defaults deferrable
    disable discard distributed do double duplicate dynamic empty enable excluding explain extends failed
    fetch filter float following foreign format forward fulltext functions gc generated geo_point geo_shape
    global graphviz hold hour ignore ignored ilike including indexes insensitive int integer interval ip
    isolation key kill language leading level local logical long mapping materialized metadata millisecond
    minute month move next no nothing off only open optimize options over partition partitioned partitions
    plain plans position preceding precision prepare primary prior privileges promote publication range read
    refresh relative rename repeatable replace replica repository reroute respect restore restrict retry
    return returning role row rows schema schemas scroll second sequences serializable server session shard
    shards short show snapshot stale start storage strict string subscription substring summary swap system
    tables tablesample temp temporary text time timestamp to token_filters tokenizer trailing transaction
    transaction_isolation trim type uncommitted values varying verbose view window without work wrapper write
    year zone
    """.split()
)
#: Rows of word, category code and category.
KEYWORDS: Final[tuple[tuple[str, str, str], ...]] = tuple(
    (word, "R", "reserved") if word in RESERVED else (word, "U", "unreserved") for word in sorted(RESERVED | UNRESERVED)
)
