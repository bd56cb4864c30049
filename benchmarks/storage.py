"""What storage costs on this machine: rows/s in, µs a get, scan against plain pyarrow, replay MB/s.

    python benchmarks/storage.py [rows]

Prints one line per figure. Runs in a temporary directory; about ten seconds for the default million rows.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cratepy.clock import SystemClock
from cratepy.model.names import RelationName
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.types import BIGINT, DOUBLE, TEXT
from cratepy.storage.operations import WriteBatch
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore

BATCH_ROWS = 10_000
NUMBERS = 8


def table(uuid: str, *, has_text: bool) -> TableDefinition:
    columns = [ColumnDefinition(oid=i + 1, name=f"n{i}", type=BIGINT if i % 2 else DOUBLE) for i in range(NUMBERS)]
    if has_text:
        columns.append(ColumnDefinition(oid=NUMBERS + 1, name="t", type=TEXT))
    return TableDefinition(name=RelationName("doc", uuid), uuid=uuid, oid=1, columns=tuple(columns))


def batches(rows: int, *, has_text: bool) -> list[WriteBatch]:
    random = np.random.default_rng(1)
    result = []
    for first in range(0, rows, BATCH_ROWS):
        columns = [
            pa.array(random.integers(0, 1 << 40, BATCH_ROWS) if i % 2 else random.random(BATCH_ROWS))
            for i in range(NUMBERS)
        ]
        if has_text:
            columns.append(pa.array([f"some text of row {first + i}" for i in range(BATCH_ROWS)]))
        names = [f"c{i + 1}" for i in range(len(columns))]
        result.append(
            WriteBatch(
                kind="insert",
                ids=[str(first + i) for i in range(BATCH_ROWS)],
                rows=pa.RecordBatch.from_arrays(columns, names=names),
                primary_term=1,
            )
        )
    return result


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:<58} {value:>12,.1f} {unit}", flush=True)


def best(call: Callable[[], object], *, times: int = 5) -> float:
    """Seconds of the fastest run."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def bulk(store: ShardStore, rows: int, *, has_text: bool) -> Shard:
    definition = table("texts" if has_text else "numbers", has_text=has_text)
    shard = store.open_shard(definition, 0, "a", primary_term=1, create=True)
    given = batches(rows, has_text=has_text)
    # CPU time: the machine may be shared, and all of it is on one thread.
    start = time.process_time()
    for batch in given:
        assert not shard.write(batch).failures
    written = time.process_time()
    shard.refresh()
    refreshed = time.process_time()
    name = f"{NUMBERS} numbers" + (" and a text" if has_text else "")
    say(f"insert, batches of 10,000, {name}", rows / (written - start), "rows/s")
    say("  with the refresh after it", rows / (refreshed - start), "rows/s")
    return shard


def gets(shard: Shard, rows: int, where: str) -> None:
    keys = [str(i * 7919 % rows) for i in range(2_000)]
    sources = ["c1", "c2", "c3", "_version"]
    shard.get(keys, sources)
    one = best(lambda: [shard.get((key,), sources) for key in keys]) / len(keys)
    say(f"get of one key, 4 values, {where}", one * 1e6, "µs")
    say(f"get of 2,000 keys at once, {where}", best(lambda: shard.get(keys, sources)) / len(keys) * 1e6, "µs/key")


def single_writes(store: ShardStore) -> None:
    shard = store.open_shard(table("singles", has_text=True), 0, "a", primary_term=1, create=True)
    row = batches(BATCH_ROWS, has_text=True)[0].rows
    assert row is not None
    given = [
        WriteBatch(kind="insert", ids=[f"k{i}"], rows=row.take(pa.array([i])), primary_term=1) for i in range(5_000)
    ]
    start = time.process_time()
    for batch in given:
        shard.write(batch)
    say("write of one row, 9 columns, CPU", (time.process_time() - start) / len(given) * 1e6, "µs")
    gets_of_new = best(lambda: [shard.get((f"k{i}",), ["c1", "c2", "c9"]) for i in range(4_990, 5_000)]) / 10
    say("get of a row just written alone, 3 values", gets_of_new * 1e6, "µs")
    start = time.perf_counter()
    for i in range(200):
        position = shard.write(
            WriteBatch(kind="index", ids=[f"k{i}"], rows=row.take(pa.array([i])), primary_term=1)
        ).position
        shard.sync()
        assert shard.synced_position >= position
    say("durable write of one row, alone", (time.perf_counter() - start) / 200 * 1e6, "µs")


def scans(shard: Shard, rows: int) -> None:
    shard.scan(["c1", "c9"])
    say("scan of a number and a text, again", best(lambda: shard.scan(["c1", "c9"])) * 1e6, "µs")
    ours = best(lambda: [pc.sum(batch.column(0)) for batch in shard.scan(["c1"])])
    say("  and sum of the number", rows / ours / 1e6, "M rows/s")
    plain = pa.array(np.random.default_rng(1).random(rows))
    say("  pyarrow's sum of as many rows", rows / best(lambda: pc.sum(plain)) / 1e6, "M rows/s")


def replay(store: ShardStore, shard: Shard) -> None:
    size = shard.stats().translog_bytes
    definition = shard.definition
    store.close_shard(shard.table_uuid, 0)
    start = time.perf_counter()
    store.open_shard(definition, 0, "a", primary_term=1, create=False)
    seconds = time.perf_counter() - start
    say(f"replay of {size / 1e6:.0f} MB of translog, with refresh", size / seconds / 1e6, "MB/s")


def main(rows: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="cratepy-storage-"))
    store = ShardStore(directory, clock=SystemClock())
    try:
        numbers = bulk(store, rows, has_text=False)
        gets(numbers, rows, "in segments")
        texts = bulk(store, rows, has_text=True)
        scans(texts, rows)
        replay(store, texts)
        start = time.perf_counter()
        numbers.flush()
        say("flush", (time.perf_counter() - start) * 1e3, "ms")
        say("bytes on disk a row, 8 numbers", numbers.stats().size_bytes / rows, "bytes")
        single_writes(store)
    finally:
        store.close()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
