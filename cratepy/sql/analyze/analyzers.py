"""CREATE ANALYZER and DROP ANALYZER: the parts as written become an AnalyzerDefinition whose names are built-in kinds.

A part is a built-in name (``lowercase``), or a name of the statement's own with ``type`` and settings. An analyzer that
extends a custom one takes over the parts it does not give; one that extends a built-in one may only give settings.
Errors after CrateDB's ``CreateAnalyzerAnalyzer`` and ``FulltextAnalyzerResolver``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from cratepy.errors import AnalyzerUnknown, BadRequest, SQLParseError, UnsupportedFeature
from cratepy.functions.analysis.catalog import (
    BUILTIN_ANALYZERS,
    CHAR_FILTER_NAMES,
    TOKEN_FILTER_NAMES,
    TOKENIZER_NAMES,
    check_analyzer,
    extend_builtin,
)
from cratepy.functions.analysis.tokenizers import TOKENIZER_ALIASES
from cratepy.model.commands import CreateAnalyzer, DropAnalyzer
from cratepy.model.search import AnalyzerDefinition
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.settings import constant
from cratepy.sql.parse import tree

Settings = tuple[tuple[str, str], ...]
Part = tuple[str, Settings]

#: What a part is called in errors → the built-in kinds.
_KINDS: Final[dict[str, Collection[str]]] = {
    "tokenizer": (*TOKENIZER_NAMES, *TOKENIZER_ALIASES),
    "token-filter": TOKEN_FILTER_NAMES,
    "char-filter": CHAR_FILTER_NAMES,
}


def create_analyzer(context: Context, node: tree.CreateAnalyzerNode) -> CreateAnalyzer:
    """The command. Raises SQLParseError, AnalyzerUnknown, UnsupportedFeature."""
    if node.name == "default":
        raise SQLParseError("Overriding the default analyzer is forbidden")
    if node.name in BUILTIN_ANALYZERS:
        raise SQLParseError(f"Cannot override builtin analyzer '{node.name}'")
    try:
        analyzer = _analyzer(context, node)
        check_analyzer(analyzer)
    except BadRequest as error:
        raise SQLParseError(error.message) from error
    return CreateAnalyzer(analyzer)


def _analyzer(context: Context, node: tree.CreateAnalyzerNode) -> AnalyzerDefinition:
    settings = _settings(context, node.settings)
    extended = None if node.extends is None else context.catalog.analyzer(node.extends)
    if node.extends is not None and extended is None:
        if node.extends not in BUILTIN_ANALYZERS:
            raise AnalyzerUnknown(f"Analyzer '{node.extends}' unknown")
        if node.tokenizer is not None or node.token_filters is not None or node.char_filters is not None:
            raise UnsupportedFeature(f"Cannot extend built-in analyzer '{node.extends}' with anything but settings")
        return extend_builtin(node.name, node.extends, dict(settings))
    if extended is None:
        if node.tokenizer is None:
            raise UnsupportedFeature("Tokenizer missing from non-extended analyzer")
        extended = AnalyzerDefinition(name=node.name)
    tokenizer = None if node.tokenizer is None else _part(context, "tokenizer", node.tokenizer)
    token_filters = _parts(context, "token-filter", node.token_filters)
    char_filters = _parts(context, "char-filter", node.char_filters)
    kind, kind_settings = tokenizer or (extended.tokenizer, extended.tokenizer_settings)
    return AnalyzerDefinition(
        name=node.name,
        tokenizer=kind,
        tokenizer_settings=kind_settings,
        token_filters=extended.token_filters if token_filters is None else token_filters,
        char_filters=extended.char_filters if char_filters is None else char_filters,
        settings=tuple({**dict(extended.settings), **dict(settings)}.items()),
    )


def drop_analyzer(context: Context, node: tree.DropAnalyzerNode) -> DropAnalyzer:
    """The command. Raises AnalyzerUnknown."""
    if context.catalog.analyzer(node.name) is None:
        raise AnalyzerUnknown(f"Analyzer '{node.name}' unknown")
    return DropAnalyzer(node.name)


def _parts(context: Context, what: str, written: tuple[tree.AnalyzerPart, ...] | None) -> tuple[Part, ...] | None:
    return None if written is None else tuple(_part(context, what, part) for part in written)


def _part(context: Context, what: str, written: tree.AnalyzerPart) -> Part:
    """(built-in kind, settings)."""
    settings = dict(_settings(context, written.settings))
    kind = settings.pop("type", None)
    if kind is not None:
        if kind not in _KINDS[what]:
            raise SQLParseError(f"Non-existing built-in {what} type '{kind}'")
        return kind, tuple(settings.items())
    if written.name not in _KINDS[what]:
        raise SQLParseError(f"Non-existing {what} '{written.name}'")
    return written.name, tuple(settings.items())


def _settings(context: Context, written: tuple[tuple[str, tree.Node], ...]) -> Settings:
    return tuple({name.lower(): _text(constant(context, value)) for name, value in written}.items())


def _text(value: Any) -> str:
    """A setting as an AnalyzerDefinition keeps it."""
    if isinstance(value, list):
        return json.dumps([_text(item) for item in value], ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
