"""UPDATE and DELETE of one row the short way: what it does is what the general way does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from cratepy.errors import CrateError
from cratepy.execution.writes.single_changes import SingleChanges
from cratepy.model.expressions import Column, Parameter
from cratepy.model.plan import ConflictAction, StatementContext
from cratepy.model.relations import Item
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMPTZ,
    DataType,
    array_of,
)
from cratepy.storage.shard import Shard
from tests.execution.writes.fakes import (
    ID,
    Cluster,
    call,
    column,
    context,
    literal,
    open_cluster,
    parameters_plan,
    table,
    values_plan,
)
from tests.execution.writes.test_changes import by_key, delete, fill, update
from tests.execution.writes.test_primary import Told

SHORT_TEXT = DataType("text", length=5)
TYPES: dict[str, DataType] = {
    "t": TEXT, "v": SHORT_TEXT, "b": BOOLEAN, "s": SMALLINT, "i": INTEGER, "l": BIGINT, "r": REAL, "d": DOUBLE,
    "z": TIMESTAMPTZ, "day": DATE, "a": array_of(INTEGER), "q": TEXT,
}  # fmt: skip
WIDE = table(
    (ID, *(column(i + 2, name, kind, is_nullable=name != "q") for i, (name, kind) in enumerate(TYPES.items())))
)
ROW = ("old", "old", True, 1, 2, 3, 0.5, 0.25, 1_000, 86_400_000, [1, None], "q")
SOURCES = tuple(f"c{i + 1}" for i in range(len(TYPES) + 1))


class Ways:
    """Counts what the short way did; can be closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open = True
        self.taken = 0
        for name, refusal in (("update", None), ("delete", None), ("upsert", False)):
            monkeypatch.setattr(SingleChanges, name, self._wrapped(getattr(SingleChanges, name), refusal))

    def _wrapped(self, method: Any, refusal: bool | None) -> Any:
        async def tried(singles: SingleChanges, *arguments: Any) -> Any:
            result = await method(singles, *arguments) if self.is_open else refusal
            self.taken += result is not refusal
            return result

        return tried


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


async def outcome(cluster: Cluster, plan: Any, given: StatementContext) -> Any:
    try:
        return (await cluster.first.writes.update(plan, given)).rowcount
    except CrateError as error:
        return type(error), error.message


VALUES = [None, "x", "", "é" * 5, "123456", "x" * 40_000, True, 0, -1, 2**15, 2**31, 2**63, 1.5, float("inf"), 86_400_001, [1], [None], []]  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("is_parameter", [True, False])
def test_a_value_has_the_same_outcome_both_ways(tmp_path: Path, ways: Ways, name: str, *, is_parameter: bool) -> None:
    kind = TYPES[name]

    async def main() -> None:
        async with open_cluster(tmp_path, WIDE) as cluster:
            rows = [(i, *ROW) for i in (1, 2)]
            await cluster.first.writes.insert(values_plan(rows, WIDE), context())
            for value in VALUES:
                if not is_parameter and not _is_of(value, kind):
                    continue  # no compiler makes such a literal
                if type(value) is int and value >= 2**63 and kind is DOUBLE:
                    continue  # sessions make floats of whole numbers for doubles
                expression = Parameter(0, kind) if is_parameter else literal(value, kind)
                outcomes = []
                for key in (1, 2):
                    ways.is_open = key == 1
                    outcomes.append(await outcome(cluster, update(by_key(key), (name, expression)), context(value)))
                assert outcomes[0] == outcomes[1], value
                first, second = cluster.rows(SOURCES)
                assert repr(first[1:]) == repr(second[1:]), value
            # Parameters for reals and arrays are looked at closely by the general way.
            assert ways.taken or (is_parameter and name in ("r", "a"))

    trio.run(main)


def test_a_change_begun_without_waiting_is_in_the_log_and_says_how_many_rows(tmp_path: Path) -> None:
    definition = table((ID, column(2, "t", TEXT)))

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            writes = cluster.first.writes
            await writes.insert(values_plan([(1, "a"), (2, "b")], definition), context())
            assignment = ("t", Parameter(0, TEXT))
            begun = [
                writes.begin(update(by_key(1), assignment), context("new")),
                writes.begin(update(by_key(3), assignment), context("new")),
                writes.begin(delete(by_key(2)), context()),
                writes.begin(delete(by_key(3)), context()),
            ]
            assert [one.outcome for one in begun if one is not None] == [1, 0, 1, 0]
            told = Told(len(begun))
            for one in begun:
                assert one is not None
                writes.when_durable(one.copy, one.position, told)
            with trio.fail_after(10):
                await told.are_all.wait()
            assert told.failures == [None] * len(begun)
            assert await trio.to_thread.run_sync(cluster.rows, ("c1", "c2")) == [(1, "new")]

    trio.run(main)


def _is_of(value: Any, kind: DataType) -> bool:
    """Whether a literal of the type may have this value."""
    if value is None:
        return True
    if kind.kind == "array":
        return isinstance(value, list)
    if kind.kind == "boolean":
        return isinstance(value, bool)
    if kind.kind in ("real", "double precision"):
        return isinstance(value, float)
    if kind.kind == "text":
        return isinstance(value, str)
    bits = {"smallint": 15, "integer": 31}.get(kind.kind, 63)
    return type(value) is int and -(2**bits) <= value < 2**bits and (kind.kind != "date" or value % 86_400_000 == 0)


