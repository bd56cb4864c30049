"""Every node gives DuckDB's answers, over both protocols, for any number of shards."""

from __future__ import annotations

import duckdb
import pytest

from demo.__main__ import ask_http, ask_postgres
from demo.answers import difference
from demo.processes import Cluster
from tests.processes.conftest import SHARD_COUNTS
from tests.processes.statements import STATEMENTS


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_an_answer_is_duckdbs_from_every_node_and_protocol(
    number: int, flights: Cluster, oracle: duckdb.DuckDBPyConnection
) -> None:
    """Each schema (1, 3, 7 shards) is asked through each node and each protocol."""
    sql, duckdb_sql, is_ordered = STATEMENTS[number]
    expected = oracle.execute(duckdb_sql or sql).fetchall()
    for schema in SHARD_COUNTS:
        for node in flights.nodes:
            for ask in (ask_postgres, ask_http):
                _, rows, _ = ask(node, sql, schema=schema)
                problem = difference(rows, expected, is_ordered=is_ordered)
                assert problem is None, f"{ask.__name__} {node.name} {schema}: {sql}: {problem}"
