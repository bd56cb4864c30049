"""Expressions: a syntax node and a scope in, a typed expression out.

Every name becomes a column, every operator and call one overload of ``functions``, every implicit cast is written out.
What an expression needs beside its value is collected on the analyzer: subqueries (to become Apply operators beneath the
one that uses them) and set-returning calls (to become a ProjectSet). Aggregates and window functions stay in the
expression; the query block takes them out. Calls are in ``analyze.calls``, subqueries in ``analyze.subqueries``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cratepy.errors import (
    ColumnUnknown,
    ConversionError,
    CrateError,
    FunctionUnknown,
    RelationUnknown,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.functions import registry
from cratepy.functions.casts import convert, to_json_value
from cratepy.functions.catalog import name_parts
from cratepy.model.expressions import (
    Branch,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
)
from cratepy.model.oids import relation_oid
from cratepy.model.relations import Item, Relation
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTERVAL,
    NUMERIC,
    REGCLASS,
    TEXT,
    UNDEFINED,
    DataType,
    Field,
    array_of,
    common_type,
    object_of,
)
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.typing import cast_to, common, comparable, data_type, same_types, settled
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PendingApply:
    """A subquery that wants an Apply beneath the operator of its expression; ``id`` is the column of its value."""

    kind: str
    right: Relation
    id: int
    name: str
    type: DataType
    operand: Expression | None = None
    operator: str | None = None


class ExpressionAnalyzer:
    """``place`` names the clause in errors; ``allows`` says which of aggregate, window, set may stand in it."""

    def __init__(
        self,
        context: Context,
        scope: Scope,
        *,
        place: str,
        allows: frozenset[str] = frozenset(),
        windows: dict[str, tree.WindowDef] | None = None,
    ) -> None:
        self.context = context
        self.scope = scope
        self.place = place
        self.allows = allows
        self.windows = windows or {}
        self.applies: list[PendingApply] = []
        self.sets: list[Item] = []
        self.has_aggregate = False
        self.has_window = False

    def analyze(self, node: Node) -> Expression:
        """The typed expression. Raises CrateErrors with CrateDB's words."""
        return _HANDLERS[type(node)](self, node)

    def boolean(self, node: Node) -> Expression:
        """A condition."""
        condition = self.analyze(node)
        if condition.type == BOOLEAN:
            return condition
        return cast_to(self.context, condition, BOOLEAN)

    def condition(self, node: Node) -> Expression:
        """What stands in WHERE, HAVING and ON: must be a boolean."""
        condition = self.analyze(node)
        if condition.type.kind not in ("boolean", "undefined"):
            raise SQLParseError(f"Expected query value to be of type `Boolean`, but got: {self.shown(node)}")
        return cast_to(self.context, condition, BOOLEAN)

    def call(self, name: str, arguments: list[Expression], node: Node) -> Expression:
        """The scalar of that name with its arguments cast to the chosen signature."""
        types = [argument.type for argument in arguments]
        try:
            chosen = registry.resolve(name, types)
        except FunctionUnknown as error:
            loose = _with_open_strings(arguments)
            if loose == types:
                raise self.unknown_function(error, types, node) from None
            try:
                chosen = registry.resolve(name, loose)
            except FunctionUnknown:
                raise self.unknown_function(error, types, node) from None
        cast = tuple(
            argument if argument.type == wanted else cast_to(self.context, argument, wanted)
            for argument, wanted in zip(arguments, chosen.argument_types, strict=True)
        )
        if chosen.function in registry.CATALOG_READERS:
            self.context.reads_catalog = True
        return Call(chosen.function, cast, chosen.result_type)

    def unknown_function(self, error: FunctionUnknown, types: list[DataType], node: Node) -> FunctionUnknown:
        """The error with the call as it was written, which is not cheap to print."""
        shown = self.shown(node)
        if error.message.startswith("Unknown"):
            return FunctionUnknown(f"Unknown function: {shown}")
        valid = error.message.rpartition(" Valid types: ")[2]
        given = f" with ({', '.join(kind.name for kind in types)})" if types else ""
        return FunctionUnknown(f"Invalid arguments in: {shown}{given}. Valid types: {valid}")

    def shown(self, node: Node) -> str:
        """The expression as error messages print it."""
        return printed(node, self.scope.qualified)


