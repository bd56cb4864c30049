"""What is composed of several expressions of one type: CASE, arrays, IN lists; and objects, whose parts have their own.

In: syntax nodes. Out: typed expressions. The common type is found here, and where there is none the refusal names the
whole expression, as for a function without a matching overload. A part whose type nobody declared fits everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cratepy.errors import FunctionUnknown, SQLParseError
from cratepy.functions.casts import to_json_value
from cratepy.functions.conversions import can_cast
from cratepy.model.expressions import Branch, Call, Case, Expression, InList, Literal
from cratepy.model.types import ANY_JSON, BOOLEAN, TEXT, UNDEFINED, Field, array_of, object_of
from cratepy.sql.analyze.typing import common, same_types, settled
from cratepy.sql.parse import tree

if TYPE_CHECKING:
    from cratepy.sql.analyze.expressions import ExpressionAnalyzer


def case_node(a: ExpressionAnalyzer, node: tree.CaseNode) -> Expression:
    conditions: list[Expression] = []
    values: list[Expression] = []
    operand = None if node.operand is None else a.analyze(node.operand)
    for condition, value in node.branches:
        if operand is None:
            conditions.append(a.boolean(condition))
        else:
            conditions.append(a.compared("=", operand, a.analyze(condition), node))
        values.append(a.analyze(value))
    values.append(Literal(None, UNDEFINED) if node.default is None else a.analyze(node.default))
    refuse_strangers(a, values, node, valid="(boolean, T)")
    *results, default = same_types(a.context, values)
    branches = tuple(Branch(c, v) for c, v in zip(conditions, results, strict=True))
    return Case(branches, default, common([*(v.type for v in results), default.type]))


def array_node(a: ExpressionAnalyzer, node: tree.ArrayNode) -> Expression:
    analyzed = [a.analyze(item) for item in node.items]
    refuse_strangers(a, analyzed, node, valid="(E)")
    items = same_types(a.context, analyzed)
    element = common([item.type for item in items])
    if all(isinstance(item, Literal) for item in items):
        return Literal([item.value for item in items if isinstance(item, Literal)], array_of(element))
    return Call("_array", items, array_of(element))


def listed(a: ExpressionAnalyzer, node: tree.InItems) -> InList:
    """The operand and the items of an IN list, all of one type; constants that fit take the type of a column."""
    expressions = [a.analyze(node.operand), *(a.analyze(item) for item in node.items)]
    refuse_strangers(a, expressions, node, valid="(E, array(E))")
    operand, *items = same_types(a.context, expressions, keeps_column=True)
    return InList(operand, tuple(items))


def row_alternatives(row: tree.RowNode, items: Sequence[tree.Node]) -> tree.Logic:
    """``(a, b) IN ((1, 2), …)`` as comparisons of the parts."""
    alternatives: list[tree.Node] = []
    for item in items:
        if not isinstance(item, tree.RowNode) or len(item.items) != len(row.items):
            raise SQLParseError("All rows of an IN list must have as many values as the left side")
        pairs = zip(row.items, item.items, strict=True)
        alternatives.append(tree.Logic("and", tuple(tree.Binary("=", left, right) for left, right in pairs)))
    return tree.Logic("or", tuple(alternatives))


def balanced(function: str, operands: list[Expression]) -> Expression:
    """AND or OR of many, as a tree of logarithmic depth."""
    while len(operands) > 1:
        paired: list[Expression] = [
            Call(function, (operands[i], operands[i + 1]), BOOLEAN) for i in range(0, len(operands) - 1, 2)
        ]
        if len(operands) % 2:
            paired.append(operands[-1])
        operands = paired
    return operands[0]


def refuse_strangers(a: ExpressionAnalyzer, expressions: Sequence[Expression], node: tree.Node, *, valid: str) -> None:
    """Raises FunctionUnknown if there is no type that all of them can have. A string may become anything."""
    types = [expression.type for expression in expressions]
    if all(kind is types[0] for kind in types):
        return  # long lists of constants: nothing to look at
    target = common(types)
    for expression, kind in zip(expressions, types, strict=True):
        is_string = isinstance(expression, Literal) and kind.kind == "text"
        if not is_string and kind != ANY_JSON and not can_cast(kind, target, explicit=False):
            given = ", ".join(kind.name for kind in types)
            raise FunctionUnknown(f"Invalid arguments in: {a.shown(node)} with ({given}). Valid types: {valid}")


def object_node(a: ExpressionAnalyzer, node: tree.ObjectNode) -> Expression:
    entries: dict[str, Expression] = {}
    for name, written in node.entries:
        if name in entries:
            raise SQLParseError(f"Object literal cannot contain duplicate keys (`{name}`)")
        entries[name] = settled(a.analyze(written))
    merged = object_of(tuple(Field(name, value.type) for name, value in entries.items()))
    if all(isinstance(value, Literal) for value in entries.values()):
        return Literal(_content(entries), merged)
    arguments: list[Expression] = []
    for name, value in entries.items():
        arguments += (Literal(name, TEXT), value)
    return Call("_map", tuple(arguments), merged)


def _content(entries: dict[str, Expression]) -> dict[str, Any]:
    return {
        name: to_json_value(value.value, value.type) for name, value in entries.items() if isinstance(value, Literal)
    }
