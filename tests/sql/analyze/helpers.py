"""A small catalog, a short way to analyze, and relations as text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from cratepy.cluster.commands import apply
from cratepy.errors import CrateError
from cratepy.model.commands import CreateTable
from cratepy.model.expressions import (
    Aggregate,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.plan import CommandPlan
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Join,
    Limit,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
)
from cratepy.model.state import ClusterState, NodeInfo
from cratepy.model.types import DataType
from cratepy.sql.analyze.analyzer import analyze
from cratepy.sql.analyze.catalog import CatalogView
from cratepy.sql.analyze.statements import Analysis, AnalyzedDirect, AnalyzedQuery
from cratepy.sql.parse.parser import parse
from cratepy.sql.session_view import SessionView

_NODE = NodeInfo(
    id="n1", name="n1", ephemeral_id="e1", host="127.0.0.1", transport_port=4300, http_port=4200, psql_port=5432
)
EMPTY = ClusterState(nodes={"n1": _NODE}, master_id="n1")


def analysis(
    text: str,
    state: ClusterState = EMPTY,
    *,
    types: Sequence[DataType | None] = (),
    session: SessionView | None = None,
) -> Analysis:
    """The only statement of the text, analyzed."""
    view = session if session is not None else SessionView()
    numbers = itertools.count(1)
    (parsed,) = parse(text)
    return analyze(
        parsed,
        CatalogView(state, view.search_path),
        parameter_types=types,
        session=view,
        fold=list,
        new_id=lambda: f"uuid-{next(numbers)}",
    )


def with_tables(*texts: str, state: ClusterState = EMPTY) -> ClusterState:
    """The state after some DDL."""
    for text in texts:
        statement = analysis(text, state).statement
        assert isinstance(statement, AnalyzedDirect)
        assert isinstance(statement.plan, CommandPlan)
        command = statement.plan.command
        if isinstance(command, CreateTable):
            command = msgspec.structs.replace(
                command, definition=msgspec.structs.replace(command.definition, uuid=f"table-{len(state.tables)}")
            )
        state = apply(state, command)
    return state


TABLES = with_tables(
    "CREATE TABLE t (id int PRIMARY KEY, a text, n bigint, d double, ts timestamp, tags array(text),"
    " o object(dynamic) AS (k int, p object AS (q text)), i object(ignored), s object(strict) AS (x int))",
    "CREATE TABLE u (id int PRIMARY KEY, g text, w smallint)",
)


def error_of(text: str, state: ClusterState = TABLES, **options: object) -> str:
    """The error of a statement, labelled as over HTTP."""
    try:
        analysis(text, state, **options)  # type: ignore[arg-type]
    except CrateError as error:
        return error.labelled
    raise AssertionError(f"no error: {text}")


def names_of(text: str, state: ClusterState = TABLES) -> list[str]:
    """The names of a query's output columns."""
    columns = analysis(text, state).statement.columns  # type: ignore[union-attr]
    assert columns is not None
    return [column.name for column in columns]


def types_of(text: str, state: ClusterState = TABLES) -> list[str]:
    """The types of a query's output columns."""
    columns = analysis(text, state).statement.columns  # type: ignore[union-attr]
    assert columns is not None
    return [column.type.name for column in columns]


def plan_of(text: str, state: ClusterState = TABLES) -> str:
    """A query's relation as text."""
    statement = analysis(text, state).statement
    assert isinstance(statement, AnalyzedQuery)
    return "\n".join(tree_lines(statement.relation))


def tree_lines(relation: Relation, depth: int = 0) -> list[str]:
    """One line per operator, indented."""
    lines = ["  " * depth + _line(relation)]
    for child in children(relation):
        lines += tree_lines(child, depth + 1)
    return lines


def _line(relation: Relation) -> str:
    match relation:
        case Scan() | SystemScan():
            return f"Scan {relation.table} [{', '.join(column.name for column in relation.columns)}]"
        case TableFunction():
            return f"Function {relation.function}({_list(relation.arguments)})"
        case Values():
            return f"Values {len(relation.rows)} x {len(relation.columns)}"
        case Filter():
            return f"Filter {shown(relation.predicate)}"
        case Project() | ProjectSet() | WindowCalculation():
            items = ", ".join(f"{item.name}={shown(item.expression)}" for item in relation.items)
            return f"{type(relation).__name__} [{items}]"
        case Aggregation():
            keys = ", ".join(shown(item.expression) for item in relation.keys)
            return f"Aggregation [{keys}] [{', '.join(shown(item.expression) for item in relation.aggregates)}]"
        case Join():
            return f"Join {relation.kind} {'' if relation.condition is None else shown(relation.condition)}".rstrip()
        case Apply():
            operand = "" if relation.operand is None else f" {shown(relation.operand)} {relation.operator}"
            return f"Apply {relation.kind}{operand}"
        case Sort():
            return f"Sort [{', '.join(map(_key, relation.keys))}]"
        case Limit():
            count = "all" if relation.count is None else shown(relation.count)
            return f"Limit {count}" + ("" if relation.offset is None else f" offset {shown(relation.offset)}")
        case SetOperation():
            return relation.kind
        case RecursiveQuery() | RecursiveReference():
            return f"{type(relation).__name__} {relation.name}"
        case _:
            return type(relation).__name__


def _list(expressions: Sequence[Expression]) -> str:
    return ", ".join(shown(expression) for expression in expressions)


def _key(key: SortKey) -> str:
    text = shown(key.expression) + (" DESC" if key.is_descending else "")
    return (
        text if key.nulls_first == key.is_descending else text + (" NULLS FIRST" if key.nulls_first else " NULLS LAST")
    )


def shown(expression: Expression) -> str:
    """A typed expression as text; literals and casts with their types."""
    match expression:
        case Literal():
            return f"{expression.value!r}:{expression.type.name}"
        case Column():
            return expression.name
        case OuterColumn():
            return f"outer {expression.name}"
        case Parameter():
            return f"${expression.index + 1}:{expression.type.name}"
        case SubqueryValue():
            return f"subquery {expression.slot}"
        case Call():
            return f"{expression.function}({_list(expression.arguments)})"
        case Cast():
            return f"cast({shown(expression.argument)}, {expression.type.name})"
        case Case():
            branches = "".join(f" {shown(b.condition)}: {shown(b.value)}" for b in expression.branches)
            return f"case{branches} else {shown(expression.default)}"
        case InList():
            return f"{shown(expression.operand)} in ({_list(expression.items)})"
        case Aggregate():
            distinct = "distinct " if expression.is_distinct else ""
            condition = "" if expression.filter is None else f" where {shown(expression.filter)}"
            return f"{expression.function}({distinct}{_list(expression.arguments)}){condition}"
        case Window():
            partition, order = _list(expression.partition_by), ", ".join(map(_key, expression.order_by))
            return f"{expression.function}({_list(expression.arguments)}) over ({partition}; {order})"
