"""How many rows an operator gives, as far as anybody knows.

In: row counts of tables (uuid → rows), if the caller has them. Out: an upper bound or a fair guess, or None for unknown.
The only decisions made with it are where rows travel (broadcast or partition), never what a plan answers. What unknown means
is the asker's choice: rows as they are (joins, DISTINCT, whole groups) count as many, because broadcasting or gathering too
many can exhaust a node; groups that every node has made already count as few, because partitioning them costs a hop.
Filters do not lower the estimate, because nothing is known about values yet: it is the broadcast's safety that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from cratepy import limits
from cratepy.model.expressions import Literal
from cratepy.model.relations import (
    Aggregation,
    Apply,
    Join,
    Limit,
    RecursiveQuery,
    Relation,
    Scan,
    SetOperation,
    SystemScan,
    Values,
    children,
)
from cratepy.records import dataclass

#: What a system table is taken for: they are the size of the schema or of the cluster.
SYSTEM_TABLE_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Estimates:
    """Row counts of the tables of a statement."""

    table_rows: Mapping[str, int] = field(default_factory=dict)

    def rows(self, relation: Relation) -> int | None:
        """Rows the relation gives at most, or None."""
        match relation:
            case Scan():
                known = self.table_rows.get(relation.table_uuid)
                return relation.limit if known is None else known
            case SystemScan():
                return SYSTEM_TABLE_ROWS
            case Values():
                return len(relation.rows)
            case Aggregation(keys=()):
                return 1
            case Limit():
                return self._limited(relation)
            case Join():
                return self._joined(relation)
            case Apply():
                return self.rows(relation.left)
            case SetOperation():
                return self._sum(relation.children)
            case RecursiveQuery():
                return None
            case _:
                below = children(relation)
                return self.rows(below[0]) if len(below) == 1 else None

    def is_small(self, relation: Relation) -> bool:
        """Whether all its rows may be given to every node, or to one."""
        rows = self.rows(relation)
        return rows is not None and rows <= limits.BROADCAST_ROWS_MAX

    def is_large(self, relation: Relation) -> bool:
        """Whether it may have more groups than one node should merge for all."""
        rows = self.rows(relation)
        return rows is not None and rows > limits.GATHERED_ROWS_MAX

    def _limited(self, limit: Limit) -> int | None:
        below = self.rows(limit.child)
        if isinstance(limit.count, Literal) and isinstance(limit.count.value, int):
            return limit.count.value if below is None else min(below, limit.count.value)
        return below

    def _joined(self, join: Join) -> int | None:
        left, right = self.rows(join.left), self.rows(join.right)
        if join.kind in ("semi", "anti"):
            return left
        if left is None or right is None:
            return None
        # An equi-join mostly follows a key of one side.
        return left * right if join.kind == "cross" else max(left, right)

    def _sum(self, relations: tuple[Relation, ...]) -> int | None:
        total = 0
        for relation in relations:
            rows = self.rows(relation)
            if rows is None:
                return None
            total += rows
        return total
