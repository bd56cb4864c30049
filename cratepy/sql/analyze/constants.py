"""Constants, parameters and names: the leaves of expressions.

Numbers are integer if they fit, else bigint, else numeric; with a point or an exponent double precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cratepy.errors import (
    ConversionError,
    CrateError,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.functions.casts import convert
from cratepy.model.expressions import (
    Expression,
    Literal,
)
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NUMERIC,
    TEXT,
    UNDEFINED,
    DataType,
)
from cratepy.sql.parse import tree

if TYPE_CHECKING:
    from cratepy.sql.analyze.expressions import ExpressionAnalyzer

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1


def null_node(_a: ExpressionAnalyzer, _node: tree.NullWord) -> Expression:
    return Literal(None, UNDEFINED)


def boolean_node(_a: ExpressionAnalyzer, node: tree.BooleanWord) -> Expression:
    return Literal(node.value, BOOLEAN)


def number_literal(text: str) -> Literal:
    """integer if it fits, else bigint, else numeric; with a point or exponent double precision."""
    if text.isdigit():
        value = int(text)
        if value <= _INT_MAX:
            return Literal(value, INTEGER)
        return Literal(value, BIGINT) if value <= _LONG_MAX else Literal(text.lstrip("0"), NUMERIC)
    return Literal(float(text), DOUBLE)


def number_node(_a: ExpressionAnalyzer, node: tree.NumberWord) -> Expression:
    return number_literal(node.text)


def string_node(_a: ExpressionAnalyzer, node: tree.StringWord) -> Expression:
    return Literal(node.value, TEXT)


def bits_node(_a: ExpressionAnalyzer, node: tree.BitsWord) -> Expression:
    return Literal(node.text, DataType("bit", length=len(node.text)))


_SMALLER: Final = {"year": 0, "month": 1, "day": 2, "hour": 3, "minute": 4, "second": 5}


def interval_node(_a: ExpressionAnalyzer, node: tree.IntervalWord) -> Expression:
    text = node.text
    if node.end is not None and _SMALLER.get(node.unit or "", -1) > _SMALLER.get(node.end, -1):
        raise SQLParseError("Startfield must be less significant than Endfield")
    if node.unit is not None and node.end is None and text.strip().lstrip("+-").replace(".", "", 1).isdigit():
        text = f"{text.strip()} {node.unit}"
    value = _converted_interval(text)
    last = node.end or node.unit
    if last is not None and last in _SMALLER:
        value = _truncated_interval(value, last)
    if node.is_negative:
        value = [-part for part in value]
    return Literal(value, INTERVAL)


def _converted_interval(text: str) -> list[int]:
    try:
        value: list[int] = convert(text, TEXT, INTERVAL)
    except CrateError as error:
        raise ConversionError(f"Cannot cast `'{text}'` of type `text` to type `interval`") from error
    return value


def _truncated_interval(value: list[int], last: str) -> list[int]:
    months, days, ms = value
    level = _SMALLER[last]
    if level == 0:
        return [months - months % 12 if months >= 0 else -(-months - -months % 12), 0, 0]
    if level == 1:
        return [months, 0, 0]
    if level == 2:
        return [months, days, 0]
    unit = {3: 3_600_000, 4: 60_000}.get(level)
    if unit is None:
        return value
    return [months, days, (abs(ms) - abs(ms) % unit) * (1 if ms >= 0 else -1)]


def parameter_node(a: ExpressionAnalyzer, node: tree.ParameterWord) -> Expression:
    return a.context.parameter(node.index)


def default_node(_a: ExpressionAnalyzer, _node: tree.DefaultWord) -> Expression:
    raise UnsupportedFeature("DEFAULT is only allowed in INSERT VALUES")


def name_node(a: ExpressionAnalyzer, node: tree.Name) -> Expression:
    parts = node.parts
    if len(parts) > 4:
        raise SQLParseError(f'Column reference "{".".join(parts)}" has too many parts')
    return a.scope.resolve(parts)


def star_node(_a: ExpressionAnalyzer, _node: tree.Star) -> Expression:
    raise SQLParseError("'*' can only be used in the select list and in count(*)")
