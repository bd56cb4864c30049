"""COPY FROM: every format is read, bad rows are counted with their lines, and nothing fails in silence."""

from __future__ import annotations

import gzip
import json
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from cratepy import limits
from cratepy.errors import BadRequest, CrateError, DuplicateKey, JobKilled, SQLParseError, UnsupportedFeature
from cratepy.execution.writes.copy_files import csv_cut, line_cut
from cratepy.model.expressions import Column
from cratepy.model.plan import CopyFromPlan, InsertPlan
from cratepy.model.relations import Item
from cratepy.model.schema import CheckConstraint
from cratepy.model.types import BIGINT, DOUBLE, INTEGER, TEXT, TIMESTAMP, TIMESTAMPTZ, Field, array_of, object_of
from tests.execution.writes.fakes import (
    ID,
    NAME,
    Cluster,
    call,
    column,
    context,
    error_of,
    greater,
    literal,
    open_cluster,
    table,
)

# The table and the files of the captured statements, sequence "copy".
COLUMNS = (ID, column(2, "name", TEXT), column(3, "n", INTEGER))
GOOD_JSON = '{"id":1,"name":"x","n":10}\n{"id":2,"name":"y","n":20}\n{"id":3,"name":"x"}\n'
BAD_JSON = (
    '{"id":10,"name":"ok","n":1}\n{"id":"abc","name":"badid"}\nnot json\n{"id":11,"n":"NaNa"}\n{"name":"noid"}\n'
    '{"id":12,"unknown":1}\n\n{"id":13,"name":{"a":1}}\n{"id":10,"name":"dup"}\n[1,2]\n{"id":14,"name":"last"}\n'
)
GOOD_CSV = 'id,name,n\n1,"a,b",5\n2,"q""q",\n3,,7\n4,x\n5,y,8,9\n6,z,abc\n'


def plan(uris: Any, *, targets: tuple[str, ...] | None = None, summary: bool = False, **options: Any) -> CopyFromPlan:
    insert: dict[str, Any] = options.pop("insert", {})
    value = literal(uris, array_of(TEXT) if isinstance(uris, list) else TEXT)
    return CopyFromPlan(
        table_uuid="table-1",
        table=NAME,
        uris=value,
        format=None,
        options=options,
        targets=targets,
        insert=InsertPlan(table_uuid="table-1", table=NAME, targets=targets or (), **insert),
        returns_summary=summary,
    )


async def copy(cluster: Cluster, *args: Any, **more: Any) -> Any:
    return await cluster.first.writes.copy_from(plan(*args, **more), context())


async def summary(cluster: Cluster, *args: Any, **more: Any) -> list[tuple[Any, ...]]:
    result = await copy(cluster, *args, summary=True, **more)
    return [row[1:] for row in result.rows]


def write(path: Path, name: str, data: str | bytes) -> str:
    target = path / name
    target.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(target)


def test_json_lines_are_imported(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "good.json", GOOD_JSON)
            assert (await copy(cluster, path)).rowcount == 3
            assert cluster.rows() == [(1, "x", 10), (2, "y", 20), (3, "x", None)]
            error = await error_of(copy(cluster, f"file://{path}"))
            assert isinstance(error, DuplicateKey)
            assert "A document with the same primary key exists already" in error.message
            assert (await copy(cluster, path, overwrite_duplicates=True)).rowcount == 3
            rows = await summary(cluster, path)
            message = "A document with the same primary key exists already"
            assert rows == [(f"file://{path}", 0, 3, {message: {"count": 3, "line_numbers": [1, 2, 3]}})]

    trio.run(main)


def test_bad_json_lines_are_told_by_line(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "bad.json", BAD_JSON)
            ((_, success, failed, errors),) = await summary(cluster, path)
            assert (success, failed) == (3, 7)
            lines = {message: entry["line_numbers"] for message, entry in errors.items()}
            assert lines["Column unknown unknown"] == [6]
            assert lines["Cannot cast value `NaNa` to type `integer`"] == [4]
            assert lines["Cannot cast value `abc` to type `integer`"] == [2]
            assert lines["A primary key value must not be NULL"] == [5]
            assert lines["A document with the same primary key exists already"] == [9]
            assert sorted(n for m, numbers in lines.items() if m.startswith("JSON") for n in numbers) == [3, 10]
            assert [row[0] for row in cluster.rows()] == [10, 13, 14]

    trio.run(main)


