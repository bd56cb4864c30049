"""Options of MATCH: what is taken, what is refused and in which words."""

from __future__ import annotations

import pytest

from cratepy.errors import BadRequest
from cratepy.functions.analysis.match_options import match_options, minimum_count


def test_options_have_cratedbs_defaults() -> None:
    options = match_options(None, ())
    assert (options.kind, options.is_and, options.tie_breaker, options.fuzziness) == ("best_fields", False, 0.0, None)
    assert match_options("MOST_FIELDS", ()).tie_breaker == 1.0


def test_auto_fuzziness_depends_on_the_length_of_the_word() -> None:
    options = match_options("best_fields", (("fuzziness", "AUTO"),))
    assert [options.edits("x" * length) for length in (2, 3, 5, 6)] == [0, 1, 1, 2]
    assert match_options("best_fields", (("fuzziness", "auto:4,7"),)).edits("xxx") == 0
    assert match_options("best_fields", (("fuzziness", "9"),)).edits("x") == 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("some_fields", (), "invalid MATCH type 'some_fields' for type 'text'"),
        ("best_fields", (("oh", "1"),), "unknown match option 'oh'"),
        ("best_fields", (("zero_terms_query", "12.6"),), "invalid value for option 'zero_terms_query': 12.6"),
        ("best_fields", (("boost", "nan"),), "invalid value for option 'boost': nan"),
        ("best_fields", (("boost", "-1"),), "invalid value for option 'boost': -1"),
        ("best_fields", (("operator", "xor"),), "invalid value for option 'operator': xor"),
        ("best_fields", (("minimum_should_match", "many"),), "invalid value for option 'minimum_should_match': many"),
        ("best_fields", (("fuzziness", "-1"),), "invalid value for option 'fuzziness': -1"),
        (
            "best_fields",
            (("slop", "1"),),
            'match predicate option(s) "slop" cannot be used with matchType "best_fields"',
        ),
        (
            "phrase",
            (("operator", "or"),),
            'match predicate option(s) "operator" cannot be used with matchType "phrase"',
        ),
        ("cross_fields", (("fuzziness", "1"),), "Fuzziness not allowed for type [cross_fields]"),
    ],
)
def test_what_nobody_knows_is_refused(kind: str, options: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        match_options(kind, options)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("specification", "clauses", "count"),
    [("2", 3, 2), ("5", 3, 3), ("-1", 3, 2), ("-5", 3, 0), ("75%", 4, 3), ("75%", 3, 2), ("-25%", 5, 4), ("3<90%", 3, 3),
     ("3<90%", 10, 9), ("2<-25% 9<-3", 2, 2), ("2<-25% 9<-3", 4, 3), ("2<-25% 9<-3", 12, 9)],
)  # fmt: skip
def test_the_minimum_is_counted_as_elasticsearch_does(specification: str, clauses: int, count: int) -> None:
    assert minimum_count(specification, clauses) == count
