"""One engine for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cratepy.execution.engine.engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine(memory_bytes=64 * 1024 * 1024, spill_path=tmp_path_factory.mktemp("spill"), partitions=2)
    yield made
    made.close()
