"""The catalog as a statement sees it: names in, definitions of tables, views and system tables out.

The index by name is made once per cluster state and shared by all statements compiled against it. Unknown names raise
CrateDB's errors (``Relation 'x' unknown``, ``Schema 'x' unknown``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from cratepy.errors import OperationOnInaccessibleRelation, RelationUnknown, SchemaUnknown, SQLParseError
from cratepy.functions.analysis.catalog import BUILTIN_ANALYZERS
from cratepy.model.names import CATALOG_NAME, DEFAULT_SCHEMA, SYSTEM_SCHEMAS, RelationName
from cratepy.model.schema import TableDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition
from cratepy.model.state import ClusterState
from cratepy.model.system_tables import SystemColumns, system_tables
from cratepy.model.table_blocks import check_blocks
from cratepy.sql.analyze.similar import similar_names


class SystemTable(msgspec.Struct, frozen=True):
    """A table of sys, information_schema or pg_catalog."""

    name: RelationName
    columns: SystemColumns


Found = TableDefinition | ViewDefinition | SystemTable


class _Index(msgspec.Struct, frozen=True):
    relations: dict[RelationName, TableDefinition | ViewDefinition]
    schemas: frozenset[str]


#: The index of the state seen last; statements nearly always come for the newest one.
_LAST: Final[list[tuple[ClusterState, _Index]]] = []


def _index(state: ClusterState) -> _Index:
    for known, index in _LAST:
        if known is state:
            return index
    relations: dict[RelationName, TableDefinition | ViewDefinition] = {}
    for table in state.tables.values():
        relations[table.definition.name] = table.definition
    for view in state.views.values():
        relations[view.name] = view
    schemas = frozenset({*SYSTEM_SCHEMAS, DEFAULT_SCHEMA, *state.schemas, *(name.schema for name in relations)})
    index = _Index(relations, schemas)
    _LAST[:] = [(state, index), *_LAST[:1]]
    return index


class CatalogView:
    """The cluster state under a search path."""

    def __init__(self, state: ClusterState, search_path: tuple[str, ...]) -> None:
        self.state = state
        self.search_path = search_path
        self._index = _index(state)

    @property
    def schemas(self) -> frozenset[str]:
        return self._index.schemas

    @property
    def current_schema(self) -> str:
        """Where new relations go: the first schema of the path that is no system schema."""
        for schema in self.search_path:
            if schema not in SYSTEM_SCHEMAS:
                return schema
        return DEFAULT_SCHEMA

    def analyzer(self, name: str) -> AnalyzerDefinition | None:
        """The custom analyzer of that name."""
        return self.state.analyzers.get(name)

    def has_analyzer(self, name: str) -> bool:
        """Whether an index or a MATCH may name the analyzer."""
        return name in self.state.analyzers or name in BUILTIN_ANALYZERS

    def find(self, parts: tuple[str, ...]) -> Found | None:
        """The relation of that name, or None."""
        schema, name = split_name(parts)
        for candidate in (schema,) if schema is not None else self._path():
            found = self._exact(RelationName(candidate, name))
            if found is not None:
                return found
        return None

    def relation(self, parts: tuple[str, ...]) -> Found:
        """The relation of that name. Raises RelationUnknown, SchemaUnknown."""
        found = self.find(parts)
        if found is not None:
            return found
        schema, name = split_name(parts)
        if schema is None:
            raise RelationUnknown(f"Relation '{name}' unknown{self._suggestion(self._path(), name)}")
        if schema not in self._index.schemas:
            raise SchemaUnknown(f"Schema '{schema}' unknown")
        raise RelationUnknown(f"Relation '{schema}.{name}' unknown{self._suggestion((schema,), name)}")

    def table(self, parts: tuple[str, ...], operation: str) -> TableDefinition:
        """A user table that the operation is allowed on; its blocks are looked at, too."""
        found = self.relation(parts)
        if not isinstance(found, TableDefinition):
            raise OperationOnInaccessibleRelation(
                f'The relation "{found.name}" doesn\'t support or allow {operation} operations'
            )
        check_blocks(found, operation)
        return found

    def new_name(self, parts: tuple[str, ...]) -> RelationName:
        """The full name of a relation to be made."""
        schema, name = split_name(parts)
        return RelationName(schema if schema is not None else self.current_schema, name)

    def _path(self) -> tuple[str, ...]:
        return self.search_path if "pg_catalog" in self.search_path else ("pg_catalog", *self.search_path)

    def _exact(self, name: RelationName) -> Found | None:
        found = self._index.relations.get(name)
        if found is not None:
            return found
        columns = system_tables().get(name) if name.schema in SYSTEM_SCHEMAS else None
        return SystemTable(name, columns) if columns is not None else None

    def _suggestion(self, schemas: tuple[str, ...], name: str) -> str:
        names = [known.name for known in self._index.relations if known.schema in schemas]
        names += [known.name for known in system_tables() if known.schema in schemas and known.schema != "pg_catalog"]
        match similar_names(name, names):
            case []:
                return ""
            case [alike]:
                return f". Maybe you meant '{alike}'"
            case several:
                return f". Maybe you meant one of: {', '.join(several)}"


def split_name(parts: tuple[str, ...]) -> tuple[str | None, str]:
    """Schema (or None) and name."""
    match parts:
        case (name,):
            return None, name
        case (schema, name):
            return schema, name
        case (catalog, schema, name):
            if catalog != CATALOG_NAME:
                raise SQLParseError(f"Unexpected catalog name: {catalog}. Only available catalog is {CATALOG_NAME}")
            return schema, name
        case _:
            raise SQLParseError(
                "Table with more than 3 QualifiedName parts is not supported. Only <catalog>.<schema>.<tableName> works."
            )
