"""``python -m benchmarks.storage [name …]``: what storage costs on this machine, against peers in the same run.

    BENCH_ROWS=1000000 python -m benchmarks.storage insert get    a million rows instead of ten: two minutes for all claims

Prints a line per figure with its goal, then all figures that have one in a line, then ``N passed, N failed``: figures
that met or missed their goal; a claim whose answer is wrong or that cannot run has failed, too. Everything is in a temporary directory.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from benchmarks import storage_life, storage_reads, storage_text, storage_writes
from benchmarks.storage_common import ROWS, Claim, Figure, bench

CLAIMS: dict[str, Claim] = {
    "insert": storage_writes.insert,
    "get": storage_reads.get,
    "scan": storage_reads.scan,
    "reopen": storage_life.reopen,
    "upsert": storage_writes.upsert,
    "merge": storage_life.merge,
    "replay": storage_life.replay,
    "size": storage_life.size,
    "text": storage_text.text,
    "sql": storage_text.sql,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CLAIMS, []], help="claims to measure (default: all)")
    chosen = parser.parse_args().names or list(CLAIMS)
    figures: list[Figure] = []
    broken: list[str] = []
    print(f"storage, {ROWS:,} rows", flush=True)
    with bench() as made:
        for name in chosen:
            started = time.perf_counter()
            print(f"— {name}", flush=True)
            try:
                for figure in CLAIMS[name](made):
                    figures.append(figure)
                    print(figure.line(), flush=True)
            except Exception:
                # The other claims are still worth their figures.
                traceback.print_exc()
                broken.append(name)
            print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    judged = [figure for figure in figures if figure.is_met is not None]
    print("; ".join([*(figure.brief for figure in judged), *(f"{name}: did not run" for name in broken)]))
    failed = sum(not figure.is_met for figure in judged) + len(broken)
    print(f"{len(judged) + len(broken) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
