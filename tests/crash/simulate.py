"""``make crash-sim``: crash histories by the million, on all cores, and mutants to show that they would notice.

    python -m tests.crash.simulate --histories 1000000     run so many histories, seeds 0, 1, 2, …; then the mutants
    python -m tests.crash.simulate --replay 17:34.5/r3.0   run one history alone and tell its story

The result depends on seeds only, not on the number of processes. A worker that dies (a library crashed) is a failure.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Final

from tests.crash.failing import FailingCalls
from tests.crash.histories import Explorer, UnknownHistory
from tests.crash.mutants import HISTORIES_MAX, MUTANTS
from tests.crash.threads import ThreadedRun
from tests.crash.workers import TEXT_SHARE, hunt_all, outcomes, prepare

_FAILURES_MAX: Final = 20
_PROGRESS_S: Final = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crash-sim", description=__doc__)
    parser.add_argument("--histories", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--mutant-histories", type=int, default=HISTORIES_MAX)
    parser.add_argument("--seed", type=int, default=0, help="of the first workload")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end earlier, for a machine that is busy")
    parser.add_argument("--replay", default="")
    arguments = parser.parse_args()
    if arguments.replay:
        return replay(arguments.replay)
    started = shown = time.monotonic()
    cuts = errors = threaded = total = failed = workloads = 0
    for outcome in outcomes(arguments.processes, arguments.seed):
        cuts, errors, workloads = cuts + outcome.cuts, errors + outcome.errors, workloads + 1
        threaded += outcome.threaded
        total = cuts + errors + threaded
        failed += len(outcome.failures)
        for text in outcome.failures:
            name = text.split(" failed: ")[0].removeprefix("history ")
            print(f"{text}\n  again: python -m tests.crash.simulate --replay {name}", flush=True)
        now = time.monotonic()
        if now - shown > _PROGRESS_S:
            shown = now
            print(f"{total:,} histories, {total / (now - started):,.0f}/s, {failed} failed", flush=True)
        is_enough = total >= arguments.histories or now - started > arguments.seconds
        if is_enough or failed >= _FAILURES_MAX:
            break
    duration = time.monotonic() - started
    caught = 0
    slowest = 0
    for name, histories in hunt_all(arguments.processes, arguments.mutant_histories):
        print(f"mutant: {name}: {f'caught after {histories:,} histories' if histories else 'NOT CAUGHT'}", flush=True)
        caught += histories > 0
        slowest = max(slowest, histories)
        failed += histories == 0
    print(
        f"{total:,} histories ({cuts:,} power cuts, {errors:,} failing calls, {threaded:,} under threads) of {workloads:,} workloads in "
        f"{duration:,.0f} s: {total / duration:,.0f}/s in {arguments.processes} processes; "
        f"{caught} of {len(MUTANTS)} mutants caught, each within {slowest:,} histories"
    )
    print(f"{total + caught - min(failed, total)} passed, {failed} failed")
    return 1 if failed else 0


def replay(name: str) -> int:
    """One history alone, with its story."""
    prepare()
    seed, _, rest = name.partition(":")
    run: Explorer | FailingCalls | ThreadedRun
    if rest == "t":
        run = ThreadedRun(int(seed))
    elif rest.startswith("e"):
        run = FailingCalls(int(seed), text_share=TEXT_SHARE, only=rest[1:])
    else:
        only = tuple(part for part in rest.split("/") if part not in ("", "w"))
        run = Explorer(int(seed), text_share=TEXT_SHARE, only=only)
    try:
        run.run()
    except UnknownHistory as unknown:
        print(unknown)
        return 2
    for failure in run.failures:
        print(failure)
    print(f"{run.histories - len(run.failures)} passed, {len(run.failures)} failed")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