def test_rows_that_are_there_and_those_that_are_not(tmp_path: Path, ways: Ways) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            writes = cluster.first.writes
            change = update(by_key(Parameter(0, INTEGER)), ("a", Parameter(1, TEXT)), ("n", literal(7, BIGINT)))
            assert (await writes.update(change, context(1, "x"))).rowcount == 1
            assert (await writes.update(change, context(99, "x"))).rowcount == 0
            cluster.rows()  # refreshes: row 2 is changed in a segment
            assert (await writes.update(change, context(2, None))).rowcount == 1
            removal = delete(by_key(Parameter(0, INTEGER)))
            assert (await writes.delete(removal, context(0))).rowcount == 1
            assert (await writes.delete(removal, context(0))).rowcount == 0
            assert ways.taken == 5
            assert (await writes.update(change, context(None, "x"))).rowcount == 0
            assert (await writes.update(change, context(0, "x"))).rowcount == 0
            assert cluster.rows() == [(1, "x", 7), (2, None, 7), (3, "v3", 3)]

    trio.run(main)


def test_a_row_on_another_node_is_changed_the_general_way(tmp_path: Path, ways: Ways) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, nodes=2, owners=("n2",)) as cluster:
            await fill(cluster)
            assert (await cluster.first.writes.update(update(by_key(1), ("a", literal("x", TEXT))), context())).rowcount
            assert (await cluster.first.writes.delete(delete(by_key(2)), context())).rowcount == 1
            assert ways.taken == 0
            assert cluster.rows() == [(0, "v0", 0), (1, "x", 1), (3, "v3", 3)]

    trio.run(main)


def test_who_is_overtaken_reads_again(tmp_path: Path, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the read and the write another writer changes the row: its other column must not be undone."""
    read = Shard.get

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            stale = next(rows for s in cluster.first.store.shards() if (rows := read(s, ["1"], ["_seq_no", "_primary_term", "c1", "c2", "c3"]))[0])  # fmt: skip
            writes = cluster.first.writes
            assert (await writes.update(update(by_key(1), ("n", literal(50, BIGINT))), context())).rowcount == 1
            seen: list[int] = []

            def old_once(shard: Shard, ids: Any, sources: Any) -> Any:
                seen.append(1)
                return stale if len(seen) == 1 else read(shard, ids, sources)

            monkeypatch.setattr(Shard, "get", old_once)
            assert (await writes.update(update(by_key(1), ("a", literal("x", TEXT))), context())).rowcount == 1
            assert ways.taken == 1
            monkeypatch.setattr(Shard, "get", read)
            assert cluster.rows()[1] == (1, "x", 50)

    trio.run(main)


UPSERTS: dict[str, list[tuple[str, Any]]] = {
    "proposed": [("a", Column(-2, "a", TEXT)), ("n", Column(-3, "n", BIGINT))],
    "constants": [("a", Parameter(2, TEXT)), ("n", literal(9, BIGINT))],
    "its own": [("n", Column(3, "n", BIGINT))],
    "null": [("a", literal(None, TEXT))],
    "computed": [("n", call("op_+", BIGINT, Column(3, "n", BIGINT), Column(-3, "n", BIGINT)))],
}


@pytest.mark.parametrize("name", UPSERTS)
@pytest.mark.parametrize("needs_a", [False, True])
def test_an_upsert_has_the_same_outcome_both_ways(tmp_path: Path, ways: Ways, name: str, *, needs_a: bool) -> None:
    columns = (ID, column(2, "a", TEXT, is_nullable=not needs_a), column(3, "n", BIGINT))
    action = ConflictAction(assignments=tuple(Item(500 + i, *one) for i, one in enumerate(UPSERTS[name])))

    async def main() -> None:
        states = []
        for is_open in (True, False):
            ways.is_open = is_open
            async with open_cluster(tmp_path / str(is_open), table(columns)) as cluster:
                plan = parameters_plan(cluster.definition, ["id", "a"], conflict=action)
                outcomes = []
                for given in (
                    (1, "x", "p"),
                    (1, "y", "p"),
                    (1, "z", None),
                    (1, None, "q"),
                    (2, "x" * 40_000, "p"),
                    (2, "v", 7),
                ):
                    try:
                        outcomes.append((await cluster.first.writes.insert(plan, context(*given))).rowcount)
                    except CrateError as error:
                        outcomes.append((type(error), error.message))
                sources = ("_id", "_version", "c1", "c2", "c3")
                states.append((outcomes, cluster.rows(sources)))
        assert states[0] == states[1]
        assert ways.taken or name == "computed"

    trio.run(main)


def test_an_upsert_that_is_overtaken_goes_the_general_way(
    tmp_path: Path, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Shard.get
    action = ConflictAction(assignments=(Item(500, "a", Column(-2, "a", TEXT)),))

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            reads: list[int] = []

            def missed_once(shard: Shard, ids: Any, sources: Any) -> Any:
                reads.append(1)
                return [None] if len(reads) == 1 else read(shard, ids, sources)

            monkeypatch.setattr(Shard, "get", missed_once)
            plan = parameters_plan(cluster.definition, ["id", "a"], conflict=action)
            assert (await cluster.first.writes.insert(plan, context(1, "x"))).rowcount == 1
            assert ways.taken == 0
            monkeypatch.setattr(Shard, "get", read)
            assert cluster.rows()[1] == (1, "x", 1)

    trio.run(main)
