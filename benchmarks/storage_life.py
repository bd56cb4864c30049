"""What a shard's files cost: bytes a row, merging, opening, and replaying the log after a crash."""

from __future__ import annotations

import gc
import io
import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from benchmarks import hits
from benchmarks.storage_common import (
    BATCH_ROWS,
    ROWS,
    Bench,
    Figure,
    Stopwatch,
    check,
    event_batches,
    events,
    one_core,
)
from cratepy.clock import SystemClock
from cratepy.model.routing import IdMaker
from cratepy.model.schema import SettingValue, TableDefinition
from cratepy.storage.operations import WriteBatch
from cratepy.storage.store import ShardStore

_HITS_ROWS = min(ROWS, 1_000_000)
_REPLAY_BYTES = 200_000_000 if ROWS >= 5_000_000 else 100_000_000
_REPLAYS = 5
_MERGE_ROWS = min(ROWS // 2, 2_000_000)


def size(bench: Bench) -> Iterator[Figure]:
    """Bytes a row of hits, after merging, by codec."""
    table = hits.table(_HITS_ROWS)
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(table, parquet, compression="zstd")
    duck = _duckdb_bytes(bench, table)
    for codec, goal in (("default", 275.0), ("best_compression", 125.0)):
        shard = bench.open(hits.definition(uuid=f"hits-{codec}", settings={"codec": codec}))
        id_maker = IdMaker(SystemClock())
        watch = Stopwatch()
        for rows in hits.batches(_HITS_ROWS, batch_rows=BATCH_ROWS):
            # Ids as of a table without a primary key.
            ids = id_maker.take(rows.num_rows)
            check(
                not shard.write(WriteBatch(kind="insert", ids=ids, rows=rows, primary_term=1)).failures,
                "an insert of a new id was refused",
            )
        shard.optimize(max_num_segments=1)
        shard.flush()
        took = watch.seconds()
        check(shard.row_count() == _HITS_ROWS, "rows are missing")
        bytes_a_row = sum(segment.size_bytes for segment in shard.stats().segments) / _HITS_ROWS
        other, name = (duck, "DuckDB") if codec == "default" else (parquet.tell(), "Parquet zstd")
        yield Figure(
            name=f"hits, 31 columns, {codec}",
            ours=bytes_a_row,
            unit="bytes/row",
            peer=other / _HITS_ROWS,
            peer_name=name,
            goal=goal,
            is_upper_bound=True,
        )
        yield Figure(name=f"  made and written in, {codec}", ours=took, unit="s")
        bench.store.remove_shard(shard.table_uuid, 0)


def _duckdb_bytes(bench: Bench, table: pa.Table) -> int:
    import duckdb

    path = bench.directory / "size.duckdb"
    connection = duckdb.connect(str(path))
    connection.register("rows", table)
    connection.execute("CREATE TABLE t AS SELECT * FROM rows")
    connection.execute("CHECKPOINT")
    connection.close()
    return path.stat().st_size


def merge(bench: Bench) -> Iterator[Figure]:
    """Segments of 100,000 rows into one."""
    shard = bench.open(events("merge"))
    for number, batch in enumerate(event_batches(_MERGE_ROWS)):
        shard.write(batch)
        if number % 10 == 9:
            shard.refresh()
    shard.refresh()
    before = shard.stats()
    check(len(before.segments) > 1, "nothing is left to merge")
    with one_core():
        watch = Stopwatch()
        shard.optimize(max_num_segments=1)
        took = watch.seconds()
        peer, total = _arrow_merge(bench)
    after = shard.stats()
    check(len(after.segments) == 1 and after.docs == _MERGE_ROWS, "a merge lost rows")
    # Both as what the columns and ids are in plain Arrow: our files are smaller.
    yield Figure(
        name=f"merge of {len(before.segments)} segments, {_MERGE_ROWS / 1e6:g} M rows",
        ours=total / took / 1e6,
        unit="MB/s",
        peer=total / peer / 1e6,
        peer_name="Arrow concat + write",
        goal=0.5,
        is_ratio=True,
    )
    bench.store.remove_shard(shard.table_uuid, 0)


def _arrow_merge(bench: Bench) -> tuple[float, int]:
    """Seconds and bytes of Arrow files of the same columns and an id, mapped, joined and written; nothing is indexed."""
    paths: list[Path] = []
    some: list[pa.RecordBatch] = []
    for number, batch in enumerate(event_batches(_MERGE_ROWS)):
        assert isinstance(batch.rows, pa.RecordBatch)
        some.append(batch.rows.append_column("_id", pa.array(list(batch.ids))))
        if number % 10 == 9 or (number + 1) * BATCH_ROWS >= _MERGE_ROWS:
            paths.append(bench.directory / f"part-{number}.arrow")
            with pa.ipc.new_file(str(paths[-1]), some[0].schema) as writer:
                writer.write_table(pa.Table.from_batches(some).combine_chunks())
            some = []
    target = bench.directory / "whole.arrow"
    watch = Stopwatch()
    parts = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    whole = pa.concat_tables(parts).combine_chunks()
    with pa.ipc.new_file(str(target), whole.schema) as writer:
        writer.write_table(whole, max_chunksize=65_536)
    with open(target, "rb") as file:
        os.fdatasync(file.fileno())
    took, total = watch.seconds(), target.stat().st_size
    for path in (*paths, target):
        path.unlink()
    return took, total


def reopen(bench: Bench) -> Iterator[Figure]:
    """Opening a shard whose rows are all in segments, the page cache warm."""
    shard = bench.big()
    shard.flush()
    rows = shard.row_count()
    definition = shard.definition
    bench.store.close_shard(definition.uuid, 0)
    del shard
    gc.collect()
    with one_core():
        watch = Stopwatch()
        opened = bench.open(definition, create=False)
        took = watch.seconds()
    check(opened.row_count() == rows, "rows are missing after opening")
    check(opened.get(["17"], ["_id"]) == [("17",)], "a key is missing after opening")
    yield Figure(name=f"reopen of {rows / 1e6:g} M rows", ours=took, unit="s", goal=1.0, is_upper_bound=True)


def replay(bench: Bench) -> Iterator[Figure]:
    """Opening a shard after a crash: all of its rows are in the log, in batches, and one by one."""
    for name, batch_rows, log_bytes, goal in (
        ("batches of 10,000", BATCH_ROWS, _REPLAY_BYTES, 200.0),
        ("batches of 100", 100, _REPLAY_BYTES // 10, None),
    ):
        definition = events(f"replay-{batch_rows}")
        settings: dict[str, SettingValue] = {"translog.flush_threshold_size": 4 * _REPLAY_BYTES}
        definition = type(definition)(
            name=definition.name, uuid=definition.uuid, oid=1, columns=definition.columns, settings=settings
        )
        shard = bench.open(definition)
        rows = 0
        for batch in event_batches(1 << 40, batch_rows=batch_rows):
            shard.write(batch)
            rows += len(batch.ids)
            if shard.translog_bytes >= log_bytes:
                break
        shard.sync()
        written = shard.translog_bytes
        # A copy of the files is what a crash leaves; closing the shard would flush nothing, but be polite.
        left = bench.directory / "left"
        shutil.copytree(bench.directory / "store", left)
        bench.store.remove_shard(definition.uuid, 0)
        took = statistics.median(_opened(bench, left, definition, rows) for _ in range(_REPLAYS))
        shutil.rmtree(left)
        yield Figure(
            name=f"replay of {written / 1e6:.0f} MB, {name}", ours=written / took / 1e6, unit="MB/s", goal=goal
        )
        yield Figure(name=f"  rows, {name}", ours=rows / took, unit="rows/s")


def _opened(bench: Bench, left: Path, definition: TableDefinition, rows: int) -> float:
    """Seconds to open what a crash left."""
    crashed = bench.directory / "crashed"
    shutil.copytree(left, crashed)
    _sync_files(crashed)
    store = ShardStore(crashed, clock=SystemClock())
    watch = Stopwatch()
    opened = store.open_shard(definition, 0, "a", primary_term=1, create=False)
    took = watch.seconds()
    check(opened.row_count() == rows, f"{opened.row_count()} of {rows} rows are there after the replay")
    store.close()
    shutil.rmtree(crashed)
    return took


def _sync_files(directory: Path) -> None:
    """What a log holds was synced batch by batch: opening it need not wait for the disk to take all of it."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
