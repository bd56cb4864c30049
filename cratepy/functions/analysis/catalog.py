"""The analyzers by name: CrateDB's built-in ones, and custom ones checked.

In: names, settings, the custom analyzers of a table. Out: an :class:`~cratepy.model.search.AnalyzerDefinition`: every
analyzer, built-in or not, is char filters, a tokenizer and token filters, and is built one way.

Deviations from Lucene's analyzers: stemmers are Snowball's where Lucene has a lighter one; languages without a stemmer in
the index (see :mod:`cratepy.functions.analysis.languages`) only get ``standard`` and what else is known of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from cratepy import limits
from cratepy.errors import BadRequest, SQLParseError, UnsupportedFeature
from cratepy.functions.analysis.filters import (
    CHAR_FILTERS,
    COSTLY_FILTERS,
    FILTER_ALIASES,
    TOKEN_FILTERS,
    char_filter,
    token_filter,
)
from cratepy.functions.analysis.languages import ELISIONS, LANGUAGES, STEMMERS, STOP_LANGUAGES
from cratepy.functions.analysis.tokenizers import COSTLY_TOKENIZERS, TOKENIZER_ALIASES, TOKENIZERS, Split
from cratepy.model.search import AnalyzerDefinition

DEFAULT_ANALYZER: Final = "standard"

_Settings = tuple[tuple[str, str], ...]
_LOWERCASE: Final[tuple[str, _Settings]] = ("lowercase", ())


def _language(name: str) -> AnalyzerDefinition:
    filters: list[tuple[str, _Settings]] = []
    if name in ELISIONS:
        filters.append(("elision", (("articles", ",".join(ELISIONS[name])),)))
    filters.append(_LOWERCASE)
    if name == "cjk":
        filters = [("cjk_width", ()), _LOWERCASE, ("cjk_bigram", ())]
    spoken = "portuguese" if name == "brazilian" else name
    if spoken in STOP_LANGUAGES or name == "cjk":
        filters.append(("stop", (("stopwords", f"_{'english' if name == 'cjk' else spoken}_"),)))
    if spoken in STEMMERS:
        filters.append(("stemmer", (("language", spoken),)))
    return AnalyzerDefinition(name=name, token_filters=tuple(filters))


_STANDARD: Final = AnalyzerDefinition(name="standard", token_filters=(_LOWERCASE,))
_ENGLISH_STOP: Final[tuple[str, _Settings]] = ("stop", (("stopwords", "_english_"),))
_KEYWORD: Final = AnalyzerDefinition(name="keyword", tokenizer="keyword")

#: Name → definition. ``extend_builtin`` makes variants with parameters.
BUILTIN_ANALYZERS: Final[Mapping[str, AnalyzerDefinition]] = {
    "standard": _STANDARD,
    "default": msgspec.structs.replace(_STANDARD, name="default"),
    "simple": AnalyzerDefinition(name="simple", tokenizer="letter", token_filters=(_LOWERCASE,)),
    "plain": msgspec.structs.replace(_KEYWORD, name="plain"),
    "keyword": _KEYWORD,
    "whitespace": AnalyzerDefinition(name="whitespace", tokenizer="whitespace"),
    "stop": AnalyzerDefinition(name="stop", tokenizer="letter", token_filters=(_LOWERCASE, _ENGLISH_STOP)),
    "pattern": AnalyzerDefinition(name="pattern", tokenizer="pattern", token_filters=(_LOWERCASE,)),
    "snowball": AnalyzerDefinition(
        name="snowball", token_filters=(_LOWERCASE, _ENGLISH_STOP, ("stemmer", (("language", "english"),)))
    ),
    "fingerprint": AnalyzerDefinition(
        name="fingerprint", token_filters=(_LOWERCASE, ("asciifolding", ()), ("fingerprint", ()))
    ),
    **{name: _language(name) for name in LANGUAGES},
}

#: What CREATE ANALYZER may name.
TOKENIZER_NAMES: Final = tuple(sorted(TOKENIZERS))
TOKEN_FILTER_NAMES: Final = tuple(sorted(TOKEN_FILTERS))
CHAR_FILTER_NAMES: Final = tuple(sorted(CHAR_FILTERS))


def find_analyzer(name: str | None, custom: Iterable[AnalyzerDefinition] = ()) -> AnalyzerDefinition | None:
    """The definition of an analyzer, or None: nobody knows it. No name means ``standard``."""
    name = DEFAULT_ANALYZER if name is None else name
    for definition in custom:
        if definition.name == name:
            return definition
    return BUILTIN_ANALYZERS.get(name)


def analyzer_of_column(name: str | None, column: str, custom: Iterable[AnalyzerDefinition] = ()) -> AnalyzerDefinition:
    """As :func:`find_analyzer`; raises SQLParseError as CREATE TABLE does."""
    found = find_analyzer(name, custom)
    if found is None:
        raise SQLParseError(f'Analyzer "{name}" not found for column "{column}"')
    return found


def extend_builtin(name: str, base: str, settings: Mapping[str, str]) -> AnalyzerDefinition:
    """``CREATE ANALYZER name EXTENDS base WITH (settings)`` of a built-in one, which only takes parameters."""
    found = BUILTIN_ANALYZERS[base]
    kept = tuple(settings.items())
    tokenizer_settings: list[tuple[str, str]] = list(found.tokenizer_settings)
    filters = list(found.token_filters)
    for option, value in kept:
        match base, option:
            case ("standard" | "default", "max_token_length"):
                tokenizer_settings.append((option, value))
            case ("pattern", "pattern" | "flags"):
                tokenizer_settings.append((option, value))
            case ("pattern", "lowercase"):
                filters = [_LOWERCASE] if value.lower() == "true" else []
            case ("snowball", "language"):
                filters = [("stemmer", ((option, value.lower()),)) if f[0] == "stemmer" else f for f in filters]
                stop = value.lower() if value.lower() in STOP_LANGUAGES else "none"
                filters = [("stop", (("stopwords", f"_{stop}_"),)) if f[0] == "stop" else f for f in filters]
            case (_, "stopwords"):
                filters = [f for f in filters if f[0] != "stop"]
                at = next((i + 1 for i, f in enumerate(filters) if f[0] == "lowercase"), 0)
                filters.insert(at, ("stop", ((option, value),)))
            case _:
                raise BadRequest(f"analyzer '{base}' has no parameter '{option}'")
    definition = AnalyzerDefinition(
        name=name,
        tokenizer=found.tokenizer,
        tokenizer_settings=tuple(tokenizer_settings),
        token_filters=tuple(filters),
        char_filters=found.char_filters,
        settings=kept,
    )
    check_analyzer(definition)
    return definition


def check_analyzer(definition: AnalyzerDefinition) -> None:
    """Raises BadRequest or UnsupportedFeature if the parts of a custom analyzer are not known or cannot be."""
    tokenizer(definition)
    for filters in (definition.token_filters, definition.char_filters):
        if len(filters) > limits.ANALYZER_FILTERS_MAX:
            raise BadRequest(
                f"an analyzer may have {limits.ANALYZER_FILTERS_MAX} filters of a kind, not {len(filters)}"
            )
    for name, settings in definition.token_filters:
        token_filter(name, dict(settings))
    for name, settings in definition.char_filters:
        char_filter(name, dict(settings))


def tokenizer(definition: AnalyzerDefinition) -> Split:
    settings = dict(definition.tokenizer_settings)
    name = tokenizer_kind(definition)
    make = TOKENIZERS.get(name)
    if make is None:
        raise UnsupportedFeature(f"tokenizer '{name}' is not supported")
    return make(settings)


def may_be_costly(definition: AnalyzerDefinition) -> bool:
    """Whether a text may cost more than its length says: see :mod:`cratepy.functions.analysis.bounds`."""
    settings = dict(definition.tokenizer_settings)
    if tokenizer_kind(definition) in COSTLY_TOKENIZERS and ("pattern" in settings or definition.tokenizer != "pattern"):
        return True
    filters = (*definition.token_filters, *definition.char_filters)
    kinds = {dict(settings).get("type", name) for name, settings in filters}
    return any(FILTER_ALIASES.get(kind, kind) in COSTLY_FILTERS for kind in kinds)


def tokenizer_kind(definition: AnalyzerDefinition) -> str:
    """The tokenizer's built-in kind: custom ones name it as their ``type``."""
    name = dict(definition.tokenizer_settings).get("type", definition.tokenizer)
    return TOKENIZER_ALIASES.get(name, name)
