"""A plan gives what its relation gives: every case, and many seeded random relations, run on an oracle.

Wherever the shards are and whatever is thought about sizes, the answer may not change.
"""

from __future__ import annotations

import random

import pytest

from cratepy.model.plan import QueryPlan
from cratepy.model.relations import Relation, Scan, SystemScan
from cratepy.sql.plan.lookups import as_count, as_get
from cratepy.sql.plan.walk import operators
from tests.sql.plan import test_physical
from tests.sql.plan.building import Builder, state
from tests.sql.plan.random_relations import random_relation
from tests.sql.plan.simulation import Cluster, multiset
from tests.sql.plan.test_physical import planned

SHARDS = 6
SIZES = {
    "unknown": {},
    "left small": {"uuid-ta": 10, "uuid-tb": 9_000_000, "uuid-tc": 10},
    "all large": {f"uuid-{name}": 9_000_000 for name in ("ta", "tb", "tc")},
}
STATES = {
    "one node": state(1, SHARDS),
    "three nodes": state(3, SHARDS),
    "all on another": state(3, SHARDS, only_on="n2"),
    "two shards": state(3, 2),
}
SITUATIONS = (
    ("one node", "unknown"),
    ("three nodes", "unknown"),
    ("three nodes", "left small"),
    ("three nodes", "all large"),
    ("all on another", "unknown"),
    ("two shards", "unknown"),
)
#: As many as take a few seconds; thousands were run once.
SEEDS = 16
#: Cases whose answer depends on the order in which rows come.
UNDETERMINED = {"limit", "top_n", "top_groups", "window", "global_window"}


def _check(relation: Relation) -> None:
    wanted: list[str] | None = None
    for where, sizes in SITUATIONS:
        plan = planned(relation, STATES[where], SIZES[sizes]).plan
        if not isinstance(plan, QueryPlan):
            continue
        cluster = Cluster(len(STATES[where].tables["uuid-ta"].routing))
        if wanted is None:
            wanted = multiset(cluster.answer(relation))
        assert multiset(cluster.execute(plan)) == wanted, f"{where}, sizes {sizes}"


@pytest.mark.parametrize("name", test_physical.CASES)
def test_case_gives_the_same_rows_however_it_is_distributed(name: str) -> None:
    relation = test_physical.CASES[name](Builder())
    if any(isinstance(node, SystemScan) for node in operators(relation)) or name in UNDETERMINED:
        pytest.skip("no system tables here, and a limit over ties may give any of them")
    _check(relation)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_relation_gives_the_same_rows_however_it_is_distributed(seed: int) -> None:
    _check(random_relation(random.Random(seed)))


def test_gets_and_counts_are_found_in_none_of_them_by_mistake() -> None:
    """Random relations have no pinned keys: what is taken for a get or a count would be wrong."""
    for seed in range(SEEDS):
        relation = random_relation(random.Random(seed))
        if sum(isinstance(node, Scan) for node in operators(relation)) > 1:
            assert as_get(relation, (), state(3)) is None
            assert as_count(relation, (), state(3)) is None
