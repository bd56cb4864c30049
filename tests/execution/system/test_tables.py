"""Every system table gives a batch of the columns its definition lists, and what the providers say fits the types."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cratepy.execution.local_view import JobEntry, JobLogEntry, LocalView, OperationEntry, SessionEntry
from cratepy.execution.system.tables import PROVIDERS, SystemTables
from cratepy.execution.system.view import SystemView
from cratepy.model.arrow import from_arrow
from cratepy.model.names import RelationName
from cratepy.model.plan import StatementContext
from cratepy.model.relations import ScanColumn
from cratepy.model.schema import CheckConstraint, ColumnDefinition, SettingValue, TableDefinition, ViewDefinition
from cratepy.model.search import AnalyzerDefinition
from cratepy.model.state import ClusterState, Coordination, NodeInfo, ShardCopy, ShardRouting, TableState
from cratepy.model.system_tables import required_system_columns, system_tables
from cratepy.model.types import BIGINT, INTEGER, TEXT, DataType, Field, numeric, object_of, varchar

TABLE = TableDefinition(
    name=RelationName("doc", "t"),
    uuid="u1",
    oid=16_384,
    columns=(
        ColumnDefinition(oid=1, name="id", type=INTEGER, is_nullable=False),
        ColumnDefinition(oid=2, name="name", type=varchar(10), default_sql="'x'"),
        ColumnDefinition(oid=3, name="price", type=numeric(10, 2), is_nullable=False),
        ColumnDefinition(
            oid=4, name="o", type=object_of((Field("a", TEXT), Field("b", object_of((Field("c", BIGINT),)))))
        ),
    ),
    primary_key=("id",),
    shards=2,
    routing_shards=2,
    replicas="0-1",
    checks=(CheckConstraint("positive", "price > 0"),),
    settings={"refresh_interval": 500},
)
NODE = NodeInfo(
    id="n1", name="node-1", ephemeral_id="e", host="127.0.0.1", transport_port=4300, http_port=4200, psql_port=5432
)
STATE = ClusterState(
    version=7,
    master_id="n1",
    nodes={"n1": NODE},
    coordination=Coordination(term=1, committed_config=("n1",), accepted_config=("n1",), cluster_uuid="uuid"),
    tables={
        "u1": TableState(
            TABLE,
            tuple(
                ShardRouting(
                    shard=shard,
                    primary_term=1,
                    in_sync=(f"a{shard}",),
                    copies=(ShardCopy(allocation_id=f"a{shard}", node_id="n1", is_primary=True, state="started"),),
                )
                for shard in range(2)
            ),
        )
    },
    views={"doc.v": ViewDefinition(RelationName("doc", "v"), 16_385, "SELECT 1", "crate")},
)
JOB = JobEntry(id="j", username="crate", statement="SELECT 1", started_ms=1, session_id=2, classification="SELECT")
LOCAL = LocalView(
    node_id="n1",
    state=STATE,
    jobs=lambda: [JOB],
    jobs_log=lambda: [JobLogEntry(job=JOB, ended_ms=5, error=None, duration_ms=4.0, rowcount=1)],
    operations=lambda: [OperationEntry(id="0", job_id="j", name="collect", started_ms=1, used_bytes=0)],
    operations_log=list,
    shards=list,
    sessions=lambda: [
        SessionEntry(
            id=2,
            username="crate",
            protocol="http",
            client_address="127.0.0.1",
            started_ms=1,
            last_statement="",
            is_ssl=False,
        )
    ],
)
CONTEXT = StatementContext(job_id="j", handler_id="n1", user="crate", text="", now_ms=1_700_000_000_000)
TABLES = SystemTables(describe_views=lambda state: {RelationName("doc", "v"): (("1", INTEGER),)})


def rows_of(schema: str, name: str) -> list[dict[str, object]]:
    """All rows of a system table as dicts."""
    table = RelationName(schema, name)
    columns = [ScanColumn(i, c, t, c) for i, (c, t) in enumerate(system_tables()[table])]
    batch = TABLES.batch(table, columns, CONTEXT, LOCAL)
    assert batch.num_columns == len(columns)
    values = [from_arrow(batch.column(i), column.type) for i, column in enumerate(columns)]
    return [dict(zip((c.name for c in columns), row, strict=True)) for row in zip(*values, strict=True)]


@pytest.mark.parametrize("table", sorted(system_tables()), ids=str)
def test_every_table_gives_all_its_columns(table: RelationName) -> None:
    rows_of(table.schema, table.name)


def test_every_provider_is_of_a_table_that_exists() -> None:
    assert set(PROVIDERS) <= set(system_tables())


def test_no_provider_names_a_column_its_table_lacks() -> None:
    view = SystemView(LOCAL, CONTEXT, lambda state: {})
    for table, provider in PROVIDERS.items():
        known = {name for name, _ in system_tables()[table]}
        for row in provider(view):
            assert set(row) <= known, f"{table}: {set(row) - known}"


def test_columns_lists_parts_of_objects_and_nullability() -> None:
    rows = {row["column_name"]: row for row in rows_of("information_schema", "columns") if row["table_name"] == "t"}
    assert list(rows) == ["id", "name", "price", "o", "o['a']", "o['b']", "o['b']['c']"]
    assert rows["id"]["is_nullable"] == "NO"
    assert rows["name"]["character_maximum_length"] == 10
    assert (rows["price"]["numeric_precision"], rows["price"]["numeric_scale"]) == (10, 2)
    assert rows["o['b']['c']"]["data_type"] == "bigint"


def test_required_columns_of_system_tables_are_never_null() -> None:
    for table, required in required_system_columns().items():
        for row in rows_of(table.schema, table.name) if required else ():
            assert not {name for name in required if row[name] is None}, table
    rows = rows_of("information_schema", "columns")
    told = {row["column_name"]: row["is_nullable"] for row in rows if row["table_name"] == "shards"}
    assert (told["id"], told["num_docs"]) == ("NO", "YES")
    classes = {row["relname"]: row["oid"] for row in rows_of("pg_catalog", "pg_class")}
    attributes = [row for row in rows_of("pg_catalog", "pg_attribute") if row["attrelid"] == classes["allocations"]]
    required_ones = [row["attname"] for row in attributes if row["attnotnull"]]
    assert required_ones == ["shard_id", "table_name", "table_schema"]


def test_a_relation_has_the_same_oid_everywhere() -> None:
    classes = {row["relname"]: row for row in rows_of("pg_catalog", "pg_class")}
    assert classes["t"]["oid"] == 16_384
    assert classes["pg_class"]["oid"] == 1259
    attributes = [row for row in rows_of("pg_catalog", "pg_attribute") if row["attrelid"] == 16_384]
    assert [row["attname"] for row in attributes] == ["id", "name", "price", "o"]
    assert [row["attnotnull"] for row in attributes] == [True, False, True, False]
    assert len({row["oid"] for row in rows_of("pg_catalog", "pg_class")}) == len(rows_of("pg_catalog", "pg_class"))


def test_missing_replicas_make_a_table_yellow_only_if_there_are_nodes_for_them() -> None:
    assert rows_of("sys", "health")[0]["health"] == "GREEN"


def test_shards_tell_their_node_and_state() -> None:
    rows = rows_of("sys", "shards")
    assert [(row["id"], row["state"], row["node"]) for row in rows] == [
        (0, "STARTED", {"id": "n1", "name": "node-1"}),
        (1, "STARTED", {"id": "n1", "name": "node-1"}),
    ]


def test_routines_lists_analyzers_and_what_they_are_made_of() -> None:
    state = msgspec.structs.replace(STATE, analyzers={"mine": AnalyzerDefinition(name="mine")})
    local = dataclasses.replace(LOCAL, state=state)
    columns = [ScanColumn(i, c, TEXT, c) for i, c in enumerate(("routine_name", "routine_type", "routine_schema"))]
    batch = TABLES.batch(RelationName("information_schema", "routines"), columns, CONTEXT, local)
    rows = set(zip(*(from_arrow(batch.column(i), TEXT) for i in range(3)), strict=True))
    for expected in (
        ("mine", "ANALYZER", None),
        ("standard", "ANALYZER", None),
        ("standard", "TOKENIZER", None),
        ("lowercase", "TOKEN_FILTER", None),
        ("html_strip", "CHAR_FILTER", None),
    ):
        assert expected in rows


def _leaves(kind: DataType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], DataType]]:
    for field in kind.fields:
        if field.type.fields:
            yield from _leaves(field.type, (*path, field.name))
        else:
            yield (*path, field.name), field.type


@pytest.mark.parametrize(
    "given",
    [
        {},
        {
            "logger.io.crate": "debug",
            "stats.service.interval": 300_000,
            "indices.recovery.max_bytes_per_sec": 1_024,
            "memory.operation_limit": 5,
            "cluster.routing.allocation.awareness.attributes": "zone,rack",
            "cluster.graceful_stop.min_availability": "full",
        },
    ],
)
def test_settings_of_the_cluster_have_the_types_that_their_columns_say(given: dict[str, SettingValue]) -> None:
    state = msgspec.structs.replace(STATE, settings_persistent=given)
    (row,) = PROVIDERS[RelationName("sys", "cluster")](
        SystemView(dataclasses.replace(LOCAL, state=state), CONTEXT, lambda _: {})
    )
    types = {"text": str, "integer": int, "boolean": bool, "real": float, "array": list}
    seen = 0
    for path, kind in _leaves(dict(system_tables()[RelationName("sys", "cluster")])["settings"]):
        value: Any = row["settings"]
        for name in path:
            value = value.get(name) if value is not None else None
        if value is not None:
            assert isinstance(value, types[kind.kind]), path
            seen += 1
    assert seen > 60
    if given:
        assert row["settings"]["logger"] == [{"name": "logger.io.crate", "level": "DEBUG"}]
        assert row["settings"]["stats"]["service"]["interval"] == "300000ms"
