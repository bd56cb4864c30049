"""Explicit casts: ``CAST(x AS t)``, ``x::t``, TRY_CAST; names of relations become their oids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cratepy.errors import (
    RelationUnknown,
    SQLParseError,
)
from cratepy.functions import registry
from cratepy.functions.catalog import name_parts
from cratepy.functions.texts_of_literals import type_text
from cratepy.model.expressions import (
    Cast,
    Expression,
    Literal,
    Parameter,
)
from cratepy.model.oids import relation_oid
from cratepy.model.types import (
    ANY_JSON,
    REGCLASS,
    TEXT,
    DataType,
    object_of,
)
from cratepy.sql.analyze.typing import cast_to, data_type
from cratepy.sql.parse import tree

if TYPE_CHECKING:
    from cratepy.sql.analyze.expressions import ExpressionAnalyzer


def cast_node(a: ExpressionAnalyzer, node: tree.CastNode) -> Expression:
    if node.type.name in _BY_NAME and not node.type.depth:
        return a.call(_BY_NAME[node.type.name], [a.analyze(node.operand)], node)
    target = data_type(node.type)
    operand = a.analyze(node.operand)
    if target.kind == "undefined" and not (isinstance(operand, Literal) and operand.value is None):
        # No type of values: what is written stays what it is, and a parameter is the text that the client sends.
        return cast_to(a.context, operand, TEXT) if operand.type.kind == "undefined" else operand
    if (operand.type.kind == "undefined" and not isinstance(operand, Literal)) or operand.type == ANY_JSON:
        # What a client sends for a parameter cast to a catalog type is a name; a number is one, too.
        is_named = isinstance(operand, Parameter) and target.kind in ("regclass", "regproc", "regtype")
        # TRY_CAST reads the text of a part: reading it as the type would fail where it is none.
        is_tried = node.is_try and not isinstance(operand, Parameter)
        operand = cast_to(a.context, operand, TEXT if is_named or is_tried else target)
        if operand.type == target:
            return operand
    if target == REGCLASS and isinstance(operand, Literal) and isinstance(operand.value, str):
        return _regclass(a, operand.value)
    if not node.is_try and (operand.type.kind, target.kind) in _BY_CATALOG:
        function = _BY_CATALOG[operand.type.kind, target.kind]
        return a.call(function, [operand], node)
    if not registry.can_cast(operand.type, target, explicit=True):
        if node.is_try:
            return Literal(None, target)
        source, wanted = type_text(operand.type), type_text(target)
        raise SQLParseError(f"Cannot cast expressions from type `{source}` to type `{wanted}`")
    return Cast(operand, _merged_target(operand.type, target), is_try=node.is_try)


#: Types that are only a way to write an oid or a name: the function that gives either (text → oid, oid → text).
_BY_NAME: Final = {"regnamespace": "_regnamespace", "regrole": "_regrole"}
#: Casts that need the relations of the cluster state.
_BY_CATALOG: Final = {("regclass", "text"): "_regclass_text", ("text", "regclass"): "_regclass"}


def _merged_target(source: DataType, target: DataType) -> DataType:
    """A cast to an object keeps the parts of the source, unless the target is strict."""
    if target.kind == source.kind == "object" and target.policy != "strict" and source.fields:
        known = {field.name for field in target.fields}
        fields = (*target.fields, *(field for field in source.fields if field.name not in known))
        return object_of(fields, target.policy)
    return target


def _regclass(a: ExpressionAnalyzer, text: str) -> Expression:
    """``'schema.table'::regclass``: the oid of the relation. Raises RelationUnknown."""
    if text.isdigit():
        return Literal(int(text), REGCLASS)
    found = a.context.catalog.find(name_parts(text))
    oid = relation_oid(a.context.catalog.state, found.name) if found is not None else None
    if oid is None:
        raise RelationUnknown(f"Relation '{text}' unknown")
    return Literal(oid, REGCLASS)
