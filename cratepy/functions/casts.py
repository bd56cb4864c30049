"""Casts of SQL values, one value at a time.

In: a SQL value and its type, the type wanted. Out: a SQL value of that type. Whether the cast is allowed at all is
:mod:`cratepy.functions.conversions`. The engine casts natively where its own cast means the same (see
``execution.engine.casting``); constants, rows and everything else come here.

Source: CrateDB's type classes as their answers show. Where CrateDB's casts lie (out of range saturates, NaN is 0, wide
numerics wrap) they are errors here. The words: ``Cannot cast value `x` to type `y```.
"""

from __future__ import annotations

import decimal
import functools
import ipaddress
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from cratepy.errors import CrateError, RelationUnknown, UnsupportedFeature, ValueConversionError
from cratepy.functions import parsing, shapes
from cratepy.functions.catalog_names import format_type, system_relation_name, system_relation_oid, type_oid_of_name
from cratepy.functions.parsing import Unparsable
from cratepy.functions.texts_of_numbers import float_text
from cratepy.functions.values import DAY_MS, DECIMAL_CONTEXT, INTEGER_RANGES, decimal_of, float32, numeric_text
from cratepy.model.oids import procedure_oid
from cratepy.model.pg_types import is_procedure, procedure_text
from cratepy.model.texts import interval_text, timetz_text
from cratepy.model.types import JSON, TEXT, DataType

_NUMBERS: Final = frozenset({"byte", "smallint", "integer", "bigint", "real", "double precision", "numeric"})
_FLOATS: Final = frozenset({"real", "double precision"})
_INTEGERS: Final = frozenset({"byte", "smallint", "integer", "bigint"})
_TIMES: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
_TEXTS: Final = frozenset({"text", "character"})
_OBJECTS: Final = frozenset({"object", "geo_shape"})
_MS_PER_S: Final = 1000
#: A date is a 32-bit number of days.
_DAYS_MAX: Final = 2**31 - 1


def convert(value: Any, source: DataType, target: DataType, *, is_implicit: bool = False) -> Any:
    """The value as the target type; NULL stays NULL. Raises ValueConversionError.

    ``is_implicit`` refuses a text that is too long, an explicit cast cuts it.
    """
    if value is None or source == target:
        return value
    try:
        return _convert(value, source, target, is_implicit=is_implicit)
    except (
        ValueError,
        decimal.InvalidOperation,
        OverflowError,
    ) as error:  # Unparsable, or too many digits for a number
        raise conversion_error(value, source, target) from error


def tried(value: Any, source: DataType, target: DataType) -> Any:
    """The value as the target type, NULL if it is none; elements of an array are tried one by one."""
    if isinstance(value, list) and source.kind == "array" and target.kind == "array":
        assert source.element is not None
        assert target.element is not None
        inner, element = source.element, target.element
        return [tried(item, inner, element) for item in value]
    try:
        return convert(value, source, target)
    except CrateError:
        return None


def conversion_error(value: Any, source: DataType, target: DataType) -> ValueConversionError:
    shown = value if isinstance(value, str) else text_of(value, source)
    return ValueConversionError(f"Cannot cast value `{shown}` to type `{target.name}`")


def _convert(value: Any, source: DataType, target: DataType, *, is_implicit: bool) -> Any:
    kind = target.kind
    if kind == "array":
        return _to_array(value, source, target, is_implicit=is_implicit)
    if kind in _TEXTS:
        text = text_of(value, source)
        # The blanks that fill up a character(n) are no part of its text.
        text = text.rstrip(" ") if source.kind == "character" else text
        return fitted_text(text, target, is_implicit=is_implicit)
    if kind in _OBJECTS or kind == "json":
        return _to_document(value, source, target)
    return _SCALAR[kind](value, source, target)


def fitted_text(text: str, target: DataType, *, is_implicit: bool) -> str:
    """The text for ``varchar(n)`` or ``char(n)``: cut or refused if too long, ``char`` is padded."""
    length = target.length
    if length is None:
        return text
    if len(text) > length:
        if is_implicit and text[length:].strip(" "):
            raise ValueConversionError(f"'{text}' is too long for the {target.kind} type of length: {length}")
        return text[:length]
    return text.ljust(length) if target.kind == "character" else text


