"""Tokenizers, filters and the catalog of analyzers, as Lucene's behave."""

from __future__ import annotations

import pytest

from cratepy.errors import BadRequest, CrateError, SQLParseError, UnsupportedFeature
from cratepy.functions.analysis.catalog import (
    BUILTIN_ANALYZERS,
    analyzer_of_column,
    check_analyzer,
    extend_builtin,
    find_analyzer,
)
from cratepy.functions.analysis.filters import NativeFilter, char_filter, token_filter
from cratepy.functions.analysis.tokenizers import TOKENIZERS, Token, split_standard
from cratepy.model.search import AnalyzerDefinition


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Won't it's O'Neil's", ["Won't", "it's", "O'Neil's"]),
        ("3.14 1,000.5 12:30", ["3.14", "1,000.5", "12", "30"]),
        ("a.b 3.a a.3 bob@example.com", ["a.b", "3", "a", "a", "3", "bob", "example.com"]),
        ("foo_bar _ __ _x_", ["foo_bar", "_x_"]),
        ("C++ e-mail x=1;", ["C", "e", "mail", "x", "1"]),
        ("漢字かなカタカナ", ["漢", "字", "か", "な", "カタカナ"]),
        ("naïve É ÀB", ["naïve", "É", "ÀB"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("हिन्दी", ["हिन्दी"]),
        ("I 👨\u200d👩\u200d👧 you 👍🏽!", ["I", "👨\u200d👩\u200d👧", "you", "👍🏽"]),
        ("a\x00b\nc\u00a0d", ["a", "b", "c", "d"]),
        ("", []),
        (" .,; ", []),
        ("x" * 600, ["x" * 255, "x" * 255, "x" * 90]),
    ],
)
def test_standard_follows_unicodes_word_boundaries(text: str, tokens: list[str]) -> None:
    assert split_standard(text) == tokens


