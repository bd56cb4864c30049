"""COPY FROM: a plan with the files, the options, and the insert its rows go through."""

from __future__ import annotations

from cratepy.errors import (
    ColumnUnknown,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.model.plan import CopyFromPlan, InsertPlan
from cratepy.model.relations import OutputColumn
from cratepy.model.types import BIGINT, OBJECT, TEXT
from cratepy.sql.analyze import schema_text
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.settings import constant
from cratepy.sql.analyze.statements import (
    AnalyzedCopyFrom,
)
from cratepy.sql.analyze.targets import highest_oid, target_names
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree


def copy_from(context: Context, node: tree.CopyFromNode) -> AnalyzedCopyFrom:
    table = context.catalog.table(node.name, "INSERT")
    context.start_ids_above(highest_oid(table))
    a = ExpressionAnalyzer(context, Scope(), place="COPY FROM")
    try:
        uris = a.analyze(node.source)
    except ColumnUnknown as error:
        shown = printed(node.source)
        raise UnsupportedFeature(
            "Columns cannot be used in this context. Maybe you wanted to use a string literal which requires single "
            f"quotes: '{shown}'"
        ) from error
    if uris.type.kind == "undefined":
        uris = cast_to(context, uris, TEXT)
    if uris.type.kind != "text" and not (uris.type.kind == "array" and uris.type.element == TEXT):
        raise SQLParseError("fileUri must be of type STRING or STRING ARRAY. Got " + printed(node.source))
    targets = None
    if node.columns is not None:
        targets = target_names(table, tuple(tree.Name((name,)) for name in node.columns))
    options = {name: constant(context, value) for name, value in node.options}
    chosen = options.pop("format", None)
    plan = CopyFromPlan(
        table_uuid=table.uuid,
        table=table.name,
        uris=uris,
        format=None if chosen is None else str(chosen),
        options=options,
        targets=targets,
        insert=InsertPlan(
            table_uuid=table.uuid,
            table=table.name,
            targets=targets or (),
            defaults=schema_text.defaults(context, table, ()),
            generated=schema_text.generated(context, table),
            checks=schema_text.checks(context, table),
        ),
        returns_summary=node.returns_summary,
    )
    return AnalyzedCopyFrom(plan=plan, columns=_summary(context) if node.returns_summary else None)


def _summary(context: Context) -> tuple[OutputColumn, ...]:
    columns = (
        ("node", OBJECT),
        ("uri", TEXT),
        ("success_count", BIGINT),
        ("error_count", BIGINT),
        ("errors", OBJECT),
    )
    return tuple(OutputColumn(context.next_id(), name, kind) for name, kind in columns)
