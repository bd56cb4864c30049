"""Names and definitions of relations by oid: ``regclass``, pg_get_indexdef, pg_get_constraintdef, pg_table_is_visible.

In: an oid or a name, and the relations of the cluster state, which travel with a statement that asks
(``StatementContext.catalog``). Out: what PostgreSQL's clients expect to read. Its own room because everything else in
``functions`` knows types and values only. Source: PostgreSQL's ruleutils as psql, pgjdbc and SQLAlchemy read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

from cratepy.errors import RelationUnknown, SchemaUnknown
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.names import DEFAULT_SCHEMA, RelationName, quote_identifier
from cratepy.model.oids import PRIMARY_KEY_INDEX_OFFSET, constraint_oid, schema_oid, system_relation_oids
from cratepy.model.plan import StatementContext
from cratepy.model.schema import CatalogFacts, CheckConstraint, TableDefinition, ViewDefinition, primary_key_name
from cratepy.model.state import ClusterState
from cratepy.records import dataclass

# --- definitions as text ---------------------------------------------------------------------------------------------


def _column_list(definition: TableDefinition) -> str:
    return ", ".join(quote_identifier(name) for name in definition.primary_key)


def key_definition(definition: TableDefinition) -> str:
    """The primary key as a constraint."""
    return f"PRIMARY KEY ({_column_list(definition)})"


def check_definition(check: CheckConstraint) -> str:
    return f"CHECK ({check.sql})"


def index_definition(definition: TableDefinition) -> str:
    """The CREATE INDEX text of the primary key."""
    table = f"{quote_identifier(definition.name.schema)}.{quote_identifier(definition.name.name)}"
    name = quote_identifier(primary_key_name(definition))
    return f"CREATE UNIQUE INDEX {name} ON {table} USING btree ({_column_list(definition)})"


# --- the relations of a statement ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Index:
    """Relations, indexes and constraints by oid and by name."""

    names: dict[int, RelationName] = field(default_factory=dict)
    oids: dict[RelationName, int] = field(default_factory=dict)
    tables: dict[int, TableDefinition] = field(default_factory=dict)
    views: dict[int, ViewDefinition] = field(default_factory=dict)
    constraints: dict[int, str] = field(default_factory=dict)

    def add(self, oid: int, name: RelationName) -> None:
        self.names[oid] = name
        self.oids.setdefault(name, oid)


#: The indexes of the facts seen last: a statement asks for every row of a table.
_LAST: Final[list[tuple[CatalogFacts, _Index]]] = []
_NOTHING: Final = CatalogFacts()


def _index(context: StatementContext) -> _Index:
    facts = context.catalog if context.catalog is not None else _NOTHING
    for known, index in _LAST:
        if known is facts:
            return index
    index = _Index()
    for name, oid in system_relation_oids().items():
        index.add(oid, name)
    for table in facts.tables:
        index.add(table.oid, table.name)
        index.tables[table.oid] = table
        if table.primary_key:
            key = primary_key_name(table)
            index.add(table.oid + PRIMARY_KEY_INDEX_OFFSET, RelationName(table.name.schema, key))
            index.constraints[constraint_oid(table.oid, key)] = key_definition(table)
        for check in table.checks:
            index.constraints[constraint_oid(table.oid, check.name)] = check_definition(check)
    for view in facts.views:
        index.add(view.oid, view.name)
        index.views[view.oid] = view
    _LAST[:] = [(facts, index), *_LAST[:1]]
    return index


def _found(context: StatementContext, index: _Index, name: str) -> int | None:
    """The oid a bare name means under the search path."""
    path = context.search_path if "pg_catalog" in context.search_path else ("pg_catalog", *context.search_path)
    for schema in path:
        oid = index.oids.get(RelationName(schema, name))
        if oid is not None:
            return oid
    return None


def _is_visible(context: StatementContext, oid: int) -> bool | None:
    """Whether the bare name means this relation; NULL for a number that is none."""
    index = _index(context)
    name = index.names.get(oid)
    return None if name is None else _found(context, index, name.name) == oid


def _regclass_text(context: StatementContext, oid: int) -> str:
    """What PostgreSQL prints for a regclass: the name, with its schema unless the bare name means it."""
    index = _index(context)
    name = index.names.get(oid)
    if name is None:
        return str(oid) if oid else "-"
    if _found(context, index, name.name) == oid:
        return quote_identifier(name.name)
    return f"{quote_identifier(name.schema)}.{quote_identifier(name.name)}"


def name_parts(text: str) -> tuple[str, ...]:
    """The parts of ``a."B c"``: quoted ones as they are, others in lower case."""
    parts: list[str] = []
    current: list[str] = []
    is_quoted = False
    for character in text.strip():
        if character == '"':
            is_quoted = not is_quoted
        elif character == "." and not is_quoted:
            parts.append("".join(current))
            current = []
        else:
            current.append(character if is_quoted else character.lower())
    return (*parts, "".join(current))


def _to_regclass(context: StatementContext, text: str) -> int | None:
    index = _index(context)
    match name_parts(text):
        case (name,):
            return _found(context, index, name)
        case (*_, schema, name):
            return index.oids.get(RelationName(schema, name))
    return None


def _regclass(context: StatementContext, text: str) -> int:
    """``text::regclass``: a number is taken as it is."""
    if text.isdigit():
        return int(text)
    oid = _to_regclass(context, text)
    if oid is None:
        raise RelationUnknown(f"Relation '{text}' unknown")
    return oid


def _constraint(context: StatementContext, oid: int, _pretty: bool = False) -> str | None:
    return _index(context).constraints.get(oid)


def _index_of(context: StatementContext, oid: int, column: int = 0, _pretty: bool = False) -> str | None:
    """The whole definition, or the name of one of its columns (counted from 1)."""
    table = _index(context).tables.get(oid - PRIMARY_KEY_INDEX_OFFSET)
    if table is None:
        return None
    if column == 0:
        return index_definition(table)
    return quote_identifier(table.primary_key[column - 1]) if 1 <= column <= len(table.primary_key) else None


def _view(context: StatementContext, oid: int, _pretty: object = None) -> str | None:
    view = _index(context).views.get(oid)
    return None if view is None else f" {view.sql};"


def _view_by_name(context: StatementContext, name: str, _pretty: object = None) -> str | None:
    oid = int(name) if name.isdigit() else _to_regclass(context, name)
    return None if oid is None else _view(context, oid)


def _declaration(name: str, types: str, row: Callable[..., object]) -> Declaration:
    return Declaration(
        name=name,
        signatures=signatures(*types.split("; ")),
        row=row,
        takes_context=True,
        is_deterministic=False,
        reads_catalog=True,
    )


def _regnamespace(context: StatementContext, schema: int | str) -> int | str:
    """The name of a schema's oid, or the oid of a name."""
    if isinstance(schema, str):
        name = name_parts(schema)[-1]
        if name not in _schemas(context):
            raise SchemaUnknown(f"Schema '{name}' unknown")
        return schema_oid(name)
    names = (quote_identifier(name) for name in _schemas(context) if schema_oid(name) == schema)
    return next(names, str(schema) if schema else "-")


