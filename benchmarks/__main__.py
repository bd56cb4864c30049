"""``python -m benchmarks [name …]``: run the benchmarks and print one line per claim."""

from __future__ import annotations

import argparse
import sys

from benchmarks import aggregates, analytics, bulk_insert, copy_csv, idle, point_read, single_insert
from benchmarks.common import Claim, print_claims

BENCHMARKS = {
    "point_read": point_read.run,
    "single_insert": single_insert.run,
    "bulk_insert": bulk_insert.run,
    "copy_csv": copy_csv.run,
    "analytics": analytics.run,
    "aggregates": aggregates.run,
    "idle": idle.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="benchmarks to run (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    claims: list[Claim] = []
    for name in names:
        print(f"— {name}", flush=True)
        found = BENCHMARKS[name]()
        print_claims(found)
        claims += found
    met = sum(1 for claim in claims if claim.is_met)
    print(f"{met} passed, {len(claims) - met} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
