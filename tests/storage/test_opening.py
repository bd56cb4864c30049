"""Many shards open at the same time in a process that has opened none before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, threading
from pathlib import Path
from cratepy.clock import SystemClock
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import INTEGER
from cratepy.storage.store import ShardStore

sys.setswitchinterval(1e-6)
store = ShardStore(Path(sys.argv[1]), clock=SystemClock())
table = TableDefinition(
    name=RelationName("doc", "t"), uuid="u", oid=1, columns=(ColumnDefinition(oid=1, name="a", type=INTEGER),), shards=16
)
start = threading.Barrier(16)

def work(shard):
    start.wait()
    store.open_shard(table, shard, f"a{shard}", primary_term=1, create=True)

threads = [threading.Thread(target=work, args=(shard,)) for shard in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(store.shards()) == 16
store.close()
"""


def test_the_first_shards_of_a_process_may_open_on_many_threads(tmp_path: Path) -> None:
    """Types that a library looks at lazily must have been looked at before there are threads: it crashed."""
    for attempt in range(8):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / str(attempt))], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"attempt {attempt} ended with {done.returncode}: {done.stderr[-500:]}"
