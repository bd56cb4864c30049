"""INSERT, UPDATE, DELETE and COPY FROM: values cast to their columns, rows found by a relation, constraints analyzed.

In the expressions of a write a table column's id is its oid and a system column's is in ``SYSTEM_COLUMN_IDS``.
"""

from __future__ import annotations

from typing import Any

from cratepy.errors import (
    ColumnUnknown,
    ColumnValidation,
    InvalidColumnName,
    NotNullViolation,
    SQLParseError,
    UnsupportedFeature,
    VersioningValidation,
)
from cratepy.model.expressions import Call, Cast, Column, Expression, Literal
from cratepy.model.plan import ConflictAction, CopyFromPlan, InsertPlan
from cratepy.model.relations import Filter, Item, OutputColumn, Project, Relation
from cratepy.model.schema import SYSTEM_COLUMNS, ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, DOUBLE, OBJECT, TEXT, UNDEFINED, DataType, array_of
from cratepy.sql.analyze import schema_text
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.literal_columns import literal_columns
from cratepy.sql.analyze.naming import output_name, printed
from cratepy.sql.analyze.queries import analyze_query, cast_output
from cratepy.sql.analyze.scope import DerivedSource, Scope, TableSource
from cratepy.sql.analyze.settings import constant
from cratepy.sql.analyze.statements import (
    AnalyzedCopyFrom,
    AnalyzedDelete,
    AnalyzedInsert,
    AnalyzedQuery,
    AnalyzedUpdate,
)
from cratepy.sql.analyze.tables import with_applies
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.analyze.walk import column_ids, nodes
from cratepy.sql.parse import tree

#: Columns that every UPDATE and DELETE finds first.
_VERSION_COLUMNS = ("_id", "_seq_no", "_primary_term")


# --- INSERT ----------------------------------------------------------------------------------------------------------


def insert(context: Context, node: tree.InsertNode) -> AnalyzedInsert:
    table = context.catalog.table(node.name, "INSERT")
    context.start_ids_above(_highest_oid(table))
    targets = _targets(table, node.columns, _source_width(node))
    types = [_target_type(table, name) for name in targets]
    _check_key_given(table, targets)
    rows = columns_data = None
    query: AnalyzedQuery | None = None
    if node.rows is not None:
        _check_width(table, targets, len(node.rows.columns), None)
        targets, types = targets[: len(node.rows.columns)], types[: len(node.rows.columns)]
        columns_data = literal_columns(context, table, targets, types, node.rows)
    else:
        assert node.query is not None
        values = _plain_values(node.query)
        if values is not None:
            width = len(values.rows[0])
            _check_width(table, targets, width, None)
            targets, types = targets[:width], types[:width]
            rows = _rows(context, table, targets, types, values)
        if rows is None:
            query = _source_query(context, table, targets, types, node.query)
            targets = targets[: len(query.columns)]
    if rows is not None:
        _check_key_values(table, targets, rows)
    plan = InsertPlan(
        table_uuid=table.uuid,
        table=table.name,
        targets=targets,
        rows=rows,
        columns_data=columns_data,
        conflict=None if node.conflict is None else _conflict(context, table, node.conflict),
        returning=_returning(context, table, node.returning, None),
        defaults=schema_text.defaults(context, table, targets),
        generated=schema_text.generated(context, table),
        checks=schema_text.checks(context, table),
    )
    return AnalyzedInsert(plan=plan, query=query, columns=_returned(plan.returning))


def _highest_oid(table: TableDefinition) -> int:
    return max([table.next_column_oid, *(column.oid for column in table.columns)])


def _source_width(node: tree.InsertNode) -> int | None:
    if node.rows is not None:
        return len(node.rows.columns)
    values = None if node.query is None else _plain_values(node.query)
    return None if values is None else len(values.rows[0])


def _plain_values(query: tree.Query) -> tree.ValuesNode | None:
    if isinstance(query.body, tree.ValuesNode) and not (
        query.with_items or query.order_by or query.limit or query.offset
    ):
        return query.body
    return None


def _targets(table: TableDefinition, columns: tuple[tree.Node, ...], width: int | None) -> tuple[str, ...]:
    """Names of the target columns. Without a list they are the table's, in order."""
    if not columns:
        names = tuple(column.name for column in table.columns)
        if width is not None and width < len(names) and all(_is_optional(c) for c in table.columns[width:]):
            return names
        return names
    targets: list[str] = []
    for node in columns:
        if not isinstance(node, tree.Name) or len(node.parts) != 1:
            raise UnsupportedFeature(f"Cannot insert into part of a column: {printed(node)}")
        name = node.parts[0]
        if name in SYSTEM_COLUMNS:
            raise InvalidColumnName(f'"{name}" Cannot write to system column')
        if name in targets:
            raise SQLParseError(f'column "{name}" specified more than once')
        if table.column(name) is None:
            if table.column_policy == "strict":
                raise ColumnUnknown(f"Column {name} unknown")
            raise UnsupportedFeature(f"Column {name} unknown: INSERT cannot add columns to a dynamic table yet")
        targets.append(name)
    return tuple(targets)


