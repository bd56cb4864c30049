"""No text and no pattern makes an analysis endless, or fills the memory."""

from __future__ import annotations

import pytest

from cratepy import limits
from cratepy.errors import BadRequest
from cratepy.functions.analysis.bounds import AnalysisTooCostly, Expression, bounded_analysis
from cratepy.functions.analysis.catalog import BUILTIN_ANALYZERS, check_analyzer, may_be_costly
from cratepy.functions.analysis.filters import char_filter, token_filter
from cratepy.functions.analysis.tokenizers import TOKENIZERS, Token
from cratepy.model.search import AnalyzerDefinition

#: Exponential for a matcher that backtracks.
PATTERN = "(a|aa)+$"
TEXT = "a" * 60 + "!"


@pytest.mark.parametrize("name", ["pattern", "simple_pattern", "simple_pattern_split"])
def test_a_pattern_that_does_not_end_is_an_error(name: str) -> None:
    split = TOKENIZERS[name]({"pattern": PATTERN})
    with pytest.raises(AnalysisTooCostly, match=r"'\(a\|aa\)\+\$' of an analyzer takes more than .* 61 characters"):
        split(TEXT)
    split("aaa")


def test_so_is_one_of_a_filter() -> None:
    settings = {"pattern": PATTERN, "replacement": "x"}
    change, apply = char_filter("pattern_replace", settings), token_filter("pattern_replace", settings)
    with pytest.raises(AnalysisTooCostly):
        change(TEXT)
    assert callable(apply)
    with pytest.raises(AnalysisTooCostly):
        apply([Token(TEXT, 0)])
    assert change("baa") == "bx"


def test_the_words_of_a_text_have_one_limit_together() -> None:
    expression = Expression(PATTERN)
    with bounded_analysis():
        with pytest.raises(AnalysisTooCostly):
            expression.matches(TEXT)
        # Nothing is left for the next one, however short its own time would be.
        with pytest.raises(AnalysisTooCostly):
            expression.matches(TEXT)
    with bounded_analysis():
        assert len(expression.matches("aa")) == 1


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("ngram", {"min_gram": "200", "max_gram": "230"}, "x" * 200_000),
        ("path_hierarchy", {}, "/a" * 100_000),
        ("path_hierarchy", {"reverse": "true"}, "/a" * 100_000),
    ],
)
def test_tokenizers_make_a_bounded_number_of_characters(name: str, settings: dict[str, str], text: str) -> None:
    with pytest.raises(AnalysisTooCostly, match="a text became more than"):
        TOKENIZERS[name](settings)(text)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ngram", {"min_gram": "1", "max_gram": "30"}),
        ("shingle", {"max_shingle_size": "16"}),
        ("synonym", {"synonyms": ",".join(f"w{n}" for n in range(1_000))}),
    ],
)
def test_filters_make_a_bounded_number_of_words(
    name: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANALYSIS_TOKENS_MAX", 10_000)
    apply = token_filter(name, settings)
    assert callable(apply)
    with pytest.raises(AnalysisTooCostly, match="a text became more than 10000 words"):
        apply([Token(f"w{n}", n) for n in range(9_000)])


def test_replacements_do_not_double_a_text_for_ever() -> None:
    change = char_filter("pattern_replace", {"pattern": ".+", "replacement": "$0$0$0$0"})
    text = "x"
    with pytest.raises(AnalysisTooCostly):
        for _ in range(limits.ANALYZER_FILTERS_MAX):
            text = change(text)


def test_a_replacement_names_groups_that_are_there() -> None:
    assert char_filter("pattern_replace", {"pattern": "(a)|(b)", "replacement": r"<$1\$2>"})("ab") == r"<a\><\b>"
    with pytest.raises(BadRequest, match="there is no group 2"):
        char_filter("pattern_replace", {"pattern": "(a)", "replacement": "$2"})


@pytest.mark.parametrize(
    "text",
    ["<script>" * 200_000, "<!--" * 200_000, "<script " * 200_000, "<style></script>" * 100_000, "</script " * 200_000],
)
def test_html_takes_linear_time(text: str) -> None:
    assert len(char_filter("html_strip", {})(text)) <= len(text)


def test_html_is_stripped_as_before() -> None:
    strip = char_filter("html_strip", {})
    assert strip("a<!-- <p> -->b<SCRIPT type='x'>1 < 2</ScRiPt >c<style>d</style>e").split() == ["a", "b", "c", "e"]
    assert strip("a<p>b</p>c<!-- d <b>e</b>").split() == ["a", "b", "c<!--", "d", "e"]
    assert strip("<script>a<style>b</style>c").split() == ["a", "c"]


@pytest.mark.parametrize("text", ["a-" * 200_000, "a+" * 200_000 + "://", "a@" + "b." * 200_000])
def test_urls_and_addresses_take_linear_time(text: str) -> None:
    assert TOKENIZERS["uax_url_email"]({})(text)


def test_what_is_built_in_is_never_costly() -> None:
    assert [name for name, definition in BUILTIN_ANALYZERS.items() if may_be_costly(definition)] == []


def test_an_analyzer_has_a_bounded_number_of_filters() -> None:
    many = (("lowercase", ()),) * (limits.ANALYZER_FILTERS_MAX + 1)
    with pytest.raises(BadRequest, match="an analyzer may have 64 filters of a kind, not 65"):
        check_analyzer(AnalyzerDefinition(name="x", token_filters=many))
