"""The best rows by score, without the engine: the usual search, ``ORDER BY _score DESC LIMIT 10`` on one node.

In: the relation of a query's only phase and the rows its scan gave, the best of each shard in order. Out: the answer, if the
query does no more than merge, cut and name them; the engine is the slower half of such a query otherwise (it plans a text).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cratepy.execution.batches import batch_of
from cratepy.execution.engine.constants import constant_values
from cratepy.model.arrow import arrow_schema
from cratepy.model.expressions import Column, Expression
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Limit, Project, Relation, Scan, Sort, output_columns

#: Merged by slices of one row, which is only cheaper than the engine for a page of results.
_ROWS_MAX = 256


@dataclass(frozen=True, slots=True)
class BestOf:
    """A query that is a merge of its scan's best rows. ``columns`` are the ids of its output among the scan's columns."""

    relation: Relation
    columns: tuple[int, ...]
    score: int
    count: Expression
    offset: Expression | None


def best_of(relation: Relation) -> BestOf | None:
    """How to answer the relation from the best rows of each shard; None if it asks for more."""
    top = relation
    columns = tuple(column.id for column in output_columns(top))
    if isinstance(top, Project):
        items = [item.expression for item in top.items]
        if not all(isinstance(item, Column) for item in items):
            return None
        columns = tuple(item.id for item in items if isinstance(item, Column))
        top = top.child
    match top:
        case Limit(child=Sort(child=Scan(best=best, filter=None), keys=(key,)), count=count, offset=offset) if (
            best is not None and not best.with_ties and count is not None and isinstance(key.expression, Column)
        ):
            return BestOf(relation, columns, key.expression.id, count, offset)
        case _:
            return None


def merged(plan: BestOf, batches: Sequence[pa.RecordBatch], context: StatementContext) -> pa.RecordBatch | None:
    """The answer from the batches of the shards; None if the engine has to see to it (many rows, odd counts)."""
    count, offset = constant_values([plan.count, plan.offset or plan.count], context)
    offset = offset if plan.offset is not None else 0
    offset = 0 if offset is None else offset
    if count is None or count < 0 or offset < 0 or sum(batch.num_rows for batch in batches) > _ROWS_MAX:
        return None
    name = f"c{plan.score}"
    ranked = sorted(
        (-score, number, row)
        for number, batch in enumerate(batches)
        for row, score in enumerate(batch.column(name).to_pylist())
    )[offset : offset + count]
    places = [(number, row) for _, number, row in ranked]
    if places and places == [(places[0][0], places[0][1] + i) for i in range(len(places))]:
        pieces = [batches[places[0][0]].slice(places[0][1], len(places))]
    else:
        pieces = [batches[number].slice(row, 1) for number, row in places]
    schema = arrow_schema(output_columns(plan.relation))
    if not pieces:
        return batch_of(schema, [pa.array([], field.type) for field in schema], 0)
    joined = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
    arrays = [joined.column(f"c{column}") for column in plan.columns]
    return batch_of(schema, arrays, joined.num_rows)
