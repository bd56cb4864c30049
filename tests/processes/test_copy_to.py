"""COPY TO on three nodes: what is written is what COPY FROM reads, and a statement that fails leaves nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from demo.processes import Cluster, SqlError

COLUMNS = (
    "id INTEGER PRIMARY KEY, t TEXT, d DOUBLE PRECISION, r REAL, n NUMERIC(10, 2), ts TIMESTAMP, dt DATE, b BOOLEAN, ip IP, "
    "o OBJECT AS (k INTEGER, a ARRAY(TEXT)), i OBJECT(IGNORED), arr ARRAY(INTEGER), objs ARRAY(OBJECT AS (x INTEGER)), "
    "bits BIT(3), u UUID, geo GEO_POINT, shape GEO_SHAPE, v FLOAT_VECTOR(2)"
)
FULL = (
    "(1, 'ä \"q\" \\ 😀', 1.5, 1.1, 3.40, '2020-01-01T10:11:12.345', '2020-01-01', true, '1.1.1.1', "
    "{k = 1, a = ['x', null]}, {any = ['y'], n = 1}, [1, null], [{x = 1}, null, {}], B'101', "
    "'00000000-0000-0000-0000-000000000001', [1.0, 2.0], 'POINT (1 2)', [1.0, 2.5])"
)


@pytest.mark.parametrize("compression", ["", " WITH (compression = 'gzip')"])
def test_whole_rows_come_back_as_they_were(cluster: Cluster, tmp_path: Path, compression: str) -> None:
    node = cluster.nodes[0]
    node.sql(f"CREATE TABLE exported ({COLUMNS}) CLUSTERED INTO 5 SHARDS")
    node.sql(f"INSERT INTO exported VALUES {FULL}")
    node.sql("INSERT INTO exported (id, d, r, o) VALUES (2, 'NaN', '-Infinity', {}), (3, null, null, null)")
    node.sql("INSERT INTO exported (id, t) SELECT g, 'text ' || g FROM generate_series(4, 3000) g")
    node.sql("REFRESH TABLE exported")
    assert node.sql(f"COPY exported TO DIRECTORY ?{compression}", [str(tmp_path)])["rowcount"] == 3000
    ending = ".json.gz" if compression else ".json"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"exported_{shard}_{ending}" for shard in range(5)]
    node.sql("CREATE TABLE imported (LIKE exported INCLUDING ALL)")
    assert node.sql("COPY imported FROM ?", [f"{tmp_path}/*{ending}"])["rowcount"] == 3000
    node.sql("REFRESH TABLE imported")
    before, after = (node.sql(f"SELECT * FROM {table} ORDER BY id")["rows"] for table in ("exported", "imported"))
    assert after == before
    node.sql("DROP TABLE exported")
    node.sql("DROP TABLE imported")


def test_columns_are_arrays_or_objects_and_the_key_finds_its_row(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.nodes[1]
    node.sql("CREATE TABLE listed (id INTEGER, k TEXT, o OBJECT AS (x INTEGER), PRIMARY KEY (id, k)) CLUSTERED BY (k)")
    node.sql("INSERT INTO listed VALUES (1, 'a', {x = 7}), (2, 'b', null)")
    node.sql("REFRESH TABLE listed")

    def lines() -> list[object]:
        found = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
        return sorted(found, key=str)

    assert node.sql("COPY listed (id, o['x'], upper(k)) TO DIRECTORY ?", [tmp_path.as_uri()])["rowcount"] == 2
    assert lines() == [[1, 7, "A"], [2, None, "B"]]
    node.sql("COPY listed (id, o['x']) TO DIRECTORY ? WITH (format = 'json_object')", [str(tmp_path)])
    assert lines() == [{"id": 1, "o['x']": 7}, {"id": 2, "o['x']": None}]
    assert node.sql("COPY listed (o) WHERE id = 1 AND k = 'a' TO DIRECTORY ?", [str(tmp_path)])["rowcount"] == 1
    assert lines() == [[{"x": 7}]]
    node.sql("DROP TABLE listed")


def test_a_statement_that_fails_leaves_the_files_of_the_one_before(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.nodes[2]
    node.sql("CREATE TABLE kept (id INTEGER, d INTEGER) CLUSTERED INTO 2 SHARDS")
    node.sql("INSERT INTO kept VALUES (1, 0), (2, 1)")
    node.sql("REFRESH TABLE kept")
    node.sql("COPY kept TO DIRECTORY ? WITH (compression = 'gzip')", [str(tmp_path)])
    before = {path.name: gzip.decompress(path.read_bytes()) for path in tmp_path.iterdir()}
    assert sorted(b"".join(before.values()).splitlines()) == [b'{"id":1,"d":0}', b'{"id":2,"d":1}']
    with pytest.raises(SqlError, match="by zero"):
        node.sql("COPY kept (id, 1 / d) TO DIRECTORY ? WITH (compression = 'gzip')", [str(tmp_path)])
    assert {path.name: gzip.decompress(path.read_bytes()) for path in tmp_path.iterdir()} == before
    with pytest.raises(
        SqlError, match=r"Failed to open output: '.*/nosuch/kept_0_.json .No such file or directory.'"
    ) as told:
        node.sql("COPY kept TO DIRECTORY ?", [f"{tmp_path}/nosuch"])
    assert told.value.code == 5000
    node.sql("DROP TABLE kept")