def _is_optional(column: ColumnDefinition) -> bool:
    return column.is_nullable or column.default_sql is not None or column.generated_sql is not None


def _target_type(table: TableDefinition, name: str) -> DataType:
    column = table.column(name)
    return UNDEFINED if column is None else column.type


def _check_width(table: TableDefinition, targets: tuple[str, ...], width: int, sources: tuple[str, ...] | None) -> None:
    """As many values as targets; without a target list fewer are fine, the first columns are meant."""
    is_all = targets == tuple(column.name for column in table.columns)
    if width == len(targets) or (
        is_all and width < len(targets) and sources is None and width > 0 and _fits(table, width)
    ):
        return
    shown = ", ".join(sources if sources is not None else tuple(f"col{i + 1}" for i in range(width)))
    raise SQLParseError(
        f"Number of target columns ({', '.join(targets)}) of insert statement doesn't match number of source columns "
        f"({shown})"
    )


def _fits(table: TableDefinition, width: int) -> bool:
    """Fewer values than columns: the rest must be able to do without (generated columns, for one)."""
    return all(column.generated_sql is not None for column in table.columns[width:])


def _check_key_given(table: TableDefinition, targets: tuple[str, ...]) -> None:
    for name in (*table.primary_key, *((table.clustered_by,) if table.clustered_by else ())):
        column = table.column(name)
        if name in targets or column is None or column.default_sql is not None or column.generated_sql is not None:
            continue
        if name in table.primary_key:
            raise SQLParseError(f"Column `{name}` is required but is missing from the insert statement")


def _check_key_values(
    table: TableDefinition, targets: tuple[str, ...], rows: tuple[tuple[Expression, ...], ...]
) -> None:
    for name in table.primary_key:
        if name in targets:
            place = targets.index(name)
            for row in rows:
                if isinstance(row[place], Literal) and row[place].value is None:  # type: ignore[union-attr]
                    raise NotNullViolation("A primary key value must not be NULL")


def _rows(
    context: Context,
    table: TableDefinition,
    targets: tuple[str, ...],
    types: list[DataType],
    values: tree.ValuesNode,
) -> tuple[tuple[Expression, ...], ...] | None:
    """The rows; None if they hold subqueries, which only a query can have."""
    width = len(values.rows[0])
    if any(len(row) != width for row in values.rows):
        raise SQLParseError("VALUES lists must all be the same length")
    a = ExpressionAnalyzer(context, Scope(), place="VALUES")
    rows: list[tuple[Expression, ...]] = []
    for number, row in enumerate(values.rows, 1):
        rows.append(
            tuple(
                _value(context, a, table, name, kind, node, number)
                for name, kind, node in zip(targets, types, row, strict=True)
            )
        )
    return None if a.applies else tuple(rows)


def _value(
    context: Context,
    a: ExpressionAnalyzer,
    table: TableDefinition,
    name: str,
    kind: DataType,
    node: tree.Node,
    number: int,
) -> Expression:
    if isinstance(node, tree.DefaultWord):
        column = table.column(name)
        if column is None or column.default_sql is None:
            return Literal(None, kind)
        return schema_text.default_expression(context, column.default_sql, kind)
    try:
        expression = a.analyze(node)
    except ColumnUnknown as error:
        if isinstance(node, tree.Name):
            raise UnsupportedFeature(
                "Columns cannot be used in this context. Maybe you wanted to use a string literal which requires single "
                f"quotes: '{node.parts[-1]}'"
            ) from error
        raise
    if kind.kind == "undefined":
        return cast_to(context, expression, dynamic_type(expression.type))
    try:
        return cast_to(context, expression, kind)
    except SQLParseError as error:
        if (isinstance(expression, Literal) and expression.type.kind == "array") or "expressions" in error.message:
            raise SQLParseError(
                f"Cannot convert VALUES element in row {number} of type `{expression.type.name}` to `{kind.name}` for "
                f"`{name}`"
            ) from error
        raise


