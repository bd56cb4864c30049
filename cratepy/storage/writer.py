"""Writes to a shard copy: decide, log, buffer. The latency of an insert is made here.

In: write batches, or the operations of the translog at opening. Out: rows in the log's cache and in the write buffer,
found by ``get``; the position that makes the answer durable. Nothing is buffered that was not logged: a full disk
refuses the batch as if it had never come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from cratepy import limits
from cratepy.errors import BadRequest, CrateError, ShardFailed, StaleRouting
from cratepy.storage.core import ShardCore
from cratepy.storage.decisions import Decision, decide, decide_all_new, decide_apart
from cratepy.storage.filesystem import is_disk_full
from cratepy.storage.ids import IdArray
from cratepy.storage.lookup import find_row, find_rows
from cratepy.storage.merging import LiveSegment
from cratepy.storage.new_ids import are_all_new
from cratepy.storage.operations import WriteBatch, WriteResult
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.records import RecordHeader
from cratepy.storage.stored import SegmentDamaged

#: A batch whose rows are bigger is written in two, so that a record stays below its limit.
_SPLIT_BYTES: Final = limits.TRANSLOG_RECORD_BYTES_MAX // 2
#: Ids of so many rows are handled together, as an Arrow array; below, one by one is faster. New ids are found to be new
#: in 0.3 µs each, so for inserts it takes more of them to be worth the millisecond that all of numpy's calls take.
_ARRAY_IDS_MIN: Final = 128
_ARRAY_INSERTS_MIN: Final = 640
#: From so many on it is asked for all ids together whether they are new: 0.3 µs an id, instead of 0.7 and 0.5 a segment.
_TOGETHER_IDS_MIN: Final = 24


class ShardWriter:
    """See the module. ``write`` is safe on all threads."""

    def __init__(self, core: ShardCore) -> None:
        self._core = core

    def write(self, batch: WriteBatch, *, is_awaited: bool = False) -> WriteResult:
        """Decide, log and buffer a batch. Raises ShardFailed, StaleRouting, DiskFull."""
        if (
            isinstance(batch.rows, pa.RecordBatch)
            and batch.rows.get_total_buffer_size() > _SPLIT_BYTES
            and batch.rows.nbytes > _SPLIT_BYTES
        ):
            return self._write_in_two(batch)
        core, hashes = self._core, None
        if len(batch.ids) >= (_ARRAY_INSERTS_MIN if batch.kind == "insert" else _ARRAY_IDS_MIN):
            ids = IdArray.of(batch.ids)
            batch = replace(batch, ids=ids)
            # Worked out before anybody has to wait for it.
            assert len(ids.hashes) == len(ids)
        elif isinstance(batch.ids, IdArray):
            hashes = batch.ids.known_hashes
            batch = replace(batch, ids=batch.ids.texts)
        with core.write_lock:
            core.raise_if_unusable()
            self._begin_term(batch.primary_term)
            first_seq_no = core.max_seq_no + 1
            try:
                decision = self._decide(batch, first_seq_no, hashes)
            except SegmentDamaged as error:
                raise core.damaged(error) from error
            position = self._accept(batch, decision, first_seq_no, is_awaited=is_awaited)
        return WriteResult(position, decision.failures, first_seq_no, decision.versions)

    def write_row(self, id: str, row: PlainRow, *, primary_term: int, is_awaited: bool) -> int | None:
        """Log and buffer a row that is the first of its id; returns its position, or None if there is one: nothing was done.

        What :meth:`write` does with it, in a third of the time. Raises as that does.
        """
        core = self._core
        with core.write_lock:
            core.raise_if_unusable()
            if primary_term != core.primary_term:
                self._begin_term(primary_term)
            state = core.state
            try:
                if find_row(state, id) is not None:
                    return None
            except SegmentDamaged as error:
                raise core.damaged(error) from error
            seq_no = core.max_seq_no + 1
            try:
                size = core.log.append_row(id, row, seq_no=seq_no, primary_term=primary_term, is_awaited=is_awaited)
            except OSError as error:
                raise self._unlogged(error) from error
            if core.tombstones.by_id:
                core.tombstones.forget((id,))
            state.active.add_row(id, row, (seq_no, primary_term, 1), size)
            core.max_seq_no = seq_no
            return core.log.position

    def _begin_term(self, primary_term: int) -> None:
        core = self._core
        if primary_term < core.primary_term:
            raise StaleRouting(f"primary term {primary_term} is over: {core} is at {core.primary_term}")
        core.primary_term = primary_term

    def _unlogged(self, error: OSError) -> CrateError:
        """What to raise for an operation that the log did not take."""
        core = self._core
        if is_disk_full(error):
            return core.refused_write(error)
        core.fail(error)
        return ShardFailed(str(core.failure))

    def _decide(self, batch: WriteBatch, first_seq_no: int, hashes: np.ndarray | None = None) -> Decision:
        ids, state = batch.ids, self._core.state
        if isinstance(ids, IdArray):
            return self._decide_many(batch, ids, first_seq_no)
        can_be_plain = batch.expected is None and batch.kind != "delete"
        if can_be_plain and len(ids) >= _TOGETHER_IDS_MIN and are_all_new(state, ids, hashes):
            return decide_all_new(len(ids))
        found = ((row_id, find_row(state, row_id)) for row_id in ids)
        places = {row_id: place for row_id, place in found if place is not None}
        is_plain = not places and (len(ids) == 1 or len(set(ids)) == len(ids))
        if is_plain and can_be_plain:
            return decide_all_new(len(ids))
        return decide(batch, places, first_seq_no)

    def _decide_many(self, batch: WriteBatch, ids: IdArray, first_seq_no: int) -> Decision:
        places = find_rows(self._core.state, ids)
        if not ids.has_repeats:
            if places.is_nowhere and batch.kind != "delete" and batch.expected is None:
                return decide_all_new(len(ids))
            return decide_apart(batch, places)
        known = ((row_id, places.at(position)) for position, row_id in enumerate(ids.texts))
        return decide(batch, {row_id: place for row_id, place in known if place is not None}, first_seq_no)

    def _accept(self, batch: WriteBatch, decision: Decision, first_seq_no: int, *, is_awaited: bool) -> int:
        """Append the accepted rows to translog and buffer; returns the position that makes the answer true."""
        core = self._core
        ids, rows = batch.ids, batch.rows
        versions: Sequence[int] | int = 1 if decision.is_all_new else decision.versions
        if decision.accepted is not None:
            if not decision.accepted:
                # A refusal may rest on a row that is not durable yet, so its answer waits for that, too.
                return core.log.position
            if isinstance(ids, IdArray):
                ids = ids.take(np.array(decision.accepted))
            else:
                ids = [ids[row] for row in decision.accepted]
            versions = [decision.versions[row] for row in decision.accepted]
            assert not isinstance(rows, PlainRow), "a single row is accepted or refused as a whole"
            rows = None if rows is None else rows.take(pa.array(decision.accepted, pa.int32()))
        term = batch.primary_term
        try:
            size = core.log.append(
                ids, rows, first_seq_no=first_seq_no, primary_term=term, versions=versions, is_awaited=is_awaited
            )
        except OSError as error:
            raise self._unlogged(error) from error
        self._apply(decision, ids, rows, first_seq_no, term, versions, size)
        return core.log.position

    def _apply(
        self,
        decision: Decision,
        ids: Sequence[str],
        rows: pa.RecordBatch | PlainRow | None,
        first_seq_no: int,
        primary_term: int,
        versions: Sequence[int] | int,
        payload_bytes: int,
        *,
        is_looked_up: bool = True,
    ) -> None:
        """Do what was decided and logged to the buffer; ``ids``, ``rows`` and ``versions`` are the accepted ones."""
        active = self._core.state.active
        first_row = active.row_count
        if rows is None:
            for deleted in ids:
                active.delete(deleted)
            self._core.tombstones.add(ids, first_seq_no=first_seq_no, primary_term=primary_term, versions=versions)
        else:
            if self._core.tombstones.by_id:
                self._core.tombstones.forget(ids)
            active.add(
                ids,
                rows,
                first_seq_no=first_seq_no,
                primary_term=primary_term,
                versions=versions,
                payload_bytes=payload_bytes,
                is_looked_up=is_looked_up,
            )
        # Whoever looks at an older row and sees it dead must find the newer one.
        active.dead.update(first_row + ordinal for ordinal in decision.replaced_in_batch)
        for holder, numbers in decision.replaced:
            if holder is active:
                active.dead.update(numbers)
            elif isinstance(holder, LiveSegment):
                active.segment_deletes.setdefault(holder.segment.number, []).extend(numbers)
            else:
                active.frozen_deletes.extend(numbers)
        self._core.max_seq_no = first_seq_no + len(ids) - 1

    def _write_in_two(self, batch: WriteBatch) -> WriteResult:
        assert isinstance(batch.rows, pa.RecordBatch)
        middle = len(batch.ids) // 2
        if middle == 0:
            raise BadRequest(f"a row of {batch.rows.nbytes} bytes is above {_SPLIT_BYTES}")
        parts = [
            self.write(
                WriteBatch(
                    kind=batch.kind,
                    ids=batch.ids[first:end],
                    rows=batch.rows.slice(first, end - first),
                    primary_term=batch.primary_term,
                    expected=None if batch.expected is None else batch.expected[first:end],
                )
            )
            for first, end in ((0, middle), (middle, len(batch.ids)))
        ]
        failures = [*parts[0].failures, *((middle + row, why) for row, why in parts[1].failures)]
        versions = [*parts[0].versions, *parts[1].versions]
        return WriteResult(parts[1].position, failures, parts[0].first_seq_no, versions)

    # --- replay ------------------------------------------------------------------------------------------------------

    def write_again(
        self, header: RecordHeader, ids: Sequence[str], rows: pa.RecordBatch | PlainRow | None, payload_bytes: int
    ) -> None:
        """Do an operation of the translog. It was decided once, so each row simply replaces what its id has."""
        core = self._core
        if header.first_seq_no <= core.max_seq_no:
            raise ShardFailed(f"{core.directory}: the translog repeats sequence number {header.first_seq_no}")
        core.primary_term = max(core.primary_term, header.primary_term)
        if len(ids) >= _ARRAY_IDS_MIN:
            ids = IdArray.of(ids)
        if header.versions == 1 and rows is not None:
            # First versions only: no id existed and none repeats, so there is nothing to look up.
            decision = decide_all_new(len(ids))
            if isinstance(ids, IdArray):
                # Here, beside the thread that makes segments, which needs them.
                ids.hashes  # noqa: B018
        else:
            self.complete()
            again = WriteBatch(
                kind="delete" if rows is None else "index", ids=ids, rows=rows, primary_term=header.primary_term
            )
            decision = self._decide(again, header.first_seq_no)
            assert not decision.failures, "an operation of the translog is always possible"
        term, versions = header.primary_term, header.versions
        self._apply(decision, ids, rows, header.first_seq_no, term, versions, payload_bytes, is_looked_up=False)

    def complete(self) -> None:
        """Make every row that was written again known by its id: before one is looked up, and when the replay is over."""
        state = self._core.state
        state.active.complete()
        if state.frozen is not None:
            state.frozen.complete()