def _with_open_strings(arguments: list[Expression]) -> list[DataType]:
    """The types, a string beside an array being of any type, as in PostgreSQL (``coalesce(names, '{}')``)."""
    if not any(argument.type.kind == "array" for argument in arguments):
        return [argument.type for argument in arguments]
    return [UNDEFINED if isinstance(a, Literal) and a.type == TEXT else a.type for a in arguments]


# --- constants and names ---------------------------------------------------------------------------------------------


def _null(_a: ExpressionAnalyzer, _node: tree.NullWord) -> Expression:
    return Literal(None, UNDEFINED)


def _boolean(_a: ExpressionAnalyzer, node: tree.BooleanWord) -> Expression:
    return Literal(node.value, BOOLEAN)


def number_literal(text: str) -> Literal:
    """integer if it fits, else bigint, else numeric; with a point or exponent double precision."""
    if text.isdigit():
        value = int(text)
        if value <= _INT_MAX:
            return Literal(value, INTEGER)
        return Literal(value, BIGINT) if value <= _LONG_MAX else Literal(text.lstrip("0"), NUMERIC)
    return Literal(float(text), DOUBLE)


def _number(_a: ExpressionAnalyzer, node: tree.NumberWord) -> Expression:
    return number_literal(node.text)


def _string(_a: ExpressionAnalyzer, node: tree.StringWord) -> Expression:
    return Literal(node.value, TEXT)


def _bits(_a: ExpressionAnalyzer, node: tree.BitsWord) -> Expression:
    return Literal(node.text, DataType("bit", length=len(node.text)))


_SMALLER: Final = {"year": 0, "month": 1, "day": 2, "hour": 3, "minute": 4, "second": 5}


def _interval(_a: ExpressionAnalyzer, node: tree.IntervalWord) -> Expression:
    text = node.text
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


def _parameter(a: ExpressionAnalyzer, node: tree.ParameterWord) -> Expression:
    return a.context.parameter(node.index)


def _default(_a: ExpressionAnalyzer, _node: tree.DefaultWord) -> Expression:
    raise UnsupportedFeature("DEFAULT is only allowed in INSERT VALUES")


def _name(a: ExpressionAnalyzer, node: tree.Name) -> Expression:
    parts = node.parts
    if len(parts) > 4:
        raise SQLParseError(f'Column reference "{".".join(parts)}" has too many parts')
    return a.scope.resolve(parts)


def _star(_a: ExpressionAnalyzer, _node: tree.Star) -> Expression:
    raise SQLParseError("'*' can only be used in the select list and in count(*)")


# --- operators -------------------------------------------------------------------------------------------------------

_COMPARISONS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})


def _unary(a: ExpressionAnalyzer, node: tree.Unary) -> Expression:
    if node.operator == "not":
        operand = a.boolean(node.operand)
        return Call("op_not", (operand,), BOOLEAN)
    if isinstance(node.operand, tree.NumberWord):
        literal = number_literal(node.operand.text)
        value = f"-{literal.value}" if isinstance(literal.value, str) else -literal.value
        return Literal(value, literal.type)
    operand = a.analyze(node.operand)
    if isinstance(operand, Literal) and operand.type == TEXT:
        raise UnsupportedFeature(f"Cannot negate {printed(node.operand)}. You may need to add explicit type casts")
    if isinstance(operand, Literal) and operand.type == INTERVAL:
        return Literal([-part for part in operand.value], INTERVAL)
    if operand.type.kind == "byte":
        operand = cast_to(a.context, operand, INTEGER)
    return a.call("op_negate", [operand], node)


