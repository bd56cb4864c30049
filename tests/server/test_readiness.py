"""What each level of readiness asks for."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from cratepy.cluster.allocation import start_shards
from cratepy.cluster.commands import apply
from cratepy.model.commands import CreateTable, StartedCopy
from cratepy.model.state import ClusterState
from cratepy.server.readiness import LEVELS, unready_reason
from tests.cluster.states import definition, node, with_nodes


@dataclass
class Facts:
    state: ClusterState
    is_joined: bool = True


EMPTY = with_nodes(ClusterState(version=1, master_id="a"), node("a"))
STARTING = apply(EMPTY, CreateTable(definition=definition(shards=1)))
SHARD = STARTING.tables["uuid-t"].routing[0]
COPY = StartedCopy(
    table_uuid="uuid-t", shard=0, allocation_id=SHARD.copies[0].allocation_id, primary_term=SHARD.primary_term
)
STARTED = start_shards(STARTING, [COPY])


@pytest.mark.parametrize(
    ("facts", "ready"),
    [
        (Facts(ClusterState(), is_joined=False), 0),
        (Facts(msgspec.structs.replace(STARTED, master_id=None)), 1),
        (Facts(STARTING), 2),
        (Facts(STARTED), 4),
    ],
)
def test_a_level_includes_those_before_it(facts: Facts, ready: int) -> None:
    assert [unready_reason(facts, level) is None for level in LEVELS] == [True] * ready + [False] * (4 - ready)


def test_the_reason_names_the_shard() -> None:
    assert unready_reason(Facts(STARTING), "green") == "shard [doc.t][0] has no started primary"
