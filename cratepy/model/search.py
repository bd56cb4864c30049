"""Full-text queries: what MATCH and index-backed filters ask of a shard.

In: the analyzer (MATCH, equality and prefix filters). Out: ``storage.text``, which turns them into queries of the index.
They travel in plans, so they are plain data: names of physical index sources, texts and options.

An *index source* is the physical name of something indexed: ``c<oid>`` of a column with INDEX USING fulltext, or of a
named index (``INDEX name USING fulltext (a, b)``), which has an oid of its own.
"""

from __future__ import annotations

import msgspec


class IndexedSource(msgspec.Struct, frozen=True, cache_hash=True):
    """An index source and the factor its scores are multiplied with."""

    source: str
    boost: float = 1.0


class MatchQuery(msgspec.Struct, frozen=True, cache_hash=True, tag_field="$", tag="match", kw_only=True):
    """``MATCH((a 2.0, b), 'words') USING kind WITH (options)``. Options keep CrateDB's names and texts."""

    sources: tuple[IndexedSource, ...]
    text: str
    #: ``best_fields``, ``most_fields``, ``cross_fields``, ``phrase``, ``phrase_prefix``.
    kind: str = "best_fields"
    options: tuple[tuple[str, str], ...] = ()


class TermsQuery(msgspec.Struct, frozen=True, tag_field="$", tag="terms", kw_only=True):
    """Rows whose indexed text, as a whole (keyword) or as one of its tokens (full text), is one of ``values``."""

    source: str
    values: tuple[str, ...]


class PrefixQuery(msgspec.Struct, frozen=True, tag_field="$", tag="prefix", kw_only=True):
    """Rows with a token that starts with ``prefix``."""

    source: str
    prefix: str


TextQuery = MatchQuery | TermsQuery | PrefixQuery


class IndexDefinition(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A named index of a table: ``INDEX name USING fulltext (columns) WITH (analyzer = …)``."""

    #: From the same counter as column oids; the index source is ``c<oid>``.
    oid: int
    name: str
    #: Column names or paths such as ``obj['sub']``, in the order written.
    columns: tuple[str, ...]
    #: ``fulltext`` or ``plain`` (one token: the whole text).
    method: str = "fulltext"
    analyzer: str | None = None


class AnalyzerDefinition(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An analyzer made by CREATE ANALYZER, its parts resolved: names refer to built-in kinds, settings are theirs.

    Values of settings are texts; a list is given as JSON text (``["a", "b"]``), a boolean as ``true`` or ``false``.
    """

    name: str
    tokenizer: str = "standard"
    tokenizer_settings: tuple[tuple[str, str], ...] = ()
    #: (name, settings) in the order of application.
    token_filters: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    char_filters: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    #: The statement's own settings, for SHOW and information_schema.
    settings: tuple[tuple[str, str], ...] = ()


def part_path(base: str, *parts: str) -> str:
    """The path of a part of an object column: ``o['a']['b']``, quotes in names doubled."""
    return base + "".join("['{}']".format(part.replace("'", "''")) for part in parts)
