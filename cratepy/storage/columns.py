"""Columns kept for the next scan, and which of their rows live.

In: arrays in flight, dead rows. Out: a cache bounded in bytes; live rows, and the views of those. Rows of a ``string_view``
are selected by fancy-indexing its 16-byte views: pyarrow has no kernel for it, and this is 10 times faster than copying
the text. Source: Arrow columnar format, "Variable-size Binary View Layout".
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

from cratepy import limits
from cratepy.model import compute as pc

if TYPE_CHECKING:
    from cratepy.storage.segment import Segment


class ColumnCache:
    """Arrays by key, least recently used go first; bounded in bytes. Safe on all threads; one for a node."""

    def __init__(self, bytes_max: int = limits.COLUMN_CACHE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.cached_bytes = 0

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value kept under ``key``; else ``make`` gives it and its bytes. Two threads may both make it."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
                return found[0]
        value, size = make()
        with self._lock:
            old = self._entries.pop(key, None)
            self.cached_bytes += size - (0 if old is None else old[1])
            self._entries[key] = (value, size)
            while self.cached_bytes > self._bytes_max and self._entries:
                _, (_, freed) = self._entries.popitem(last=False)
                self.cached_bytes -= freed
        return value

    def drop(self, is_dead: Callable[[Any], bool]) -> None:
        """Forget entries whose key says so: their segment is gone."""
        with self._lock:
            for key in [key for key in self._entries if is_dead(key)]:
                self.cached_bytes -= self._entries.pop(key)[1]


def live_rows(segment: Segment, index: int, deletes: BitMap) -> np.ndarray | None:
    """Places of the live rows in a block (int64), or None if all are."""
    start, end = segment.starts[index], segment.starts[index + 1]
    dead = deletes & BitMap(range(start, end))
    if not dead:
        return None
    alive: np.ndarray = np.ones(end - start, dtype=bool)
    alive[np.array(dead, dtype=np.int64) - start] = False
    return np.flatnonzero(alive)


def selected_views(array: pa.Array, live: np.ndarray) -> pa.Array:
    """The rows ``live`` of a ``string_view`` array that is no slice; the texts are shared."""
    validity, views, *data = array.buffers()
    assert array.offset == 0
    chosen = np.frombuffer(views, dtype="V16")[live]
    if array.null_count:
        validity = pc.take(array.is_valid(), pa.array(live)).buffers()[1]
    else:
        validity = None
    return pa.Array.from_buffers(pa.string_view(), len(live), [validity, pa.py_buffer(chosen), *data])
