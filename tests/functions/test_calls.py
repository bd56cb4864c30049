"""Functions give what CrateDB gives, and refuse what it refuses in its words."""

from __future__ import annotations

from typing import Any

import pytest

from cratepy import errors
from cratepy.functions.evaluate import NO_COLUMNS, value_of
from cratepy.functions.registry import resolve
from cratepy.model.expressions import Call, Literal
from cratepy.model.plan import StatementContext
from tests.functions.facts import facts, same, type_of, value_from

CONTEXT = StatementContext(job_id="", handler_id="", user="crate", text="", now_ms=1_700_000_000_000)
CALLS = facts("calls.jsonl")


def call_of(name: str, types: list[str], arguments: list[Any], result: str) -> Call:
    literals = tuple(Literal(value_from(value), type_of(kind)) for value, kind in zip(arguments, types, strict=True))
    return Call(name, literals, type_of(result))


@pytest.mark.parametrize(("name", "types", "arguments", "result", "answer"), CALLS)
def test_a_call_answers_as_cratedb(name: str, types: list[str], arguments: list[Any], result: str, answer: Any) -> None:
    call = call_of(name, types, arguments, result)
    if isinstance(answer, dict) and "error" in answer:
        with pytest.raises(errors.CrateError) as raised:
            value_of(call, NO_COLUMNS, CONTEXT)
        assert type(raised.value).__name__ == answer["error"]
        assert raised.value.message == answer["message"]
    else:
        assert same(value_of(call, NO_COLUMNS, CONTEXT), value_from(answer))


@pytest.mark.parametrize(("name", "types", "result"), sorted({(n, tuple(t), r) for n, t, _, r, _ in CALLS}))
def test_a_call_of_its_own_types_needs_no_cast(name: str, types: tuple[str, ...], result: str) -> None:
    resolution = resolve(name, [type_of(kind) for kind in types])
    assert resolution.function == name
    assert resolution.argument_types == tuple(type_of(kind) for kind in types)
    assert resolution.result_type.kind == type_of(result).kind


def test_a_number_keeps_its_time_of_day_when_a_field_is_taken_out() -> None:
    for kind in ("integer", "bigint"):
        resolution = resolve("extract_minute", [type_of(kind)])
        assert resolution.argument_types[0].is_timestamp
    assert resolve("extract_minute", [type_of("date")]).argument_types == (type_of("date"),)
