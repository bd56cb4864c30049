"""The analyzer's front door: a parsed statement and the catalog in, an analyzed statement out.

Pure and synchronous. Parameters without a given type take the one their place wants; if one was used before its type was
known, the statement is analyzed a second time with what the first pass found. What nobody knows is text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from cratepy.errors import StatementTooComplex
from cratepy.limits import PARAMETERS_MAX
from cratepy.model.types import TEXT, DataType
from cratepy.sql.analyze import changes, copies, ddl, exports, inserts, sessions, shows
from cratepy.sql.analyze.catalog import CatalogView
from cratepy.sql.analyze.context import Context, Fold
from cratepy.sql.analyze.missing import missing_object, refused_privileges
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.statements import (
    Analysis,
    AnalyzedDeclare,
    AnalyzedExplain,
    AnalyzedQuery,
    AnalyzedStatement,
)
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import ParsedStatement
from cratepy.sql.session_view import SessionView


def analyze(
    parsed: ParsedStatement,
    catalog: CatalogView,
    *,
    parameter_types: Sequence[DataType | None],
    session: SessionView,
    fold: Fold,
    new_id: Callable[[], str],
) -> Analysis:
    """The statement with every name resolved and every expression typed. Raises CrateErrors."""
    given: Sequence[DataType | None] = parameter_types[:PARAMETERS_MAX]
    try:
        for _ in range(2):
            context = Context(catalog, session, fold, new_id, given)
            statement, tag = _statement(context, parsed.tree, parsed)
            if context.is_settled:
                break
            given = [kind if kind is not None else TEXT for kind in context.parameter_types]
    except RecursionError:
        raise StatementTooComplex("Statement is nested too deeply") from None
    types = [kind if kind is not None else TEXT for kind in context.parameter_types]
    types += [TEXT] * (parsed.parameters - len(types))
    return Analysis(
        statement=statement,
        parameter_types=tuple(types),
        tag=tag,
        is_cacheable=context.is_cacheable,
        reads_catalog=context.reads_catalog,
    )


def _statement(context: Context, node: tree.Statement, parsed: ParsedStatement) -> tuple[AnalyzedStatement, str]:
    """The analyzed statement and its command tag."""
    match node:
        case tree.Query():
            return query(context, node), "SELECT"
        case tree.InsertNode():
            return inserts.insert(context, node), "INSERT 0"
        case tree.UpdateNode():
            return changes.update(context, node), "UPDATE"
        case tree.DeleteNode():
            return changes.delete(context, node), "DELETE"
        case tree.CopyFromNode():
            return copies.copy_from(context, node), "COPY"
        case tree.MissingObject():
            return missing_object(context, node)
        case tree.PrivilegesNode():
            raise refused_privileges(context, node)
        case tree.CopyToNode():
            return exports.copy_to(context, node), "COPY"
        case (
            tree.CreateTableNode()
            | tree.CreateViewNode()
            | tree.CreateSchemaNode()
            | tree.CreateAnalyzerNode()
            | tree.DropAnalyzerNode()
            | tree.DropNode()
            | tree.AlterTableNode()
            | tree.SwapTablesNode()
            | tree.RefreshNode()
            | tree.OptimizeNode()
        ):
            return ddl.define(context, node)
        case tree.ExplainStatement():
            return _explain(context, node, parsed), "EXPLAIN"
        case tree.DeclareStatement():
            declared = AnalyzedDeclare(
                name=node.name,
                query=query(context, node.query),
                is_scrollable=node.is_scrollable,
                is_holdable=node.is_holdable,
            )
            return declared, "DECLARE"
        case tree.ShowStatement():
            return shows.show(context, node), "SHOW"
        case (
            tree.SetStatement()
            | tree.ResetStatement()
            | tree.TransactionStatement()
            | tree.KillStatement()
            | tree.AlterClusterStatement()
            | tree.DeallocateStatement()
            | tree.FetchStatement()
            | tree.CloseStatement()
            | tree.CopyOtherNode()
            | tree.NoOperation()
        ):
            return sessions.direct(context, node)
        case _:
            assert_never(node)


def query(context: Context, node: tree.Query) -> AnalyzedQuery:
    """A query as a statement."""
    result = analyze_query(context, node, parent=None, with_names={})
    return AnalyzedQuery(relation=result.relation, columns=result.columns, tables=tuple(context.tables))


def _explain(context: Context, node: tree.ExplainStatement, parsed: ParsedStatement) -> AnalyzedExplain:
    from cratepy.errors import SQLParseError  # only for these refusals

    for other, is_given in (("VERBOSE", node.is_verbose), ("COSTS", node.shows_costs)):
        if node.is_analyze and is_given:
            raise SQLParseError(f"The ANALYZE and {other} options are not allowed together")
    statement, _ = _statement(context, node.statement, parsed)
    return AnalyzedExplain(
        statement=statement,
        is_verbose=node.is_verbose,
        is_analyze=node.is_analyze,
        shows_costs=node.shows_costs,
    )
