"""The file work of refresh, merge and flush, and how dead rows follow their rows into new segments.

In: a frozen buffer, a merge plan, the live segments. Out: open segments, a new manifest. :mod:`cratepy.storage.shard`
decides when, and what readers see; this room knows how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy.storage.blocks import Layout
from cratepy.storage.buffer import WriteBuffer
from cratepy.storage.columns import ColumnCache
from cratepy.storage.filesystem import FileSystem
from cratepy.storage.hashing import stored_hashes
from cratepy.storage.leaves import shredded, with_leaf_fields
from cratepy.storage.manifest import FileEntry, Manifest, SegmentEntry, write_manifest
from cratepy.storage.merging import (
    LiveSegment,
    MergePlan,
    blocks_of,
    merged_batches,
    merged_hashes,
    merged_schema,
    moved_rows,
)
from cratepy.storage.recovery import deletes_generation
from cratepy.storage.segment import Segment, open_segment, segment_name
from cratepy.storage.segment_writing import sync_segment, write_deletes, write_segment
from cratepy.storage.tombstones import Tombstones, write_tombstones


def write_buffer(
    files: FileSystem,
    directory: Path,
    buffer: WriteBuffer,
    live: np.ndarray,
    *,
    number: int,
    layout: Layout,
    cache: ColumnCache,
) -> Segment:
    """The live rows of a frozen buffer as an open segment, not durable yet."""
    schema = layout.stored_schema(buffer.schemas())
    batches: Iterator[pa.RecordBatch] = blocks_of(buffer.table(live, schema))
    schema = with_leaf_fields(schema, layout)
    batches = shredded(batches, schema, layout)
    hashes = stored_hashes(buffer.hashes()[live])
    entry = write_segment(files, directory, number=number, schema=schema, batches=batches, hashes=hashes, layout=layout)
    return open_segment(files, directory, entry, cache)


def write_merged(
    files: FileSystem,
    directory: Path,
    plan: MergePlan,
    *,
    number: int,
    layout: Layout,
    cache: ColumnCache,
    paced: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
) -> Segment:
    """The live rows of the plan's segments as one open segment, not durable yet. ``paced`` slows the batches down."""
    schema = with_leaf_fields(merged_schema(plan, layout), layout)
    batches = paced(merged_batches(plan, schema, layout))
    hashes = merged_hashes(plan)
    entry = write_segment(files, directory, number=number, schema=schema, batches=batches, hashes=hashes, layout=layout)
    return open_segment(files, directory, entry, cache)


def remove_segment(files: FileSystem, directory: Path, number: int) -> None:
    """Remove the files of a segment no manifest names; whoever still reads it keeps its maps."""
    files.remove_tree(directory / segment_name(number))


def with_deletes(segments: Sequence[LiveSegment], deletes: Mapping[int, Sequence[int]]) -> tuple[LiveSegment, ...]:
    """The segments with more rows dead, by segment number."""
    result = []
    for live in segments:
        rows = deletes.get(live.segment.number)
        if rows:
            dead = BitMap(rows) if live.deletes is None else live.deletes | BitMap(rows)
            live = LiveSegment(live.segment, dead, live.generation + 1)
        result.append(live)
    return tuple(result)


def carry_deletes(active: WriteBuffer, number: int, live: np.ndarray) -> None:
    """Rows of the frozen buffer that died meanwhile become rows of its segment; ``live`` are the rows it was made of."""
    if active.frozen_deletes:
        moved: Any = live.searchsorted(np.array(active.frozen_deletes, dtype=np.int64))
        active.segment_deletes.setdefault(number, []).extend(moved.tolist())
        active.frozen_deletes.clear()


def move_deletes(active: WriteBuffer, plan: MergePlan, number: int | None) -> None:
    """Rows of merged segments that died meanwhile become rows of the new one (None: nothing was alive)."""
    for index, source in enumerate(plan.sources):
        rows = active.segment_deletes.pop(source.segment.number, None)
        if rows:
            assert number is not None, "a row that dies was alive"
            active.segment_deletes.setdefault(number, []).extend(moved_rows(plan, index, rows))


def commit(
    files: FileSystem,
    directory: Path,
    before: Manifest,
    segments: Sequence[LiveSegment],
    *,
    max_seq_no: int,
    primary_term: int,
    translog_generation: int,
    next_segment: int,
    tombstones: Tombstones,
) -> Manifest:
    """Make segments, their dead rows and ``tombstones`` durable, then the manifest that names them."""
    committed = {entry.number: entry for entry in before.segments}
    entries = []
    for live in segments:
        known = committed.get(live.segment.number)
        if known is None:
            sync_segment(files, directory, live.segment.entry)
        deletes = _committed_deletes(files, directory, live, known)
        entries.append(msgspec.structs.replace(live.segment.entry, deletes=deletes, deleted=live.deleted))
    revision = before.revision + 1
    tombstone_file = write_tombstones(files, directory, tombstones.entries(), revision=revision)
    files.sync_directory(directory)
    manifest = Manifest(
        table_uuid=before.table_uuid,
        shard=before.shard,
        allocation_id=before.allocation_id,
        revision=revision,
        primary_term=primary_term,
        max_seq_no=max_seq_no,
        local_checkpoint=max_seq_no,
        translog_generation=translog_generation,
        next_segment=next_segment,
        segments=tuple(entries),
        tombstones=tombstone_file,
        deletes_known_from=tombstones.known_from,
    )
    write_manifest(files, directory, manifest)
    return manifest


def _committed_deletes(
    files: FileSystem, directory: Path, live: LiveSegment, known: SegmentEntry | None
) -> FileEntry | None:
    """The durable file of a segment's dead rows: the one before if nothing died since, else a new generation."""
    if live.deletes is None:
        return None
    if known is not None and known.deletes is not None and deletes_generation(known.deletes.name) == live.generation:
        return known.deletes
    entry = write_deletes(
        files, directory, number=live.segment.number, generation=live.generation, deletes=live.deletes
    )
    files.sync_directory(directory / segment_name(live.segment.number))
    return entry
