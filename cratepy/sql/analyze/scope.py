"""Scopes: which names mean which columns at a place of a query.

A scope holds the relations of one FROM; a name not found there is looked for in the scope around (a correlated
subquery), where it becomes an OuterColumn. Columns of a table get an id when they are first named, so that a scan
reads only what the statement names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

import msgspec

from cratepy.errors import AmbiguousColumn, ColumnUnknown, RelationUnknown, SQLParseError
from cratepy.model.expressions import Column, Expression, Literal, OuterColumn
from cratepy.model.names import DEFAULT_SCHEMA
from cratepy.model.oids import system_relation_oids
from cratepy.model.relations import MATCH_SOURCE_PREFIX, Relation, Scan, ScanColumn, SystemScan, TextMatch
from cratepy.model.schema import SYSTEM_COLUMN_IDS, SYSTEM_COLUMNS, TableDefinition, exact_indexes
from cratepy.model.types import BOOLEAN, INTEGER, DataType, Field, object_of
from cratepy.records import dataclass
from cratepy.sql.analyze.catalog import SystemTable
from cratepy.sql.analyze.context import Context
from cratepy.sql.parse import tree
from cratepy.sql.plan.walk import map_parts


@dataclass(slots=True)
class TableSource:
    """A user or system table in FROM. With ``by_oid`` the ids of its columns are their oids (the target of a write)."""

    context: Context
    definition: TableDefinition | SystemTable
    alias: str | None
    schema: str | None
    by_oid: bool = False
    #: Names given to the columns by ``AS t (a, b)``: new name → real name.
    renamed: dict[str, str] = field(default_factory=dict)
    used: dict[str, ScanColumn] = field(default_factory=dict)
    #: The MATCHes over this table and their columns, in step.
    matches: list[tuple[TextMatch, ScanColumn]] = field(default_factory=list)
    _types: dict[str, tuple[DataType, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.definition, TableDefinition):
            self._types = {column.name: (column.type, column.oid) for column in self.definition.columns}
        else:
            self._types = {name: (data_type, 0) for name, data_type in self.definition.columns}

    def names(self) -> Iterator[str]:
        """The columns of ``*``."""
        if not self.renamed:
            return iter(self._types)
        given = {real: name for name, real in self.renamed.items()}
        return iter([given.get(name, name) for name in self._types])

    def rename(self, names: tuple[str, ...]) -> None:
        if len(names) > len(self._types):
            raise SQLParseError(
                f'table "{self.alias}" has {len(self._types)} columns available but {len(names)} columns specified'
            )
        self.renamed = dict(zip(names, self._types, strict=False))

    def real_name(self, name: str) -> str | None:
        """The table's own name of a column; None if there is none of that name."""
        real = self.renamed.get(name)
        if real is None and name in self.renamed.values():
            return None
        real = real or name
        return real if real in self._types else None

    def find(self, name: str) -> list[Expression]:
        real = self.real_name(name)
        if real is None:
            return []
        name = real
        found = self.used.get(name)
        if found is None:
            found = self._use(name, *self._types[name])
        return [Column(found.id, found.name, found.type)]

    def _use(self, name: str, data_type: DataType, oid: int) -> ScanColumn:
        is_user = isinstance(self.definition, TableDefinition)
        column_id = oid if self.by_oid else self.context.next_id()
        column = ScanColumn(column_id, name, data_type, f"c{oid}" if is_user else name)
        self.used[name] = column
        return column

    def find_system(self, name: str) -> list[Expression]:
        """A system column of a user table: ``_id``, ``_score``, …; PostgreSQL's ``tableoid`` of any table."""
        if name == "tableoid":
            return [Literal(self._oid(), INTEGER)]
        if name not in SYSTEM_COLUMNS or not isinstance(self.definition, TableDefinition):
            return []
        found = self.used.get(name)
        if found is None:
            data_type = SYSTEM_COLUMNS[name]
            if name == "_doc":
                data_type = object_of(tuple(Field(n, t) for n, (t, _) in self._types.items()), "ignored")
            column_id = SYSTEM_COLUMN_IDS[name] if self.by_oid else self.context.next_id()
            self.used[name] = found = ScanColumn(column_id, name, data_type, name)
        return [Column(found.id, found.name, found.type)]

    def add_match(self, match: TextMatch) -> Column:
        """The column that says whether a row of the table satisfies the match."""
        match = msgspec.structs.replace(match, source=f"{MATCH_SOURCE_PREFIX}{len(self.matches)}")
        column = ScanColumn(self.context.next_id(), match.name, BOOLEAN, match.source)
        self.matches.append((match, column))
        return Column(column.id, column.name, column.type)

    def _oid(self) -> int:
        if isinstance(self.definition, TableDefinition):
            return self.definition.oid
        return system_relation_oids()[self.definition.name]

    def relation(self) -> Relation:
        """The scan of the columns named so far; made when all expressions have been analyzed."""
        columns = tuple(self.used.values())
        if isinstance(self.definition, TableDefinition):
            return Scan(
                table_uuid=self.definition.uuid,
                table=self.definition.name,
                columns=(*columns, *(column for _, column in self.matches)),
                matches=tuple(match for match, _ in self.matches),
                exact_indexes=exact_indexes(self.definition),
            )
        return SystemScan(table=self.definition.name, columns=columns)


