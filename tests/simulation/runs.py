"""Many seeds on many cores, and what came of them. The test suite and ``make sim`` call the same functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from tests.lifeline import end_with
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.history import History, explore, nodes_of
from tests.simulation.kernel import KernelExplorer
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.trio_host import explore_on_trio

KERNEL_STEPS: Final = 3_000
CLUSTER_S: Final = 300.0
TRIO_S: Final = 120.0
#: Seeds a mutant may live: an explorer that needs more is blind for it.
MUTANT_SEEDS_MAX: Final = {"kernel": 3_000, "cluster": 60}
_ROOT: Final = Path(__file__).parents[2]


@dataclass(slots=True)
class Tally:
    """Passed and failed things, the failures in words, and one line of figures."""

    figures: str = ""
    passed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return len(self.failures)


def make_cluster(seed: int, mutant: Mutant | None = None, *, story_length: int = 200) -> SimulatedCluster:
    """The cluster of a seed: its size, and whether one node only holds data."""
    nodes = nodes_of(seed)
    data_only = 1 if nodes > 3 and seed % 3 == 0 else 0
    cluster = SimulatedCluster(seed=seed, nodes=nodes, data_only=data_only, story_length=story_length)
    if mutant is not None:
        cluster.store = mutant.store
    return cluster


# --- one seed, in whatever process -----------------------------------------------------------------------------------


def _kernel_seed(seed: int) -> tuple[int, str]:
    try:
        return KernelExplorer(seed).run(KERNEL_STEPS), ""
    except AssertionError as error:
        return 0, f"kernel seed {seed}: {error or 'the check of the kernel itself'}"


def _cluster_seed(seed: int) -> tuple[History | None, str]:
    cluster = make_cluster(seed)
    try:
        return explore(seed, seconds=CLUSTER_S, cluster=cluster), ""
    except AssertionError as error:
        story = "\n    ".join(cluster.checker.story)
        return None, f"cluster seed {seed}: {error} (python -m tests.simulation replay {seed})\n    {story}"


def _trio_seed(seed: int) -> tuple[History | None, str]:
    try:
        return explore_on_trio(seed, seconds=TRIO_S, nodes=3 if seed % 2 else 5), ""
    except (AssertionError, ExceptionGroup) as error:
        return None, f"trio seed {seed}: {error!r}"


def _mutant_fate(name: str, explorer: str) -> tuple[int | None, str]:
    """(the seed that finds the mutant, what it says)."""
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    with mutant.change():
        for seed in range(MUTANT_SEEDS_MAX[explorer]):
            try:
                if explorer == "kernel":
                    KernelExplorer(seed, store=mutant.store).run(KERNEL_STEPS)
                else:
                    explore(seed, seconds=CLUSTER_S, cluster=make_cluster(seed, mutant))
            except AssertionError as error:
                return seed, str(error) or "the kernel's own check"
    return None, ""


# --- many ------------------------------------------------------------------------------------------------------------


def _on_all_cores(
    function: Callable[..., Any], *arguments: Any, is_told: bool = False, what: str = ""
) -> Iterator[Any]:
    total, done, told = len(arguments[0]), 0, time.perf_counter()
    # Fresh processes: what a mutant changed must not be inherited, and threads do not survive a fork.
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    ) as pool:
        for result in pool.map(function, *arguments, chunksize=max(1, min(50, total // 16))):
            done += 1
            if is_told and time.perf_counter() - told > 10:
                told = time.perf_counter()
                print(f"  {what}: {done:,} of {total:,}", flush=True)
            yield result


def explore_kernel(seeds: int, *, is_told: bool = False) -> Tally:
    tally, commits = Tally(), 0
    for committed, failure in _on_all_cores(_kernel_seed, range(seeds), is_told=is_told, what="kernel seeds"):
        commits += committed
        _count(tally, failure, is_told=is_told)
    tally.figures = f"kernel {seeds * KERNEL_STEPS:,} steps in {seeds:,} seeds, {commits:,} commits"
    return tally


def explore_cluster(seeds: int, *, is_told: bool = False) -> Tally:
    tally, histories = Tally(), []
    for history, failure in _on_all_cores(_cluster_seed, range(seeds), is_told=is_told, what="cluster seeds"):
        _count(tally, failure, is_told=is_told)
        if history is not None:
            histories.append(history)
    hours = sum(h.simulated_s for h in histories) / 3600
    tally.figures = (
        f"cluster {seeds:,} seeds, {hours:.1f} simulated hours, {sum(h.messages for h in histories):,} messages, "
        f"{sum(h.crashes for h in histories):,} crashes, {sum(h.elections for h in histories):,} elections, "
        f"{sum(h.acknowledged for h in histories):,} acknowledged"
    )
    return tally


def explore_trio(seeds: int, *, is_told: bool = False) -> Tally:
    tally, histories = Tally(), []
    for history, failure in _on_all_cores(_trio_seed, range(seeds), is_told=is_told, what="trio seeds"):
        _count(tally, failure, is_told=is_told)
        if history is not None:
            histories.append(history)
    hours = sum(h.simulated_s for h in histories) / 3600
    tally.figures = f"trio {seeds:,} seeds, {hours:.1f} simulated hours"
    return tally


def find_mutants() -> Tally:
    """Every mutant must be found by at least one of the explorers that are asked."""
    tally = Tally()
    cases = [(mutant.name, explorer) for mutant in MUTANTS for explorer in mutant.explorers[:1]]
    fates = _on_all_cores(_mutant_fate, [name for name, _ in cases], [explorer for _, explorer in cases])
    worst = 0
    for (name, explorer), (seed, _) in zip(cases, fates, strict=True):
        _count(tally, "" if seed is not None else f"mutant {name} lives: {explorer} does not find it")
        worst = max(worst, seed or 0)
    tally.figures = f"{tally.passed} of {len(cases)} mutants found, the last at seed {worst}"
    return tally


def run_digests(first: int, count: int) -> list[str]:
    lines = [
        f"{seed} {explore(seed, seconds=60.0, cluster=make_cluster(seed)).digest}"
        for seed in range(first, first + count)
    ]
    lines += [
        f"trio {seed} {explore_on_trio(seed, seconds=30.0).digest}"
        for seed in range(first, first + max(1, count // 10))
    ]
    return lines


def replay_elsewhere(count: int) -> Tally:
    """The same seeds in another process with another hash seed give the same events, bit for bit."""
    tally = Tally()
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", "tests.simulation", "digests", "0", str(count)]
    with subprocess.Popen(command, env=environment, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as other:
        here = run_digests(0, count)
        assert other.stdout is not None
        there = other.stdout.read().splitlines()
    for mine, theirs in zip(here, there, strict=True):
        _count(tally, "" if mine == theirs else f"not the same in another process: {mine} and {theirs}")
    tally.figures = f"{tally.passed} seeds replayed in another process"
    return tally


def _count(tally: Tally, failure: str, *, is_told: bool = False) -> None:
    if failure:
        tally.failures.append(failure)
        if is_told:  # the end may be half an hour away
            print(f"  FAILED {failure}", flush=True)
    else:
        tally.passed += 1
