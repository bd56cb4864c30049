"""Functions give what CrateDB gives, and refuse what it refuses in its words."""

from __future__ import annotations

from typing import Any

import pytest

from cratepy import errors
from cratepy.functions.evaluate import NO_COLUMNS, value_of
from cratepy.functions.registry import resolve
from cratepy.model.expressions import Call, Literal
from cratepy.model.oids import procedure_oid
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


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("has_table_privilege", ["crate", "sys.nodes", "SELECT, insert"], True),
        ("has_table_privilege", ["public", "sys.nodes", "SELECT"], True),
        ("has_table_privilege", ["somebody", "sys.nodes", "SELECT"], "Role 'somebody' does not exist"),
        ("has_schema_privilege", [77, "doc", "USAGE"], "Role with OID '77' does not exist"),
        ("has_column_privilege", ["somebody", "sys.nodes", "id", "SELECT"], "Role 'somebody' does not exist"),
        ("has_column_privilege", ["sys.nodes", "id", "SELECT"], True),
        ("has_database_privilege", ["crate", "TEMP"], True),
        ("has_database_privilege", ["other", "TEMP"], 'database "other" does not exist'),
        ("has_database_privilege", ["crate", 99, "TEMP"], 'database with OID "99" does not exist'),
        ("has_function_privilege", ["upper(text)", "EXECUTE"], True),
        ("has_function_privilege", ["pg_catalog.now()", "execute"], True),
        ("has_function_privilege", ["upper", "EXECUTE"], "Not a valid function call"),
        ("has_function_privilege", [5, "EXECUTE"], "Function with oid '5' does not exist"),
        ("has_function_privilege", ["no_such(text)", "EXECUTE"], "Unknown function: no_such(text)"),
        ("has_function_privilege", ["upper(text)", "Grant"], "Unrecognized permission: grant"),
    ],
)
def test_privileges_are_those_of_known_roles_on_what_exists(name: str, arguments: list[Any], answer: Any) -> None:
    types = ["text" if isinstance(argument, str) else "integer" for argument in arguments]
    call = call_of(name, types, arguments, "boolean")
    if answer is True:
        assert value_of(call, NO_COLUMNS, CONTEXT) is True
    else:
        with pytest.raises(errors.CrateError) as raised:
            value_of(call, NO_COLUMNS, CONTEXT)
        assert raised.value.message == answer


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        ("repeat", "text, integer", "text"),
        ("array_append", "anyarray, anyelement", "anyarray"),
        ("coalesce", "VARIADIC anyelement", "anyelement"),
        ("pi", "", "double precision"),
        ("generate_subscripts", "anyarray, integer", "SETOF integer"),
    ],
)
def test_a_function_tells_what_it_takes_and_gives(function: str, arguments: str, result: str) -> None:
    oid = procedure_oid(function)
    for name, answer in (
        ("pg_get_function_arguments", arguments),
        ("pg_get_function_identity_arguments", arguments),
        ("pg_get_function_result", result),
        ("pg_function_is_visible", True),
    ):
        assert value_of(call_of(name, ["integer"], [oid], "text"), NO_COLUMNS, CONTEXT) == answer


def test_what_is_no_function_tells_nothing() -> None:
    for name, answer in (("pg_get_function_result", None), ("pg_function_is_visible", False)):
        assert value_of(call_of(name, ["integer"], [3], "text"), NO_COLUMNS, CONTEXT) is answer


@pytest.mark.parametrize(
    ("name", "types", "arguments", "message"),
    [
        ("asin", ["numeric"], ["-1.5"], "input value -1.5 is out of range. Values must be in range of [-1.0, 1.0]"),
        ("ln", ["numeric"], ["-0.25"], "ln(x): given arguments would result in: 'NaN'"),
        ("log", ["numeric"], ["0"], "log(x): given arguments would result in: '-Infinity'"),
        ("decode", ["text", "text"], ["ab#d", "base64"], "Illegal base64 character 23"),
        ("decode", ["text", "text"], ["abc", "base64"], None),
        ("decode", ["text", "text"], ["ß", "base64"], "Illegal base64 character -3d"),
    ],
)
def test_arguments_outside_of_a_function_are_named(
    name: str, types: list[str], arguments: list[Any], message: str | None
) -> None:
    call = call_of(name, types, arguments, types[0])
    if message is None:
        assert value_of(call, NO_COLUMNS, CONTEXT) == "\\x69b7"
        return
    with pytest.raises(errors.CrateError) as raised:
        value_of(call, NO_COLUMNS, CONTEXT)
    assert raised.value.message == message