# --- to text ---------------------------------------------------------------------------------------------------------


def text_of(value: Any, source: DataType) -> str:
    """The value as CrateDB's cast to text writes it: a timestamp is its milliseconds, ``true`` is ``t``."""
    kind = source.kind
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return float_text(value, is_single=kind == "real")
    if kind == "interval":
        return interval_text(value)
    if kind == "time with time zone":
        return timetz_text(value)
    if kind == "regtype":
        return str(format_type(value, None))
    if kind == "regproc":
        return procedure_text(value)
    if kind == "regclass":
        return system_relation_name(value) or str(value)
    if isinstance(value, dict | list):
        return json_text(value)
    return str(value)


def plain_text(value: Any) -> str:
    """A SQL value as CrateDB prints it in messages: ``null``, ``true``, ``[1, 2]``, ``{a=x}``, texts bare."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{key}={plain_text(part)}" for key, part in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(plain_text(part) for part in value) + "]"
        case _:
            return str(value)


def json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# --- to scalars ------------------------------------------------------------------------------------------------------


def _to_boolean(value: Any, source: DataType, _target: DataType) -> bool:
    if source.kind in _TEXTS:
        return parsing.parse_boolean(value)
    if source.kind in _NUMBERS:
        return bool(decimal_of(value) > 0) if source.kind == "numeric" else value > 0
    raise Unparsable(str(value))


def _whole(value: Any, source: DataType) -> int:
    """A number without its fraction."""
    if source.kind in _FLOATS:
        if math.isnan(value) or math.isinf(value):
            raise Unparsable(str(value))
        return math.trunc(value)
    if source.kind == "numeric":
        return int(decimal_of(value).to_integral_value(decimal.ROUND_DOWN))
    return int(value)


def _to_integer(value: Any, source: DataType, target: DataType) -> int:
    if source.kind in _TEXTS:
        number = parsing.parse_integer(value)
    elif source.kind in _NUMBERS or source.kind in _TIMES or source.kind.startswith("reg"):
        number = _whole(value, source)
    else:
        raise Unparsable(str(value))
    low, high = INTEGER_RANGES[target.kind]
    if not low <= number <= high:
        raise Unparsable(str(value))
    return number


def _to_float(value: Any, source: DataType, target: DataType) -> float:
    if source.kind in _TEXTS:
        number = parsing.parse_float(value)
    elif source.kind in _NUMBERS or source.kind in _TIMES:
        number = float(value)
    else:
        raise Unparsable(str(value))
    if target.kind != "real":
        return number
    single = float32(number)
    if math.isinf(single) and not math.isinf(number):
        raise Unparsable(str(value))
    return single


def _to_numeric(value: Any, source: DataType, target: DataType) -> str:
    if source.kind in _TEXTS:
        number = parsing.parse_decimal(value)
    elif source.kind in _FLOATS:
        number = decimal.Decimal(float_text(value, is_single=source.kind == "real"))
    elif source.kind in _NUMBERS:
        number = decimal_of(value)
    else:
        raise Unparsable(str(value))
    if not number.is_finite():
        raise Unparsable(str(value))
    return fitted_numeric(number, target)


def fitted_numeric(number: decimal.Decimal, target: DataType) -> str:
    """Rounded half up to the scale; more digits than the precision are refused."""
    if target.precision is None:
        return numeric_text(number)
    scale = target.scale or 0
    number = number.quantize(decimal.Decimal(1).scaleb(-scale), rounding=decimal.ROUND_HALF_UP, context=DECIMAL_CONTEXT)
    if number and number.adjusted() >= target.precision - scale:
        raise Unparsable(str(number))
    return numeric_text(number, target if target.scale is not None else None)


def _to_timestamp(value: Any, source: DataType, target: DataType) -> int:
    if source.kind in _TEXTS:
        return parsing.parse_timestamp(value, keeps_zone=target.kind == "timestamp with time zone")
    if source.kind in _FLOATS:
        if math.isnan(value) or math.isinf(value):
            raise Unparsable(str(value))
        return _in_long_range(math.floor(decimal.Decimal(repr(value)) * _MS_PER_S))
    if source.kind in _NUMBERS or source.kind in _TIMES:
        return _in_long_range(_whole(value, source))
    raise Unparsable(str(value))


def _in_long_range(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Unparsable(str(value))
    return value


def _to_date(value: Any, source: DataType, target: DataType) -> int:
    milliseconds = _to_timestamp(value, source, target)
    days = milliseconds // DAY_MS
    if abs(days) > _DAYS_MAX:
        raise Unparsable(str(value))
    return days * DAY_MS


def _to_ip(value: Any, source: DataType, _target: DataType) -> str:
    if source.kind in _NUMBERS:
        number = _whole(value, source)
        if not 0 <= number < 2**32:
            raise Unparsable(str(value))
        return str(ipaddress.IPv4Address(number))
    return parsing.parse_ip(value)


def _to_bit(value: Any, source: DataType, target: DataType) -> str:
    text = str(value)
    if source.kind != "bit":
        if not text or set(text) - {"0", "1"}:
            raise Unparsable(text)
    length = target.length or 1
    return text[:length].ljust(length, "0")


def _to_point(value: Any, source: DataType, _target: DataType) -> list[float]:
    if source.kind in _TEXTS:
        return parsing.parse_point(value)
    return parsing.checked_point(value, value)


def _to_vector(value: Any, source: DataType, target: DataType) -> list[float]:
    if not isinstance(value, list):
        raise Unparsable(str(value))
    if any(item is None for item in value):
        raise UnsupportedFeature("null values are not allowed for float_vector")
    if target.length is not None and len(value) != target.length:
        raise ValueConversionError(
            f"The number of vector dimensions does not match the field type. Expected: {target.length} Got: {len(value)}"
        )
    return [float32(parsing.parse_float(str(item))) for item in value]


def _to_catalog_id(value: Any, source: DataType, target: DataType) -> Any:
    """regclass, regproc, regtype: a number is taken as it is, a name is looked up.

    User tables have their oid in the cluster state, which is not here: the analyzer casts their names.
    """
    if source.kind not in _TEXTS:
        return _to_integer(value, source, DataType("integer"))
    if value.lstrip("-").isdigit():
        return _to_integer(value, source, DataType("integer"))
    if target.kind == "regtype":
        oid = type_oid_of_name(value)
        if oid is None:
            raise Unparsable(value)
        return oid
    if target.kind == "regproc":
        return _procedure(value)
    oid = system_relation_oid(value)
    if oid is None:
        raise RelationUnknown(f"Relation '{value}' unknown")
    return oid


def _procedure(text: str) -> int:
    """The oid of a function's name; ``-`` is none."""
    if text == "-":
        return 0
    oid = procedure_oid(text.strip().lower().removeprefix("pg_catalog.").strip('"'))
    if not is_procedure(oid):
        raise Unparsable(text)
    return oid


