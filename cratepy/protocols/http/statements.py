"""The JSON body of ``POST /_sql`` → a statement and its arguments.

In: the body. Out: :class:`SqlRequest`, with arguments as SQL values and the types their JSON suggests. Raises CrateErrors
in CrateDB's words; where it answers 500 for a body it cannot read (captured), this is a 400. Stricter than CrateDB: no
comments in JSON, nothing behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from cratepy import limits
from cratepy.errors import RequestError, SQLParseError
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    OBJECT,
    TEXT,
    UNDEFINED,
    DataType,
    array_of,
    common_type,
)
from cratepy.records import dataclass

_KEYS: Final = frozenset({"stmt", "args", "bulk_args"})
#: Words of the parser's messages about texts, numbers and depths that no value has.
_HIDDEN_REASONS: Final = ("surrogate", "infinity", "UTF-8", "depth limit", "control character", "escaped sequence")
_SHOWN_CHARS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlRequest:
    """``bulk_rows`` is None unless the request is a bulk."""

    text: str
    arguments: tuple[Any, ...]
    bulk_rows: list[list[Any]] | None


def parse_body(body: bytes) -> SqlRequest:
    """The request in a body."""
    if not body.strip():
        raise SQLParseError("Missing request body")
    try:
        parsed = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        # JSON that looks well and cannot be read is told why; the rest is as obvious as in CrateDB's words.
        is_told = any(word in error.msg for word in _HIDDEN_REASONS)
        raise SQLParseError(f"{_unreadable(body)} ({error})" if is_told else _unreadable(body)) from error
    if not isinstance(parsed, dict) or "stmt" not in parsed:
        raise RequestError("Field [stmt] is missing")
    if not parsed.keys() <= _KEYS:
        raise SQLParseError(_unreadable(body))
    text = parsed["stmt"]
    if not isinstance(text, str):
        raise RequestError("Field [stmt] has an invalid value")
    if not text:
        raise RequestError("Field [stmt] has no value")
    arguments = parsed.get("args", [])
    if not isinstance(arguments, list):
        raise RequestError(f"`args` must start with an array, not `{_token(arguments)}`")
    bulk = parsed.get("bulk_args", [])
    if not isinstance(bulk, list):
        raise RequestError("Field [bulk_args] has an invalid value")
    if arguments and bulk:
        raise SQLParseError("request body contains args and bulk_args. It's forbidden to provide both")
    if len(arguments) > limits.PARAMETERS_MAX:
        raise SQLParseError(f"A statement has at most {limits.PARAMETERS_MAX} parameters")
    for row in bulk:
        if not isinstance(row, list):
            raise RequestError(
                f"`bulk_args` must contain a list of `args` (values list). Got unexpected: {_token(row)}"
            )
    is_bulk = bool(bulk) or ("bulk_args" in parsed and "args" not in parsed)
    return SqlRequest(text=text, arguments=tuple(arguments), bulk_rows=bulk if is_bulk else None)


def _unreadable(body: bytes) -> str:
    shown = body[:_SHOWN_CHARS_MAX].decode("utf-8", "replace")
    return f"Can't parse [{shown}]. Expecting payload with `stmt` string and `args` or `bulk_args` arrays"


def _token(value: Any) -> str:
    if value is None:
        return "VALUE_NULL"
    if isinstance(value, bool):
        return "VALUE_TRUE" if value else "VALUE_FALSE"
    if isinstance(value, int | float):
        return "VALUE_NUMBER"
    return "VALUE_STRING" if isinstance(value, str) else "START_OBJECT"


def value_type(value: Any, *, depth: int = 0) -> DataType | None:
    """The type a JSON value suggests; None for null, which fits everything.

    Raises SQLParseError for numbers beyond 64 bits and arrays that are nested too deep for any column.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return TEXT
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return INTEGER
        if -(2**63) <= value < 2**63:
            return BIGINT
        raise SQLParseError(f"Cannot detect the type of the value: {value}")
    if isinstance(value, float):
        return DOUBLE
    if isinstance(value, dict):
        return OBJECT
    if not value:
        return array_of(UNDEFINED)
    if depth >= limits.ARRAY_DEPTH_MAX:
        raise SQLParseError(f"Arrays are nested deeper than {limits.ARRAY_DEPTH_MAX} levels")
    element = column_type(value, depth=depth + 1)
    return array_of(element) if element is not None else None


def column_type(values: Sequence[Any], *, depth: int = 0) -> DataType | None:
    """The type that all values suggest together; None if they are null or do not agree, so that it is inferred."""
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if not kinds:
        return None
    if kinds == {str}:
        return TEXT
    if kinds == {int}:
        present = [value for value in values if value is not None]
        smallest, largest = value_type(min(present)), value_type(max(present))
        return INTEGER if smallest == largest == INTEGER else BIGINT
    if kinds == {bool}:
        return BOOLEAN
    if kinds in ({float}, {int, float}):
        return DOUBLE
    if len(kinds) > 1:
        return None
    found: DataType | None = None
    for value in values:
        suggested = value_type(value, depth=depth)
        if suggested is not None:
            found = suggested if found is None else common_type(found, suggested)
    return found


def flag(query: str, name: str) -> bool:
    """A flag of the query string: ``?name``, ``?name=`` and ``?name=true``; of several the last counts."""
    if name not in query:
        return False
    return dict(parse_qsl(query, keep_blank_values=True)).get(name, "false") in ("", "true")
