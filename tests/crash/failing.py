"""Calls to the disk that fail instead of being the last: EIO and ENOSPC at any of them, once or for a while.

In: a seed. Out: histories, as in :mod:`tests.crash.histories`: the workload runs with one fault planted; a step may fail
with an error of ours, and whatever it answers otherwise must be true; then the process or the machine restarts and the
contents are compared. A shard may go on after an error only if the failed write never happened. Names: ``17:e34.2`` is the
workload of seed 17 whose 34th call fails in way 2.
"""

from __future__ import annotations

import errno
import random
import zlib
from dataclasses import dataclass, field
from typing import Final

from cratepy.errors import Condition, CrateError
from tests.crash.disk import FIRST_DRAWN, Image, SimulatedDisk
from tests.crash.histories import Failure, Mutation, new_session
from tests.crash.ledger import Ledger
from tests.crash.session import Session, Setup, Step, Write, draw_setup, draw_steps

_STEPS: Final = 14
#: Calls that need space on the disk.
_TAKING: Final = frozenset({"write", "create", "make_directory", "reserve", "link"})
#: Way → (error number, how many calls fail from the first on).
_WAYS: Final = ((errno.EIO, 1), (errno.EIO, 1 << 30), (errno.ENOSPC, 1), (errno.ENOSPC, 6), (errno.ENOSPC, 1 << 30))


@dataclass(slots=True)
class Fault:
    """A watcher that makes calls fail from the ``first`` on."""

    first: int
    error: int
    count: int
    calls: int = 0
    failed: int = 0
    label: str = ""

    def __call__(self, call: str, path: str) -> None:
        self.calls += 1
        if self.calls <= self.first or self.failed >= self.count:
            return
        if self.error == errno.ENOSPC and call not in _TAKING:
            return
        self.failed += 1
        self.label = self.label or f"call {self.calls} ({call} {path})"
        raise OSError(self.error, errno.errorcode[self.error], path)


@dataclass(slots=True)
class FailingCalls:
    """Histories of one seed."""

    seed: int
    text_share: float = 0.0
    mutation: Mutation = field(default_factory=Mutation)
    #: Faults planted, one by one.
    faults: int = 40
    failures_max: int = 3
    histories_max: int = 1 << 60
    #: ``34.2``: only this fault.
    only: str = ""
    histories: int = 0
    failures: list[Failure] = field(default_factory=list)

    def run(self) -> None:
        setup = draw_setup(self.seed, text_share=self.text_share)
        steps = draw_steps(random.Random(f"steps {self.seed}"), _STEPS, setup)
        if self.only:
            first, way = (int(number) for number in self.only.split("."))
            self._run_one(setup, steps, first, way)
            return
        if setup.has_text_index:
            self.faults //= 8
        counter = Fault(1 << 60, 0, 0)
        disk = SimulatedDisk(faults=self.mutation.faults.copy())
        disk.watcher = counter
        self._work(new_session(setup, disk, Ledger(), f"{self.seed}", self.mutation), steps, [])
        chance = random.Random(zlib.crc32(f"{self.seed}:e".encode()))
        for _ in range(self.faults):
            if self.histories >= self.histories_max or len(self.failures) >= self.failures_max:
                return
            self._run_one(setup, steps, chance.randrange(counter.calls), chance.randrange(len(_WAYS)))

    def _run_one(self, setup: Setup, steps: list[Step], first: int, way: int) -> None:
        error, count = _WAYS[way]
        name = f"{self.seed}:e{first}.{way}"
        fault = Fault(first, error, count)
        disk = SimulatedDisk(faults=self.mutation.faults.copy())
        disk.watcher = fault
        ledger = Ledger()
        story = [f"{setup}", f"from call {first}: {errno.errorcode[error]}, {count} calls"]
        session = new_session(setup, disk, ledger, name, self.mutation)
        try:
            self._work(session, steps, story)
            self._check_again(setup, disk.image(), ledger, name, "the process starts again", way=-1)
            self._go_on(setup, disk.image(), ledger, name)
            chance = random.Random(zlib.crc32(name.encode()))
            for variant in (0, 1, FIRST_DRAWN):
                settled = disk.image().settled(variant, chance)
                self._check_again(setup, settled, ledger, name, f"power cut, way {variant}", way=variant)
        except Exception as wrong:
            if len(self.failures) < self.failures_max:
                told = (*story, f"failed first: {fault.label}")
                self.failures.append(Failure(name, f"{type(wrong).__name__}: {wrong}", told))

    def _work(self, session: Session, steps: list[Step], story: list[str]) -> None:
        """The steps, until the shard has failed."""
        try:
            session.open(create=True)
        except (CrateError, Condition, OSError) as error:
            story.append(f"not opened: {error}")
            return
        for step in [*steps, "get"]:
            try:
                session.perform(step)  # type: ignore[arg-type]
            except (CrateError, Condition, OSError) as error:
                story.append(f"{step}: {type(error).__name__}: {error}")
                # A file that could not be made durable is shown by the system as if it were, until the next boot.
                if session.shard.failure is not None or step == "reopen":
                    return
            else:
                story.append(f"{step}")
                assert step == "reopen" or session.shard.failure is None, "a step succeeds and the shard has failed"
        session.shard.close()
        if session.shard.failure is None:
            session.ledger.acknowledge()

    def _go_on(self, setup: Setup, image: Image, ledger: Ledger, name: str) -> None:
        """The process starts again, the machine does not: pages whose sync failed are shown as if they were durable."""
        disk = SimulatedDisk(image, faults=self.mutation.faults.copy())
        again = new_session(setup, disk, ledger.fork(ledger.count, ledger.acknowledged), f"{name} on", self.mutation)
        again.open(create=True)
        again.settle()
        for step in (Write("index", zlib.crc32(name.encode()), 2, is_plain=False), "sync"):
            again.perform(step)  # type: ignore[arg-type]
        again_image = disk.image()
        if setup.has_text_index:
            again.shard.close()
        for variant in (0, FIRST_DRAWN):
            settled = again_image.settled(variant, random.Random(zlib.crc32(name.encode())))
            how = f"a row written after a start, power cut, way {variant}"
            self._check_again(setup, settled, again.ledger, f"{name} on", how, way=variant)

    def _check_again(self, setup: Setup, image: Image, ledger: Ledger, name: str, how: str, *, way: int) -> None:
        self.histories += 1
        again = new_session(
            setup,
            SimulatedDisk(image, faults=self.mutation.faults.copy()),
            ledger.fork(ledger.count, ledger.acknowledged),
            f"{name} {way}",
            self.mutation,
        )
        try:
            again.open(create=True)
            again.settle()
            if again.setup.has_text_index:
                again.shard.close()
        except Exception as error:
            raise AssertionError(f"{how}: {type(error).__name__}: {error}") from error
