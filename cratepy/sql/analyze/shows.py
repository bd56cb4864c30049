"""SHOW TABLES / SCHEMAS / COLUMNS as queries over information_schema, SHOW CREATE TABLE as one ready row, SHOW setting as a plan."""

from __future__ import annotations

from collections.abc import Mapping

from cratepy.errors import OperationOnInaccessibleRelation
from cratepy.model.expressions import Literal
from cratepy.model.names import SYSTEM_SCHEMAS
from cratepy.model.plan import ShowPlan
from cratepy.model.relations import OutputColumn, Values
from cratepy.model.schema import ColumnDefinition, SettingValue, TableDefinition
from cratepy.model.search import IndexDefinition, part_path
from cratepy.model.types import TEXT, DataType, Field
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.queries import analyze_query
from cratepy.sql.analyze.statements import AnalyzedDirect, AnalyzedQuery, AnalyzedStatement
from cratepy.sql.parse import tree
from cratepy.sql.parse.tree import Node


def show(context: Context, node: tree.ShowStatement) -> AnalyzedStatement:
    match node.kind:
        case "tables":
            return _query(context, "tables", ("table_name",), _tables_where(context, node), node)
        case "schemas":
            return _query(context, "schemata", ("schema_name",), [], node)
        case "columns":
            return _columns(context, node)
        case "create_table":
            return _create_table(context, node)
        case "all":
            names = ("name", "setting", "description")
            return _direct(context, ShowPlan(name=None), names)
        case _:
            name = node.name[0]
            return _direct(context, ShowPlan(name=name), (name.lower(),))


def _direct(context: Context, plan: ShowPlan, names: tuple[str, ...]) -> AnalyzedDirect:
    columns = tuple(OutputColumn(context.next_id(), name, TEXT) for name in names)
    return AnalyzedDirect(plan=plan, columns=columns, tag="SHOW")


def _equals(name: str, value: str) -> Node:
    return tree.Binary("=", tree.Name((name,)), tree.StringWord(value))


def _tables_where(context: Context, node: tree.ShowStatement) -> list[Node]:
    conditions: list[Node] = [_equals("table_type", "BASE TABLE")]
    if node.schema is not None:
        conditions.append(_equals("table_schema", node.schema))
    else:
        hidden = tuple(tree.StringWord(schema) for schema in sorted(SYSTEM_SCHEMAS))
        conditions.append(tree.InItems(tree.Name(("table_schema",)), hidden, True))
    return conditions


def _columns(context: Context, node: tree.ShowStatement) -> AnalyzedStatement:
    name = node.name[-1]
    schema = node.schema if node.schema is not None else node.name[-2] if len(node.name) > 1 else None
    if schema is None:
        found = context.catalog.find(node.name)
        schema = found.name.schema if found is not None else context.catalog.current_schema
    conditions = [_equals("table_schema", schema), _equals("table_name", name)]
    return _query(context, "columns", ("column_name", "data_type"), conditions, node)


def _query(
    context: Context, table: str, columns: tuple[str, ...], conditions: list[Node], node: tree.ShowStatement
) -> AnalyzedQuery:
    """``SELECT columns FROM information_schema.table WHERE … ORDER BY the first``."""
    if node.like is not None:
        conditions.append(tree.Like(tree.Name((columns[0],)), tree.StringWord(node.like), None, False, False))
    if node.where is not None:
        conditions.append(node.where)
    where: Node | None = None
    if conditions:
        where = conditions[0] if len(conditions) == 1 else tree.Logic("and", tuple(conditions))
    select = tree.Select(
        tuple(tree.SelectItem(tree.Name((column,))) for column in columns),
        is_distinct=len(columns) == 1,
        tables=(tree.TableName(("information_schema", table)),),
        where=where,
    )
    query = tree.Query(select, order_by=(tree.SortItem(tree.Name((columns[0],))),))
    result = analyze_query(context, query, parent=None, with_names={})
    return AnalyzedQuery(relation=result.relation, columns=result.columns)


# --- SHOW CREATE TABLE -----------------------------------------------------------------------------------------------


def _create_table(context: Context, node: tree.ShowStatement) -> AnalyzedStatement:
    found = context.catalog.relation(node.name)
    if not isinstance(found, TableDefinition):
        raise OperationOnInaccessibleRelation(
            f'The relation "{found.name}" doesn\'t support or allow SHOW CREATE operations'
        )
    column = OutputColumn(context.next_id(), f"SHOW CREATE TABLE {found.name}", TEXT)
    values = Values(rows=((Literal(create_table_text(found), TEXT),),), columns=(column,))
    return AnalyzedQuery(relation=values, columns=(column,))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted_key(table: TableDefinition, name: str) -> str:
    """A column of the key, or a part of one, as SQL."""
    return _quoted(name) if table.column(name) is not None else _quoted_path(name)


