"""A shard's numbers, for ``sys.shards`` and ``sys.segments``.

In: a core, whatever its state. Out: :class:`~cratepy.storage.operations.ShardStats` of this moment; no lock is taken.
"""

from __future__ import annotations

from cratepy.storage.core import ShardCore
from cratepy.storage.operations import SegmentStats, ShardStats


def shard_stats(core: ShardCore) -> ShardStats:
    """Also for a failed or closed shard."""
    state, log = core.state, core.log
    committed = {entry.number for entry in core.manifest.segments}
    merging = frozenset[int]().union(*tuple(core.merging.values()))
    segments = tuple(
        SegmentStats(
            name=f"_{live.segment.number}",
            rows=live.segment.rows,
            deleted=live.deleted,
            size_bytes=live.segment.size_bytes,
            is_committed=live.segment.number in committed,
            generation=live.segment.number,
            format=live.segment.entry.format,
            files=len(live.segment.entry.files),
            is_merging=live.segment.number in merging,
            is_compressed=any(piece.raw_size for block in live.segment.blocks for piece in block.pieces),
        )
        for live in state.segments
    )
    return ShardStats(
        docs=sum(live.live_count for live in state.segments),
        deleted=sum(live.deleted for live in state.segments),
        size_bytes=sum(segment.size_bytes for segment in segments) + log.size_bytes,
        buffered_rows=state.active.row_count + (0 if state.frozen is None else state.frozen.row_count),
        buffered_bytes=core.buffered_bytes,
        max_seq_no=core.max_seq_no,
        # A primary writes in order, so nothing is missing below its last operation.
        local_checkpoint=core.max_seq_no,
        translog_bytes=log.size_bytes,
        translog_operations=log.operations,
        translog_generation=log.generation,
        uncommitted_bytes=log.size_bytes,
        refresh_count=core.tally.refreshes,
        flush_count=core.tally.flushes,
        merge_count=core.tally.merges,
        segments=segments,
        path=str(core.directory),
        primary_term=core.primary_term,
        refresh_s=core.tally.refresh_s,
        flush_s=core.tally.flush_s,
        merge_s=core.tally.merge_s,
        merged_bytes=core.tally.merged_bytes,
        merges_running=len(core.merging),
        opening_s=core.opening_s,
        was_created=core.was_created,
        failure=core.failure,
        last_error=core.last_error,
    )
