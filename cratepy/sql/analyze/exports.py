"""COPY TO: a query over the table, where its rows go, and how they are written.

In: a CopyToNode. Out: an AnalyzedCopyTo. The query gives the columns asked for, or all, and last the text that routes the row, by
which the rows come into the files of their shards.
"""

from __future__ import annotations

from cratepy.errors import SQLParseError, UnsupportedFeature
from cratepy.model.leaves import split_path
from cratepy.model.plan import CopyToPlan, QueryPlan
from cratepy.model.schema import TableDefinition
from cratepy.model.types import TEXT
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.settings import boolean_value, constant
from cratepy.sql.analyze.statements import AnalyzedCopyTo, AnalyzedQuery
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree

_FORMATS = ("json_array", "json_object")


def copy_to(context: Context, node: tree.CopyToNode) -> AnalyzedCopyTo:
    """A COPY TO. Raises CrateErrors of its names, options and expressions."""
    table = context.catalog.table(node.name, "COPY TO")
    options = {name: constant(context, value) for name, value in node.options}
    is_gzip, line_format = _checked(options)
    if not node.columns and line_format == "json_array":
        raise UnsupportedFeature("Output format not supported without specifying columns.")
    # Not ``_raw``: numbers that JSON does not have are texts here, which COPY FROM reads.
    written = node.columns or tuple(tree.Name((column.name,)) for column in table.columns)
    select = tree.Select(
        (*(tree.SelectItem(column) for column in written), tree.SelectItem(_routing(table))),
        tables=(tree.TableName((table.name.schema, table.name.name)),),
        where=node.where,
    )
    result = analyze_query(context, tree.Query(select), parent=None, with_names={})
    a = ExpressionAnalyzer(context, Scope(), place="COPY TO")
    query = AnalyzedQuery(relation=result.relation, columns=result.columns, tables=tuple(context.tables))
    names = tuple(column.name for column in result.columns[:-1])
    plan = CopyToPlan(
        table_uuid=table.uuid,
        table=table.name,
        query=QueryPlan(phases=(), columns=()),
        directory=cast_to(context, a.analyze(node.directory), TEXT),
        is_whole=not node.columns,
        names=names if line_format == "json_object" or not node.columns else None,
        is_gzip=is_gzip,
    )
    return AnalyzedCopyTo(plan=plan, query=query)


def _checked(options: dict[str, object]) -> tuple[bool, str | None]:
    """Whether the files are compressed, and the format; None is the default one."""
    for name in options:
        if name in ("protocol", "node_filters", "key", "sas_token"):
            raise UnsupportedFeature(f"Setting '{name}' of COPY TO is not supported by this server")
        if name not in ("compression", "format", "wait_for_completion"):
            raise SQLParseError(f"Setting '{name}' is not supported")
    if not boolean_value(options.get("wait_for_completion", True)):
        raise UnsupportedFeature("COPY TO with wait_for_completion = false is not supported by this server")
    compression = _one_of(options.get("compression"), ("gzip",))
    return compression is not None, _one_of(options.get("format"), _FORMATS)


def _one_of(value: object, supported: tuple[str, ...]) -> str | None:
    if value is None:
        return None
    text = str(value).lower()
    if text not in supported:
        raise SQLParseError(f"Unsupported setting value: {value}. Supported values are: {', '.join(supported)}")
    return text


def _routing(table: TableDefinition) -> tree.Node:
    """The routing text of a row, as ``model.routing`` says."""
    row_id = tree.Name(("_id",))
    if table.clustered_by in (None, "_id") or table.primary_key == (table.clustered_by,):
        return row_id
    assert table.clustered_by is not None
    base, keys = split_path(table.clustered_by)
    value: tree.Node = tree.Name((base,))
    for key in keys:
        value = tree.Subscript(value, tree.StringWord(key))
    text = tree.CastNode(value, tree.TypeName("text"))
    return tree.Function(("coalesce",), (text, row_id))