def create_table_text(table: TableDefinition) -> str:
    """The statement that would make the table, as CrateDB formats it."""
    part_indexes = {index.name: index for index in table.indexes if index.columns == (index.name,)}
    rules = {part.path: f" DEFAULT {part.sql}" for part in table.part_defaults}
    for path in table.required_parts:
        rules[path] = rules.get(path, "") + " NOT NULL"
    elements = [_column_text(column, part_indexes, rules) for column in table.columns]
    if table.primary_key:
        name = f"CONSTRAINT {_quoted(table.primary_key_name)} " if table.primary_key_name else ""
        elements.append(f"{name}PRIMARY KEY ({', '.join(_quoted_key(table, column) for column in table.primary_key)})")
    elements += [_index_text(index) for index in table.indexes if index.name not in part_indexes]
    elements += [f"CONSTRAINT {check.name} CHECK({check.sql})" for check in table.checks]
    inner = ",\n".join(f"   {element}" for element in elements)
    clustered = f"CLUSTERED BY ({_quoted_key(table, table.clustered_by)})" if table.clustered_by else "CLUSTERED"
    settings: dict[str, SettingValue] = {
        **table.settings,
        "column_policy": table.column_policy,
        "number_of_replicas": table.replicas,
    }
    lines = ",\n".join(f"   {_setting_name(name)} = {_setting_text(settings[name])}" for name in sorted(settings))
    name = f"{_quoted(table.name.schema)}.{_quoted(table.name.name)}"
    return (
        f"CREATE TABLE IF NOT EXISTS {name} (\n{inner}\n)\n{clustered} INTO {table.shards} SHARDS\nWITH (\n{lines}\n)"
    )


def _setting_name(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _setting_text(value: SettingValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def _index_text(index: IndexDefinition) -> str:
    columns = ", ".join(_quoted_path(column) for column in index.columns)
    text = f"INDEX {_quoted(index.name)} USING {index.method.upper()} ({columns})"
    return text if index.analyzer is None else f"{text} WITH (\n      analyzer = '{index.analyzer}'\n   )"


def _quoted_path(path: str) -> str:
    """``o['a']`` as ``"o"['a']``."""
    name, bracket, parts = path.partition("[")
    return f"{_quoted(name)}{bracket}{parts}"


def _column_text(
    column: ColumnDefinition, part_indexes: Mapping[str, IndexDefinition], rules: Mapping[str, str]
) -> str:
    text = f"{_quoted(column.name)} {type_text(column.type, 1, column.name, part_indexes, rules)}"
    if column.default_sql is not None:
        text += f" DEFAULT {column.default_sql}"
    if column.generated_sql is not None:
        text += f" GENERATED ALWAYS AS {column.generated_sql}"
    if not column.is_nullable:
        text += " NOT NULL"
    if column.index == "off":
        text += " INDEX OFF"
    elif column.index == "fulltext":
        text += f" INDEX USING FULLTEXT WITH (\n      analyzer = '{column.analyzer}'\n   )"
    elif column.type.kind == "geo_shape" and column.index != "plain":
        text += f" INDEX USING {column.index.upper()}"
        if column.index_options:
            options = ",\n".join(f"      {name} = {_setting_text(value)}" for name, value in column.index_options)
            text += f" WITH (\n{options}\n   )"
    if not column.has_columnstore:
        text += " STORAGE WITH (\n      columnstore = false\n   )"
    return text


def type_text(
    kind: DataType,
    depth: int,
    path: str,
    part_indexes: Mapping[str, IndexDefinition],
    rules: Mapping[str, str],
) -> str:
    """A type as DDL, indented for its place; ``path`` is the column's, or the part's whose rules and index may follow."""
    if kind.kind == "array":
        assert kind.element is not None
        return f"ARRAY({type_text(kind.element, depth, path, part_indexes, rules)})"
    if kind.kind == "object":
        text = f"OBJECT({(kind.policy or 'dynamic').upper()})"
        if not kind.fields:
            return text
        pad = "   " * (depth + 1)
        parts = ",\n".join(
            f"{pad}{_quoted(field.name)} {_part_text(field, depth + 1, path, part_indexes, rules)}"
            for field in kind.fields
        )
        return f"{text} AS (\n{parts}\n{'   ' * depth})"
    if kind.kind == "numeric" and kind.precision is not None:
        scale = "" if kind.scale is None else f", {kind.scale}"
        return f"NUMERIC({kind.precision}{scale})"
    if kind.kind == "float_vector" and kind.length is not None:
        return f"FLOAT_VECTOR({kind.length})"
    return kind.name.upper()


def _part_text(
    field: Field, depth: int, path: str, part_indexes: Mapping[str, IndexDefinition], rules: Mapping[str, str]
) -> str:
    path = part_path(path, field.name)
    text = type_text(field.type, depth, path, part_indexes, rules) + rules.get(path, "")
    index = part_indexes.get(path)
    if index is None:
        return text
    pad = "   " * depth
    return f"{text} INDEX USING FULLTEXT WITH (\n{pad}   analyzer = '{index.analyzer}'\n{pad})"
