"""SET: new values of rows from their newest versions.

In: images (the rows' columns at rest), the assignments of an UPDATE or ON CONFLICT, for the latter the proposed rows. Out: a
:class:`RowBlock` of whole new rows, checked, and the table's object columns that must grow first. Its own room because the
optimistic loop computes the same rows again whenever another writer was faster.

``o['a']['b'] = x`` sets a part: the objects above it are made if they are NULL; ``a[2] = x`` sets an element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from cratepy.errors import BadRequest, CrateError
from cratepy.execution.engine.engine import Engine
from cratepy.execution.writes.expressions import evaluate, is_deterministic
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.objects import fit_objects, guess_type, holds_objects
from cratepy.execution.writes.rows import RowBlock, check_columns, compare_generated, json_texts, run_checks
from cratepy.execution.writes.values import at_rest, column_of_raw_values, column_of_values, values_of
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Cast, Column, Expression, Literal, Parameter, SubqueryValue
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item
from cratepy.model.types import DataType, is_open
from cratepy.records import dataclass

_PART: Final = re.compile(r"\['((?:[^']|'')*)'\]|\[(-?\d+)\]")


@dataclass(frozen=True, slots=True)
class Changes:
    """What an UPDATE (or ON CONFLICT DO UPDATE) does to a row; Columns in items name table columns by oid."""

    assignments: tuple[Item, ...]
    generated: tuple[Item, ...]
    checks: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """An assignment's place: a column, or a part of it."""

    column: str
    path: tuple[str | int, ...]


def target_of(name: str, layout: TableLayout) -> Target:
    """``o['a'][1]`` → column ``o``, path ``a``, 1. A column whose own name has brackets is meant first."""
    found = _PART.search(name)
    if name in layout.position_by_name or found is None:
        return Target(name, ())
    start = found.start()
    path = tuple(int(index) if index else key.replace("''", "'") for key, index in _PART.findall(name[start:]))
    return Target(name[:start], path)


def changed_rows(
    layout: TableLayout,
    image: Mapping[int, pa.Array],
    count: int,
    changes: Changes,
    engine: Engine,
    context: StatementContext,
    proposed: Mapping[int, pa.Array] | None = None,
    assigned: Sequence[pa.Array] | None = None,
) -> tuple[RowBlock, dict[str, DataType]]:
    """The new rows, and the new type per column that must be added or grow first (then the rows are not complete).

    ``proposed`` are columns of ``excluded``. ``assigned`` are the assignments' values if the caller has them already.
    """
    block = RowBlock(layout, count, dict(image))
    columns = dict(image)
    if proposed is not None:
        columns.update({-oid: array for oid, array in proposed.items()})
    values: Sequence[pa.Array | list[Any]] | None = assigned
    if values is None:
        values = _new_values(changes.assignments, columns, count, engine, context, block.errors)
    grown: dict[str, DataType] = {}
    parts: dict[str, list[tuple[tuple[str | int, ...], list[Any]]]] = {}
    for item, array in zip(changes.assignments, values, strict=True):
        target = target_of(item.name, layout)
        column = layout.find(target.column)
        if target.path or column is None or is_open(column.type) or holds_objects(column.type):
            new_values = _plain(array, item.expression, layout)
            parts.setdefault(target.column, []).append((target.path, new_values))
        elif item.expression.type.kind == "undefined":
            plain = _plain(array, item.expression, layout)
            block.columns[column.oid] = column_of_raw_values(plain, column.type, block.errors)
        else:
            block.columns[column.oid] = at_rest(array, column.type)
    for name, sets in parts.items():
        _set_parts(block, name, sets, grown)
    given = {item.name for item in changes.assignments}
    if grown:
        return block, grown
    for item, array in zip(
        changes.generated,
        evaluate(engine, changes.generated, block.columns, count, context, block.errors),
        strict=True,
    ):
        column = layout.column(item.name)
        computed = at_rest(array, column.type)
        if item.name in given and is_deterministic(item.expression):
            compare_generated(block, column, block.columns[column.oid], computed)
        block.columns[column.oid] = computed
    check_columns(block)
    run_checks(block, changes.checks, engine, context, shown=layout.columns)
    return block, grown


