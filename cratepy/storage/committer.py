"""Group commit: one thread of a node makes translogs durable for everyone who waits.

In: (shard, position, callback). Out: callbacks, once the position is durable or never will be. While one fsync runs the
next waiters gather, so under load one fsync serves many writers, and a single writer waits for nothing but its own.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from cratepy import limits
from cratepy.errors import ShardFailed, TooManyRequests
from cratepy.storage.shard import Shard

Done = Callable[[BaseException | None], None]

_log = logging.getLogger(__name__)


class Committer:
    """The thread starts with the first waiter and ends with :meth:`close`, after all waiters are answered."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Shard, int, Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def wait(self, shard: Shard, position: int, done: Done) -> None:
        """Call ``done`` on the committer's thread. Raises TooManyRequests above the limit of waiters."""
        if self._waiting.qsize() >= limits.DURABILITY_WAITERS_MAX:
            raise TooManyRequests(f"more than {limits.DURABILITY_WAITERS_MAX} writes wait for the disk")
        if self._thread is None:
            self._start()
        self._waiting.put((shard, position, done))

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                assert not self._is_closed, "nothing is written after the store was closed"
                self._thread = threading.Thread(target=self._run, name="storage-committer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            is_open = None not in batch
            groups: dict[Shard, list[tuple[int, Done]]] = {}
            for entry in batch:
                if entry is not None:
                    groups.setdefault(entry[0], []).append(entry[1:])
            for shard, waiters in groups.items():
                self._commit(shard, waiters)

    def _commit(self, shard: Shard, waiters: list[tuple[int, Done]]) -> None:
        error: BaseException | None = None
        if shard.synced_position < max(position for position, _ in waiters):
            try:
                shard.sync()
            except ShardFailed as failure:
                error = failure
        synced = shard.synced_position
        for position, done in waiters:
            assert error is not None or position <= synced, "a sync covers what was written before"
            try:
                done(None if position <= synced else error)
            except Exception:
                # A callback's bug must not leave every other writer of the node without an answer.
                _log.exception("a durability callback failed")
