"""Generated columns: the expressions as written become part of a definition.

In: a definition that has the columns already, and what was written of those that are new. Out: the definition with their
types and stored texts. Its own room because CREATE TABLE and ALTER TABLE ADD COLUMN both need it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cratepy.errors import ColumnValidation
from cratepy.model.expressions import Column
from cratepy.model.schema import TableDefinition
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.schema_text import first_name_offset, stored_text, table_scope
from cratepy.sql.analyze.storable import check_storable
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.analyze.walk import nodes
from cratepy.sql.parse import tree


def with_generated(context: Context, definition: TableDefinition, new: Sequence[tree.ColumnDef]) -> TableDefinition:
    """Type and check the generated columns among the new ones over all columns. Raises ColumnValidation, SQLParseError."""
    columns = list(definition.columns)
    places = {column.name: place for place, column in enumerate(columns)}
    generated = {column.name for column in columns if column.generated_sql is not None}
    generated |= {written.name for written in new if written.generated is not None}
    scope, _ = table_scope(context, definition)
    names = {column.oid: column.name for column in columns}
    for written in new:
        if written.generated is None:
            continue
        tree_node, text = written.generated
        a = ExpressionAnalyzer(context, scope, place="a generated column")
        expression = a.analyze(tree_node)
        for part in nodes(expression):
            if isinstance(part, Column) and names.get(part.id) in generated:
                raise ColumnValidation(
                    f"Validation failed for {written.name}: Generated column cannot be based on generated column "
                    f"`{part.name}`"
                )
        place = places[written.name]
        kind = columns[place].type
        if kind.kind == "undefined":
            kind = expression.type
            check_storable(kind)
        else:
            cast_to(context, expression, kind)
        sql = stored_text(tree_node, text, first_name_offset(tree_node, text))
        columns[place] = msgspec.structs.replace(
            columns[place], type=kind, generated_sql=sql, generated_shown=printed(tree_node)
        )
    return msgspec.structs.replace(definition, columns=tuple(columns))
