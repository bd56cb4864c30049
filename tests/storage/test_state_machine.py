"""A shard against a dict: any order of writes, maintenance, restarts and power cuts gives what the dict gives.

On the simulated disk of ``tests.crash``. After a power cut the shard is what the dict was at some moment between the last
sync and the cut; which one it was, its highest sequence number tells.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cratepy import limits
from cratepy.storage.operations import ColumnRange, WriteBatch
from cratepy.storage.shard import Shard
from tests.crash.disk import SimulatedDisk
from tests.storage.shards import open_shard, rows, scanned, table
from tests.storage.text.texts import found, fulltext, match, words

IDS = st.sampled_from([f"k{i}" for i in range(12)])
WORDS = ("red", "Green", "blue", "it's", "naïve", "x1")
PHRASES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
VALUES = st.tuples(
    st.one_of(st.none(), st.integers(-5, 5)), st.one_of(st.none(), st.text(max_size=20), PHRASES, PHRASES)
)


@dataclass(frozen=True)
class Row:
    value: tuple[int | None, str | None]
    version: int
    seq_no: int


class ShardMachine(RuleBasedStateMachine):
    definition = table()

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimulatedDisk()
        self.directory = Path("/data/s")
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(limits, "MERGE_SEGMENTS", 2)
        self.starts = 0
        self.shard = self._open()
        self.now: dict[str, Row] = {}
        self.visible: dict[str, Row] = {}
        #: The dict after each operation.
        self.states: list[dict[str, Row]] = [{}]
        self.synced = 0

    @property
    def next_seq_no(self) -> int:
        return len(self.states) - 1

    def _open(self) -> Shard:
        # Files of different starts must have different ids.
        self.starts += 1
        return open_shard(
            self.directory, definition=self.definition, files=self.disk, create=self.starts == 1, seed=self.starts
        )

    def teardown(self) -> None:
        self.patch.undo()
        self.shard.close()

    def _accept(self, key: str, value: tuple[int | None, str | None]) -> None:
        old = self.now.pop(key, None)
        self.now[key] = Row(value, 1 if old is None else old.version + 1, self.next_seq_no)
        self.states.append(dict(self.now))

    @rule(batch=st.lists(st.tuples(IDS, VALUES), min_size=1, max_size=6), is_insert=st.booleans())
    def write(self, batch: list[tuple[str, tuple[int | None, str | None]]], is_insert: bool) -> None:
        result = self.shard.write(
            WriteBatch(
                kind="insert" if is_insert else "index",
                ids=[key for key, _ in batch],
                rows=rows([value for _, value in batch]),
                primary_term=1,
            )
        )
        assert result.first_seq_no == self.next_seq_no
        failures, versions = [], []
        for index, (key, value) in enumerate(batch):
            if is_insert and key in self.now:
                failures.append((index, "duplicate"))
                versions.append(0)
                continue
            self._accept(key, value)
            versions.append(self.now[key].version)
        assert list(result.failures) == failures
        assert list(result.versions) == versions

    @rule(first=st.integers(0, 11), value=VALUES)
    def write_many(self, first: int, value: tuple[int | None, str | None]) -> None:
        """Enough rows for the vectorised paths."""
        ids = [f"k{first}", *(f"many-{first}-{i}" for i in range(40))]
        self.shard.write(WriteBatch(kind="index", ids=ids, rows=rows([value] * 41), primary_term=1))
        for key in ids:
            self._accept(key, value)

    @rule(ids=st.lists(IDS, min_size=1, max_size=4))
    def delete(self, ids: list[str]) -> None:
        result = self.shard.write(WriteBatch(kind="delete", ids=ids, rows=None, primary_term=1))
        failures = []
        for index, key in enumerate(ids):
            if self.now.pop(key, None) is None:
                failures.append((index, "missing"))
            else:
                self.states.append(dict(self.now))
        assert list(result.failures) == failures

    @rule(key=IDS, value=VALUES, is_right=st.booleans())
    def compare_and_set(self, key: str, value: tuple[int | None, str | None], is_right: bool) -> None:
        old = self.now.get(key)
        expected = (old.seq_no if old is not None and is_right else 1_000_000, 1)
        result = self.shard.write(
            WriteBatch(kind="index", ids=[key], rows=rows([value]), primary_term=1, expected=[expected])
        )
        if old is None:
            assert list(result.failures) == [(0, "missing")]
        elif not is_right:
            assert list(result.failures) == [(0, "conflict")]
        else:
            assert not result.failures
            self._accept(key, value)

    @rule()
    def refresh(self) -> None:
        self.shard.refresh()
        self.visible = dict(self.now)

    @rule(writes=st.lists(st.tuples(IDS, VALUES), max_size=4), is_refreshed=st.booleans())
    def merge(self, writes: list[tuple[str, tuple[int | None, str | None]]], is_refreshed: bool) -> None:
        """Rows are written, and refreshed, while the new segment is."""
        self.shard.refresh()
        self.visible = dict(self.now)

        def meanwhile(_: int) -> None:
            if writes:
                key, value = writes.pop()
                self.shard.write(WriteBatch(kind="index", ids=[key], rows=rows([value]), primary_term=1))
                self._accept(key, value)
                if is_refreshed:
                    self.refresh()

        while self.shard.merge(pause=meanwhile):
            pass

    @rule()
    def flush(self) -> None:
        self.shard.flush()
        self.visible = dict(self.now)
        self.synced = self.next_seq_no

    @rule()
    def sync(self) -> None:
        self.shard.sync()
        self.synced = self.next_seq_no

    @rule(segments=st.integers(1, 3))
    def optimize(self, segments: int) -> None:
        self.shard.optimize(max_num_segments=segments)
        self.visible = dict(self.now)
        self.synced = self.next_seq_no
        assert len(self.shard.stats().segments) <= segments

    @rule()
    def expunge(self) -> None:
        self.shard.optimize(only_expunge_deletes=True, flush=False)
        self.visible = dict(self.now)

    @rule(is_clean=st.booleans())
    def restart(self, is_clean: bool) -> None:
        if is_clean:
            self.shard.close()
        self.shard = self._open()
        self.visible = dict(self.now)
        self.synced = self.next_seq_no

    @rule(variant=st.integers(0, 12), seed=st.integers(0, 1 << 30))
    def cut_the_power(self, variant: int, seed: int) -> None:
        self.disk = SimulatedDisk(self.disk.image().settled(variant, random.Random(seed)))
        self.shard = self._open()
        left = self.shard.stats().max_seq_no + 1
        assert self.synced <= left <= self.next_seq_no
        self.now = dict(self.states[left])
        self.visible = dict(self.now)
        del self.states[left + 1 :]
        self.synced = left

    @rule(low=st.integers(-6, 6), high=st.integers(-6, 6))
    def scan_a_range(self, low: int, high: int) -> None:
        """Blocks may be left out, rows that match may not."""
        batches = self.shard.scan(("_id", "c1"), ranges=[ColumnRange("c1", minimum=low, maximum=high)])
        found = {row["_id"] for batch in batches for row in batch.to_pylist()}
        wanted = {key for key, row in self.visible.items() if row.value[0] is not None and low <= row.value[0] <= high}
        assert wanted <= found <= self.visible.keys()

    @rule()
    @precondition(lambda self: len(self.now) > 0)
    def get_all(self) -> None:
        ids = [*self.now, "none"]
        found = self.shard.get(ids, ["c1", "c2", "_version", "_seq_no"])
        assert found == [*((*row.value, row.version, row.seq_no) for row in self.now.values()), None]

    @invariant()
    def gets_agree(self) -> None:
        ids = [f"k{i}" for i in range(12)]
        found = self.shard.get(ids, ["c1", "_version"])
        expected = [self.now.get(key) for key in ids]
        assert found == [None if row is None else (row.value[0], row.version) for row in expected]

    @invariant()
    def scans_agree(self) -> None:
        found = {row[0]: row[1:] for row in scanned(self.shard, ("_id", "c1", "c2", "_version", "_seq_no"))}
        assert found == {key: (*row.value, row.version, row.seq_no) for key, row in self.visible.items()}
        assert self.shard.row_count() == len(self.visible)
        order = [row[0] for row in scanned(self.shard, ("_seq_no",))]
        assert order == sorted(order)
        assert self.shard.failure is None


class SearchMachine(ShardMachine):
    """The same with a text index, which says what a look at each text says."""

    definition = fulltext("standard")

    @rule(text=PHRASES, kind=st.sampled_from(["or", "and", "phrase"]), limit=st.integers(1, 8))
    def search(self, text: str, kind: str, limit: int) -> None:
        wanted = [word.lower() for word in text.split()]
        expected = [key for key, row in self.visible.items() if _matches(wanted, row.value[1], kind)]
        options = (("operator", "and"),) if kind == "and" else ()
        query = match(text, *options, kind="phrase" if kind == "phrase" else "best_fields")
        sources = ("_id", "c1", "_seq_no", "_score")
        hits = found(self.shard, query, sources=sources)
        assert sorted(row[0] for row in hits) == sorted(expected)
        assert all(row[1:3] == (self.visible[row[0]].value[0], self.visible[row[0]].seq_no) for row in hits)
        assert [row[2] for row in hits] == sorted(row[2] for row in hits), "in the order of a scan"
        best = found(self.shard, query, sources=sources, limit=limit)
        assert [row[3] for row in best] == sorted((row[3] for row in hits), reverse=True)[:limit]
        assert set(best) <= set(hits)
        assert self.shard.text_view_failure is None


def _matches(wanted: list[str], text: str | None, kind: str) -> bool:
    there = words(text)
    if kind == "phrase":
        return any(there[at : at + len(wanted)] == wanted for at in range(len(there)))
    return (all if kind == "and" else any)(word in there for word in wanted)


TestSearchMachine = SearchMachine.TestCase
TestSearchMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None, derandomize=True)
TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)
