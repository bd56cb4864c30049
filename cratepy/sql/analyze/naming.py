"""Names of output columns, and how CrateDB prints an expression: from the syntax tree, so that spellings survive.

A call gives the function's name, a column its own, anything else its printed form: ``(a + 1)``, ``CAST(x AS int)``,
``o['a']``. Source: CrateDB's ``ExpressionFormatter`` as its answers show it.
"""

from __future__ import annotations

from typing import assert_never

from cratepy.functions.texts_of_numbers import float_text
from cratepy.model.names import quote_identifier
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node


def output_name(node: Node) -> str:
    """The name of an output column without alias."""
    match node:
        case tree.Name():
            return node.parts[-1]
        case tree.Function():
            return node.name[-1]
        case tree.MatchNode():
            return "match"
        case tree.Binary(operator="||"):
            return "op_||"
        case tree.IsTruth():
            return "op_is"
        case _:
            return printed(node)


def printed(node: Node) -> str:  # noqa: PLR0911, PLR0912 (one arm per node)
    """The expression as text."""
    match node:
        case tree.NullWord():
            return "NULL"
        case tree.BooleanWord():
            return "true" if node.value else "false"
        case tree.NumberWord():
            return _number(node.text)
        case tree.StringWord():
            return _string(node.value)
        case tree.BitsWord():
            return f"B'{node.text}'"
        case tree.IntervalWord():
            return _interval(node)
        case tree.ParameterWord():
            return f"${node.index + 1}"
        case tree.DefaultWord():
            return "DEFAULT"
        case tree.Name():
            return quote_identifier(node.parts[-1])
        case tree.Star():
            return ".".join((*node.qualifier, "*"))
        case tree.Unary():
            return f"(NOT {printed(node.operand)})" if node.operator == "not" else f"- {printed(node.operand)}"
        case tree.Binary():
            return f"({printed(node.left)} {node.operator} {printed(node.right)})"
        case tree.Logic():
            return _logic(node)
        case tree.Function():
            return _function(node)
        case tree.CastNode():
            word = "TRY_CAST" if node.is_try else "CAST"
            return f"{word}({printed(node.operand)} AS {type_text(node.type)})"
        case tree.CaseNode():
            return _case(node)
        case tree.Subscript():
            return f"{_based(node.base)}[{printed(node.index)}]"
        case tree.Slice():
            low = "" if node.low is None else printed(node.low)
            high = "" if node.high is None else printed(node.high)
            return f"{_based(node.base)}[{low}:{high}]"
        case tree.FieldOf():
            return f"({printed(node.base)}).{node.field}"
        case tree.ArrayNode():
            return f"[{', '.join(printed(item) for item in node.items)}]"
        case tree.ObjectNode():
            return "{" + ", ".join(f'"{name}"= {printed(value)}' for name, value in sorted(node.entries)) + "}"
        case tree.RowNode():
            return f"({', '.join(printed(item) for item in node.items)})"
        case tree.ScalarSubquery():
            return f"({query_text(node.query)})"
        case tree.ArraySubquery():
            return f"ARRAY({query_text(node.query)})"
        case tree.ExistsNode():
            return f"EXISTS ({query_text(node.query)})"
        case tree.MatchNode():
            return "MATCH"
        case (
            tree.IsNull()
            | tree.IsTruth()
            | tree.IsDistinct()
            | tree.Between()
            | tree.InItems()
            | tree.InSubquery()
            | tree.Like()
            | tree.Quantified()
        ):
            return _predicate(node)
        case _:
            assert_never(node)


def _based(node: Node) -> str:
    return printed(node)


