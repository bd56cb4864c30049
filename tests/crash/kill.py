"""``make crash-kill``: real processes, real files, SIGKILL.

Three kinds of rounds: a shard process killed by strace at a call to the system (``--points``), the same at any time
with refreshes, merges and flushes beside the writes (``--rounds``), and a whole server under clients (``--server-rounds``).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.crash.killing import Chain, strace_refusal
from tests.crash.serving import serve_and_kill

_LIVES_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class Lives:
    """What a chain of lives gave."""

    is_traced: bool
    lives: int
    points: Counter[str]
    failures: tuple[str, ...]


def run_chain(seed: int, is_traced: bool) -> Lives:
    chain = Chain(seed, is_traced)
    chain.run(_LIVES_AT_ONCE)
    return Lives(is_traced, chain.lives, chain.points, tuple(str(failure) for failure in chain.failures))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crash-kill", description=__doc__)
    parser.add_argument("--points", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--server-rounds", type=int, default=24)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    refusal = strace_refusal()
    if refusal is not None:
        print(f"no kills at chosen calls: {refusal}", flush=True)
    points: Counter[str] = Counter()
    lives = random_kills = failed = 0
    seed = arguments.seed
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        while not failed:
            wanted = arguments.points - points.total() if refusal is None else 0
            batch = []
            if wanted > 0:
                batch = [(seed + i, True) for i in range(min(arguments.processes, 1 + wanted // 15))]
            elif random_kills < arguments.rounds:
                left = (arguments.rounds - random_kills + _LIVES_AT_ONCE - 1) // _LIVES_AT_ONCE
                batch = [(seed + i, False) for i in range(min(arguments.processes, left))]
            if not batch:
                break
            seed += len(batch)
            for done in pool.map(run_chain, *zip(*batch, strict=True)):
                if done.is_traced:
                    lives += done.lives
                    points += done.points
                else:
                    random_kills += done.lives
                failed += len(done.failures)
                for failure in done.failures:
                    print(failure, flush=True)
            print(f"{points.total()} kills at calls, {random_kills} at any time, {failed} failed", flush=True)
    changes = 0
    if arguments.server_rounds:
        changes, wrong = serve_and_kill(arguments.server_rounds, arguments.seed)
        failed += len(wrong)
        for line in wrong[:20]:
            print(f"server: {line}", flush=True)
    by_call = ", ".join(f"{name} {count}" for name, count in points.most_common())
    print(
        f"{points.total()} kills of a shard process at calls ({by_call}), {random_kills} at any time beside maintenance, "
        f"{arguments.server_rounds} of a server with {changes:,} acknowledged changes; {time.monotonic() - started:,.0f} s"
    )
    print(f"{points.total() + random_kills + arguments.server_rounds - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
