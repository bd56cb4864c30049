"""UPDATE and DELETE: the newest version is changed, under the version that was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import trio

from cratepy import limits
from cratepy.errors import CheckViolation, NotNullViolation, SQLParseError
from cratepy.model.expressions import Column, Parameter
from cratepy.model.plan import DeletePlan, GetPlan, Phase, QueryPlan, ShardSource, UpdatePlan
from cratepy.model.relations import Filter, Item, OutputColumn, Scan, ScanColumn
from cratepy.model.schema import CheckConstraint
from cratepy.model.types import BIGINT, INTEGER, TEXT, Field, array_of, object_of
from tests.execution.writes.fakes import (
    ID,
    NAME,
    Cluster,
    call,
    column,
    context,
    drain,
    error_of,
    greater,
    literal,
    open_cluster,
    table,
    values_plan,
)

N = Column(3, "n", BIGINT)
IDENTITY = (
    OutputColumn(901, "_id", TEXT),
    OutputColumn(902, "_seq_no", BIGINT),
    OutputColumn(903, "_primary_term", BIGINT),
)


def by_key(*keys: Any, **more: Any) -> GetPlan:
    return GetPlan(
        table_uuid="table-1",
        table=NAME,
        keys=tuple((key if isinstance(key, Parameter) else literal(key, INTEGER),) for key in keys),
        sources=("_id", "_seq_no", "_primary_term"),
        columns=IDENTITY,
        **more,
    )


def by_search(threshold: int) -> QueryPlan:
    """WHERE n > threshold."""
    scan = Scan(
        table_uuid="table-1",
        table=NAME,
        columns=(ScanColumn(51, "_id", TEXT, "_id"), ScanColumn(52, "n", BIGINT, "c3")),
    )
    relation = Filter(scan, greater(Column(52, "n", BIGINT), threshold))
    phase = Phase(id=0, nodes=("n1",), relation=relation, output=None, shards=(ShardSource("n1", "table-1", (0,)),))
    return QueryPlan(phases=(phase,), columns=IDENTITY)


def update(find: Any, *assignments: tuple[str, Any], **more: Any) -> UpdatePlan:
    items = tuple(Item(500 + i, name, expression) for i, (name, expression) in enumerate(assignments))
    return UpdatePlan(table_uuid="table-1", table=NAME, find=find, assignments=items, **more)


def delete(find: Any, **more: Any) -> DeletePlan:
    return DeletePlan(table_uuid="table-1", table=NAME, find=find, **more)


async def fill(cluster: Cluster, count: int = 4) -> None:
    await cluster.first.writes.insert(
        values_plan([(i, f"v{i}", i) for i in range(count)], cluster.definition), context()
    )


def found(cluster: Cluster, *keys: str) -> None:
    """What the search finds: these rows as they are now."""
    rows = []
    for key in keys:
        for shard in cluster.first.store.shards():
            rows.extend(row for row in shard.get([key], ["_id", "_seq_no", "_primary_term"]) if row is not None)
    columns = list(zip(*rows, strict=True))
    cluster.first.queries.columns = IDENTITY
    cluster.first.queries.batches = [
        pa.RecordBatch.from_arrays(
            [pa.array(columns[0], type=pa.string_view()), pa.array(columns[1]), pa.array(columns[2])],
            names=["c901", "c902", "c903"],
        )
    ]


def test_rows_by_key_are_set_to_constants_and_expressions(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            plan = update(
                by_key(1, 2, 99), ("a", literal("new", TEXT)), ("n", call("op_+", BIGINT, N, literal(10, BIGINT)))
            )
            assert (await cluster.first.writes.update(plan, context())).rowcount == 2
            assert cluster.rows() == [(0, "v0", 0), (1, "new", 11), (2, "new", 12), (3, "v3", 3)]

    trio.run(main)


def test_returning_gives_the_new_rows(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            returning = (Item(11, "id", Column(1, "id", INTEGER)), Item(12, "n", N))
            plan = update(by_key(3, 1), ("n", literal(7, BIGINT)), returning=returning)
            assert await drain(await cluster.first.writes.update(plan, context())) == [(3, 7), (1, 7)]

    trio.run(main)


def test_constraints_hold_for_updates(tmp_path: Path) -> None:
    definition = table(
        (ID, column(2, "a", TEXT, is_nullable=False), column(3, "n", BIGINT)),
        checks=(CheckConstraint("ck", '"n" > 0'),),
    )

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            await cluster.first.writes.insert(values_plan([(9, "x", 1)], definition), context())
            error = await error_of(
                cluster.first.writes.update(update(by_key(9), ("a", literal(None, TEXT))), context())
            )
            assert isinstance(error, NotNullViolation)
            checks = (Item(1, "ck", greater(N, 0)),)
            plan = update(by_key(9), ("n", literal(-1, BIGINT)), checks=checks)
            error = await error_of(cluster.first.writes.update(plan, context()))
            assert isinstance(error, CheckViolation)
            assert error.message == 'Failed CONSTRAINT ck CHECK ("n" > 0) for values: [9, x, -1]'

    trio.run(main)


def test_a_search_that_is_old_changes_the_newest_version(tmp_path: Path) -> None:
    """The row changed after the search saw it, and still satisfies the WHERE: nothing of the change is lost."""

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            found(cluster, "2", "3")
            await cluster.first.writes.update(update(by_key(2), ("a", literal("changed", TEXT))), context())
            plan = update(by_search(1), ("n", call("op_+", BIGINT, N, literal(100, BIGINT))))
            assert (await cluster.first.writes.update(plan, context())).rowcount == 2
            assert cluster.rows()[2:] == [(2, "changed", 102), (3, "v3", 103)]

    trio.run(main)


def test_a_row_that_no_longer_satisfies_the_search_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            found(cluster, "2", "3")
            await cluster.first.writes.update(update(by_key(2), ("n", literal(0, BIGINT))), context())
            plan = update(by_search(1), ("a", literal("hit", TEXT)))
            assert (await cluster.first.writes.update(plan, context())).rowcount == 1
            found(cluster, "3")
            await cluster.first.writes.update(update(by_key(3), ("n", literal(0, BIGINT))), context())
            assert (await cluster.first.writes.delete(delete(by_search(1)), context())).rowcount == 0
            assert cluster.rows() == [(0, "v0", 0), (1, "v1", 1), (2, "v2", 0), (3, "hit", 0)]

    trio.run(main)


def test_an_expected_version_that_has_passed_is_no_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            found(cluster, "2")
            pinned = update(by_search(-1), ("a", literal("pinned", TEXT)), expects_version=True)
            assert (await cluster.first.writes.update(pinned, context())).rowcount == 1
            assert (await cluster.first.writes.update(pinned, context())).rowcount == 0
            assert (
                await cluster.first.writes.delete(delete(by_search(-1), expects_version=True), context())
            ).rowcount == 0
            found(cluster, "2")
            assert (
                await cluster.first.writes.delete(delete(by_search(-1), expects_version=True), context())
            ).rowcount == 1
            assert len(cluster.rows()) == 3

    trio.run(main)


def test_deleted_rows_are_returned_as_they_were(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            find = msgspec.structs.replace(
                by_key(1),
                sources=("_id", "_seq_no", "_primary_term", "c2"),
                columns=(*IDENTITY, OutputColumn(2, "a", TEXT)),
            )
            plan = delete(
                find, returning=(Item(11, "a", Column(2, "a", TEXT)), Item(12, "_id", Column(901, "_id", TEXT)))
            )
            assert await drain(await cluster.first.writes.delete(plan, context())) == [("v1", "1")]
            assert len(cluster.rows()) == 3

    trio.run(main)


def test_parts_of_objects_are_set(tmp_path: Path) -> None:
    nested = object_of(
        (Field("a", INTEGER), Field("f", array_of(BIGINT)), Field("g", object_of((Field("h", BIGINT),))))
    )
    definition = table((ID, column(2, "d", nested), column(3, "s", object_of((Field("a", INTEGER),), "strict"))))

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            await cluster.first.writes.insert(
                values_plan([(1, {"a": 1, "f": [1, 2]}, None), (2, None, None)], definition), context()
            )
            plan = update(
                by_key(1, 2),
                ("d['a']", literal(100, INTEGER)),
                ("d['g']['h']", literal(5, BIGINT)),
                ("d['new']", literal("created", TEXT)),
                ("d['f'][1]", literal(99, BIGINT)),
            )
            assert (await cluster.first.writes.update(plan, context())).rowcount == 2
            assert [msgspec.json.decode(row[0]) for row in cluster.rows(("c2",))] == [
                {"a": 100, "f": [99, 2], "g": {"h": 5}, "new": "created"},
                {"a": 100, "g": {"h": 5}, "new": "created", "f": [99]},
            ]
            grown = cluster.definition.column("d")
            assert grown is not None
            assert grown.type.field("new") == TEXT
            error = await error_of(
                cluster.first.writes.update(update(by_key(1), ("s['new']", literal(1, INTEGER))), context())
            )
            assert isinstance(error, SQLParseError)
            assert error.message == "Cannot add column `new` to strict object `s`"

    trio.run(main)


def test_bulk_by_key_tells_the_rows_that_were_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await fill(cluster)
            plan = update(by_key(Parameter(1, INTEGER)), ("a", Parameter(0, TEXT)))
            rows = [["u1", 1], ["u2", 999], ["u3", 3], ["u4", 3]]
            items = await cluster.first.writes.bulk(plan, context(), rows)
            assert [item.rowcount for item in items] == [1, 0, 1, 1]
            assert items[1].error is not None
            assert (items[1].error.code, items[1].error.message) == (40411, "[999]: document missing")
            assert cluster.rows() == [(0, "v0", 0), (1, "u1", 1), (2, "v2", 2), (3, "u4", 3)]
            plan = update(by_key(Parameter(1, INTEGER)), ("n", call("op_+", BIGINT, N, Parameter(0, BIGINT))))
            items = await cluster.first.writes.bulk(plan, context(), [[5, 1], [5, 1], [5, 77]])
            assert [item.rowcount for item in items] == [1, 1, 0]
            removal = delete(by_key(Parameter(0, INTEGER)))
            items = await cluster.first.writes.bulk(removal, context(), [[1], [1], [2]])
            assert [item.rowcount for item in items] == [1, 0, 1]
            assert [row[0] for row in cluster.rows()] == [0, 3]

    trio.run(main)


def test_rows_clustered_by_a_column_without_key_are_found(tmp_path: Path) -> None:
    """The id does not tell the shard; all shards are asked."""

    async def main() -> None:
        async with open_cluster(tmp_path, table(key=(), clustered_by="a", shards=4)) as cluster:
            await fill(cluster, 6)
            ids = [row[0] for row in cluster.rows(("_id",))]
            found(cluster, *ids)
            assert (
                await cluster.first.writes.update(update(by_search(-1), ("n", literal(1, BIGINT))), context())
            ).rowcount == 6
            found(cluster, *ids[:2])
            assert (await cluster.first.writes.delete(delete(by_search(-1)), context())).rowcount == 2
            assert {row[2] for row in cluster.rows()} == {1}

    trio.run(main)


def test_an_update_of_huge_rows_has_few_of_them_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPDATE_FIRST_ROWS", 4)
    monkeypatch.setattr(limits, "UPDATE_BYTES", 64 * limits.KIB)
    definition = table(shards=1)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            values = [(i, "x" * 10_000, i) for i in range(100)]
            await cluster.first.writes.insert(values_plan(values, definition), context())
            seen = await trio.to_thread.run_sync(cluster.rows, ("_id", "_seq_no", "_primary_term"))
            columns = [pa.array(column) for column in zip(*seen, strict=True)]
            cluster.first.queries.batches = [pa.RecordBatch.from_arrays(columns, names=["c901", "c902", "c903"])]
            plan = update(by_search(-1), ("n", call("op_+", BIGINT, N, literal(1, BIGINT))))
            assert (await cluster.first.writes.update(plan, context())).rowcount == 100
            assert [row[2] for row in sorted(cluster.rows(("c1", "c2", "c3")))] == [i + 1 for i in range(100)]
            assert cluster.first.engine.calls >= 100 // 7, "about six rows at a time"

    trio.run(main)