@pytest.mark.parametrize(
    ("name", "settings", "text", "tokens"),
    [
        ("letter", {}, "a1b c-d", ["a", "b", "c", "d"]),
        ("lowercase", {}, "Ab C", ["ab", "c"]),
        ("whitespace", {}, " A-b  c ", ["A-b", "c"]),
        ("keyword", {}, "a b", ["a b"]),
        ("pattern", {}, "a-b c", ["a", "b", "c"]),
        ("pattern", {"pattern": ",(x)?"}, "a,xb,c", ["a", "b", "c"]),
        ("pattern", {"pattern": "'([^']+)'", "group": "1"}, "a 'b c' d 'e'", ["b c", "e"]),
        ("path_hierarchy", {}, "/a/b", ["/a", "/a/b"]),
        ("path_hierarchy", {"reverse": "true", "delimiter": "."}, "www.a.org", ["www.a.org", "a.org", "org"]),
        ("ngram", {}, "abc", ["a", "ab", "b", "bc", "c"]),
        ("ngram", {"min_gram": "2", "max_gram": "3"}, "abc", ["ab", "abc", "bc"]),
        ("edge_ngram", {"min_gram": "1", "max_gram": "3", "token_chars": "letter"}, "ab1cdef",
         ["a", "ab", "c", "cd", "cde"]),
        ("uax_url_email", {}, "see https://a.b/c?d bob@x.org", ["see", "https://a.b/c?d", "bob@x.org"]),
        ("char_group", {"tokenize_on_chars": "[whitespace, -]"}, "a-b c", ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_tokenizers_split_as_lucenes(name: str, settings: dict[str, str], text: str, tokens: list[str]) -> None:
    assert TOKENIZERS[name](settings)(text) == tokens


@pytest.mark.parametrize(
    ("name", "settings", "words", "expected"),
    [
        ("length", {"min": "2", "max": "3"}, ["a", "ab", "abcd"], [("ab", 1)]),
        ("truncate", {"length": "2"}, ["abc"], [("ab", 0)]),
        ("unique", {}, ["a", "b", "a"], [("a", 0), ("b", 1)]),
        ("limit", {"max_token_count": "1"}, ["a", "b"], [("a", 0)]),
        ("synonym", {"synonyms": "[\"usa,us\",\"tv => television\"]"}, ["usa", "tv"], [("usa", 0), ("us", 0), ("television", 1)]),
        ("shingle", {}, ["a", "b"], [("a", 0), ("a b", 0), ("b", 1)]),
        ("edge_ngram", {"max_gram": "2"}, ["abc"], [("a", 0), ("ab", 0)]),
        ("elision", {}, ["l'avion", "aujourd'hui"], [("avion", 0), ("aujourd'hui", 1)]),
        ("pattern_replace", {"pattern": "(a)(b)", "replacement": "$2$1"}, ["xab"], [("xba", 0)]),
        ("cjk_bigram", {}, ["漢", "字", "化", "x"], [("漢字", 0), ("字化", 1), ("x", 3)]),
        ("reverse", {}, ["ab"], [("ba", 0)]),
    ],
)  # fmt: skip
def test_token_filters_change_tokens_as_lucenes(
    name: str, settings: dict[str, str], words: list[str], expected: list[tuple[str, int]]
) -> None:
    made = token_filter(name, settings)
    assert not isinstance(made, NativeFilter)
    assert made([Token(word, position) for position, word in enumerate(words)]) == expected


def test_char_filters_change_the_text_before() -> None:
    assert char_filter("html_strip", {})("<p>a<b>b</b> &amp; <script>x</script>c</p>").split() == ["ab", "&", "c"]
    assert char_filter("mapping", {"mappings": "[ph=>f, p=>b]"})("phop") == "fob"
    assert char_filter("pattern_replace", {"pattern": "[0-9]+", "replacement": "#"})("a12") == "a#"


def test_every_builtin_analyzer_can_be_built() -> None:
    for definition in BUILTIN_ANALYZERS.values():
        check_analyzer(definition)


def test_an_analyzer_is_found_by_name_custom_ones_first() -> None:
    custom = AnalyzerDefinition(name="mine", tokenizer="whitespace")
    assert find_analyzer(None) == BUILTIN_ANALYZERS["standard"]
    assert find_analyzer("mine", (custom,)) is custom
    assert find_analyzer("nosuch") is None
    with pytest.raises(SQLParseError, match='Analyzer "nosuch" not found for column "a"'):
        analyzer_of_column("nosuch", "a")


def test_a_builtin_analyzer_takes_only_its_parameters() -> None:
    assert ("stop", (("stopwords", "_german_"),)) in extend_builtin(
        "x", "snowball", {"language": "german"}
    ).token_filters
    assert extend_builtin("x", "standard", {"stopwords": "foo,bar"}).token_filters[1][0] == "stop"
    with pytest.raises(BadRequest):
        extend_builtin("x", "standard", {"colour": "blue"})


@pytest.mark.parametrize(
    "definition",
    [
        AnalyzerDefinition(name="x", tokenizer="nosuch"),
        AnalyzerDefinition(name="x", tokenizer="pattern", tokenizer_settings=(("pattern", "("),)),
        AnalyzerDefinition(name="x", tokenizer="ngram", tokenizer_settings=(("max_gram", "99"),)),
        AnalyzerDefinition(name="x", token_filters=(("hunspell", ()),)),
        AnalyzerDefinition(name="x", token_filters=(("stemmer", (("language", "klingon"),)),)),
        AnalyzerDefinition(name="x", token_filters=(("pattern_replace", (("pattern", "a"), ("replacement", "$7"))),)),
        AnalyzerDefinition(name="x", char_filters=(("mapping", ()),)),
    ],
)
def test_parts_nobody_knows_are_refused_when_the_analyzer_is_made(definition: AnalyzerDefinition) -> None:
    with pytest.raises(CrateError) as caught:
        check_analyzer(definition)
    assert isinstance(caught.value, BadRequest | UnsupportedFeature)
