"""INDEX clauses: of a column, of a part of an object, and with a name of their own over several columns.

An index on a part (``o OBJECT AS (a TEXT INDEX USING fulltext)``) is kept like a named one whose name is the part's path:
columns of the schema are top-level ones. The custom analyzers that indexes use are copied into the table, so that making one
anew changes no table. Errors in CrateDB's words (``TableElementsAnalyzer``); as there, a method nobody knows is ``plain`` and
options other than the analyzer are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cratepy.errors import ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.functions.analysis.catalog import DEFAULT_ANALYZER
from cratepy.model.schema import ColumnDefinition
from cratepy.model.search import AnalyzerDefinition, IndexDefinition, part_path
from cratepy.model.types import DataType
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.settings import constant
from cratepy.sql.parse import tree


def innermost(kind: DataType) -> DataType:
    """The type of what arrays hold in the end."""
    while kind.kind == "array":
        assert kind.element is not None
        kind = kind.element
    return kind


def column_index(context: Context, written: tree.ColumnDef, kind: DataType) -> tuple[str, str | None]:
    """(index, analyzer) of a column. Raises SQLParseError."""
    if written.index is None:
        return "plain", None
    if written.index == "off":
        if kind.kind == "object":
            raise SQLParseError(f'INDEX constraint cannot be used on columns of type "object": `{written.name}`')
        return "off", None
    if written.index != "fulltext":
        return "plain", None
    inner = innermost(kind)
    if inner.kind != "text" or inner.length is not None:
        raise SQLParseError(
            f"Can't use an Analyzer on column {written.name} because analyzers are only allowed on columns of type "
            '"text" of the unbound length limit.'
        )
    return "fulltext", _analyzer(context, written.name, written.index_options)


def _analyzer(context: Context, name: str, options: Iterable[tuple[str, tree.Node]]) -> str:
    analyzer = str({option: constant(context, value) for option, value in options}.get("analyzer", DEFAULT_ANALYZER))
    if not context.catalog.has_analyzer(analyzer):
        raise SQLParseError(f'Analyzer "{analyzer}" not found for column "{name}"')
    return analyzer


def part_indexes(context: Context, written: tree.TypeName | None, path: str) -> list[IndexDefinition]:
    """The full-text indexes on parts of an object type; ``path`` is where the type stands."""
    found: list[IndexDefinition] = []
    for part in () if written is None else written.columns or ():
        found += part_index(context, part, part_path(path, part.name))
    return found


def part_index(context: Context, part: tree.ColumnDef, path: str) -> list[IndexDefinition]:
    """The indexes of one part and of the parts in it."""
    from cratepy.sql.analyze.table_definitions import written_type  # definitions hold indexes and indexes need types

    if part.index in ("fulltext", "off") and part.type is not None:
        kind = written_type(part)
        index, analyzer = column_index(context, part, kind)
        if index == "fulltext":
            return [IndexDefinition(oid=0, name=path, columns=(path,), analyzer=analyzer)]
    return part_indexes(context, part.type, path)


def named_indexes(
    context: Context, written: Sequence[tree.IndexDef], columns: Sequence[ColumnDefinition]
) -> list[IndexDefinition]:
    """``INDEX name USING method (column, …)``. Raises ColumnUnknown, SQLParseError."""
    taken = {column.name for column in columns}
    found: list[IndexDefinition] = []
    for index in written:
        if index.name in taken:
            raise SQLParseError(f'column "{index.name}" specified more than once')
        taken.add(index.name)
        method = index.method.lower()
        if method not in ("fulltext", "plain"):
            raise UnsupportedFeature(f"INDEX {index.name} USING {index.method} is not supported")
        analyzer = _analyzer(context, index.name, index.options) if method == "fulltext" else None
        sources = tuple(_source(index.name, node, columns) for node in index.columns)
        found.append(IndexDefinition(oid=0, name=index.name, columns=sources, method=method, analyzer=analyzer))
    return found


def _source(index: str, node: tree.Node, columns: Sequence[ColumnDefinition]) -> str:
    """The column or part that an index reads: its path."""
    name, kind = _path_and_type(node, columns)
    if kind is None:
        raise ColumnUnknown(f"Column {name} unknown")
    if innermost(kind).kind != "text":
        raise SQLParseError(
            f"INDEX source columns require `string` types. Cannot use `{name}` ({kind.name}) as source for `{index}`"
        )
    return name


def _path_and_type(node: tree.Node, columns: Sequence[ColumnDefinition]) -> tuple[str, DataType | None]:
    match node:
        case tree.Name(parts=(name,)):
            return name, next((column.type for column in columns if column.name == name), None)
        case tree.Subscript(index=tree.StringWord(value=part)):
            path, base = _path_and_type(node.base, columns)
            while base is not None and base.kind == "array":
                base = base.element
            return part_path(path, part), base.field(part) if base is not None and base.kind == "object" else None
        case _:
            return printed(node), None


def custom_analyzers(
    context: Context, columns: Iterable[ColumnDefinition], indexes: Iterable[IndexDefinition]
) -> tuple[AnalyzerDefinition, ...]:
    """The analyzers made by CREATE ANALYZER that these use, as they are now."""
    names = dict.fromkeys([*(column.analyzer for column in columns), *(index.analyzer for index in indexes)])
    known = context.catalog.state.analyzers
    return tuple(known[name] for name in names if name in known)
