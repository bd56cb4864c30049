"""Fragments: pieces of a plan with the nodes they run on, and the exchanges between them.

A fragment is a relation that runs on every one of its nodes over what is there; together they give its rows. Growing one by
an operator that works row by row costs nothing; an operator that needs rows of other nodes cuts it: the fragment becomes a
phase, and an ExchangeInput stands for its rows in the next one. When a phase is closed its relation names the phases it
reads, so only then do those learn where their rows go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import Final

import msgspec

from cratepy.model.expressions import Column
from cratepy.model.plan import Broadcast, Gather, HashPartition, Output, Phase, ShardSource
from cratepy.model.relations import ExchangeInput, Item, Project, Relation, output_columns
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.walk import operators

#: Sets of columns with equal values: rows that agree on one column of each set are on one node.
Partitioning = tuple[frozenset[int], ...]

#: Kinds that are not partitioned by: equal floats may differ in their bits (0.0, -0.0), the others have no hash.
_UNHASHABLE_KINDS: Final = frozenset(
    {"real", "double precision", "array", "object", "geo_point", "geo_shape", "float_vector", "oidvector", "record"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """``nodes`` are sorted; none means that the relation gives the same rows wherever it runs, so it may run anywhere."""

    relation: Relation
    nodes: tuple[str, ...]
    shards: tuple[ShardSource, ...] = ()
    partitioning: Partitioning | None = None
    #: Every row comes from one stored row: on a node without shards of the table it gives nothing.
    is_row_local: bool = False

    @property
    def is_anywhere(self) -> bool:
        return not self.nodes

    @property
    def is_together(self) -> bool:
        """Whether all its rows are in one place."""
        return len(self.nodes) <= 1


@dataclass(slots=True)
class Workshop:
    """What is needed to cut fragments, and the phases closed so far; one per query."""

    state: ClusterState
    handler_id: str
    estimates: Estimates
    new_id: Callable[[], int]
    phases: list[Phase] = field(default_factory=list)
    _outputs: dict[int, Gather | HashPartition | Broadcast] = field(default_factory=dict)

    def close(self, fragment: Fragment, output: Output | None) -> Phase:
        """Make the fragment a phase. The output's own phase number is filled in when its reader is closed."""
        phase = Phase(
            id=len(self.phases),
            nodes=fragment.nodes or (self.handler_id,),
            relation=fragment.relation,
            output=output,
            shards=fragment.shards,
        )
        for node in operators(fragment.relation):
            if isinstance(node, ExchangeInput):
                source = self.phases[node.phase]
                assert source.output is not None
                addressed = msgspec.structs.replace(source.output, phase=phase.id)
                self.phases[node.phase] = msgspec.structs.replace(source, output=addressed)
        self.phases.append(phase)
        return phase

    def _sent(self, fragment: Fragment, output: Output) -> ExchangeInput:
        phase = self.close(fragment, output)
        return ExchangeInput(phase.id, output_columns(fragment.relation))

    def at_handler(self, fragment: Fragment) -> Fragment:
        """All rows on the handler."""
        if fragment.is_anywhere:
            return replace(fragment, nodes=(self.handler_id,))
        if fragment.nodes == (self.handler_id,):
            return fragment
        return Fragment(relation=self._sent(fragment, Gather(_LATER)), nodes=(self.handler_id,))

    def together(self, fragment: Fragment) -> Fragment:
        """All rows in one place: where they are if that is one node already, else the handler."""
        return fragment if fragment.is_together else self.at_handler(fragment)

    def partitioned(self, fragment: Fragment, keys: Sequence[int], nodes: tuple[str, ...]) -> Fragment:
        """Rows with equal keys on one of the nodes."""
        sent = self._sent(fragment, HashPartition(_LATER, tuple(keys)))
        return Fragment(relation=sent, nodes=nodes, partitioning=tuple(frozenset({key}) for key in keys))

    def broadcast(self, fragment: Fragment) -> ExchangeInput:
        """All rows on every node of the fragment that reads the exchange."""
        return self._sent(fragment, Broadcast(_LATER))


#: The reading phase is not closed yet.
_LATER: Final = -1


def grown(fragment: Fragment, relation: Relation) -> Fragment:
    """The fragment with row-by-row operators put on top: same nodes, partitioned by what is left of its keys."""
    return replace(fragment, relation=relation, partitioning=_carried(fragment.partitioning, relation))


def _carried(partitioning: Partitioning | None, relation: Relation) -> Partitioning | None:
    """The partitioning in the columns of the relation; None if one of its keys is not given any more."""
    if partitioning is None:
        return None
    given = {column.id: {column.id} for column in output_columns(relation)}
    if isinstance(relation, Project):
        given = {}
        for item in relation.items:
            if isinstance(item.expression, Column):
                given.setdefault(item.expression.id, set()).add(item.id)
    carried = tuple(frozenset(new for old in key for new in given.get(old, ())) for key in partitioning)
    return carried if all(carried) else None


def merged_shards(fragments: Sequence[Fragment]) -> tuple[ShardSource, ...]:
    """The shards that any of the fragments reads, each source once, in a fixed order."""
    found = {source for fragment in fragments for source in fragment.shards}
    return tuple(sorted(found, key=lambda source: (source.node_id, source.table_uuid)))


def is_partitionable(data_type: DataType) -> bool:
    """Whether equal values of the type surely have equal hashes."""
    return data_type.kind not in _UNHASHABLE_KINDS


def computed(fragment: Fragment, items: Sequence[Item]) -> Fragment:
    """The fragment giving these columns in addition."""
    if not items:
        return fragment
    passed = tuple(Item(c.id, c.name, Column(c.id, c.name, c.type)) for c in output_columns(fragment.relation))
    return grown(fragment, Project(fragment.relation, (*passed, *items)))