def _predicate(
    node: tree.IsNull
    | tree.IsTruth
    | tree.IsDistinct
    | tree.Between
    | tree.InItems
    | tree.InSubquery
    | tree.Like
    | tree.Quantified,
) -> str:
    match node:
        case tree.IsNull():
            return f"({printed(node.operand)} IS {'NOT ' if node.is_negated else ''}NULL)"
        case tree.IsTruth():
            word = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}[node.value]
            return f"({printed(node.operand)} IS {'NOT ' if node.is_negated else ''}{word})"
        case tree.IsDistinct():
            word = "IS NOT DISTINCT FROM" if node.is_negated else "IS DISTINCT FROM"
            return f"({printed(node.left)} {word} {printed(node.right)})"
        case tree.Between():
            text = f"({printed(node.operand)} BETWEEN {printed(node.low)} AND {printed(node.high)})"
            return _negated(text, node.is_negated)
        case tree.InItems():
            items = ", ".join(printed(item) for item in node.items)
            return _negated(f"({printed(node.operand)} IN ({items}))", node.is_negated)
        case tree.InSubquery():
            return _negated(f"({printed(node.operand)} IN ({query_text(node.query)}))", node.is_negated)
        case tree.Like():
            word = "ILIKE" if node.is_insensitive else "LIKE"
            escape = "" if node.escape is None else f" ESCAPE {printed(node.escape)}"
            return _negated(f"({printed(node.operand)} {word} {printed(node.pattern)}{escape})", node.is_negated)
        case tree.Quantified():
            right = query_text(node.right) if isinstance(node.right, tree.Query) else printed(node.right)
            return f"{printed(node.left)} {node.operator.upper()} {node.quantifier.upper()}({right})"
        case _:
            assert_never(node)


def _negated(text: str, is_negated: bool) -> str:
    return f"(NOT {text})" if is_negated else text


def _logic(node: tree.Logic) -> str:
    word = f" {node.operator.upper()} "
    text = printed(node.operands[0])
    for operand in node.operands[1:]:
        text = f"({text}{word}{printed(operand)})"
    return text


def _function(node: tree.Function) -> str:
    name = ".".join(node.name)
    if node.without_parentheses:
        return name
    inner = "*" if node.is_star else ", ".join(printed(argument) for argument in node.arguments)
    return f"{name}({'DISTINCT ' if node.is_distinct else ''}{inner})"


def _case(node: tree.CaseNode) -> str:
    parts = ["CASE"]
    if node.operand is not None:
        parts.append(printed(node.operand))
    for condition, value in node.branches:
        parts.append(f"WHEN {printed(condition)} THEN {printed(value)}")
    if node.default is not None:
        parts.append(f"ELSE {printed(node.default)}")
    return " ".join([*parts, "END"])


def _number(text: str) -> str:
    if text.isdigit():
        return str(int(text))
    return float_text(float(text))


def _string(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _interval(node: tree.IntervalWord) -> str:
    if node.unit is None:
        return f"CAST({_string(node.text)} AS interval)"
    end = "" if node.end is None else f" TO {node.end.upper()}"
    sign = "-" if node.is_negative else ""
    return f"INTERVAL {sign}{_string(node.text)} {node.unit.upper()}{end}"


def type_text(written: tree.TypeName) -> str:
    """A type as CAST prints it."""
    name = f'"{written.name}"' if written.is_quoted else written.name
    if written.arguments:
        name += f"({', '.join(str(argument) for argument in written.arguments)})"
    if written.name == "object" and written.policy:
        name += f"({written.policy.upper()})"
    for _ in range(written.depth):
        name = f"ARRAY({name})"
    return name


def query_text(query: tree.Query) -> str:
    """A subquery in an output name, in short."""
    body = query.body
    if not isinstance(body, tree.Select):
        return "SELECT …"
    items = ", ".join(printed(item.expression) for item in body.items)
    tables = ", ".join(table.parts[-1] for table in body.tables if isinstance(table, tree.TableName))
    text = f"SELECT {'DISTINCT ' if body.is_distinct else ''}{items}"
    if tables:
        text += f" FROM {tables}"
    if body.where is not None:
        text += f" WHERE {printed(body.where)}"
    return text
