"""A running fragment seen from trio: batches out, bounded, stoppable at once.

::

    trio task                    loop thread                  engine's threads
    receive() ◄── ready queue ◄── pump: async for batch ◄──── operators
              ──► room ─────────►

The pump reads the next batch only while fewer than ``READY_BATCHES_MAX`` wait, so an unread result costs nothing. Leaving
the scope marks the fragment stopped (kernels and join checks raise) and cancels the pump (operators that yield end).
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import trio

from cratepy.errors import CrateError
from cratepy.execution.engine.partitioning import partitioned

if TYPE_CHECKING:
    import asyncio

    from cratepy.execution.engine.loop import LoopThread

#: Batches read from the engine that nobody has received yet.
READY_BATCHES_MAX: Final = 4


class FragmentStream:
    """``async with``; ``receive`` gives (partition, batch) and None at the end. Not for two tasks at once."""

    def __init__(
        self,
        *,
        loop_of: Callable[[], LoopThread],
        start: Callable[[], Any],
        restart: Callable[[BaseException], Callable[[], Any] | None],
        translate: Callable[[BaseException], CrateError],
        stop: Callable[[], None],
        partition_keys: tuple[int, ...],
        partition_count: int,
    ) -> None:
        self._loop_of = loop_of
        self._loop: LoopThread | None = None
        self._start = start
        self._restart = restart
        self._translate = translate
        self._stop = stop
        self._keys = partition_keys
        self._count = partition_count
        self._ready: collections.deque[tuple[int, pa.RecordBatch]] = collections.deque()
        self._wakeup = trio.Event()
        self._room: asyncio.Event | None = None
        self._is_done = False
        self._is_left = False
        self._has_given = False
        self._error: BaseException | None = None
        self._cancel: Callable[[], None] | None = None
        self._token: Any = None

    async def __aenter__(self) -> FragmentStream:
        self._token = trio.lowlevel.current_trio_token()
        await self._begin(self._start)
        return self

    async def _begin(self, start: Callable[[], Any]) -> None:
        """Plan on a worker thread (milliseconds of CPU), then read in the loop's."""

        def begin() -> tuple[LoopThread, Any]:
            return self._loop_of(), start()

        try:
            loop, stream = await trio.to_thread.run_sync(begin, abandon_on_cancel=True)
        except trio.Cancelled:
            self._stop()
            raise
        except BaseException as error:
            self._error, self._is_done = _bare(error), True
            return
        self._is_done = False
        self._loop = loop
        self._cancel = loop.start(self._pump(stream))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the fragment; what it does is over within a tenth of a second."""
        self._is_left = True
        self._stop()
        self._ready.clear()
        if self._cancel is not None:
            self._cancel()

    async def receive(self) -> tuple[int, pa.RecordBatch] | None:
        """The next (partition, batch); None at the end. Raises the fragment's CrateError."""
        while True:
            if self._ready:
                item = self._ready.popleft()
                self._has_given = True
                assert self._loop is not None, "it gave something"
                self._loop.call(self._make_room)
                return item
            if self._is_done:
                if self._error is None:
                    return None
                await self._fail(self._error)
                continue
            await self._wakeup.wait()
            self._wakeup = trio.Event()

    async def _fail(self, error: BaseException) -> None:
        """Run the fragment another way if there is one and nothing was given yet; else raise."""
        self._error = None
        again = None if self._has_given else self._restart(error)
        if again is None:
            raise self._translate(error) from error
        self._is_done = False
        await self._begin(again)

    # --- in the loop's thread ---

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()

    async def _pump(self, stream: Any) -> None:
        import asyncio  # by the loop's thread, which has it

        self._room = asyncio.Event()
        try:
            async for batch in stream:
                if self._is_left:
                    return
                self._ready.extend(partitioned(batch, self._keys, self._count))
                self._notify()
                while len(self._ready) >= READY_BATCHES_MAX and not self._is_left:
                    self._room.clear()
                    if len(self._ready) >= READY_BATCHES_MAX:
                        await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = _bare(error)
        finally:
            self._is_done = True
            self._notify()

    def _notify(self) -> None:
        if not self._is_left:
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._wakeup.set()


def _bare(error: BaseException) -> BaseException:
    """The error without its frames: they hold the stream, and that its share of the engine's pool, until somebody looks for
    garbage. A node refused all larger statements after one that needed too much.
    """
    return error.with_traceback(None)