def _plain(parse: Callable[[str], Any]) -> Callable[[Any, DataType, DataType], Any]:
    def to_value(value: Any, _source: DataType, _target: DataType) -> Any:
        if not isinstance(value, str):
            raise Unparsable(str(value))
        return parse(value)

    return to_value


_SCALAR: Final[dict[str, Callable[[Any, DataType, DataType], Any]]] = {
    "boolean": _to_boolean,
    **dict.fromkeys(_INTEGERS, _to_integer),
    **dict.fromkeys(_FLOATS, _to_float),
    "numeric": _to_numeric,
    "timestamp with time zone": _to_timestamp,
    "timestamp without time zone": _to_timestamp,
    "date": _to_date,
    "time with time zone": _plain(parsing.parse_time),
    "interval": _plain(parsing.parse_interval),
    "ip": _to_ip,
    "uuid": _plain(parsing.parse_uuid),
    "bit": _to_bit,
    "geo_point": _to_point,
    "float_vector": _to_vector,
    "regclass": _to_catalog_id,
    "regproc": _to_catalog_id,
    "regtype": _to_catalog_id,
    "oidvector": lambda value, _source, _target: value,
    "undefined": lambda value, _source, _target: value,
    "record": lambda value, _source, _target: value,
}


# --- to arrays, objects, json ----------------------------------------------------------------------------------------


