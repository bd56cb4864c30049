"""Parts of values: ``o['k']``, ``a[1]``, ``a[1:2]``, ``(o).k``, each with its declared type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cratepy.errors import (
    ColumnUnknown,
    FunctionUnknown,
    UnsupportedFeature,
)
from cratepy.model.expressions import (
    Call,
    Column,
    Expression,
    Literal,
    OuterColumn,
)
from cratepy.model.types import (
    ANY_JSON,
    INTEGER,
    TEXT,
    UNDEFINED,
    DataType,
    array_of,
)
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.typing import cast_to, settled
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node

if TYPE_CHECKING:
    from cratepy.sql.analyze.expressions import ExpressionAnalyzer


def subscript_node(a: ExpressionAnalyzer, node: tree.Subscript) -> Expression:
    column = _column_of_document(a, node)
    if column is not None:
        return column
    base = a.analyze(node.base)
    if isinstance(node.base, tree.StringWord | tree.NumberWord | tree.BooleanWord | tree.NullWord):
        kind = type(node.base).__name__.replace("Word", "Literal").replace("Number", "Integer")
        raise UnsupportedFeature(f"An expression of type {kind} cannot have an index accessor ([])")
    return _part_of(a, base, a.analyze(node.index), node)


def _column_of_document(a: ExpressionAnalyzer, node: tree.Subscript) -> Expression | None:
    """``_doc['a']`` is column ``a``, if the table has it: no row is put together to take it apart again."""
    base, index = node.base, node.index
    if not isinstance(base, tree.Name) or base.parts[-1] != "_doc" or not isinstance(index, tree.StringWord):
        return None
    return a.scope.column_of_document(base.parts[:-1], index.value)


def field_node(a: ExpressionAnalyzer, node: tree.FieldOf) -> Expression:
    base = a.analyze(node.base)
    if base.type.kind == "record":
        part = base.type.field(node.field)
        if part is None:
            raise ColumnUnknown(f"The record {printed(node.base)} does not contain the field `{node.field}`")
        return Call("subscript", (base, Literal(node.field, TEXT)), part)
    return _part_of(a, base, Literal(node.field, TEXT), node)


def _part_of(a: ExpressionAnalyzer, base: Expression, index: Expression, node: Node) -> Expression:
    """``base[index]``: an element of an array or a part of an object, with its declared type."""
    base = settled(base)
    kind = base.type.kind
    if kind not in ("array", "object", "undefined"):
        if index.type.kind == "text" and _is_part_of_column(base):
            raise ColumnUnknown(f"Column {printed(node)} unknown")
        valid = "(array(object), text), (array(E), integer), (object, text), (undefined, text)"
        given = f"({base.type.name}, {index.type.name})"
        raise FunctionUnknown(f"Invalid arguments in: {a.shown(node)} with {given}. Valid types: {valid}")
    if kind == "array" and index.type.kind == "text" and isinstance(index, Literal):
        element = base.type.element
        assert element is not None
        if element.kind == "object":
            part = _declared_part(a, element, str(index.value), base, node)
            return Call("subscript", (base, index), array_of(part))
        raise _no_part(a, f"ARRAY({element.name.upper()})", str(index.value), base, node)
    if kind in ("object", "undefined") and index.type.kind == "text":
        part = UNDEFINED
        if kind == "object" and isinstance(index, Literal):
            part = _declared_part(a, base.type, str(index.value), base, node)
        return Call("subscript", (base, index), part)
    if base.type == ANY_JSON:
        base = cast_to(a.context, base, array_of(ANY_JSON))
    return a.call("subscript", [base, index], node)


def _no_part(a: ExpressionAnalyzer, kind: str, name: str, base: Expression, node: Node) -> ColumnUnknown:
    if _is_part_of_column(base):
        return ColumnUnknown(f"Column {printed(node)} unknown")
    of_node = node.base if isinstance(node, tree.Subscript | tree.FieldOf) else node
    return ColumnUnknown(
        f"The return type `{kind}` of the expression `{a.shown(of_node)}` does not contain the key `{name}`"
    )


def _declared_part(a: ExpressionAnalyzer, of: DataType, name: str, base: Expression, node: Node) -> DataType:
    part = of.field(name)
    if part is not None:
        return part
    if of.policy in ("ignored", "any"):
        return UNDEFINED
    is_column = _is_part_of_column(base)
    if of.policy == "dynamic" and (not a.context.session.fails_on_unknown_object_key or not (is_column or of.fields)):
        return UNDEFINED
    inner = ", ".join(f'"{field.name}" {field.type.name.upper()}' for field in of.fields)
    shown = f"OBJECT({of.policy.upper()})" + (f" AS ({inner})" if inner else "")
    raise _no_part(a, shown, name, base, node)


def _is_part_of_column(expression: Expression) -> bool:
    while isinstance(expression, Call) and expression.function == "subscript":
        expression = expression.arguments[0]
    return isinstance(expression, Column | OuterColumn)


def slice_node(a: ExpressionAnalyzer, node: tree.Slice) -> Expression:
    base = a.analyze(node.base)
    low = Literal(None, INTEGER) if node.low is None else a.analyze(node.low)
    high = Literal(None, INTEGER) if node.high is None else a.analyze(node.high)
    return a.call("array_slice", [base, low, high], node)
