"""Names of output columns, and how CrateDB prints an expression: from the syntax tree, so that spellings survive.

A call gives the function's name, a column its own, anything else its printed form: ``(a + 1)``, ``CAST(x AS int)``,
``o['a']``. Source: CrateDB's ``ExpressionFormatter`` as its answers show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from cratepy.functions.texts_of_numbers import float_text
from cratepy.model.names import quote_identifier
from cratepy.model.types import TYPE_NAMES
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node


def output_name(node: Node) -> str:
    """The name of an output column without alias."""
    match node:
        case tree.Name():
            return node.parts[-1]
        case tree.Function(name=("if",)) | tree.Function(name=("extract",)):
            return printed(node)
        case tree.Function():
            return node.label or node.name[-1]
        case tree.MatchNode():
            return "match"
        case tree.Binary(operator="||"):
            return "op_||"
        case tree.Binary(operator="&&"):
            return "array_overlap"
        case tree.IsTruth():
            return "op_is"
        case _:
            return printed(node)


#: How errors print: names of columns with their relation, types in capitals.
Qualify = Callable[[tuple[str, ...]], str]


def printed(node: Node, qualify: Qualify | None = None) -> str:
    """The expression as text; with ``qualify`` as error messages show it, else as output names do."""
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
            if qualify is not None and node.unit is None:
                return f"cast({_string(node.text)} AS INTERVAL)"
            return _interval(node)
        case tree.ParameterWord():
            return f"${node.index + 1}"
        case tree.DefaultWord():
            return "DEFAULT"
        case tree.Name():
            return quote_identifier(node.parts[-1]) if qualify is None else qualify(node.parts)
        case tree.Star():
            return ".".join((*node.qualifier, "*"))
        case tree.Unary(operator="not", operand=tree.Binary(operator="~" | "~*" as operator) as inner):
            return f"({printed(inner.left, qualify)} !{operator} {printed(inner.right, qualify)})"
        case tree.Unary():
            return (
                f"(NOT {printed(node.operand, qualify)})"
                if node.operator == "not"
                else f"- {printed(node.operand, qualify)}"
            )
        case tree.Binary():
            return f"({printed(node.left, qualify)} {node.operator} {printed(node.right, qualify)})"
        case tree.Logic():
            return _logic(node, qualify)
        case tree.Function():
            return _function(node, qualify)
        case tree.CastNode():
            word = "TRY_CAST" if node.is_try else "CAST"
            if qualify is not None:
                return f"{word.lower()}({printed(node.operand, qualify)} AS {canonical_type_text(node.type)})"
            return f"{word}({printed(node.operand)} AS {type_text(node.type)})"
        case tree.CaseNode():
            return _case(node, qualify)
        case tree.Subscript():
            return f"{printed(node.base, qualify)}[{printed(node.index, qualify)}]"
        case tree.Slice():
            low = "" if node.low is None else printed(node.low, qualify)
            high = "" if node.high is None else printed(node.high, qualify)
            return f"{printed(node.base, qualify)}[{low}:{high}]"
        case tree.FieldOf():
            return f"({printed(node.base, qualify)}).{node.field}"
        case tree.ArrayNode():
            return f"[{', '.join(printed(item, qualify) for item in node.items)}]"
        case tree.ObjectNode():
            entries = sorted(node.entries, key=_entry_name)
            if qualify is not None:
                return "{" + ", ".join(f"{name} = {printed(value, qualify)}" for name, value in entries) + "}"
            return "{" + ", ".join(f'"{name}"= {printed(value)}' for name, value in entries) + "}"
        case tree.RowNode():
            return f"({', '.join(printed(item, qualify) for item in node.items)})"
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
            return _predicate(node, qualify)
        case _:
            assert_never(node)


def _entry_name(entry: tuple[str, Node]) -> str:
    return entry[0]


def _predicate(
    node: tree.IsNull
    | tree.IsTruth
    | tree.IsDistinct
    | tree.Between
    | tree.InItems
    | tree.InSubquery
    | tree.Like
    | tree.Quantified,
    qualify: Qualify | None,
) -> str:
    match node:
        case tree.IsNull():
            return f"({printed(node.operand, qualify)} IS {'NOT ' if node.is_negated else ''}NULL)"
        case tree.IsTruth():
            word = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}[node.value]
            return f"({printed(node.operand, qualify)} IS {'NOT ' if node.is_negated else ''}{word})"
        case tree.IsDistinct():
            word = "IS NOT DISTINCT FROM" if node.is_negated else "IS DISTINCT FROM"
            return f"({printed(node.left, qualify)} {word} {printed(node.right, qualify)})"
        case tree.Between():
            text = f"({printed(node.operand, qualify)} BETWEEN {printed(node.low, qualify)} AND {printed(node.high, qualify)})"
            return _negated(text, node.is_negated)
        case tree.InItems():
            items = ", ".join(printed(item, qualify) for item in node.items)
            return _negated(f"({printed(node.operand, qualify)} IN ({items}))", node.is_negated)
        case tree.InSubquery():
            return _negated(f"({printed(node.operand, qualify)} IN ({query_text(node.query)}))", node.is_negated)
        case tree.Like():
            word = "ILIKE" if node.is_insensitive else "LIKE"
            escape = "" if node.escape is None else f" ESCAPE {printed(node.escape, qualify)}"
            return _negated(
                f"({printed(node.operand, qualify)} {word} {printed(node.pattern, qualify)}{escape})", node.is_negated
            )
        case tree.Quantified():
            right = (
                f"({query_text(node.right)})" if isinstance(node.right, tree.Query) else printed(node.right, qualify)
            )
            left, quantifier = printed(node.left, qualify), node.quantifier.upper()
            if node.operator.endswith("like"):
                return f"({left} {node.operator.upper()} {quantifier} ({right}) )"
            return f"{left} {node.operator} {quantifier}({right})"
        case _:
            assert_never(node)


def _negated(text: str, is_negated: bool) -> str:
    return f"(NOT {text})" if is_negated else text


def _logic(node: tree.Logic, qualify: Qualify | None) -> str:
    word = f" {node.operator.upper()} "
    text = printed(node.operands[0], qualify)
    for operand in node.operands[1:]:
        text = f"({text}{word}{printed(operand, qualify)})"
    return text


def _function(node: tree.Function, qualify: Qualify | None) -> str:
    name = ".".join(node.name)
    if name == "extract" and len(node.arguments) == 2 and isinstance(node.arguments[0], tree.StringWord):
        return f"EXTRACT({node.arguments[0].value.upper()} FROM {printed(node.arguments[1], qualify)})"
    if name == "if" and qualify is None:
        name = "IF"
    if node.without_parentheses:
        return name
    inner = "*" if node.is_star else ", ".join(printed(argument, qualify) for argument in node.arguments)
    return f"{name}({'DISTINCT ' if node.is_distinct else ''}{inner})"


def _case(node: tree.CaseNode, qualify: Qualify | None) -> str:
    parts = ["CASE"]
    if node.operand is not None:
        parts.append(printed(node.operand, qualify))
    for condition, value in node.branches:
        parts.append(f"WHEN {printed(condition, qualify)} THEN {printed(value, qualify)}")
    if node.default is not None:
        parts.append(f"ELSE {printed(node.default, qualify)}")
    return f"({' '.join([*parts, 'END'])})"


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
    for _ in range(written.depth):
        name = f"ARRAY({name})"
    return name


def canonical_type_text(written: tree.TypeName) -> str:
    """A type as error messages print it: its own name, in capitals."""
    known = TYPE_NAMES.get(written.name)
    if known is None:
        return written.name.upper()
    name = known.kind.upper()
    if written.arguments:
        name += f"({', '.join(str(argument) for argument in written.arguments)})"
    if known.kind == "object":
        name += f"({(written.policy or 'dynamic').upper()})"
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