def test_csv_with_a_header_is_imported_and_its_bad_lines_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "good.csv", GOOD_CSV)
            assert await summary(cluster, path) == [
                (
                    f"file://{path}",
                    3,
                    3,
                    {
                        "Cannot cast value `` to type `integer`": {"count": 1, "line_numbers": [3]},
                        "Number of values exceeds number of keys in csv file at line 6": {
                            "count": 1,
                            "line_numbers": [6],
                        },
                        "Cannot cast value `abc` to type `integer`": {"count": 1, "line_numbers": [7]},
                    },
                )
            ]
            assert cluster.rows() == [(1, "a,b", 5), (3, "", 7), (4, "x", None)]

    trio.run(main)


def test_csv_options_are_obeyed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "nohead.csv", "1,a\n2,b\n")
            assert (await copy(cluster, path, targets=("id", "name"), header=False)).rowcount == 2
            path = write(tmp_path, "semi.csv", "id;name;n\n3;a;2\n")
            assert (await copy(cluster, path, delimiter=";")).rowcount == 1
            path = write(tmp_path, "empty.csv", 'id,name,n\n4,,\n5,"",3\n')
            assert (await copy(cluster, path, empty_string_as_null=True)).rowcount == 2
            path = write(tmp_path, "skip.txt", "# comment\nid,n\n6,1\n")
            assert (await copy(cluster, path, format="csv", skip=1)).rowcount == 1
            assert cluster.rows() == [
                (1, "a", None), (2, "b", None), (3, "a", 2), (4, None, None), (5, None, 3), (6, None, 1)
            ]  # fmt: skip

    trio.run(main)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1767225600000", "-5", "007"], [1767225600000, -5, 7]),
        (["2026-01-01T00:00:00Z", "1767225600000"], [1767225600000, 1767225600000]),
        (["1767225600000", "2026-01-01T01:00:00+01:00", "+5"], [1767225600000, 1767225600000, 5]),
    ],
)
def test_csv_times_may_be_milliseconds(tmp_path: Path, texts: list[str], expected: list[int]) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table((ID, column(2, "t", TIMESTAMPTZ)))) as cluster:
            data = "id,t\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)) + f"{len(texts)},\n"
            result = await copy(cluster, write(tmp_path, "t.csv", data), empty_string_as_null=True)
            assert result.rowcount == len(texts) + 1
            times = [time and time.replace(tzinfo=UTC).timestamp() * 1_000 for _, time in cluster.rows(("c1", "c2"))]
            assert times == [*expected, None]

    trio.run(main)


def test_csv_with_lines_in_quotes_is_cut_between_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPY_BLOCK_BYTES", 16)

    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            lines = [f'{i},"line\nbreak ""{i}""",{i}' for i in range(50)]
            path = write(tmp_path, "multi.csv", "id,name,n\n" + "\n".join(lines))
            assert (await copy(cluster, path)).rowcount == 50
            assert cluster.rows()[0] == (0, 'line\nbreak "0"', 0)

    trio.run(main)


def test_blocks_end_at_lines() -> None:
    assert line_cut(b"a\nb\nc") == 4
    assert line_cut(b"abc") == 0
    assert csv_cut(b'a,"x\ny"\nb,"z\n') == 8
    assert csv_cut(b'"a\nb') == 0


def test_parquet_is_imported_by_column_name(tmp_path: Path) -> None:
    definition = table((*COLUMNS, column(4, "ts", TIMESTAMP), column(5, "o", object_of((Field("k", INTEGER),)))))

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            data = pa.table(
                {
                    "n": pa.array([7, None], type=pa.int64()),
                    "id": pa.array([1, 2], type=pa.int64()),
                    "name": pa.array(["a", "b"]).dictionary_encode(),
                    "ts": pa.array([5_000_000, None], type=pa.timestamp("us")),
                    "o": pa.array([{"k": 1}, None]),
                }
            )
            path = str(tmp_path / "t.parquet")
            pq.write_table(data, path)
            assert (await copy(cluster, path)).rowcount == 2
            shards = cluster.first.store.shards()
            found = [row for shard in shards for row in shard.get(["1", "2"], ["c1", "c2", "c3", "c4", "c5"]) if row]
            assert sorted(found) == [(1, "a", 7, 5000, {"k": 1}), (2, "b", None, None, None)]

    trio.run(main)


