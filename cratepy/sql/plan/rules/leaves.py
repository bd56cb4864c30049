"""Leaves: a subscript of a stored object column is read as the column of its own that segments keep of it.

``o['a']['b']`` above a scan of ``o`` becomes a column of the scan with the source ``c5['a']['b']``; then filters,
groups and sorts by parts of objects never decode JSON, and statistics skip blocks by them. The whole object stays what it
is where it is asked for. A subscript goes as far down as its object is passed on unchanged; where it is not (above a
GROUP BY of the object, in a set operation) it stays a subscript. Which subscripts have a leaf: ``model.leaves``.
"""

from __future__ import annotations

from itertools import count

import msgspec

from cratepy.model.expressions import Call, Column, Expression, Literal
from cratepy.model.leaves import Leaf, leaf_at
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    ScanColumn,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.model.search import part_path
from cratepy.sql.plan.walk import (
    all_ids,
    expressions_of,
    is_passed_on,
    map_expressions,
    nodes,
    operators,
    passed_on,
    transform,
    with_children,
    with_output,
)

#: The object column's id and the keys below it.
Key = tuple[int, tuple[str, ...]]
_NOTHING: frozenset[Key] = frozenset()


def take_leaves(relation: Relation) -> Relation:
    """The tree with subscripts of stored objects as columns of their scans; the output is the same."""
    objects: dict[int, tuple[Scan, ScanColumn]] = {}
    for operator in operators(relation):
        if isinstance(operator, Scan):
            objects.update({column.id: (operator, column) for column in operator.columns if _is_object(column)})
    if not objects:
        return relation
    taken = _Taker(objects, relation).take(relation, _NOTHING)
    return relation if taken is relation else with_output(taken, output_columns(relation))


def _is_object(column: ScanColumn) -> bool:
    data_type = column.type.element or column.type
    return data_type.kind == "object" and column.source.startswith("c")


