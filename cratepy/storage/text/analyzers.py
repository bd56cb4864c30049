"""Analyzers of the index: definitions turned into what tantivy registers and what is done to texts before.

In: an :class:`~cratepy.model.search.AnalyzerDefinition`. Out: an :class:`Analyzer`: what to give to a document for a text,
and the tokens of a query's text; both the same way, so they meet. Three ways, fastest first:

    words    the tokenizer's words, joined with blanks; tantivy splits at blanks and applies the filters
    whole    the text is one token; tantivy applies the filters
    tokens   everything here, token by token; tantivy gets tokens with positions (a sixth of the speed)

What one text may cost is bounded (:mod:`cratepy.functions.analysis.bounds`). Writers ask :meth:`Analyzer.check` first, so such
a text is refused when it is written. An index is built long after its rows were acknowledged, on every copy, on machines that
may be busier than the writer's; there a text that costs too much all the same has no words in the index: the row stays, and
no MATCH finds it by them.

Several texts of one row (arrays, indexes over several columns) always go as tokens, with Lucene's gap of 100 positions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import pyarrow as pa
import tantivy

from cratepy import limits
from cratepy.functions.analysis.bounds import AnalysisTooCostly, bounded_analysis
from cratepy.functions.analysis.catalog import may_be_costly, tokenizer, tokenizer_kind
from cratepy.functions.analysis.filters import (
    CharFilter,
    EachWord,
    NativeFilter,
    TokenFilter,
    char_filter,
    token_filter,
)
from cratepy.functions.analysis.tokenizers import Token
from cratepy.model.search import AnalyzerDefinition
from cratepy.storage.text.words import separated_column

#: Elasticsearch's ``position_increment_gap``.
_POSITION_GAP: Final = 100
#: Tokenizers whose words never hold blanks.
_WORD_TOKENIZERS: Final = frozenset(
    {"standard", "classic", "thai", "letter", "lowercase", "whitespace", "uax_url_email"}
)
#: Words whose filtered form is remembered per filter.
_REMEMBERED_WORDS: Final = 16_384
#: tantivy does not index longer terms; bytes.
TERM_BYTES_MAX: Final = 65_000

#: Characters that surely fit.
_TERM_CHARS_MAX: Final = TERM_BYTES_MAX // 4
#: Stands behind the beginning of a text that is too long to be a term: no character of any text sorts behind it.
_CUT: Final = "\U0010ffff"

Mode = Literal["words", "whole", "tokens"]
#: A text, or a ``tantivy.PreTokenizedString``.
Value = Any


def _as_term(text: str) -> str:
    """The text, or if it is too long for a term, its beginning (prefixes find it) and a digest (no other text does)."""
    if len(text) <= _TERM_CHARS_MAX or len(text.encode()) <= TERM_BYTES_MAX:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[: _TERM_CHARS_MAX - 100]}{_CUT}{digest}"


class Analyzer:
    """See the module. Safe on all threads."""

    def __init__(self, definition: AnalyzerDefinition) -> None:
        self._split = tokenizer(definition)
        self._char_filters: list[CharFilter] = [char_filter(n, dict(s)) for n, s in definition.char_filters]
        filters = [token_filter(name, dict(settings)) for name, settings in definition.token_filters]
        kind = tokenizer_kind(definition)
        #: Elision, where it comes before the filters of the index.
        self._changes: list[Callable[[str], str]] = []
        if kind in _WORD_TOKENIZERS and filters and isinstance(filters[0], EachWord) and filters[0].keeps_words:
            self._changes.append(filters[0].change)
            del filters[0]
        native = [one for one in filters if isinstance(one, NativeFilter)]
        self.mode: Mode = "tokens"
        if len(native) == len(filters):
            self.mode = "whole" if kind == "keyword" else "words" if kind in _WORD_TOKENIZERS else "tokens"
        #: Whether there may be something to refuse.
        self.may_be_costly = may_be_costly(definition)
        self._is_plain_standard = (
            self.mode == "words"
            and kind in ("standard", "classic", "thai")
            and not self._char_filters
            and not self._changes
            and "max_token_length" not in dict(definition.tokenizer_settings)
        )
        base = tantivy.Tokenizer.whitespace() if self.mode == "words" else tantivy.Tokenizer.raw()
        #: What a field with this analyzer is registered with.
        self.native: tantivy.TextAnalyzer = _chain(base, native if self.mode != "tokens" else [])
        self._steps = [_step(one) for one in filters] if self.mode == "tokens" else []

    def column_values(self, array: pa.Array) -> Sequence[Value | None]:
        """What to give to the documents of a column of texts, one per row."""
        if self._is_plain_standard:
            return separated_column(array)
        make = self._bounded_value if self.may_be_costly else self._value
        return [None if text is None else make(text) for text in array.to_pylist()]

    def joined_value(self, texts: Sequence[str]) -> Value | None:
        """What to give for a row with several texts."""
        if len(texts) == 1:
            return self._bounded_value(texts[0])
        tokens: list[Token] = []
        first = 0
        with contextlib.suppress(AnalysisTooCostly), bounded_analysis(patience=limits.ANALYSIS_BUILD_PATIENCE):
            for text in texts:
                found = self._tokens(text)
                tokens.extend(Token(token.text, token.position + first) for token in found)
                first += (found[-1].position + 1 if found else 0) + _POSITION_GAP
        return _pre_tokenized(tokens)

    def check(self, texts: Sequence[str]) -> None:
        """Raises AnalysisTooCostly for the texts of a row that the index would have no words of."""
        with bounded_analysis():
            for text in texts:
                if self.mode == "tokens":
                    self._tokens(text)
                elif self.mode == "words":
                    self._words(text)
                else:
                    self._filtered(text)

    def _bounded_value(self, text: str) -> Value | None:
        try:
            with bounded_analysis(patience=limits.ANALYSIS_BUILD_PATIENCE):
                return self._value(text)
        except AnalysisTooCostly:
            return None

    def _value(self, text: str) -> Value:
        match self.mode:
            case "words":
                return " ".join(self._words(text))
            case "whole":
                return _as_term(self._filtered(text))
            case "tokens":
                return _pre_tokenized(self._tokens(text))

    def tokens(self, text: str) -> list[Token]:
        """The tokens of a text, as the index has them. Raises AnalysisTooCostly."""
        with bounded_analysis():
            return self._tokens(text)

    def _tokens(self, text: str) -> list[Token]:
        if self.mode != "tokens":
            value = self._value(text)
            assert isinstance(value, str)
            if not value:
                return []
            return [Token(token.text, token.position) for token in self.native.pre_tokenize(value).tokens]
        tokens = [Token(word, position) for position, word in enumerate(self._words(text))]
        for step in self._steps:
            tokens = step(tokens)
        return tokens

    def _words(self, text: str) -> list[str]:
        words = self._split(self._filtered(text))
        for change in self._changes:
            words = [change(word) for word in words]
        return words

    def _filtered(self, text: str) -> str:
        for change in self._char_filters:
            text = change(text)
        return text


@functools.lru_cache(maxsize=256)
def analyzer(definition: AnalyzerDefinition) -> Analyzer:
    """One per definition and process: making one with stop words or a stemmer costs more than using it."""
    return Analyzer(definition)


def _chain(base: tantivy.Tokenizer, filters: Sequence[NativeFilter]) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(base)
    for one in filters:
        builder = builder.filter(_native(one))
        if one.kind == "stop" and one.language and one.words:
            builder = builder.filter(tantivy.Filter.custom_stopword(list(one.words)))
    return builder.build()


def _native(one: NativeFilter) -> tantivy.Filter:
    match one.kind:
        case "lowercase":
            return tantivy.Filter.lowercase()
        case "ascii_fold":
            return tantivy.Filter.ascii_fold()
        case "stemmer":
            return tantivy.Filter.stemmer(one.language)
        case "stop":
            if one.language:
                return tantivy.Filter.stopword(one.language)
            return tantivy.Filter.custom_stopword(list(one.words))


def _step(one: NativeFilter | TokenFilter) -> TokenFilter:
    if not isinstance(one, NativeFilter):
        return one
    change = _word_by_word(_chain(tantivy.Tokenizer.raw(), [one]))

    def apply(tokens: list[Token]) -> list[Token]:
        return [Token(text, token.position) for token in tokens if (text := change(token.text)) is not None]

    return apply


def _word_by_word(native: tantivy.TextAnalyzer) -> Callable[[str], str | None]:
    @functools.lru_cache(maxsize=_REMEMBERED_WORDS)
    def change(word: str) -> str | None:
        found = native.analyze(word)
        return found[0] if found else None

    return change


def _pre_tokenized(tokens: Sequence[Token]) -> tantivy.PreTokenizedString:
    # Offsets are only for highlighting, which nobody asks the index for.
    return tantivy.PreTokenizedString("", [tantivy.Token(token.text, token.position, 0, 0) for token in tokens])
