"""Relations, tables and cluster states made by hand, so that the planner is tested without parser and analyzer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from typing import Any

from cratepy.model.expressions import Aggregate, Call, Column, Expression, Literal, Parameter, SortKey
from cratepy.model.names import RelationName
from cratepy.model.relations import (
    Aggregation,
    Filter,
    Item,
    Join,
    Limit,
    Project,
    Relation,
    Scan,
    ScanColumn,
    Sort,
    output_columns,
)
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.state import ClusterState, NodeInfo, ShardCopy, ShardRouting, TableState
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, TEXT, DataType
from cratepy.sql.plan.walk import conjunction

TABLES: dict[str, tuple[tuple[str, DataType], ...]] = {
    "ta": (("id", INTEGER), ("g", INTEGER), ("a", INTEGER), ("b", TEXT), ("x", DOUBLE)),
    "tb": (("id", INTEGER), ("ta_id", INTEGER), ("c", INTEGER), ("d", TEXT)),
    "tc": (("id", INTEGER), ("tb_id", INTEGER), ("e", INTEGER)),
    "tp": (("id", INTEGER), ("p", INTEGER), ("v", TEXT)),
}
KEYS = {"ta": ("id",), "tb": ("id",), "tc": (), "tp": ("id", "p")}


def definition(name: str) -> TableDefinition:
    columns = tuple(ColumnDefinition(oid=i + 1, name=n, type=t) for i, (n, t) in enumerate(TABLES[name]))
    return TableDefinition(
        name=RelationName("doc", name), uuid=f"uuid-{name}", oid=1, columns=columns, primary_key=KEYS[name]
    )


def state(nodes: int = 3, shards: int = 6, *, only_on: str | None = None) -> ClusterState:
    """Nodes n1, n2, …; every table's shards spread over them, or all on one."""
    names = [f"n{i + 1}" for i in range(nodes)]
    infos = {
        name: NodeInfo(id=name, name=name, ephemeral_id="e", host="h", transport_port=1, http_port=2, psql_port=3)
        for name in names
    }

    def routing(shard: int) -> ShardRouting:
        node = only_on or names[shard % nodes]
        copy = ShardCopy(allocation_id=f"a{shard}", node_id=node, is_primary=True, state="started")
        return ShardRouting(shard=shard, primary_term=1, in_sync=(copy.allocation_id,), copies=(copy,))

    tables = {
        f"uuid-{name}": TableState(definition(name), tuple(routing(shard) for shard in range(shards)))
        for name in TABLES
    }
    return ClusterState(version=7, master_id="n1", nodes=infos, tables=tables)


class Builder:
    """Makes operators whose columns get the next free ids; columns are named ``ta.id``."""

    def __init__(self) -> None:
        self.ids = count(1)
        self.columns: dict[str, Column] = {}

    def scan(self, table: str, *names: str, alias: str | None = None) -> Scan:
        made: list[ScanColumn] = []
        for i, (name, data_type) in enumerate(TABLES[table]):
            if names and name not in names:
                continue
            column = ScanColumn(next(self.ids), name, data_type, f"c{i + 1}")
            made.append(column)
            self.columns[f"{alias or table}.{name}"] = Column(column.id, name, data_type)
        return Scan(table_uuid=f"uuid-{table}", table=RelationName("doc", table), columns=tuple(made))

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def item(self, expression: Expression, name: str = "") -> Item:
        item = Item(next(self.ids), name or getattr(expression, "name", "x"), expression)
        if name:
            self.columns[name] = Column(item.id, name, expression.type)
        return item

    def project(self, child: Relation, *items: Item | Column) -> Project:
        return Project(child, tuple(i if isinstance(i, Item) else Item(i.id, i.name, i) for i in items))

    def group(self, child: Relation, keys: Sequence[Column], *aggregates: Item) -> Aggregation:
        return Aggregation(child, tuple(Item(k.id, k.name, k) for k in keys), tuple(aggregates))

    def equal_join(self, left: Relation, right: Relation, one: str, other: str, kind: str = "inner") -> Join:
        return Join(kind, left, right, eq(self[one], self[other]))


def lit(value: Any, data_type: DataType | None = None) -> Literal:
    if data_type is not None:
        return Literal(value, data_type)
    kinds: dict[type, DataType] = {bool: BOOLEAN, int: INTEGER, str: TEXT, float: DOUBLE}
    return Literal(value, kinds[type(value)])


def call(name: str, *arguments: Expression, to: DataType = BOOLEAN) -> Call:
    return Call(name, arguments, to)


def eq(one: Expression, other: Expression) -> Call:
    return call("op_=", one, other)


def gt(one: Expression, other: Expression) -> Call:
    return call("op_>", one, other)


def either(*parts: Expression) -> Expression:
    result = parts[0]
    for part in parts[1:]:
        result = call("op_or", result, part)
    return result


def both(*parts: Expression) -> Expression:
    result = conjunction(parts)
    assert result is not None
    return result


def negated(part: Expression) -> Call:
    return call("op_not", part)


def where(child: Relation, *predicates: Expression) -> Filter:
    return Filter(child, both(*predicates))


def count_all() -> Aggregate:
    return Aggregate("count", (), BIGINT)


def aggregate(name: str, argument: Expression, to: DataType, *, distinct: bool = False) -> Aggregate:
    return Aggregate(name, (argument,), to, is_distinct=distinct)


def order(child: Relation, *columns: Expression) -> Sort:
    return Sort(child, tuple(SortKey(column) for column in columns))


def limit(child: Relation, count: int, offset: int | None = None) -> Limit:
    return Limit(child, lit(count, BIGINT), None if offset is None else lit(offset, BIGINT))


def parameter(index: int, data_type: DataType) -> Parameter:
    return Parameter(index, data_type)


def names(relation: Relation) -> list[str]:
    return [column.name for column in output_columns(relation)]


def plain(text: str) -> str:
    """Tree text without connectors, to look for a line."""
    return re.sub(r"[└├│]", " ", text)
