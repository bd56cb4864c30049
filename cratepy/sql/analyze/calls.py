"""Function calls: scalars, aggregates, window functions, set-returning functions."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from cratepy.errors import FunctionUnknown, SQLParseError, UnsupportedFeature
from cratepy.functions import registry
from cratepy.model.expressions import Aggregate, Call, Column, Expression, Frame, FrameBound, Literal, SortKey, Window
from cratepy.model.relations import Item
from cratepy.model.types import ANY_JSON, TIMESTAMPTZ, UNDEFINED, DataType, Field, array_of
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.typing import cast_to, resolved, settled
from cratepy.sql.parse import tree

_UNKNOWN_ARRAYS: Final = (UNDEFINED, array_of(UNDEFINED))
_OF_KNOWN_ELEMENTS: Final = frozenset({"array_length", "array_lower", "array_slice", "array_to_string", "array_upper"})
_NULLS_FLAG: Final = frozenset({"lag", "lead", "first_value", "last_value", "nth_value"})


def analyze_call(a: ExpressionAnalyzer, node: tree.Function) -> Expression:
    """The call as a typed expression."""
    name = ".".join(node.name)
    if node.over is not None:
        return _window(a, name, node, node.over)
    if registry.is_aggregate(name):
        return _aggregate(a, name, node)
    if node.filter is not None:
        raise UnsupportedFeature("Only aggregate functions allow a FILTER clause")
    if node.is_star:
        raise FunctionUnknown(f"Unknown function: {printed(node)}")
    if registry.is_window(name):
        raise UnsupportedFeature(f"{name} is a window function: it needs an OVER clause")
    if registry.is_table_function(name):
        return _set(a, name, node)
    return _scalar(a, name, node)


def _scalar(a: ExpressionAnalyzer, name: str, node: tree.Function) -> Expression:
    plain = node.name[-1]
    if plain == "extract" and len(node.arguments) == 2:
        field, operand = node.arguments
        if isinstance(field, tree.StringWord):
            return _extract(a, field.value, operand, node)
    arguments = [a.analyze(argument) for argument in node.arguments]
    if plain in ("trim", "ltrim", "rtrim") and len(arguments) == 2:
        name = "btrim" if plain == "trim" else plain
    _refuse_unknown_elements(plain, arguments)
    return a.call(name, arguments, node)


def _refuse_unknown_elements(name: str, arguments: list[Expression]) -> None:
    """``NULL`` and ``[]`` alone do not tell what array they are; a parameter, a column and a cast do."""
    if not arguments or not isinstance(arguments[0], Literal) or arguments[0].type not in _UNKNOWN_ARRAYS:
        return
    if name in _OF_KNOWN_ELEMENTS:
        raise SQLParseError(f"The inner type of the array argument `{name}` function cannot be undefined")
    if name == "array_unique" and len(arguments) == 1:
        raise SQLParseError(
            "When used with only one argument, the inner type of the array argument cannot be undefined"
        )


def _extract(a: ExpressionAnalyzer, field: str, operand: tree.Node, node: tree.Function) -> Expression:
    name = f"extract_{field}"
    if not registry.is_scalar(name):
        raise SQLParseError(f"'{field}' is not a valid EXTRACT field")
    value = a.analyze(operand)
    if value.type.kind in ("text", "undefined"):
        value = cast_to(a.context, value, TIMESTAMPTZ)
    return a.call(name, [value], node)


# --- aggregates ------------------------------------------------------------------------------------------------------


def _aggregate(a: ExpressionAnalyzer, name: str, node: tree.Function) -> Expression:
    if "aggregate" not in a.allows:
        raise _misplaced(a, name, node)
    inner = ExpressionAnalyzer(a.context, a.scope, place="an aggregate function", allows=frozenset())
    arguments = [inner.analyze(argument) for argument in node.arguments]
    a.applies.extend(inner.applies)
    if node.is_distinct and len(arguments) > 1 and not node.name[-1].startswith("string_agg"):
        raise UnsupportedFeature(f"{name}(DISTINCT x) does not accept more than one argument")
    if node.is_star and node.name[-1] != "count":
        arguments = []
    chosen, arguments = _chosen_aggregate(a, name, arguments, node)
    condition = None
    if node.filter is not None:
        condition = inner.boolean(node.filter)
        a.applies.extend(apply for apply in inner.applies if apply not in a.applies)
    order_by = tuple(_sort_key(inner, item) for item in node.order_by)
    a.has_aggregate = True
    return Aggregate(
        chosen.function,
        tuple(cast_to(a.context, e, t) for e, t in zip(arguments, chosen.argument_types, strict=True)),
        chosen.result_type,
        is_distinct=node.is_distinct,
        filter=condition,
        order_by=order_by,
    )


def _misplaced(a: ExpressionAnalyzer, name: str, node: tree.Function) -> Exception:
    if a.place == "an aggregate function":
        return UnsupportedFeature(f"Aggregate functions cannot be nested: {printed(node)}")
    if a.place in ("RETURNING", "VALUES", "SET", "DEFAULT", "CHECK", "a generated column"):
        return UnsupportedFeature(f"Function {name} is not a scalar function: it cannot be used in {a.place}")
    return SQLParseError(f"Aggregate functions are not allowed in {a.place}")


def _chosen_aggregate(
    a: ExpressionAnalyzer, name: str, arguments: list[Expression], node: tree.Function
) -> tuple[registry.Resolution, list[Expression]]:
    types = [argument.type for argument in arguments]
    try:
        return resolved(partial(registry.resolve_aggregate, name, is_distinct=node.is_distinct), arguments)
    except FunctionUnknown as error:
        shown = msgspec.structs.replace(node, is_distinct=False, is_star=False, order_by=(), filter=None)
        raise a.unknown_function(error, types, shown) from None


def _sort_key(a: ExpressionAnalyzer, item: tree.SortItem) -> SortKey:
    nulls_first = item.is_descending if item.nulls_first is None else item.nulls_first
    return SortKey(a.analyze(item.expression), item.is_descending, nulls_first)


# --- window functions ------------------------------------------------------------------------------------------------


def _window(a: ExpressionAnalyzer, name: str, node: tree.Function, over: tree.WindowDef) -> Expression:
    if "window" not in a.allows:
        raise SQLParseError(f"Window functions are not allowed in {a.place}")
    is_window, is_aggregate = registry.is_window(name), registry.is_aggregate(name)
    if not is_window and not is_aggregate:
        if not registry.is_scalar(name) and not registry.is_table_function(name):
            raise FunctionUnknown(f"Unknown function: {printed(node)}")
        raise SQLParseError(f"OVER clause was specified, but {name} is neither a window nor an aggregate function.")
    if node.is_distinct:
        raise UnsupportedFeature(f"DISTINCT is not supported in window functions: {printed(node)}")
    if node.ignores_nulls and node.name[-1] not in _NULLS_FLAG:
        raise SQLParseError(f"{name} cannot accept RESPECT or IGNORE NULLS flag.")
    if node.filter is not None and not is_aggregate:
        raise UnsupportedFeature("Only aggregate functions allow a FILTER clause")
    # Aggregates may stand inside: the window runs over the groups.
    inner = ExpressionAnalyzer(a.context, a.scope, place="a window function", allows=a.allows - {"window", "set"})
    arguments = [inner.analyze(argument) for argument in node.arguments]
    chosen, arguments = _chosen_window(a, name, arguments, node)
    full = _completed(a.windows, over)
    order_by = tuple(_sort_key(inner, item) for item in full.order_by)
    for key, item in zip(order_by, full.order_by, strict=True):
        _check_key(key.expression, item.expression, "ORDER BY")
    partition_by = tuple(settled(inner.analyze(expression)) for expression in full.partition_by)
    for expression, written in zip(partition_by, full.partition_by, strict=True):
        _check_key(expression, written, "PARTITION BY")
    condition = None if node.filter is None else inner.boolean(node.filter)
    frame = None if full.frame is None else _frame(inner, full.frame)
    a.applies.extend(inner.applies)
    a.has_aggregate = a.has_aggregate or inner.has_aggregate
    a.has_window = True
    return Window(
        chosen.function,
        tuple(cast_to(a.context, e, t) for e, t in zip(arguments, chosen.argument_types, strict=True)),
        chosen.result_type,
        partition_by=partition_by,
        order_by=order_by,
        frame=frame,
        filter=condition,
        ignores_nulls=node.ignores_nulls,
    )


def _chosen_window(
    a: ExpressionAnalyzer, name: str, arguments: list[Expression], node: tree.Function
) -> tuple[registry.Resolution, list[Expression]]:
    types = [argument.type for argument in arguments]
    try:
        return resolved(partial(registry.resolve_window, name), arguments)
    except FunctionUnknown as error:
        raise a.unknown_function(error, types, node) from None


def _check_key(expression: Expression, written: tree.Node, clause: str) -> None:
    if expression.type.kind in ("array", "object", "geo_shape", "geo_point") and expression.type != ANY_JSON:
        raise UnsupportedFeature(f"Cannot {clause} '{printed(written)}': invalid return type '{expression.type.name}'.")


def _completed(windows: dict[str, tree.WindowDef], over: tree.WindowDef) -> tree.WindowDef:
    """The window with what its named base says."""
    if over.base is None:
        return over
    base = windows.get(over.base)
    if base is None:
        raise SQLParseError(f"Window {over.base} does not exist")
    full = _completed({name: w for name, w in windows.items() if name != over.base}, base)
    if over.partition_by:
        raise SQLParseError(f"Cannot override PARTITION BY clause of window {over.base}")
    if over.order_by and full.order_by:
        raise SQLParseError(f"Cannot override ORDER BY clause of window {over.base}")
    return tree.WindowDef(
        partition_by=full.partition_by,
        order_by=over.order_by or full.order_by,
        frame=over.frame if over.frame is not None else full.frame,
    )


def _frame(a: ExpressionAnalyzer, written: tuple[str, tree.FrameEdge, tree.FrameEdge]) -> Frame:
    unit, start, end = written
    if start.kind == "unbounded_following":
        raise SQLParseError("Frame start cannot be UNBOUNDED FOLLOWING")
    if end.kind == "unbounded_preceding":
        raise SQLParseError("Frame end cannot be UNBOUNDED PRECEDING")
    order = ("unbounded_preceding", "preceding", "current_row", "following", "unbounded_following")
    if order.index(start.kind) > order.index(end.kind):
        raise SQLParseError("Frame start cannot be after frame end")
    return Frame(unit, _bound(a, start), _bound(a, end))


def _bound(a: ExpressionAnalyzer, edge: tree.FrameEdge) -> FrameBound:
    if edge.offset is None:
        return FrameBound(edge.kind)
    offset = a.analyze(edge.offset)
    if isinstance(offset, Literal) and isinstance(offset.value, int | float) and offset.value < 0:
        raise SQLParseError("Frame offset must not be negative")
    if isinstance(offset, Literal) and offset.value is None:
        raise SQLParseError("Frame offset must not be null")
    return FrameBound(edge.kind, offset)


# --- set-returning functions -----------------------------------------------------------------------------------------


def _set(a: ExpressionAnalyzer, name: str, node: tree.Function) -> Expression:
    """A table function in the select list: a column of a ProjectSet."""
    if "set" not in a.allows:
        raise SQLParseError(f"Table functions are not allowed in {a.place}")
    arguments = [a.analyze(argument) for argument in node.arguments]
    types = [argument.type for argument in arguments]
    try:
        chosen = registry.resolve(name, types)
    except FunctionUnknown as error:
        raise a.unknown_function(error, types, node) from None
    result = chosen.result_type
    if result.kind == "record":
        columns = registry.resolve_table_function(name, types).columns
        result = DataType("record", fields=tuple(Field(column, kind) for column, kind in columns))
    cast = tuple(cast_to(a.context, e, t) for e, t in zip(arguments, chosen.argument_types, strict=True))
    column_id = a.context.next_id()
    label = output_name(node)
    a.sets.append(Item(column_id, label, Call(chosen.function, cast, result)))
    return Column(column_id, label, result)
