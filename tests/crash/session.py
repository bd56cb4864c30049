"""A shard under a workload: steps in, each answer compared with the ledger's.

In: a :class:`Setup` (table, seed) and steps. Out: AssertionError with what differs, or nothing. It speaks only the shard's
public words (``ShardStore.open_shard``, ``write``, ``sync``, ``refresh``, ``flush``, ``scan``, ``get`` …), so that it holds
for whatever is behind them.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from cratepy import limits
from cratepy.clock import FakeClock
from cratepy.errors import DiskFull, ShardFailed
from cratepy.model.arrow import stored_type
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.search import IndexedSource, MatchQuery
from cratepy.model.types import BIGINT, INTEGER, TEXT, DataType, Field, object_of
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.operations import SearchRequest, WriteBatch
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore
from tests.crash import ledger as ledgers
from tests.crash.disk import SECTOR, SimulatedDisk
from tests.crash.ledger import Ledger, Row, RowPlan

ROOT: Final = Path("/d")
#: Of aligned records: longer than what an encoding spends fewer bytes of length on.
_LEAST_TEXT: Final = 300
_IDS: Final = tuple(f"k{i}" for i in range(7))
_OBJECT: Final = object_of((Field("a", INTEGER), Field("b", TEXT)))


@dataclass(frozen=True, slots=True)
class Setup:
    """The table of a workload."""

    has_object: bool = False
    has_text_index: bool = False
    codec: str = "default"
    #: Records of the log begin where sectors begin, so that a whole old record can come back behind a new one.
    is_aligned: bool = False

    @property
    def columns(self) -> tuple[tuple[str, DataType], ...]:
        columns: list[tuple[str, DataType]] = [("n", BIGINT), ("t", TEXT)]
        if self.has_object:
            columns.append(("o", _OBJECT))
        if self.has_text_index:
            columns.append(("w", TEXT))
        return tuple(columns)

    def definition(self) -> TableDefinition:
        return TableDefinition(
            name=RelationName("doc", "t"),
            uuid="u",
            oid=1,
            columns=tuple(
                ColumnDefinition(
                    oid=oid,
                    name=name,
                    type=data_type,
                    index="fulltext" if name == "w" else "plain",
                    analyzer="standard" if name == "w" else None,
                )
                for oid, (name, data_type) in enumerate(self.columns, 1)
            ),
            settings={} if self.codec == "default" else {"codec": self.codec},
        )

    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(f"c{i}", stored_type(t)) for i, (_, t) in enumerate(self.columns, 1)])

    def values(self, number: int) -> tuple[Any, ...]:
        """The SQL values of a row."""
        values: list[Any] = [number, ledgers.text_of(number)]
        if self.has_object:
            values.append(ledgers.object_of(number))
        if self.has_text_index:
            values.append(ledgers.words_of(number))
        return tuple(values)

    def stored(self, number: int) -> list[Any]:
        return [json.dumps(value) if isinstance(value, dict) else value for value in self.values(number)]


@dataclass(frozen=True, slots=True)
class Write:
    """A batch; its rows are drawn when it is done, since what is right to expect depends on what is there."""

    kind: Literal["insert", "index", "delete"]
    seed: int
    rows: int
    is_plain: bool


Maintenance = Literal["sync", "refresh", "flush", "merge", "optimize", "expunge", "reopen", "term", "get"]
Step = Write | Maintenance

_MAINTENANCE: Final[tuple[Maintenance, ...]] = (
    *("sync",) * 9,
    *("refresh",) * 5,
    *("flush",) * 4,
    *("merge",) * 3,
    "optimize",
    "expunge",
    "reopen",
    "term",
    "get",
)


def draw_setup(seed: int, *, text_share: float) -> Setup:
    chance = random.Random(f"setup {seed}")
    if chance.random() < 0.2:
        return Setup(is_aligned=True)
    return Setup(
        has_object=chance.random() < 0.3,
        has_text_index=chance.random() < text_share,
        codec=chance.choice(("default", "best_compression")),
    )


def draw_steps(chance: random.Random, count: int, setup: Setup) -> list[Step]:
    steps: list[Step] = []
    while len(steps) < count:
        if setup.is_aligned and chance.random() < 0.65:
            steps.append(Write("index", chance.getrandbits(30), 1, is_plain=True))
            continue
        if setup.is_aligned:
            steps.append(chance.choice(("flush", "flush", "sync", "refresh", "reopen")))
            continue
        if chance.random() < 0.52:
            kind = chance.choices(("index", "insert", "delete"), (6, 3, 3))[0]
            rows = 1 if chance.random() < 0.5 else chance.randint(2, 4)
            steps.append(Write(kind, chance.getrandbits(30), rows, chance.random() < 0.6))  # type: ignore[arg-type]
        else:
            steps.append(chance.choice(_MAINTENANCE))
    return steps


def shrink_limits() -> None:
    """Small bounds, so that a tiny workload passes through every mechanism. For a process of its own."""
    for name, value in (
        ("MERGE_SEGMENTS", 3),
        ("TRANSLOG_RESERVE_BYTES_MIN", 1_024),
        ("TRANSLOG_RESERVE_BYTES_MAX", 4_096),
    ):
        assert hasattr(limits, name), name
        setattr(limits, name, value)


@dataclass(slots=True)
class Session:
    """One life of the shard: from an opening to a crash or a clean close."""

    setup: Setup
    files: FileSystem
    ledger: Ledger
    clock: FakeClock
    root: Path = ROOT
    #: For a mutant: acknowledges before the log is synced.
    acknowledges_early: bool = False
    shard: Shard = field(init=False)
    store: ShardStore = field(init=False)

    def open(self, *, create: bool) -> None:
        """Raises whatever opening raises."""
        self.store = ShardStore(self.root, clock=self.clock, files=self.files)
        self.shard = self.store.open_shard(
            self.setup.definition(), 0, "a", primary_term=self.ledger.primary_term, create=create
        )

    # --- steps -------------------------------------------------------------------------------------------------------

    def perform(self, step: Step) -> None:
        shard, ledger = self.shard, self.ledger
        match step:
            case Write():
                self._write(step)
            case "sync":
                shard.sync()
                ledger.acknowledge()
            case "refresh":
                shard.refresh()
            case "flush":
                shard.flush()
                ledger.acknowledge()
            case "merge":
                shard.merge(pause=self._work_beside)
            case "optimize":
                shard.optimize(max_num_segments=1)
                ledger.acknowledge()
            case "expunge":
                shard.optimize(only_expunge_deletes=True, flush=False)
            case "reopen":
                shard.close()
                if shard.failure is not None:
                    raise ShardFailed(shard.failure)
                ledger.acknowledge()
                self.open(create=False)
                self.settle()
            case "term":
                ledger.primary_term += 1
            case "get":
                self.check_gets()

    def _write(self, step: Write) -> None:
        ledger = self.ledger
        before = ledger.count
        plans = self._plans(step)
        expected = ledger.write(step.kind, plans)
        rows: pa.RecordBatch | PlainRow | None = None
        if step.kind != "delete":
            numbers = [plan.number for plan in plans if plan.number is not None]
            if step.is_plain and len(plans) == 1 and not self.setup.has_object:
                rows = PlainRow(self.setup.schema(), self.setup.values(numbers[0]))
            else:
                schema = self.setup.schema()
                columns = zip(*(self.setup.stored(number) for number in numbers), strict=True)
                arrays = [pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)]
                rows = pa.RecordBatch.from_arrays(arrays, schema=schema)
        wanted = [plan.expected for plan in plans]
        batch = WriteBatch(
            kind=step.kind,
            ids=[plan.id for plan in plans],
            rows=rows,
            primary_term=ledger.primary_term,
            expected=wanted if any(wanted) else None,
        )
        # What nobody is told of before a sync may be written by that.
        is_awaited = random.Random(step.seed).random() < 0.6
        try:
            if isinstance(rows, PlainRow) and batch.expected is None:
                if self._write_row(batch.ids[0], rows, is_awaited=is_awaited):
                    assert (expected.failures, expected.versions) == ([], [1]), expected
                    return
            result = self.shard.write(batch, is_awaited=is_awaited)
        except Exception:
            if self.shard.failure is None:
                ledger.take_back(before)
            raise
        assert list(result.failures) == expected.failures, (result.failures, expected.failures)
        assert list(result.versions) == expected.versions, (result.versions, expected.versions)
        if ledger.count > before:
            assert result.first_seq_no == expected.first_seq_no, (result.first_seq_no, expected.first_seq_no)
        if self.acknowledges_early:
            ledger.acknowledge()

    def _write_row(self, row_id: str, row: PlainRow, *, is_awaited: bool) -> bool:
        """The short way of a row that is the first of its id; False: it is not."""
        shard, ledger = self.shard, self.ledger
        position = shard.write_row(row_id, row, primary_term=ledger.primary_term, is_awaited=is_awaited)
        # A flush beside it begins another generation of the log, which is longer by its header.
        assert position is None or position <= shard.position, (position, shard.position)
        if position is not None and self.acknowledges_early:
            ledger.acknowledge()
        return position is not None

    def _plans(self, step: Write) -> list[RowPlan]:
        chance = random.Random(step.seed)
        ids = chance.sample(_IDS, step.rows)
        if step.rows > 2 and chance.random() < 0.2:
            ids[-1] = ids[0]
        plans = []
        for row_id in ids:
            number = None
            if step.kind != "delete":
                number = self._new_number(row_id)
            expected = None
            old = self.ledger.now.get(row_id)
            if step.kind != "insert" and old is not None and chance.random() < 0.4:
                expected = (old.seq_no + (chance.random() < 0.2), old.primary_term)
            plans.append(RowPlan(row_id, number, expected))
        return plans

    def _new_number(self, row_id: str) -> int:
        number = self.ledger.next_number
        self.ledger.next_number += 1
        if not self.setup.is_aligned:
            return number
        stats = self.shard.stats()
        end = (
            stats.translog_bytes
            + _record_bytes()[not stats.translog_operations, row_id in self.ledger.now]
            + _LEAST_TEXT
        )
        return ledgers.sized(number, _LEAST_TEXT + -end % SECTOR)

    def _work_beside(self, written_bytes: int) -> None:
        """In the middle of a merge: rows that it copies die, and a refresh says so."""
        chance = random.Random(self.ledger.next_number * 1_000 + written_bytes)
        beside: list[Step] = [
            Write(chance.choice(("index", "delete")), chance.getrandbits(30), 2, is_plain=False),
            chance.choice(("sync", "refresh", "flush")),
        ]
        for step in beside[: chance.randrange(3)]:
            self.perform(step)

    # --- checks ------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """After an opening: what is there is a prefix of what was begun, with all that was acknowledged."""
        count = self.shard.stats().max_seq_no + 1
        ledger = self.ledger
        assert count >= ledger.acknowledged, f"{ledger.acknowledged - count} acknowledged operations are lost"
        assert count <= ledger.count, f"{count - ledger.count} operations appear from nowhere"
        if self._is_all_visible():
            self.check_scan(ledger.states[count])
        ledger.restart(count)
        self.check_gets()

    def _is_all_visible(self) -> bool:
        """An opening makes everything visible, unless the disk is full."""
        if self.shard.stats().buffered_rows == 0:
            return True
        try:
            self.shard.refresh()
        except DiskFull:
            return False
        return True

    def check_scan(self, state: dict[str, Row]) -> None:
        """A scan of everything is exactly the state, in the order of the sequence numbers."""
        columns = [f"c{i}" for i in range(1, len(self.setup.columns) + 1)]
        sources = ["_id", "_seq_no", "_primary_term", "_version", *columns]
        if self.setup.has_object:
            sources += ["c3['a']", "c3['b']"]
        found = [row for batch in self.shard.scan(sources) for row in _tuples(batch)]
        rows = sorted(state.values(), key=lambda row: row.seq_no)
        expected = [
            (
                row.id,
                row.seq_no,
                row.primary_term,
                row.version,
                *self.setup.values(row.number),
                *self._leaves(row.number),
            )
            for row in rows
        ]
        if self.setup.has_object:
            found = [(*row[:6], None if row[6] is None else json.loads(row[6]), *row[7:]) for row in found]
        assert found == expected, difference("scan", found, expected)
        assert self.shard.row_count() == len(expected), (self.shard.row_count(), len(expected))
        if self.setup.has_text_index:
            self._check_search(state)

    def _check_search(self, state: dict[str, Row]) -> None:
        """One query that all rows with words match, and whether they match another one, too."""
        source = f"c{len(self.setup.columns)}"
        word = ledgers.WORDS[len(state) % len(ledgers.WORDS)]
        queries = tuple(MatchQuery(sources=(IndexedSource(source),), text=text) for text in ("Common", word))
        request = SearchRequest(queries=queries, required=1, sources=("_id", "_match_1"))
        found = [row for batch in self.shard.search(request) for row in _tuples(batch)]
        rows = sorted(state.values(), key=lambda row: row.seq_no)
        words = [(row.id, ledgers.words_of(row.number)) for row in rows]
        expected = [(row_id, word in text.split()) for row_id, text in words if text is not None]
        assert found == expected, difference(f"search of {word}", found, expected)

    def _leaves(self, number: int) -> tuple[Any, ...]:
        if not self.setup.has_object:
            return ()
        value = ledgers.object_of(number) or {}
        return value.get("a"), value.get("b")

    def check_more(self) -> None:
        """Answers that only some rigs ask for: bounds, columns on their own, every committed file."""
        shard = self.shard
        numbers = [row.number for row in self.ledger.now.values()]
        bounds = shard.bounds("c1")
        if numbers and bounds is not None and bounds.minimum is not None:
            assert bounds.minimum <= min(numbers), (bounds, numbers)
            assert bounds.maximum is not None
            assert bounds.maximum >= max(numbers), (bounds, numbers)
        found = sorted(value for batch in shard.scan(["c1"]) for value in batch.column(0).to_pylist())
        assert found == sorted(numbers), difference("scan of c1", found, sorted(numbers))
        shard.verify()

    def check_gets(self) -> None:
        """Every id, real time; those that are not there, too."""
        sources = ["_seq_no", "_primary_term", "_version", *(f"c{i}" for i in range(1, len(self.setup.columns) + 1))]
        state = self.ledger.now
        found = self.shard.get(_IDS, sources)
        for row_id, row in zip(_IDS, found, strict=True):
            old = state.get(row_id)
            expected = (
                None if old is None else (old.seq_no, old.primary_term, old.version, *self.setup.values(old.number))
            )
            assert row == expected, difference(f"get of {row_id}", row, expected)


def _tuples(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def difference(what: str, found: Any, expected: Any) -> str:
    """Short enough to print, with the beginning of both."""
    return f"{what} gives {_short(found)}, expected {_short(expected)}"


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:20]}…({len(text)})"


@functools.cache
def _record_bytes() -> dict[tuple[bool, bool], int]:
    """Bytes of an aligned record beside its text: (first of its log, replaces a row) → bytes. Found by writing some."""
    found: dict[tuple[bool, bool], int] = {}
    setup = Setup(is_aligned=True)
    session = Session(setup, SimulatedDisk(), Ledger(), FakeClock())
    session.open(create=True)
    for is_first, replaces in ((True, False), (False, False), (False, True), (True, True)):
        if is_first and replaces:
            session.shard.flush()
        before = session.shard.stats().translog_bytes
        values = setup.values(ledgers.sized(1, _LEAST_TEXT))
        row = PlainRow(setup.schema(), values)
        row_id = "k0" if replaces else f"n{len(found)}"
        session.shard.write(WriteBatch(kind="index", ids=["k0" if is_first else row_id], rows=row, primary_term=1))
        found[is_first, replaces] = session.shard.stats().translog_bytes - before - _LEAST_TEXT
    return found
