"""hyperloglog_distinct as the exact count of distinct values that it is here.

In: an aggregate. Out: ``count(DISTINCT x)`` if it is a hyperloglog_distinct of values that the engine tells apart, with a
precision that CrateDB takes; else the aggregate. Its own room because the planner (which splits distinct counts over the
nodes) and the engine (which knows the parameters) must decide alike.
"""

from __future__ import annotations

import msgspec

from cratepy.functions.aggregates import NATIVE_ORDER
from cratepy.functions.collectors import PRECISIONS
from cratepy.model.expressions import Aggregate, Call, Expression, Literal
from cratepy.model.types import BIGINT


def exact_count(aggregate: Aggregate) -> Aggregate:
    """The aggregate, as a count if it is one. A precision that is wrong is left to be told when rows are there."""
    if aggregate.function != "hyperloglog_distinct":
        return aggregate
    value, *precision = aggregate.arguments
    if not all(isinstance(one, Literal) and _is_valid(one.value) for one in precision):
        return aggregate
    distinct: Expression | None = None
    if value.type.kind in NATIVE_ORDER:
        distinct = value
    elif value.type.kind == "interval":
        distinct = Call("_interval_length", (value,), BIGINT)
    if distinct is None:
        return aggregate
    return msgspec.structs.replace(aggregate, function="count", arguments=(distinct,), is_distinct=True, order_by=())


def _is_valid(precision: object) -> bool:
    low, high = PRECISIONS
    return precision is None or (isinstance(precision, int) and low <= precision <= high)
