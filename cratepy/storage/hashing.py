"""The 32-bit hash that a segment finds rows by: the upper half of xxh3-64 of the id's UTF-8 bytes. Part of the file format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash

_hash = xxhash.xxh3_64_intdigest


def hash_id(id: str) -> int:
    value: int = _hash(id.encode()) >> 32
    return value


def hash_ids(ids: Sequence[str]) -> np.ndarray:
    """uint32 per id, 0.12 µs each."""
    hashes = np.fromiter(map(_hash, map(str.encode, ids)), dtype=np.uint64, count=len(ids))
    return (hashes >> np.uint64(32)).astype(np.uint32)
