"""Expressions as text, in the form CrateDB prints them: EXPLAIN, error messages.

Operators are in parentheses, literals carry their type unless it is the one their spelling has (``5`` is an integer,
``5::bigint`` is not), parameters are ``$1``. After CrateDB's ``Symbols.format`` (captured EXPLAIN texts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

from cratepy.model.expressions import (
    Aggregate,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    Frame,
    FrameBound,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.names import quote_identifier
from cratepy.model.relations import Item
from cratepy.model.types import DataType

_WORDS: Final = {
    "op_and": "AND",
    "op_or": "OR",
    "op_like": "LIKE",
    "op_ilike": "ILIKE",
    "op_is_distinct_from": "IS DISTINCT FROM",
}
_PLAIN_KINDS: Final = frozenset({"text", "character", "boolean", "integer", "double precision", "undefined"})


def expression_text(expression: Expression) -> str:
    """The expression as CrateDB prints it."""
    match expression:
        case Literal():
            return literal_text(expression.value, expression.type)
        case Column() | OuterColumn():
            return quote_identifier(expression.name) if expression.name.isidentifier() else expression.name
        case Parameter():
            return f"${expression.index + 1}"
        case SubqueryValue():
            return f"(SELECT #{expression.slot})"
        case Call():
            return _call_text(expression)
        case Cast():
            inner = expression_text(expression.argument)
            if expression.is_try:
                return f"try_cast({inner} AS {expression.type.name})"
            return f"{inner}::{expression.type.name}"
        case Case():
            branches = "".join(
                f" WHEN {expression_text(b.condition)} THEN {expression_text(b.value)}" for b in expression.branches
            )
            return f"CASE{branches} ELSE {expression_text(expression.default)} END"
        case InList():
            return f"({expression_text(expression.operand)} = ANY([{expressions_text(expression.items)}]))"
        case Aggregate():
            return _aggregate_text(expression)
        case Window():
            return _window_text(expression)
        case _:
            assert_never(expression)


def expressions_text(expressions: Sequence[Expression]) -> str:
    return ", ".join(expression_text(expression) for expression in expressions)


def literal_text(value: Any, data_type: DataType) -> str:
    """A SQL value as a literal."""
    if value is None:
        return "NULL"
    text = _value_text(value)
    return (
        text if data_type.kind in _PLAIN_KINDS or data_type.kind in ("array", "object") else f"{text}::{data_type.name}"
    )


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return "[" + ", ".join("NULL" if element is None else _value_text(element) for element in value) + "]"
    if isinstance(value, dict):
        parts = (
            f"{quote_identifier(key) if key else repr(key)} = {'NULL' if part is None else _value_text(part)}"
            for key, part in value.items()
        )
        return "{" + ", ".join(parts) + "}"
    return str(value)


def _call_text(call: Call) -> str:
    name, arguments = call.function, call.arguments
    if not name.startswith("op_"):
        return f"{name}({expressions_text(arguments)})"
    texts = [expression_text(argument) for argument in arguments]
    if name == "op_not":
        return f"(NOT {texts[0]})"
    if name == "op_isnull":
        return f"({texts[0]} IS NULL)"
    if name == "op_negate":
        return f"(- {texts[0]})"
    for quantifier in ("any", "all"):
        prefix = f"op_{quantifier}_"
        if name.startswith(prefix) and len(texts) == 2:
            return f"({texts[0]} {name.removeprefix(prefix).removesuffix('_either')} {quantifier.upper()}({texts[1]}))"
    if len(texts) == 2:
        return f"({texts[0]} {_WORDS.get(name, name.removeprefix('op_').replace('_', ' ').upper())} {texts[1]})"
    return f"{name.removeprefix('op_')}({', '.join(texts)})"


def _aggregate_text(aggregate: Aggregate) -> str:
    inner = expressions_text(aggregate.arguments) or ("*" if aggregate.function == "count" else "")
    if aggregate.is_distinct:
        inner = f"DISTINCT {inner}"
    if aggregate.order_by:
        inner += f" ORDER BY {keys_text(aggregate.order_by)}"
    condition = "" if aggregate.filter is None else f" FILTER (WHERE {expression_text(aggregate.filter)})"
    return f"{aggregate.function}({inner}){condition}"


def keys_text(keys: Sequence[SortKey]) -> str:
    """ORDER BY items: ``a ASC, b DESC NULLS LAST``; NULLs are named where they are not where they usually are."""
    return ", ".join(_key_text(key) for key in keys)


def _key_text(key: SortKey) -> str:
    text = f"{expression_text(key.expression)} {'DESC' if key.is_descending else 'ASC'}"
    if key.nulls_first == key.is_descending:
        return text
    return f"{text} NULLS {'FIRST' if key.nulls_first else 'LAST'}"


def _window_text(window: Window) -> str:
    inner = expressions_text(window.arguments) or ("*" if window.function == "count" else "")
    parts: list[str] = []
    if window.partition_by:
        parts.append(f"PARTITION BY {expressions_text(window.partition_by)}")
    if window.order_by:
        parts.append(f"ORDER BY {keys_text(window.order_by)}")
    if window.frame is not None:
        parts.append(_frame_text(window.frame))
    condition = "" if window.filter is None else f" FILTER (WHERE {expression_text(window.filter)})"
    nulls = " IGNORE NULLS" if window.ignores_nulls else ""
    return f"{window.function}({inner}){condition}{nulls} OVER ({' '.join(parts)})"


def _frame_text(frame: Frame) -> str:
    return f"{frame.unit.upper()} BETWEEN {_bound_text(frame.start)} AND {_bound_text(frame.end)}"


def _bound_text(bound: FrameBound) -> str:
    words = bound.kind.replace("_", " ").upper()
    return words if bound.offset is None else f"{expression_text(bound.offset)} {words}"


def item_text(item: Item) -> str:
    """A computed column: its expression, and its name if that is another."""
    text = expression_text(item.expression)
    plain = item.expression.name if isinstance(item.expression, Column) else text
    return text if item.name in (plain, text) else f"{text} AS {item.name}"


def items_text(items: Sequence[Item]) -> str:
    return ", ".join(item_text(item) for item in items)
