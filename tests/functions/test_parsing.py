"""Texts as values: what is read fast is read as everything else is."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cratepy.functions.parsing import (
    Unparsable,
    any_timestamp,
    parse_interval,
    parse_point,
    parse_timestamp,
    plain_timestamp,
)

#: What looks like a timestamp, and often is none: hours of 24, days of 31, offsets beyond 18 hours.
LOOK_ALIKES = st.from_regex(
    r"[0-2]\d{3}-[01]\d-[0-3]\d([T ]([01]\d|2[0-4]):[0-6]\d:[0-6]\d(\.\d{0,9})?(Z|[+-]([01]\d|2[0-4]):?[0-6]\d)?)?",
    fullmatch=True,
)
WRITTEN = st.builds(
    lambda moment, separator: moment.isoformat(separator),
    st.datetimes(
        datetime.datetime(1, 1, 1),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
        timezones=st.one_of(
            st.none(),
            st.builds(datetime.timezone, st.integers(-1200, 1200).map(lambda m: datetime.timedelta(minutes=m))),
        ),
    ),
    st.sampled_from("T "),
)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(LOOK_ALIKES, WRITTEN), st.booleans())
def test_a_timestamp_that_is_read_fast_is_what_it_is_read_slowly(text: str, keeps_zone: bool) -> None:
    try:
        expected = any_timestamp(text, keeps_zone=keeps_zone)
    except Unparsable:
        assert plain_timestamp(text, keeps_zone=keeps_zone) is None
        return
    assert parse_timestamp(text, keeps_zone=keeps_zone) == expected
    assert plain_timestamp(text, keeps_zone=keeps_zone) in (None, expected)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.001999Z", 1),
        ("1969-12-31 23:59:59.9999", -1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1970-01-01 00:00:00-18:00", 18 * 3_600_000),
    ],
)
def test_what_programs_write_is_read_fast(text: str, ms: int) -> None:
    assert plain_timestamp(text, keeps_zone=True) == ms
    assert plain_timestamp("1970-01-01 00:00:00+18:01", keeps_zone=True) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24 months 2 days 123456789 microseconds", [24, 2, 123_456]),
        ("1 decade 2 centuries", [2_520, 0, 0]),
        ("@ 1 year 2 mons", [14, 0, 0]),
        ("@ 1 year -3 days 4 hours ago", [-12, 3, -4 * 3_600_000]),
        ("1 day ago", [0, -1, 0]),
    ],
)
def test_intervals_are_read_in_all_of_postgresqls_styles(text: str, value: list[int]) -> None:
    """``ago`` turns the sign; CrateDB 6.4.3 reads over it."""
    assert parse_interval(text) == value


@pytest.mark.parametrize("text", ["", "@", "ago", "@ ago", "1 fortnight"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        parse_interval(text)


def test_points_are_read_as_shapes_json_and_pairs() -> None:
    for text in ("POINT (1 2)", "[1, 2]", "(1,2)", " ( 1 , 2.0 ) "):
        assert parse_point(text) == [1.0, 2.0]
    for text in ("(1)", "(1,2,3)", "(x,y)", "1,2", "(181,0)"):
        with pytest.raises(Unparsable):
            parse_point(text)