def dynamic_type(kind: DataType) -> DataType:
    """The type a new column gets from a value: whole numbers are bigint, all others double precision."""
    if kind.is_integer:
        return BIGINT
    if kind.kind in ("real", "numeric"):
        return DOUBLE
    if kind.kind == "array":
        assert kind.element is not None
        return array_of(dynamic_type(kind.element))
    if kind.kind in ("boolean", "text", "object", "double precision", "undefined"):
        return kind
    return kind


def _source_query(
    context: Context,
    table: TableDefinition,
    targets: tuple[str, ...],
    types: list[DataType],
    written: tree.Query,
) -> AnalyzedQuery:
    """The query with its columns cast to the targets."""
    result = analyze_query(context, written, parent=None, with_names={})
    names = tuple(column.name for column in result.columns)
    if len(names) != len(targets):
        _check_width(table, targets, len(names), names)
    items: list[Item] = []
    needs_cast = False
    for column, kind, name in zip(result.columns, types, targets, strict=False):
        plain = Column(column.id, column.name, column.type)
        wanted = kind if kind.kind != "undefined" else dynamic_type(column.type)
        if column.type == wanted:
            items.append(Item(column.id, name, plain))
            continue
        needs_cast = True
        try:
            cast = cast_output(context, result.relation, plain, wanted)
        except SQLParseError as error:
            raise SQLParseError(
                f"The type '{column.type.name}' of the insert source '{column.name}' is not convertible to the type "
                f"'{wanted.name}' of target column '{name}'"
            ) from error
        items.append(Item(context.next_id(), name, cast))
    relation: Relation = Project(result.relation, tuple(items)) if needs_cast else result.relation
    columns = tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items)
    return AnalyzedQuery(
        relation=relation, columns=columns if needs_cast else result.columns, tables=tuple(context.tables)
    )


def _conflict(context: Context, table: TableDefinition, written: tree.OnConflict) -> ConflictAction:
    names = [node.parts[-1] if isinstance(node, tree.Name) else printed(node) for node in written.columns]
    if written.columns and sorted(names) != sorted(table.primary_key):
        raise SQLParseError(
            f"Conflict target ({', '.join(names)}) did not match the primary key columns "
            f"([{', '.join(table.primary_key)}])"
        )
    if written.assignments is None:
        return ConflictAction()
    if not written.columns:
        raise SQLParseError("ON CONFLICT <conflict_target> is not allowed to be empty for DO UPDATE")
    scope, _ = schema_text.table_scope(context, table)
    excluded: tuple[tuple[str, Expression], ...] = tuple(
        (column.name, Column(-column.oid, column.name, column.type)) for column in table.columns
    )
    values = Scope(sources=list(scope.sources))
    items: list[Item] = []
    for target, node in written.assignments:
        a = _ConflictAnalyzer(context, values, excluded, place="SET")
        items.append(_assignment(context, table, a, target, node))
        if a.applies:
            raise UnsupportedFeature("Subqueries are not supported in ON CONFLICT DO UPDATE SET")
    return ConflictAction(assignments=tuple(items))


class _ConflictAnalyzer(ExpressionAnalyzer):
    """Also knows ``excluded.column``; other qualified names are refused, as in CrateDB."""

    def __init__(
        self, context: Context, scope: Scope, excluded: tuple[tuple[str, Expression], ...], *, place: str
    ) -> None:
        super().__init__(context, scope, place=place)
        scope_with = Scope(sources=list(scope.sources))
        scope_with.parent = None
        self.scope = scope_with
        self._excluded = DerivedSource(Project(_nothing(), ()), excluded, "excluded")
        self.scope = _ExcludedScope(scope_with, self._excluded)  # type: ignore[assignment]


def _nothing() -> Relation:
    from cratepy.sql.analyze.tables import empty_row  # only a placeholder

    return empty_row()


class _ExcludedScope:
    """The scope of the target table, and ``excluded``. The table may qualify its columns, as in PostgreSQL."""

    def __init__(self, inner: Scope, excluded: DerivedSource) -> None:
        self._inner = inner
        self._excluded = excluded
        self.with_names: dict[str, Any] = {}

    def resolve(self, parts: tuple[str, ...]) -> Expression:
        if len(parts) == 1:
            return self._inner.resolve(parts)
        if parts[:-1] == ("excluded",):
            found = self._excluded.find(parts[-1])
            if not found:
                raise ColumnUnknown(f"Column {parts[-1]} unknown")
            return found[0]
        return self._inner.resolve(parts)


# --- assignments and RETURNING ---------------------------------------------------------------------------------------


