"""Expressions: a syntax node and a scope in, a typed expression out.

Every name becomes a column, every operator and call one overload of ``functions``, every implicit cast is written out.
What an expression needs beside its value is collected on the analyzer: subqueries (to become Apply operators beneath the
one that uses them) and set-returning calls (to become a ProjectSet). Aggregates and window functions stay in the
expression; the query block takes them out. Calls are in ``analyze.calls``, subqueries in ``analyze.subqueries``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cratepy.errors import (
    FunctionUnknown,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.functions import registry
from cratepy.model.expressions import (
    Call,
    Cast,
    Expression,
    Literal,
    Parameter,
)
from cratepy.model.relations import Item, Relation
from cratepy.model.types import (
    ANY_JSON,
    BOOLEAN,
    INTEGER,
    INTERVAL,
    TEXT,
    UNDEFINED,
    DataType,
    array_of,
)
from cratepy.records import dataclass
from cratepy.sql.analyze.casts import cast_node
from cratepy.sql.analyze.composed import array_node, balanced, case_node, listed, object_node, row_alternatives
from cratepy.sql.analyze.constants import (
    bits_node,
    boolean_node,
    default_node,
    interval_node,
    name_node,
    null_node,
    number_literal,
    number_node,
    parameter_node,
    star_node,
    string_node,
)
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.parts import field_node, slice_node, subscript_node
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.typing import appendable, cast_to, common, comparable, resolved, settled
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node


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
        return self.truth(self.analyze(node), node)

    def truth(self, operand: Expression, node: Node) -> Expression:
        """The operand of ``node`` as a boolean. Raises FunctionUnknown for a type that cannot be one."""
        if operand.type == BOOLEAN:
            return operand
        if operand.type != ANY_JSON and not registry.can_cast(operand.type, BOOLEAN, explicit=False):
            shown = self.shown(node)
            raise FunctionUnknown(f"Invalid arguments in: {shown} with ({operand.type.name}). Valid types: (boolean)")
        return cast_to(self.context, operand, BOOLEAN)

    def compared(self, operator: str, left: Expression, right: Expression, node: Node) -> Expression:
        """:func:`compare` for the rooms that this one imports."""
        return compare(self, operator, left, right, node)

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
            chosen, arguments = resolved(partial(registry.resolve, name), arguments)
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


# --- operators -------------------------------------------------------------------------------------------------------

_ORDERINGS: Final = frozenset({"<", "<=", ">", ">="})
_COMPARISONS: Final = _ORDERINGS | {"=", "<>"}


def _unary(a: ExpressionAnalyzer, node: tree.Unary) -> Expression:
    if node.operator == "not":
        return Call("op_not", (a.truth(a.analyze(node.operand), node),), BOOLEAN)
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
        if operator == "||":
            left, right = appendable(left, right), appendable(right, left)
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
        if operator in _ORDERINGS and (left.type == TEXT) != (right.type == TEXT):
            _refuse_unordered(a, operator, left, right, node)
        left, right = comparable(a.context, left, right)
    return a.call(f"op_{operator}", [left, right], node)


def _refuse_unordered(a: ExpressionAnalyzer, operator: str, left: Expression, right: Expression, node: Node) -> None:
    """A string beside a type without an order (an object, a point) need not be one of its values to be refused."""
    types = [left.type, right.type]
    if ANY_JSON in types:
        return
    try:
        registry.resolve(f"op_{operator}", [common(types)] * 2)
    except FunctionUnknown as error:
        raise a.unknown_function(error, types, node) from None


def _logic(a: ExpressionAnalyzer, node: tree.Logic) -> Expression:
    return balanced(f"op_{node.operator}", [a.boolean(operand) for operand in node.operands])


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
        return negated(a.analyze(row_alternatives(node.operand, node.items)), node.is_negated)
    return negated(listed(a, node), node.is_negated)


def _row(_a: ExpressionAnalyzer, node: tree.RowNode) -> Expression:
    raise UnsupportedFeature(f"Row values are not supported: {printed(node)}")


def _like(a: ExpressionAnalyzer, node: tree.Like) -> Expression:
    arguments = [a.analyze(node.operand), a.analyze(node.pattern)]
    if node.escape is not None:
        arguments.append(a.analyze(node.escape))
    name = "op_ilike" if node.is_insensitive else "op_like"
    arguments = [cast_to(a.context, e, TEXT) if e.type.kind == "undefined" else e for e in arguments]
    return negated(a.call(name, arguments, node), node.is_negated)


def _is_given(expression: Expression) -> bool:
    """Whether it is a literal or a parameter."""
    while isinstance(expression, Cast):
        expression = expression.argument
    return isinstance(expression, Literal | Parameter)


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
    if node.quantifier == "any" and operator.endswith("like") and _is_given(left):
        operator += "_either"
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


# --- what other rooms analyze ------------------------------------------------------------------------------------------


def _function(a: ExpressionAnalyzer, node: tree.Function) -> Expression:
    from cratepy.sql.analyze.calls import analyze_call  # calls hold expressions and expressions hold calls

    return analyze_call(a, node)


def _subquery(a: ExpressionAnalyzer, node: Any) -> Expression:
    from cratepy.sql.analyze.subqueries import analyze_subquery  # as above

    return analyze_subquery(a, node)


def _match(a: ExpressionAnalyzer, node: tree.MatchNode) -> Expression:
    from cratepy.sql.analyze.matching import match_node  # as above

    return match_node(a, node)


_HANDLERS: Final[dict[type, Callable[[ExpressionAnalyzer, Any], Expression]]] = {
    tree.NullWord: null_node,
    tree.BooleanWord: boolean_node,
    tree.NumberWord: number_node,
    tree.StringWord: string_node,
    tree.BitsWord: bits_node,
    tree.IntervalWord: interval_node,
    tree.ParameterWord: parameter_node,
    tree.DefaultWord: default_node,
    tree.Name: name_node,
    tree.Star: star_node,
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
    tree.CastNode: cast_node,
    tree.CaseNode: case_node,
    tree.Subscript: subscript_node,
    tree.Slice: slice_node,
    tree.FieldOf: field_node,
    tree.ArrayNode: array_node,
    tree.ObjectNode: object_node,
    tree.RowNode: _row,
    tree.ScalarSubquery: _subquery,
    tree.ArraySubquery: _subquery,
    tree.ExistsNode: _subquery,
    tree.MatchNode: _match,
}
