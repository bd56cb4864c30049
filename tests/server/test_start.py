"""What a node loads when it starts, and what it has loaded when it is ready."""

from __future__ import annotations

import subprocess
import sys

#: Loaded by those who use them: together a second of CPU and 100 MiB, of a start that is to take less than a second.
HEAVY = {
    "asyncio": "streams of the engine",
    "cryptography": "cluster.secret",
    "datafusion": "queries that the engine runs",
    "dns": "discovery by SRV records",
    "html.entities": "the analyzer that strips HTML",
    "pyarrow.compute": "tables",
    "pyarrow.csv": "COPY FROM",
    "pyarrow.parquet": "COPY FROM",
    "sqlglot.parser": "nothing",
    "yaml": "crate.yml",
}


def output_of(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_a_start_loads_nothing_that_only_some_nodes_need() -> None:
    loaded = output_of("import sys, cratepy.server.cli, cratepy.server.node\nprint(*sys.modules)").split()
    assert "cratepy.server.node" in loaded
    assert sorted(HEAVY.keys() & loaded) == []


def test_a_compiler_that_has_compiled_once_loads_nothing_for_other_statements() -> None:
    """A node compiles one statement before it is ready, so that its first client does not wait for imports."""
    script = """
import sys, cratepy.server.cli, cratepy.server.node
from cratepy.execution.engine.constants import fold
from cratepy.model.state import ClusterState
from cratepy.sql.compiler import compile_text
from cratepy.sql.session_view import SessionView

def compile(text):
    compile_text(text, parameter_types=(), session=SessionView(), state=ClusterState(cluster_name="c"), handler_id="n",
        fold=fold, new_id=lambda: "u", now_ms=0, estimates={})

compile("SELECT count(*) FROM sys.nodes")
before = set(sys.modules)
compile("SELECT 1")
compile("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, o OBJECT(DYNAMIC)) CLUSTERED INTO 4 SHARDS")
compile("SELECT name, upper(name) || 'x' FROM sys.nodes WHERE id = 'a' ORDER BY 1 LIMIT 3")
compile("SHOW TABLES")
print(*(set(sys.modules) - before))
"""
    assert output_of(script).split() == []


def test_a_prepared_engine_loads_nothing_for_its_first_fragment() -> None:
    script = """
import sys, tempfile, trio
from pathlib import Path
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput
from cratepy.model.arrow import arrow_schema, to_arrow
from cratepy.model.expressions import Aggregate, Column, Literal
from cratepy.model.plan import StatementContext
from cratepy.model.relations import Aggregation, ExchangeInput, Item, OutputColumn
from cratepy.model.types import BIGINT
import pyarrow as pa

columns = (OutputColumn(1, "n", BIGINT),)
given = FragmentInput(columns, [[pa.RecordBatch.from_arrays([to_arrow([1, 2, 3], BIGINT)], schema=arrow_schema(columns))]])
total = Item(2, "m", Aggregate("max", (Column(1, "n", BIGINT),), BIGINT))
context = StatementContext(job_id="j", handler_id="n", user="crate", text="", now_ms=0)
engine = Engine(memory_bytes=2**26, spill_path=Path(tempfile.mkdtemp()), partitions=2)
engine.prepare()
before = set(sys.modules)
(batch,) = trio.run(engine.run_small, Aggregation(ExchangeInput(0, columns), (), (total,)), [given], context)
assert batch.to_pylist() == [{"c2": 3}]
assert "datafusion" in before
print(*(m for m in set(sys.modules) - before if not m.startswith("trio.")))
"""
    assert output_of(script).split() == []
