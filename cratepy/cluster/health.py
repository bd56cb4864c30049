"""Whether this node's disk is fit for a master: a small durable write now and then, and how long it takes.

In: the node's directory. Out: calls with what is wrong, None when all is well. A master waits for its disk in every
publication, so a disk that hangs or fails must not be the master's; the coordination core hands over and takes no part in
elections until the disk is well again. Source: Elasticsearch's ``FsHealthService`` (``monitor.fs.health``), with a shorter
interval, because a probe of a few bytes costs nothing. A full disk is no failing one: it answers, and who writes rows is
told that it is full; a lone node would only lose its master over it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

#: Between two probes, and how long one may take.
PROBE_INTERVAL_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 5.0
_NAME: Final = "health.tmp"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def probe(directory: Path) -> None:
    """Write, sync and remove a file. Raises OSError. Blocks for as long as the disk does."""
    path = directory / _NAME
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        os.write(file, b"healthy\n")
        os.fsync(file)
    finally:
        os.close(file)
    path.unlink()


class HealthMonitor:
    """Probes until cancelled; ``on_change`` hears of every change, the first probe's result only if it is bad."""

    def __init__(
        self,
        directory: Path,
        on_change: Callable[[str | None], None],
        *,
        probe: Callable[[Path], None] = probe,
        interval_s: float = PROBE_INTERVAL_S,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._directory = directory
        self._on_change = on_change
        self._probe = probe
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self.problem: str | None = None

    async def run(self) -> None:
        while True:
            await self._probe_once()
            await trio.sleep(self._interval_s)

    async def _probe_once(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._complain_when_late)
            problem = None
            try:
                await trio.to_thread.run_sync(self._probe, self._directory, abandon_on_cancel=True)
            except OSError as error:
                if error.errno not in _FULL:
                    problem = f"a write to {self._directory} failed: {error.strerror or error}"
            self._change(problem)
            nursery.cancel_scope.cancel()

    async def _complain_when_late(self) -> None:
        await trio.sleep(self._timeout_s)
        self._change(f"a write to {self._directory} takes longer than {self._timeout_s:g} s")

    def _change(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_change(problem)