def _assignment(
    context: Context, table: TableDefinition, a: ExpressionAnalyzer, target: tree.Node, node: tree.Node
) -> Item:
    """``column = value`` or ``o['a'] = value``, the value cast to the target's type."""
    name, kind, column = _assigned(context, table, target)
    if column.name in table.primary_key:
        raise ColumnValidation(f"Validation failed for {column.name}: Updating a primary key is not supported")
    if column.name == table.clustered_by:
        raise ColumnValidation(f"Validation failed for {column.name}: Updating a clustered-by column is not supported")
    if column.name in table.partitioned_by:
        raise ColumnValidation(
            f"Validation failed for {column.name}: Updating a partitioned-by column is not supported"
        )
    if isinstance(node, tree.DefaultWord):
        value: Expression = Literal(None, kind)
        if column.default_sql is not None and name == column.name:
            value = schema_text.default_expression(context, column.default_sql, kind)
        return Item(context.next_id(), name, value)
    expression = a.analyze(node)
    if kind.kind == "undefined":
        return Item(context.next_id(), name, expression)
    try:
        cast = cast_to(context, expression, kind)
    except SQLParseError as error:
        if "too long" in error.message or "length" in error.message:
            raise
        raise ColumnValidation(
            f"Validation failed for {name}: Cannot cast expression `{printed(node)}` of type "
            f"`{expression.type.name}` to `{kind.name}`"
        ) from error
    return Item(context.next_id(), name, cast)


def _assigned(context: Context, table: TableDefinition, target: tree.Node) -> tuple[str, DataType, ColumnDefinition]:
    """Name, type and column of what stands left of ``=``."""
    path: list[tree.Node] = []
    node = target
    while isinstance(node, tree.Subscript):
        path.insert(0, node.index)
        node = node.base
    if not isinstance(node, tree.Name):
        raise SQLParseError(f"Cannot assign to {printed(target)}")
    name = node.parts[-1]
    if name in SYSTEM_COLUMNS:
        raise ColumnValidation(f"Validation failed for {name}: Updating a system column is not supported")
    column = table.column(name)
    if column is None:
        raise ColumnUnknown(f"Column {name} unknown")
    kind, shown = column.type, name
    for index in path:
        if isinstance(index, tree.StringWord):
            if kind.kind == "array":
                raise SQLParseError("Updating fields of object arrays is not supported")
            if kind.kind not in ("object", "undefined"):
                raise ColumnUnknown(f"Column {printed(target)} unknown")
            part = kind.field(index.value)
            if part is None and kind.policy == "strict":
                raise ColumnUnknown(f"Column {printed(target)} unknown")
            kind = part if part is not None else UNDEFINED
            escaped = index.value.replace("'", "''")
            shown += f"['{escaped}']"
        elif isinstance(index, tree.NumberWord) and kind.kind in ("array", "undefined"):
            if int(index.text) < 1:
                raise UnsupportedFeature("Updating arrays with indexes <= 0 is not supported")
            kind = UNDEFINED if kind.element is None else kind.element
            shown += f"[{index.text}]"
        else:
            raise SQLParseError(f"Cannot assign to {printed(target)}")
    return shown, kind, column


def _returning(
    context: Context, table: TableDefinition, items: tuple[tree.SelectItem, ...], source: TableSource | None
) -> tuple[Item, ...]:
    """RETURNING over columns by oid."""
    if not items:
        return ()
    if source is None:
        scope, _ = schema_text.table_scope(context, table)
    else:
        scope = Scope(sources=[source])
    a = ExpressionAnalyzer(context, scope, place="RETURNING")
    found: list[Item] = []
    for item in items:
        if isinstance(item.expression, tree.Star):
            for name, column in scope.star(item.expression.qualifier):
                found.append(Item(context.next_id(), name, column))
            continue
        name = item.alias if item.alias is not None else output_name(item.expression)
        found.append(Item(context.next_id(), name, a.analyze(item.expression)))
    return tuple(found)


def _returned(items: tuple[Item, ...]) -> tuple[OutputColumn, ...] | None:
    return tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items) if items else None


# --- UPDATE and DELETE -----------------------------------------------------------------------------------------------


