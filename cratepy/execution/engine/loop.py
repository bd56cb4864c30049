"""The asyncio loop thread in which the engine's streams are read.

The engine's Python binding is an asyncio one: only a cancelled asyncio task stops a stream. The node itself runs trio, so
one thread with a loop stands beside it; coroutines go in, callbacks come out. One per process is enough: the work is done
by the engine's own threads, the loop only moves batches.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class LoopThread:
    """An asyncio loop in a daemon thread; ``close`` ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="engine-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run the coroutine; the result cancels it, from any thread, at any time."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)

        def cancel() -> None:
            future.cancel()

        return cancel

    def call(self, function: Callable[[], None]) -> None:
        """Call the function in the loop's thread."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