def _to_array(value: Any, source: DataType, target: DataType, *, is_implicit: bool) -> list[Any]:
    assert target.element is not None
    element = target.element
    if source.kind == "array":
        assert source.element is not None
        inner = source.element
        return [convert(item, inner, element, is_implicit=is_implicit) for item in value]
    if source.kind == "oidvector":
        return [convert(item, DataType("integer"), element) for item in value]
    if not isinstance(value, str):
        raise Unparsable(str(value))
    if value.lstrip().startswith("["):
        items = _decoded(value)
        if not isinstance(items, list):
            raise Unparsable(value)
        return [json_value_as(item, element) for item in items]
    return [_array_item(item, element) for item in parsing.parse_array(value)]


def _array_item(item: Any, element: DataType) -> Any:
    if isinstance(item, list) and element.kind == "array":
        assert element.element is not None
        return [_array_item(inner, element.element) for inner in item]
    if isinstance(item, list):
        raise Unparsable(str(item))
    return convert(item, TEXT, element)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Unparsable(text) from error


def _to_document(value: Any, source: DataType, target: DataType) -> Any:
    """json (its text), object and geo_shape (a dict)."""
    if target.kind == "json":
        return value if isinstance(value, str) else json_text(value)
    if isinstance(value, str) and target.kind == "geo_shape" and not value.lstrip().startswith("{"):
        return shapes.parse_wkt(value)
    document = _decoded(value) if isinstance(value, str) and value.strip() else value
    if isinstance(document, str):
        document = {}
    if not isinstance(document, dict):
        raise Unparsable(str(value))
    if target.kind == "geo_shape":
        return shapes.checked_shape(document)
    known = {field.name: field.type for field in target.fields}
    old = {field.name: field.type for field in source.fields}
    return {
        name: _object_part(part, old.get(name), known[name]) if name in known else part
        for name, part in document.items()
    }


def _object_part(part: Any, source: DataType | None, target: DataType) -> Any:
    if source is not None and source.kind != "undefined":
        return to_json_value(convert(part, source, target), target)
    return to_json_value(json_value_as(part, target), target)


def to_json_value(value: Any, data_type: DataType) -> Any:
    """A SQL value inside an object: an interval is its text. (A numeric keeps its own form, which is text, too.)"""
    if value is None or not _has_intervals(data_type):
        return value
    if data_type.element is not None:
        return [to_json_value(item, data_type.element) for item in value]
    return interval_text(value)


@functools.cache
def _has_intervals(data_type: DataType) -> bool:
    return data_type.kind == "interval" or (data_type.element is not None and _has_intervals(data_type.element))


def json_value_as(value: Any, target: DataType) -> Any:
    """A value found in JSON as a SQL value of the declared type; one that is none is an error."""
    if value is None:
        return None
    if target.kind == "json":
        return json_text(value)
    if target.kind == "undefined" or (target.policy in ("ignored", "any") and not target.fields):
        # Nothing is known about the value; it stays what it is in JSON.
        return value
    source = _json_type(value)
    if target.kind == "array":
        assert target.element is not None
        if not isinstance(value, list):
            raise conversion_error(value, source, target)
        return [json_value_as(item, target.element) for item in value]
    if target.kind == "interval" and isinstance(value, list):
        return value
    if isinstance(value, dict) and target.kind not in _OBJECTS and target.kind not in _TEXTS:
        raise conversion_error(value, source, target)
    if isinstance(value, bool) and target.kind not in _TEXTS and target.kind != "boolean":
        raise conversion_error(value, source, target)
    if isinstance(value, int) and target.kind in _TIMES:
        return convert(value, DataType("bigint"), target)
    return convert(value, source, target)


def _json_type(value: Any) -> DataType:
    if isinstance(value, bool):
        return DataType("boolean")
    if isinstance(value, int):
        return DataType("bigint")
    if isinstance(value, float):
        return DataType("double precision")
    if isinstance(value, str):
        return TEXT
    if isinstance(value, list):
        return DataType("array", element=JSON)
    return DataType("object")
