"""The probe of a node's disk: what it says when the disk fails, hangs, and comes back."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import trio

from cratepy.cluster.health import HealthMonitor, probe


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def _heard(heard: list[str | None], count: int) -> None:
    while len(heard) < count:
        await trio.lowlevel.checkpoint()


def test_a_failing_disk_is_told_once_and_its_recovery_too(tmp_path: Path) -> None:
    heard: list[str | None] = []
    results = iter([None, errno.ENOSPC, errno.EIO, errno.EIO, None, None])

    def fake(_: Path) -> None:
        error = next(results, None)
        if error:
            raise OSError(error, os.strerror(error))

    async def main() -> None:
        monitor = HealthMonitor(tmp_path, heard.append, probe=fake, interval_s=0.001)
        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(monitor.run)
                await _heard(heard, 2)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert heard == [f"a write to {tmp_path} failed: Input/output error", None]


def test_a_disk_that_hangs_is_told_while_it_hangs(tmp_path: Path) -> None:
    heard: list[str | None] = []
    goes_on = threading.Event()

    async def main() -> None:
        monitor = HealthMonitor(tmp_path, heard.append, probe=lambda _: goes_on.wait() and None, timeout_s=0.01)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(monitor.run)
                await _heard(heard, 1)
                assert heard[0] is not None
                assert "takes longer than 0.01 s" in heard[0]
                goes_on.set()
                await _heard(heard, 2)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert heard[1] is None