def test_compressed_files_globs_and_lists_are_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            write(tmp_path, "one.json.gz", gzip.compress(b'{"id":1}\n{"id":2}'))
            write(tmp_path, "two.json", '{"id":3}\n')
            assert (await copy(cluster, f"{tmp_path}/*.json*")).rowcount == 3
            three = write(tmp_path, "three.bin", gzip.compress(b'{"id":4}\n'))
            four = write(tmp_path, "four.json", '{"id":5}\n')
            assert (await copy(cluster, three, compression="gzip")).rowcount == 1
            assert (await copy(cluster, [four])).rowcount == 1
            assert len(cluster.rows()) == 5

    trio.run(main)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """weaknesses.md 4: CrateDB answers 0 rows."""

    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            good = write(tmp_path, "good.json", GOOD_JSON)
            missing = str(tmp_path / "nosuch.json")
            cases: list[tuple[Any, type[CrateError], str]] = [
                (missing, BadRequest, f"{missing} (No such file or directory)"),
                ([good, missing], BadRequest, f"{missing} (No such file or directory)"),
                (f"{tmp_path}/nosuch*.json", BadRequest, "Cannot find any URI matching"),
                ("foo://x/y.json", UnsupportedFeature, "unknown scheme 'foo'"),
                ("relative.json", BadRequest, "must be absolute"),
                (write(tmp_path, "all.json", "x\ny\n"), BadRequest, "no row could be written, 2 failed"),
                (write(tmp_path, "broken.json.gz", b"no gzip"), BadRequest, "broken.json.gz"),
                (5, BadRequest, "fileUri must be of type STRING or STRING ARRAY"),
            ]
            for uris, kind, words in cases:
                error = await error_of(copy(cluster, uris))
                assert isinstance(error, kind), uris
                assert words in error.message
            assert cluster.rows() == []
            rows = await summary(cluster, [good, missing])
            assert rows[0][1:3] == (3, 0)
            message = f"{missing} (No such file or directory)"
            assert rows[1][1:] == (None, None, {message: {"count": 1, "line_numbers": []}})

    trio.run(main)


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "good.json", GOOD_JSON)
            error = await error_of(copy(cluster, path, nosuch=1))
            assert (type(error), error.message) == (SQLParseError, "Setting 'nosuch' is not supported")
            for options in ({"compression": "zip"}, {"delimiter": "||"}, {"skip": -1}, {"header": 3}):
                assert isinstance(await error_of(copy(cluster, path, **options)), SQLParseError)
            assert isinstance(await error_of(copy(cluster, path, wait_for_completion=False)), UnsupportedFeature)

    trio.run(main)


def test_fail_fast_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, table(COLUMNS)) as cluster:
            path = write(tmp_path, "bad.json", BAD_JSON)
            error = await error_of(copy(cluster, path, fail_fast=True))
            assert isinstance(error, JobKilled)
            assert "line 2" in error.message

    trio.run(main)


