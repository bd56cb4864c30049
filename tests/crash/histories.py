"""Crash histories: a workload cut at its calls to the disk, each start cut again, and what is left compared.

A *history* is: a workload up to a call; the power fails before it (one of many ways the disk can settle); the shard is
opened again, or the power fails before a call of that, and again; perhaps more writes and another cut; at the end an
opening runs through and its contents are compared with the ledger. The workload runs once: the disk's image before each
call is kept, so a history costs only its openings and checks.

A history has a name: ``17:34.5/r3.0/w2.7`` is the workload of seed 17, cut before its 34th call in way 5, then the
opening cut before its 3rd call in way 0, then the steps after the next opening cut before the 2nd call in way 7. Chance is
drawn from names only, so a name says everything and can be run again alone.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field
from typing import Final

from cratepy.clock import FakeClock
from tests.crash.disk import FIRST_DRAWN, KILLED, Faults, Image, SimulatedDisk
from tests.crash.ledger import Ledger
from tests.crash.session import Session, Setup, Step, draw_setup, draw_steps

#: Calls that only read: a power cut before them is the one before the next change.
READING: Final = frozenset({"read", "map", "names", "append"})
_STEPS: Final = 14
_MORE_STEPS: Final = 4
_DEPTH_MAX: Final = 3
_TEXT_HISTORIES: Final = 100


class PowerCut(BaseException):
    """The machine is off. No Exception, so that nothing that handles those goes on."""


class UnknownHistory(Exception):
    """A name says at which call of the file system power is cut; code that makes other calls has other histories."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The disk before a call, and how far the ledger was."""

    call: str
    path: str
    image: Image
    count: int
    acknowledged: int


@dataclass(slots=True)
class Recorder:
    """Keeps a moment before each call that changes the disk."""

    disk: SimulatedDisk
    ledger: Ledger
    moments: list[Moment] = field(default_factory=list)

    def __call__(self, call: str, path: str) -> None:
        if call not in READING:
            ledger = self.ledger
            self.moments.append(Moment(call, path, self.disk.image(), ledger.count, ledger.acknowledged))