def _binary(a: ExpressionAnalyzer, node: tree.Binary) -> Expression:
    left, right = a.analyze(node.left), a.analyze(node.right)
    operator = node.operator
    if operator in _COMPARISONS:
        return compare(a, operator, left, right, node)
    if left.type.kind == "undefined" or right.type.kind == "undefined":
        left, right = _typed_operands(a, operator, left, right)
    return a.call(f"op_{operator}", [left, right], node)


def _typed_operands(
    a: ExpressionAnalyzer, operator: str, left: Expression, right: Expression
) -> tuple[Expression, Expression]:
    """An untyped parameter takes the type of the other side (not for ``array || element``)."""
    if not isinstance(left if left.type.kind == "undefined" else right, Parameter):
        return left, right
    if operator == "||":
        if left.type == right.type:
            return cast_to(a.context, left, TEXT), cast_to(a.context, right, TEXT)
        return left, right
    if left.type == right.type:
        return left, right
    if left.type.kind == "undefined" and right.type.kind not in ("interval", "date"):
        return cast_to(a.context, left, right.type), right
    if right.type.kind == "undefined" and left.type.kind not in ("interval", "date") and not left.type.is_timestamp:
        return left, cast_to(a.context, right, left.type)
    return left, right


def compare(a: ExpressionAnalyzer, operator: str, left: Expression, right: Expression, node: Node) -> Expression:
    """A comparison; both sides get one type."""
    if left.type != right.type:
        left, right = comparable(a.context, left, right)
    return a.call(f"op_{operator}", [left, right], node)


def _logic(a: ExpressionAnalyzer, node: tree.Logic) -> Expression:
    return balanced(f"op_{node.operator}", [a.boolean(operand) for operand in node.operands])


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


def negated(expression: Expression, is_negated: bool) -> Expression:
    return Call("op_not", (expression,), BOOLEAN) if is_negated else expression


def _is_null(a: ExpressionAnalyzer, node: tree.IsNull) -> Expression:
    return negated(Call("op_isnull", (settled(a.analyze(node.operand)),), BOOLEAN), node.is_negated)


def _is_truth(a: ExpressionAnalyzer, node: tree.IsTruth) -> Expression:
    operand = a.boolean(node.operand)
    function = {True: "op_is_true", False: "op_is_false", None: "op_isnull"}[node.value]
    return negated(Call(function, (operand,), BOOLEAN), node.is_negated)


def _is_distinct(a: ExpressionAnalyzer, node: tree.IsDistinct) -> Expression:
    left, right = comparable(a.context, a.analyze(node.left), a.analyze(node.right))
    return negated(a.call("op_is_distinct_from", [left, right], node), node.is_negated)


def _between(a: ExpressionAnalyzer, node: tree.Between) -> Expression:
    operand, low, high = a.analyze(node.operand), a.analyze(node.low), a.analyze(node.high)

    def within(lower: Expression, upper: Expression) -> Expression:
        at_least = compare(a, ">=", operand, lower, node)
        return Call("op_and", (at_least, compare(a, "<=", operand, upper, node)), BOOLEAN)

    inside = within(low, high)
    if node.is_symmetric:
        inside = Call("op_or", (inside, within(high, low)), BOOLEAN)
    return negated(inside, node.is_negated)


def _in_items(a: ExpressionAnalyzer, node: tree.InItems) -> Expression:
    if isinstance(node.operand, tree.RowNode):
        return _row_in(a, node.operand, node)
    expressions = [a.analyze(node.operand), *(a.analyze(item) for item in node.items)]
    operand, *items = same_types(a.context, expressions, keeps_column=True)
    return negated(InList(operand, tuple(items)), node.is_negated)


