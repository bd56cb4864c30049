"""Group commit: one thread of a node makes translogs durable for everyone who waits; others help when it is held up.

In: (shard, position, callback). Out: callbacks, once the position is durable or never will be. While one fsync of a shard
runs its next waiters gather, so under load one fsync serves many writers, and a single writer waits for nothing but its
own. Shards are synced one after the other by the leading thread: handing over to more threads costs more than a fast
disk's fsync (with 6 shards and 64 writers four threads did 4,600 commits a second, one did 8,000). But one slow file must
not hold the others up: if no sync ends for ``limits.COMMIT_PATIENCE_S`` while shards stand in the queue, a helper takes the next.
After each shard's callbacks the listeners are called once, so that an event loop is woken once for all its writers.
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
    """Threads start when they are needed and end with :meth:`close`, after all waiters are answered."""

    def __init__(self) -> None:
        #: Called on a committer's thread after callbacks were.
        self.listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        #: Shards that stand in the queue or are being synced, with those that wait for their next sync.
        self._waiting: dict[Shard, list[tuple[int, Done]]] = {}
        self._waiters = 0
        self._queue: deque[Shard] = deque()
        self._is_drained = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        #: The leader sleeps, or is about to; who sees it puts a token.
        self._is_idle = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._calls_for_help: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._helpers = self._busy_helpers = 0
        self._is_watched = False
        self._watch = threading.Event()
        self._syncs_ended = 0
        self._closing = threading.Event()

    def wait(self, shard: Shard, position: int, done: Done) -> None:
        """Call ``done`` on a committer's thread. Raises TooManyRequests above the limit of waiters."""
        with self._lock:
            if self._waiters >= limits.DURABILITY_WAITERS_MAX:
                raise TooManyRequests(f"more than {limits.DURABILITY_WAITERS_MAX} writes wait for the disk")
            self._waiters += 1
            waiting = self._waiting.get(shard)
            if waiting is not None:
                waiting.append((position, done))
                return
            self._waiting[shard] = [(position, done)]
            self._queue.append(shard)
            if not self._threads:
                assert not self._closing.is_set(), "nothing is written after the store was closed"
                self._start("leader", self._lead)
                self._start("watch", self._watch_over)
            is_idle, self._is_idle = self._is_idle, False
        if is_idle:
            self._tokens.put(None)
        elif not self._is_watched:
            self._is_watched = True
            self._watch.set()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=run, name=f"storage-committer-{name}", daemon=True))
        self._threads[-1].start()

    def close(self) -> None:
        with self._lock:
            while self._waiting:
                self._is_drained.wait()
            self._closing.set()
        self._tokens.put(None)
        self._watch.set()
        for _ in range(self._helpers):
            self._calls_for_help.put(None)
        for thread in self._threads:
            thread.join()

    def _lead(self) -> None:
        while not self._closing.is_set():
            while self._serve_next():
                continue
            with self._lock:
                self._is_idle = not self._queue
            if self._is_idle:
                self._tokens.get()

    def _watch_over(self) -> None:
        """Call helpers while shards stand in the queue and no sync ends."""
        while not self._closing.is_set():
            self._watch.wait()
            self._watch.clear()
            while self._queue and not self._closing.is_set():
                before = self._syncs_ended
                self._closing.wait(limits.COMMIT_PATIENCE_S)
                if self._queue and self._syncs_ended == before and self._busy_helpers < limits.COMMIT_HELPERS_MAX:
                    if self._busy_helpers == self._helpers:
                        self._helpers += 1
                        self._start(f"helper-{self._helpers}", self._help)
                    self._busy_helpers += 1
                    self._calls_for_help.put(None)
            self._is_watched = False

    def _help(self) -> None:
        while True:
            self._calls_for_help.get()
            if self._closing.is_set():
                return
            while self._serve_next():
                continue
            with self._lock:
                self._busy_helpers -= 1

    def _serve_next(self) -> bool:
        """Sync the shard that stands first in the queue and answer its waiters; False: there is none."""
        with self._lock:
            if not self._queue:
                return False
            shard = self._queue.popleft()
            waiters, self._waiting[shard] = self._waiting[shard], []
        self._commit(shard, waiters)
        with self._lock:
            self._syncs_ended += 1
            self._waiters -= len(waiters)
            if self._waiting[shard]:
                self._queue.append(shard)
            else:
                del self._waiting[shard]
                if not self._waiting:
                    self._is_drained.notify_all()
        return True

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
