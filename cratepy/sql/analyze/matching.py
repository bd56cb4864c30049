"""MATCH: a syntax node in, a boolean column of a scan out.

A MATCH over columns of one table becomes a virtual column of that table's scan (``model.relations.TextMatch``), so that
everything which moves predicates about works for it as for any other boolean: below OR and NOT, in joins, in subqueries.
The optimizer turns the ones every row has to satisfy into queries of the text index.

A column without a full-text index is compared as it is, as CrateDB does (its plain index has one term per value).
A MATCH on a shape is ``intersects``, ``within`` or its opposite, row by row: there is no index of shapes.
Errors in CrateDB's words (``ExpressionAnalyzer``, ``MatchPredicate``, ``OptionParser``).
"""

from __future__ import annotations

from typing import Any, Final

from cratepy.errors import BadRequest, ColumnUnknown, SQLParseError, UnsupportedFeature
from cratepy.functions.analysis.catalog import find_analyzer
from cratepy.functions.analysis.match_options import check_option_names, match_options
from cratepy.model.expressions import Call, Column, Expression, Literal, OuterColumn
from cratepy.model.relations import (
    Apply,
    Filter,
    Item,
    Join,
    Limit,
    Project,
    ProjectSet,
    Relation,
    Scan,
    Sort,
    TextMatch,
    WindowCalculation,
    children,
)
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.search import IndexedSource, part_path
from cratepy.model.types import BOOLEAN, DOUBLE, GEO_SHAPE, TEXT, DataType
from cratepy.records import dataclass
from cratepy.sql.analyze.expressions import ExpressionAnalyzer, compare, negated
from cratepy.sql.analyze.indexes import innermost
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.scope import DerivedSource, Scope, Source, TableSource, as_outer, is_called, with_match
from cratepy.sql.analyze.settings import constant
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.analyze.walk import nodes
from cratepy.sql.parse import tree
from cratepy.sql.plan.subqueries import is_self_contained
from cratepy.sql.plan.text import expression_text
from cratepy.sql.plan.walk import with_children

_REFUSED_PLACES: Final = {
    "the select list": "match predicate cannot be selected",
    "GROUP BY": "match predicate cannot be used in a GROUP BY clause",
    "ORDER BY": "match predicate cannot be used in an ORDER BY clause",
    "HAVING": "match predicate cannot be used in a HAVING clause",
}

_SHAPE_KINDS: Final = ("disjoint", "intersects", "within")


@dataclass(frozen=True, slots=True)
class _Target:
    """A column or named index that a MATCH names; ``depth`` counts the queries between it and the MATCH."""

    source: Source
    definition: TableDefinition
    depth: int
    #: As EXPLAIN prints it.
    name: str
    type: DataType
    #: The index source; None if the column has no full-text index.
    index: str | None
    #: An expression if it is known only when the statement runs.
    boost: float | Expression | None
    node: tree.Node
    #: The column's id if the source is a subquery.
    column_id: int


def match_node(a: ExpressionAnalyzer, node: tree.MatchNode) -> Expression:
    """The predicate as a column of the scan it is about, or as a comparison. Raises SQLParseError, UnsupportedFeature."""
    if a.place not in ("WHERE", "ON"):
        raise UnsupportedFeature(_REFUSED_PLACES.get(a.place, f"match predicate cannot be used in {a.place}"))
    targets = [_target(a, column, boost) for column, boost in node.columns]
    _check_types(targets)
    if any(target.source is not targets[0].source for target in targets):
        raise SQLParseError("Must not use columns from more than 1 relation inside the MATCH predicate")
    if targets[0].type == GEO_SHAPE:
        return _shape_match(a, node, targets)
    kind, options, late = _options(a, node, targets[0].definition)
    term = _term(a, node)
    predicates = [compare(a, "=", a.analyze(t.node), term, node) for t in targets if t.index is None]
    if predicates and (kind == "phrase_prefix" or any(name == "fuzziness" for name, _ in (*options, *late))):
        bare = next(target.name for target in targets if target.index is None)
        raise UnsupportedFeature(f"Column {bare} has no fulltext index, so MATCH can only compare it")
    indexed = [target for target in targets if target.index is not None]
    if indexed:
        predicates.append(_indexed(a, indexed, term, kind, options, late))
    result = predicates[0]
    for predicate in predicates[1:]:
        result = Call("op_or", (result, predicate), BOOLEAN)
    return result


def _shape_match(a: ExpressionAnalyzer, node: tree.MatchNode, targets: list[_Target]) -> Expression:
    """``MATCH (shape, 'POLYGON …') USING within``: how each row's shape lies to the one wanted; NULL is no match."""
    kind = node.method or "intersects"
    if kind not in _SHAPE_KINDS:
        raise SQLParseError(
            f"invalid MATCH type '{kind}' for type 'geo_shape'. Valid types are: [{', '.join(_SHAPE_KINDS)}]"
        )
    if len(targets) > 1 or node.options:
        raise SQLParseError("MATCH on a column of type geo_shape takes one column and no options")
    arguments = [a.analyze(targets[0].node), _term(a, node, GEO_SHAPE)]
    if kind == "within":
        return a.call("within", arguments, node)
    return negated(a.call("intersects", arguments, node), kind == "disjoint")


