"""The error taxonomy: no two classes claim one meaning, and every class survives the wire."""

from __future__ import annotations

import pytest

from cratepy.errors import (
    CLIENT_ERRORS,
    CardinalityViolation,
    CrateError,
    DivisionByZero,
    NumericOverflow,
    RowDivisionByZero,
    SchemaAlreadyExists,
    error_from_wire,
    error_to_wire,
)


@pytest.mark.parametrize("error", CLIENT_ERRORS.values(), ids=lambda cls: cls.__name__)
def test_codes_are_well_formed(error: type[CrateError]) -> None:
    assert len(error.sqlstate) == 5
    assert 400 <= error("x").http_status < 600
    assert error("x").labelled == f"{error.label}[x]"


@pytest.mark.parametrize("error", CLIENT_ERRORS.values(), ids=lambda cls: cls.__name__)
def test_an_error_keeps_its_class_between_nodes(error: type[CrateError]) -> None:
    received = error_from_wire(*error_to_wire(error("why")))
    assert type(received) is error
    assert received.message == "why"


def test_no_two_classes_share_code_sqlstate_and_label() -> None:
    """A subclass may refine its parent for code that catches it (StatementTimeout is a JobKilled); nobody else repeats."""
    seen: dict[tuple[int, str, str], type[CrateError]] = {}
    for cls in CLIENT_ERRORS.values():
        key = (cls.code, cls.sqlstate, cls.label)
        other = seen.setdefault(key, cls)
        assert other is cls or issubclass(cls, other), f"{cls.__name__} repeats {other.__name__}"


def test_an_unknown_class_becomes_an_internal_error_with_the_same_text() -> None:
    received = error_from_wire("FromTheFuture", "text")
    assert (received.code, received.message) == (5000, "text")


def test_clients_see_the_names_and_codes_they_know() -> None:
    for error, code, labelled in (
        (DivisionByZero("/ by zero"), 4000, "SQLParseException[/ by zero]"),
        (NumericOverflow("integer overflow"), 4000, "SQLParseException[integer overflow]"),
        (RowDivisionByZero("/ by zero"), 5000, "ArithmeticException[/ by zero]"),
        (SchemaAlreadyExists("Schema 's' already exists"), 40910, "SchemaAlreadyExists[Schema 's' already exists]"),
        (CardinalityViolation("more than 1 row"), 4004, "UnsupportedFeatureException[more than 1 row]"),
    ):
        assert (error.code, error.labelled) == (code, labelled)
