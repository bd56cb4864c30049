"""A subscript of a stored object is a column of the scan wherever its object comes unchanged from there."""

from __future__ import annotations

from cratepy.model.expressions import Aggregate, Call, Column, Expression, Literal, SortKey
from cratepy.model.names import RelationName
from cratepy.model.relations import (
    Aggregation,
    Filter,
    Item,
    Join,
    OutputColumn,
    Project,
    Relation,
    Scan,
    ScanColumn,
    SetOperation,
    Sort,
    output_columns,
)
from cratepy.model.types import BIGINT, BOOLEAN, TEXT, DataType, Field, array_of, object_of
from cratepy.sql.plan.optimizer import apply_rules
from cratepy.sql.plan.rules.leaves import take_leaves
from cratepy.sql.plan.walk import expressions_of, nodes, operators

INNER = object_of((Field("c", TEXT),))
IGNORED = object_of((Field("k", BIGINT),), "ignored")
TYPE = object_of((Field("a", BIGINT), Field("b", INNER), Field("i", IGNORED), Field("l", array_of(INNER))))
OBJ = Column(1, "o", TYPE)
N = Column(2, "n", BIGINT)
P = Column(3, "p", TYPE)


def scan(*columns: Column) -> Scan:
    found = tuple(ScanColumn(c.id, c.name, c.type, f"c{c.id + 4}") for c in columns)
    return Scan(table_uuid="t", table=RelationName("doc", "t"), columns=found)


def part(base: Expression, *path: str, to: DataType) -> Expression:
    for i, key in enumerate(path):
        last = i == len(path) - 1
        base = Call("subscript", (base, Literal(key, TEXT)), to if last else INNER)
    return base


def equal(left: Expression, value: object) -> Call:
    return Call("op_=", (left, Literal(value, left.type)), BOOLEAN)


def sources(relation: Relation) -> list[str]:
    return [column.source for node in operators(relation) if isinstance(node, Scan) for column in node.columns]


def subscripts(relation: Relation) -> int:
    return sum(
        isinstance(node, Call) and node.function == "subscript"
        for operator in operators(relation)
        for expression in expressions_of(operator)
        for node in nodes(expression)
    )


def item(number: int, expression: Expression) -> Item:
    return Item(number, f"x{number}", expression)


def test_filters_projections_groups_and_sorts_read_leaves() -> None:
    filtered = Filter(scan(OBJ, N), equal(part(OBJ, "b", "c", to=TEXT), "x"))
    grouped = Aggregation(
        filtered,
        (item(10, part(OBJ, "a", to=BIGINT)),),
        (item(11, Aggregate("max", (part(OBJ, "l", "c", to=array_of(TEXT)),), array_of(TEXT))),),
    )
    for tree in (
        grouped,
        Project(filtered, (item(10, part(OBJ, "a", to=BIGINT)),)),
        Sort(filtered, (SortKey(part(OBJ, "a", to=BIGINT)),)),
    ):
        taken = take_leaves(tree)
        assert subscripts(taken) == 0
        assert output_columns(taken) == output_columns(tree)
    assert sorted(sources(apply_rules(grouped, []))) == ["c5['a']", "c5['b']['c']", "c5['l']['c']"]


def test_the_whole_object_stays_where_it_is_asked_for() -> None:
    tree = Filter(scan(OBJ), equal(part(OBJ, "a", to=BIGINT), 1))
    assert sorted(sources(apply_rules(tree, []))) == ["c5", "c5['a']"]


def test_a_leaf_is_one_column_however_often_it_is_named() -> None:
    both = Call("op_and", (equal(part(OBJ, "a", to=BIGINT), 1), equal(part(OBJ, "a", to=BIGINT), 2)), BOOLEAN)
    tree = Project(Filter(scan(OBJ), both), (item(10, part(OBJ, "a", to=BIGINT)),))
    taken = take_leaves(tree)
    assert sources(taken).count("c5['a']") == 1
    again = take_leaves(Filter(taken, equal(Column(10, "x10", BIGINT), 1)))
    assert sources(again).count("c5['a']") == 1


def test_projections_on_the_way_pass_the_leaf_on() -> None:
    between = Project(scan(OBJ, N), (Item(1, "o", OBJ),))
    tree = Filter(between, equal(part(OBJ, "a", to=BIGINT), 1))
    taken = take_leaves(tree)
    assert subscripts(taken) == 0
    assert output_columns(taken) == output_columns(tree)


def test_both_sides_of_a_join_have_their_own_leaves() -> None:
    left, right = part(OBJ, "a", to=BIGINT), part(P, "a", to=BIGINT)
    tree = Join("left", scan(OBJ), scan(P), Call("op_=", (left, right), BOOLEAN))
    taken = take_leaves(Project(tree, (item(10, part(P, "b", "c", to=TEXT)),)))
    assert subscripts(taken) == 0
    assert sources(taken) == ["c5", "c5['a']", "c7", "c7['a']", "c7['b']['c']"]


def test_what_is_no_leaf_stays_a_subscript() -> None:
    for path, kind in ((("i", "k"), BIGINT), (("b",), INNER), (("a", "z"), BIGINT)):
        tree = Filter(scan(OBJ), equal(part(OBJ, *path, to=kind), None))
        assert take_leaves(tree) is tree


def test_above_a_group_or_a_union_of_objects_a_subscript_stays() -> None:
    grouped = Aggregation(scan(OBJ), (Item(1, "o", OBJ),), ())
    tree: Relation = Filter(grouped, equal(part(OBJ, "a", to=BIGINT), 1))
    assert take_leaves(tree) is tree
    union = SetOperation(kind="union_all", children=(scan(OBJ), scan(P)), columns=(OutputColumn(9, "o", TYPE),))
    tree = Filter(union, equal(part(Column(9, "o", TYPE), "a", to=BIGINT), 1))
    assert take_leaves(tree) is tree