class _Taker:
    def __init__(self, objects: dict[int, tuple[Scan, ScanColumn]], relation: Relation) -> None:
        self._objects = objects
        self._ids = count(max(all_ids(relation), default=0) + 1)
        self._columns: dict[Key, ScanColumn | None] = {}
        self._available: dict[int, frozenset[int]] = {}

    def take(self, relation: Relation, wanted: frozenset[Key]) -> Relation:
        """The operator with its subscripts taken, giving the columns of ``wanted``, too."""
        match relation:
            case Scan():
                return self._scan(relation, wanted)
            case SystemScan() | TableFunction() | Values() | RecursiveReference() | ExchangeInput():
                return relation
            case Filter() | Sort() | Limit() | ProjectSet() | WindowCalculation() | Aggregation():
                own, keys = self._rewritten(relation)
                return with_children(own, [self.take(relation.child, wanted | keys)])
            case Project():
                return self._project(relation, wanted)
            case Join():
                own, keys = self._rewritten(relation)
                return self._with_children(relation, own, wanted | keys)
            case Apply():
                own, keys = self._rewritten(relation)
                left = self.take(relation.left, wanted | keys)
                return with_children(own, [left, self._alone(relation.right)])
            case SetOperation() | RecursiveQuery():
                return with_children(relation, [self._alone(child) for child in children(relation)])

    def _with_children(self, before: Join, own: Relation, keys: frozenset[Key]) -> Relation:
        sides = []
        for child in (before.left, before.right):
            available = self._passed(child)
            sides.append(self.take(child, frozenset(key for key in keys if key[0] in available)))
        return with_children(own, sides)

    def _alone(self, relation: Relation) -> Relation:
        """A tree whose columns are read by position, or by nobody."""
        return with_output(self.take(relation, _NOTHING), output_columns(relation))

    def _project(self, project: Project, wanted: frozenset[Key]) -> Relation:
        own, keys = self._rewritten(project)
        assert isinstance(own, Project)
        given = {item.id for item in own.items}
        added = []
        for key in sorted(wanted):
            column = self._column(key)
            assert column is not None
            if column.id not in given:
                added.append(passed_on(OutputColumn(column.id, column.name, column.type)))
        if added:
            own = Project(own.child, (*own.items, *added))
        return with_children(own, [self.take(project.child, wanted | keys)])

    def _scan(self, scan: Scan, wanted: frozenset[Key]) -> Relation:
        own, keys = self._rewritten(scan)
        assert isinstance(own, Scan)
        known = {column.id for column in scan.columns}
        added = [column for key in sorted(wanted | keys) if (column := self._column(key)) and column.id not in known]
        return msgspec.structs.replace(own, columns=(*own.columns, *added)) if added else own

    # --- expressions -------------------------------------------------------------------------------------------------

    def _rewritten(self, relation: Relation) -> tuple[Relation, frozenset[Key]]:
        """The operator's own expressions over leaves, and which these are."""
        found: set[Key] = set()
        below = [relation] if isinstance(relation, Scan) else list(children(relation))
        if isinstance(relation, Apply):
            below = [relation.left]
        available = frozenset[int]().union(*(self._passed(child) for child in below))
        if not available or not any(_has_subscript(expression) for expression in expressions_of(relation)):
            return relation, _NOTHING

        def change(node: Expression) -> Expression:
            key = _key(node)
            if key is None or key[0] not in available:
                return node
            column = self._column(key)
            if column is None or column.type != node.type:
                return node
            found.add(key)
            return Column(column.id, column.name, column.type)

        return map_expressions(relation, lambda expression: transform(expression, change)), frozenset(found)

    def _column(self, key: Key) -> ScanColumn | None:
        """The column of the scan that the key is, new or there already; None if it is no leaf."""
        if key not in self._columns:
            scan, base = self._objects[key[0]]
            leaf = leaf_at(base.source, base.type, key[1])
            self._columns[key] = None if leaf is None else self._of_leaf(scan, base, leaf)
        return self._columns[key]

    def _of_leaf(self, scan: Scan, base: ScanColumn, leaf: Leaf) -> ScanColumn:
        for column in scan.columns:
            if column.source == leaf.source:
                return column
        return ScanColumn(next(self._ids), part_path(base.name, *leaf.path), leaf.type, leaf.source)

    # --- what is passed on -------------------------------------------------------------------------------------------

    def _passed(self, relation: Relation) -> frozenset[int]:
        """Ids of the object columns whose leaves can be had in the operator's output."""
        found = self._available.get(id(relation))
        if found is None:
            found = self._available[id(relation)] = self._find_passed(relation)
        return found

    def _find_passed(self, relation: Relation) -> frozenset[int]:
        match relation:
            case Scan():
                return frozenset(column.id for column in relation.columns if column.id in self._objects)
            case Filter() | Sort() | Limit() | ProjectSet() | WindowCalculation():
                return self._passed(relation.child)
            case Project():
                below = self._passed(relation.child)
                return frozenset(item.id for item in relation.items if is_passed_on(item) and item.id in below)
            case Join():
                left = self._passed(relation.left)
                return left if relation.kind in ("semi", "anti") else left | self._passed(relation.right)
            case Apply():
                return self._passed(relation.left)
            case _:
                return frozenset()


def _has_subscript(expression: Expression) -> bool:
    return any(isinstance(node, Call) and node.function == "subscript" for node in nodes(expression))


def _key(expression: Expression) -> Key | None:
    """The column and the path of a subscript by names alone, else None."""
    path: list[str] = []
    while isinstance(expression, Call) and expression.function == "subscript":
        name = expression.arguments[1]
        if not isinstance(name, Literal) or not isinstance(name.value, str):
            return None
        path.append(name.value)
        expression = expression.arguments[0]
    if not path or not isinstance(expression, Column):
        return None
    return expression.id, tuple(reversed(path))
