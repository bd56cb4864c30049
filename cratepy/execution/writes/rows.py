"""Rows of a write while they are completed: defaults, generated columns, objects, constraints, ids, shards.

In: the target columns of an insert as arrays at rest (or objects as SQL values). Out: a :class:`RowBlock` whose good rows can
be written, and per bad row its error in CrateDB's words. Its own room because INSERT, COPY FROM, bulk requests, upserts
and updates all complete rows in the same order::

    objects fitted → defaults → generated columns → key not NULL → NOT NULL → lengths → analyzers → CHECK → _id → shard

Everything is done column-wise; a row that has failed keeps its place (as NULLs) until the block is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import CheckViolation, CrateError, NotNullViolation, SQLParseError
from cratepy.execution.engine.engine import Engine
from cratepy.execution.writes.expressions import evaluate, is_deterministic
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.values import at_rest, column_of_values, is_limited, limited, values_of
from cratepy.functions.casts import plain_text
from cratepy.model import compute as pc
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Literal
from cratepy.model.leaves import Leaf, split_path
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item
from cratepy.model.routing import composite_id, key_array, key_texts, shards_of
from cratepy.model.schema import ColumnDefinition
from cratepy.model.types import BOOLEAN
from cratepy.records import dataclass
from cratepy.storage.ids import IdArray
from cratepy.storage.leaves import shred
from cratepy.storage.text.fields import refused_rows


@dataclass(slots=True)
class RowBlock:
    """Rows on their way; ``columns`` are arrays at rest by oid, all ``count`` long; a missing column is all NULL."""

    layout: TableLayout
    count: int
    columns: dict[int, pa.Array]
    errors: dict[int, CrateError] = field(default_factory=dict)
    #: Rows (of a file) that do not name a column by its oid, though others do: their NULL was not given.
    absent: dict[int, frozenset[int]] = field(default_factory=dict)
    ids: Sequence[str] = ()
    shards: np.ndarray[Any, np.dtype[np.int64]] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def good_rows(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The places of the rows without an error; None if all are good."""
        if not self.errors:
            return None
        keep: np.ndarray[Any, np.dtype[np.bool_]] = np.ones(self.count, dtype=bool)
        keep[list(self.errors)] = False
        return np.flatnonzero(keep)

    def batch(self) -> pa.RecordBatch:
        """The rows as a batch at rest with every column of the table."""
        columns, count = self.columns, self.count
        arrays = [
            array
            if (array := columns.get(column.oid)) is not None
            else pa.nulls(count, self.layout.schema.field(i).type)
            for i, column in enumerate(self.layout.columns)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.layout.schema)


@dataclass(frozen=True, slots=True)
class Rules:
    """What completes the rows of a plan: its items, whose Columns name table columns by oid."""

    targets: tuple[str, ...]
    defaults: tuple[Item, ...]
    generated: tuple[Item, ...]
    checks: tuple[Item, ...]


def complete(
    block: RowBlock, rules: Rules, engine: Engine, context: StatementContext, take_ids: Callable[[int], list[str]]
) -> None:
    """Everything between the target columns and a row that can be written. Bad rows are added to ``block.errors``."""
    _add_defaults(block, rules, engine, context)
    _add_generated(block, rules, engine, context)
    _check_key(block)
    check_columns(block)
    run_checks(block, rules.checks, engine, context, shown=[block.layout.column(name) for name in rules.targets])
    _set_ids(block, take_ids)


# --- values that are computed ----------------------------------------------------------------------------------------


def _add_defaults(block: RowBlock, rules: Rules, engine: Engine, context: StatementContext) -> None:
    layout = block.layout
    computed: list[Item] = []
    of_parts = [item for item in rules.defaults if item.name not in layout.position_by_name]
    if of_parts:
        add_part_defaults(block, of_parts, engine, context)
    for item in rules.defaults:
        if item.name not in layout.position_by_name:
            continue
        column = layout.column(item.name)
        if column.oid in block.columns:
            continue
        if isinstance(item.expression, Literal) or block.count == 1:
            value = values_of((item.expression,), context)[0]
            block.columns[column.oid] = repeated(value, column, block.count)
        else:
            computed.append(item)
    for item, array in zip(
        computed, evaluate(engine, tuple(computed), {}, block.count, context, block.errors), strict=True
    ):
        column = layout.column(item.name)
        block.columns[column.oid] = at_rest(array, column.type)