def update(context: Context, node: tree.UpdateNode) -> AnalyzedUpdate:
    table = context.catalog.table(node.name, "UPDATE")
    context.start_ids_above(_highest_oid(table))
    scope, source = schema_text.table_scope(context, table, node.alias)
    assignments: list[Item] = []
    a = ExpressionAnalyzer(context, scope, place="SET")
    for target, value in node.assignments:
        item = _assignment(context, table, a, target, value)
        if any(known.name == item.name for known in assignments):
            raise SQLParseError(f"Target expression repeated: {item.name}")
        assignments.append(item)
    where = _where(context, scope, node.where)
    returning = _returning(context, table, node.returning, source)
    generated, checks = schema_text.generated(context, table), schema_text.checks(context, table)
    needed = [item.expression for item in (*assignments, *generated, *checks, *returning)]
    for item in assignments:
        if "[" in item.name and table.column(item.name) is None:
            source.find(item.name[: item.name.index("[")])
    find = _find(context, table, source, where, a, needed)
    return AnalyzedUpdate(
        table_uuid=table.uuid,
        table=table.name,
        find=find,
        assignments=tuple(assignments),
        generated=generated,
        checks=checks,
        returning=returning,
        expects_version=_expects_version(where[0] if where else None),
        columns=_returned(returning),
    )


def delete(context: Context, node: tree.DeleteNode) -> AnalyzedDelete:
    table = context.catalog.table(node.name, "DELETE")
    context.start_ids_above(_highest_oid(table))
    scope, source = schema_text.table_scope(context, table, node.alias)
    where = _where(context, scope, node.where)
    returning = _returning(context, table, node.returning, source)
    find = _find(context, table, source, where, None, [item.expression for item in returning])
    return AnalyzedDelete(
        table_uuid=table.uuid,
        table=table.name,
        find=find,
        returning=returning,
        expects_version=_expects_version(where[0] if where else None),
        columns=_returned(returning),
    )


def _where(context: Context, scope: Scope, node: tree.Node | None) -> tuple[Expression, list[Any]] | None:
    if node is None:
        return None
    a = ExpressionAnalyzer(context, scope, place="WHERE")
    return a.condition(node), a.applies


def _find(
    context: Context,
    table: TableDefinition,
    source: TableSource,
    where: tuple[Expression, list[Any]] | None,
    values: ExpressionAnalyzer | None,
    needed: list[Expression],
) -> AnalyzedQuery:
    """The rows to change: their version columns, then every column the statement's expressions read."""
    context.tables.setdefault(table.uuid)
    for name in _VERSION_COLUMNS:
        source.find_system(name)
    ids = {i for expression in needed for i in column_ids(expression)}
    for column in table.columns:
        if column.oid in ids:
            source.find(column.name)
    read = {scanned.id for scanned in source.used.values()}
    where_only = column_ids(where[0]) - ids if where is not None else set()
    relation = source.relation()
    if where is not None:
        relation = Filter(with_applies(relation, where[1]), where[0])
    computed = [] if values is None else values.applies
    relation = with_applies(relation, computed)
    columns: list[OutputColumn] = []
    for name in _VERSION_COLUMNS:
        found = source.used[name]
        columns.append(OutputColumn(found.id, name, found.type))
    columns += [
        OutputColumn(scanned.id, scanned.name, scanned.type)
        for scanned in source.used.values()
        if scanned.name not in _VERSION_COLUMNS and scanned.id in read and scanned.id not in where_only
    ]
    columns += [OutputColumn(apply.id, apply.name, apply.type) for apply in computed]
    items = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in columns)
    return AnalyzedQuery(relation=Project(relation, items), columns=tuple(columns), tables=tuple(context.tables))


def _expects_version(where: Expression | None) -> bool:
    """Whether the condition pins ``_seq_no`` and ``_primary_term``; both are needed."""
    if where is None:
        return False
    pinned: set[str] = set()
    named: set[str] = set()
    for node in nodes(where):
        if isinstance(node, Column) and node.name in ("_seq_no", "_primary_term", "_version"):
            named.add(node.name)
        if isinstance(node, Call) and node.function == "op_=":
            pinned |= {_bare(side) for side in node.arguments} & {"_seq_no", "_primary_term"}
    if "_version" in named:
        raise VersioningValidation(
            '"_version" column can only be used in SELECT; use "_seq_no" and "_primary_term" in UPDATE and DELETE'
        )
    if named and pinned != {"_seq_no", "_primary_term"}:
        raise VersioningValidation(
            '"_seq_no" and "_primary_term" columns can only be used together in the WHERE clause with equals comparisons '
            "and if there are also equals comparisons on primary key columns"
        )
    return bool(pinned)


def _bare(expression: Expression) -> str:
    while isinstance(expression, Cast):
        expression = expression.argument
    return expression.name if isinstance(expression, Column) else ""


# --- COPY FROM -------------------------------------------------------------------------------------------------------


def copy_from(context: Context, node: tree.CopyFromNode) -> AnalyzedCopyFrom:
    table = context.catalog.table(node.name, "INSERT")
    context.start_ids_above(_highest_oid(table))
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
        targets = _targets(table, tuple(tree.Name((name,)) for name in node.columns), None)
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
