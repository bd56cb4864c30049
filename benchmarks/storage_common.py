"""What the benchmarks of storage share: figures and their goals, the store they run on, the rows they write.

In: the number of rows of a claim (``BENCH_ROWS``). Out: a :class:`Figure` per claim: ours, a peer's in the same run, and
the goal. A figure that misses its goal has failed, and so has a claim whose answer is wrong or that cannot run.

Time is what passes on the clock without what the thread waited for a core that others had (``run_delay`` of Linux's
schedstat): disks and locks count, neighbours do not. The peers are measured with the same clock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa

from cratepy.clock import SystemClock
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, INTEGER, SMALLINT, TIMESTAMPTZ, DataType
from cratepy.storage.operations import WriteBatch
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore

#: Rows of the big tables: ten million for the goals as they are stated, a million for a short run.
ROWS: Final = int(os.environ.get("BENCH_ROWS", "10000000"))
BATCH_ROWS: Final = 10_000
_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")
#: Eight columns without text, as of a table of measurements, and two more for scans of ten.
EVENT_COLUMNS: Final[tuple[DataType, ...]] = (
    BIGINT,
    TIMESTAMPTZ,
    INTEGER,
    DOUBLE,
    DOUBLE,
    SMALLINT,
    BOOLEAN,
    BIGINT,
    DOUBLE,
    INTEGER,
)


class WrongAnswer(Exception):
    """What was read is not what was written."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise WrongAnswer(what)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. ``goal`` bounds it (or its ratio to the peer's) from below, or above with ``is_upper_bound``."""

    name: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str = ""
    goal: float | None = None
    is_ratio: bool = False
    is_upper_bound: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def brief(self) -> str:
        """For a line with all of them."""
        value = (
            f"{self.ratio:.2f} ×" if self.is_ratio and self.ratio is not None else f"{_number(self.ours)} {self.unit}"
        )
        return f"{self.name.strip()}: {value}{'' if self.is_met in (None, True) else ' (MISSED)'}"

    @property
    def is_met(self) -> bool | None:
        value = self.ratio if self.is_ratio else self.ours
        if self.goal is None or value is None:
            return None
        return value <= self.goal if self.is_upper_bound else value >= self.goal

    def line(self) -> str:
        text = f"  {self.name:<50} {_number(self.ours):>12} {self.unit:<9}"
        peer = f"{self.peer_name} {_number(self.peer)} = {self.ratio:.2f} ×" if self.peer is not None else ""
        text += f" {peer:<42}"
        if self.goal is not None:
            sign, unit = "≤" if self.is_upper_bound else "≥", "×" if self.is_ratio else self.unit
            text += f" goal {sign} {_number(self.goal)} {unit}: {'met' if self.is_met else 'MISSED: failed'}"
        return text.rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


Claim = Callable[["Bench"], Iterator[Figure]]


class Bench:
    """A scratch directory, the store in it, and the big shard that several claims read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = ShardStore(directory / "store", clock=SystemClock())
        self._big: Shard | None = None

    def open(self, definition: TableDefinition, *, create: bool = True) -> Shard:
        return self.store.open_shard(definition, 0, "a", primary_term=1, create=create)

    def big(self) -> Shard:
        """``ROWS`` events, merged as a node merges them and flushed; the id of row i is ``str(i)``."""
        if self._big is None or self._big.is_closed:
            shard = self.open(events("big", columns=10))
            if shard.row_count() == 0:
                for batch in event_batches(ROWS, columns=10):
                    check(not shard.write(batch).failures, "an insert of a new id was refused")
                shard.refresh()
                # What the node's maintenance does beside the writes.
                while shard.merge():
                    pass
                shard.flush()
            self._big = shard
        return self._big


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="bench-storage-"))
    made = Bench(directory)
    try:
        yield made
    finally:
        made.store.close()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Every thread that starts meanwhile, and this one, share the idlest core; so do the peers that run here."""
    before, threads = os.sched_getaffinity(0), pa.cpu_count()
    busy = psutil.cpu_percent(interval=0.3, percpu=True)
    os.sched_setaffinity(0, {min(before, key=lambda core: busy[core])})
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        pa.set_cpu_count(threads)


