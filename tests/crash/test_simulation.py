"""The quick version of ``make crash-sim``: twenty thousand histories and every mutant, on two cores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.disk import Faults
from tests.crash.threads import ThreadedRun


@pytest.mark.timeout(900)
def test_no_history_loses_or_invents_a_row_and_every_mutant_is_caught() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.simulate", "--histories", "20000", "--processes", "2", "--seconds", "300"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-3_000:]
    assert done.stdout.endswith(" passed, 0 failed\n")


def test_threads_are_seen_to_lose_rows_when_the_log_is_not_synced() -> None:
    run = ThreadedRun(1, faults=Faults(skipped_syncs=("/translog-",)))
    run.run()
    assert run.failures


@pytest.mark.parametrize(
    "history",
    [
        # The first sync failed: the system shows the log's beginning as if it had been written; the rows behind it were lost with it.
        "100006:e7.1",
        "100010:e7.0",
        "100004:e18.0",
        "100105:e86.1",
        "200139:17.2/w0.99/r1.13",
        # Killed before the first sync of a log, which went on with rows behind a beginning that was not durable.
        "178:49.5/r9.99/w7.11",
        "185:67.5/r12.99/w1.14",
        "250:24.7/r11.99/w11.5",
        # Made anew in a directory whose removal was not durable: a segment of the old one came back.
        "359:34.5/r10.99/r4.9",
    ],
)
def test_a_log_whose_beginning_may_not_be_durable_is_not_built_upon(history: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.simulate", "--replay", history],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-3_000:]