def _schemas(context: StatementContext) -> set[str]:
    return {name.schema for name in _index(context).oids} | {DEFAULT_SCHEMA}


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    _declaration("_regclass_text", "regclass -> text", _regclass_text),
    _declaration("_regclass", "text -> regclass", _regclass),
    _declaration("_regnamespace", "integer -> text; text -> integer", _regnamespace),
    _declaration("to_regclass", "text -> regclass", _to_regclass),
    _declaration("pg_table_is_visible", "integer -> boolean", _is_visible),
    _declaration("pg_get_constraintdef", "integer -> text; integer,boolean -> text", _constraint),
    _declaration("pg_get_indexdef", "integer -> text; integer,integer,boolean -> text", _index_of),
    Declaration(
        name="pg_get_viewdef",
        signatures=signatures(
            "integer -> text",
            "integer,boolean -> text",
            "integer,integer -> text",
            "text -> text",
            "text,boolean -> text",
        ),
        row_of=lambda arguments, _result: _view_by_name if arguments[0].kind == "text" else _view,
        takes_context=True,
        is_deterministic=False,
        reads_catalog=True,
    ),
)

#: The facts of the state seen last.
_FACTS: Final[list[tuple[ClusterState, CatalogFacts]]] = []


def facts_for(state: ClusterState) -> CatalogFacts:
    """The relations of the state, made once for the state seen last."""
    for known, facts in _FACTS:
        if known is state:
            return facts
    made = CatalogFacts(tuple(t.definition for t in state.tables.values()), tuple(state.views.values()))
    _FACTS[:] = [(state, made)]
    return made
