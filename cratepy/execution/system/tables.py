"""The front door of the system tables: table name + columns wanted → one batch.

A provider yields one mapping per row (column name → SQL value); what it leaves out is NULL, a table without provider is
empty. That is slow per row and right for tables of at most some thousand rows; it runs on a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from cratepy.execution.local_view import LocalView
from cratepy.execution.system import checks, information_schema, pg_catalog, pg_session, sys_cluster, sys_node
from cratepy.execution.system.view import DescribeViews, Provider, SystemView
from cratepy.model.arrow import arrow_type, to_arrow
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import ScanColumn

PROVIDERS: Final[Mapping[RelationName, Provider]] = {
    RelationName(schema, table): provider
    for schema, providers in (
        ("information_schema", information_schema.PROVIDERS),
        ("pg_catalog", pg_catalog.PROVIDERS),
        ("pg_catalog", pg_session.PROVIDERS),
        ("sys", sys_cluster.PROVIDERS),
        ("sys", sys_node.PROVIDERS),
        ("sys", checks.PROVIDERS),
    )
    for table, provider in providers.items()
}


class SystemTables:
    """Rows of system tables, as this node sees them."""

    def __init__(self, *, describe_views: DescribeViews) -> None:
        self._describe_views = describe_views

    def batch(
        self, table: RelationName, columns: Sequence[ScanColumn], context: StatementContext, local: LocalView
    ) -> pa.RecordBatch:
        """All rows with the columns asked for, as fields ``c<id>``. Cost: linear in the rows of the table."""
        provider = PROVIDERS.get(table)
        rows = list(provider(SystemView(local, context, self._describe_views))) if provider is not None else []
        fields = [pa.field(f"c{column.id}", arrow_type(column.type)) for column in columns]
        if not columns:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), type=pa.struct([])))
        arrays = [to_arrow([row.get(column.source) for row in rows], column.type) for column in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
