"""Texts of whole columns, read by Arrow, are what a cast of each gives."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cratepy.execution.writes.values import text_column
from cratepy.functions.parsing import Unparsable, parse_timestamp
from cratepy.model.types import TIMESTAMP, TIMESTAMPTZ, DataType
from tests.functions.test_parsing import LOOK_ALIKES, WRITTEN


@pytest.mark.parametrize("data_type", [TIMESTAMP, TIMESTAMPTZ])
@settings(max_examples=500, deadline=None)
@given(text=st.one_of(LOOK_ALIKES, WRITTEN))
@example(text="2026-01-01T10")
@example(text="2026-01-01 10Z")
@example(text="2026-01-01T10:00:00+18:01")
@example(text="2026-01-19")
def test_a_timestamp_that_arrow_reads_is_what_the_cast_reads(text: str, data_type: DataType) -> None:
    read = text_column(pa.array([text, None, "2026-01-01T00:00:00"]), data_type)
    if read is None:
        return
    try:
        expected = parse_timestamp(text, keeps_zone=data_type == TIMESTAMPTZ)
    except Unparsable:
        raise AssertionError(f"Arrow reads {text!r}, which is no timestamp") from None
    assert read.cast(pa.int64()).to_pylist()[:2] == [expected, None]
