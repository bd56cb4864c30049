"""The thread that makes cluster states durable, and nothing else.

In, on the event loop: a term and a state, and whom to tell. Out, on the event loop: None once it is durable, or the OSError.
Its own room because this is on the way of every change of the cluster state, on every node: a thread that waits for the next
state takes half of what a task costs that waits for a pool's thread, and who is told goes on at once, not when its task
has its turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

import trio

from cratepy.cluster.diff import StateDiff
from cratepy.cluster.state_log import StateLog
from cratepy.model.state import ClusterState

Done: TypeAlias = Callable[[Exception | None], None]
_Job: TypeAlias = tuple[int, ClusterState, StateDiff | None, Done]


class StateSaver:
    """One write at a time. ``run`` it before the first; ``save`` only from the same event loop."""

    def __init__(self, log: StateLog) -> None:
        self._log = log
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    @property
    def state(self) -> ClusterState:
        """What was saved last."""
        return self._log.state

    def save(self, term: int, state: ClusterState, change: StateDiff | None, done: Done) -> None:
        """Begin; ``done`` is called when it is over. ``change``: what turns the state saved last into this one, if it is known."""
        self._jobs.put((term, state, change, done))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then what has begun is waited for."""
        token = trio.lowlevel.current_trio_token()
        ended = trio.Event()
        thread = threading.Thread(target=self._work, args=(token, ended), name="cluster state", daemon=True)
        thread.start()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._jobs.put(None)
            with trio.CancelScope(shield=True):
                await ended.wait()

    def _work(self, token: trio.lowlevel.TrioToken, ended: trio.Event) -> None:
        failure: Exception | None = None
        while (job := self._jobs.get()) is not None:
            term, state, change, done = job
            outcome = failure
            try:
                if outcome is None:
                    self._log.write(term, state, change)
            except Exception as error:  # whatever it is, it is the driver's, which ends the node with it
                outcome = error
            token.run_sync_soon(done, outcome)
            if outcome is None:
                failure = self._prepared()
        token.run_sync_soon(ended.set)

    def _prepared(self) -> Exception | None:
        """What took too long to be waited for; what went wrong is told to whoever saves next."""
        try:
            self._log.prepare()
        except Exception as error:
            return error
        return None
