"""``python -m benchmarks.storage [name …]``: what storage costs on this machine, against peers in the same run.

    BENCH_ROWS=1000000 python -m benchmarks.storage insert get    a million rows instead of ten: two minutes for all claims

Prints a line per figure with its goal, then ``N figures: N goals met, N missed`` and ``N passed, N failed``: a claim fails
only if an answer is wrong or it cannot run. Everything is in a temporary directory.
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
    failed: list[str] = []
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
                failed.append(name)
            print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    goals = [figure.is_met for figure in figures if figure.is_met is not None]
    print(f"{len(figures)} figures: {goals.count(True)} goals met, {goals.count(False)} missed")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