def add_part_defaults(block: RowBlock, items: Sequence[Item], engine: Engine, context: StatementContext) -> None:
    """Defaults of parts, in objects that are there and do not name them."""
    for item in items:
        base, keys = split_path(item.name)
        column = block.layout.find(base)
        array = None if column is None else block.columns.get(column.oid)
        if column is None or array is None or array.null_count == block.count:
            continue
        if isinstance(item.expression, Literal) or block.count == 1:
            values = values_of((item.expression,), context) * block.count
        else:
            (computed,) = evaluate(engine, (item,), {}, block.count, context, block.errors)
            values = from_arrow(computed, item.expression.type)
        objects = from_arrow(array, column.type)
        for document, value in zip(objects, values, strict=True):
            for key in keys[:-1]:
                document = document.get(key) if isinstance(document, dict) else None
            if isinstance(document, dict):
                document.setdefault(keys[-1], value)
        block.columns[column.oid] = json_texts(objects)


def repeated(value: Any, column: ColumnDefinition, count: int) -> pa.Array:
    """The same SQL value ``count`` times, as a column at rest."""
    one = column_of_values([value], column.type)
    return one if count == 1 else one.take(pa.array(np.zeros(count, dtype=np.int64)))


def _add_generated(block: RowBlock, rules: Rules, engine: Engine, context: StatementContext) -> None:
    """Compute generated columns; a value that was given must be the computed one, unless that is by chance."""
    layout = block.layout
    wanted = [
        item
        for item in rules.generated
        if layout.column(item.name).oid not in block.columns or is_deterministic(item.expression)
    ]
    if not wanted:
        return
    arrays = evaluate(engine, tuple(wanted), block.columns, block.count, context, block.errors)
    for item, array in zip(wanted, arrays, strict=True):
        column = layout.column(item.name)
        computed = at_rest(array, column.type)
        given = block.columns.get(column.oid)
        if given is not None:
            compare_generated(block, column, given, computed)
        block.columns[column.oid] = computed


def compare_generated(block: RowBlock, column: ColumnDefinition, given: pa.Array, computed: pa.Array) -> None:
    """A value given for a generated column must be the one that is computed; an error of the row otherwise."""
    if given.equals(computed):
        return
    absent = block.absent.get(column.oid, frozenset())
    given_values, computed_values = from_arrow(given, column.type), from_arrow(computed, column.type)
    for row, (left, right) in enumerate(zip(given_values, computed_values, strict=True)):
        if left != right and row not in absent and not (left != left and right != right):
            message = (
                f"Given value {plain_text(left)} for generated column {column.name} does not match calculation "
                f"{column.generated_shown or column.generated_sql} = {plain_text(right)}"
            )
            block.errors.setdefault(row, SQLParseError(message))


# --- constraints -----------------------------------------------------------------------------------------------------


def _check_key(block: RowBlock) -> None:
    layout = block.layout
    for oid, leaf in zip(layout.key, layout.key_leaves, strict=True):
        for row in _rows_without(_key_column(block, oid, leaf), block.count):
            block.errors.setdefault(row, SQLParseError("A primary key value must not be NULL"))


def check_columns(block: RowBlock) -> None:
    """NOT NULL, the lengths of types, and texts that no index can take."""
    for column in block.layout.required:
        for row in _null_rows(block, column.oid):
            block.errors.setdefault(row, NotNullViolation(f'"{column.name}" must not be null'))
    for oid, array in block.columns.items():
        column = block.layout.by_oid[oid]
        if is_limited(column):
            block.columns[oid] = limited(array, column, block.errors)
    if block.layout.has_costly_analyzers:
        for row, error in refused_rows(block.layout.definition, block.columns, block.count):
            block.errors.setdefault(row, error)


def _null_rows(block: RowBlock, oid: int) -> Sequence[int]:
    return _rows_without(block.columns.get(oid), block.count)


def _key_column(block: RowBlock, oid: int, leaf: Leaf | None) -> pa.Array | None:
    """A column of the key, or the part of it that is in the key."""
    array = block.columns.get(oid)
    return array if array is None or leaf is None else shred(array, [leaf])[0]


def _rows_without(array: pa.Array | None, count: int) -> Sequence[int]:
    if array is None:
        return range(count)
    if not array.null_count:
        return ()
    rows: list[int] = pc.indices_nonzero(array.is_null()).to_pylist()
    return rows


