"""Group commit: one thread of a node makes translogs durable for everyone who waits.

In: (shard, position, callback). Out: callbacks, once the position is durable or never will be. While one fsync runs the
next waiters gather, so under load one fsync serves many writers, and a single writer waits for nothing but its own. Handing
over costs more than the fsync itself if it is done per writer: the thread is only woken when it sleeps, and after each
shard's callbacks the listeners of the round are called once, so that an event loop is woken once for all its writers.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

from cratepy import limits
from cratepy.errors import ShardFailed, TooManyRequests
from cratepy.storage.shard import Shard

Done = Callable[[BaseException | None], None]

_log = logging.getLogger(__name__)


class Committer:
    """The thread starts with the first waiter and ends with :meth:`close`, after all waiters are answered."""

    def __init__(self) -> None:
        #: Called on the committer's thread after callbacks were.
        self.listeners: list[Callable[[], None]] = []
        self._waiting: deque[tuple[Shard, int, Done]] = deque()
        #: The thread sleeps or is about to; who sees it puts a token. A token too many is one look too many.
        self._is_idle = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def wait(self, shard: Shard, position: int, done: Done) -> None:
        """Call ``done`` on the committer's thread. Raises TooManyRequests above the limit of waiters."""
        if len(self._waiting) >= limits.DURABILITY_WAITERS_MAX:
            raise TooManyRequests(f"more than {limits.DURABILITY_WAITERS_MAX} writes wait for the disk")
        if self._thread is None:
            self._start()
        self._waiting.append((shard, position, done))
        self._wake()

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
            self._tokens.put(None)
            thread.join()

    def _wake(self) -> None:
        # The waiter stands in the queue already: either the thread sees it when it looks after it said it is idle, or
        # this sees that the thread is idle.
        if self._is_idle:
            self._is_idle = False
            self._tokens.put(None)

    def _run(self) -> None:
        waiting = self._waiting
        while True:
            if not waiting:
                if self._is_closed:
                    return
                self._is_idle = True
                if not waiting and not self._is_closed:
                    self._tokens.get()
                self._is_idle = False
                continue
            groups: dict[Shard, list[tuple[int, Done]]] = {}
            for _ in range(len(waiting)):
                shard, position, done = waiting.popleft()
                groups.setdefault(shard, []).append((position, done))
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
            self._call(done, None if position <= synced else error)
        for listener in self.listeners:
            self._call(listener)

    @staticmethod
    def _call(function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:
            # A callback's bug must not leave every other writer of the node without an answer.
            _log.exception("a durability callback failed")