def _indexed(
    a: ExpressionAnalyzer,
    targets: list[_Target],
    term: Expression,
    kind: str,
    options: tuple[tuple[str, str], ...],
    late: tuple[tuple[str, Expression], ...],
) -> Expression:
    """The virtual column of a MATCH over indexes of one table."""
    shown = ", ".join(f"{t.name} {_boost_text(t.boost)}" for t in targets)
    settings = ", ".join(f"{name}={v if isinstance(v, str) else expression_text(v)}" for name, v in (*options, *late))
    is_late = any(isinstance(t.boost, Expression) for t in targets)
    wanted = TextMatch(
        source="",
        name=f"MATCH(({shown}), {expression_text(term)}) USING {kind} WITH ({{{settings}}})",
        columns=tuple(
            IndexedSource(t.index, t.boost if isinstance(t.boost, float) else 1.0)
            for t in targets
            if t.index is not None
        ),
        text=term,
        kind=kind,
        options=options,
        late_options=late,
        late_boosts=tuple(t.boost if isinstance(t.boost, Expression) else None for t in targets) if is_late else (),
    )
    target = targets[0]
    if isinstance(target.source, TableSource):
        column: Expression = target.source.add_match(wanted)
    else:
        column = _exposed(target, wanted, a.context.next_id())
    if target.depth and any(isinstance(part, Column) for part in nodes(term)):
        raise UnsupportedFeature("A subquery as the query term of MATCH must be where its table is")
    for _ in range(target.depth):
        column = as_outer(column)
    return column


# --- what is searched ------------------------------------------------------------------------------------------------


def _target(a: ExpressionAnalyzer, node: tree.Node, boost: tree.Node | None) -> _Target:
    """The column or named index that is meant. Raises ColumnUnknown, SQLParseError."""
    late = cast_to(a.context, a.analyze(boost), DOUBLE) if isinstance(boost, tree.ParameterWord) else None
    factor = None if boost is None or late is not None else constant(a.context, boost)
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float)):
        raise SQLParseError(f"The boost of {printed(node)} must be a number, not '{factor}'")
    parts, path = _written_path(node)
    scope: Scope | None = a.scope
    depth = 0
    while scope is not None:
        named = [source for source in scope.sources if len(parts) == 1 or is_called(source, parts[:-1])]
        for source in named:
            found = _found(a, source, parts[-1], path)
            if found is not None:
                definition, kind, index, place = found
                name = part_path(parts[-1], *path)
                weight = late if factor is None else float(factor)
                return _Target(source, definition, depth, name, kind, index, weight, node, place)
        scope = scope.parent
        depth += 1
    # Nothing has an index of that name: the error is the one of any other column.
    a.analyze(node)
    raise SQLParseError(f"can only MATCH on columns, not on {printed(node)}")