def _row_in(a: ExpressionAnalyzer, row: tree.RowNode, node: tree.InItems) -> Expression:
    alternatives: list[Node] = []
    for item in node.items:
        if not isinstance(item, tree.RowNode) or len(item.items) != len(row.items):
            raise SQLParseError("All rows of an IN list must have as many values as the left side")
        pairs = zip(row.items, item.items, strict=True)
        alternatives.append(tree.Logic("and", tuple(tree.Binary("=", left, right) for left, right in pairs)))
    return negated(a.analyze(tree.Logic("or", tuple(alternatives))), node.is_negated)


def _row(_a: ExpressionAnalyzer, node: tree.RowNode) -> Expression:
    raise UnsupportedFeature(f"Row values are not supported: {printed(node)}")


def _like(a: ExpressionAnalyzer, node: tree.Like) -> Expression:
    arguments = [a.analyze(node.operand), a.analyze(node.pattern)]
    if node.escape is not None:
        arguments.append(a.analyze(node.escape))
    name = "op_ilike" if node.is_insensitive else "op_like"
    arguments = [cast_to(a.context, e, TEXT) if e.type.kind == "undefined" else e for e in arguments]
    return negated(a.call(name, arguments, node), node.is_negated)


def _quantified(a: ExpressionAnalyzer, node: tree.Quantified) -> Expression:
    from cratepy.sql.analyze.subqueries import quantified_subquery  # subqueries hold expressions and vice versa

    if isinstance(node.right, tree.Query):
        return quantified_subquery(a, node, node.right)
    left, right = a.analyze(node.left), a.analyze(node.right)
    if right.type.kind != "array" and right.type.kind in ("undefined", "text"):
        right = cast_to(a.context, right, array_of(left.type if left.type.kind != "undefined" else TEXT))
    if left.type.kind == "undefined" and right.type.element is not None:
        left = cast_to(a.context, left, right.type.element)
    left, right = _aligned(a, left, right)
    operator = node.operator.replace(" ", "_")
    return a.call(f"op_{node.quantifier}_{operator}", [left, right], node)


def _aligned(a: ExpressionAnalyzer, left: Expression, right: Expression) -> tuple[Expression, Expression]:
    """A literal array takes the element type of an integer operand, so that a column stays bare."""
    element = right.type.element
    if element is None or element == left.type or not isinstance(right, Literal) or isinstance(left, Literal):
        return left, right
    if left.type.is_integer and element.is_integer and left.type != element:
        try:
            return left, cast_to(a.context, right, array_of(left.type))
        except SQLParseError:
            return left, right
    return left, right


# --- casts, case, parts ----------------------------------------------------------------------------------------------


def _cast(a: ExpressionAnalyzer, node: tree.CastNode) -> Expression:
    target = data_type(node.type)
    operand = a.analyze(node.operand)
    if operand.type.kind == "undefined" and not isinstance(operand, Literal):
        # What a client sends for a parameter cast to a catalog type is a name; a number is one, too.
        is_named = isinstance(operand, Parameter) and target.kind in ("regclass", "regproc", "regtype")
        operand = cast_to(a.context, operand, TEXT if is_named else target)
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
        raise SQLParseError(f"Cannot cast expressions from type `{operand.type.name}` to type `{target.name}`")
    return Cast(operand, _merged_target(operand.type, target), is_try=node.is_try)


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


def _case(a: ExpressionAnalyzer, node: tree.CaseNode) -> Expression:
    conditions: list[Expression] = []
    values: list[Expression] = []
    operand = None if node.operand is None else a.analyze(node.operand)
    for condition, value in node.branches:
        if operand is None:
            conditions.append(a.boolean(condition))
        else:
            conditions.append(compare(a, "=", operand, a.analyze(condition), node))
        values.append(a.analyze(value))
    values.append(Literal(None, UNDEFINED) if node.default is None else a.analyze(node.default))
    *results, default = same_types(a.context, values)
    branches = tuple(Branch(c, v) for c, v in zip(conditions, results, strict=True))
    return Case(branches, default, common([*(v.type for v in results), default.type]))


