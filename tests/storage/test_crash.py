"""Power cuts at every call to the disk, twice in a row: nothing acknowledged is lost, nothing unknown appears.

Method: run a seeded workload of writes, syncs, refreshes and flushes on the simulated disk, cut the power at call n,
let the disk settle at random, open again, compare with what was acknowledged; go on and cut once more. Source: fsync
discipline of SQLite's crash tests, applied to a shard.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cratepy import limits
from cratepy.errors import ShardFailed
from cratepy.storage import maintenance, segment
from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard, scanned
from tests.storage.simulated_disk import PowerCut, SimulatedDisk, SimulatedFile

DIRECTORY = Path("/data/indices/table-1/0/copy-1")


class History:
    """What may be true of each key: the acknowledged value, and values written after it but not acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int | None] = {}
        self.since: dict[str, list[int | None]] = {}

    def write(self, key: str, value: int | None) -> None:
        self.since.setdefault(key, []).append(value)

    def acknowledge(self) -> None:
        for key, values in self.since.items():
            self.acknowledged[key] = values[-1]
        self.since = {}

    def check(self, found: dict[str, int]) -> None:
        for key in self.acknowledged.keys() | self.since.keys() | found.keys():
            possible = [self.acknowledged.get(key), *self.since.get(key, [])]
            assert found.get(key) in possible, (key, found.get(key), possible)

    def restart(self, found: dict[str, int]) -> None:
        """What a restart shows is durable: opening has synced it."""
        self.acknowledged = dict(found)
        self.since = {}


def work(shard: Shard, history: History, chance: random.Random, steps: int, counter: list[int]) -> None:
    for _ in range(steps):
        action = chance.random()
        if action < 0.55:
            ids = chance.sample([f"k{i}" for i in range(8)], chance.randint(1, 3))
            values: dict[str, tuple[int, str]] = {}
            for key in ids:
                counter[0] += 1
                values[key] = (counter[0], "x" * chance.choice((0, 10, 600)))
                history.write(key, counter[0])
            shard.write(insert(values, kind="index"))
        elif action < 0.7:
            key = f"k{chance.randrange(8)}"
            if shard.get([key], [])[0] is not None:
                history.write(key, None)
                shard.write(delete(key))
        elif action < 0.85:
            shard.sync()
            history.acknowledge()
        elif action < 0.93:
            shard.refresh()
            while shard.merge():
                pass
        else:
            shard.flush()
            history.acknowledge()


def contents(shard: Shard) -> dict[str, int]:
    found = {row[0]: row[1] for row in scanned(shard, ("_id", "c1"))}
    assert len(found) == shard.row_count(), "an id twice"
    ids = sorted(found)
    assert [row and row[0] for row in shard.get(ids, ["c1"])] == [found[key] for key in ids]
    return found


def run_history(seed: int, cuts: tuple[int, ...]) -> bool:
    """False if the workload ended before the last cut."""
    chance = random.Random(seed)
    disk, history, counter = SimulatedDisk(), History(), [0]
    is_cut = False
    for cut in cuts:
        disk.cut_at = disk.calls + cut
        is_cut = False
        try:
            shard = open_shard(DIRECTORY, files=disk, seed=seed)
            found = contents(shard)
            history.check(found)
            history.restart(found)
            work(shard, history, chance, 25, counter)
            shard.close()
            history.acknowledge()
        except PowerCut:
            is_cut = True
        disk.power_cut(chance)
    shard = open_shard(DIRECTORY, files=disk, seed=seed)
    history.check(contents(shard))
    shard.write(insert({"last": (1, "")}, kind="index"))
    shard.flush()
    shard.verify()
    return is_cut


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_when_the_power_fails_at_any_call(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MERGE_SEGMENTS", 3)
    cut = 1 + seed
    while run_history(seed, (cut,)):
        cut += 2
    assert cut > 50


def test_nothing_is_lost_when_the_power_fails_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MERGE_SEGMENTS", 3)
    chance = random.Random(7)
    for seed in range(1_000, 1_150):
        run_history(seed, (chance.randint(1, 120), chance.randint(1, 80)))


def _never_synced(*_: object, **__: object) -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (SimulatedDisk, "sync_directory"),
        (SimulatedFile, "truncate"),
        (maintenance, "sync_segment"),
        (segment, "sync_file"),
    ],
)
def test_the_simulation_notices_a_step_left_out(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of the fsync discipline is there for a crash that the simulation finds."""
    monkeypatch.setattr(limits, "MERGE_SEGMENTS", 3)
    monkeypatch.setattr(owner, name, _never_synced)
    chance = random.Random(5)
    with pytest.raises((AssertionError, ShardFailed)):
        for seed in range(100):
            run_history(seed, (chance.randint(1, 120), chance.randint(1, 80)))


def test_a_failed_sync_is_never_followed_by_an_acknowledgement() -> None:
    """Each sync of the workload fails once; all that was acknowledged before is there after a power cut."""
    for failing in range(3, 40):
        chance = random.Random(failing)
        disk, history = SimulatedDisk(), History()
        shard = open_shard(DIRECTORY, files=disk)
        disk.syncs, disk.failing_sync = 0, failing
        try:
            work(shard, history, chance, 60, [0])
        except Exception:
            if shard.failure is None:
                raise
            disk.power_cut(chance)
            history.check(contents(open_shard(DIRECTORY, files=disk)))