def events(uuid: str, *, columns: int = 8) -> TableDefinition:
    found = tuple(
        ColumnDefinition(oid=i + 1, name=f"n{i}", type=kind) for i, kind in enumerate(EVENT_COLUMNS[:columns])
    )
    return TableDefinition(
        name=RelationName("doc", uuid), uuid=uuid, oid=1, columns=found, primary_key=("n0",), clustered_by="n0"
    )


def event_rows(first: int, count: int, *, columns: int = 8) -> pa.RecordBatch:
    """Columns at rest; ``c1`` is the row's number, ``c2`` its time."""
    random = np.random.default_rng(first)
    numbers: np.ndarray = np.arange(first, first + count, dtype=np.int64)
    made = [
        pa.array(numbers),
        pa.array(1_700_000_000_000 + numbers * 10).cast(pa.timestamp("ms")),
        pa.array(random.integers(0, 1_000, count, dtype=np.int32)),
        pa.array(random.random(count)),
        pa.array(random.normal(20, 5, count).round(2)),
        pa.array(random.integers(0, 100, count, dtype=np.int16)),
        pa.array(random.random(count) < 0.3),
        pa.array(random.integers(0, 1 << 40, count)),
        pa.array(random.random(count)),
        pa.array(random.integers(0, 1 << 20, count, dtype=np.int32)),
    ]
    return pa.RecordBatch.from_arrays(made[:columns], names=[f"c{i + 1}" for i in range(columns)])


def event_batches(rows: int, *, columns: int = 8, batch_rows: int = BATCH_ROWS) -> Iterator[WriteBatch]:
    for first in range(0, rows, batch_rows):
        count = min(batch_rows, rows - first)
        yield WriteBatch(
            kind="insert",
            ids=[str(number) for number in range(first, first + count)],
            rows=event_rows(first, count, columns=columns),
            primary_term=1,
        )


class Stopwatch:
    """Starts when it is made. For work on the calling thread; see the module."""

    def __init__(self) -> None:
        self._delay = _run_delay()
        self._started = time.perf_counter()

    def seconds(self) -> float:
        ended = time.perf_counter()
        return max(ended - self._started - (_run_delay() - self._delay), 1e-9)


def _run_delay() -> float:
    """Seconds that this thread was ready to run and had no core."""
    try:
        return int(_SCHEDSTAT.read_bytes().split()[1]) / 1e9
    except OSError:
        return 0.0


def seconds(call: Callable[[], Any], *, times: int = 5) -> float:
    """The median run; the first one, which warms up, does not count if there are more."""
    durations = []
    for _ in range(times):
        watch = Stopwatch()
        call()
        durations.append(watch.seconds())
    return statistics.median(durations[1:] or durations)


def paired_seconds(
    ours: Callable[[], Any], theirs: Callable[[], Any], *, times: int, together: int = 1
) -> tuple[float, float]:
    """The median run of theirs, and with it the median of what ours takes more; so many runs of each take turns.

    So both have the same neighbours, which change from second to second.
    """
    pairs = []
    for _ in range(times):
        both = [statistics.median(seconds(call, times=1) for _ in range(together)) for call in (ours, theirs)]
        pairs.append((both[0], both[1]))
    other = statistics.median(pair[1] for pair in pairs)
    return other + statistics.median(mine - other for mine, other in pairs), other


def directory_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def duckdb_file(path: Path, *, threads: int = 1) -> Any:
    """A DuckDB database in a file, as durable as ours: every commit is synced."""
    import duckdb

    path.unlink(missing_ok=True)
    return duckdb.connect(str(path), config={"threads": threads})


def names(columns: Sequence[str]) -> str:
    return ", ".join(columns)