@dataclass(frozen=True, slots=True)
class Mutation:
    """A deliberate bug for a run; the default is none."""

    faults: Faults = field(default_factory=Faults)
    acknowledges_early: bool = False
    #: All files get the same id.
    has_constant_ids: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A history that ended wrong."""

    name: str
    why: str
    story: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"history {self.name} failed: {self.why}", *(f"    {line}" for line in self.story)])


class _Constant(FakeClock):
    def new_id(self) -> str:
        return "00000000-0000-4000-a000-000000000001"


def new_session(setup: Setup, disk: SimulatedDisk, ledger: Ledger, name: str, mutation: Mutation) -> Session:
    clock = _Constant() if mutation.has_constant_ids else FakeClock(seed=zlib.crc32(name.encode()))
    return Session(setup, disk, ledger, clock, acknowledges_early=mutation.acknowledges_early)


@dataclass(slots=True)
class Explorer:
    """All histories of one seed, or those below one name."""

    seed: int
    text_share: float = 0.0
    mutation: Mutation = field(default_factory=Mutation)
    #: Ways to settle per cut of the workload, beside the four plain ones.
    drawn_variants: int = 5
    failures_max: int = 3
    #: Stop after so many histories.
    histories_max: int = 1 << 60
    #: Parts of a name: only this history is run.
    only: tuple[str, ...] = ()
    histories: int = 0
    cuts: int = 0
    failures: list[Failure] = field(default_factory=list)
    _setup: Setup = field(default_factory=Setup)

    def run(self) -> None:
        setup = self._setup = draw_setup(self.seed, text_share=self.text_share)
        steps = draw_steps(random.Random(f"steps {self.seed}"), _STEPS, setup)
        disk = SimulatedDisk(faults=self.mutation.faults.copy())
        ledger = Ledger()
        recorder = Recorder(disk, ledger)
        disk.watcher = recorder
        story = [f"{setup}"]
        name = str(self.seed)
        try:
            session = self._session(disk, ledger, name)
            session.open(create=True)
            for step in steps:
                story.append(f"from call {len(recorder.moments)}: {step}")
                session.perform(step)
            session.shard.close()
            ledger.acknowledge()
        except Exception as error:
            # Without any crash.
            self._fail(name, error, story)
            return
        recorder("end", "")
        self._cut_all(recorder, name, story)

    @property
    def _is_over(self) -> bool:
        return self.histories >= self.histories_max or len(self.failures) >= self.failures_max

    def _session(self, disk: SimulatedDisk, ledger: Ledger, name: str) -> Session:
        return new_session(self._setup, disk, ledger, name, self.mutation)

    def _cut_all(self, recorder: Recorder, name: str, story: list[str]) -> None:
        """Every call of the workload, in every plain way and some drawn ones."""
        seen: set[tuple[int, int, int]] = set()
        variants = (*range(FIRST_DRAWN + self.drawn_variants), KILLED)
        places = [(index, variant) for index in _worth_cutting(recorder.moments) for variant in variants]
        if self._setup.has_text_index:
            # Each opening builds an index, which costs as much as fifty others: some places of more workloads.
            random.Random(f"places {self.seed}").shuffle(places)
            self.histories_max = min(self.histories_max, _TEXT_HISTORIES)
        for index, variant in places:
            if self._is_over:
                return
            if not self.only or self.only[0].split(".")[0] == str(index):
                self._cut(recorder, index, variant, f"{name}:", story, depth=1, seen=seen)

    def _cut_some(self, recorder: Recorder, name: str, kind: str, story: list[str], *, depth: int) -> None:
        """A call or two of a later life: the deeper, the fewer."""
        if not recorder.moments or depth > _DEPTH_MAX:
            return
        wanted = self.only[depth - 1] if len(self.only) >= depth else None
        if wanted is not None:
            if wanted[0] == kind:
                index, variant = (int(number) for number in wanted[1:].split("."))
                self._cut(recorder, index, variant, f"{name}/{kind}", story, depth=depth, seen=set())
            return
        chance = random.Random(zlib.crc32(f"{name}{kind}".encode()))
        seen: set[tuple[int, int, int]] = set()
        for _ in range(3 if depth == 2 else 2):
            index = chance.randrange(len(recorder.moments))
            variant = chance.choice((*range(FIRST_DRAWN + 12), KILLED))
            self._cut(recorder, index, variant, f"{name}/{kind}", story, depth=depth, seen=seen)

    def _cut(
        self,
        recorder: Recorder,
        index: int,
        variant: int,
        prefix: str,
        story: list[str],
        *,
        depth: int,
        seen: set[tuple[int, int, int]],
    ) -> None:
        name = f"{prefix}{index}.{variant}"
        if self.only and name.split(":")[1].split("/")[depth - 1] != self.only[depth - 1]:
            return
        if index >= len(recorder.moments):
            raise UnknownHistory(
                f"{name}: there are {len(recorder.moments)} moments; named when the calls were others?"
            )
        moment = recorder.moments[index]
        image = moment.image.settled(variant, random.Random(zlib.crc32(name.encode())))
        if variant != KILLED:
            key = (image.fingerprint(), moment.count, moment.acknowledged)
            if key in seen:
                return  # The same disk as a cut before: nothing new to learn.
            seen.add(key)
        self.cuts += 1
        ledger = recorder.ledger.fork(moment.count, moment.acknowledged)
        around = recorder.moments[max(index - 6, 0) : index]
        told = [
            *story,
            *(f"  call {index - len(around) + i}: {m.call} {m.path}" for i, m in enumerate(around)),
            f"{'kill' if variant == KILLED else 'power cut'} before call {index} ({moment.call} {moment.path}), way {variant}: "
            f"{moment.acknowledged} of {moment.count} operations acknowledged",
        ]
        self._start(image, ledger, name, told, depth=depth)

    def _start(self, image: Image, ledger: Ledger, name: str, story: list[str], *, depth: int) -> None:
        """Open what a power cut left, check it; some of them are cut again, in the opening or after more writes."""
        self.histories += 1
        chance = random.Random(zlib.crc32(name.encode()) ^ 0x5EED)
        draw = chance.random()
        # A killed process alone loses nothing; what matters is what the next one believes to be durable.
        share = 0.7 if name.endswith(f".{KILLED}") else 0.12
        is_followed = draw < share if not self.only else len(self.only) > depth
        disk = SimulatedDisk(image, faults=self.mutation.faults.copy())
        recorder = None
        if is_followed:
            disk.watcher = recorder = Recorder(disk, ledger.fork(ledger.count, ledger.acknowledged))
        try:
            session = self._session(disk, ledger, name)
            session.open(create=True)
            session.settle()
            if draw > 0.95:
                self._start_again(disk, session)
        except Exception as error:
            self._fail(name, error, story)
            return
        if recorder is not None:
            self._cut_some(recorder, name, "r", [*story, "opened again"], depth=depth + 1)
            self._go_on(disk, session, name, story, chance, depth=depth)
        if self._setup.has_text_index:
            # An open index has files and a thread of its own.
            disk.watcher = None
            session.shard.close()

    @staticmethod
    def _start_again(disk: SimulatedDisk, session: Session) -> None:
        """Opening is idempotent: another one, of the process only, gives the same."""
        again = Session(
            session.setup,
            SimulatedDisk(disk.image()),
            session.ledger.fork(session.ledger.count, session.ledger.count),
            session.clock,
        )
        again.open(create=False)
        again.settle()

    def _go_on(
        self,
        disk: SimulatedDisk,
        session: Session,
        name: str,
        story: list[str],
        chance: random.Random,
        *,
        depth: int,
    ) -> None:
        steps: list[Step] = draw_steps(chance, _MORE_STEPS, self._setup)
        # As cut in the opening, the ledger of the steps is the one after it.
        recorder = Recorder(disk, session.ledger)
        disk.watcher = recorder
        told = [*story, "opened again"]
        try:
            for step in steps:
                told.append(f"from call {len(recorder.moments)}: {step}")
                session.perform(step)
            session.check_gets()
        except Exception as error:
            self._fail(f"{name}/w", error, told)
            return
        recorder("end", "")
        self._cut_some(recorder, name, "w", told, depth=depth + 1)

    def _fail(self, name: str, error: BaseException, story: list[str]) -> None:
        if len(self.failures) < self.failures_max:
            self.failures.append(Failure(name, f"{type(error).__name__}: {error}", tuple(story)))


def _worth_cutting(moments: list[Moment]) -> list[int]:
    """All moments, but of the pieces in which one file is written without a sync only the first, the last and some."""
    chosen = []
    for index, moment in enumerate(moments):
        around = moments[max(index - 1, 0) : index + 2]
        is_inside = len(around) == 3 and all(m.call == "write" and m.path == moment.path for m in around)
        if not is_inside or "/seg-" not in moment.path or index % 8 == 0:
            chosen.append(index)
    return chosen
