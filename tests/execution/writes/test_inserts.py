"""INSERT: rows land where they belong, and what cannot be written is told in CrateDB's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import trio

from cratepy.errors import (
    CheckViolation,
    ConversionError,
    CrateError,
    DuplicateKey,
    InvalidColumnName,
    NotNullViolation,
    SQLParseError,
)
from cratepy.model.expressions import Column, Literal, Parameter
from cratepy.model.plan import ConflictAction, InsertPlan, QueryPlan
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.routing import shard_of
from cratepy.model.schema import CheckConstraint
from cratepy.model.types import (
    BIGINT,
    DOUBLE,
    INTEGER,
    TEXT,
    TIMESTAMP,
    DataType,
    Field,
    array_of,
    numeric,
    object_of,
    varchar,
)
from tests.execution.writes.fakes import (
    ID,
    Cluster,
    call,
    column,
    context,
    drain,
    error_of,
    greater,
    literal,
    open_cluster,
    parameters_plan,
    table,
    values_plan,
)

A = Column(2, "a", TEXT)
N = Column(3, "n", BIGINT)


async def insert(cluster: Cluster, rows: list[tuple[Any, ...]], targets: Any = None, **more: Any) -> Any:
    return await cluster.first.writes.insert(values_plan(rows, cluster.definition, targets, **more), context())


def test_one_row_is_written_without_the_engine(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            result = await cluster.first.writes.insert(
                parameters_plan(cluster.definition, ["id", "a", "n"]), context(1, "x", 5)
            )
            assert (result.rowcount, result.columns) == (1, None)
            assert cluster.rows() == [(1, "x", 5)]
            assert cluster.first.engine.calls == 0

    trio.run(main)


def test_columns_that_are_not_named_are_null_or_have_their_default(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            defaults = (Item(9, "n", literal(7, BIGINT)),)
            assert (await insert(cluster, [(1,)], ["id"], defaults=defaults)).rowcount == 1
            assert (await insert(cluster, [(2,), (3,)], ["id"], defaults=defaults)).rowcount == 2
            assert cluster.rows() == [(1, None, 7), (2, None, 7), (3, None, 7)]

    trio.run(main)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_values_with_columns_of_data_are_written(tmp_path: Path, count: int) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            plan = InsertPlan(
                table_uuid=cluster.uuid,
                table=cluster.definition.name,
                targets=("id", "a"),
                columns_data=(list(range(count)), [f"v{i}" for i in range(count)]),
            )
            assert (await cluster.first.writes.insert(plan, context())).rowcount == count
            assert sorted(cluster.rows()) == [(i, f"v{i}", None) for i in range(count)]

    trio.run(main)


def test_a_duplicate_key_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(1, "x", 1)])
            error = await error_of(insert(cluster, [(1, "y", 2)]))
            assert isinstance(error, DuplicateKey)
            assert error.message == "A document with the same primary key exists already"
            assert cluster.rows() == [(1, "x", 1)]

    trio.run(main)


def test_a_duplicate_among_several_rows_is_an_error_that_counts(tmp_path: Path) -> None:
    """weaknesses.md 3: CrateDB drops the row silently."""

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(1, "x", 1)])
            error = await error_of(insert(cluster, [(1, "y", 2), (2, "y", 2), (3, "z", 3)]))
            assert isinstance(error, DuplicateKey)
            assert "2 of 3 rows were written" in error.message
            assert cluster.rows() == [(1, "x", 1), (2, "y", 2), (3, "z", 3)]

    trio.run(main)


def test_null_keys_and_missing_values_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    definition = table((ID, column(2, "a", TEXT, is_nullable=False)))

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            for rows in ([(None, "x")], [(1, "x"), (None, "x")]):
                error = await error_of(insert(cluster, rows))
                assert error.message == "A primary key value must not be NULL"
            for rows in ([(1, None)], [(2, "x"), (1, None)]):
                error = await error_of(insert(cluster, rows))
                assert isinstance(error, NotNullViolation)
                assert (error.message, error.sqlstate) == ('"a" must not be null', "23502")
            assert cluster.rows(("c1",)) == []

    trio.run(main)


def test_check_constraints_list_the_values_given(tmp_path: Path) -> None:
    definition = table(checks=(CheckConstraint("positive", '"n" > 0'),))
    checks = (Item(1, "positive", greater(N, 0)),)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            error = await error_of(insert(cluster, [(1, "x", 0)], checks=checks))
            assert isinstance(error, CheckViolation)
            assert error.message == 'Failed CONSTRAINT positive CHECK ("n" > 0) for values: [1, x, 0]'
            assert error.sqlstate == "23514"
            assert (await insert(cluster, [(1, "x", None), (2, "y", 1)], checks=checks)).rowcount == 2

    trio.run(main)


def test_lengths_of_types_are_checked(tmp_path: Path) -> None:
    definition = table(
        (
            ID,
            column(2, "v", varchar(3)),
            column(3, "c", DataType("character", length=3)),
            column(4, "b", DataType("bit", length=3)),
            column(5, "f", DataType("float_vector", length=2)),
            column(6, "t", TEXT),
        )
    )

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            for target, value, words in [
                ("v", "abcd", "'abcd' is too long for the text type of length: 3"),
                ("c", "abcd", "'abcd' is too long for the character type of length: 3"),
                ("b", "01", "bit string length 2 does not match type bit(3)"),
                ("f", [1.0], "The number of vector dimensions does not match the field type"),
            ]:
                assert (await error_of(insert(cluster, [(1, value)], ["id", target]))).message == words
            error = await error_of(insert(cluster, [(1, "ä" * 20_000)], ["id", "t"]))
            assert "40000 bytes" in error.message
            await insert(cluster, [(1, "abc  ", "a", "010", [1.0, 2.0])], ["id", "v", "c", "b", "f"])
            assert cluster.rows(("c2", "c3", "c4", "c5")) == [("abc", "a  ", "010", [1.0, 2.0])]

    trio.run(main)


def test_generated_columns_are_computed_and_compared(tmp_path: Path) -> None:
    definition = table((ID, column(2, "g", INTEGER, generated_sql="(id + 1)")))
    generated = (Item(1, "g", call("op_+", INTEGER, Column(1, "id", INTEGER), literal(1, INTEGER))),)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            await insert(cluster, [(1,), (2,)], ["id"], generated=generated)
            await insert(cluster, [(3, 4)], generated=generated)
            error = await error_of(insert(cluster, [(4, 4)], generated=generated))
            assert error.message == "Given value 4 for generated column g does not match calculation (id + 1) = 5"
            assert cluster.rows(("c1", "c2")) == [(1, 2), (2, 3), (3, 4)]

    trio.run(main)


def test_rows_without_a_key_get_new_ids(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(key=())) as cluster:
            await insert(cluster, [(1, "x", 1)] * 50)
            await insert(cluster, [(1, "x", 1)])
            ids = {row[0] for row in cluster.rows(("_id",))}
            assert len(ids) == 51
            assert {len(row_id) for row_id in ids} == {20}

    trio.run(main)


def test_rows_are_found_under_their_routing_column(tmp_path: Path) -> None:
    """CLUSTERED BY part of the key: all rows of one value are in one shard."""
    definition = table(key=("id", "a"), clustered_by="a", shards=5)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            await insert(cluster, [(i, "same", i) for i in range(30)])
            await insert(cluster, [(99, "same", 1)])
            counts = []
            for shard in cluster.first.store.shards():
                shard.refresh()
                counts.append(shard.row_count())
            assert sorted(counts) == [0, 0, 0, 0, 31]

    trio.run(main)


def test_every_type_survives_the_way_in(tmp_path: Path) -> None:
    kinds: list[tuple[DataType, Any]] = [
        (INTEGER, 5),
        (numeric(10, 2), "12.50"),
        (DataType("numeric"), "1.5"),
        (TIMESTAMP, 1_577_836_800_000),
        (DataType("date"), 86_400_000),
        (DOUBLE, 1.5),
        (array_of(TEXT), ["a", None]),
        (array_of(object_of((Field("x", INTEGER),))), [{"x": 1}, None]),
        (object_of((Field("x", INTEGER),)), {"x": 1}),
        (DataType("boolean"), True),
        (DataType("interval"), [1, 2, 3]),
    ]
    definition = table((ID, *(column(i + 2, f"k{i}", kind) for i, (kind, _) in enumerate(kinds))), shards=1)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            row = (1, *(value for _, value in kinds))
            await insert(cluster, [row])
            await insert(cluster, [(2, *row[1:]), (3, *([None] * len(kinds)))])
            shard = cluster.first.store.shards()[0]
            sources = [f"c{i + 2}" for i in range(len(kinds))]
            assert shard.get(["1", "2", "3"], sources) == [row[1:], row[1:], (None,) * len(kinds)]

    trio.run(main)


# --- ON CONFLICT -----------------------------------------------------------------------------------------------------


def test_on_conflict_do_nothing_counts_what_was_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            skip = ConflictAction()
            assert (await insert(cluster, [(1, "x", 1)], conflict=skip)).rowcount == 1
            assert (await insert(cluster, [(1, "y", 2)], conflict=skip)).rowcount == 0
            assert (await insert(cluster, [(2, "n", 1), (2, "m", 1)], conflict=skip)).rowcount == 1
            assert cluster.rows() == [(1, "x", 1), (2, "n", 1)]

    trio.run(main)


def test_on_conflict_do_update_sees_the_stored_and_the_proposed_row(tmp_path: Path) -> None:
    assignments = (
        Item(1, "a", Column(-2, "a", TEXT)),
        Item(2, "n", call("op_+", BIGINT, N, Column(-3, "n", BIGINT))),
    )

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(1, "x", 10)])
            result = await insert(
                cluster, [(1, "y", 5), (2, "new", 7)], conflict=ConflictAction(assignments=assignments)
            )
            assert result.rowcount == 2
            assert cluster.rows() == [(1, "y", 15), (2, "new", 7)]
            # The same key several times: one after the other.
            rows = [(3, "r", 1)] * 4
            assert (await insert(cluster, rows, conflict=ConflictAction(assignments=assignments))).rowcount == 4
            assert cluster.rows()[2] == (3, "r", 4)

    trio.run(main)


def test_returning_gives_rows_in_order_with_versions(tmp_path: Path) -> None:
    assignments = (Item(1, "a", Column(-2, "a", TEXT)),)
    returning = (
        Item(11, "id", Column(1, "id", INTEGER)),
        Item(12, "a", A),
        Item(13, "_version", Column(900, "_version", BIGINT)),
        Item(14, "_id", Column(901, "_id", TEXT)),
    )

    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(2, "x", 10)])
            result = await insert(
                cluster,
                [(1, "p", 5), (2, "q", 7), (3, "r", 7)],
                conflict=ConflictAction(assignments=assignments),
                returning=returning,
            )
            assert await drain(result) == [(1, "p", 1, "1"), (2, "q", 2, "2"), (3, "r", 1, "3")]

    trio.run(main)


# --- objects ---------------------------------------------------------------------------------------------------------

STRICT = object_of((Field("a", INTEGER),), "strict")
DYNAMIC = object_of((Field("a", INTEGER),), "dynamic")
IGNORED = object_of((Field("a", INTEGER),), "ignored")
OBJECTS = (ID, column(2, "s", STRICT), column(3, "d", DYNAMIC), column(4, "i", IGNORED))


def test_new_keys_of_dynamic_objects_become_columns_first(tmp_path: Path) -> None:
    value = {"a": 1, "b": "txt", "c": 1.5, "e": True, "f": [1, 2], "g": {"h": 1}, "n": None, "em": []}

    async def main() -> None:
        async with open_cluster(tmp_path, table(OBJECTS)) as cluster:
            await insert(cluster, [(1, value)], ["id", "d"])
            grown = cluster.definition.column("d")
            assert grown is not None
            assert [(field.name, field.type.name) for field in grown.type.fields] == [
                ("a", "integer"), ("b", "text"), ("c", "double precision"), ("e", "boolean"),
                ("f", "bigint_array"), ("g", "object"), ("n", "undefined"), ("em", "undefined_array"),
            ]  # fmt: skip
            assert grown.type.field("g") == object_of((Field("h", BIGINT),))
            await insert(cluster, [(2, {"b": 5})], ["id", "d"])
            stored = [msgspec.json.decode(row[0]) for row in cluster.rows(("c3",))]
            assert value in stored
            assert {"b": "5"} in stored
            assert len(cluster.shared.commands) == 1

    trio.run(main)


@pytest.mark.parametrize(
    ("target", "value", "error", "words"),
    [
        ("s", {"a": 1, "b": 2}, SQLParseError, "Cannot add column `b` to strict object `s`"),
        ("s", {"a": "x"}, ConversionError, "Cannot cast object element `a` with value `x` to type `integer`"),
        ("i", {"a": "abc"}, ConversionError, "Cannot cast object element `a` with value `abc` to type `integer`"),
        ("d", {"a.b": 1}, InvalidColumnName, '"a.b" contains a dot'),
        (
            "d",
            {"x['y']": 1},
            InvalidColumnName,
            "\"x['y']\" conflicts with subscript pattern, square brackets are not allowed",
        ),
    ],
)
def test_objects_refuse_in_cratedbs_words(
    tmp_path: Path, target: str, value: dict[str, Any], error: type[CrateError], words: str
) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(OBJECTS)) as cluster:
            raised = await error_of(insert(cluster, [(1, value)], ["id", target]))
            assert (type(raised), raised.message) == (error, words)

    trio.run(main)


def test_a_nested_part_that_does_not_fit_is_told_by_its_outermost_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(OBJECTS)) as cluster:
            await insert(cluster, [(1, {"g": {"h": 1}})], ["id", "d"])
            error = await error_of(insert(cluster, [(2, {"g": {"h": "x"}})], ["id", "d"]))
            assert error.message == "Cannot cast object element `g` with value `{h=x}` to type `object`"
            error = await error_of(insert(cluster, [(2, {"g": 5})], ["id", "d"]))
            assert error.message == "Cannot cast object element `g` with value `5` to type `object`"

    trio.run(main)


def test_ignored_objects_keep_what_they_are_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(OBJECTS)) as cluster:
            await insert(cluster, [(1, {"a": 1, "x": "a", "y": {"z": 1}}), (2, {"a": "2", "x": 5})], ["id", "i"])
            assert cluster.rows(("c4",)) == [('{"a":1,"x":"a","y":{"z":1}}',), ('{"a":2,"x":5}',)]
            assert cluster.shared.commands == []

    trio.run(main)


# --- INSERT … SELECT -------------------------------------------------------------------------------------------------

QUERY = QueryPlan(phases=(), columns=(OutputColumn(1, "id", INTEGER), OutputColumn(2, "a", TEXT)))


def query_plan(cluster: Cluster, **more: Any) -> InsertPlan:
    return InsertPlan(table_uuid=cluster.uuid, table=cluster.definition.name, targets=("id", "a"), query=QUERY, **more)


def batch(*rows: tuple[Any, Any]) -> pa.RecordBatch:
    ids, texts = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(ids, type=pa.int32()), pa.array(texts, type=pa.string_view())], names=["c1", "c2"]
    )


def test_a_query_is_written_batch_by_batch(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            cluster.first.queries.columns = QUERY.columns
            cluster.first.queries.batches = [batch((1, "x"), (2, None)), batch((3, "z"))]
            assert (await cluster.first.writes.insert(query_plan(cluster), context())).rowcount == 3
            assert cluster.rows() == [(1, "x", None), (2, None, None), (3, "z", None)]

    trio.run(main)


def test_a_query_ends_with_its_first_bad_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(1, "x", 1)])
            cluster.first.queries.columns = QUERY.columns
            cluster.first.queries.batches = [batch((5, "x"), (1, "dup"))]
            error = await error_of(cluster.first.writes.insert(query_plan(cluster), context()))
            assert isinstance(error, DuplicateKey)
            assert "1 rows were written" in error.message
            cluster.first.queries.batches = [batch((1, "y"), (9, "n"))]
            skipped = query_plan(cluster, conflict=ConflictAction())
            assert (await cluster.first.writes.insert(skipped, context())).rowcount == 1

    trio.run(main)


# --- bulk ------------------------------------------------------------------------------------------------------------


def test_bulk_items_fail_alone(tmp_path: Path) -> None:
    definition = table(
        (ID, column(2, "a", TEXT, is_nullable=False), column(3, "n", BIGINT)),
        checks=(CheckConstraint("positive", '"n" > 0'),),
    )
    checks = (Item(1, "positive", greater(N, 0)),)

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            plan = parameters_plan(definition, ["id", "a", "n"], checks=checks)
            rows = [[1, "a", 1], [2, None, 1], [3, "c", -1], [1, "dup", 1], [4, "d", None]]
            items = await cluster.first.writes.bulk(plan, context(), rows)
            assert [item.rowcount for item in items] == [1, 0, 0, 0, 1]
            assert [None if item.error is None else item.error.message for item in items] == [
                None,
                '"a" must not be null',
                'Failed CONSTRAINT positive CHECK ("n" > 0) for values: [3, c, -1]',
                "A document with the same primary key exists already",
                None,
            ]
            assert cluster.rows() == [(1, "a", 1), (4, "d", None)]

    trio.run(main)


def test_bulk_values_that_cannot_be_converted_fail_the_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            plan = parameters_plan(cluster.definition, ["id", "a"])
            bulk = cluster.first.writes.bulk
            error = await error_of(bulk(plan, context(), [[72, "a"], ["x", "b"]]))
            assert error.message == "Cannot cast value `x` to type `integer`"
            error = await error_of(bulk(plan, context(), [[75, "a"], [None, "b"]]))
            assert error.message == "A primary key value must not be NULL"
            error = await error_of(bulk(plan, context(), [[73, "a"], [74]]))
            assert error.message == (
                "The query contains a parameter placeholder $2, but there are only 1 parameter values"
            )
            assert cluster.rows() == []
            assert await bulk(plan, context(), []) == []

    trio.run(main)


def test_bulk_values_are_converted_to_their_columns(tmp_path: Path) -> None:
    definition = table((ID, column(2, "ts", TIMESTAMP), column(3, "d", DOUBLE), column(4, "t", TEXT)))

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            plan = parameters_plan(definition, ["id", "ts", "d", "t"])
            rows = [["1", "2020-01-01T00:00:00Z", 1, "x"], [2, 1577836800000, 2.5, 5]]
            items = await cluster.first.writes.bulk(plan, context(), rows)
            assert [item.rowcount for item in items] == [1, 1]
            shard = next(s for s in cluster.first.store.shards() if s.get(["1"], ["c1"])[0])
            assert shard.get(["1"], ["c2", "c3", "c4"]) == [(1577836800000, 1.0, "x")]
            assert [row[2] for row in cluster.rows(("c1", "c3", "c4"))] == ["x", "5"]

    trio.run(main)


def test_bulk_keeps_conflict_actions_and_computed_values(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            await insert(cluster, [(1, "x", 1)])
            skip = parameters_plan(cluster.definition, ["id", "a"], conflict=ConflictAction())
            items = await cluster.first.writes.bulk(skip, context(), [[1, "no"], [2, "b"]])
            assert [item.rowcount for item in items] == [0, 1]
            update = ConflictAction(assignments=(Item(1, "a", Column(-2, "a", TEXT)),))
            upsert = parameters_plan(cluster.definition, ["id", "a"], conflict=update)
            items = await cluster.first.writes.bulk(upsert, context(), [[1, "yes"], [3, "c"]])
            assert [item.rowcount for item in items] == [1, 1]
            computed = InsertPlan(
                table_uuid=cluster.uuid,
                table=cluster.definition.name,
                targets=("id", "a", "n"),
                rows=(
                    (
                        Parameter(0, INTEGER),
                        Literal("same", TEXT),
                        call("op_+", BIGINT, Parameter(1, BIGINT), literal(1, BIGINT)),
                    ),
                ),
            )
            await cluster.first.writes.bulk(computed, context(), [[7, 1], [8, 2]])
            assert cluster.rows() == [
                (1, "yes", 1), (2, "b", None), (3, "c", None), (7, "same", 2), (8, "same", 3)
            ]  # fmt: skip

    trio.run(main)


@pytest.mark.parametrize("key", [("id",), ("a", "id"), ()])
@pytest.mark.parametrize("count", [200, 2_100])
def test_items_of_a_big_bulk_fail_alone_on_all_shards(tmp_path: Path, key: tuple[str, ...], count: int) -> None:
    """So many that ids are arrays, and the rows of a shard a part of those that came."""
    columns = (ID, column(2, "a", TEXT), column(3, "n", BIGINT, is_nullable=False))

    async def main() -> None:
        async with open_cluster(tmp_path, table(columns, key=key)) as cluster:
            plan = parameters_plan(cluster.definition, ["id", "a", "n"])
            rows: list[list[Any]] = [[i, f"größe {i}", i * 2] for i in range(count)]
            assert {item.rowcount for item in await cluster.first.writes.bulk(plan, context(), rows)} == {1}
            assert sorted(cluster.rows(("c1", "c2", "c3"))) == [tuple(row) for row in rows]
            more = [[count + i, None if not key else "x", i] for i in range(count)]
            more[7][2] = None
            more[150][:2] = rows[0][:2]
            more[160][:2] = more[161][:2]
            items = await cluster.first.writes.bulk(plan, context(), more)
            failed = {place: type(item.error) for place, item in enumerate(items) if item.error is not None}
            duplicates = {150: DuplicateKey, 161: DuplicateKey} if key else {}
            assert failed == {7: NotNullViolation, **duplicates}
            assert [item.rowcount for item in items] == [0 if place in failed else 1 for place in range(count)]
            assert len(cluster.rows(("c1",))) == 2 * count - len(failed)

    trio.run(main)


def test_arrays_and_objects_of_a_big_bulk_are_read_from_buffer_and_segment(tmp_path: Path) -> None:
    columns = (ID, column(2, "o", DYNAMIC), column(3, "l", array_of(BIGINT)), column(4, "d", DOUBLE))
    count = 900

    async def main() -> None:
        async with open_cluster(tmp_path, table(columns, shards=3)) as cluster:
            plan = parameters_plan(cluster.definition, ["id", "o", "l", "d"])
            rows: list[list[Any]] = [
                [i, None if i % 7 == 0 else {"x": i}, None if i % 5 == 0 else [i, None] * (i % 3), i / 2]
                for i in range(count)
            ]
            assert {item.rowcount for item in await cluster.first.writes.bulk(plan, context(), rows)} == {1}
            found = []
            for shard in cluster.first.store.shards():
                mine = [i for i in range(count) if shard_of(str(i), cluster.definition) == shard.shard]
                written = [tuple(rows[i]) for i in mine]
                assert shard.get(list(map(str, mine)), ["c1", "c2", "c3", "c4"]) == written
                shard.refresh()
                assert shard.get(list(map(str, mine)), ["c1", "c2", "c3", "c4"]) == written
                found += mine
            assert sorted(found) == list(range(count))

    trio.run(main)


@pytest.mark.parametrize("count", [200, 2_100])
def test_rows_of_a_big_bulk_are_where_their_ids_say(tmp_path: Path, count: int) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(shards=3)) as cluster:
            plan = parameters_plan(cluster.definition, ["id", "a", "n"])
            await cluster.first.writes.bulk(plan, context(), [[i, f"v{i}", i] for i in range(count)])
            for shard in cluster.first.store.shards():
                mine = [str(i) for i in range(count) if shard_of(str(i), cluster.definition) == shard.shard]
                assert shard.get(mine, ["c1", "c2"]) == [(int(text), f"v{text}") for text in mine]
                shard.refresh()
                assert shard.get(mine, ["c1", "c2"]) == [(int(text), f"v{text}") for text in mine]

    trio.run(main)


def test_bulk_with_several_rows_per_item_counts_per_item(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path) as cluster:
            plan = InsertPlan(
                table_uuid=cluster.uuid,
                table=cluster.definition.name,
                targets=("id", "a"),
                rows=(
                    (Parameter(0, INTEGER), Literal("first", TEXT)),
                    (Parameter(1, INTEGER), Literal("second", TEXT)),
                ),
            )
            items = await cluster.first.writes.bulk(plan, context(), [[1, 2], [3, 4]])
            assert [item.rowcount for item in items] == [2, 2]
            assert cluster.rows() == [
                (1, "first", None), (2, "second", None), (3, "first", None), (4, "second", None)
            ]  # fmt: skip

    trio.run(main)


def test_parameters_of_a_bulk_are_columns_the_engine_can_name() -> None:
    from cratepy.execution.writes.expressions import with_columns_for_parameters

    column_of = with_columns_for_parameters(Parameter(0, BIGINT))
    assert isinstance(column_of, Column)
    assert column_of.id > 1, "negative ids are no names, and 1 is the item's"
