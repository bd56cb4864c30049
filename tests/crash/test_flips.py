"""The quick version of ``make bit-flips``: one of twenty-five damages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.crash.damage import Damage, examine, make_specimen


def test_damaged_bytes_are_refused_by_name_or_harmless() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.flips", "--every", "25", "--processes", "2"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-3_000:]
    assert done.stdout.endswith(" passed, 0 failed\n")


def test_the_examination_sees_wrong_answers(tmp_path: Path) -> None:
    """With the files of one shard and the ledger of another."""
    specimen = make_specimen(tmp_path / "made")
    assert examine(specimen, None, tmp_path / "whole") == "right"
    del specimen.ledger.states[-1]
    try:
        examine(specimen, None, tmp_path / "wrong")
    except AssertionError:
        return
    raise AssertionError("it was not seen")


def test_a_log_whose_end_is_gone_is_shorter(tmp_path: Path) -> None:
    specimen = make_specimen(tmp_path / "made")
    log = specimen.newest_log
    cut = Damage(log, "cut", len(specimen.files[log]) - 600)
    assert examine(specimen, cut, tmp_path / "cut") == "shorter"