def _written_path(node: tree.Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``t.o['a']['b']`` as (t, o) and (a, b)."""
    path: list[str] = []
    while isinstance(node, tree.Subscript) and isinstance(node.index, tree.StringWord):
        path.append(node.index.value)
        node = node.base
    if not isinstance(node, tree.Name):
        raise SQLParseError(f"can only MATCH on columns, not on {printed(node)}")
    return node.parts, tuple(reversed(path))


def _found(
    a: ExpressionAnalyzer, source: Source, name: str, path: tuple[str, ...]
) -> tuple[TableDefinition, DataType, str | None, int] | None:
    """(table, type, index source, id of the column in the derived table) of a column or index of the relation."""
    if isinstance(source, TableSource):
        definition = source.definition
        if not isinstance(definition, TableDefinition):
            if source.real_name(name) is not None:
                raise UnsupportedFeature(f"MATCH can only be used on user tables, not on {definition.name}")
            return None
        if not path:
            index = next((i for i in definition.indexes if i.name == name), None)
            if index is not None:
                return definition, TEXT, f"c{index.oid}", 0
        column = definition.column(source.real_name(name) or "")
        return None if column is None else (definition, *_indexed_column(definition, column, path), 0)
    for known, expression in source.columns:
        if known == name and isinstance(expression, Column):
            scanned = _scan_of(source.built, expression.id)
            if scanned is None:
                break
            scan, real = scanned
            definition = a.context.catalog.state.tables[scan.table_uuid].definition
            column = next((c for c in definition.columns if f"c{c.oid}" == real), None)
            if column is not None:
                return (definition, *_indexed_column(definition, column, path), expression.id)
    if any(known == name for known, _ in source.columns):
        raise UnsupportedFeature(f"MATCH can only be used on columns of user tables, and {name} is computed")
    return None


def _indexed_column(
    definition: TableDefinition, column: ColumnDefinition, path: tuple[str, ...]
) -> tuple[DataType, str | None]:
    """The type of the column or part, and its full-text index."""
    name = part_path(column.name, *path)
    kind = column.type
    for part in path:
        while kind.kind == "array":
            assert kind.element is not None
            kind = kind.element
        found = kind.field(part) if kind.kind == "object" else None
        if found is None:
            raise ColumnUnknown(f"Column {name} unknown")
        kind = found
    if path:
        index = next((i for i in definition.indexes if i.name == name), None)
        return kind, None if index is None else f"c{index.oid}"
    if column.index == "off" and kind.kind == "text":
        raise SQLParseError(f"Cannot search on field [{name}] since it is not indexed.")
    return kind, f"c{column.oid}" if column.index == "fulltext" else None


# --- columns of subqueries and views ---------------------------------------------------------------------------------


def _scan_of(relation: Relation, column_id: int) -> tuple[Scan, str] | None:
    """The scan that the column comes from unchanged, and the column's source in it."""
    match relation:
        case Scan():
            return next(((relation, c.source) for c in relation.columns if c.id == column_id), None)
        case Project():
            for item in relation.items:
                if item.id == column_id and isinstance(item.expression, Column):
                    return _scan_of(relation.child, item.expression.id)
            return None
        case Filter() | Sort() | Limit() | ProjectSet() | WindowCalculation() | Join() | Apply():
            for child in children(relation)[: 1 if isinstance(relation, Apply) else 2]:
                found = _scan_of(child, column_id)
                if found is not None:
                    return found
            return None
        case _:
            return None


def _exposed(target: _Target, wanted: TextMatch, new_id: int) -> Column:
    """The match as one more column that the subquery gives."""
    source = target.source
    assert isinstance(source, DerivedSource)
    made: list[Column] = []

    def exposed(relation: Relation, column_id: int) -> Relation:
        match relation:
            case Scan():
                scan, column = with_match(relation, wanted, new_id)
                made.append(column)
                return scan
            case Project():
                inner = next(item.expression for item in relation.items if item.id == column_id)
                assert isinstance(inner, Column)
                child = exposed(relation.child, inner.id)
                passed = Item(made[0].id, made[0].name, made[0])
                return Project(child, (*relation.items, passed))
            case _:
                new = [exposed(c, column_id) if _scan_of(c, column_id) else c for c in children(relation)]
                return with_children(relation, new)

    source.built = exposed(source.built, target.column_id)
    return made[0]


# --- types, term, options --------------------------------------------------------------------------------------------


def _check_types(targets: list[_Target]) -> None:
    for target in targets:
        if target.index is not None and innermost(target.type).kind == "text":
            continue
        if target.type == GEO_SHAPE and all(other.type == GEO_SHAPE for other in targets):
            continue
        if target.type.kind != "text":
            raise SQLParseError(
                f"Can only use MATCH on columns of type STRING or GEO_SHAPE, not on '{target.type.name}'"
            )


def _term(a: ExpressionAnalyzer, node: tree.MatchNode, kind: DataType = TEXT) -> Expression:
    """One value for the statement. One of a subquery is the column of its Apply, which becomes a value before anything moves."""
    waiting = len(a.applies)
    term = cast_to(a.context, a.analyze(node.term), kind)
    values = a.applies[waiting:]
    if values and (a.place != "WHERE" or not all(is_self_contained(value.right) for value in values)):
        raise UnsupportedFeature("A subquery as the query term of MATCH must not depend on rows")
    known = {value.id for value in values}
    if any(isinstance(part, Column | OuterColumn) and part.id not in known for part in nodes(term)):
        raise UnsupportedFeature(f"The query term of MATCH must not depend on columns: {printed(node.term)}")
    if isinstance(term, Literal) and term.value is None:
        raise SQLParseError("cannot use NULL as query term in match predicate")
    return term


def _options(
    a: ExpressionAnalyzer, node: tree.MatchNode, definition: TableDefinition
) -> tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, Expression], ...]]:
    """The kind and the options, checked; apart from them those that are parameters, whose values are checked when they come."""
    late = tuple(
        (name.lower(), cast_to(a.context, a.analyze(value), TEXT))
        for name, value in node.options
        if isinstance(value, tree.ParameterWord)
    )
    found = {
        name.lower(): _option_text(constant(a.context, value))
        for name, value in node.options
        if not isinstance(value, tree.ParameterWord)
    }
    try:
        check_option_names(node.method, [name for name, _ in late])
        checked = match_options(node.method, tuple(found.items()))
    except BadRequest as error:
        raise SQLParseError(error.message) from error
    if checked.analyzer is not None and find_analyzer(checked.analyzer, definition.analyzers) is None:
        raise SQLParseError(f"[match] analyzer [{checked.analyzer}] not found")
    return checked.kind, tuple(found.items()), late


def _option_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boost_text(boost: float | Expression | None) -> str:
    return expression_text(boost) if isinstance(boost, Expression) else "NULL" if boost is None else str(boost)