def run_checks(
    block: RowBlock,
    checks: tuple[Item, ...],
    engine: Engine,
    context: StatementContext,
    *,
    shown: Sequence[ColumnDefinition],
) -> None:
    """CHECK constraints: false is a violation, NULL is not. ``shown`` are the columns whose values the message lists."""
    if not checks or len(block.errors) == block.count:
        return
    texts = {check.name: check.sql for check in block.layout.definition.checks}
    required = block.layout.definition.required_parts
    for item, array in zip(
        checks, evaluate(engine, checks, block.columns, block.count, context, block.errors), strict=True
    ):
        if array.type != pa.bool_():
            assert item.expression.type == BOOLEAN or array.null_count == block.count
            continue
        for row in pc.indices_nonzero(pc.fill_null(pc.invert(array), False)).to_pylist():
            if row not in block.errors and item.name in required:
                block.errors[row] = NotNullViolation(f'"{item.name}" must not be null')
            elif row not in block.errors:
                values = [_value(block, column, row) for column in shown]
                block.errors[row] = CheckViolation(
                    f"Failed CONSTRAINT {item.name} CHECK ({texts.get(item.name, item.name)}) "
                    f"for values: {plain_text(values)}"
                )


def _value(block: RowBlock, column: ColumnDefinition, row: int) -> Any:
    array = block.columns.get(column.oid)
    return None if array is None else from_arrow(array.slice(row, 1), column.type)[0]


# --- identity --------------------------------------------------------------------------------------------------------


def _set_ids(block: RowBlock, take_ids: Callable[[int], list[str]]) -> None:
    layout, errors = block.layout, block.errors
    is_big = block.count >= limits.WRITE_ARRAY_IDS_ROWS
    if not layout.key:
        block.ids = take_ids(block.count)
    elif len(layout.key) == 1 and is_big:
        array = _key_column(block, layout.key[0], layout.key_leaves[0])
        block.ids = IdArray(_text_array(array, layout.key_types[0], block.count))
    else:
        texts = [
            _texts(_key_column(block, oid, leaf), data_type, block.count)
            for oid, leaf, data_type in zip(layout.key, layout.key_leaves, layout.key_types, strict=True)
        ]
        if len(texts) == 1:
            block.ids = texts[0]
        else:
            position = layout.clustered_position
            block.ids = [composite_id(row, position) for row in zip(*texts, strict=True)]
    if is_big:
        block.ids = IdArray.of(block.ids)
    block.shards = shards_of(_routings(block), layout.definition)
    assert len(block.ids) == block.count or errors


def _routings(block: RowBlock) -> Sequence[str] | pa.StringArray:
    oid = block.layout.routing
    leaf = block.layout.routing_leaf
    array = None if oid is None else _key_column(block, oid, leaf)
    if oid is None or array is None:
        return block.ids.array if isinstance(block.ids, IdArray) else block.ids
    data_type = block.layout.by_oid[oid].type if leaf is None else leaf.type
    if not array.null_count and isinstance(block.ids, IdArray):
        return key_array(array, data_type)
    texts = _texts(array, data_type, block.count)
    if not array.null_count:
        return texts
    valid = array.is_valid().to_pylist()
    return [text if is_valid else row_id for text, row_id, is_valid in zip(texts, block.ids, valid, strict=True)]


def _texts(array: pa.Array | None, data_type: Any, count: int) -> list[str]:
    """Texts of a key column; NULLs (rows that failed, or route by id) have none."""
    if array is None:
        return [""] * count
    if not array.null_count:
        return key_texts(array, data_type)
    texts = [""] * count
    places = pc.indices_nonzero(array.is_valid())
    for place, text in zip(places.to_pylist(), key_texts(array.take(places), data_type), strict=True):
        texts[place] = text
    return texts


def _text_array(array: pa.Array | None, data_type: Any, count: int) -> pa.StringArray:
    """:func:`_texts` as an Arrow array."""
    if array is None:
        return pa.array([""] * count, pa.string())
    texts = key_array(array, data_type)
    return texts if not texts.null_count else pc.fill_null(texts, "")


def json_texts(values: Sequence[Any]) -> pa.Array:
    """Objects as a column at rest."""
    encode = msgspec.json.encode
    return pa.array([None if value is None else encode(value).decode() for value in values], type=pa.string())