def _new_values(
    items: tuple[Item, ...],
    columns: dict[int, pa.Array],
    count: int,
    engine: Engine,
    context: StatementContext,
    errors: dict[int, CrateError],
) -> list[pa.Array | list[Any]]:
    """One array per assignment, or values if it has no type. Constants and columns never enter the engine."""
    computed = tuple(item for item in items if not _is_direct(item.expression))
    arrays = iter(evaluate(engine, computed, columns, count, context, errors))
    constants = iter(values_of([i.expression for i in items if is_constant(i.expression)], context))
    result: list[pa.Array | list[Any]] = []
    for item in items:
        expression = item.expression
        if is_constant(expression):
            value = next(constants)
            if expression.type.kind == "undefined":
                result.append([value] * count)
                continue
            one = column_of_values([value], expression.type)
            result.append(one if count == 1 else one.take(pa.array([0] * count)))
        elif _is_direct(expression):
            assert isinstance(expression, Column)
            array = columns.get(expression.id)
            result.append([None] * count if array is None else array)
        else:
            result.append(next(arrays))
    return result


def _is_direct(expression: Expression) -> bool:
    """Whether the engine has nothing to do: constants, and columns of no type yet (``excluded.new``)."""
    return is_constant(expression) or (isinstance(expression, Column) and is_open(expression.type))


def _plain(array: pa.Array | list[Any], expression: Expression, layout: TableLayout) -> list[Any]:
    """An assignment's values as SQL values."""
    if isinstance(array, list):
        return array
    data_type = expression.type
    if is_open(data_type) and isinstance(expression, Column):
        # What was proposed for a column that had no type when the statement was planned; it has one now.
        column = layout.find(expression.name)
        data_type = data_type if column is None else column.type
    return from_arrow(array, data_type) if array.type != pa.null() else [None] * len(array)


def is_constant(expression: Expression) -> bool:
    """Whether the value is the same for all rows and known without the engine."""
    while isinstance(expression, Cast):
        expression = expression.argument
    return isinstance(expression, Literal | Parameter | SubqueryValue)


def _set_parts(
    block: RowBlock,
    name: str,
    sets: list[tuple[tuple[str | int, ...], list[Any]]],
    grown: dict[str, DataType],
) -> None:
    column = block.layout.find(name)
    stored = None if column is None else block.columns.get(column.oid)
    values: list[Any] = [None] * block.count
    if column is not None and stored is not None:
        values = from_arrow(stored, column.type)
    for path, new_values in sets:
        for row, new_value in enumerate(new_values):
            try:
                values[row] = _with_part(values[row], path, new_value)
            except CrateError as error:
                block.errors.setdefault(row, error)
    if column is None or is_open(column.type):
        found = guess_type(values, name=name, errors=block.errors)
        if found.kind != "undefined" and (column is None or not is_open(found)):
            grown[name] = found
        elif column is not None:
            block.columns[column.oid] = column_of_raw_values(values, column.type, block.errors)
        return
    if not holds_objects(column.type):
        block.columns[column.oid] = column_of_raw_values(values, column.type, block.errors)
        return
    fitted, data_type = fit_objects(values, name=name, data_type=column.type, errors=block.errors)
    if data_type is not column.type:
        grown[name] = data_type
    if column.type.kind == "object":
        block.columns[column.oid] = json_texts(fitted)
    else:
        block.columns[column.oid] = column_of_values(fitted, column.type)


def _with_part(value: Any, path: tuple[str | int, ...], new_value: Any) -> Any:
    """The value with the part replaced; the old value is not changed."""
    if not path:
        return new_value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        elements = list(value) if isinstance(value, list) else []
        if not 1 <= step <= _ELEMENTS_MAX:
            raise BadRequest(f"Array index must be in range 1 to {_ELEMENTS_MAX}, got {step}")
        elements.extend([None] * (step - len(elements)))
        elements[step - 1] = _with_part(elements[step - 1], rest, new_value)
        return elements
    parts = dict(value) if isinstance(value, dict) else {}
    parts[step] = _with_part(parts.get(step), rest, new_value)
    return parts


#: Elements an array may have by setting one; PostgreSQL's MaxArraySize is of this order.
_ELEMENTS_MAX: Final = 1_000_000
