"""Runs relations and plans on DuckDB: an oracle for "the plan gives what the relation gives".

A relation is rendered as nested SELECTs whose columns are ``c<id>``, so that names never collide and an outer column is
found by its name alone. A plan is run phase by phase and node by node on what is there: a node's shards, and what the
exchanges brought it. Rows are compared as multisets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from cratepy.model.expressions import (
    Aggregate,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.plan import Broadcast, Gather, HashPartition, Phase, QueryPlan
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Item,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import DataType
from tests.sql.plan.building import TABLES

Row = tuple[Any, ...]
DUCK_TYPES = {"integer": "INTEGER", "bigint": "BIGINT", "text": "VARCHAR", "double precision": "DOUBLE",
              "boolean": "BOOLEAN", "numeric": "HUGEINT"}  # fmt: skip


def table_rows(name: str, count: int = 23) -> list[Row]:
    """Small numbers that often meet, with NULLs among them; the first column is unique."""
    rows: list[Row] = []
    for i in range(count):
        values: list[Any] = [i]
        for at, (_, data_type) in enumerate(TABLES[name][1:]):
            number = (i * (at + 3) + at) % 7
            if number == 5 and at != 2:
                values.append(None)
            elif data_type.kind == "text":
                values.append(f"s{number % 4}")
            else:
                values.append(number * 1.0 if data_type.kind == "double precision" else number)
        rows.append(tuple(values))
    return rows


_DUCK = duckdb.connect(":memory:", config={"threads": 1})


class Oracle:
    """DuckDB and the slots of subqueries that ran already."""

    def __init__(self) -> None:
        self.duck = _DUCK
        self.values: dict[int, Any] = {}

    def run(self, relation: Relation, source: Callable[[Relation], str]) -> list[Row]:
        return self.duck.execute(self._sql(relation, source)).fetchall()

    def table(self, columns: Sequence[OutputColumn], rows: Sequence[Row]) -> str:
        """A source of these rows."""
        names = ", ".join(f"c{c.id}" for c in columns) or "none"
        if not rows:
            nulls = ", ".join(f"{_literal(None, c.type)} AS c{c.id}" for c in columns) or "1 AS none"
            return f"(SELECT {nulls} WHERE false)"
        lines = [", ".join(_literal(v, c.type) for v, c in zip(row, columns, strict=True)) or "1" for row in rows]
        return f"(VALUES {', '.join(f'({line})' for line in lines)}) AS v({names})"

    # --- relations ---

    def _sql(self, relation: Relation, source: Callable[[Relation], str]) -> str:
        def of(child: Relation) -> str:
            return f"({self._sql(child, source)})"

        wanted = ", ".join(f"c{c.id}" for c in output_columns(relation)) or "1 AS none"
        match relation:
            case Scan() | SystemScan():
                where = "" if relation.filter is None else f" WHERE {self._e(relation.filter)}"
                return f"SELECT {wanted} FROM {source(relation)}{where}"
            case ExchangeInput():
                return f"SELECT {wanted} FROM {source(relation)}"
            case TableFunction():
                arguments = ", ".join(self._e(a) for a in relation.arguments)
                return f"SELECT unnest({relation.function}({arguments})) AS c{relation.columns[0].id}"
            case Values():
                return self._values(relation)
            case Filter():
                return f"SELECT {wanted} FROM {of(relation.child)} WHERE {self._e(relation.predicate)}"
            case Project():
                items = ", ".join(self._item(i) for i in relation.items) or "1 AS none"
                return f"SELECT {items} FROM {of(relation.child)}"
            case ProjectSet():
                sets = [f"unnest({self._e(i.expression)}) AS c{i.id}" for i in relation.items]
                passed = [f"c{c.id}" for c in output_columns(relation.child)]
                return f"SELECT {', '.join(passed + sets)} FROM {of(relation.child)}"
            case Aggregation():
                shown = ", ".join(self._item(i) for i in relation.keys + relation.aggregates) or "1 AS none"
                keys = ", ".join(str(i + 1) for i in range(len(relation.keys)))
                return f"SELECT {shown} FROM {of(relation.child)}" + (f" GROUP BY {keys}" if keys else "")
            case WindowCalculation():
                items = ", ".join(self._item(i) for i in relation.items)
                return f"SELECT *, {items} FROM {of(relation.child)}"
            case Join():
                return self._join(relation, of, wanted)
            case Apply():
                return (
                    f"SELECT *, {self._apply(relation, of(relation.right))} AS c{relation.id} FROM {of(relation.left)}"
                )
            case Sort():
                return f"SELECT {wanted} FROM {of(relation.child)} ORDER BY {self._keys(relation.keys)}"
            case Limit():
                count = "" if relation.count is None else f" LIMIT {self._e(relation.count)}"
                offset = "" if relation.offset is None else f" OFFSET {self._e(relation.offset)}"
                if isinstance(relation.child, Sort):
                    return f"{self._sql(relation.child, source)}{count}{offset}"
                return f"SELECT {wanted} FROM {of(relation.child)}{count}{offset}"
            case SetOperation():
                word = {"union_all": "UNION ALL", "union": "UNION", "except": "EXCEPT", "intersect": "INTERSECT"}
                parts = [self._renamed(child, relation.columns, of(child)) for child in relation.children]
                return f" {word[relation.kind]} ".join(parts)
            case RecursiveQuery():
                names = ", ".join(f"c{c.id}" for c in relation.columns)
                parts = [self._renamed(p, relation.columns, of(p)) for p in (relation.base, relation.step)]
                union = " UNION " if relation.is_distinct else " UNION ALL "
                body = union.join(parts)
                return (
                    f"SELECT * FROM (WITH RECURSIVE {relation.name}({names}) AS ({body}) SELECT * FROM {relation.name})"
                )
            case RecursiveReference():
                names = ", ".join(f"c{c.id}" for c in relation.columns)
                return f"SELECT * FROM {relation.name} AS ref({names})"

    def _values(self, values: Values) -> str:
        names = ", ".join(f"c{c.id}" for c in values.columns) or "none"
        if not values.rows:
            nulls = ", ".join(f"CAST(NULL AS {_duck_type(c.type)}) AS c{c.id}" for c in values.columns) or "1 AS none"
            return f"SELECT {nulls} WHERE false"
        rows = ", ".join("(" + (", ".join(self._e(e) for e in row) or "1") + ")" for row in values.rows)
        return f"SELECT * FROM (VALUES {rows}) AS v({names})"

    def _renamed(self, child: Relation, columns: Sequence[OutputColumn], sql: str) -> str:
        pairs = zip(output_columns(child), columns, strict=True)
        return f"SELECT {', '.join(f'c{old.id} AS c{new.id}' for old, new in pairs)} FROM {sql}"

    def _join(self, join: Join, of: Callable[[Relation], str], wanted: str) -> str:
        left, right = of(join.left), of(join.right)
        condition = "true" if join.condition is None else self._e(join.condition)
        if join.kind in ("semi", "anti"):
            no = "NOT " if join.kind == "anti" else ""
            return f"SELECT {wanted} FROM {left} WHERE {no}EXISTS (SELECT 1 FROM {right} WHERE {condition})"
        if join.kind in ("cross", "inner"):
            return f"SELECT {wanted} FROM {left} a, {right} b WHERE {condition}"
        return f"SELECT {wanted} FROM {left} a {join.kind} JOIN {right} b ON {condition}"

    def _apply(self, apply: Apply, right: str) -> str:
        if apply.kind == "exists":
            return f"EXISTS {right}"
        if apply.kind == "array":
            column = output_columns(apply.right)[0].id
            return f"(SELECT list_sort(list(c{column})) FROM {right})"
        if apply.kind == "scalar":
            return right
        assert apply.operand is not None
        assert apply.operator is not None
        return f"({self._e(apply.operand)} {apply.operator.removeprefix('op_')} {apply.kind} {right})"

    # --- expressions ---

    def _item(self, item: Item) -> str:
        return f"{self._e(item.expression)} AS c{item.id}"

    def _keys(self, keys: Sequence[SortKey]) -> str:
        return ", ".join(
            f"{self._e(k.expression)} {'DESC' if k.is_descending else 'ASC'} NULLS {'FIRST' if k.nulls_first else 'LAST'}"
            for k in keys
        )

    def _e(self, expression: Expression) -> str:
        match expression:
            case Literal():
                return _literal(expression.value, expression.type)
            case Column() | OuterColumn():
                return f"c{expression.id}"
            case Parameter():
                raise AssertionError("no parameters here")
            case SubqueryValue():
                return _literal(self.values[expression.slot], expression.type)
            case Cast():
                return f"CAST({self._e(expression.argument)} AS {_duck_type(expression.type)})"
            case InList():
                return f"({self._e(expression.operand)} IN ({', '.join(self._e(i) for i in expression.items)}))"
            case Case():
                branches = "".join(f" WHEN {self._e(b.condition)} THEN {self._e(b.value)}" for b in expression.branches)
                return f"CASE{branches} ELSE {self._e(expression.default)} END"
            case Aggregate():
                return self._aggregate(expression)
            case Window():
                partition = ", ".join(self._e(p) for p in expression.partition_by)
                parts = [f"PARTITION BY {partition}"] if partition else []
                parts += [f"ORDER BY {self._keys(expression.order_by)}"] if expression.order_by else []
                return f"{expression.function}() OVER ({' '.join(parts)})"
            case Call():
                return self._call(expression)

    def _aggregate(self, aggregate: Aggregate) -> str:
        name = {"_sum_exact": "sum", "array_agg": "list"}.get(aggregate.function, aggregate.function)
        inner = ", ".join(self._e(a) for a in aggregate.arguments) or "*"
        text = f"{name}({'DISTINCT ' if aggregate.is_distinct else ''}{inner})"
        return f"list_sort({text})" if name == "list" else text

    def _call(self, call: Call) -> str:
        texts = [self._e(argument) for argument in call.arguments]
        name = call.function
        if name == "op_isnull":
            return f"({texts[0]} IS NULL)"
        if name == "op_not":
            return f"(NOT {texts[0]})"
        if name == "_narrowed_sum":
            return texts[0]
        for quantifier in ("any", "all"):
            if name.startswith(f"op_{quantifier}_"):
                return f"({texts[0]} {name.removeprefix(f'op_{quantifier}_')} {quantifier} (SELECT unnest({texts[1]})))"
        if name.startswith("op_"):
            return f"({texts[0]} {name.removeprefix('op_')} {texts[1]})"
        return f"{name}({', '.join(texts)})"


def _duck_type(data_type: DataType) -> str:
    if data_type.kind == "array":
        assert data_type.element is not None
        return f"{_duck_type(data_type.element)}[]"
    return DUCK_TYPES[data_type.kind]


def _literal(value: Any, data_type: DataType) -> str:
    if isinstance(value, list):
        assert data_type.element is not None
        inner = ", ".join(_literal(element, data_type.element) for element in value)
        return f"CAST([{inner}] AS {_duck_type(data_type)})"
    if value is None:
        return f"CAST(NULL AS {_duck_type(data_type)})"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return f"CAST({text} AS {_duck_type(data_type)})"


# --- a cluster -------------------------------------------------------------------------------------------------------


class Cluster:
    """The rows of every shard, and plans run over them."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.oracle = Oracle()

    def answer(self, relation: Relation) -> list[Row]:
        """What the relation gives, run whole."""
        return self.oracle.run(relation, lambda leaf: self._table(leaf, None))

    def execute(self, plan: QueryPlan) -> list[Row]:
        """What the plan gives, run in its phases."""
        for subplan in plan.subplans:
            self.oracle.values[subplan.slot] = _subquery_value(subplan.kind, self.execute(subplan.plan))
        #: (phase, node) → rows waiting there.
        inbox: dict[tuple[int, str], list[Row]] = {}
        rows: list[Row] = []
        for phase in plan.phases:
            for node in phase.nodes:
                rows = self._run(phase, node, inbox)
                if phase.output is not None:
                    self._send(phase, plan.phases[phase.output.phase].nodes, rows, inbox)
        return rows

    def _run(self, phase: Phase, node: str, inbox: dict[tuple[int, str], list[Row]]) -> list[Row]:
        def source(leaf: Relation) -> str:
            if isinstance(leaf, ExchangeInput):
                return self.oracle.table(leaf.columns, inbox.get((leaf.phase, node), []))
            assert isinstance(leaf, Scan)
            here = [s.shards for s in phase.shards if s.node_id == node and s.table_uuid == leaf.table_uuid]
            return self._table(leaf, here[0] if here else ())

        return self.oracle.run(phase.relation, source)

    def _table(self, leaf: Relation, shards: tuple[int, ...] | None) -> str:
        assert isinstance(leaf, Scan)
        names = [name for name, _ in TABLES[leaf.table.name]]
        at = [names.index(column.name) for column in leaf.columns]
        rows = [
            tuple(row[i] for i in at)
            for number, row in enumerate(table_rows(leaf.table.name))
            if shards is None or number % self.shards in shards
        ]
        return self.oracle.table(output_columns(leaf), rows)

    def _send(
        self, phase: Phase, receivers: tuple[str, ...], rows: list[Row], inbox: dict[tuple[int, str], list[Row]]
    ) -> None:
        ids = [column.id for column in output_columns(phase.relation)]
        for row in rows:
            match phase.output:
                case Gather():
                    (target,) = receivers
                    targets: Sequence[str] = [target]
                case Broadcast():
                    targets = receivers
                case HashPartition(keys=keys):
                    key = tuple(row[ids.index(column)] for column in keys)
                    targets = [receivers[hash(key) % len(receivers)]]
                case None:
                    raise AssertionError("the last phase sends to the client")
            for node in targets:
                inbox.setdefault((phase.id, node), []).append(row)


def _subquery_value(kind: str, rows: list[Row]) -> Any:
    if kind == "exists":
        return bool(rows)
    if kind == "array":
        return [row[0] for row in rows]
    assert len(rows) <= 1
    return rows[0][0] if rows else None


def multiset(rows: Sequence[Row]) -> list[str]:
    """Rows in an order of their own."""
    return sorted(repr(tuple(_plain(value) for value in row)) for row in rows)


def _plain(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value