def test_constraints_defaults_and_generated_columns_hold(tmp_path: Path) -> None:
    """The captured table ``cg``."""
    definition = table(
        (
            ID,
            column(2, "dbl", INTEGER, generated_sql="(id + 1)"),
            column(3, "ck", INTEGER),
            column(4, "o", object_of((Field("a", INTEGER),), "strict")),
            column(5, "d", TEXT),
        ),
        checks=(CheckConstraint("ck_check", '"ck" > 0'),),
    )
    rows = [
        {"id": 1},
        {"id": 2, "dbl": 3, "d": "given"},
        {"id": 3, "dbl": 5},
        {"id": 4, "ck": 0},
        {"id": 5, "o": {"b": 1}},
        {"id": 6, "o": {"a": "x"}},
        {"id": 7, "o": {"a": 7}},
    ]
    insert = {
        "defaults": (Item(1, "d", literal("dflt", TEXT)),),
        "generated": (Item(2, "dbl", call("op_+", INTEGER, Column(1, "id", INTEGER), literal(1, INTEGER))),),
        "checks": (Item(3, "ck_check", greater(Column(3, "ck", INTEGER), 0)),),
    }

    async def main() -> None:
        async with open_cluster(tmp_path, definition) as cluster:
            path = write(tmp_path, "gen.json", "\n".join(map(json.dumps, rows)))
            ((_, success, failed, errors),) = await summary(cluster, path, insert=insert)
            assert (success, failed) == (3, 4)
            assert {message: entry["line_numbers"] for message, entry in errors.items()} == {
                "Given value 5 for generated column dbl does not match calculation (id + 1) = 4": [3],
                'Failed CONSTRAINT ck_check CHECK ("ck" > 0) for values: [4, 5, 0, null, dflt]': [4],
                "Cannot add column `b` to strict object `o`": [5],
                "Cannot cast object element `a` with value `x` to type `integer`": [6],
            }
            assert cluster.rows(("c1", "c2", "c5")) == [(1, 2, "dflt"), (2, 3, "given"), (7, 8, "dflt")]

    trio.run(main)


def test_many_blocks_overlap_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPY_BLOCK_BYTES", 4_096)
    definition = table((ID, column(2, "t", TEXT), column(3, "d", DOUBLE), column(4, "b", BIGINT)), shards=2)

    async def main() -> None:
        async with open_cluster(tmp_path, definition, nodes=2, owners=("n1", "n2")) as cluster:
            lines = "".join(f"{i},t{i},{i}.5,{i * 3}\n" for i in range(3_000))
            path = write(tmp_path, "many.csv", "id,t,d,b\n" + lines)
            assert (await copy(cluster, path)).rowcount == 3_000
            assert len(cluster.rows(("c1",))) == 3_000
            assert cluster.first.writes.copy_progress("job-1") is None

    trio.run(main)


def test_names_a_dynamic_table_does_not_know_become_columns_and_bad_ones_fail_their_rows(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "new": 5},
        {"id": 2, "new": "7", "o": {"k": [1]}},
        {"id": 3, "bad.name": 1},
        {"id": 4, "_id": "x"},
    ]

    async def main() -> None:
        async with open_cluster(tmp_path, msgspec.structs.replace(table(), column_policy="dynamic")) as cluster:
            file = write(tmp_path, "rows.json", "".join(json.dumps(line) + "\n" for line in lines))
            result = await copy(cluster, file)
            assert result.rowcount == 2
            assert [(c.name, c.type.name) for c in cluster.definition.columns[3:]] == [
                ("new", "bigint"),
                ("o", "object"),
            ]
            assert cluster.rows(("c1", "c4")) == [(1, 5), (2, 7)]
            csv = write(tmp_path, "rows.csv", "id,word,n\n5,x,1\n6,,2\n")
            assert (await copy(cluster, csv)).rowcount == 2
            assert cluster.rows(("c1", "c6"))[-2:] == [(5, "x"), (6, "")]

    trio.run(main)


def test_parquet_columns_a_dynamic_table_does_not_know_are_added(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_cluster(tmp_path, msgspec.structs.replace(table(), column_policy="dynamic")) as cluster:
            file = tmp_path / "rows.parquet"
            pq.write_table(pa.table({"id": [1, 2], "v": [1.5, None], "l": [["a"], []], "s": [{"k": 1}, None]}), file)
            assert (await copy(cluster, str(file))).rowcount == 2
            assert [(c.name, c.type.name) for c in cluster.definition.columns[3:]] == [
                ("v", "double precision"),
                ("l", "text_array"),
                ("s", "object"),
            ]
            assert cluster.rows(("c1", "c4", "c5", "c6['k']")) == [(1, 1.5, ["a"], 1), (2, None, [], None)]

    trio.run(main)
