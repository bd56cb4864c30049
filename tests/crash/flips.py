"""``make bit-flips``: every byte of every file of a small shard changed, one at a time, and blocks, and lengths.

Workers are processes of their own. One that dies (a library crashed on the bytes) or hangs is a failure of the damage it
was looking at; another one goes on behind it.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import multiprocessing.process
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from ctypes import c_long
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from tests.crash.damage import Damage, Specimen, examine, make_specimen

_HANG_S: Final = 60.0
_PROGRESS_S: Final = 10.0
#: A length that was believed must not take the machine's memory.
_ADDRESS_SPACE_BYTES: Final = 16 << 30
_FAILURES_MAX: Final = 30
_DISK: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(slots=True)
class _Worker:
    """A process and where in its damages it is."""

    process: multiprocessing.process.BaseProcess
    answers: Connection
    #: Index of the damage it looks at.
    at: Any
    damages: list[Damage]
    moved_at: float
    seen: int = -1


def work(specimen: Specimen, damages: list[Damage], first: int, at: Any, answers: Connection) -> None:
    """Examine from ``first`` on; sends (counts, failures) at the end."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    root = Path(tempfile.mkdtemp(prefix="bit-flips-", dir=_DISK))
    try:
        for index in range(first, len(damages)):
            at.value = index
            try:
                answers.send((examine(specimen, damages[index], root / "s"), ""))
            except Exception as error:
                answers.send(("wrong", f"{damages[index]}: {type(error).__name__}: {error}"))
            if index % 64 == 0:
                gc.collect()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    answers.close()


class Examination:
    """All damages, over some processes."""

    def __init__(self, specimen: Specimen, damages: list[Damage], processes: int) -> None:
        self.verdicts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._specimen = specimen
        self._context = multiprocessing.get_context("forkserver")
        # Dealt out, so that every process gets some of each file.
        self._workers = [self._start(damages[i::processes], 0) for i in range(processes) if damages[i::processes]]

    def _start(self, damages: list[Damage], first: int) -> _Worker:
        receiver, sender = self._context.Pipe(duplex=False)
        at = self._context.Value(c_long, first, lock=False)
        process = self._context.Process(target=work, args=(self._specimen, damages, first, at, sender))
        process.start()
        sender.close()
        return _Worker(process, receiver, at, damages, time.monotonic())

    def run(self, total: int) -> None:
        shown = started = time.monotonic()
        while self._workers and len(self.failures) < _FAILURES_MAX:
            for worker in self._ready():
                self._take(worker)
            now = time.monotonic()
            for worker in list(self._workers):
                if worker.at.value != worker.seen:
                    worker.seen, worker.moved_at = worker.at.value, now
                elif now - worker.moved_at > _HANG_S:
                    self._replace(worker, f"hangs for {_HANG_S:.0f} s")
            if now - shown > _PROGRESS_S:
                shown = now
                done = self.verdicts.total()
                print(
                    f"{done:,} of {total:,}, {done / (now - started):,.0f}/s, {len(self.failures)} failed", flush=True
                )
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()

    def _ready(self) -> list[_Worker]:
        ready = wait([worker.answers for worker in self._workers], timeout=1)
        return [worker for worker in self._workers if worker.answers in ready]

    def _take(self, worker: _Worker) -> None:
        try:
            while worker.answers.poll():
                verdict, why = worker.answers.recv()
                self._count(verdict, why)
        except EOFError:
            worker.process.join()
            if worker.process.exitcode == 0:
                self._workers.remove(worker)
            else:
                self._replace(worker, f"the process died with {worker.process.exitcode}")

    def _count(self, verdict: str, why: str) -> None:
        self.verdicts[verdict] += 1
        if why:
            self.failures.append(why)
            print(f"wrong: {why[:600]}", flush=True)

    def _replace(self, worker: _Worker, why: str) -> None:
        index = worker.at.value
        worker.process.kill()
        worker.process.join()
        self._workers.remove(worker)
        self._count("wrong", f"{worker.damages[index]}: {why}")
        if index + 1 < len(worker.damages):
            self._workers.append(self._start(worker.damages, index + 1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bit-flips", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="examine one of so many damages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bit-flips-", dir=_DISK) as directory:
        specimen = make_specimen(Path(directory) / "made")
        assert examine(specimen, None, Path(directory) / "whole") == "right"
    damages = list(specimen.damages(seed=arguments.seed, every=arguments.every))
    size = sum(len(content) for content in specimen.files.values())
    examination = Examination(specimen, damages, arguments.processes)
    examination.run(len(damages))
    duration = time.monotonic() - started
    verdicts = examination.verdicts
    kinds = Counter(damage.kind for damage in damages)
    print(
        f"{len(damages):,} damages ({', '.join(f'{kind} {count:,}' for kind, count in kinds.items())}) of "
        f"{len(specimen.files)} files with {size:,} bytes in {duration:,.0f} s: {verdicts['refused']:,} refused by name, "
        f"{verdicts['right']:,} harmless, {verdicts['shorter']:,} logs shorter; "
        f"{verdicts.total() / duration:,.0f}/s in {arguments.processes} processes"
    )
    failed = len(examination.failures)
    print(f"{verdicts.total() - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
