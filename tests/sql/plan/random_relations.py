"""Random relations of all shapes, from a seed; every one has an answer that does not depend on the order of rows."""

from __future__ import annotations

import random

from cratepy.model.expressions import Column, Expression, InList, OuterColumn, SortKey, Window
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Filter,
    Item,
    Join,
    Limit,
    Project,
    Relation,
    SetOperation,
    Sort,
    WindowCalculation,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, INTEGER
from cratepy.sql.plan.walk import transform
from tests.sql.plan.building import Builder, aggregate, both, call, count_all, either, eq, gt, lit, negated


def random_relation(chance: random.Random) -> Relation:
    """A relation of up to some ten operators whose columns are integers."""
    return Maker(chance).relation(chance.randint(1, 4))


class Maker:
    """Makes operators over operators, with fresh ids."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.b = Builder()

    def relation(self, depth: int) -> Relation:
        if depth == 0:
            return self.scan()
        makers = (
            self.filtered, self.filtered, self.computed, self.grouped, self.grouped, self.joined, self.joined,
            self.joined, self.top, self.union, self.numbered, self.subquery, self.subquery, self.distinct,
        )  # fmt: skip
        return self.chance.choice(makers)(depth - 1)

    def scan(self) -> Relation:
        name, columns = self.chance.choice(
            [("ta", ["id", "g", "a"]), ("tb", ["id", "ta_id", "c"]), ("tc", ["id", "tb_id", "e"])]
        )
        return self.b.scan(name, *columns, alias=f"{name}{self.chance.random()}")

    def columns(self, relation: Relation) -> list[Column]:
        return [Column(c.id, c.name, c.type) for c in output_columns(relation) if c.type in (INTEGER, BIGINT)]

    def column(self, relation: Relation) -> Column:
        return self.chance.choice(self.columns(relation))

    def predicate(self, relation: Relation, depth: int = 2) -> Expression:
        kind = self.chance.randint(0, 8 if depth else 4)
        column = self.column(relation)
        number = lit(self.chance.randint(0, 6), column.type)
        if kind == 0:
            return call("op_isnull", column)
        if kind == 1:
            return gt(column, number)
        if kind == 2:
            return eq(column, number)
        if kind == 3:
            return InList(column, (number, lit(3, column.type)))
        if kind == 4:
            return call("op_<=", column, number)
        if kind in (5, 6):
            return both(self.predicate(relation, depth - 1), self.predicate(relation, depth - 1))
        if kind == 7:
            return either(self.predicate(relation, depth - 1), self.predicate(relation, depth - 1))
        return negated(self.predicate(relation, depth - 1))

    def filtered(self, depth: int) -> Relation:
        child = self.relation(depth)
        return Filter(child, self.predicate(child))

    def computed(self, depth: int) -> Relation:
        child = self.relation(depth)
        kept = self.chance.sample(self.columns(child), self.chance.randint(1, len(self.columns(child))))
        column = self.column(child)
        items = [Item(next(self.b.ids), "same", c) for c in kept]
        items.append(Item(next(self.b.ids), "plus", call("op_+", column, lit(1, column.type), to=column.type)))
        return Project(child, tuple(items))

    def grouped(self, depth: int) -> Relation:
        child = self.relation(depth)
        keys = self.chance.sample(self.columns(child), self.chance.randint(0, min(2, len(self.columns(child)))))
        items = [Item(next(self.b.ids), "n", count_all())]
        for name, result in (("max", INTEGER), ("count", BIGINT)):
            column = self.column(child)
            if self.chance.random() < 0.6:
                made = aggregate(name, column, column.type if name == "max" else result)
                items.append(Item(next(self.b.ids), name, made))
        if self.chance.random() < 0.3:
            column = self.column(child)
            items.append(Item(next(self.b.ids), "different", aggregate("count", column, BIGINT, distinct=True)))
            if self.chance.random() < 0.5:
                items = items[-1:]
        return Aggregation(child, tuple(Item(next(self.b.ids), k.name, k) for k in keys), tuple(items))

    def distinct(self, depth: int) -> Relation:
        child = self.relation(depth)
        keys = self.chance.sample(self.columns(child), self.chance.randint(1, min(2, len(self.columns(child)))))
        return Aggregation(child, tuple(Item(next(self.b.ids), k.name, k) for k in keys), ())

    def joined(self, depth: int) -> Relation:
        left, right = self.relation(depth), self.relation(self.chance.randint(0, depth))
        kind = self.chance.choice(["inner", "inner", "left", "right", "full", "semi", "anti", "cross"])
        if kind == "cross":
            one, other = self.of_one_type(left, right)
            return Filter(Join("cross", left, right, None), eq(one, other))
        one, other = self.of_one_type(left, right)
        condition: Expression = eq(one, other) if self.chance.random() < 0.8 else gt(one, other)
        if self.chance.random() < 0.4:
            condition = both(condition, self.predicate(self.chance.choice([left, right]), 1))
        return Join(kind, left, right, condition)

    def of_one_type(self, left: Relation, right: Relation) -> tuple[Expression, Expression]:
        one, other = self.column(left), self.column(right)
        if one.type == other.type:
            return one, other
        return call("op_+", one, lit(0, BIGINT), to=BIGINT), call("op_+", other, lit(0, BIGINT), to=BIGINT)

    def top(self, depth: int) -> Relation:
        child = self.relation(depth)
        # All columns are keys, so that which rows are first is no question.
        keys = tuple(SortKey(Column(c.id, c.name, c.type), self.chance.random() < 0.5) for c in output_columns(child))
        offset = lit(self.chance.randint(0, 3), BIGINT) if self.chance.random() < 0.4 else None
        return Limit(Sort(child, keys), lit(self.chance.randint(0, 9), BIGINT), offset)

    def union(self, depth: int) -> Relation:
        kind = self.chance.choice(["union_all", "union_all", "union", "except", "intersect"])
        branches = []
        for _ in range(2):
            child = self.relation(depth)
            column = self.column(child)
            as_bigint = call("op_+", column, lit(0, BIGINT), to=BIGINT)
            branches.append(Project(child, (Item(next(self.b.ids), "u", as_bigint),)))
        columns = output_columns(Project(branches[0], (Item(next(self.b.ids), "u", lit(0, BIGINT)),)))
        return SetOperation(kind=kind, children=tuple(branches), columns=columns)

    def numbered(self, depth: int) -> Relation:
        child = self.relation(depth)
        partition = (self.column(child),) if self.chance.random() < 0.7 else ()
        keys = tuple(SortKey(Column(c.id, c.name, c.type)) for c in output_columns(child))
        window = Window("row_number", (), INTEGER, partition, keys)
        return WindowCalculation(child, (Item(next(self.b.ids), "r", window),))

    def subquery(self, depth: int) -> Relation:
        left, right = self.relation(depth), self.relation(self.chance.randint(0, depth))
        kind = self.chance.choice(["exists", "any", "all", "scalar"])
        new = next(self.b.ids)
        if self.chance.random() < 0.6:
            inner, outer = self.of_one_type(right, left)
            right = Filter(right, eq(inner, self.as_outer(outer)))
        result = BOOLEAN
        operand, operator = None, None
        value = Project(right, (Item(next(self.b.ids), "v", self.column(right)),))
        if kind == "scalar":
            result = BIGINT
            right = Aggregation(right, (), (Item(next(self.b.ids), "n", count_all()),))
        elif kind in ("any", "all"):
            operand, column = self.of_one_type(left, right)
            right = Project(right, (Item(next(self.b.ids), "v", column),))
            operator = self.chance.choice(["op_=", "op_=", "op_<>", "op_>"])
        else:
            right = value
        apply = Apply(
            kind=kind, left=left, right=right, id=new, name="sub", type=result, operand=operand, operator=operator
        )
        answer = Column(new, "sub", result)
        if kind == "scalar":
            return apply
        predicate: Expression = negated(answer) if self.chance.random() < 0.5 else answer
        if self.chance.random() < 0.3:
            predicate = either(predicate, self.predicate(left, 1))
        kept = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in output_columns(left))
        return Project(Filter(apply, predicate), kept)

    def as_outer(self, expression: Expression) -> Expression:
        return transform(
            expression, lambda node: OuterColumn(node.id, node.name, node.type) if isinstance(node, Column) else node
        )
