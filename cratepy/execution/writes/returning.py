"""RETURNING: the rows of a write as they were written (or, for DELETE, as they were), computed into a result.

In: pieces of written rows with their ids and versions. Out: batches in flight with one column per item, in the order the
rows had in the statement. Its own room because all four kinds of write end here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa

from cratepy.errors import CrateError
from cratepy.execution.engine.engine import Engine
from cratepy.execution.results import Result
from cratepy.execution.writes.expressions import columns_of, evaluate
from cratepy.execution.writes.layout import TableLayout
from cratepy.model.arrow import from_arrow, to_arrow
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.schema import SYSTEM_COLUMNS
from cratepy.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRows:
    """Rows that were written: their places in the statement, columns by oid, ids and (seq_no, primary term, version).

    ``columns`` may have system columns, too, by their ids; they go before what follows from ids and versions.
    """

    positions: Sequence[int]
    columns: dict[int, pa.Array]
    ids: Sequence[str]
    versions: Sequence[tuple[int, int, int] | None]

    def moved(self, rows: int) -> WrittenRows:
        """The same rows, counted from further on."""
        return replace(self, positions=[position + rows for position in self.positions]) if rows else self


def returning_columns(items: tuple[Item, ...]) -> tuple[OutputColumn, ...]:
    return tuple(OutputColumn(item.id, item.name, item.expression.type) for item in items)


def returning_result(
    items: tuple[Item, ...],
    pieces: Sequence[WrittenRows],
    layout: TableLayout,
    engine: Engine,
    context: StatementContext,
) -> Result:
    """The result set of a write with RETURNING."""
    batches = [_computed(items, piece, layout, engine, context) for piece in pieces]
    positions = [position for piece in pieces for position in piece.positions]
    order = sorted(range(len(positions)), key=positions.__getitem__)
    if order != list(range(len(positions))):
        # Upserts: pieces interleave. Rows are put in order by slicing: views of text have no take kernel.
        whole = pa.concat_batches(batches)
        batches = [pa.concat_batches([whole.slice(place, 1) for place in order])]
    return Result(columns=returning_columns(items), batches=[batch for batch in batches if batch.num_rows])


def _computed(
    items: tuple[Item, ...], piece: WrittenRows, layout: TableLayout, engine: Engine, context: StatementContext
) -> pa.RecordBatch:
    columns = dict(piece.columns)
    for key, column in columns_of(items).items():
        if column.name in SYSTEM_COLUMNS and key not in layout.by_oid and key not in columns:
            columns[key] = to_arrow(_system_values(column.name, piece, layout), column.type)
    errors: dict[int, CrateError] = {}
    arrays = evaluate(engine, items, columns, len(piece.ids), context, errors)
    if errors:
        raise errors[min(errors)]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{item.id}" for item in items])


def _system_values(name: str, piece: WrittenRows, layout: TableLayout) -> list[Any]:
    match name:
        case "_id" | "_uid":
            return list(piece.ids)
        case "_seq_no":
            return [None if version is None else version[0] for version in piece.versions]
        case "_primary_term":
            return [None if version is None else version[1] for version in piece.versions]
        case "_version":
            return [None if version is None else version[2] for version in piece.versions]
        case "_doc":
            return _documents(piece, layout)
        case "_raw":
            return [msgspec.json.encode(document).decode() for document in _documents(piece, layout)]
        case _:
            return [None] * len(piece.ids)


def _documents(piece: WrittenRows, layout: TableLayout) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = [{} for _ in piece.ids]
    for column in layout.columns:
        array = piece.columns.get(column.oid)
        if array is None:
            continue
        for document, value in zip(documents, from_arrow(array, column.type), strict=True):
            if value is not None:
                document[column.name] = value
    return documents
