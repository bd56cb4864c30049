"""Real processes for the end-to-end tests: one three-node cluster a session, with the flights data in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from demo.__main__ import load, open_oracle
from demo.data import DATASETS, prepare
from demo.processes import Cluster

#: Schema → number of shards of its tables: the answers must not depend on it.
SHARD_COUNTS = {"one": 1, "three": 3, "seven": 7}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("processes")


@pytest.fixture(scope="session")
def flights_files() -> dict[str, Path]:
    """The data as files; kept between runs, they never change."""
    return prepare(Path(".demo") / "data")


@pytest.fixture(scope="session")
def oracle(flights_files: dict[str, Path]) -> duckdb.DuckDBPyConnection:
    """DuckDB over the same files."""
    return open_oracle(flights_files)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes without data; tests make their own tables with names of their own."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def flights(cluster: Cluster, flights_files: dict[str, Path]) -> Cluster:
    """The same cluster with the flights data in the schemas of SHARD_COUNTS."""
    for number, (schema, shards) in enumerate(SHARD_COUNTS.items()):
        for dataset in DATASETS:
            file = flights_files[dataset.name]
            load(cluster.nodes[number % 3], dataset, file, shards=shards, schema=schema, is_quiet=True)
    return cluster
