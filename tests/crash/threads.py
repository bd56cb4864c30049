"""Power cuts under threads: writers, the committer and maintenance at the same time, images of the disk at any moment.

In: a seed. Out: failures. What :mod:`tests.crash.histories` does call by call in one thread, here with the store's own way
to acknowledge (``when_durable``). Each writer has ids of its own, so what it was told and when is one sequence; the shard's
log interleaves them. After a cut: of each writer's writes a prefix is there, with all that were acknowledged before the image
was taken. Which threads meet where is up to the machine, so a name (``20:t``)
repeats the chance, not the failure.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from cratepy.clock import FakeClock
from cratepy.errors import ShardFailed
from cratepy.storage.operations import WriteBatch
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore
from tests.crash.disk import FIRST_DRAWN, Faults, Image, SimulatedDisk
from tests.crash.histories import Failure
from tests.crash.session import ROOT, Setup

_WRITERS: Final = 4
_WRITES: Final = 40
_IMAGES: Final = 12
_VARIANTS: Final = FIRST_DRAWN + 4
_SETUP: Final = Setup()


class _Locked:
    """An object whose methods run one at a time, with all others behind the same lock; files it opens, too."""

    def __init__(self, inner: Any, lock: threading.RLock) -> None:
        self._inner = inner
        self._lock = lock

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._inner, name)

        def locked(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                result = method(*arguments, **options)
            return _Locked(result, self._lock) if name in ("create", "append") else result

        return locked


@dataclass(slots=True)
class _Writer:
    """Writes numbers 0, 1, 2, … of its own to a few ids; a number's id is the number modulo 3, every fifth is a delete."""

    number: int
    begun: int = 0
    acknowledged: int = 0

    def run(self, store: ShardStore, shard: Shard, chance: random.Random) -> None:
        for number in range(_WRITES):
            self.begun = number + 1
            try:
                position = self._write(shard, self._batch(number), is_awaited=number % 3 > 0)
            except ShardFailed:
                return  # Closed: the run is over.
            done = threading.Event()
            store.when_durable(shard, position, self._acknowledger(number, done))
            if chance.random() < 0.7:
                done.wait()

    @staticmethod
    def _write(shard: Shard, batch: WriteBatch, *, is_awaited: bool) -> int:
        if isinstance(batch.rows, PlainRow):
            position = shard.write_row(batch.ids[0], batch.rows, primary_term=1, is_awaited=is_awaited)
            if position is not None:
                return position
        return shard.write(batch, is_awaited=is_awaited).position

    def _acknowledger(self, number: int, done: threading.Event) -> Callable[[BaseException | None], None]:
        def acknowledge(error: BaseException | None) -> None:
            if error is None:
                self.acknowledged = max(self.acknowledged, number + 1)
            done.set()

        return acknowledge

    def _batch(self, number: int) -> WriteBatch:
        ids = [f"w{self.number}-{number % 3}"]
        if number % 5 == 4:
            return WriteBatch(kind="delete", ids=ids, rows=None, primary_term=1)
        values = (number, "x" * (number * 37 % 700))
        row: PlainRow | pa.RecordBatch = PlainRow(_SETUP.schema(), values)
        if number % 2:
            row = row.batch()
        return WriteBatch(kind="index", ids=ids, rows=row, primary_term=1)

    def after(self, count: int) -> dict[str, int]:
        """Its ids after so many of its writes."""
        state: dict[str, int] = {}
        for number in range(count):
            row_id = f"w{self.number}-{number % 3}"
            if number % 5 == 4:
                state.pop(row_id, None)
            else:
                state[row_id] = number
        return state


@dataclass(frozen=True, slots=True)
class _Shot:
    image: Image
    #: Per writer: acknowledged before the image was taken, begun after it was.
    acknowledged: tuple[int, ...]
    begun: tuple[int, ...]


@dataclass(slots=True)
class ThreadedRun:
    seed: int
    faults: Faults = field(default_factory=Faults)
    histories: int = 0
    failures: list[Failure] = field(default_factory=list)

    def run(self) -> None:
        chance = random.Random(self.seed)
        disk, lock = SimulatedDisk(faults=self.faults.copy()), threading.RLock()
        store = ShardStore(ROOT, clock=FakeClock(seed=self.seed), files=_Locked(disk, lock))  # type: ignore[arg-type]
        shard = store.open_shard(_SETUP.definition(), 0, "a", primary_term=1, create=True)
        writers = [_Writer(number) for number in range(_WRITERS)]
        is_over = threading.Event()
        threads = [
            threading.Thread(target=writer.run, args=(store, shard, random.Random(self.seed * 7 + writer.number)))
            for writer in writers
        ]
        upkeep = threading.Thread(target=_maintain, args=(shard, is_over, random.Random(self.seed)))
        for thread in (*threads, upkeep):
            thread.start()
        shots = []
        for _ in range(_IMAGES):
            is_over.wait(chance.expovariate(200))
            acknowledged = tuple(writer.acknowledged for writer in writers)
            with lock:
                image = disk.image()
                begun = tuple(writer.begun for writer in writers)
            shots.append(_Shot(image, acknowledged, begun))
        for thread in threads:
            thread.join()
        is_over.set()
        upkeep.join()
        store.close()
        if shard.failure is not None:
            self._fail(f"the shard failed: {shard.failure}")
        shots.append(_Shot(disk.image(), (_WRITES,) * _WRITERS, (_WRITES,) * _WRITERS))
        for shot in shots:
            for variant in range(_VARIANTS):
                self._check(shot, writers, variant, chance)

    def _check(self, shot: _Shot, writers: list[_Writer], variant: int, chance: random.Random) -> None:
        self.histories += 1
        disk = SimulatedDisk(shot.image.settled(variant, chance))
        try:
            store = ShardStore(ROOT, clock=FakeClock(seed=variant), files=disk)
            shard = store.open_shard(_SETUP.definition(), 0, "a", primary_term=1, create=True)
            found: dict[str, int] = {}
            for batch in shard.scan(("_id", "c1")):
                for row_id, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                    assert row_id not in found, f"{row_id} is there twice"
                    found[row_id] = value
            gets = shard.get(sorted(found), ["c1"])
            assert [row and row[0] for row in gets] == [found[row_id] for row_id in sorted(found)]
            for writer, acknowledged, begun in zip(writers, shot.acknowledged, shot.begun, strict=True):
                own = {row_id: value for row_id, value in found.items() if row_id.startswith(f"w{writer.number}-")}
                possible = range(acknowledged, begun + 1)
                assert any(own == writer.after(count) for count in possible), (own, acknowledged, begun)
        except Exception as error:
            self._fail(f"way {variant}: {type(error).__name__}: {error}")

    def _fail(self, why: str) -> None:
        self.failures.append(Failure(f"{self.seed}:t", why, ()))


def _maintain(shard: Shard, is_over: threading.Event, chance: random.Random) -> None:
    """Refresh, merge and flush, in a thread of its own."""
    while not is_over.is_set():
        match chance.randrange(4):
            case 0:
                shard.flush()
            case 1:
                shard.merge()
            case _:
                shard.refresh()
        is_over.wait(chance.expovariate(500))
