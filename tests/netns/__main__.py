"""``python -m tests.netns [scenario …]``: real nodes in network namespaces, one scenario after the other.

Needs root, iproute2 and iptables (Debian: apt-get install -y iproute2 iptables). Ends with a line of figures and ``N passed,
N failed``. Ctrl-C and SIGTERM end it after it has cleaned up.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.netns.network import unavailable
from tests.netns.scenarios import FIGURES, SCENARIOS


def main(names: Sequence[str]) -> int:
    """Run the scenarios named, or all; returns the exit status."""
    reason = unavailable()
    if reason is not None:
        print(reason)
        return 2
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.__name__ in names]
    if not chosen:
        print("scenarios: " + ", ".join(scenario.__name__ for scenario in SCENARIOS))
        return 2
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    passed, started = 0, time.monotonic()
    for scenario in chosen:
        print(f"{scenario.__name__}: {' '.join((scenario.__doc__ or '').split())}", flush=True)
        with tempfile.TemporaryDirectory(prefix="cratepy-netns-") as directory:
            try:
                outcome = scenario(Path(directory))
            except Exception:  # a scenario's failure is its result
                traceback.print_exc()
                for log in sorted(Path(directory).glob("*.log")):
                    print(f"--- {log.name}\n" + "".join(log.read_text(errors="replace").splitlines(True)[-15:]))
                print("  FAILED", flush=True)
                continue
        passed += 1
        print(f"  passed: {outcome}", flush=True)
    figures = "".join(
        f"; {what} {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s ({len(seconds)} times)"
        for what, seconds in FIGURES.items()
    )
    print(f"netns: {len(chosen)} scenarios in {time.monotonic() - started:.0f} s{figures}")
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if passed == len(chosen) else 1


def _stop(number: int, _: FrameType | None) -> None:
    """Leave through every context manager; a second signal must not stop that half-way."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    print("  stopping ...", flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