def _array(a: ExpressionAnalyzer, node: tree.ArrayNode) -> Expression:
    items = same_types(a.context, [a.analyze(item) for item in node.items])
    element = common([item.type for item in items])
    if all(isinstance(item, Literal) for item in items):
        return Literal([item.value for item in items if isinstance(item, Literal)], array_of(element))
    return Call("_array", items, array_of(element))


def _object(a: ExpressionAnalyzer, node: tree.ObjectNode) -> Expression:
    entries = [(name, a.analyze(value)) for name, value in node.entries]
    merged = object_of(tuple(Field(name, value.type) for name, value in dict(entries).items()))
    if all(isinstance(value, Literal) for _, value in entries):
        content: dict[str, Any] = {
            name: to_json_value(value.value, value.type) for name, value in entries if isinstance(value, Literal)
        }
        return Literal(content, merged)
    arguments: list[Expression] = []
    for name, value in entries:
        arguments += (Literal(name, TEXT), value)
    return Call("_map", tuple(arguments), merged)


def _subscript(a: ExpressionAnalyzer, node: tree.Subscript) -> Expression:
    base = a.analyze(node.base)
    if isinstance(node.base, tree.StringWord | tree.NumberWord | tree.BooleanWord | tree.NullWord):
        kind = type(node.base).__name__.replace("Word", "Literal").replace("Number", "Integer")
        raise UnsupportedFeature(f"An expression of type {kind} cannot have an index accessor ([])")
    return _part_of(a, base, a.analyze(node.index), node)


def _field(a: ExpressionAnalyzer, node: tree.FieldOf) -> Expression:
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
    if of.policy == "ignored":
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


def _slice(a: ExpressionAnalyzer, node: tree.Slice) -> Expression:
    base = a.analyze(node.base)
    low = Literal(None, INTEGER) if node.low is None else a.analyze(node.low)
    high = Literal(None, INTEGER) if node.high is None else a.analyze(node.high)
    return a.call("array_slice", [base, low, high], node)


def _function(a: ExpressionAnalyzer, node: tree.Function) -> Expression:
    from cratepy.sql.analyze.calls import analyze_call  # calls hold expressions and expressions hold calls

    return analyze_call(a, node)


def _subquery(a: ExpressionAnalyzer, node: Any) -> Expression:
    from cratepy.sql.analyze.subqueries import analyze_subquery  # as above

    return analyze_subquery(a, node)


def _match(_a: ExpressionAnalyzer, _node: tree.MatchNode) -> Expression:
    raise UnsupportedFeature("MATCH is not supported: this version has no full-text index")


_HANDLERS: Final[dict[type, Callable[[ExpressionAnalyzer, Any], Expression]]] = {
    tree.NullWord: _null,
    tree.BooleanWord: _boolean,
    tree.NumberWord: _number,
    tree.StringWord: _string,
    tree.BitsWord: _bits,
    tree.IntervalWord: _interval,
    tree.ParameterWord: _parameter,
    tree.DefaultWord: _default,
    tree.Name: _name,
    tree.Star: _star,
    tree.Unary: _unary,
    tree.Binary: _binary,
    tree.Logic: _logic,
    tree.IsNull: _is_null,
    tree.IsTruth: _is_truth,
    tree.IsDistinct: _is_distinct,
    tree.Between: _between,
    tree.InItems: _in_items,
    tree.InSubquery: _subquery,
    tree.Like: _like,
    tree.Quantified: _quantified,
    tree.Function: _function,
    tree.CastNode: _cast,
    tree.CaseNode: _case,
    tree.Subscript: _subscript,
    tree.Slice: _slice,
    tree.FieldOf: _field,
    tree.ArrayNode: _array,
    tree.ObjectNode: _object,
    tree.RowNode: _row,
    tree.ScalarSubquery: _subquery,
    tree.ArraySubquery: _subquery,
    tree.ExistsNode: _subquery,
    tree.MatchNode: _match,
}


def combined(left: DataType, right: DataType) -> DataType:
    return common_type(left, right)
