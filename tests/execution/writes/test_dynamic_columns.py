"""Columns that a dynamic table does not have yet: added before the row is written, whoever else adds them meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cratepy import limits
from cratepy.errors import BadRequest, ColumnUnknown, ConversionError, CrateError, InvalidColumnName, SQLParseError
from cratepy.execution.writes.objects import guess_type
from cratepy.model.expressions import Column, Literal, Parameter
from cratepy.model.plan import ConflictAction, InsertPlan
from cratepy.model.relations import Item
from cratepy.model.schema import NEW_COLUMN_IDS, TableDefinition
from cratepy.model.types import (
    BIGINT,
    DOUBLE,
    INTEGER,
    TEXT,
    TIMESTAMPTZ,
    UNDEFINED,
    DataType,
    Field,
    array_of,
    object_of,
)
from tests.execution.writes.fakes import Cluster, Node, column, context, error_of, open_cluster, table

ID = column(1, "id", INTEGER)


def dynamic(**more: Any) -> TableDefinition:
    return msgspec.structs.replace(table((ID,)), column_policy="dynamic", **more)


def plan(definition: TableDefinition, new: dict[str, DataType], *, rows: int = 1, **more: Any) -> InsertPlan:
    """INSERT INTO t (id, new…) VALUES ($1, $2, …), … as it was planned when none of the new columns was there."""
    types = {"id": INTEGER, **new}
    values = [
        tuple(Parameter(row * len(types) + i, kind) for i, kind in enumerate(types.values())) for row in range(rows)
    ]
    return InsertPlan(
        table_uuid=definition.uuid,
        table=definition.name,
        targets=tuple(types),
        rows=tuple(values),
        new_columns=tuple(Field(name, kind) for name, kind in new.items()),
        **more,
    )


async def insert(
    cluster: Cluster, *rows: tuple[Any, ...], names: str = "x", node: Node | None = None, **more: Any
) -> Any:
    """Rows of an id and a value for each of the names."""
    new = dict.fromkeys(names.split(), UNDEFINED)
    parameters = [value for row in rows for value in row]
    statement = plan(cluster.definition, new, rows=len(rows), **more)
    return await (node or cluster.first).writes.insert(statement, context(*parameters))


def types(cluster: Cluster) -> dict[str, str]:
    return {c.name: c.type.name for c in cluster.definition.columns}


def stored(cluster: Cluster, name: str) -> list[Any]:
    """(id, value) of all rows."""
    found = cluster.definition.column(name)
    assert found is not None
    return cluster.rows(("c1", f"c{found.oid}"))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([1], "bigint"), ([1.5], "double precision"), ([1, 2.5], "double precision"), (["2020-01-01"], "text"),
        ([True], "boolean"), ([None, "x"], "text"), ([["a", None]], "text_array"), ([[], [1]], "bigint_array"),
        ([[[1], [2.5]]], "double precision_array_array"), ([[]], "undefined_array"), ([None], "undefined"),
        ([{"a": 1}], "object"), ([[{"a": 1}, None]], "object_array"),
    ],
)  # fmt: skip
def test_types_are_guessed_from_the_values(values: list[Any], name: str) -> None:
    errors: dict[int, CrateError] = {}
    assert guess_type(values, name="x", errors=errors).name == name
    assert not errors


def test_new_columns_are_one_change_and_then_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            names = [f"new{i}" for i in range(limits.TABLE_COLUMNS_MAX - 1)]
            await insert(cluster, (1, *range(len(names))), names=" ".join(names))
            assert len(cluster.shared.commands) == 1
            assert len(cluster.definition.columns) == limits.TABLE_COLUMNS_MAX
            assert stored(cluster, "new77") == [(1, 77)]
            with pytest.raises(SQLParseError, match=r"Limit of total columns \[1000\] in table \[doc.t\] exceeded"):
                await insert(cluster, (2, "x"), names="onemore")
            assert stored(cluster, "new77") == [(1, 77)]

    trio.run(main)


def test_a_column_without_a_value_is_not_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            await insert(cluster, (1, None), (2, None))
            assert types(cluster) == {"id": "integer"}
            await insert(cluster, (3, None), (4, "x"))
            assert stored(cluster, "x") == [(1, None), (2, None), (3, None), (4, "x")]

    trio.run(main)


def test_an_empty_array_is_kept_and_typed_by_the_next_value(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            await insert(cluster, (1, []))
            assert types(cluster)["x"] == "undefined_array"
            await insert(cluster, (2, []))
            await insert(cluster, (3, [1.5]))
            assert types(cluster)["x"] == "double precision_array"
            assert stored(cluster, "x") == [(1, []), (2, []), (3, [1.5])]
            assert "Cannot cast" in (await error_of(insert(cluster, (4, "text")))).message

    trio.run(main)


def test_a_typed_expression_gives_its_type(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            statement = plan(cluster.definition, {"at": TIMESTAMPTZ, "f": DOUBLE, "o": UNDEFINED})
            await cluster.first.writes.insert(statement, context(1, 1_700_000_000_000, 1, {"k": {"z": [1]}}))
            assert types(cluster) == {
                "id": "integer", "at": "timestamp with time zone", "f": "double precision", "o": "object",
            }  # fmt: skip
            found = cluster.definition.column("o")
            assert found is not None
            assert found.type == object_of((Field("k", object_of((Field("z", array_of(BIGINT)),))),))

    trio.run(main)


def test_writers_that_add_the_same_column_both_succeed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic(), nodes=3, owners=("n1", "n2", "n3")) as cluster:
            async with trio.open_nursery() as nursery:
                for i in range(12):
                    node = cluster.nodes[i % 3]

                    async def one(i: int = i, node: Node = node) -> None:
                        await insert(cluster, (i, i * 10), node=node)

                    nursery.start_soon(one)
            assert types(cluster) == {"id": "integer", "x": "bigint"}
            assert sorted(stored(cluster, "x")) == [(i, i * 10) for i in range(12)]

    trio.run(main)


@pytest.mark.parametrize("value", ["17", "words"])
def test_the_slower_of_two_types_is_cast_or_refused_and_nothing_is_half_written(tmp_path: Path, value: str) -> None:
    """Both planned and guessed before either asked the master; the number is first."""

    async def main() -> None:
        async with open_cluster(tmp_path, dynamic(), nodes=2, owners=("n1", "n2")) as cluster:
            outcome: list[Any] = []

            async def slower() -> None:
                try:
                    outcome.append(await insert(cluster, (2, value, "kept"), names="x y", node=cluster.nodes[1]))
                except CrateError as error:
                    outcome.append(error)

            async with trio.open_nursery() as nursery:
                ready, submit = trio.Event(), cluster.nodes[1].cluster.submit

                async def held(command: Any, **more: Any) -> Any:
                    # The second writer has made up its mind before the first one's column is there.
                    ready.set()
                    await cluster.shared.wait_changed()
                    return await submit(command, **more)

                cluster.nodes[1].cluster.submit = held
                nursery.start_soon(slower)
                await ready.wait()
                cluster.nodes[1].cluster.submit = submit
                await insert(cluster, (1, 5))
            assert types(cluster)["x"] == "bigint"
            if value == "17":
                assert stored(cluster, "x") == [(1, 5), (2, 17)]
                assert stored(cluster, "y") == [(1, None), (2, "kept")]
            else:
                assert isinstance(outcome[0], ConversionError)
                assert "Cannot cast value `words` to type `bigint`" in outcome[0].message
                assert stored(cluster, "x") == [(1, 5)]

    trio.run(main)


def test_bulk_rows_with_new_columns_fail_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            statement = plan(cluster.definition, {"x": UNDEFINED})
            rows = [(1, 5), (2, "no"), (3, None), (4, "7")]
            items = await cluster.first.writes.insert_bulk(statement, context(), rows)
            assert [item.rowcount for item in items] == [1, 0, 1, 1]
            assert items[1].error is not None
            assert stored(cluster, "x") == [(1, 5), (3, None), (4, 7)]

    trio.run(main)


def test_an_upsert_sets_a_column_that_is_new(tmp_path: Path) -> None:
    excluded = Column(-NEW_COLUMN_IDS, "x", UNDEFINED)
    conflict = ConflictAction(assignments=(Item(900, "x", excluded), Item(901, "note", Literal("again", TEXT))))

    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            await insert(cluster, (1, 0), names="other")
            await insert(cluster, (1, [1, 2]), conflict=conflict)
            await insert(cluster, (2, [3]), conflict=conflict)
            assert stored(cluster, "x") == [(1, [1, 2]), (2, [3])]
            assert stored(cluster, "note") == [(1, "again"), (2, None)]

    trio.run(main)


def test_a_table_that_became_strict_takes_no_new_column(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, msgspec.structs.replace(dynamic(), column_policy="strict")) as cluster:
            with pytest.raises(ColumnUnknown, match="Column x unknown"):
                await insert(cluster, (1, 1))
            assert cluster.rows(("c1",)) == []

    trio.run(main)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("a.b", 1, InvalidColumnName, '"a.b" contains a dot'),
        ("a['b']", 1, InvalidColumnName, "conflicts with subscript pattern"),
        ("_id", 1, InvalidColumnName, '"_id" conflicts with system column'),
        ("x" * 256, 1, InvalidColumnName, "longer than 255 bytes"),
        ("o", {"a.b": 1}, InvalidColumnName, '"a.b" contains a dot'),
        ("o", {"k": 2**70}, ConversionError, "Cannot cast"),
        ("t", "x" * 32_767, BadRequest, "32767 bytes"),
    ],
)
def test_bad_names_and_values_are_refused_whole(
    tmp_path: Path, name: str, value: Any, error: type[CrateError], words: str
) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            with pytest.raises(error) as caught:
                await cluster.first.writes.insert(plan(cluster.definition, {name: UNDEFINED}), context(1, value))
            assert words in caught.value.message
            assert cluster.rows(("c1",)) == []

    trio.run(main)


@pytest.mark.parametrize(("depth", "is_fine"), [(limits.ARRAY_DEPTH_MAX, True), (limits.ARRAY_DEPTH_MAX + 1, False)])
def test_arrays_nest_as_deep_as_can_be_stored(tmp_path: Path, depth: int, is_fine: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]

    async def main() -> None:
        async with open_cluster(tmp_path, dynamic()) as cluster:
            if is_fine:
                await insert(cluster, (1, value))
                assert stored(cluster, "x") == [(1, value)]
            else:
                assert "nested deeper" in (await error_of(insert(cluster, (1, value)))).message
                assert types(cluster) == {"id": "integer"}

    trio.run(main)
