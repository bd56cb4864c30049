"""Whether a batch's ids are all new: the one question that an insert of some hundred rows has.

In: a shard's state and texts. Out: yes, or "cannot tell quickly": then each id is looked up. Its own room because new ids are
the rule, and for a few hundred of them neither a look at each (0.7 µs, and 0.5 per segment) nor the arrays of
:func:`cratepy.storage.lookup.find_rows`, which say where each id is, are as fast as sets and one search per segment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cratepy.storage.hashing import hash_ids, stored_hashes
from cratepy.storage.lookup import ShardState
from cratepy.storage.segment import Segment


def are_all_new(state: ShardState, ids: Sequence[str], hashes: np.ndarray | None = None) -> bool:
    """Whether no id has a row, and none is there twice; False when in doubt. 0.3 µs an id and 20 ns per small segment.

    ``hashes`` are the ids' if they are known.
    """
    buffers = [state.active] if state.frozen is None else [state.active, state.frozen]
    if len(set(ids)) < len(ids) or not all(buffer.rows_by_id.keys().isdisjoint(ids) for buffer in buffers):
        return False
    if not state.segments and not any(buffer.has_index for buffer in buffers):
        return True
    if hashes is None:
        hashes = hash_ids(ids)
    if any(buffer.has_index and buffer.has_hash_of(hashes) for buffer in buffers):
        return False
    stored = stored_hashes(hashes)
    order = np.argsort(stored)
    stored = stored[order]
    return not any(_has_any(live.segment, stored, order, ids) for live in state.segments)


def _has_any(segment: Segment, sorted_hashes: np.ndarray, order: np.ndarray, ids: Sequence[str]) -> bool:
    """Whether a row of the segment, dead or not, has one of the ids; ``order`` are the positions of the hashes in them."""
    hashes = np.frombuffer(segment.hashes, dtype=np.uint32)
    at = np.minimum(hashes.searchsorted(sorted_hashes), segment.rows - 1)
    hits = np.flatnonzero(hashes[at] == sorted_hashes).tolist()
    return any(segment.find(int(sorted_hashes[hit]), ids[int(order[hit])]) >= 0 for hit in hits)
