"""Exchanges carry what is read: columns that no later phase names are dropped before the rows are sent.

The rules prune columns of the whole tree, but an operator may give more than was asked of it (a scan keeps the columns of its
filter). Inside a node that costs nothing; between nodes it would be bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cratepy.model.plan import HashPartition, Phase
from cratepy.model.relations import ExchangeInput, Relation, output_columns
from cratepy.sql.plan.rules.columns import prune_columns, remove_redundant_projects
from cratepy.sql.plan.walk import map_relations, operators, with_output


def narrow_exchanges(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """The same phases, each sending only what its reader reads. The last phase's output stays as it is."""
    narrowed = list(phases)
    for at in range(len(phases) - 1, -1, -1):
        # Readers stand after what they read, so this phase's own output is settled.
        phase = narrowed[at]
        relation = remove_redundant_projects(prune_columns(phase.relation))
        relation = map_relations(relation, lambda node: _with_keys(node, narrowed))
        relation = with_output(relation, output_columns(phase.relation))
        narrowed[at] = msgspec.structs.replace(phase, relation=relation)
        for node in operators(relation):
            if isinstance(node, ExchangeInput):
                source = narrowed[node.phase]
                sending = with_output(source.relation, node.columns)
                narrowed[node.phase] = msgspec.structs.replace(source, relation=sending)
    return tuple(narrowed)


def _with_keys(relation: Relation, phases: Sequence[Phase]) -> Relation:
    """An exchange input with the columns it was partitioned by, read or not: the sender needs them."""
    if not isinstance(relation, ExchangeInput):
        return relation
    source = phases[relation.phase]
    if not isinstance(source.output, HashPartition):
        return relation
    wanted = {column.id for column in relation.columns} | set(source.output.keys)
    columns = tuple(column for column in output_columns(source.relation) if column.id in wanted)
    return ExchangeInput(relation.phase, columns)
