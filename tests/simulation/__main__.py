"""``python -m tests.simulation``: the proofs of coordination, as long as wanted, and single seeds again with their story.

    python -m tests.simulation                      everything, SCALE times what the test suite does (default 100)
    python -m tests.simulation kernel|cluster|trio|mutants|determinism
    python -m tests.simulation replay SEED [MUTANT] one history of the cluster simulation, told to the end
    python -m tests.simulation kernel-replay SEED [MUTANT]
    python -m tests.simulation digests FIRST COUNT  what the determinism check compares between two processes

Runs on every core. Ends with one line of figures and ``N passed, N failed``; exit status 1 if anything failed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.history import nodes_of
from tests.simulation.kernel import KernelExplorer
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.runs import (
    CLUSTER_S,
    Tally,
    explore_cluster,
    explore_kernel,
    explore_trio,
    find_mutants,
    make_cluster,
    replay_elsewhere,
    run_digests,
)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit status."""
    command = arguments[0] if arguments else "all"
    match command:
        case "replay":
            return _replay(int(arguments[1]), _mutant(arguments[2:]))
        case "kernel-replay":
            return _replay_kernel(int(arguments[1]), _mutant(arguments[2:]))
        case "digests":
            print("\n".join(run_digests(int(arguments[1]), int(arguments[2]))))
            return 0
        case "all" | "kernel" | "cluster" | "trio" | "mutants" | "determinism":
            return _prove(command)
        case _:
            print(__doc__)
            return 2


def _prove(command: str) -> int:
    scale = float(os.environ.get("SCALE", "100"))
    started = time.perf_counter()
    tallies: list[Tally] = []
    if command in ("all", "kernel"):
        tallies.append(_told(explore_kernel(round(1_000 * scale), is_told=True)))
    if command in ("all", "cluster"):
        tallies.append(_told(explore_cluster(round(200 * scale), is_told=True)))
    if command in ("all", "trio"):
        tallies.append(_told(explore_trio(max(1, round(4 * scale)), is_told=True)))
    if command in ("all", "mutants"):
        tallies.append(_told(find_mutants()))
    if command in ("all", "determinism"):
        tallies.append(_told(replay_elsewhere(50)))
    passed, failed = sum(t.passed for t in tallies), sum(t.failed for t in tallies)
    print(f"coordination: {'; '.join(t.figures for t in tallies)}; {time.perf_counter() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _told(tally: Tally) -> Tally:
    print(f"{tally.figures}: {tally.passed} passed, {tally.failed} failed", flush=True)
    for failure in tally.failures:
        print(f"  {failure}")
    return tally


def _mutant(names: Sequence[str]) -> Mutant:
    for mutant in MUTANTS:
        if mutant.name in names:
            return mutant
    return Mutant("none", "the product as it is")


def _replay(seed: int, mutant: Mutant) -> int:
    from tests.simulation.history import explore

    cluster = make_cluster(seed, mutant, story_length=1_000_000)
    error: AssertionError | None = None
    with mutant.change():
        try:
            explore(seed, seconds=CLUSTER_S, cluster=cluster)
        except AssertionError as violation:
            error = violation
    print("\n".join(cluster.checker.story))
    print(f"seed {seed}, {nodes_of(seed)} nodes, digest {cluster.checker.digest}: {error or 'nothing is wrong'}")
    return 0 if error is None else 1


def _replay_kernel(seed: int, mutant: Mutant) -> int:
    explorer = KernelExplorer(seed, store=mutant.store)
    with mutant.change():
        try:
            commits = explorer.run(3_000)
        except AssertionError as violation:
            print(f"seed {seed}: {violation or 'the check of the kernel itself'}")
            return 1
    print(f"seed {seed}: {commits} commits, nothing is wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
