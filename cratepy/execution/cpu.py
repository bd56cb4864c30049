"""Threads for what may not run on the trio thread: computing and files, each with its own bound.

In: a synchronous function. Out: its result. Two limiters, because they fail differently: a query that fills all computing
threads must not keep a refresh or the opening of a shard from running, and the other way round. What computes may be
abandoned when its task is cancelled (it reads immutable batches, and its thread keeps its place until it ends, so the
bound holds); what touches files is waited for, because half a file operation is nobody's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from cratepy import limits

_R = TypeVar("_R")
_Args = TypeVarTuple("_Args")


class Workers:
    """The worker threads of a node's jobs."""

    def __init__(self, *, compute_threads: int | None = None, file_threads: int = limits.FILE_THREADS_MAX) -> None:
        #: Threads that compute at the same time: the processors of the machine unless told otherwise.
        self.compute_threads = compute_threads or os.cpu_count() or 1
        self._compute = trio.CapacityLimiter(self.compute_threads)
        self._files = trio.CapacityLimiter(file_threads)
        self._openers = trio.CapacityLimiter(limits.SHARD_OPENERS_MAX)

    async def compute(self, function: Callable[[*_Args], _R], *args: *_Args) -> _R:
        """Run it on a computing thread; a cancelled caller goes on at once and the result is dropped."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._compute, abandon_on_cancel=True)

    async def files(self, function: Callable[[*_Args], _R], *args: *_Args) -> _R:
        """Run it on a file thread; a cancelled caller waits until it is done."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._files)

    async def open(self, function: Callable[[*_Args], _R], *args: *_Args) -> _R:
        """Run what opens shards: it mostly waits for the disk, and other work on files must not wait for it."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._openers)
