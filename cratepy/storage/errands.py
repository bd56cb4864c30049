"""What the operating system does for files while we go on: freeing removed ones, beginning to write new ones.

In: open descriptors. Out: nothing; a thread works them off in order. Its own room because nothing may depend on when, or
whether, an errand was run: names are removed at once by whoever removes them, and only ``sync`` makes anything durable.

Freeing takes as long as the file is big (0.1 s per 100 MB of cached pages), whoever closes the last descriptor of a removed file;
a flush or a merge would do it with the shard's maintenance lock held.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from typing import Any, Final

from cratepy import limits

#: ``sync_file_range``: begin to write what is dirty and not being written yet, wait for nothing.
_BEGIN_WRITING: Final = 2


class Errands:
    """Safe on all threads; the thread starts with the first errand."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[int, bool]] = queue.Queue(limits.FILE_ERRANDS_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def close(self, descriptor: int) -> None:
        """Close it, soon; at once if too many wait."""
        self._put(descriptor, is_written=False)

    def write_and_close(self, descriptor: int) -> None:
        """Ask the system to begin writing the file's dirty pages, then close it. An error shows in the next ``sync``."""
        self._put(descriptor, is_written=True)

    def _put(self, descriptor: int, *, is_written: bool) -> None:
        try:
            self._waiting.put_nowait((descriptor, is_written))
        except queue.Full:
            os.close(descriptor)
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="file errands", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        begin_writing: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
        while True:
            descriptor, is_written = self._waiting.get()
            if is_written and begin_writing is not None:
                begin_writing(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _BEGIN_WRITING)
            os.close(descriptor)
            self._waiting.task_done()

    def wait(self) -> None:
        """Until all that was asked before the call is done."""
        self._waiting.join()


#: One for the process, as there is one disk cache.
errands: Final = Errands()