@dataclass(slots=True)
class DerivedSource:
    """A subquery, view, CTE or table function in FROM."""

    built: Relation
    columns: tuple[tuple[str, Expression], ...]
    alias: str | None
    schema: str | None = None
    #: A function's only column also answers to the alias.
    is_function: bool = False

    def names(self) -> Iterator[str]:
        return (name for name, _ in self.columns)

    def find(self, name: str) -> list[Expression]:
        return [column for known, column in self.columns if known == name]

    def find_system(self, name: str) -> list[Expression]:
        if self.is_function and len(self.columns) == 1 and name == self.alias:
            return [self.columns[0][1]]
        return []

    def relation(self) -> Relation:
        return self.built


Source = TableSource | DerivedSource


@dataclass(slots=True)
class WithBinding:
    """What a name of WITH stands for: a query in the scope it was written in, or the last round of a recursion."""

    item: tree.WithItem
    names: dict[str, WithBinding]
    #: What is around the query with the WITH: a WITH in a subquery may name columns of the outer query.
    parent: Scope | None = None
    is_recursive: bool = False
    reference: tuple[tuple[str, DataType], ...] | None = None


@dataclass(slots=True)
class Scope:
    """``merged`` are the columns of USING: name → the column both sides share."""

    sources: list[Source] = field(default_factory=list)
    parent: Scope | None = None
    with_names: dict[str, WithBinding] = field(default_factory=dict)
    merged: dict[str, Expression] = field(default_factory=dict)
    merged_sources: dict[str, list[Source]] = field(default_factory=dict)
    #: In ON CONFLICT DO UPDATE: the columns of the proposed row.
    excluded: dict[str, Expression] | None = None

    def resolve(self, parts: tuple[str, ...], shown: str | None = None) -> Expression:
        """The column of that name. Raises ColumnUnknown, RelationUnknown, AmbiguousColumn."""
        if self.excluded is not None and parts[:-1] == ("excluded",):
            return self._resolve_excluded(parts[-1])
        scope: Scope | None = self
        depth = 0
        knows_relation = len(parts) == 1
        while scope is not None:
            found = scope._find(parts)
            if found is not None:
                return found if depth == 0 else as_outer(found)
            knows_relation = knows_relation or any(is_called(source, parts[:-1]) for source in scope.sources)
            scope = scope.parent
            depth += 1
        if not knows_relation:
            schema = parts[-3] if len(parts) > 2 else DEFAULT_SCHEMA
            raise RelationUnknown(f"Relation '{schema}.{parts[-2]}' unknown")
        raise ColumnUnknown(f"Column {shown or parts[-1]} unknown")

    def _resolve_excluded(self, name: str) -> Expression:
        assert self.excluded is not None
        found = self.excluded.get(name)
        if found is None:
            raise ColumnUnknown(f"Column {name} unknown")
        return found

    def _find(self, parts: tuple[str, ...]) -> Expression | None:
        name = parts[-1]
        if len(parts) == 1:
            if name in self.merged:
                return self.merged[name]
            candidates = self.sources
        else:
            candidates = [source for source in self.sources if is_called(source, parts[:-1])]
        found = [column for source in candidates for column in source.find(name)]
        if not found:
            found = [column for source in candidates for column in source.find_system(name)]
        if len(found) > 1:
            raise AmbiguousColumn(f'Column "{name}" is ambiguous')
        return found[0] if found else None

    def column_of_document(self, qualifier: tuple[str, ...], name: str) -> Expression | None:
        """The column that ``_doc['name']`` means; None if that is not clear here."""
        candidates = [source for source in self.sources if not qualifier or is_called(source, qualifier)]
        if len(candidates) != 1 or candidates[0].find("_doc"):
            return None
        source = candidates[0]
        if not isinstance(source, TableSource) or not isinstance(source.definition, TableDefinition):
            return None
        found = source.find(name)
        return found[0] if len(found) == 1 else None

    def qualified(self, parts: tuple[str, ...]) -> str:
        """A column's name as error messages show it: with its relation, and that with its schema unless it is an alias."""
        scope: Scope | None = self
        while scope is not None:
            for source in scope.sources:
                if (len(parts) == 1 or is_called(source, parts[:-1])) and source.find(parts[-1]):
                    shown = (source.schema, source.alias, parts[-1])
                    return ".".join(part for part in shown if part is not None)
            scope = scope.parent
        return parts[-1]

    def star(self, qualifier: tuple[str, ...]) -> list[tuple[str, Expression]]:
        """The columns of ``*`` or ``t.*``."""
        if not qualifier:
            expanded = list(self.merged.items())
            for source in self.sources:
                for name, column in _all_columns(source):
                    if not any(source is merged for merged in self.merged_sources.get(name, ())):
                        expanded.append((name, column))
            return expanded
        for source in self.sources:
            if is_called(source, qualifier):
                return _all_columns(source)
        if self.parent is not None:
            return [(name, as_outer(column)) for name, column in self.parent.star(qualifier)]
        raise SQLParseError(f'The relation "{".".join(qualifier)}" is not in the FROM clause.')


def _all_columns(source: Source) -> list[tuple[str, Expression]]:
    if isinstance(source, DerivedSource):
        return list(source.columns)
    return [(name, source.find(name)[0]) for name in source.names()]


def with_match(scan: Scan, match: TextMatch, column_id: int) -> tuple[Scan, Column]:
    """The scan with the match, and the column that says whether a row satisfies it."""
    match = msgspec.structs.replace(match, source=f"{MATCH_SOURCE_PREFIX}{len(scan.matches)}")
    column = ScanColumn(column_id, match.name, BOOLEAN, match.source)
    new = msgspec.structs.replace(scan, columns=(*scan.columns, column), matches=(*scan.matches, match))
    return new, Column(column.id, column.name, column.type)


def is_called(source: Source, qualifier: tuple[str, ...]) -> bool:
    if source.alias != qualifier[-1]:
        return False
    if len(qualifier) > 1 and source.schema != qualifier[-2]:
        return False
    return len(qualifier) < 3 or qualifier[0] == "crate"


def as_outer(expression: Expression) -> Expression:
    """A column of an outer scope, as the subquery names it."""
    if isinstance(expression, Column):
        return OuterColumn(expression.id, expression.name, expression.type)
    return map_parts(expression, as_outer)
