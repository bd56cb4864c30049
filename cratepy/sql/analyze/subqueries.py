"""Subqueries in expressions: scalar, EXISTS, IN, ANY/ALL, ARRAY. Each becomes a column of an Apply operator."""

from __future__ import annotations

from cratepy.errors import UnsupportedFeature
from cratepy.model.expressions import Column, Expression
from cratepy.model.relations import Item, OutputColumn, Project, Relation
from cratepy.model.types import BOOLEAN, DataType, array_of, common_type
from cratepy.sql.analyze.expressions import ExpressionAnalyzer, PendingApply, negated
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree


def analyze_subquery(
    a: ExpressionAnalyzer, node: tree.ScalarSubquery | tree.ArraySubquery | tree.ExistsNode | tree.InSubquery
) -> Expression:
    """The column that holds the subquery's value."""
    match node:
        case tree.ScalarSubquery():
            relation, column = _single_column(a, node.query)
            return _pending(a, "scalar", relation, output_name(node), column.type)
        case tree.ArraySubquery():
            relation, column = _single_column(a, node.query)
            return _pending(a, "array", relation, output_name(node), array_of(column.type))
        case tree.ExistsNode():
            relation, _ = _query(a, node.query)
            return _pending(a, "exists", relation, output_name(node), BOOLEAN)
        case tree.InSubquery():
            operand = a.analyze(node.operand)
            found = _compared(a, "any", "=", operand, node.query, printed(node))
            return negated(found, node.is_negated)


def quantified_subquery(a: ExpressionAnalyzer, node: tree.Quantified, query: tree.Query) -> Expression:
    """``left OP ANY|ALL (SELECT …)``."""
    return _compared(a, node.quantifier, node.operator, a.analyze(node.left), query, printed(node))


def _compared(
    a: ExpressionAnalyzer, kind: str, operator: str, operand: Expression, query: tree.Query, name: str
) -> Expression:
    relation, column = _single_column(a, query)
    target = common_type(operand.type, column.type)
    if operator in ("like", "ilike", "not like", "not ilike"):
        raise UnsupportedFeature(f"{operator.upper()} {kind.upper()} (subquery) is not supported")
    cast_operand = cast_to(a.context, operand, target)
    if column.type != target:
        cast = cast_to(a.context, Column(column.id, column.name, column.type), target)
        relation = Project(relation, (Item(a.context.next_id(), column.name, cast),))
    return _pending(a, kind, relation, name, BOOLEAN, operand=cast_operand, operator=f"op_{operator}")


def _query(a: ExpressionAnalyzer, query: tree.Query) -> tuple[Relation, tuple[OutputColumn, ...]]:
    if a.place in ("DEFAULT", "CHECK", "a generated column", "RETURNING", "LIMIT"):
        raise UnsupportedFeature("Subquery not supported in this statement")
    from cratepy.sql.analyze.queries import analyze_query  # queries hold expressions and vice versa

    result = analyze_query(a.context, query, parent=a.scope, with_names=a.scope.with_names)
    return result.relation, result.columns


def _single_column(a: ExpressionAnalyzer, query: tree.Query) -> tuple[Relation, OutputColumn]:
    relation, columns = _query(a, query)
    if len(columns) != 1:
        raise UnsupportedFeature("Subqueries with more than 1 column are not supported.")
    return relation, columns[0]


def _pending(
    a: ExpressionAnalyzer,
    kind: str,
    relation: Relation,
    name: str,
    result: DataType,
    *,
    operand: Expression | None = None,
    operator: str | None = None,
) -> Expression:
    column_id = a.context.next_id()
    a.applies.append(PendingApply(kind, relation, column_id, name, result, operand, operator))
    return Column(column_id, name, result)
